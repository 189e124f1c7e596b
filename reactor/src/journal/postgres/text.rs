//! How a text stands in a column of PostgreSQL, which can hold every character but U+0000. A refused message's body or a rule's
//! key may have one, and must not keep the journal from being written.

use jiff::Timestamp;

use crate::journal::text::cut;

/// Stands before `0` for U+0000, and before `1` for itself. From the private use area: no text of anybody's has it.
const MARK: char = '\u{E000}';

/// As it stands in the column. A beginning of a text becomes the beginning of what the text becomes.
pub(in crate::journal) fn plain(text: &str) -> String {
    if !text.contains(['\0', MARK]) {
        return text.to_owned();
    }
    let mut plain = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\0' => plain.extend([MARK, '0']),
            MARK => plain.extend([MARK, '1']),
            c => plain.push(c),
        }
    }
    plain
}

/// What the column means.
pub(super) fn meant(plain: String) -> String {
    if !plain.contains(MARK) {
        return plain;
    }
    let mut text = String::with_capacity(plain.len());
    let mut rest = plain.chars();
    while let Some(c) = rest.next() {
        let meant = if c != MARK {
            c
        } else if rest.next() == Some('0') {
            '\0'
        } else {
            MARK
        };
        text.push(meant);
    }
    text
}

/// A text that may be missing, at most `bytes_max` bytes of it.
pub(super) fn short(text: Option<&str>, bytes_max: usize) -> Option<String> {
    text.map(|text| plain(&cut(text, bytes_max)))
}

/// The earliest time that a column can hold is in the year 4713 BC; what a publisher claims may be earlier.
pub(super) fn time(at: Timestamp) -> Timestamp {
    /// In the year 4700 BC; in seconds since 1970.
    const FIRST_SECONDS: i64 = -210_454_000_000;
    Timestamp::from_second(FIRST_SECONDS).map_or(at, |first| at.max(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back() {
        for text in ["", "a", "\0", "a\0b\u{E000}c\u{E000}", "\u{E000}0", "\u{E000}1\0"] {
            assert!(!plain(text).contains('\0'));
            assert_eq!(meant(plain(text)), text);
            assert!(plain(&format!("{text}x")).starts_with(&plain(text)));
        }
    }
}
