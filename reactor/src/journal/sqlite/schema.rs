//! The tables, their versions, and how a connection is set up. `docs/journal.md` describes them for people.
//!
//! No `STRICT` tables and nothing else that an old `sqlite3` program can't open: RHEL 9 has version 3.34.

use std::time::Duration;

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

use super::fault::Fault;
use crate::journal::category;

/// `PRAGMA user_version` n = the first n of these have run. Never change one that was released; add another.
pub(super) const MIGRATIONS: &[&str] = &[FIRST, SECOND, THIRD];

/// A reaction in one of these states is pending: nothing may forget it.
macro_rules! pending {
    () => {
        "'waiting','applying','held'"
    };
}
/// A reaction in one of these states is final.
macro_rules! finals {
    () => {
        "'done','planned','failed','dropped'"
    };
}
pub(super) use {finals, pending};

/// `n` counts in the order of writing: ULIDs made within a millisecond need not. `stored` is the database's own clock:
/// what retention goes by, since `sent` is whatever the publisher claims. `reaction_state` serves three askers: what is
/// pending (restart), what failed or is held (people), what is final and old (sweep).
const FIRST: &str = "
CREATE TABLE message (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    stored TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')),
    topic TEXT NOT NULL,
    sent TEXT NOT NULL,
    bus TEXT NOT NULL,
    signer TEXT NOT NULL,
    headers TEXT,
    body TEXT NOT NULL
);
CREATE TABLE reaction (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL COLLATE NOCASE UNIQUE,
    rule TEXT NOT NULL,
    handler TEXT NOT NULL,
    key TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    created TEXT NOT NULL,
    updated TEXT NOT NULL,
    not_before TEXT NOT NULL,
    at_most TEXT,
    messages INTEGER NOT NULL,
    repeated INTEGER NOT NULL,
    reason TEXT,
    hint TEXT,
    decided_by TEXT,
    params TEXT,
    plan TEXT NOT NULL,
    approved TEXT
);
CREATE INDEX reaction_state ON reaction (state, updated);
CREATE TABLE reaction_message (
    reaction INTEGER NOT NULL REFERENCES reaction (n) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    message INTEGER NOT NULL REFERENCES message (n),
    PRIMARY KEY (reaction, position)
) WITHOUT ROWID;
CREATE UNIQUE INDEX message_reaction ON reaction_message (message, reaction);
CREATE TABLE change_done (
    reaction INTEGER NOT NULL REFERENCES reaction (n) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    at TEXT NOT NULL,
    change TEXT NOT NULL,
    PRIMARY KEY (reaction, position)
) WITHOUT ROWID;
CREATE TABLE story (
    reaction INTEGER NOT NULL REFERENCES reaction (n) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    at TEXT NOT NULL,
    last_at TEXT NOT NULL,
    what TEXT NOT NULL,
    detail TEXT NOT NULL,
    times INTEGER NOT NULL,
    PRIMARY KEY (reaction, position)
) WITHOUT ROWID;
CREATE TABLE refused (
    n INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    bus TEXT NOT NULL,
    topic TEXT NOT NULL,
    reason TEXT NOT NULL,
    body TEXT NOT NULL,
    times INTEGER NOT NULL,
    UNIQUE (bus, topic, reason)
);
CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
";

/// What an apply leaves for later becomes a reaction of its own: `part` is its parameters, `parent` the id of the reaction
/// that left it. No foreign key: the parent is forgotten in its own time.
const SECOND: &str = "
ALTER TABLE reaction ADD COLUMN part TEXT;
ALTER TABLE reaction ADD COLUMN parent TEXT;
";

/// For those who ask what came when (`Question::Messages`): the index alone says which messages fit. `envelope` is what stood beside the body of a signed message, where the site
/// tells others what came.
const THIRD: &str = "
ALTER TABLE message ADD COLUMN envelope TEXT;
CREATE INDEX message_sent ON message (sent, n, topic);
";

/// How long a statement waits for another program's lock, such as a person's `sqlite3`.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Pages in the write-ahead log after which a commit moves them into the database file.
const CHECKPOINT_PAGES: u32 = 4_000;
/// The write-ahead log is cut back to this size after it grew, in bytes: a bit more than [`CHECKPOINT_PAGES`] pages of
/// 4 KiB, so that it normally keeps its room and a commit overwrites it in place.
const WAL_BYTES: u32 = 20 * 1024 * 1024;
/// The connection's own page cache, in KiB.
const CACHE_KIB: u32 = 16 * 1024;
/// Statements that stay prepared; we have about half as many.
const STATEMENTS_KEPT: usize = 64;

/// Settings of every connection. Trusts nothing that the file's schema could make it run.
pub(super) fn set_up(connection: &Connection) -> Result<(), Fault> {
    connection.busy_timeout(BUSY_WAIT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cache_size", -i64::from(CACHE_KIB))?;
    let of_topic = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("category", 1, of_topic, |context| {
        let topic: String = context.get(0)?;
        Ok(category(&topic).to_owned())
    })?;
    Ok(())
}

/// Settings of the one connection that writes. `synchronous=FULL`: a commit returns when the disk has it.
pub(super) fn set_up_writer(connection: &Connection) -> Result<(), Fault> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        return Err(Fault::Refused {
            why: format!("the write-ahead log can't be switched on (journal_mode is {mode})"),
            hint: "put the state directory on a local file system, not on NFS".into(),
        });
    }
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
    Ok(())
}

/// The version of the schema in the file; 0 = empty.
pub(super) fn version(connection: &Connection) -> Result<usize, Fault> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = MIGRATIONS.len();
    usize::try_from(version).ok().filter(|version| *version <= known).ok_or_else(|| Fault::Refused {
        why: format!("it has schema version {version}, this reactor knows up to {known}"),
        hint: "a newer reactor wrote it: install that one again, or start with another --state directory".into(),
    })
}

/// Brings the schema up to date, each step in one transaction.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Fault> {
    let done = version(connection)?;
    for (step, sql) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", i64::try_from(step + 1).unwrap_or(i64::MAX))?;
        transaction.commit()?;
    }
    Ok(())
}
