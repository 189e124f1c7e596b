//! Messages of a broker: believed only where the site says so, and taken as fedora-messaging takes them.

use std::path::Path;

use serde_json::Map;

use super::*;
use crate::message::Unsigned;

fn believing() -> TrustConfig {
    TrustConfig { accept_broker: true, accept_unlisted: true, ..TrustConfig::default() }
}

fn delivered(body: &[u8], form: Result<Unsigned, String>) -> RawMessage {
    RawMessage { form: Form::Amqp(Box::new(form)), ..raw_bytes(body) }
}

fn judge(config: TrustConfig, raw: &RawMessage) -> Result<Message, Refusal> {
    Verifier::open(config).verify(raw, now()).map(super::super::Verified::into_inner)
}

fn headers(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn with_headers(value: Value) -> RawMessage {
    delivered(b"{}", Ok(Unsigned { headers: headers(value), ..Unsigned::default() }))
}

#[test]
fn a_broker_is_believed_only_where_the_site_says_so_and_by_topic() {
    let form = Unsigned {
        id: Some("an-id".into()),
        headers: headers(json!({"sent-at": "2026-11-21T02:35:17+00:00"})),
        ..Unsigned::default()
    };
    let raw = delivered(br#"{"user": "ralph"}"#, Ok(form));
    let message = judge(believing(), &raw).unwrap();
    assert_eq!((message.id.as_str(), message.topic.as_str(), message.signer.as_str()), ("an-id", TOPIC, "broker"));
    assert_eq!((message.body, message.sent), (json!({"user": "ralph"}), at("2026-11-21T02:35:17Z")));
    assert_eq!(message.headers["sent-at"], "2026-11-21T02:35:17+00:00");

    let unsaid = judge(TrustConfig { accept_unsigned: true, accept_broker: false, ..believing() }, &raw).unwrap_err();
    assert!(unsaid.reason.contains("broker: accept"), "{unsaid}");
    let policy = |signer: &str| TrustConfig {
        policy: [(TOPIC.to_owned(), vec![signer.to_owned()])].into(),
        accept_unlisted: false,
        ..believing()
    };
    assert!(judge(policy("broker"), &raw).is_ok());
    let refusal = judge(policy("shell-fas01.example.org"), &raw).unwrap_err();
    assert!(refusal.reason.contains("does not let broker say"), "{refusal}");
}

#[test]
fn what_a_broker_brings_is_never_taken_for_an_envelope() {
    let envelope = json!({"topic": "org.example.other", "msg": {"n": 1}, "msg_id": "x"});
    let message = judge(believing(), &delivered(envelope.to_string().as_bytes(), Ok(Unsigned::default()))).unwrap();
    assert_eq!((message.topic.as_str(), message.body), (TOPIC, envelope));
    let mut own = delivered(b"{}", Ok(Unsigned::default()));
    own.topic = "reactor.reaction.done".into();
    assert!(judge(believing(), &own).unwrap_err().reason.contains("reactor's own topics"));
}

#[test]
fn what_can_be_no_message_is_refused_with_its_reason() {
    let encoded = |encoding: &str, body: &[u8]| {
        delivered(body, Ok(Unsigned { encoding: Some(encoding.into()), ..Unsigned::default() }))
    };
    for (raw, why) in [
        (delivered(b"{}", Err("its message_id is not UTF-8".into())), "message_id"),
        (encoded("no-such", b"{}"), "`no-such`"),
        (encoded("ascii", "{\"a\": \"ë\"}".as_bytes()), "not ASCII"),
        (encoded("utf-8", b"{\"a\": \"\xff\"}"), "the body is"),
        (encoded("utf-8", b"[1]"), "not a JSON object"),
        (encoded("utf-8", b"{\"a\": [NaN]}"), "NaN"),
        (with_headers(json!({"sent-at": 5})), "sent-at"),
        (with_headers(json!({"fedora_messaging_severity": 25})), "severity"),
        (with_headers(json!({"fedora_messaging_schema": 1})), "schema"),
    ] {
        let refusal = judge(believing(), &raw).unwrap_err();
        assert!(refusal.reason.contains(why), "{why}: {refusal}");
    }
    let latin = judge(believing(), &encoded("ISO-8859-1", b"{\"n\": \"Zo\xeb\"}")).unwrap();
    assert_eq!(latin.body, json!({"n": "Zoë"}));
}

#[test]
fn without_an_id_the_same_message_has_the_same_one_and_no_other_has() {
    let id = |raw: &RawMessage| judge(believing(), raw).unwrap().id;
    let sent = |time: &str| with_headers(json!({"sent-at": time}));
    let (one, other) = (sent("2026-11-21T02:35:17+00:00"), sent("2026-11-21T02:35:18+00:00"));
    let again = RawMessage { token: 9, received: at("2026-12-02T00:00:00Z"), ..one.clone() };
    assert_eq!(id(&one), id(&again), "it came twice");
    assert_ne!(id(&one), id(&other));
    let untold = delivered(b"{}", Ok(Unsigned::default()));
    let next = RawMessage { token: 1, ..untold.clone() };
    assert_ne!(id(&untold), id(&next), "nothing says that these are the same");
}

/// Where reactor differs from the Python consumer, with the reason (docs/amqp.md).
const DIFFERENT: [(&str, bool); 2] = [("nan", false), ("schema-missing-field", true)];

#[test]
fn the_vectors_are_taken_as_fedora_messaging_takes_them() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/amqp/index.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("{} is absent: this test saw nothing", path.display());
        return;
    };
    let vectors: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(vectors.len() > 15, "the vectors are gone");
    for vector in &vectors {
        let (name, properties) = (vector["name"].as_str().unwrap(), &vector["properties"]);
        let text = |name: &str| properties[name].as_str().map(str::to_owned);
        let form = Unsigned {
            id: text("message_id"),
            encoding: text("content_encoding"),
            headers: vector["headers"].as_object().cloned().unwrap_or_default(),
        };
        let mut raw = delivered(&STANDARD.decode(vector["body_base64"].as_str().unwrap()).unwrap(), Ok(form));
        raw.topic = vector["routing_key"].as_str().unwrap().into();
        let judged = judge(believing(), &raw);
        if let Some((_, accepted)) = DIFFERENT.iter().find(|(different, _)| *different == name) {
            assert_eq!(judged.is_ok(), *accepted, "{name}: {judged:?}");
            continue;
        }
        assert_eq!(judged.is_ok(), vector["verdict"] == "accept", "{name}: {judged:?}");
        let Ok(message) = judged else { continue };
        assert_eq!(message.body, vector["body"], "{name}");
        assert_eq!(message.topic.as_str(), vector["topic"].as_str().unwrap(), "{name}");
        assert!(vector["id"].as_str().is_none_or(|id| id == message.id), "{name}");
    }
}
