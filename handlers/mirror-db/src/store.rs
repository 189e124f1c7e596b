//! The mirror database: PostgreSQL at real sites, SQLite as the embedded default. One code path above a thin edge.

mod edge;
mod postgres;
mod read;
mod sqlite;
mod verdict;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use handler_api::Failure;

use crate::rows::{Known, Part, Rows};
use edge::{For, Session};

/// Where the database is. It is never opened with more rights than its role has; the schema is MirrorManager2's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `database: { sqlite: ./mirrors.db }`; the file must be there.
    Sqlite(PathBuf),
    /// `database: { postgresql: {…} }`.
    Postgres(Box<Postgres>),
}

/// How to reach a PostgreSQL server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// `host`: a name, an address, or the directory of a Unix socket.
    pub host: String,
    /// `port`, default 5432.
    pub port: u16,
    /// `name`: the database.
    pub name: String,
    /// `user`.
    pub user: String,
    /// `password`: the name of a secret; absent = the server asks for none (peer, certificate).
    pub password: Option<PathBuf>,
    /// `tls`: `true` = with the certificates of the system, or of `ca`; default true but for a socket and the loopback.
    pub tls: bool,
    /// `ca`: a file of PEM certificates.
    pub ca: Option<PathBuf>,
    /// `timeout`: how long one statement may take.
    pub timeout: Duration,
}

/// Connections that are kept between two questions.
const IDLE_MAX: usize = 2;

/// The database, opened at the first question and again after a lost connection.
#[derive(Debug)]
pub struct Store {
    place: Place,
    /// Connections between two transactions. One that failed is never among them.
    idle: Mutex<Vec<Session>>,
}

impl Store {
    /// Asks nobody yet.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self { place, idle: Mutex::default() }
    }

    /// What it has of one part of a category, read in one snapshot.
    ///
    /// # Errors
    /// Permanent, with the categories that there are: no such category; it has no product or no top directory. Retry: the
    /// database can't be reached or read. Permanent: its schema is another one (names the table or column).
    pub async fn known(&self, category: &str, part: &Part) -> Result<Known, Failure> {
        let session = self.begun(For::Reading).await?;
        let known = read::known(&session, category, part).await?;
        self.end(session).await?;
        Ok(known)
    }

    /// The column `files` of these directories, by id; NULL = `None`. Bytes, because old rows are Python pickles.
    ///
    /// # Errors
    /// As [`Store::known`]; Retry: one of them is not there any more.
    pub async fn files(&self, ids: &[i32]) -> Result<BTreeMap<i32, Option<Vec<u8>>>, Failure> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let session = self.begun(For::Reading).await?;
        let files = read::files(&session, ids).await?;
        self.end(session).await?;
        Ok(files)
    }

    /// Writes all of it in one transaction, in batches, or nothing.
    ///
    /// # Errors
    /// Retry: the world moved since the plan (a row is not what it was, a name is taken meanwhile); the database can't be
    /// reached; a lock or a serialisation failure. Permanent: a constraint that trying again can't pass, with its name.
    pub async fn write(&self, known: &Known, rows: &Rows) -> Result<(), Failure> {
        if *rows == Rows::default() {
            return Ok(());
        }
        let session = self.begun(For::Writing).await?;
        write::write(&session, known, rows).await?;
        self.end(session).await
    }

    /// Ends a transaction. If the answer is lost, whether it was written is not known: the next plan looks.
    async fn end(&self, session: Session) -> Result<(), Failure> {
        session.commit().await?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(session);
        }
        Ok(())
    }

    /// A connection from before.
    fn idle(&self) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(Session::is_alive);
        idle.pop()
    }
}
