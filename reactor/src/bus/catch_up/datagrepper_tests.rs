use super::*;
use jiff::Timestamp;

fn pages() -> Pages {
    let window = Window { from: Timestamp::UNIX_EPOCH, to: Timestamp::UNIX_EPOCH };
    Pages::new("https://x.example.org/raw", None, None, &Filter::All, window)
}

fn page(ids: &[&str], pages: u64, total: u64) -> Page {
    let messages = ids.iter().map(|id| {
        let sent = Timestamp::from_second(id.len() as i64).ok();
        Kept { id: Some((*id).to_owned()), topic: "a.b".into(), sent, body: Vec::new() }
    });
    Page { messages: messages.collect(), broken: 0, pages, total }
}

fn ids(kept: &[Kept]) -> Vec<&str> {
    kept.iter().filter_map(|kept| kept.id.as_deref()).collect()
}

#[test]
fn pages_are_read_to_the_last_and_doubles_come_once() {
    let mut asked = pages();
    assert_eq!(ids(&asked.take(page(&["a", "b"], 2, 3))), ["a", "b"]);
    assert_eq!((asked.page, asked.is_over), (2, false));
    assert_eq!(ids(&asked.take(page(&["b", "c"], 2, 3))), ["c"]);
    assert!(asked.is_over && asked.missing() == 0);
}

#[test]
fn what_a_tie_skipped_is_found_in_another_pass() {
    let mut asked = pages();
    asked.take(page(&["a", "b"], 2, 4));
    asked.take(page(&["b", "c"], 2, 4));
    assert_eq!((asked.page, asked.is_over, asked.missing()), (1, false, 1));
    assert_eq!(ids(&asked.take(page(&["a", "d"], 2, 4))), ["d"]);
    asked.take(page(&["b", "c"], 2, 4));
    assert!(asked.is_over && asked.missing() == 0);
}

#[test]
fn a_server_that_never_hands_over_what_it_counts_is_not_asked_for_ever() {
    let mut asked = pages();
    for _ in 0..PASSES_MAX {
        assert!(!asked.is_over);
        asked.take(page(&["a"], 1, 9));
    }
    assert!(asked.is_over);
    assert_eq!(asked.missing(), 8);
    let mut empty = pages();
    empty.take(page(&[], 9, 9));
    assert!(empty.is_over, "an empty page is the end");
}

#[test]
fn a_page_is_sorted_by_time_as_far_as_times_go() {
    let mut asked = pages();
    assert_eq!(ids(&asked.take(page(&["ccc", "a", "bb", "b"], 1, 4))), ["a", "b", "bb", "ccc"]);
}

#[test]
fn what_is_no_page_is_said_and_what_is_no_message_is_counted() {
    for wrong in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"pages":1,"total":1}"#,
        r#"{"pages":-1,"total":1,"raw_messages":[]}"#,
        r#"{"pages":1,"total":1,"raw_messages":{}}"#,
        r#"{"pages":1,"total":"x","raw_messages":[]}"#,
    ] {
        assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
    }
    let text = r#"{"raw_messages":[1,{"topic":"a","msg":1,"msg_id":"m"},{}],"pages":1,"total":3}"#;
    let page = read(text.as_bytes()).expect("a page");
    assert_eq!((page.messages.len(), page.broken), (1, 2));
    let mut asked = pages();
    asked.take(page);
    assert_eq!((asked.is_over, asked.missing()), (true, 2), "it is not read again, but told");
    let bomb = format!(r#"{{"pages":1,"total":1,"raw_messages":[{}1]}}"#, "1,".repeat(ANSWER_VALUES_MAX));
    assert!(read(bomb.as_bytes()).expect_err("too many").contains("more than"));
}

fn at(second: i64) -> Option<Timestamp> {
    Timestamp::from_second(second).ok()
}

#[test]
fn what_went_while_it_was_read_is_looked_for_again() {
    let mut asked = pages();
    asked.to = at(99).expect("a time");
    asked.take(page(&["a", "b"], 2, 4));
    assert_eq!(asked.reached(), at(1));
    // `a` and `b` are too old now: `c` and `d` have become the first page, and the second is empty.
    asked.take(page(&[], 1, 2));
    assert_eq!((asked.is_over, asked.missing(), asked.reached()), (false, 2, None));
    assert_eq!(ids(&asked.take(page(&["c", "d"], 1, 2))), ["c", "d"]);
    assert!(asked.is_over && asked.missing() == 0);
}

#[test]
fn how_far_it_came_is_known_only_where_the_oldest_come_first_and_never_later_than_was_asked_for() {
    let mut asked = pages();
    asked.to = at(3).expect("a time");
    assert_eq!(asked.reached(), None);
    asked.take(page(&["a", "bb"], 3, 9));
    assert_eq!(asked.reached(), at(2));
    asked.take(page(&["ccccccc"], 3, 9));
    assert_eq!(asked.reached(), at(3), "its publisher's clock is ahead");
    let mut newest_first = pages();
    newest_first.to = at(9).expect("a time");
    newest_first.take(page(&["ddd", "aa"], 2, 3));
    assert_eq!(newest_first.reached(), None);
    let mut again = pages();
    again.to = at(9).expect("a time");
    again.take(page(&["a", "bb"], 1, 3));
    assert_eq!((again.pass, again.reached()), (2, None), "one was skipped, and nobody knows where");
}

#[test]
fn the_question_says_the_window_the_order_and_the_filter() {
    let window = Window {
        from: "2026-11-21T10:00:00.7Z".parse().expect("a time"),
        to: "2026-11-21T11:00:00.2Z".parse().expect("a time"),
    };
    let asked = Pages::new("https://x/raw", None, None, &Filter::Categories(vec!["fas".into()]), window);
    assert_eq!(asked.query, "start=1795255200&end=1795258801&order=asc&rows_per_page=100&category=fas");
}

#[test]
fn what_may_pass_is_asked_again_and_what_will_not_is_not() {
    for (status, again) in
        [(500, true), (503, true), (429, true), (404, false), (400, false), (401, false), (302, false)]
    {
        let failure = refused("https://x/raw", status, b"{\"error\": \"bad\"}");
        assert_eq!(matches!(failure, Failure::Retry { .. }), again, "{status}");
        assert!(failure.hint().is_some());
    }
}
