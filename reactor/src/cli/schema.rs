//! `reactor schema`: the site's file as a JSON Schema, so that editors complete and check it.

use std::io::Write;
use std::process::ExitCode;

use super::{Common, Format};

/// Nothing to say.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: reactor schema > rules.schema.json
First line of rules.yaml, for the editor: # yaml-language-server: $schema=./rules.schema.json")]
pub struct Args {}

/// Runs it; `--format json` prints it on one line.
///
/// # Errors
/// Only what stands in the way of printing (stdout closed).
pub fn run(_args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    let schema = crate::rules::schema::site();
    let text = match common.format {
        Format::Human => serde_json::to_string_pretty(&schema)?,
        Format::Json => serde_json::to_string(&schema)?,
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}
