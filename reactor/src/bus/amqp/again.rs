//! When to connect again, and which deliveries can be acknowledged. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

/// Before the second try in a row.
pub const WAIT_FIRST: Duration = Duration::from_millis(500);
/// Longest wait between two tries.
pub const WAIT_MAX: Duration = Duration::from_secs(15);
/// A connection that held for so long was a good one: the next try is at once.
pub const HELD_FOR: Duration = Duration::from_secs(10);

/// The wait before the next try.
#[derive(Debug, Default)]
pub struct Backoff(Duration);

impl Backoff {
    /// How long to wait now; the first time not at all, then doubled from [`WAIT_FIRST`] to [`WAIT_MAX`].
    pub fn wait(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).clamp(WAIT_FIRST, WAIT_MAX);
        wait
    }

    /// A connection was lost that had been read for `held`.
    pub fn lost_after(&mut self, held: Duration) {
        if held >= HELD_FOR {
            *self = Self::default();
        }
    }
}

/// The deliveries of one connection: all up to one are acknowledged at once, as soon as nothing before it is left.
#[derive(Debug, Default)]
pub struct Acks {
    up_to: u64,
    done: BTreeSet<u64>,
}

impl Acks {
    /// This delivery may be forgotten.
    pub fn done(&mut self, tag: u64) {
        if tag > self.up_to {
            self.done.insert(tag);
        }
    }

    /// Up to which delivery to acknowledge now, if there is news.
    pub fn take(&mut self) -> Option<u64> {
        let before = self.up_to;
        while self.done.remove(&(self.up_to + 1)) {
            self.up_to += 1;
        }
        (self.up_to > before).then_some(self.up_to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_try_is_at_once_and_the_waits_have_a_limit() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..8).map(|_| backoff.wait().as_millis()).collect();
        assert_eq!(waits, [0, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
        backoff.lost_after(Duration::from_secs(1));
        assert_eq!(backoff.wait(), WAIT_MAX, "a connection that is lost at once is no success");
        backoff.lost_after(HELD_FOR);
        assert_eq!(backoff.wait(), Duration::ZERO);
    }

    #[test]
    fn nothing_is_acknowledged_before_what_came_before_it() {
        let mut acks = Acks::default();
        acks.done(2);
        acks.done(3);
        assert_eq!(acks.take(), None, "the first is still in hand");
        acks.done(1);
        assert_eq!((acks.take(), acks.take()), (Some(3), None));
        acks.done(2);
        acks.done(5);
        assert_eq!(acks.take(), None);
        acks.done(4);
        assert_eq!(acks.take(), Some(5));
    }
}
