use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn watch(now: i64, position: Option<i64>) -> Watch {
    Watch::new(at(now), position.map(at), 100, true)
}

fn seen(connects: u64, disconnects: u64) -> Seen {
    Seen { connects, disconnects, ..Seen::default() }
}

fn due(watch: &Watch) -> Option<(i64, Why, i64)> {
    watch.due().map(|missed| (missed.from.as_second(), missed.why, missed.at.as_second()))
}

#[test]
fn after_a_restart_the_time_since_the_last_position_is_asked_for_once_connected() {
    let mut watch = watch(1_000, Some(500));
    watch.look(at(1_001), seen(0, 0));
    assert_eq!((due(&watch), watch.position(at(1_001))), (None, at(500)));
    watch.look(at(1_002), seen(1, 0));
    assert_eq!(due(&watch), Some((500, Why::Away, 1_004)));
    assert_eq!(watch.position(at(1_002)), at(500), "a daemon that is killed now begins there again");
    watch.asked(at(1_005), at(1_005));
    assert_eq!((due(&watch), watch.position(at(1_006))), (None, at(1_006)));
}

#[test]
fn a_bus_that_nobody_can_connect_to_is_asked_for_all_the_same_and_again_when_it_is_there() {
    let mut watch = watch(1_000, Some(500));
    watch.look(at(1_005), seen(0, 0));
    assert_eq!(due(&watch), Some((500, Why::Away, 1_007)));
    watch.asked(at(1_008), at(1_008));
    watch.look(at(1_010), seen(0, 0));
    assert_eq!((due(&watch), watch.position(at(1_010))), (None, at(1_005)));
    watch.look(at(2_000), seen(1, 0));
    assert_eq!(due(&watch), Some((1_005, Why::Away, 2_002)));
}

#[test]
fn a_first_start_has_missed_nothing() {
    let mut watch = watch(1_000, None);
    watch.look(at(1_002), seen(1, 0));
    assert_eq!(due(&watch), Some((1_000, Why::Connected, 1_004)), "but what was sent until it was connected");
}

#[test]
fn what_a_lost_connection_missed_is_asked_for_when_it_is_back() {
    let mut watch = watch(0, None);
    watch.look(at(1), seen(2, 0));
    watch.asked(at(3), at(3));
    watch.look(at(100), seen(2, 0));
    watch.look(at(101), seen(2, 1));
    assert_eq!(
        (due(&watch), watch.position(at(200))),
        (None, at(100)),
        "as long as it is away, all is heard up to its loss"
    );
    watch.look(at(300), seen(3, 1));
    assert_eq!(due(&watch), Some((100, Why::Reconnected, 302)));
}

#[test]
fn a_loss_and_a_return_between_two_looks_are_both_seen() {
    let mut watch = watch(0, None);
    watch.look(at(1), seen(1, 0));
    watch.asked(at(3), at(3));
    watch.look(at(50), seen(1, 0));
    watch.look(at(51), seen(2, 1));
    assert_eq!(due(&watch), Some((50, Why::Reconnected, 53)));
}

#[test]
fn a_publisher_that_is_gone_for_good_does_not_keep_others_from_being_caught_up() {
    let mut watch = watch(0, None);
    watch.look(at(1), seen(2, 0));
    watch.asked(at(3), at(3));
    watch.look(at(10), seen(2, 1));
    watch.look(at(500), seen(2, 1));
    watch.look(at(501), seen(2, 2));
    watch.look(at(502), seen(3, 2));
    assert_eq!(due(&watch), Some((500, Why::Reconnected, 504)), "of the one that was lost last");
    watch.asked(at(505), at(505));
    assert_eq!(watch.position(at(600)), at(1), "the first one is still away");
}

#[test]
fn many_connections_are_few_questions() {
    let mut watch = watch(0, None);
    watch.look(at(1), seen(50, 0));
    assert_eq!(due(&watch), Some((0, Why::Connected, 3)));
    watch.asked(at(4), at(4));
    watch.look(at(5), seen(60, 0));
    watch.look(at(6), seen(70, 0));
    assert_eq!(due(&watch), Some((4, Why::Connected, 9)), "not before the pause is over");
}

#[test]
fn a_full_queue_is_a_gap_once_it_is_half_empty_again() {
    let mut watch = watch(0, None);
    let full = |queued| Seen { stalls: 1, queued, ..seen(1, 0) };
    watch.look(at(10), seen(1, 0));
    watch.asked(at(10), at(10));
    watch.look(at(20), full(100));
    assert_eq!((due(&watch), watch.position(at(19))), (None, at(10)));
    watch.look(at(30), full(50));
    assert_eq!(due(&watch), Some((10, Why::Full, 32)));
}

#[test]
fn silence_is_asked_about_since_the_last_message() {
    let mut watch = watch(0, None);
    watch.look(at(10), Seen { received: 5, ..seen(1, 0) });
    watch.asked(at(12), at(12));
    watch.look(at(3_600), Seen { received: 5, ..seen(1, 0) });
    watch.look(at(3_610), Seen { received: 5, silences: 1, ..seen(1, 0) });
    assert_eq!(due(&watch), Some((12, Why::Silent, 3_612)), "up to 12 it was asked about");
}

#[test]
fn whoever_is_deaf_is_asked_about_until_something_comes() {
    let mut watch = watch(0, None);
    let silent = |silences, received| Seen { silences, received, ..seen(1, 0) };
    watch.look(at(10), silent(0, 5));
    watch.asked(at(12), at(12));
    watch.look(at(3_610), silent(1, 5));
    watch.asked(at(3_612), at(3_612));
    watch.look(at(7_200), silent(1, 5));
    assert_eq!(due(&watch), None);
    watch.look(at(7_210), silent(2, 5));
    assert_eq!(due(&watch), Some((3_612, Why::Silent, 7_212)), "and again");
    watch.asked(at(7_212), at(7_212));
    watch.look(at(9_000), silent(2, 6));
    assert_eq!(due(&watch), Some((7_212, Why::Silent, 9_002)), "what was sent before the first that came");
    watch.asked(at(9_002), at(9_002));
    watch.look(at(9_010), silent(2, 7));
    assert_eq!(due(&watch), None, "now it hears");
}

#[test]
fn who_was_never_connected_has_heard_nothing() {
    let mut watch = watch(1_000, None);
    watch.look(at(1_500), seen(0, 0));
    assert_eq!(watch.position(at(1_500)), at(1_000), "a restart before the first connection asks from there");
    watch.look(at(2_000), seen(1, 0));
    watch.asked(at(2_002), at(2_002));
    assert_eq!(watch.position(at(2_010)), at(2_010));
}

#[test]
fn a_connection_that_is_made_and_lost_between_two_looks_at_the_start_is_still_lost() {
    let mut watch = watch(1_000, Some(500));
    watch.look(at(1_001), seen(1, 1));
    assert_eq!(due(&watch), Some((500, Why::Away, 1_003)));
    watch.asked(at(1_003), at(1_003));
    assert_eq!(watch.position(at(1_100)), at(1_000), "it is away, lost at the look before at the earliest");
    watch.look(at(2_000), seen(2, 1));
    assert_eq!(due(&watch), Some((1_000, Why::Reconnected, 2_002)));
}

#[test]
fn a_clock_that_is_set_back_makes_no_gap_that_ends_before_it_begins_and_puts_nothing_off() {
    let mut watch = watch(5_000, None);
    watch.look(at(5_001), seen(1, 0));
    watch.asked(at(5_003), at(5_003));
    watch.look(at(5_100), seen(1, 1));
    watch.look(at(1_000), seen(1, 1));
    watch.look(at(1_010), seen(2, 1));
    assert_eq!(due(&watch), Some((1_000, Why::Reconnected, 1_012)));
    watch.look(at(100), seen(2, 1));
    assert_eq!(due(&watch), Some((100, Why::Reconnected, 102)));
}

#[test]
fn where_nobody_can_be_asked_nothing_is_waited_for() {
    let mut watch = Watch::new(at(1_000), Some(at(500)), 100, false);
    watch.look(at(1_002), seen(1, 0));
    assert_eq!(due(&watch), Some((500, Why::Away, 1_002)));
}

#[test]
fn a_position_from_a_clock_that_was_ahead_is_now() {
    let mut watch = watch(1_000, Some(9_000));
    watch.look(at(1_001), seen(1, 0));
    assert_eq!(due(&watch), Some((1_000, Why::Away, 1_003)));
}
