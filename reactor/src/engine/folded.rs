//! Log lines that can't fill a disk: the same complaint is said the 1st, 2nd, 4th, 8th… time, with its number; and whoever
//! finds new words each time (a port, an id, a time in each) is heard [`KINDS_MAX`] times an hour.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

/// Different complaints that are counted; over it the counting begins anew.
pub const COMPLAINTS_MAX: usize = 4_096;
/// Different complaints about one rule or bus that are said in full within [`WINDOW_SECONDS`].
pub const KINDS_MAX: u64 = 60;
/// A complaint that was not heard for this long is a new one, in seconds.
pub const WINDOW_SECONDS: u64 = 3_600;

/// Counts complaints.
#[derive(Debug, Default)]
pub struct Folded {
    times: HashMap<(String, String), (u64, Timestamp)>,
    /// Different ones, by whom they are about, and since when they are counted.
    kinds: HashMap<String, (u64, Timestamp)>,
}

impl Folded {
    /// Counts one more of `what` about `whom`; tells its number if it should be said now.
    pub fn again(&mut self, now: Timestamp, whom: &str, what: &str) -> Option<u64> {
        if self.times.len() >= COMPLAINTS_MAX {
            self.times.clear();
        }
        if self.kinds.len() >= COMPLAINTS_MAX {
            self.kinds.clear();
        }
        let (times, last) = self.times.entry((whom.to_owned(), what.to_owned())).or_insert((0, now));
        *times = if is_over(now, *last) { 1 } else { *times + 1 };
        *last = now;
        if *times > 1 {
            return times.is_power_of_two().then_some(*times);
        }
        let (kinds, since) = self.kinds.entry(whom.to_owned()).or_insert((0, now));
        if is_over(now, *since) {
            (*kinds, *since) = (0, now);
        }
        *kinds += 1;
        (*kinds <= KINDS_MAX).then_some(1)
    }
}

fn is_over(now: Timestamp, since: Timestamp) -> bool {
    now.duration_since(since).unsigned_abs() > Duration::from_secs(WINDOW_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("in range")
    }

    #[test]
    fn a_million_failures_are_twenty_lines() {
        let mut folded = Folded::default();
        let said = (0..1_000_000).filter(|_| folded.again(at(0), "rule", "no route to host").is_some()).count();
        assert_eq!(said, 20);
        assert_eq!(folded.again(at(0), "rule", "another reason"), Some(1));
    }

    #[test]
    fn a_complaint_with_another_number_in_it_each_time_fills_no_log_either() {
        let mut folded = Folded::default();
        let said = (0..100_000).filter(|n| folded.again(at(0), "rule", &format!("port {n}")).is_some()).count();
        assert_eq!(said, 60);
        assert_eq!(folded.again(at(0), "another rule", "no route to host"), Some(1), "each rule for itself");
        assert_eq!(folded.again(at(3_601), "rule", "something new"), Some(1), "an hour later it is heard again");
    }

    #[test]
    fn what_comes_back_after_a_quiet_hour_is_news() {
        let mut folded = Folded::default();
        let said = (0..1_000).filter(|_| folded.again(at(0), "rule", "no route to host").is_some()).count();
        assert_eq!((said, folded.again(at(0), "rule", "no route to host")), (10, None));
        assert_eq!(folded.again(at(7_200), "rule", "no route to host"), Some(1));
    }
}
