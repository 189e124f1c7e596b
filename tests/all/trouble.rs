//! The daemon at three in the morning: a journal that can't be written, handlers that break, clients that misbehave.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use reactor_tests::daemon::reactor_output;
use reactor_tests::{Scratch, wait_until};
use rusqlite::Connection;
use serde_json::json;

use crate::running::{SOON, Stage, applied, handler, plain, site};

/// Keeps every other program from writing to the stage's journal, as a full disk would.
fn occupied(stage: &Stage) -> Connection {
    let journal = Connection::open(stage.dir().join("state/journal.db")).expect("the journal");
    journal.busy_timeout(SOON).expect("an option");
    journal.execute_batch("BEGIN IMMEDIATE").expect("the journal's lock");
    journal
}

#[test]
fn while_the_journal_can_not_be_written_nothing_starts_and_then_it_goes_on_by_itself() {
    let mut stage = Stage::new("no-journal", plain, "");
    let occupier = occupied(&stage);
    stage.user("ralph");
    wait_until("the log says so", SOON, || stage.scratch.log().contains("nothing is acknowledged"));
    let (_, text) = stage.say_to_daemon(&["status"]);
    assert!(text.contains("locked") && text.contains("nothing is started"), "{text}");
    assert_eq!(applied(stage.dir()).len(), 0);
    drop(occupier);
    stage.until("done", 1);
    assert_eq!(applied(stage.dir()), ["ralph"]);
    assert!(stage.scratch.log().contains("can be written again"), "{}", stage.scratch.log());
}

#[test]
fn a_daemon_that_waits_for_its_journal_can_be_told_to_stop() {
    let mut stage = Stage::new("stop-no-journal", plain, "");
    let occupier = occupied(&stage);
    stage.user("ralph");
    wait_until("the log says so", SOON, || stage.scratch.log().contains("nothing is acknowledged"));
    let daemon = stage.daemon.take().expect("a daemon");
    daemon.terminate();
    let status = daemon.wait(SOON).expect("it ends");
    drop(occupier);
    assert_eq!(status.code(), Some(1), "{}", stage.scratch.log());
    assert_eq!(stage.rows().len(), 0, "nothing was half done");
}

#[test]
fn a_serving_handler_that_dies_in_the_middle_is_started_again_and_the_reaction_is_done() {
    let dying = |dir: &Path| {
        let once = dir.join("died-once").display().to_string();
        format!(
            r#"#!/usr/bin/python3
import json, os, sys
if sys.argv[1] == "describe":
    print(json.dumps({{"describe": {{"reactor": 1, "name": "h", "params": {{"user": "name"}}, "serve": True}}}}))
    sys.exit(0)
for line in sys.stdin:
    request = json.loads(line)
    if "verb" not in request:
        continue
    print(json.dumps({{"id": request["id"], "change": {{"action": "update", "target": "x"}}}}), flush=True)
    if request["verb"] == "apply" and not os.path.exists("{once}"):
        open("{once}", "w").close()
        os._exit(3)
    print(json.dumps({{"id": request["id"], "end": 0}}), flush=True)
"#
        )
    };
    let mut stage = Stage::new("serve-dies", dying, "retry: { times: 20, wait: 50ms, up_to: 200ms }");
    stage.user("ralph");
    stage.until("done", 1);
    assert!(stage.dir().join("died-once").exists());
    let (_, story) = stage.say_to_daemon(&["show", stage.rows()[0]["id"].as_str().expect("an id")]);
    assert!(story.contains("retry"), "{story}");
}

#[test]
fn a_program_that_is_missing_for_a_moment_costs_no_reaction() {
    let mut stage = Stage::new("replaced", plain, "retry: { times: 100, wait: 50ms, up_to: 100ms }");
    let (here, away) = (stage.dir().join("h"), stage.dir().join("away"));
    fs::rename(&here, &away).expect("moved away");
    stage.user("ralph");
    wait_until("it is tried", SOON, || stage.scratch.log().contains("can't start"));
    fs::rename(&away, &here).expect("moved back");
    stage.until("done", 1);
}

#[test]
fn who_asks_nonsense_or_nothing_keeps_nobody_else_from_an_answer() {
    let stage = Stage::new("asked", plain, "");
    let socket = stage.dir().join("state/control.sock");
    wait_until("it can be asked", SOON, || stage.say_to_daemon(&["status"]).0);
    assert_eq!(fs::metadata(&socket).expect("a socket").permissions().mode() & 0o777, 0o600);
    let idle: Vec<UnixStream> = (0..200).map(|_| UnixStream::connect(&socket).expect("connected")).collect();
    for nonsense in [b"nonsense\n".as_slice(), b"\xff\xfe\n", &[b'x'; 100_000]] {
        let mut stream = UnixStream::connect(&socket).expect("connected");
        // It may have heard enough before all is said.
        let _ = stream.write_all(nonsense);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.is_empty() || answer.contains("not a question"), "{answer}");
    }
    assert!(stage.say_to_daemon(&["status"]).0);
    drop(idle);
}

#[test]
fn what_a_killed_daemon_left_of_secrets_and_working_directories_is_gone_when_the_next_is_ready() {
    let slow = |dir: &Path| {
        let begun = dir.join("begun").display().to_string();
        handler("echo \"$change\"", &format!("echo $REACTOR_SECRETS > {begun}.new; mv {begun}.new {begun}; sleep 600"))
    };
    let mut stage = Stage::new("secrets", slow, "timeout: 10m");
    let rules = stage.dir().join("rules.yaml");
    fs::write(stage.dir().join("token"), "hunter2").expect("a secret");
    fs::set_permissions(stage.dir().join("token"), fs::Permissions::from_mode(0o600)).expect("private");
    let text = fs::read_to_string(&rules).expect("the site");
    fs::write(&rules, text.replace("exec: ./h", "exec: ./h, secrets: { token: { file: ./token, } }")).expect("changed");
    let (fine, said) = stage.say_to_daemon(&["reload"]);
    assert!(fine, "{said}");
    stage.user("ralph");
    wait_until("the apply has begun", SOON, || stage.dir().join("begun").exists());
    stage.kill_9();
    let work = stage.dir().join("state/work");
    let left = |dir: &Path| fs::read_dir(dir).expect("a directory").filter_map(Result::ok).map(|e| e.path());
    let old: Vec<_> = left(&work).collect();
    let secrets = fs::read_to_string(stage.dir().join("begun")).expect("where its secrets are");
    let secret = Path::new(secrets.trim()).join("token");
    assert!(!old.is_empty() && secret.exists(), "the killed daemon could remove nothing");
    stage.start();
    assert!(old.iter().all(|dir| !dir.exists()), "{old:?}");
    assert!(!secret.parent().is_some_and(Path::exists), "{}", secret.display());
}

#[test]
fn messages_that_can_not_be_read_are_no_quiet_success() {
    let scratch = Scratch::new("from");
    fs::write(scratch.path().join("h"), plain(scratch.path())).expect("the handler");
    fs::set_permissions(scratch.path().join("h"), fs::Permissions::from_mode(0o755)).expect("executable");
    fs::write(scratch.path().join("rules.yaml"), site(1, "")).expect("the site");
    fs::create_dir(scratch.path().join("messages")).expect("a directory");
    let output = reactor_output(scratch.path(), &["run", "rules.yaml", "--from", "messages"]);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let odd =
        [b"\xff\xfe{\n".as_slice(), b"{\"topic\":\"org.example.user\"\n", &vec![b'x'; 3 * 1024 * 1024], b"\n"].concat();
    let good = json!({"topic": "org.example.user", "msg": {"user": "ralph"}, "msg_id": "1"}).to_string();
    fs::write(scratch.path().join("odd"), [odd, good.into_bytes()].concat()).expect("messages");
    let output = reactor_output(scratch.path(), &["run", "rules.yaml", "--from", "odd"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(applied(scratch.path()), ["ralph"], "the good one after them is done");
}
