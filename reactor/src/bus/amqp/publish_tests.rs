//! Against a broker that says what hardly any says.

use std::io::Write as _;

use super::super::stand_in::{Broker, serving};
use super::super::wire::{Kind, Writer};
use super::*;

/// The bytes of the body that is published.
fn published(broker: &mut Broker) -> usize {
    assert_eq!(broker.frame().payload[..4], [0, 60, 0, 40]);
    let header = broker.frame().payload;
    let bytes = u64::from_be_bytes(header[4..12].try_into().expect("eight")) as usize;
    let mut read = 0;
    while read < bytes {
        read += broker.frame().payload.len();
    }
    read
}

fn confirmed() -> Writer {
    Writer::method(60, 80).u64(1).bits(&[false])
}

/// [`publish`] to a broker without signs of life.
async fn publish(mechanisms: &'static str, then: fn(&mut Broker)) -> Result<Sent, Broken> {
    publish_within(0, mechanisms, then).await
}

/// Publishes a body of 10,000 bytes to a broker that lets us in by these mechanisms, and then does this.
async fn publish_within(heartbeat_s: u16, mechanisms: &'static str, then: fn(&mut Broker)) -> Result<Sent, Broken> {
    let (mut amqp, broker) = serving(heartbeat_s, 1, move |broker| {
        broker.let_in(mechanisms);
        if mechanisms.contains("PLAIN") {
            broker.frame();
            broker.say(1, Writer::method(85, 11));
            assert_eq!(published(broker), 10_000);
        }
        then(broker);
    });
    amqp.url.heartbeat_s = Some(heartbeat_s);
    let body = format!("{{\"a\": \"{}\"}}", "x".repeat(9_991));
    let sent = async {
        let mut publisher = AmqpPublisher::open(&amqp).await?;
        let sent = "2026-11-21T02:35:17Z".parse().expect("a time");
        publisher.send(&Outgoing { topic: "a.b", id: "1", sent, schema: BASE_SCHEMA, body: body.as_bytes() }).await
    };
    let sent = sent.await;
    broker.join().expect("a broker without a panic");
    sent
}

#[tokio::test]
async fn a_message_is_taken_unwanted_or_not_taken_as_the_broker_says() {
    let ack = |broker: &mut Broker| broker.say(1, confirmed());
    assert_eq!(publish("AMQPLAIN PLAIN", ack).await, Ok(Sent::Queued));
    let blocked = |broker: &mut Broker| {
        broker.say(0, Writer::method(10, 60).short("low on disk"));
        broker.say(0, Writer::method(10, 61));
        broker.say(1, confirmed());
    };
    assert_eq!(publish("PLAIN", blocked).await, Ok(Sent::Queued), "it goes on by itself");
    let returned = |broker: &mut Broker| {
        broker.say(1, Writer::method(60, 50).u16(312).short("NO_ROUTE").short("amq.topic").short("a.b"));
        broker.say(1, confirmed());
    };
    assert_eq!(publish("PLAIN", returned).await, Ok(Sent::Unwanted));
    let nack = |broker: &mut Broker| broker.say(1, Writer::method(60, 120).u64(1).bits(&[false, false]));
    assert!(publish("PLAIN", nack).await.is_err_and(|broken| broken.why.contains("could not take")));
}

#[tokio::test]
async fn what_a_broker_should_not_say_is_told_and_ends_it() {
    let closed = |broker: &mut Broker| {
        broker.say(1, Writer::method(20, 40).u16(404).short("NOT_FOUND - no exchange 'x'\u{1b}[2J").u16(60).u16(40));
        assert_eq!(broker.frame().payload, [0, 20, 0, 41], "it is answered");
    };
    assert!(
        publish("PLAIN", closed)
            .await
            .is_err_and(|broken| broken.why.ends_with("404 NOT_FOUND - no exchange 'x'\\u{1b}[2J"))
    );
    let elsewhere = |broker: &mut Broker| broker.say(7, confirmed());
    assert!(publish("PLAIN", elsewhere).await.is_err_and(|broken| broken.why.contains("never opened")));
    let large = |broker: &mut Broker| broker.stream.write_all(b"\x01\0\x01\xff\xff\xff\xff").expect("written");
    assert!(publish("PLAIN", large).await.is_err_and(|broken| broken.why.contains("were agreed on")));
    let gone = |broker: &mut Broker| drop(broker.stream.shutdown(std::net::Shutdown::Both));
    assert!(publish("PLAIN", gone).await.is_err());
    let wrong = publish("EXTERNAL", |_| {}).await.expect_err("no way in").why;
    assert!(wrong.contains("lets nobody in by PLAIN, only by EXTERNAL"), "{wrong}");
}

#[tokio::test]
async fn who_waits_for_a_slow_broker_gives_signs_of_life() {
    let slow = |broker: &mut Broker| {
        (0..2).for_each(|_| assert_eq!(broker.next().kind, Kind::Heartbeat));
        // What it says itself is no reason to say nothing.
        broker.send(&methods::heartbeat());
        assert_eq!(broker.next().kind, Kind::Heartbeat);
        broker.say(1, confirmed());
    };
    assert_eq!(publish_within(1, "PLAIN", slow).await, Ok(Sent::Queued));
}

#[tokio::test]
async fn why_a_broker_went_is_told_also_to_who_was_only_writing() {
    let (amqp, broker) = serving(0, 1, |broker| {
        broker.let_in("PLAIN");
        broker.say(0, Writer::method(10, 50).u16(320).short("CONNECTION_FORCED - shutdown").u16(0).u16(0));
    });
    let mut connection = Connection::connect(&amqp).await.expect("let in");
    broker.join().expect("a broker without a panic");
    let why = loop {
        if let Err(broken) = connection.send(&methods::heartbeat()).await {
            break broken.why;
        }
    };
    assert!(why.contains("320 CONNECTION_FORCED"), "{why}");
}
