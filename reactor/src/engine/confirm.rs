//! What whoever published a message is told of what became of it: for each outcome one message to publish, kept in the
//! journal (as a setting) in the transaction of the outcome itself, until [`super::super::outbox`] has sent it. Part of the
//! core: pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Core, Live, Turn};
use crate::journal::{Entry, OUTBOX, ReactionId};
use crate::message::Message;
use crate::rules::lower_confirm::can_confirm;
use crate::rules::site::{Confirm, Rule, Site};

/// What is published of a reason, in bytes; the journal has the whole.
pub const REASON_BYTES_MAX: usize = 1_000;
/// Most ids of messages that one confirmation names; an outcome with more of them has several.
pub const MESSAGES_NAMED_MAX: usize = 500;
/// Reactor's topic for an outcome; after it comes the state's word. In front stands the prefix of the bus.
const TOPIC: &str = "reactor.reaction.";

/// Whether a topic tells of an outcome, here or at another reactor: nothing is confirmed that says such a thing itself.
#[must_use]
pub fn tells_of_outcome(topic: &str) -> bool {
    topic.starts_with(TOPIC) || topic.contains(".reactor.reaction.")
}

/// One outcome that is to be published, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confirmation<Body = Value> {
    /// The bus to publish it on.
    pub bus: String,
    /// The node that has to, where several share the journal.
    #[serde(default)]
    pub node: Option<String>,
    /// The message's id: the same however often it is sent.
    pub id: String,
    /// The topic, without the bus's prefix.
    pub topic: String,
    /// When the reaction came to this.
    pub at: Timestamp,
    /// The reaction.
    pub reaction: ReactionId,
    /// What is said: `messages` (the ids of the causes), `rules` (how many rules confirm each of those here), `rule`,
    /// `key`, `reaction`, `parent`, `state`, `reason`, `attempts`, `changes`, `done`, `later`.
    pub body: Body,
}

/// Where the outcomes of which messages are published.
#[derive(Clone, Debug, Default)]
pub struct Confirms {
    /// By the bus that a message came from, where its rule says nothing.
    of_bus: BTreeMap<String, Confirm>,
    /// The buses that can be published on.
    can: BTreeSet<String>,
    /// Our name among several nodes.
    node: Option<String>,
}

impl Confirms {
    /// As the site says; `node`: our name among several.
    #[must_use]
    pub fn of(site: &Site, node: Option<&str>) -> Self {
        let of_bus = site.buses.iter().map(|(name, bus)| (name.clone(), bus.confirm.clone())).collect();
        let can = site.buses.iter().filter(|(_, bus)| can_confirm(bus).is_ok()).map(|(name, _)| name.clone()).collect();
        Self { of_bus, can, node: node.map(str::to_owned) }
    }

    /// The bus on which the outcome of a message that came from the bus `from` is published, if it is.
    fn target<'a>(&'a self, rule: Option<&'a Rule>, from: &'a str) -> Option<&'a str> {
        let confirm = rule.and_then(|rule| rule.confirm.as_ref()).or_else(|| self.of_bus.get(from))?;
        let target = match confirm {
            Confirm::No => return None,
            Confirm::There => from,
            Confirm::On(name) => name,
        };
        self.can.contains(target).then_some(target)
    }
}

impl Core {
    /// Says what became of a reaction to whoever published its messages.
    pub(super) fn confirm(&self, now: Timestamp, id: &str, turn: &mut Turn) {
        if let Some(live) = self.live.get(id) {
            self.confirm_of(now, live, turn);
        }
    }

    /// The same of a reaction that is forgotten already.
    pub(super) fn confirm_of(&self, now: Timestamp, live: &Live, turn: &mut Turn) {
        let rule = self.rules.rule(&live.row.rule);
        let mut causes: BTreeMap<(&str, usize), Vec<&str>> = BTreeMap::new();
        for message in live.messages.iter().filter(|message| !tells_of_outcome(message.topic.as_str())) {
            if let Some(target) = self.confirms.target(rule.map(AsRef::as_ref), &message.bus) {
                causes.entry((target, self.confirming(message, target))).or_default().push(&message.id);
            }
        }
        let few = |(to, messages): (_, Vec<_>)| -> Vec<_> {
            messages.chunks(MESSAGES_NAMED_MAX).map(|few| (to, few.to_vec())).collect()
        };
        for (n, ((bus, rules), messages)) in causes.into_iter().flat_map(few).enumerate() {
            let mut confirmation = confirmation(now, live, bus, rules, &messages, n);
            confirmation.node.clone_from(&self.confirms.node);
            let name = format!("{OUTBOX}{}", confirmation.id);
            match serde_json::to_string(&confirmation) {
                Ok(value) => turn.entries.push(Entry::Setting { name, value: Some(value) }),
                Err(error) => tracing::error!("{name} can't be written: {error}"),
            }
            turn.confirms = true;
        }
    }

    /// How many of the rules that a message leads to confirm it on this bus, as they are now.
    fn confirming(&self, message: &Message, bus: &str) -> usize {
        let decisions = self.rules.decide(message);
        let confirms =
            decisions.iter().filter(|found| self.confirms.target(Some(&found.rule), &message.bus) == Some(bus));
        confirms.count().max(1)
    }
}

fn confirmation(now: Timestamp, live: &Live, bus: &str, rules: usize, messages: &[&str], n: usize) -> Confirmation {
    let row = &live.row;
    let word = row.state.word();
    let beginning = |reason: &String| {
        let end = (0..=reason.len().min(REASON_BYTES_MAX)).rev().find(|at| reason.is_char_boundary(*at));
        reason[..end.unwrap_or(0)].to_owned()
    };
    // The reaction's id begins with the time: the oldest come first. In all other parts it is unique together with the state.
    let id = format!("reactor-{}-{word}-{}-{n}", row.id, now.as_microsecond());

    Confirmation {
        bus: bus.to_owned(),
        node: None,
        id,
        topic: format!("{TOPIC}{word}"),
        at: now,
        reaction: row.id.clone(),
        body: json!({
            "messages": messages, "rules": rules, "rule": row.rule, "key": row.key, "reaction": row.id,
            "parent": row.parent, "state": row.state, "reason": row.reason.as_ref().map(beginning),
            "attempts": row.attempts, "changes": row.plan.len(), "done": row.done.len(), "later": live.left,
        }),
    }
}

#[cfg(test)]
#[path = "confirm_tests.rs"]
mod tests;
