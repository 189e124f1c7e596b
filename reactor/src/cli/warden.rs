//! `reactor warden`: beside a daemon that shares its journal with other nodes. Nobody types it.

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Common;
use crate::journal::sqlite;
use crate::runner::{end_leftovers, warden};

/// Arguments of `warden`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The daemon's process id
    #[arg(long, value_name = "PID")]
    pub daemon: u32,
}

/// Watches until the daemon is gone, and ends what it left running.
///
/// # Errors
/// When that can't be done.
pub fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    super::log(common);
    let state = common.state_dir();
    // One thread: it must cost next to nothing.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        if warden::watch(args.daemon).await? == warden::Watched::Fine {
            return Ok(());
        }
        // Whoever starts a daemon there anew has the lock and does it itself.
        let Ok(_lock) = sqlite::hold(&state) else { return Ok(()) };
        for ended in end_leftovers(&state).await? {
            tracing::warn!("ended what the daemon left running: {ended:?}");
        }
        anyhow::Ok(())
    })?;
    // Its stdin may still be read on a thread that nobody waits for.
    std::process::exit(0)
}
