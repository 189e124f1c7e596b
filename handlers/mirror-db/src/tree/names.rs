//! Names as both sources treat them: what is left out, what can't be written, what a person is told of it. Pure.

use std::fmt::Write as _;

use handler_api::Failure;
use regex::RegexSet;

/// The excludes, tied to the beginning of the name.
pub(super) struct Excludes(RegexSet);

impl Excludes {
    /// # Errors
    /// Permanent: an expression that can't be tied (an unfinished comment in it, or too large).
    pub(super) fn new(excludes: &RegexSet) -> Result<Self, Failure> {
        let tied = excludes.patterns().iter().map(|pattern| format!("^(?:{pattern})"));
        RegexSet::new(tied).map(Self).map_err(|error| Failure::permanent(format!("`excludes`: {error}")))
    }

    /// Whether this name is left out; whether one above it is, is not looked at.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.is_match(name)
    }

    /// The same for the name and all above it, down to `top`.
    pub(super) fn has_or_above(&self, name: &str, top: &str) -> bool {
        let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
        ends.filter(|end| *end > top.len()).any(|end| self.has(name.get(..end).unwrap_or(name)))
    }
}

/// The name as text, if it can be written into the database and a log: UTF-8 without control characters.
pub(super) fn text(name: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(name).ok()?;
    let clean =
        if text.is_ascii() { !name.iter().any(u8::is_ascii_control) } else { !text.chars().any(char::is_control) };
    clean.then_some(text)
}

/// A name that is no text, for a person.
pub(super) fn shown(name: &[u8]) -> String {
    let mut shown = String::new();
    for part in name.utf8_chunks() {
        for char in part.valid().chars() {
            if char.is_control() {
                let _ = write!(shown, "{}", char.escape_default());
            } else {
                shown.push(char);
            }
        }
        for byte in part.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// `name` in the directory `above`; nothing is above the root's own entries.
pub(super) fn below(above: &str, name: &str) -> String {
    if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") }
}

/// What stands below `top` in a name: `9/x86_64` of `pub/epel/9/x86_64`; nothing for the top itself. `None` if it isn't there.
pub(super) fn under<'a>(top: &[u8], name: &'a [u8]) -> Option<&'a [u8]> {
    if top.is_empty() {
        return Some(name);
    }
    match name.strip_prefix(top)? {
        [] => Some(&[]),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
