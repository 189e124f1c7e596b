//! AMQP 0-9-1 on the wire: frames, the primitive types, tables (the specification, section 4.2; the types of table values as
//! RabbitMQ has them, `rabbit_binary_parser.erl`). Pure.
//!
//! It is written here and not taken from a library because what it reads is any publisher's: a routing key that is not
//! UTF-8, a table nested a thousand deep or a body of a gigabyte must cost one message, not the connection or the daemon.

use serde_json::{Map, Number, Value};

/// What a connection begins with.
pub const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";
/// Largest frame that we take or send, in bytes with everything; a broker may ask for smaller ones.
pub const FRAME_BYTES_MAX: usize = 128 * 1024;
/// What a frame has beside its payload: type, channel, size before it, an end mark after it.
pub const FRAME_EXTRA_BYTES: usize = 8;
/// Deepest nesting of a table, in levels.
pub const TABLE_DEPTH_MAX: usize = 16;
/// Most values in a table and all tables in it: one of a byte on the wire takes a hundred in memory.
pub const TABLE_VALUES_MAX: usize = 1_000;
const FRAME_END: u8 = 0xce;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A method: class, number, arguments.
    Method,
    /// The properties of a message, and how long its body is.
    Header,
    /// A part of a body.
    Body,
    /// A sign of life.
    Heartbeat,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub kind: Kind,
    /// The channel; 0 is the connection itself.
    pub channel: u16,
    /// What it carries, without the end mark.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Adds the frame's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = match self.kind {
            Kind::Method => 1,
            Kind::Header => 2,
            Kind::Body => 3,
            Kind::Heartbeat => 8,
        };
        out.push(kind);
        out.extend_from_slice(&self.channel.to_be_bytes());
        out.extend_from_slice(&u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&self.payload);
        out.push(FRAME_END);
    }

    /// The frame that `bytes` begin with and how many bytes it took; `None` where it is not whole yet.
    ///
    /// # Errors
    /// What is wrong with it, after which nothing more of this connection can be read.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, String> {
        if bytes.starts_with(b"AMQP") {
            return Err("it speaks another version of AMQP than 0-9-1".into());
        }
        let Some((head, rest)) = bytes.split_at_checked(7) else { return Ok(None) };
        let kind = match head[0] {
            1 => Kind::Method,
            2 => Kind::Header,
            3 => Kind::Body,
            8 => Kind::Heartbeat,
            other => return Err(format!("a frame of the unknown type {other}; is it AMQP that is spoken there?")),
        };
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        if size + FRAME_EXTRA_BYTES > FRAME_BYTES_MAX {
            return Err(format!("a frame of {size} bytes; at most {FRAME_BYTES_MAX} were agreed on"));
        }
        let (Some(payload), Some(end)) = (rest.get(..size), rest.get(size)) else { return Ok(None) };
        if *end != FRAME_END {
            return Err("a frame without its end mark".into());
        }
        let frame = Self { kind, channel: u16::from_be_bytes([head[1], head[2]]), payload: payload.to_vec() };
        Ok(Some((frame, size + FRAME_EXTRA_BYTES)))
    }
}

/// Reads primitive types from a payload.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or("it ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| "it ends too early".to_owned())
    }

    /// One byte.
    ///
    /// # Errors
    /// As all of these: that the payload ends too early.
    pub fn u8(&mut self) -> Result<u8, String> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// Two bytes.
    ///
    /// # Errors
    /// See [`Reader::u8`].
    pub fn u16(&mut self) -> Result<u16, String> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Four bytes.
    ///
    /// # Errors
    /// See [`Reader::u8`].
    pub fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// See [`Reader::u8`].
    pub fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A short string: at most 255 bytes, in any encoding.
    ///
    /// # Errors
    /// See [`Reader::u8`].
    pub fn short(&mut self) -> Result<&'a [u8], String> {
        let len = self.u8()?;
        self.take(usize::from(len))
    }

    /// A long string: any bytes.
    ///
    /// # Errors
    /// See [`Reader::u8`].
    pub fn long(&mut self) -> Result<&'a [u8], String> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    /// A table as a JSON object. What JSON can't hold is replaced: bytes that are not UTF-8 by U+FFFD, a number that is
    /// none by null. A timestamp is its seconds, a decimal its nearest float.
    ///
    /// # Errors
    /// See [`Reader::u8`]; an unknown type, nesting deeper than [`TABLE_DEPTH_MAX`], or more values than [`TABLE_VALUES_MAX`].
    pub fn table(&mut self) -> Result<Map<String, Value>, String> {
        self.table_within(TABLE_DEPTH_MAX, &mut { TABLE_VALUES_MAX })
    }

    fn table_within(&mut self, levels: usize, values: &mut usize) -> Result<Map<String, Value>, String> {
        let levels = levels.checked_sub(1).ok_or_else(too_deep)?;
        let mut entries = Reader(self.long()?);
        let mut map = Map::new();
        while !entries.0.is_empty() {
            let name = String::from_utf8_lossy(entries.short()?).into_owned();
            map.insert(name, entries.value(levels, values)?);
        }
        Ok(map)
    }

    fn value(&mut self, levels: usize, values: &mut usize) -> Result<Value, String> {
        *values = values.checked_sub(1).ok_or_else(too_many)?;
        Ok(match self.u8()? {
            b't' => Value::Bool(self.u8()? != 0),
            b'b' => i8::from_be_bytes(self.array()?).into(),
            b'B' => self.u8()?.into(),
            b's' | b'U' => i16::from_be_bytes(self.array()?).into(),
            b'u' => self.u16()?.into(),
            b'I' => i32::from_be_bytes(self.array()?).into(),
            b'i' => self.u32()?.into(),
            b'l' | b'L' => i64::from_be_bytes(self.array()?).into(),
            b'f' => float(f64::from(f32::from_be_bytes(self.array()?))),
            b'd' => float(f64::from_be_bytes(self.array()?)),
            b'D' => {
                let scale = self.u8()?;
                float(f64::from(i32::from_be_bytes(self.array()?)) / 10_f64.powi(scale.into()))
            }
            b'S' | b'x' => Value::String(String::from_utf8_lossy(self.long()?).into_owned()),
            b'T' => self.u64()?.into(),
            b'V' => Value::Null,
            b'F' => Value::Object(self.table_within(levels, values)?),
            b'A' => {
                let levels = levels.checked_sub(1).ok_or_else(too_deep)?;
                let mut items = Reader(self.long()?);
                let mut list = Vec::new();
                while !items.0.is_empty() {
                    list.push(items.value(levels, values)?);
                }
                Value::Array(list)
            }
            other => return Err(format!("a table has a value of the unknown type {other}")),
        })
    }
}

fn too_deep() -> String {
    format!("a table nests deeper than {TABLE_DEPTH_MAX} levels")
}

fn too_many() -> String {
    format!("a table has more than {TABLE_VALUES_MAX} values")
}

fn float(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// Writes primitive types into a payload. What is too long for its type is cut: the configuration is checked before.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// Begins a method's payload.
    #[must_use]
    pub fn method(class: u16, number: u16) -> Self {
        Self::default().u16(class).u16(number)
    }

    /// One byte.
    #[must_use]
    pub fn u8(mut self, n: u8) -> Self {
        self.0.push(n);
        self
    }

    /// Two bytes.
    #[must_use]
    pub fn u16(mut self, n: u16) -> Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    /// Four bytes.
    #[must_use]
    pub fn u32(mut self, n: u32) -> Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    /// Eight bytes.
    #[must_use]
    pub fn u64(mut self, n: u64) -> Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    /// Bits, packed into bytes, the first the lowest.
    #[must_use]
    pub fn bits(mut self, bits: &[bool]) -> Self {
        for eight in bits.chunks(8) {
            let byte = eight.iter().enumerate().fold(0, |byte, (n, bit)| byte | u8::from(*bit) << n);
            self.0.push(byte);
        }
        self
    }

    /// A short string, at most 255 bytes.
    #[must_use]
    pub fn short(mut self, text: &str) -> Self {
        let bytes = &text.as_bytes()[..text.len().min(255)];
        self.0.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
        self.0.extend_from_slice(bytes);
        self
    }

    /// A long string.
    #[must_use]
    pub fn long(mut self, bytes: &[u8]) -> Self {
        self = self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
        self
    }

    /// A table, with the types that pika (`pika/data.py`) gives these values: text `S`, whole number `I` or, where it is
    /// larger than 32 bits, `l`, others `d`, `t`, `V`, `A`, `F`.
    #[must_use]
    pub fn table(self, map: &Map<String, Value>) -> Self {
        let inner = map.iter().fold(Self::default(), |inner, (name, value)| inner.short(name).value(value));
        self.long(&inner.0)
    }

    fn value(self, value: &Value) -> Self {
        match value {
            Value::Null => self.u8(b'V'),
            Value::Bool(yes) => self.u8(b't').u8(u8::from(*yes)),
            Value::String(text) => self.u8(b'S').long(text.as_bytes()),
            Value::Object(map) => self.u8(b'F').table(map),
            Value::Array(items) => {
                let inner = items.iter().fold(Self::default(), |inner, item| inner.value(item));
                self.u8(b'A').long(&inner.0)
            }
            Value::Number(number) => match number.as_i64() {
                Some(whole) => match i32::try_from(whole) {
                    Ok(small) => self.u8(b'I').u32(small.cast_unsigned()),
                    Err(_) => self.u8(b'l').u64(whole.cast_unsigned()),
                },
                None => self.u8(b'd').u64(number.as_f64().unwrap_or(f64::NAN).to_bits()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn a_frame_reads_back_and_a_part_of_one_is_waited_for() {
        let frame = Frame { kind: Kind::Method, channel: 1, payload: vec![0, 10, 0, 10] };
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        assert_eq!(Frame::decode(&bytes), Ok(Some((frame, bytes.len()))));
        for part in 0..bytes.len() {
            assert_eq!(Frame::decode(&bytes[..part]), Ok(None), "{part}");
        }
        *bytes.last_mut().expect("an end") = 0;
        assert!(Frame::decode(&bytes).is_err());
        assert!(Frame::decode(b"\x01\0\0\xff\xff\xff\xff").is_err(), "its size is not believed");
        assert!(Frame::decode(b"HTTP/1.1 400 Bad Request").is_err());
    }

    #[test]
    fn a_table_reads_back_with_its_types() {
        let map = object(json!({
            "text": "Zoë", "small": -3, "large": 5_000_000_000_i64, "float": 0.5, "yes": true, "nothing": null,
            "list": [1, "two", [false]], "table": {"inner": {"deep": 1}},
        }));
        let bytes = Writer::default().table(&map).0;
        assert_eq!(Reader(&bytes).table(), Ok(map));
    }

    #[test]
    fn a_table_nested_too_deep_is_an_error_and_no_crash() {
        let mut bytes = Vec::new();
        for _ in 0..2_000 {
            bytes = Writer::default().short("a").u8(b'F').long(&bytes).0;
        }
        let bytes = Writer::default().long(&bytes).0;
        assert_eq!(Reader(&bytes).table(), Err(too_deep()));
    }

    #[test]
    fn a_table_of_very_many_values_is_an_error_before_it_takes_memory() {
        let many = Value::Array(vec![Value::Null; TABLE_VALUES_MAX]);
        for (map, fits) in
            [(object(json!({"a": many})), false), (object(json!({"a": vec![Value::Null; TABLE_VALUES_MAX - 1]})), true)]
        {
            assert_eq!(Reader(&Writer::default().table(&map).0).table().is_ok(), fits);
        }
        let flat: Map<String, Value> = (0..=TABLE_VALUES_MAX).map(|n| (n.to_string(), json!(true))).collect();
        assert_eq!(Reader(&Writer::default().table(&flat).0).table(), Err(too_many()));
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Frame::decode(&bytes), Reader(&bytes).table(), Reader(&bytes).short());
        }
    }
}
