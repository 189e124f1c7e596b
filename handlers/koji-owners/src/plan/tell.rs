//! Steps as changes, which people read, the guard counts, and apply gets back; and changes as steps. Pure.

use std::collections::BTreeMap;

use handler_api::{Action, Change, Failure};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::Step;
use crate::hub::{What, Write};
use crate::names::{PackageName, TagName, UserName};

/// Most changes in one plan that are told one by one; of more, those of one kind in one tag are one line.
pub const PLAN_CHANGES_MAX: usize = 2_000;
/// Most bytes of one plan's changes, as JSON; over it they are told together, as with too many. They come back to apply on one
/// stdin, beside the messages.
pub const PLAN_BYTES_MAX: usize = 640 * 1024;
/// Examples where changes are told together.
const EXAMPLES_SHOWN: usize = 3;
/// The word of a change that stands for many, with the SHA-256 of what they say.
const SUM: &str = "sha256";

/// A change, and the steps that it stands for: one, or those of one kind in one tag.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// As it is told.
    pub change: Change,
    /// In the order in which they are written.
    pub steps: Vec<Step>,
}

/// One change a step; if they are too many for a plan, one a kind and tag, with their number in `count`.
#[must_use]
pub fn lines(steps: Vec<Step>) -> Vec<Line> {
    if steps.len() <= PLAN_CHANGES_MAX {
        let lines: Vec<Line> =
            steps.into_iter().map(|step| Line { change: change(&step), steps: vec![step] }).collect();
        let bytes: usize = lines.iter().map(|line| json(&line.change).len() + 1).sum();
        if bytes <= PLAN_BYTES_MAX {
            return lines;
        }
        return sums(lines.into_iter().flat_map(|line| line.steps));
    }
    sums(steps)
}

/// Whether these changes stand for more than they say, so that what they stand for must be looked up again.
#[must_use]
pub fn are_sums(changes: &[Change]) -> bool {
    changes.iter().any(|change| change.more.contains_key(SUM))
}

/// The step that a change stands for.
///
/// # Errors
/// Permanent: it is none of ours.
pub fn step(change: &Change) -> Result<Step, Failure> {
    let wrong = |why: &str| {
        let target = handler_api::words::quoted(&change.target);
        Failure::permanent(format!("the change {target} is not one that koji-owners plans: {why}"))
            .hinting("reactor retry ID plans it again")
    };
    let text = |word: &str| change.more.get(word).and_then(Value::as_str);
    let need = |word: &'static str| text(word).ok_or_else(|| wrong(&format!("it has no `{word}`")));
    let owner = || need("owner").and_then(|name| UserName::parse(name).map_err(|why| wrong(&why)));
    let what = match need("what")? {
        "add" => What::Add { owner: owner()?, extra_arches: text("extra_arches").map(str::to_owned) },
        "owner" => What::SetOwner(owner()?),
        "block" => What::Block,
        "unblock" => What::Unblock,
        _ => return Err(wrong("its `what` is unknown")),
    };
    let write = Write {
        tag: TagName::parse(need("tag")?).map_err(|why| wrong(&why))?,
        package: PackageName::parse(need("package")?).map_err(|why| wrong(&why))?,
        what,
    };
    Ok(Step { write, was: text("was").map(str::to_owned), hold: change.hold.clone() })
}

/// How a step is told.
fn change(step: &Step) -> Change {
    let Write { tag, package, what } = &step.write;
    let was = || Some(step.was.clone().unwrap_or_default());
    let (action, target, before, after) = match what {
        What::Add { owner, extra_arches } => {
            let arches = extra_arches.as_ref().map(|arches| format!(", also on {arches}")).unwrap_or_default();
            (Action::Create, format!("{tag}: package {package}"), None, format!("{owner}{arches}"))
        }
        What::SetOwner(owner) => (Action::Update, format!("{tag}: owner of {package}"), was(), owner.to_string()),
        What::Block => (Action::Delete, format!("{tag}: package {package}"), was(), "blocked".to_owned()),
        What::Unblock => {
            let after = step.was.clone().unwrap_or_default();
            (Action::Update, format!("{tag}: package {package}"), Some("blocked".to_owned()), after)
        }
    };
    let mut more = Map::new();
    let mut put = |word: &str, text: &str| drop(more.insert(word.to_owned(), text.into()));
    put("tag", tag.as_str());
    put("package", package.as_str());
    put("what", word(what));
    if let Some(was) = &step.was {
        put("was", was);
    }
    if let What::Add { owner, .. } | What::SetOwner(owner) = what {
        put("owner", owner.as_str());
    }
    if let What::Add { extra_arches: Some(arches), .. } = what {
        put("extra_arches", arches);
    }
    let (before, after) = (before.map(Value::from), Some(after.into()));
    Change { action, target, before, after, secret: false, hold: step.hold.clone(), count: None, more }
}

/// The word of a step in a change.
const fn word(what: &What) -> &'static str {
    match what {
        What::Add { .. } => "add",
        What::SetOwner(_) => "owner",
        What::Block => "block",
        What::Unblock => "unblock",
    }
}

/// In the order in which they are written: a package must be unblocked before it gets another owner.
fn rank(what: &What) -> usize {
    match what {
        What::Add { .. } => 0,
        What::Unblock => 1,
        What::SetOwner(_) => 2,
        What::Block => 3,
    }
}

fn sums(steps: impl IntoIterator<Item = Step>) -> Vec<Line> {
    let mut together: BTreeMap<(TagName, usize), Vec<Step>> = BTreeMap::new();
    for step in steps {
        together.entry((step.write.tag.clone(), rank(&step.write.what))).or_default().push(step);
    }
    together.into_values().filter_map(|steps| Some(Line { change: sum(&steps)?, steps })).collect()
}

/// How steps of one kind in one tag are told as one; one alone as it is.
fn sum(steps: &[Step]) -> Option<Change> {
    let first = steps.first()?;
    let mut told = change(first);
    if steps.len() == 1 {
        return Some(told);
    }
    let mut digest = Sha256::new();
    for step in steps {
        digest.update(json(&change(step)));
        digest.update(b"\n");
    }
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let examples = steps.iter().take(EXAMPLES_SHOWN).map(|step| example(&change(step))).collect::<Vec<_>>().join(", ");
    let tag = &first.write.tag;
    told.target = match first.write.what {
        What::Add { .. } => format!("{tag}: new packages"),
        What::SetOwner(_) => format!("{tag}: owners of packages"),
        What::Block => format!("{tag}: packages to block"),
        What::Unblock => format!("{tag}: packages to unblock"),
    };
    told.before = None;
    told.after = Some(format!("{examples}, … (sha256 {digest})").into());
    told.count = Some(steps.len() as u64);
    let holds = steps.iter().filter(|step| step.hold.is_some()).count();
    told.hold = steps.iter().find_map(|step| step.hold.clone());
    if let Some(why) = told.hold.as_mut().filter(|_| holds > 1) {
        why.push_str(&format!("; and {} more", holds - 1));
    }
    told.more = Map::from_iter([
        ("tag".to_owned(), tag.as_str().into()),
        ("what".to_owned(), word(&first.write.what).into()),
        (SUM.to_owned(), digest.into()),
    ]);
    Some(told)
}

/// `bash: alice → bob`
fn example(change: &Change) -> String {
    let text = |value: &Option<Value>| value.as_ref().and_then(Value::as_str).map(str::to_owned);
    let package = change.more.get("package").and_then(Value::as_str).unwrap_or_default();
    match (text(&change.before), text(&change.after)) {
        (Some(before), Some(after)) => format!("{package}: {before} → {after}"),
        (_, after) => format!("{package}: {}", after.unwrap_or_default()),
    }
}

fn json(change: &Change) -> Vec<u8> {
    // A change is always JSON.
    serde_json::to_vec(change).unwrap_or_default()
}
