//! Reconciles: when the time of a rule with `every` has come, or when a person asks for one. Part of the core: pure.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Core, Entry, Live, On, ReactionId, Rule, Timestamp, Turn, later};
use crate::journal::nodes::What;
use crate::rules::site::handler_named;

/// A reconcile that a person asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciling {
    /// The reaction that it is.
    pub id: ReactionId,
    /// Its rule.
    pub rule: String,
    /// How it stands, as the end of a sentence that begins with its id.
    pub said: String,
    /// How long its plan may take, and once more its apply, in seconds.
    pub timeout_seconds: u64,
}

/// What to write into a site that has no rule to reconcile this handler.
#[must_use]
pub fn every_rule_for(handler: &str) -> String {
    format!(
        "add to `rules:`\n  - name: {handler} as they should be\n    on: {{ every: 6h }}\n    do: {handler}\n    \
         guard: {{ changes: 50, deletes: 5 }}"
    )
}

impl Core {
    /// Makes the reconciles whose time has come.
    pub(super) fn reconcile(&mut self, now: Timestamp, turn: &mut Turn) {
        let is_due =
            |core: &Self, name: &Arc<str>, every| core.every.get(name).is_none_or(|last| later(*last, every) <= now);
        let ours = self.reconciles.iter().filter(|(rule, _)| self.elsewhere(&rule.name).is_none());
        let due = ours.filter(|(rule, every)| is_due(self, &rule.name, *every));
        for rule in due.map(|(rule, _)| rule.clone()).collect::<Vec<_>>() {
            self.due_now(now, &rule, turn);
        }
    }

    /// A reconcile, unless one of this rule is not over yet; from now on its time runs anew.
    fn due_now(&mut self, now: Timestamp, rule: &Rule, turn: &mut Turn) {
        self.every.insert(rule.name.clone(), now);
        turn.entries.push(Entry::Setting { name: format!("every/{}", rule.name), value: Some(now.to_string()) });
        if self.reconcile_of(rule).is_none() {
            self.offer(now, rule, rule.name.to_string(), None, turn);
        }
    }

    /// The reconcile of this rule that is not over. What an apply left for later goes on in its own lanes: it is none.
    fn reconcile_of(&self, rule: &Rule) -> Option<ReactionId> {
        let is_it = |live: &&Live| *live.row.rule == *rule.name && live.row.part.is_none();
        self.live.values().find(is_it).map(|live| live.row.id.clone())
    }

    /// Makes the `every` rules of a handler due now, whatever their time. A reconcile that waits already is tried now; one
    /// that runs or is held stays as it is.
    ///
    /// # Errors
    /// When there is no such handler or no such rule, and what to write then.
    pub fn reconcile_now(
        &mut self,
        now: Timestamp,
        handler: &str,
        by: &str,
        turn: &mut Turn,
    ) -> Result<Vec<Reconciling>, String> {
        if self.draining {
            return Err("the daemon is stopping".to_owned());
        }
        let handler = handler_named(self.handlers.values().map(|handler| &**handler), handler)?.name.clone();
        let is_its = |rule: &&Arc<Rule>| rule.handler == handler && matches!(rule.on, On::Every(_));
        let rules: Vec<Arc<Rule>> = self.rules.all().iter().filter(is_its).cloned().collect();
        if rules.is_empty() {
            let hint = every_rule_for(&handler);
            return Err(format!("no rule with `every:` has `do: {handler}`, so nothing reconciles it\nhint: {hint}"));
        }
        let mut begun = Vec::new();
        for rule in &rules {
            match self.elsewhere(&rule.name) {
                None => begun.extend(self.reconcile_rule(now, rule, by, turn)),
                Some(slot) => {
                    let (rule, by) = (rule.name.to_string(), by.to_owned());
                    turn.entries.push(Entry::Hand(slot, What::Due { rule, by }));
                }
            }
        }
        if begun.is_empty() {
            return Err(
                "another node serves it, and was told to begin now; see what comes of it: reactor list".to_owned()
            );
        }
        Ok(begun)
    }

    pub(super) fn reconcile_rule(
        &mut self,
        now: Timestamp,
        rule: &Rule,
        by: &str,
        turn: &mut Turn,
    ) -> Option<Reconciling> {
        let said = match self.reconcile_of(rule) {
            Some(id) if self.lanes.is_running(&id) => "runs already".to_owned(),
            Some(id) => match self.hurry(now, &id, by, turn) {
                Ok(_) => "waited already, it is tried now".to_owned(),
                Err(_) => "is held already".to_owned(),
            },
            None => {
                self.due_now(now, rule, turn);
                let id = self.reconcile_of(rule)?;
                turn.story(&id, now, "asked", &format!("for by {by}"));
                "begins".to_owned()
            }
        };
        let paused = self.paused.contains_key(&rule.name);
        let said = if paused { format!("waits, its rule is paused: reactor resume '{}'", rule.name) } else { said };
        let id = self.reconcile_of(rule)?;
        Some(Reconciling { id, rule: rule.name.to_string(), said, timeout_seconds: rule.timeout.as_secs() })
    }
}
