//! Reading the words of a map: all mistakes at once, each with its place, unknown words with what was probably meant.

use std::path::PathBuf;
use std::time::Duration;

use handler_api::Failure;
use handler_api::spelling::did_you_mean;
use handler_api::units::parse_duration;

use super::node::{Node, Value};

/// Most mistakes that are told at once; the rest is counted.
pub const PROBLEMS_MAX: usize = 25;
/// How much of a wrong text is shown, in characters.
const CUT_CHARS_MAX: usize = 60;
/// Longest path, in bytes.
const PATH_BYTES_MAX: usize = 4_096;

/// What is wrong, in the order in which it was found.
#[derive(Debug, Default)]
pub struct Problems {
    file: Option<String>,
    list: Vec<String>,
    more: usize,
}

impl Problems {
    /// None yet, in this file.
    #[must_use]
    pub fn of_file(file: String) -> Self {
        Self { file: Some(file), ..Self::default() }
    }

    /// One more. `line` = 0 where there is none.
    pub fn add(&mut self, line: usize, message: impl Into<String>) {
        if self.list.len() >= PROBLEMS_MAX {
            self.more += 1;
            return;
        }
        let message = message.into();
        self.list.push(match &self.file {
            Some(file) if line > 0 => format!("{file}:{line}: {message}"),
            _ => message,
        });
    }

    /// Whether something is wrong.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.list.is_empty()
    }

    /// All of it in one sentence that begins with `what`.
    #[must_use]
    pub fn told(&self, what: &str) -> String {
        let more = if self.more > 0 { format!("; and {} more", self.more) } else { String::new() };
        format!("{what}: {}{more}", self.list.join("; "))
    }

    /// All of it as a permanent failure.
    #[must_use]
    pub fn permanent(&self, what: &str) -> Failure {
        Failure::permanent(self.told(what))
    }
}

/// The words of a map.
pub struct Words<'a> {
    what: String,
    entries: &'a [(super::node::Key, Node)],
}

impl<'a> Words<'a> {
    /// The words of `node`, which is called `what`; each must be one of `allowed`. `None` where it is no map.
    pub fn of(node: &'a Node, what: impl Into<String>, allowed: &[&str], problems: &mut Problems) -> Option<Self> {
        let what = what.into();
        let Value::Map(entries) = &node.value else {
            problems.add(node.line, format!("{what} is {}, not a map of {}", node.kind(), allowed.join(", ")));
            return None;
        };
        for (key, _) in entries.iter().filter(|(key, _)| !allowed.contains(&key.text.as_str())) {
            let hint = did_you_mean(&key.text, allowed.iter().copied()).map_or_else(
                || format!("the words are {}", allowed.join(", ")),
                |word| format!("did you mean `{word}`?"),
            );
            problems.add(key.line, format!("`{}` is not a word of {what}; {hint}", cut(&key.text)));
        }
        Some(Self { what, entries })
    }

    /// The value of a word.
    #[must_use]
    pub fn get(&self, word: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(key, _)| key.text == word).map(|(_, node)| node)
    }

    fn wrong(&self, word: &str, node: &Node, wanted: &str, problems: &mut Problems) {
        let kind = node.kind();
        let quotes = if wanted == "a text" && kind == "a number" { "; put it in quotes" } else { "" };
        problems.add(node.line, format!("`{word}` of {} is {kind}, not {wanted}{quotes}", self.what));
    }

    /// A text.
    pub fn text(&self, word: &str, problems: &mut Problems) -> Option<&'a str> {
        let node = self.get(word)?;
        let Value::Text(text) = &node.value else {
            self.wrong(word, node, "a text", problems);
            return None;
        };
        Some(text)
    }

    /// A text that `check` takes; what it says otherwise is the end of a sentence.
    pub fn checked(
        &self,
        word: &str,
        problems: &mut Problems,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Option<&'a str> {
        let text = self.text(word, problems)?;
        match check(text) {
            Ok(()) => Some(text),
            Err(why) => {
                self.add(word, problems, &why);
                None
            }
        }
    }

    /// Says what is wrong with a word.
    pub fn add(&self, word: &str, problems: &mut Problems, why: &str) {
        let line = self.get(word).map_or(0, |node| node.line);
        problems.add(line, format!("`{word}` of {} {why}", self.what));
    }

    /// `true` or `false`.
    pub fn bool(&self, word: &str, problems: &mut Problems) -> Option<bool> {
        let node = self.get(word)?;
        let Value::Bool(yes) = node.value else {
            self.wrong(word, node, "true or false", problems);
            return None;
        };
        Some(yes)
    }

    /// A whole number from `least` to `most`.
    pub fn number(&self, word: &str, least: usize, most: usize, problems: &mut Problems) -> Option<usize> {
        let node = self.get(word)?;
        let number = if let Value::Number(number) = node.value { usize::try_from(number).ok() } else { None };
        let fits = number.filter(|number| (least..=most).contains(number));
        if fits.is_none() {
            let shown = number.map_or_else(|| node.kind().to_owned(), |number| number.to_string());
            self.add(word, problems, &format!("is {shown}, not a number from {least} to {most}"));
        }
        fits
    }

    /// A duration from `least` to `most`.
    pub fn duration(&self, word: &str, least: &str, most: &str, problems: &mut Problems) -> Option<Duration> {
        let node = self.get(word)?;
        let Value::Text(text) = &node.value else {
            self.wrong(word, node, "a duration such as 30s or 5m", problems);
            return None;
        };
        let fits = |limit: &str| parse_duration(limit).unwrap_or_default();
        match parse_duration(text) {
            Ok(duration) if (fits(least)..=fits(most)).contains(&duration) => return Some(duration),
            Ok(_) => self.add(word, problems, &format!("is {}, not from {least} to {most}", cut(text))),
            Err(_) => {
                let why =
                    format!("is `{}`, not a duration; write a number and its unit, as in 30s, 5m or 1h", cut(text));
                self.add(word, problems, &why);
            }
        }
        None
    }

    /// An absolute path that may stand in a line of ssh_config: no spaces, quotes or marks that mean something there.
    pub fn plain_path(&self, word: &str, problems: &mut Problems) -> Option<PathBuf> {
        self.checked(word, problems, |text| {
            is_path(text)?;
            let odd = |c: char| !(c.is_alphanumeric() || "/._-+@:,=".contains(c));
            match text.chars().find(|c| odd(*c)) {
                None => Ok(()),
                Some(odd) => {
                    Err(format!("has {odd:?} in it, which ssh_config would take for something else; move the file"))
                }
            }
        })
        .map(PathBuf::from)
    }
}

/// Whether a text is an absolute path without `..` and control characters.
///
/// # Errors
/// The end of a sentence that begins with the word.
pub fn is_path(text: &str) -> Result<(), String> {
    let sound =
        text.len() <= PATH_BYTES_MAX && !text.chars().any(char::is_control) && text.split('/').all(|p| p != "..");
    if sound && text.starts_with('/') && text.len() > 1 {
        return Ok(());
    }
    Err(format!("is `{}`, not an absolute path; a path beside the rules file begins with `./`", cut(text)))
}

/// The beginning of a text, on one line, for an error.
#[must_use]
pub fn cut(text: &str) -> String {
    let mut shown: String = text.chars().take(CUT_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(CUT_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown.replace("\\\"", "\"").replace("\\'", "'")
}
