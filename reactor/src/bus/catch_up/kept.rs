//! A message as a server keeps it → the envelope as it was on the bus, so that its signature can be checked. Pure.
//!
//! datanommer puts fields beside those that were signed, and says times as floats (`datanommer.models`, `Message.as_dict`;
//! `datagrepper`, `/raw` and `/v2`); fedmsg's store adds `seq_id` after signing (`fedmsg/replay/sqlstore.py`).

use std::borrow::Cow;

use jiff::Timestamp;

use crate::message::{ID_BYTES_MAX, TOPIC_BYTES_MAX};
use crate::trust::canonical::{Json, object};

/// What servers put beside the fields of an envelope.
const ADDED: [&str; 9] =
    ["agent_name", "category", "id", "meta", "packages", "seq_id", "source_name", "source_version", "users"];

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Its id, to tell doubles on two pages; of one that is too long to be an id, none.
    pub id: Option<String>,
    /// Its topic.
    pub topic: String,
    /// When the server says it was sent.
    pub sent: Option<Timestamp>,
    /// The envelope, as canonical JSON.
    pub body: Vec<u8>,
}

/// Undoes what the server did to it. Takes the forms of `/raw`, of `/v2/search` and of `fedmsg.replay`.
///
/// # Errors
/// Why it is no message.
pub fn kept(item: Json<'_>) -> Result<Kept, String> {
    let Json::Object(fields) = item else { return Err("it is no JSON object".into()) };
    let is_v2 = !fields.iter().any(|(key, _)| key.as_ref() == b"msg");
    let envelope = if is_v2 { newer(fields) } else { older(fields) };
    let topic = envelope.get("topic").and_then(Json::as_str).unwrap_or_default().to_owned();
    if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX {
        return Err("it has no topic that can be one".into());
    }
    let sent = match envelope.get("timestamp") {
        Some(Json::Int(digits)) => digits.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok()),
        Some(Json::Float(seconds)) if seconds.is_finite() => Timestamp::from_microsecond((seconds * 1e6) as i64).ok(),
        _ => None,
    };
    let id = envelope.get("msg_id").and_then(Json::as_str).filter(|id| id.len() <= ID_BYTES_MAX).map(str::to_owned);
    Ok(Kept { id, topic, sent, body: envelope.encode() })
}

/// `/raw` and replay: an envelope with more in it.
fn older<'a>(fields: Vec<(Cow<'a, [u8]>, Json<'a>)>) -> Json<'a> {
    let fields = fields.into_iter().filter_map(|(key, value)| {
        let is_added = ADDED.iter().any(|name| name.as_bytes() == key.as_ref());
        // A column that is empty was not in the message; `msg` alone may be null there.
        let is_empty = value == Json::Null && key.as_ref() != b"msg";
        let no_headers = key.as_ref() == b"headers" && value == Json::Object(Vec::new());
        let value = if key.as_ref() == b"timestamp" { whole(value) } else { value };
        (!is_added && !is_empty && !no_headers).then_some((key, value))
    });
    Json::Object(fields.collect())
}

/// `/v2`: body, headers, id, topic, as fedora-messaging has them. Nobody signed these.
fn newer<'a>(fields: Vec<(Cow<'a, [u8]>, Json<'a>)>) -> Json<'a> {
    let mut envelope: Vec<(Cow<'a, [u8]>, Json<'a>)> = Vec::new();
    for (key, value) in fields {
        match key.as_ref() {
            b"topic" => envelope.push((key, value)),
            b"body" => envelope.push((Cow::Borrowed(b"msg"), value)),
            b"id" => envelope.push((Cow::Borrowed(b"msg_id"), value)),
            b"headers" => {
                let sent = value.get("sent-at").and_then(Json::as_str).and_then(|text| text.parse::<Timestamp>().ok());
                if let Some(sent) = sent {
                    let seconds = sent.as_microsecond() as f64 / 1e6;
                    envelope.push((Cow::Borrowed(b"timestamp"), whole(Json::Float(seconds))));
                }
                envelope.push((key, value));
            }
            _ => {}
        }
    }
    object(envelope)
}

/// fedmsg signs whole seconds.
fn whole(time: Json<'_>) -> Json<'_> {
    match time {
        Json::Float(seconds) if seconds.fract() == 0.0 && seconds.abs() < 1e15 => {
            Json::Int((seconds as i64).to_string().into())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::canonical::parse;

    fn of(text: &str) -> Result<Kept, String> {
        kept(parse(text.as_bytes()).expect("JSON"))
    }

    #[test]
    fn what_datanommer_added_is_taken_out_again() {
        let kept = of(
            r#"{"i":1,"msg":{"n":1.50,"big":123456789012345678901234567890},"msg_id":"2017-x","timestamp":1504643075.0,
            "topic":"a.b.c.d","crypto":"x509","signature":"s","certificate":"c","username":"copr","headers":{},
            "source_name":"datanommer","source_version":"0.8.1","users":[],"packages":["x"],"agent_name":null}"#,
        )
        .expect("a message");
        assert_eq!(
            String::from_utf8_lossy(&kept.body),
            r#"{"certificate":"c","crypto":"x509","i":1,"msg":{"big":123456789012345678901234567890,"n":1.5},"msg_id":"2017-x","signature":"s","timestamp":1504643075,"topic":"a.b.c.d","username":"copr"}"#
        );
        assert_eq!((kept.id.as_deref(), kept.sent.map(|at| at.as_second())), (Some("2017-x"), Some(1_504_643_075)));
    }

    #[test]
    fn headers_that_were_there_stay_and_so_does_a_msg_of_null() {
        let kept = of(r#"{"topic":"a.b","msg":null,"headers":{"x":1},"certificate":null,"signature":null,"crypto":null,"seq_id":7,"timestamp":1.5}"#)
            .expect("a message");
        assert_eq!(
            String::from_utf8_lossy(&kept.body),
            r#"{"headers":{"x":1},"msg":null,"timestamp":1.5,"topic":"a.b"}"#
        );
    }

    #[test]
    fn the_newer_form_is_the_same_message() {
        let kept = of(r#"{"body":{"n":1},"headers":{"sent-at":"2026-11-21T02:35:17+00:00"},"id":"u","priority":0,"queue":null,"topic":"a.b"}"#)
            .expect("a message");
        assert_eq!(
            String::from_utf8_lossy(&kept.body),
            r#"{"headers":{"sent-at":"2026-11-21T02:35:17+00:00"},"msg":{"n":1},"msg_id":"u","timestamp":1795228517,"topic":"a.b"}"#
        );
    }

    #[test]
    fn what_is_too_long_for_an_id_is_not_remembered_as_one() {
        let of_length =
            |n| of(&format!(r#"{{"topic":"a.b","msg":1,"msg_id":"{}"}}"#, "x".repeat(n))).expect("a message").id;
        assert!(of_length(ID_BYTES_MAX).is_some() && of_length(ID_BYTES_MAX + 1).is_none());
    }

    #[test]
    fn what_is_no_message_is_said() {
        for text in ["1", "[]", "{}", r#"{"msg":1}"#, r#"{"topic":1,"msg":1}"#, r#"{"topic":"","body":{}}"#] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
