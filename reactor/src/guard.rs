//! May this plan run without a person? Pure: no clock, no IO.

use handler_api::{Action, Change};

use crate::rules::site::{GuardLimits, PlannedSize};

/// What the guard says of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be applied.
    Pass,
    /// A person must look at it first.
    Hold {
        /// Which limit it is over.
        reason: String,
    },
}

/// How large a plan is.
#[must_use]
pub fn size(plan: &[Change]) -> PlannedSize {
    PlannedSize { changes: plan.len(), deletes: plan.iter().filter(|change| change.action == Action::Delete).count() }
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

/// Judges a plan. Over the limits it passes only if a person approved every change in it: approval is for what was seen,
/// so a plan that has grown since then is held again.
#[must_use]
pub fn check(plan: &[Change], limits: GuardLimits, approved: Option<&[Change]>) -> Verdict {
    let by_size = check_size(size(plan), limits);
    let Some(seen) = approved else { return by_size };
    let news = plan.iter().filter(|change| !seen.iter().any(|s| s.same_as(change) && s.after == change.after)).count();
    match by_size {
        Verdict::Hold { reason } if news > 0 => {
            Verdict::Hold { reason: format!("{reason}; {news} of them are not in the plan that was approved") }
        }
        _ => Verdict::Pass,
    }
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
    fn approval_is_for_what_was_seen_and_for_no_more() {
        let seen = plan(5, 0);
        assert_eq!(check(&plan(5, 0), LIMITS, Some(&seen)), Verdict::Pass);
        let Verdict::Hold { reason } = check(&plan(7, 0), LIMITS, Some(&seen)) else { panic!("passed") };
        assert!(reason.contains("2 of them are not in the plan that was approved"), "{reason}");
        let mut other = plan(5, 0);
        other[0].after = Some(json!("something else"));
        assert!(matches!(check(&other, LIMITS, Some(&seen)), Verdict::Hold { .. }));
    }
}
