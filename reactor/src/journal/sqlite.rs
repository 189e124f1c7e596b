//! The journal of one node: one SQLite file, `journal.db`, in the state directory.
//!
//! A batch is one transaction, committed with `synchronous=FULL` to a write-ahead log: when [`Journal::write`] returns,
//! the disk has it. One process writes ([`SqliteJournal::open`] takes the directory's lock), any number may read
//! meanwhile ([`SqliteJournal::open_read_only`], or a person's `sqlite3`). It never deletes but in [`Journal::sweep`].
//!
//! * `place`: the directory, the lock, the files
//! * `schema`: tables, versions, settings of a connection
//! * `copy`: rows as they are, from one journal into another
//! * `write`, `read`, `history`, `sweep`: entries into tables, tables into answers, pages of messages, forgetting
//! * `fault`: errors and what to do about them

mod copy;
mod fault;
mod history;
mod place;
mod read;
mod schema;
mod sweep;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use self::fault::Fault;
pub(crate) use self::place::Held;
use super::{Answer, Entry, Journal, JournalError, Question, Swept};

/// Makes the state directory if need be and takes it for this process, until what is returned goes (also by a crash).
pub(crate) fn hold(directory: &Path) -> Result<Held, JournalError> {
    let held = place::make_directory(directory).and_then(|()| place::lock(directory));
    held.map_err(|fault| fault.at(&directory.join(place::LOCK)))
}

/// A journal in a directory.
#[derive(Debug)]
pub struct SqliteJournal {
    connection: Connection,
    path: PathBuf,
    /// How many messages are stored, once it was needed: counting a million takes too long for each step of a sweep.
    /// Only we write, so it stays true.
    messages: Option<u64>,
    /// Keeps other daemons out; `None` when we only read. Dropped after the connection.
    _lock: Option<Held>,
}

impl SqliteJournal {
    /// The file in the state directory.
    pub const FILE: &str = place::FILE;

    /// Whether there is one in `directory`.
    #[must_use]
    pub fn is_there(directory: &Path) -> bool {
        std::fs::metadata(directory.join(place::FILE)).is_ok_and(|data| data.len() > 0)
    }

    /// Gives the file another name, which is returned, once nobody has it open.
    pub(super) fn put_away(directory: &Path, name: &str) -> std::io::Result<String> {
        place::put_away(directory, name)
    }

    /// Opens the journal in `directory` for the daemon. Makes both if need be, for their owner's eyes only.
    ///
    /// # Errors
    /// When another process has it open (the error says which), it can't be made or read, or a newer reactor wrote it.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        let path = directory.join(place::FILE);
        Self::try_open(directory).map_err(|fault| fault.at(&path))
    }

    fn try_open(directory: &Path) -> Result<Self, Fault> {
        place::make_directory(directory)?;
        let lock = place::lock(directory)?;
        let path = place::make_file(directory)?;
        let mut connection =
            Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        schema::set_up(&connection)?;
        schema::version(&connection)?;
        schema::set_up_writer(&connection)?;
        schema::migrate(&mut connection)?;
        Ok(Self { connection, path, messages: None, _lock: Some(lock) })
    }

    /// Opens the journal in `directory` to read it, also while a daemon writes. Every write fails.
    ///
    /// # Errors
    /// When there is none yet, it can't be read, or another version of reactor wrote it.
    pub fn open_read_only(directory: &Path) -> Result<Self, JournalError> {
        let path = directory.join(place::FILE);
        Self::try_open_read_only(&path).map_err(|fault| fault.at(&path))
    }

    fn try_open_read_only(path: &Path) -> Result<Self, Fault> {
        let none_yet = || {
            Fault::Refused {
            why: "there is no journal yet".into(),
            hint: "start the daemon once (reactor run), or name its state directory: --state DIR (/var/lib/reactor under systemd)".into(),
        }
        };
        match std::fs::metadata(path) {
            Ok(data) if data.len() > 0 => {}
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Fault::Io { what: "can't look at it".into(), error });
            }
            Ok(_) | Err(_) => return Err(none_yet()),
        }
        let connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        schema::set_up(&connection)?;
        match schema::version(&connection)? {
            0 => Err(none_yet()),
            version if version < schema::MIGRATIONS.len() => Err(Fault::Refused {
                why: format!("it has the older schema version {version}"),
                hint: "restart the daemon with this reactor: it brings the journal up to date".into(),
            }),
            _ => Ok(Self { connection, path: path.to_owned(), messages: None, _lock: None }),
        }
    }

    fn at(&self) -> impl Fn(Fault) -> JournalError {
        let path = self.path.clone();
        move |fault| fault.at(&path)
    }

    fn try_write(&mut self, batch: &[Entry]) -> Result<(), Fault> {
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let new_messages = write::batch(&tx, batch)?;
        tx.commit()?;
        self.messages = self.messages.map(|known| known + new_messages);
        Ok(())
    }

    fn try_sweep(&mut self, before: Timestamp, messages_max: u64) -> Result<Swept, Fault> {
        let messages = match self.messages {
            Some(messages) => messages,
            None => read::count(&self.connection, "SELECT count(*) FROM message")?,
        };
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let swept = sweep::step(&tx, before, messages.saturating_sub(messages_max))?;
        tx.commit()?;
        self.messages = Some(messages.saturating_sub(swept.messages));
        Ok(swept)
    }
}

impl Journal for SqliteJournal {
    fn write(&mut self, batch: &[Entry]) -> Result<(), JournalError> {
        self.try_write(batch).map_err(self.at())
    }

    fn seen(&self, ids: &[&str]) -> Result<HashSet<String>, JournalError> {
        read::seen(&self.connection, ids).map_err(self.at())
    }

    fn ask(&self, question: &Question) -> Result<Answer, JournalError> {
        read::answer(&self.connection, question, place::bytes_on_disk(&self.path)).map_err(self.at())
    }

    fn sweep(&mut self, before: Timestamp, messages_max: u64) -> Result<Swept, JournalError> {
        self.try_sweep(before, messages_max).map_err(self.at())
    }
}
