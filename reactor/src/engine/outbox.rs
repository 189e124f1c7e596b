//! The outbox: publishes what became of messages (`confirm`), at least once, whatever is killed when.
//!
//! What is to be published is a setting in the journal, written in the transaction of the outcome ([`OUTBOX`]). A
//! task of its own publishes it and then takes it out again, in one transaction with a line in the reaction's story. Killed
//! in between, it publishes the same message again, with the same id.
//!
//! What can be known differs: an AMQP broker confirms that it has the message. fedmsg tells nothing but who subscribes, so there
//! a message goes out once somebody has subscribed to its topic; whether that one got it, nobody knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::clock;
use super::core::{Confirmation, Confirms, Core};
use crate::bus::amqp;
use crate::bus::amqp::config::AmqpBus;
use crate::bus::amqp::publish::{AmqpPublisher, Sent};
use crate::bus::publish::Publisher;
use crate::journal::handle::JournalHandle;
use crate::journal::{Answer, Entry, JournalError, OUTBOX, Question};
use crate::rules::lower_confirm::can_confirm;
use crate::rules::site::{BusConfig, Confirm, PublishConfig, Site};
use crate::trust::sign::{Outgoing, Signer, unsigned_envelope};

/// Most outcomes that wait to be published. Of more, the oldest are given up: reacting goes before telling.
pub const WAITING_MAX: usize = 10_000;
/// An outcome is given up when nobody has subscribed to its topic for so long, in seconds.
pub const UNHEARD_SECONDS_MAX: i64 = 600;
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
    wake: Notify,
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
            closing: AtomicBool::new(false),
            task: Mutex::default(),
            waiting: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            troubles: Mutex::default(),
        }));
        if has_buses {
            core.confirms = Confirms::of(site);
            me.start();
        }
        me
    }

    /// Begins to publish, first what was left over.
    fn start(&self) {
        let task = Task { shared: self.0.clone(), lines: BTreeMap::new(), over: BTreeMap::new(), counter: 0 };
        *lock(&self.0.task) = Some(tokio::spawn(task.run()));
    }

    /// There is something to publish.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Takes the buses of a changed site.
    pub fn reload(&self, site: &Site) {
        self.0.buses.store(Arc::new(published_on(site)));
        self.wake();
    }

    /// Publishes what can be published at once, then ends.
    pub async fn close(&self) {
        self.0.closing.store(true, Ordering::Relaxed);
        self.wake();
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
            lock(&self.0.troubles).iter().map(|(bus, why)| format!("bus {bus}: {why}")).collect();
        json!({"waiting": of(&self.0.waiting), "sent": of(&self.0.sent), "given_up": of(&self.0.given_up), "problems": problems})
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

/// What waits, by the name of its setting.
type Waiting = Vec<(String, Confirmation)>;

struct Task {
    shared: Arc<Shared>,
    lines: BTreeMap<String, Line>,
    over: Over,
    /// Counts our fedmsg messages.
    counter: u64,
}

impl Task {
    async fn run(mut self) {
        let mut retry_ms = RETRY_MS.0;
        loop {
            let is_closing = self.shared.closing.load(Ordering::Relaxed);
            let sent = self.shared.sent.load(Ordering::Relaxed);
            let is_empty = self.pass().await.unwrap_or_else(|error| {
                tracing::debug!("the outbox can't be read or written now: {error}");
                false
            });
            if is_closing {
                return;
            }
            let is_stuck = !is_empty && sent == self.shared.sent.load(Ordering::Relaxed);
            retry_ms = if is_stuck { (retry_ms * 2).min(RETRY_MS.1) } else { RETRY_MS.0 };
            let wait = if is_empty { Duration::from_secs(LOOK_SECONDS) } else { Duration::from_millis(retry_ms) };
            // Where nobody is told anything there is nothing to look for, until the site says otherwise.
            let is_idle = is_empty && self.shared.buses.load().is_empty();
            tokio::select! {
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep(wait), if !is_idle => {}
            }
        }
    }

    /// Publishes what can be. True when nothing is left, and nothing is in the way of more.
    async fn pass(&mut self) -> Result<bool, JournalError> {
        let buses = self.shared.buses.load_full();
        self.lines.retain(|name, line| buses.get(name).and_then(|bus| bus.publish.as_ref()) == Some(&line.config));
        lock(&self.shared.troubles).retain(|name, _| buses.contains_key(name));
        self.forget().await?;
        let waiting = self.waiting().await?;
        let mut by_bus: BTreeMap<String, Waiting> = BTreeMap::new();
        for (name, confirmation) in waiting {
            by_bus.entry(confirmation.bus.clone()).or_default().push((name, confirmation));
        }
        for (name, bus) in &*buses {
            let waiting = by_bus.remove(name).unwrap_or_default();
            let result = match (&bus.amqp, &bus.publish) {
                (Some(amqp), _) if !waiting.is_empty() => self.by_amqp(name, amqp, &waiting).await,
                // Also with nothing to say yet: who wants to hear of it must be able to subscribe before.
                (None, Some(publish)) => self.by_fedmsg(name, publish, &waiting),
                _ => Ok(()),
            };
            self.trouble(name, result.err());
        }
        by_bus.values().for_each(|waiting| self.by_nobody(waiting));
        self.forget().await?;
        let left = match self.shared.journal.ask(Question::Settings(OUTBOX.to_owned())).await? {
            Answer::Settings(settings) => settings.len(),
            _ => 0,
        };
        self.shared.waiting.store(left as u64, Ordering::Relaxed);
        Ok(left == 0 && lock(&self.shared.troubles).is_empty())
    }

    /// What the journal holds, the oldest first; what is too much, or can't be read, is given up.
    async fn waiting(&mut self) -> Result<Waiting, JournalError> {
        let Answer::Settings(settings) = self.shared.journal.ask(Question::Settings(OUTBOX.to_owned())).await? else {
            return Ok(Vec::new());
        };
        self.shared.waiting.store(settings.len() as u64, Ordering::Relaxed);
        let too_many = settings.len().saturating_sub(WAITING_MAX);
        let mut waiting = Vec::with_capacity(settings.len());
        for (n, (name, value)) in settings.into_iter().enumerate() {
            match serde_json::from_str::<Confirmation>(&value) {
                Ok(one) if n < too_many => {
                    self.give_up(&name, &one, &format!("more than {WAITING_MAX} outcomes wait to be published"));
                }
                Ok(one) => waiting.push((name, one)),
                Err(error) => {
                    tracing::error!("{name} in the journal can't be read, so it is not published: {error}");
                    self.over.insert(name, (String::new(), String::new()));
                }
            }
        }
        Ok(waiting)
    }

    async fn by_amqp(&mut self, name: &str, bus: &AmqpBus, waiting: &Waiting) -> Result<(), String> {
        // A connection for each time: one that idles would need to be kept alive, and files with passwords change.
        let amqp = amqp::resolve(name, bus).map_err(|error| error.to_string())?;
        if amqp.topic_prefix.is_empty() {
            return Err(
                "it has no `topic_prefix`, and a topic that begins with reactor. is believed by no reactor".into()
            );
        }
        let broken = |broken: amqp::connection::Broken| format!("what became of messages can't be published: {broken}");
        let mut publisher = AmqpPublisher::open(&amqp).await.map_err(broken)?;
        for (setting, one) in waiting {
            let body = one.body.to_string();
            let sent = publisher.publish(&one.topic, &one.id, one.at, body.as_bytes()).await.map_err(broken)?;
            let topic = publisher.whole_topic(&one.topic);
            let whom = match sent {
                Sent::Queued => "the broker has it",
                Sent::Unwanted => "no queue wanted it",
            };
            self.sent(setting, one, &format!("published on bus {name} as {topic} {}; {whom}", one.id));
        }
        publisher.close().await;
        Ok(())
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

    /// For a bus that the site does not publish on any more.
    fn by_nobody(&mut self, waiting: &Waiting) {
        for (setting, one) in waiting {
            self.give_up(setting, one, "the site does not publish on this bus any more");
        }
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

    fn sent(&mut self, setting: &str, one: &Confirmation, said: &str) {
        self.shared.sent.fetch_add(1, Ordering::Relaxed);
        self.over.insert(setting.to_owned(), (one.reaction.clone(), said.to_owned()));
    }

    fn give_up(&mut self, setting: &str, one: &Confirmation, why: &str) {
        self.shared.given_up.fetch_add(1, Ordering::Relaxed);
        tracing::error!(bus = one.bus, reaction = one.reaction, "what became of it is not published: {why}");
        self.over.insert(setting.to_owned(), (one.reaction.clone(), format!("not published: {why}")));
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

/// The message as fedmsg has it.
fn envelope(signer: Option<&Signer>, topic: &str, one: &Confirmation, i: u64) -> Result<Vec<u8>, String> {
    let username = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "reactor".into());
    let outgoing =
        Outgoing { topic, msg: &one.body, i, msg_id: &one.id, timestamp_s: one.at.as_second(), username: &username };
    match signer {
        Some(signer) => signer.envelope(&outgoing),
        None => Ok(unsigned_envelope(&outgoing)),
    }
}
