//! A bus of the site → a source that is read, with all that belongs to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use jiff::Timestamp;

use super::catch_up::Care;
use super::catch_up::heard::Heard;
use super::catch_up::opening::{self, Before};
use super::clock;
use super::daemon::Health;
use crate::bus::webhook::{Inbox, WebhookSource};
use crate::bus::{Counters, Source, Wants, amqp::AmqpSource, fedmsg::FedmsgSource, silence};
use crate::http::hook::Hook;
use crate::journal::handle::JournalHandle;
use crate::rules::matcher::Rules;
use crate::rules::site::BusConfig;
use crate::trust::Verifier;

/// What a bus needs while it is read.
pub(super) struct OpenBus {
    config: BusConfig,
    verifier: Arc<ArcSwap<Verifier>>,
    counters: Arc<Counters>,
    /// Whether messages that no rule wants are wanted too (`history: all`).
    takes_all: Arc<AtomicBool>,
    follow: Follow,
    hook: Option<Arc<Hook>>,
    /// Up to when it was heard, and what was missed.
    pub(super) heard: Arc<Heard>,
}

/// Opens a bus.
///
/// # Errors
/// What can't work of what the site says of it.
pub(super) fn open_bus(
    config: BusConfig,
    rules: &Arc<ArcSwap<Rules>>,
    history_all: bool,
    journal: &Arc<JournalHandle>,
    health: &Arc<Health>,
    before: &Before,
) -> anyhow::Result<(OpenBus, Box<dyn Source>, Care)> {
    let of = rules.clone();
    let takes_all = Arc::new(AtomicBool::new(history_all));
    let all = takes_all.clone();
    let wants: Wants = Arc::new(move |topic| all.load(Ordering::Relaxed) || of.load().wants(topic));
    let opened = open_source(&config, wants.clone(), prefixes(&config, &rules.load(), history_all))?;
    let verifier = Arc::new(ArcSwap::from_pointee(config.verifier()));
    for problem in verifier.load().problems(clock()) {
        tracing::warn!(bus = %config.name, "{problem}");
    }
    let late = opening::bound(&config, wants.clone());
    let hook = opened.inbox.zip(config.webhook.clone()).map(|(inbox, webhook)| {
        let (verifier, journal, health) = (verifier.clone(), journal.clone(), health.clone());
        Arc::new(Hook { bus: config.name.clone(), config: webhook, verifier, wants, inbox, journal, health })
    });
    let (source, follow) = (opened.source, opened.follow);
    let counters = source.counters();
    counters.set_silence_limit(config.silence);
    tokio::spawn(silence::watch(config.name.clone(), counters.clone()));
    let heard = opening::heard(&config, history_all, before);
    let care = Care::new(heard.clone(), counters.clone(), rules.clone(), late);
    let bus = OpenBus { config, verifier, counters, takes_all, follow, hook, heard };
    Ok((bus, source, care))
}

/// Takes the addresses of a changed site, and what to subscribe to.
type Follow = Box<dyn Fn(&BusConfig, Vec<String>) + Send + Sync>;

/// The source that fits a bus.
struct Opened {
    source: Box<dyn Source>,
    follow: Follow,
    /// Where what is posted goes, if it is posted.
    inbox: Option<Arc<Inbox>>,
}

fn open_source(config: &BusConfig, wants: Wants, prefixes: Vec<String>) -> anyhow::Result<Opened> {
    if config.webhook.is_some() {
        let source = WebhookSource::new(&config.name, config.queue_messages_max);
        let inbox = Some(source.inbox());
        return Ok(Opened { source: Box::new(source), follow: Box::new(|_, _| {}), inbox });
    }
    if let Some(amqp) = &config.amqp {
        // What comes is said by its bindings; what of it is wanted, `wants` knows.
        let source = Box::new(AmqpSource::open(&config.name, amqp, wants)?);
        return Ok(Opened { source, follow: Box::new(|_, _| {}), inbox: None });
    }
    let source = FedmsgSource::open(config, wants, prefixes)?;
    let subscriber = source.subscriber();
    let follow = Box::new(move |config: &BusConfig, prefixes| {
        subscriber.resubscribe(prefixes);
        subscriber.connect_to(config.fedmsg.clone(), config.discovery.clone());
    });
    Ok(Opened { source: Box::new(source), follow, inbox: None })
}

/// What to subscribe to: the site's `topics`, else what the rules need.
fn prefixes(config: &BusConfig, rules: &Rules, history_all: bool) -> Vec<String> {
    if !config.topics.is_empty() {
        return config.topics.clone();
    }
    if history_all { vec![String::new()] } else { rules.prefixes() }
}

impl OpenBus {
    /// Trust, subscriptions and the addresses of a fedmsg bus follow the file at once; the rest needs a restart, and the log says so.
    pub(super) fn reload(&self, config: &BusConfig, rules: &Rules, history_all: bool) {
        self.verifier.store(Arc::new(config.verifier()));
        self.counters.set_silence_limit(config.silence);
        self.takes_all.store(history_all, Ordering::Relaxed);
        self.heard.reload(config, history_all);
        if config.amqp != self.config.amqp || config.posted_to() != self.config.posted_to() {
            tracing::warn!(bus = %config.name, "where its messages come from has changed; that takes a restart: systemctl restart reactor");
            return;
        }
        (self.follow)(config, prefixes(config, rules, history_all));
    }

    pub(super) fn verifier(&self) -> Arc<ArcSwap<Verifier>> {
        self.verifier.clone()
    }

    /// Where it is posted to, if it is.
    pub(super) fn hook(&self) -> Option<Arc<Hook>> {
        self.hook.clone()
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn problems(&self, now: Timestamp) -> Vec<String> {
        let of_bus = self.counters.trouble().into_iter().chain(self.counters.silent());
        self.verifier.load().problems(now).into_iter().chain(of_bus).collect()
    }
}
