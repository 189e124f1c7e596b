//! What a handler says beside its changes: notes, and what an apply leaves for later. Each part that is left becomes a
//! reaction of its own, with a lane of its own, in the same transaction in which its parent is done: so the rest is done now,
//! nobody waits for it, and a crash neither loses nor doubles it. Part of the core: pure.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use handler_api::limits::NOTES_MAX;
use handler_api::{Failure, Later};
use jiff::Timestamp;
use serde_json::Value;

use super::outcomes::beginning;
use super::{Core, Live, Run, Turn, body_bytes, new_row};
use crate::journal::nodes::What;
use crate::journal::{Entry, ReactionId, State};
use crate::lanes::{LaneId, Restored, retry_at};
use crate::message::Message;
use crate::rules::matcher::Rules;
use crate::rules::site::{GuardLimits, On, Rule};
use crate::runner::Left;

/// Messages that all parts of one apply take over from their parent together; each has a like share, the newest.
pub const PARTS_MESSAGES_MAX: usize = 10_000;
/// Bytes of the bodies of those messages.
pub const PARTS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Parts of one apply that the parent's story names; of the rest it tells the number.
pub const PARTS_TOLD_MAX: usize = 50;

/// What came of the apply of a handler.
#[derive(Debug)]
pub struct Applied {
    /// `Ok`: the plan is true now (the text: planned changes that were not done although it said success). Else why not.
    pub result: Result<Option<String>, Failure>,
    /// What a person should know that is no change and no failure.
    pub notes: Vec<String>,
    /// What goes on as reactions of its own.
    pub left: Vec<Left>,
}

impl From<Result<Option<String>, Failure>> for Applied {
    fn from(result: Result<Option<String>, Failure>) -> Self {
        Self { result, notes: Vec::new(), left: Vec::new() }
    }
}

/// What a part may do without a person. Its handler may look at more than the messages of its rule are about (all that stands
/// on a host, say), so it gets no more than a reconcile of that handler does; where there is none, no more than the default.
pub(super) fn guard_of_part(rules: &Rules, rule: &Rule) -> GuardLimits {
    let is_its = |other: &&Arc<Rule>| other.handler == rule.handler && matches!(other.on, On::Every(_));
    let less = |a: GuardLimits, b: GuardLimits| GuardLimits {
        changes: a.changes.min(b.changes),
        deletes: a.deletes.min(b.deletes),
    };
    let most = rules.all().iter().filter(is_its).map(|other| other.guard).reduce(less).unwrap_or_default();
    less(rule.guard, most)
}

/// The parent's messages, as its parts take them over.
struct HandedDown {
    messages: Vec<Message>,
    ids: Vec<String>,
    internal: bool,
}

impl Core {
    /// Each note once a reaction: a handler says the same at every try.
    pub(super) fn tell_notes(&mut self, now: Timestamp, id: &str, notes: &[String], turn: &mut Turn) {
        let Some(live) = self.live.get_mut(id) else { return };
        for note in notes {
            let mut hasher = DefaultHasher::new();
            note.hash(&mut hasher);
            let hash = hasher.finish();
            if live.noted.len() > NOTES_MAX || live.noted.contains(&hash) {
                continue;
            }
            live.noted.push(hash);
            let text = if live.noted.len() > NOTES_MAX { "further notes are left out" } else { note };
            turn.story(id, now, "note", text);
        }
    }

    /// A part that got nothing done and leaves something again did not come further: that is a failed try like any other,
    /// or it would go on for ever. Says why.
    pub(super) fn got_nowhere(&self, id: &str, left: &[Left]) -> Option<String> {
        let live = self.live.get(id)?;
        let first = left.first()?;
        (live.row.part.is_some() && live.row.done.is_empty()).then(|| first.later.why.clone())
    }

    /// Makes the reactions that go on with what was left; returns how many parts those are.
    pub(super) fn leave(&mut self, now: Timestamp, run: &Run, left: Vec<Left>, turn: &mut Turn) -> usize {
        let parts = left.len();
        let Some(handed) = self.handed_down(&run.id, parts) else { return 0 };
        let mut waiting = self.waiting_parts(run);
        for (at, Left { later, wrong }) in left.into_iter().enumerate() {
            let lane = later.key.clone();
            let why = beginning(&later.why).to_owned();
            let same = self.same_part(waiting.get(&lane), &later);
            let became = match (wrong, same) {
                (Some(wrong), _) => {
                    let id = self.make_part(now, run, later, &handed, turn);
                    let hint = format!(
                        "the handler left parameters that it does not take; mend it, then type: reactor drop {id}"
                    );
                    self.over(now, &id, State::Failed, Some(&wrong), Some(&hint), turn);
                    format!("reaction {id} failed at once: {wrong}")
                }
                (None, Some(id)) => {
                    self.join_part(now, &id, run, &why, &handed, turn);
                    format!("goes on with reaction {id}, which waits already")
                }
                (None, None) => {
                    let id = self.make_part(now, run, later, &handed, turn);
                    if let Some(slot) = self.elsewhere(&lane) {
                        self.forget(&id);
                        turn.entries.push(Entry::Hand(slot, What::Reaction { id: id.clone() }));
                    } else {
                        self.part_waits(&id);
                        waiting.entry(lane.clone()).or_default().push(id.clone());
                    }
                    format!("goes on as reaction {id}")
                }
            };
            if at < PARTS_TOLD_MAX {
                self.complain(now, run, &why, None, "left for later");
                turn.story(&run.id, now, "later", &format!("[{lane}] {why}; {became}"));
            }
        }
        if parts > PARTS_TOLD_MAX {
            turn.story(&run.id, now, "later", &format!("and {} more", parts - PARTS_TOLD_MAX));
        }
        if let Some(live) = self.live.get_mut(&run.id) {
            live.left = parts;
        }
        parts
    }

    /// The newest messages of the parent: as many for each part that all together stay within their limits. One of our own
    /// is always among them if the parent has one: by it a part is known to be internal.
    fn handed_down(&self, id: &str, parts: usize) -> Option<HandedDown> {
        let live = self.live.get(id).filter(|_| parts > 0)?;
        let most = (PARTS_MESSAGES_MAX / parts).max(1);
        let mut room = PARTS_BYTES_MAX / parts;
        let mut from = live.messages.len();
        while from > 0 && live.messages.len() - from < most {
            let bytes = body_bytes(&live.messages[from - 1].body);
            let Some(left) = room.checked_sub(bytes) else { break };
            (room, from) = (left, from - 1);
        }
        let own = live.messages[..from].iter().rfind(|m| m.topic.is_internal());
        let own = own.filter(|_| !live.messages[from..].iter().any(|m| m.topic.is_internal()));
        let messages: Vec<Message> = own.into_iter().chain(&live.messages[from..]).cloned().collect();
        let ids = messages.iter().map(|m| m.id.clone()).collect();
        Some(HandedDown { messages, ids, internal: live.internal })
    }

    /// The parts of this rule that wait for their time or turn, by their key. Not those that a person must look at.
    fn waiting_parts(&self, run: &Run) -> HashMap<String, Vec<ReactionId>> {
        let mut waiting: HashMap<String, Vec<ReactionId>> = HashMap::new();
        for (id, Live { row, .. }) in &self.live {
            let fits = row.part.is_some() && row.state == State::Waiting && *row.rule == *run.rule.name;
            if fits && *row.handler == *run.rule.handler && !self.lanes.is_running(id) {
                waiting.entry(row.key.clone()).or_default().push(id.clone());
            }
        }
        waiting
    }

    fn same_part(&self, of_key: Option<&Vec<ReactionId>>, later: &Later) -> Option<ReactionId> {
        let is_same = |id: &&ReactionId| {
            let part = self.live.get(*id).and_then(|live| live.row.part.as_ref());
            part.and_then(Value::as_object) == Some(&later.with)
        };
        of_key?.iter().filter(is_same).min().cloned()
    }

    fn make_part(
        &mut self,
        now: Timestamp,
        run: &Run,
        later: Later,
        handed: &HandedDown,
        turn: &mut Turn,
    ) -> ReactionId {
        let id = self.ids.next(now);
        let why = beginning(&later.why);
        let mut row = new_row(&id, &run.rule, later.key, now);
        // No failed try yet, so there always is a next one, whatever the rule says of tries.
        row.not_before = retry_at(now, &run.rule.retry, 0, None, self.ids.chance()).unwrap_or(now);
        row.parent = Some(run.id.clone());
        row.reason = Some(why.to_owned());
        row.messages = u32::try_from(handed.messages.len()).unwrap_or(u32::MAX);
        let part = Value::from(later.with);
        let bytes = handed.messages.iter().map(|m| body_bytes(&m.body)).sum::<usize>() + body_bytes(&part);
        row.part = Some(part);
        turn.entries.push(Entry::Reaction(Box::new(row.clone()), handed.ids.clone()));
        turn.story(&id, now, "received", &format!("left over from reaction {}: {why}", run.id));
        self.live_bytes += bytes;
        let messages = handed.messages.clone();
        self.live.insert(id.clone(), Live { row, messages, bytes, internal: handed.internal, noted: vec![], left: 0 });
        id
    }

    fn part_waits(&mut self, id: &str) {
        let Some(live) = self.live.get(id) else { return };
        self.lanes.restore(Restored {
            id: id.to_owned(),
            rule: live.row.rule.as_str().into(),
            lane: LaneId { handler: live.row.handler.as_str().into(), key: live.row.key.as_str().into() },
            not_before: live.row.not_before,
            coalescing_until: None,
            held: false,
            messages: (live.messages.len(), live.bytes),
        });
    }

    /// The same part waits already: it looks at the truth when it runs, so one is enough. What does not fit of the messages
    /// is left out.
    fn join_part(&mut self, now: Timestamp, id: &str, run: &Run, why: &str, handed: &HandedDown, turn: &mut Turn) {
        turn.story(id, now, "joined", &format!("left over from reaction {}: {why}", run.id));
        for message in &handed.messages {
            self.join_waiting(id, message.clone(), turn);
        }
    }
}

/// `1 of its parts goes on later`.
pub(super) fn goes_on(parts: usize) -> String {
    format!("{parts} of its parts go{} on later", if parts == 1 { "es" } else { "" })
}

#[cfg(test)]
#[path = "parts_tests.rs"]
mod tests;
