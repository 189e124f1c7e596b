//! Checksum files: which files are some, and what their lines say. Pure.

use std::collections::BTreeMap;

use crate::rows::Sums;

/// What a checksum file has checksums of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Algorithm {
    Md5,
    Sha1,
    Sha256,
    Sha512,
}

impl Algorithm {
    const fn digits(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha1 => 40,
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        }
    }

    const fn of(self, sums: &mut Sums) -> &mut Option<String> {
        match self {
            Self::Md5 => &mut sums.md5,
            Self::Sha1 => &mut sums.sha1,
            Self::Sha256 => &mut sums.sha256,
            Self::Sha512 => &mut sums.sha512,
        }
    }
}

/// The algorithm of a checksum file, by its name; `None` if it is none. As umdl has it: how the name begins, not all of it, so
/// that `SHA512SUM.asc` is one too; and there is no `SHA256SUM`.
pub(super) fn algorithm(filename: &str) -> Option<Algorithm> {
    let plain = |word: &str| {
        filename.strip_prefix(word).is_some_and(|rest| {
            let mut rest = rest.chars();
            rest.next().is_some() && rest.as_str().starts_with("txt")
        })
    };
    if filename.contains("-CHECKSUM") || plain("sha256sum") {
        Some(Algorithm::Sha256)
    } else if filename.contains(".sha512sum") || filename.starts_with("SHA512SUM") || plain("sha512sum") {
        Some(Algorithm::Sha512)
    } else if filename.contains(".sha1sum") || filename.starts_with("SHA1SUM") || plain("sha1sum") {
        Some(Algorithm::Sha1)
    } else if filename.contains(".md5sum") || filename.starts_with("MD5SUM") || plain("md5sum") {
        Some(Algorithm::Md5)
    } else {
        None
    }
}

/// Takes in the lines of a checksum file; the last of a name counts. Lines that are none are passed over, as are paths.
pub(super) fn read(bytes: &[u8], algorithm: Algorithm, into: &mut BTreeMap<String, Sums>) {
    for line in bytes.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()) {
        if let Some((name, hex)) = one(line, algorithm) {
            let sums = into.entry(name.to_owned()).or_default();
            *algorithm.of(sums) = Some(hex.to_ascii_lowercase());
        }
    }
}

/// `25ceb1…  *name`, or `SHA256 (name) = 4942be…`.
fn one(line: &str, algorithm: Algorithm) -> Option<(&str, &str)> {
    let words: Vec<&str> = line.split_whitespace().take(5).collect();
    let (name, hex) = match words.as_slice() {
        [hex, name] => (name.trim_start_matches('*'), *hex),
        [word, name, "=", hex] if *word == algorithm.word() => (name.strip_prefix('(')?.strip_suffix(')')?, *hex),
        _ => return None,
    };
    let is_name = !matches!(name, "" | "." | "..") && !name.contains(|char: char| char == '/' || char.is_control());
    (is_name && hex.len() == algorithm.digits() && hex.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .then_some((name, hex))
}
