//! JSON exactly as Python reads and writes it, because that is what fedmsg signs:
//! `json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))` (fedmsg `crypto/utils.py`, `encoding/__init__.py`).
//!
//! `serde_json` can't do this: it refuses lone surrogates and NaN, rounds long integers and writes floats differently; any
//! of these changes the signed bytes. This module never decides whether a message is believed.
//!
//! * [`parse`]: bytes → [`Json`] (in `canonical/parse.rs`)
//! * [`Json::encode`]: [`Json`] → the signed bytes
//! * [`Json::to_value`]: [`Json`] → what rules and handlers see

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

mod parse;

pub use parse::{DEPTH_MAX, INT_DIGITS_MAX, JsonError, parse};

/// Deepest nesting that rules and handlers may see, in levels. Most JSON readers, our own journal's among them, stop at
/// 128, and the body travels inside other objects.
pub const VALUE_DEPTH_MAX: usize = 110;

/// One JSON value as Python holds it. Strings are WTF-8: UTF-8 that may also hold lone surrogates, so that comparing bytes
/// compares code points, as Python's `sorted` does.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// An integer of any size, as its decimal digits (`-0` is kept as `0`).
    Int(Cow<'a, str>),
    /// Anything with a point or an exponent; also `NaN`, `Infinity`, `-Infinity`.
    Float(f64),
    /// A string, in WTF-8.
    Text(Cow<'a, [u8]>),
    /// A list.
    List(Vec<Json<'a>>),
    /// An object: keys in WTF-8, sorted, each once.
    Object(Vec<(Cow<'a, [u8]>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// The value of a key, if this is an object that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Object(fields) = self else { return None };
        let at = fields.binary_search_by(|(name, _)| name.as_ref().cmp(key.as_bytes())).ok()?;
        fields.get(at).map(|(_, value)| value)
    }

    /// The string, if this is one and it is valid Unicode.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// Canonical bytes: ASCII, keys sorted, no white space.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// Canonical bytes of an object without some of its own keys (not of objects inside it).
    #[must_use]
    pub fn encode_without(&self, left_out: &[&str], bytes_expected: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes_expected);
        match self {
            Self::Object(fields) => {
                let kept =
                    fields.iter().filter(|(key, _)| !left_out.iter().any(|name| name.as_bytes() == key.as_ref()));
                encode_fields(kept, &mut out);
            }
            other => other.encode_into(&mut out),
        }
        out
    }

    // Recursive: `parse` makes at most DEPTH_MAX levels, and `From<&Value>` what serde_json allows.
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Int(digits) => out.extend_from_slice(digits.as_bytes()),
            Self::Float(number) => out.extend_from_slice(python_repr(*number).as_bytes()),
            Self::Text(text) => encode_text(text, out),
            Self::List(items) => {
                out.push(b'[');
                for (n, item) in items.iter().enumerate() {
                    if n > 0 {
                        out.push(b',');
                    }
                    item.encode_into(out);
                }
                out.push(b']');
            }
            Self::Object(fields) => encode_fields(fields.iter(), out),
        }
    }

    /// As rules and handlers see it. What JSON proper cannot hold is replaced: a lone surrogate by U+FFFD, NaN and
    /// infinity by null, an integer beyond 64 bits by the nearest float.
    ///
    /// # Errors
    /// A sentence, where it nests deeper than [`VALUE_DEPTH_MAX`].
    pub fn to_value(&self) -> Result<Value, String> {
        self.to_value_within(VALUE_DEPTH_MAX)
    }

    fn to_value_within(&self, levels: usize) -> Result<Value, String> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(yes) => Value::Bool(*yes),
            Self::Int(digits) => int_value(digits),
            Self::Float(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
            Self::Text(text) => Value::String(lossy(text)),
            Self::List(items) => {
                let inner = deeper(levels)?;
                Value::Array(items.iter().map(|item| item.to_value_within(inner)).collect::<Result<_, _>>()?)
            }
            Self::Object(fields) => {
                let inner = deeper(levels)?;
                let mut map = Map::with_capacity(fields.len());
                for (key, value) in fields {
                    map.insert(lossy(key), value.to_value_within(inner)?);
                }
                Value::Object(map)
            }
        })
    }
}

impl From<&Value> for Json<'_> {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(yes) => Self::Bool(*yes),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(int), _) => Self::Int(int.to_string().into()),
                (_, Some(int)) => Self::Int(int.to_string().into()),
                _ => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Self::Text(text.clone().into_bytes().into()),
            Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Value::Object(map) => {
                object(map.iter().map(|(key, value)| (key.clone().into_bytes().into(), Self::from(value))).collect())
            }
        }
    }
}

/// An object from its fields in any order: sorted by key; of equal keys the last one counts, as in Python.
#[must_use]
pub fn object<'a>(mut fields: Vec<(Cow<'a, [u8]>, Json<'a>)>) -> Json<'a> {
    if !fields.is_sorted_by(|a, b| a.0 < b.0) {
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(&mut later.1, &mut kept.1);
            }
            same
        });
    }
    Json::Object(fields)
}

fn deeper(levels: usize) -> Result<usize, String> {
    levels.checked_sub(1).ok_or_else(|| format!("the body nests deeper than {VALUE_DEPTH_MAX} levels"))
}

fn encode_fields<'f, 'a: 'f>(fields: impl Iterator<Item = &'f (Cow<'a, [u8]>, Json<'a>)>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (n, (key, value)) in fields.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        encode_text(key, out);
        out.push(b':');
        value.encode_into(out);
    }
    out.push(b'}');
}

/// Python's `ensure_ascii`: every character outside 0x20..=0x7e is escaped, DEL too; astral ones as surrogate pairs.
fn encode_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    while let Some(&first) = rest.first() {
        let plain = rest.iter().take_while(|b| matches!(b, 0x20..=0x7e) && !matches!(b, b'"' | b'\\')).count();
        if plain > 0 {
            out.extend_from_slice(&rest[..plain]);
            rest = &rest[plain..];
            continue;
        }
        let (code, len) = if first < 0x80 { (u32::from(first), 1) } else { wtf8_code(rest) };
        encode_code(code, out);
        rest = rest.get(len..).unwrap_or_default();
    }
    out.push(b'"');
}

fn encode_code(code: u32, out: &mut Vec<u8>) {
    let short = match code {
        0x22 => b'"',
        0x5c => b'\\',
        0x0a => b'n',
        0x0d => b'r',
        0x09 => b't',
        0x08 => b'b',
        0x0c => b'f',
        0x1_0000.. => {
            let above = code - 0x1_0000;
            encode_unit(0xd800 + (above >> 10), out);
            encode_unit(0xdc00 + (above & 0x3ff), out);
            return;
        }
        _ => {
            encode_unit(code, out);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

fn encode_unit(unit: u32, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(HEX[(unit >> shift & 0xf) as usize]);
    }
}

/// The first code point of WTF-8 text and its length in bytes. Bytes that are not WTF-8 count as one U+FFFD each.
fn wtf8_code(text: &[u8]) -> (u32, usize) {
    let low = |at: usize| text.get(at).filter(|b| **b & 0xc0 == 0x80).map(|b| u32::from(*b & 0x3f));
    let first = u32::from(text.first().copied().unwrap_or_default());
    match (first, low(1), low(2), low(3)) {
        (0xc2..=0xdf, Some(b), ..) => ((first & 0x1f) << 6 | b, 2),
        (0xe0..=0xef, Some(b), Some(c), _) => ((first & 0x0f) << 12 | b << 6 | c, 3),
        (0xf0..=0xf4, Some(b), Some(c), Some(d)) => ((first & 0x07) << 18 | b << 12 | c << 6 | d, 4),
        _ => (0xfffd, 1),
    }
}

/// Appends a code point, which may be a surrogate, as WTF-8.
fn push_wtf8(code: u32, out: &mut Vec<u8>) {
    if let Some(character) = char::from_u32(code) {
        let mut buffer = [0; 4];
        out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
    } else {
        let bits = |shift: u32| ((code >> shift) & 0x3f) as u8;
        out.extend_from_slice(&[0xe0 | (code >> 12 & 0x0f) as u8, 0x80 | bits(6), 0x80 | bits(0)]);
    }
}

fn lossy(text: &[u8]) -> String {
    if let Ok(valid) = std::str::from_utf8(text) {
        return valid.to_owned();
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while !rest.is_empty() {
        let (code, len) = if rest[0] < 0x80 { (u32::from(rest[0]), 1) } else { wtf8_code(rest) };
        out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = rest.get(len..).unwrap_or_default();
    }
    out
}

fn int_value(digits: &str) -> Value {
    if let Ok(int) = digits.parse::<i64>() {
        return int.into();
    }
    if let Ok(int) = digits.parse::<u64>() {
        return int.into();
    }
    digits.parse().ok().and_then(Number::from_f64).map_or(Value::Null, Value::Number)
}

/// Python's `repr(float)`: the shortest digits that read back the same; an exponent below 1e-4 and from 1e16 on.
fn python_repr(number: f64) -> String {
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    // Rust's `{:e}` has the same digits: `-1.25e-7`.
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) {
        let plain = format!("{number}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
#[path = "canonical/tests.rs"]
mod tests;
