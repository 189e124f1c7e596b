//! What every journal must do, each sentence a test. A new journal runs them all with `sentences`, which hands their names to
//! a macro. The tests of whole servers take this file in too: its words come from the module above it.
//!
//! A test gets a fresh place: a function that opens the journal there, and opens it again once it was dropped.

#[path = "contract/copies.rs"]
mod copies;
#[path = "contract/history.rs"]
mod history;
#[path = "contract/parts.rs"]
pub(crate) mod parts;

pub(crate) use self::copies::{
    a_copy_that_was_cut_off_goes_on_and_one_beside_other_things_is_refused, all_of_it_can_be_copied_in_and_out_again,
};

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Map, json};

pub(crate) use self::history::{
    an_envelope_stays_with_its_message, messages_are_found_by_topic_category_time_and_id,
    messages_come_in_pages_by_the_time_they_were_sent,
};
use self::parts::{
    all, change, counts, done, ids, known, later, line, list, message, pending, reacted, refused, refused_rows, row,
    settings, start, story, sweep,
};
use super::{Entry, Filter, Journal, Message, REFUSED_KEPT_MAX, ReactionRow, STORY_LINES_MAX, State, TEXT_BYTES_MAX};

/// Opens the journal of one place.
pub(crate) type Open = dyn Fn() -> Box<dyn Journal>;

/// Expands to `$with! { $more… SENTENCE SENTENCE … }`.
macro_rules! sentences {
    ($with:ident! $($more:tt)*) => {
        $with! { $($more)*
            what_was_written_is_there_after_reopening
            a_message_is_stored_once
            a_batch_with_a_contradiction_leaves_nothing_behind
            pending_is_what_is_not_final_in_the_order_of_writing
            a_dead_letter_that_is_retried_is_pending_again
            what_was_left_over_keeps_its_part_when_its_parent_is_forgotten
            messages_join_in_order_and_each_one_once
            an_update_replaces_all_but_what_it_was_made_of
            what_was_done_outlives_the_last_update
            a_new_apply_begins_with_nothing_done
            the_same_line_again_is_folded_into_the_one_before
            a_full_story_keeps_how_it_began_and_how_it_ended
            long_texts_are_cut_to_their_limit
            refused_messages_with_the_same_reason_are_folded_and_become_the_newest
            only_the_newest_refused_messages_are_kept
            settings_are_set_replaced_and_removed
            a_filter_takes_states_rule_and_id_in_any_case_the_newest_first
            a_sweep_forgets_what_is_final_and_old_with_its_messages
            a_sweep_never_touches_what_is_pending
            a_message_of_two_reactions_stays_until_both_are_gone
            a_message_without_reaction_goes_by_the_time_it_was_stored
            over_the_limit_the_oldest_final_ones_go_first
            texts_keep_every_character
            messages_come_in_pages_by_the_time_they_were_sent
            messages_are_found_by_topic_category_time_and_id
            an_envelope_stays_with_its_message
            numbers_are_counted
            all_of_it_can_be_copied_in_and_out_again
            a_copy_that_was_cut_off_goes_on_and_one_beside_other_things_is_refused
        }
    };
}
pub(crate) use sentences;

pub(crate) fn what_was_written_is_there_after_reopening(open: &Open) {
    let mut first = message("m1");
    first.headers = Map::from_iter([("x-severity".to_owned(), json!(20))]);
    first.sent = "2026-03-01T12:00:00.123456Z".parse().unwrap();
    let full = ReactionRow {
        state: State::Held,
        attempts: 3,
        created: later(1),
        updated: later(2),
        not_before: later(3),
        at_most: Some(later(4)),
        with: Some(json!({"user": "ralph"})),
        reason: Some("too many changes: 21".into()),
        hint: Some("reactor approve R1".into()),
        repeated: 2,
        plan: vec![change("alias a"), change("alias b")],
        done: vec![change("alias a")],
        approved: Some(vec![change("alias b")]),
        decided_by: Some("root".into()),
        messages: 2,
        part: Some(json!({"hosts": ["h7"]})),
        parent: Some("R0".into()),
        ..row("R1")
    };
    let mut journal = open();
    let lead = vec!["m1".to_owned(), "m2".to_owned()];
    journal
        .write(&[
            Entry::Message(first.clone()),
            Entry::Message(message("m2")),
            Entry::Reaction(Box::new(full.clone()), lead),
            line("R1", 5, "held", "21 changes"),
        ])
        .unwrap();
    drop(journal);
    let found = story(&*open(), "R1");
    assert_eq!(found.reaction, full);
    assert_eq!(found.messages, [first, message("m2")]);
    assert_eq!((found.lines[0].at, found.lines[0].what.as_str(), found.lines[0].times), (later(5), "held", 1));
}

pub(crate) fn a_message_is_stored_once(open: &Open) {
    let mut journal = open();
    journal.write(&reacted("R1", "m1", State::Waiting, start())).unwrap();
    let other = Message { body: json!("another body"), ..message("m1") };
    journal.write(&[Entry::Message(other.clone()), Entry::Message(other)]).unwrap();
    assert_eq!(counts(&*journal).messages, 1);
    assert_eq!(pending(&*journal)[0].messages, [message("m1")]);
    assert_eq!(journal.seen(&["m0", "m1"]).unwrap(), HashSet::from(["m1".to_owned()]));
    assert!(journal.seen(&[]).unwrap().is_empty());
}

pub(crate) fn a_batch_with_a_contradiction_leaves_nothing_behind(open: &Open) {
    let mut journal = open();
    journal.write(&reacted("R1", "m1", State::Waiting, start())).unwrap();
    let contradictions = [
        Entry::Update(Box::new(row("R9"))),
        Entry::Joined { reaction: "R9".into(), message: "m1".into(), not_before: start() },
        Entry::Joined { reaction: "R1".into(), message: "m9".into(), not_before: start() },
        Entry::Reaction(Box::new(row("R3")), vec!["m9".into()]),
        Entry::Reaction(Box::new(row("R1")), vec![]),
        line("R9", 0, "done", ""),
        done("R9", "a"),
    ];
    for wrong in contradictions {
        let mut batch = reacted("R2", "m2", State::Waiting, start()).to_vec();
        batch.push(Entry::Setting { name: "s".into(), value: Some("v".into()) });
        batch.push(wrong.clone());
        let error = journal.write(&batch).expect_err(&format!("{wrong:?}"));
        assert!(!error.hint.is_empty());
        assert!(known(&*journal, &["m2"]).is_empty() && settings(&*journal, "").is_empty(), "{wrong:?}");
        assert_eq!(ids(&*journal, all()), ["R1"]);
    }
    journal.write(&reacted("R2", "m2", State::Waiting, start())).unwrap();
    assert_eq!(ids(&*journal, all()), ["R2", "R1"]);
}

pub(crate) fn pending_is_what_is_not_final_in_the_order_of_writing(open: &Open) {
    let mut journal = open();
    let states = [State::Waiting, State::Done, State::Held, State::Failed, State::Applying, State::Planned];
    for (n, state) in states.into_iter().chain([State::Dropped, State::Waiting]).enumerate() {
        // Ids that sort the other way round: within a millisecond they may.
        journal.write(&reacted(&format!("R{}", 9 - n), &format!("m{n}"), state, later(n as i64))).unwrap();
    }
    journal.write(&[line("R9", 0, "received", "")]).unwrap();
    drop(journal);
    let found = pending(&*open());
    let ids: Vec<&str> = found.iter().map(|story| story.reaction.id.as_str()).collect();
    assert_eq!(ids, ["R9", "R7", "R5", "R2"]);
    assert!(found.iter().all(|story| story.messages.len() == 1 && story.lines.is_empty()));
}

pub(crate) fn a_dead_letter_that_is_retried_is_pending_again(open: &Open) {
    let mut journal = open();
    journal.write(&reacted("R1", "m1", State::Failed, start())).unwrap();
    assert!(pending(&*journal).is_empty());
    journal.write(&[Entry::Update(Box::new(row("R1")))]).unwrap();
    assert_eq!(pending(&*journal)[0].messages, [message("m1")]);
}

pub(crate) fn what_was_left_over_keeps_its_part_when_its_parent_is_forgotten(open: &Open) {
    let mut journal = open();
    journal.write(&reacted("R1", "m1", State::Done, start())).unwrap();
    let part = Some(json!({"hosts": ["h7"]}));
    let child = ReactionRow { part: part.clone(), parent: Some("R1".into()), ..row("R2") };
    journal.write(&[Entry::Reaction(Box::new(child), vec!["m1".into()])]).unwrap();
    let failed = ReactionRow { state: State::Failed, updated: later(20), ..row("R2") };
    journal.write(&[Entry::Update(Box::new(failed))]).unwrap();
    journal.write(&[Entry::Update(Box::new(row("R2")))]).unwrap();
    assert_eq!(sweep(&mut *journal, later(10), u64::MAX), 0, "its message is still needed");
    assert_eq!(ids(&*journal, all()), ["R2"]);
    drop(journal);
    let found = pending(&*open()).remove(0);
    assert_eq!((found.reaction.part, found.reaction.parent.as_deref()), (part, Some("R1")));
    assert_eq!(found.messages, [message("m1")]);
}

pub(crate) fn messages_join_in_order_and_each_one_once(open: &Open) {
    let mut journal = open();
    journal.write(&reacted("R1", "m5", State::Waiting, start())).unwrap();
    for (seconds, id) in [(1, "m3"), (2, "m4"), (3, "m3"), (4, "m5")] {
        let not_before = later(seconds);
        let joined = Entry::Joined { reaction: "R1".into(), message: id.into(), not_before };
        journal.write(&[Entry::Message(message(id)), joined]).unwrap();
    }
    let found = &pending(&*journal)[0];
    assert_eq!(found.messages, [message("m5"), message("m3"), message("m4")]);
    assert_eq!((found.reaction.messages, found.reaction.not_before), (3, later(2)));
}

pub(crate) fn an_update_replaces_all_but_what_it_was_made_of(open: &Open) {
    let mut journal = open();
    journal.write(&reacted("R1", "m1", State::Waiting, start())).unwrap();
    let new = ReactionRow {
        id: "R1".into(),
        rule: "renamed".into(),
        handler: "h2".into(),
        key: "k2".into(),
        state: State::Failed,
        attempts: 4,
        created: later(100),
        updated: later(5),
        not_before: later(6),
        at_most: Some(later(7)),
        with: Some(json!(null)),
        reason: Some("why".into()),
        hint: Some("what".into()),
        repeated: 9,
        plan: vec![change("p")],
        done: vec![change("d")],
        approved: Some(vec![]),
        decided_by: Some("ralph".into()),
        messages: 77,
        part: Some(json!({})),
        parent: Some("R9".into()),
    };
    journal.write(&[Entry::Update(Box::new(new.clone()))]).unwrap();
    let found = list(&*journal, all()).remove(0);
    assert_eq!(found, ReactionRow { created: start(), messages: 1, part: None, parent: None, ..new });
    journal.write(&[Entry::Update(Box::new(ReactionRow { done: vec![change("d")], ..row("R1") }))]).unwrap();
    assert_eq!(list(&*journal, all()).remove(0), ReactionRow { messages: 1, done: vec![change("d")], ..row("R1") });
}

pub(crate) fn what_was_done_outlives_the_last_update(open: &Open) {
    let mut journal = open();
    journal.write(&reacted("R1", "m1", State::Applying, start())).unwrap();
    journal.write(&[done("R1", "a"), done("R1", "b")]).unwrap();
    journal.write(&[Entry::Update(Box::new(ReactionRow { state: State::Done, ..row("R1") }))]).unwrap();
    assert_eq!(list(&*journal, all())[0].done, [change("a"), change("b")]);
    let whole = ReactionRow { state: State::Done, done: vec![change("c")], ..row("R1") };
    journal.write(&[Entry::Update(Box::new(whole))]).unwrap();
    assert_eq!(list(&*journal, all())[0].done, [change("c")]);
}

pub(crate) fn a_new_apply_begins_with_nothing_done(open: &Open) {
    let mut journal = open();
    journal.write(&reacted("R1", "m1", State::Applying, start())).unwrap();
    journal.write(&[done("R1", "a"), Entry::Update(Box::new(row("R1")))]).unwrap();
    assert_eq!(pending(&*journal)[0].reaction.done, [change("a")]);
    let again = Entry::Update(Box::new(ReactionRow { state: State::Applying, ..row("R1") }));
    journal.write(&[again, done("R1", "b")]).unwrap();
    assert_eq!(pending(&*journal)[0].reaction.done, [change("b")]);
}

pub(crate) fn the_same_line_again_is_folded_into_the_one_before(open: &Open) {
    let mut journal = open();
    journal.write(&reacted("R1", "m1", State::Waiting, start())).unwrap();
    journal.write(&reacted("R2", "m1", State::Waiting, start())).unwrap();
    let told = [(1, "retry", "x"), (2, "retry", "x"), (3, "retry", "y"), (4, "failed", "y"), (5, "retry", "x")];
    for (seconds, what, detail) in told {
        journal.write(&[line("R1", seconds, what, detail), line("R2", seconds, "retry", "x")]).unwrap();
    }
    let lines = story(&*journal, "R1").lines;
    let times: Vec<u32> = lines.iter().map(|line| line.times).collect();
    assert_eq!(times, [2, 1, 1, 1]);
    assert_eq!((lines[0].at, lines[0].last_at), (later(1), later(2)));
    assert_eq!(story(&*journal, "R2").lines[0].times, 5);
}

pub(crate) fn a_full_story_keeps_how_it_began_and_how_it_ended(open: &Open) {
    let mut journal = open();
    journal.write(&reacted("R1", "m1", State::Waiting, start())).unwrap();
    let many = STORY_LINES_MAX as i64 + 50;
    let lines: Vec<Entry> = (0..many).map(|n| line("R1", n, "retry", &n.to_string())).collect();
    journal.write(&lines).unwrap();
    let lines = story(&*journal, "R1").lines;
    assert_eq!(lines.len(), STORY_LINES_MAX);
    assert_eq!(lines[0].detail, "0");
    assert_eq!(lines[STORY_LINES_MAX - 3].detail, (STORY_LINES_MAX - 3).to_string());
    let last: Vec<&str> = lines[STORY_LINES_MAX - 2..].iter().map(|line| line.detail.as_str()).collect();
    assert_eq!(last, [(many - 2).to_string(), (many - 1).to_string()]);
}

pub(crate) fn long_texts_are_cut_to_their_limit(open: &Open) {
    let long = "é".repeat(TEXT_BYTES_MAX);
    let mut journal = open();
    journal.write(&reacted("R1", "m1", State::Waiting, start())).unwrap();
    let new = ReactionRow { reason: Some(long.clone()), hint: Some(long.clone()), ..row("R1") };
    journal.write(&[Entry::Update(Box::new(new)), line("R1", 1, "retry", &long)]).unwrap();
    journal.write(&[line("R1", 2, "retry", &long), refused(1, &long, &long, &long)]).unwrap();
    let found = story(&*journal, "R1");
    let refused = refused_rows(&*journal, 1).remove(0);
    let texts = [found.reaction.reason.unwrap(), found.reaction.hint.unwrap(), found.lines[0].detail.clone()];
    for text in texts.into_iter().chain([refused.reason, refused.body]) {
        assert!(text.len() <= TEXT_BYTES_MAX && text.len() > TEXT_BYTES_MAX - 4 && text.ends_with("é…"));
    }
    assert_eq!(found.lines[0].times, 2, "a cut line is still the same line");
}

pub(crate) fn refused_messages_with_the_same_reason_are_folded_and_become_the_newest(open: &Open) {
    let mut journal = open();
    journal.write(&[refused(1, "a.b", "no signature", "1"), refused(2, "a.c", "no signature", "2")]).unwrap();
    journal.write(&[refused(3, "a.b", "no signature", "3")]).unwrap();
    let rows = refused_rows(&*journal, 10);
    assert_eq!((rows[0].topic.as_str(), rows[0].body.as_str(), rows[0].at, rows[0].times), ("a.b", "3", later(3), 2));
    assert_eq!((rows[1].topic.as_str(), rows[1].times, rows.len()), ("a.c", 1, 2));
    assert_eq!(refused_rows(&*journal, 1).len(), 1);
}

pub(crate) fn only_the_newest_refused_messages_are_kept(open: &Open) {
    let mut journal = open();
    let most = REFUSED_KEPT_MAX as i64;
    for from in [0, most / 2, most] {
        let flood: Vec<Entry> = (from..from + most / 2).map(|n| refused(n, "a", &n.to_string(), "x")).collect();
        journal.write(&flood).unwrap();
    }
    let rows = refused_rows(&*journal, usize::MAX);
    assert_eq!((rows.len() as u64, counts(&*journal).refused), (REFUSED_KEPT_MAX, REFUSED_KEPT_MAX));
    assert_eq!(rows[0].at, later(most + most / 2 - 1));
    assert_eq!(rows[rows.len() - 1].at, later(most / 2));
}

pub(crate) fn settings_are_set_replaced_and_removed(open: &Open) {
    let set = |name: &str, value: Option<&str>| Entry::Setting { name: name.into(), value: value.map(Into::into) };
    let mut journal = open();
    journal.write(&[set("paused/a", Some("1")), set("paused/ü%", Some("2")), set("every/a", Some("3"))]).unwrap();
    journal.write(&[set("paused/a", Some("4")), set("every/a", None), set("never set", None)]).unwrap();
    drop(journal);
    let journal = open();
    let paused = [("paused/a".to_owned(), "4".to_owned()), ("paused/ü%".to_owned(), "2".to_owned())];
    assert_eq!(settings(&*journal, "paused/"), paused);
    assert_eq!(settings(&*journal, ""), paused);
    assert!(settings(&*journal, "Paused/").is_empty() && settings(&*journal, "every").is_empty());
}

pub(crate) fn a_filter_takes_states_rule_and_id_in_any_case_the_newest_first(open: &Open) {
    let mut journal = open();
    for (n, id) in ["01JA", "01JB", "01KA", "01KB%_"].into_iter().enumerate() {
        let state = if n % 2 == 0 { State::Failed } else { State::Waiting };
        journal.write(&reacted(id, "m", state, start())).unwrap();
    }
    let other = ReactionRow { rule: "other".into(), ..row("01JC") };
    journal.write(&[Entry::Reaction(Box::new(other), vec![])]).unwrap();
    let by_id = |prefix: &str| ids(&*journal, Filter { id_prefix: Some(prefix.into()), ..all() });
    assert_eq!(ids(&*journal, all()), ["01JC", "01KB%_", "01KA", "01JB", "01JA"]);
    assert_eq!(by_id("01jA"), ["01JA"]);
    assert_eq!(by_id("01j"), ["01JC", "01JB", "01JA"]);
    assert_eq!(by_id("01kb%_"), ["01KB%_"]);
    assert!(by_id("%").is_empty() && by_id("01J_").is_empty() && by_id("1").is_empty());
    let failed = Filter { states: vec![State::Failed, State::Held], at_most: 1, ..all() };
    assert_eq!(ids(&*journal, failed), ["01KA"]);
    assert_eq!(ids(&*journal, Filter { rule: Some("other".into()), ..all() }), ["01JC"]);
    let both = Filter { rule: Some("other".into()), states: vec![State::Failed], ..all() };
    assert!(ids(&*journal, both).is_empty());
}

pub(crate) fn a_sweep_forgets_what_is_final_and_old_with_its_messages(open: &Open) {
    let mut journal = open();
    // More than one step's worth.
    for n in 0..500 {
        journal.write(&reacted(&format!("R{n:03}"), &format!("m{n}"), State::Done, start())).unwrap();
    }
    journal.write(&[line("R001", 1, "done", ""), done("R001", "a")]).unwrap();
    journal.write(&reacted("young", "m-young", State::Failed, later(100))).unwrap();
    assert_eq!(sweep(&mut *journal, start(), u64::MAX), 0, "nothing is older than its own time");
    assert_eq!(sweep(&mut *journal, later(100), u64::MAX), 500);
    assert_eq!(ids(&*journal, all()), ["young"]);
    assert_eq!(known(&*journal, &["m1", "m499", "m-young"]), ["m-young"]);
}

pub(crate) fn a_sweep_never_touches_what_is_pending(open: &Open) {
    let mut journal = open();
    for (id, state) in [("R1", State::Waiting), ("R2", State::Applying), ("R3", State::Held)] {
        journal.write(&reacted(id, &format!("m-{id}"), state, start())).unwrap();
        journal.write(&[line(id, 1, "received", "")]).unwrap();
    }
    assert_eq!(sweep(&mut *journal, later(1_000_000_000), 0), 0);
    drop(journal);
    let journal = open();
    assert_eq!(pending(&*journal).iter().map(|story| story.messages.len()).sum::<usize>(), 3);
    assert_eq!(story(&*journal, "R3").lines.len(), 1);
}

pub(crate) fn a_message_of_two_reactions_stays_until_both_are_gone(open: &Open) {
    let mut journal = open();
    journal.write(&reacted("R1", "m1", State::Done, start())).unwrap();
    journal.write(&reacted("R2", "m1", State::Held, start())).unwrap();
    assert_eq!(sweep(&mut *journal, later(10), 0), 0);
    assert_eq!(ids(&*journal, all()), ["R2"]);
    assert_eq!(pending(&*journal)[0].messages, [message("m1")]);
    let dropped = ReactionRow { state: State::Dropped, updated: later(20), ..row("R2") };
    journal.write(&[Entry::Update(Box::new(dropped))]).unwrap();
    assert_eq!(sweep(&mut *journal, later(20), u64::MAX), 0, "dropped just now");
    assert_eq!(sweep(&mut *journal, later(21), u64::MAX), 1);
    assert!(ids(&*journal, all()).is_empty() && known(&*journal, &["m1"]).is_empty());
}

pub(crate) fn a_message_without_reaction_goes_by_the_time_it_was_stored(open: &Open) {
    let mut journal = open();
    let dated = |id: &str, sent: &str| Entry::Message(Message { sent: sent.parse().unwrap(), ..message(id) });
    journal.write(&[dated("old", "1999-01-01T00:00:00Z"), dated("new", "2199-01-01T00:00:00Z")]).unwrap();
    assert_eq!(sweep(&mut *journal, "2000-01-01T00:00:00Z".parse().unwrap(), u64::MAX), 0);
    assert_eq!(known(&*journal, &["old", "new"]), ["new", "old"]);
    assert_eq!(sweep(&mut *journal, "2190-01-01T00:00:00Z".parse().unwrap(), u64::MAX), 2);
}

pub(crate) fn over_the_limit_the_oldest_final_ones_go_first(open: &Open) {
    let mut journal = open();
    journal.write(&reacted("R1", "m1", State::Waiting, start())).unwrap();
    journal.write(&reacted("R2", "m2", State::Done, start())).unwrap();
    journal.write(&[Entry::Message(message("m3"))]).unwrap();
    for n in 4..400 {
        journal.write(&reacted(&format!("R{n}"), &format!("m{n}"), State::Done, start())).unwrap();
    }
    let never = Timestamp::UNIX_EPOCH;
    assert_eq!(sweep(&mut *journal, never, 399), 0);
    assert_eq!(sweep(&mut *journal, never, 397), 2);
    assert_eq!(known(&*journal, &["m1", "m2", "m3", "m4"]), ["m1", "m4"]);
    assert_eq!(sweep(&mut *journal, never, 10), 387);
    journal.write(&reacted("R400", "m400", State::Done, start())).unwrap();
    assert_eq!(sweep(&mut *journal, never, 10), 1);
    assert_eq!(counts(&*journal).messages, 10);
    assert_eq!(known(&*journal, &["m1", "m391", "m392"]), ["m1", "m392"]);
    assert_eq!(sweep(&mut *journal, never, 0), 9);
    assert_eq!(ids(&*journal, all()), ["R1"]);
}

pub(crate) fn texts_keep_every_character(open: &Open) {
    let odd = "\u{0}a\u{e000}0'\"\\%\n\u{10ffff}é";
    let mut journal = open();
    let full = ReactionRow {
        rule: odd.into(),
        handler: odd.into(),
        key: odd.into(),
        reason: Some(odd.into()),
        hint: Some(odd.into()),
        decided_by: Some(odd.into()),
        with: Some(json!({odd: odd})),
        plan: vec![change(odd)],
        messages: 1,
        ..row("R1")
    };
    let body = json!({odd: [odd, 1e300, -0.5, u64::MAX, i64::MIN]});
    let sent = "-009998-01-01T00:00:00Z".parse().unwrap();
    let first = Message { signer: odd.into(), body, ..message(odd) };
    journal
        .write(&[
            Entry::Message(first.clone()),
            Entry::Message(Message { sent, ..message("too old to be true") }),
            Entry::Reaction(Box::new(full.clone()), vec![odd.into()]),
            line("R1", 1, odd, odd),
            refused(1, odd, odd, odd),
            Entry::Setting { name: odd.into(), value: Some(odd.into()) },
        ])
        .unwrap();
    let found = story(&*journal, "R1");
    assert_eq!((found.reaction, found.messages), (full, vec![first]));
    assert_eq!((found.lines[0].what.as_str(), found.lines[0].detail.as_str()), (odd, odd));
    let row = refused_rows(&*journal, 1).remove(0);
    assert_eq!((row.topic.as_str(), row.reason.as_str(), row.body.as_str()), (odd, odd, odd));
    assert_eq!(settings(&*journal, "\u{0}a"), [(odd.to_owned(), odd.to_owned())]);
    assert_eq!(known(&*journal, &[odd, "\u{0}a"]), [odd]);
    assert_eq!(list(&*journal, Filter { rule: Some(odd.into()), ..all() }).len(), 1);
}

pub(crate) fn numbers_are_counted(open: &Open) {
    let mut journal = open();
    let none = counts(&*journal);
    assert!(none.by_state.is_empty() && none.messages == 0 && none.refused == 0);
    for (n, state) in [State::Done, State::Waiting, State::Done].into_iter().enumerate() {
        journal.write(&reacted(&format!("R{n}"), &format!("m{n}"), state, start())).unwrap();
    }
    journal.write(&[refused(1, "a", "b", "c")]).unwrap();
    let found = counts(&*journal);
    assert_eq!(found.by_state, [(State::Waiting, 1), (State::Done, 2)]);
    assert_eq!((found.messages, found.refused), (3, 1));
    assert!(found.bytes > none.bytes && found.bytes > 4_096);
}
