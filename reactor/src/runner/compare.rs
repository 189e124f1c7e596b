//! What was planned against what was done. No IO.

use std::collections::BTreeMap;

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

/// Compares by action and target; each as often as it occurs. A planned `run` that is not done, but left for later, is
/// accounted for.
pub(super) fn compare(planned: &[Change], done: &[Change], later: &[Later]) -> Difference {
    let mut balance: BTreeMap<(Action, &str), i64> = BTreeMap::new();
    for change in planned {
        *balance.entry((change.action, &change.target)).or_default() += 1;
    }
    for change in done {
        *balance.entry((change.action, &change.target)).or_default() -= 1;
    }
    for target in later.iter().filter_map(|later| later.target.as_deref()) {
        if let Some(undone @ 1..) = balance.get_mut(&(Action::Run, target)) {
            *undone -= 1;
        }
    }
    let pick = |sign: i64| {
        let picked = balance.iter().filter(move |(_, balance)| **balance * sign > 0);
        picked.map(|((action, target), _)| format!("{} {}", word(*action), super::hearing::clean(target))).collect()
    };
    Difference { undone: pick(1), unplanned: pick(-1) }
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
    fn a_run_that_is_left_for_later_is_accounted_for_and_nothing_else_is() {
        let run = |target: &str| serde_json::from_value(json!({"action": "run", "target": target})).unwrap();
        let later =
            |target: &str| serde_json::from_value(json!({"key": "k", "why": "down", "target": target})).unwrap();
        let planned: Vec<Change> = vec![run("h1"), run("h7"), run("h8"), changes(&["x"]).remove(0)];
        let difference = compare(&planned, &[run("h1")], &[later("h7"), later("h1"), later("x"), later("other")]);
        assert_eq!(difference.undone, ["delete x", "run h8"]);
        assert!(difference.unplanned.is_empty(), "{difference:?}");
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let many: Vec<String> = (0..7).map(|n| n.to_string()).collect();
        assert_eq!(list(&many), "0, 1, 2, 3, 4 and 2 more");
    }
}
