//! When a reaction begins, and with what: due times, the clock, the handler and parameters of a try. Part of the core: pure.

use jiff::SignedDuration;
use serde_json::Value;

use super::{Act, Core, Entry, LaneId, Message, Outcome, Restored, Run, State, Timestamp, Turn, earlier, later};

/// A clock that is set back by less than this is not followed, in seconds.
pub const CLOCK_BACK_SECONDS: i64 = 1;

impl Core {
    /// Makes the reactions of rules whose time has come (`every`), and starts what may run.
    pub fn start(&mut self, now: Timestamp, room: usize, turn: &mut Turn) {
        if self.draining {
            return;
        }
        self.follow_clock(now);
        self.reconcile(now, turn);
        // Starting can end a reaction at once (its rule is gone, a field is missing) and so free its lane again.
        let mut left = room;
        while left > 0 {
            let ids = self.lanes.start(now, left);
            if ids.is_empty() {
                break;
            }
            for id in ids {
                left -= usize::from(self.begin(now, &id, turn));
            }
        }
    }

    /// When the clock was set back, what waits for a time waits as long as it would have, not until that time comes again.
    fn follow_clock(&mut self, now: Timestamp) {
        let back = self.latest.duration_since(now);
        if back >= SignedDuration::from_secs(CLOCK_BACK_SECONDS) && self.latest != Timestamp::MIN {
            tracing::warn!("the clock was set back by {} s; what waits does not wait longer", back.as_secs());
            self.lanes.earlier(back);
            self.every.values_mut().for_each(|last| *last = earlier(*last, back));
            self.latest = now;
        }
        self.latest = self.latest.max(now);
    }

    /// There is no time: rules with `every` never come due.
    pub fn without_time(&mut self) {
        self.reconciles.clear();
    }

    /// Begins one try. False if it ended at once.
    fn begin(&mut self, now: Timestamp, id: &str, turn: &mut Turn) -> bool {
        if self.change_lane(now, id, turn) {
            return false;
        }
        match self.run_of(id) {
            Ok(run) => {
                turn.acts.push(Act::Plan(Box::new(run)));
                true
            }
            Err((reason, hint)) => {
                self.over(now, id, State::Failed, Some(&reason), hint.as_deref(), turn);
                false
            }
        }
    }

    /// Its rule has another handler than when it was made: it goes to the end of its key's lane there, so that still only
    /// one runs in a lane. What the old one left for later was meant for that one only: it fails. True if either.
    fn change_lane(&mut self, now: Timestamp, id: &str, turn: &mut Turn) -> bool {
        let Some(live) = self.live.get_mut(id) else { return false };
        let Some(rule) = self.rules.rule(&live.row.rule) else { return false };
        if *rule.handler == *live.row.handler {
            return false;
        }
        if live.row.part.is_some() {
            let reason = format!(
                "handler {} left it for later, but its rule has handler {} now",
                live.row.handler, rule.handler
            );
            let hint = format!("reactor drop {id}   (or put the handler back and type: reactor retry {id})");
            self.over(now, id, State::Failed, Some(&reason), Some(&hint), turn);
            return true;
        }
        turn.story(id, now, "moved", &format!("from handler {} to {}", live.row.handler, rule.handler));
        live.row.handler = rule.handler.to_string();
        live.row.updated = now;
        // What was approved was another handler's plan.
        live.row.approved = None;
        turn.entries.push(Entry::Update(Box::new(live.row.clone())));
        self.lanes.finish(id, Outcome::Over);
        self.lanes.restore(Restored {
            id: id.to_owned(),
            rule: rule.name.clone(),
            lane: LaneId { handler: rule.handler.clone(), key: live.row.key.as_str().into() },
            not_before: now,
            coalescing_until: None,
            held: false,
            messages: (live.messages.len(), live.bytes),
        });
        true
    }

    fn run_of(&mut self, id: &str) -> Result<Run, (String, Option<String>)> {
        let gone = |what: &str, name: &str| {
            let hint = format!("put it back and type: reactor retry {id}");
            (format!("{what} `{name}` is no longer in the rules file"), Some(hint))
        };
        let live = self.live.get_mut(id).ok_or_else(|| gone("reaction", id))?;
        let rule = self.rules.rule(&live.row.rule).ok_or_else(|| gone("rule", &live.row.rule))?;
        let handler = self.handlers.get(&*rule.handler).ok_or_else(|| gone("handler", &rule.handler))?;
        live.row.attempts += 1;
        let messages: Vec<&Message> = live.messages.iter().collect();
        let with = match &live.row.part {
            None => self.rules.params(rule, &messages).map_err(|error| (error.message, error.hint))?,
            Some(Value::Object(part)) => part.clone(),
            Some(_) => return Err(("its `part` in the journal is no object".to_owned(), None)),
        };
        live.row.with = Some(with.clone().into());
        Ok(Run {
            id: id.to_owned(),
            rule: rule.clone(),
            handler: handler.clone(),
            key: live.row.key.clone(),
            attempt: live.row.attempts,
            with,
            messages: live.messages.clone(),
        })
    }

    /// When [`Core::start`] should be called again for want of time alone.
    #[must_use]
    pub fn wake_at(&self, room: usize) -> Option<Timestamp> {
        if self.draining {
            return None;
        }
        let lanes = if room > 0 { self.lanes.wake_at() } else { None };
        let every = self
            .reconciles
            .iter()
            .filter(|(rule, _)| self.elsewhere(&rule.name).is_none())
            .map(|(rule, every)| self.every.get(&rule.name).map_or(Timestamp::MIN, |last| later(*last, *every)));
        lanes.into_iter().chain(every).min()
    }
}
