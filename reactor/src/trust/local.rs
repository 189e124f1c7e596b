//! Messages that the operator hands over: JSON Lines, `plan --message FILE`. Their signatures are not checked, and their
//! signer is `file:NAME`, which no certificate or key can be.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Verified;
use super::canonical::parse;
use crate::message::{BODY_BYTES_MAX, ID_BYTES_MAX, Message, Topic};

const HINT: &str = "hint: write {\"topic\": \"…\", \"msg\": {…}}, or a whole envelope as it was on the bus";

/// Reads one message: a fedmsg envelope, `{topic, msg}`, or the form of fedora-messaging, `{topic, body, id, headers}`.
/// `name` is where it came from; `fallback_id` is its id where it has none (unique in that file).
///
/// # Errors
/// What is wrong, and a line with a hint.
pub fn local(line: &[u8], name: &str, fallback_id: &str, now: Timestamp) -> Result<Verified<Message>, String> {
    read(line, name, fallback_id, now).map(Verified::by_operator).map_err(|why| format!("{name}: {why}\n{HINT}"))
}

fn read(line: &[u8], name: &str, fallback_id: &str, now: Timestamp) -> Result<Message, String> {
    if line.len() > BODY_BYTES_MAX {
        return Err(format!("the message has {} bytes, at most {BODY_BYTES_MAX} are read", line.len()));
    }
    let value = parse(line).map_err(|error| error.to_string())?.to_value()?;
    let Value::Object(mut fields) = value else { return Err("the message is not a JSON object".into()) };
    let topic = fields.get("topic").ok_or("the message has no topic")?.as_str().ok_or("the topic is not text")?;
    let topic = Topic::new(topic)?;
    if topic.is_internal() {
        return Err(format!("{topic} is one of reactor's own topics, which only reactor itself publishes"));
    }
    let id = ["msg_id", "id"].iter().find_map(|key| fields.get(*key)?.as_str()).filter(|id| !id.is_empty());
    let id = id.unwrap_or(fallback_id).to_owned();
    if id.len() > ID_BYTES_MAX {
        return Err(format!("the id has {} bytes, at most {ID_BYTES_MAX} are allowed", id.len()));
    }
    let headers = match fields.remove("headers") {
        Some(Value::Object(headers)) => headers,
        _ => Map::new(),
    };
    Ok(Message {
        id,
        topic,
        sent: sent(&fields, &headers).unwrap_or(now),
        bus: "file".into(),
        signer: format!("file:{name}"),
        body: fields.remove("msg").or_else(|| fields.remove("body")).ok_or("the message has no msg and no body")?,
        headers,
    })
}

/// fedmsg: `timestamp`, in seconds. fedora-messaging: the header `sent-at`, RFC 3339.
fn sent(fields: &Map<String, Value>, headers: &Map<String, Value>) -> Option<Timestamp> {
    match fields.get("timestamp") {
        Some(Value::Number(seconds)) => match seconds.as_i64() {
            Some(seconds) => Timestamp::from_second(seconds).ok(),
            None => Timestamp::from_microsecond((seconds.as_f64()? * 1e6) as i64).ok(),
        },
        _ => headers.get("sent-at")?.as_str()?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_back(text: &str) -> Message {
        local(text.as_bytes(), "in.jsonl", "in.jsonl:1", Timestamp::UNIX_EPOCH).unwrap().into_inner()
    }

    #[test]
    fn a_topic_and_a_payload_are_enough() {
        let message = read_back(r#"{"topic":"a.b","msg":{"n":1}}"#);
        assert_eq!((message.id.as_str(), message.signer.as_str()), ("in.jsonl:1", "file:in.jsonl"));
        assert_eq!((message.body, message.sent), (json!({"n": 1}), Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn envelopes_of_both_buses_are_read() {
        let fedmsg =
            read_back(r#"{"topic":"a.b","msg":[],"msg_id":"m","timestamp":1.5,"headers":{"x":1},"signature":"?"}"#);
        assert_eq!((fedmsg.id.as_str(), fedmsg.sent.as_millisecond(), fedmsg.headers.len()), ("m", 1500, 1));
        let newer =
            read_back(r#"{"topic":"a.b","body":{"n":2},"id":"i","headers":{"sent-at":"1970-01-01T00:00:09+00:00"}}"#);
        assert_eq!((newer.id.as_str(), newer.sent.as_second(), newer.body), ("i", 9, json!({"n": 2})));
    }

    #[test]
    fn what_is_no_message_is_an_error_with_a_hint() {
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"topic":1,"msg":1}"#,
            r#"{"topic":"a"}"#,
            r#"{"topic":"a b","msg":1}"#,
            r#"{"topic":"reactor.reaction.held","msg":1}"#,
        ] {
            let error = local(wrong.as_bytes(), "in", "in:1", Timestamp::UNIX_EPOCH).unwrap_err();
            assert!(error.starts_with("in: ") && error.contains("\nhint: "), "{error}");
        }
    }
}
