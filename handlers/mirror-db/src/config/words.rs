//! What several words of the block have in common. Pure.

use std::path::PathBuf;

use handler_api::Failure;
use handler_api::words::Words;
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::REGEX_BYTES_MAX;

/// Longest name of a directory or file, in bytes.
const PATH_BYTES_MAX: usize = 4_096;

/// A list of texts of one line each; `None` = the word is not there.
pub(super) fn texts(words: &Words<'_>, word: &str, max: usize) -> Result<Option<Vec<String>>, Failure> {
    let Some(value) = words.get(word) else { return Ok(None) };
    let list = value.as_array().ok_or_else(|| words.wrong(word, "is not a list of texts", value))?;
    if list.len() > max {
        return Err(words.wrong(word, &format!("has {} items, at most {max} are allowed", list.len()), &Value::Null));
    }
    let text = |item: &Value| match item {
        Value::String(text) if !text.is_empty() && !text.chars().any(char::is_control) => Ok(text.clone()),
        other => Err(words.wrong(word, "has something in it that is not a text of one line", other)),
    };
    list.iter().map(text).collect::<Result<_, _>>().map(Some)
}

/// The absolute path of a file or directory; a rules file's `./` is absolute by now.
pub(super) fn absolute(words: &Words<'_>, word: &str) -> Result<Option<PathBuf>, Failure> {
    match words.text(word)? {
        None => Ok(None),
        Some(text) if text.starts_with('/') => Ok(Some(text.into())),
        Some(text) => Err(words
            .wrong(word, "is not an absolute path", &text.into())
            .hinting("write /PATH, or ./PATH for one beside the rules file")),
    }
}

/// Whether it names something below `root`: parts that are there, none of them `.` or `..`, no control characters.
pub(crate) fn is_directory(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= PATH_BYTES_MAX
        && !name.chars().any(char::is_control)
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Compiles an expression.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub(super) fn regex(text: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build();
    built.map_err(|error| format!("is no regular expression ({})", one_line(&error)))
}

/// What the crate says in several lines, with a drawing.
pub(super) fn one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    last.trim().trim_start_matches("error: ").to_owned()
}

/// The same failure, with what it is about in front.
pub(super) fn about(what: &str, failure: Failure) -> Failure {
    let hint = failure.hint().map(str::to_owned);
    let message = failure.message();
    let message = message.strip_prefix("mirror-db: ").unwrap_or(message);
    let message = format!("mirror-db: {what}: {message}");
    match (hint, failure) {
        (hint, Failure::Retry { after, .. }) => Failure::Retry { message, hint, after },
        (hint, Failure::Permanent { .. }) => Failure::Permanent { message, hint },
    }
}
