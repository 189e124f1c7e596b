//! The column `files`, byte for byte as MirrorManager2 writes it: its crawler and mirrorlist cache read it.

use std::cmp::Reverse;
use std::fmt::Write as _;

use crate::rows::File;

/// With more files of one of [`LONG_KINDS`] than this, only the newest are kept.
const LONG_FILES: usize = 10;
/// How many of them.
const NEWEST_KEPT: usize = 3;
/// The kinds that are counted, each by itself.
const LONG_KINDS: [&str; 4] = [".html", ".rpm", ".hdr", ".drpm"];
/// What stands before each file; it can't stand in a name, whose quotes are escaped.
const BEFORE_NAME: &str = "{\"name\": ";

pub(super) fn files_json(files: &[File]) -> Option<String> {
    let mut kept: Vec<&File> = files.iter().collect();
    if LONG_KINDS.iter().any(|kind| files.iter().filter(|file| file.name.ends_with(kind)).count() > LONG_FILES) {
        kept.sort_unstable_by_key(|file| Reverse((file.time, &file.name, file.size)));
        kept.truncate(NEWEST_KEPT);
    }
    kept.sort_unstable_by_key(|file| &file.name);
    let mut text = String::with_capacity(2 + kept.len() * 80);
    for file in kept {
        text.push_str(if text.is_empty() { "[" } else { ", " });
        text.push_str(BEFORE_NAME);
        quoted(&mut text, &file.name);
        // Writing to a text never fails.
        let _ = write!(text, ", \"size\": {}, \"timestamp\": {}}}", file.size, file.time);
    }
    (!text.is_empty()).then(|| text + "]")
}

/// How many files such a text names.
pub(super) fn count(text: &str) -> usize {
    text.matches(BEFORE_NAME).count()
}

/// A JSON text in ASCII only.
fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(letter),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, time: i64) -> File {
        File { name: name.to_owned(), size: 1, time }
    }

    #[test]
    fn a_name_is_written_as_pythons_json_writes_it() {
        let text = files_json(&[file("z\u{7f}\u{1}😀\"\\\n\t", 5), file("naïve file.txt", -3)]).unwrap();
        assert_eq!(
            text,
            r#"[{"name": "na\u00efve file.txt", "size": 1, "timestamp": -3}, "#.to_owned()
                + r#"{"name": "z\u007f\u0001\ud83d\ude00\"\\\n\t", "size": 1, "timestamp": 5}]"#
        );
        assert_eq!(count(&text), 2);
        assert_eq!(files_json(&[]), None);
    }

    #[test]
    fn a_name_that_looks_like_our_text_is_one_file() {
        assert_eq!(count(&files_json(&[file("{\"name\": \"x\"}", 1)]).unwrap()), 1);
    }

    #[test]
    fn of_many_packages_the_three_newest_are_kept() {
        let many =
            |kind: &str, n: i64| -> Vec<File> { (0..n).map(|i| file(&format!("{i:02}{kind}"), i % 7)).collect() };
        assert_eq!(count(&files_json(&many(".rpm", 10)).unwrap()), 10, "ten are not many");
        assert_eq!(count(&files_json(&many(".txt", 50)).unwrap()), 50, "these are not counted");
        // A .drpm does not count as a .rpm, but is left out with them.
        let mut mixed = many(".rpm", 11);
        mixed.extend(many(".drpm", 10));
        let text = files_json(&mixed).unwrap();
        assert_eq!(count(&text), 3);
        // Newest first, then by name from the end.
        let text = files_json(&many(".html", 15)).unwrap();
        let names: Vec<&str> = ["06.html", "12.html", "13.html"].into_iter().filter(|n| text.contains(n)).collect();
        assert_eq!((count(&text), names.len()), (3, 3), "{text}");
    }
}
