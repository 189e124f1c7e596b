//! A change goes to three hosts and one is down: the others are done at once, nobody waits for it, and what is left is done
//! when it is back, also when the daemon is killed in between.

use std::fs;
use std::path::Path;
use std::time::Duration;

use reactor_tests::{random_below, wait_until};
use serde_json::Value;

use crate::running::{SOON, Stage};

/// Times that the daemon is killed while one part is left.
const KILLS: usize = 5;
/// Longest life of a daemon before that, in milliseconds.
const LIFE_MS_MAX: u64 = 300;

/// Puts what the file `truth/USER` holds into `hosts/HOST/USER`. A host without its directory is down.
fn three_hosts(dir: &Path) -> String {
    fs::create_dir_all(dir.join("truth")).expect("a directory");
    for host in ["h1", "h2"] {
        fs::create_dir_all(dir.join("hosts").join(host)).expect("a directory");
    }
    let script = r#"#!/bin/bash
set -u
if [[ $1 == describe ]]; then
  echo '{"describe":{"reactor":1,"name":"h","params":{"user":"name","hosts":"[name]?"}}}'; exit 0
fi
IFS= read -r request
with=${request#*\"with\":\{} with=${with%%\}*}
[[ $with =~ \"user\":\"([^\"]*)\" ]]; user=${BASH_REMATCH[1]}
hosts='h1 h2 h3'; if [[ $with =~ \"hosts\":\[\"([^\"]*)\"\] ]]; then hosts=${BASH_REMATCH[1]}; fi
for host in $hosts; do
  there="DIR/hosts/$host"
  if [[ -d $there ]]; then
    if [[ $1 == plan ]]; then cmp -s "DIR/truth/$user" "$there/$user" && continue; fi
    if [[ $1 == apply ]]; then cp "DIR/truth/$user" "$there/.new" && mv "$there/.new" "$there/$user" || exit 75; fi
  elif [[ $1 == apply ]]; then
    echo '{"later":{"key":"host '$host'","with":{"user":"'$user'","hosts":["'$host'"]},"why":"'$host': is down","target":"'$host'"}}'
    continue
  else
    echo '{"note":"'$host' is down, what it has is not known"}'
  fi
  echo '{"change":{"action":"run","target":"'$host'"}}'
done
"#;
    script.replace("DIR", &dir.display().to_string())
}

fn wanted(stage: &Stage, user: &str, text: &str) {
    fs::write(stage.dir().join("truth").join(user), text).expect("the truth");
}

fn there(stage: &Stage, host: &str, user: &str) -> String {
    fs::read_to_string(stage.dir().join("hosts").join(host).join(user)).unwrap_or_default()
}

fn is_part(row: &Value) -> bool {
    row["parent"].is_string()
}

#[test]
fn one_host_that_is_down_holds_nobody_up_and_is_done_when_it_is_back() {
    let mut stage = Stage::new("later", three_hosts, "retry: { times: 1000, wait: 200ms, up_to: 200ms }");
    wanted(&stage, "ralph", "1");
    stage.user("ralph");
    stage.until("done", 1);
    assert_eq!((there(&stage, "h1", "ralph"), there(&stage, "h2", "ralph")), ("1".into(), "1".into()));
    let rows = stage.rows();
    let parent = rows.iter().find(|row| !is_part(row)).expect("the reaction to the message");
    let part = rows.iter().find(|row| is_part(row)).expect("what it left");
    let id = |row: &Value| row["id"].as_str().expect("an id").to_owned();
    assert_eq!(
        (&part["parent"], &part["key"], &part["part"]["hosts"][0]),
        (&parent["id"], &"host h3".into(), &"h3".into())
    );
    assert_eq!(parent["reason"], "1 of its parts goes on later");
    let (_, told) = stage.say_to_daemon(&["show", &id(parent)]);
    assert!(told.contains("[host h3] h3: is down; goes on as reaction") && told.contains("note "), "{told}");
    let (_, told) = stage.say_to_daemon(&["show", &id(part)]);
    assert!(told.contains(&format!("left over from reaction {}: h3: is down", id(parent))), "{told}");
    let (_, listed) = stage.say_to_daemon(&["list"]);
    assert!(listed.contains(&format!("left over from {}: {{", id(parent))), "{listed}");

    // The same key again: its lane is free.
    wanted(&stage, "ralph", "2");
    stage.user("ralph");
    wait_until("the others have it", SOON, || {
        there(&stage, "h1", "ralph") == "2" && there(&stage, "h2", "ralph") == "2"
    });
    wait_until("it is done", SOON, || {
        stage.rows().iter().filter(|row| !is_part(row)).all(|row| row["state"] == "done")
    });

    for _ in 0..KILLS {
        // Not a hope that something happens meanwhile: the moment of death is what is varied here.
        std::thread::sleep(Duration::from_millis(random_below(LIFE_MS_MAX)));
        stage.kill_9();
        stage.start();
    }
    let left: Vec<Value> = stage.rows().into_iter().filter(is_part).collect();
    // Two only if the first was just being tried when the second message left the same again.
    assert!((1..=2).contains(&left.len()) && left.iter().all(|row| row["state"] != "done"), "{left:?}");

    fs::create_dir(stage.dir().join("hosts/h3")).expect("h3 is back");
    wait_until("all is done", SOON, || stage.rows().iter().all(|row| row["state"] == "done"));
    assert_eq!(there(&stage, "h3", "ralph"), "2");
    let again: Vec<String> = stage.rows().iter().filter(|row| is_part(row)).map(id).collect();
    assert_eq!(again, left.iter().map(id).collect::<Vec<_>>(), "none was lost, none came twice");
}

#[test]
fn a_part_that_never_succeeds_is_a_dead_letter_that_can_be_sent_back() {
    let stage_rule = "retry: { times: 2, wait: 20ms, up_to: 20ms }";
    let mut stage = Stage::new("later-fails", three_hosts, stage_rule);
    wanted(&stage, "ralph", "1");
    stage.user("ralph");
    stage.until("failed", 1);
    let failed = stage.rows().into_iter().find(|row| row["state"] == "failed").expect("it");
    assert_eq!((is_part(&failed), &failed["reason"], &failed["attempts"]), (true, &"h3: is down".into(), &3.into()));
    fs::create_dir(stage.dir().join("hosts/h3")).expect("h3 is back");
    let (fine, said) = stage.say_to_daemon(&["retry", failed["id"].as_str().expect("an id")]);
    assert!(fine, "{said}");
    stage.until("done", 2);
    assert_eq!(there(&stage, "h3", "ralph"), "1");
}
