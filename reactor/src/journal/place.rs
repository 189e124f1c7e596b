//! Where the journal is: a file in the state directory, or a PostgreSQL server.
//!
//! The rules file says it (`journal: { postgresql: … }`). The daemon notes a server in its state directory, in [`NOTE`], so
//! that `reactor status`, `list` and `show` find it with nothing but that directory. The note names the file of the password,
//! it never holds the password.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::postgres::PostgresJournal;
use super::sqlite::SqliteJournal;
use super::{Journal, JournalError, copy, moving};

/// The file in the state directory that says which server has the journal; JSON, a [`Postgres`]. Without it: SQLite.
pub const NOTE: &str = "journal-server.json";
/// Most that is read of the note, in bytes.
const NOTE_BYTES_MAX: u64 = 64 * 1024;

/// A schema of a database on a PostgreSQL server, and how to get there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// Its name, its address, or the directory of its socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database.
    pub name: String,
    /// The role.
    pub user: String,
    /// The file that holds the role's password; without it the server must believe the role by itself (`peer` on a socket).
    pub password: Option<PathBuf>,
    /// Whether to speak TLS; the server's certificate is checked then.
    pub tls: bool,
    /// The certificates to believe (PEM), instead of the system's.
    pub ca: Option<PathBuf>,
    /// The schema that holds the tables: a letter or `_`, then letters, digits and `_`, all in lower case.
    pub schema: String,
    /// The name of this node among those that share the journal.
    #[serde(default = "host_name")]
    pub node: String,
}

/// The host's own name: what a node is called that the site gives no name.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

impl Postgres {
    /// As people know it; no secret is in it.
    #[must_use]
    pub fn shown(&self) -> String {
        let Self { host, port, name, user, schema, .. } = self;
        format!("postgresql {user}@{host}:{port}/{name}, schema {schema}")
    }
}

/// Opens the journal for the daemon on the state directory `directory`, and notes there which server has it. Blocking: not to
/// be called from within an async task.
///
/// # Errors
/// When another daemon has the directory or the journal, or it can't be reached, made or read.
pub fn open(directory: &Path, server: Option<&Postgres>) -> Result<Box<dyn Journal>, JournalError> {
    moving::check(directory, server)?;
    let journal: Box<dyn Journal> = match server {
        None => Box::new(SqliteJournal::open(directory)?),
        Some(server) => Box::new(PostgresJournal::open(directory, server)?),
    };
    if !copy::is_whole(&*journal)? {
        return Err(JournalError {
            place: server.map_or_else(|| directory.display().to_string(), Postgres::shown),
            why: "a copy into it was cut off".into(),
            hint: "let it go on to its end: reactor journal copy".into(),
            is_lasting: true,
        });
    }
    remember(directory, server)?;
    Ok(journal)
}

/// Notes in the state directory where its journal is.
///
/// # Errors
/// When it can't be written.
pub(super) fn remember(directory: &Path, server: Option<&Postgres>) -> Result<(), JournalError> {
    let noted = match server {
        Some(server) => note(directory, server),
        None => match std::fs::remove_file(directory.join(NOTE)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    };
    noted.map_err(|error| wrong_note(directory, &error))
}

/// Opens the journal of the daemon on the state directory `directory` to read it, also while the daemon writes. Every write
/// fails. Blocking, as [`open`].
///
/// # Errors
/// When there is none yet, it can't be reached or read, or another version of reactor wrote it.
pub fn open_read_only(directory: &Path) -> Result<Box<dyn Journal>, JournalError> {
    match noted(directory)? {
        None => Ok(Box::new(SqliteJournal::open_read_only(directory)?)),
        Some(server) => Ok(Box::new(PostgresJournal::open_read_only(&server)?)),
    }
}

/// Which server has the journal of this state directory, as its daemon noted it; `None` for SQLite.
///
/// # Errors
/// When the note can't be read.
pub fn noted(directory: &Path) -> Result<Option<Postgres>, JournalError> {
    let mut text = String::new();
    match std::fs::File::open(directory.join(NOTE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong_note(directory, &error)),
        Ok(file) => {
            file.take(NOTE_BYTES_MAX).read_to_string(&mut text).map_err(|error| wrong_note(directory, &error))?;
        }
    }
    serde_json::from_str(&text).map(Some).map_err(|error| wrong_note(directory, &error))
}

/// Whole or not at all, for its owner's eyes only.
fn note(directory: &Path, server: &Postgres) -> std::io::Result<()> {
    let new = directory.join(format!("{NOTE}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(server)?)?;
    file.sync_all()?;
    std::fs::rename(&new, directory.join(NOTE))
}

fn wrong_note(directory: &Path, error: &dyn std::fmt::Display) -> JournalError {
    let directory = directory.display();
    JournalError {
        place: format!("{directory}/{NOTE}"),
        why: format!("the note of where the journal is: {error}"),
        hint: format!(
            "does the daemon's user own {directory} and all in it? ls -la {directory}; the daemon writes the note when it starts"
        ),
        is_lasting: false,
    }
}
