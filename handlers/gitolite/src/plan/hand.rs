//! What people wrote in gitolite's configuration themselves, as far as a name of the truth could mean the same there.
//!
//! Names of the truth are chosen by whoever may make a group, a project or an account. gitolite knows one kind of name: a
//! group `admins` of ours adds to the `@admins` of a hand-written line, a key of the account `admin` lets in as the `admin`
//! who may push to the admin repository. So where such a name comes up for the first time, a person looks at it.

use std::collections::{BTreeMap, BTreeSet};

use handler_api::Failure;

use super::{Look, Work};
use crate::files::{Branch, CONF};
use crate::names::{GroupName, RepoName, UserName};

/// All of gitolite's configuration, ours too.
const GITOLITE_CONF: &str = "conf";
/// The repository whose writers may do everything.
const ADMIN: &str = "gitolite-admin";

/// The names in hand-written lines.
#[derive(Debug, Default)]
pub(super) struct ByHand {
    /// Groups that a line defines or names, without their `@`.
    groups: BTreeSet<String>,
    /// Repositories that have rules.
    repos: BTreeSet<String>,
    /// Whoever may do something with the admin repository: users, and groups with their `@`.
    admins: BTreeSet<String>,
    /// Who is in a group.
    members: BTreeMap<String, BTreeSet<String>>,
}

impl ByHand {
    fn read(now: &dyn Look) -> Result<Self, Failure> {
        let mut hand = Self::default();
        let ours = format!("{CONF}/");
        for path in now.below(Branch::Master, GITOLITE_CONF)? {
            if path.starts_with(&ours) {
                continue;
            }
            let text = now.read(Branch::Master, &path)?.unwrap_or_default();
            let mut is_about_admin = false;
            for line in String::from_utf8_lossy(&text).lines() {
                hand.line(line, &mut is_about_admin);
            }
        }
        // A group within a group; each turn finds one more or ends.
        loop {
            let of = |name: &String| name.strip_prefix('@').and_then(|group| hand.members.get(group));
            let more: Vec<String> = hand.admins.iter().filter_map(of).flatten().cloned().collect();
            let before = hand.admins.len();
            hand.admins.extend(more);
            if hand.admins.len() == before {
                return Ok(hand);
            }
        }
    }

    fn line(&mut self, line: &str, is_about_admin: &mut bool) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(names) = line.strip_prefix("repo").filter(|rest| rest.starts_with([' ', '\t'])) {
            let names: Vec<&str> = names.split_whitespace().collect();
            // A pattern, or a group (`@all`), may mean the admin repository too.
            let may_be = |name: &&str| *name == ADMIN || RepoName::parse(name).is_err();
            *is_about_admin = names.iter().any(may_be);
            self.repos.extend(names.into_iter().map(str::to_owned));
            return;
        }
        let Some((left, right)) = line.split_once('=') else { return };
        let (left, names) = (left.trim(), right.split_whitespace());
        self.groups.extend(names.clone().filter_map(|name| name.strip_prefix('@')).map(str::to_owned));
        if let Some(group) = left.strip_prefix('@') {
            self.groups.insert(group.to_owned());
            self.members.entry(group.to_owned()).or_default().extend(names.map(str::to_owned));
        } else if *is_about_admin && left.starts_with("RW") {
            self.admins.extend(names.map(str::to_owned));
        }
    }
}

impl Work<'_> {
    fn by_hand(&mut self) -> Result<&ByHand, Failure> {
        if self.by_hand.is_none() {
            self.by_hand = Some(ByHand::read(self.now)?);
        }
        Ok(self.by_hand.get_or_insert_default())
    }

    /// Why a group that is new to us waits for a person. One that the configuration names is meant.
    pub(super) fn new_group_waits(&mut self, name: &GroupName) -> Result<Option<String>, Failure> {
        if self.meant.contains(name) || !self.by_hand()?.groups.contains(name.as_str()) {
            return Ok(None);
        }
        Ok(Some(format!(
            "a hand-written line names @{name}: whoever comes into it gets what that line gives (if that is meant, name it \
             under `groups` in the handler's block)"
        )))
    }

    /// Why the first rules of a repository wait for a person.
    pub(super) fn new_repo_waits(&mut self, name: &RepoName) -> Result<Option<String>, Failure> {
        let stands = self.by_hand()?.repos.contains(name.as_str());
        Ok(stands.then(|| format!("hand-written rules of {name} stand there already: these are added to them")))
    }

    /// Why a new key of a user waits for a person.
    pub(super) fn new_key_waits(&mut self, user: &UserName) -> Result<Option<String>, Failure> {
        let is_admin = self.by_hand()?.admins.contains(user.as_str());
        Ok(is_admin.then(|| format!("by a hand-written rule {user} may write to {ADMIN}: with this key, everything")))
    }
}
