//! `reactor reconcile`, and a built-in handler from `check` to `apply`: with real files, as child processes of the daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use reactor_tests::daemon::{Daemon, reactor_json, reactor_output};
use reactor_tests::{Scratch, wait_until};
use serde_json::Value;

const SOON: Duration = reactor_tests::PATIENCE;
const MAIL_ALIAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/examples/mail-alias");

/// A site whose handler keeps one alias, with these rules. Its `every` is a day: after the start only a person makes it due.
fn aliases(name: &str, rules: &str) -> Scratch {
    let scratch = Scratch::new(name);
    let dir = scratch.path();
    let site = format!(
        "version: 1\nbus: {{ b: {{ fedmsg: ['tcp://127.0.0.1:9'] }} }}\nhandlers:\n  mail-map: {{ exec: {MAIL_ALIAS}, \
         env: {{ ALIASES: ./aliases }} }}\n  other: {{ exec: {MAIL_ALIAS} }}\nrules:\n{rules}"
    );
    fs::write(dir.join("rules.yaml"), site).expect("the site");
    fs::write(dir.join("aliases"), "root: admin@example.org\n").expect("the target");
    scratch
}

const NIGHTLY: &str = "  - name: nightly
    on: { every: 1d }
    do: mail-map
    with: { user: ralph, address: ralph@example.org }
";

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn start(dir: &Path) -> Daemon {
    let daemon = Daemon::start(dir, &["run", "rules.yaml"]);
    wait_until("the daemon answers", SOON, || reactor_output(dir, &["status"]).status.code() == Some(0));
    daemon
}

/// All reactions, the newest first.
fn states(dir: &Path) -> Vec<String> {
    let text = |row: Value| row["state"].as_str().expect("a state").to_owned();
    reactor_json(dir, &["list"]).into_iter().map(text).collect()
}

#[test]
fn without_apply_drift_is_shown_and_nothing_is_changed() {
    let scratch = aliases("reconcile-look", NIGHTLY);
    let dir = scratch.path();
    let look = || reactor_output(dir, &["reconcile", "mail-map", "rules.yaml"]);
    let output = look();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("+ alias ralph: ralph@example.org\n  1 change: 1 to create; it would be applied"));
    assert_eq!(fs::read_to_string(dir.join("aliases")).unwrap(), "root: admin@example.org\n");
    fs::write(dir.join("aliases"), "ralph: ralph@example.org\n").unwrap();
    let output = look();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("nothing to do: it is true already"));
    fs::remove_file(dir.join("aliases")).unwrap();
    fs::create_dir(dir.join("aliases")).unwrap();
    assert_eq!(look().status.code(), Some(1), "what can't be read is not in order");
}

#[test]
fn what_can_not_be_reconciled_says_what_to_write() {
    let scratch = aliases("reconcile-none", NIGHTLY);
    let dir = scratch.path();
    let output = reactor_output(dir, &["reconcile", "other", "rules.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    let hint = "hint: add to `rules:`\n  - name: other as they should be\n    on: { every: 6h }\n    do: other\n";
    assert!(said(&output).contains(hint) && said(&output).contains("`user` must be given"), "{}", said(&output));
    let output = reactor_output(dir, &["reconcile", "nosuch", "rules.yaml"]);
    assert!(said(&output).contains("no handler `nosuch`") && said(&output).contains("mail-map, other"));
    let output = reactor_output(dir, &["reconcile", "mail-map", "--apply"]);
    assert!(output.status.code() == Some(1) && said(&output).contains("no daemon answers"), "{}", said(&output));
    let _daemon = start(dir);
    let output = reactor_output(dir, &["reconcile", "other", "--apply"]);
    assert!(output.status.code() == Some(1) && said(&output).contains(hint), "{}", said(&output));
}

#[test]
fn with_apply_the_daemon_mends_it_by_its_own_rule_and_the_journal_knows() {
    let scratch = aliases("reconcile-mend", NIGHTLY);
    let dir = scratch.path();
    let _daemon = start(dir);
    wait_until("the first reconcile", SOON, || states(dir) == ["done"]);
    let mend = || reactor_output(dir, &["reconcile", "mail-map", "--apply"]);
    let output = mend();
    assert!(output.status.success() && said(&output).contains("nothing to do"), "{}", said(&output));
    fs::write(dir.join("aliases"), "ralph: wrong@example.org\n").unwrap();
    let output = mend();
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("~ alias ralph: wrong@example.org → ralph@example.org\n  done"),
        "{}",
        said(&output)
    );
    assert_eq!(fs::read_to_string(dir.join("aliases")).unwrap(), "ralph: ralph@example.org\n");
    assert_eq!(states(dir), ["done", "done", "done"]);
    let id = reactor_json(dir, &["list"])[0]["id"].as_str().unwrap().to_owned();
    assert!(said(&output).contains(&format!("reactor show {id}")));
    assert!(said(&reactor_output(dir, &["show", &id])).contains("asked     for by "));
}

#[test]
fn what_the_guard_holds_is_no_success_and_asking_again_finds_the_same_one() {
    let scratch = aliases("reconcile-held", &format!("{NIGHTLY}    guard: {{ changes: 0 }}\n"));
    let dir = scratch.path();
    let _daemon = start(dir);
    wait_until("the first reconcile", SOON, || states(dir) == ["held"]);
    for _ in 0..2 {
        let output = reactor_output(dir, &["reconcile", "mail-map", "--apply"]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains("is held already") && said(&output).contains("reactor approve"));
    }
    assert_eq!(states(dir), ["held"]);
    assert_eq!(fs::read_to_string(dir.join("aliases")).unwrap(), "root: admin@example.org\n");
}

/// Two hosts; the second is up once there is a file `up`.
const TWO_HOSTS: &str = r#"#!/bin/bash
cd "$DIR" || exit 75
[[ $1 == describe ]] && { echo '{"describe":{"reactor":1,"name":"h","params":{"hosts":"[name]?"}}}'; exit; }
for host in h1 h2; do
  [[ -e done.$host ]] && continue
  if [[ $1 == apply && $host == h2 && ! -e up ]]; then
    echo '{"later":{"key":"host h2","with":{"hosts":["h2"]},"why":"h2: connection refused","target":"h2"}}'
    continue
  fi
  [[ $1 == apply ]] && touch "done.$host"
  echo '{"change":{"action":"create","target":"'$host'"}}'
done
"#;

#[test]
fn a_part_that_is_left_for_later_is_told_and_is_no_success() {
    let scratch = Scratch::new("reconcile-part");
    let dir = scratch.path();
    fs::write(dir.join("h"), TWO_HOSTS).expect("the handler");
    fs::set_permissions(dir.join("h"), fs::Permissions::from_mode(0o755)).expect("executable");
    let site = "version: 1\nbus: { b: { fedmsg: ['tcp://127.0.0.1:9'] } }\nhandlers: { hosts: { exec: ./h, env: { DIR: ./ } } }\n\
                rules: [{ name: nightly, on: { every: 1d }, do: hosts, retry: { wait: 1s, up_to: 1s } }]\n";
    fs::write(dir.join("rules.yaml"), site).expect("the site");
    fs::write(dir.join("up"), "").unwrap();
    let _daemon = start(dir);
    wait_until("the first reconcile", SOON, || states(dir) == ["done"]);
    for file in ["up", "done.h1", "done.h2"] {
        fs::remove_file(dir.join(file)).unwrap();
    }
    let output = reactor_output(dir, &["reconcile", "hosts", "--apply"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("not done yet: [host h2] is waiting"), "{}", said(&output));
    assert!(dir.join("done.h1").exists());
    fs::write(dir.join("up"), "").unwrap();
    wait_until("the part is done", SOON, || states(dir) == ["done", "done", "done"]);
    let output = reactor_output(dir, &["reconcile", "hosts", "--apply"]);
    assert!(output.status.success() && dir.join("done.h2").exists(), "{}", said(&output));
}

/// A site with the built-in handler ssh-keys over a directory of this machine.
fn keys(name: &str, more: &str) -> Scratch {
    let scratch = Scratch::new(name);
    let dir = scratch.path();
    let site = format!(
        "version: 1
bus: {{ b: {{ fedmsg: ['tcp://127.0.0.1:9'] }} }}
handlers:
  hosts:
    use: ssh-keys
    accounts: {{ yaml: ./accounts.yaml }}
    hosts: {{ groups: {{ here: {{ hosts: [here], local: true, keys: ./keys/%u, access: [admins] }} }} }}
    {more}
rules:
  - {{ name: all of them, on: {{ every: 1d }}, do: hosts }}
"
    );
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEwIAHATUffUxCcPI16Y1khwOBhz+JRdUIV8fbxvUZ1n ralph@laptop";
    let accounts = format!("users: {{ ralph: {{ keys: [\"{key}\"] }} }}\ngroups: {{ admins: [ralph] }}\n");
    fs::write(dir.join("rules.yaml"), site).expect("the site");
    fs::write(dir.join("accounts.yaml"), accounts).expect("the accounts");
    fs::create_dir(dir.join("keys")).expect("the target");
    scratch
}

#[test]
fn a_built_in_handler_is_checked_reconciled_and_run_like_any_other() {
    let scratch = keys("built-in", "");
    let dir = scratch.path();
    let output = reactor_output(dir, &["check", "rules.yaml"]);
    assert!(output.status.success(), "{}", said(&output));
    let output = reactor_output(dir, &["reconcile", "ssh-keys", "rules.yaml"]);
    assert!(output.status.code() == Some(1) && said(&output).contains("+ here: ralph"), "{}", said(&output));
    assert_eq!(fs::read_dir(dir.join("keys")).unwrap().count(), 0, "a plan writes nothing");
    let _daemon = start(dir);
    wait_until("the first reconcile", SOON, || states(dir) == ["done"]);
    assert!(fs::read_to_string(dir.join("keys/ralph")).unwrap().contains("ralph@laptop\n"));
    let output = reactor_output(dir, &["reconcile", "ssh-keys", "rules.yaml"]);
    assert!(output.status.success(), "{}", said(&output));
    fs::remove_file(dir.join("keys/ralph")).unwrap();
    let output = reactor_output(dir, &["reconcile", "ssh-keys", "--apply"]);
    assert!(output.status.success() && dir.join("keys/ralph").exists(), "{}", said(&output));
}

#[test]
fn a_built_in_handler_keeps_the_contract_with_the_settings_of_its_site() {
    let scratch = keys("built-in-contract", "");
    let dir = scratch.path();
    let test = ["handler", "test", "--site", "rules.yaml", "hosts", "--with", "user=ralph", "--watch", "keys"];
    let output = reactor_output(dir, &test);
    assert!(output.status.success(), "{}", said(&output));
    for step in ["ok   apply does what the plan said: 1 done", "ok   after apply, the plan is empty"] {
        assert!(said(&output).contains(step), "{}", said(&output));
    }
}

#[test]
fn a_wrong_word_in_the_settings_of_a_built_in_handler_is_found_by_check() {
    let scratch = keys("built-in-wrong", "blok: x");
    let output = reactor_output(scratch.path(), &["check", "rules.yaml"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("`blok`") && said(&output).contains("--> rules.yaml:8:5"), "{}", said(&output));
}
