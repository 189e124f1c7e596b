//! The fedmsg source and publisher against bare ZeroMQ sockets: losses, stalls, garbage, and what libzmq gives up.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reactor::bus::fedmsg::FedmsgSource;
use reactor::bus::fedmsg::discovery::Discovery;
use reactor::bus::publish::Publisher;
use reactor::bus::{Counters, Source, Wants};
use reactor::message::{BODY_BYTES_MAX, RawMessage};
use reactor::rules::site::{BusConfig, Confirm, QUEUE_MESSAGES_DEFAULT};
use reactor::trust::TrustConfig;
use reactor_tests::{free_port, wait_until, wait_until_async};

/// Longest wait for what is sure to come.
pub const LONG: Duration = reactor_tests::PATIENCE;

/// A source that connects to these ports and wants all that begins with `prefixes`.
pub fn listen_to(ports: &[u16], prefixes: &[&str]) -> FedmsgSource {
    let addresses = ports.iter().map(|port| format!("tcp://127.0.0.1:{port}")).collect();
    listen(addresses, Arc::new(|_| true), prefixes, QUEUE_MESSAGES_DEFAULT)
}

fn listen(addresses: Vec<String>, wants: Wants, prefixes: &[&str], queue_messages_max: usize) -> FedmsgSource {
    let config = BusConfig {
        name: "test".into(),
        fedmsg: addresses,
        discovery: Discovery::default(),
        amqp: None,
        webhook: None,
        topics: Vec::new(),
        trust: TrustConfig::default(),
        publish: None,
        queue_messages_max,
        confirm: Confirm::No,
        catch_up: None,
        silence: None,
    };
    FedmsgSource::open(&config, wants, strings(prefixes)).expect("opened")
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// The next message.
pub async fn next(source: &mut FedmsgSource) -> RawMessage {
    let batch = tokio::time::timeout(LONG, source.next(1)).await.expect("a message").expect("a working source");
    batch.into_iter().next().expect("a source that has not ended")
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A publisher on any free port and a source that listens to it.
fn pair(wants: Wants, queue_messages_max: usize) -> (Publisher, FedmsgSource) {
    let mut publisher = Publisher::bind("tcp://127.0.0.1:*").expect("bound");
    let source = listen(vec![publisher.address().to_owned()], wants, &[""], queue_messages_max);
    assert!(publisher.wait_for_subscriber(LONG).expect("a socket"));
    (publisher, source)
}

fn publish(publisher: &mut Publisher, topic: &str, body: &[u8]) {
    publisher.publish(topic, body).expect("published");
}

/// A bare socket that sends any frames, once somebody has subscribed.
fn bare_publisher(context: &zmq::Context, port: u16) -> zmq::Socket {
    let socket = context.socket(zmq::XPUB).expect("a socket");
    socket.set_rcvtimeo(60_000).expect("an option");
    // Every subscription is told, also one that another subscriber has.
    socket.set_xpub_verbose(true).expect("an option");
    socket.bind(&format!("tcp://127.0.0.1:{port}")).expect("bound");
    assert_eq!(socket.recv_bytes(0).expect("a subscription").first(), Some(&1));
    socket
}

#[tokio::test]
async fn a_source_may_be_there_before_its_publisher() {
    let port = free_port();
    let mut source = listen_to(&[port], &["a."]);
    let socket = bare_publisher(&zmq::Context::new(), port);
    for frames in [["b.x", "{}"], ["a.x", "{\"n\": 1}"]] {
        socket.send_multipart(frames, 0).expect("sent");
    }
    let raw = next(&mut source).await;
    assert_eq!((raw.topic.as_str(), raw.body.as_slice(), &*raw.bus), ("a.x", &b"{\"n\": 1}"[..], "test"));
    assert_eq!(count(&source.counters().received), 1, "what is not subscribed to is not even sent");
}

#[tokio::test]
async fn what_nobody_wants_is_counted_and_not_delivered() {
    let (mut publisher, mut source) = pair(Arc::new(|topic| topic == "a.wanted"), 100);
    for _ in 0..1_000 {
        publish(&mut publisher, "a.unwanted", b"{}");
    }
    publish(&mut publisher, "a.wanted", b"{}");
    assert_eq!(next(&mut source).await.topic, "a.wanted");
    let counters = source.counters();
    assert_eq!((count(&counters.received), count(&counters.unwanted)), (1_001, 1_000));
}

#[tokio::test]
async fn other_subscriptions_are_in_force_at_once() {
    let port = free_port();
    let mut source = listen_to(&[port], &["old", "kept"]);
    let socket = bare_publisher(&zmq::Context::new(), port);
    assert_eq!(socket.recv_bytes(0).expect("the second one"), b"\x01old");
    source.subscriber().resubscribe(strings(&["kept", "new", "new.more"]));
    assert_eq!(socket.recv_bytes(0).expect("one more"), b"\x01new", "only what is new, and not what it covers");
    assert_eq!(socket.recv_bytes(0).expect("one less"), b"\x00old");
    for topic in ["old", "kept", "new.more"] {
        socket.send_multipart([topic, "{}"], 0).expect("sent");
    }
    assert_eq!(next(&mut source).await.topic, "kept");
    assert_eq!(next(&mut source).await.topic, "new.more");
}

#[tokio::test]
async fn a_full_queue_stops_reading_is_counted_and_afterwards_all_of_it_arrives() {
    const MESSAGES: usize = 5_000;
    let (mut publisher, mut source) = pair(Arc::new(|_| true), 100);
    for n in 0..MESSAGES {
        publish(&mut publisher, "t", n.to_string().as_bytes());
    }
    let counters = source.counters();
    wait_until_async("a stall", LONG, || count(&counters.stalled_ms) > 0).await;
    assert!(count(&counters.received) < MESSAGES as u64, "it went on reading");
    assert_eq!(count(&counters.queued), 100, "what status says a kill would lose");
    for n in 0..MESSAGES {
        assert_eq!(String::from_utf8_lossy(&next(&mut source).await.body), n.to_string());
    }
    assert_eq!((count(&counters.queued), count(&counters.disconnects)), (0, 0));
    assert!(count(&counters.stalls) > 1);
}

#[tokio::test]
async fn too_large_a_body_is_refused_and_the_connection_stays() {
    let port = free_port();
    let mut source = listen_to(&[port], &[""]);
    let socket = bare_publisher(&zmq::Context::new(), port);
    for bytes in [BODY_BYTES_MAX + 1, BODY_BYTES_MAX] {
        socket.send_multipart([&b"t"[..], &vec![b' '; bytes]], 0).expect("sent");
    }
    assert_eq!(next(&mut source).await.body.len(), BODY_BYTES_MAX);
    let counters = source.counters();
    assert_eq!((count(&counters.malformed), count(&counters.disconnects)), (1, 0));
}

#[tokio::test]
async fn frames_that_make_no_message_are_counted_and_the_one_frame_form_is_taken() {
    let port = free_port();
    let mut source = listen_to(&[port], &[""]);
    let socket = bare_publisher(&zmq::Context::new(), port);
    let (long, rest) = ([b'x'; 256], b"{}".as_slice());
    let garbage: [&[&[u8]]; 6] = [
        &[b"no nul"],
        &[b"three", rest, rest],
        &[b"\xff", rest],
        &[&long, rest],
        &[b"\xff\0{}"],
        &[b"t", rest, rest, rest, rest],
    ];
    for frames in garbage {
        socket.send_multipart(frames, 0).expect("sent");
    }
    socket.send("a.b\0{\"one\": \"frame\"}", 0).expect("sent");
    let raw = next(&mut source).await;
    assert_eq!((raw.topic.as_str(), raw.body.as_slice()), ("a.b", &b"{\"one\": \"frame\"}"[..]));
    assert_eq!(count(&source.counters().malformed), garbage.len() as u64);
}

#[tokio::test]
async fn a_publisher_whose_frame_breaks_every_limit_is_heard_again() {
    let (context, port) = (zmq::Context::new(), free_port());
    let mut source = listen_to(&[port], &[""]);
    let counters = source.counters();
    let socket = bare_publisher(&context, port);
    socket.send_multipart([&b"t"[..], &vec![b' '; 17 * BODY_BYTES_MAX]], 0).expect("sent");
    // libzmq drops the connection and does not come back by itself; we do.
    wait_until_async("the connection is made anew", LONG, || count(&counters.connects) == 2).await;
    while socket.recv_bytes(0).expect("a new subscription") != b"\x01" {}
    socket.send_multipart(["t", "{}"], 0).expect("sent");
    assert_eq!(next(&mut source).await.body, b"{}");
}

/// Something that is not a publisher answers on a port for a while; then the publisher is there.
async fn heard_after(said: &[u8]) {
    let port = free_port();
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("bound");
    let mut source = listen_to(&[port], &[""]);
    let (mut stranger, _) = listener.accept().expect("a connection");
    stranger.write_all(said).expect("written");
    stranger.shutdown(std::net::Shutdown::Write).expect("ended");
    // Until our side hangs up, whether it says goodbye or not.
    while stranger.read(&mut [0; 1_024]).is_ok_and(|read| read > 0) {}
    drop((stranger, listener));
    let socket = bare_publisher(&zmq::Context::new(), port);
    socket.send_multipart(["t", "{}"], 0).expect("sent");
    assert_eq!(next(&mut source).await.topic, "t");
}

#[tokio::test]
async fn a_port_where_something_else_answered_for_a_while_is_heard_later() {
    heard_after(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await;
}

#[tokio::test]
async fn a_port_that_spoke_zeromq_wrongly_for_a_while_is_heard_later() {
    // The greeting of ZMTP 3.0 (RFC 23), and a message where the READY command should be.
    let mut said = [&b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x00NULL"[..], &[0; 48]].concat();
    said.extend_from_slice(b"\x00\x05hello");
    heard_after(&said).await;
}

#[test]
fn two_hundred_publishers_are_connected_to_by_one_thread() {
    const ADDRESSES: usize = 200;
    let socket = zmq::Context::new().socket(zmq::XPUB).expect("a socket");
    // Every subscription is handed up, not only the first of its kind: so the publisher's side says who subscribed.
    socket.set_xpub_verbose(true).expect("an option of libzmq");
    let milliseconds = i32::try_from(LONG.as_millis()).expect("a minute");
    socket.set_rcvtimeo(milliseconds).expect("an option of libzmq");
    let bound = |_| {
        socket.bind("tcp://127.0.0.1:*").expect("bound");
        socket.get_last_endpoint().expect("its address").expect("text")
    };
    let source = listen((0..ADDRESSES).map(bound).collect(), Arc::new(|_| false), &[""], 10);
    let counters = source.counters();
    for subscribed in 0..ADDRESSES {
        let asked = socket.recv_bytes(0);
        assert_eq!(asked.as_deref(), Ok(b"\x01".as_slice()), "after {subscribed} subscriptions");
    }
    socket.send_multipart(["t", "{}"], zmq::DONTWAIT).expect("sent");
    wait_until("it arrived over each connection", LONG, || count(&counters.received) == ADDRESSES as u64);
    wait_until("all are counted", LONG, || count(&counters.connects) == ADDRESSES as u64);
}

#[test]
fn a_source_that_is_dropped_ends_at_once_even_in_a_stall() {
    let (mut publisher, source) = pair(Arc::new(|_| true), 10);
    (0..1_000).for_each(|_| publish(&mut publisher, "t", b"{}"));
    let counters: Arc<Counters> = source.counters();
    wait_until("a stall", LONG, || count(&counters.stalls) > 0);
    let began = Instant::now();
    drop(source);
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
    assert!(publisher.wait_for_nobody(LONG).expect("a socket"), "its socket is closed");
}
