//! Keys are hostile text: parsed, and written anew. Pure.
//!
//! What the account system has may be anything: several keys in one text, options in front, control characters, a private
//! key pasted by mistake, megabytes. A line goes out only if it was understood, and it is put together from what was
//! understood, never copied. What is left out is told with a sentence that holds no piece of the text.

mod blob;
mod line;
mod shown;

use std::collections::{BTreeMap, BTreeSet};

pub use shown::shown;

use handler_api::notes::Notes;
pub use line::is_shown;
use line::{Line, Skip};

/// Most keys of one user that are taken. The order of the account system does not count: it may change.
pub const KEYS_MAX: usize = 100;
/// Largest text of the account system that is looked at, in bytes.
pub const KEY_TEXT_BYTES_MAX: usize = 64 * 1024;
/// Longest line, in bytes; sshd's own limit.
pub const KEY_LINE_BYTES_MAX: usize = 8 * 1024;
/// Most lines of one user that are looked at.
pub const KEY_LINES_MAX: usize = 1_000;
/// Longest comment, in characters.
pub const COMMENT_CHARS_MAX: usize = 100;
/// Most sentences about keys of one user that were left out; the last says how many more there were.
pub const NOTES_MAX: usize = 20;
/// Longest RSA modulus, in bits: what OpenSSH reads.
pub const RSA_BITS_MAX: usize = 16_384;
/// The least that `rsa_bits_min` may be, in bits.
pub const RSA_BITS_MIN: usize = 2_048;

/// Which keys are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The kinds (`types`).
    pub kinds: BTreeSet<Kind>,
    /// Shortest RSA modulus, in bits (`rsa_bits_min`); never below 2048.
    pub rsa_bits_min: usize,
}

impl Default for Policy {
    /// All kinds but certificates, RSA from [`RSA_BITS_MIN`].
    fn default() -> Self {
        let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Certificate).collect();
        Self { kinds, rsa_bits_min: RSA_BITS_MIN }
    }
}

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `ssh-ed25519`
    Ed25519,
    /// `ecdsa-sha2-nistp256`, `384`, `521`
    Ecdsa,
    /// `ssh-rsa`
    Rsa,
    /// `sk-ssh-ed25519@openssh.com`
    SkEd25519,
    /// `sk-ecdsa-sha2-nistp256@openssh.com`
    SkEcdsa,
    /// any `…-cert-v01@openssh.com` whose own key is of a kind that is taken; sshd itself takes no login from one that
    /// stands in authorized_keys
    Certificate,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 6] =
        [Self::Ed25519, Self::Ecdsa, Self::Rsa, Self::SkEd25519, Self::SkEcdsa, Self::Certificate];

    /// The word for it in `types`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::Ecdsa => "ecdsa",
            Self::Rsa => "rsa",
            Self::SkEd25519 => "sk-ed25519",
            Self::SkEcdsa => "sk-ecdsa",
            Self::Certificate => "certificate",
        }
    }
}

/// A key that may be written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// One line without its newline and without options: type, base64, comment.
    pub line: String,
    /// For people: `ED25519 SHA256:… ralph@laptop`.
    pub shown: String,
}

impl Key {
    /// `SHA256:…`, as ssh-keygen and sshd (`%f`) say it.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        self.shown.split(' ').nth(1).unwrap_or_default()
    }
}

/// Reads what the account system has: any number of texts, each of any number of lines. The keys come sorted, each once;
/// beside them a sentence for each that was left out (`key 2: DSA is refused`), which never holds the key itself.
///
/// Keys are counted from 1 over all texts; empty lines and comments are none. Of one key with several comments the first
/// in the alphabet stays, so that the order of the account system does not matter.
#[must_use]
pub fn read(texts: &[String], policy: &Policy) -> (Vec<Key>, Vec<String>) {
    let mut reader = Reader { policy, number: 0, lines: 0, keys: BTreeMap::new(), notes: Notes::at_most(NOTES_MAX) };
    for text in texts {
        if reader.lines >= KEY_LINES_MAX {
            break;
        }
        reader.text(text);
    }
    if reader.lines >= KEY_LINES_MAX {
        reader.notes.add(|| format!("only the first {KEY_LINES_MAX} lines were looked at"));
    }
    if reader.keys.len() > KEYS_MAX {
        let (all, left) = (reader.keys.len(), reader.keys.len() - KEYS_MAX);
        reader.notes.add(|| format!("{left} of {all} keys are left out: at most {KEYS_MAX} of one user are taken"));
    }
    let keys = reader.keys.into_iter().take(KEYS_MAX);
    let keys = keys.map(|(material, (comment, label, print))| {
        let with = |front: String| if comment.is_empty() { front } else { format!("{front} {comment}") };
        Key { shown: with(format!("{label} {print}")), line: with(material) }
    });
    (keys.collect(), reader.notes.into_sentences())
}

struct Reader<'a> {
    policy: &'a Policy,
    /// Keys so far, also those left out.
    number: usize,
    /// Lines so far.
    lines: usize,
    /// By type and base64: the comment, the kind for people, the fingerprint.
    keys: BTreeMap<String, (String, &'static str, String)>,
    notes: Notes,
}

impl Reader<'_> {
    fn text(&mut self, text: &str) {
        if text.len() > KEY_TEXT_BYTES_MAX {
            self.number += 1;
            self.left_out(&format!("its text has {} bytes, at most {KEY_TEXT_BYTES_MAX} are read", text.len()));
            return;
        }
        let mut skip = None;
        for line in text.split(['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}']) {
            if self.lines >= KEY_LINES_MAX {
                return;
            }
            self.lines += 1;
            if let Some(until) = skip {
                if line::ends(until, line) {
                    skip = None;
                }
                continue;
            }
            let line = line::read(line);
            if !matches!(line, Line::Nothing) {
                self.number += 1;
            }
            match line {
                Line::Nothing => {}
                Line::Key { word, base64, comment } => match blob::check(word, base64, self.policy) {
                    Ok(key) => self.take(key, comment),
                    Err(why) => self.left_out(&why),
                },
                Line::Wrong(why) => self.left_out(why),
                Line::Pasted(why, until) => {
                    self.left_out(why);
                    skip = (until != Skip::Nothing).then_some(until);
                }
            }
        }
    }

    fn take(&mut self, key: blob::Checked, comment: String) {
        let entry = self.keys.entry(key.line).or_insert_with(|| (String::new(), key.label, key.fingerprint));
        if entry.0.is_empty() || (!comment.is_empty() && comment < entry.0) {
            entry.0 = comment;
        }
    }

    fn left_out(&mut self, why: &str) {
        let number = self.number;
        self.notes.add(|| format!("key {number}: {why}"));
    }
}

#[cfg(test)]
mod tests;
