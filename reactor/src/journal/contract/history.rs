//! Which messages a journal tells of what came by the buses.

use serde_json::json;

use super::super::{Answer, Entry, Journal, Kept, Message, Page, Question, Topic, Wanted};
use super::Open;
use super::parts::{later, message};

/// A message on that topic, sent so many seconds after the start.
fn on(topic: &str, id: &str, seconds: i64) -> Entry {
    let (topic, sent) = (Topic::new(topic).unwrap(), later(seconds));
    Entry::Message(Message { topic, sent, body: json!({"id": id}), ..message(id) })
}

fn page(journal: &dyn Journal, wanted: Wanted) -> Page {
    match journal.ask(&Question::Messages(Box::new(wanted))).unwrap() {
        Answer::Messages(page) => page,
        other => panic!("{other:?}"),
    }
}

/// The ids of a page, and how many there are in all.
fn told(journal: &dyn Journal, wanted: Wanted) -> (Vec<String>, u64) {
    let page = page(journal, wanted);
    (page.messages.into_iter().map(|kept| kept.message.id).collect(), page.total)
}

pub(crate) fn messages_come_in_pages_by_the_time_they_were_sent(open: &Open) {
    let mut journal = open();
    assert_eq!(page(&*journal, Wanted { at_most: 9, ..Wanted::default() }), Page::default());
    // Written in another order than sent; c and d in the same instant; our own is none of a bus.
    let batch = [
        on("a.b.c.git.d", "e", 5),
        on("a.b.c.git.d", "a", 1),
        on("a.b.c.git.d", "b", 2),
        on("a.b.c.git.d", "c", 3),
        on("a.b.c.git.d", "d", 3),
        on("reactor.reaction.done", "own", 4),
        on("reactors.b", "f", 6),
    ];
    journal.write(&batch).unwrap();
    let of = |newest_first, skip, at_most| told(&*journal, Wanted { newest_first, skip, at_most, ..Wanted::default() });
    let ids = |ids: &[&str]| (ids.iter().map(|id| (*id).to_owned()).collect(), 6);
    assert_eq!(of(false, 0, 3), ids(&["a", "b", "c"]));
    assert_eq!(of(false, 3, 3), ids(&["d", "e", "f"]));
    assert_eq!(of(false, 6, 3), ids(&[]));
    assert_eq!(of(true, 0, 4), ids(&["f", "e", "d", "c"]));
    assert_eq!(of(true, u64::MAX, 4), ids(&[]));
    let whole = page(&*journal, Wanted { at_most: 1, ..Wanted::default() }).messages;
    let sent = later(1);
    let topic = Topic::new("a.b.c.git.d").unwrap();
    let message = Message { topic, sent, body: json!({"id": "a"}), ..message("a") };
    assert_eq!(whole, [Kept { message, envelope: None }]);
}

pub(crate) fn messages_are_found_by_topic_category_time_and_id(open: &Open) {
    let mut journal = open();
    let batch = [
        on("org.example.prod.git.receive", "git", 1),
        on("org.example.prod.fas.user", "fas", 2),
        on("VirtualTopic.eng.brew.build.x", "brew", 3),
        on("short.topic", "short", 4),
    ];
    journal.write(&batch).unwrap();
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let found = |wanted: Wanted| told(&*journal, Wanted { at_most: 9, ..wanted }).0;
    let all = Wanted::default;
    assert_eq!(found(Wanted { topics: texts(&["short.topic", "no.such"]), ..all() }), ["short"]);
    assert_eq!(found(Wanted { not_topics: texts(&["short.topic"]), ..all() }), ["git", "fas", "brew"]);
    assert_eq!(found(Wanted { categories: texts(&["git", "brew"]), ..all() }), ["git", "brew"]);
    assert_eq!(found(Wanted { not_categories: texts(&["git", "fas"]), ..all() }), ["brew", "short"]);
    assert_eq!(found(Wanted { since: Some(later(2)), until: Some(later(3)), ..all() }), ["fas", "brew"]);
    assert_eq!(found(Wanted { since: Some(later(5)), ..all() }), Vec::<String>::new());
    assert_eq!(found(Wanted { id: Some("fas".into()), ..all() }), ["fas"]);
    let both = Wanted { categories: texts(&["git", "fas"]), until: Some(later(1)), ..all() };
    assert_eq!(told(&*journal, Wanted { at_most: 9, ..both }), (texts(&["git"]), 1), "all must fit");
    let hostile = Wanted { topics: texts(&["' OR 1=1 --", "\u{0}"]), categories: texts(&["%"]), ..all() };
    assert_eq!(found(hostile), Vec::<String>::new());
}

pub(crate) fn an_envelope_stays_with_its_message(open: &Open) {
    let mut journal = open();
    let envelope = |message: &str, fields: &str| Entry::Envelope { message: message.into(), fields: fields.into() };
    let fields = r#"{"signature":"a\u0000b","i":1,"timestamp":1.50}"#;
    journal.write(&[on("a.b", "m", 1), envelope("m", fields), envelope("none", fields)]).unwrap();
    journal.write(&[on("a.b", "m", 1), envelope("m", "{}")]).unwrap();
    drop(journal);
    let found = page(&*open(), Wanted { at_most: 9, ..Wanted::default() });
    assert_eq!((found.total, found.messages[0].envelope.as_deref()), (1, Some(fields)));
}
