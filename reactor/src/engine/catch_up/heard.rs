//! What intake, engine and people know together of one bus: up to when it was heard, what was missed, what a person asked for.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::gaps::Gaps;
use super::watch::Why;
use crate::bus::catch_up::{CatchUp, Window};
use crate::engine::clock;
use crate::journal::Entry;
use crate::rules::site::BusConfig;

/// What the names of the settings begin with that hold positions.
pub const POSITION_PREFIX: &str = "position/";
/// The position is written with other entries at most this often, in seconds…
pub const POSITION_SECONDS: i64 = 10;
/// …and this often where nothing else is written.
pub const POSITION_ALONE_SECONDS: i64 = 60;
/// Most questions of people that wait for one bus.
pub const ASKED_MAX: usize = 8;

/// No position yet.
const NONE: i64 = i64::MIN;

/// What the site says, as far as it counts here.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whom to ask.
    pub catch_up: Option<CatchUp>,
    /// Messages that the source's queue holds.
    pub queue_messages_max: usize,
    /// Whether the bus itself keeps what is sent while we are away.
    pub keeps: bool,
    /// Whether messages that no rule wants are wanted too (`history: all`).
    pub takes_all: bool,
    /// What topics begin with that come by this bus; empty = all do.
    pub topics: Vec<String>,
    /// Nothing before then is of interest: the first start.
    pub not_before: Timestamp,
}

/// One bus.
#[derive(Debug)]
pub struct Heard {
    /// Its name.
    pub bus: Arc<str>,
    settings: ArcSwap<Settings>,
    /// In microseconds.
    position: AtomicI64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The position that was written last, and when.
    written: Option<(i64, Timestamp)>,
    asked: VecDeque<Window>,
    asked_ever: u64,
    answered: u64,
    answer: Option<Gap>,
    gaps: u64,
    lacking: u64,
    open: Gaps,
    running: Option<Running>,
}

#[derive(Clone, Debug, Serialize)]
struct Running {
    from: Timestamp,
    to: Timestamp,
    why: &'static str,
    came: u64,
    new: u64,
}

/// A stretch of time that was missed, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// The bus.
    pub bus: Arc<str>,
    /// Its beginning; of one that was recovered in part, of the rest.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// Why there is one: the end of a sentence.
    pub why: String,
    /// Whether a person asked for this time.
    #[serde(skip)]
    pub is_asked: bool,
    /// Whether all that the server has was handed over and believed.
    pub recovered: bool,
    /// Messages that the server handed over and that are wanted here.
    pub came: u64,
    /// Of those, what was not known and led to something.
    pub new: u64,
    /// Why it was not recovered.
    pub lacking: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A question about a bus's past, over the control socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AskedFor {
    /// The bus's name.
    pub bus: String,
    /// From then…
    pub from: Timestamp,
    /// …to then.
    pub to: Timestamp,
}

/// The command that asks for a time of a bus.
#[must_use]
pub fn command(bus: &str, Window { from, to }: Window) -> String {
    let is_plain = bus.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let bus = if is_plain { bus.to_owned() } else { format!("'{}'", bus.replace('\'', "'\\''")) };
    format!("reactor replay --bus {bus} --from {from} --to {to}")
}

impl Gap {
    /// The command that asks for it again.
    #[must_use]
    pub fn command(&self) -> String {
        command(&self.bus, Window { from: self.from, to: self.to })
    }

    /// Says it in the log.
    pub fn log(&self) {
        let Self { bus, from, to, why, came, new, .. } = self;
        match &self.lacking {
            None => tracing::info!(%bus, came, new, "caught up from {from} to {to}: {why}"),
            Some(lacking) => {
                let hint = self.hint.iter().map(|hint| format!("{hint}; or ")).collect::<String>();
                let command = self.command();
                tracing::warn!(%bus, came, new,
                    "what was sent from {from} to {to} may be missing ({why}): {lacking}\nhint: {hint}by hand: {command}");
            }
        }
    }
}

impl Settings {
    /// Of a bus of the site. `is_known` says whether any daemon has heard it before.
    #[must_use]
    pub fn of(config: &BusConfig, keeps: bool, takes_all: bool, is_known: bool, now: Timestamp) -> Self {
        Self {
            catch_up: config.catch_up.clone(),
            queue_messages_max: config.queue_messages_max,
            keeps,
            takes_all,
            topics: config.topics.clone(),
            not_before: if is_known { Timestamp::MIN } else { now },
        }
    }
}

impl Heard {
    /// A bus that was heard up to `position` by a daemon before this one, which left these gaps.
    #[must_use]
    pub fn new(bus: Arc<str>, position: Option<Timestamp>, open: Gaps, settings: Settings) -> Self {
        let position = AtomicI64::new(position.map_or(NONE, Timestamp::as_microsecond));
        let inner = Mutex::new(Inner { open, ..Inner::default() });
        Self { bus, settings: ArcSwap::from_pointee(settings), position, inner }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the site says now.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// The site says something else.
    pub fn reload(&self, config: &BusConfig, takes_all: bool) {
        let before = self.settings();
        let Settings { queue_messages_max, keeps, not_before, .. } = *before;
        let (catch_up, topics) = (config.catch_up.clone(), config.topics.clone());
        let settings = Settings { catch_up, queue_messages_max, keeps, takes_all, topics, not_before };
        self.settings.store(Arc::new(settings));
    }

    /// Up to when the bus was surely heard.
    #[must_use]
    pub fn position(&self) -> Option<Timestamp> {
        match self.position.load(Ordering::Relaxed) {
            NONE => None,
            position => Timestamp::from_microsecond(position).ok(),
        }
    }

    /// It is heard up to then.
    pub fn set_position(&self, position: Timestamp) {
        self.position.store(position.as_microsecond(), Ordering::Release);
    }

    /// What is to be written to the journal now: open gaps at once, for the position goes on beyond them; the position when it is
    /// time: beside other entries sooner than alone, at a clean stop (`is_last`) at once.
    #[must_use]
    pub fn entries(&self, now: Timestamp, beside: bool, is_last: bool) -> Vec<Entry> {
        // Before the gaps are looked at: one is added before the position goes beyond it.
        let position = self.position.load(Ordering::Acquire);
        let mut inner = self.lock();
        let mut entries = inner.open.entries(&self.bus, now);
        entries.extend(self.position_entry(&mut inner, position, now, beside, is_last));
        entries
    }

    fn position_entry(
        &self,
        inner: &mut Inner,
        position: i64,
        now: Timestamp,
        beside: bool,
        is_last: bool,
    ) -> Option<Entry> {
        let seconds = if beside { POSITION_SECONDS } else { POSITION_ALONE_SECONDS };
        let is_due = inner.written.is_none_or(|(written, at)| {
            // A clock that was set back must not keep it from being written.
            written != position && (is_last || !(0..seconds).contains(&now.duration_since(at).as_secs()))
        });
        let at = Timestamp::from_microsecond(position).ok().filter(|_| is_due && position != NONE)?;
        inner.written = Some((position, now));
        Some(Entry::Setting { name: format!("{POSITION_PREFIX}{}", self.bus), value: Some(at.to_string()) })
    }

    /// A person asks for a time; its number.
    ///
    /// # Errors
    /// That nobody can be asked, or that too many questions wait.
    pub fn ask(&self, window: Window) -> Result<u64, String> {
        if self.settings().catch_up.is_none() {
            return Err(format!(
                "bus {} has nobody to ask\nhint: `catch_up: {{ datagrepper: URL }}` in its block, then: reactor reload",
                self.bus
            ));
        }
        let mut inner = self.lock();
        if inner.asked.len() >= ASKED_MAX {
            return Err(format!("{ASKED_MAX} replays of bus {} wait already\nhint: reactor status", self.bus));
        }
        inner.asked.push_back(window);
        inner.asked_ever += 1;
        Ok(inner.asked_ever)
    }

    /// The next time that a person asked for.
    #[must_use]
    pub fn take_asked(&self) -> Option<Window> {
        self.lock().asked.pop_front()
    }

    /// A catch-up begins.
    pub fn begin(&self, Window { from, to }: Window, why: Why) {
        self.lock().running = Some(Running { from, to, why: why.words(), came: 0, new: 0 });
    }

    /// So far it brought this.
    pub fn progress(&self, came: u64, new: u64) {
        if let Some(running) = &mut self.lock().running {
            (running.came, running.new) = (came, new);
        }
    }

    /// It has ended.
    pub fn end(&self, gap: &Gap) {
        let mut inner = self.lock();
        inner.running = None;
        if gap.is_asked {
            inner.answered += 1;
            inner.answer = Some(gap.clone());
        } else {
            inner.gaps += 1;
        }
        if gap.recovered {
            inner.open.close(Window { from: gap.from, to: gap.to });
        } else if !gap.is_asked {
            inner.lacking += 1;
            inner.open.add(clock(), gap);
        }
    }

    /// For `status`.
    #[must_use]
    pub fn status(&self) -> Value {
        let position = self.position();
        let inner = self.lock();
        json!({
            "position": position, "gaps": inner.gaps, "gaps_lacking": inner.lacking,
            "open": inner.open.told(clock()), "running": inner.running,
            "asked": {"waiting": inner.asked.len(), "answered": inner.answered, "last": inner.answer},
        })
    }
}
