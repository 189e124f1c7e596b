//! Our own source and publisher against a real RabbitMQ, with the real fedora-messaging at the other end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reactor::bus::Source as _;
use reactor::bus::amqp::AmqpSource;
use reactor::bus::amqp::config::{AmqpBus, Settings, of_toml};
use reactor::bus::amqp::publish::AmqpPublisher;
use reactor::message::{Form, RawMessage};
use reactor_tests::amqp_peers::{AmqpPeers, PREFIX, configuration};
use reactor_tests::rabbitmq::{PEER, REACTOR, RabbitMq, STRANGER};
use reactor_tests::{Scratch, wait_until};
use serde_json::{Value, json};

/// Longest wait for anything; nothing takes nearly as long on an idle machine.
const LONG: Duration = Duration::from_secs(60);
const QUEUE: &str = "reactor";

/// A source that reads [`QUEUE`] as fedora-messaging's own file says.
fn source(scratch: &Scratch, broker: &RabbitMq, user: &str) -> AmqpSource {
    let file = scratch.path().join(format!("{user}.toml"));
    std::fs::write(&file, configuration(broker, user, Some(QUEUE))).expect("written");
    let bus = AmqpBus { settings: Settings::File(file), password: None };
    AmqpSource::open(&"fedora".into(), &bus, Arc::new(|topic| !topic.ends_with("unwanted"))).expect("opened")
}

async fn next(source: &mut AmqpSource) -> RawMessage {
    let batch = tokio::time::timeout(LONG, source.next(1)).await.expect("a message").expect("a working source");
    batch.into_iter().next().expect("a source does not end")
}

/// Its id, and that nothing was wrong with it.
fn id(raw: &RawMessage) -> String {
    let Form::Amqp(form) = &raw.form else { panic!("{raw:?}") };
    let form = Result::as_ref(form).unwrap_or_else(|why| panic!("{why}"));
    form.id.clone().expect("fedora-messaging gives ids")
}

fn counts(broker: &RabbitMq) -> Option<(u64, u64)> {
    broker.queue(QUEUE).map(|queue| (queue.ready, queue.unacked))
}

fn until(broker: &RabbitMq, what: &str, ready: u64, unacked: u64) {
    wait_until(what, LONG, || counts(broker) == Some((ready, unacked)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_acknowledged_comes_again_and_what_is_does_not() {
    let (scratch, peers) = (Scratch::new("amqp-source"), AmqpPeers::find());
    let mut broker = RabbitMq::start(scratch.path());
    let mut source = source(&scratch, &broker, REACTOR);
    let counters = source.counters();
    // Nothing is read until somebody asks: the queue must be there before anyone publishes.
    let reading = tokio::spawn(async move { (next(&mut source).await, source) });
    wait_until("the queue is read", LONG, || broker.queue(QUEUE).is_some_and(|queue| queue.consumers == 1));
    let mut publisher = peers.publisher(scratch.path(), &broker, PEER);
    publisher.publish("unwanted", &json!({}));
    let first = publisher.publish("fas.user.update", &json!({"user": "lmacken"}));
    let (raw, mut source) = reading.await.expect("no panic");
    assert_eq!((raw.topic.as_str(), id(&raw)), (&*format!("{PREFIX}.fas.user.update"), first.clone()));
    assert_eq!(serde_json::from_slice::<Value>(&raw.body).expect("JSON"), json!({"user": "lmacken"}));
    until(&broker, "only what nobody wants is acknowledged", 0, 1);

    broker.close_connections();
    let again = next(&mut source).await;
    assert_eq!(id(&again), first, "the same one comes again");
    source.ack(&[raw.token]).await.expect("ignored");
    until(&broker, "a token of the old connection is nothing to the new one", 0, 1);
    source.ack(&[again.token]).await.expect("acknowledged");
    until(&broker, "it is forgotten", 0, 0);

    broker.stop();
    let reading = tokio::spawn(async move { (next(&mut source).await, source) });
    wait_until("the end of the broker is seen", LONG, || counters.trouble().is_some());
    broker.resume();
    wait_until("it is connected again", LONG, || counters.trouble().is_none());
    let mut publisher = peers.publisher(scratch.path(), &broker, PEER);
    let second = publisher.publish("fas.user.update", &json!({}));
    let (raw, _source) = reading.await.expect("no panic");
    assert_eq!(id(&raw), second);
    assert!(counters.connects.load(Ordering::Relaxed) >= 3 && counters.disconnects.load(Ordering::Relaxed) >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_we_publish_is_a_message_of_fedora_messaging() {
    let (scratch, peers) = (Scratch::new("amqp-publish"), AmqpPeers::find());
    let broker = RabbitMq::start(scratch.path());
    let mut listener = peers.listener(scratch.path(), &broker, PEER);
    assert_eq!(listener.line(), "ready");
    let amqp = of_toml(&configuration(&broker, REACTOR, None)).expect("read");
    let mut publisher = AmqpPublisher::open(&amqp).await.expect("logged in by a certificate");
    let sent = "2026-11-21T02:35:17Z".parse().expect("a time");
    publisher.publish("fas.user.update", "an-id", sent, b"{\"user\": \"lmacken\"}").await.expect("confirmed");
    publisher.close().await;
    let told: Value = serde_json::from_str(&listener.line()).expect("JSON");
    assert_eq!(
        told,
        json!({
            "exchange": "amq.topic", "routing_key": format!("{PREFIX}.fas.user.update"), "redelivered": false,
            "properties": {
                "content_type": "application/json", "content_encoding": "utf-8", "delivery_mode": 2, "priority": 3,
                "message_id": "an-id",
                "headers": {
                    "fedora_messaging_schema": ["S", "base.message"],
                    "fedora_messaging_schema_package": ["S", "fedora_messaging"],
                    "fedora_messaging_severity": ["I", 20], "priority": ["I", 3],
                    "sent-at": ["S", "2026-11-21T02:35:17+00:00"],
                },
            },
            "body": "{\"user\": \"lmacken\"}",
        })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_told_why() {
    let scratch = Scratch::new("amqp-refused");
    let broker = RabbitMq::start(scratch.path());
    let amqp = of_toml(&configuration(&broker, STRANGER, None)).expect("read");
    let refused = AmqpPublisher::open(&amqp).await.err().expect("an unknown CA").to_string();
    assert!(refused.contains("TLS") || refused.contains("reading failed"), "{refused}");
    let mut wrong = of_toml(&configuration(&broker, REACTOR, None)).expect("read");
    wrong.tls.certfile = None;
    wrong.url.password = "not-it".into();
    let refused = AmqpPublisher::open(&wrong).await.err().expect("a wrong password").to_string();
    assert!(refused.contains("403") && !refused.contains("not-it"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_no_message_costs_itself_alone() {
    let (scratch, peers) = (Scratch::new("amqp-hostile"), AmqpPeers::find());
    let broker = RabbitMq::start(scratch.path());
    let mut source = source(&scratch, &broker, REACTOR);
    let counters = source.counters();
    let reading = tokio::spawn(async move {
        let mut raws = Vec::new();
        for _ in 0..4 {
            let raw = next(&mut source).await;
            source.ack(&[raw.token]).await.expect("acknowledged");
            raws.push(raw);
        }
        (raws, source)
    });
    wait_until("the queue is read", LONG, || broker.queue(QUEUE).is_some_and(|queue| queue.consumers == 1));
    let mut hostile = peers.bare_publisher(scratch.path(), &broker, PEER);
    assert_eq!(hostile.line(), "ready");
    let deep = (0..100).fold(json!({}), |inner, _| json!({"a": inner}));
    for asked in [
        json!({"routing_key": "a.deep", "body": "{}", "properties": {"headers": deep}}),
        json!({"routing_key": "a.large", "body": "x".repeat(3 * 1024 * 1024)}),
        json!({"routing_key": "a.encoded", "body": "{}", "properties": {"content_encoding": "no-such"}}),
        json!({"routing_key": "a.good", "body": "{}", "properties": {"message_id": "good"}}),
    ] {
        assert_eq!(hostile.ask(&asked), "ok");
    }
    let (raws, _source) = reading.await.expect("no panic");
    let why = |raw: &RawMessage| match &raw.form {
        Form::Amqp(form) => Result::as_ref(form).err().cloned().unwrap_or_default(),
        Form::Envelope | Form::Judged(_) => panic!("{raw:?}"),
    };
    assert!(why(&raws[0]).contains("deeper than"), "{}", why(&raws[0]));
    assert!(why(&raws[1]).contains("3145728 bytes"), "{}", why(&raws[1]));
    let Form::Amqp(form) = &raws[2].form else { panic!("{:?}", raws[2]) };
    assert_eq!(Result::as_ref(form).expect("known to trust alone").encoding.as_deref(), Some("no-such"));
    assert_eq!(id(&raws[3]), "good");
    until(&broker, "all of it is forgotten", 0, 0);
    assert_eq!(counters.disconnects.load(Ordering::Relaxed), 0);
    assert_eq!(counters.malformed.load(Ordering::Relaxed), 2);
}
