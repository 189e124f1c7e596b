//! The gaps of one bus that stay open: what `status` tells, after a restart too. Pure.
//!
//! Each is a setting of the journal, by the time it begins, so that nodes that share a journal do not write over each other's.
//! One is closed, whole or from an end, by what is recovered; a gap that nobody can close is told for
//! [`GAP_TOLD_DAYS`] days. The log and `reactor.bus.gap` have it longer.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::heard::Gap;
use crate::bus::catch_up::Window;
use crate::journal::Entry;

/// What the names of the settings begin with that hold gaps; the bus, `/` and the beginning in microseconds follow.
pub const GAP_PREFIX: &str = "gap/";
/// Most open gaps of a bus; over it the two oldest become one.
pub const GAPS_MAX: usize = 16;
/// How long a gap is told that nobody closes, in days.
pub const GAP_TOLD_DAYS: i64 = 7;
/// Longest reason that is kept of a gap, in characters.
pub const REASON_CHARS_MAX: usize = 500;

/// One that is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    told: Timestamp,
    gap: Gap,
}

/// All of one bus.
#[derive(Debug, Default)]
pub struct Gaps {
    /// By their beginning.
    open: Vec<Open>,
    /// The settings as the journal has them, or will have them with the next entries.
    written: BTreeMap<String, String>,
    /// Whether the two may differ: each turn of the engine asks.
    is_changed: bool,
}

impl Gaps {
    /// Those that the journal has: names and values of settings. What is no gap is taken out of it.
    #[must_use]
    pub fn of(settings: impl Iterator<Item = (String, String)>) -> Self {
        let written: BTreeMap<String, String> = settings.collect();
        let mut open: Vec<Open> = written.values().filter_map(|text| serde_json::from_str(text).ok()).collect();
        open.sort_by_key(|one| one.gap.from);
        Self { open, written, is_changed: true }
    }

    /// One more.
    pub fn add(&mut self, now: Timestamp, gap: &Gap) {
        self.is_changed = true;
        let mut new = Open { told: now, gap: gap.clone() };
        new.gap.lacking = new.gap.lacking.map(|text| text.chars().take(REASON_CHARS_MAX).collect());
        // What overlaps is one.
        for other in self.open.extract_if(.., |one| one.gap.from <= gap.to && gap.from <= one.gap.to) {
            new.join(&other);
        }
        let at = self.open.partition_point(|one| one.gap.from < new.gap.from);
        self.open.insert(at, new);
        if self.open.len() > GAPS_MAX {
            let oldest = self.open.remove(0);
            self.open[0].join(&oldest);
        }
    }

    /// All of this was recovered.
    pub fn close(&mut self, Window { from, to }: Window) {
        self.is_changed = true;
        self.open.retain_mut(|Open { gap, .. }| {
            let (begins, ends) = (from <= gap.from, to >= gap.to);
            if begins && to > gap.from {
                gap.from = to.min(gap.to);
            }
            if ends && from < gap.to {
                gap.to = from.max(gap.from);
            }
            !(begins && ends)
        });
    }

    /// Those that are told, the oldest first.
    #[must_use]
    pub fn told(&self, now: Timestamp) -> Value {
        let told = self.open.iter().filter(|one| one.is_told(now)).map(|Open { gap, .. }| {
            let mut told = json!(gap);
            told["command"] = gap.command().into();
            told
        });
        told.collect()
    }

    /// What is to be written so that the journal has it.
    pub fn entries(&mut self, bus: &str, now: Timestamp) -> Vec<Entry> {
        let before = self.open.len();
        self.open.retain(|one| one.is_told(now));
        if !std::mem::take(&mut self.is_changed) && self.open.len() == before {
            return Vec::new();
        }
        let name = |one: &Open| format!("{GAP_PREFIX}{bus}/{}", one.gap.from.as_microsecond());
        let wanted: BTreeMap<String, String> =
            self.open.iter().map(|one| (name(one), json!(one).to_string())).collect();
        let gone = self.written.keys().filter(|name| !wanted.contains_key(*name)).map(|name| (name.clone(), None));
        let new = wanted.iter().filter(|(name, value)| self.written.get(*name) != Some(*value));
        let changes: Vec<_> = gone.chain(new.map(|(name, value)| (name.clone(), Some(value.clone())))).collect();
        self.written = wanted;
        changes.into_iter().map(|(name, value)| Entry::Setting { name, value }).collect()
    }
}

impl Open {
    fn is_told(&self, now: Timestamp) -> bool {
        now.duration_since(self.told) < SignedDuration::from_hours(24 * GAP_TOLD_DAYS)
    }

    /// Takes another one in: the times of both; why is said of this one.
    fn join(&mut self, other: &Self) {
        self.gap.from = self.gap.from.min(other.gap.from);
        self.gap.to = self.gap.to.max(other.gap.to);
        self.told = self.told.max(other.told);
    }
}

#[cfg(test)]
#[path = "gaps_tests.rs"]
mod tests;
