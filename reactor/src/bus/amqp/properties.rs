//! The properties of a message, as AMQP has them (the specification, class `basic`) and as fedora-messaging uses them
//! (`fedora_messaging/message.py`): both ways. Pure.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::wire::{Reader, Writer};
use crate::trust::schemas::{BASE_SCHEMA, SCHEMA_HEADER};

/// Flags of the properties in their order: the highest bit is the first of them.
const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;

/// The delivery mode of a message that outlives a restart of the broker.
const PERSISTENT: u8 = 2;
/// The package of [`BASE_SCHEMA`].
const BASE_PACKAGE: &str = "fedora_messaging";
/// `fedora_messaging_severity` of what is neither debugging (10) nor a warning (30) nor an error (40).
const SEVERITY_INFO: u8 = 20;

/// What we use of a message's properties.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// How the body's text is encoded.
    pub encoding: Option<String>,
    /// The publisher's headers.
    pub headers: Map<String, Value>,
    /// The publisher's id.
    pub id: Option<String>,
}

impl Properties {
    /// Reads a header frame: how many bytes the body has, and the properties or what is wrong with them. The first is
    /// needed to find the end of the message, whatever the second is.
    ///
    /// # Errors
    /// That the frame is too short to be a header.
    pub fn decode(payload: &[u8]) -> Result<(u64, Result<Self, String>), String> {
        let mut from = Reader(payload);
        from.u32()?;
        Ok((from.u64()?, Self::read(&mut from)))
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, String> {
        let flags = from.u16()?;
        let has = |flag: u16| flags & flag != 0;
        let mut read = Self::default();
        if has(CONTENT_TYPE) {
            from.short()?;
        }
        if has(CONTENT_ENCODING) {
            read.encoding = Some(text("content_encoding", from.short()?)?);
        }
        if has(HEADERS) {
            read.headers = from.table()?;
        }
        for _ in [DELIVERY_MODE, PRIORITY].into_iter().filter(|flag| has(*flag)) {
            from.u8()?;
        }
        for _ in [CORRELATION_ID, REPLY_TO, EXPIRATION].into_iter().filter(|flag| has(*flag)) {
            from.short()?;
        }
        if has(MESSAGE_ID) {
            read.id = Some(text("message_id", from.short()?)?);
        }
        Ok(read)
    }
}

fn text(what: &str, bytes: &[u8]) -> Result<String, String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| format!("its {what} is not UTF-8"))
}

/// The properties of a message that we publish: what `fedora_messaging.message.Message` sets, and the priority as a property
/// only where the site gives one. Of a schema other than the base we know its name, and not which package has it.
#[must_use]
pub fn outgoing(id: &str, sent: Timestamp, schema: &str, priority: Option<u8>) -> Vec<u8> {
    let mut headers = Map::new();
    headers.insert(SCHEMA_HEADER.into(), schema.into());
    if schema == BASE_SCHEMA {
        headers.insert("fedora_messaging_schema_package".into(), BASE_PACKAGE.into());
    }
    headers.insert("fedora_messaging_severity".into(), SEVERITY_INFO.into());
    headers.insert("priority".into(), priority.unwrap_or(0).into());
    headers.insert("sent-at".into(), sent.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string().into());
    let mut flags = CONTENT_TYPE | CONTENT_ENCODING | HEADERS | DELIVERY_MODE | MESSAGE_ID;
    flags |= if priority.is_some() { PRIORITY } else { 0 };
    let mut out = Writer::default().u16(flags).short("application/json").short("utf-8").table(&headers).u8(PERSISTENT);
    if let Some(priority) = priority {
        out = out.u8(priority);
    }
    out.short(id).0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn header(properties: &[u8]) -> Vec<u8> {
        let mut header = Writer::default().u16(60).u16(0).u64(8).0;
        header.extend_from_slice(properties);
        header
    }

    #[test]
    fn what_we_publish_has_the_properties_of_fedora_messaging() {
        let sent = Timestamp::from_second(1_795_228_517).expect("a time");
        let (body_bytes, properties) =
            Properties::decode(&header(&outgoing("an-id", sent, BASE_SCHEMA, Some(3)))).expect("a header");
        let properties = properties.expect("good");
        assert_eq!(
            (body_bytes, properties.id.as_deref(), properties.encoding.as_deref()),
            (8, Some("an-id"), Some("utf-8"))
        );
        assert_eq!(
            Value::Object(properties.headers),
            json!({
                "fedora_messaging_schema": "base.message", "fedora_messaging_schema_package": "fedora_messaging",
                "fedora_messaging_severity": 20, "priority": 3, "sent-at": "2026-11-21T02:35:17+00:00",
            })
        );
        let (_, without) = Properties::decode(&header(&outgoing("i", sent, "demo.v1", None))).expect("a header");
        let headers = without.expect("good").headers;
        assert_eq!((&headers["priority"], &headers["fedora_messaging_schema"]), (&json!(0), &json!("demo.v1")));
        assert!(!headers.contains_key("fedora_messaging_schema_package"), "that we can't know");
    }

    #[test]
    fn broken_properties_are_an_error_and_the_length_of_the_body_is_known() {
        let mut bytes = Writer::default().u16(MESSAGE_ID).0;
        bytes.extend([1, 0xff]);
        let (body_bytes, properties) = Properties::decode(&header(&bytes)).expect("a header");
        assert_eq!((body_bytes, properties), (8, Err("its message_id is not UTF-8".into())));
        let unknown = Writer::default().u16(HEADERS).long(b"\x01a?").0;
        assert!(Properties::decode(&header(&unknown)).expect("a header").1.is_err());
        assert!(Properties::decode(b"\0\x3c").is_err());
    }
}
