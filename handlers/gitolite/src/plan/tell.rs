//! What is told of a plan: what waits for a person, and how it is put together if it is much.

use std::collections::{BTreeMap, BTreeSet};

use handler_api::{Action, Change};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{PLAN_BYTES_MAX, PLAN_CHANGES_MAX};
use crate::files::{self, Branch, Edits, Place};
use crate::names::{GroupName, RepoName, UserName};

/// Longest text of a file that a change shows, in bytes; the rest is counted, and a SHA-256 stands for it.
pub(super) const SHOWN_BYTES_MAX: usize = 2_000;
/// Longest target, in bytes. Names are shorter; only what was written by hand can be longer.
const TARGET_BYTES_MAX: usize = 600;

/// What a change is about. Changes about the same are told as one where there are many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    /// The rules of a repository.
    Rules(RepoName),
    /// The lists of a repository.
    Lists(RepoName),
    /// A group.
    Group(GroupName),
    /// The keys of a user.
    Keys(UserName),
    /// A file of ours that is none: somebody put it there.
    Stray,
    /// Something that is one change in any case.
    Single(String),
}

impl Of {
    /// How all of it is called, as a target.
    fn words(&self, n: usize) -> String {
        match self {
            Self::Rules(repo) => format!("{repo}: {n} rules"),
            Self::Lists(repo) => format!("{repo}: {n} people"),
            Self::Group(group) => format!("group {group}: {n} members"),
            Self::Keys(user) => format!("keys of {user}: {n}"),
            Self::Stray => format!("{n} files that are not of reactor's making"),
            Self::Single(target) => target.clone(),
        }
    }

    /// Its shard, as a target is called.
    fn shard(&self) -> String {
        let first = |name: &str| name.chars().take(1).collect::<String>();
        match self {
            Self::Rules(repo) => format!("repositories {}", files::repo_shard(repo)),
            Self::Lists(repo) => format!("lists of repositories {}", files::repo_shard(repo)),
            Self::Group(group) => format!("groups {}…", first(group.as_str())),
            Self::Keys(user) => format!("keys of users {}…", first(user.as_str())),
            Self::Stray => "files that are not of reactor's making".to_owned(),
            Self::Single(target) => target.clone(),
        }
    }

    /// What an edit belongs to; `None` for the index, which follows the others.
    fn edit(branch: Branch, path: &str) -> Option<Self> {
        match Place::at(branch, path) {
            None => Some(Self::Stray),
            Some(Place::Rules(repo)) => Some(Self::Rules(repo)),
            Some(Place::Lists(repo)) => Some(Self::Lists(repo)),
            Some(Place::Group(group) | Place::ConfGroup(group)) => Some(Self::Group(group)),
            Some(Place::People(user) | Place::KeyFile(user, _)) => Some(Self::Keys(user)),
            Some(Place::In(_) | Place::KeyIndex(_)) => None,
        }
    }
}

/// A change, and what it is about.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub of: Of,
    pub change: Change,
}

/// A change.
pub(super) fn change(action: Action, target: String, before: Option<Value>, after: Option<Value>) -> Change {
    let target = cut(&target, TARGET_BYTES_MAX);
    Change { action, target, before, after, secret: false, hold: None, count: None, more: Map::new() }
}

/// The same change, which waits for a person if there is a reason.
pub(super) fn held(mut change: Change, why: Option<String>) -> Change {
    change.hold = why;
    change
}

/// A file's text for people, bounded; if it is cut, its SHA-256 shows a difference in what is not shown.
pub(super) fn shown(bytes: &[u8]) -> Value {
    cut(&String::from_utf8_lossy(bytes), SHOWN_BYTES_MAX).into()
}

fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}… ({} bytes, sha256 {})", &text[..end], text.len(), hex(&Sha256::digest(text.as_bytes())))
}

/// What stands for the content of these edits: the same approval holds for the same content only.
pub(super) fn digest<'a>(edits: impl IntoIterator<Item = (&'a String, &'a Option<Vec<u8>>)>) -> String {
    let mut sum = Sha256::new();
    for (path, bytes) in edits {
        add(&mut sum, path, bytes.as_deref());
    }
    hex(&sum.finalize())
}

fn add(sum: &mut Sha256, path: &str, bytes: Option<&[u8]>) {
    sum.update(path.as_bytes());
    // Neither byte is in a path, and the length parts one file from the next.
    sum.update(if bytes.is_some() { b"\n" } else { b"\0" });
    let bytes = bytes.unwrap_or_default();
    sum.update((bytes.len() as u64).to_be_bytes());
    sum.update(bytes);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What each change is about. Not the index: it follows the others.
pub(super) fn subjects(tellings: &[Told]) -> BTreeSet<String> {
    let apart = tellings.iter().filter(|told| !matches!(told.of, Of::Single(_)));
    apart.map(|told| told.change.target.clone()).collect()
}

/// The changes one by one; if they are too many for a plan, those about the same as one; if still, those of a shard.
pub(super) fn in_bounds(tellings: Vec<Told>, edits: &Edits) -> Vec<Change> {
    if fits(tellings.iter().map(|told| &told.change)) {
        return tellings.into_iter().map(|told| told.change).collect();
    }
    let mut together: BTreeMap<Of, Sum> = BTreeMap::new();
    for Told { of, change } in tellings {
        together.entry(of).or_default().add(change);
    }
    for ((branch, path), bytes) in edits {
        let sum = Of::edit(*branch, path).and_then(|of| together.get_mut(&of));
        if let Some(sum) = sum {
            add(&mut sum.content, path, bytes.as_deref());
        }
    }
    let files: Vec<(Of, Change)> = together
        .into_iter()
        .map(|(of, sum)| {
            let words = of.words(sum.n);
            (of, sum.change(words))
        })
        .collect();
    if fits(files.iter().map(|(_, change)| change)) {
        return files.into_iter().map(|(_, change)| change).collect();
    }
    let mut shards: BTreeMap<String, Sum> = BTreeMap::new();
    for (of, change) in files {
        let sum = shards.entry(of.shard()).or_default();
        // What a file's change stands for is its content: so does the shard's.
        sum.content.update(serde_json::to_vec(&change).unwrap_or_default());
        sum.add(change);
    }
    shards
        .into_iter()
        .map(|(shard, sum)| (format!("{shard}: {} files", sum.n), sum))
        .map(|(t, s)| s.change(t))
        .collect()
}

fn fits<'a>(changes: impl ExactSizeIterator<Item = &'a Change>) -> bool {
    if changes.len() > PLAN_CHANGES_MAX {
        return false;
    }
    let bytes: usize = changes.map(|change| serde_json::to_string(change).map_or(0, |text| text.len() + 1)).sum();
    bytes <= PLAN_BYTES_MAX
}

/// Changes that are told as one.
#[derive(Default)]
struct Sum {
    n: usize,
    actions: BTreeMap<Action, usize>,
    holds: usize,
    hold: Option<String>,
    first: Option<Change>,
    content: Sha256,
}

impl Sum {
    fn add(&mut self, change: Change) {
        self.n += 1;
        *self.actions.entry(change.action).or_default() += 1;
        if let Some(why) = &change.hold.as_deref() {
            self.holds += 1;
            if self.hold.is_none() {
                self.hold = Some(format!("{}: {why}", change.target));
            }
        }
        self.first.get_or_insert(change);
    }

    fn change(self, target: String) -> Change {
        // One alone is told as it is.
        let first = match (self.n, self.first) {
            (1, Some(first)) => return first,
            (_, first) => first,
        };
        let action = match (self.actions.contains_key(&Action::Delete), self.actions.len(), first) {
            (true, ..) => Action::Delete,
            (false, 1, Some(first)) => first.action,
            _ => Action::Update,
        };
        let count = |action| self.actions.get(&action).copied().unwrap_or_default();
        let (come, other, go) = (count(Action::Create), count(Action::Update), count(Action::Delete));
        let sha256 = hex(&self.content.finalize());
        let after = format!("{come} come, {other} change, {go} go: sha256 {sha256}");
        let mut change = change(action, target, None, Some(after.into()));
        change.more.insert("sha256".to_owned(), sha256.into());
        let why = match (self.hold, self.holds) {
            // The rule's guard counts this as one.
            (None, _) => format!("{} changes told as one, so that no guard can count them", self.n),
            (Some(why), 1) => why,
            (Some(why), more) => format!("{why}; and {} more", more - 1),
        };
        held(change, Some(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_and_still_tells_a_difference_in_what_is_not_shown() {
        let text = |end: &str| shown(format!("{}{end}", "ä".repeat(5_000)).as_bytes());
        assert_ne!(text("a"), text("b"));
        assert!(text("a").as_str().is_some_and(|text| text.len() < SHOWN_BYTES_MAX + 200));
    }

    #[test]
    fn a_digest_knows_no_file_from_an_empty_one() {
        let path = "groups/a".to_owned();
        assert_ne!(digest([(&path, &None)]), digest([(&path, &Some(Vec::new()))]));
    }
}
