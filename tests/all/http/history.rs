//! What came is told as datagrepper tells it: to curl, and to the real fedmsg that catches up.

use reactor_tests::peers::PythonPeers;
use serde_json::{Value, json};

use super::site::{Said, Stage, TOKEN};

const ALL: &str = "journal: { history: all }\n";

/// Pushes so many, one after the other; their ids.
fn pushed(stage: &Stage, n: usize) -> Vec<String> {
    let push = |n| {
        let said = stage.push(&format!("h-{n:03}"), &format!(r#"{{"line": "line-{n}"}}"#));
        assert_eq!(said.status, 202, "{said:?}");
        said.body["id"].as_str().expect("an id").to_owned()
    };
    (0..n).map(push).collect()
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
    assert_eq!(ids(&stage.get("/raw?category=git")), [other.clone()]);
    assert_eq!(ids(&stage.get("/raw?not_topic=github.push&delta=3600")), [other.clone()]);
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
        "source_name",
        "source_version",
        "users",
        "packages",
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
    let sent = pushed(&stage, 4);
    let first = stage.get(&format!("/id?id={}", sent[0])).body;
    let last_second = stage.get(&format!("/id?id={}", sent[3])).body["timestamp"].as_f64().expect("seconds").ceil();
    // fedmsg asks up to the whole second it is in.
    reactor_tests::wait_until("that second is over", super::site::LONG, || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        now.as_secs_f64() > last_second
    });
    let status = json!({"message": {"body": first, "topic": first["topic"]}, "status": "post"});
    let mut hub = PythonPeers::find().backlog(stage.dir(), &format!("http://127.0.0.1:{}/raw", stage.port), &status);
    let mut caught = Vec::new();
    while caught.len() < 3 {
        let message: Value = serde_json::from_str(&hub.line()).expect("JSON");
        assert_eq!(message["topic"], "github.push");
        caught.push(message["body"]["msg_id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(caught, sent[1..], "what came after the one it knows, in order: {}", hub.log());
}
