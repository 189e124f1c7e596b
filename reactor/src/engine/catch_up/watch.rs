//! When something may have been missed on a bus, and up to when all of it was surely heard. Pure: time and the source's
//! counters come in as arguments.

use std::time::Duration;

use jiff::Timestamp;

/// After a connection is made, so long is waited before the server is asked, in seconds: what was just sent must have got
/// there, and the publisher must have taken our subscription.
pub const SETTLE_SECONDS: u64 = 2;
/// Between two catch-ups of one bus, in seconds: a hundred publishers that come back are few questions, not a hundred.
pub const PAUSE_SECONDS: u64 = 5;
/// So long a starting daemon waits for its first connection before it asks all the same, in seconds.
pub const FIRST_CONNECTION_SECONDS: u64 = 5;
/// Most connections that are remembered as lost.
const LOST_MAX: usize = 1_000;

/// Why something may have been missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The daemon did not run, or was not connected yet.
    Away,
    /// A connection was lost and is back.
    Reconnected,
    /// A publisher is there that was not there since the start.
    Connected,
    /// Our queue was full, so that publishers may have dropped what is new.
    Full,
    /// Connected, and nothing came for a long time.
    Silent,
    /// A person asks for it.
    Asked,
}

impl Why {
    /// The end of a sentence.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Away => "reactor was not there",
            Self::Reconnected => "a connection was lost and is back",
            Self::Connected => "a publisher was connected to for the first time",
            Self::Full => "the bus's queue was full",
            Self::Silent => "nothing came for longer than `silence`",
            Self::Asked => "somebody asked for it",
        }
    }
}

/// What the source's counters say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Connections made.
    pub connects: u64,
    /// Connections lost.
    pub disconnects: u64,
    /// How often the queue was full.
    pub stalls: u64,
    /// How often the time that is too long has passed in silence.
    pub silences: u64,
    /// Messages that came in.
    pub received: u64,
    /// Messages in the queue.
    pub queued: u64,
}

/// A stretch of time of which something may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Its beginning.
    pub from: Timestamp,
    /// What led to it.
    pub why: Why,
    /// Not asked for before then.
    pub at: Timestamp,
}

/// What is remembered of one bus.
#[derive(Debug)]
pub struct Watch {
    seen: Seen,
    queue_messages_max: u64,
    /// The last look.
    looked: Timestamp,
    /// When the last message came, or reading began.
    heard: Timestamp,
    /// All was asked for up to then, or it is not of interest.
    since: Timestamp,
    /// When connections were lost that are not back, the newest last.
    lost: Vec<Timestamp>,
    /// The position at the start, as long as no connection has come about; and when that is not waited for any longer.
    away: Option<(Timestamp, Timestamp)>,
    full_since: Option<Timestamp>,
    /// Silent for too long, and nothing has come since.
    is_silent: bool,
    due: Option<Missed>,
    not_before: Timestamp,
    /// Whether there is somebody to ask; if not, a gap is only told, and there is nothing to wait for.
    can_ask: bool,
}

impl Watch {
    /// Begins at `now`; `position` is up to when the bus was surely heard by a daemon before this one.
    #[must_use]
    pub fn new(now: Timestamp, position: Option<Timestamp>, queue_messages_max: usize, can_ask: bool) -> Self {
        // A position that is ahead was written when the clock was.
        let away = position.map(|at| (at.min(now), later(now, FIRST_CONNECTION_SECONDS)));
        Self {
            seen: Seen::default(),
            queue_messages_max: queue_messages_max as u64,
            looked: now,
            heard: now,
            since: now,
            lost: Vec::new(),
            away,
            full_since: None,
            is_silent: false,
            due: None,
            not_before: Timestamp::MIN,
            can_ask,
        }
    }

    /// Whether there is somebody to ask, from now on.
    pub const fn can_ask(&mut self, can_ask: bool) {
        self.can_ask = can_ask;
    }

    /// Looks at the counters.
    pub fn look(&mut self, now: Timestamp, seen: Seen) {
        let before = std::mem::replace(&mut self.seen, seen);
        if now < self.looked {
            self.set_back(now);
        }
        for _ in before.disconnects..seen.disconnects.min(before.disconnects + LOST_MAX as u64) {
            if self.lost.len() < LOST_MAX {
                self.lost.push(self.looked);
            }
        }
        for _ in before.connects..seen.connects.min(before.connects + LOST_MAX as u64) {
            let (from, why) = match self.away.take() {
                Some((position, _)) => (position, Why::Away),
                None => self.lost.pop().map_or((self.since, Why::Connected), |lost| (lost, Why::Reconnected)),
            };
            self.miss(now, from, why);
        }
        if let Some((position, until)) = self.away
            && now >= until
        {
            // What comes when a connection is there at last begins where this ends.
            self.away = Some((now, Timestamp::MAX));
            self.miss(now, position, Why::Away);
        }
        if seen.stalls > before.stalls {
            self.full_since.get_or_insert(self.looked);
        }
        if let Some(since) = self.full_since
            && seen.queued <= self.queue_messages_max / 2
        {
            self.full_since = None;
            self.miss(now, since, Why::Full);
        }
        self.listen(now, seen.silences > before.silences, seen.received > before.received);
        self.looked = now;
    }

    /// Whoever is deaf stays so until something comes: each time it was silent for too long is asked about, and what was sent
    /// between the last of these and that message.
    fn listen(&mut self, now: Timestamp, is_silent: bool, has_come: bool) {
        let from = self.heard.max(self.since);
        if is_silent || has_come && self.is_silent {
            self.miss(now, from, Why::Silent);
        }
        self.is_silent = !has_come && (is_silent || self.is_silent);
        if has_come {
            self.heard = now;
        }
    }

    /// A clock that was set back must not make a gap that is as long as the step, or one that ends before it begins, nor put off
    /// what is due.
    fn set_back(&mut self, now: Timestamp) {
        let times = [&mut self.looked, &mut self.heard, &mut self.since];
        for at in times.into_iter().chain(&mut self.lost).chain(&mut self.full_since) {
            *at = (*at).min(now);
        }
        if let Some((position, until)) = &mut self.away {
            *position = (*position).min(now);
            // Who waits for the connection alone goes on with that.
            if *until < Timestamp::MAX {
                *until = (*until).min(later(now, FIRST_CONNECTION_SECONDS));
            }
        }
        if let Some(due) = &mut self.due {
            (due.from, due.at) = (due.from.min(now), due.at.min(later(now, SETTLE_SECONDS)));
        }
        self.not_before = self.not_before.min(later(now, PAUSE_SECONDS));
    }

    fn miss(&mut self, now: Timestamp, from: Timestamp, why: Why) {
        let settled = if self.can_ask { later(now, SETTLE_SECONDS).max(self.not_before) } else { now };
        let due = self.due.get_or_insert(Missed { from, why, at: settled });
        if from < due.from {
            (due.from, due.why) = (from, why);
        }
    }

    /// What is to be asked for, or waited for until then.
    #[must_use]
    pub const fn due(&self) -> Option<Missed> {
        self.due
    }

    /// It was asked for, up to `to`, with whatever success.
    pub fn asked(&mut self, now: Timestamp, to: Timestamp) {
        self.due = None;
        self.since = to;
        self.not_before = later(now, PAUSE_SECONDS);
    }

    /// Up to when the bus was surely heard, if all that came up to `handed` is in the journal.
    #[must_use]
    pub fn position(&self, handed: Timestamp) -> Timestamp {
        let away = self.away.map(|(position, _)| position);
        let due = self.due.map(|due| due.from);
        // Who was never connected has heard nothing, also at the first start.
        let never = (self.seen.connects == 0).then_some(self.since);
        [away, never, due, self.full_since, self.lost.first().copied()]
            .into_iter()
            .flatten()
            .fold(handed, Timestamp::min)
    }
}

fn later(at: Timestamp, seconds: u64) -> Timestamp {
    at.checked_add(Duration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
