//! Who writes: one daemon for each schema, by a lock of the session and a row that says who it is.
//!
//! The lock ends with the connection, so a daemon that dies frees it. A daemon whose connection is lost takes it again, and goes
//! on only if no other had it meanwhile: `generation` says so. It ends its own old session first, if the server still has it,
//! so that nothing of it can be committed later.

use std::time::{Duration, Instant};

use super::fault::Fault;
use super::schema;
use super::session::Session;
use crate::journal::place::Postgres;

/// The first half of the lock's key: "reac".
const LOCK: i32 = 0x7265_6163;
/// How long a lock is waited for, in milliseconds: as long as a server needs to notice that a daemon has died.
const LOCK_MS_MAX: u64 = 3_000;
/// Pause between two tries, in milliseconds.
const LOCK_TRY_MS: u64 = 100;

/// What the writer knows of itself.
#[derive(Debug, Default)]
pub(super) struct Owner {
    /// Which daemon it is, counted; `None` before it had the journal.
    generation: Option<i64>,
    /// The server's process of its last session, and when that began.
    backend: Option<(i32, String)>,
    /// The number of the last batch that it committed, or tried to.
    pub batch: i64,
}

impl Owner {
    /// Takes the journal for this session, the first time with its tables brought up to date. Returns the number of the last
    /// batch that was committed.
    #[allow(clippy::disallowed_methods, reason = "how long we wait for a lock is measured")]
    pub async fn take(&mut self, session: &Session, server: &Postgres) -> Result<i64, Fault> {
        let key = lock_key(&server.schema);
        let until = Instant::now() + Duration::from_millis(LOCK_MS_MAX);
        while !try_lock(session, key).await? {
            self.end_old_session(session, key).await?;
            if Instant::now() >= until {
                return Err(self.taken(session, server).await);
            }
            tokio::time::sleep(Duration::from_millis(LOCK_TRY_MS)).await;
        }
        self.remember(session).await?;
        let Some(mine) = self.generation else { return self.begin(session, server).await };
        let rows = session.rows("SELECT generation, batch FROM writer", &[]).await?;
        match rows.first() {
            Some(row) if row.try_get::<_, i64>("generation")? == mine => Ok(row.try_get("batch")?),
            _ => Err(replaced("another daemon had it while the connection was lost")),
        }
    }

    /// The condition of every write: that we are still who writes. Parameters: the batch's number and our generation.
    pub const STILL_MINE: &str = "UPDATE writer SET batch = $1 WHERE generation = $2";

    /// Our generation, as that statement wants it.
    pub fn generation(&self) -> i64 {
        self.generation.unwrap_or(-1)
    }

    async fn begin(&mut self, session: &Session, server: &Postgres) -> Result<i64, Fault> {
        schema::version(session).await?;
        schema::migrate(session, &server.schema).await?;
        let rows = session
            .rows(
                "UPDATE writer SET generation = generation + 1, node = $1, since = now() RETURNING generation, batch",
                &[&node()],
            )
            .await?;
        let Some(row) = rows.first() else { return Err(Fault::Damaged("its table `writer` has no row".into())) };
        self.generation = Some(row.try_get("generation")?);
        self.batch = row.try_get("batch")?;
        Ok(self.batch)
    }

    async fn remember(&mut self, session: &Session) -> Result<(), Fault> {
        let sql = "SELECT pid, backend_start::text AS began FROM pg_stat_activity WHERE pid = pg_backend_pid()";
        if let Some(row) = session.rows(sql, &[]).await?.first() {
            self.backend = Some((row.try_get("pid")?, row.try_get("began")?));
        }
        Ok(())
    }

    /// Our own old session may still be there, when the way to it broke and the server has not noticed.
    async fn end_old_session(&self, session: &Session, key: i32) -> Result<(), Fault> {
        let Some((pid, began)) = &self.backend else { return Ok(()) };
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
                   WHERE locktype = 'advisory' AND classid::bigint = $1 AND objid::bigint = $2 AND objsubid = 2
                       AND pid = $3 AND backend_start::text = $4";
        session.rows(sql, &[&i64::from(LOCK), &i64::from(key), pid, began]).await?;
        Ok(())
    }

    async fn taken(&self, session: &Session, server: &Postgres) -> Fault {
        if self.generation.is_some() {
            return replaced("another daemon has taken it while the connection was lost");
        }
        let node: Option<String> = match session.rows("SELECT node FROM writer", &[]).await {
            Ok(rows) => rows.first().and_then(|row| row.try_get("node").ok()),
            Err(_) => None,
        };
        let node = node.filter(|node| !node.is_empty()).unwrap_or_else(|| "another daemon".into());
        Fault::refused(
            format!("{node} has it open; only one daemon may write to the schema {}", server.schema),
            "stop that one, or give this one another `schema`",
        )
    }
}

/// For whoever was the writer, and is it no more.
pub(super) fn replaced(why: &str) -> Fault {
    Fault::Refused {
        why: why.into(),
        hint: "nothing was written over it; let only one daemon use this schema, then start it again".into(),
        is_lasting: true,
    }
}

async fn try_lock(session: &Session, key: i32) -> Result<bool, Fault> {
    let rows = session.rows("SELECT pg_try_advisory_lock($1, $2) AS mine", &[&LOCK, &key]).await?;
    Ok(rows.first().map(|row| row.try_get("mine")).transpose()?.unwrap_or(false))
}

/// The second half of the lock's key; never negative.
fn lock_key(schema: &str) -> i32 {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(schema);
    let bytes = hash.iter().take(4).fold(0_u32, |all, byte| all << 8 | u32::from(*byte));
    i32::try_from(bytes >> 1).unwrap_or_default()
}

/// Who we are, for people: what they need to find us.
fn node() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("process {} on {host}", std::process::id())
}
