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

use accounts::curl::{Answer, encode};
use handler_api::Failure;
use handler_api::words::{Words, is_name, quoted};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::Value;

use super::entry::{Entry, Name, Names, Place, repo_name};
use super::http::{Server, found, is_json, said};
use super::{All, Notes, REPOS_MAX, Repo};
use crate::names::{BranchName, RepoName};

/// Most namespaces.
pub const NAMESPACES_MAX: usize = 100;
/// Most names under `pull_requests_only`.
pub const PULL_REQUESTS_ONLY_MAX: usize = 10_000;
/// Projects of one page: pagure's own maximum. Pagure sorts by a name that forks share, so such a list can lose some where two
/// pages meet; then all is read again in pages that meet elsewhere.
const PAGE_PROJECTS: [u64; 3] = [100, 97, 89];
/// Pages in one run of curl; a page has up to some hundred kilobytes.
const PAGES_PER_RUN: usize = 10;
/// Requests for branches in one run of curl.
const BRANCHES_PER_RUN: usize = 50;
/// Most projects whose branches could not be read, while the others are believed.
const UNREADABLE_MAX: usize = 100;

/// The source, as configured.
#[derive(Debug)]
pub struct Pagure {
    server: Server,
    /// None = all there are.
    namespaces: Option<BTreeSet<String>>,
    branches: bool,
    forks: bool,
    pull_requests_only: BTreeSet<RepoName>,
    page_sizes: [u64; 3],
}

#[derive(Deserialize)]
struct Project {
    fullname: String,
    access_users: Users,
    access_groups: Groups,
    #[serde(default)]
    settings: Settings,
}

#[derive(Deserialize)]
struct Users {
    #[serde(deserialize_with = "somebody")]
    owner: Vec<String>,
    admin: Vec<String>,
    commit: Vec<String>,
}

#[derive(Deserialize)]
struct Groups {
    admin: Vec<String>,
    commit: Vec<String>,
}

/// Every project has an owner; a list without one is no answer.
fn somebody<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    if names.is_empty() { Err(D::Error::custom("nobody is the `owner`")) } else { Ok(names) }
}

/// Only shown to some.
#[derive(Default, Deserialize)]
struct Settings {
    #[serde(default)]
    pull_request_access_only: bool,
}

#[derive(Deserialize)]
struct Branches {
    branches: Vec<String>,
    total_branches: u64,
}

#[derive(Deserialize)]
struct Page {
    projects: Vec<Project>,
    total_projects: u64,
    pagination: Pagination,
}

#[derive(Deserialize)]
struct Pagination {
    page: u64,
    pages: u64,
    per_page: u64,
}

/// What pagure says when something is not there.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_code: String,
}

/// What is asked of the list.
#[derive(Clone, Copy)]
struct Listing<'a> {
    namespace: Option<&'a str>,
    fork: bool,
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
        let server = Server::read(&words, "pagure", "write https://HOST, without /api/0")?;
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
        Ok(Self { server, namespaces, branches, forks, pull_requests_only, page_sizes: PAGE_PROJECTS })
    }

    /// See [`super::Truth::repo`].
    ///
    /// # Errors
    /// Whatever is not a certain answer of pagure's own; permanent for a bad name in the project, and for a name outside of
    /// what is configured.
    pub async fn repo(&self, name: &RepoName) -> Result<Option<Repo>, Failure> {
        let project = self.path(name)?;
        let branches = format!("{project}/git/branches");
        let answers = self.server.get(&[project.clone(), branches.clone()]).await?;
        let [about, listed] = &answers[..] else { return Err(self.server.odd(&project, "not all was answered")) };
        // The second is asked for in any case: the path of a project `rpms/tags` alone is the one of the tags of `rpms`.
        match (is_no_project(about), is_no_project(listed)) {
            (true, true) => return Ok(None),
            (false, false) => {}
            (true, false) => {
                return Err(self
                    .server
                    .odd(&project, "there is no such project, but it has branches: it came or went"));
            }
            (false, true) => return Err(self.server.odd(&branches, "the project has gone between two requests")),
        }
        let about: Project = found(about).map_err(|why| self.server.odd(&project, &why))?;
        if about.fullname != name.as_str() {
            let why = format!("it is about {} instead", quoted(&about.fullname));
            return Err(self.server.odd(&project, &why));
        }
        let mut entry = self.entry(name, about);
        if self.branches {
            entry.branches = branches_of(listed).map_err(|why| self.server.odd(&branches, &why))?;
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
                for (_, project) in self.list(Listing { namespace, fork }).await? {
                    match repo_name(&Name::from(project.fullname.clone()), &self.server.base) {
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
        Place { source: &self.server.base, repo, by_hand: false }
    }

    /// Where the API has it.
    fn path(&self, name: &RepoName) -> Result<String, Failure> {
        let parts: Vec<&str> = name.as_str().split('/').collect();
        let (fork, namespace) = match parts[..] {
            ["forks", _, namespace, _] => (true, Some(namespace)),
            ["forks", _, _] => (true, None),
            [namespace, _] if namespace != "forks" => (false, Some(namespace)),
            [_] => (false, None),
            _ => {
                let message = format!("{name} is no name that a project of pagure can have");
                return Err(Failure::permanent(message).hinting("NAME, NAMESPACE/NAME, forks/USER/NAMESPACE/NAME"));
            }
        };
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
        let (first, rest) = if fork { ("/fork", &parts[1..]) } else { ("", &parts[..]) };
        Ok(format!("/api/0{first}{}", rest.iter().map(|part| format!("/{}", encode(part))).collect::<String>()))
    }

    fn entry(&self, name: &RepoName, project: Project) -> Entry {
        let names = |lists: Vec<Vec<String>>| lists.into_iter().flatten().map(Name::from).collect();
        let Users { owner, admin, commit } = project.access_users;
        let groups = names(vec![project.access_groups.admin, project.access_groups.commit]);
        Entry {
            commit: Names { users: names(vec![owner, admin, commit]), groups, everyone: false },
            pull_requests_only: project.settings.pull_request_access_only || self.pull_requests_only.contains(name),
            fork: is_fork(name.as_str()),
            ..Entry::default()
        }
    }

    /// All projects of a list, by name.
    async fn list(&self, listing: Listing<'_>) -> Result<BTreeMap<String, Project>, Failure> {
        let mut projects = BTreeMap::new();
        let mut total = None;
        for size in self.page_sizes {
            let page = |number: u64| format!("{}&per_page={size}&page={number}", listing.path());
            let first = page(1);
            let mut reader = Reader { listing, size, total: &mut total, projects: &mut projects };
            for answer in self.server.get(std::slice::from_ref(&first)).await? {
                reader.take(1, &answer).map_err(|why| self.server.odd(&first, &why))?;
            }
            let rest: Vec<String> = (2..=reader.pages()).map(page).collect();
            let taken = self.server.each(&rest, PAGES_PER_RUN, |at, answer| {
                reader.take(at as u64 + 2, answer).map_err(|why| self.server.odd(&rest[at], &why))
            });
            taken.await?;
            let (came, total) = (projects.len() as u64, total.unwrap_or_default());
            if came == 0 && !listing.fork {
                let namespace = listing.namespace.map(|name| format!(" in the namespace {name}")).unwrap_or_default();
                let failure = self.server.odd(&first, &format!("it has no projects{namespace}: that is not believed"));
                return Err(failure.hinting("is the namespace spelled as pagure does?"));
            }
            if came == total {
                return Ok(projects);
            }
            if came > total {
                return Err(self.server.odd(&first, "projects came and went while the list was read"));
            }
        }
        let (came, total) = (projects.len(), total.unwrap_or_default());
        Err(self.server.odd(&listing.path(), &format!("{came} projects came, and {total} should have")))
    }

    /// Asks for the branches of all of them. A project whose branches can't be read is taken out of `entries`.
    async fn add_branches(
        &self,
        entries: &mut BTreeMap<RepoName, Entry>,
        left_alone: &mut BTreeMap<RepoName, String>,
    ) -> Result<(), Failure> {
        let names: Vec<RepoName> = entries.keys().cloned().collect();
        let path = |name: &RepoName| self.path(name).map(|path| format!("{path}/git/branches"));
        let paths = names.iter().map(path).collect::<Result<Vec<String>, Failure>>()?;
        let taken = self.server.each(&paths, BRANCHES_PER_RUN, |at, answer| {
            let name = &names[at];
            let why = match branches_of(answer) {
                Ok(branches) => {
                    if let Some(entry) = entries.get_mut(name) {
                        entry.branches = branches;
                    }
                    return Ok(());
                }
                Err(_) if is_no_project(answer) => "it went away while all were read".to_owned(),
                Err(why) => why,
            };
            entries.remove(name);
            left_alone.insert(name.clone(), format!("{}{}: {why}", self.server.base, paths[at]));
            if left_alone.len() > UNREADABLE_MAX {
                let why = format!("the branches of more than {UNREADABLE_MAX} projects can't be read: {why}");
                return Err(self.server.odd(&paths[at], &why));
            }
            Ok(())
        });
        taken.await
    }
}

impl Listing<'_> {
    fn path(&self) -> String {
        let namespace = self.namespace.map(|name| format!("namespace={}&", encode(name))).unwrap_or_default();
        format!("/api/0/projects?{namespace}fork={}", self.fork)
    }

    /// Whether a project of this name was asked for; a server that does not read the question answers with all it has.
    fn has(&self, fullname: &str) -> bool {
        let own = if self.fork { fullname.splitn(3, '/').nth(2).unwrap_or_default() } else { fullname };
        is_fork(fullname) == self.fork
            && self.namespace.is_none_or(|name| own.strip_prefix(name).is_some_and(|rest| rest.starts_with('/')))
    }
}

/// Takes the pages of one list.
struct Reader<'a> {
    listing: Listing<'a>,
    size: u64,
    total: &'a mut Option<u64>,
    projects: &'a mut BTreeMap<String, Project>,
}

impl Reader<'_> {
    /// Takes page `number`, from 1 on; the first one first. The error is the end of a sentence.
    fn take(&mut self, number: u64, answer: &Answer) -> Result<(), String> {
        let Page { projects, total_projects, pagination } = found(answer)?;
        let total = *self.total.get_or_insert(total_projects);
        if total_projects != total {
            return Err(format!("page {number} counts {total_projects} projects in all, the first counted {total}"));
        }
        if total > REPOS_MAX as u64 {
            return Err(format!("it has {total} projects, at most {REPOS_MAX} are taken"));
        }
        let (size, pages) = (self.size, self.pages());
        let Pagination { page, pages: says_pages, per_page } = pagination;
        if (page, says_pages, per_page) != (number, pages, size) {
            return Err(format!(
                "asked for page {number} of {pages} with {size} projects each, it answers with page {page} of {says_pages} with {per_page}"
            ));
        }
        let expected = (total - ((number - 1) * size).min(total)).min(size);
        if projects.len() as u64 != expected {
            return Err(format!("page {number} has {} projects, and should have {expected}", projects.len()));
        }
        for project in projects {
            if !self.listing.has(&project.fullname) {
                return Err(format!("page {number} has {}, which was not asked for", quoted(&project.fullname)));
            }
            self.projects.insert(project.fullname.clone(), project);
        }
        Ok(())
    }

    fn pages(&self) -> u64 {
        self.total.unwrap_or_default().div_ceil(self.size)
    }
}

fn is_fork(fullname: &str) -> bool {
    fullname.starts_with("forks/")
}

/// Pagure's own word that there is no such project.
fn is_no_project(answer: &Answer) -> bool {
    let refusal = serde_json::from_slice::<Refusal>(&answer.body);
    answer.status == 404
        && is_json(answer)
        && refusal.is_ok_and(|refusal| refusal.error_code == "ENOPROJECT" && refusal.error == "Project not found")
}

/// Branches whose names can't stand in a rule are left out: whoever may push can make such, and must not be able to stop
/// changes of the rules by it. A template denies what it does not name, or treats it as any other.
fn branches_of(answer: &Answer) -> Result<Vec<(Name, Option<Names>)>, String> {
    if is_no_project(answer) {
        return Err(format!("HTTP status 404: {}", said(answer)));
    }
    let Branches { branches, total_branches } = found(answer)?;
    if branches.len() as u64 != total_branches {
        return Err(format!("it counts {total_branches} branches and names {}", branches.len()));
    }
    Ok(branches.into_iter().filter(|name| BranchName::parse(name).is_ok()).map(|name| (name.into(), None)).collect())
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
