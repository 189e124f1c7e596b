//! `reactor check`: everything about a site that can be known without running it. Starts no bus and writes nothing.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::{Common, Format, NO};
use crate::rules::file::{self, Loaded};

/// What to check.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: reactor check /etc/reactor")]
pub struct Args {
    /// The site: files or directories [default: /etc/reactor if it exists, else ./rules.yaml]
    #[arg(value_name = "FILE|DIR")]
    pub site: Vec<PathBuf>,
}

/// Runs it: 0 where the site has no error, else 1.
///
/// # Errors
/// Only what stands in the way of saying so (stdout closed).
pub fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    let mut loaded = file::read(&super::site_paths(&args.site));
    loaded.warn_of_missing_files();
    // HOOK for the lead: handlers answer `describe`, and their parameter types fit each rule's `with`. What is wrong
    // goes in here, at `HandlerConfig::place` or `Rule::place`:
    //   let span = loaded.diagnostics.span_of(&rule.place);
    //   loaded.diagnostics.push(Diagnostic::error(span, "…").hint("…"));
    //   loaded.diagnostics.sort();
    let good = loaded.site.is_some() && !loaded.diagnostics.has_errors();
    match common.format {
        Format::Json => print_json(&loaded, good)?,
        Format::Human => print_human(&loaded, common.quiet)?,
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

fn print_human(loaded: &Loaded, quiet: bool) -> anyhow::Result<()> {
    if !loaded.diagnostics.is_empty() {
        let mut stderr = std::io::stderr().lock();
        let colour = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        write!(stderr, "{}", loaded.diagnostics.render(colour))?;
    }
    if let (Some(site), false, false) = (&loaded.site, quiet, loaded.diagnostics.has_errors()) {
        let count = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
        writeln!(
            std::io::stdout(),
            "ok: {}, {}, {} ({})",
            count(site.rules.len(), "rule"),
            count(site.handlers.len(), "handler"),
            count(site.tests.len(), "test"),
            names(&loaded.files)
        )?;
    }
    Ok(())
}

fn print_json(loaded: &Loaded, good: bool) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    write!(stdout, "{}", loaded.diagnostics.to_json())?;
    if let (Some(site), true) = (&loaded.site, good) {
        let (rules, handlers, tests) = (site.rules.len(), site.handlers.len(), site.tests.len());
        let line = json!({"ok": true, "rules": rules, "handlers": handlers, "tests": tests, "files": loaded.files});
        writeln!(stdout, "{line}")?;
    }
    Ok(())
}

/// Most files that are named one by one.
const NAMED_FILES_MAX: usize = 5;

fn names(files: &[PathBuf]) -> String {
    let shown = files.iter().take(NAMED_FILES_MAX).map(|path| path.display().to_string());
    let mut list = shown.collect::<Vec<_>>().join(", ");
    if files.len() > NAMED_FILES_MAX {
        list.push_str(&format!(", … {} files", files.len()));
    }
    list
}
