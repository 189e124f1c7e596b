//! The alarm of a bus that is connected and silent for too long, whatever the bus: a queue whose bindings fit nothing any more,
//! a subscription that a publisher has forgotten. Nothing but a person can tell that from a quiet week, so the site says how
//! long is too long (`silence`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Counters;

/// A silence is looked for so many times within the time that is too long.
const LOOKS: u32 = 8;
/// Shortest and longest time between two looks.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(30));

/// Looks after one bus, for as long as the program runs. How long is too long is in `counters`, and may change.
pub async fn watch(bus: Arc<str>, counters: Arc<Counters>) {
    let mut silence = Silence::default();
    let mut looked = Instant::now();
    loop {
        let limit = counters.silence_limit();
        tokio::time::sleep((limit / LOOKS).clamp(LOOK_EVERY.0, LOOK_EVERY.1)).await;
        let now = Instant::now();
        let received = counters.received.load(Ordering::Relaxed);
        let change = silence.look(now - looked, limit, counters.is_connected(), received);
        looked = now;
        counters.silent_s.store(silence.alarm().map_or(0, |silent| silent.as_secs().max(1)), Ordering::Relaxed);
        match change {
            Some(Change::GoesOn) => Counters::add(&counters.silences, 1),
            Some(Change::Began) => {
                Counters::add(&counters.silences, 1);
                let why = counters.silent().unwrap_or_default();
                tracing::warn!(bus = %bus, "{why}\nhint: does what is published still come this way (bindings, topics)? `silence` of the bus is how long is too long");
            }
            Some(Change::Ended) => tracing::info!(bus = %bus, "messages come again"),
            None => {}
        }
    }
}

/// What a look found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Began,
    /// The time that is too long has passed once more.
    GoesOn,
    Ended,
}

/// How long a bus has been silent while it was connected: the time without a connection does not count, and is told otherwise.
#[derive(Debug, Default)]
struct Silence {
    silent: Duration,
    received: u64,
    /// How many times the time that is too long has passed.
    times: u128,
}

impl Silence {
    /// `passed` is the time since the last look, `limit` how long is too long (zero: nothing is), `received` the number of
    /// messages that came so far.
    fn look(&mut self, passed: Duration, limit: Duration, connected: bool, received: u64) -> Option<Change> {
        if received != self.received {
            (self.received, self.silent) = (received, Duration::ZERO);
        } else if connected {
            self.silent += passed;
        }
        // Without a limit nothing is too long.
        let times = self.silent.as_nanos().checked_div(limit.as_nanos()).unwrap_or(0);
        match (std::mem::replace(&mut self.times, times), times) {
            (0, 0) => None,
            (0, _) => Some(Change::Began),
            (_, 0) => Some(Change::Ended),
            (before, times) => (times > before).then_some(Change::GoesOn),
        }
    }

    /// How long it has been silent, where that is too long.
    fn alarm(&self) -> Option<Duration> {
        (self.times > 0).then_some(self.silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const LOOK: Duration = Duration::from_secs(600);

    #[test]
    fn it_begins_once_is_counted_each_time_and_ends_with_the_next_message() {
        let mut silence = Silence::default();
        let mut looks = |received: u64, n: usize| -> Vec<_> {
            (0..n).filter_map(|_| silence.look(LOOK, HOUR, true, received)).collect()
        };
        assert_eq!(looks(0, 5), []);
        assert_eq!(looks(0, 1), [Change::Began]);
        assert_eq!(looks(0, 12), [Change::GoesOn, Change::GoesOn], "two hours more");
        assert_eq!(looks(1, 6), [Change::Ended]);
        assert_eq!(looks(1, 1), [Change::Began], "an hour after the last message");
    }

    #[test]
    fn without_a_connection_it_is_another_trouble() {
        let mut silence = Silence::default();
        for _ in 0..100 {
            assert_eq!(silence.look(LOOK, HOUR, false, 0), None);
        }
        // A connection that is lost again and again hears nothing all the same.
        let found = (0..12).filter_map(|n| silence.look(LOOK, HOUR, n % 2 == 0, 0)).collect::<Vec<_>>();
        assert_eq!(found, [Change::Began]);
    }

    #[test]
    fn who_sets_no_limit_hears_of_no_silence() {
        let mut silence = Silence::default();
        assert_eq!(silence.look(HOUR * 1_000, Duration::ZERO, true, 0), None);
        assert_eq!(silence.look(LOOK, HOUR, true, 0), Some(Change::Began), "until he sets one");
        assert_eq!(silence.look(LOOK, Duration::ZERO, true, 0), Some(Change::Ended));
    }
}
