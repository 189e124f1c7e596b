//! What a plan or an apply leads to: held, applied, tried again, over; and how that is announced. Part of the core: pure.

use handler_api::{Change, Failure, Plan};
use jiff::Timestamp;
use serde_json::json;

use super::super::redact::redacted;
use super::parts::{goes_on, guard_of_part};
use super::{Act, Applied, Core, Run, Turn};
use crate::guard::{self, Verdict};
use crate::journal::{Entry, State};
use crate::lanes::{Outcome, retry_at};
use crate::message::{Message, Topic};
use crate::rules::site::Mode;
use crate::trust::Verified;

/// What the story keeps of the reason of each failed try, in bytes; the row has the last one in full. A handler that says
/// something else at each of its tries must not fill the disk with it.
pub const RETRY_REASON_BYTES_MAX: usize = 400;

/// As much of it as fits, in whole characters.
pub(super) fn beginning(reason: &str) -> &str {
    let most = reason.len().min(RETRY_REASON_BYTES_MAX);
    let end = (0..=most).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
    &reason[..end]
}

impl Core {
    /// A plan has come back, or could not be made.
    pub fn planned(&mut self, now: Timestamp, run: Run, result: Result<Plan, Failure>, turn: &mut Turn) {
        let id = run.id.clone();
        if !self.live.contains_key(&id) {
            return;
        }
        let Plan { changes: plan, notes } = match result {
            Ok(plan) => plan,
            Err(failure) => return self.missed(now, &run, failure, turn),
        };
        self.tell_notes(now, &id, &notes, turn);
        // What counts is what people want now, not what they wanted when it began.
        let rule = match self.rules.rule(&run.rule.name) {
            _ if self.draining => return self.put_off(now, &id, "the daemon is stopping", turn),
            _ if self.paused.contains_key(&run.rule.name) => {
                return self.put_off(now, &id, "its rule was paused while it was planned", turn);
            }
            Some(rule) if rule.handler == run.rule.handler => rule.clone(),
            _ => return self.put_off(now, &id, "its rule was changed while it was planned", turn),
        };
        let Some(live) = self.live.get_mut(&id) else { return };
        let seen: Vec<Change> = plan.iter().map(redacted).collect();
        let limits = if live.row.part.is_some() { guard_of_part(&self.rules, &rule) } else { rule.guard };
        let verdict = guard::check(&seen, limits, live.row.approved.as_deref());
        let size = guard::size(&seen);
        live.row.plan = seen;
        turn.story(&id, now, "planned", &format!("changes: {}, of them deletes: {}", size.changes, size.deletes));
        if plan.is_empty() {
            return self.over(now, &id, State::Done, Some("nothing to do: it is true already"), None, turn);
        }
        if rule.mode == Mode::Plan {
            return self.over(now, &id, State::Planned, Some("mode: plan; nothing was changed"), None, turn);
        }
        match verdict {
            Verdict::Hold { reason } => self.hold(now, &run, &reason, turn),
            Verdict::Pass => {
                live.row.state = State::Applying;
                live.row.updated = now;
                // Of the tries before, the story tells; kept here, a thousand tries of many changes have no bound.
                live.row.done.clear();
                turn.story(&id, now, "applying", &format!("try {}", run.attempt));
                turn.entries.push(Entry::Update(Box::new(live.row.clone())));
                turn.acts.push(Act::Apply(Box::new(run), plan));
            }
        }
    }

    /// Its plan is not wanted now. It is planned again when it may start; that is no failed try.
    pub(super) fn put_off(&mut self, now: Timestamp, id: &str, why: &str, turn: &mut Turn) {
        let Some(live) = self.live.get_mut(id) else { return };
        live.row.attempts = live.row.attempts.saturating_sub(1);
        live.row.updated = now;
        live.row.not_before = now;
        turn.story(id, now, "put off", why);
        turn.entries.push(Entry::Update(Box::new(live.row.clone())));
        self.lanes.finish(id, Outcome::Again(now));
    }

    fn hold(&mut self, now: Timestamp, run: &Run, reason: &str, turn: &mut Turn) {
        let id = run.id.as_str();
        let hint =
            format!("look at it with `reactor show {id}`, then type: reactor approve {id}   (or: reactor drop {id})");
        tracing::warn!(rule = %run.rule.name, key = %run.key, reaction = id, why = run.rule.why, "held: {reason}; {hint}");
        if let Some(live) = self.live.get_mut(id) {
            live.row.state = State::Held;
            live.row.updated = now;
            live.row.reason = Some(reason.to_owned());
            live.row.hint = Some(hint);
            turn.story(id, now, "held", reason);
            turn.entries.push(Entry::Update(Box::new(live.row.clone())));
        }
        self.lanes.finish(id, Outcome::Held);
        self.confirm(now, id, turn);
        self.announce(now, id, turn);
    }

    /// A change was made on a target.
    pub fn changed(&mut self, now: Timestamp, id: &str, change: &Change, turn: &mut Turn) {
        let Some(live) = self.live.get_mut(id) else { return };
        // It waited for a person; now it is done.
        let change = Change { hold: None, ..redacted(change) };
        live.row.done.push(change.clone());
        turn.entries.push(Entry::ChangeDone { reaction: id.to_owned(), change, at: now });
    }

    /// An apply has ended; a warning (undone though exit 0) goes into the story. What it left for later goes on by itself.
    pub fn applied(&mut self, now: Timestamp, run: &Run, applied: Applied, turn: &mut Turn) {
        self.tell_notes(now, &run.id, &applied.notes, turn);
        let warning = match applied.result {
            Ok(warning) => warning,
            Err(failure) => return self.missed(now, run, failure, turn),
        };
        if let Some(why) = self.got_nowhere(&run.id, &applied.left) {
            return self.missed(now, run, Failure::retry(why), turn);
        }
        if let Some(warning) = &warning {
            tracing::warn!(rule = %run.rule.name, key = %run.key, reaction = run.id, "{warning}");
        }
        let parts = self.leave(now, run, applied.left, turn);
        let said: Vec<String> = (parts > 0).then(|| goes_on(parts)).into_iter().chain(warning).collect();
        let reason = (!said.is_empty()).then(|| said.join("; "));
        self.over(now, &run.id, State::Done, reason.as_deref(), None, turn);
    }

    /// A try has failed: again later, or never.
    fn missed(&mut self, now: Timestamp, run: &Run, failure: Failure, turn: &mut Turn) {
        let chance = self.ids.chance();
        let Some(live) = self.live.get_mut(&run.id) else { return };
        let (reason, hint, at) = match failure {
            Failure::Permanent { message, hint } => (message, hint, None),
            Failure::Retry { message, hint, after } => {
                let at = retry_at(now, &run.rule.retry, live.row.attempts, after, chance);
                (message, hint, at)
            }
        };
        let Some(at) = at else {
            return self.over(now, &run.id, State::Failed, Some(&reason), hint.as_deref(), turn);
        };
        self.complain(now, run, &reason, hint.as_deref(), "will be tried again");
        let Some(live) = self.live.get_mut(&run.id) else { return };
        live.row.repeated = if live.row.reason.as_ref() == Some(&reason) { live.row.repeated + 1 } else { 1 };
        live.row.state = State::Waiting;
        live.row.updated = now;
        live.row.not_before = at;
        turn.story(&run.id, now, "retry", beginning(&reason));
        live.row.reason = Some(reason);
        live.row.hint = hint;
        turn.entries.push(Entry::Update(Box::new(live.row.clone())));
        self.lanes.finish(&run.id, Outcome::Again(at));
    }

    pub(super) fn complain(&mut self, now: Timestamp, run: &Run, reason: &str, hint: Option<&str>, then: &str) {
        if let Some(times) = self.folded.again(now, &run.rule.name, reason) {
            let why = run.rule.why.as_deref();
            tracing::warn!(rule = %run.rule.name, why, key = %run.key, reaction = run.id, times, hint, "{then}: {reason}");
        }
    }

    /// Ends a reaction for good, and says so to whoever has a rule for it.
    pub(super) fn over(
        &mut self,
        now: Timestamp,
        id: &str,
        state: State,
        reason: Option<&str>,
        hint: Option<&str>,
        turn: &mut Turn,
    ) {
        let Some(live) = self.live.get_mut(id) else { return };
        live.row.state = state;
        live.row.updated = now;
        live.row.reason = reason.map(str::to_owned);
        live.row.hint = hint.map(str::to_owned);
        turn.story(id, now, state.word(), reason.unwrap_or(""));
        turn.entries.push(Entry::Update(Box::new(live.row.clone())));
        if state == State::Failed {
            self.failed += 1;
            let rule = live.row.rule.clone();
            if let Some(times) = self.folded.again(now, &rule, reason.unwrap_or("")) {
                let why = self.rules.rule(&rule).and_then(|r| r.why.clone());
                tracing::error!(
                    rule,
                    why,
                    key = live.row.key,
                    reaction = id,
                    times,
                    hint,
                    "failed: {}",
                    reason.unwrap_or("")
                );
            }
        }
        self.lanes.finish(id, Outcome::Over);
        self.confirm(now, id, turn);
        self.announce(now, id, turn);
        self.forget(id);
    }

    /// Publishes an outcome as a message of our own, unless it was led to by one: so there are no loops.
    fn announce(&mut self, now: Timestamp, id: &str, turn: &mut Turn) {
        let Some(live) = self.live.get(id).filter(|live| !live.internal) else { return };
        let Some(word) = live.row.state.announced() else { return };
        let Ok(topic) = Topic::new(&format!("reactor.reaction.{word}")) else { return };
        if !self.rules.wants(topic.as_str()) {
            return;
        }
        let row = &live.row;
        let message = Verified::internal(Message {
            id: format!("reactor-{id}-{word}-{}", now.as_microsecond()),
            topic,
            sent: now,
            bus: "reactor".into(),
            signer: "reactor".into(),
            body: json!({
                "reaction": id, "rule": row.rule, "handler": row.handler, "key": row.key, "state": row.state,
                "attempts": row.attempts, "reason": row.reason, "hint": row.hint, "changes": row.plan.len(),
                "done": row.done.len(), "later": live.left, "messages": live.messages.iter().map(|m| &m.id).collect::<Vec<_>>(),
            }),
            headers: serde_json::Map::new(),
        });
        let decisions = self.rules.decide(message.get());
        if !decisions.is_empty() {
            self.message(now, message.get(), decisions, turn);
        }
    }
}
