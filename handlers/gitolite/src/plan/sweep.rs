//! All of the site: what stands in our files and is not wanted goes.

use std::collections::BTreeSet;

use handler_api::{Action, Failure};

use super::tell::{Of, change, digest, held, shown};
use super::{FOUND, Wanted, Work};
use crate::files::{Branch, Place};
use crate::layout::Membership;
use crate::names::{GroupName, RepoName, UserName};

/// What stands there and is not wanted.
#[derive(Default)]
struct Rest {
    repos: BTreeSet<RepoName>,
    groups: BTreeSet<GroupName>,
    users: BTreeSet<UserName>,
    /// Of the other membership.
    other: Vec<(Branch, String)>,
    /// Files that we would not have made.
    stray: Vec<(Branch, String)>,
}

impl Work<'_> {
    pub(super) fn sweep(&mut self, wanted: &Wanted, left_alone: &BTreeSet<RepoName>) -> Result<(), Failure> {
        let rest = self.rest(wanted, left_alone)?;
        for repo in &rest.repos {
            self.repo_goes(repo)?;
        }
        for group in &rest.groups {
            self.group_goes(group)?;
        }
        for user in &rest.users {
            self.keys(user, &[])?;
        }
        for group in wanted.groups_left_alone.iter().filter(|group| !wanted.groups.contains_key(*group)) {
            self.group_stays(group)?;
        }
        if self.membership == Membership::Asked {
            for repo in left_alone.iter().filter(|repo| !wanted.repos.contains_key(*repo)) {
                self.lists_stay(repo)?;
            }
        }
        for (branch, path) in rest.stray {
            // One beside a user's keys went with them.
            if self.edits.contains_key(&(branch, path.clone())) {
                continue;
            }
            let before = self.now.read(branch, &path)?;
            let gone = change(Action::Delete, format!("file {path}"), before.as_deref().map(shown), None);
            let why = "it is not of reactor's making, and what it does is not known";
            self.tell(Of::Stray, held(gone, Some(why.to_owned())));
            self.edit(branch, path, before.as_deref(), None);
        }
        self.other_membership(rest.other);
        Ok(())
    }

    fn rest(&self, wanted: &Wanted, left_alone: &BTreeSet<RepoName>) -> Result<Rest, Failure> {
        let mut rest = Rest::default();
        let keeps = |repo: &RepoName| wanted.repos.contains_key(repo) || left_alone.contains(repo);
        let keeps_group =
            |group: &GroupName| wanted.groups.contains_key(group) || wanted.groups_left_alone.contains(group);
        for branch in [Branch::Master, Branch::Members] {
            for dir in branch.dirs() {
                for path in self.now.below(branch, dir)? {
                    let place = Place::at(branch, &path);
                    let is_other = match self.membership {
                        Membership::Compiled => branch == Branch::Members,
                        Membership::Asked => matches!(place, Some(Place::ConfGroup(_) | Place::KeyFile(..))),
                    };
                    if is_other {
                        rest.other.push((branch, path));
                        continue;
                    }
                    match place {
                        Some(Place::Rules(repo) | Place::Lists(repo)) if !keeps(&repo) => _ = rest.repos.insert(repo),
                        Some(Place::ConfGroup(group) | Place::Group(group)) if !keeps_group(&group) => {
                            rest.groups.insert(group);
                        }
                        Some(Place::KeyFile(user, _) | Place::People(user)) if !wanted.keys.contains_key(&user) => {
                            rest.users.insert(user);
                        }
                        // The index is made anew, whatever stands there.
                        None if path.starts_with("in/") || path.starts_with("keys/") => {}
                        None => rest.stray.push((branch, path)),
                        Some(_) => {}
                    }
                }
            }
        }
        Ok(rest)
    }

    /// What the other membership has left is one change.
    fn other_membership(&mut self, other: Vec<(Branch, String)>) {
        if other.is_empty() {
            return;
        }
        let word = match self.membership {
            Membership::Compiled => "asked",
            Membership::Asked => "compiled",
        };
        let target = format!("{} files that `membership: {word}` has left", other.len());
        let sha256 = digest(other.iter().map(|(_, path)| (path, &None)));
        let mut gone = change(Action::Delete, target.clone(), None, None);
        gone.more.insert("sha256".to_owned(), sha256.into());
        self.tell(Of::Single(target), held(gone, Some(FOUND.to_owned())));
        self.edits.extend(other.into_iter().map(|file| (file, None)));
    }
}
