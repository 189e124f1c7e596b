//! What only the SQLite journal has: files, a lock, readers beside the writer, a full or damaged disk.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::journal::contract::Open;
use crate::journal::contract::parts::{counts, message, pending, reacted, row, start, sweep};
use crate::journal::{ReactionRow, State};

mod contract_tests {
    use crate::journal::contract::{self, sentences};

    macro_rules! tests {
        ($($sentence:ident)*) => {
            $(#[test]
            fn $sentence() {
                contract::$sentence(&*super::fresh());
            })*
        };
    }
    sentences! { tests! }
}

/// A place that is removed with the function.
fn fresh() -> Box<Open> {
    let directory = TempDir::new().unwrap();
    Box::new(move || Box::new(SqliteJournal::open(directory.path()).unwrap()))
}

fn waiting(n: u32) -> [Entry; 2] {
    reacted(&format!("R{n}"), &format!("m{n}"), State::Waiting, start())
}

#[test]
fn the_files_are_for_their_owner_only() {
    let directory = TempDir::new().unwrap();
    let state = directory.path().join("a/state");
    let mut journal = SqliteJournal::open(&state).unwrap();
    journal.write(&waiting(1)).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    for name in ["journal.db", "journal.db-wal", "journal.db-shm", "lock"] {
        assert_eq!(mode(&state.join(name)), 0o600, "{name}");
    }
}

#[test]
fn a_second_daemon_is_told_who_has_the_journal() {
    let directory = TempDir::new().unwrap();
    let first = SqliteJournal::open(directory.path()).unwrap();
    let error = SqliteJournal::open(directory.path()).unwrap_err();
    let pid = std::process::id();
    assert!(error.why.contains(&format!("process {pid} has it open")), "{error}");
    assert!(error.hint.contains(&format!("ps -fp {pid}")) && error.hint.contains("--state"), "{error}");
    drop(first);
    SqliteJournal::open(directory.path()).unwrap();
}

#[test]
fn a_reader_sees_what_the_daemon_has_just_written() {
    let directory = TempDir::new().unwrap();
    let mut journal = SqliteJournal::open(directory.path()).unwrap();
    journal.write(&waiting(1)).unwrap();
    let mut reader = SqliteJournal::open_read_only(directory.path()).unwrap();
    assert_eq!(pending(&reader).len(), 1);
    journal.write(&waiting(2)).unwrap();
    assert_eq!((pending(&reader).len(), counts(&reader).messages), (2, 2));
    let error = reader.write(&waiting(3)).unwrap_err();
    assert!(error.why.contains("readonly"), "{error}");
    drop(journal);
    assert_eq!(pending(&SqliteJournal::open_read_only(directory.path()).unwrap()).len(), 2);
}

#[test]
fn without_a_journal_a_reader_is_told_to_start_the_daemon() {
    let directory = TempDir::new().unwrap();
    let error = SqliteJournal::open_read_only(directory.path()).unwrap_err();
    assert!(error.why.contains("no journal yet") && error.hint.contains("reactor run"), "{error}");
    assert!(!directory.path().join("journal.db").exists());
}

#[test]
fn a_journal_of_a_newer_reactor_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let journal = SqliteJournal::open(directory.path()).unwrap();
    journal.connection.pragma_update(None, "user_version", 1_000).unwrap();
    drop(journal);
    for error in [SqliteJournal::open(directory.path()), SqliteJournal::open_read_only(directory.path())] {
        let error = error.unwrap_err();
        assert!(error.why.contains("schema version 1000") && error.hint.contains("newer reactor"), "{error}");
    }
}

#[test]
fn a_journal_of_version_1_is_brought_up_to_date_and_goes_on() {
    let directory = TempDir::new().unwrap();
    place::make_file(directory.path()).unwrap();
    let old = Connection::open(directory.path().join("journal.db")).unwrap();
    old.execute_batch(schema::MIGRATIONS[0]).unwrap();
    old.execute_batch(
        "PRAGMA user_version = 1;
         INSERT INTO message (id, topic, sent, bus, signer, body)
             VALUES ('m1', 'org.example.x', '2026-03-01T12:00:00.000000Z', 'fedora', 's', '{}');
         INSERT INTO reaction (id, rule, handler, key, state, attempts, created, updated, not_before, messages, repeated,
                 params, plan)
             VALUES ('R1', 'r', 'h', 'k', 'waiting', 2, '2026-03-01T12:00:00.000000Z', '2026-03-01T12:00:00.000000Z',
                 '2026-03-01T12:00:00.000000Z', 1, 0, '{\"user\":\"ralph\"}', '[]');
         INSERT INTO reaction_message VALUES (1, 1, 1);",
    )
    .unwrap();
    drop(old);
    let error = SqliteJournal::open_read_only(directory.path()).unwrap_err();
    assert!(error.why.contains("older schema version 1") && error.hint.contains("restart the daemon"), "{error}");
    let mut journal = SqliteJournal::open(directory.path()).unwrap();
    let found = pending(&journal).remove(0);
    assert_eq!((found.reaction.id.as_str(), found.reaction.attempts, found.messages.len()), ("R1", 2, 1));
    assert_eq!((found.reaction.part, found.reaction.parent), (None, None));
    let child = ReactionRow { part: Some(serde_json::json!({"n": 1})), parent: Some("R1".into()), ..row("R2") };
    journal.write(&[Entry::Reaction(Box::new(child.clone()), vec!["m1".into()])]).unwrap();
    drop(journal);
    let again = pending(&SqliteJournal::open(directory.path()).unwrap()).remove(1);
    assert_eq!(again.reaction, ReactionRow { messages: 1, ..child });
}

#[test]
fn a_full_disk_fails_the_batch_whole_and_later_ones_go_on() {
    let directory = TempDir::new().unwrap();
    let mut journal = SqliteJournal::open(directory.path()).unwrap();
    journal.write(&waiting(1)).unwrap();
    let pages: i64 = journal.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    journal.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    let large: Vec<Entry> = (2..200).flat_map(waiting).collect();
    let error = journal.write(&large).unwrap_err();
    assert!(error.why.contains("full") && error.hint.contains("df "), "{error}");
    assert_eq!(counts(&journal).messages, 1);
    journal.connection.pragma_update_and_check(None, "max_page_count", 1_000_000, |_| Ok(())).unwrap();
    journal.write(&large).unwrap();
    assert_eq!(counts(&journal).messages, 199);
}

#[test]
fn a_file_that_is_no_journal_is_not_touched() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("journal.db");
    std::fs::write(&path, "this is somebody's diary, long enough to be taken for a file".repeat(20)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = SqliteJournal::open(directory.path()).unwrap_err();
    assert!(error.why.contains("not a database") && error.hint.contains("restore a backup"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn what_cannot_be_read_back_is_named() {
    let directory = TempDir::new().unwrap();
    let mut journal = SqliteJournal::open(directory.path()).unwrap();
    journal.write(&waiting(1)).unwrap();
    journal.connection.execute("UPDATE message SET body = '{\"a\":'", []).unwrap();
    let error = journal.ask(&Question::Pending).unwrap_err();
    assert!(error.why.contains("message.body can't be read"), "{error}");
}

#[test]
fn pending_reactions_are_found_by_their_index() {
    let journal = SqliteJournal::open(TempDir::new().unwrap().path()).unwrap();
    let plan = |sql: &str| -> String {
        let mut statement = journal.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.query_map([], |row| row.get::<_, String>(3)).unwrap();
        steps.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    };
    for sql in [
        "SELECT * FROM reaction WHERE state IN ('waiting','applying','held') ORDER BY n",
        "SELECT n FROM reaction WHERE state IN ('done','failed') AND updated < '2026' LIMIT 200",
        "SELECT * FROM reaction WHERE id BETWEEN 'a' AND 'b' ORDER BY n DESC LIMIT 10",
        "SELECT * FROM reaction_message JOIN message ON message.n = reaction_message.message WHERE reaction = 1",
        "SELECT reaction FROM reaction_message WHERE message = 1",
    ] {
        assert!(plan(sql).contains("SEARCH") && !plan(sql).contains("SCAN"), "{sql}: {}", plan(sql));
    }
}

#[test]
fn a_sweep_counts_right_after_a_failed_batch() {
    let directory = TempDir::new().unwrap();
    let mut journal = SqliteJournal::open(directory.path()).unwrap();
    for n in 1..=5 {
        journal.write(&reacted(&format!("R{n}"), &format!("m{n}"), State::Done, start())).unwrap();
    }
    assert_eq!(sweep(&mut journal, jiff::Timestamp::UNIX_EPOCH, 4), 1);
    let wrong = [Entry::Message(message("m9")), Entry::Update(Box::new(row("R9")))];
    journal.write(&wrong).unwrap_err();
    assert_eq!(sweep(&mut journal, jiff::Timestamp::UNIX_EPOCH, 4), 0);
    assert_eq!(counts(&journal).messages, 4);
}
