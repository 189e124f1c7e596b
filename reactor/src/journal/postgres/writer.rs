//! Who writes: one daemon for each node of a schema, by a lock of the session and a row that says who it is.
//!
//! The lock ends with the connection, so a daemon that dies frees it. A daemon whose connection is lost takes it again, and goes
//! on only if nobody took its place meanwhile: `generation` says so. It ends its own old session first, if the server still has
//! it, so that nothing of it can be committed later. Another node that takes over from it (see [`super::lease`]) does both.

use std::path::Path;
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::schema;
use super::session::Session;
use super::text::plain;
use crate::journal::place::Postgres;

/// The first half of the lock's key: "reac".
pub(super) const LOCK: i32 = 0x7265_6163;
/// How long a lock is waited for, in milliseconds: as long as a server needs to notice that a daemon has died.
pub(super) const LOCK_MS_MAX: u64 = 3_000;
/// Pause between two tries, in milliseconds.
pub(super) const LOCK_TRY_MS: u64 = 100;

/// What the writer knows of itself.
#[derive(Debug)]
pub(super) struct Owner {
    /// The node's name.
    pub node: String,
    /// Its host and state directory: two places can't have one name at the same time.
    home: String,
    /// Which daemon of that name it is, counted; `None` before it had the journal.
    generation: Option<i64>,
    /// The server's process of its last session, and when that began.
    backend: Option<(i32, String)>,
    /// The number of the last batch that it committed, or tried to.
    pub batch: i64,
    /// The number of the last one that the server is known to have.
    pub durable: i64,
}

impl Owner {
    /// Whoever runs on the state directory `directory`.
    pub fn new(server: &Postgres, directory: &Path) -> Self {
        let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
        let home = format!("{}:{}", host(), directory.display());
        Self { node: server.node.clone(), home, generation: None, backend: None, batch: 0, durable: 0 }
    }

    /// Takes the node's place for this session, the first time with the tables brought up to date. Returns the number of the
    /// last batch that was committed.
    pub async fn take(&mut self, session: &Session, server: &Postgres) -> Result<i64, Fault> {
        if self.generation.is_none() {
            bring_up_to_date(session, server).await?;
        }
        let key = node_key(&server.schema, &self.node);
        if !self.wait_for_lock(session, key).await? {
            return Err(self.taken(session, server).await);
        }
        self.remember(session).await?;
        let Some(mine) = self.generation else { return self.begin(session).await };
        let rows = session.rows("SELECT generation, batch FROM node WHERE name = $1", &[&plain(&self.node)]).await?;
        match rows.first() {
            Some(row) if row.try_get::<_, i64>("generation")? == mine => self.still_durable(row.try_get("batch")?),
            _ => Err(replaced("another daemon had its place while the connection was lost")),
        }
    }

    /// The condition of every write: that we are still who writes. Parameters: the batch's number, our name and generation.
    pub const STILL_MINE: &str = "UPDATE node SET batch = $1 WHERE name = $2 AND generation = $3";

    /// Our generation, as that statement wants it.
    pub fn generation(&self) -> i64 {
        self.generation.unwrap_or(-1)
    }

    async fn wait_for_lock(&self, session: &Session, key: i32) -> Result<bool, Fault> {
        let until = soon();
        while !try_lock(session, key).await? {
            self.end_old_session(session, key).await?;
            if is_over(until) {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(LOCK_TRY_MS)).await;
        }
        Ok(true)
    }

    async fn begin(&mut self, session: &Session) -> Result<i64, Fault> {
        let node = plain(&self.node);
        let elsewhere = session
            .rows(
                "SELECT shown FROM node JOIN lease ON lease.node = name
                 WHERE name = $1 AND home <> $2 AND until > clock_timestamp()",
                &[&node, &plain(&self.home)],
            )
            .await?;
        if let Some(row) = elsewhere.first() {
            let shown: String = row.try_get("shown")?;
            return Err(Fault::refused(
                format!("{shown} was the node {} until a moment ago, and what it started may still run", self.node),
                "wait until its lease has run out (some seconds), or give this one another `node`",
            ));
        }
        let rows = session
            .rows(
                "INSERT INTO node (name, generation, batch, shown, home, version, since)
                 VALUES ($1, 1, 0, $2, $3, $4, now()) ON CONFLICT (name) DO UPDATE SET generation = node.generation + 1,
                     shown = $2, home = $3, version = $4, since = now()
                 RETURNING generation, batch",
                &[&node, &process(), &plain(&self.home), &env!("CARGO_PKG_VERSION")],
            )
            .await?;
        let Some(row) = rows.first() else { return Err(Fault::Damaged("its table `node` took no row".into())) };
        self.generation = Some(row.try_get("generation")?);
        self.batch = row.try_get("batch")?;
        self.durable = self.batch;
        Ok(self.batch)
    }

    /// A standby that was behind, or a backup: what we have in mind is not what the server has.
    fn still_durable(&mut self, batch: i64) -> Result<i64, Fault> {
        if batch >= self.durable {
            self.durable = batch;
            return Ok(batch);
        }
        Err(Fault::Refused {
            why: format!(
                "the server has lost what it had committed: batch {} of this node, of which it knows {batch} (was it restored, \
                 or has a standby taken over that was behind?)",
                self.durable
            ),
            hint: "the next start goes on from what the server has; what came since, ask for once more: reactor replay --bus NAME --from '1h ago'"
                .into(),
            is_lasting: true,
        })
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
            return replaced("another daemon has taken its place while the connection was lost");
        }
        let asked = session.rows("SELECT shown FROM node WHERE name = $1", &[&plain(&self.node)]).await;
        let shown = asked.ok().and_then(|rows| rows.first().and_then(|row| row.try_get::<_, String>("shown").ok()));
        let shown = shown.unwrap_or_else(|| "another daemon".into());
        Fault::refused(
            format!("{shown} has it open as the node {} of the schema {}", self.node, server.schema),
            "stop that one, or give this one another `node` (to share the work), or another `schema`",
        )
    }
}

/// For whoever was the writer, and is it no more.
pub(super) fn replaced(why: &str) -> Fault {
    Fault::Refused {
        why: why.into(),
        hint: "nothing was written over it; what it had to do is done by whoever has its place, or by its next start"
            .into(),
        is_lasting: true,
    }
}

/// Makes and alters the tables, one daemon at a time. The lock is the one that a daemon of schema versions 1 and 2 has all the time.
async fn bring_up_to_date(session: &Session, server: &Postgres) -> Result<(), Fault> {
    let key = lock_key(&server.schema);
    let until = soon();
    while !try_lock(session, key).await? {
        if is_over(until) {
            let rows = session.rows("SELECT node FROM writer", &[]).await.unwrap_or_default();
            let node: Option<String> = rows.first().and_then(|row| row.try_get("node").ok());
            let node = node.filter(|node| !node.is_empty()).unwrap_or_else(|| "another daemon".into());
            return Err(Fault::refused(
                format!("{node} has it open: an older reactor, or one that brings the tables up to date"),
                "stop the older one, then start this one again",
            ));
        }
        tokio::time::sleep(Duration::from_millis(LOCK_TRY_MS)).await;
    }
    schema::version(session).await?;
    schema::migrate(session, &server.schema).await?;
    session.rows("SELECT pg_advisory_unlock($1, $2)", &[&LOCK, &key]).await?;
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "how long we wait for a lock is measured")]
fn soon() -> Instant {
    Instant::now() + Duration::from_millis(LOCK_MS_MAX)
}

#[allow(clippy::disallowed_methods, reason = "how long we wait for a lock is measured")]
fn is_over(until: Instant) -> bool {
    Instant::now() >= until
}

async fn try_lock(session: &Session, key: i32) -> Result<bool, Fault> {
    let rows = session.rows("SELECT pg_try_advisory_lock($1, $2) AS mine", &[&LOCK, &key]).await?;
    Ok(rows.first().map(|row| row.try_get("mine")).transpose()?.unwrap_or(false))
}

/// The second half of the key of a node's lock.
pub(super) fn node_key(schema: &str, node: &str) -> i32 {
    lock_key(&format!("{schema} {node}"))
}

/// The second half of the lock's key; never negative.
pub(super) fn lock_key(text: &str) -> i32 {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(text);
    let bytes = hash.iter().take(4).fold(0_u32, |all, byte| all << 8 | u32::from(*byte));
    i32::try_from(bytes >> 1).unwrap_or_default()
}

/// Who we are, for people: what they need to find us.
fn process() -> String {
    format!("process {} on {}", std::process::id(), host())
}

fn host() -> String {
    crate::journal::place::host_name()
}
