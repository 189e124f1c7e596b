//! Start, reload, drain, stop.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::catch_up::opening;
use super::core::{Confirms, Core, Turn};
use super::folded::Folded;
use super::intake::{Gauge, Judge, Passing, take_in};
use super::lease::Lease;
use super::nodes::Nodes;
use super::outbox::Outbox;
use super::sources::{OpenBus, open_bus};
use super::{Engine, INPUTS_WAITING_MAX, Input, clock, control};
use crate::bus::{Counters, Source, jsonl};
use crate::http::hook::Hook;
use crate::http::{self, HttpConfig};
use crate::journal::handle::JournalHandle;
use crate::journal::nodes::Slots;
use crate::journal::place;
use crate::journal::{Answer, Question};
use crate::rules::file;
use crate::rules::matcher::Rules;
use crate::rules::site::{HandlerConfig, JournalConfig, Site};
use crate::runner::warden::Warden;
use crate::runner::{self, Runner};
use crate::trust::{self, Refusal};

/// How long a stopping daemon waits for running handlers, in seconds. Under systemd's 90 s.
pub const DRAIN_SECONDS_MAX: u64 = 60;
/// How often the rules files are looked at, in milliseconds.
pub const FILES_LOOK_MS: u64 = 1_000;
/// How often old journal entries are swept out, in seconds.
pub const SWEEP_SECONDS: u64 = 600;

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The site's files and directories.
    pub site: Vec<PathBuf>,
    /// Where journal, socket and handler directories are.
    pub state: PathBuf,
    /// Messages from this file (`-`: stdin) instead of from the site's buses; ends with it.
    pub from: Option<PathBuf>,
}

/// What the engine's loop keeps for reload and status.
pub(super) struct Parts {
    options: Options,
    pub(super) health: Arc<Health>,
    rules: Arc<ArcSwap<Rules>>,
    pub(super) buses: Vec<OpenBus>,
    pub(super) from: Option<Arc<Counters>>,
    journal_config: Arc<ArcSwap<JournalConfig>>,
    http: Option<HttpConfig>,
    pub(super) started: Timestamp,
    pub(super) reloaded: Timestamp,
}

/// What can be said of the daemon even while its loop waits for the journal.
#[derive(Debug, Default)]
pub struct Health {
    journal: Mutex<Option<String>>,
    /// Messages refused since the start.
    pub refused: AtomicU64,
    /// Whether the daemon was told to stop; seen even by a loop that waits for the journal.
    pub told_to_stop: AtomicBool,
}

impl Health {
    /// Notes trouble with the journal, or its end. True if that is news.
    pub fn journal_trouble(&self, trouble: Option<&str>) -> bool {
        let mut known = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let news = known.as_deref() != trouble;
        *known = trouble.map(str::to_owned);
        news
    }

    /// Why the journal can't be written, if it can't.
    #[must_use]
    pub fn journal_said(&self) -> Option<String> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How a daemon ended.
#[derive(Debug)]
pub struct Ended {
    /// Reactions that failed since the start.
    pub failed: u64,
    /// Reactions that are not over; the next start goes on with them.
    pub pending: usize,
    /// Messages refused since the start, and lines of a file that are too long to be one.
    pub refused: u64,
}

/// Runs a daemon until it is told to stop (SIGTERM, SIGINT), or its file has ended.
///
/// # Errors
/// What keeps it from starting, with what to do about it.
pub async fn run(options: Options) -> anyhow::Result<Ended> {
    // Looked at before they are read: what is changed while we start is read again.
    let stamps = file::stamps(&options.site);
    let site = file::load(&options.site)?;
    let (to_engine, inputs) = mpsc::channel(INPUTS_WAITING_MAX);
    // Before the journal: that an address is taken is known at once.
    let door = http::Door::open(site.http.as_ref().filter(|_| options.from.is_none())).await?;
    let journal = open_journal(&options, site.journal.server.clone()).await?;
    let (gauge, stop_runs) = (Arc::new(Gauge::default()), Arc::new(watch::channel(false).0));
    let lease = keep_lease(&options, &journal, &stop_runs, &gauge)?;
    let runner = open_runner(&options.state).await?;
    let health = Arc::new(Health::default());
    let (rules, handlers) = compile(&site);
    let mut core = Core::new(rules.clone(), handlers, site.journal.history_all, seed()?);
    let mut turn = Turn::default();
    match lease {
        // What it has to go on with, it gains slot by slot.
        Some(_) => core.share(),
        None => restore(&mut core, &journal, &mut turn).await?,
    }
    if options.from.is_some() {
        core.without_time();
    }
    let outbox = Outbox::open(&site, &journal, &mut core, options.from.is_none());
    let rules = Arc::new(ArcSwap::new(rules));
    let parts = open_sources(options.clone(), site, rules, &gauge, &to_engine, &journal, health.clone()).await?;
    let socket = control::listen(&options.state, to_engine.clone(), health.clone())?;
    let served = door.serve(parts.hooks(), &options.state).await?;
    let watchers = [
        tokio::spawn(signals(to_engine.clone(), health.clone())),
        tokio::spawn(files(options.site.clone(), stamps, to_engine.clone())),
    ];
    let sweeper = tokio::spawn(sweep(journal.clone(), parts.journal_config.clone()));
    let mut engine = Engine {
        core,
        journal,
        runner,
        gauge,
        inputs,
        to_self: to_engine,
        sources: parts.buses.len() + usize::from(parts.from.is_some()),
        ends_with_sources: parts.from.is_some(),
        drain_until: None,
        broken: None,
        given_up: false,
        stop_runs,
        nodes: lease.map(Nodes::new),
        refused: Folded::default(),
        outbox: outbox.clone(),
        daemon: parts,
    };
    engine.end_turn(turn, super::Answers::default()).await;
    say_ready();
    tokio::spawn(ask_handlers(engine.runner.clone(), engine.core.handlers.values().cloned().collect()));
    let (runner, from) = (engine.runner.clone(), engine.daemon.from.clone());
    let (core, lease, broken) = engine.run().await;
    runner.close().await;
    outbox.close().await;
    if let Some(lease) = lease {
        lease.end().await;
    }
    watchers.into_iter().chain([sweeper, socket]).chain(served).for_each(|task| task.abort());
    if let Some(broken) = broken {
        anyhow::bail!(broken);
    }
    let skipped = from.map_or(0, |counters| counters.malformed.load(Ordering::Relaxed));
    let refused = health.refused.load(Ordering::Relaxed) + skipped;
    Ok(Ended { failed: core.failed, pending: core.pending(), refused })
}

async fn open_journal(options: &Options, server: Option<place::Postgres>) -> anyhow::Result<Arc<JournalHandle>> {
    let state = options.state.clone();
    // On a thread of its own: a server is waited for.
    let opened = tokio::task::spawn_blocking(move || JournalHandle::open(place::open(&state, server.as_ref())?));
    Ok(Arc::new(opened.await.context("the journal can't be opened")??))
}

/// Whoever runs handlers here; what a killed daemon left running has ended.
async fn open_runner(state: &std::path::Path) -> anyhow::Result<Arc<Runner>> {
    runner::init();
    let runner = Runner::new(state, runner::Options::default()).context("handlers can't be run")?;
    for ended in runner::end_leftovers(state).await.context("handlers of a killed daemon can't be looked for")? {
        tracing::warn!("ended what a killed daemon left running: {ended:?}");
    }
    Ok(Arc::new(runner))
}

/// Where several nodes may share the journal: from now on this one keeps its lease.
fn keep_lease(
    options: &Options,
    journal: &JournalHandle,
    stop_runs: &Arc<watch::Sender<bool>>,
    gauge: &Arc<Gauge>,
) -> anyhow::Result<Option<Lease>> {
    let Some(seat) = journal.seat.clone() else { return Ok(None) };
    let state = options.state.canonicalize().context("the state directory can't be found")?;
    let warden = Warden::new(runner::Options::default().reactor, state);
    let lease = Lease::start(seat, warden, stop_runs.clone(), gauge.clone());
    Ok(Some(lease.context("the lease can't be kept")?))
}

fn compile(site: &Site) -> (Arc<Rules>, BTreeMap<String, Arc<HandlerConfig>>) {
    let handlers = site.handlers.iter().map(|(name, config)| (name.clone(), Arc::new(config.clone()))).collect();
    let tells = site.http.as_ref().is_some_and(|http| http.history.is_some());
    (Arc::new(Rules::new(site.rules.clone()).keeping_envelopes(tells)), handlers)
}

fn seed() -> anyhow::Result<u64> {
    let bytes: [u8; 8] = ring::rand::generate(&ring::rand::SystemRandom::new())
        .map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?
        .expose();
    Ok(u64::from_le_bytes(bytes))
}

async fn restore(core: &mut Core, journal: &JournalHandle, turn: &mut Turn) -> anyhow::Result<()> {
    let settings = match journal.ask(Question::Settings(String::new())).await? {
        Answer::Settings(settings) => settings,
        _ => Vec::new(),
    };
    if let Answer::Stories(stories) = journal.ask(Question::Pending).await? {
        if !stories.is_empty() {
            tracing::info!("{} reactions from before go on", stories.len());
        }
        core.restore(clock(), stories, &settings, turn);
    }
    Ok(())
}

/// Opens the site's buses, or the file instead of them, and starts to read.
async fn open_sources(
    options: Options,
    site: Site,
    rules: Arc<ArcSwap<Rules>>,
    gauge: &Arc<Gauge>,
    to_engine: &mpsc::Sender<Input>,
    journal: &Arc<JournalHandle>,
    health: Arc<Health>,
) -> anyhow::Result<Parts> {
    let before = opening::Before::of(journal).await?;
    let mut buses = Vec::new();
    let mut from = None;
    if let Some(path) = &options.from {
        let source = jsonl::JsonlSource::open(path)?;
        from = Some(source.counters());
        let judge = file_judge(path);
        let passing = Passing::new(judge, rules.clone(), gauge.clone(), to_engine.clone());
        tokio::spawn(take_in(Box::new(source), None, passing));
    } else {
        for (_, config) in site.buses {
            if config.amqp.is_some() && !config.listens() {
                tracing::info!(bus = %config.name, "the site does not believe this broker (`broker: accept`): it is not read");
                continue;
            }
            let (bus, source, care) = open_bus(config, &rules, site.journal.history_all, journal, &health, &before)?;
            let verifier = bus.verifier();
            let judge: Judge = Arc::new(move |raw, now| verifier.load().verify(raw, now));
            let passing = Passing::new(judge, rules.clone(), gauge.clone(), to_engine.clone());
            tokio::spawn(take_in(source, Some(care), passing));
            buses.push(bus);
        }
    }
    let now = clock();
    let journal_config = Arc::new(ArcSwap::from_pointee(site.journal));
    Ok(Parts { options, health, rules, buses, from, journal_config, http: site.http, started: now, reloaded: now })
}

/// Whoever may start the daemon with a file may also say what happened: see [`trust::local`].
fn file_judge(path: &std::path::Path) -> Judge {
    let name = if path.as_os_str() == "-" { "stdin".into() } else { path.display().to_string() };
    Arc::new(move |raw, now| {
        let id = jsonl::fallback_id(&name, raw.token, &raw.body);
        let at = format!("{name}:{}", raw.token);
        trust::local(&raw.body, &name, &id, now)
            .map_err(|reason| Refusal { reason: reason.replacen(&name, &at, 1), signer: None })
    })
}

/// Asks every handler to describe itself, so that one that can't is known at the start and not at its first message.
async fn ask_handlers(runner: Arc<Runner>, handlers: Vec<Arc<HandlerConfig>>) {
    for handler in handlers {
        if let Err(failure) = runner.describe(&handler).await {
            tracing::error!(hint = failure.hint(), "{failure}");
        }
    }
}

fn say_ready() {
    // Outside systemd there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!("ready");
}

async fn signals(engine: mpsc::Sender<Input>, health: Arc<Health>) {
    use tokio::signal::unix::{SignalKind, signal};
    let of = |kind| signal(kind).map_err(|error| tracing::error!("a signal can't be listened for: {error}"));
    let (Ok(mut term), Ok(mut int), Ok(mut hup)) =
        (of(SignalKind::terminate()), of(SignalKind::interrupt()), of(SignalKind::hangup()))
    else {
        return;
    };
    loop {
        let input = tokio::select! {
            _ = hup.recv() => Input::Reload,
            _ = term.recv() => Input::Drain,
            _ = int.recv() => Input::Drain,
        };
        if matches!(input, Input::Drain) && health.told_to_stop.swap(true, Ordering::Relaxed) {
            tracing::warn!("told to stop twice: ending now; what ran is planned again at the next start");
            std::process::exit(1);
        }
        // Not waited for: the engine may be busy with the journal, and the next signal must be seen all the same.
        let engine = engine.clone();
        tokio::spawn(async move { engine.send(input).await });
    }
}

/// Tells the engine when a rules file has changed. Looking once a second costs nothing, works on every file system, and
/// sees renamed files, links and new files in a directory alike.
async fn files(
    paths: Vec<PathBuf>,
    mut before: Vec<(PathBuf, u64, Option<std::time::SystemTime>)>,
    engine: mpsc::Sender<Input>,
) {
    loop {
        tokio::time::sleep(Duration::from_millis(FILES_LOOK_MS)).await;
        let now = file::stamps(&paths);
        if now != before {
            before = now;
            if engine.send(Input::Reload).await.is_err() {
                return;
            }
        }
    }
}

async fn sweep(journal: Arc<JournalHandle>, config: Arc<ArcSwap<JournalConfig>>) {
    loop {
        tokio::time::sleep(Duration::from_secs(SWEEP_SECONDS)).await;
        let config = config.load_full();
        let before = clock().checked_sub(config.keep).unwrap_or(Timestamp::MIN);
        match journal.sweep(before, config.messages_max).await {
            Ok(0) => {}
            Ok(n) => tracing::info!("{n} messages older than the journal's limits were forgotten"),
            Err(error) => tracing::error!("{error}"),
        }
    }
}

impl Engine {
    pub(super) fn drain(&mut self, now: Timestamp) {
        // Outside systemd there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        let running = self.core.lanes.running();
        tracing::info!(
            "stopping: {running} handlers still run, {} reactions wait for the next start",
            self.core.pending() - running
        );
        self.core.drain();
        self.core.close(Slots::ALL);
        if let Some(nodes) = &self.nodes {
            nodes.lease.leaves();
        }
        self.drain_until.get_or_insert(now + Duration::from_secs(DRAIN_SECONDS_MAX));
    }

    /// Reads the rules again. A broken file changes nothing.
    pub(super) fn reload(&mut self) -> Result<String, String> {
        let site = file::load(&self.daemon.options.site).map_err(|errors| errors.to_string())?;
        let before: Vec<_> = self.core.rules.all().iter().map(|rule| rule.name.clone()).collect();
        let (rules, handlers) = compile(&site);
        let new = rules.all().iter().filter(|rule| !before.contains(&rule.name)).count();
        let gone = before.iter().filter(|name| rules.rule(name).is_none()).count();
        let said = format!("{} rules in force, {new} of them new; {gone} are gone", rules.all().len());
        self.core.reload(rules.clone(), handlers, site.journal.history_all);
        if self.ends_with_sources {
            self.core.without_time();
        } else {
            self.core.confirms = Confirms::of(&site, self.journal.seat.as_ref().map(|seat| seat.node.as_str()));
            self.outbox.reload(&site);
        }
        self.daemon.rules.store(rules.clone());
        self.daemon.reload_buses(&site, &rules);
        if self.daemon.journal_config.load().server != site.journal.server {
            tracing::warn!("the journal's `postgresql` has changed; that takes a restart: systemctl restart reactor");
        }
        self.daemon.journal_config.store(Arc::new(site.journal));
        self.daemon.reloaded = clock();
        tracing::info!("rules reloaded: {said}");
        Ok(said)
    }
}

impl Parts {
    fn hooks(&self) -> Vec<Arc<Hook>> {
        self.buses.iter().filter_map(OpenBus::hook).collect()
    }

    /// What of the buses follows the file at once does; of the rest the log says that it needs a restart.
    fn reload_buses(&self, site: &Site, rules: &Rules) {
        if self.http != site.http && self.from.is_none() {
            tracing::warn!("`http` has changed; that takes a restart: systemctl restart reactor");
        }
        for bus in &self.buses {
            let Some(config) = site.buses.get(bus.name()) else {
                tracing::warn!(bus = %bus.name(), "the bus is no longer in the rules file; it is read until a restart");
                continue;
            };
            bus.reload(config, rules, site.journal.history_all);
        }
        for name in site
            .buses
            .values()
            .filter(|config| config.amqp.is_none() || config.listens())
            .map(|config| &config.name)
            .filter(|name| self.from.is_none() && !self.buses.iter().any(|bus| *bus.name() == ***name))
        {
            tracing::warn!(bus = %name, "a new bus is read after a restart: systemctl restart reactor");
        }
    }
}
