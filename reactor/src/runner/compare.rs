//! What was planned against what was done. No IO.

use std::collections::{BTreeMap, HashSet};

use handler_api::{Action, Change, Later};

/// How many are named; the rest is counted.
const NAMED_MAX: usize = 5;

/// The two differences between a plan and an apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Planned, not done.
    pub undone: Vec<String>,
    /// Done, not planned.
    pub unplanned: Vec<String>,
}

/// Compares by action and target; each as often as it occurs. What was not done, but left for later, is accounted for: all
/// changes to that target, and those whose target begins with it, a colon and a space.
pub(super) fn compare(planned: &[Change], done: &[Change], later: &[Later]) -> Difference {
    let mut balance: BTreeMap<(Action, &str), i64> = BTreeMap::new();
    for change in planned {
        *balance.entry((change.action, &change.target)).or_default() += 1;
    }
    for change in done {
        *balance.entry((change.action, &change.target)).or_default() -= 1;
    }
    let targets: HashSet<&str> = later.iter().filter_map(|later| later.target.as_deref()).collect();
    let is_left = |target: &str| {
        targets.contains(target) || target.match_indices(": ").any(|(at, _)| targets.contains(&target[..at]))
    };
    let pick = |sign: i64| {
        let picked = balance.iter().filter(move |(_, balance)| **balance * sign > 0).map(|(change, _)| *change);
        picked.filter(|(_, target)| sign < 0 || !is_left(target)).map(named).collect()
    };
    Difference { undone: pick(1), unplanned: pick(-1) }
}

fn named((action, target): (Action, &str)) -> String {
    format!("{} {}", word(action), super::hearing::clean(target))
}

/// The first few, and how many more.
pub(super) fn list(changes: &[String]) -> String {
    let shown = changes.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match changes.len().saturating_sub(NAMED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The action as in the protocol.
pub(super) const fn word(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Delete => "delete",
        Action::Run => "run",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn changes(targets: &[&str]) -> Vec<Change> {
        targets.iter().map(|t| serde_json::from_value(json!({"action": "delete", "target": t})).unwrap()).collect()
    }

    #[test]
    fn the_order_does_not_matter_but_the_number_does() {
        assert_eq!(compare(&changes(&["a", "b"]), &changes(&["b", "a"]), &[]), Difference::default());
        let difference = compare(&changes(&["a", "b"]), &changes(&["b", "c", "b"]), &[]);
        assert_eq!(difference.undone, ["delete a"]);
        assert_eq!(difference.unplanned, ["delete b", "delete c"]);
    }

    #[test]
    fn what_is_left_for_later_is_accounted_for_by_its_target_and_what_is_below_it() {
        let later =
            |target: &str| serde_json::from_value(json!({"key": "k", "why": "down", "target": target})).unwrap();
        let planned = changes(&["h1", "h7", "h7: ralph: key 1", "h7: toshio", "h70", "h70: ralph", "h8: h7"]);
        let difference = compare(&planned, &changes(&["h1", "h7"]), &[later("h7"), later("other")]);
        assert_eq!(difference.undone, ["delete h70", "delete h70: ralph", "delete h8: h7"]);
        let difference = compare(&planned[..1], &changes(&["h1", "h7"]), &[later("h7")]);
        assert_eq!(difference.unplanned, ["delete h7"], "what was done unplanned is never accounted for");
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let many: Vec<String> = (0..7).map(|n| n.to_string()).collect();
        assert_eq!(list(&many), "0, 1, 2, 3, 4 and 2 more");
    }
}
