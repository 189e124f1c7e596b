//! Durations as people write them: `250ms`, `30s`, `5m`, `6h`, `7d`. A number without a unit is an error.

use std::time::Duration;

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// Longest duration that is accepted, in days: longer ones are typing mistakes.
pub const DURATION_DAYS_MAX: u64 = 3_660;

/// Reads `90s`, `1h30m`, `0s`. Units: ms, s, m, h, d; each at most once, largest first is not required.
///
/// # Errors
/// A sentence that says what is wrong and shows the right form.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration; write a number and its unit, as in 30s, 5m, 6h or 7d");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = &rest[digits..digits + letters];
        let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        total_ms = number.checked_mul(*unit_ms).and_then(|ms| ms.checked_add(total_ms)).ok_or_else(wrong)?;
        rest = &rest[digits + letters..];
    }
    if total_ms > DURATION_DAYS_MAX * 86_400_000 {
        return Err(format!("`{text}` is longer than {DURATION_DAYS_MAX} days"));
    }
    Ok(Duration::from_millis(total_ms))
}

/// The shortest exact form: `0s`, `1m30s`, `250ms`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let mut ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".into();
    }
    let mut out = String::new();
    for (name, unit_ms) in UNITS.iter().rev() {
        if ms >= *unit_ms {
            out.push_str(&format!("{}{name}", ms / unit_ms));
            ms %= unit_ms;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_its_unit() {
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "30", "s", "5 m", "-3s", "1.5h", "30sec", "999999999999d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_the_same() {
        for text in ["0s", "1m30s", "250ms", "6h", "7d", "1d2h3m4s5ms"] {
            assert_eq!(show_duration(parse_duration(text).unwrap_or_default()), text);
        }
    }
}
