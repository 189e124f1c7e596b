//! `kill -9` at random moments under load: every message's effect is there exactly once, the journal agrees, none is stuck.
//!
//! The handler (tests/peers/append) appends a line to a file: whatever ran twice, or raced with its own repetition, would be
//! there twice. 200 kills in CI; `make soak` does 2,000 (`REACTOR_KILLS`).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use reactor_tests::process::{Child, command};
use reactor_tests::{Daemon, PATIENCE, Scratch, random_below, reactor_json};

/// Lanes that the messages are spread over; each has its own file.
const LANES: usize = 12;
/// Longest life of a daemon before it is killed, in milliseconds.
const LIFE_MS_MAX: u64 = 120;
/// Messages for each kill: about what a daemon gets done in its life.
const MESSAGES_PER_KILL: usize = 6;
/// What is left after the last kill must be done by then, in seconds.
const REST_SECONDS_MAX: u64 = 300;

#[test]
fn after_kill_9_at_many_random_moments_each_effect_is_there_exactly_once() {
    let kills: usize = std::env::var("REACTOR_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let scratch = Scratch::new("kill");
    let messages = kills * MESSAGES_PER_KILL;
    write_site(scratch.path());
    write_messages(scratch.path(), messages);

    let began = Instant::now();
    let mut killed_at_work = 0;
    for n in 0..kills {
        let mut daemon = start(scratch.path());
        // Not a hope that something happens meanwhile: the moment of death is what is varied here.
        std::thread::sleep(Duration::from_millis(random_below(LIFE_MS_MAX)));
        if !daemon.has_ended() {
            killed_at_work += 1;
        }
        daemon.kill_9();
        if n % 50 == 49 {
            println!(
                "{} kills, {} lines written, {:?}",
                n + 1,
                count_lines(scratch.path()).values().sum::<usize>(),
                began.elapsed()
            );
        }
    }
    assert!(
        killed_at_work * 10 >= kills * 9,
        "only {killed_at_work} of {kills} kills hit a daemon at work: give it more to do"
    );

    let ended = start(scratch.path()).wait(Duration::from_secs(REST_SECONDS_MAX));
    assert!(ended.is_some_and(|status| status.success()), "the last daemon did not get through: {}", scratch.log());

    let lines = count_lines(scratch.path());
    let twice: Vec<_> = lines.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "there more than once: {twice:?}");
    assert_eq!(lines.len(), messages, "effects that are missing");
    let rows = reactor_json(scratch.path(), &["list", "--at-most", "0"]);
    assert_eq!(rows.len(), messages, "reactions in the journal");
    assert!(rows.iter().all(|row| row["state"] == "done"), "{:?}", rows.iter().find(|row| row["state"] != "done"));
    println!(
        "{kills} kills, {killed_at_work} of them at work; {messages} effects, each exactly once, in {:?}",
        began.elapsed()
    );
}

fn start(dir: &Path) -> Daemon {
    Daemon::start(dir, &["run", "rules.yaml", "--from", "messages.jsonl"])
}

fn write_site(dir: &Path) {
    let append = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/append");
    let site = format!(
        "version: 1
handlers:
  append: {{ exec: {append}, env: {{ FILE: {file} }}, at_once: 4 }}
rules:
  - name: append
    on: org.example.append
    key: \"{{{{msg.lane}}}}\"
    do: append
    with: {{ line: \"{{{{msg.line}}}}\" }}
    retry: {{ times: 20, wait: 100ms, up_to: 1s }}
",
        file = dir.join("effects").display()
    );
    std::fs::write(dir.join("rules.yaml"), site).expect("the site");
    // To the handler a file that is not there is unknown, not empty.
    std::fs::write(dir.join("effects"), "").expect("the target");
}

fn write_messages(dir: &Path, messages: usize) {
    let mut text = String::new();
    for n in 0..messages {
        let lane = n % LANES;
        writeln!(
            text,
            r#"{{"topic":"org.example.append","msg_id":"2026-{n}","timestamp":1795227187,"msg":{{"lane":"lane{lane}","line":"line-{n}"}}}}"#
        )
        .expect("a line");
    }
    std::fs::write(dir.join("messages.jsonl"), text).expect("the messages");
}

/// How often each line is there.
fn count_lines(dir: &Path) -> HashMap<String, usize> {
    let text = std::fs::read_to_string(dir.join("effects")).unwrap_or_default();
    let mut lines = HashMap::new();
    for line in text.lines() {
        *lines.entry(line.to_owned()).or_default() += 1;
    }
    lines
}

/// Of several nodes, each daemon has a warden beside it.
#[test]
fn a_warden_ends_what_its_daemon_left_also_where_the_lock_is_not_free_at_once() {
    let scratch = Scratch::new("kill-warden");
    let state = scratch.path().canonicalize().expect("the state directory");
    // As what the dead daemon had forked and not yet executed.
    let lock = File::create(state.join("lock")).expect("the lock");
    lock.try_lock().expect("nobody else has it");
    let mut left = Child::start(command("sleep").arg("600").env("REACTOR_STATE", &state));
    let mut line = command(reactor_tests::daemon::program());
    // It is not its parent: there is no daemon to end.
    line.arg("--state").arg(&state).args(["warden", "--daemon", "1"]).stdin(Stdio::piped());
    let mut warden = Child::start(&mut line);
    let mut stdin = warden.inner.stdin.take().expect("its stdin");
    writeln!(stdin, "watch 4102444800000").expect("it listens");
    drop(stdin);
    // One that does not wait has ended by then on most machines; here that proves it, and nothing is lost where it is slower.
    let early = warden.wait(Duration::from_millis(500));
    lock.unlock().expect("unlocked");
    assert!(early.is_none(), "it did not wait for the lock");
    assert!(warden.wait(PATIENCE).is_some_and(|status| status.success()), "the warden ends well");
    assert!(left.wait(PATIENCE).is_some(), "what was left is ended");
}
