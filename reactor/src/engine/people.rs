//! What people decide: approve, retry, drop, pause, resume. Part of the core: pure.

use super::{Core, Entry, ReactionRow, State, Story, Timestamp, Turn};

/// What became of a decision: a sentence, or why it can't be (and what to type instead).
pub type Decided = Result<String, String>;

impl Core {
    /// The full id of the one pending reaction whose id begins with `prefix`.
    ///
    /// # Errors
    /// When there are several.
    pub fn find(&self, prefix: &str) -> Result<Option<String>, String> {
        if prefix.is_empty() {
            return Err("an empty id says nothing; `reactor list` shows them".to_owned());
        }
        let prefix = prefix.to_ascii_uppercase();
        let mut fit = self.live.keys().filter(|id| id.starts_with(&prefix));
        match (fit.next(), fit.next()) {
            (Some(_), Some(_)) => Err(format!("several reactions begin with {prefix}; type more of the id")),
            (one, _) => Ok(one.cloned()),
        }
    }

    /// A held reaction may go on: it is planned again, and may do what was seen and no more.
    pub fn approve(&mut self, now: Timestamp, id: &str, by: &str, turn: &mut Turn) -> Decided {
        let Some(live) = self.live.get_mut(id) else { return Err(format!("{id} is not pending")) };
        if live.row.state != State::Held {
            return Err(format!("{id} is not held, it is {}", live.row.state.word()));
        }
        live.row.approved = Some(live.row.plan.clone());
        live.row.attempts = 0;
        live.row.state = State::Waiting;
        live.row.not_before = now;
        live.row.decided(now, by);
        turn.story(id, now, "approved", &format!("by {by}, {} changes", live.row.plan.len()));
        turn.entries.push(Entry::Update(Box::new(live.row.clone())));
        self.lanes.release(now, id);
        Ok(format!("{id} approved; it is planned again and goes on"))
    }

    /// A pending reaction is tried now instead of later.
    pub fn hurry(&mut self, now: Timestamp, id: &str, by: &str, turn: &mut Turn) -> Decided {
        let Some(live) = self.live.get_mut(id) else { return Err(format!("{id} is not pending")) };
        if self.lanes.is_running(id) {
            return Err(format!("{id} is running now"));
        }
        if live.row.state == State::Held {
            return Err(format!("{id} is held; to let it go on, type: reactor approve {id}"));
        }
        live.row.not_before = now;
        live.row.decided(now, by);
        turn.story(id, now, "retry", &format!("now, says {by}"));
        turn.entries.push(Entry::Update(Box::new(live.row.clone())));
        self.lanes.release(now, id);
        Ok(format!("{id} is tried as soon as its lane is free"))
    }

    /// A failed (or dropped, or only planned) reaction comes back, at the end of its lane, with all its tries.
    pub fn bring_back(&mut self, now: Timestamp, mut story: Story, by: &str, turn: &mut Turn) -> Decided {
        let row = &mut story.reaction;
        let id = row.id.clone();
        if !matches!(row.state, State::Failed | State::Dropped | State::Planned) {
            return Err(format!(
                "{id} is {}; only a failed, dropped or planned reaction can be retried",
                row.state.word()
            ));
        }
        row.state = State::Waiting;
        row.attempts = 0;
        row.repeated = 0;
        row.not_before = now;
        row.at_most = None;
        row.approved = None;
        row.decided(now, by);
        turn.story(&id, now, "retry", &format!("by {by}"));
        turn.entries.push(Entry::Update(Box::new(row.clone())));
        self.put_back(now, story, turn);
        Ok(format!("{id} waits in its lane again"))
    }

    /// A waiting or held reaction will not happen.
    pub fn give_up(&mut self, now: Timestamp, id: &str, by: &str, turn: &mut Turn) -> Decided {
        if !self.lanes.remove(id) {
            return Err(format!("{id} is running now; wait until it ends, or stop the daemon"));
        }
        let Some(mut live) = self.forget(id) else { return Err(format!("{id} is not pending")) };
        live.row.state = State::Dropped;
        live.row.reason = Some(format!("dropped by {by}"));
        live.row.decided(now, by);
        turn.story(id, now, "dropped", &format!("by {by}"));
        self.confirm_of(now, &live, turn);
        turn.entries.push(Entry::Update(Box::new(live.row)));
        Ok(format!("{id} dropped"))
    }

    /// A failed reaction needs no more attention.
    pub fn give_up_failed(&self, now: Timestamp, mut row: ReactionRow, by: &str, turn: &mut Turn) -> Decided {
        if row.state != State::Failed {
            return Err(format!("{} is {} already", row.id, row.state.word()));
        }
        row.state = State::Dropped;
        row.decided(now, by);
        turn.story(&row.id, now, "dropped", &format!("by {by}"));
        let said = format!("{} dropped", row.id);
        turn.entries.push(Entry::Update(Box::new(row)));
        Ok(said)
    }

    /// Reactions of a rule wait from now on.
    pub fn pause(&mut self, now: Timestamp, rule: &str, turn: &mut Turn) -> Decided {
        let Some(found) = self.rules.rule(rule).cloned() else { return Err(self.no_rule(rule)) };
        if self.paused.contains_key(&found.name) {
            return Err(format!("`{rule}` is paused already"));
        }
        self.lanes.pause(&found.name);
        self.paused.insert(found.name.clone(), now);
        turn.entries.push(Entry::Setting { name: format!("paused/{rule}"), value: Some(now.to_string()) });
        Ok(format!("`{rule}` is paused; its reactions wait until: reactor resume '{rule}'"))
    }

    /// Reactions of a paused rule run again.
    pub fn resume(&mut self, rule: &str, turn: &mut Turn) -> Decided {
        if self.paused.remove(rule).is_none() {
            return Err(format!("`{rule}` is not paused"));
        }
        self.lanes.resume(rule);
        turn.entries.push(Entry::Setting { name: format!("paused/{rule}"), value: None });
        Ok(format!("`{rule}` goes on"))
    }

    /// The paused rules, and since when.
    #[must_use]
    pub fn paused(&self) -> Vec<(String, Timestamp)> {
        let mut paused: Vec<_> = self.paused.iter().map(|(rule, at)| (rule.to_string(), *at)).collect();
        paused.sort();
        paused
    }

    /// Held reactions: id, rule, key, reason, and how many wait behind each.
    #[must_use]
    pub fn held(&self) -> Vec<(&ReactionRow, usize)> {
        let mut held: Vec<_> =
            self.live.values().filter(|live| live.row.state == State::Held).map(|l| &l.row).collect();
        held.sort_by(|a, b| a.id.cmp(&b.id));
        held.into_iter().map(|row| (row, self.lanes.behind(&row.id))).collect()
    }

    fn no_rule(&self, rule: &str) -> String {
        let names: Vec<String> = self.rules.all().iter().map(|r| format!("`{}`", r.name)).collect();
        format!("there is no rule `{rule}`; the rules are {}", names.join(", "))
    }
}

impl ReactionRow {
    fn decided(&mut self, now: Timestamp, by: &str) {
        self.updated = now;
        self.decided_by = Some(by.to_owned());
    }
}

impl State {
    /// The word people read.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Applying => "applying",
            Self::Held => "held",
            Self::Done => "done",
            Self::Planned => "planned",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }

    /// The last word of the topic that announces it; `None` = it is not announced.
    #[must_use]
    pub const fn announced(self) -> Option<&'static str> {
        match self {
            Self::Done => Some("done"),
            Self::Failed => Some("failed"),
            Self::Held => Some("held"),
            _ => None,
        }
    }
}
