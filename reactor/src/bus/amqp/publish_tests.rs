//! A broker that says what a test makes it say; a stand-in, for what a real one says hardly ever.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::Map;

use super::super::url::Url;
use super::super::wire::{Frame, Kind, Writer};
use super::*;

const FRAME_BYTES: u32 = 4_096;

/// What the client said so far, and how to answer it.
struct Broker {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Broker {
    fn say(&mut self, channel: u16, method: Writer) {
        let mut bytes = Vec::new();
        Frame { kind: Kind::Method, channel, payload: method.0 }.encode(&mut bytes);
        self.stream.write_all(&bytes).expect("a client that listens");
    }

    /// The client's next frame that is no sign of life.
    fn frame(&mut self) -> Frame {
        loop {
            if let Some((frame, bytes)) = Frame::decode(&self.read).expect("frames") {
                self.read.drain(..bytes);
                assert!(bytes <= FRAME_BYTES as usize, "a frame of {bytes} bytes");
                if frame.kind != Kind::Heartbeat {
                    return frame;
                }
                continue;
            }
            let mut chunk = [0; 4_096];
            let n = self.stream.read(&mut chunk).expect("a client that speaks");
            assert!(n > 0, "the client has gone");
            self.read.extend_from_slice(&chunk[..n]);
        }
    }

    /// Lets the client in up to an open channel that confirms.
    fn let_in(&mut self, mechanisms: &str) {
        let mut header = [0; 8];
        self.stream.read_exact(&mut header).expect("a header");
        let start = Writer::method(10, 10).u8(0).u8(9).table(&Map::new()).long(mechanisms.as_bytes()).long(b"en_US");
        self.say(0, start);
        if !mechanisms.contains("PLAIN") {
            return;
        }
        self.frame();
        self.say(0, Writer::method(10, 30).u16(0).u32(FRAME_BYTES).u16(0));
        (0..2).for_each(|_| drop(self.frame()));
        self.say(0, Writer::method(10, 41).short(""));
        self.frame();
        self.say(0, Writer::method(99, 1).long(b"of a later version"));
        self.say(1, Writer::method(20, 11).long(b""));
        self.frame();
        self.say(1, Writer::method(85, 11));
    }

    /// The bytes of the body that is published.
    fn published(&mut self) -> usize {
        assert_eq!(self.frame().payload[..4], [0, 60, 0, 40]);
        let header = self.frame().payload;
        let bytes = u64::from_be_bytes(header[4..12].try_into().expect("eight")) as usize;
        let mut read = 0;
        while read < bytes {
            read += self.frame().payload.len();
        }
        read
    }
}

/// Publishes a body of 10,000 bytes to a broker that lets us in by these mechanisms, and then does this.
async fn publish(mechanisms: &'static str, then: fn(&mut Broker)) -> Result<Sent, Broken> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("amqp://{}", listener.local_addr().expect("its address"));
    let broker = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        let mut broker = Broker { stream, read: Vec::new() };
        broker.let_in(mechanisms);
        if mechanisms.contains("PLAIN") {
            assert_eq!(broker.published(), 10_000);
        }
        then(&mut broker);
    });
    let body = format!("{{\"a\": \"{}\"}}", "x".repeat(9_991));
    let amqp = Amqp::at(Url::parse(&url).expect("a URL"));
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
    let ack = |broker: &mut Broker| broker.say(1, Writer::method(60, 80).u64(1).bits(&[false]));
    assert_eq!(publish("AMQPLAIN PLAIN", ack).await, Ok(Sent::Queued));
    let blocked = |broker: &mut Broker| {
        broker.say(0, Writer::method(10, 60).short("low on disk"));
        broker.say(0, Writer::method(10, 61));
        broker.say(1, Writer::method(60, 80).u64(1).bits(&[false]));
    };
    assert_eq!(publish("PLAIN", blocked).await, Ok(Sent::Queued), "it goes on by itself");
    let returned = |broker: &mut Broker| {
        broker.say(1, Writer::method(60, 50).u16(312).short("NO_ROUTE").short("amq.topic").short("a.b"));
        broker.say(1, Writer::method(60, 80).u64(1).bits(&[false]));
    };
    assert_eq!(publish("PLAIN", returned).await, Ok(Sent::Unwanted));
    let nack = |broker: &mut Broker| broker.say(1, Writer::method(60, 120).u64(1).bits(&[false, false]));
    assert!(publish("PLAIN", nack).await.is_err_and(|broken| broken.why.contains("could not take")));
}

#[tokio::test]
async fn what_a_broker_should_not_say_is_told_and_ends_it() {
    let closed = |broker: &mut Broker| {
        broker.say(1, Writer::method(20, 40).u16(404).short("NOT_FOUND - no exchange 'x'").u16(60).u16(40));
        assert_eq!(broker.frame().payload, [0, 20, 0, 41], "it is answered");
    };
    assert!(publish("PLAIN", closed).await.is_err_and(|broken| broken.why.contains("404 NOT_FOUND")));
    let elsewhere = |broker: &mut Broker| broker.say(7, Writer::method(60, 80).u64(1).bits(&[false]));
    assert!(publish("PLAIN", elsewhere).await.is_err_and(|broken| broken.why.contains("never opened")));
    let large = |broker: &mut Broker| broker.stream.write_all(b"\x01\0\x01\xff\xff\xff\xff").expect("written");
    assert!(publish("PLAIN", large).await.is_err_and(|broken| broken.why.contains("were agreed on")));
    let gone = |broker: &mut Broker| drop(broker.stream.shutdown(std::net::Shutdown::Both));
    assert!(publish("PLAIN", gone).await.is_err());
    let wrong = publish("EXTERNAL", |_| {}).await.expect_err("no way in").why;
    assert!(wrong.contains("lets nobody in by PLAIN, only by EXTERNAL"), "{wrong}");
}
