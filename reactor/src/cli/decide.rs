//! `reactor approve | retry | drop | pause | resume | reload`: a person decides.

use std::process::ExitCode;

use clap::Args;

use super::{Common, Format, NO};
use crate::engine::control::{Asked, ask};

/// Which reactions.
#[derive(Debug, Args)]
pub struct Ids {
    /// Reaction ids, or unique beginnings of them (`reactor list` shows them)
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
}

/// Which rule.
#[derive(Debug, Args)]
pub struct RuleName {
    /// The rule's name, as in the rules file
    #[arg(value_name = "RULE")]
    pub rule: String,
}

/// Tells the daemon, and prints what came of it.
///
/// # Errors
/// When no daemon answers.
pub fn run(asked: &Asked, common: &Common) -> anyhow::Result<ExitCode> {
    let answered = super::runtime()?.block_on(ask(&common.state_dir(), asked))?;
    if common.format == Format::Json {
        super::out(&serde_json::to_string(&answered)?);
    } else {
        answered.said.iter().for_each(|said| super::out(said));
        for wrong in &answered.wrong {
            // What is wrong with a rules file says `error:` itself.
            eprintln!("{}{}", if wrong.starts_with("error: ") { "" } else { "error: " }, wrong.trim_end());
        }
    }
    Ok(if answered.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}
