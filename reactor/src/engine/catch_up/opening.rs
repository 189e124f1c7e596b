//! What a starting daemon does so that nothing is missed, what is written as it goes on, and what people ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use jiff::Timestamp;
use serde_json::json;

use super::gaps::{GAP_PREFIX, Gaps};
use super::heard::{AskedFor, Heard, POSITION_PREFIX, Settings};
use crate::bus::catch_up::Window;
use crate::bus::{Wants, amqp};
use crate::engine::control::Answered;
use crate::engine::{clock, daemon};
use crate::journal::handle::JournalHandle;
use crate::journal::{Answer, Entry, Question};
use crate::rules::site::BusConfig;
use crate::rules::topic::Pattern;

/// What a daemon before this one left in the journal.
#[derive(Debug, Default)]
pub struct Before {
    /// Up to when each bus was surely heard, by the bus's name.
    positions: BTreeMap<String, Timestamp>,
    /// The settings of gaps, of all buses.
    gaps: Vec<(String, String)>,
}

impl Before {
    /// What the journal says.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn of(journal: &JournalHandle) -> anyhow::Result<Self> {
        let position =
            |(name, at): (String, String)| Some((name.strip_prefix(POSITION_PREFIX)?.to_owned(), at.parse().ok()?));
        let positions = settings(journal, POSITION_PREFIX).await?.into_iter().filter_map(position).collect();
        Ok(Self { positions, gaps: settings(journal, GAP_PREFIX).await? })
    }

    fn gaps(&self, bus: &str) -> Gaps {
        let is_its = |name: &str| {
            let of = name.strip_prefix(GAP_PREFIX).and_then(|rest| rest.rsplit_once('/'));
            of.is_some_and(|(name, _)| name == bus)
        };
        Gaps::of(self.gaps.iter().filter(|(name, _)| is_its(name)).cloned())
    }
}

async fn settings(journal: &JournalHandle, prefix: &str) -> anyhow::Result<Vec<(String, String)>> {
    let answer = journal.ask(Question::Settings(prefix.to_owned())).await;
    match answer.context("what was heard of the buses can't be read")? {
        Answer::Settings(settings) => Ok(settings),
        _ => Ok(Vec::new()),
    }
}

/// A bus that is opened.
#[must_use]
pub fn heard(config: &BusConfig, takes_all: bool, before: &Before) -> Arc<Heard> {
    let position = before.positions.get(&*config.name).copied();
    let settings = Settings::of(config, keeps(config), takes_all, position.is_some(), clock());
    Arc::new(Heard::new(config.name.clone(), position, before.gaps(&config.name), settings))
}

/// Whether the bus itself keeps for us what is sent while we are away.
fn keeps(config: &BusConfig) -> bool {
    let amqp = config.amqp.as_ref().and_then(|from| amqp::resolve(&config.name, from).ok());
    // Whoever posts to a webhook hears that nobody is there, and posts again.
    config.webhook.is_some() || amqp.is_some_and(|amqp| !amqp.keeps_nothing())
}

/// What of a server's messages is wanted here: what is wanted live, and would have come by a bus with these topics.
#[must_use]
pub fn wants(topics: Vec<String>, wants: Wants) -> Wants {
    Arc::new(move |topic| (topics.is_empty() || topics.iter().any(|prefix| topic.starts_with(prefix))) && wants(topic))
}

/// The same for the bindings of a queue, if the bus has one.
#[must_use]
pub fn bound(config: &BusConfig, wants: Wants) -> Wants {
    let amqp = config.amqp.as_ref().and_then(|from| amqp::resolve(&config.name, from).ok());
    let keys = amqp.iter().flat_map(|amqp| &amqp.bindings).flat_map(|binding| &binding.routing_keys);
    // A binding of a headers exchange says nothing of topics, and what can't be a pattern lets everything in.
    let bound: Option<Vec<Pattern>> = keys.map(|key| Pattern::parse(&key.replace('#', "**")).ok()).collect();
    let bound = bound.unwrap_or_default();
    Arc::new(move |topic| (bound.is_empty() || bound.iter().any(|pattern| pattern.matches(topic))) && wants(topic))
}

impl daemon::Parts {
    /// What is to be written now of what was heard.
    pub(in crate::engine) fn heard(&self, now: Timestamp, beside: bool, is_last: bool) -> Vec<Entry> {
        self.buses.iter().flat_map(|bus| bus.heard.entries(now, beside, is_last)).collect()
    }

    /// Asks for a time of a bus, as a person wants it.
    pub(in crate::engine) fn replay(&self, asked: &AskedFor) -> Answered {
        let wrong = |what: String| Answered { wrong: vec![what], ..Answered::default() };
        let Some(bus) = self.buses.iter().find(|bus| *bus.heard.bus == *asked.bus) else {
            let names: Vec<&str> = self.buses.iter().map(|bus| &*bus.heard.bus).collect();
            return wrong(format!("the daemon reads no bus `{}`; it reads: {}", asked.bus, names.join(", ")));
        };
        match bus.heard.ask(Window { from: asked.from, to: asked.to }) {
            Ok(number) => Answered { status: Some(json!({"replay": number})), ..Answered::default() },
            Err(why) => wrong(why),
        }
    }
}
