//! What the engine decides when a handler leaves something for later, or has a note.

use super::super::tests::{
    applied, arrive, at, change, core, core_of, down, last_state, message, only_run, planned, rows, update,
};
use super::*;
use crate::engine::core::Act;
use crate::journal::{ReactionRow, Story};
use handler_api::{Change, Plan};
use jiff::SignedDuration;
use serde_json::json;

fn left(key: &str, with: &Value, why: &str) -> Left {
    let later = json!({"key": key, "with": with, "why": why, "target": "h7"});
    Left { later: serde_json::from_value(later).expect("a later"), wrong: None }
}

fn h7() -> Left {
    left("host h7", &json!({"user": "h7"}), "h7: connection refused")
}

fn leaving(left: Vec<Left>) -> Applied {
    Applied { left, ..Ok(None).into() }
}

fn stories(turn: &Turn, id: &str) -> Vec<(String, String)> {
    let line = |entry: &Entry| match entry {
        Entry::Story { reaction, what, detail, .. } if reaction == id => Some((what.clone(), detail.clone())),
        _ => None,
    };
    turn.entries.iter().filter_map(line).collect()
}

/// The reactions that a turn made, with the ids of their messages.
fn made(turn: &Turn) -> Vec<(ReactionRow, Vec<String>)> {
    let made = |entry: &Entry| match entry {
        Entry::Reaction(row, messages) => Some(((**row).clone(), messages.clone())),
        _ => None,
    };
    turn.entries.iter().filter_map(made).collect()
}

/// A reaction of `user` whose apply runs.
fn applying(core: &mut Core, now: Timestamp, id: &str, user: &str) -> Run {
    let run = only_run(&arrive(core, now, vec![update(id, user)]));
    planned(core, now, run.clone(), Ok(vec![change("run", "h1")]));
    core.changed(now, &run.id, &change("run", "h1"), &mut Turn::default());
    run
}

/// Starts what may run at that time.
fn start(core: &mut Core, now: Timestamp) -> Turn {
    let mut turn = Turn::default();
    core.start(now, 16, &mut turn);
    turn
}

fn running_part(core: &mut Core, now: i64, done: &[Change]) -> Run {
    let run = only_run(&start(core, at(now)));
    assert_eq!(run.key, "host h7");
    planned(core, at(now), run.clone(), Ok(vec![change("run", "h7")]));
    done.iter().for_each(|change| core.changed(at(now), &run.id, change, &mut Turn::default()));
    run
}

#[test]
fn what_is_left_goes_on_as_a_reaction_of_its_own_in_the_transaction_that_ends_its_parent() {
    let mut core = core();
    let run = applying(&mut core, at(0), "m1", "ralph");
    let turn = applied(&mut core, at(1), &run, leaving(vec![h7()]));
    let (part, messages) = made(&turn).remove(0);
    assert_eq!(last_state(&turn, &run.id), State::Done, "in the same turn");
    assert_eq!((part.rule.as_str(), part.handler.as_str(), part.key.as_str()), ("alias changed", "map", "host h7"));
    assert_eq!((part.parent.as_ref(), part.part), (Some(&run.id), Some(json!({"user": "h7"}))));
    assert_eq!((messages, part.messages, part.attempts), (vec!["m1".to_owned()], 1, 0));
    let wait = part.not_before.duration_since(at(1));
    assert!((8..=12).contains(&wait.as_secs()), "the rule's 10 s ±20 %: {wait}");
    let parent = rows(&turn).into_iter().rfind(|row| row.id == run.id).expect("the parent");
    assert_eq!(parent.reason.as_deref(), Some("1 of its parts goes on later"));
    let told = stories(&turn, &run.id);
    let later = format!("[host h7] h7: connection refused; goes on as reaction {}", part.id);
    assert_eq!(told, [("later".to_owned(), later), ("done".to_owned(), "1 of its parts goes on later".to_owned())]);
    let from = format!("left over from reaction {}: h7: connection refused", run.id);
    assert_eq!(stories(&turn, &part.id), [("received".to_owned(), from)]);
    let run = only_run(&start(&mut core, at(20)));
    assert_eq!((run.id, run.with, run.messages.len()), (part.id, h7().later.with, 1));
}

#[test]
fn the_next_message_of_the_same_key_does_not_wait_for_what_was_left() {
    let mut core = core();
    let run = applying(&mut core, at(0), "m1", "ralph");
    applied(&mut core, at(1), &run, leaving(vec![h7()]));
    let next = only_run(&arrive(&mut core, at(2), vec![update("m2", "ralph")]));
    assert_eq!((next.key.as_str(), next.attempt), ("ralph", 1));
}

#[test]
fn a_part_is_tried_like_any_other_and_is_a_dead_letter_in_the_end_that_can_be_brought_back_with_its_part() {
    let mut core = core();
    let run = applying(&mut core, at(0), "m1", "ralph");
    let part = made(&applied(&mut core, at(0), &run, leaving(vec![h7()]))).remove(0).0;
    let mut last = Turn::default();
    for now in [100, 200, 300] {
        let run = only_run(&start(&mut core, at(now)));
        assert_eq!(run.id, part.id);
        last = planned(&mut core, at(now), run, Err(down()));
    }
    let failed = rows(&last).into_iter().find(|row| row.id == part.id && row.state == State::Failed);
    let failed = failed.expect("1 try and 2 more, as the rule says");
    assert_eq!(failed.part, part.part);
    let mut turn = Turn::default();
    let story = Story { reaction: failed, messages: vec![update("m1", "ralph")], lines: vec![] };
    core.bring_back(at(400), story, "admin", &mut turn).expect("brought back");
    core.start(at(400), 16, &mut turn);
    let again = turn.acts.iter().find_map(|act| match act {
        Act::Plan(run) if run.id == part.id => Some(run.with.clone()),
        _ => None,
    });
    assert_eq!(again, Some(h7().later.with));
}

#[test]
fn a_part_may_do_no_more_than_a_reconcile_of_its_handler() {
    let rule = |name: &str, on: &str, guard: &str| format!("  - {{name: {name}, on: {on}, do: map, guard: {guard}}}\n");
    let site = |every: &str| {
        let handlers = "version: 1\nhandlers: {map: {exec: /bin/true}}\nrules:\n";
        format!("{handlers}{}{every}", rule("one", "org.example.user.update", "{changes: 500, deletes: 400}"))
    };
    let limits = |yaml: &str| {
        let core = core_of(yaml);
        let guard = guard_of_part(&core.rules, core.rules.rule("one").expect("the rule"));
        (guard.changes, guard.deletes)
    };
    assert_eq!(limits(&site("")), (20, 5), "the default where there is no reconcile");
    assert_eq!(limits(&site(&rule("all", "{every: 6h}", "{changes: 900, deletes: 2}"))), (500, 2));
    let two = rule("all", "{every: 6h}", "{changes: 900, deletes: 2}")
        + &rule("more", "{every: 1d}", "{changes: 30, deletes: 9}");
    assert_eq!(limits(&site(&two)), (30, 2));
}

#[test]
fn what_the_rule_lets_through_for_one_person_is_held_when_a_part_wants_as_much() {
    let mut core = core_of(
        "version: 1\nhandlers: {map: {exec: /bin/true}}\nrules:\n  - {name: one, on: org.example.user.update, do: map, \
         key: '{{msg.user}}', with: {}, guard: {changes: 500, deletes: 500}}\n",
    );
    let six = || (0..6).map(|n| change("delete", &n.to_string())).collect::<Vec<_>>();
    let run = only_run(&arrive(&mut core, at(0), vec![update("m1", "ralph")]));
    let turn = planned(&mut core, at(0), run.clone(), Ok(six()));
    assert_eq!(last_state(&turn, &run.id), State::Applying, "the rule allows it");
    applied(&mut core, at(1), &run, leaving(vec![h7()]));
    let part = only_run(&start(&mut core, at(100)));
    let turn = planned(&mut core, at(100), part.clone(), Ok(six()));
    assert_eq!(last_state(&turn, &part.id), State::Held, "the default allows 5 deletes");
}

#[test]
fn guard_mode_and_pause_hold_for_a_part() {
    let mut core = core();
    let run = applying(&mut core, at(0), "m1", "ralph");
    applied(&mut core, at(0), &run, leaving(vec![h7()]));
    core.pause(at(1), "alias changed", &mut Turn::default()).expect("paused");
    assert!(start(&mut core, at(100)).acts.is_empty());
    core.resume("alias changed", &mut Turn::default()).expect("resumed");
    let part = only_run(&start(&mut core, at(101)));
    let many = ["a", "b", "c"].map(|target| change("run", target)).into();
    let turn = planned(&mut core, at(101), part.clone(), Ok(many));
    assert_eq!(last_state(&turn, &part.id), State::Held);
    let mut turn = Turn::default();
    core.give_up(at(102), &part.id, "admin", &mut turn).expect("dropped");
    assert_eq!(last_state(&turn, &part.id), State::Dropped);
}

#[test]
fn the_same_part_waits_only_once_and_takes_the_messages_of_both() {
    let mut core = core();
    let first = applying(&mut core, at(0), "m1", "ralph");
    let part = made(&applied(&mut core, at(0), &first, leaving(vec![h7(), h7()]))).remove(0).0;
    let second = applying(&mut core, at(1), "m2", "ada");
    let other = left("host h7", &json!({"user": "h8"}), "h8: down");
    let turn = applied(&mut core, at(1), &second, leaving(vec![h7(), other]));
    let made = made(&turn);
    assert_eq!(made.len(), 1, "only the one with other parameters: {made:?}");
    let joined: Vec<_> = turn.entries.iter().filter(|entry| matches!(entry, Entry::Joined { .. })).collect();
    assert!(
        matches!(joined[..], [Entry::Joined { reaction, message, not_before }]
        if *reaction == part.id && message == "m2" && *not_before == part.not_before),
        "{joined:?}"
    );
    assert!(
        stories(&turn, &second.id)[0].1.ends_with(&format!("goes on with reaction {}, which waits already", part.id))
    );
    assert_eq!(stories(&turn, &part.id)[0].0, "joined");
    let run = only_run(&start(&mut core, at(50)));
    let ids: Vec<&str> = run.messages.iter().map(|m| m.id.as_str()).collect();
    assert_eq!((run.id.as_str(), ids), (part.id.as_str(), vec!["m1", "m2"]));
    // It runs now: what it has looked at already may not be the last of it.
    let third = applying(&mut core, at(51), "m3", "bob");
    assert_eq!(self::made(&applied(&mut core, at(51), &third, leaving(vec![h7()]))).len(), 1, "a new one");
}

#[test]
fn a_held_part_is_not_joined() {
    let mut core = core();
    let first = applying(&mut core, at(0), "m1", "ralph");
    applied(&mut core, at(0), &first, leaving(vec![h7()]));
    let part = only_run(&start(&mut core, at(50)));
    let many = ["a", "b", "c"].map(|target| change("run", target)).into();
    assert_eq!(last_state(&planned(&mut core, at(50), part.clone(), Ok(many)), &part.id), State::Held);
    let second = applying(&mut core, at(51), "m2", "ada");
    assert_eq!(made(&applied(&mut core, at(51), &second, leaving(vec![h7()]))).len(), 1);
}

#[test]
fn a_part_that_did_nothing_and_leaves_something_again_had_a_failed_try() {
    let mut core = core();
    let run = applying(&mut core, at(0), "m1", "ralph");
    applied(&mut core, at(0), &run, leaving(vec![h7()]));
    for (now, state) in [(100, State::Waiting), (200, State::Waiting), (300, State::Failed)] {
        let part = running_part(&mut core, now, &[]);
        let turn = applied(&mut core, at(now), &part, leaving(vec![h7()]));
        assert_eq!(last_state(&turn, &part.id), state);
        assert!(made(&turn).iter().all(|(row, _)| row.part.is_none()), "only the announcement of a failure: {turn:?}");
        let row = rows(&turn).into_iter().find(|row| row.id == part.id).expect("a row");
        assert_eq!(row.reason.as_deref(), Some("h7: connection refused"));
    }
}

#[test]
fn two_parts_that_hand_each_other_on_come_to_an_end() {
    let mut core = core();
    let run = applying(&mut core, at(0), "m1", "ralph");
    applied(&mut core, at(0), &run, leaving(vec![h7()]));
    let part = running_part(&mut core, 100, &[]);
    let turn = applied(&mut core, at(100), &part, leaving(vec![left("host h8", &json!({"user": "h8"}), "h8 first")]));
    assert_eq!((last_state(&turn, &part.id), made(&turn).len()), (State::Waiting, 0));
}

#[test]
fn a_part_that_came_further_may_leave_the_rest_again() {
    let mut core = core();
    let run = applying(&mut core, at(0), "m1", "ralph");
    applied(&mut core, at(0), &run, leaving(vec![h7()]));
    let part = running_part(&mut core, 100, &[change("run", "h7")]);
    let turn = applied(&mut core, at(100), &part, leaving(vec![h7()]));
    let (rest, _) = made(&turn).remove(0);
    assert_eq!(last_state(&turn, &part.id), State::Done);
    assert_eq!((rest.parent, rest.key.as_str(), rest.attempts), (Some(part.id), "host h7", 0));
}

#[test]
fn wrong_parameters_are_a_failed_reaction_at_once_and_the_parent_says_so() {
    let mut core = core();
    let run = applying(&mut core, at(0), "m1", "ralph");
    let wrong = Left { wrong: Some("parameter `user` is missing".into()), ..h7() };
    let turn = applied(&mut core, at(0), &run, leaving(vec![wrong]));
    let part = made(&turn).remove(0).0;
    assert_eq!((last_state(&turn, &part.id), last_state(&turn, &run.id)), (State::Failed, State::Done));
    assert!(stories(&turn, &run.id)[0].1.contains("failed at once: parameter `user` is missing"));
    assert_eq!(&*only_run(&turn).rule.name, "somebody must look");
    assert!(start(&mut core, at(100)).acts.is_empty(), "it is in no lane");
}

#[test]
fn a_failed_or_moved_apply_leaves_nothing() {
    let mut core = core();
    let run = applying(&mut core, at(0), "m1", "ralph");
    let applied_so = Applied { left: vec![h7()], ..Err(down()).into() };
    assert!(made(&applied(&mut core, at(0), &run, applied_so)).is_empty());
}

#[test]
fn the_announcement_says_how_many_parts_go_on() {
    let yaml =
        super::super::tests::SITE.replace("[reactor.reaction.failed, reactor.reaction.held]", "reactor.reaction.done");
    let mut core = super::super::tests::core_of(&yaml);
    let run = applying(&mut core, at(0), "m1", "ralph");
    let turn = applied(&mut core, at(0), &run, leaving(vec![h7()]));
    let told = only_run(&turn);
    assert_eq!(
        (told.messages[0].topic.as_str(), &told.messages[0].body["later"]),
        ("reactor.reaction.done", &json!(1))
    );
    // A reaction to our own message: its parts are internal too, so there are no loops.
    planned(&mut core, at(1), told.clone(), Ok(vec![change("run", "mail")]));
    applied(&mut core, at(1), &told, leaving(vec![left("mail", &json!({"reaction": "x"}), "no mail server")]));
    let mut part = start(&mut core, at(100));
    part.acts.retain(|act| matches!(act, Act::Plan(run) if run.key == "mail"));
    let part = only_run(&part);
    let turn = planned(&mut core, at(100), part.clone(), Ok(vec![]));
    assert_eq!((last_state(&turn, &part.id), made(&turn).len()), (State::Done, 0));
}

#[test]
fn a_reconcile_leaves_parts_without_messages_and_is_not_held_up_by_them() {
    let yaml =
        format!("{}\n  - {{ name: all, every: 1h, do: map, with: {{ user: all }} }}\n", super::super::tests::SITE);
    let mut core = super::super::tests::core_of(&yaml);
    let run = only_run(&start(&mut core, at(0)));
    planned(&mut core, at(0), run.clone(), Ok(vec![change("run", "h7")]));
    let turn = applied(&mut core, at(0), &run, leaving(vec![h7()]));
    let (part, messages) = made(&turn).remove(0);
    assert_eq!((messages.len(), part.messages), (0, 0));
    core.pause(at(1), "all", &mut Turn::default()).expect("paused");
    let turn = start(&mut core, at(3_700));
    let keys: Vec<String> = made(&turn).into_iter().map(|(row, _)| row.key).collect();
    assert_eq!(keys, ["all"], "the next one is due, though a part of the last one waits");
}

#[test]
fn a_part_goes_on_after_a_restart() {
    let mut before = core();
    let run = applying(&mut before, at(0), "m1", "ralph");
    let part = made(&applied(&mut before, at(0), &run, leaving(vec![h7()]))).remove(0).0;
    let mut after = core();
    let story = Story { reaction: part.clone(), messages: vec![update("m1", "ralph")], lines: vec![] };
    after.restore(at(1), vec![story], &[], &mut Turn::default());
    assert!(start(&mut after, at(1)).acts.is_empty(), "its time has not come");
    let run = only_run(&start(&mut after, part.not_before + SignedDuration::from_secs(1)));
    assert_eq!((run.id, run.with), (part.id, h7().later.with));
    assert_eq!(before.pending_bytes(), after.pending_bytes());
}

#[test]
fn a_part_of_another_handler_fails_instead_of_meaning_something_else() {
    let mut core = core();
    let run = applying(&mut core, at(0), "m1", "ralph");
    let part = made(&applied(&mut core, at(0), &run, leaving(vec![h7()]))).remove(0).0;
    let yaml = super::super::tests::SITE.replacen("do: map", "do: tell", 1);
    let other = super::super::tests::core_of(&yaml);
    core.reload(other.rules.clone(), other.handlers.clone(), false);
    let turn = start(&mut core, at(100));
    assert_eq!(last_state(&turn, &part.id), State::Failed);
    let reason = rows(&turn).into_iter().find(|row| row.id == part.id).and_then(|row| row.reason);
    assert_eq!(reason.as_deref(), Some("handler map left it for later, but its rule has handler tell now"));
}

#[test]
fn a_part_whose_change_its_handler_holds_waits_for_a_person() {
    let mut core = core();
    let run = applying(&mut core, at(0), "m1", "ralph");
    let part = made(&applied(&mut core, at(0), &run, leaving(vec![h7()]))).remove(0).0;
    let run = only_run(&start(&mut core, at(100)));
    let held = Change { hold: Some("everyone may write".into()), ..change("run", "h7") };
    assert_eq!(last_state(&planned(&mut core, at(100), run, Ok(vec![held])), &part.id), State::Held);
}

#[test]
fn a_thousand_parts_share_the_messages_within_their_limits() {
    let mut core = core();
    let body = json!({"user": "ralph", "fields": ["email"], "text": "x".repeat(300_000)});
    let run = only_run(&arrive(&mut core, at(0), vec![message("m1", "org.example.user.update", body)]));
    planned(&mut core, at(0), run.clone(), Ok(vec![change("run", "h1")]));
    let many: Vec<Left> = (0..1_000).map(|n| left(&format!("host h{n}"), &json!({"user": "x"}), "down")).collect();
    let turn = applied(&mut core, at(0), &run, leaving(many));
    assert_eq!((made(&turn).len(), core.pending()), (1_000, 1_000));
    assert!(core.pending_bytes() < 1_000_000, "{}", core.pending_bytes());
    let told = stories(&turn, &run.id);
    assert_eq!(told.iter().filter(|(what, _)| what == "later").count(), PARTS_TOLD_MAX + 1);
    assert!(told.contains(&("later".to_owned(), "and 950 more".to_owned())));
}

#[test]
fn each_note_is_told_once_and_their_number_is_bounded() {
    let mut core = core();
    let run = only_run(&arrive(&mut core, at(0), vec![update("m1", "ralph")]));
    let plan = Plan { changes: vec![change("run", "h1")], notes: vec!["key 2 left out: DSA".into()] };
    let mut turn = Turn::default();
    core.planned(at(0), run.clone(), Ok(plan), &mut turn);
    let notes = (0..150).map(|n| format!("note {n}"));
    let said = std::iter::once("key 2 left out: DSA".to_owned()).chain(notes).collect();
    core.applied(at(1), &run, Applied { notes: said, ..Ok(None).into() }, &mut turn);
    let told: Vec<String> = stories(&turn, &run.id).into_iter().filter(|l| l.0 == "note").map(|l| l.1).collect();
    assert_eq!((told.len(), told[0].as_str(), told[1].as_str()), (NOTES_MAX + 1, "key 2 left out: DSA", "note 0"));
    assert_eq!(told.last().map(String::as_str), Some("further notes are left out"));
}
