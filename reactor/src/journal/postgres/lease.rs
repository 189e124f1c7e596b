//! What keeps a node's slots its own: a lease that it renews while it lives, and what the others do when it does not.
//!
//! Over a connection of its own. Each change is one statement, so that a node which is paused in the middle holds no lock.
//! Nothing here reads a clock: times are the server's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc::{Receiver, channel};

use super::fault::Fault;
use super::session::{Ear, Session};
use super::text::{meant, plain};
use super::writer::{LOCK, lock_key, node_key};
use crate::journal::JournalError;
use crate::journal::nodes::{INBOX_ROWS_MAX, LANE_SLOTS, Seat, Slots};

/// How long a node that does not renew its lease keeps its slots, in seconds.
pub const LEASE_SECONDS: u32 = 6;
/// Notes from other nodes that wait to be read; what is over is dropped, and [`Standing::missed_notes`] says so.
const NOTES_MAX: usize = 1_024;

/// The other nodes' side of a [`Seat`].
pub struct Members {
    seat: Seat,
    session: Option<Session>,
    notes: Option<Receiver<String>>,
    /// Notes may have gone by unheard.
    missed_notes: Arc<AtomicBool>,
    began: bool,
}

/// How a node stands among the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The slots it has.
    pub mine: Slots,
    /// How many it should have.
    pub share: usize,
    /// Nodes that were found dead, and whose slots are free now.
    pub dead: Vec<String>,
    /// Whether more than [`INBOX_ROWS_MAX`] rows wait in the inbox.
    pub inbox_is_full: bool,
    /// Since the last look some notes may have gone by: there was no connection, or there were too many.
    pub missed_notes: bool,
}

/// What other nodes have said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// There is something in the inbox for these slots.
    pub inbox: Slots,
    /// A rule was paused or goes on.
    pub settings: bool,
    /// Slots are free.
    pub free: bool,
}

impl Members {
    /// For the daemon that has this seat. Nothing is asked yet.
    #[must_use]
    pub fn new(seat: Seat) -> Self {
        Self { seat, session: None, notes: None, missed_notes: Arc::default(), began: false }
    }

    /// Renews the lease, and says whether this node leaves: then it has no share. False: somebody else has our place. To be asked
    /// before anything else.
    ///
    /// # Errors
    /// When the server can't be asked. The next call connects anew.
    pub async fn beat(&mut self, leaves: bool) -> Result<bool, JournalError> {
        let beaten = self.try_beat(leaves).await;
        self.after(beaten)
    }

    /// Takes the slots of dead nodes away from them if `is_sure`, takes free ones up to our share unless `leaves`, and looks.
    ///
    /// # Errors
    /// As [`Members::beat`].
    pub async fn look(&mut self, is_sure: bool, leaves: bool) -> Result<Standing, JournalError> {
        let looked = self.try_look(is_sure, leaves).await;
        self.after(looked)
    }

    /// Gives all slots back, and the lease. Only when nothing of ours runs any more.
    ///
    /// # Errors
    /// As [`Members::beat`].
    pub async fn leave(&mut self) -> Result<(), JournalError> {
        let left = self.try_leave().await;
        self.after(left)
    }

    /// The next thing that another node (or this one) says. Waits for ever where there is no connection. Safe to cancel.
    pub async fn heard(&mut self) -> Note {
        loop {
            let Some(notes) = &mut self.notes else { return std::future::pending().await };
            match notes.recv().await {
                Some(text) => return Note::read(&text),
                None => self.notes = None,
            }
        }
    }

    /// Lets the connection go: whatever was asked over it was not answered in time.
    pub fn give_up_connection(&mut self) {
        self.session = None;
        self.notes = None;
    }

    fn after<T>(&mut self, answer: Result<T, Fault>) -> Result<T, JournalError> {
        if answer.as_ref().is_err_and(Fault::is_loss) {
            self.give_up_connection();
        }
        answer.map_err(|fault| fault.at(&self.seat.server))
    }

    async fn try_beat(&mut self, leaves: bool) -> Result<bool, Fault> {
        if self.session.as_ref().is_none_or(Session::is_closed) {
            let (to, notes) = channel(NOTES_MAX);
            let ear = Ear { notes: to, missed: self.missed_notes.clone() };
            let session = Session::connect_and_hear(&self.seat.server, true, Some(ear)).await?;
            session.run(&format!("LISTEN {}", channel_of(&self.seat.server.schema))).await?;
            self.missed_notes.store(true, Ordering::SeqCst);
            (self.session, self.notes) = (Some(session), Some(notes));
        }
        let Some(session) = &self.session else { return Err(Fault::Silent(0)) };
        let (node, generation) = (plain(&self.seat.node), self.seat.generation);
        let sql = if self.began {
            "UPDATE lease SET until = clock_timestamp() + make_interval(secs => $3::int), leaves = $4
             WHERE node = $1 AND generation = $2"
        } else {
            "INSERT INTO lease (node, generation, until, leaves)
             SELECT name, generation, clock_timestamp() + make_interval(secs => $3::int), $4 FROM node
             WHERE name = $1 AND generation = $2
             ON CONFLICT (node) DO UPDATE SET generation = excluded.generation, until = excluded.until,
                 leaves = excluded.leaves"
        };
        let seconds = i32::try_from(LEASE_SECONDS).unwrap_or(i32::MAX);
        let is_ours = session.changed(sql, &[&node, &generation, &seconds, &leaves]).await? == 1;
        // Only now: where the first beat was not answered, there may be no lease yet, and that is nobody's doing.
        self.began = true;
        Ok(is_ours)
    }

    async fn try_look(&mut self, is_sure: bool, leaves: bool) -> Result<Standing, Fault> {
        let Some(session) = &self.session else { return Err(Fault::Silent(0)) };
        let dead = if is_sure { self.take_over(session).await? } else { Vec::new() };
        let sql = "SELECT 1 FROM lease WHERE until > clock_timestamp() AND NOT leaves";
        let alive = session.rows(sql, &[]).await?.len();
        let share = if leaves { 0 } else { usize::from(LANE_SLOTS).div_ceil(alive.max(1)) };
        let mut mine = self.mine(session).await?;
        if mine.len() < share {
            self.claim(session, share - mine.len()).await?;
            mine = self.mine(session).await?;
        }
        let limit = i64::from(INBOX_ROWS_MAX);
        let over = session.rows("SELECT n FROM inbox ORDER BY n LIMIT 1 OFFSET $1", &[&limit]).await?;
        let missed_notes = self.missed_notes.swap(false, Ordering::SeqCst);
        Ok(Standing { mine, share, dead, inbox_is_full: !over.is_empty(), missed_notes })
    }

    /// Counts the generation of dead nodes up and frees their slots, both at once. Their sessions are ended first: what a paused
    /// one has begun to write would keep us waiting.
    async fn take_over(&self, session: &Session) -> Result<Vec<String>, Fault> {
        let me = plain(&self.seat.node);
        let sql = "SELECT node FROM lease WHERE until < clock_timestamp() AND node <> $1";
        let found = session.rows(sql, &[&me]).await?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let mut keys: Vec<i64> = Vec::new();
        for row in &found {
            keys.push(node_key(&self.seat.server.schema, &meant(row.try_get("node")?)).into());
        }
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_locks
                   WHERE locktype = 'advisory' AND classid::bigint = $1 AND objid::bigint = ANY($2) AND objsubid = 2 AND granted";
        // Another role's session can't be ended: then it is the server that ends it, once it has been idle for too long.
        let _ = session.rows(sql, &[&i64::from(LOCK), &keys]).await;
        let ended = session
            .rows(
                "WITH dead AS (
                     SELECT node FROM lease WHERE until < clock_timestamp() AND node <> $1 FOR UPDATE SKIP LOCKED),
                 replaced AS (
                     UPDATE node SET generation = generation + 1 FROM dead WHERE name = dead.node RETURNING name),
                 freed AS (UPDATE slot SET node = NULL FROM dead WHERE slot.node = dead.node),
                 gone AS (DELETE FROM lease USING dead WHERE lease.node = dead.node)
                 SELECT name FROM replaced",
                &[&me],
            )
            .await?;
        ended.iter().map(|row| Ok(meant(row.try_get("name")?))).collect()
    }

    async fn mine(&self, session: &Session) -> Result<Slots, Fault> {
        let rows = session.rows("SELECT n FROM slot WHERE node = $1", &[&plain(&self.seat.node)]).await?;
        let mut mine = Slots::NONE;
        for row in &rows {
            mine = mine.and(Slots::one(u8::try_from(row.try_get::<_, i16>("n")?).unwrap_or_default()));
        }
        Ok(mine)
    }

    /// Only while our lease holds: who takes over from us locks it first.
    async fn claim(&self, session: &Session, at_most: usize) -> Result<(), Fault> {
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        session
            .changed(
                "WITH me AS (
                     SELECT node FROM lease WHERE node = $1 AND generation = $2 AND until > clock_timestamp() FOR UPDATE),
                 free AS (SELECT n FROM slot WHERE node IS NULL ORDER BY n LIMIT $3 FOR UPDATE SKIP LOCKED)
                 UPDATE slot SET node = me.node FROM me, free WHERE slot.n = free.n",
                &[&plain(&self.seat.node), &self.seat.generation, &at_most],
            )
            .await?;
        Ok(())
    }

    async fn try_leave(&mut self) -> Result<(), Fault> {
        let Some(session) = &self.session else { return Err(Fault::Silent(0)) };
        session
            .changed(
                "WITH gone AS (DELETE FROM lease WHERE node = $1 AND generation = $2 RETURNING node)
                 UPDATE slot SET node = NULL FROM gone WHERE slot.node = gone.node",
                &[&plain(&self.seat.node), &self.seat.generation],
            )
            .await?;
        session.rows("SELECT pg_notify($1, 'free')", &[&channel_of(&self.seat.server.schema)]).await?;
        Ok(())
    }
}

impl Note {
    /// What is not understood, a newer node has said to its own kind.
    fn read(text: &str) -> Self {
        let mut note = Self::default();
        for word in text.split(' ') {
            match word {
                "settings" => note.settings = true,
                "free" => note.free = true,
                slots => note.inbox = note.inbox.and(Slots(u64::from_str_radix(slots, 16).unwrap_or_default())),
            }
        }
        note
    }
}

/// Where the nodes of a schema tell each other.
pub(super) fn channel_of(schema: &str) -> String {
    format!("reactor_{}", lock_key(schema))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_what_it_said() {
        let note = Note::read("settings free 8000000000000001");
        assert_eq!(note, Note { inbox: [0, 63].into_iter().collect(), settings: true, free: true });
        assert_eq!(Note::read("a newer word"), Note { inbox: Slots(0xa), ..Note::default() });
    }
}
