//! Nothing missed: up to when each bus was surely heard ([`heard`]), when something may be missing ([`watch`], pure), and getting
//! it before newer live messages are handed over; what can't be had stays open ([`gaps`], pure). [`opening`] is
//! what a starting daemon does for it, and what people ask.
//!
//! Where intake finds a gap, live messages wait in the source's queue, which is bounded; what the server has is handed
//! over first, in its order, the same way as live messages: judged, journaled, known by its id. What can't be had is said.

pub mod gaps;
pub mod heard;
pub mod opening;
pub mod watch;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use handler_api::Failure;
use handler_api::units::show_duration;
use jiff::Timestamp;

use self::heard::{Gap, Heard};
use self::watch::{Missed, SETTLE_SECONDS, Seen, Watch, Why};
use super::clock;
use super::intake::{BATCH_MESSAGES_MAX, Passing};
use crate::bus::catch_up::filter::Filter;
use crate::bus::catch_up::{Asking, CatchUp, Window};
use crate::bus::{BusError, Counters, Source, Wants};
use crate::message::RawMessage;
use crate::rules::matcher::{Rules, patterns};

/// How often a source is looked after while nothing comes, in milliseconds.
pub const LOOK_MS: u64 = 1_000;

/// Cares for one bus that nothing is missed.
pub struct Care {
    watch: Watch,
    counters: Arc<Counters>,
    rules: Arc<ArcSwap<Rules>>,
    wants: Wants,
    heard: Arc<Heard>,
    /// All that came up to then is in the journal.
    handed: Timestamp,
}

/// What a catch-up came to.
#[derive(Default)]
struct Got {
    came: u64,
    new: u64,
    unsigned: u64,
    not_now: u64,
    why_not_now: Option<String>,
    missing: u64,
    reached: Option<Timestamp>,
    failure: Option<Failure>,
}

impl Care {
    /// For a bus that begins to be read now. `wants` says by the topic what of its messages is wanted here.
    #[must_use]
    pub fn new(heard: Arc<Heard>, counters: Arc<Counters>, rules: Arc<ArcSwap<Rules>>, wants: Wants) -> Self {
        let now = clock();
        let settings = heard.settings();
        let watch = Watch::new(now, heard.position(), settings.queue_messages_max, settings.catch_up.is_some());
        let handed = heard.position().unwrap_or(now);
        Self { watch, counters, rules, wants, heard, handed }
    }

    /// The next messages of the source, which is looked after while none come; `None` when the engine is gone.
    ///
    /// # Errors
    /// As [`Source::next`].
    pub async fn next(
        &mut self,
        source: &mut dyn Source,
        passing: &Passing,
    ) -> Option<Result<Vec<RawMessage>, BusError>> {
        // One future from the beginning to the end: a source that connects anew takes longer than we wait between two looks.
        let mut coming = source.next(BATCH_MESSAGES_MAX);
        loop {
            if let Ok(batch) = tokio::time::timeout(Duration::from_millis(LOOK_MS), &mut coming).await {
                return Some(batch);
            }
            // Nothing waits in it, so all that came is in the journal.
            self.handed = clock();
            self.tell_position();
            let (mut came, mut in_hand) = (None, None);
            let goes_on = {
                let caught_up = self.catch_up(passing);
                tokio::pin!(caught_up);
                loop {
                    tokio::select! {
                        biased;
                        goes_on = &mut caught_up => break goes_on,
                        batch = &mut coming, if came.is_none() => {
                            in_hand = Some(passing.in_hand(batch.as_ref().map_or(0, Vec::len)));
                            came = Some(batch);
                        }
                    }
                }
            };
            drop(in_hand);
            if !goes_on {
                return None;
            }
            if came.is_some() {
                return came;
            }
        }
    }

    /// All that came up to `last` is in the journal.
    pub fn handed(&mut self, last: Timestamp) {
        self.handed = last;
        self.tell_position();
    }

    fn tell_position(&self) {
        self.heard.set_position(self.watch.position(self.handed));
    }

    /// Looks whether anything may be missing, and gets it before anything else is handed over. False when the engine is gone.
    pub async fn catch_up(&mut self, passing: &Passing) -> bool {
        self.look();
        while let Some(missed) = self.watch.due() {
            let wait = Duration::try_from(missed.at.duration_since(clock())).unwrap_or_default();
            if wait > Duration::from_secs(SETTLE_SECONDS) {
                // Just asked: a publisher that comes and goes must not hold up all others.
                break;
            }
            if !wait.is_zero() {
                tokio::time::sleep(wait.min(Duration::from_millis(LOOK_MS))).await;
                self.look();
                continue;
            }
            let to = clock();
            if !self.ask(missed, to, passing).await {
                return false;
            }
            self.watch.asked(clock(), to);
            self.look();
        }
        while let Some(window) = self.heard.take_asked() {
            let missed = Missed { from: window.from, why: Why::Asked, at: window.from };
            if !self.ask(missed, window.to, passing).await {
                return false;
            }
        }
        true
    }

    fn look(&mut self) {
        let now = clock();
        let settings = self.heard.settings();
        self.watch.can_ask(settings.catch_up.is_some());
        let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        self.watch.look(
            now,
            Seen {
                connects: of(&counters.connects),
                disconnects: of(&counters.disconnects),
                stalls: of(&counters.stalls),
                silences: of(&counters.silences),
                received: of(&counters.received),
                queued: of(&counters.queued),
            },
        );
    }

    /// Asks for one stretch of time, and says what came of it. False when the engine is gone.
    async fn ask(&mut self, missed: Missed, to: Timestamp, passing: &Passing) -> bool {
        let settings = self.heard.settings();
        let Some(config) = &settings.catch_up else {
            // A queue keeps what we miss; and of a new publisher nothing is known.
            if settings.keeps || matches!(missed.why, Why::Connected | Why::Silent) {
                return true;
            }
            let failure = Failure::permanent("the site names nobody to ask")
                .hinting(format!("`catch_up: {{ datagrepper: URL }}` in the block of bus {}", self.heard.bus));
            let got = Got { failure: Some(failure), ..Got::default() };
            return self.conclude(missed, missed.from, to, got, passing).await;
        };
        if missed.why == Why::Asked {
            let window = Window { from: missed.from, to };
            return self.ask_for(config, missed, window, to, passing).await;
        }
        let earliest = before(to, config.at_most);
        // Of a new publisher, and of silence, nothing is known to be missing.
        if missed.from < earliest && !matches!(missed.why, Why::Connected | Why::Silent) {
            let limit = show_duration(config.at_most);
            let failure = Failure::permanent(format!("what is older than {limit} (`at_most`) is not asked for"));
            let got = Got { failure: Some(failure), ..Got::default() };
            if !self.conclude(missed, missed.from, earliest, got, passing).await {
                return false;
            }
        }
        let from = before(missed.from, config.overlap).max(earliest).max(settings.not_before);
        // Clocks differ: what was sent just now may have a later time than ours. What comes live as well is known by then.
        let until = to.checked_add(config.overlap).unwrap_or(Timestamp::MAX);
        self.ask_for(config, missed, Window { from, to: until }, to, passing).await
    }

    async fn ask_for(
        &self,
        config: &CatchUp,
        missed: Missed,
        window: Window,
        to: Timestamp,
        passing: &Passing,
    ) -> bool {
        self.heard.begin(Window { to, ..window }, missed.why);
        let Some(got) = self.get(config, window, passing).await else { return false };
        let from = missed.from.max(window.from);
        let rest = match &got.failure {
            Some(_) => got.reached.map_or(from, |reached| reached.max(from).min(to)),
            None => from,
        };
        self.conclude(missed, rest, to, got, passing).await
    }

    /// Hands over all that the server has of a window; `None` when the engine is gone.
    async fn get(&self, config: &CatchUp, window: Window, passing: &Passing) -> Option<Got> {
        let filter = {
            let rules = self.rules.load();
            match self.heard.settings().takes_all {
                true => Filter::All,
                false => Filter::of(rules.all().iter().flat_map(|rule| patterns(rule))),
            }
        };
        let wants = opening::wants(self.heard.settings().topics.clone(), self.wants.clone());
        let mut asking = Asking::new(&self.heard.bus, config, &filter, wants, window);
        let mut got = Got::default();
        loop {
            match asking.next().await {
                Ok(Some(raws)) if raws.is_empty() => {}
                Ok(Some(raws)) => {
                    got.came += raws.len() as u64;
                    let passed = passing.pass(raws).await?;
                    got.new += passed.new;
                    got.unsigned += passed.unsigned_late;
                    got.not_now += passed.not_now;
                    got.why_not_now = got.why_not_now.or(passed.why_not_now);
                    self.heard.progress(got.came, got.new);
                }
                Ok(None) => break,
                Err(failure) => {
                    got.failure = Some(failure);
                    break;
                }
            }
        }
        (got.reached, got.missing) = (asking.reached(), asking.missing());
        Some(got)
    }

    /// Says what came of it: in the log, in `status`, and as a message for whoever has a rule for it.
    async fn conclude(&self, missed: Missed, from: Timestamp, to: Timestamp, got: Got, passing: &Passing) -> bool {
        let (mut said, mut hint) = (Vec::new(), None);
        if let Some(failure) = &got.failure {
            said.push(failure.message().to_owned());
            hint = failure.hint().map(str::to_owned);
        }
        if got.unsigned > 0 {
            said.push(format!("{} messages were refused, because nobody signed them", got.unsigned));
            hint.get_or_insert_with(|| "`believe: all` under `catch_up` believes its server".to_owned());
        }
        if let Some(why) = &got.why_not_now {
            said.push(format!("{} messages were refused: {why}", got.not_now));
            hint.get_or_insert_with(|| "reactor list --refused".to_owned());
        }
        if got.missing > 0 {
            said.push(format!("the server has {} messages more that it did not hand over whole", got.missing));
        }
        let gap = Gap {
            bus: self.heard.bus.clone(),
            from,
            to,
            why: missed.why.words().to_owned(),
            is_asked: missed.why == Why::Asked,
            recovered: said.is_empty(),
            came: got.came,
            new: got.new,
            lacking: (!said.is_empty()).then(|| said.join("; ")),
            hint,
        };
        gap.log();
        self.heard.end(&gap);
        passing.tell(gap).await
    }
}

fn before(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
#[path = "catch_up_tests.rs"]
mod tests;
