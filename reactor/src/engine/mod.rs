//! The one loop that joins bus, trust, rules, journal, lanes and handlers; the only place that reads the clock.
//!
//! A turn: take all inputs that are there, decide ([`core`], pure), write what was decided in one durable transaction,
//! then act on it: acknowledge, start handlers, answer people. Group commit falls out of that by itself.
//!
//! * [`core`]: what is decided; [`ids`], [`folded`], [`redact`] help it
//! * [`outbox`]: publishes what became of messages, for whoever wants it confirmed
//! * [`intake`]: from a source to the engine and back (ack)
//! * [`catch_up`]: nothing missed: positions, gaps, and what is asked for
//! * [`runs`]: one try of one reaction
//! * `nodes`, [`lease`], [`fence`]: where several nodes share the work
//! * [`control`]: what people ask and decide, over the Unix socket
//! * [`daemon`]: start, reload, drain, stop; `sources`: the buses that it reads
//!
//! Architecture Invariant: an act of a turn happens only after the entries of that turn are durable.

pub mod catch_up;
pub mod control;
pub mod core;
pub mod daemon;
pub mod fence;
pub mod folded;
pub mod ids;
pub mod intake;
pub mod lease;
mod nodes;
pub mod outbox;
pub mod redact;
pub mod runs;
mod sources;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use handler_api::limits::{HANDLERS_AT_ONCE_MAX, TERM_TO_KILL_SECONDS};
use handler_api::{Change, Failure, Plan};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use self::catch_up::heard::Gap;
use self::control::{Answered, Asked};
use self::core::{Act, Applied, Core, Run, Turn};
use self::folded::Folded;
use self::intake::{Batch, Gauge};
use self::outbox::Outbox;
use crate::journal::handle::JournalHandle;
use crate::journal::{Entry, JournalError};
use crate::runner::Runner;

/// Inputs that one turn takes at most.
pub const TURN_INPUTS_MAX: usize = 1_024;
/// Inputs that wait for the engine at most; whoever brings more waits.
pub const INPUTS_WAITING_MAX: usize = 1_024;
/// Between two tries to write the journal, in milliseconds.
pub const JOURNAL_RETRY_MS: u64 = 1_000;
/// The engine looks at the time at least this often, in seconds (clocks are set, machines sleep).
pub const WAKE_SECONDS_MAX: u64 = 60;

/// The wall clock.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the engine is where the clock is read")]
pub fn clock() -> Timestamp {
    Timestamp::now()
}

/// What the engine is told.
#[derive(Debug)]
pub enum Input {
    /// Judged messages.
    Batch(Batch),
    /// A source has nothing more; the text says what broke it, if anything did.
    SourceEnded(Option<String>),
    /// Something was missed on a bus, or it was recovered.
    Gap(Box<Gap>),
    /// A plan came back.
    Planned(Box<Run>, Result<Plan, Failure>),
    /// A change was made.
    Changed(String, Change),
    /// An apply has ended.
    Applied(Box<Run>, Applied),
    /// A try was ended, or not begun, because this node's lease ran out.
    CutOff(Box<Run>),
    /// A person asks or decides; the text says who.
    Control(Asked, String, oneshot::Sender<Answered>),
    /// Read the rules again.
    Reload,
    /// Finish what runs, then end.
    Drain,
}

/// What is answered after the journal holds the turn.
#[derive(Default)]
struct Answers {
    durable: Vec<(oneshot::Sender<u64>, u64)>,
    people: Vec<(oneshot::Sender<Answered>, Answered)>,
}

/// The loop and what it needs.
pub struct Engine {
    core: Core,
    journal: Arc<JournalHandle>,
    runner: Arc<Runner>,
    gauge: Arc<Gauge>,
    inputs: mpsc::Receiver<Input>,
    to_self: mpsc::Sender<Input>,
    sources: usize,
    ends_with_sources: bool,
    drain_until: Option<Timestamp>,
    /// Why it can't go on. The process ends with it, so that whoever watches over it starts it again.
    broken: Option<String>,
    /// The journal was given up: nothing can be done any more.
    given_up: bool,
    /// True: running handlers are ended, as after their timeout.
    stop_runs: Arc<watch::Sender<bool>>,
    /// `None`: the journal is ours alone.
    nodes: Option<nodes::Nodes>,
    refused: Folded,
    outbox: Outbox,
    daemon: daemon::Parts,
}

impl Engine {
    /// Runs until it is told to drain and nothing runs any more, or (with a file as its source) until nothing is left that
    /// could go on without a person. Beside the core: the lease, and why it could not go on, if it could not.
    pub async fn run(mut self) -> (Core, Option<lease::Lease>, Option<String>) {
        let mut turn = Turn::default();
        self.core.start(clock(), self.room(), &mut turn);
        self.end_turn(turn, Answers::default()).await;
        while !self.is_over() {
            let inputs = self.gather().await;
            self.turn(inputs).await;
        }
        self.write_heard().await;
        (self.core, self.nodes.map(|nodes| nodes.lease), self.broken)
    }

    /// A clean stop: the next start begins where this one ended.
    async fn write_heard(&mut self) {
        let entries = self.daemon.heard(clock(), false, true);
        if entries.is_empty() || self.given_up {
            return;
        }
        // Where it can't be written now, the next start asks for some minutes more; nobody should wait for that.
        if let Err(error) = self.journal.write(entries).await {
            tracing::warn!("{error}");
        }
    }

    fn is_over(&self) -> bool {
        if self.given_up {
            return true;
        }
        if let Some(until) = self.drain_until {
            let now = clock();
            if now >= until {
                self.stop_runs.send_replace(true);
            }
            return self.core.lanes.running() == 0 || now >= until + Duration::from_secs(TERM_TO_KILL_SECONDS + 1);
        }
        let is_dry = self.nodes.as_ref().is_none_or(|nodes| nodes.is_dry);
        self.ends_with_sources && self.sources == 0 && self.core.only_people_can_go_on() && is_dry
    }

    /// All inputs that are there, at least one unless the time has come for something.
    async fn gather(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        let wait = self.wait();
        let news = async {
            match &self.nodes {
                Some(nodes) => nodes.lease.told().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.inputs.recv_many(&mut inputs, TURN_INPUTS_MAX) => {}
            () = news => {}
            () = tokio::time::sleep(wait) => {}
        }
        inputs
    }

    fn wait(&self) -> Duration {
        if self.nodes.as_ref().is_some_and(|nodes| nodes.has_more) {
            return Duration::ZERO;
        }
        let now = clock();
        let wake = self.core.wake_at(self.room());
        let most = Duration::from_secs(if self.drain_until.is_some() { 1 } else { WAKE_SECONDS_MAX });
        wake.map_or(most, |at| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO).min(most))
    }

    /// How many handlers may be started: none while this node's lease does not hold.
    fn room(&self) -> usize {
        let may = self.nodes.as_ref().is_none_or(|nodes| nodes.lease.fence.is_good());
        if may { HANDLERS_AT_ONCE_MAX.saturating_sub(self.core.lanes.running()) } else { 0 }
    }

    async fn turn(&mut self, inputs: Vec<Input>) {
        let now = clock();
        let mut turn = Turn::default();
        let mut answers = Answers::default();
        let Some(mut seen) = self.seen(&inputs).await else { return };
        // First of all: what it finds in the journal is all that was decided before.
        if !self.share(now, &mut turn).await {
            return;
        }
        for input in inputs {
            self.take(now, input, &mut seen, &mut turn, &mut answers).await;
        }
        self.core.start(now, self.room(), &mut turn);
        let freed = self.core.give_back(&mut turn);
        let beside = !turn.entries.is_empty();
        turn.entries.extend(self.daemon.heard(now, beside, false));
        self.end_turn(turn, answers).await;
        if self.nodes.is_some() && !self.given_up {
            self.shared_turn_ended(freed).await;
        }
    }

    /// The message ids of this turn that the journal knows already; `None` if it was given up.
    async fn seen(&mut self, inputs: &[Input]) -> Option<HashSet<String>> {
        // What several nodes hear, the journal sorts out; but whoever asked for what is late is told how much of it is new.
        let is_asked = |batch: &&Batch| self.nodes.is_none() || batch.is_late;
        let batches =
            inputs.iter().filter_map(|input| if let Input::Batch(batch) = input { Some(batch) } else { None });
        let batches = batches.filter(is_asked);
        let ids: Vec<String> = batches.flat_map(|b| b.arrived.iter().map(|a| a.message.get().id.clone())).collect();
        if ids.is_empty() {
            return Some(HashSet::new());
        }
        loop {
            match self.journal.seen(ids.clone()).await {
                Ok(seen) => return Some(seen),
                Err(error) if self.gives_up(&error) => return None,
                Err(_) => tokio::time::sleep(Duration::from_millis(JOURNAL_RETRY_MS)).await,
            }
        }
    }

    async fn take(
        &mut self,
        now: Timestamp,
        input: Input,
        seen: &mut HashSet<String>,
        turn: &mut Turn,
        answers: &mut Answers,
    ) {
        match input {
            Input::Batch(batch) => {
                for entry in &batch.refused {
                    self.say_refused(entry);
                }
                turn.entries.extend(batch.refused);
                let new = self.core.arrived(now, batch.arrived, seen, turn);
                answers.durable.push((batch.durable, new));
            }
            Input::Gap(gap) => self.core.gap(now, &gap, turn),
            Input::SourceEnded(broken) => self.source_ended(now, broken),
            Input::Planned(run, result) => self.core.planned(now, *run, result, turn),
            Input::Changed(id, change) => self.core.changed(now, &id, &change, turn),
            Input::Applied(run, result) => self.core.applied(now, &run, result, turn),
            Input::CutOff(run) => self.core.cut_off(now, &run, turn),
            // Who asked was told that it takes too long; what is decided now would come as a surprise.
            Input::Control(_, _, reply) if reply.is_closed() => {}
            Input::Control(asked, by, reply) => {
                let answered = self.answer(now, asked, &by, turn).await;
                answers.people.push((reply, answered));
            }
            Input::Reload => {
                if let Err(error) = self.reload() {
                    tracing::error!("the rules were not reloaded; the ones before stay in force\n{error}");
                }
            }
            Input::Drain => self.drain(now),
        }
    }

    /// Makes the turn durable, then acts on it.
    async fn end_turn(&mut self, turn: Turn, answers: Answers) {
        if !turn.entries.is_empty() && !self.write(turn.entries).await {
            return;
        }
        for (durable, new) in answers.durable {
            // A source that is gone needs no ack.
            let _ = durable.send(new);
        }
        if turn.confirms {
            self.outbox.wake();
        }
        for act in turn.acts {
            match act {
                Act::Plan(run) => runs::plan(self.tools(), *run),
                Act::Apply(run, plan) => runs::apply(self.tools(), *run, plan),
            }
        }
        for (reply, answered) in answers.people {
            // Whoever asked may have hung up.
            let _ = reply.send(answered);
        }
        self.gauge.set(self.core.pending(), self.core.pending_bytes());
    }

    fn tools(&self) -> runs::Tools {
        runs::Tools {
            runner: self.runner.clone(),
            fence: self.nodes.as_ref().map(|nodes| nodes.lease.fence.clone()),
            cancel: self.stop_runs.subscribe(),
            engine: self.to_self.clone(),
        }
    }

    /// Writes until it is written. Meanwhile nothing is acknowledged and nothing starts, so nothing is lost: the buses hold
    /// what comes, or drop it and we know from when.
    ///
    /// False when it was given up: the daemon was told to stop, or no further try can help.
    async fn write(&mut self, entries: Vec<Entry>) -> bool {
        while let Err(error) = self.journal.write(entries.clone()).await {
            if self.gives_up(&error) {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(JOURNAL_RETRY_MS)).await;
        }
        self.journal_is_fine();
        true
    }

    fn journal_is_fine(&self) {
        if self.daemon.health.journal_trouble(None) {
            tracing::info!("the journal can be written again; everything goes on");
        }
    }

    /// Notes trouble with the journal, and whether to end because of it.
    fn gives_up(&mut self, error: &JournalError) -> bool {
        let trouble = error.to_string();
        if self.daemon.health.journal_trouble(Some(&trouble)) {
            tracing::error!(
                "{trouble}\nnothing is acknowledged and nothing is started until the journal can be written"
            );
        }
        if !error.is_lasting && !self.daemon.health.told_to_stop.load(Ordering::Relaxed) {
            return false;
        }
        let next = "what was not written was not acknowledged or done; the next start goes on from the journal";
        self.broken = Some(format!("the daemon ends without its journal; {next}\n{trouble}"));
        self.given_up = true;
        self.stop_runs.send_replace(true);
        true
    }

    /// A file ends. A bus does not; without it the daemon would be deaf and nobody would know.
    fn source_ended(&mut self, now: Timestamp, broken: Option<String>) {
        self.sources = self.sources.saturating_sub(1);
        if broken.is_none() && self.ends_with_sources {
            return;
        }
        let why = broken.unwrap_or_else(|| "a bus has ended and can't be read any more".to_owned());
        tracing::error!("{why}");
        self.broken = Some(why);
        if !self.ends_with_sources {
            self.drain(now);
        }
    }

    fn say_refused(&mut self, entry: &Entry) {
        let Entry::Refused { bus, topic, reason, .. } = entry else { return };
        self.daemon.health.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(times) = self.refused.again(clock(), bus, reason) {
            tracing::warn!(bus, topic, times, "message refused: {reason}");
        }
    }
}
