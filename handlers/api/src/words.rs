//! Reading the words of a configuration block: unknown ones are errors that say what is allowed. Pure.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::params::ParamType;
use crate::protocol::Failure;
use crate::spelling::did_you_mean;
use crate::units::parse_duration;

/// Characters of somebody else's text that a message quotes.
const QUOTED_CHARS_MAX: usize = 80;

/// One block, whose words are all known.
pub struct Words<'a> {
    place: &'static str,
    map: &'a Map<String, Value>,
}

impl<'a> Words<'a> {
    /// The block `config` at `place` (`accounts: yaml`), in which only `allowed` may stand.
    ///
    /// # Errors
    /// It is no map; it has words that are not allowed.
    pub fn read(config: &'a Value, place: &'static str, allowed: &[&str]) -> Result<Self, Failure> {
        let Some(map) = config.as_object() else {
            return Err(Failure::permanent(format!("{place} is not a map: {}", quoted(&config.to_string()))));
        };
        let unknown: Vec<&str> = map.keys().map(String::as_str).filter(|word| !allowed.contains(word)).collect();
        if unknown.is_empty() {
            return Ok(Self { place, map });
        }
        Err(unknown_words(place, &unknown, allowed))
    }

    /// The value of a word.
    #[must_use]
    pub fn get(&self, word: &str) -> Option<&'a Value> {
        self.map.get(word).filter(|value| !value.is_null())
    }

    /// A text that is not empty.
    ///
    /// # Errors
    /// The value is no text, is empty or has several lines.
    pub fn text(&self, word: &str) -> Result<Option<&'a str>, Failure> {
        match self.get(word) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() && !text.chars().any(char::is_control) => Ok(Some(text)),
            Some(other) => Err(self.wrong(word, "is not a text of one line", other)),
        }
    }

    /// A duration as people write it, at least a second.
    ///
    /// # Errors
    /// The value is none, or outside of the limits.
    pub fn duration(&self, word: &str, default: Duration, max: Duration) -> Result<Duration, Failure> {
        let Some(value) = self.get(word) else { return Ok(default) };
        let expected = format!("is not a duration from 1s to {}s; write 30s, 5m or 1h", max.as_secs());
        let read = value
            .as_str()
            .and_then(|text| parse_duration(text).ok())
            .filter(|time| (Duration::from_secs(1)..=max).contains(time));
        read.ok_or_else(|| self.wrong(word, &expected, value))
    }

    /// A whole number within limits.
    ///
    /// # Errors
    /// The value is none, or outside of the limits.
    pub fn number(&self, word: &str, default: u64, min: u64, max: u64) -> Result<u64, Failure> {
        let Some(value) = self.get(word) else { return Ok(default) };
        let read = value.as_u64().filter(|number| (min..=max).contains(number));
        read.ok_or_else(|| self.wrong(word, &format!("is not a whole number from {min} to {max}"), value))
    }

    /// The failure that says what is wrong with a word's value; `why` goes on after the word.
    #[must_use]
    pub fn wrong(&self, word: &str, why: &str, value: &Value) -> Failure {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Failure::permanent(format!("{}: `{word}` {why}: {}", self.place, quoted(&text)))
    }
}

/// The one word of `sources` that stands in the block `place` (`accounts`): where its truth comes from. An example of such a block is
/// `place: {yaml: ./place.yaml}`.
///
/// # Errors
/// A permanent failure where the block is no map, names no source (with what was meant, if a word is near one), or several.
pub fn the_source(place: &str, block: &Value, sources: &[&'static str]) -> Result<&'static str, Failure> {
    let Some(map) = block.as_object() else {
        let message = format!("`{place}` is not a map: {}", quoted(&block.to_string()));
        return Err(Failure::permanent(message).hinting(format!("write {place}: {{yaml: ./{place}.yaml}}")));
    };
    let named: Vec<&'static str> = sources.iter().copied().filter(|source| map.contains_key(*source)).collect();
    if let [source] = named[..] {
        return Ok(source);
    }
    let others: Vec<&str> = sources.iter().copied().filter(|source| *source != "yaml").collect();
    let hint = format!("name one: {place}: {{yaml: ./{place}.yaml}} (or {})", others.join(", "));
    if !named.is_empty() {
        let message = format!("`{place}` names more than one source: {}", named.join(", "));
        return Err(Failure::permanent(message).hinting(hint));
    }
    let near = |word: &&str| did_you_mean(word, sources.iter().copied()).is_some();
    let mistyped: Vec<&str> = map.keys().map(String::as_str).filter(near).collect();
    if mistyped.is_empty() {
        return Err(Failure::permanent(format!("`{place}` names no source")).hinting(hint));
    }
    Err(unknown_words(place, &mistyped, sources))
}

/// The failure for words that are not known in `place`.
#[must_use]
pub fn unknown_words(place: &str, unknown: &[&str], allowed: &[&str]) -> Failure {
    let shown: Vec<String> = unknown.iter().map(|word| format!("`{}`", shorten(word))).collect();
    let verb = if unknown.len() == 1 { "is not a word that is" } else { "are not words that are" };
    let near: Vec<String> = unknown
        .iter()
        .filter_map(|word| did_you_mean(word, allowed.iter().copied()))
        .map(|near| format!("did you mean `{near}`? "))
        .collect();
    Failure::permanent(format!("{place}: {} {verb} known here", shown.join(", "))).hinting(format!(
        "{}allowed are {}",
        near.concat(),
        allowed.join(", ")
    ))
}

/// Checks a name that somebody asks about. `what` is `user` or `group`.
///
/// # Errors
/// A permanent failure that says what is wrong with it.
pub fn check_name(what: &str, name: &str) -> Result<(), Failure> {
    let wrong = ParamType::Name.check(&Value::String(name.to_owned()));
    wrong.map_err(|why| Failure::permanent(format!("the {what} that is asked about {why}")))
}

/// Whether a name from a source may be used.
#[must_use]
pub fn is_name(name: &str) -> bool {
    ParamType::Name.check(&Value::String(name.to_owned())).is_ok()
}

/// The beginning of a text, in quotes and without anything a terminal would act on.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("{:?}", shorten(text))
}

/// The beginning of a text.
fn shorten(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mistyped_word_is_named_with_the_one_that_was_meant() {
        let failure =
            Words::read(&json!({"yaml": "/x", "timeuot": 3}), "accounts: yaml", &["yaml", "timeout"]).err().unwrap();
        assert!(failure.message().contains("`timeuot`"), "{failure}");
        assert_eq!(failure.hint(), Some("did you mean `timeout`? allowed are yaml, timeout"));
        assert_eq!(failure.exit_code(), crate::exit::PERMANENT);
    }

    #[test]
    fn a_value_of_another_kind_is_an_error_and_never_the_default() {
        let config = json!({"a": 5, "b": "30", "c": "2h", "d": "0s", "e": 0, "f": "x\ny"});
        let words = Words::read(&config, "x", &["a", "b", "c", "d", "e", "f", "g"]).unwrap();
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3_600));
        for word in ["a", "b", "c", "d"] {
            assert!(words.duration(word, second, hour).is_err(), "{word}");
        }
        assert_eq!(words.duration("g", second, hour).unwrap(), second);
        assert!(words.text("a").is_err() && words.text("f").is_err() && words.text("g").unwrap().is_none());
        assert!(words.number("e", 5, 1, 9).is_err() && words.number("b", 5, 1, 9).is_err());
        assert_eq!(words.number("a", 1, 1, 9).unwrap(), 5);
    }
}
