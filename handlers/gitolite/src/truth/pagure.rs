//! The source `pagure`: pagure's API, version 0.
//!
//! * One repository is two requests in one run: the project, and its branches. That there is none must be said by both, in
//!   pagure's own words (`ENOPROJECT`); a proxy's 404 is a failure. A private project is not shown to us, so pagure says
//!   that it is not there.
//! * All of them: the list of projects, 100 a page, and with `branches: true` one more request for each project, 50 a run,
//!   four runs at once. 20,000 projects are 200 pages and 20,000 requests: minutes, and felt by the server. Say
//!   `branches: false` if the template has no need of branches.
//! * Owner, admins and committers may commit. Collaborators are left out: the API does not say for which branches they are.
//! * Whether a project takes pull requests only is not in the public API: name those under `pull_requests_only`.
//! * `rpms/foo` is rpms/foo for gitolite, the fork of it by bob `forks/bob/rpms/foo`; pagure's paths say `fork/`.

use std::collections::{BTreeMap, BTreeSet};

use forge::document::Name;
use forge::pagure::{Address, Listing, Pagure as Site, Project, Users};
use handler_api::Failure;
use handler_api::notes::Notes;
use handler_api::words::{Words, is_name, quoted};
use serde_json::Value;

use super::entry::{Entry, Names, Place, repo_name};
use super::{All, Repo};
use crate::names::{BranchName, RepoName};

/// Most namespaces.
pub const NAMESPACES_MAX: usize = 100;
/// Most names under `pull_requests_only`.
pub const PULL_REQUESTS_ONLY_MAX: usize = 10_000;
/// The source, as configured.
#[derive(Debug)]
pub struct Pagure {
    site: Site,
    /// None = all there are.
    namespaces: Option<BTreeSet<String>>,
    branches: bool,
    forks: bool,
    pull_requests_only: BTreeSet<RepoName>,
}

impl Pagure {
    /// Reads `{pagure: URL, namespaces: [rpms]?, branches: true?, forks: false?, pull_requests_only: [rpms/foo]?, ca: PATH?,
    /// timeout: 30s?}`.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word.
    pub fn open(config: &Value) -> Result<Self, Failure> {
        let allowed = ["pagure", "namespaces", "branches", "forks", "pull_requests_only", "ca", "timeout"];
        let words = Words::read(config, "repos: pagure", &allowed)?;
        let site = Site::read(&words)?;
        let pull_requests_only = list(&words, "pull_requests_only", PULL_REQUESTS_ONLY_MAX, |name| {
            RepoName::parse(name).map_err(|why| format!("has {}, which {why}", quoted(name)))
        })?;
        let namespaces = list(&words, "namespaces", NAMESPACES_MAX, |name| {
            let good = is_name(name) && name != "forks";
            good.then(|| name.to_owned()).ok_or_else(|| format!("has {}, which is no namespace", quoted(name)))
        })?;
        if namespaces.as_ref().is_some_and(BTreeSet::is_empty) {
            let failure = words.wrong("namespaces", "is empty", &Value::Null);
            return Err(failure.hinting("name some, or leave the word out for all that pagure has"));
        }
        let (branches, forks) = (flag(&words, "branches", true)?, flag(&words, "forks", false)?);
        let pull_requests_only = pull_requests_only.unwrap_or_default();
        Ok(Self { site, namespaces, branches, forks, pull_requests_only })
    }

    /// See [`super::Truth::repo`].
    ///
    /// # Errors
    /// Whatever is not a certain answer of pagure's own; permanent for a bad name in the project, and for a name outside of
    /// what is configured.
    pub async fn repo(&self, name: &RepoName) -> Result<Option<Repo>, Failure> {
        self.looks_after(name)?;
        let Some((project, branches)) = self.site.project(name.as_str()).await? else { return Ok(None) };
        let mut entry = self.entry(name, project);
        if self.branches {
            entry.branches = nameable(branches?);
        }
        let place = self.place(name.as_str());
        entry.checked(&place).map(Some).map_err(|sentence| place.failure(sentence))
    }

    /// See [`super::Truth::all`].
    ///
    /// # Errors
    /// Whatever is not a certain and whole answer of pagure's own.
    pub async fn all(&self) -> Result<All, Failure> {
        let mut all = All::default();
        let mut notes = Notes::default();
        let mut entries = BTreeMap::new();
        for namespace in self.namespaces() {
            for fork in [false, true].into_iter().take(1 + usize::from(self.forks)) {
                for (_, project) in self.site.list(Listing { namespace, fork }).await? {
                    match repo_name(&Name::from(project.fullname.clone()), &self.site.server.base) {
                        Ok(name) => drop(entries.insert(name.clone(), self.entry(&name, project))),
                        Err(sentence) => notes.add(|| sentence),
                    }
                }
            }
        }
        if self.branches {
            self.add_branches(&mut entries, &mut all.left_alone).await?;
        }
        for (name, entry) in entries {
            match entry.checked(&self.place(name.as_str())) {
                Ok(repo) => drop(all.repos.insert(name, repo)),
                Err(sentence) => drop(all.left_alone.insert(name, sentence)),
            }
        }
        all.notes = notes.into_sentences();
        Ok(all)
    }

    fn namespaces(&self) -> Vec<Option<&str>> {
        match &self.namespaces {
            None => vec![None],
            Some(names) => names.iter().map(|name| Some(name.as_str())).collect(),
        }
    }

    fn place<'a>(&'a self, repo: &'a str) -> Place<'a> {
        Place { source: &self.site.server.base, repo, by_hand: false }
    }

    /// Whether it is within what is configured.
    fn looks_after(&self, name: &RepoName) -> Result<(), Failure> {
        let Address { fork, namespace, .. } = Address::read(name.as_str())?;
        if fork && !self.forks {
            let hint =
                "say forks: true beside pagure: if reactor is to look after forks, or let the rule leave them out";
            return Err(Failure::permanent(format!("{name} is a fork, and forks are not looked after")).hinting(hint));
        }
        let known = self.namespaces.as_ref().is_none_or(|known| namespace.is_some_and(|name| known.contains(name)));
        if !known {
            let hint = "add the namespace to namespaces: beside pagure:, or let the rule leave it out";
            return Err(Failure::permanent(format!("{name} is in none of the namespaces looked after")).hinting(hint));
        }
        Ok(())
    }

    fn entry(&self, name: &RepoName, project: Project) -> Entry {
        let names = |lists: Vec<Vec<String>>| lists.into_iter().flatten().map(Name::from).collect();
        let Users { owner, admin, commit } = project.access_users;
        let groups = names(vec![project.access_groups.admin, project.access_groups.commit]);
        Entry {
            commit: Names { users: names(vec![owner, admin, commit]), groups, everyone: false },
            pull_requests_only: project.settings.pull_request_access_only || self.pull_requests_only.contains(name),
            fork: name.as_str().starts_with("forks/"),
            ..Entry::default()
        }
    }

    /// Asks for the branches of all of them. A project whose branches can't be read is taken out of `entries`.
    async fn add_branches(
        &self,
        entries: &mut BTreeMap<RepoName, Entry>,
        left_alone: &mut BTreeMap<RepoName, String>,
    ) -> Result<(), Failure> {
        let names: Vec<RepoName> = entries.keys().cloned().collect();
        let asked: Vec<&str> = names.iter().map(RepoName::as_str).collect();
        for (name, read) in names.iter().zip(self.site.branches(&asked).await?) {
            match read {
                Ok(branches) => {
                    if let Some(entry) = entries.get_mut(name) {
                        entry.branches = nameable(branches);
                    }
                }
                Err(sentence) => {
                    entries.remove(name);
                    left_alone.insert(name.clone(), sentence);
                }
            }
        }
        Ok(())
    }
}

/// Branches whose names can't stand in a rule are left out: whoever may push can make such, and must not be able to stop
/// changes of the rules by it. A template denies what it does not name, or treats it as any other.
fn nameable(branches: Vec<String>) -> Vec<(Name, Option<Names>)> {
    branches.into_iter().filter(|name| BranchName::parse(name).is_ok()).map(|name| (name.into(), None)).collect()
}

fn flag(words: &Words<'_>, word: &str, default: bool) -> Result<bool, Failure> {
    let Some(value) = words.get(word) else { return Ok(default) };
    value.as_bool().ok_or_else(|| words.wrong(word, "is neither true nor false", value))
}

/// A list of names; `None` = the word is not there.
fn list<T: Ord>(
    words: &Words<'_>,
    word: &str,
    max: usize,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<BTreeSet<T>>, Failure> {
    let Some(value) = words.get(word) else { return Ok(None) };
    let not_list = || words.wrong(word, &format!("is not a list of at most {max} names"), value);
    let items = value.as_array().filter(|items| items.len() <= max).ok_or_else(not_list)?;
    let mut names = BTreeSet::new();
    for item in items {
        let name = parse(item.as_str().ok_or_else(not_list)?);
        names.insert(name.map_err(|why| words.wrong(word, &why, value))?);
    }
    Ok(Some(names))
}

#[cfg(test)]
#[path = "pagure/tests.rs"]
mod tests;
