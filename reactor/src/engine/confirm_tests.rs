//! Which outcomes are to be published, and what they say.

use super::super::tests::{arrive, at, change, core_of, message};
use super::*;
use crate::engine::core::{Act, Core, Run};
use crate::rules::file;
use handler_api::{Failure, Plan};

const SITE: &str = r"
version: 1
bus:
  test:
    fedmsg: [tcp://127.0.0.1:1]
    trust: {x509: {ca: c}, unlisted: accept}
    publish: {bind: 'tcp://*:2', prefix: org.example, cert: c, key: k}
    confirm: true
handlers: {h: {exec: /bin/true}}
defaults: {retry: {times: 0, wait: 1s, up_to: 1s}, guard: {changes: 1, deletes: 1}}
rules:
  - {name: one, on: org.example.user, key: '{{msg.user}}', do: h}
  - {name: two, on: org.example.user, key: 'two-{{msg.user}}', do: h}
  - {name: quiet, on: org.example.*, key: q, do: h, confirm: false}
  - {name: echo, on: ['**.reactor.reaction.*', 'reactor.reaction.*'], key: e, do: h, confirm: true}
";

fn core() -> Core {
    let site = file::load_str("rules.yaml", SITE, std::path::Path::new("/")).expect("a good site");
    let mut core = core_of(SITE);
    core.confirms = Confirms::of(&site, None);
    core
}

fn said(turn: &Turn) -> Vec<Confirmation> {
    let of = |entry: &Entry| match entry {
        Entry::Setting { name, value: Some(value) } if name.starts_with(OUTBOX) => {
            let one: Confirmation = serde_json::from_str(value).expect("JSON");
            assert_eq!(*name, format!("{OUTBOX}{}", one.id));
            Some(one)
        }
        _ => None,
    };
    turn.entries.iter().filter_map(of).collect()
}

/// What begins with this message, by its rule's name.
fn runs(core: &mut Core, id: &str, topic: &str) -> BTreeMap<String, Run> {
    let mut turn = arrive(core, at(0), vec![message(id, topic, json!({"user": "ralph"}))]);
    core.start(at(0), 100, &mut turn);
    let plan = |act: Act| match act {
        Act::Plan(run) => Some((run.rule.name.to_string(), *run)),
        Act::Apply(..) => None,
    };
    turn.acts.into_iter().filter_map(plan).collect()
}

#[test]
fn an_outcome_names_its_causes_and_how_many_rules_confirm_them() {
    let mut core = core();
    let runs = runs(&mut core, "m1", "org.example.user");
    assert_eq!(runs.keys().collect::<Vec<_>>(), ["one", "quiet", "two"]);
    let mut turn = Turn::default();
    core.planned(at(1), runs["one"].clone(), Ok(Plan::default()), &mut turn);
    let one = said(&turn).remove(0);
    assert_eq!((one.bus.as_str(), one.topic.as_str(), turn.confirms), ("test", "reactor.reaction.done", true));
    assert_eq!((&one.body["messages"], &one.body["rules"]), (&json!(["m1"]), &json!(2)));
    assert_eq!(
        (&one.body["rule"], &one.body["key"], &one.body["state"]),
        (&json!("one"), &json!("ralph"), &json!("done"))
    );
    assert!(one.body.get("with").is_none() && one.body.get("hint").is_none(), "{}", one.body);

    let mut turn = Turn::default();
    core.planned(at(1), runs["quiet"].clone(), Ok(Plan::default()), &mut turn);
    assert!(said(&turn).is_empty() && !turn.confirms, "its rule says `confirm: false`");

    let mut turn = Turn::default();
    let failure = Failure::Permanent { message: "x".repeat(REASON_BYTES_MAX * 2), hint: Some("a secret place".into()) };
    core.planned(at(1), runs["two"].clone(), Err(failure), &mut turn);
    let failed = said(&turn).remove(0);
    assert_eq!(failed.topic, "reactor.reaction.failed");
    assert_eq!(failed.body["reason"].as_str().map(str::len), Some(REASON_BYTES_MAX));
    assert_ne!(failed.id, one.id);
}

#[test]
fn who_waits_learns_that_it_is_held_and_then_that_a_person_dropped_it() {
    let mut core = core();
    let runs = runs(&mut core, "m1", "org.example.user");
    let changes = vec![change("create", "alias a"), change("create", "alias b")];
    let mut turn = Turn::default();
    core.planned(at(1), runs["one"].clone(), Ok(changes.into()), &mut turn);
    assert_eq!(said(&turn)[0].topic, "reactor.reaction.held");
    let mut turn = Turn::default();
    core.give_up(at(2), &runs["one"].id, "root", &mut turn).expect("dropped");
    let dropped = said(&turn).remove(0);
    assert_eq!((dropped.topic.as_str(), &dropped.body["messages"]), ("reactor.reaction.dropped", &json!(["m1"])));
}

#[test]
fn an_outcome_is_never_confirmed_itself() {
    for topic in ["org.example.prod.reactor.reaction.done", "reactor.reaction.done"] {
        let mut core = core();
        assert!(tells_of_outcome(topic), "{topic}");
        let runs = runs(&mut core, topic, topic);
        let mut turn = Turn::default();
        let run = runs.get("echo").unwrap_or_else(|| panic!("{topic}: {:?}", runs.keys()));
        core.planned(at(1), run.clone(), Ok(Plan::default()), &mut turn);
        assert!(said(&turn).is_empty(), "{topic}");
    }
    assert!(!tells_of_outcome("org.example.prod.fas.user.update"));
}

#[test]
fn an_outcome_of_very_many_messages_is_said_in_several() {
    let mut core = core();
    let run = runs(&mut core, "m", "org.example.user")["one"].clone();
    let live = core.live.get_mut(&run.id).expect("it is pending");
    live.messages = (0..MESSAGES_NAMED_MAX + 1)
        .map(|n| message(&format!("m{n}"), "org.example.user", json!({"user": "ralph"})))
        .collect();
    let mut turn = Turn::default();
    core.planned(at(1), run, Ok(Plan::default()), &mut turn);
    let said = said(&turn);
    let named: Vec<usize> = said.iter().filter_map(|one| Some(one.body["messages"].as_array()?.len())).collect();
    assert_eq!(named, [MESSAGES_NAMED_MAX, 1]);
    assert_ne!(said[0].id, said[1].id);
}
