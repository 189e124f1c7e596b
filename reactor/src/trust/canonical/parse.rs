//! Bytes → [`Json`], accepting exactly what Python's `json.loads` accepts of UTF-8 text. Keeps its own stack, so that no
//! depth of nesting can overflow ours; borrows every string that has no escape.

use std::borrow::Cow;

use super::{Json, object, push_wtf8};

/// Deepest nesting, in levels. Python's recursion limit stops between 990 and 1,100.
pub const DEPTH_MAX: usize = 1_000;
/// Most digits of an integer (Python ≥ 3.11 raises `ValueError` beyond).
pub const INT_DIGITS_MAX: usize = 4_300;

/// Why these bytes are not JSON, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not JSON: {why} at byte {at}")]
pub struct JsonError {
    /// Offset of the byte that is wrong.
    pub at: usize,
    /// What is wrong, in words.
    pub why: &'static str,
}

/// Reads one JSON value that fills all of `bytes`.
///
/// # Errors
/// What Python refuses too: a byte-order mark, invalid UTF-8, anything after the value, nesting beyond [`DEPTH_MAX`], an
/// integer of more than [`INT_DIGITS_MAX`] digits, and every breach of the grammar.
pub fn parse(bytes: &[u8]) -> Result<Json<'_>, JsonError> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(JsonError { at: 0, why: "a byte-order mark" });
    }
    let text =
        std::str::from_utf8(bytes).map_err(|error| JsonError { at: error.valid_up_to(), why: "invalid UTF-8" })?;
    let mut parser = Parser { text, bytes, at: 0 };
    let value = parser.document()?;
    parser.space();
    if parser.at < bytes.len() { parser.wrong("something after the value") } else { Ok(value) }
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

/// A list or object that is not closed yet.
enum Open<'a> {
    List(Vec<Json<'a>>),
    /// The fields so far, and the key whose value comes next.
    Object(Vec<(Cow<'a, [u8]>, Json<'a>)>, Cow<'a, [u8]>),
}

impl<'a> Parser<'a> {
    fn document(&mut self) -> Result<Json<'a>, JsonError> {
        let mut open: Vec<Open<'a>> = Vec::new();
        loop {
            self.space();
            let mut value = match self.peek() {
                Some(b'[' | b'{') => {
                    if open.len() == DEPTH_MAX {
                        return self.wrong("nesting that is too deep");
                    }
                    match self.opened()? {
                        Ok(empty) => empty,
                        Err(container) => {
                            open.push(container);
                            continue;
                        }
                    }
                }
                _ => self.scalar()?,
            };
            // A finished value goes into its container, which may thereby be finished itself.
            loop {
                let Some(container) = open.last_mut() else { return Ok(value) };
                if self.add(container, value)? {
                    break;
                }
                value = match open.pop() {
                    Some(Open::List(items)) => Json::List(items),
                    Some(Open::Object(fields, _)) => object(fields),
                    None => return self.wrong("a bracket too many"),
                };
            }
        }
    }

    /// After `[` or `{`: the empty container, or one that waits for its first value.
    fn opened(&mut self) -> Result<Result<Json<'a>, Open<'a>>, JsonError> {
        let is_list = self.peek() == Some(b'[');
        self.at += 1;
        self.space();
        Ok(match (is_list, self.peek()) {
            (true, Some(b']')) => {
                self.at += 1;
                Ok(Json::List(Vec::new()))
            }
            (false, Some(b'}')) => {
                self.at += 1;
                Ok(Json::Object(Vec::new()))
            }
            (true, _) => Err(Open::List(Vec::new())),
            (false, _) => Err(Open::Object(Vec::new(), self.key()?)),
        })
    }

    /// Adds a value to its container; true when another value follows, false when the container was closed.
    fn add(&mut self, container: &mut Open<'a>, value: Json<'a>) -> Result<bool, JsonError> {
        self.space();
        let next = self.peek();
        self.at += 1;
        match (container, next) {
            (Open::List(items), Some(b',' | b']')) => items.push(value),
            (Open::Object(fields, key), Some(b'}')) => fields.push((std::mem::take(key), value)),
            (Open::Object(fields, key), Some(b',')) => {
                self.space();
                fields.push((std::mem::replace(key, self.key()?), value));
            }
            _ => {
                self.at -= 1;
                return self.wrong("no comma or closing bracket");
            }
        }
        Ok(next == Some(b','))
    }

    fn key(&mut self) -> Result<Cow<'a, [u8]>, JsonError> {
        if self.peek() != Some(b'"') {
            return self.wrong("no key in double quotes");
        }
        let key = self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return self.wrong("no colon after the key");
        }
        self.at += 1;
        Ok(key)
    }

    fn scalar(&mut self) -> Result<Json<'a>, JsonError> {
        match self.peek() {
            Some(b'"') => Ok(Json::Text(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(&[
                ("null", Json::Null),
                ("true", Json::Bool(true)),
                ("false", Json::Bool(false)),
                ("NaN", Json::Float(f64::NAN)),
                ("Infinity", Json::Float(f64::INFINITY)),
            ]),
        }
    }

    fn word(&mut self, words: &[(&str, Json<'a>)]) -> Result<Json<'a>, JsonError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match words.iter().find(|(word, _)| rest.starts_with(word.as_bytes())) {
            Some((word, value)) => {
                self.at += word.len();
                Ok(value.clone())
            }
            None => self.wrong("no value"),
        }
    }

    fn number(&mut self) -> Result<Json<'a>, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
            if self.peek() == Some(b'I') {
                return self.word(&[("Infinity", Json::Float(f64::NEG_INFINITY))]);
            }
        }
        let first = self.at;
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.wrong("no digit"),
        }
        let int_digits = self.at - first;
        let is_float = self.fraction() | self.exponent();
        let text = &self.text[start..self.at];
        if is_float {
            return text.parse().map(Json::Float).or_else(|_| self.wrong("no number"));
        }
        if int_digits > INT_DIGITS_MAX {
            self.at = start;
            return self.wrong("an integer with too many digits");
        }
        Ok(Json::Int(if text == "-0" { "0" } else { text }.into()))
    }

    fn digits(&mut self) {
        self.at += self.bytes[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
    }

    /// `.` and at least one digit; else nothing is taken, as in Python (what is left then is an error).
    fn fraction(&mut self) -> bool {
        let found = self.peek() == Some(b'.') && self.bytes.get(self.at + 1).is_some_and(u8::is_ascii_digit);
        if found {
            self.at += 1;
            self.digits();
        }
        found
    }

    fn exponent(&mut self) -> bool {
        if !matches!(self.peek(), Some(b'e' | b'E')) {
            return false;
        }
        let sign = usize::from(matches!(self.bytes.get(self.at + 1), Some(b'+' | b'-')));
        let found = self.bytes.get(self.at + 1 + sign).is_some_and(u8::is_ascii_digit);
        if found {
            self.at += 1 + sign;
            self.digits();
        }
        found
    }

    fn string(&mut self) -> Result<Cow<'a, [u8]>, JsonError> {
        self.at += 1;
        let start = self.at;
        self.plain();
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(&self.bytes[start..self.at - 1]));
        }
        let mut out = self.bytes[start..self.at].to_vec();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(out));
                }
                Some(b'\\') => self.escape(&mut out)?,
                Some(_) => return self.wrong("a control character in a string"),
                None => return self.wrong("a string without end"),
            }
            let from = self.at;
            self.plain();
            out.extend_from_slice(&self.bytes[from..self.at]);
        }
    }

    /// Moves to the next quote, backslash or control character.
    fn plain(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at += rest.iter().take_while(|b| **b >= 0x20 && !matches!(b, b'"' | b'\\')).count();
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let plain = match self.bytes.get(self.at + 1) {
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(same @ (b'"' | b'\\' | b'/')) => *same,
            Some(b'u') => {
                push_wtf8(self.unicode()?, out);
                return Ok(());
            }
            _ => return self.wrong("an unknown escape"),
        };
        self.at += 2;
        out.push(plain);
        Ok(())
    }

    /// `\uHHHH`, or two of them that are one character together.
    fn unicode(&mut self) -> Result<u32, JsonError> {
        let Some(first) = self.unit(self.at) else { return self.wrong("an escape without four hex digits") };
        self.at += 6;
        if (0xd800..0xdc00).contains(&first)
            && let Some(second) = self.unit(self.at).filter(|unit| (0xdc00..0xe000).contains(unit))
        {
            self.at += 6;
            return Ok(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00));
        }
        Ok(first)
    }

    fn unit(&self, at: usize) -> Option<u32> {
        let digits = self.bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    const fn wrong<T>(&self, why: &'static str) -> Result<T, JsonError> {
        Err(JsonError { at: self.at, why })
    }
}
