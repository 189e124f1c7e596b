//! Asking, without a daemon.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use handler_api::Failure;
use jiff::Timestamp;
use reactor::bus::catch_up::datagrepper::Pages;
use reactor::bus::catch_up::filter::Filter;
use reactor::bus::catch_up::kept::Kept;
use reactor::bus::catch_up::replay::Slices;
use reactor::bus::catch_up::{Asking, CatchUp, Server, Window};
use reactor::message::RawMessage;
use reactor::trust::Verifier;
use reactor::trust::sign::{Outgoing, Signer};
use reactor_tests::datagrepper::{Datagrepper, Fault};
use reactor_tests::datagrepper_real::RealDatagrepper;
use reactor_tests::peers::{PREFIX, PythonPeers};
use reactor_tests::pki::{Pki, SIGNER, now};
use reactor_tests::{Scratch, free_port};
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(60);

fn window() -> Window {
    Window { from: now() - HOUR, to: now() + HOUR }
}

fn asking(server: Server, believe_all: bool) -> Asking {
    asking_for(server, believe_all, &Filter::All)
}

fn asking_for(server: Server, believe_all: bool, filter: &Filter) -> Asking {
    let config = CatchUp { server, believe_all, overlap: HOUR, at_most: HOUR, patience: PATIENCE };
    Asking::new(&"b".into(), &config, filter, Arc::new(|topic| !topic.ends_with("unwanted")), window())
}

fn datagrepper(server: &Datagrepper) -> Server {
    Server::Datagrepper { url: server.url(), ca: None, token: None }
}

async fn all(mut asking: Asking) -> Vec<RawMessage> {
    let mut came = Vec::new();
    while let Some(raws) = asking.next().await.expect("an answer") {
        came.extend(raws);
    }
    assert_eq!(asking.missing(), 0);
    came
}

fn unsigned(n: usize, seconds: i64) -> String {
    json!({"topic": "org.example.prod.user.new", "msg": {"n": n}, "msg_id": format!("m{n}"), "timestamp": seconds, "i": 1}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_messages_of_one_second_come_once_whatever_order_the_pages_have_them_in() {
    let server = Datagrepper::start();
    let second = now().as_second();
    (0..250).for_each(|n| server.keep(&unsigned(n, second)));
    let came = all(asking(datagrepper(&server), true)).await;
    let bodies: Vec<Value> = came.iter().map(|raw| serde_json::from_slice(&raw.body).expect("JSON")).collect();
    let ids: BTreeSet<&str> = bodies.iter().filter_map(|body| body["msg_id"].as_str()).collect();
    assert_eq!((came.len(), ids.len()), (250, 250));
    assert!(server.asked().len() > 3, "the first reading has some twice and others not at all: {:?}", server.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_wants_is_dropped_by_its_topic_and_the_rest_comes_the_oldest_first() {
    let server = Datagrepper::start();
    let second = now().as_second();
    for n in [3, 1, 2] {
        server.keep(&unsigned(n, second - 10 + n as i64));
        server.keep(&unsigned(n + 10, second).replace("user.new", "unwanted"));
    }
    let came = all(asking(datagrepper(&server), true)).await;
    let numbers: Vec<u64> =
        came.iter().filter_map(|raw| serde_json::from_slice::<Value>(&raw.body).ok()?["msg"]["n"].as_u64()).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_rule_wants_anything_nothing_is_asked() {
    let server = Datagrepper::start();
    assert!(all(asking_for(datagrepper(&server), true, &Filter::of([].iter()))).await.is_empty());
    assert!(server.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_for_a_moment_is_asked_again() {
    let server = Datagrepper::start();
    server.keep(&unsigned(1, now().as_second()));
    server.fail([Fault::Status(503), Fault::Cut]);
    assert_eq!(all(asking(datagrepper(&server), true)).await.len(), 1);
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_on_failing_is_given_up() {
    let server = Datagrepper::start();
    server.fail((0..100).map(|_| Fault::Status(503)));
    let (overlap, at_most, patience) = (HOUR, HOUR, Duration::from_secs(12));
    let config = CatchUp { server: datagrepper(&server), believe_all: true, overlap, at_most, patience };
    let mut asking = Asking::new(&"b".into(), &config, &Filter::All, Arc::new(|_| true), window());
    let failure = asking.next().await.expect_err("given up");
    assert!(
        failure.message().contains("HTTP 503") && failure.message().contains("(asked again for 12s)"),
        "{failure:?}"
    );
    assert!(server.asked().len() > 1 && asking.reached().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_answer_is_told_with_what_to_try() {
    let server = Datagrepper::start();
    let page = json!({"raw_messages": {}, "pages": 1, "total": 1}).to_string();
    for (fault, is_lasting, said) in [
        (Fault::Status(500), false, "HTTP 500: {\"error\":\"told to\""),
        (Fault::Status(404), true, "HTTP 404"),
        (Fault::Status(302), true, "HTTP 302"),
        (Fault::Text("<html>".into()), true, "no page of messages"),
        (Fault::Text(page), true, "no list `raw_messages`"),
        (Fault::Text("[".repeat(100_000)), true, "no page of messages"),
        (Fault::Huge(80 * 1024 * 1024), false, "curl"),
    ] {
        server.fail([fault.clone()]);
        let failure = pages(&server).next().await.expect_err("a failure");
        assert!(failure.message().contains(said) && failure.hint().is_some(), "{fault:?}: {failure:?}");
        assert_eq!(matches!(failure, Failure::Permanent { .. }), is_lasting, "{fault:?}");
    }
}

fn pages(server: &Datagrepper) -> Pages {
    Pages::new(&server.url(), None, None, &Filter::All, window())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_read_anew_for_each_question_and_never_said() {
    let (scratch, server) = (Scratch::new("token"), Datagrepper::start());
    let file = scratch.path().join("token");
    let mut asked = Pages::new(&server.url(), None, Some(file.clone()), &Filter::All, window());
    assert!(asked.next().await.expect_err("it is not there").message().contains("token"));
    std::fs::write(&file, "s3cret\n").expect("a file");
    assert_eq!(asked.next().await.expect("a page"), Some(Vec::<Kept>::new()));
    std::fs::write(&file, "s3 cret").expect("a file");
    let failure = pages_with(&server, &file).next().await.expect_err("it is no token");
    assert!(!format!("{failure:?}").contains("s3"), "{failure:?}");
}

fn pages_with(server: &Datagrepper, file: &std::path::Path) -> Pages {
    Pages::new(&server.url(), None, Some(file.to_owned()), &Filter::All, window())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_fedmsg_replay_hands_over_what_it_stored_and_the_signatures_hold_again() {
    let (scratch, replay) = (Scratch::new("replay"), free_port());
    let pki = Pki::new(scratch.path());
    let mut publisher = PythonPeers::find().publisher_with_replay(scratch.path(), free_port(), replay, Some(&pki));
    let server = || Server::Replay { address: format!("127.0.0.1:{replay}") };
    assert!(all(asking(server(), false)).await.is_empty(), "nothing was published, which it calls an error");
    let sent: Vec<String> = (0..3).map(|n| publisher.publish("user.new", &json!({"é": n}))).collect();
    assert!(sent[0].contains("seq_id"), "the store numbers what is signed already: {}", sent[0]);
    publisher.publish("unwanted", &json!({}));
    let came = all(asking(server(), false)).await;
    let verifier = Verifier::open(pki.trust());
    for (raw, sent) in came.iter().zip(&sent) {
        let sent: Value = serde_json::from_str(sent).expect("JSON");
        let message = verifier.verify(raw, now()).expect("believed").into_inner();
        assert_eq!((&json!(message.id), message.signer.as_str()), (&sent["msg_id"], SIGNER));
        assert_eq!((message.topic.as_str(), &message.body), (&*format!("{PREFIX}.user.new"), &sent["msg"]));
    }
    assert_eq!(came.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_datagrepper_hands_over_what_it_stored_and_the_signatures_hold_again() {
    let scratch = Scratch::new("datagrepper");
    let pki = Pki::new(scratch.path());
    let signer = Signer::open(&pki.certificate(), &pki.key()).expect("the signer");
    let mut server = RealDatagrepper::start(scratch.path());
    let second = now().as_second();
    let mut keep = |n: usize, topic: &str| {
        let (id, msg) = (format!("2026-{n}"), json!({"é": n, "x": [1.5, {"b": null, "a": "\u{1f600}"}]}));
        let of = Outgoing {
            topic,
            msg: &msg,
            i: 7,
            msg_id: &id,
            timestamp_s: second - 200 + n as i64 / 50,
            username: "peer",
        };
        server.keep(&String::from_utf8(signer.envelope(&of).expect("signed")).expect("text"));
    };
    (0..230).for_each(|n| keep(n, "org.example.prod.user.new"));
    keep(300, "org.example.prod.other.new");
    keep(301, "org.example.prod.user.unwanted");
    let verifier = Verifier::open(pki.trust());
    let filter = Filter::Categories(vec!["user".into()]);
    for path in ["raw", "raw/"] {
        let server = Server::Datagrepper { url: server.url(path), ca: None, token: None };
        let came = all(asking_for(server, false, &filter)).await;
        let believed = came.iter().map(|raw| verifier.verify(raw, now()).expect("believed").into_inner());
        let ids: BTreeSet<String> = believed.map(|message| message.id).collect();
        assert_eq!((came.len(), ids.len()), (230, 230));
        let times: Vec<i64> = came
            .iter()
            .map(|raw| {
                serde_json::from_slice::<Value>(&raw.body).expect("JSON")["timestamp"].as_i64().expect("whole seconds")
            })
            .collect();
        assert!(times.is_sorted(), "{times:?}");
    }
    // The newer form has no signatures.
    let newer = Server::Datagrepper { url: server.url("v2/search"), ca: None, token: None };
    let came = all(asking_for(newer, true, &Filter::Topics(vec!["org.example.prod.other.new".into()]))).await;
    let message = verifier.verify(&came[0], now()).expect("believed").into_inner();
    assert_eq!((message.id.as_str(), message.signer.as_str()), ("2026-300", "datagrepper"));
    assert_eq!((message.sent.as_second(), &message.body["é"]), (second - 194, &json!(300)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_zeromq_is_told() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("its number").to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("whoever asks");
        // As soon as it is refused, nobody reads.
        let _ = std::io::Write::write_all(&mut stream, &b"HTTP/1.1 400 Bad Request\r\n".repeat(4));
    });
    let window = Window { from: Timestamp::UNIX_EPOCH, to: Timestamp::UNIX_EPOCH };
    let failure = Slices::new(&address, window).next().await.expect_err("an HTTP server is none");
    assert!(failure.message().contains("no ZeroMQ socket"), "{failure:?}");
    assert!(failure.hint().is_some_and(|hint| hint.contains("nc -vz 127.0.0.1")), "{failure:?}");
    server.join().expect("no panic");
}
