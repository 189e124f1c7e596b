//! What an error of a database means for a reaction.

use std::error::Error as _;
use std::fmt::Display;

use handler_api::Failure;
use rusqlite::ErrorCode;
use rusqlite::ffi::{SQLITE_CONSTRAINT_FOREIGNKEY, SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE};

use super::Postgres;

/// Tables that refer to others, and whose rows we take away ourselves: where one is in the way, it is new.
const CLEARED: [&str; 7] = [
    "category_directory",
    "directory_exclusive_host",
    "file_detail",
    "file_detail_file_group",
    "host_category_dir",
    "propagation_stat",
    "repository",
];

/// A failure, and whether the connection is gone with it.
#[derive(Debug)]
pub(super) struct Trouble {
    pub failure: Failure,
    pub lost: bool,
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        trouble.failure
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self { failure, lost: false }
    }
}

/// The tables are not those that this code was written for.
pub(super) fn another_schema(message: impl Into<String>) -> Failure {
    Failure::permanent(message)
        .hinting("is this MirrorManager2's database? compare it with handlers/mirror-db/example/schema.sql")
}

/// Somebody else wrote between plan and apply.
pub(super) fn moved(what: impl Display) -> Failure {
    Failure::retry(format!("the mirror database changed since the plan: {what}; nothing was written"))
        .hinting("it is planned again by itself; does umdl or scan-primary-mirror still run for this category?")
}

impl Postgres {
    /// How a person gets there.
    pub(super) fn psql(&self) -> String {
        let port = self.port.to_string();
        let words = [("-h", &self.host), ("-p", &port), ("-U", &self.user), ("-d", &self.name)];
        words.iter().fold("psql".to_owned(), |line, (flag, word)| format!("{line} {flag} {}", shell_word(word)))
    }

    /// What it is called in a failure.
    pub(super) fn shown(&self) -> String {
        format!("the mirror database {} at {}:{}", self.name, self.host, self.port)
    }

    /// It can't be reached, or does not let us in.
    pub(super) fn out_of_reach(&self, why: impl Display) -> Failure {
        Failure::retry(format!("{} can't be reached: {why}", self.shown())).hinting(self.psql())
    }

    /// No answer in time.
    pub(super) fn silent(&self) -> Trouble {
        let message = format!("{} did not answer within {}s", self.shown(), self.timeout.as_secs());
        Trouble { failure: Failure::retry(message).hinting(self.psql()), lost: true }
    }

    /// What an error of the connection, or of a statement, means.
    pub(super) fn trouble(&self, error: &tokio_postgres::Error) -> Trouble {
        let Some(said) = error.as_db_error() else {
            let why = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
            return Trouble { failure: self.out_of_reach(why), lost: true };
        };
        let code = said.code().code();
        let detail = said.detail().map_or_else(String::new, |detail| format!(" ({detail})"));
        let message = format!("{}: {}{detail}", self.shown(), said.message());
        let lost = code.starts_with("08") || code.starts_with("57P");
        let failure = match code {
            "42P01" | "42703" | "42804" | "42883" | "42704" => another_schema(message),
            "42501" => Failure::permanent(message).hinting(format!(
                "give {} what README.md says under Permissions: {}",
                self.user,
                self.psql()
            )),
            "23505" => moved(format!("somebody wrote meanwhile: {}{detail}", said.message())),
            "23503" if said.table().is_some_and(|table| CLEARED.contains(&table)) => {
                moved(format!("somebody wrote meanwhile: {}{detail}", said.message()))
            }
            "57014" => Failure::retry(message).hinting(format!(
                "longer than `timeout` of the block, {}s: raise it; where directories are deleted, indexes on \
                 file_detail(directory_id), category_directory(directory_id) and host_category_dir(directory_id) help",
                self.timeout.as_secs()
            )),
            "25006" => Failure::retry(message).hinting(format!("is this a standby? look: {}", self.psql())),
            // Data, and constraints: the same rows are refused the next time.
            _ if code.starts_with("22") || code.starts_with("23") || code.starts_with("42") => {
                let name = said.constraint().map_or_else(String::new, |name| format!(" [{name}]"));
                Failure::permanent(format!("{message}{name}")).hinting(self.psql())
            }
            _ => Failure::retry(message).hinting(self.psql()),
        };
        Trouble { failure, lost }
    }
}

/// What an error of SQLite means.
pub(super) fn sqlite_trouble(file: &str, error: &rusqlite::Error) -> Failure {
    let (code, extended, said) = match error {
        rusqlite::Error::SqliteFailure(code, said) => {
            (code.code, code.extended_code, said.clone().unwrap_or_else(|| code.to_string()))
        }
        rusqlite::Error::SqlInputError { error: code, msg, .. } => (code.code, code.extended_code, msg.clone()),
        other => return Failure::permanent(format!("the mirror database {file}: {other}")),
    };
    let message = format!("the mirror database {file}: {said}");
    match code {
        ErrorCode::ConstraintViolation
            if [SQLITE_CONSTRAINT_UNIQUE, SQLITE_CONSTRAINT_PRIMARYKEY].contains(&extended) =>
        {
            moved(format!("somebody wrote meanwhile: {said}"))
        }
        // It does not say which table; ours we took away, so somebody added to one, or the plan is wrong about it.
        ErrorCode::ConstraintViolation if extended == SQLITE_CONSTRAINT_FOREIGNKEY => {
            moved(format!("something else refers to a row that goes: {said}"))
        }
        ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig => {
            Failure::permanent(message).hinting(format!("sqlite3 {} .schema", shell_word(file)))
        }
        ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt => {
            Failure::permanent(message).hinting(format!("sqlite3 {} 'PRAGMA integrity_check'", shell_word(file)))
        }
        ErrorCode::Unknown if said.starts_with("no such ") || said.contains("has no column") => another_schema(message),
        _ => Failure::retry(message).hinting(format!("ls -l {}", shell_word(file))),
    }
}

/// A word as a shell reads it, for people who copy it.
pub(super) fn shell_word(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-@:".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
