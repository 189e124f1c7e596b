//! What can go wrong with the file, and what a person does about it.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::journal::JournalError;
use crate::journal::text::TextFault;

/// Why the journal could not do it, before it is known which file that was.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite said no.
    Sql(rusqlite::Error),
    /// The operating system said no.
    Io {
        /// What was tried, on what.
        what: String,
        /// Its answer.
        error: std::io::Error,
    },
    /// What is in the file can't be read back.
    Damaged(String),
    /// The batch contradicts what is in the journal: a mistake of the caller.
    Contradiction(String),
    /// We won't.
    Refused {
        /// Why.
        why: String,
        /// What to do.
        hint: String,
    },
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<TextFault> for Fault {
    fn from(fault: TextFault) -> Self {
        match fault {
            TextFault::Damaged(what) => Self::Damaged(what),
            TextFault::Contradiction(what) => Self::Contradiction(what),
        }
    }
}

impl Fault {
    /// As people read it, for the journal file at `file`.
    pub(super) fn at(self, file: &Path) -> JournalError {
        let is_lasting = matches!(self, Self::Contradiction(_));
        let (why, hint) = match self {
            Self::Sql(error) => (error.to_string(), sql_hint(&error, file)),
            Self::Io { what, error } => (format!("{what}: {error}"), io_hint(&error, file)),
            Self::Damaged(what) => (format!("it is damaged: {what}"), damaged_hint(file)),
            Self::Contradiction(what) => (what, "this is a bug in reactor; please report it with this line".into()),
            Self::Refused { why, hint } => (why, hint),
        };
        JournalError { place: file.display().to_string(), why, hint, is_lasting }
    }
}

fn sql_hint(error: &rusqlite::Error, file: &Path) -> String {
    let directory = file.parent().unwrap_or(file).display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => full_hint(file),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            format!(
                "does the daemon's user own {directory} and all in it, and is it mounted writable? ls -la {directory}"
            )
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged_hint(file),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("another program holds a lock on it, such as an open sqlite3: fuser -v {}", file.display())
        }
        Some(ErrorCode::SystemIoFailure) => {
            format!("the disk under {directory} has an error: dmesg | tail; df {directory}")
        }
        Some(ErrorCode::TooBig) => "one text in this batch is over SQLite's limit of 1 GB".into(),
        _ => format!("sqlite3 {} 'PRAGMA integrity_check'", file.display()),
    }
}

fn io_hint(error: &std::io::Error, file: &Path) -> String {
    let directory = file.parent().unwrap_or(file).display();
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => full_hint(file),
        std::io::ErrorKind::NotFound => format!("mkdir -p {directory}, or name another with --state DIR"),
        _ => format!("does the daemon's user own {directory} and may it write there? ls -la {directory}"),
    }
}

fn full_hint(file: &Path) -> String {
    let directory = file.parent().unwrap_or(file).display();
    format!("make room (df {directory}); what was not written is not acknowledged, and is tried again")
}

fn damaged_hint(file: &Path) -> String {
    format!(
        "stop the daemon, keep a copy of {}*, then restore a backup or save what can be read (docs/journal.md)",
        file.display()
    )
}
