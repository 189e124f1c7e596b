//! What must stand in our files, what differs from what stands there, and what of it waits for a person. Pure.
//!
//! * [`rules`]: the rules of a repository, compared rule by rule
//! * [`people`]: groups, lists and keys, compared name by name
//! * [`hand`]: what people wrote themselves, where a name of the truth would mean the same
//! * [`index`]: the index of the branch `members` follows groups, lists and keys: an edit of one of these edits the index
//!   of exactly those who come or go
//! * [`sweep`]: all of the site: what else stands in our files
//! * [`tell`]: what of it waits for a person, and how it is told if it is much

mod hand;
mod index;
mod people;
mod rules;
mod sweep;
mod tell;

use std::collections::{BTreeMap, BTreeSet};

use accounts::keys::Key;
use handler_api::notes::few;
use handler_api::{Change, Failure};

use crate::files::{Branch, Edits};
use crate::layout::{Membership, Rendered};
use crate::names::{GroupName, RepoName, UserName};

use self::hand::ByHand;
use self::index::Index;
use self::tell::{Of, Told};

/// Most changes in one plan that are told one by one; of more, each file is told as one, of still more each shard.
pub const PLAN_CHANGES_MAX: usize = 2_000;
/// Most bytes of one plan's changes, as JSON; over it they are told together, as with too many. They come back to apply on
/// one stdin, beside the messages.
pub const PLAN_BYTES_MAX: usize = 640 * 1024;
/// Most notes of one plan; further ones are counted.
pub const NOTES_MAX: usize = 50;

/// What stands in the admin repository now.
pub trait Look {
    /// A file; `None` = there is none.
    ///
    /// # Errors
    /// When it can't be read.
    fn read(&self, branch: Branch, path: &str) -> Result<Option<Vec<u8>>, Failure>;

    /// The paths of all files below a directory (`conf/reactor/repos`), at any depth, from the branch's root, sorted. None if
    /// there is no such directory.
    ///
    /// # Errors
    /// When they can't be read.
    fn below(&self, branch: Branch, dir: &str) -> Result<Vec<String>, Failure>;
}

/// What must be of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// Exactly these are in it.
    Whole(BTreeSet<UserName>),
    /// This one is in it, or not; the others stay. Only for a group whose file stands there.
    One(UserName, bool),
}

/// What the truth wants, as far as a request is about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Repositories; `None` = there is none of that name any more.
    pub repos: BTreeMap<RepoName, Option<Rendered>>,
    /// Groups.
    pub groups: BTreeMap<GroupName, Group>,
    /// Groups of which nothing certain is known: they stay as they are, also when all of the site is meant.
    pub groups_left_alone: BTreeSet<GroupName>,
    /// Groups that the configuration names, whatever people wrote about groups of that name themselves.
    pub groups_meant: BTreeSet<GroupName>,
    /// The keys of users; none = the user gets in with no key.
    pub keys: BTreeMap<UserName, Vec<Key>>,
    /// All of the site: whatever else stands in our files goes, but for these repositories, which stay as they are.
    pub everything: Option<BTreeSet<RepoName>>,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Planned {
    /// In files.
    pub edits: Edits,
    /// For people, and for the guard.
    pub changes: Vec<Change>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// The targets of all changes, also of those that `changes` tells together.
    pub subjects: BTreeSet<String>,
}

/// Compares. `told` = every name that the messages speak of (users and groups, a group without its `@`): who loses access
/// without being named there waits for a person. Nobody is told of in a reconcile: then every removal waits.
///
/// # Errors
/// When what stands there can't be read; when a group of [`Group::One`] has no file.
pub fn plan(
    wanted: &Wanted,
    now: &dyn Look,
    membership: Membership,
    told: &BTreeSet<String>,
) -> Result<Planned, Failure> {
    let mut work = Work {
        now,
        membership,
        told,
        meant: &wanted.groups_meant,
        by_hand: None,
        edits: Edits::new(),
        tellings: Vec::new(),
        notes: Vec::new(),
        index: Index::new(membership == Membership::Asked, wanted.everything.is_some()),
    };
    for (name, rendered) in &wanted.repos {
        work.repo(name, rendered.as_ref())?;
    }
    for (name, group) in &wanted.groups {
        work.group(name, group)?;
    }
    for (user, keys) in &wanted.keys {
        work.keys(user, keys)?;
    }
    if let Some(left_alone) = &wanted.everything {
        work.sweep(wanted, left_alone)?;
    }
    if membership == Membership::Asked {
        work.index()?;
    }
    work.shared_keys(&wanted.keys);
    if let Some((branch, path)) = work.edits.keys().find(|(branch, path)| !branch.has(path)) {
        return Err(Failure::permanent(format!(
            "{path} on {branch:?} is not ours to write: this is a bug of the handler"
        )));
    }
    let subjects = tell::subjects(&work.tellings);
    let changes = tell::in_bounds(work.tellings, &work.edits);
    Ok(Planned { edits: work.edits, changes, notes: few(work.notes, NOTES_MAX), subjects })
}

/// A plan in the making.
struct Work<'a> {
    now: &'a dyn Look,
    membership: Membership,
    told: &'a BTreeSet<String>,
    meant: &'a BTreeSet<GroupName>,
    /// Read when it is needed: it is a look at the whole of gitolite's configuration.
    by_hand: Option<ByHand>,
    edits: Edits,
    tellings: Vec<Told>,
    notes: Vec<String>,
    index: Index,
}

impl Work<'_> {
    /// Edits a file, if that is a difference.
    fn edit(&mut self, branch: Branch, path: String, before: Option<&[u8]>, after: Option<Vec<u8>>) {
        if before != after.as_deref() {
            self.edits.insert((branch, path), after);
        }
    }

    fn tell(&mut self, of: Of, change: Change) {
        self.tellings.push(Told { of, change });
    }

    /// Why a removal from `who` (`alice`, `@perl-sig`) waits for a person; `None` if a message names them.
    fn waits(&self, who: &str) -> Option<String> {
        let bare = who.strip_prefix('@').unwrap_or(who);
        if who != ALL && self.told.contains(bare) {
            return None;
        }
        Some(if self.told.is_empty() { FOUND.to_owned() } else { format!("no message names {who}") })
    }
}

/// Whoever has an account.
const ALL: &str = "@all";
/// Why a removal waits that no message led to.
const FOUND: &str = "nobody said so: found by reconcile";

#[cfg(test)]
mod tests;
