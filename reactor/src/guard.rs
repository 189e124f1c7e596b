//! May this plan run without a person? Pure: no clock, no IO.

use handler_api::line::cut;
use handler_api::{Action, Change};

use crate::rules::site::{GuardLimits, PlannedSize};

/// Longest target in the reason why a plan is held, in bytes; the rest is cut off.
pub const REASON_TARGET_BYTES_MAX: usize = 200;

/// What the guard says of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be applied.
    Pass,
    /// A person must look at it first.
    Hold {
        /// Which change the handler holds, which limit it is over.
        reason: String,
    },
}

/// How large a plan is.
#[must_use]
pub fn size(plan: &[Change]) -> PlannedSize {
    let sum = |changes: &mut dyn Iterator<Item = &Change>| changes.map(stands_for).fold(0, usize::saturating_add);
    PlannedSize {
        changes: sum(&mut plan.iter()),
        deletes: sum(&mut plan.iter().filter(|change| change.action == Action::Delete)),
    }
}

/// How many differences one line says. None at all is still a line.
fn stands_for(change: &Change) -> usize {
    usize::try_from(change.count.unwrap_or(1)).unwrap_or(usize::MAX).max(1)
}

/// Judges a plan by its size alone.
#[must_use]
pub fn check_size(size: PlannedSize, limits: GuardLimits) -> Verdict {
    let over = |what: &str, n: usize, most: usize| {
        let s = if n == 1 { "" } else { "s" };
        format!("{n} {what}{s} planned, at most {most} may run without a person")
    };
    if size.deletes > limits.deletes {
        return Verdict::Hold { reason: over("delete", size.deletes, limits.deletes) };
    }
    if size.changes > limits.changes {
        return Verdict::Hold { reason: over("change", size.changes, limits.changes) };
    }
    Verdict::Pass
}

/// Judges a plan. What the handler itself holds waits for a person, whatever the limits are. Held or over the limits it
/// passes only if a person approved it: approval is for what was seen, so a plan that has grown since then is held again.
#[must_use]
pub fn check(plan: &[Change], limits: GuardLimits, approved: Option<&[Change]>) -> Verdict {
    let is_new = |change: &&Change| !approved.is_some_and(|seen| seen.iter().any(|s| shows(s, change)));
    let mut reasons: Vec<String> = Vec::new();
    let held: Vec<&Change> = plan.iter().filter(|change| change.hold.is_some()).filter(is_new).collect();
    if let Some(reason) = held_by_handler(&held) {
        let since = if approved.is_some() { "; not in the plan that was approved" } else { "" };
        reasons.push(format!("{reason}{since}"));
    }
    if let Verdict::Hold { reason } = check_size(size(plan), limits) {
        match approved.map(|_| plan.iter().filter(is_new).map(stands_for).fold(0, usize::saturating_add)) {
            None => reasons.push(reason),
            Some(0) => {}
            Some(news) => reasons.push(format!("{reason}; {news} of them are not in the plan that was approved")),
        }
    }
    if reasons.is_empty() { Verdict::Pass } else { Verdict::Hold { reason: reasons.join("; ") } }
}

/// Whether whoever saw the change `seen` knows what `change` does, and why it was held, if it is.
fn shows(seen: &Change, change: &Change) -> bool {
    let same_size = stands_for(seen) == stands_for(change);
    seen.same_as(change)
        && seen.after == change.after
        && same_size
        && (change.hold.is_none() || seen.hold == change.hold)
}

/// Target and why of the first, and how many more there are.
fn held_by_handler(held: &[&Change]) -> Option<String> {
    let first = held.first()?;
    let (target, why) = (cut(&first.target, REASON_TARGET_BYTES_MAX), first.hold.as_deref().unwrap_or_default());
    let more = if held.len() > 1 { format!("; and {} more", held.len() - 1) } else { String::new() };
    Some(format!("{target}: {why}{more}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(creates: usize, deletes: usize) -> Vec<Change> {
        let change = |action: &str, n: usize| {
            serde_json::from_value(json!({"action": action, "target": format!("{action} {n}"), "after": n}))
                .expect("a change")
        };
        (0..creates).map(|n| change("create", n)).chain((0..deletes).map(|n| change("delete", n))).collect()
    }

    const LIMITS: GuardLimits = GuardLimits { changes: 4, deletes: 2 };

    #[test]
    fn a_plan_within_its_limits_passes() {
        assert_eq!(check(&plan(2, 2), LIMITS, None), Verdict::Pass);
        assert_eq!(check(&[], GuardLimits { changes: 0, deletes: 0 }, None), Verdict::Pass);
    }

    #[test]
    fn too_many_changes_or_deletes_wait_for_a_person() {
        let Verdict::Hold { reason } = check(&plan(5, 0), LIMITS, None) else { panic!("passed") };
        assert_eq!(reason, "5 changes planned, at most 4 may run without a person");
        let Verdict::Hold { reason } = check(&plan(0, 3), LIMITS, None) else { panic!("passed") };
        assert_eq!(reason, "3 deletes planned, at most 2 may run without a person");
    }

    #[test]
    fn a_line_that_stands_for_many_counts_as_many() {
        let mut one = plan(0, 1);
        one[0].count = Some(138);
        let why = "138 deletes planned, at most 2 may run without a person";
        assert_eq!(check(&one, LIMITS, None), Verdict::Hold { reason: why.into() });
        let mut more = one.clone();
        more[0].count = Some(139);
        assert!(matches!(check(&more, LIMITS, Some(&one)), Verdict::Hold { .. }), "139 were never seen");
        assert_eq!(check(&one, LIMITS, Some(&one)), Verdict::Pass);
        one[0].count = Some(0);
        assert_eq!(size(&one), PlannedSize { changes: 1, deletes: 1 });
    }

    #[test]
    fn approval_is_for_what_was_seen_and_for_no_more() {
        let seen = plan(5, 0);
        assert_eq!(check(&plan(5, 0), LIMITS, Some(&seen)), Verdict::Pass);
        let Verdict::Hold { reason } = check(&plan(7, 0), LIMITS, Some(&seen)) else { panic!("passed") };
        assert!(reason.contains("2 of them are not in the plan that was approved"), "{reason}");
        let mut other = plan(5, 0);
        other[0].after = Some(json!("something else"));
        assert!(matches!(check(&other, LIMITS, Some(&seen)), Verdict::Hold { .. }));
    }

    fn held(target: &str, why: &str) -> Change {
        serde_json::from_value(json!({"action": "update", "target": target, "after": "@all", "hold": why}))
            .expect("a change")
    }

    fn reason(verdict: Verdict) -> String {
        let Verdict::Hold { reason } = verdict else { panic!("passed") };
        reason
    }

    const EVERYONE: &str = "everyone may write";
    const NO_LIMITS: GuardLimits = GuardLimits { changes: usize::MAX, deletes: usize::MAX };

    #[test]
    fn what_the_handler_holds_waits_for_a_person_whatever_the_limits_are() {
        let mut one = plan(2, 0);
        one.push(held("rpms/foo: RW: @all", EVERYONE));
        assert_eq!(reason(check(&one, NO_LIMITS, None)), "rpms/foo: RW: @all: everyone may write");
        let three = ["rpms/foo: RW: @all", "rpms/bar", "rpms/baz"].map(|target| held(target, EVERYONE));
        assert_eq!(reason(check(&three, NO_LIMITS, None)), "rpms/foo: RW: @all: everyone may write; and 2 more");
        let few = GuardLimits { changes: 2, deletes: 0 };
        let both = "rpms/foo: RW: @all: everyone may write; and 2 more; \
                    3 changes planned, at most 2 may run without a person";
        assert_eq!(reason(check(&three, few, None)), both);
        let long = reason(check(&[held(&"x".repeat(60_000), EVERYONE)], NO_LIMITS, None));
        assert!(long.len() < 300 && long.ends_with("…: everyone may write"), "{long}");
    }

    #[test]
    fn a_held_change_passes_when_a_person_saw_it_and_why_it_was_held() {
        let now = [held("rpms/foo", EVERYONE), held("rpms/bar", EVERYONE)];
        assert_eq!(check(&now, LIMITS, Some(&now)), Verdict::Pass);
        assert_eq!(check(&now[1..], LIMITS, Some(&now)), Verdict::Pass, "less than what was seen");
        let grown = "rpms/bar: everyone may write; not in the plan that was approved";
        assert_eq!(reason(check(&now, LIMITS, Some(&now[..1]))), grown);
        let other_why = [held("rpms/foo", "ada may not write any more")];
        assert!(reason(check(&now[..1], LIMITS, Some(&other_why))).starts_with("rpms/foo: everyone may write; not in"));
        let not_held = [Change { hold: None, ..now[0].clone() }];
        assert!(matches!(check(&now[..1], LIMITS, Some(&not_held)), Verdict::Hold { .. }));
        assert_eq!(check(&not_held, LIMITS, Some(&now)), Verdict::Pass, "it is not held any more");
    }

    #[test]
    fn approval_of_a_held_change_lets_no_other_through_that_is_over_the_limits() {
        let seen = [held("rpms/foo", EVERYONE)];
        let mut grown = plan(5, 0);
        grown.extend_from_slice(&seen);
        let why = "6 changes planned, at most 4 may run without a person; \
                   5 of them are not in the plan that was approved";
        assert_eq!(reason(check(&grown, LIMITS, Some(&seen))), why);
        let mut small = plan(1, 0);
        small.extend_from_slice(&seen);
        assert_eq!(check(&small, LIMITS, Some(&seen)), Verdict::Pass, "the rest is within the limits");
    }
}
