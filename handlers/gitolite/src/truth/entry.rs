//! One repository as a source has it, and the checked [`Repo`] made of it. Pure.
//!
//! Every name here is hostile text. One that is none spoils its repository, and only that: nobody's access is changed by
//! leaving out what could not be read.

use forge::document::Name;
use handler_api::Failure;
use handler_api::words::quoted;

use super::{BRANCHES_MAX, DEPLOY_KEYS_MAX, PEOPLE_MAX, People, Repo};
use crate::names::{BranchName, GroupName, RepoName, UserName};

/// Who is in a list.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub users: Vec<Name>,
    /// Without `@`.
    pub groups: Vec<Name>,
    pub everyone: bool,
}

/// One repository.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub commit: Names,
    pub branches: Vec<(Name, Option<Names>)>,
    pub pull_requests_only: bool,
    pub fork: bool,
    pub explicit: bool,
    pub deploy_keys: Vec<(Name, bool)>,
}

/// Where an entry was found, for sentences.
pub(super) struct Place<'a> {
    /// The file, command or server.
    pub source: &'a str,
    /// The repository.
    pub repo: &'a str,
    /// Whether people write the entry by hand and can write `everyone: true` there.
    pub by_hand: bool,
}

impl Place<'_> {
    /// The sentence for a name that is none.
    fn wrong(&self, name: &Name, what: &str, why: &str) -> String {
        let at = name.place(self.source);
        let hint = if self.by_hand && is_everyone(&name.text) {
            "; to let in everyone who has an account, write `everyone: true`"
        } else {
            ""
        };
        format!("{at}: {}: the {what} {} {why}{hint}", self.repo, quoted(&name.text))
    }

    fn too_many(&self, what: &str, count: usize, max: usize) -> Result<(), String> {
        if count <= max {
            return Ok(());
        }
        Err(format!("{}: {} has {count} {what}, at most {max} are taken", self.source, self.repo))
    }

    /// The failure for a repository with a name in it that is none.
    pub fn failure(&self, sentence: String) -> Failure {
        let hint = format!("correct it there; until then the rules of {} stay as they are", self.repo);
        Failure::permanent(sentence).hinting(hint)
    }
}

/// What people write when they mean everyone.
fn is_everyone(text: &str) -> bool {
    matches!(text.trim_start_matches('@').to_ascii_lowercase().as_str(), "all" | "*" | "everyone" | "everybody")
}

impl Names {
    fn checked(&self, place: &Place<'_>) -> Result<People, String> {
        place.too_many("people in one list", self.users.len() + self.groups.len(), PEOPLE_MAX)?;
        let mut people = People { everyone: self.everyone, ..People::default() };
        for name in &self.users {
            let parsed = if place.by_hand && is_everyone(&name.text) {
                Err("is nobody's name".to_owned())
            } else {
                UserName::parse(&name.text)
            };
            people.users.insert(parsed.map_err(|why| place.wrong(name, "user", &why))?);
        }
        for name in &self.groups {
            let parsed = GroupName::parse(&name.text);
            people.groups.insert(parsed.map_err(|why| place.wrong(name, "group", &why))?);
        }
        Ok(people)
    }
}

impl Entry {
    /// The repository, if every name in it is one; else a sentence that says where, which and why.
    pub fn checked(&self, place: &Place<'_>) -> Result<Repo, String> {
        place.too_many("branches", self.branches.len(), BRANCHES_MAX)?;
        place.too_many("deploy keys", self.deploy_keys.len(), DEPLOY_KEYS_MAX)?;
        let mut repo = Repo {
            commit: self.commit.checked(place)?,
            pull_requests_only: self.pull_requests_only,
            fork: self.fork,
            explicit: self.explicit,
            ..Repo::default()
        };
        for (name, people) in &self.branches {
            let branch = BranchName::parse(&name.text).map_err(|why| place.wrong(name, "branch", &why))?;
            let people = people.as_ref().map(|people| people.checked(place)).transpose()?;
            // Those who may commit to all of it need not be named again.
            let people = people.filter(|people| *people != repo.commit);
            repo.branches.insert(branch, people);
        }
        for (name, may_write) in &self.deploy_keys {
            let user = UserName::parse(&name.text).map_err(|why| place.wrong(name, "deploy key", &why))?;
            repo.deploy_keys.insert(user, *may_write);
        }
        Ok(repo)
    }
}

/// Checks the name of a repository; the error is a sentence.
pub(super) fn repo_name(name: &Name, source: &str) -> Result<RepoName, String> {
    RepoName::parse(&name.text).map_err(|why| {
        let at = name.place(source);
        format!("{at}: the repository {} {why}; it is left out", quoted(&name.text))
    })
}
