//! Messages of fedora-messaging (AMQP): nobody signs them. Whoever the broker lets publish may say anything, under any name;
//! so they are believed only where the site says `broker: accept`, and their signer is [`BROKER`].
//!
//! The form is that of `fedora_messaging/message.py` (`Message.from_amqp`); what is refused there is refused here, and what is
//! accepted there is accepted here, but for NaN and infinity, and encodings that hardly anyone uses. [`super::schemas`] looks at
//! the body then.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::canonical::{Json, parse};
use super::encoding::sha256_hex;
use crate::message::{BODY_BYTES_MAX, ID_BYTES_MAX, Message, RawMessage, Topic, Unsigned};

/// The signer of messages of which only the broker knows who sent them.
pub const BROKER: &str = "broker";

const SEVERITIES: [f64; 4] = [10.0, 20.0, 30.0, 40.0];

/// A message of what came.
///
/// # Errors
/// Why it can't be one.
pub fn message(raw: &RawMessage, form: &Result<Unsigned, String>) -> Result<Message, String> {
    let form = form.as_ref().map_err(Clone::clone)?;
    if raw.body.len() > BODY_BYTES_MAX {
        return Err(format!("the body has {} bytes, at most {BODY_BYTES_MAX} are read", raw.body.len()));
    }
    let topic = Topic::new(&raw.topic)?;
    if topic.is_internal() {
        return Err(format!("{topic} is one of reactor's own topics, which no bus may bring in"));
    }
    check_headers(&form.headers)?;
    Ok(Message {
        id: id(raw, form),
        topic,
        sent: sent(&form.headers).unwrap_or(raw.received),
        bus: raw.bus.clone(),
        signer: BROKER.to_owned(),
        body: body(&raw.body, form.encoding.as_deref())?,
        headers: form.headers.clone(),
    })
}

/// As `headers_schema` of fedora-messaging's base class asks.
fn check_headers(headers: &Map<String, Value>) -> Result<(), String> {
    for name in ["fedora_messaging_schema", "sent-at"] {
        if headers.get(name).is_some_and(|value| !value.is_string()) {
            return Err(format!("its header {name} is not text"));
        }
    }
    match headers.get("fedora_messaging_severity") {
        Some(severity) if !severity.as_f64().is_some_and(|number| SEVERITIES.contains(&number)) => {
            Err("its header fedora_messaging_severity is none of 10, 20, 30, 40".into())
        }
        _ => Ok(()),
    }
}

/// The object that the body is. `null` is an empty one, as in Python.
pub(super) fn body(bytes: &[u8], encoding: Option<&str>) -> Result<Value, String> {
    let recoded;
    let encoding = encoding.unwrap_or("utf-8");
    let text = match encoding.to_ascii_lowercase().replace(['-', '_', ' '], "").as_str() {
        "utf8" | "u8" | "" => bytes,
        "ascii" | "usascii" if bytes.is_ascii() => bytes,
        "ascii" | "usascii" => return Err("the body is not ASCII, as its content_encoding says".into()),
        "latin1" | "iso88591" | "l1" => {
            recoded = bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
            recoded.as_bytes()
        }
        _ => {
            return Err(format!("its content_encoding `{}` is not utf-8, ascii or latin-1", encoding.escape_debug()));
        }
    };
    match parse(text).map_err(|error| format!("the body is {error}"))? {
        Json::Null => Ok(Value::Object(Map::new())),
        object @ Json::Object(_) => match is_finite(&object) {
            true => object.to_value(),
            false => Err("the body has NaN or Infinity in it, which JSON does not know".into()),
        },
        _ => Err("the body is not a JSON object".into()),
    }
}

/// Whether no number in it is NaN or infinite: rules and handlers would see nothing in its place.
fn is_finite(json: &Json<'_>) -> bool {
    match json {
        Json::Float(number) => number.is_finite(),
        Json::List(items) => items.iter().all(is_finite),
        Json::Object(fields) => fields.iter().all(|(_, value)| is_finite(value)),
        _ => true,
    }
}

/// `message_id`, or one made of the content. Where the publisher says no time either, that of arrival is a part of it: a
/// message that comes twice runs twice then, which is harmless; two messages that are taken for one would not be.
fn id(raw: &RawMessage, form: &Unsigned) -> String {
    let given = form.id.as_deref();
    let usable = given.filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX && !id.chars().any(char::is_control));
    usable.map(str::to_owned).unwrap_or_else(|| {
        let sent = form.headers.get("sent-at").and_then(Value::as_str).map(str::to_owned);
        let time = sent.unwrap_or_else(|| format!("{} {}", raw.received, raw.token));
        format!("sha256-{}", sha256_hex(&[raw.topic.as_bytes(), b"\0", time.as_bytes(), b"\0", &raw.body]))
    })
}

/// The header `sent-at`, RFC 3339.
fn sent(headers: &Map<String, Value>) -> Option<Timestamp> {
    headers.get("sent-at")?.as_str()?.parse().ok()
}
