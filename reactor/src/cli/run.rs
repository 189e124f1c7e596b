//! `reactor run`: the daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Common, NO, site_paths};
use crate::engine::daemon::{self, Options};

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = "Example: reactor run /etc/reactor
         reactor run rules.yaml --from messages.jsonl
Signals: SIGTERM finishes what runs and ends; SIGHUP (or a changed file) reads the rules again.")]
pub struct RunArgs {
    /// The site's files or directories [default: /etc/reactor, else ./rules.yaml]
    #[arg(value_name = "FILE|DIR")]
    pub site: Vec<PathBuf>,
    /// Take messages from this JSON Lines file (`-`: stdin) instead of the site's buses, and end when all is done.
    /// They are believed as they are: who may start reactor may also say what happened
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// What keeps it from starting.
pub fn run(args: RunArgs, common: &Common) -> anyhow::Result<ExitCode> {
    super::log(common);
    let options = Options { site: site_paths(&args.site), state: common.state_dir(), from: args.from };
    let runtime = super::runtime()?;
    let from_file = options.from.is_some();
    let ended = runtime.block_on(daemon::run(options))?;
    // A file reader that waits for more must not keep the process.
    runtime.shutdown_background();
    if from_file {
        eprintln!(
            "ended: {} failed, {} messages refused, {} reactions are pending",
            ended.failed, ended.refused, ended.pending
        );
        return Ok(if ended.failed + ended.refused > 0 { ExitCode::from(NO) } else { ExitCode::SUCCESS });
    }
    Ok(ExitCode::SUCCESS)
}
