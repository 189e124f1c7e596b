//! The whole way with nothing pretended: the real Python fedmsg signs and publishes, the real fedmsg-relay passes it on, the
//! daemon believes it, and a handler in bash changes a file. With kill -9 in the middle.

use std::path::Path;
use std::time::Duration;

use reactor_tests::daemon::reactor_output;
use reactor_tests::peers::{PREFIX, Publisher, PythonPeers};
use reactor_tests::pki::{Pki, SIGNER};
use reactor_tests::{Daemon, Scratch, free_port, reactor_json, wait_until};
use serde_json::{Value, json};

const LONG: Duration = reactor_tests::PATIENCE;
/// Users whose address changes.
const USERS: usize = 60;
/// How many of them are done when the daemon is killed.
const DONE_BEFORE_KILL: usize = 10;

fn write_site(dir: &Path, port: u16, pki: &Pki) {
    let mail_alias = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/examples/mail-alias");
    let site = format!(
        "version: 1
bus:
  fedora:
    fedmsg: ['tcp://127.0.0.1:{port}']
    trust:
      x509: {{ ca: {ca}, crl: {crl} }}
      policy: {{ '{PREFIX}.user.**': [{SIGNER}], '{PREFIX}.meet': [{SIGNER}] }}
handlers:
  mail-map: {{ exec: {mail_alias}, env: {{ ALIASES: ./aliases }} }}
rules:
  - name: met
    on: {PREFIX}.meet
    do: mail-map
    mode: plan
    with: {{ user: met, address: met@example.org }}
  - name: address changed
    on: {PREFIX}.user.update
    key: '{{{{msg.user}}}}'
    do: mail-map
    with: {{ user: '{{{{msg.user}}}}', address: '{{{{msg.address}}}}' }}
",
        ca = pki.file("ca.crt").display(),
        crl = pki.file("crl.pem").display(),
    );
    std::fs::write(dir.join("rules.yaml"), site).expect("the site");
    std::fs::write(dir.join("aliases"), "root: admin@example.org\n").expect("the target");
}

fn done(dir: &Path, rule: &str) -> Vec<Value> {
    let output = reactor_output(dir, &["list", "--at-most", "0", "--rule", rule, "--format", "json"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    rows.filter(|row| row["state"] == "done" || row["state"] == "planned").collect()
}

/// What is published before the other side listens is lost: says something until it is heard.
fn meet(publisher: &mut Publisher, dir: &Path, scratch: &Scratch) {
    let before = done(dir, "met").len();
    let mut tries = 0;
    while done(dir, "met").len() == before {
        tries += 1;
        assert!(tries < 300, "publisher and daemon do not meet: {}", scratch.log());
        publisher.publish("meet", &json!({"try": tries}));
    }
}

#[test]
fn a_real_signed_message_through_a_real_relay_changes_a_file_and_kill_9_loses_nothing() {
    let (scratch, inbound, outbound) = (Scratch::new("whole"), free_port(), free_port());
    let dir = scratch.path();
    let (pki, peers) = (Pki::new(dir), PythonPeers::find());
    write_site(dir, outbound, &pki);
    let _relay = peers.relay(dir, inbound, outbound);
    let mut publisher = peers.active_publisher(dir, inbound, &pki);
    let mut daemon = Daemon::start(dir, &["run", "rules.yaml"]);
    meet(&mut publisher, dir, &scratch);

    for n in 0..USERS {
        publisher
            .publish("user.update", &json!({"user": format!("user{n}"), "address": format!("user{n}@example.org")}));
    }
    // Only what is in the journal survives a kill: the bus keeps nothing.
    wait_until("all messages are journaled", LONG, || {
        let output = reactor_output(dir, &["list", "--at-most", "0", "--rule", "address changed", "--format", "json"]);
        let rows = String::from_utf8_lossy(&output.stdout).lines().count();
        rows == USERS || done(dir, "address changed").len() >= USERS
    });
    wait_until("some are done", LONG, || done(dir, "address changed").len() >= DONE_BEFORE_KILL);
    daemon.kill_9();
    let daemon = Daemon::start(dir, &["run", "rules.yaml"]);
    wait_until("the rest is done", LONG, || done(dir, "address changed").len() == USERS);

    let aliases = std::fs::read_to_string(dir.join("aliases")).expect("the target");
    for n in 0..USERS {
        let line = format!("user{n}: user{n}@example.org");
        assert_eq!(aliases.lines().filter(|at| **at == line).count(), 1, "{line}\n{aliases}");
    }
    assert_eq!(aliases.lines().count(), USERS + 1, "{aliases}");

    // Every change can be traced to the signed message that led to it.
    let id = done(dir, "address changed")[0]["id"].as_str().expect("an id").to_owned();
    let story = reactor_json(dir, &["show", &id]).remove(0);
    assert_eq!((&story["messages"][0]["signer"], &story["messages"][0]["bus"]), (&json!(SIGNER), &json!("fedora")));
    daemon.terminate();
    assert!(daemon.wait(LONG).is_some_and(|status| status.success()), "{}", scratch.log());
}
