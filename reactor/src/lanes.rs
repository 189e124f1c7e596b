//! Which reaction runs when: order, coalescing, retry times. A pure state machine: no clock, no IO; time comes in.
//!
//! A lane is a handler and a key. The reactions of a lane run one at a time, in the order they were made; lanes run side
//! by side. A reaction that is tried again, or that waits for a person, stays at the head of its lane, so that nothing
//! overtakes it there; every other lane flows.
//!
//! Architecture Invariant: at most one reaction runs in a lane.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::journal::ReactionId;
use crate::journal::nodes::{Slots, slot_of};
use crate::rules::site::{Coalesce, Retry};

/// Most messages that one reaction collects; the next one begins another reaction.
pub const JOINED_MESSAGES_MAX: usize = 1_000;
/// Most bytes of message bodies that one reaction collects (a handler's stdin holds 1 MiB).
pub const JOINED_BYTES_MAX: usize = 512 * 1024;
/// How far a retry time is moved at random, as a part of the wait: ±20 %, so that a crowd does not come back at once.
pub const JITTER_PART: f64 = 0.2;

/// A handler and a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId {
    /// The handler's name.
    pub handler: Arc<str>,
    /// The key.
    pub key: Arc<str>,
}

/// What a rule asks for because of one message.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The id of the reaction, if it becomes a new one.
    pub id: ReactionId,
    /// The rule.
    pub rule: Arc<str>,
    /// Where it runs.
    pub lane: LaneId,
    /// Whether it waits for more of the same.
    pub coalesce: Option<Coalesce>,
    /// The size of the message's body, in bytes.
    pub message_bytes: usize,
}

/// What became of an [`Offer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offered {
    /// A new reaction waits.
    New {
        /// It starts no earlier.
        not_before: Timestamp,
        /// It starts no later (coalescing only), if it is at the head of its lane.
        at_most: Option<Timestamp>,
    },
    /// It joined one that waits already.
    Joined {
        /// That one.
        reaction: ReactionId,
        /// Its new start.
        not_before: Timestamp,
    },
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Over: done, planned, failed or dropped. The lane goes on.
    Over,
    /// Again, at the head of its lane, at this time.
    Again(Timestamp),
    /// A person must decide; the lane waits.
    Held,
}

/// A reaction from before a restart, or one that a person sends back.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Its id.
    pub id: ReactionId,
    /// Its rule.
    pub rule: Arc<str>,
    /// Where it runs.
    pub lane: LaneId,
    /// It starts no earlier.
    pub not_before: Timestamp,
    /// A coalescing one that was never tried: others may join until then.
    pub coalescing_until: Option<Timestamp>,
    /// It waits for a person.
    pub held: bool,
    /// Messages that led to it, and their size in bytes.
    pub messages: (usize, usize),
}

#[derive(Debug)]
struct Waiting {
    id: ReactionId,
    rule: Arc<str>,
    not_before: Timestamp,
    /// Present while others may join.
    joinable_until: Option<Timestamp>,
    messages: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    running: Option<Waiting>,
    /// The head waits for a person.
    held: bool,
    /// Where it stands in `ready`, if it does.
    ready_at: Option<(Timestamp, u64)>,
}

/// All lanes of a daemon.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: HashMap<LaneId, Lane>,
    lane_of: HashMap<ReactionId, LaneId>,
    /// Per handler: the lanes whose head may start, by its time; the number keeps first come, first served.
    ready: HashMap<Arc<str>, BTreeSet<(Timestamp, u64, LaneId)>>,
    running: HashMap<Arc<str>, usize>,
    at_once: HashMap<Arc<str>, usize>,
    paused: HashSet<Arc<str>>,
    /// Slots of which nothing starts: another node serves them, or will.
    closed: Slots,
    turn: u64,
}

impl Lanes {
    /// No lanes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many reactions of `handler` may run at once. Without a limit: as many as there is room.
    pub fn limit(&mut self, handler: &Arc<str>, at_once: usize) {
        self.at_once.insert(handler.clone(), at_once.max(1));
    }

    /// Takes in what a rule asks for: it joins the waiting reaction of its rule and key, if the rule coalesces, or waits
    /// at the end of its lane.
    pub fn offer(&mut self, now: Timestamp, offer: Offer) -> Offered {
        let lane = self.lanes.entry(offer.lane.clone()).or_default();
        if let Some(coalesce) = offer.coalesce {
            let open = lane.waiting.iter_mut().find(|w| w.rule == offer.rule && w.takes(now, offer.message_bytes));
            if let Some(waiting) = open {
                let until = waiting.joinable_until.unwrap_or(now);
                waiting.not_before = later(now, coalesce.quiet).min(until).max(now);
                waiting.messages += 1;
                waiting.bytes += offer.message_bytes;
                let joined = Offered::Joined { reaction: waiting.id.clone(), not_before: waiting.not_before };
                self.refresh(&offer.lane);
                return joined;
            }
        }
        let not_before = offer.coalesce.map_or(now, |c| later(now, c.quiet.min(c.at_most)));
        let at_most = offer.coalesce.map(|c| later(now, c.at_most));
        lane.waiting.push_back(Waiting {
            id: offer.id.clone(),
            rule: offer.rule,
            not_before,
            joinable_until: at_most,
            messages: 1,
            bytes: offer.message_bytes,
        });
        self.lane_of.insert(offer.id, offer.lane.clone());
        self.refresh(&offer.lane);
        Offered::New { not_before, at_most }
    }

    /// Puts back what the journal says was there, or what a person sends back: at the end of its lane. Called in the order
    /// the reactions were made.
    pub fn restore(&mut self, restored: Restored) {
        let lane = self.lanes.entry(restored.lane.clone()).or_default();
        let waiting = Waiting {
            id: restored.id.clone(),
            rule: restored.rule,
            not_before: restored.not_before,
            joinable_until: restored.coalescing_until,
            messages: restored.messages.0,
            bytes: restored.messages.1,
        };
        // Only a head can be held: whoever was behind it could not have run.
        if restored.held {
            lane.held = true;
            lane.waiting.push_front(waiting);
        } else {
            lane.waiting.push_back(waiting);
        }
        self.lane_of.insert(restored.id, restored.lane.clone());
        self.refresh(&restored.lane);
    }

    /// Starts what may run now, at most `room` of them, the longest due first. They run until [`Lanes::finish`].
    pub fn start(&mut self, now: Timestamp, room: usize) -> Vec<ReactionId> {
        let mut started = Vec::new();
        while started.len() < room {
            let Some(lane_id) = self.next_ready(now) else { break };
            let Some(lane) = self.lanes.get_mut(&lane_id) else { break };
            let Some(mut head) = lane.waiting.pop_front() else { break };
            head.joinable_until = None;
            started.push(head.id.clone());
            lane.running = Some(head);
            *self.running.entry(lane_id.handler.clone()).or_default() += 1;
            self.refresh(&lane_id);
        }
        started
    }

    /// Ends a run. Nothing happens if `id` does not run.
    pub fn finish(&mut self, id: &str, outcome: Outcome) {
        let Some(lane_id) = self.lane_of.get(id).cloned() else { return };
        let Some(lane) = self.lanes.get_mut(&lane_id) else { return };
        let Some(mut run) = lane.running.take_if(|run| run.id == id) else { return };
        if let Some(n) = self.running.get_mut(&lane_id.handler) {
            *n = n.saturating_sub(1);
        }
        match outcome {
            Outcome::Over => {
                self.lane_of.remove(id);
            }
            Outcome::Again(at) => {
                run.not_before = at;
                lane.waiting.push_front(run);
            }
            Outcome::Held => {
                lane.held = true;
                lane.waiting.push_front(run);
            }
        }
        self.refresh(&lane_id);
    }

    /// A person says a held or waiting reaction may go on now. False if it is neither.
    pub fn release(&mut self, now: Timestamp, id: &str) -> bool {
        let Some(lane_id) = self.lane_of.get(id).cloned() else { return false };
        let Some(lane) = self.lanes.get_mut(&lane_id) else { return false };
        let Some(at) = lane.waiting.iter().position(|w| w.id == id) else { return false };
        if at == 0 {
            lane.held = false;
        }
        lane.waiting[at].not_before = now;
        self.refresh(&lane_id);
        true
    }

    /// Takes a waiting or held reaction out. False if it runs or is not there.
    pub fn remove(&mut self, id: &str) -> bool {
        let Some(lane_id) = self.lane_of.get(id).cloned() else { return false };
        let Some(lane) = self.lanes.get_mut(&lane_id) else { return false };
        let Some(at) = lane.waiting.iter().position(|w| w.id == id) else { return false };
        lane.waiting.remove(at);
        if at == 0 {
            lane.held = false;
        }
        self.lane_of.remove(id);
        self.refresh(&lane_id);
        true
    }

    /// Reactions of `rule` do not start until [`Lanes::resume`]; they wait, and so does what is behind them.
    pub fn pause(&mut self, rule: &Arc<str>) {
        self.paused.insert(rule.clone());
        self.refresh_all();
    }

    /// Ends a pause.
    pub fn resume(&mut self, rule: &str) {
        self.paused.remove(rule);
        self.refresh_all();
    }

    /// Nothing in these slots starts until [`Lanes::open`]. What runs goes on.
    pub fn close(&mut self, slots: Slots) {
        self.closed = self.closed.and(slots);
        self.refresh_all();
    }

    /// What waits in these slots may start.
    pub fn open(&mut self, slots: Slots) {
        self.closed = self.closed.but(slots);
        self.refresh_all();
    }

    /// The slots in which something runs.
    #[must_use]
    pub fn busy(&self) -> Slots {
        self.lanes.iter().filter(|(_, lane)| lane.running.is_some()).map(|(id, _)| slot_of(&id.key)).collect()
    }

    fn is_closed(&self, key: &str) -> bool {
        !self.closed.is_empty() && self.closed.has(slot_of(key))
    }

    /// All times are earlier by this much: the clock was set back.
    pub fn earlier(&mut self, by: SignedDuration) {
        for waiting in self.lanes.values_mut().flat_map(|lane| &mut lane.waiting) {
            waiting.not_before = earlier(waiting.not_before, by);
            waiting.joinable_until = waiting.joinable_until.map(|until| earlier(until, by));
        }
        self.refresh_all();
    }

    /// When [`Lanes::start`] could start something that it could not now for want of time; `None` = nothing waits for time.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.ready
            .iter()
            .filter(|(handler, _)| self.has_room(handler))
            .filter_map(|(_, set)| set.first().map(|(at, ..)| *at))
            .min()
    }

    /// How many run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.values().sum()
    }

    /// How many wait: for time, for their turn, for room, or for a person.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lane_of.len() - self.running()
    }

    /// How many wait behind `id` in its lane.
    #[must_use]
    pub fn behind(&self, id: &str) -> usize {
        let Some(lane) = self.lane_of.get(id).and_then(|lane| self.lanes.get(lane)) else { return 0 };
        lane.waiting.iter().rev().take_while(|w| w.id != id).count()
    }

    /// Whether `id` runs.
    #[must_use]
    pub fn is_running(&self, id: &str) -> bool {
        let lane = self.lane_of.get(id).and_then(|lane| self.lanes.get(lane));
        lane.and_then(|lane| lane.running.as_ref()).is_some_and(|run| run.id == id)
    }

    fn has_room(&self, handler: &Arc<str>) -> bool {
        let running = self.running.get(handler).copied().unwrap_or(0);
        self.at_once.get(handler).is_none_or(|most| running < *most)
    }

    /// The lane whose head has been due for longest, of a handler that has room.
    fn next_ready(&self, now: Timestamp) -> Option<LaneId> {
        let due = self.ready.iter().filter(|(handler, _)| self.has_room(handler)).filter_map(|(_, set)| set.first());
        due.filter(|(at, ..)| *at <= now).min().map(|(_, _, lane)| lane.clone())
    }

    /// Brings `ready` in line with one lane; forgets the lane when it is empty.
    fn refresh(&mut self, id: &LaneId) {
        let is_closed = self.is_closed(&id.key);
        let Some(lane) = self.lanes.get_mut(id) else { return };
        let head = lane
            .waiting
            .front()
            .filter(|head| lane.running.is_none() && !lane.held && !self.paused.contains(&head.rule))
            .filter(|_| !is_closed);
        let wanted = head.map(|head| head.not_before);
        if wanted != lane.ready_at.map(|(at, _)| at) {
            let set = self.ready.entry(id.handler.clone()).or_default();
            if let Some((at, turn)) = lane.ready_at.take() {
                set.remove(&(at, turn, id.clone()));
            }
            if let Some(at) = wanted {
                self.turn += 1;
                set.insert((at, self.turn, id.clone()));
                lane.ready_at = Some((at, self.turn));
            }
            if set.is_empty() {
                self.ready.remove(&id.handler);
            }
        }
        if lane.waiting.is_empty() && lane.running.is_none() {
            self.lanes.remove(id);
        }
    }

    fn refresh_all(&mut self) {
        let ids: Vec<LaneId> = self.lanes.keys().cloned().collect();
        for id in &ids {
            self.refresh(id);
        }
    }
}

impl Waiting {
    fn takes(&self, now: Timestamp, bytes: usize) -> bool {
        self.joinable_until.is_some_and(|until| now <= until)
            && self.messages < JOINED_MESSAGES_MAX
            && self.bytes + bytes <= JOINED_BYTES_MAX
    }
}

/// `now` plus a duration; the end of time where that is not representable.
#[must_use]
pub fn later(now: Timestamp, wait: Duration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// `at` minus a duration; the beginning of time where that is not representable.
#[must_use]
pub fn earlier(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

/// When the next try is due after `attempts` failed ones; `None` when there are no tries left. The wait doubles with each
/// try up to `up_to`, is `asked` where the handler asked for a time within that, and is moved by `jitter` (0.0 to 1.0).
#[must_use]
pub fn retry_at(
    now: Timestamp,
    retry: &Retry,
    attempts: u32,
    asked: Option<Duration>,
    jitter: f64,
) -> Option<Timestamp> {
    if attempts > retry.times {
        return None;
    }
    let doubled = retry.wait.saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    let wait = asked.unwrap_or(doubled).min(retry.up_to);
    let part = 1.0 + JITTER_PART * (2.0 * jitter.clamp(0.0, 1.0) - 1.0);
    Some(later(now, wait.mul_f64(part).min(retry.up_to)))
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
