//! What the sentences are made of: messages, reactions, and short ways to ask.

use std::sync::Arc;

use handler_api::{Action, Change};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, json};

use super::super::{
    Answer, Counts, Entry, Filter, Journal, Message, Question, ReactionRow, RefusedRow, State, Story, Swept, Topic,
};

/// The start of the tests' time.
pub(crate) fn start() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

/// So many seconds later.
pub(crate) fn later(seconds: i64) -> Timestamp {
    start() + SignedDuration::from_secs(seconds)
}

/// A message.
pub(crate) fn message(id: &str) -> Message {
    Message {
        id: id.into(),
        topic: Topic::new("org.example.prod.fas.user.update").unwrap(),
        sent: start(),
        bus: Arc::from("fedora"),
        signer: "shell-fas01.example.org".into(),
        body: json!({"user": "ralph", "n": 1.5, "text": "ü\n\u{0}'\"", "list": [1, null, {"a": true}]}),
        headers: Map::new(),
    }
}

/// A reaction that waits.
pub(crate) fn row(id: &str) -> ReactionRow {
    ReactionRow {
        id: id.into(),
        rule: "ssh key changed".into(),
        handler: "hosts".into(),
        key: "ralph".into(),
        state: State::Waiting,
        attempts: 0,
        created: start(),
        updated: start(),
        not_before: start(),
        at_most: None,
        with: None,
        reason: None,
        hint: None,
        repeated: 0,
        plan: Vec::new(),
        done: Vec::new(),
        approved: None,
        decided_by: None,
        messages: 0,
        part: None,
        parent: None,
    }
}

/// A change, with a field of the handler's own.
pub(crate) fn change(target: &str) -> Change {
    let more = Map::from_iter([("own".to_owned(), json!([1, "x"]))]);
    let (before, after) = (Some(json!("old")), Some(json!({"keys": ["new"]})));
    let hold = Some("a person must look".to_owned());
    Change { action: Action::Update, target: target.into(), before, after, secret: false, hold, count: Some(3), more }
}

/// A message, and a reaction to it in `state` since `updated`.
pub(crate) fn reacted(id: &str, message_id: &str, state: State, updated: Timestamp) -> [Entry; 2] {
    let row = ReactionRow { state, updated, ..row(id) };
    [Entry::Message(message(message_id)), Entry::Reaction(Box::new(row), vec![message_id.into()])]
}

pub(crate) fn line(reaction: &str, seconds: i64, what: &str, detail: &str) -> Entry {
    Entry::Story { reaction: reaction.into(), at: later(seconds), what: what.into(), detail: detail.into() }
}

pub(crate) fn done(reaction: &str, target: &str) -> Entry {
    Entry::ChangeDone { reaction: reaction.into(), change: change(target), at: later(1) }
}

pub(crate) fn refused(seconds: i64, topic: &str, reason: &str, body: &str) -> Entry {
    let (bus, topic, reason, body) = ("fedora".into(), topic.into(), reason.into(), body.into());
    Entry::Refused { at: later(seconds), bus, topic, reason, body }
}

/// The stories of what is pending.
pub(crate) fn pending(journal: &dyn Journal) -> Vec<Story> {
    match journal.ask(&Question::Pending).unwrap() {
        Answer::Stories(stories) => stories,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn all() -> Filter {
    Filter::default()
}

pub(crate) fn list(journal: &dyn Journal, filter: Filter) -> Vec<ReactionRow> {
    match journal.ask(&Question::List(filter)).unwrap() {
        Answer::Reactions(rows) => rows,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn ids(journal: &dyn Journal, filter: Filter) -> Vec<String> {
    list(journal, filter).into_iter().map(|row| row.id).collect()
}

pub(crate) fn story(journal: &dyn Journal, id: &str) -> Story {
    match journal.ask(&Question::Stories(Filter { id_prefix: Some(id.into()), ..all() })).unwrap() {
        Answer::Stories(mut stories) if stories.len() == 1 => stories.remove(0),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn counts(journal: &dyn Journal) -> Counts {
    match journal.ask(&Question::Counts).unwrap() {
        Answer::Counts(counts) => counts,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn refused_rows(journal: &dyn Journal, at_most: usize) -> Vec<RefusedRow> {
    match journal.ask(&Question::Refused(at_most)).unwrap() {
        Answer::Refused(rows) => rows,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn settings(journal: &dyn Journal, prefix: &str) -> Vec<(String, String)> {
    match journal.ask(&Question::Settings(prefix.into())).unwrap() {
        Answer::Settings(settings) => settings,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn known(journal: &dyn Journal, ids: &[&str]) -> Vec<String> {
    let mut known: Vec<String> = journal.seen(ids).unwrap().into_iter().collect();
    known.sort();
    known
}

/// All steps of a sweep.
pub(crate) fn sweep(journal: &mut dyn Journal, before: Timestamp, messages_max: u64) -> u64 {
    let mut messages = 0;
    loop {
        let swept: Swept = journal.sweep(before, messages_max).unwrap();
        messages += swept.messages;
        if !swept.more {
            return messages;
        }
    }
}
