//! `confirm`: whoever publishes a message learns what became of it, over a real bus.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use reactor::message::RawMessage;
use reactor_tests::daemon::{Daemon, hold_journal, reactor_json, reactor_output};
use reactor_tests::peers::PythonPeers;
use reactor_tests::pki::{Pki, SIGNER};
use reactor_tests::rabbitmq::{REACTOR, RabbitMq};
use reactor_tests::{Scratch, amqp_peers, free_port, wait_until};
use serde_json::{Value, json};

use crate::fedmsg_sockets::{listen_to, next};
use crate::running::handler;

/// Longest wait for what is sure to come.
const LONG: Duration = reactor_tests::PATIENCE;
/// How long the hub may take to print what it got.
const TRY: Duration = Duration::from_millis(200);
/// What the confirmations' topics begin with.
const PREFIX: &str = "org.fedoraproject.dev";

/// Done for everybody but `bad`, who fails for good, and `many`, who is held.
fn write_handler(dir: &Path) {
    let plan = r#"case $user in bad) echo 'there is no such user' >&2; exit 1;; many) echo "$change"; echo "${change/access/mail}";; *) echo "$change";; esac"#;
    fs::write(dir.join("h"), handler(plan, "echo \"$change\"")).expect("the handler");
    fs::set_permissions(dir.join("h"), fs::Permissions::from_mode(0o755)).expect("executable");
}

const RULES: &str = r#"
handlers: { h: { exec: ./h } }
defaults: { retry: { times: 0, wait: 1s, up_to: 1s }, guard: { changes: 1, deletes: 1 } }
rules:
  - { name: access, on: "**.user.update", key: "{{msg.user}}", do: h, with: { user: "{{msg.user}}" } }
  - { name: silent, on: "**.user.quiet", key: "{{msg.user}}", do: h, with: { user: "{{msg.user}}" }, confirm: false }
"#;

/// A reactor that confirms, and the site of somebody who publishes to it.
struct Site {
    scratch: Scratch,
    pki: Pki,
    /// Where outcomes are published.
    outcomes: u16,
}

impl Site {
    fn new() -> Self {
        let (scratch, publisher, outcomes) = (Scratch::new("confirm"), free_port(), free_port());
        let pki = Pki::new(scratch.path());
        write_handler(scratch.path());
        let bus = |listen: u16, bind: u16, more: &str| {
            format!(
                "version: 1\nbus:\n  b:\n    fedmsg: [\"tcp://127.0.0.1:{listen}\"]\n    \
                 trust: {{ x509: {{ ca: {}, crl: {} }}, unlisted: accept }}\n    \
                 publish: {{ bind: \"tcp://127.0.0.1:{bind}\", cert: {}, key: {}, prefix: {PREFIX} }}\n{more}",
                pki.file("ca.crt").display(),
                pki.file("crl.pem").display(),
                pki.certificate().display(),
                pki.key().display(),
            )
        };
        let ours = bus(publisher, outcomes, &format!("    confirm: true\n{RULES}"));
        fs::write(scratch.path().join("rules.yaml"), ours).expect("written");
        fs::write(scratch.path().join("theirs.yaml"), bus(outcomes, publisher, "")).expect("written");
        Self { scratch, pki, outcomes }
    }

    fn run(&self) -> Daemon {
        Daemon::start(self.scratch.path(), &["run", "rules.yaml"])
    }

    fn publish(&self, wait: &[&str], what: &str, user: &str) -> (Option<i32>, Vec<Value>, String) {
        let (topic, body) = (format!("{PREFIX}.user.{what}"), json!({"user": user}).to_string());
        let args = [&["--format", "json", "publish", "--bus", "b", "--site", "theirs.yaml"], wait, &[&topic, &body]];
        said(&reactor_output(self.scratch.path(), &args.concat()))
    }

    fn waiting(&self) -> u64 {
        reactor_json(self.scratch.path(), &["status"])[0]["confirms"]["waiting"].as_u64().expect("a number")
    }
}

fn said(output: &Output) -> (Option<i32>, Vec<Value>, String) {
    let lines = String::from_utf8_lossy(&output.stdout);
    let lines = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    (output.status.code(), lines, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn who_publishes_learns_what_became_of_it_and_so_does_the_real_fedmsg() {
    let site = Site::new();
    let _daemon = site.run();
    let mut hub = PythonPeers::find().consumer(site.scratch.path(), site.outcomes, &site.pki);

    let (code, lines, stderr) = site.publish(&["--wait"], "update", "ralph");
    assert_eq!((code, lines.len()), (Some(0), 2), "{stderr}{}", site.scratch.log());
    let told = &lines[1];
    assert_eq!((&told["signer"], &told["topic"]), (&json!(SIGNER), &json!(format!("{PREFIX}.reactor.reaction.done"))));
    let msg = &told["msg"];
    assert_eq!((&msg["messages"], &msg["rules"]), (&json!([lines[0]["id"]]), &json!(1)));
    assert_eq!((&msg["rule"], &msg["key"], &msg["state"]), (&json!("access"), &json!("ralph"), &json!("done")));
    let id = msg["reaction"].as_str().expect("an id");
    // The outbox is emptied after it is published, and the story tells of it.
    wait_until("the story tells of it", LONG, || {
        let story = &reactor_json(site.scratch.path(), &["show", id])[0];
        story["lines"].as_array().expect("lines").iter().any(|line| line["what"] == "confirmed")
    });
    wait_until("the outbox is empty", LONG, || site.waiting() == 0);

    let (code, lines, stderr) = site.publish(&["--wait"], "update", "bad");
    assert_eq!(code, Some(1), "{stderr}");
    assert_eq!(lines[1]["msg"]["state"], json!("failed"));
    assert!(
        lines[1]["msg"]["reason"].as_str().is_some_and(|why| why.contains("there is no such user")),
        "{}",
        lines[1]
    );
    let (code, lines, stderr) = site.publish(&["--wait"], "update", "many");
    assert_eq!((code, &lines[1]["msg"]["state"]), (Some(1), &json!("held")), "{stderr}");
    let (code, lines, stderr) = site.publish(&["--wait=300ms"], "quiet", "ralph");
    assert_eq!((code, lines.len()), (Some(3), 1), "nobody says anything: {stderr}");
    assert!(stderr.contains("nobody said what became of it within 300ms") && stderr.contains("hint: "), "{stderr}");

    // When the hub has subscribed can't be seen from here: it has when it gets something. It checks the signature and the topic.
    let mut tries = 0;
    let line = loop {
        tries += 1;
        assert!(tries < 300, "the hub gets nothing: {}", hub.log());
        assert_eq!(site.publish(&["--wait"], "update", &format!("user-{tries}")).0, Some(0));
        if let Some(line) = hub.line_within(TRY) {
            break line;
        }
    };
    let message: Value = serde_json::from_str(&line).expect("JSON");
    assert!(
        message["topic"].as_str().is_some_and(|topic| topic.starts_with(&format!("{PREFIX}.reactor.reaction."))),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_daemon_did_not_publish_goes_out_after_its_restart_and_only_then() {
    let site = Site::new();
    let mut daemon = site.run();
    let (code, lines, stderr) = site.publish(&[], "update", "ralph");
    assert_eq!(code, Some(0), "{stderr}");
    let cause = lines[0]["id"].clone();
    let done = || reactor_json(site.scratch.path(), &["list"]).iter().any(|row| row["state"] == "done");
    wait_until("it is done", LONG, done);
    wait_until("its outcome waits for somebody to subscribe", LONG, || site.waiting() == 1);
    daemon.kill_9();
    let _daemon = site.run();
    let mut source = listen_to(&[site.outcomes], &[""]);
    let raw = next(&mut source).await;
    assert_eq!(raw.topic, format!("{PREFIX}.reactor.reaction.done"));
    let body: Value = serde_json::from_slice(&raw.body).expect("JSON");
    assert_eq!(body["msg"]["messages"], json!([cause]));
    wait_until("the outbox is empty", LONG, || site.waiting() == 0);
    // The next thing that comes is about the next message: the first was published once.
    let (code, lines, stderr) = site.publish(&[], "update", "threebean");
    assert_eq!(code, Some(0), "{stderr}");
    let body: Value = serde_json::from_slice(&next(&mut source).await.body).expect("JSON");
    assert_eq!(body["msg"]["messages"], json!([lines[0]["id"]]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_publishing_and_taking_it_out_it_says_the_same_once_more() {
    let site = Site::new();
    let mut daemon = site.run();
    let (code, _, stderr) = site.publish(&[], "update", "ralph");
    assert_eq!(code, Some(0), "{stderr}");
    let done = || reactor_json(site.scratch.path(), &["list"]).iter().any(|row| row["state"] == "done");
    wait_until("it is done", LONG, done);
    wait_until("its outcome waits for somebody to subscribe", LONG, || site.waiting() == 1);
    // From here on it can publish, but not write that it has.
    let journal = hold_journal(site.scratch.path(), LONG);
    let mut source = listen_to(&[site.outcomes], &[""]);
    let id = |raw: &RawMessage| serde_json::from_slice::<Value>(&raw.body).expect("JSON")["msg_id"].clone();
    let first = next(&mut source).await;
    daemon.kill_9();
    drop(journal);
    let _daemon = site.run();
    let again = next(&mut source).await;
    assert_eq!((id(&again), &again.topic), (id(&first), &first.topic));
    wait_until("the outbox is empty", LONG, || site.waiting() == 0);
    // What comes now is of the next message: twice was enough.
    let (code, lines, stderr) = site.publish(&[], "update", "threebean");
    assert_eq!(code, Some(0), "{stderr}");
    let body: Value = serde_json::from_slice(&next(&mut source).await.body).expect("JSON");
    assert_eq!(body["msg"]["messages"], json!([lines[0]["id"]]));
}

#[test]
fn over_rabbitmq_the_broker_has_it_and_who_waits_has_a_queue_of_its_own() {
    let scratch = Scratch::new("confirm");
    let broker = RabbitMq::start(scratch.path());
    write_handler(scratch.path());
    fs::write(
        scratch.path().join("ours.toml"),
        amqp_peers::configuration(&broker, REACTOR, Some("reactor"), amqp_peers::PREFIX),
    )
    .expect("written");
    let bus = "version: 1\nbus:\n  b: { amqp: { config: ours.toml }, trust: { broker: accept, unlisted: accept }, confirm: true }\n";
    fs::write(scratch.path().join("rules.yaml"), format!("{bus}{RULES}")).expect("written");
    let _daemon = Daemon::start(scratch.path(), &["run", "rules.yaml"]);
    wait_until("the queue is read", LONG, || broker.queue("reactor").is_some_and(|queue| queue.consumers == 1));
    let publish = |user: &str| {
        let body = json!({"user": user}).to_string();
        let args =
            ["--format", "json", "publish", "--bus", "b", "--site", "rules.yaml", "--wait", "user.update", &body];
        said(&reactor_output(scratch.path(), &args))
    };
    let (code, lines, stderr) = publish("ralph");
    assert_eq!((code, lines.len()), (Some(0), 2), "{stderr}{}", scratch.log());
    assert_eq!((&lines[1]["signer"], &lines[1]["msg"]["messages"]), (&json!("broker"), &json!([lines[0]["id"]])));
    let topic = format!("{}.reactor.reaction.done", amqp_peers::PREFIX);
    assert_eq!(lines[1]["topic"], json!(topic));
    let (code, lines, stderr) = publish("bad");
    assert_eq!((code, &lines[1]["msg"]["state"]), (Some(1), &json!("failed")), "{stderr}");
    let all = reactor_json(scratch.path(), &["list"]);
    assert_eq!(all.len(), 2, "what it publishes leads to nothing here: {all:?}");
}
