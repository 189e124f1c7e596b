//! The outbox: publishes what became of messages (`confirm`), at least once, whatever is killed when.
//!
//! What is to be published is a setting in the journal, written in the transaction of the outcome ([`OUTBOX`]). A
//! task of its own publishes it and then takes it out again, in one transaction with a line in the reaction's story. Killed
//! in between, it publishes the same message again, with the same id.
//!
//! Where several nodes share the journal, each publishes what it has decided itself, and what another left lying for some time.
//!
//! What can be known differs: an AMQP broker confirms that it has the message. fedmsg tells nothing but who subscribes, so there
//! a message goes out once somebody has subscribed to its topic; whether that one got it, nobody knows.

mod sending;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use self::sending::{envelope, tell_broker};
use super::clock;
use super::core::{Confirmation, Confirms, Core};
use crate::bus::amqp::config::AmqpBus;
use crate::bus::publish::Publisher;
use crate::journal::handle::JournalHandle;
use crate::journal::{Answer, Entry, JournalError, OUTBOX, Question};
use crate::rules::lower_confirm::can_confirm;
use crate::rules::site::{BusConfig, Confirm, PublishConfig, Site};
use crate::trust::sign::Signer;

/// Most outcomes that wait to be published. Of more, the oldest are given up: reacting goes before telling.
pub const WAITING_MAX: usize = 10_000;
/// Most bytes of them, as the journal keeps them.
pub const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// An outcome is given up when nobody has subscribed to its topic for so long, in seconds.
pub const UNHEARD_SECONDS_MAX: i64 = 600;
/// What another node has to publish is left to it for so long, in seconds.
pub const OTHERS_SECONDS: i64 = 30;
/// What was left over from before our socket was opened waits for so long, in seconds: subscribers come back one by one.
pub const SETTLE_SECONDS: i64 = 3;
/// Between two tries to publish what could not be, in milliseconds: at first, and doubled each time up to the second.
pub const RETRY_MS: (u64, u64) = (500, 2_000);
/// Outcomes that are taken out of the journal in one transaction.
const FORGET_AT_ONCE: usize = 256;
/// The outbox is looked into at least this often, in seconds: another node may have ended with something in it.
pub const LOOK_SECONDS: u64 = 30;
/// How long a stopping daemon waits for the last ones, in seconds. What is not out then goes out after the next start.
pub const CLOSE_SECONDS_MAX: u64 = 3;

/// The outbox, as the engine holds it. Clones are the same one.
#[derive(Clone)]
pub struct Outbox(Arc<Shared>);

struct Shared {
    journal: Arc<JournalHandle>,
    /// The buses that outcomes are published on.
    buses: ArcSwap<BTreeMap<String, BusConfig>>,
    /// There is something new to publish.
    wake: Notify,
    /// Something else has changed: looked at once, also while nothing can be published.
    changed: Notify,
    closing: AtomicBool,
    task: Mutex<Option<JoinHandle<()>>>,
    waiting: AtomicU64,
    sent: AtomicU64,
    given_up: AtomicU64,
    /// Why nothing can be published now, by bus.
    troubles: Mutex<BTreeMap<String, String>>,
}

impl Outbox {
    /// For this site, whose rules `core` has. Where messages come from a file (`has_buses` is false), nothing is published.
    #[must_use]
    pub fn open(site: &Site, journal: &Arc<JournalHandle>, core: &mut Core, has_buses: bool) -> Self {
        let me = Self(Arc::new(Shared {
            journal: journal.clone(),
            buses: ArcSwap::from_pointee(published_on(site)),
            wake: Notify::new(),
            changed: Notify::new(),
            closing: AtomicBool::new(false),
            task: Mutex::default(),
            waiting: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            troubles: Mutex::default(),
        }));
        if has_buses {
            core.confirms = Confirms::of(site, journal.seat.as_ref().map(|seat| seat.node.as_str()));
            me.start();
        }
        me
    }

    /// Begins to publish, first what was left over.
    fn start(&self) {
        *lock(&self.0.task) = Some(tokio::spawn(self.0.new_task().run()));
    }

    /// There is something to publish.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Takes the buses of a changed site.
    pub fn reload(&self, site: &Site) {
        self.0.buses.store(Arc::new(published_on(site)));
        self.0.changed.notify_one();
    }

    /// Publishes what can be published at once, then ends.
    pub async fn close(&self) {
        self.0.closing.store(true, Ordering::Relaxed);
        self.0.changed.notify_one();
        let Some(mut task) = lock(&self.0.task).take() else { return };
        if tokio::time::timeout(Duration::from_secs(CLOSE_SECONDS_MAX), &mut task).await.is_err() {
            task.abort();
        }
    }

    /// `waiting`, `sent`, `given_up` since the start, and `problems`, a sentence each; null where nothing is to be published.
    #[must_use]
    pub fn status(&self) -> Value {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        if self.0.buses.load().is_empty() && of(&self.0.waiting) == 0 {
            return Value::Null;
        }
        let problems: Vec<String> =
            lock(&self.0.troubles).iter().map(|(bus, why)| format!("bus {bus}: {}", first_line(why))).collect();
        json!({"waiting": of(&self.0.waiting), "sent": of(&self.0.sent), "given_up": of(&self.0.given_up), "problems": problems})
    }
}

impl Shared {
    fn new_task(self: &Arc<Self>) -> Task {
        let (lines, brokers) = (BTreeMap::new(), BTreeMap::new());
        Task { shared: self.clone(), lines, brokers, over: BTreeMap::new(), given_up: BTreeMap::new(), counter: 0 }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The log has the rest, as hints.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The buses that this site asks to publish outcomes on.
fn published_on(site: &Site) -> BTreeMap<String, BusConfig> {
    let of_buses = site.buses.iter().map(|(name, bus)| (Some(name.as_str()), &bus.confirm));
    let of_rules = site.rules.iter().filter_map(|rule| rule.confirm.as_ref()).map(|confirm| (None, confirm));
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for (from, confirm) in of_buses.chain(of_rules) {
        match (confirm, from) {
            (Confirm::No, _) => {}
            (Confirm::On(name), _) => drop(names.insert(name)),
            (Confirm::There, Some(from)) => drop(names.insert(from)),
            (Confirm::There, None) => {
                names.extend(site.buses.iter().filter(|(_, bus)| bus.listens()).map(|(name, _)| name.as_str()));
            }
        }
    }
    let is_one = |(name, bus): &(&String, &BusConfig)| names.contains(name.as_str()) && can_confirm(bus).is_ok();
    site.buses.iter().filter(is_one).map(|(name, bus)| (name.clone(), bus.clone())).collect()
}

/// An open fedmsg socket.
struct Line {
    publisher: Publisher,
    config: PublishConfig,
    opened: Timestamp,
}

/// What was published or given up, and is to be taken out of the journal: the reaction, and what its story says.
type Over = BTreeMap<String, (String, String)>;

/// What waits to be published. Its body stays text: while a bus is away for days, thousands of them only wait.
type Kept = Confirmation<Box<RawValue>>;

/// All that waits, by the name of its setting, the oldest first.
type Waiting = Vec<(String, Kept)>;

/// What a broker has confirmed (each with what the reaction's story says), and what went wrong then.
type Confirmed = (Vec<(String, Kept, String)>, Result<(), String>);

/// What is left after a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    /// Only what another node has to publish, or nobody has.
    ToOthers,
    /// What can't be published now, or not yet.
    Ours,
}

struct Task {
    shared: Arc<Shared>,
    lines: BTreeMap<String, Line>,
    /// What is told to brokers now: one that does not answer holds up no other bus.
    brokers: BTreeMap<String, JoinHandle<Confirmed>>,
    over: Over,
    /// What was given up in this pass: by bus and reason, how many, and one reaction of them.
    given_up: BTreeMap<(String, String), (usize, String)>,
    /// Counts our fedmsg messages.
    counter: u64,
}

impl Task {
    async fn run(mut self) {
        let mut retry_ms = RETRY_MS.0;
        loop {
            let is_closing = self.shared.closing.load(Ordering::Relaxed);
            let sent = self.shared.sent.load(Ordering::Relaxed);
            let left = self.pass(is_closing).await.unwrap_or_else(|error| {
                tracing::debug!("the outbox can't be read or written now: {error}");
                Left::Ours
            });
            if is_closing {
                return;
            }
            let is_stuck = left == Left::Ours && sent == self.shared.sent.load(Ordering::Relaxed);
            retry_ms = if is_stuck { (retry_ms * 2).min(RETRY_MS.1) } else { RETRY_MS.0 };
            let is_waiting = left == Left::Ours;
            let wait = if is_waiting { Duration::from_millis(retry_ms) } else { Duration::from_secs(LOOK_SECONDS) };
            // Where nobody is told anything there is nothing to look for, until the site says otherwise.
            let is_idle = left == Left::Nothing && self.shared.buses.load().is_empty();
            tokio::select! {
                () = self.shared.changed.notified() => {}
                // While something can't be published, each new outcome would be one more try of all of them.
                () = self.shared.wake.notified(), if !is_waiting => {}
                () = tokio::time::sleep(wait), if !is_idle => {}
            }
        }
    }

    /// Publishes what can be; in the `last` pass brokers are waited for.
    async fn pass(&mut self, last: bool) -> Result<Left, JournalError> {
        let buses = self.shared.buses.load_full();
        self.lines.retain(|name, line| buses.get(name).and_then(|bus| bus.publish.as_ref()) == Some(&line.config));
        lock(&self.shared.troubles).retain(|name, _| buses.contains_key(name));
        let refused = self.hear_brokers(false).await;
        self.forget().await?;
        let waiting = self.waiting().await?;
        let now = clock();
        let mut by_bus: BTreeMap<String, Waiting> = BTreeMap::new();
        let mut to_others = 0;
        for (name, one) in waiting {
            let age = now.duration_since(one.at);
            let is_others = one.node.is_some() && one.node.as_deref() != self.node();
            if is_others && age < SignedDuration::from_secs(OTHERS_SECONDS) {
                to_others += 1;
            } else if buses.contains_key(&one.bus) {
                by_bus.entry(one.bus.clone()).or_default().push((name, one));
            } else if age > SignedDuration::from_secs(UNHEARD_SECONDS_MAX) {
                self.give_up(&name, &one, "the site does not publish on this bus any more");
            } else {
                // Another node may have read the rules file sooner than this one.
                to_others += 1;
            }
        }
        let ours: usize = by_bus.values().map(Vec::len).sum();
        let before = self.over.len();
        for (name, bus) in &*buses {
            let waiting = by_bus.remove(name).unwrap_or_default();
            match (&bus.amqp, &bus.publish) {
                (Some(amqp), _) if !refused.contains(name) => self.by_amqp(name, amqp, waiting),
                // Also with nothing to say yet: who wants to hear of it must be able to subscribe before.
                (None, Some(publish)) => {
                    let result = self.by_fedmsg(name, publish, &waiting);
                    self.trouble(name, result.err());
                }
                _ => {}
            }
        }
        if last {
            self.hear_brokers(true).await;
        }
        let ours = ours.saturating_sub(self.over.len() - before);
        self.say_given_up();
        self.forget().await?;
        self.shared.waiting.store((ours + to_others) as u64, Ordering::Relaxed);
        let has_trouble = !lock(&self.shared.troubles).is_empty();
        Ok(match to_others {
            _ if ours > 0 || has_trouble => Left::Ours,
            0 => Left::Nothing,
            _ => Left::ToOthers,
        })
    }

    /// Our name among several nodes.
    fn node(&self) -> Option<&str> {
        self.shared.journal.seat.as_ref().map(|seat| seat.node.as_str())
    }

    /// What the journal holds, the oldest first; what is too much, or can't be read, is given up.
    async fn waiting(&mut self) -> Result<Waiting, JournalError> {
        let Answer::Settings(settings) = self.shared.journal.ask(Question::Settings(OUTBOX.to_owned())).await? else {
            return Ok(Vec::new());
        };
        // Also while it is being published: what is out is still in the journal.
        self.shared.waiting.store(settings.len() as u64, Ordering::Relaxed);
        let mut waiting = Vec::with_capacity(settings.len());
        for (name, value) in settings {
            match serde_json::from_str::<Kept>(&value) {
                Ok(one) => waiting.push((value.len(), name, one)),
                Err(error) => {
                    tracing::error!("{name} in the journal can't be read, so it is not published: {error}");
                    self.over.insert(name, (String::new(), String::new()));
                }
            }
        }
        // Not by their names: a reaction that was held and is done has two, and the latter is the last word.
        waiting.sort_by(|(_, name, one), (_, other_name, other)| (one.at, name).cmp(&(other.at, other_name)));
        let bytes: Vec<usize> = waiting.iter().map(|(bytes, ..)| *bytes).collect();
        for (_, name, one) in waiting.drain(..too_many(&bytes)) {
            let why = format!("more than {WAITING_MAX} outcomes, or {WAITING_BYTES_MAX} bytes, wait to be published");
            self.give_up(&name, &one, &why);
        }
        Ok(waiting.into_iter().map(|(_, name, one)| (name, one)).collect())
    }

    /// Begins to tell a broker, unless it is being told.
    fn by_amqp(&mut self, name: &str, bus: &AmqpBus, waiting: Waiting) {
        if self.brokers.contains_key(name) {
            return;
        }
        if waiting.is_empty() {
            return self.trouble(name, None);
        }
        let (shared, of, bus) = (self.shared.clone(), name.to_owned(), bus.clone());
        let job = async move {
            let mut confirmed = Vec::new();
            let result = tell_broker(&of, &bus, waiting, &mut confirmed).await;
            shared.changed.notify_one();
            (confirmed, result)
        };
        self.brokers.insert(name.to_owned(), tokio::spawn(job));
    }

    /// What brokers have confirmed meanwhile, or, with `all`, will have; the names of those that did not take all.
    async fn hear_brokers(&mut self, all: bool) -> BTreeSet<String> {
        let over: Vec<String> =
            self.brokers.iter().filter(|(_, job)| all || job.is_finished()).map(|(name, _)| name.clone()).collect();
        let mut refused = BTreeSet::new();
        for name in over {
            let Some(job) = self.brokers.remove(&name) else { continue };
            let (confirmed, result) = job.await.unwrap_or_else(|error| (Vec::new(), Err(error.to_string())));
            for (setting, one, said) in confirmed {
                self.sent(&setting, &one, &said);
            }
            self.trouble(&name, result.as_ref().err().cloned());
            if result.is_err() {
                refused.insert(name);
            }
        }
        refused
    }

    fn by_fedmsg(&mut self, name: &str, config: &PublishConfig, waiting: &Waiting) -> Result<(), String> {
        let opened = self.line(name, config)?.opened;
        let signer = match (&config.cert, &config.key) {
            (Some(cert), Some(key)) => Some(Signer::open(cert, key)?),
            _ => None,
        };
        let prefix = config.prefix.as_deref().unwrap_or_default();
        let mut unheard = None;
        for (setting, one) in waiting {
            let topic = format!("{prefix}.{}", one.topic);
            let now = clock();
            let line = self.line(name, config)?;
            if !line.publisher.wait_for_subscriber_of(&topic, Duration::ZERO).map_err(|error| error.to_string())? {
                if now.duration_since(one.at) > SignedDuration::from_secs(UNHEARD_SECONDS_MAX) {
                    self.give_up(
                        setting,
                        one,
                        &format!("nobody has subscribed to {topic} for {UNHEARD_SECONDS_MAX} s"),
                    );
                } else {
                    unheard = Some(format!("nobody has subscribed to {topic}, so what became of messages waits"));
                }
                continue;
            }
            if one.at < opened && now.duration_since(opened) < SignedDuration::from_secs(SETTLE_SECONDS) {
                continue;
            }
            self.counter += 1;
            let body = envelope(signer.as_ref(), &topic, one, self.counter)?;
            self.line(name, config)?.publisher.publish(&topic, &body).map_err(|error| error.to_string())?;
            self.sent(setting, one, &format!("published on bus {name} as {topic} {}, to whoever listens", one.id));
        }
        unheard.map_or(Ok(()), Err)
    }

    fn line(&mut self, name: &str, config: &PublishConfig) -> Result<&mut Line, String> {
        use std::collections::btree_map::Entry::{Occupied, Vacant};
        match self.lines.entry(name.to_owned()) {
            Occupied(line) => Ok(line.into_mut()),
            Vacant(room) => {
                let publisher = Publisher::open(name, config).map_err(|error| error.to_string())?;
                tracing::info!(bus = name, "what becomes of messages is published at {}", publisher.address());
                Ok(room.insert(Line { publisher, config: config.clone(), opened: clock() }))
            }
        }
    }

    fn sent(&mut self, setting: &str, one: &Kept, said: &str) {
        self.shared.sent.fetch_add(1, Ordering::Relaxed);
        self.over.insert(setting.to_owned(), (one.reaction.clone(), said.to_owned()));
    }

    fn give_up(&mut self, setting: &str, one: &Kept, why: &str) {
        self.shared.given_up.fetch_add(1, Ordering::Relaxed);
        let of = (one.bus.clone(), why.to_owned());
        self.given_up.entry(of).or_insert_with(|| (0, one.reaction.clone())).0 += 1;
        self.over.insert(setting.to_owned(), (one.reaction.clone(), format!("not published: {why}")));
    }

    /// One line for all that was given up for one reason: there may be thousands.
    fn say_given_up(&mut self) {
        for ((bus, why), (times, reaction)) in std::mem::take(&mut self.given_up) {
            tracing::error!(bus, reaction, times, "what became of reactions is not published: {why}");
        }
    }

    /// Takes what is over out of the journal. Until that is written it is not published a second time by this process.
    async fn forget(&mut self) -> Result<(), JournalError> {
        while !self.over.is_empty() {
            let batch: Vec<(String, (String, String))> =
                self.over.iter().take(FORGET_AT_ONCE).map(|(name, told)| (name.clone(), told.clone())).collect();
            let gone = |name: &String| Entry::Setting { name: name.clone(), value: None };
            let line = |(reaction, detail): &(String, String)| Entry::Story {
                reaction: reaction.clone(),
                at: clock(),
                what: "confirmed".into(),
                detail: detail.clone(),
            };
            let entries = batch.iter().flat_map(|(name, told)| [gone(name), line(told)]).collect();
            if self.shared.journal.write(entries).await.is_err() {
                // A reaction of them may be forgotten by now; then there is no story to add to.
                self.shared.journal.write(batch.iter().map(|(name, _)| gone(name)).collect()).await?;
            }
            batch.iter().for_each(|(name, _)| drop(self.over.remove(name)));
        }
        Ok(())
    }

    /// Notes trouble with a bus, or its end; the log has it when it is news.
    fn trouble(&self, bus: &str, why: Option<String>) {
        let mut troubles = lock(&self.shared.troubles);
        match why {
            None => drop(troubles.remove(bus)),
            Some(why) if troubles.get(bus) == Some(&why) => {}
            Some(why) => {
                tracing::warn!(bus, "{why}");
                troubles.insert(bus.to_owned(), why);
            }
        }
    }
}

/// How many of the oldest are given up, by the bytes of each, the oldest first.
fn too_many(bytes: &[usize]) -> usize {
    let mut room = WAITING_BYTES_MAX;
    let fits = |bytes: &&usize| {
        let left = room.checked_sub(**bytes);
        room = left.unwrap_or(0);
        left.is_some()
    };
    bytes.len() - bytes.iter().rev().take(WAITING_MAX).take_while(fits).count()
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
