//! XML-RPC as Koji speaks it: values, calls, answers. Pure.
//!
//! The format is that of <http://xmlrpc.com/spec.md>, with `nil` and `i8` as Python's `xmlrpc.client` writes them and, for keyword
//! arguments, a struct with `__starstar` as the last parameter (koji's `encode_args`; recorded in facts/targets.md).
//!
//! An answer is hostile: no document type (so no entity but XML's own five and numeric ones), and bounded in depth, in values and
//! in what is kept of a fault's text.

mod read;

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Deepest nesting of values in an answer.
pub const DEPTH_MAX: usize = 32;
/// Most values in one answer: some 200,000 rows of a package list.
pub const VALUES_MAX: usize = 2_000_000;
/// What is kept of a fault's text, in characters.
pub const FAULT_CHARS_MAX: usize = 500;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `nil`
    Nil,
    /// `boolean`
    Bool(bool),
    /// `int`, `i4`, `i8`
    Int(i64),
    /// `double`
    Double(f64),
    /// `string`, text without a type; `base64` and `dateTime.iso8601` as they are written.
    Text(String),
    /// `array`
    Array(Vec<Value>),
    /// `struct`
    Struct(BTreeMap<String, Value>),
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// With a value.
    Value(Value),
    /// With a fault: it was refused, and nothing was done.
    Fault(Fault),
}

/// Why a hub refuses a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Koji's number of the exception's class.
    pub code: i64,
    /// Its text: the first [`FAULT_CHARS_MAX`] characters, as they came. Quote it before it is shown.
    pub text: String,
}

impl Value {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Keyword arguments: the last parameter of a call.
    pub fn keywords<const N: usize>(keywords: [(&str, Value); N]) -> Self {
        let named = keywords.into_iter().map(|(name, value)| (name.to_owned(), value));
        Self::Struct(named.chain([("__starstar".to_owned(), Self::Bool(true))]).collect())
    }

    /// The member of a struct.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Struct(members) => members.get(name),
            _ => None,
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The whole number, if it is one.
    #[must_use]
    pub const fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }
}

impl Fault {
    /// The fault that a struct with `faultCode` and `faultString` is; `None` for any other value.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        let code = value.get("faultCode")?.as_int()?;
        let text = value.get("faultString")?.as_str()?;
        Some(Self { code, text: text.chars().take(FAULT_CHARS_MAX).collect() })
    }
}

/// A call: the body of a request.
#[must_use]
pub fn call(method: &str, params: &[Value]) -> String {
    let mut out = String::from("<?xml version='1.0'?>\n<methodCall>\n<methodName>");
    escape(&mut out, method);
    out.push_str("</methodName>\n<params>\n");
    for param in params {
        out.push_str("<param>\n");
        write(&mut out, param);
        out.push_str("</param>\n");
    }
    out.push_str("</params>\n</methodCall>\n");
    out
}

/// One call of a `multiCall`.
#[must_use]
pub fn element(method: &str, params: Vec<Value>) -> Value {
    let members = [("methodName".to_owned(), Value::text(method)), ("params".to_owned(), Value::Array(params))];
    Value::Struct(members.into())
}

/// Reads an answer.
///
/// # Errors
/// What is wrong with it: the end of a sentence that begins with the answer ("is cut short").
pub fn reply(bytes: &[u8]) -> Result<Reply, String> {
    read::reply(bytes)
}

/// Reads a call, as a hub does: its method and its parameters. For `reactor demo`, which has no hub.
///
/// # Errors
/// As [`reply`].
pub fn called(bytes: &[u8]) -> Result<(String, Vec<Value>), String> {
    read::called(bytes)
}

/// An answer, as a hub gives it.
#[must_use]
pub fn answer(value: &Value) -> String {
    let mut out = String::from("<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n");
    write(&mut out, value);
    out.push_str("</param>\n</params>\n</methodResponse>\n");
    out
}

fn write(out: &mut String, value: &Value) {
    out.push_str("<value>");
    match value {
        Value::Nil => out.push_str("<nil/>"),
        Value::Bool(value) => put(out, format_args!("<boolean>{}</boolean>", u8::from(*value))),
        Value::Int(value) if i32::try_from(*value).is_ok() => put(out, format_args!("<int>{value}</int>")),
        Value::Int(value) => put(out, format_args!("<i8>{value}</i8>")),
        Value::Double(value) => put(out, format_args!("<double>{value}</double>")),
        Value::Text(text) => {
            out.push_str("<string>");
            escape(out, text);
            out.push_str("</string>");
        }
        Value::Array(values) => {
            out.push_str("<array><data>\n");
            values.iter().for_each(|value| write(out, value));
            out.push_str("</data></array>");
        }
        Value::Struct(members) => {
            out.push_str("<struct>\n");
            for (name, value) in members {
                out.push_str("<member>\n<name>");
                escape(out, name);
                out.push_str("</name>\n");
                write(out, value);
                out.push_str("</member>\n");
            }
            out.push_str("</struct>");
        }
    }
    out.push_str("</value>\n");
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text); // A String takes everything.
}

/// Text that is no markup. A carriage return would come back as a line feed, other control characters not at all.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c if c.is_control() && c != '\n' && c != '\t' => put(out, format_args!("&#{};", u32::from(c))),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
