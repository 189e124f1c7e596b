//! How values stand in a journal: times, JSON and words as text that a person reads with `sqlite3` or `psql`.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::State;

/// A value that can't go in or come out.
#[derive(Debug)]
pub(super) enum TextFault {
    /// What is in the journal can't be read back.
    Damaged(String),
    /// What should go in can't be written: a mistake of the caller.
    Contradiction(String),
}

/// The word's state.
pub(super) fn state(word: &str) -> Result<State, TextFault> {
    State::ALL
        .into_iter()
        .find(|state| state.word() == word)
        .ok_or_else(|| TextFault::Damaged(format!("`{}` is no state of a reaction", word.escape_debug())))
}

/// RFC 3339 in UTC, always with six digits after the point: such texts sort like the times they mean.
pub(super) fn time(at: Timestamp) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6));
    PRINTER.timestamp_to_string(&at)
}

/// The time that such a text means.
pub(super) fn read_time(text: &str) -> Result<Timestamp, TextFault> {
    text.parse().map_err(|error| TextFault::Damaged(format!("`{}` is no time: {error}", text.escape_debug())))
}

/// As JSON on one line.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, TextFault> {
    serde_json::to_string(value)
        .map_err(|error| TextFault::Contradiction(format!("this can't be written as JSON: {error}")))
}

/// What such a JSON means. `what` names the column in the error.
pub(super) fn read_json<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, TextFault> {
    serde_json::from_str(text).map_err(|error| TextFault::Damaged(format!("{what} can't be read: {error}")))
}

/// The beginning of `text`, at most `bytes_max` bytes with the `…` that stands for the rest.
pub(super) fn cut(text: &str, bytes_max: usize) -> std::borrow::Cow<'_, str> {
    const REST: &str = "…";
    if text.len() <= bytes_max {
        return text.into();
    }
    let mut end = bytes_max.saturating_sub(REST.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{REST}", &text[..end]).into()
}

/// The first text after every text that begins with `prefix`: no character sorts above this one.
pub(super) fn end_of_prefix(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_so() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcdef", 5), "ab…");
        assert_eq!(cut("aéééé", 6), "aé…");
        assert_eq!(cut("ééé", 2), "…");
    }

    #[test]
    fn times_sort_as_text() {
        let times: Vec<Timestamp> = ["2026-01-01T00:00:05Z", "2026-01-01T00:00:05.5Z", "2026-01-01T00:00:06Z"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let texts: Vec<String> = times.iter().map(|at| time(*at)).collect();
        assert_eq!(texts[0], "2026-01-01T00:00:05.000000Z");
        assert!(texts.is_sorted());
        assert_eq!(read_time(&texts[1]).unwrap(), times[1]);
    }

    #[test]
    fn every_state_reads_back() {
        for known in State::ALL {
            assert_eq!(state(known.word()).unwrap(), known);
            assert_eq!(serde_json::to_value(known).unwrap(), known.word());
        }
    }
}
