//! What came is told as datagrepper tells it: to curl, and to the real fedmsg that catches up.

use reactor_tests::peers::{PREFIX, PythonPeers};
use reactor_tests::pki::{Pki, now};
use reactor_tests::{free_port, wait_until};
use serde_json::{Value, json};

use super::site::{LONG, Said, Stage, TOKEN, github, rules};
use super::trouble::raw_post;

const ALL: &str = "journal: { history: all }\n";

/// Messages to catch up with: three pages of those that fedmsg asks for.
const BACKLOG: usize = 230;

/// Pushes so many, one after the other; their ids.
fn pushed(stage: &Stage, n: usize) -> Vec<String> {
    let body = r#"{"line": "pushed"}"#;
    let mut headers = github("push", "", body);
    let push = |n| {
        headers[2] = format!("X-GitHub-Delivery: h-{n:03}");
        let said = raw_post(stage.port, &headers, body);
        assert!(said.starts_with("HTTP/1.1 202"), "{said}");
        format!("webhook:github:h-{n:03}")
    };
    (0..n).map(push).collect()
}

/// fedmsg asks up to the whole second it is in.
fn until_over(second: f64) {
    wait_until("that second is over", LONG, || now().as_microsecond() as f64 / 1e6 > second);
}

fn ids(said: &Said) -> Vec<String> {
    let rows = said.body["raw_messages"].as_array().unwrap_or_else(|| panic!("{said:?}"));
    rows.iter().map(|row| row["msg_id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn the_history_is_told_in_pages_and_by_topic_time_and_id() {
    let stage = Stage::with("http-history", ", history: true", ALL);
    let sent = pushed(&stage, 7);
    let other = stage.post(
        "/hook/compose",
        &[format!("Authorization: Bearer {TOKEN}")],
        br#"{"compose": "c", "state": "a.b.git.d"}"#,
    );
    assert_eq!(other.status, 202, "no rule wants it, but all is kept: {other:?}");
    let other = other.body["id"].as_str().expect("an id").to_owned();

    let newest = stage.get("/raw");
    let everything: Vec<String> = sent.iter().chain([&other]).rev().cloned().collect();
    assert_eq!((newest.status, ids(&newest)), (200, everything), "the newest first");
    assert_eq!(
        (&newest.body["total"], &newest.body["pages"], &newest.body["count"]),
        (&json!(8), &json!(1), &json!(8))
    );
    let mut paged = Vec::new();
    for page in 1..=3 {
        let said = stage.get(&format!("/raw?order=asc&rows_per_page=3&page={page}&topic=github.push"));
        assert_eq!((&said.body["pages"], &said.body["total"]), (&json!(3), &json!(7)), "{said:?}");
        paged.extend(ids(&said));
    }
    assert_eq!(paged, sent);
    assert_eq!(ids(&stage.get("/raw?category=git")), std::slice::from_ref(&other));
    assert_eq!(ids(&stage.get("/raw?not_topic=github.push&delta=3600")), std::slice::from_ref(&other));
    assert_eq!(ids(&stage.get("/raw?end=2020-01-01")), Vec::<String>::new());

    let one = stage.get(&format!("/id?id={other}"));
    assert_eq!((one.status, &one.body["topic"]), (200, &json!("compose.a.b.git.d")), "{one:?}");
    let timestamp = one.body["timestamp"].as_f64().expect("seconds");
    assert_eq!(ids(&stage.get(&format!("/raw?start={timestamp}"))), [other], "its own time finds it");
    let fields = [
        "i",
        "msg_id",
        "topic",
        "timestamp",
        "certificate",
        "signature",
        "agent_name",
        "username",
        "crypto",
        "msg",
        "headers",
        "users",
        "packages",
        "source_name",
        "source_version",
    ];
    assert_eq!(one.body.as_object().expect("an object").keys().collect::<Vec<_>>(), fields);
    assert_eq!((stage.get("/id").status, stage.get("/id?id=no-such").status), (400, 404));
    for wrong in ["start=nonsense", "user=ralph", "rows_per_page=101", "rows=3"] {
        let said = stage.get(&format!("/raw?{wrong}"));
        assert!(said.status == 400 && said.body["error"].is_string() && said.body["hint"].is_string(), "{said:?}");
    }
    let rebound = stage.curl("/raw", &[], &["Host: evil.example.org".into()], None).expect("an answer");
    assert_eq!(rebound.status, 403, "under a stranger's name: {rebound:?}");
    assert_eq!(stage.post("/raw", &[], b"{}").status, 405);
}

#[test]
fn with_a_token_only_its_holders_are_told() {
    let stage = Stage::with("http-history-token", ", history: { token: { file: ./compose.secret } }", ALL);
    let sent = pushed(&stage, 1);
    assert_eq!((stage.get("/raw").status, stage.get("/id?id=x").status), (401, 401));
    let ask = |token: &str| {
        stage.curl("/raw", &[], &[format!("Authorization: Bearer {token}"), "Host: reactor.example.org".into()], None)
    };
    assert_eq!(ask("wrong").expect("an answer").status, 401);
    assert_eq!(ids(&ask(TOKEN).expect("an answer")), sent);
}

#[test]
fn the_real_fedmsg_catches_up_from_us() {
    let stage = Stage::with("http-backlog", ", history: true", ALL);
    let sent = pushed(&stage, BACKLOG);
    let one = |id: &str| stage.get(&format!("/id?id={id}")).body;
    let first = one(&sent[0]);
    until_over(one(&sent[BACKLOG - 1])["timestamp"].as_f64().expect("seconds").ceil());
    let status = json!({"message": {"body": first, "topic": first["topic"]}, "status": "post"});
    let mut hub =
        PythonPeers::find().backlog(stage.dir(), &format!("http://127.0.0.1:{}/raw", stage.port), &status, None);
    let mut caught = Vec::new();
    while caught.len() < BACKLOG - 1 {
        let message: Value = serde_json::from_str(&hub.line()).expect("JSON");
        assert_eq!((&message["topic"], &message["body"]["msg"]["line"]), (&json!("github.push"), &json!("pushed")));
        caught.push(message["body"]["msg_id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(caught, sent[1..], "what came after the one it knows, in order: {}", hub.log());
    assert!(hub.log().contains("page 3 of 3"), "{}", hub.log());
}

/// What was signed comes out as it was: the real fedmsg checks the signatures, and lets nothing else through.
#[test]
fn what_was_signed_can_be_checked_by_who_catches_up() {
    let mut stage = Stage::with("http-signed", ", history: true", ALL);
    let (dir, bus) = (stage.dir().to_owned(), free_port());
    let (pki, peers) = (Pki::new(&dir), PythonPeers::find());
    stage.daemon.terminate();
    let fedmsg = format!(
        "  fedora: {{ fedmsg: ['tcp://127.0.0.1:{bus}'], trust: {{ unlisted: accept, x509: {{ ca: {}, crl: {} }} }} }}\nhandlers:\n",
        pki.file("ca.crt").display(),
        pki.file("crl.pem").display()
    );
    let site = rules(stage.port, ", history: true", &dir.join("effects"), ALL).replace("handlers:\n", &fedmsg);
    std::fs::write(dir.join("rules.yaml"), site).expect("the site");
    stage.again();
    let mut publisher = peers.publisher(&dir, bus, Some(&pki));
    let mut first = Value::Null;
    wait_until("publisher and daemon meet", LONG, || {
        publisher.publish("meet", &json!({}));
        first = stage.get("/raw").body["raw_messages"][0].clone();
        first["topic"] == format!("{PREFIX}.meet")
    });
    pushed(&stage, 1);
    for n in 0..3 {
        publisher.publish(
            "odd",
            &json!({"n": n, "float": 1.0, "small": 1e-7, "text": "\u{fc}\u{1f600}\u{7f}", "deep": [null, {"a": true}]}),
        );
    }
    let odd = format!("/raw?order=asc&topic={PREFIX}.odd");
    wait_until("all is in the journal", LONG, || stage.get(&odd).body["total"] == 3);
    let second = stage.get(&odd).body["raw_messages"][2]["timestamp"].as_f64().expect("seconds");
    until_over(second + 1.0);
    let status = json!({"message": {"body": first, "topic": first["topic"]}, "status": "post"});
    let mut hub = peers.backlog(&dir, &format!("http://127.0.0.1:{}/raw", stage.port), &status, Some(&pki));
    let mut caught = Vec::new();
    while caught.len() < 3 {
        let message: Value = serde_json::from_str(&hub.line()).expect("JSON");
        assert_ne!(message["topic"], "github.push", "nobody signed that");
        if message["topic"] != first["topic"] {
            caught.push(message["body"]["msg"]["n"].clone());
        }
    }
    assert_eq!(caught, [0, 1, 2], "{}", hub.log());
    // fedmsg's times are whole seconds, so the one that nobody signed may come last.
    wait_until("the unsigned one is refused", LONG, || hub.log().contains("Received invalid message"));
    assert!(hub.line_within(std::time::Duration::ZERO).is_none(), "{}", hub.log());
}
