//! Reaction ids and chance, from a seed: the core that uses them stays repeatable.

use jiff::Timestamp;

use crate::journal::ReactionId;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const ID_CHARS: usize = 26;

/// Makes ULIDs (<https://github.com/ulid/spec>): 48 bits of milliseconds, 80 bits of chance, in Crockford's base 32; each
/// greater than the one before, whatever the clock does.
#[derive(Debug)]
pub struct Ids {
    state: u64,
    last: u128,
}

impl Ids {
    /// Repeatable for the same seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed | 1, last: 0 }
    }

    /// The next id.
    pub fn next(&mut self, now: Timestamp) -> ReactionId {
        let ms = u128::try_from(now.as_millisecond()).unwrap_or(0) & 0xFFFF_FFFF_FFFF;
        let chance = u128::from(self.random()) << 16 | u128::from(self.random() & 0xFFFF);
        self.last = (ms << 80 | chance).max(self.last + 1);
        (0..ID_CHARS)
            .rev()
            .map(|digit| char::from(ALPHABET[usize::try_from(self.last >> (5 * digit) & 31).unwrap_or(0)]))
            .collect()
    }

    /// A number from 0.0 up to 1.0, for jitter.
    pub fn chance(&mut self) -> f64 {
        let bits = u32::try_from(self.random() >> 32).unwrap_or(0);
        f64::from(bits) / f64::from(u32::MAX)
    }

    /// splitmix64 (Steele, Lea, Flood 2014): good enough to spread retries and tell ids apart; nothing secret rests on it.
    const fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_the_time_they_were_made_even_when_the_clock_steps_back() {
        let mut ids = Ids::new(7);
        let times = [5_000, 5_000, 9_000, 4_000, 9_000];
        let made: Vec<String> =
            times.iter().map(|ms| ids.next(Timestamp::from_millisecond(*ms).expect("in range"))).collect();
        assert!(made.iter().all(|id| id.len() == 26));
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]), "{made:?}");
    }
}
