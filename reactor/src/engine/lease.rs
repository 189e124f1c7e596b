//! Keeps this node's lease, on a thread of its own: whatever else the daemon does, the beat goes on. Tells the engine which
//! slots it has gained, which to give back, and what is in its inbox.
//!
//! While the lease can't be renewed, handlers are ended before another node may begin with what they do; when it can be again
//! and nobody has taken our place, everything goes on. A daemon that can't even end its handlers (it is stopped, or dead)
//! has its [`Warden`] for that.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::fence::{Fence, boottime_ms};
use super::intake::Gauge;
use crate::journal::nodes::{Seat, Slots};
use crate::journal::postgres::lease::{LEASE_SECONDS, Members, Note};
use crate::runner::warden::Warden;

/// Between two beats, in milliseconds.
pub const BEAT_MS: u64 = 1_000;
/// Handlers are ended when no beat has got through for so long, in milliseconds.
pub const CUT_OFF_MS: u64 = LEASE_SECONDS as u64 * 1_000 - 2_000;
/// The warden ends the daemon with its handlers when no beat has got through for so long, in milliseconds.
pub const WARDEN_MS: u64 = LEASE_SECONDS as u64 * 1_000 - 1_000;
/// Whoever was out of reach itself believes that others are dead only after so long, in milliseconds: most likely they were
/// out of reach, too.
pub const SURE_MS: u64 = 3_000;
/// Longest wait for the server's answer to a beat, in milliseconds.
pub const ANSWER_MS_MAX: u64 = 2_000;
/// Once cut off: between two looks at whether all handlers have ended, in milliseconds.
const ENDED_LOOK_MS: u64 = 20;

/// What the thread has to tell the engine, since it was last asked.
#[derive(Debug, Default)]
pub struct News {
    /// Slots that are ours from now on.
    pub gained: Slots,
    /// Slots to give back.
    pub lose: Slots,
    /// Slots with something in their inbox.
    pub inbox: Slots,
    /// Rules were paused or go on.
    pub settings: bool,
    /// Somebody else has our place; the text says why.
    pub lost: Option<String>,
}

/// What engine and thread share.
#[derive(Debug, Default)]
struct Shared {
    news: Mutex<News>,
    /// Slots that the engine has given back, since the thread last asked.
    freed: Mutex<Slots>,
    told: Notify,
}

/// How long the thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Stays,
    /// No slot is taken any more.
    Leaves,
    /// Nothing runs here any more: all is given back.
    Over,
}

/// The thread.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    /// Whether handlers may write.
    pub fence: Arc<Fence>,
    /// The node's name.
    pub node: String,
    stage: watch::Sender<Stage>,
    thread: Option<JoinHandle<()>>,
}

impl Lease {
    /// Begins at once. `stop_runs` becomes true when running handlers are to be ended.
    ///
    /// # Errors
    /// When there is no thread or no event loop for it.
    pub fn start(
        seat: Seat,
        warden: Warden,
        stop_runs: Arc<watch::Sender<bool>>,
        gauge: Arc<Gauge>,
    ) -> std::io::Result<Self> {
        let (stage, stages) = watch::channel(Stage::Stays);
        let (shared, fence) = (Arc::new(Shared::default()), Arc::new(Fence::default()));
        let node = seat.node.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let keeper = Keeper {
            members: Members::new(seat),
            warden,
            shared: shared.clone(),
            fence: fence.clone(),
            stop_runs,
            gauge,
            stages,
            told: Slots::NONE,
            asked_back: Slots::NONE,
            steady_since: None,
            was_cut_off: false,
            torn: Slots::NONE,
            said: String::new(),
        };
        let thread = std::thread::Builder::new().name("lease".into()).spawn(move || runtime.block_on(keeper.run()))?;
        Ok(Self { shared, fence, node, stage, thread: Some(thread) })
    }

    /// Waits until there is news. Safe to cancel.
    pub async fn told(&self) {
        self.shared.told.notified().await;
    }

    /// The news; from now on there is none.
    #[must_use]
    pub fn news(&self) -> News {
        std::mem::take(&mut *self.shared.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The journal says that these slots are no longer ours.
    pub fn freed(&self, slots: Slots) {
        let mut freed = self.shared.freed.lock().unwrap_or_else(PoisonError::into_inner);
        *freed = freed.and(slots);
    }

    /// Takes no slot any more.
    pub fn leaves(&self) {
        self.stage.send_replace(Stage::Leaves);
    }

    /// Gives all back. Only when no handler runs any more.
    pub async fn end(mut self) {
        self.stage.send_replace(Stage::Over);
        if let Some(thread) = self.thread.take() {
            // It has limits of its own; if it panicked, its message is in the log.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// The thread's side.
struct Keeper {
    members: Members,
    warden: Warden,
    shared: Arc<Shared>,
    fence: Arc<Fence>,
    stop_runs: Arc<watch::Sender<bool>>,
    gauge: Arc<Gauge>,
    stages: watch::Receiver<Stage>,
    /// The slots that the engine was told it has.
    told: Slots,
    /// Those of them that it was asked to give back.
    asked_back: Slots,
    /// Since when beats get through, by [`boottime_ms`].
    steady_since: Option<u64>,
    was_cut_off: bool,
    /// Slots that are ours no more though nobody here has given them back.
    torn: Slots,
    /// Why the last beat did not get through, as it was said.
    said: String,
}

/// Why a daemon ends that has another in its place.
const REPLACED: &str = "another node has taken this one's place: its lease had run out (was the machine paused, or the server \
                        out of reach?)";
/// Why a daemon ends that the server does not know as it knows itself.
const TORN: &str = "the server says that slots of this node are another's, and nobody here has given them back (was it restored, \
                    or has a standby taken over that was behind?)";

impl Keeper {
    async fn run(mut self) {
        while self.stage() != Stage::Over {
            let sent = boottime_ms();
            match self.beat().await {
                Ok(true) => self.kept(sent).await,
                Ok(false) => return self.lost(REPLACED).await,
                Err(why) => self.missed(why).await,
            }
            self.rest(next_beat(sent, self.fence.until())).await;
            if !self.torn.is_empty() {
                let is_replaced = matches!(self.beat().await, Ok(false));
                return self.lost(if is_replaced { REPLACED } else { TORN }).await;
            }
        }
        self.end().await;
    }

    /// What still runs, the warden ends when the daemon is gone; until then nobody else may begin with it.
    async fn end(mut self) {
        if self.fence.applying() > 0 {
            return;
        }
        let limit = Duration::from_millis(ANSWER_MS_MAX);
        if !matches!(timeout(limit, self.members.leave()).await, Ok(Ok(()))) {
            tracing::warn!("the slots of this node could not be given back; others take them within {LEASE_SECONDS} s");
        }
        self.warden.rest().await;
    }

    fn stage(&self) -> Stage {
        *self.stages.borrow()
    }

    /// While the fence holds, no longer than that: it must be known at once that it does not.
    async fn beat(&mut self) -> Result<bool, String> {
        let until = self.fence.until();
        let left = until.saturating_sub(boottime_ms());
        if until > 0 && left == 0 {
            let why = std::mem::take(&mut self.said);
            return Err(if why.is_empty() { format!("no beat got through for {CUT_OFF_MS} ms") } else { why });
        }
        let most = if until == 0 { ANSWER_MS_MAX } else { left.min(ANSWER_MS_MAX) };
        match timeout(Duration::from_millis(most), self.members.beat(self.stage() != Stage::Stays)).await {
            Ok(beaten) => beaten.map_err(|error| error.to_string()),
            Err(_) => {
                self.members.give_up_connection();
                Err(format!("the journal's server did not answer a beat for {most} ms"))
            }
        }
    }

    async fn kept(&mut self, sent: u64) {
        // Without a warden nobody would end what runs here while we are stopped.
        if !self.warden.watch_until(sent + WARDEN_MS).await {
            return self.missed("its warden can't be started: is there room for one more process?".to_owned()).await;
        }
        self.fence.renew(sent + CUT_OFF_MS);
        self.said.clear();
        let steady_since = *self.steady_since.get_or_insert(sent);
        if self.was_cut_off {
            self.was_cut_off = false;
            self.stop_runs.send_replace(false);
            tracing::info!("the journal's server is in reach again; handlers may run");
        }
        let is_sure = sent.saturating_sub(steady_since) >= SURE_MS;
        self.look(is_sure).await;
    }

    async fn look(&mut self, is_sure: bool) {
        let freed = std::mem::take(&mut *self.shared.freed.lock().unwrap_or_else(PoisonError::into_inner));
        self.told = self.told.but(freed);
        let limit = Duration::from_millis(ANSWER_MS_MAX);
        let looked = timeout(limit, self.members.look(is_sure, self.stage() != Stage::Stays)).await;
        let standing = match looked {
            Ok(Ok(standing)) => standing,
            Ok(Err(error)) => return tracing::warn!("how the nodes stand can't be read: {error}"),
            Err(_) => return self.members.give_up_connection(),
        };
        for node in &standing.dead {
            tracing::warn!(node, "a node is dead: its lease has run out; others go on with its lanes");
        }
        self.gauge.inbox_is_full(standing.inbox_is_full);
        let kept_back = if self.stage() == Stage::Stays { self.asked_back } else { Slots::ALL };
        self.torn = self.told.but(standing.mine).but(kept_back);
        let gained = standing.mine.but(self.told);
        self.told = standing.mine;
        self.asked_back = self.asked_back.both(standing.mine).but(gained);
        let staying = standing.mine.but(self.asked_back);
        let lose: Slots = staying.iter().take(staying.len().saturating_sub(standing.share)).collect();
        self.asked_back = self.asked_back.and(lose);
        // Whatever a note might have said that was lost: it is looked once a beat.
        self.tell(|news| {
            news.gained = news.gained.and(gained);
            news.lose = news.lose.and(lose);
            news.inbox = Slots::ALL;
            news.settings |= standing.missed_notes;
        });
    }

    fn tell(&self, tell: impl FnOnce(&mut News)) {
        tell(&mut self.shared.news.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.told.notify_one();
    }

    /// Until it is time for the next beat, or for the next stage: hears what others say.
    async fn rest(&mut self, until: u64) {
        let stage = self.stage();
        while self.torn.is_empty() {
            let left = Duration::from_millis(until.saturating_sub(boottime_ms()));
            let mut stages = self.stages.clone();
            let note = tokio::select! {
                // However much there is to hear.
                biased;
                () = sleep(left) => return,
                _ = stages.wait_for(|now| *now != stage) => return,
                note = self.members.heard() => note,
            };
            self.hear(note).await;
        }
    }

    async fn hear(&mut self, note: Note) {
        self.tell(|news| {
            news.inbox = news.inbox.and(note.inbox);
            news.settings |= note.settings;
        });
        if note.free {
            self.look(false).await;
        }
    }

    async fn missed(&mut self, why: String) {
        if self.fence.is_good() {
            self.said = why;
            return;
        }
        if !self.was_cut_off && self.fence.until() > 0 {
            self.was_cut_off = true;
            self.steady_since = None;
            self.fence.lapse();
            self.stop_runs.send_replace(true);
            tracing::error!("handlers are ended, and none starts, until the journal's server is in reach again\n{why}");
        } else if why != self.said {
            tracing::error!("no handler starts: this node's lease can't be had from the journal's server\n{why}");
        }
        self.said = why;
        self.settle().await;
    }

    /// Once nothing runs and nothing can begin, there is nothing to watch.
    async fn settle(&mut self) {
        if !self.was_cut_off {
            return;
        }
        for _ in 0..(WARDEN_MS - CUT_OFF_MS) / ENDED_LOOK_MS {
            if self.fence.applying() == 0 {
                return self.warden.rest().await;
            }
            sleep(Duration::from_millis(ENDED_LOOK_MS)).await;
        }
    }

    /// Another daemon may be at work in our lanes already: all must end, by itself or by the warden.
    async fn lost(mut self, why: &str) {
        tracing::error!("{why}");
        self.fence.lapse();
        self.stop_runs.send_replace(true);
        self.tell(|news| news.lost = Some(why.to_owned()));
        self.warden.watch_until(boottime_ms() + (WARDEN_MS - CUT_OFF_MS)).await;
        let _ = self.stages.wait_for(|stage| *stage == Stage::Over).await;
        if self.fence.applying() == 0 {
            self.warden.rest().await;
        }
    }
}

/// When to beat again after a beat that began at `sent`. A beat that did not get through was begun late where a look took its
/// time: that handlers are to be ended (at `cut_off`, 0: they are) must not wait for the next one.
fn next_beat(sent: u64, cut_off: u64) -> u64 {
    let next = sent + BEAT_MS;
    if cut_off == 0 { next } else { next.min(cut_off) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moment_when_handlers_are_to_be_ended_is_not_slept_through() {
        assert_eq!(next_beat(1_000, 0), 2_000, "they are ended already");
        assert_eq!(next_beat(1_000, 1_000 + CUT_OFF_MS), 2_000);
        // The beats of 1.0 and 3.9 s, of which only the first got through.
        assert_eq!(next_beat(4_900, 1_000 + CUT_OFF_MS), 5_000);
    }
}
