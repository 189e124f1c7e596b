//! Whether handlers may write now: only while this node's lease holds. Told by the thread that keeps the lease, asked by
//! every apply.
//!
//! Architecture Invariant: no apply begins after the lease has run out, and whoever is told that none runs can rely on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the machine was started, those included in which it slept. The same in every process.
#[must_use]
pub fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or_default() * 1_000 + nanos.unwrap_or_default() / 1_000_000
}

/// The fence around applies.
#[derive(Debug, Default)]
pub struct Fence {
    /// By [`boottime_ms`].
    until: AtomicU64,
    applying: AtomicUsize,
    lapses: AtomicU64,
}

/// An apply that may run. Dropped = it has ended.
#[derive(Debug)]
pub struct Entered {
    fence: Arc<Fence>,
    lapses: u64,
}

impl Fence {
    /// Applies may begin until then (by [`boottime_ms`]).
    pub fn renew(&self, until: u64) {
        self.until.store(until, Ordering::SeqCst);
    }

    /// When that ends, by [`boottime_ms`].
    #[must_use]
    pub fn until(&self) -> u64 {
        self.until.load(Ordering::SeqCst)
    }

    /// Whether an apply may begin now.
    #[must_use]
    pub fn is_good(&self) -> bool {
        boottime_ms() < self.until()
    }

    /// Notes that the time has run out: what runs now is ended.
    pub fn lapse(&self) {
        self.until.store(0, Ordering::SeqCst);
        self.lapses.fetch_add(1, Ordering::SeqCst);
    }

    /// How often the time has run out.
    #[must_use]
    pub fn lapses(&self) -> u64 {
        self.lapses.load(Ordering::SeqCst)
    }

    /// How many applies run, or are about to.
    #[must_use]
    pub fn applying(&self) -> usize {
        self.applying.load(Ordering::SeqCst)
    }

    /// Leave to begin an apply; `None`: not now. It is counted before it is looked whether it may, so that it is never missed.
    pub fn enter(self: &Arc<Self>) -> Option<Entered> {
        self.applying.fetch_add(1, Ordering::SeqCst);
        let entered = Entered { fence: self.clone(), lapses: self.lapses.load(Ordering::SeqCst) };
        self.is_good().then_some(entered)
    }
}

impl Entered {
    /// Whether the time ran out meanwhile.
    #[must_use]
    pub fn was_cut_off(&self) -> bool {
        self.lapses != self.fence.lapses.load(Ordering::SeqCst)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.fence.applying.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_apply_begins_only_while_the_lease_holds_and_knows_when_it_was_cut_off() {
        let fence = Arc::new(Fence::default());
        assert!(fence.enter().is_none() && fence.applying() == 0);
        fence.renew(u64::MAX);
        let entered = fence.enter().unwrap();
        assert!(fence.applying() == 1 && !entered.was_cut_off());
        fence.lapse();
        assert!(!fence.is_good() && entered.was_cut_off() && fence.enter().is_none());
        fence.renew(u64::MAX);
        assert!(entered.was_cut_off(), "also when it holds again");
        drop(entered);
        assert_eq!(fence.applying(), 0);
    }
}
