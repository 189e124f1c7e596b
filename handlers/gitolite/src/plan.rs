//! What must stand in our files, what differs from what stands there, and what of it waits for a person. Pure.

use std::collections::{BTreeMap, BTreeSet};

use accounts::keys::Key;
use handler_api::{Change, Failure};

use crate::files::{Branch, Edits};
use crate::layout::{Membership, Rendered};
use crate::names::{GroupName, RepoName, UserName};

/// Most changes in one plan that are told one by one; of more, each file is told as one, of still more each shard.
pub const PLAN_CHANGES_MAX: usize = 2_000;

/// What stands in the admin repository now.
pub trait Look {
    /// A file; `None` = there is none.
    ///
    /// # Errors
    /// When it can't be read.
    fn read(&self, branch: Branch, path: &str) -> Result<Option<Vec<u8>>, Failure>;

    /// The paths of all files below a directory (`conf/reactor/repos`), sorted.
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
}

/// Compares. `told` = every name that the messages speak of: who loses access without being named there waits for a person.
///
/// # Errors
/// When what stands there can't be read.
pub fn plan(
    wanted: &Wanted,
    now: &dyn Look,
    membership: Membership,
    told: &BTreeSet<String>,
) -> Result<Planned, Failure> {
    let _ = (wanted, now, membership, told);
    todo!()
}
