//! One line of what an account system calls a key, taken apart. No cryptography.

use super::blob::is_type;
use super::{COMMENT_CHARS_MAX, KEY_LINE_BYTES_MAX};

/// What a line is.
pub(super) enum Line<'a> {
    /// Empty, or a comment.
    Nothing,
    /// Looks like a key: the word for its type (one that OpenSSH knows), base64, and a clean comment.
    Key {
        /// One of OpenSSH's type words.
        word: &'a str,
        /// Not looked at yet.
        base64: &'a str,
        /// Printable, trimmed, at most [`COMMENT_CHARS_MAX`] characters.
        comment: String,
    },
    /// No key, and why.
    Wrong(&'static str),
    /// The beginning of something of several lines that is no key; what to pass over.
    Pasted(&'static str, Skip),
}

/// What is passed over after a pasted beginning.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Skip {
    /// Nothing: it ended on its own line.
    Nothing,
    /// All up to its last line.
    ToEnd,
    /// The rest of the text.
    All,
}

/// Whether the skipping ends with this line.
pub(super) fn ends(skip: Skip, line: &str) -> bool {
    skip == Skip::ToEnd && is_end(line)
}

/// The last line of a PEM block, or of one of RFC 4716.
fn is_end(line: &str) -> bool {
    line.contains("---- END") || line.contains("-----END")
}

/// Takes one line apart.
pub(super) fn read(line: &str) -> Line<'_> {
    let line = line.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    if line.is_empty() || line.starts_with('#') {
        return Line::Nothing;
    }
    if let Some(pasted) = pasted(line) {
        return pasted;
    }
    if line.len() > KEY_LINE_BYTES_MAX {
        return Line::Wrong("the line is longer than 8192 bytes");
    }
    let (word, rest) = split(line);
    if !is_type(word) {
        return Line::Wrong(without_type(line));
    }
    let (base64, rest) = split(rest);
    if base64.is_empty() {
        return Line::Wrong("nothing stands behind the type");
    }
    let comment = clean(rest);
    if holds_key(&comment) {
        return Line::Wrong("a second key stands on the same line; give each a line of its own");
    }
    let comment: String = comment.chars().take(COMMENT_CHARS_MAX).collect();
    Line::Key { word, base64, comment: comment.trim_end().to_owned() }
}

/// The first word, and what follows it.
pub(super) fn split(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim_start()))
}

/// A private key, or a key in another program's format.
fn pasted(line: &str) -> Option<Line<'static>> {
    let until = if is_end(line) { Skip::Nothing } else { Skip::ToEnd };
    if line.starts_with("---") && line.contains("PRIVATE KEY") {
        return Some(Line::Pasted("a private key stands here: it is no secret any more, make a new pair", until));
    }
    if line.starts_with("---- BEGIN SSH2") {
        return Some(Line::Pasted(
            "it is in the format of RFC 4716; `ssh-keygen -i -f FILE` turns it into one line",
            until,
        ));
    }
    if line.starts_with("-----BEGIN") {
        return Some(Line::Pasted("it is a PEM block, not a line of OpenSSH's", until));
    }
    line.starts_with("PuTTY-User-Key-File").then_some(Line::Pasted(
        "a private key of PuTTY stands here: it is no secret any more, make a new pair",
        Skip::All,
    ))
}

/// Why a line that does not begin with a type is none.
fn without_type(line: &str) -> &'static str {
    if line.split_whitespace().any(is_type) {
        "options are not taken from the account system"
    } else if line.starts_with("AAAA") {
        "the type in front of it is missing"
    } else {
        "it is not a key of a known type"
    }
}

/// Whether a comment holds another key.
fn holds_key(comment: &str) -> bool {
    let words: Vec<&str> = comment.split(' ').collect();
    words.windows(2).any(|pair| is_type(pair[0].trim_matches(['"', '\''])) && pair[1].starts_with("AAAA"))
}

/// Printable characters only, words parted by one space. What turns the direction of a line, has no width, or is no
/// character at all goes.
pub(super) fn clean(text: &str) -> String {
    let kept: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| is_shown(*c)).collect();
    kept.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Whether a character shows itself as one: what Rust's `escape_debug` leaves as it is, and the three that it escapes for
/// another reason. U+FFFD stands for bytes that could not be read.
#[must_use]
pub fn is_shown(c: char) -> bool {
    c != char::REPLACEMENT_CHARACTER && (matches!(c, '"' | '\'' | '\\') || c.escape_debug().count() == 1)
}
