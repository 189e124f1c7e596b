//! Log lines that can't fill a disk: the same complaint is said the 1st, 2nd, 4th, 8th… time, with its number.

use std::collections::HashMap;

/// Different complaints that are counted; over it the counting begins anew.
pub const COMPLAINTS_MAX: usize = 4_096;

/// Counts complaints.
#[derive(Debug, Default)]
pub struct Folded {
    times: HashMap<(String, String), u64>,
}

impl Folded {
    /// Counts one more of `what` about `whom`; tells its number if it should be said now.
    pub fn again(&mut self, whom: &str, what: &str) -> Option<u64> {
        if self.times.len() >= COMPLAINTS_MAX {
            self.times.clear();
        }
        let times = self.times.entry((whom.to_owned(), what.to_owned())).or_default();
        *times += 1;
        times.is_power_of_two().then_some(*times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_failures_are_twenty_lines() {
        let mut folded = Folded::default();
        let said = (0..1_000_000).filter(|_| folded.again("rule", "no route to host").is_some()).count();
        assert_eq!(said, 20);
        assert_eq!(folded.again("rule", "another reason"), Some(1));
    }
}
