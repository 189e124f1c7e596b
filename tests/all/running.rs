//! The daemon as a person runs it: reactions, holds, retries, pauses, reloads, a drain, and what a killed one leaves behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use reactor_tests::daemon::{Daemon, reactor_json, reactor_output};
use reactor_tests::{Scratch, free_port, wait_until};
use serde_json::{Value, json};

pub const SOON: Duration = reactor_tests::PATIENCE;

/// A scratch site with a bus of its own, a handler written for the test, and a daemon.
pub struct Stage {
    pub scratch: Scratch,
    socket: zmq::Socket,
    pub daemon: Option<Daemon>,
    sent: u64,
}

/// A handler in bash: describes itself, then does what the test says in plan and apply. `$user` is the parameter.
pub fn handler(plan: &str, apply: &str) -> String {
    format!(
        r#"#!/bin/bash
set -u
case $1 in describe)
  echo '{{"describe":{{"reactor":1,"name":"h","params":{{"user":"name"}}}}}}'; exit 0;;
esac
request=$(cat)
[[ $request =~ \"user\":\"([^\"]*)\" ]]; user=${{BASH_REMATCH[1]}}
change='{{"change":{{"action":"delete","target":"access of '$user'"}}}}'
case $1 in
plan) {plan} ;;
apply) {apply} ;;
esac
"#
    )
}

/// Deletes nothing but says so, and notes each apply in the file `applied`.
pub fn plain(dir: &Path) -> String {
    let applied = dir.join("applied");
    let (done, note) =
        (format!("grep -qx \"$user\" {0} 2>/dev/null || echo \"$change\"", applied.display()), applied.display());
    handler(&done, &format!("echo \"$user\" >> {note}; echo \"$change\""))
}

impl Stage {
    pub fn new(name: &str, write_handler: impl Fn(&Path) -> String, rule: &str) -> Self {
        let scratch = Scratch::new(name);
        let dir = scratch.path();
        fs::write(dir.join("h"), write_handler(dir)).expect("the handler");
        fs::set_permissions(dir.join("h"), fs::Permissions::from_mode(0o755)).expect("executable");
        let port = free_port();
        fs::write(dir.join("rules.yaml"), site(port, rule)).expect("the site");
        let socket = zmq::Context::new().socket(zmq::XPUB).expect("a socket");
        socket.set_xpub_verbose(true).expect("an option");
        socket.set_rcvtimeo(20_000).expect("an option");
        socket.bind(&format!("tcp://127.0.0.1:{port}")).expect("bound");
        let mut stage = Self { scratch, socket, daemon: None, sent: 0 };
        stage.start();
        stage
    }

    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    pub fn start(&mut self) {
        self.daemon = Some(Daemon::start(self.dir(), &["run", "rules.yaml"]));
        // XPUB is told of each subscription: no message is sent before anyone listens.
        loop {
            let told = self
                .socket
                .recv_bytes(0)
                .unwrap_or_else(|_| panic!("the daemon does not subscribe: {}", self.scratch.log()));
            if told.first() == Some(&1) {
                return;
            }
        }
    }

    pub fn kill_9(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill_9();
        }
    }

    pub fn say(&mut self, topic: &str, msg: Value) {
        self.sent += 1;
        let body = json!({"topic": topic, "msg": msg, "msg_id": format!("2026-{}", self.sent), "timestamp": 1_795_227_187, "i": self.sent});
        self.socket.send_multipart([topic.as_bytes(), body.to_string().as_bytes()], 0).expect("sent");
    }

    pub fn user(&mut self, user: &str) {
        self.say("org.example.user", json!({"user": user}));
    }

    pub fn rows(&self) -> Vec<Value> {
        reactor_json(self.dir(), &["list"])
    }

    pub fn count(&self, state: &str) -> usize {
        self.rows().iter().filter(|row| row["state"] == state).count()
    }

    pub fn until(&self, state: &str, n: usize) {
        let mut seen = Vec::new();
        let mut holds = || {
            let output = reactor_output(self.dir(), &["list", "--format", "json"]);
            seen = String::from_utf8_lossy(&output.stdout)
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .collect();
            seen.iter().filter(|row| row["state"] == state).count() == n
        };
        let began = std::time::Instant::now();
        while !holds() {
            assert!(began.elapsed() < SOON, "no {n} reactions are {state}: {}", self.scratch.log());
            std::thread::yield_now();
        }
    }

    pub fn say_to_daemon(&self, args: &[&str]) -> (bool, String) {
        let output = reactor_output(self.dir(), args);
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    pub fn status(&self) -> Value {
        reactor_json(self.dir(), &["status"]).remove(0)
    }
}

pub fn site(port: u16, rule: &str) -> String {
    format!(
        "version: 1
bus:
  b: {{ fedmsg: ['tcp://127.0.0.1:{port}'], trust: {{ unsigned: accept, unlisted: accept }} }}
handlers:
  h: {{ exec: ./h }}
rules:
  - name: access taken
    why: whoever left must not get in
    on: org.example.user
    key: '{{{{msg.user}}}}'
    do: h
    with: {{ user: '{{{{msg.user}}}}' }}
    {rule}
"
    )
}

pub fn applied(dir: &Path) -> Vec<String> {
    fs::read_to_string(dir.join("applied")).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn a_message_becomes_a_change_and_its_story_can_be_read() {
    let mut stage = Stage::new("story", plain, "");
    stage.user("ralph");
    stage.until("done", 1);
    assert_eq!(applied(stage.dir()), ["ralph"]);
    let id = stage.rows()[0]["id"].as_str().expect("an id").to_owned();
    let (fine, text) = stage.say_to_daemon(&["show", &id[..24]]);
    assert!(fine, "{text}");
    for wanted in ["access taken", "2026-1", "signed by unsigned", "- access of ralph", "applying", "done"] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
    let status = stage.status();
    assert_eq!((status["lost_if_killed_now"].as_u64(), status["running"].as_u64()), (Some(0), Some(0)));
}

#[test]
fn too_large_a_plan_is_held_over_a_restart_until_a_person_approves() {
    let mut stage = Stage::new("held", plain, "guard: { deletes: 0 }");
    stage.user("ralph");
    stage.until("held", 1);
    stage.user("ralph");
    stage.until("waiting", 1);
    stage.kill_9();
    stage.start();
    wait_until("the daemon answers", SOON, || stage.say_to_daemon(&["status"]).0);
    let status = stage.status();
    assert_eq!((status["held"][0]["behind"].as_u64(), applied(stage.dir()).len()), (Some(1), 0));
    let id = status["held"][0]["id"].as_str().expect("an id").to_owned();
    let (fine, text) = stage.say_to_daemon(&["approve", &id]);
    assert!(fine && text.contains("approved"), "{text}");
    stage.until("done", 2);
    assert_eq!(applied(stage.dir()), ["ralph"], "the one behind it found nothing to do");
    let (fine, text) = stage.say_to_daemon(&["approve", &id]);
    assert!(!fine && text.contains("not held"), "{text}");
}

#[test]
fn what_a_handler_in_bash_holds_waits_for_a_person_who_is_told_why() {
    let held = |dir: &Path| {
        let applied = dir.join("applied");
        let line = r#"{"change":{"action":"update","target":"rpms/foo","after":"@all","hold":"everyone may write"}}"#;
        let plan = format!("[[ -e {} ]] || echo '{line}'", applied.display());
        handler(&plan, &format!("echo \"$user\" > {}; echo '{line}'", applied.display()))
    };
    let mut stage = Stage::new("hold", held, "");
    stage.user("ralph");
    stage.until("held", 1);
    let row = stage.rows().remove(0);
    assert_eq!(row["reason"], "rpms/foo: everyone may write");
    let id = row["id"].as_str().expect("an id");
    let (_, text) = stage.say_to_daemon(&["show", id]);
    assert!(text.contains("~ rpms/foo: @all\n    hold: everyone may write"), "{text}");
    assert!(stage.say_to_daemon(&["approve", id]).0);
    stage.until("done", 1);
    assert_eq!(applied(stage.dir()), ["ralph"]);
}

#[test]
fn a_failing_reaction_is_alone_and_can_be_retried_when_the_cause_is_mended() {
    let broken = |dir: &Path| {
        let mended = dir.join("mended");
        let plan = format!(
            "[[ $user != bad || -e {} ]] || {{ echo 'no such host' >&2; exit 75; }}; echo \"$change\"",
            mended.display()
        );
        handler(&plan, "echo \"$change\"")
    };
    let mut stage = Stage::new("failing", broken, "retry: { times: 2, wait: 20ms, up_to: 50ms }");
    stage.user("bad");
    for n in 0..5 {
        stage.user(&format!("good{n}"));
    }
    stage.until("done", 5);
    stage.until("failed", 1);
    let (_, text) = stage.say_to_daemon(&["list", "failed"]);
    assert!(text.contains("no such host"), "{text}");
    assert!(
        stage.scratch.log().contains("whoever left must not get in"),
        "`why` is in the log: {}",
        stage.scratch.log()
    );
    fs::write(stage.dir().join("mended"), "").expect("mended");
    let id = stage
        .rows()
        .iter()
        .find(|row| row["state"] == "failed")
        .and_then(|row| row["id"].as_str().map(str::to_owned))
        .expect("an id");
    let (fine, text) = stage.say_to_daemon(&["retry", &id]);
    assert!(fine, "{text}");
    stage.until("done", 6);
    let (fine, text) = stage.say_to_daemon(&["drop", &id]);
    assert!(!fine, "what is done can't be dropped: {text}");
}

#[test]
fn a_paused_rule_waits_and_forgets_nothing_over_a_restart() {
    let mut stage = Stage::new("paused", plain, "");
    let (fine, text) = stage.say_to_daemon(&["pause", "access taken"]);
    assert!(fine, "{text}");
    stage.user("ralph");
    stage.until("waiting", 1);
    stage.kill_9();
    stage.start();
    wait_until("the daemon answers", SOON, || stage.say_to_daemon(&["status"]).0);
    assert_eq!((stage.status()["paused"][0][0].as_str(), stage.count("waiting")), (Some("access taken"), 1));
    assert!(stage.say_to_daemon(&["resume", "access taken"]).0);
    stage.until("done", 1);
    let (fine, text) = stage.say_to_daemon(&["pause", "acces taken"]);
    assert!(!fine && text.contains("`access taken`"), "{text}");
}

#[test]
fn a_changed_file_is_read_again_and_a_broken_one_changes_nothing() {
    let mut stage = Stage::new("reload", plain, "");
    let path = stage.dir().join("rules.yaml");
    let good = fs::read_to_string(&path).expect("the site");
    fs::write(&path, good.replace("    on: ", "    onn: ")).expect("broken");
    let (fine, text) = stage.say_to_daemon(&["reload"]);
    assert!(!fine && text.contains("onn") && text.contains("did you mean"), "{text}");
    stage.user("ralph");
    stage.until("done", 1);
    fs::write(&path, good.replace("org.example.user", "org.example.person")).expect("changed");
    wait_until("the changed file is in force", SOON, || stage.scratch.log().contains("rules reloaded"));
    // The new subscription is known to the publisher a moment later: XPUB says so.
    let told = stage.socket.recv_bytes(0).expect("a subscription");
    assert_eq!(told.first(), Some(&1), "{told:?}");
    stage.say("org.example.person", json!({"user": "ada"}));
    stage.until("done", 2);
}

#[test]
fn told_to_stop_it_lets_what_runs_end_and_keeps_the_rest() {
    let slow = |dir: &Path| {
        let (begun, go) = (dir.join("begun"), dir.join("go"));
        let apply = format!(
            "echo >> {}; until [[ -e {} ]]; do read -t 0.05 < <(:) ; done; echo \"$change\"",
            begun.display(),
            go.display()
        );
        handler("echo \"$change\"", &apply)
    };
    let mut stage = Stage::new("drain", slow, "guard: { deletes: 1 }");
    stage.user("ralph");
    wait_until("the apply has begun", SOON, || stage.dir().join("begun").exists());
    stage.user("ralph");
    stage.until("waiting", 1);
    let daemon = stage.daemon.take().expect("a daemon");
    daemon.terminate();
    wait_until("it says that it is stopping", SOON, || stage.scratch.log().contains("stopping"));
    fs::write(stage.dir().join("go"), "").expect("go");
    assert!(daemon.wait(SOON).is_some_and(|status| status.success()), "{}", stage.scratch.log());
    assert_eq!((stage.count("done"), stage.count("waiting")), (1, 1));
}

#[test]
fn a_handler_that_a_killed_daemon_left_running_is_ended_before_its_repetition_starts() {
    let stubborn = |dir: &Path| {
        let (pids, go) = (dir.join("pids"), dir.join("go"));
        // The first one would apply for ever; it also starts a child in another session.
        let apply = format!(
            "if [[ ! -e {pids} ]]; then setsid sleep 600 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; sleep 600; fi; \
             for pid in $(cat {pids}); do state=$(cut -d' ' -f3 /proc/$pid/stat 2>/dev/null); [[ -z $state || $state == Z ]] || echo $pid > {go}; done; echo \"$change\"",
            pids = pids.display(),
            go = go.display()
        );
        handler("echo \"$change\"", &apply)
    };
    let mut stage = Stage::new("leftover", stubborn, "");
    stage.user("ralph");
    wait_until("the apply has begun", SOON, || stage.dir().join("pids").exists());
    stage.kill_9();
    stage.start();
    stage.until("done", 1);
    assert!(
        !stage.dir().join("go").exists(),
        "process {} ran beside its repetition",
        fs::read_to_string(stage.dir().join("go")).unwrap_or_default()
    );
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let stage = Stage::new("second", plain, "");
    let (fine, text) = stage.say_to_daemon(&["run", "rules.yaml"]);
    assert!(!fine && text.contains("hint:"), "{text}");
}

#[test]
fn what_is_on_the_bus_but_no_message_is_refused_and_kept_for_a_look() {
    let mut stage = Stage::new("refused", plain, "");
    stage.socket.send_multipart([b"org.example.user".as_slice(), b"not json"], 0).expect("sent");
    stage
        .socket
        .send_multipart([b"org.example.user".as_slice(), br#"{"topic":"org.example.other","msg":{}}"#], 0)
        .expect("sent");
    stage.user("../../etc/x");
    stage.until("failed", 1);
    let reason = stage.rows()[0]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("user") && reason.contains("not a name"), "{reason}");
    let (_, text) = stage.say_to_daemon(&["list", "--refused"]);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert_eq!(stage.status()["refused"], 2);
}
