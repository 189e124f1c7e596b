//! What the engine decides when something changes under a reaction: the clock, its rule, a person's mind.

use super::*;

/// The site of the tests above, with another handler for the rule.
fn reload_with(core: &mut Core, from: &str, to: &str) {
    let site = file::load_str("rules.yaml", &SITE.replace(from, to), std::path::Path::new("/")).expect("a good site");
    let handlers = site.handlers.iter().map(|(name, config)| (name.clone(), Arc::new(config.clone()))).collect();
    core.reload(Arc::new(Rules::new(site.rules)), handlers, false);
}

const DO_MAP: &str = "key: \"{{msg.user}}\"\n    do: map\n    with:";
const DO_TELL: &str = "key: \"{{msg.user}}\"\n    do: tell\n    with:";

#[test]
fn a_clock_that_is_set_back_makes_nobody_wait_until_that_time_comes_again() {
    let mut core = core();
    let run = only_run(&arrive(&mut core, at(86_400), vec![update("m1", "ralph")]));
    assert!(arrive(&mut core, at(86_400), vec![update("m2", "ralph")]).acts.is_empty(), "the same lane");
    // Set back by a day while the first one runs.
    let mut turn = Turn::default();
    core.start(at(0), 16, &mut turn);
    assert!(turn.acts.is_empty());
    let turn = planned(&mut core, at(1), run, Ok(vec![]));
    assert_eq!(only_run(&turn).messages[0].id, "m2");
}

#[test]
fn a_retry_is_as_long_as_before_when_the_clock_is_set_back() {
    let mut core = core();
    let run = only_run(&arrive(&mut core, at(86_400), vec![update("m1", "ralph")]));
    assert!(planned(&mut core, at(86_400), run, Err(down())).acts.is_empty());
    let mut turn = Turn::default();
    core.start(at(0), 16, &mut turn);
    let wake = core.wake_at(16).expect("it waits for time");
    assert!(turn.acts.is_empty() && wake > at(7) && wake < at(13), "10 s ±20 %, not a day: {wake}");
}

#[test]
fn what_was_written_when_the_clock_was_ahead_does_not_wait_for_that_time_after_a_restart() {
    let mut before = core();
    let run = only_run(&arrive(&mut before, at(86_400), vec![update("m1", "ralph")]));
    let row = rows(&planned(&mut before, at(86_400), run, Err(down()))).pop().expect("a row");
    let story = Story { reaction: row, messages: vec![update("m1", "ralph")], lines: vec![] };
    let mut after = core();
    let mut turn = Turn::default();
    after.restore(at(0), vec![story], &[], &mut turn);
    after.start(at(0), 16, &mut turn);
    assert!(after.wake_at(16).is_some_and(|wake| wake < at(13)), "{:?}", after.wake_at(16));
}

#[test]
fn a_rule_that_is_paused_while_its_plan_is_made_changes_nothing_until_it_goes_on() {
    let mut core = core();
    let run = only_run(&arrive(&mut core, at(0), vec![update("m1", "ralph")]));
    core.pause(at(1), "alias changed", &mut Turn::default()).expect("paused");
    let turn = planned(&mut core, at(2), run.clone(), Ok(vec![change("update", "alias ralph")]));
    assert_eq!((turn.acts.len(), last_state(&turn, &run.id)), (0, State::Waiting));
    let mut turn = Turn::default();
    core.resume("alias changed", &mut turn).expect("resumed");
    core.start(at(3), 16, &mut turn);
    let again = only_run(&turn);
    assert!(matches!(turn.acts.as_slice(), [Act::Plan(_)]), "planned anew");
    assert_eq!((again.id, again.attempt), (run.id, 1), "that was no failed try");
}

#[test]
fn a_rule_that_became_mode_plan_while_its_plan_was_made_changes_nothing() {
    let mut core = core();
    let run = only_run(&arrive(&mut core, at(0), vec![update("m1", "ralph")]));
    reload_with(&mut core, "on: org.example.user.update", "mode: plan\n    on: org.example.user.update");
    let turn = planned(&mut core, at(2), run.clone(), Ok(vec![change("update", "alias ralph")]));
    assert_eq!((turn.acts.len(), last_state(&turn, &run.id)), (0, State::Planned));
}

#[test]
fn a_stopping_daemon_begins_no_apply() {
    let mut core = core();
    let run = only_run(&arrive(&mut core, at(0), vec![update("m1", "ralph")]));
    core.drain();
    let turn = planned(&mut core, at(2), run.clone(), Ok(vec![change("update", "alias ralph")]));
    assert_eq!((turn.acts.len(), last_state(&turn, &run.id), core.lanes.running()), (0, State::Waiting, 0));
}

#[test]
fn after_a_rule_took_another_handler_still_only_one_runs_for_a_key_there() {
    let mut core = core();
    let old = only_run(&arrive(&mut core, at(0), vec![update("m1", "ralph")]));
    assert!(arrive(&mut core, at(0), vec![update("m2", "ralph")]).acts.is_empty(), "the same lane");
    reload_with(&mut core, DO_MAP, DO_TELL);
    let new = only_run(&arrive(&mut core, at(1), vec![update("m3", "ralph")]));
    assert_eq!((&*new.handler.name, new.messages[0].id.as_str()), ("tell", "m3"));
    // The old handler's run ends; what waited behind it must not run beside the new one's.
    let turn = applied(&mut core, at(2), &old, Ok(None));
    let moved = rows(&turn).into_iter().find(|row| row.state == State::Waiting).expect("a moved reaction");
    assert_eq!((moved.handler.as_str(), turn.acts.len(), core.lanes.running()), ("tell", 0, 1));
    let turn = planned(&mut core, at(3), new, Ok(vec![]));
    let last = only_run(&turn);
    assert_eq!((&*last.handler.name, last.messages[0].id.as_str()), ("tell", "m2"));
}

#[test]
fn a_thousand_tries_of_many_changes_keep_only_the_last_tries_changes() {
    let mut core = core();
    let mut run = only_run(&arrive(&mut core, at(0), vec![update("m1", "ralph")]));
    for now in [0, 100] {
        planned(&mut core, at(now), run.clone(), Ok(vec![change("update", "alias ralph")]));
        core.changed(at(now), &run.id, &change("update", "alias ralph"), &mut Turn::default());
        let turn = applied(&mut core, at(now), &run, Err(down()));
        assert_eq!(rows(&turn).pop().expect("a row").done.len(), 1);
        let mut turn = Turn::default();
        core.start(at(now + 60), 16, &mut turn);
        run = only_run(&turn);
    }
}

#[test]
fn an_empty_id_means_nobody() {
    let mut core = core();
    arrive(&mut core, at(0), vec![update("m1", "ralph")]);
    assert!(core.find("").is_err());
}

#[test]
fn the_bytes_that_wait_are_counted_and_forgotten() {
    let mut core = core();
    let body = json!({"user": "ralph", "fields": ["email"], "text": "x".repeat(100_000)});
    let run = only_run(&arrive(&mut core, at(0), vec![message("m1", "org.example.user.update", body)]));
    assert!(core.pending_bytes() > 100_000);
    planned(&mut core, at(1), run, Ok(vec![]));
    assert_eq!(core.pending_bytes(), 0);
}

#[test]
fn a_change_that_its_handler_holds_waits_and_approval_is_for_it_alone() {
    let mut core = core();
    let run = only_run(&arrive(&mut core, at(0), vec![update("m1", "ralph")]));
    let held = |target: &str| Change { hold: Some("everyone may write".into()), ..change("update", target) };
    let turn = planned(&mut core, at(1), run.clone(), Ok(vec![held("rpms/foo")]));
    assert_eq!(last_state(&turn, &run.id), State::Held, "one change, and two may run without a person");
    let row = rows(&turn).into_iter().find(|row| row.id == run.id && row.state == State::Held).expect("a row");
    assert_eq!(row.reason.as_deref(), Some("rpms/foo: everyone may write"));
    let told = only_run(&turn);
    assert_eq!((&*told.rule.name, &told.messages[0].body["reason"]), ("somebody must look", &json!(row.reason)));

    let mut plan_after_approval = |now: i64, plan: Vec<Change>| {
        let mut turn = Turn::default();
        core.approve(at(now), &run.id, "admin", &mut turn).expect("approved");
        core.start(at(now), 16, &mut turn);
        planned(&mut core, at(now), only_run(&turn), Ok(plan))
    };
    let grown = plan_after_approval(60, vec![held("rpms/foo"), held("rpms/bar")]);
    assert_eq!(last_state(&grown, &run.id), State::Held);
    let turn = plan_after_approval(70, vec![held("rpms/foo"), held("rpms/bar")]);
    assert_eq!(last_state(&turn, &run.id), State::Applying);
    let mut done = Turn::default();
    core.changed(at(71), &run.id, &held("rpms/foo"), &mut done);
    let is_held = |entry: &Entry| matches!(entry, Entry::ChangeDone { change, .. } if change.hold.is_some());
    assert!(!done.entries.iter().any(is_held), "what is done does not wait for a person any more");
}
