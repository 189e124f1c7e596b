//! What the engine decides: inputs in, journal entries and acts out. Pure: no IO, and time is an argument.
//!
//! The shell around it ([`super`]) writes the entries of a [`Turn`] in one durable transaction and only then does its acts.
//! So whatever was acknowledged, started or answered is in the journal, and a crash between two turns loses nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use handler_api::{Change, Params};
use jiff::Timestamp;
use serde_json::Value;

use super::folded::Folded;
use super::ids::Ids;
use crate::journal::{Entry, ReactionId, ReactionRow, State, Story};
use crate::lanes::{LaneId, Lanes, Offer, Offered, Outcome, Restored, earlier, later};
use crate::message::Message;
use crate::rules::matcher::{Decision, Rules};
use crate::rules::scope::EvalError;
use crate::rules::site::{HandlerConfig, On, Rule};
use crate::trust::Verified;

/// What must happen after the entries of a turn are durable.
#[derive(Debug)]
pub enum Act {
    /// Run the handler's plan.
    Plan(Box<Run>),
    /// Run the handler's apply with this plan (the real one; the journal's is redacted).
    Apply(Box<Run>, Vec<Change>),
}

/// One try of one reaction, with all that its handler is told.
#[derive(Clone, Debug)]
pub struct Run {
    /// The reaction.
    pub id: ReactionId,
    /// Its rule as it is now.
    pub rule: Arc<Rule>,
    /// Its handler as it is now.
    pub handler: Arc<HandlerConfig>,
    /// Its key.
    pub key: String,
    /// 1 at the first try.
    pub attempt: u32,
    /// Rendered parameters.
    pub with: Params,
    /// The messages that led to it, oldest first.
    pub messages: Vec<Message>,
}

/// What one turn of the engine leads to.
#[derive(Debug, Default)]
pub struct Turn {
    /// To be written first, in one transaction.
    pub entries: Vec<Entry>,
    /// To be done then.
    pub acts: Vec<Act>,
    /// Whether there is something among the entries for the outbox to publish.
    pub confirms: bool,
}

/// A message that trust let through, and what the rules say of it.
#[derive(Debug)]
pub struct Arrived {
    /// The message.
    pub message: Verified<Message>,
    /// The rules that match, or that broke on it.
    pub decisions: Vec<Decision>,
    /// What stood beside its body, where that is kept (see [`Entry::Envelope`]).
    pub envelope: Option<String>,
}

/// A reaction that is not over.
#[derive(Debug)]
struct Live {
    row: ReactionRow,
    messages: Vec<Message>,
    /// The size of their bodies, in bytes.
    bytes: usize,
    /// Led to by one of reactor's own messages: its outcome is not announced, so there are no loops.
    internal: bool,
    /// Hashes of the notes that its story has.
    noted: Vec<u64>,
    /// Parts that its last apply left for later.
    left: usize,
}

/// The deciding half of the engine.
pub struct Core {
    pub(crate) rules: Arc<Rules>,
    pub(super) handlers: BTreeMap<String, Arc<HandlerConfig>>,
    history_all: bool,
    pub(super) lanes: Lanes,
    live: HashMap<ReactionId, Live>,
    /// The sum of `bytes` of all in `live`.
    live_bytes: usize,
    paused: HashMap<Arc<str>, Timestamp>,
    every: HashMap<Arc<str>, Timestamp>,
    ids: Ids,
    folded: Folded,
    /// The rules that wait for time. Empty where there is no time, as when messages come from a file.
    reconciles: Vec<(Arc<Rule>, Duration)>,
    draining: bool,
    /// Which outcomes are published; none where messages come from a file.
    pub(super) confirms: Confirms,
    /// What of it is ours to do, where several nodes share the work.
    served: Option<Served>,
    /// The latest time that was seen; the clock may be set back behind it.
    latest: Timestamp,
    /// Reactions that failed since the start.
    pub failed: u64,
}

impl Core {
    /// An engine with nothing in it.
    #[must_use]
    pub fn new(
        rules: Arc<Rules>,
        handlers: BTreeMap<String, Arc<HandlerConfig>>,
        history_all: bool,
        seed: u64,
    ) -> Self {
        let mut core = Self {
            rules: rules.clone(),
            handlers: BTreeMap::new(),
            history_all,
            lanes: Lanes::new(),
            live: HashMap::new(),
            live_bytes: 0,
            paused: HashMap::new(),
            every: HashMap::new(),
            ids: Ids::new(seed),
            folded: Folded::default(),
            reconciles: Vec::new(),
            draining: false,
            confirms: Confirms::default(),
            served: None,
            latest: Timestamp::MIN,
            failed: 0,
        };
        core.reload(rules, handlers, history_all);
        core
    }

    /// Takes new rules. What waits runs by the new ones; what runs is not touched.
    pub fn reload(&mut self, rules: Arc<Rules>, handlers: BTreeMap<String, Arc<HandlerConfig>>, history_all: bool) {
        for handler in handlers.values() {
            self.lanes.limit(&handler.name, handler.at_once);
        }
        let every = |rule: &Arc<Rule>| match rule.on {
            On::Every(every) => Some((rule.clone(), every)),
            On::Topics(_) => None,
        };
        self.reconciles = rules.all().iter().filter_map(every).collect();
        self.rules = rules;
        self.handlers = handlers;
        self.history_all = history_all;
    }

    /// Puts back what the journal holds: reactions in the order they were made, and the daemon's settings.
    pub fn restore(&mut self, now: Timestamp, stories: Vec<Story>, settings: &[(String, String)], turn: &mut Turn) {
        for (name, value) in settings {
            let Ok(at) = value.parse::<Timestamp>() else { continue };
            if let Some(rule) = name.strip_prefix("paused/") {
                self.lanes.pause(&rule.into());
                self.paused.insert(rule.into(), at);
            } else if let Some(rule) = name.strip_prefix("every/") {
                self.every.insert(rule.into(), at.min(now));
            }
        }
        for story in stories {
            self.put_back(now, story, turn);
        }
    }

    fn put_back(&mut self, now: Timestamp, story: Story, turn: &mut Turn) {
        let mut row = story.reaction;
        // Written when the clock was ahead: it would wait until that time comes again.
        let ahead = row.updated.duration_since(now);
        if ahead.is_positive() {
            row.not_before = earlier(row.not_before, ahead);
            row.at_most = row.at_most.map(|at| earlier(at, ahead));
        }
        if row.state == State::Applying {
            row.state = State::Waiting;
            row.not_before = now;
            row.updated = now;
            turn.story(&row.id, now, "recovered", "the daemon ended while it was applied; it is planned again");
            turn.entries.push(Entry::Update(Box::new(row.clone())));
        }
        let bytes: usize =
            story.messages.iter().map(|m| body_bytes(&m.body)).chain(row.part.iter().map(body_bytes)).sum();
        self.lanes.restore(Restored {
            id: row.id.clone(),
            rule: row.rule.as_str().into(),
            lane: LaneId { handler: row.handler.as_str().into(), key: row.key.as_str().into() },
            not_before: row.not_before,
            coalescing_until: row.at_most.filter(|_| row.attempts == 0),
            held: row.state == State::Held,
            messages: (story.messages.len(), bytes),
        });
        let internal = story.messages.iter().any(|m| m.topic.is_internal());
        self.live_bytes += bytes;
        let (id, messages) = (row.id.clone(), story.messages);
        self.live.insert(id, Live { row, messages, bytes, internal, noted: Vec::new(), left: 0 });
    }

    /// Takes in trusted messages; `seen` are the ids that the journal knows already, and those of this turn. The number of
    /// those that are new and wanted.
    pub fn arrived(&mut self, now: Timestamp, batch: Vec<Arrived>, seen: &mut HashSet<String>, turn: &mut Turn) -> u64 {
        let mut new = 0;
        for Arrived { message, decisions, envelope } in batch {
            let message = message.into_inner();
            let wanted = !decisions.is_empty() || self.history_all;
            if wanted && seen.insert(message.id.clone()) {
                self.message(now, &message, decisions, turn);
                new += 1;
                turn.entries.extend(envelope.map(|fields| Entry::Envelope { message: message.id, fields }));
            }
        }
        new
    }

    fn message(&mut self, now: Timestamp, message: &Message, decisions: Vec<Decision>, turn: &mut Turn) {
        if self.served.is_some() {
            return self.post(message, decisions, turn);
        }
        turn.entries.push(Entry::Message(message.clone()));
        for Decision { rule, what } in decisions {
            match what {
                Ok(key) => self.offer(now, &rule, key, Some(message), turn),
                Err(error) => self.broken(now, &rule, message, &error, turn),
            }
        }
    }

    /// A rule asks for a reaction: for a message, or (without one) because its time has come.
    fn offer(&mut self, now: Timestamp, rule: &Rule, key: String, message: Option<&Message>, turn: &mut Turn) {
        let id = self.ids.next(now);
        let offered = self.lanes.offer(
            now,
            Offer {
                id: id.clone(),
                rule: rule.name.clone(),
                lane: LaneId { handler: rule.handler.clone(), key: key.as_str().into() },
                coalesce: rule.coalesce,
                message_bytes: message.map_or(0, |m| body_bytes(&m.body)),
            },
        );
        match (offered, message) {
            (Offered::New { not_before, at_most }, _) => {
                let mut row = new_row(&id, rule, key, now);
                row.not_before = not_before;
                row.at_most = at_most;
                self.made(now, row, message, turn);
            }
            (Offered::Joined { reaction, not_before }, Some(message)) => {
                self.joined(now, reaction, not_before, message, turn);
            }
            (Offered::Joined { .. }, None) => {}
        }
    }

    fn made(&mut self, now: Timestamp, mut row: ReactionRow, message: Option<&Message>, turn: &mut Turn) {
        row.messages = u32::from(message.is_some());
        let ids = message.map(|m| m.id.clone()).into_iter().collect();
        turn.entries.push(Entry::Reaction(Box::new(row.clone()), ids));
        turn.story(&row.id, now, "received", &message.map_or_else(|| "its time has come".to_owned(), said_by));
        let internal = message.is_some_and(|m| m.topic.is_internal());
        let bytes = message.map_or(0, |m| body_bytes(&m.body));
        self.live_bytes += bytes;
        let (id, messages) = (row.id.clone(), message.cloned().into_iter().collect());
        self.live.insert(id, Live { row, messages, bytes, internal, noted: Vec::new(), left: 0 });
    }

    fn joined(&mut self, now: Timestamp, id: ReactionId, not_before: Timestamp, message: &Message, turn: &mut Turn) {
        let Some(live) = self.live.get_mut(&id) else { return };
        live.row.not_before = not_before;
        live.row.messages += 1;
        live.internal |= message.topic.is_internal();
        let bytes = body_bytes(&message.body);
        live.bytes += bytes;
        self.live_bytes += bytes;
        live.messages.push(message.clone());
        turn.story(&id, now, "joined", &said_by(message));
        turn.entries.push(Entry::Joined { reaction: id, message: message.id.clone(), not_before });
    }

    /// A rule could not even be asked: its reaction fails visibly, at once.
    fn broken(&mut self, now: Timestamp, rule: &Rule, message: &Message, error: &EvalError, turn: &mut Turn) {
        let id = self.ids.next(now);
        let row = new_row(&id, rule, rule.name.to_string(), now);
        self.made(now, row, Some(message), turn);
        self.over(now, &id, State::Failed, Some(&error.message), error.hint.as_deref(), turn);
    }

    /// Starts nothing any more; what runs may end.
    pub const fn drain(&mut self) {
        self.draining = true;
    }

    /// How many reactions are not over.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.live.len()
    }

    /// The size of the messages that they keep in memory, in bytes of their bodies.
    #[must_use]
    pub const fn pending_bytes(&self) -> usize {
        self.live_bytes
    }

    fn forget(&mut self, id: &str) -> Option<Live> {
        let live = self.live.remove(id)?;
        self.live_bytes = self.live_bytes.saturating_sub(live.bytes);
        Some(live)
    }

    /// Whether all that is left waits for a person (held, or of a paused rule).
    #[must_use]
    pub fn only_people_can_go_on(&self) -> bool {
        self.lanes.running() == 0 && self.lanes.wake_at().is_none()
    }
}

#[path = "begin.rs"]
mod begin;
#[path = "confirm.rs"]
mod confirm;
#[path = "gap.rs"]
mod gap;
#[path = "outcomes.rs"]
mod outcomes;
#[path = "parts.rs"]
mod parts;
#[path = "people.rs"]
mod people;
#[path = "reconcile.rs"]
mod reconcile;
#[path = "shared.rs"]
mod shared;
pub use confirm::{Confirmation, Confirms, tells_of_outcome};
pub use parts::Applied;
pub use people::Decided;
pub use reconcile::{Reconciling, every_rule_for};
use shared::Served;

impl Turn {
    fn story(&mut self, id: &str, at: Timestamp, what: &str, detail: &str) {
        self.entries.push(Entry::Story {
            reaction: id.to_owned(),
            at,
            what: what.to_owned(),
            detail: detail.to_owned(),
        });
    }
}

fn said_by(message: &Message) -> String {
    format!("{} {} signed by {}", message.topic, message.id, message.signer)
}

fn body_bytes(body: &Value) -> usize {
    match body {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| body_bytes(item) + 1).sum::<usize>() + 2,
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + body_bytes(value) + 4).sum::<usize>() + 2,
        _ => 8,
    }
}

fn new_row(id: &str, rule: &Rule, key: String, now: Timestamp) -> ReactionRow {
    row_of(id, &rule.name, &rule.handler, key, now)
}

fn row_of(id: &str, rule: &str, handler: &str, key: String, now: Timestamp) -> ReactionRow {
    ReactionRow {
        id: id.to_owned(),
        rule: rule.to_owned(),
        handler: handler.to_owned(),
        key,
        state: State::Waiting,
        attempts: 0,
        created: now,
        updated: now,
        not_before: now,
        at_most: None,
        with: None,
        reason: None,
        hint: None,
        repeated: 0,
        plan: Vec::new(),
        done: Vec::new(),
        approved: None,
        decided_by: None,
        messages: 0,
        part: None,
        parent: None,
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
