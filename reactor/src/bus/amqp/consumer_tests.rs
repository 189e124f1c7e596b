use serde_json::Map;

use super::super::wire::Writer;
use super::*;

fn reading() -> (Reading, mpsc::Receiver<News>) {
    let (tell, news) = mpsc::channel(2);
    (Reading::new(tell, 1), news)
}

fn method(writer: Writer) -> Frame {
    Frame { kind: Kind::Method, channel: CHANNEL, payload: writer.0 }
}

fn deliver(tag: u64) -> Frame {
    method(Writer::method(60, 60).short("consumer").u64(tag).u8(0).short("amq.topic").short("a.b"))
}

fn header(bytes: u64, properties: Writer) -> Frame {
    let mut payload = Writer::default().u16(60).u16(0).u64(bytes).0;
    payload.extend(properties.0);
    Frame { kind: Kind::Header, channel: CHANNEL, payload }
}

fn body(bytes: &[u8]) -> Frame {
    Frame { kind: Kind::Body, channel: CHANNEL, payload: bytes.to_vec() }
}

fn delivery(news: &mut mpsc::Receiver<News>) -> Delivery {
    match news.try_recv() {
        Ok(News::Delivery(delivery)) => *delivery,
        other => panic!("{other:?} is no delivery"),
    }
}

#[test]
fn a_delivery_is_whole_when_its_body_is() {
    let (mut reading, mut news) = reading();
    for frame in [deliver(1), header(5, Writer::default().u16(0)), body(b"{\"a")] {
        assert_eq!(reading.take(frame), Ok(None));
        assert!(news.try_recv().is_err(), "something is missing yet");
    }
    assert_eq!(reading.take(body(b"\":")), Ok(None));
    let got = delivery(&mut news);
    assert_eq!((got.tag, got.routing_key.as_slice(), got.body.as_slice()), (1, &b"a.b"[..], &b"{\"a\":"[..]));
    assert_eq!(reading.take(deliver(2)), Ok(None));
    assert_eq!(reading.take(header(0, Writer::default().u16(0))), Ok(None));
    assert!(delivery(&mut news).body.is_empty(), "no body frame comes for an empty one");
}

#[test]
fn what_is_too_large_is_kept_in_part_and_what_follows_is_read() {
    let (mut reading, mut news) = reading();
    let bytes = BODY_BYTES_MAX as u64 + 1;
    assert_eq!(reading.take(deliver(1)), Ok(None));
    assert_eq!(reading.take(header(bytes, Writer::default().u16(0))), Ok(None));
    for part in vec![b'x'; BODY_BYTES_MAX + 1].chunks(100_000) {
        assert_eq!(reading.take(body(part)), Ok(None));
    }
    let got = delivery(&mut news);
    assert_eq!(got.body.len(), REFUSED_BODY_BYTES_MAX);
    assert!(got.properties.expect_err("too large").contains("1048577 bytes"));
    assert!(reading.take(deliver(2)).is_ok());
}

#[test]
fn broken_properties_cost_one_message_and_not_the_connection() {
    let (mut reading, mut news) = reading();
    let headers = Writer::default().u16(1 << 13).table(&Map::new()).0;
    for (tag, properties) in [(1, Writer(vec![0xff, 0xff, 9])), (2, Writer(headers[..3].to_vec()))] {
        assert_eq!(reading.take(deliver(tag)), Ok(None));
        assert_eq!(reading.take(header(2, properties)), Ok(None));
        assert_eq!(reading.take(body(b"{}")), Ok(None));
        let got = delivery(&mut news);
        assert!(got.properties.is_err() && got.body == b"{}");
    }
}

#[test]
fn what_ends_reading_says_why() {
    let closed = method(Writer::method(20, 40).u16(404).short("NOT_FOUND - no queue 'q'").u16(50).u16(10));
    let cancelled = method(Writer::method(60, 30).short("consumer").bits(&[true]));
    let (mut told, _) = reading();
    assert_eq!(told.take(closed), Ok(Some(methods::close_ok(false))), "the broker waits for an answer");
    assert!(told.closed.expect("an end").why.contains("404 NOT_FOUND"));
    for (frame, part) in [(cancelled, "was deleted"), (body(b"x"), "no order"), (deliver(2), "no order")] {
        let why = reading().0.take(frame).expect_err(part).to_string();
        assert!(why.contains(part), "{why}");
    }
    let (mut reading, _news) = reading();
    for tag in 1..=2 {
        reading.take(deliver(tag)).expect("a delivery");
        reading.take(header(0, Writer::default().u16(0))).expect("a header");
    }
    reading.take(deliver(3)).expect("a delivery");
    let why = reading.take(header(0, Writer::default().u16(0))).expect_err("one too many").why;
    assert!(why.contains("prefetch"), "{why}");
}

#[test]
fn it_is_connected_when_every_queue_is_read() {
    let (tell, mut news) = mpsc::channel(2);
    let mut reading = Reading::new(tell, 2);
    let consuming = || method(Writer::method(60, 21).short("consumer"));
    assert_eq!(reading.take(consuming()), Ok(None));
    assert!(news.try_recv().is_err());
    assert_eq!(reading.take(consuming()), Ok(None));
    assert_eq!(news.try_recv(), Ok(News::Consuming));
}

#[test]
fn so_much_waits_in_memory_and_no_more() {
    let (tell, news) = mpsc::channel(1_000);
    let mut reading = Reading::new(tell, 1);
    let mut consumer = Consumer { news, acks: mpsc::unbounded_channel().0, waiting: reading.waiting.clone() };
    let part = vec![b'x'; 1 << 16];
    let mut tag = 0;
    while reading.waiting.has_room() {
        tag += 1;
        reading.take(deliver(tag)).expect("a delivery");
        reading.take(header(1 << 20, Writer::default().u16(0))).expect("a header");
        (0..16).for_each(|_| drop(reading.take(body(&part)).expect("a part")));
    }
    assert_eq!(tag, 64, "of a MiB each");
    assert!(matches!(consumer.try_next(), Some(News::Delivery(_))) && reading.waiting.has_room(), "one was taken");
}

/// How reading ends on a connection over which nothing ever comes.
async fn on_a_silent_line(consumers_starting: usize, heartbeat: Duration) -> String {
    let (ours, _theirs) = tokio::io::duplex(1 << 16);
    let mut connection = Connection::over(Box::new(ours));
    connection.heartbeat = heartbeat;
    let (tell, _news) = mpsc::channel(2);
    let (_acks, to_ack) = mpsc::unbounded_channel();
    let mut reading = Reading { ready_within: Duration::from_millis(50), ..Reading::new(tell, consumers_starting) };
    reading.run(&mut connection, to_ack).await.expect_err("an end").why
}

#[tokio::test]
async fn a_line_without_a_sign_of_life_is_given_up() {
    let why = on_a_silent_line(0, Duration::from_millis(20)).await;
    assert!(why.contains("nothing was heard of the broker"), "{why}");
}

#[tokio::test]
async fn a_broker_that_never_begins_to_read_a_queue_is_given_up() {
    let why = on_a_silent_line(1, Duration::ZERO).await;
    assert!(why.contains("has not begun to read them"), "{why}");
}
