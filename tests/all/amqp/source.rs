//! Our own source against a real RabbitMQ, with the real fedora-messaging at the other end: what is acknowledged, and what not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reactor::bus::Source as _;
use reactor::bus::amqp::AmqpSource;
use reactor::bus::amqp::config::{AmqpBus, Settings};
use reactor::message::{Form, RawMessage};
use reactor_tests::amqp_peers::{AmqpPeers, configuration};
use reactor_tests::rabbitmq::{PEER, REACTOR, RabbitMq};
use reactor_tests::relay::Relay;
use reactor_tests::{Scratch, wait_until};
use serde_json::{Value, json};

/// Longest wait for what is sure to come.
const LONG: Duration = reactor_tests::PATIENCE;
const QUEUE: &str = "source";
const PREFIX: &str = "org.test.source";

/// A source that reads [`QUEUE`] as fedora-messaging's own file says, through a relay.
fn source(scratch: &Scratch, broker: &RabbitMq, relay: &Relay) -> AmqpSource {
    let file = scratch.path().join("config.toml");
    let port = |port: u16| format!("localhost:{port}/");
    let text = configuration(broker, REACTOR, Some(QUEUE), PREFIX);
    std::fs::write(&file, text.replace(&port(broker.amqps()), &port(relay.port()))).expect("written");
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

fn until(broker: &RabbitMq, what: &str, ready: u64, unacked: u64) {
    let counts = || broker.queue(QUEUE).map(|queue| (queue.ready, queue.unacked));
    wait_until(what, LONG, || counts() == Some((ready, unacked)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_acknowledged_comes_again_and_what_is_does_not() {
    let (scratch, broker) = (Scratch::new("amqp-source"), RabbitMq::shared());
    let relay = Relay::to(broker.amqps());
    let mut source = source(&scratch, &broker, &relay);
    let counters = source.counters();
    let count = counters.clone();
    // Nothing is read until somebody asks: the queue must be there before anyone publishes.
    let reading = tokio::spawn(async move { (next(&mut source).await, source) });
    wait_until("the queue is read", LONG, || count.connects.load(Ordering::Relaxed) == 1);
    let mut publisher = AmqpPeers::about(PREFIX).publisher(scratch.path(), &broker, PEER);
    publisher.publish("unwanted", &json!({}));
    let first = publisher.publish("fas.user.update", &json!({"user": "lmacken"}));
    let (raw, mut source) = reading.await.expect("no panic");
    assert_eq!((raw.topic.as_str(), id(&raw)), (&*format!("{PREFIX}.fas.user.update"), first.clone()));
    assert_eq!(serde_json::from_slice::<Value>(&raw.body).expect("JSON"), json!({"user": "lmacken"}));
    until(&broker, "only what nobody wants is acknowledged", 0, 1);

    relay.begin_anew();
    let again = next(&mut source).await;
    assert_eq!(id(&again), first, "the same one comes again");
    source.ack(&[raw.token]).await.expect("ignored");
    let second = publisher.publish("fas.user.update", &json!({}));
    let newer = next(&mut source).await;
    assert_eq!(id(&newer), second);
    until(&broker, "a token of the old connection is nothing to the new one", 0, 2);
    source.ack(&[newer.token]).await.expect("noted");
    source.ack(&[again.token]).await.expect("acknowledged");
    until(&broker, "both are forgotten", 0, 0);
    assert_eq!((counters.connects.load(Ordering::Relaxed), counters.disconnects.load(Ordering::Relaxed)), (2, 1));
}
