//! What users rely on: order in a lane, lanes side by side, nothing lost, nothing starved.

use super::*;
use proptest::prelude::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(946_684_800 + seconds).expect("in range")
}

fn lane(handler: &str, key: &str) -> LaneId {
    LaneId { handler: handler.into(), key: key.into() }
}

fn offer(id: &str, rule: &str, key: &str, coalesce: Option<(u64, u64)>) -> Offer {
    let coalesce = coalesce.map(|(q, m)| Coalesce { quiet: Duration::from_secs(q), at_most: Duration::from_secs(m) });
    Offer { id: id.into(), rule: rule.into(), lane: lane("h", key), coalesce, message_bytes: 10 }
}

#[test]
fn reactions_of_one_lane_run_one_at_a_time_and_in_order() {
    let mut lanes = Lanes::new();
    for id in ["a", "b", "c"] {
        lanes.offer(at(0), offer(id, "r", "k", None));
    }
    for id in ["a", "b", "c"] {
        assert_eq!(lanes.start(at(0), 16), [id]);
        assert_eq!(lanes.start(at(0), 16), Vec::<String>::new());
        lanes.finish(id, Outcome::Over);
    }
    assert_eq!((lanes.running(), lanes.waiting(), lanes.lanes.len()), (0, 0, 0), "nothing is left behind");
}

#[test]
fn lanes_run_side_by_side_as_far_as_there_is_room() {
    let mut lanes = Lanes::new();
    for key in ["x", "y", "z"] {
        lanes.offer(at(0), offer(key, "r", key, None));
    }
    assert_eq!(lanes.start(at(0), 2), ["x", "y"]);
    assert_eq!(lanes.start(at(0), 0), Vec::<String>::new());
    assert_eq!(lanes.start(at(0), 1), ["z"]);
}

#[test]
fn a_handler_never_runs_more_at_once_than_its_limit_and_does_not_hold_up_another() {
    let mut lanes = Lanes::new();
    lanes.limit(&"h".into(), 1);
    lanes.offer(at(0), offer("a", "r", "x", None));
    lanes.offer(at(0), offer("b", "r", "y", None));
    lanes.offer(at(0), Offer { lane: lane("other", "x"), ..offer("c", "r", "x", None) });
    assert_eq!(lanes.start(at(0), 16), ["a", "c"]);
    assert_eq!(lanes.wake_at(), None, "b waits for room, not for time");
    lanes.finish("a", Outcome::Over);
    assert_eq!(lanes.start(at(0), 16), ["b"]);
}

#[test]
fn a_message_that_arrives_while_its_lane_runs_is_never_lost() {
    let mut lanes = Lanes::new();
    lanes.offer(at(0), offer("a", "r", "k", Some((0, 60))));
    assert_eq!(lanes.start(at(0), 1), ["a"]);
    assert!(matches!(lanes.offer(at(1), offer("b", "r", "k", Some((0, 60)))), Offered::New { .. }));
    assert!(
        matches!(lanes.offer(at(2), offer("c", "r", "k", Some((0, 60)))), Offered::Joined { reaction, .. } if reaction == "b")
    );
    lanes.finish("a", Outcome::Over);
    assert_eq!(lanes.start(at(2), 1), ["b"]);
}

#[test]
fn a_coalescing_reaction_waits_for_quiet_but_not_for_ever() {
    let mut lanes = Lanes::new();
    lanes.offer(at(0), offer("a", "r", "k", Some((120, 1200))));
    for minute in 1..=20 {
        assert_eq!(lanes.start(at(minute * 60 - 1), 1), Vec::<String>::new());
        assert!(matches!(
            lanes.offer(at(minute * 60), offer("n", "r", "k", Some((120, 1200)))),
            Offered::Joined { .. }
        ));
    }
    assert_eq!(lanes.wake_at(), Some(at(1200)));
    assert_eq!(lanes.start(at(1200), 1), ["a"]);
    assert!(matches!(lanes.offer(at(1260), offer("b", "r", "k", Some((120, 1200)))), Offered::New { .. }));
}

#[test]
fn a_rule_that_does_not_coalesce_never_swallows_a_message() {
    let mut lanes = Lanes::new();
    lanes.offer(at(0), offer("a", "r", "k", None));
    assert!(matches!(lanes.offer(at(0), offer("b", "r", "k", None)), Offered::New { .. }));
    assert!(matches!(lanes.offer(at(0), offer("c", "s", "k", Some((5, 5)))), Offered::New { .. }), "another rule");
}

#[test]
fn a_reaction_holds_no_more_messages_than_a_handler_can_take() {
    let mut lanes = Lanes::new();
    let big = |id: &str| Offer { message_bytes: JOINED_BYTES_MAX / 2 + 1, ..offer(id, "r", "k", Some((60, 600))) };
    lanes.offer(at(0), big("a"));
    assert!(matches!(lanes.offer(at(1), big("b")), Offered::New { .. }));
}

#[test]
fn a_failing_reaction_is_tried_again_at_the_head_of_its_lane_and_other_lanes_flow() {
    let mut lanes = Lanes::new();
    lanes.offer(at(0), offer("a", "r", "k", None));
    lanes.offer(at(0), offer("b", "r", "k", None));
    assert_eq!(lanes.start(at(0), 16), ["a"]);
    lanes.finish("a", Outcome::Again(at(10)));
    lanes.offer(at(1), offer("c", "r", "other", None));
    assert_eq!(lanes.start(at(5), 16), ["c"]);
    assert_eq!(lanes.wake_at(), Some(at(10)));
    assert_eq!(lanes.start(at(10), 16), ["a"]);
    lanes.finish("a", Outcome::Over);
    assert_eq!(lanes.start(at(10), 16), ["b"]);
}

#[test]
fn a_message_does_not_join_a_reaction_that_was_already_tried() {
    let mut lanes = Lanes::new();
    lanes.offer(at(0), offer("a", "r", "k", Some((0, 600))));
    lanes.start(at(0), 1);
    lanes.finish("a", Outcome::Again(at(10)));
    assert!(matches!(lanes.offer(at(1), offer("b", "r", "k", Some((0, 600)))), Offered::New { .. }));
}

#[test]
fn a_held_reaction_keeps_its_lane_waiting_until_a_person_decides() {
    let mut lanes = Lanes::new();
    lanes.offer(at(0), offer("a", "r", "k", None));
    lanes.offer(at(0), offer("b", "r", "k", None));
    lanes.start(at(0), 1);
    lanes.finish("a", Outcome::Held);
    assert_eq!(lanes.start(at(9_999), 16), Vec::<String>::new());
    assert_eq!((lanes.behind("a"), lanes.wake_at()), (1, None));
    assert!(lanes.release(at(9_999), "a"));
    assert_eq!(lanes.start(at(9_999), 16), ["a"]);
    lanes.finish("a", Outcome::Held);
    assert!(lanes.remove("a"));
    assert_eq!(lanes.start(at(9_999), 16), ["b"]);
    assert!(!lanes.remove("b"), "what runs can't be taken out");
}

#[test]
fn a_paused_rule_does_not_start_and_forgets_nothing() {
    let mut lanes = Lanes::new();
    lanes.pause(&"r".into());
    lanes.offer(at(0), offer("a", "r", "k", None));
    assert_eq!((lanes.start(at(1), 16), lanes.wake_at()), (vec![], None));
    lanes.resume("r");
    assert_eq!(lanes.start(at(1), 16), ["a"]);
}

#[test]
fn what_was_there_before_a_restart_is_there_after_it() {
    let mut lanes = Lanes::new();
    let back = |id: &str, held| Restored {
        id: id.into(),
        rule: "r".into(),
        lane: lane("h", "k"),
        not_before: at(5),
        coalescing_until: None,
        held,
        messages: (1, 10),
    };
    lanes.restore(back("a", true));
    lanes.restore(back("b", false));
    assert_eq!(lanes.start(at(60), 16), Vec::<String>::new());
    lanes.release(at(60), "a");
    assert_eq!(lanes.start(at(60), 16), ["a"]);
}

#[test]
fn the_wait_between_tries_doubles_up_to_its_limit_and_tries_run_out() {
    let retry = Retry { times: 4, wait: Duration::from_secs(10), up_to: Duration::from_secs(60) };
    let waits: Vec<_> = (1..=5).map(|n| retry_at(at(0), &retry, n, None, 0.5)).collect();
    assert_eq!(waits, [Some(at(10)), Some(at(20)), Some(at(40)), Some(at(60)), None]);
    assert_eq!(retry_at(at(0), &retry, 1, Some(Duration::from_secs(30)), 0.5), Some(at(30)));
    assert_eq!(retry_at(at(0), &retry, 1, Some(Duration::from_secs(9_999)), 0.5), Some(at(60)));
    assert_eq!(retry_at(at(0), &retry, 1, None, 0.0), Some(at(8)));
    assert_eq!(retry_at(at(0), &retry, 1, None, 1.0), Some(at(12)));
}

proptest! {
    /// Whatever comes in, in whatever order runs end: one at a time in a lane, in order, and all of it in the end.
    #[test]
    fn every_reaction_runs_once_and_in_order(steps in proptest::collection::vec((0_u8..4, 0_u8..5), 1..200), room in 1_usize..5) {
        let mut lanes = Lanes::new();
        lanes.limit(&"h".into(), 3);
        let mut made: HashMap<u8, Vec<String>> = HashMap::new();
        let mut ran: HashMap<u8, Vec<String>> = HashMap::new();
        let mut running: Vec<(u8, String)> = Vec::new();
        let key_of = |id: &str| id.split('-').next().and_then(|k| k.parse::<u8>().ok()).unwrap_or(0);
        let begin = |lanes: &mut Lanes, running: &mut Vec<(u8, String)>, now| {
            for id in lanes.start(now, room.saturating_sub(running.len())) {
                assert!(running.iter().all(|(key, _)| *key != key_of(&id)), "two at once in a lane");
                running.push((key_of(&id), id));
            }
            assert!(running.len() <= room.clamp(1, 3));
        };
        for (n, (what, key)) in steps.iter().enumerate() {
            let now = at(n as i64);
            if *what > 0 || running.is_empty() {
                let id = format!("{key}-{n}");
                lanes.offer(now, offer(&id, "r", &key.to_string(), None));
                made.entry(*key).or_default().push(id);
            } else {
                let (key, id) = running.remove(0);
                if n % 3 == 0 {
                    lanes.finish(&id, Outcome::Again(now));
                } else {
                    lanes.finish(&id, Outcome::Over);
                    ran.entry(key).or_default().push(id);
                }
            }
            begin(&mut lanes, &mut running, now);
        }
        while let Some((key, id)) = running.pop() {
            lanes.finish(&id, Outcome::Over);
            ran.entry(key).or_default().push(id);
            begin(&mut lanes, &mut running, at(10_000));
        }
        prop_assert_eq!(made, ran);
        prop_assert_eq!(lanes.waiting(), 0);
    }
}
