//! `reactor warden`: beside a daemon that shares its journal with other nodes. Nobody types it.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;

use super::Common;
use crate::journal::sqlite;
use crate::runner::{end_leftovers, warden};

/// How long the lock of the state directory is waited for, in milliseconds.
const LOCK_MS_MAX: u64 = 3_000;
/// Between two tries, in milliseconds.
const LOCK_TRY_MS: u64 = 20;

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
        let Some(_lock) = hold(&state).await else { return Ok(()) };
        for ended in end_leftovers(&state).await? {
            tracing::warn!("ended what the daemon left running: {ended:?}");
        }
        anyhow::Ok(())
    })?;
    // Its stdin may still be read on a thread that nobody waits for.
    std::process::exit(0)
}

/// Whoever starts a daemon there anew has the lock for good, and ends what was left itself. But what the dead one had forked and
/// not yet executed has it for a moment, too.
async fn hold(state: &Path) -> Option<sqlite::Held> {
    for _ in 0..LOCK_MS_MAX / LOCK_TRY_MS {
        if let Ok(lock) = sqlite::hold(state) {
            return Some(lock);
        }
        tokio::time::sleep(Duration::from_millis(LOCK_TRY_MS)).await;
    }
    None
}
