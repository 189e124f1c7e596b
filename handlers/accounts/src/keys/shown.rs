//! A line of a block for people: kind and fingerprint, never the key.

use super::line::{clean, split};
use super::{COMMENT_CHARS_MAX, blob};

/// Longest text that [`shown`] gives, in characters.
pub const SHOWN_CHARS_MAX: usize = 300;
/// How much of the options is shown, in characters.
const OPTIONS_CHARS_MAX: usize = 120;
/// Words that are longer are not shown whole, in characters: they might be a key.
const WORD_CHARS_MAX: usize = 40;

/// One line of a block for people, on one line and at most [`SHOWN_CHARS_MAX`] characters long:
/// `restrict,command="…" ED25519 SHA256:… comment`, or `a line that is no key (42 characters)`. The line may have been
/// changed by hand; no key text is shown.
#[must_use]
pub fn shown(line: &str) -> String {
    let Some(named) = named(line) else {
        return format!("a line that is no key ({} characters)", line.chars().count());
    };
    named.chars().take(SHOWN_CHARS_MAX).collect()
}

fn named(line: &str) -> Option<String> {
    let line = line.trim();
    let (first, rest) = split(line);
    let (options, word, rest) = if blob::is_type(first) {
        ("", first, rest)
    } else {
        let (options, behind) = line.split_at(options_end(line)?);
        let (word, rest) = split(behind);
        (options, word, rest)
    };
    let (base64, comment) = split(rest);
    let name = blob::name(word, base64)?;
    let parts = [short(options, OPTIONS_CHARS_MAX), name, short(comment, COMMENT_CHARS_MAX)];
    Some(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "))
}

/// Where the options end, as sshd finds it: at the first space outside of quotes.
fn options_end(line: &str) -> Option<usize> {
    let bytes = line.as_bytes();
    let (mut at, mut quoted) = (0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if bytes.get(at + 1) == Some(&b'"') => at += 1,
            b'"' => quoted = !quoted,
            b' ' | b'\t' if !quoted => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

fn short(text: &str, chars_max: usize) -> String {
    let text = clean(text);
    let words = text.split(' ').map(|word| match word.char_indices().nth(WORD_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    });
    let text = words.collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
