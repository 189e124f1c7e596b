//! What one of several nodes decides, without a server: the test hands it what would be in its inbox.

use super::super::tests::{
    applied, arrive, at, change, core, core_of, last_state, message, only_run, planned, rows, update,
};
use super::*;
use crate::engine::core::{Act, Applied};
use crate::runner::Left;
use serde_json::json;

/// A node that serves these slots.
fn node(slots: Slots) -> Core {
    let mut core = core();
    core.share();
    core.gain(at(0), slots, Vec::new(), &[], &mut Turn::default());
    core
}

fn all_but(key: &str) -> Slots {
    Slots::ALL.but(Slots::one(slot_of(key)))
}

fn posted(turn: &Turn) -> Vec<Handed> {
    let rows = turn.entries.iter().flat_map(|entry| match entry {
        Entry::Post(message, asked) => asked.iter().map(|what| (what.clone(), Some(message.clone()))).collect(),
        Entry::Hand(_, what) => vec![(what.clone(), None)],
        _ => Vec::new(),
    });
    (1..).zip(rows).map(|(n, (what, message))| Handed { n, what, message, story: None }).collect()
}

fn take(core: &mut Core, now: Timestamp, handed: Vec<Handed>) -> Turn {
    let mut turn = Turn::default();
    core.take(now, handed, &mut turn);
    core.start(now, 16, &mut turn);
    turn
}

/// The only run of what these messages lead to.
fn run_of(core: &mut Core, messages: Vec<Message>) -> Run {
    let turn = arrive(core, at(1), messages);
    only_run(&take(core, at(1), posted(&turn)))
}

fn story_of(row: super::super::ReactionRow) -> Story {
    Story { reaction: row, messages: Vec::new(), lines: Vec::new() }
}

fn hand_over(core: &mut Core, row: super::super::ReactionRow) -> Turn {
    let what = What::Reaction { id: row.id.clone() };
    take(core, at(9), vec![Handed { n: 1, what, message: None, story: Some(Box::new(story_of(row))) }])
}

#[test]
fn a_message_is_posted_and_what_is_taken_from_the_inbox_runs_in_its_order() {
    let mut core = node(Slots::ALL);
    let turn = arrive(&mut core, at(1), vec![update("m1", "ralph"), update("m2", "ralph")]);
    assert!(turn.acts.is_empty() && core.pending() == 0);
    let handed = posted(&turn);
    assert_eq!(handed[0].what, What::Asked { rule: "alias changed".into(), key: "ralph".into() });
    let turn = take(&mut core, at(1), handed);
    assert!(
        matches!(turn.entries.iter().rfind(|e| matches!(e, Entry::Taken(_))), Some(Entry::Taken(rows)) if *rows == [1, 2])
    );
    let first = only_run(&turn);
    assert_eq!((first.messages[0].id.as_str(), core.pending()), ("m1", 2));
    let turn = planned(&mut core, at(1), first, Ok(vec![]));
    assert_eq!(only_run(&turn).messages[0].id, "m2");
}

#[test]
fn a_slot_that_is_closed_starts_nothing_and_is_given_back_when_its_last_run_ends() {
    let mut core = node(Slots::ALL);
    let run = run_of(&mut core, vec![update("m1", "ralph"), update("m2", "ralph")]);
    core.close(Slots::ALL);
    let mut turn = Turn::default();
    assert_eq!(core.give_back(&mut turn), all_but("ralph"));
    let turn = planned(&mut core, at(2), run, Ok(vec![]));
    assert!(turn.acts.is_empty(), "the next one of the lane is another node's");
    let mut turn = Turn::default();
    assert_eq!(core.give_back(&mut turn), Slots::one(slot_of("ralph")));
    assert!(matches!(turn.entries.as_slice(), [Entry::Free(slots)] if *slots == Slots::one(slot_of("ralph"))));
    assert_eq!((core.pending(), core.pending_bytes(), core.lanes.waiting()), (0, 0, 0));
    assert_eq!(core.give_back(&mut Turn::default()), Slots::NONE);
}

#[test]
fn what_is_gained_goes_on_where_the_journal_says_it_stood() {
    let mut core = node(all_but("ralph"));
    assert_eq!((core.elsewhere("ralph"), core.elsewhere("ada")), (Some(slot_of("ralph")), None));
    let mut row = row_of("R1", "alias changed", "map", "ralph".into(), at(0));
    row.state = State::Applying;
    let mut turn = Turn::default();
    let story = Story { messages: vec![update("m1", "ralph")], ..story_of(row) };
    core.gain(at(5), Slots::one(slot_of("ralph")), vec![story], &[], &mut turn);
    core.start(at(5), 16, &mut turn);
    assert_eq!((only_run(&turn).id.as_str(), core.elsewhere("ralph")), ("R1", None));
    assert!(rows(&turn).iter().any(|row| row.state == State::Waiting), "it is planned again");
}

#[test]
fn a_rule_that_this_node_does_not_know_or_could_not_be_asked_fails_visibly() {
    let mut core = node(Slots::ALL);
    let gone = What::Asked { rule: "gone".into(), key: "k".into() };
    let handed = Handed { n: 1, what: gone.clone(), message: Some(update("m1", "ralph")), story: None };
    assert!(take(&mut core, at(-60), vec![handed]).entries.is_empty(), "it may be on its way here");
    let broken = What::Broken { rule: "alias changed".into(), why: "no `msg.user`".into(), hint: None };
    for (what, said) in [(gone, "not in the rules file of this node"), (broken, "no `msg.user`")] {
        let message = Some(message("m1", "org.example.user.update", json!({})));
        let turn = take(&mut core, at(1), vec![Handed { n: 1, what, message, story: None }]);
        let row = rows(&turn).pop().expect("a reaction");
        assert_eq!((row.state, core.pending()), (State::Failed, 0));
        assert!(row.reason.as_ref().is_some_and(|reason| reason.contains(said)), "{row:?}");
    }
}

fn ask(n: i64, rule: &str, key: &str) -> Handed {
    let message = Some(update(&format!("m{n}"), key));
    Handed { n, what: What::Asked { rule: rule.into(), key: key.into() }, message, story: None }
}

fn taken(turn: &Turn) -> Vec<i64> {
    let rows = turn.entries.iter().filter_map(|e| if let Entry::Taken(rows) = e { Some(rows.clone()) } else { None });
    rows.flatten().collect()
}

#[test]
fn what_asks_for_a_rule_that_is_not_here_yet_waits_and_what_comes_behind_it_too() {
    let mut core = node(Slots::ALL);
    let there = || vec![ask(1, "new", "ralph"), ask(2, "alias changed", "ada"), ask(3, "alias changed", "ralph")];
    let turn = take(&mut core, at(0), there());
    assert_eq!((taken(&turn), only_run(&turn).key.as_str()), (vec![2], "ada"));
    let left = || vec![ask(1, "new", "ralph"), ask(3, "alias changed", "ralph")];
    assert!(taken(&take(&mut core, at(59), left())).is_empty());
    // The clock was set back: it waits no longer for that.
    assert!(taken(&take(&mut core, at(-500), left())).is_empty());
    let turn = take(&mut core, at(-440), left());
    assert_eq!((taken(&turn), rows(&turn).first().map(|row| row.state)), (vec![1, 3], Some(State::Waiting)));
    assert!(rows(&turn).iter().any(|row| row.rule == "new" && row.state == State::Failed));
}

#[test]
fn so_many_rows_of_an_unknown_rule_that_others_would_never_be_read_do_not_wait() {
    let mut core = node(Slots::ALL);
    let many = |n| (1..=n).map(|n| ask(n, "new", &format!("key{n}"))).collect::<Vec<_>>();
    let most = i64::try_from(UNKNOWN_RULE_ROWS_MAX).unwrap();
    assert!(taken(&take(&mut core, at(0), many(most))).is_empty());
    assert_eq!(taken(&take(&mut core, at(0), many(most + 1))).len(), UNKNOWN_RULE_ROWS_MAX + 1);
}

#[test]
fn a_part_in_another_nodes_slot_is_handed_to_it_and_waits_there_only_once() {
    let mut one = node(all_but("host h7"));
    let run = run_of(&mut one, vec![update("m1", "ralph")]);
    planned(&mut one, at(2), run.clone(), Ok(vec![change("run", "h1")]));
    one.changed(at(2), &run.id, &change("run", "h1"), &mut Turn::default());
    let later = json!({"key": "host h7", "with": {"user": "h7"}, "why": "h7: connection refused", "target": "h7"});
    let left = Left { later: serde_json::from_value(later).expect("a later"), wrong: None };
    let turn = applied(&mut one, at(2), &run, Applied { left: vec![left], ..Ok(None).into() });
    let row = rows(&turn).into_iter().find(|row| row.key == "host h7").expect("the part");
    assert_eq!(posted(&turn)[0].what, What::Reaction { id: row.id.clone() });
    assert_eq!((last_state(&turn, &run.id), one.pending()), (State::Done, 0));

    let mut other = node(Slots::ALL);
    hand_over(&mut other, row.clone());
    assert_eq!(other.pending(), 1);
    assert!(rows(&hand_over(&mut other, row.clone())).is_empty(), "it is there already");
    let same = super::super::ReactionRow { id: "R9".into(), ..row.clone() };
    let turn = hand_over(&mut other, same);
    assert_eq!((last_state(&turn, "R9"), other.pending()), (State::Dropped, 1));
    assert!(rows(&turn)[0].reason.as_ref().is_some_and(|reason| reason.contains(&row.id)));
}

#[test]
fn what_a_person_decides_at_another_node_is_done_or_told_in_the_story() {
    let mut core = node(Slots::ALL);
    let run = run_of(&mut core, vec![update("m1", "ralph")]);
    let id = run.id.clone();
    let changes = ["a", "b", "c"].map(|target| change("create", target)).to_vec();
    let turn = planned(&mut core, at(2), run, Ok(changes));
    let held = rows(&turn).pop().expect("held");
    assert_eq!(held.state, State::Held);
    let mut decide = |decision| {
        let what = What::Decided { decision, id: id.clone(), by: "root".into() };
        take(
            &mut core,
            at(3),
            vec![Handed { n: 1, what, message: None, story: Some(Box::new(story_of(held.clone()))) }],
        )
    };
    assert_eq!(only_run(&decide(Decision::Approve)).id, id);
    let turn = decide(Decision::Approve);
    assert!(turn.acts.is_empty());
    let told = |entry: &Entry| matches!(entry, Entry::Story { detail, .. } if detail.contains("root") && detail.contains("not held"));
    assert!(turn.entries.iter().any(told), "{turn:?}");
}

#[test]
fn only_the_node_that_serves_its_lane_makes_a_reconcile() {
    let site =
        "version: 1\nhandlers: { map: { exec: /bin/true } }\nrules: [{ name: nightly, on: { every: 1h }, do: map }]\n";
    let mut core = core_of(site);
    core.share();
    core.gain(at(0), all_but("nightly"), Vec::new(), &[], &mut Turn::default());
    let mut turn = Turn::default();
    core.start(at(0), 16, &mut turn);
    assert!(turn.acts.is_empty() && core.wake_at(16).is_none());
    let error = core.reconcile_now(at(0), "map", "root", &mut turn).unwrap_err();
    assert!(error.contains("another node"), "{error}");
    let asked = posted(&turn);
    assert_eq!(asked[0].what, What::Due { rule: "nightly".into(), by: "root".into() });
    // It came due elsewhere a minute ago, and comes due here an hour after that.
    let settings = [("every/nightly".to_owned(), at(-60).to_string())];
    core.gain(at(0), Slots::one(slot_of("nightly")), Vec::new(), &settings, &mut turn);
    core.start(at(0), 16, &mut turn);
    assert!(turn.acts.is_empty());
    assert_eq!(core.wake_at(16), Some(at(3_540)));
    assert!(matches!(take(&mut core, at(1), asked).acts.as_slice(), [Act::Plan(_)]));
}

#[test]
fn a_pause_at_another_node_counts_here_until_it_ends_there() {
    let mut core = node(Slots::ALL);
    let settings = [("paused/alias changed".to_owned(), at(0).to_string())];
    core.paused_are(at(0), &settings, &mut Turn::default());
    let turn = arrive(&mut core, at(1), vec![update("m1", "ralph")]);
    assert!(take(&mut core, at(1), posted(&turn)).acts.is_empty());
    core.paused_are(at(2), &[], &mut Turn::default());
    let mut turn = Turn::default();
    core.start(at(2), 16, &mut turn);
    assert_eq!((turn.acts.len(), core.paused().len()), (1, 0));
}

#[test]
fn a_try_that_was_cut_off_is_no_failed_try() {
    let mut core = node(Slots::ALL);
    let run = run_of(&mut core, vec![update("m1", "ralph")]);
    let turn = planned(&mut core, at(2), run, Ok(vec![change("create", "a")]));
    let run = only_run(&turn);
    let mut turn = Turn::default();
    core.cut_off(at(3), &run, &mut turn);
    core.start(at(3), 16, &mut turn);
    let row = &rows(&turn)[0];
    assert_eq!((row.state, row.attempts), (State::Waiting, 0));
    assert!(matches!(turn.acts.as_slice(), [Act::Plan(again)] if again.id == run.id && again.attempt == 1));
}
