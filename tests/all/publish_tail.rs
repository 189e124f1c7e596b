//! `reactor publish` and `reactor tail`, against each other.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reactor_tests::daemon::{reactor, reactor_json, reactor_output};
use reactor_tests::pki::{Pki, SIGNER};
use reactor_tests::process::Child;
use reactor_tests::{Scratch, free_port};
use serde_json::{Value, json};

const LONG: Duration = reactor_tests::PATIENCE;

/// A running `reactor tail`, and its lines once it has ended.
struct Tail(Child);

impl Tail {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let args = [&["tail", "--format", "json", "--quiet"], args].concat();
        Self(Child::start(reactor(dir).args(args).stdin(Stdio::null()).stdout(Stdio::piped())))
    }

    fn lines(mut self) -> Vec<Value> {
        assert!(self.0.wait(LONG).is_some_and(|status| status.success()), "tail ends after -n messages");
        let stdout = self.0.inner.stdout.take().expect("its stdout");
        let text = std::io::read_to_string(stdout).expect("its lines");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

fn failure(dir: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = reactor_output(dir, args);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_is_published_is_seen_by_tail_with_its_verdict() {
    let (scratch, port) = (Scratch::new("tail"), free_port());
    let pki = Pki::new(scratch.path());
    let address = format!("tcp://127.0.0.1:{port}");
    let trust = format!(
        "x509: {{ca: {}, crl: {}}}\nunlisted: accept\n",
        pki.file("ca.crt").display(),
        pki.file("crl.pem").display()
    );
    std::fs::write(scratch.path().join("trust.yaml"), trust).expect("written");
    let tail =
        Tail::start(scratch.path(), &["--connect", &address, "--trust", "trust.yaml", "-n", "2", "org.example.**"]);
    let (cert, key) = (pki.certificate(), pki.key());
    let sign = ["--cert", cert.to_str().expect("text"), "--key", key.to_str().expect("text")];
    let publish = |how: &[&str], topic: &str| {
        let args = [&["publish", "--bind", &address], how, &[topic, r#"{"user": "ralph"}"#]].concat();
        reactor_json(scratch.path(), &args).remove(0)
    };
    let signed = publish(&sign, "org.example.user");
    assert_eq!((&signed["signer"], &signed["topic"]), (&json!(SIGNER), &json!("org.example.user")));
    let unsigned = publish(&["--unsigned"], "org.example.user");
    let seen: Vec<_> = tail
        .lines()
        .into_iter()
        .map(|line| json!([line["id"], line["verdict"], line["signer"], line["msg"]]))
        .collect();
    let msg = json!({"user": "ralph"});
    assert_eq!(seen, [json!([signed["id"], "valid", SIGNER, msg]), json!([unsigned["id"], "refused", null, msg])]);
}

#[test]
fn the_site_says_where_and_as_whom() {
    let (scratch, port) = (Scratch::new("tail"), free_port());
    let pki = Pki::new(scratch.path());
    let (dir, address) = (scratch.path(), format!("tcp://127.0.0.1:{port}"));
    let site = format!(
        "version: 1
bus:
  test:
    fedmsg: [\"{address}\"]
    trust: {{ x509: {{ ca: {ca}, crl: {crl} }}, policy: {{ \"org.example.**\": [{SIGNER}] }} }}
    publish: {{ bind: \"{address}\", cert: {cert}, key: {key} }}
",
        ca = pki.file("ca.crt").display(),
        crl = pki.file("crl.pem").display(),
        cert = pki.certificate().display(),
        key = pki.key().display(),
    );
    std::fs::write(dir.join("rules.yaml"), site).expect("written");
    let site = ["--bus", "test", "--site", "rules.yaml"];
    let tail = Tail::start(dir, &[&site[..], &["-n", "1"]].concat());
    let said = reactor_json(dir, &[&["publish"], &site[..], &["org.example.x", "{}"]].concat());
    assert_eq!(said[0]["address"], address);
    let lines = tail.lines();
    assert_eq!((&lines[0]["verdict"], &lines[0]["signer"]), (&json!("valid"), &json!(SIGNER)));
    let (code, said) = failure(dir, &["tail", "--bus", "tset", "--site", "rules.yaml"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("there is no bus `tset`") && said.contains("buses there: test"), "{said}");
}

#[test]
fn a_message_that_nobody_would_get_is_an_error() {
    let scratch = Scratch::new("tail");
    let bind = ["publish", "--bind", "tcp://127.0.0.1:*"];
    let (code, said) =
        failure(scratch.path(), &[&bind[..], &["--unsigned", "--listener", "10ms", "a.b", "{}"]].concat());
    assert_eq!(code, Some(1));
    assert!(said.contains("nobody has subscribed to a.b") && said.contains("hint: "), "{said}");
    let (code, said) = failure(scratch.path(), &[&bind[..], &["a.b", "{}"]].concat());
    assert!(code == Some(1) && said.contains("hint: --cert FILE --key FILE, or --unsigned"), "{said}");
    let (code, said) = failure(scratch.path(), &[&bind[..], &["--unsigned", "reactor.x", "{}"]].concat());
    assert!(code == Some(1) && said.contains("one of reactor's own topics"), "{said}");
    assert_eq!(failure(scratch.path(), &["publish", "a.b", "{}"]).0, Some(2), "where to?");
}
