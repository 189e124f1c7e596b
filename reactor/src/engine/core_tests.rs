//! What the engine decides, without processes, clock or disk: inputs in, entries and acts out.

use super::*;
use crate::message::Topic;
use crate::rules::file;
use handler_api::{Failure, Plan};
use serde_json::json;

pub(super) const SITE: &str = r#"
version: 1
handlers:
  map: { exec: /bin/true }
  tell: { exec: /bin/true }
defaults:
  retry: { times: 2, wait: 10s, up_to: 1m }
  guard: { changes: 2, deletes: 1 }
rules:
  - name: alias changed
    why: mail must arrive
    on: org.example.user.update
    where: { fields: email }
    key: "{{msg.user}}"
    do: map
    with: { user: "{{msg.user}}" }
  - name: watched only
    on: org.example.watched
    key: "{{msg.user}}"
    do: map
    mode: plan
  - name: somebody must look
    on: [reactor.reaction.failed, reactor.reaction.held]
    do: tell
    with: { reaction: "{{msg.reaction}}" }
"#;

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("in range")
}

pub(super) fn core() -> Core {
    core_of(SITE)
}

pub(super) fn core_of(yaml: &str) -> Core {
    let site = file::load_str("rules.yaml", yaml, std::path::Path::new("/")).expect("a good site");
    let handlers = site.handlers.iter().map(|(name, config)| (name.clone(), Arc::new(config.clone()))).collect();
    Core::new(Arc::new(Rules::new(site.rules)), handlers, false, 1)
}

pub(super) fn message(id: &str, topic: &str, body: serde_json::Value) -> Message {
    Message {
        id: id.into(),
        topic: Topic::new(topic).expect("a topic"),
        sent: at(0),
        bus: "test".into(),
        signer: "shell.example.org".into(),
        body,
        headers: serde_json::Map::new(),
    }
}

pub(super) fn update(id: &str, user: &str) -> Message {
    message(id, "org.example.user.update", json!({"user": user, "fields": ["email"]}))
}

pub(super) fn arrive(core: &mut Core, now: Timestamp, messages: Vec<Message>) -> Turn {
    let mut turn = Turn::default();
    let batch = messages
        .into_iter()
        .map(|m| Arrived { decisions: core.rules.decide(&m), message: Verified::internal(m), envelope: None })
        .collect();
    core.arrived(now, batch, &mut HashSet::new(), &mut turn);
    core.start(now, 16, &mut turn);
    turn
}

pub(super) fn change(action: &str, target: &str) -> Change {
    serde_json::from_value(json!({"action": action, "target": target, "after": 1})).expect("a change")
}

/// The only run that a turn starts, planning or applying.
pub(super) fn only_run(turn: &Turn) -> Run {
    match turn.acts.as_slice() {
        [Act::Plan(run) | Act::Apply(run, _)] => (**run).clone(),
        acts => panic!("{acts:?}"),
    }
}

pub(super) fn rows(turn: &Turn) -> Vec<ReactionRow> {
    let row = |entry: &Entry| match entry {
        Entry::Update(row) | Entry::Reaction(row, _) => Some((**row).clone()),
        _ => None,
    };
    turn.entries.iter().filter_map(row).collect()
}

pub(super) fn last_state(turn: &Turn, id: &str) -> State {
    rows(turn).into_iter().rev().find(|row| row.id == id).map(|row| row.state).expect("an entry of it")
}

pub(super) fn planned(core: &mut Core, now: Timestamp, run: Run, plan: Result<Vec<Change>, Failure>) -> Turn {
    let mut turn = Turn::default();
    core.planned(now, run, plan.map(Plan::from), &mut turn);
    core.start(now, 16, &mut turn);
    turn
}

pub(super) fn applied(core: &mut Core, now: Timestamp, run: &Run, result: impl Into<Applied>) -> Turn {
    let mut turn = Turn::default();
    core.applied(now, run, result.into(), &mut turn);
    core.start(now, 16, &mut turn);
    turn
}

pub(super) fn down() -> Failure {
    Failure::Retry { message: "server: connection refused".into(), hint: None, after: None }
}

#[test]
fn a_message_and_its_reaction_are_in_the_same_transaction_and_then_it_starts() {
    let mut core = core();
    let turn = arrive(&mut core, at(0), vec![update("m1", "ralph")]);
    assert!(matches!(&turn.entries[0], Entry::Message(m) if m.id == "m1"));
    assert!(matches!(&turn.entries[1], Entry::Reaction(_, messages) if *messages == ["m1"]));
    let run = only_run(&turn);
    assert_eq!((run.key.as_str(), run.attempt, run.with["user"].as_str()), ("ralph", 1, Some("ralph")));
}

#[test]
fn a_message_that_no_rule_wants_leaves_no_trace() {
    let turn = arrive(
        &mut core(),
        at(0),
        vec![message("m", "org.example.user.update", json!({"user": "r", "fields": ["x"]}))],
    );
    assert!(turn.entries.is_empty() && turn.acts.is_empty());
}

#[test]
fn the_same_message_twice_leads_to_one_reaction() {
    let mut core = core();
    let turn = arrive(&mut core, at(0), vec![update("m1", "ralph"), update("m1", "ralph")]);
    assert_eq!(turn.acts.len(), 1);
    let mut again = Turn::default();
    let m = update("m1", "ralph");
    let batch = vec![Arrived { decisions: core.rules.decide(&m), message: Verified::internal(m), envelope: None }];
    core.arrived(at(1), batch, &mut HashSet::from(["m1".to_owned()]), &mut again);
    assert!(again.entries.is_empty());
}

#[test]
fn a_missing_field_is_a_failed_reaction_that_people_are_told_of() {
    let turn = arrive(&mut core(), at(0), vec![message("m", "org.example.user.update", json!({"fields": ["email"]}))]);
    let failed = rows(&turn).into_iter().find(|row| row.state == State::Failed).expect("a failed reaction");
    assert!(failed.reason.as_deref().unwrap_or("").contains("user"), "{:?}", failed.reason);
    let told = only_run(&turn);
    assert_eq!((&*told.rule.name, told.with["reaction"].as_str()), ("somebody must look", Some(failed.id.as_str())));
}

#[test]
fn a_plan_is_journaled_as_applying_before_it_is_applied() {
    let mut core = core();
    let run = only_run(&arrive(&mut core, at(0), vec![update("m1", "ralph")]));
    let turn = planned(&mut core, at(1), run.clone(), Ok(vec![change("update", "alias ralph")]));
    assert_eq!(last_state(&turn, &run.id), State::Applying);
    assert!(matches!(turn.acts.as_slice(), [Act::Apply(..)]));
    let mut changed = Turn::default();
    core.changed(at(1), &run.id, &change("update", "alias ralph"), &mut changed);
    assert!(matches!(&changed.entries[0], Entry::ChangeDone { .. }));
    assert_eq!(last_state(&applied(&mut core, at(2), &run, Ok(None)), &run.id), State::Done);
    assert_eq!(core.pending(), 0);
}

#[test]
fn nothing_to_do_is_done_without_apply() {
    let mut core = core();
    let run = only_run(&arrive(&mut core, at(0), vec![update("m1", "ralph")]));
    let turn = planned(&mut core, at(1), run.clone(), Ok(vec![]));
    assert_eq!((last_state(&turn, &run.id), turn.acts.len()), (State::Done, 0));
}

#[test]
fn mode_plan_changes_nothing() {
    let mut core = core();
    let run = only_run(&arrive(&mut core, at(0), vec![message("m", "org.example.watched", json!({"user": "r"}))]));
    let turn = planned(&mut core, at(1), run.clone(), Ok(vec![change("create", "x")]));
    assert_eq!((last_state(&turn, &run.id), turn.acts.len()), (State::Planned, 0));
}

#[test]
fn too_large_a_plan_waits_for_a_person_and_grows_no_further_on_its_own() {
    let mut core = core();
    let run = only_run(&arrive(&mut core, at(0), vec![update("m1", "ralph")]));
    let three: Vec<Change> = ["a", "b", "c"].map(|target| change("create", target)).into();
    let turn = planned(&mut core, at(1), run.clone(), Ok(three.clone()));
    assert_eq!(last_state(&turn, &run.id), State::Held);
    assert_eq!(&*only_run(&turn).rule.name, "somebody must look");

    let mut approved = Turn::default();
    core.approve(at(60), &run.id, "admin", &mut approved).expect("approved");
    core.start(at(60), 16, &mut approved);
    let again = only_run(&approved);
    assert_eq!(again.id, run.id);
    let four: Vec<Change> = three.iter().cloned().chain([change("create", "d")]).collect();
    assert_eq!(last_state(&planned(&mut core, at(61), again.clone(), Ok(four)), &run.id), State::Held);

    let mut approved = Turn::default();
    core.approve(at(70), &run.id, "admin", &mut approved).expect("approved");
    core.start(at(70), 16, &mut approved);
    let turn = planned(&mut core, at(71), again, Ok(three));
    assert_eq!(last_state(&turn, &run.id), State::Applying);
}

#[test]
fn a_failing_reaction_is_tried_again_and_then_is_a_dead_letter_and_its_lane_flows() {
    let mut core = core();
    let first = only_run(&arrive(&mut core, at(0), vec![update("m1", "ralph")]));
    assert!(arrive(&mut core, at(0), vec![update("m2", "ralph")]).acts.is_empty(), "the same lane");
    let other = only_run(&arrive(&mut core, at(0), vec![update("m3", "ada")]));
    assert_eq!(other.key, "ada");
    for (now, attempt) in [(0, 1), (12, 2)] {
        let run = Run { attempt, ..first.clone() };
        assert!(planned(&mut core, at(now), run, Err(down())).acts.is_empty());
        let mut turn = Turn::default();
        core.start(at(now + 30), 16, &mut turn);
        assert_eq!(only_run(&turn).attempt, attempt + 1);
    }
    let turn = planned(&mut core, at(90), Run { attempt: 3, ..first.clone() }, Err(down()));
    assert_eq!(last_state(&turn, &first.id), State::Failed);
    let next: Vec<&str> =
        turn.acts.iter().map(|act| if let Act::Plan(run) = act { &*run.rule.name } else { "?" }).collect();
    assert_eq!(next, ["alias changed", "somebody must look"], "the next of the lane, and the announcement");
}

#[test]
fn bad_data_fails_at_once() {
    let mut core = core();
    let run = only_run(&arrive(&mut core, at(0), vec![update("m1", "ralph")]));
    let bad = Failure::Permanent { message: "no such user".into(), hint: None };
    assert_eq!(last_state(&planned(&mut core, at(0), run.clone(), Err(bad)), &run.id), State::Failed);
}

#[test]
fn a_reaction_to_a_message_of_our_own_announces_nothing_so_there_are_no_loops() {
    let mut core = core();
    let told = only_run(&arrive(
        &mut core,
        at(0),
        vec![message("m", "org.example.user.update", json!({"fields": ["email"]}))],
    ));
    assert_eq!(&*told.rule.name, "somebody must look");
    let bad = Failure::Permanent { message: "no mail server".into(), hint: None };
    let turn = planned(&mut core, at(1), told.clone(), Err(bad));
    assert_eq!((last_state(&turn, &told.id), turn.acts.len()), (State::Failed, 0));
}

#[test]
fn a_reaction_that_was_being_applied_is_planned_again_after_a_crash() {
    let mut before = core();
    let run = only_run(&arrive(&mut before, at(0), vec![update("m1", "ralph")]));
    let turn = planned(&mut before, at(1), run.clone(), Ok(vec![change("update", "alias ralph")]));
    let row = rows(&turn).pop().expect("a row");
    let story = Story { reaction: row, messages: vec![update("m1", "ralph")], lines: vec![] };
    let mut after = core();
    let mut turn = Turn::default();
    after.restore(at(5), vec![story], &[], &mut turn);
    after.start(at(5), 16, &mut turn);
    let again = only_run(&turn);
    assert!(matches!(turn.acts.as_slice(), [Act::Plan(_)]), "planned, not applied");
    assert_eq!((again.id, again.attempt), (run.id, 2));
}

#[test]
fn a_rule_that_is_gone_fails_its_reactions_with_a_hint() {
    let mut core = core();
    core.pause(at(0), "alias changed", &mut Turn::default()).expect("paused");
    assert!(arrive(&mut core, at(0), vec![update("m1", "ralph")]).acts.is_empty(), "paused");
    core.reload(Arc::new(Rules::new(vec![])), BTreeMap::new(), false);
    let mut turn = Turn::default();
    core.resume("alias changed", &mut turn).expect("resumed");
    core.start(at(1), 16, &mut turn);
    let row = rows(&turn).pop().expect("a row");
    assert_eq!(row.state, State::Failed);
    assert!(row.hint.unwrap_or_default().contains("reactor retry"));
}

#[test]
fn a_failed_reaction_can_be_brought_back_and_a_waiting_one_dropped() {
    let mut core = core();
    let run = only_run(&arrive(&mut core, at(0), vec![update("m1", "ralph")]));
    let bad = Failure::Permanent { message: "no such user".into(), hint: None };
    let row =
        rows(&planned(&mut core, at(0), run.clone(), Err(bad))).into_iter().find(|r| r.id == run.id).expect("a row");
    let story = Story { reaction: row, messages: vec![update("m1", "ralph")], lines: vec![] };
    let mut turn = Turn::default();
    core.bring_back(at(9), story, "admin", &mut turn).expect("brought back");
    assert!(core.give_up(at(9), &run.id, "admin", &mut turn).is_ok());
    assert_eq!((last_state(&turn, &run.id), core.pending()), (State::Dropped, 1), "the announcement is still pending");
}

#[path = "core_change_tests.rs"]
mod change_tests;
#[path = "core_reconcile_tests.rs"]
mod reconcile_tests;
