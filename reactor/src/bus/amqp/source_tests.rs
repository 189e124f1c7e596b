//! A source and a broker that behaves as hardly any does.

use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;

use tokio::sync::mpsc;

use super::properties::Properties;
use super::stand_in::{Broker, serving};
use super::wire::{Frame, Kind, Writer};
use super::*;

/// Longest wait for anything; nothing takes nearly as long.
const LONG: Duration = Duration::from_secs(60);

fn source(amqp: Amqp) -> AmqpSource {
    let from = AmqpBus { settings: Settings::Words(Box::new(amqp)), password: None };
    AmqpSource::open(&"ours".into(), &from, Arc::new(|_| true)).expect("opened")
}

fn deliver(broker: &mut Broker, tag: u64) {
    broker.say(1, Writer::method(60, 60).short("consumer").u64(tag).u8(0).short("amq.topic").short("a.b"));
    let payload = Writer::default().u16(60).u16(0).u64(0).u16(0).0;
    broker.send(&Frame { kind: Kind::Header, channel: 1, payload });
}

#[tokio::test]
async fn a_queue_that_may_not_be_read_is_no_connection_that_was_lost() {
    let (over, until_over) = channel::<()>();
    let mut clients = 0;
    let (amqp, broker) = serving(0, 3, move |broker| {
        clients += 1;
        broker.declare();
        if clients < 3 {
            broker.say(1, Writer::method(20, 40).u16(403).short("ACCESS_REFUSED - to queue").u16(60).u16(20));
            return;
        }
        broker.say(1, Writer::method(60, 21).short("consumer"));
        deliver(broker, 1);
        // It stays until the test has looked.
        let _ = until_over.recv();
    });
    let mut source = source(amqp);
    let batch = tokio::time::timeout(LONG, source.next(10)).await.expect("a message").expect("a working source");
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let counters = source.counters();
    assert_eq!((batch.len(), of(&counters.connects), of(&counters.disconnects)), (1, 1, 0));
    assert!(counters.is_connected(), "else `silence` never counts");
    drop(over);
    broker.join().expect("a broker without a panic");
}

#[tokio::test]
async fn no_batch_is_larger_than_what_may_wait() {
    let mut source = source(Amqp::at(url::Url::local()));
    let (tell, news) = mpsc::channel(200);
    for tag in 1..=200 {
        let delivery = Delivery {
            tag,
            routing_key: b"a".to_vec(),
            properties: Ok(Properties::default()),
            body: vec![],
            bytes: 1 << 20,
        };
        tell.try_send(News::Delivery(Box::new(delivery))).expect("room");
    }
    source.begin(Consumer::telling(news));
    let first = source.next(512).await.expect("a working source");
    assert_eq!(first.len(), 64, "of a MiB each");
}
