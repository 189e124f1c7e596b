//! The real fedora-messaging speaks with itself through the private broker: what the rest of the tests stands on.

use std::time::Duration;

use reactor_tests::amqp_peers::{AmqpPeers, SCHEMA};
use reactor_tests::peers::Peer;
use reactor_tests::rabbitmq::{EXPIRED, FEDORA, PEER, RabbitMq, STRANGER};
use reactor_tests::{Scratch, wait_until};
use serde_json::{Value, json};

/// Longest wait for what is sure to come.
const LONG: Duration = reactor_tests::PATIENCE;
const QUEUE: &str = "peers";

/// What a program printed next.
fn next(peer: &mut Peer) -> Value {
    let line = peer.line();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
}

fn until_consuming(consumer: &Peer) {
    wait_until("it consumes", LONG, || consumer.log().contains("Successfully registered AMQP consumer"));
}

fn until_acknowledged(broker: &RabbitMq) {
    wait_until("everything is acknowledged", LONG, || {
        broker.queue(QUEUE).is_some_and(|queue| (queue.ready, queue.unacked) == (0, 0))
    });
}

#[test]
fn a_real_message_is_on_the_wire_as_the_facts_say_and_a_real_consumer_is_given_it() {
    let (scratch, broker) = (Scratch::new("amqp"), RabbitMq::shared());
    let peers = AmqpPeers::about("org.test.wire");
    let mut listener = peers.listener(scratch.path(), &broker, PEER);
    let mut consumer = peers.consumer(scratch.path(), &broker, PEER, Some(QUEUE));
    let mut publisher = peers.publisher(scratch.path(), &broker, PEER);
    assert_eq!(listener.line(), "ready");
    until_consuming(&consumer);

    let body = json!({"group": "infra", "package": "kernel", "user": "lmacken"});
    let answer = publisher.ask(&json!({"topic": "fas.group.change", "body": body, "schema": SCHEMA, "severity": 30}));
    let mut wire = next(&mut listener);
    let sent_at = wire["properties"]["headers"]["sent-at"].take();
    assert_eq!(sent_at[0], "S");
    sent_at[1].as_str().expect("text").parse::<jiff::Timestamp>().expect("a time, in RFC 3339");
    let topic = "org.test.wire.fas.group.change";
    let told = json!({
        "exchange": "amq.topic", "routing_key": topic, "redelivered": false,
        "properties": {
            "content_type": "application/json", "content_encoding": "utf-8", "delivery_mode": 2, "priority": 3,
            "message_id": answer["id"],
            "headers": {
                "fedora_messaging_schema": ["S", SCHEMA], "fedora_messaging_schema_package": ["S", "peer_messages"],
                "fedora_messaging_severity": ["I", 30], "priority": ["I", 3], "sent-at": null,
                "fedora_messaging_user_lmacken": ["t", true], "fedora_messaging_group_infra": ["t", true],
                "fedora_messaging_rpm_kernel": ["t", true],
            },
        },
        "body": r#"{"group": "infra", "package": "kernel", "user": "lmacken"}"#,
    });
    assert_eq!(wire, told);

    let consumed = next(&mut consumer);
    assert_eq!((&consumed["id"], &consumed["topic"], &consumed["body"]), (&answer["id"], &json!(topic), &body));
    assert_eq!((&consumed["severity"], &consumed["class"]), (&json!(30), &json!("GroupChangeV1")));
    assert_eq!(consumed["headers"]["sent-at"], sent_at[1]);
    until_acknowledged(&broker);
}

#[test]
fn who_may_not_is_refused() {
    let (scratch, broker) = (Scratch::new("amqp"), RabbitMq::shared());
    let peers = AmqpPeers::about("org.test.refused");
    for (name, why) in [(EXPIRED, "Certificate Expired"), (STRANGER, "Unknown CA")] {
        let refused = peers.listener(scratch.path(), &broker, name).line();
        // The broker hangs up at once: whether its alert is read before, or the connection is found to be reset, is luck.
        assert!(refused.contains("Error"), "{name}: {refused}");
        wait_until("the broker says why", LONG, || broker.log().contains(why));
    }
    let mut named = peers.consumer(scratch.path(), &broker, FEDORA, Some(QUEUE));
    let uuid = "6a8cafff-affb-4bf4-9df1-d86e7aed1525";
    let mut public = peers.consumer(scratch.path(), &broker, FEDORA, Some(uuid));
    assert_eq!(named.end().code(), Some(10), "a queue of that name is refused: {}", named.log());
    until_consuming(&public);
    let answer = peers.publisher(scratch.path(), &broker, FEDORA).ask(&json!({"topic": "x", "body": {}}));
    assert_eq!(answer["error"], "PublishForbidden", "{answer}");
    let id = peers.publisher(scratch.path(), &broker, PEER).publish("x", &json!({}));
    assert_eq!(next(&mut public)["id"], id);

    let mut bare = peers.bare_publisher(scratch.path(), &broker, PEER);
    assert_eq!(bare.line(), "ready");
    let sent =
        bare.ask(&json!({"routing_key": "org.test.refused.hostile", "base64": "/w==", "properties": {"content_encoding": "utf-8"}}));
    assert_eq!(sent, "ok");
    let id = peers.publisher(scratch.path(), &broker, PEER).publish("y", &json!({}));
    assert_eq!(next(&mut public)["id"], id, "it drops what is no UTF-8: {}", public.log());
}
