//! When the site names another journal than before: a daemon does not start beside reactions that wait in the old one, and
//! `reactor journal copy` brings all of it along.

use std::path::Path;

use super::copy::{Summary, copy};
use super::nodes::Slots;
use super::place::{self, Postgres};
use super::postgres::PostgresJournal;
use super::sqlite::SqliteJournal;
use super::{Answer, Counts, Journal, JournalError, OUTBOX, Question};

/// What the file in the state directory is called when all of it was copied elsewhere; a number comes behind a second one.
pub const COPIED: &str = "journal.db.copied";
/// Whether both are the same journal, however one gets there.
fn is_same(one: Option<&Postgres>, other: Option<&Postgres>) -> bool {
    let key = |server: &Postgres| (server.host.clone(), server.port, server.name.clone(), server.schema.clone());
    one.map(key) == other.map(key)
}

/// What people call it.
fn shown(directory: &Path, server: Option<&Postgres>) -> String {
    server.map_or_else(|| directory.join(SqliteJournal::FILE).display().to_string(), Postgres::shown)
}

/// Looks, before the daemon opens the journal that the site names, whether the one that this state directory had before has
/// anything left to do.
///
/// # Errors
/// That it has, or that it can't be looked at.
pub(super) fn check(directory: &Path, server: Option<&Postgres>) -> Result<(), JournalError> {
    let before = place::noted(directory)?;
    if is_same(before.as_ref(), server) || before.is_none() && !SqliteJournal::is_there(directory) {
        return Ok(());
    }
    let name = shown(directory, before.as_ref());
    let wrong = |why: String, hint: String| JournalError { place: name.clone(), why, hint, is_lasting: true };
    let old: Box<dyn Journal> = match &before {
        None => Box::new(SqliteJournal::open(directory)?),
        Some(server) => Box::new(PostgresJournal::open_read_only(server).map_err(|error| {
            let hint = format!(
                "to start without what it holds: rm {}   ({})",
                directory.join(place::NOTE).display(),
                error.hint
            );
            wrong(format!("the journal that was used before can't be looked at: {}", error.why), hint)
        })?),
    };
    let (pending, unsent, counts) = left(&*old)?;
    if pending + unsent > 0 {
        let unsent = if unsent > 0 { format!(", and {unsent} outcomes to publish") } else { String::new() };
        let why = format!("it was used before, and {pending} reactions wait in it{unsent}");
        return Err(wrong(
            why,
            "bring all of it along: reactor journal copy   (or put the old `journal` back)".to_owned(),
        ));
    }
    if counts.messages > 0 {
        let messages = counts.messages;
        tracing::warn!(
            "the journal that was used before, {name}, stays behind with {messages} messages; nothing waits in it\nhint: to bring them along, stop the daemon before anything is new and type: reactor journal copy"
        );
    }
    Ok(())
}

/// Reactions that are not over, outcomes to publish, and all else.
fn left(journal: &dyn Journal) -> Result<(usize, usize, Counts), JournalError> {
    let pending = match journal.ask(&Question::Pending)? {
        Answer::Stories(stories) => stories.len(),
        _ => 0,
    };
    let handed = match journal.ask(&Question::Inbox(Slots::ALL, 0))? {
        Answer::Inbox(handed) => handed.len(),
        _ => 0,
    };
    let unsent = match journal.ask(&Question::Settings(OUTBOX.to_owned()))? {
        Answer::Settings(settings) => settings.len(),
        _ => 0,
    };
    let counts = match journal.ask(&Question::Counts)? {
        Answer::Counts(counts) => counts,
        _ => Counts::default(),
    };
    Ok((pending + handed, unsent, counts))
}

/// What was moved.
#[derive(Clone, Debug)]
pub struct Moved {
    /// What was copied.
    pub summary: Summary,
    /// What the two are called.
    pub from: String,
    /// See `from`.
    pub to: String,
    /// Where the old one is now.
    pub old: String,
}

/// Copies the journal of the state directory `directory` to where the site says, and makes that the directory's own. Blocking.
///
/// # Errors
/// When the site names the same one, a daemon runs, the target is not empty, or one of them can't be read or written.
pub fn copy_to(directory: &Path, server: Option<&Postgres>) -> Result<Moved, JournalError> {
    let before = place::noted(directory)?;
    let (from, to) = (shown(directory, before.as_ref()), shown(directory, server));
    let wrong = |why: &str, hint: &str| JournalError {
        place: from.clone(),
        why: why.into(),
        hint: hint.into(),
        is_lasting: true,
    };
    if is_same(before.as_ref(), server) {
        return Err(wrong(
            "it is what this state directory has, and what the site names",
            "first name the new one under `journal` in the rules file, then type: reactor journal copy",
        ));
    }
    if before.is_none() && !SqliteJournal::is_there(directory) {
        return Err(wrong("there is no journal yet, so nothing to copy", "start the daemon: reactor run"));
    }
    // A server's journal takes the lock of a directory, too; ours belongs to the one that is in it.
    let other = tempfile::tempdir().map_err(|error| wrong(&format!("no scratch directory: {error}"), "ls -ld /tmp"))?;
    let open = |server: Option<&Postgres>| -> Result<Box<dyn Journal>, JournalError> {
        Ok(match server {
            None => Box::new(SqliteJournal::open(directory)?),
            Some(server) => Box::new(PostgresJournal::open(other.path(), server)?),
        })
    };
    let held = (before.is_some() && server.is_some()).then(|| super::sqlite::hold(directory)).transpose()?;
    let old = open(before.as_ref())?;
    let summary = copy(&*old, &from, &mut *open(server)?)?;
    drop(old);
    let io = |error: std::io::Error| {
        wrong(
            &format!("the state directory can't be changed: {error}"),
            "mend that, then type it again: nothing is copied twice",
        )
    };
    let stays = match &before {
        None => {
            let name = SqliteJournal::put_away(directory, COPIED).map_err(io)?;
            directory.join(name).display().to_string()
        }
        Some(server) => server.shown(),
    };
    place::remember(directory, server)?;
    drop(held);
    Ok(Moved { summary, from, to, old: stays })
}
