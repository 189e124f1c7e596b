//! What templates and conditions see, and how they say what is missing. Pure: looks into messages, changes nothing.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::message::Message;
use handler_api::spelling::did_you_mean;

/// The names that templates and conditions see.
pub const NAMES: [&str; 7] = ["msg", "topic", "id", "sent", "signer", "headers", "messages"];
/// Most characters of a value that an error or explanation shows.
pub const SHOWN_CHARS_MAX: usize = 80;
/// Most keys of a map that an error names.
const KEYS_SHOWN_MAX: usize = 12;

/// Why an expression or template could not be evaluated. That rule's reaction fails with it; it is never "no match".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    /// What is wrong, with the path and what is there instead.
    pub message: String,
    /// What to write instead, if that is known.
    pub hint: Option<String>,
    /// A field is not there (what `default` stands in for).
    pub(crate) missing: bool,
}

impl EvalError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, missing: false }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// The messages that an expression looks at.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    messages: &'a [&'a Message],
}

impl<'a> Scope<'a> {
    /// Over the messages of a reaction, oldest first. `msg`, `topic`, `id`, `sent`, `signer` and `headers` are the newest's.
    #[must_use]
    pub const fn new(messages: &'a [&'a Message]) -> Self {
        Self { messages }
    }

    /// All of them, oldest first.
    #[must_use]
    pub const fn messages(&self) -> &'a [&'a Message] {
        self.messages
    }

    /// The newest; a reconcile (`every:`) has none.
    ///
    /// # Errors
    /// That there is none.
    pub fn newest(&self) -> Result<&'a Message, EvalError> {
        self.messages.last().copied().ok_or_else(|| {
            EvalError::new("there is no message: this reaction comes from `every:`")
                .hint("a rule with `every:` can't use msg, topic, id, sent, signer or headers")
        })
    }

    /// The value at a path that begins with one of [`NAMES`].
    pub(crate) fn get(&self, path: &[String]) -> Result<Cow<'a, Value>, EvalError> {
        let Some((name, rest)) = path.split_first() else { return Err(EvalError::new("the path is empty")) };
        let owned = match name.as_str() {
            "msg" => return walk("msg", &self.newest()?.body, rest).map(Cow::Borrowed),
            "headers" => return self.header(rest),
            "messages" => return self.in_messages(rest),
            "topic" => Value::from(self.newest()?.topic.as_str()),
            "id" => Value::from(self.newest()?.id.as_str()),
            "sent" => Value::from(self.newest()?.sent.to_string()),
            "signer" => Value::from(self.newest()?.signer.as_str()),
            _ => return Err(unknown_name(name)),
        };
        walk(name, &owned, rest).cloned().map(Cow::Owned)
    }

    fn header(&self, rest: &[String]) -> Result<Cow<'a, Value>, EvalError> {
        let headers = &self.newest()?.headers;
        let Some((first, deeper)) = rest.split_first() else { return Ok(Cow::Owned(Value::Object(headers.clone()))) };
        let value = headers.get(first).ok_or_else(|| no_field("headers", headers, first))?;
        walk(&format!("headers.{first}"), value, deeper).map(Cow::Borrowed)
    }

    fn in_messages(&self, rest: &[String]) -> Result<Cow<'a, Value>, EvalError> {
        let Some((index, deeper)) = rest.split_first() else {
            return Ok(Cow::Owned(self.messages.iter().map(|message| as_value(message)).collect()));
        };
        let found = index.parse().ok().and_then(|i: usize| self.messages.get(i));
        let message = found.ok_or_else(|| {
            EvalError::new(format!("messages has no `{}`; it has {} messages", shorten(index), self.messages.len()))
        })?;
        if let Some((part, deeper)) = deeper.split_first()
            && part == "msg"
        {
            return walk(&format!("messages.{index}.msg"), &message.body, deeper).map(Cow::Borrowed);
        }
        walk(&format!("messages.{index}"), &as_value(message), deeper).cloned().map(Cow::Owned)
    }
}

/// One element of `messages`.
fn as_value(message: &Message) -> Value {
    json!({
        "id": message.id, "topic": message.topic, "sent": message.sent.to_string(), "signer": message.signer,
        "msg": message.body, "headers": message.headers,
    })
}

pub(crate) fn unknown_name(name: &str) -> EvalError {
    let error = EvalError::new(format!("`{}` is not known here; known are {}", shorten(name), NAMES.join(", ")));
    match did_you_mean(name, NAMES) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("a field of the message's body is written `msg.{}`", shorten(name))),
    }
}

/// Follows `path` into `value`, which is called `name` in errors.
pub(crate) fn walk<'v>(name: &str, value: &'v Value, path: &[String]) -> Result<&'v Value, EvalError> {
    let mut at = value;
    for (depth, word) in path.iter().enumerate() {
        let here = || path[..depth].iter().fold(name.to_owned(), |text, word| text + "." + &shorten(word));
        at = match at {
            Value::Object(map) => map.get(word).ok_or_else(|| no_field(&here(), map, word))?,
            Value::Array(items) => {
                let found = word.parse().ok().and_then(|i: usize| items.get(i));
                found.ok_or_else(|| {
                    missing(format!("{} is a list of {}, it has no `{}`", here(), items.len(), shorten(word)))
                })?
            }
            _ => return Err(missing(format!("{} is {}, it has no `{}`", here(), shown(at), shorten(word)))),
        };
    }
    Ok(at)
}

fn missing(message: String) -> EvalError {
    EvalError { message, hint: None, missing: true }
}

/// "msg has no `fieldz`; it has agent, fields, user".
pub(crate) fn no_field(name: &str, map: &Map<String, Value>, word: &str) -> EvalError {
    let mut has = String::new();
    for (n, key) in map.keys().take(KEYS_SHOWN_MAX).enumerate() {
        let _ = write!(has, "{}{}", if n == 0 { "" } else { ", " }, shorten(key));
    }
    match map.len() {
        0 => has.push_str("nothing"),
        n if n > KEYS_SHOWN_MAX => drop(write!(has, " and {} more", n - KEYS_SHOWN_MAX)),
        _ => {}
    }
    let near = did_you_mean(word, map.keys().map(String::as_str).take(1_000));
    EvalError {
        message: format!("{name} has no `{}`; it has {has}", shorten(word)),
        hint: near.map(|near| format!("did you mean `{}`?", shorten(near))),
        missing: true,
    }
}

/// A value as errors and explanations show it: JSON, at most [`SHOWN_CHARS_MAX`] characters, on one line. Lists of plain
/// words are written without quotes, as people write them in YAML.
#[must_use]
pub fn shown(value: &Value) -> String {
    let text = match value {
        Value::Array(items) => {
            let words: Vec<String> = items
                .iter()
                .take(SHOWN_CHARS_MAX)
                .map(|item| match item {
                    Value::String(text) if is_plain(text) => text.clone(),
                    Value::Array(_) | Value::Object(_) => "…".into(),
                    other => shorten(&other.to_string()),
                })
                .collect();
            format!("[{}]", words.join(", "))
        }
        Value::Object(map) => {
            let keys: Vec<String> = map.keys().take(SHOWN_CHARS_MAX).map(|key| shorten(key)).collect();
            format!("{{{}}}", keys.join(", "))
        }
        Value::String(text) => return format!("\"{}\"", shorten(text)),
        other => other.to_string(),
    };
    shorten(&text)
}

fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= SHOWN_CHARS_MAX
        && text.chars().all(|c| c.is_alphanumeric() || "_-./@:+".contains(c))
}

/// At most [`SHOWN_CHARS_MAX`] characters, control characters escaped.
pub(crate) fn shorten(text: &str) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n >= SHOWN_CHARS_MAX - 1 && text.chars().nth(SHOWN_CHARS_MAX).is_some() {
            out.push('…');
            break;
        }
        if c.is_control() { out.extend(c.escape_debug()) } else { out.push(c) }
    }
    out
}

/// What kind of thing a value is, with its article.
#[must_use]
pub const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(String::from).collect()
    }

    #[test]
    fn a_missing_field_is_named_with_what_is_there_instead() {
        let body = json!({"agent": "a", "fields": {"x": [1]}, "user": "u"});
        let error = walk("msg", &body, &path("fieldz")).unwrap_err();
        assert_eq!(error.message, "msg has no `fieldz`; it has agent, fields, user");
        assert_eq!(error.hint.as_deref(), Some("did you mean `fields`?"));
        let error = walk("msg", &body, &path("fields.x.3")).unwrap_err();
        assert_eq!(error.message, "msg.fields.x is a list of 1, it has no `3`");
        let error = walk("msg", &body, &path("user.name")).unwrap_err();
        assert_eq!(error.message, "msg.user is \"u\", it has no `name`");
        assert_eq!(walk("msg", &body, &path("fields.x.0")), Ok(&json!(1)));
    }

    #[test]
    fn what_is_shown_is_short_and_on_one_line() {
        assert_eq!(shown(&json!(["ssh_key", "time zone", 3])), "[ssh_key, \"time zone\", 3]");
        assert_eq!(shown(&json!("a\nb")), "\"a\\nb\"");
        assert!(shown(&json!("ä".repeat(10_000))).chars().count() <= SHOWN_CHARS_MAX + 2);
        assert!(shown(&json!(vec!["x"; 10_000])).chars().count() <= SHOWN_CHARS_MAX);
        assert_eq!(shorten(&"x".repeat(80)), "x".repeat(80));
    }

    #[test]
    fn only_a_near_word_is_offered() {
        assert_eq!(did_you_mean("uniqe", ["unique", "pluck"]), Some("unique"));
        assert_eq!(did_you_mean("mgs", NAMES), Some("msg"));
        assert_eq!(did_you_mean("topc", NAMES), Some("topic"));
        assert_eq!(did_you_mean("zzz", NAMES), None);
    }
}
