//! A reconcile that a person asks for.

use super::*;

const EVERY: &str = r#"
version: 1
handlers:
  map: { exec: /bin/true }
  tell: { exec: /bin/true }
rules:
  - { name: nightly, on: { every: 6h }, do: map }
  - { name: alias changed, on: org.example.user.update, key: "{{msg.user}}", do: map }
"#;

/// Its `every` rule came due at the start, and found nothing to do.
fn reconciled() -> Core {
    let site = file::load_str("rules.yaml", EVERY, std::path::Path::new("/")).expect("a good site");
    let handlers = site.handlers.iter().map(|(name, config)| (name.clone(), Arc::new(config.clone()))).collect();
    let mut core = Core::new(Arc::new(Rules::new(site.rules)), handlers, false, 1);
    let run = only_run(&start(&mut core, at(0)));
    assert!(planned(&mut core, at(1), run, Ok(Vec::new())).acts.is_empty() && core.pending() == 0);
    core
}

fn start(core: &mut Core, now: Timestamp) -> Turn {
    let mut turn = Turn::default();
    core.start(now, 16, &mut turn);
    turn
}

fn ask(core: &mut Core, now: Timestamp) -> (Vec<Reconciling>, Turn) {
    let mut turn = Turn::default();
    let asked = core.reconcile_now(now, "map", "root", &mut turn).expect("there is such a rule");
    core.start(now, 16, &mut turn);
    (asked, turn)
}

#[test]
fn it_begins_at_once_and_the_time_of_its_rule_runs_anew() {
    let mut core = reconciled();
    assert!(start(&mut core, at(3_600)).acts.is_empty(), "not due for five hours");
    let (asked, turn) = ask(&mut core, at(3_600));
    let run = only_run(&turn);
    assert_eq!((asked.len(), &asked[0].id, &*asked[0].rule, &*asked[0].said), (1, &run.id, "nightly", "begins"));
    assert!(run.messages.is_empty() && run.key == "nightly");
    let stands = |entry: &Entry| matches!(entry, Entry::Setting { name, value: Some(at_) } if name == "every/nightly" && *at_ == at(3_600).to_string());
    assert!(turn.entries.iter().any(stands), "a restart knows that it has been");
    assert!(planned(&mut core, at(3_601), run, Ok(Vec::new())).acts.is_empty());
    assert!(start(&mut core, at(6 * 3_600)).acts.is_empty(), "six hours from the first one: it has been since");
    assert_eq!(start(&mut core, at(7 * 3_600)).acts.len(), 1);
}

#[test]
fn one_that_is_not_over_is_the_one_that_is_asked_for() {
    let mut core = reconciled();
    let (first, turn) = ask(&mut core, at(10));
    let run = only_run(&turn);
    let (again, turn) = ask(&mut core, at(11));
    assert_eq!((&again[0].id, &*again[0].said, turn.acts.len()), (&first[0].id, "runs already", 0));
    assert!(
        planned(&mut core, at(12), run, Err(Failure::retry("no route"))).acts.is_empty(),
        "it waits for its next try"
    );
    let (again, turn) = ask(&mut core, at(13));
    assert_eq!((&again[0].id, &*again[0].said), (&first[0].id, "waited already, it is tried now"));
    let plan = (0..21).map(|n| change("create", &format!("key {n}"))).collect();
    planned(&mut core, at(14), only_run(&turn), Ok(plan));
    let (again, turn) = ask(&mut core, at(15));
    assert_eq!((&again[0].id, &*again[0].said, turn.acts.len()), (&first[0].id, "is held already", 0));
}

#[test]
fn a_message_in_another_lane_is_not_taken_for_a_reconcile() {
    let mut core = reconciled();
    let run =
        only_run(&arrive(&mut core, at(5), vec![message("m", "org.example.user.update", json!({"user": "ralph"}))]));
    let (asked, turn) = ask(&mut core, at(6));
    assert!(asked[0].id != run.id && only_run(&turn).id == asked[0].id);
}

#[test]
fn what_an_apply_left_for_later_is_not_taken_for_a_reconcile() {
    let mut core = reconciled();
    let rule = core.rules.rule("nightly").expect("the rule").clone();
    let row = ReactionRow {
        part: Some(json!({"hosts": ["h7"]})),
        not_before: at(900),
        ..new_row("01PART", &rule, "host h7".into(), at(5))
    };
    core.restore(at(5), vec![Story { reaction: row, messages: vec![], lines: vec![] }], &[], &mut Turn::default());
    let (asked, turn) = ask(&mut core, at(6));
    assert!(asked[0].said == "begins" && only_run(&turn).id == asked[0].id && asked[0].id != "01PART", "{asked:?}");
}

#[test]
fn what_can_not_be_reconciled_says_what_to_write() {
    let mut core = reconciled();
    let mut refused = |handler: &str| core.reconcile_now(at(9), handler, "root", &mut Turn::default()).unwrap_err();
    assert!(refused("tell").contains("do: tell\n    guard:"), "{}", refused("tell"));
    assert_eq!(refused("mapp"), "there is no handler `mapp` in the site; its handlers are map, tell");
    let mut turn = Turn::default();
    core.pause(at(10), "nightly", &mut turn).expect("paused");
    let (asked, turn) = ask(&mut core, at(10));
    assert!(asked[0].said.contains("reactor resume 'nightly'") && turn.acts.is_empty(), "{asked:?}");
    core.drain();
    assert!(core.reconcile_now(at(11), "map", "root", &mut Turn::default()).is_err());
}
