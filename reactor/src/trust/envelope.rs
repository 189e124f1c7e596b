//! The fedmsg envelope (fedmsg `core.py`, `crypto/__init__.py`): one JSON object around `topic` and `msg`. Reads it; decides
//! nothing about signatures.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::canonical::{Json, parse};
use super::encoding::sha256_hex;
use crate::message::{BODY_BYTES_MAX, Form, ID_BYTES_MAX, RawMessage, Topic};

/// A body that is an envelope with a good topic.
pub struct Envelope<'a> {
    json: Json<'a>,
    /// The topic that the body names.
    pub topic: Topic,
    body_bytes: usize,
}

/// Which signature the message says it has.
pub enum Claim<'e> {
    /// `crypto: x509`.
    X509 {
        /// base64 of PEM text.
        certificate: &'e str,
        /// base64.
        signature: &'e str,
    },
    /// `crypto: gpg`.
    Gpg {
        /// base64 of a detached OpenPGP signature.
        signature: &'e str,
    },
    /// Neither signature nor certificate.
    Unsigned,
}

/// Most bytes of an envelope beside its `msg` that are kept: a signature, a certificate, and some.
pub const KEPT_BYTES_MAX: usize = 32 * 1024;

/// What a signed envelope holds beside `msg`, as a JSON object: with the message's body, whoever gets both can check the signature
/// as we did. `None` where nothing was signed, or it is too large to keep.
#[must_use]
pub fn beside_msg(raw: &RawMessage) -> Option<String> {
    if matches!(raw.form, Form::Amqp(_) | Form::Judged(_)) {
        return None;
    }
    let envelope = Envelope::read(&raw.body, &raw.topic).ok()?;
    if matches!(envelope.claim(), Ok(Claim::Unsigned) | Err(_)) {
        return None;
    }
    let fields = envelope.json.encode_without(&["msg"], KEPT_BYTES_MAX);
    String::from_utf8(fields).ok().filter(|fields| fields.len() <= KEPT_BYTES_MAX)
}

impl<'a> Envelope<'a> {
    /// Reads a body. `frame_topic` is the topic that the transport gave, which no signature covers: where it is not empty,
    /// the body must name the same one.
    pub fn read(body: &'a [u8], frame_topic: &str) -> Result<Self, String> {
        if body.len() > BODY_BYTES_MAX {
            return Err(format!("the body has {} bytes, at most {BODY_BYTES_MAX} are read", body.len()));
        }
        let json = parse(body).map_err(|error| format!("the body is {error}"))?;
        if !matches!(json, Json::Object(_)) {
            return Err("the body is not a JSON object".into());
        }
        let text =
            json.get("topic").ok_or("the body has no topic")?.as_str().ok_or("the topic in the body is not text")?;
        let topic = Topic::new(text)?;
        if !frame_topic.is_empty() && frame_topic != text {
            let frame = frame_topic.escape_debug();
            return Err(format!("the body names the topic {topic}, but it was sent as `{frame}`"));
        }
        if topic.is_internal() {
            return Err(format!("{topic} is one of reactor's own topics, which no bus may bring in"));
        }
        Ok(Self { json, topic, body_bytes: body.len() })
    }

    /// The signature that the message says it has. A missing or null signature *and* certificate is no signature,
    /// whatever `crypto` says; anything else has to be complete.
    pub fn claim(&self) -> Result<Claim<'_>, String> {
        let given = |name: &str| self.json.get(name).filter(|value| **value != Json::Null);
        if given("signature").is_none() && given("certificate").is_none() {
            return Ok(Claim::Unsigned);
        }
        let text = |name: &str| {
            let value = self.json.get(name).ok_or_else(|| format!("the message has no {name}"))?;
            value.as_str().ok_or_else(|| format!("the {name} of the message is not text"))
        };
        let is_x509 = match self.json.get("crypto") {
            // fedmsg up to 0.7.2 had no such field: its publishers are told apart by the certificate.
            None => self.json.get("certificate").is_some(),
            Some(value) => match value.as_str() {
                Some("x509") => true,
                Some("gpg") => false,
                _ => return Err("the message's `crypto` is neither \"x509\" nor \"gpg\"".into()),
            },
        };
        let signature = text("signature")?;
        Ok(if is_x509 {
            Claim::X509 { certificate: text("certificate")?, signature }
        } else {
            Claim::Gpg { signature }
        })
    }

    /// What an X.509 signature covers: everything but signature and certificate.
    pub fn signed_by_x509(&self) -> Vec<u8> {
        self.json.encode_without(&["certificate", "signature"], self.body_bytes)
    }

    /// What a GPG signature covers: `msg` alone.
    pub fn signed_by_gpg(&self) -> Result<Vec<u8>, String> {
        self.json.get("msg").map(Json::encode).ok_or_else(|| "the body has no msg".into())
    }

    /// `msg`, as rules see it; null where there is none, which fedmsg allows.
    pub fn msg(&self) -> Result<Value, String> {
        self.json.get("msg").map_or(Ok(Value::Null), Json::to_value)
    }

    /// `msg_id`, or an id made of the content where there is none that can be used.
    pub fn id(&self, signed: &[u8]) -> String {
        let given = self.json.get("msg_id").and_then(Json::as_str);
        let usable = given.filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX && !id.chars().any(char::is_control));
        usable.map_or_else(|| format!("sha256-{}", sha256_hex(&[signed])), str::to_owned)
    }

    /// `timestamp`: whole seconds in fedmsg, a float in datagrepper's answers.
    pub fn sent(&self) -> Option<Timestamp> {
        match self.json.get("timestamp")? {
            Json::Int(digits) => Timestamp::from_second(digits.parse().ok()?).ok(),
            Json::Float(seconds) if seconds.is_finite() => Timestamp::from_microsecond((seconds * 1e6) as i64).ok(),
            _ => None,
        }
    }

    /// `headers`, if it is an object.
    pub fn headers(&self) -> Result<Map<String, Value>, String> {
        match self.json.get("headers") {
            Some(headers @ Json::Object(_)) => match headers.to_value()? {
                Value::Object(map) => Ok(map),
                _ => Ok(Map::new()),
            },
            _ => Ok(Map::new()),
        }
    }
}
