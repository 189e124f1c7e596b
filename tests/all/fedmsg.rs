//! Our fedmsg against the real one: Python's fedmsg 1.1.7 publishing to us, its hub validating what we publish, and its relay
//! in between, which writes every body anew.

use std::time::Duration;

use reactor::bus::fedmsg::FedmsgSource;
use reactor::bus::publish::Publisher;
use reactor::message::RawMessage;
use reactor::trust::Verifier;
use reactor::trust::sign::{Outgoing, Signer, unsigned_envelope};
use reactor_tests::peers::{self, PREFIX, Peer, PythonPeers};
use reactor_tests::pki::{Pki, SIGNER, now};
use reactor_tests::{Scratch, free_port};
use serde_json::{Value, json};

use crate::fedmsg_sockets::{LONG, listen_to, next};

/// Between two tries while the two sides have not found each other yet.
const TRY: Duration = Duration::from_millis(200);

/// A publisher can't see its subscribers, so what it says is lost until they have subscribed: repeats a message until one
/// arrives, and reads all of those away.
async fn meet(publisher: &mut peers::Publisher, source: &mut FedmsgSource) {
    let mut tries = 0;
    loop {
        tries += 1;
        assert!(tries < 300, "publisher and source do not meet");
        publisher.publish("meet", &json!({"try": tries}));
        let Ok(mut raw) = tokio::time::timeout(TRY, next(source)).await else { continue };
        while body(&raw)["msg"]["try"] != tries {
            raw = next(source).await;
        }
        return;
    }
}

fn body(raw: &RawMessage) -> Value {
    serde_json::from_slice(&raw.body).expect("JSON")
}

/// Every corner that the canonical JSON of a signature has, as far as JSON text can carry it.
fn corners() -> Value {
    json!({"é": "ünïcödé \u{1f600} \u{7f} \"\\/", "b": [1.5, 1e16, 1e-7, -0.0, 0, 18446744073709551615_u64], "a": {"z": null, "A": true}, "": []})
}

fn envelope(pki: &Pki, topic: &str, msg: &Value, i: u64) -> Vec<u8> {
    let signer = Signer::open(&pki.certificate(), &pki.key()).expect("the signer");
    signer.envelope(&outgoing(topic, msg, i)).expect("signed")
}

fn outgoing<'a>(topic: &'a str, msg: &'a Value, i: u64) -> Outgoing<'a> {
    Outgoing { topic, msg, i, msg_id: "2026-reactor", timestamp_s: 1_795_227_187, username: "reactor" }
}

/// The next message that a real consumer accepted, other than those that only waited for it.
fn accepted(consumer: &mut Peer) -> Value {
    loop {
        let message: Value = serde_json::from_str(&consumer.line()).expect("JSON");
        if message["topic"] != format!("{PREFIX}.meet") {
            return message;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_real_publisher_signs_arrives_byte_for_byte_and_is_believed() {
    let (scratch, port) = (Scratch::new("fedmsg"), free_port());
    let pki = Pki::new(scratch.path());
    let mut source = listen_to(&[port], &[PREFIX]);
    let mut publisher = PythonPeers::find().publisher(scratch.path(), port, Some(&pki));
    meet(&mut publisher, &mut source).await;
    let verifier = Verifier::open(pki.trust());
    for msg in [corners(), json!("only text"), json!([])] {
        let sent = publisher.publish("user.update", &msg);
        let raw = next(&mut source).await;
        assert_eq!(raw.topic, format!("{PREFIX}.user.update"));
        assert_eq!(String::from_utf8_lossy(&raw.body), sent);
        let message = verifier.verify(&raw, now()).expect("believed").into_inner();
        assert_eq!((message.signer.as_str(), message.topic.as_str()), (SIGNER, raw.topic.as_str()));
        assert_eq!(message.id, body(&raw)["msg_id"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_publisher_that_is_killed_and_comes_back_is_heard_again() {
    let (scratch, port, peers) = (Scratch::new("fedmsg"), free_port(), PythonPeers::find());
    let mut source = listen_to(&[port], &[""]);
    for _ in 0..2 {
        let mut publisher = peers.publisher(scratch.path(), port, None);
        meet(&mut publisher, &mut source).await;
        publisher.publish("x", &json!({}));
        assert_eq!(next(&mut source).await.topic, format!("{PREFIX}.x"));
        publisher.kill_9();
    }
}

#[test]
fn a_real_consumer_accepts_what_we_sign_and_nothing_else() {
    let (scratch, port) = (Scratch::new("fedmsg"), free_port());
    let pki = Pki::new(scratch.path());
    let mut publisher = Publisher::bind(&format!("tcp://127.0.0.1:{port}")).expect("bound");
    let mut consumer = PythonPeers::find().consumer(scratch.path(), port, &pki);
    assert!(publisher.wait_for_subscriber(LONG).expect("a socket"), "{}", consumer.log());
    let topic = format!("{PREFIX}.user.update");
    let changed = String::from_utf8(envelope(&pki, &topic, &corners(), 1)).expect("text").replace("null", "false");
    let other_topic = envelope(&pki, &format!("{PREFIX}.other"), &corners(), 2);
    let unsigned = unsigned_envelope(&outgoing(&topic, &json!({}), 3));
    for refused in [changed.as_bytes(), &other_topic, &unsigned] {
        publisher.publish(&topic, refused).expect("published");
    }
    publisher.publish(&topic, &envelope(&pki, &topic, &corners(), 4)).expect("published");
    let message = accepted(&mut consumer);
    assert_eq!(message["body"]["i"], 4, "the three before it are refused: {}", consumer.log());
    assert_eq!((&message["topic"], &message["body"]["msg"]), (&json!(topic), &corners()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_relay_passes_on_what_either_side_signs() {
    let (scratch, inbound, outbound) = (Scratch::new("fedmsg"), free_port(), free_port());
    let (pki, peers) = (Pki::new(scratch.path()), PythonPeers::find());
    let _relay = peers.relay(scratch.path(), inbound, outbound);
    let mut source = listen_to(&[outbound], &[""]);
    let mut theirs = peers.active_publisher(scratch.path(), inbound, &pki);
    meet(&mut theirs, &mut source).await;
    let sent = theirs.publish("through.relay", &corners());
    let raw = next(&mut source).await;
    assert_ne!(
        String::from_utf8_lossy(&raw.body),
        sent,
        "the relay writes the body anew, so this tests what it should"
    );
    Verifier::open(pki.trust()).verify(&raw, now()).expect("believed");

    let mut ours = Publisher::connect(&format!("tcp://127.0.0.1:{inbound}")).expect("an address");
    let mut consumer = peers.consumer(scratch.path(), outbound, &pki);
    let topic = format!("{PREFIX}.ours");
    assert!(ours.wait_for_subscriber_of(&topic, LONG).expect("a socket"), "the relay");
    // That the consumer has subscribed at the relay can't be seen from here: it has when it gets something.
    let mut tries = 0;
    while consumer.line_within(TRY).is_none() {
        tries += 1;
        assert!(tries < 300, "the consumer gets nothing: {}", consumer.log());
        theirs.publish("meet", &json!({}));
    }
    ours.publish(&topic, &envelope(&pki, &topic, &corners(), 1)).expect("published");
    let message = accepted(&mut consumer);
    assert_eq!((&message["topic"], &message["body"]["msg"]), (&json!(topic), &corners()));
}
