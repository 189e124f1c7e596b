//! The database keeps a directory's time in seconds. A directory that changes again within the second in which it was read would
//! look unchanged for ever after; so that second is waited for, and the directory looked at once more.

use std::os::fd::AsFd as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use handler_api::Failure;

use super::Walk;
use crate::tree::folder::{self, Stamp};

/// How far ahead of our clock a directory's time may be, in seconds; beyond that, another clock is wrong and waiting is no help.
const AHEAD_SECONDS_MAX: i64 = 1;

/// A directory that changed since the walk began, as it was read.
pub(super) struct Fresh {
    pub(super) name: String,
    pub(super) time: i64,
    pub(super) stamp: Stamp,
}

/// Since 1970.
#[allow(
    clippy::disallowed_methods,
    reason = "the walk is the edge to the disk; the times that it compares are the disk's"
)]
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

pub(super) fn seconds(now: Duration) -> i64 {
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

impl Walk<'_> {
    /// Waits at most two seconds, and only if a directory changed in this one.
    ///
    /// # Errors
    /// Retry: one of them changed since it was read.
    pub(super) fn settle(&self) -> Result<(), Failure> {
        let near = seconds(now()) + AHEAD_SECONDS_MAX;
        let Some(last) = self.fresh.iter().map(|fresh| fresh.time).filter(|time| *time <= near).max() else {
            return Ok(());
        };
        let over = Duration::from_secs(u64::try_from(last + 1).unwrap_or_default());
        std::thread::sleep(over.saturating_sub(now()));
        let root = folder::root(self.ask.root).map_err(|error| self.errno("", error))?;
        for fresh in &self.fresh {
            let at = folder::enter_all(root.as_fd(), &fresh.name).map_err(|error| self.errno(&fresh.name, error))?;
            let stat = rustix::fs::fstat(&at).map_err(|error| self.errno(&fresh.name, error))?;
            if Stamp::of(&stat) != fresh.stamp {
                return Err(self.trouble(&fresh.name, "it changed again while the mirror was walked"));
            }
        }
        Ok(())
    }
}
