//! Copying: into the journal under test from one in a file, and out of it into another.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::json;

use super::super::copy::{PAGE_ROWS, copy, is_whole};
use super::super::sqlite::SqliteJournal;
use super::super::{Answer, Entry, Journal, JournalError, OUTBOX, Question, ReactionRow, State, Swept};
use super::Open;
use super::parts::{change, counts, done, later, line, message, pending, reacted, refused, row, settings, story};

/// One that has something of everything, more than a page of messages, and what only time makes: a folded line, a change with
/// its own time, a message of two reactions, one of none.
fn full(journal: &mut dyn Journal) {
    for n in 0..PAGE_ROWS + 20 {
        journal.write(&[Entry::Message(message(&format!("old{n}")))]).unwrap();
    }
    let fields = r#"{"signature":"abc","i":1}"#.to_owned();
    journal.write(&[Entry::Envelope { message: "old3".into(), fields }]).unwrap();
    let with = ReactionRow {
        with: Some(json!({"user": "ralph\u{0}"})),
        reason: Some("\u{0}why".into()),
        plan: vec![change("alias a")],
        part: Some(json!({"hosts": ["h7"]})),
        parent: Some("R0".into()),
        ..row("R9")
    };
    journal.write(&reacted("R5", "m1", State::Failed, later(3))).unwrap();
    journal.write(&[Entry::Reaction(Box::new(with), vec!["old7".into(), "m1".into()])]).unwrap();
    journal.write(&reacted("R1", "m2", State::Held, later(1))).unwrap();
    for seconds in [4, 5, 9] {
        journal.write(&[line("R9", seconds, "retry", "the host is down")]).unwrap();
    }
    journal
        .write(&[
            done("R9", "alias a"),
            refused(1, "t", "a reason", "{"),
            refused(2, "t", "a reason", "["),
            refused(3, "t", "another", "\u{0}"),
        ])
        .unwrap();
    let set = |name: String| Entry::Setting { name, value: Some("v".into()) };
    journal.write(&[set("paused/ssh key changed".into()), set(format!("{OUTBOX}reactor-R5"))]).unwrap();
}

fn in_a_file() -> (tempfile::TempDir, SqliteJournal) {
    let directory = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(directory.path()).unwrap();
    (directory, journal)
}

pub(crate) fn all_of_it_can_be_copied_in_and_out_again(open: &Open) {
    let ((_one, mut from), (_other, mut out)) = (in_a_file(), in_a_file());
    full(&mut from);
    let mut to = open();
    let summary = copy(&from, "the file", &mut *to).unwrap();
    assert_eq!((summary.pending, summary.resumed, is_whole(&*to).unwrap()), (2, false, true));
    assert_eq!(counts(&*to).messages, PAGE_ROWS as u64 + 22);
    copy(&*to, "the other", &mut out).unwrap();
    // `copy` has compared them, page by page. What a daemon would go on with, and a line that was folded:
    assert_eq!(pending(&out), pending(&from));
    assert_eq!(story(&out, "R9"), story(&from, "R9"));
    assert_eq!(story(&out, "R9").lines[0].times, 3);
    // It is a journal like any other: the message is known, the next line is the next one.
    to.write(&[line("R9", 20, "retry", "the host is down"), line("R9", 21, "done", "")]).unwrap();
    assert_eq!(story(&*to, "R9").lines.len(), 2);
    assert_eq!(to.seen(&["m1"]).unwrap().len(), 1);
}

pub(crate) fn a_copy_that_was_cut_off_goes_on_and_one_beside_other_things_is_refused(open: &Open) {
    let ((_one, mut from), mut to) = (in_a_file(), open());
    full(&mut from);
    let cut_off = copy(&from, "the file", &mut CutOff { inner: &mut *to, writes_left: 3 });
    assert!(cut_off.is_err() && !is_whole(&*to).unwrap());
    drop(to);
    let mut to = open();
    let error = copy(&from, "another", &mut *to).unwrap_err().to_string();
    assert!(error.contains("a copy of another journal: the file"), "{error}");
    let summary = copy(&from, "the file", &mut *to).unwrap();
    assert!(summary.resumed && is_whole(&*to).unwrap());
    assert_eq!((counts(&*to).messages, pending(&*to)), (counts(&from).messages, pending(&from)));

    // What a daemon adds to the old one before the copy is whole is found out.
    let (_second, mut other) = in_a_file();
    copy(&from, "the file", &mut CutOff { inner: &mut other, writes_left: 3 }).unwrap_err();
    from.write(&[line("R1", 30, "note", "a daemon went on with it")]).unwrap();
    from.write(&[line("R5", 30, "note", "with this one too")]).unwrap();
    let error = copy(&from, "the file", &mut other).unwrap_err().to_string();
    assert!(error.contains("reaction R5 differs") && !is_whole(&other).unwrap(), "{error}");

    let (_third, mut fresh) = in_a_file();
    fresh.write(&[Entry::Setting { name: "a".into(), value: Some("b".into()) }]).unwrap();
    let error = copy(&from, "the file", &mut fresh).unwrap_err().to_string();
    assert!(error.contains("it holds messages, reactions or settings already") && error.contains("hint: "), "{error}");
    assert_eq!(settings(&fresh, "").len(), 1, "nothing was written");
}

/// One to which only so much can be written.
struct CutOff<'a> {
    inner: &'a mut dyn Journal,
    writes_left: usize,
}

impl Journal for CutOff<'_> {
    fn write(&mut self, batch: &[Entry]) -> Result<(), JournalError> {
        self.writes_left = self.writes_left.checked_sub(1).ok_or_else(|| JournalError {
            place: "cut off".into(),
            why: "cut off".into(),
            hint: "it is a test".into(),
            is_lasting: false,
        })?;
        self.inner.write(batch)
    }

    fn seen(&self, ids: &[&str]) -> Result<HashSet<String>, JournalError> {
        self.inner.seen(ids)
    }

    fn ask(&self, question: &Question) -> Result<Answer, JournalError> {
        self.inner.ask(question)
    }

    fn sweep(&mut self, before: Timestamp, messages_max: u64) -> Result<Swept, JournalError> {
        self.inner.sweep(before, messages_max)
    }
}
