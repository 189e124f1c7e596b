//! The core of one of several nodes: what it posts for others, what it takes from its inbox, and which slots it serves. Part of
//! the core: pure.
//!
//! Architecture Invariant: nothing starts in a lane whose slot this node does not serve.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::{Core, Decision as Decided, Entry, Message, ReactionId, Run, State, Story, Timestamp, Turn, row_of};
use crate::journal::nodes::{Decision, Handed, Slots, What, slot_of};
use crate::lanes::{JOINED_BYTES_MAX, JOINED_MESSAGES_MAX};
use crate::rules::scope::EvalError;

/// How long what is asked of a rule that this node does not know waits in the inbox, in seconds. While a site brings a new rules
/// file to its nodes, some know a rule and some don't.
pub const UNKNOWN_RULE_SECONDS_MAX: u64 = 60;
/// Rows of the inbox that wait so at most. Where it would be more, none does: others wait behind them.
pub const UNKNOWN_RULE_ROWS_MAX: usize = 128;

/// What a node serves.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// Slots whose lanes run here.
    open: Slots,
    /// Slots that are given back when nothing runs in them any more.
    closing: Slots,
    /// Rows of the inbox that wait for their rule, and since when.
    unknown: BTreeMap<i64, Timestamp>,
}

impl Core {
    /// From now on this is one of several nodes, and serves no slot until it gains some.
    pub fn share(&mut self) {
        self.served = Some(Served::default());
    }

    /// The slots that are served here.
    #[must_use]
    pub fn serves(&self) -> Slots {
        self.served.as_ref().map_or(Slots::ALL, |served| served.open)
    }

    /// The slot of this key, if it is not served here.
    #[must_use]
    pub fn elsewhere(&self, key: &str) -> Option<u8> {
        let served = self.served.as_ref()?;
        Some(slot_of(key)).filter(|slot| !served.open.has(*slot))
    }

    /// Serves these slots, too: their pending reactions and the settings are as the journal has them now.
    pub fn gain(
        &mut self,
        now: Timestamp,
        slots: Slots,
        stories: Vec<Story>,
        settings: &[(String, String)],
        turn: &mut Turn,
    ) {
        let Some(served) = &mut self.served else { return };
        served.open = served.open.and(slots);
        served.closing = served.closing.but(slots);
        self.lanes.open(slots);
        let new = stories.into_iter().filter(|story| !self.live.contains_key(&story.reaction.id)).collect();
        self.restore(now, new, settings, turn);
    }

    /// Starts nothing more in these slots. They are given back by [`Core::give_back`], as soon as nothing runs in them.
    pub fn close(&mut self, slots: Slots) {
        let Some(served) = &mut self.served else { return };
        served.closing = served.closing.and(served.open.both(slots));
        served.open = served.open.but(slots);
        served.unknown.clear();
        self.lanes.close(slots);
    }

    /// Gives back the closed slots in which nothing runs, and forgets what waits there: another node goes on with it. Returns
    /// which.
    pub fn give_back(&mut self, turn: &mut Turn) -> Slots {
        let Some(served) = &mut self.served else { return Slots::NONE };
        let busy = if served.closing.is_empty() { Slots::NONE } else { self.lanes.busy() };
        let idle = served.closing.but(busy);
        if idle.is_empty() {
            return idle;
        }
        served.closing = served.closing.both(busy);
        let there = |(_, live): &(&ReactionId, &super::Live)| idle.has(slot_of(&live.row.key));
        let ids: Vec<ReactionId> = self.live.iter().filter(there).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.lanes.remove(&id);
            self.forget(&id);
        }
        turn.entries.push(Entry::Free(idle));
        idle
    }

    /// The rules that are paused are these, whoever has paused them.
    pub fn paused_are(&mut self, now: Timestamp, settings: &[(String, String)], turn: &mut Turn) {
        let names: Vec<&str> = settings.iter().filter_map(|(name, _)| name.strip_prefix("paused/")).collect();
        let over: Vec<_> = self.paused.keys().filter(|rule| !names.contains(&&***rule)).cloned().collect();
        for rule in over {
            self.paused.remove(&rule);
            self.lanes.resume(&rule);
        }
        self.restore(now, Vec::new(), settings, turn);
    }

    /// Whoever has their slots decides about them.
    pub(super) fn post(&self, message: &Message, decisions: Vec<Decided>, turn: &mut Turn) {
        let asked = decisions.into_iter().map(|Decided { rule, what }| {
            let rule = rule.name.to_string();
            match what {
                Ok(key) => What::Asked { rule, key },
                Err(error) => What::Broken { rule, why: error.message, hint: error.hint },
            }
        });
        turn.entries.push(Entry::Post(message.clone(), asked.collect()));
    }

    /// Takes what was in the inbox of our slots, in its order. What asks for a rule that is not known here yet stays there for a
    /// while, and so does what comes after it with the same key.
    pub fn take(&mut self, now: Timestamp, handed: Vec<Handed>, turn: &mut Turn) {
        let left = self.left_in_the_inbox(now, &handed);
        let mut rows = Vec::with_capacity(handed.len());
        for Handed { n, what, message, story } in handed.into_iter().filter(|handed| !left.contains(&handed.n)) {
            rows.push(n);
            match (what, message) {
                (What::Asked { rule, key }, Some(message)) => self.asked(now, &rule, key, &message, turn),
                (What::Broken { rule, why, hint }, Some(message)) => {
                    self.could_not_ask(now, &rule, &message, (why, hint), turn);
                }
                // A row keeps its message; one that somebody took out by hand asks for nothing any more.
                (What::Asked { .. } | What::Broken { .. }, None) => {}
                (What::Reaction { .. }, _) => self.take_over(now, story, turn),
                (What::Decided { decision, id, by }, _) => self.decided(now, decision, &id, story, &by, turn),
                (What::Due { rule, by }, _) => self.due(now, &rule, &by, turn),
            }
        }
        if !rows.is_empty() {
            turn.entries.push(Entry::Taken(rows));
        }
    }

    fn left_in_the_inbox(&mut self, now: Timestamp, handed: &[Handed]) -> HashSet<i64> {
        let (mut left, mut keys) = (HashSet::new(), HashSet::new());
        let Some(served) = &mut self.served else { return left };
        let knew_all = served.unknown.is_empty();
        for Handed { n, what, message, .. } in handed {
            let (rule, key) = match what {
                What::Asked { rule, key } if message.is_some() => (rule, key),
                What::Broken { rule, .. } if message.is_some() => (rule, rule),
                What::Due { rule, .. } => (rule, rule),
                _ => continue,
            };
            if self.rules.rule(rule).is_none() {
                let since = served.unknown.entry(*n).or_insert(now);
                // The clock may have been set back.
                *since = now.min(*since);
                if now < *since + Duration::from_secs(UNKNOWN_RULE_SECONDS_MAX) {
                    keys.insert(key);
                }
            }
            if keys.contains(key) {
                left.insert(*n);
            }
        }
        if left.len() > UNKNOWN_RULE_ROWS_MAX {
            left.clear();
        }
        for taken in handed.iter().filter(|handed| !left.contains(&handed.n)) {
            served.unknown.remove(&taken.n);
        }
        if knew_all && !left.is_empty() {
            tracing::info!(
                "another node asks for a rule that is not in the rules file here: it has up to {UNKNOWN_RULE_SECONDS_MAX} s to come"
            );
        }
        left
    }

    fn asked(&mut self, now: Timestamp, rule: &str, key: String, message: &Message, turn: &mut Turn) {
        if let Some(rule) = self.rules.rule(rule).cloned() {
            return self.offer(now, &rule, key, Some(message), turn);
        }
        let id = self.ids.next(now);
        let hint = format!("put it back and type: reactor retry {id}");
        let why = format!("rule `{rule}` is not in the rules file of this node");
        self.made(now, row_of(&id, rule, "", key, now), Some(message), turn);
        self.over(now, &id, State::Failed, Some(&why), Some(&hint), turn);
    }

    fn could_not_ask(
        &mut self,
        now: Timestamp,
        rule: &str,
        message: &Message,
        (why, hint): (String, Option<String>),
        turn: &mut Turn,
    ) {
        match self.rules.rule(rule).cloned() {
            Some(rule) => {
                let error = EvalError { hint, ..EvalError::new(why) };
                self.broken(now, &rule, message, &error, turn);
            }
            None => self.asked(now, rule, rule.to_owned(), message, turn),
        }
    }

    /// A reaction that another node has made in one of our slots. The same part waits only once.
    fn take_over(&mut self, now: Timestamp, story: Option<Box<Story>>, turn: &mut Turn) {
        let Some(story) = story.filter(|story| !story.reaction.state.is_final()) else { return };
        let id = story.reaction.id.clone();
        if self.live.contains_key(&id) {
            return;
        }
        let same = self.same_waiting(&story);
        let messages = story.messages.clone();
        self.put_back(now, *story, turn);
        let Some(same) = same else { return };
        turn.story(&same, now, "joined", &format!("by reaction {id}, which asks for the same"));
        for message in messages {
            self.join_waiting(&same, message, turn);
        }
        self.lanes.remove(&id);
        let why = format!("the same waits already: reaction {same}");
        self.over(now, &id, State::Dropped, Some(&why), None, turn);
    }

    fn same_waiting(&self, story: &Story) -> Option<ReactionId> {
        let row = &story.reaction;
        row.part.as_ref()?;
        let is_same = |id: &&ReactionId| {
            let Some(other) = self.live.get(*id).map(|live| &live.row) else { return false };
            let lane = other.rule == row.rule && other.handler == row.handler && other.key == row.key;
            lane && other.part == row.part && other.state == State::Waiting && !self.lanes.is_running(id)
        };
        self.live.keys().filter(is_same).min().cloned()
    }

    /// What does not fit is left out, but one of our own: by it a part is known to be internal.
    pub(super) fn join_waiting(&mut self, id: &str, message: Message, turn: &mut Turn) {
        let Some(live) = self.live.get_mut(id) else { return };
        let bytes = super::body_bytes(&message.body);
        let is_full = live.messages.len() >= JOINED_MESSAGES_MAX || live.bytes + bytes > JOINED_BYTES_MAX;
        let is_needed = message.topic.is_internal() && !live.internal;
        if live.messages.iter().any(|known| known.id == message.id) || (is_full && !is_needed) {
            return;
        }
        live.internal |= message.topic.is_internal();
        live.row.messages += 1;
        live.bytes += bytes;
        self.live_bytes += bytes;
        let not_before = live.row.not_before;
        turn.entries.push(Entry::Joined { reaction: id.to_owned(), message: message.id.clone(), not_before });
        live.messages.push(message);
    }

    /// What a person has decided at another node. Nobody waits for an answer there: the story has it.
    fn decided(
        &mut self,
        now: Timestamp,
        decision: Decision,
        id: &str,
        story: Option<Box<Story>>,
        by: &str,
        turn: &mut Turn,
    ) {
        let Some(story) = story else { return };
        let is_live = self.live.contains_key(id);
        let word = story.reaction.state.word();
        let decided = match decision {
            Decision::Approve if is_live => self.approve(now, id, by, turn),
            Decision::Approve => Err(format!("{id} is {word}, not held")),
            Decision::Retry if is_live => self.hurry(now, id, by, turn),
            Decision::Retry => self.bring_back(now, *story, by, turn),
            Decision::Drop if is_live => self.give_up(now, id, by, turn),
            Decision::Drop => self.give_up_failed(now, story.reaction, by, turn),
        };
        match decided {
            Ok(said) => tracing::info!(by, "decided at another node: {said}"),
            Err(why) => {
                tracing::warn!(by, "decided at another node, but can't be: {why}");
                turn.story(id, now, "note", &format!("what {by} decided at another node can't be: {why}"));
            }
        }
    }

    fn due(&mut self, now: Timestamp, rule: &str, by: &str, turn: &mut Turn) {
        let Some(rule) = self.rules.rule(rule).cloned() else {
            return tracing::warn!(by, "rule `{rule}` was to be reconciled, but is not in the rules file of this node");
        };
        if let Some(begun) = self.reconcile_rule(now, &rule, by, turn) {
            tracing::info!(by, "asked for at another node: reaction {} {}", begun.id, begun.said);
        }
    }

    /// A try was ended, or not begun, because our lease ran out. That is no failed try.
    pub fn cut_off(&mut self, now: Timestamp, run: &Run, turn: &mut Turn) {
        if let Some(live) = self.live.get_mut(&run.id) {
            live.row.state = State::Waiting;
        }
        self.put_off(now, &run.id, "the journal's server was out of reach for too long", turn);
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
