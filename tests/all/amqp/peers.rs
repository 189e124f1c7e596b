//! The real fedora-messaging speaks with itself through the private broker: what the rest of the tests stands on.

use std::time::Duration;

use reactor_tests::amqp_peers::{AmqpPeers, PREFIX, SCHEMA};
use reactor_tests::peers::Peer;
use reactor_tests::rabbitmq::{EXPIRED, FEDORA, PEER, RabbitMq, STRANGER};
use reactor_tests::{Scratch, wait_until};
use serde_json::{Value, json};

/// Longest wait for a consumer to be there. A Python program takes a second to start, on an idle machine.
const LONG: Duration = Duration::from_secs(60);
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
    let (scratch, peers) = (Scratch::new("amqp"), AmqpPeers::find());
    let broker = RabbitMq::start(scratch.path());
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
    let topic = format!("{PREFIX}.fas.group.change");
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
fn what_the_broker_can_do_to_its_clients_it_does() {
    let (scratch, peers) = (Scratch::new("amqp"), AmqpPeers::find());
    let mut broker = RabbitMq::start(scratch.path());
    let mut consumer = peers.consumer(scratch.path(), &broker, PEER, Some(QUEUE));
    let mut publisher = peers.publisher(scratch.path(), &broker, PEER);
    until_consuming(&consumer);
    broker.close_connections();
    wait_until("the consumer is cut off", LONG, || consumer.log().contains("connection to the broker was lost"));
    let id = publisher.publish("closed", &json!({}));
    assert_eq!(next(&mut consumer)["id"], id);
    until_acknowledged(&broker);

    consumer.kill_9();
    let id = publisher.publish("killed", &json!({"kept": true}));
    broker.kill_9();
    broker.resume();
    assert_eq!(broker.queue(QUEUE).map(|queue| queue.ready), Some(1), "what was confirmed outlives a kill");
    let mut consumer = peers.consumer(scratch.path(), &broker, PEER, Some(QUEUE));
    assert_eq!(next(&mut consumer)["id"], id);

    // A new one: the one before may wait to connect again.
    let mut publisher = peers.publisher(scratch.path(), &broker, PEER);
    broker.disk_alarm(true);
    let held = publisher.ask(&json!({"topic": "full", "body": {}, "timeout_s": 2}));
    assert_eq!(held["error"], "PublishTimeout", "{held}");
    broker.disk_alarm(false);
    let id = publisher.publish("room", &json!({}));
    wait_until("what comes after the alarm", LONG, || next(&mut consumer)["id"] == id);

    broker.delete_queue(QUEUE);
    assert_eq!(consumer.end().code(), Some(12), "cancelled by the server: {}", consumer.log());
    broker.stop();
    assert!(broker.log().contains("SIGTERM received"), "{}", broker.log());
}

#[test]
fn who_may_not_is_refused() {
    let (scratch, peers) = (Scratch::new("amqp"), AmqpPeers::find());
    let broker = RabbitMq::start(scratch.path());
    for name in [EXPIRED, STRANGER] {
        let refused = peers.listener(scratch.path(), &broker, name).line();
        assert!(refused.contains("certificate") || refused.contains("alert"), "{name}: {refused}");
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
        bare.ask(&json!({"routing_key": "hostile", "base64": "/w==", "properties": {"content_encoding": "utf-8"}}));
    assert_eq!(sent, "ok");
    let id = peers.publisher(scratch.path(), &broker, PEER).publish("y", &json!({}));
    assert_eq!(next(&mut public)["id"], id, "it drops what is no UTF-8: {}", public.log());
}
