//! Typed parameters. What a message said reaches a handler only after it fitted its type.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Longest `name`, in characters.
pub const NAME_CHARS_MAX: usize = 128;
/// Longest `email`, in bytes (RFC 5321, 4.5.3.1.3).
pub const EMAIL_BYTES_MAX: usize = 254;
/// Longest `path`, in bytes.
pub const PATH_BYTES_MAX: usize = 4_096;
/// Longest `text`, in bytes.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Most items in a list.
pub const LIST_ITEMS_MAX: usize = 10_000;

/// The parameters of one reaction, as JSON.
pub type Params = Map<String, Value>;

/// What a parameter may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamType {
    /// `[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}`: no leading dash, no shell or regular-expression marks but the dot.
    Name,
    /// One address: a `name`-like local part, `@`, a host name.
    Email,
    /// A relative or absolute path: no `..`, no leading dash in any part, no NUL or control characters.
    Path,
    /// A topic: words joined by dots.
    Topic,
    /// A whole number that fits 64 bits.
    Int,
    /// `true` or `false`.
    Bool,
    /// Any text without NUL. Only for what never reaches a shell, a pattern or a config line.
    Text,
    /// A list of one of the others.
    List(Box<ParamType>),
    /// May be left out or null.
    Optional(Box<ParamType>),
}

impl ParamType {
    /// Reads `name`, `[name]`, `int?`.
    ///
    /// # Errors
    /// A sentence that lists the types.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(inner) = text.strip_suffix('?') {
            return Ok(Self::Optional(Box::new(Self::parse(inner)?)));
        }
        if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            return Ok(Self::List(Box::new(Self::parse(inner)?)));
        }
        Ok(match text {
            "name" => Self::Name,
            "email" => Self::Email,
            "path" => Self::Path,
            "topic" => Self::Topic,
            "int" => Self::Int,
            "bool" => Self::Bool,
            "text" => Self::Text,
            _ => {
                return Err(format!(
                    "`{text}` is not a parameter type; the types are name, email, path, topic, int, bool, text, [TYPE] and TYPE?"
                ));
            }
        })
    }

    /// Whether `value` fits.
    ///
    /// # Errors
    /// What was wrong with the value, as the end of a sentence that begins with the parameter's name.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        match (self, value) {
            (Self::Optional(_), Value::Null) | (Self::Bool, Value::Bool(_)) => Ok(()),
            (Self::Optional(inner), value) => inner.check(value),
            (Self::Int, Value::Number(n)) if n.is_i64() || n.is_u64() => Ok(()),
            (Self::List(_), Value::Array(items)) if items.len() > LIST_ITEMS_MAX => {
                Err(format!("has {} items, at most {LIST_ITEMS_MAX} are allowed", items.len()))
            }
            (Self::List(inner), Value::Array(items)) => items
                .iter()
                .enumerate()
                .try_for_each(|(at, item)| inner.check(item).map_err(|why| format!("item {at} {why}"))),
            (Self::Name | Self::Email | Self::Path | Self::Topic | Self::Text, Value::String(text)) => {
                if self.fits(text) { Ok(()) } else { Err(format!("is not {self}: {}", shorten(text))) }
            }
            _ => Err(format!("is not {self}: {}", shorten(&value.to_string()))),
        }
    }

    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Name => is_name(text),
            Self::Email => is_email(text),
            Self::Path => is_path(text),
            Self::Topic => is_topic(text),
            Self::Text => text.len() <= TEXT_BYTES_MAX && !text.contains('\0'),
            _ => false,
        }
    }

    fn word(&self) -> String {
        match self {
            Self::Name => "name".into(),
            Self::Email => "email".into(),
            Self::Path => "path".into(),
            Self::Topic => "topic".into(),
            Self::Int => "int".into(),
            Self::Bool => "bool".into(),
            Self::Text => "text".into(),
            Self::List(inner) => format!("[{}]", inner.word()),
            Self::Optional(inner) => format!("{}?", inner.word()),
        }
    }
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= NAME_CHARS_MAX
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.@+-".contains(&b))
}

fn is_email(text: &str) -> bool {
    let Some((local, host)) = text.rsplit_once('@') else { return false };
    text.len() <= EMAIL_BYTES_MAX
        && is_name(local)
        && !local.contains('@')
        && !host.is_empty()
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

fn is_path(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= PATH_BYTES_MAX
        && !text.chars().any(char::is_control)
        && text.split('/').all(|part| part != ".." && !part.starts_with('-'))
}

fn is_topic(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text
            .split('.')
            .all(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-+:@*".contains(&b)))
}

fn shorten(text: &str) -> String {
    let mut shown: String = text.chars().take(60).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// The type as the end of "is not …".
impl fmt::Display for ParamType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "a name (letters, digits and _.@+-, not beginning with one of .@+-)",
            Self::Email => "an e-mail address",
            Self::Path => "a path (no `..`, no part beginning with a dash)",
            Self::Topic => "a topic",
            Self::Int => "a whole number",
            Self::Bool => "true or false",
            Self::Text => "a text without NUL of at most 64 KiB",
            Self::List(_) => "a list",
            Self::Optional(inner) => return inner.fmt(f),
        })
    }
}

impl Serialize for ParamType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.word())
    }
}

impl<'de> Deserialize<'de> for ParamType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Checks all of `with` against what a handler declared: nothing missing, nothing unknown, each of its type.
///
/// # Errors
/// One sentence for everything that is wrong, in the order of the parameters' names.
pub fn check(declared: &BTreeMap<String, ParamType>, with: &Params) -> Result<(), Vec<String>> {
    let mut wrong = Vec::new();
    for (name, kind) in declared {
        match with.get(name) {
            None if matches!(kind, ParamType::Optional(_)) => {}
            None => wrong.push(format!("parameter `{name}` is missing")),
            Some(value) => {
                if let Err(why) = kind.check(value) {
                    wrong.push(format!("parameter `{name}` {why}"));
                }
            }
        }
    }
    wrong.extend(with.keys().filter(|name| !declared.contains_key(*name)).map(|name| {
        format!(
            "parameter `{name}` is not one of the handler's ({})",
            declared.keys().cloned().collect::<Vec<_>>().join(", ")
        )
    }));
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fits(kind: &str, value: Value) -> bool {
        ParamType::parse(kind).is_ok_and(|kind| kind.check(&value).is_ok())
    }

    #[test]
    fn a_name_has_no_marks_that_mean_something_to_a_shell_or_a_pattern() {
        for good in ["ralph", "r", "_x", "perl-sig", "a.b", "x@REALM", "c++", &"a".repeat(128)] {
            assert!(fits("name", json!(good)), "{good}");
        }
        for bad in [
            "",
            "-x",
            ".*",
            "a b",
            "a;b",
            "$(id)",
            "a/b",
            "../../etc",
            "é",
            "a\n",
            "@all",
            "+x",
            "a\u{0}",
            &"a".repeat(129),
        ] {
            assert!(!fits("name", json!(bad)), "{bad:?}");
        }
        assert!(!fits("name", json!(5)));
    }

    #[test]
    fn a_path_cannot_climb_or_look_like_an_option() {
        for good in ["pub/fedora/linux", "/srv/x", "a b/ü", "."] {
            assert!(fits("path", json!(good)), "{good}");
        }
        for bad in ["", "..", "a/../b", "-rf", "a/-rf", "a\u{0}b", "a\nb"] {
            assert!(!fits("path", json!(bad)), "{bad:?}");
        }
    }

    #[test]
    fn the_other_types_take_what_their_name_says() {
        assert!(
            fits("email", json!("ralph@example.org"))
                && !fits("email", json!("ralph"))
                && !fits("email", json!("a@b@c.org"))
        );
        assert!(!fits("email", json!("x@-a.org")) && !fits("email", json!("|prog@example.org")));
        assert!(fits("topic", json!("a.b.c")) && !fits("topic", json!("a..c")) && !fits("topic", json!("a b")));
        assert!(fits("int", json!(-3)) && !fits("int", json!(1.5)) && !fits("int", json!("3")));
        assert!(fits("bool", json!(true)) && !fits("bool", json!("true")));
        assert!(fits("text", json!("any; text $()\n")) && !fits("text", json!("\u{0}")));
        assert!(
            fits("[name]", json!(["a", "b"])) && !fits("[name]", json!(["a", "-b"])) && !fits("[name]", json!("a"))
        );
        assert!(fits("int?", Value::Null) && fits("int?", json!(1)) && !fits("int?", json!("x")));
        assert!(ParamType::parse("string").is_err());
    }

    #[test]
    fn every_wrong_parameter_is_named_at_once() {
        let declared = BTreeMap::from([("user".into(), ParamType::Name), ("n".into(), ParamType::Int)]);
        let with = json!({"user": ".*", "usr": "x"});
        let wrong = check(&declared, with.as_object().unwrap_or(&Map::new())).unwrap_err();
        assert_eq!(wrong.len(), 3, "{wrong:?}");
    }
}
