//! A POST becomes a message, or is answered with why not.

use reactor::rules::file::load_str;
use reactor_tests::process::command;
use reactor_tests::{reactor_json, wait_until};
use serde_json::{Value, json};

use super::site::{LONG, NEW_TOKEN, SECRET, Stage, TOKEN, github};

fn bearer(token: &str) -> Vec<String> {
    vec![format!("Authorization: Bearer {token}")]
}

#[test]
fn what_github_signs_is_reacted_to_once() {
    let stage = Stage::new("http-github");
    let body = r#"{"line": "one", "ref": "refs/heads/main"}"#;
    let first = stage.push("d-1", body);
    assert_eq!((first.status, &first.body["id"]), (202, &json!("webhook:github:d-1")), "{first:?}");
    assert_eq!(first.body["topic"], "github.push");
    stage.until_effects(&["one"]);
    let again = stage.push("d-1", body);
    assert_eq!((again.status, again.body["result"].as_str()), (200, Some("it came before")), "{again:?}");
    let ping = stage.post("/hook/github", &github("ping", "d-2", "{}"), b"{}");
    assert_eq!((ping.status, ping.body["result"].as_str()), (200, Some("no rule wants it")), "{ping:?}");

    // GitHub can send it as a form; the signature is that of the form.
    let form = "payload=%7B%22line%22%3A+%22two%22%7D";
    let kind = "Content-Type: application/x-www-form-urlencoded".to_owned();
    let headers = [&github("push", "d-3", form)[..], &[kind]].concat();
    let said = stage.curl("/hook/github", &[], &headers, Some(form.as_bytes())).expect("an answer");
    assert_eq!(said.status, 202, "{said:?}");
    stage.until_effects(&["one", "two"]);

    let rows = reactor_json(stage.dir(), &["list"]);
    assert_eq!(rows.len(), 2, "{rows:?}");
    let id =
        rows.iter().find(|row| row["with"]["line"] == "one").expect("it")["id"].as_str().expect("an id").to_owned();
    let story = reactor_json(stage.dir(), &["show", &id]).remove(0);
    let message = &story["messages"][0];
    assert_eq!((&message["signer"], &message["bus"]), (&json!("webhook:github"), &json!("github")), "{story}");
    assert_eq!(message["headers"], json!({"x-github-delivery": "d-1", "x-github-event": "push"}));
    assert_eq!(stage.bus("github")["unwanted"], 1);
}

#[test]
fn who_does_not_know_the_secret_changes_nothing_and_is_seen() {
    let stage = Stage::new("http-stranger");
    let body = r#"{"line": "evil"}"#;
    let of_other_body = github("push", "d-1", "{}");
    for headers in [of_other_body, vec![], vec!["X-Hub-Signature-256: sha256=00".into()]] {
        let said = stage.post("/hook/github", &headers, body.as_bytes());
        assert_eq!(said.status, 401, "{said:?}");
        assert!(said.body["error"].is_string() && said.body["hint"].is_string(), "{said:?}");
        assert!(said.headers.contains_key("www-authenticate"));
    }
    for token in ["wrong", "", &TOKEN[..31]] {
        let said = stage.post("/hook/compose", &bearer(token), br#"{"state": "finished", "compose": "evil"}"#);
        assert_eq!(said.status, 401, "{said:?}");
    }
    // What comes after them has gone the same way.
    assert_eq!(stage.push("d-2", r#"{"line": "good"}"#).status, 202);
    stage.until_effects(&["good"]);
    let refused = || reactor_json(stage.dir(), &["list", "--refused"]);
    let (of_github, folded) = (
        |row: &Value| row["bus"] == "github" && row["topic"] == "/hook/github",
        |row: &Value| row["bus"] == "compose" && row["times"] == 3,
    );
    assert!(refused().iter().any(of_github), "{:?}", refused());
    // What was refused of another bus came by itself.
    wait_until("they are folded", LONG, || refused().iter().any(folded));
    let refused = refused();
    let told = format!("{refused:?}{}", stage.scratch.log());
    assert!(told.contains("does not fit the body") && !told.contains(TOKEN) && !told.contains(SECRET), "{told}");
}

#[test]
fn what_can_be_no_message_is_answered_with_why() {
    let stage = Stage::new("http-no-message");
    let good = bearer(TOKEN);
    let post = |body: &[u8]| stage.post("/hook/compose", &good, body);
    let get = stage.get("/hook/compose");
    assert_eq!((get.status, get.headers["allow"].as_str()), (405, "POST"));
    assert_eq!(stage.post("/hook/other", &good, b"{}").status, 404);
    assert_eq!(stage.get("/raw").status, 404, "no history is configured");
    let untyped =
        stage.curl("/hook/compose", &[], &[&good[..], &["Content-Type: text/plain".into()]].concat(), Some(b"{}"));
    assert_eq!(untyped.expect("an answer").status, 415);
    let plain = stage.curl("/hook/compose", &[], &good, Some(br#"{"state": "finished"}"#)).expect("an answer");
    assert_eq!(plain.status, 400, "curl calls it a form");
    assert!(
        plain.body["error"].as_str().is_some_and(|why| why.contains("Content-Type: application/json")),
        "{plain:?}"
    );
    for (body, why) in [
        (&b"{"[..], "the body is"),
        (b"[]", "not a JSON object"),
        (br#"{"compose": 1}"#, "msg has no `state`"),
        (br#"{"compose": 1, "state": "a b"}"#, "white space"),
        (br#"{"compose": {}, "state": "finished"}"#, "its id can't be made"),
    ] {
        let said = post(body);
        assert_eq!(said.status, 400, "{said:?}");
        assert!(said.body["error"].as_str().is_some_and(|error| error.contains(why)), "{said:?}");
    }
    let large = [br#"{"a": ""#, &vec![b'x'; 3 * 1024 * 1024][..], br#""}"#].concat();
    let said = post(&large);
    assert_eq!(said.status, 413, "{said:?}");
    let chunked = stage.curl(
        "/hook/compose",
        &[],
        &[&good[..], &["Content-Type: application/json".into(), "Transfer-Encoding: chunked".into()]].concat(),
        Some(&large),
    );
    assert_eq!(chunked.expect("an answer").status, 413, "its length is not said");
    let header = format!("X-Large: {}", "x".repeat(64 * 1024));
    let said = stage.curl("/hook/compose", &[], &[header], Some(b"{}"));
    assert_eq!(said.expect("an answer").status, 431);
    assert_eq!(stage.effects(), Vec::<String>::new());
    assert_eq!(stage.bus("compose")["malformed"], 2);
}

#[test]
fn a_secret_is_changed_while_both_are_good_and_without_a_restart() {
    let stage = Stage::new("http-rotation");
    let said = |token: &str, compose: &str| {
        let body = format!(r#"{{"compose": "{compose}", "state": "finished"}}"#);
        stage.post("/hook/compose", &bearer(token), body.as_bytes())
    };
    let post = |token: &str, compose: &str| said(token, compose).status;
    assert_eq!((post(TOKEN, "a"), post(NEW_TOKEN, "b")), (202, 202), "while one is changed for the other");
    let newest = "00112233445566778899aabbccddeeff";
    std::fs::remove_file(stage.dir().join("compose.secret")).expect("the old secret");
    std::fs::write(stage.dir().join("compose.new"), format!("{newest}\n")).expect("another one");
    wait_until("the newest one is good", LONG, || post(newest, "c") != 401);
    assert_eq!((post(TOKEN, "d"), post(NEW_TOKEN, "d")), (401, 401));
    // So does the rest of the rules file.
    let rules = std::fs::read_to_string(stage.dir().join("rules.yaml")).expect("the site");
    std::fs::write(stage.dir().join("rules.yaml"), rules.replace("topic: compose.", "topic: other."))
        .expect("the site");
    wait_until("the topic is another one", LONG, || said(newest, "c").body["topic"] == "other.finished");
    assert_eq!(stage.push("d-1", r#"{"line": "d"}"#).status, 202, "others go on");
    stage.until_effects(&["a", "b", "c", "d"]);
    let problems = stage.bus("compose")["problems"].to_string();
    assert!(problems.contains("compose.secret") && problems.contains("can't be read"), "{problems}");
}

/// What the docs tell to write into a site can be written there.
#[test]
fn the_sites_of_the_docs_are_good_ones() {
    for docs in [include_str!("../../../docs/webhook.md"), include_str!("../../../docs/http-api.md")] {
        let yaml = docs.split("```yaml\n").nth(1).and_then(|text| text.split("```").next()).expect("a site");
        let site = format!("version: 1\n{yaml}");
        load_str("docs.yaml", &site, std::path::Path::new("/")).unwrap_or_else(|found| panic!("{found}"));
    }
}

/// What docs/webhook.md tells to type is typed.
#[test]
fn the_scripts_of_the_docs_work() {
    let stage = Stage::new("http-docs");
    std::fs::write(stage.dir().join("reactor.header"), format!("Authorization: Bearer {TOKEN}\n")).expect("written");
    let docs = include_str!("../../../docs/webhook.md");
    let scripts: Vec<&str> =
        docs.split("```sh\n").skip(1).map(|text| text.split("```").next().unwrap_or_default()).collect();
    assert_eq!(scripts.len(), 2, "the docs have changed");
    for script in scripts {
        let script = script
            .replace("https://reactor.example.org", &format!("http://127.0.0.1:{}", stage.port))
            .replace("/etc/compose", &stage.dir().display().to_string());
        let output = command("bash").args(["-euo", "pipefail", "-c", &script]).output().expect("bash");
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("\"result\":\"taken\""), "{said}");
    }
    stage.until_effects(&["Fedora-41-20261121.n.0", "pushed"]);
}
