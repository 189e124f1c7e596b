//! Pagure's API, version 0 (`pagure/api/` of pagure 5.14; what it answers was also seen on a pagure that ran).
//!
//! * One project is two requests in one run: the project, and its branches. That there is none must be said by both, in pagure's
//!   own words (`ENOPROJECT`); a proxy's 404 is a failure. A private project is not shown to us, so pagure says that it is not there.
//! * All of them: [`Pagure::list`], 100 a page. Their branches are one more request for each, 50 a run, four runs at once: 20,000
//!   projects are 200 pages and 20,000 requests: minutes, and felt by the server.
//! * `rpms/foo` is rpms/foo in names, the fork of it by bob `forks/bob/rpms/foo`; pagure's paths say `fork/`.

mod list;
mod path;

use accounts::curl::{Answer, encode};
use handler_api::Failure;
use handler_api::words::{Words, quoted};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::server::{Server, found, is_json, said};

pub use list::{Listing, PAGE_PROJECTS, PROJECTS_MAX};
pub use path::Address;

/// Requests for branches in one run of curl.
const BRANCHES_PER_RUN: usize = 50;
/// Requests for the files of one project's branches in one run of curl: few, so that several runs share them.
const FILES_PER_RUN: usize = 3;
/// Most projects whose branches could not be read, while the others are believed.
pub const UNREADABLE_MAX: usize = 100;

/// A pagure.
#[derive(Debug)]
pub struct Pagure {
    /// The site.
    pub server: Server,
    /// How many projects a page of a list has: [`PAGE_PROJECTS`], fewer in tests. See [`Self::list`].
    pub page_sizes: [u64; 3],
}

/// A project as pagure shows it to everybody; more is there and not read. All of it is hostile text.
#[derive(Debug, Deserialize)]
pub struct Project {
    /// `rpms/foo`, `forks/bob/rpms/foo`
    pub fullname: String,
    /// Who has which right.
    pub access_users: Users,
    /// Which groups have which right.
    pub access_groups: Groups,
    /// What is set, where it is shown.
    #[serde(default)]
    pub settings: Settings,
}

/// The people of a project. Collaborators are left out: the API does not say for which branches they are.
#[derive(Debug, Deserialize)]
pub struct Users {
    /// The main admin. Never empty, and never more than one (pagure, `lib/model.py`, `Project.access_users`).
    #[serde(deserialize_with = "somebody")]
    pub owner: Vec<String>,
    /// The other admins.
    pub admin: Vec<String>,
    /// Who may commit beside these.
    pub commit: Vec<String>,
}

/// The groups of a project.
#[derive(Debug, Deserialize)]
pub struct Groups {
    /// Whose members are admins.
    pub admin: Vec<String>,
    /// Whose members may commit.
    pub commit: Vec<String>,
}

/// Only shown to some.
#[derive(Debug, Default, Deserialize)]
pub struct Settings {
    /// Nobody pushes; changes come in by pull requests only.
    #[serde(default)]
    pub pull_request_access_only: bool,
}

/// Every project has an owner; a list without one is no answer.
fn somebody<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    if names.is_empty() { Err(D::Error::custom("nobody is the `owner`")) } else { Ok(names) }
}

#[derive(Deserialize)]
struct Branches {
    branches: Vec<String>,
    total_branches: u64,
}

/// What pagure says when something is not there.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_code: String,
}

/// The files at the top of a branch (`/tree/BRANCH`, pagure 5.11 and later).
#[derive(Deserialize)]
struct Folder {
    #[serde(rename = "type")]
    kind: String,
    content: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    name: String,
}

impl Pagure {
    /// Reads `pagure: URL`, `ca: PATH?` and `timeout: 30s?` of a block. Nothing is asked yet.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word.
    pub fn read(words: &Words<'_>) -> Result<Self, Failure> {
        let server = Server::read(words, "pagure", "write https://HOST, without /api/0")?;
        Ok(Self { server, page_sizes: PAGE_PROJECTS })
    }

    /// One project, and its branches or why these could not be read. `None` = pagure says for certain that there is none of that name.
    ///
    /// # Errors
    /// Whatever is not a certain answer of pagure's own; permanent for a name that no project can have.
    pub async fn project(&self, fullname: &str) -> Result<Option<(Project, Result<Vec<String>, Failure>)>, Failure> {
        let project = Address::read(fullname)?.path;
        let branches = format!("{project}/git/branches");
        let answers = self.server.get(&[project.clone(), branches.clone()]).await?;
        let [about, listed] = &answers[..] else { return Err(self.server.odd(&project, "not all was answered")) };
        // The second is asked for in any case: the path of a project `rpms/tags` alone is the one of the tags of `rpms`.
        match (is_no_project(about), is_no_project(listed)) {
            (true, true) => return Ok(None),
            (false, false) => {}
            (true, false) => {
                let why = "there is no such project, but it has branches: it came or went";
                return Err(self.server.odd(&project, why));
            }
            (false, true) => return Err(self.server.odd(&branches, "the project has gone between two requests")),
        }
        let about: Project = found(about).map_err(|why| self.server.odd(&project, &why))?;
        if about.fullname != fullname {
            let why = format!("it is about {} instead", quoted(&about.fullname));
            return Err(self.server.odd(&project, &why));
        }
        Ok(Some((about, branches_of(listed).map_err(|why| self.server.odd(&branches, &why)))))
    }

    /// The branches of each of these projects, in their order; for one whose branches can't be read, a sentence.
    ///
    /// # Errors
    /// More than [`UNREADABLE_MAX`] can't be read; a request got no whole answer; a name that no project can have.
    pub async fn branches(&self, fullnames: &[&str]) -> Result<Vec<Result<Vec<String>, String>>, Failure> {
        let path = |name: &&str| Address::read(name).map(|address| format!("{}/git/branches", address.path));
        let paths = fullnames.iter().map(path).collect::<Result<Vec<String>, Failure>>()?;
        let mut read: Vec<_> = paths.iter().map(|path| Err(format!("{path} was not answered"))).collect();
        let mut unreadable = 0;
        let taken = self.server.each(&paths, BRANCHES_PER_RUN, |at, answer| {
            let why = match branches_of(answer) {
                Ok(branches) => {
                    read[at] = Ok(branches);
                    return Ok(());
                }
                Err(_) if is_no_project(answer) => "it went away while all were read".to_owned(),
                Err(why) => why,
            };
            read[at] = Err(format!("{}{}: {why}", self.server.base, paths[at]));
            unreadable += 1;
            if unreadable > UNREADABLE_MAX {
                let why = format!("the branches of more than {UNREADABLE_MAX} projects can't be read: {why}");
                return Err(self.server.odd(&paths[at], &why));
            }
            Ok(())
        });
        taken.await?;
        Ok(read)
    }

    /// Whether `file` stands at the top of each of these branches, in their order. The whole list of files is asked for: that pagure
    /// does not find the one file would also be its word for a branch that has gone, and `/raw/` does not find an empty one.
    ///
    /// # Errors
    /// Whatever is not a certain answer of pagure's own.
    pub async fn has_file(&self, fullname: &str, branches: &[&str], file: &str) -> Result<Vec<bool>, Failure> {
        let project = Address::read(fullname)?.path;
        let path = |branch: &&str| format!("{project}/tree/{}", encode(branch));
        let paths: Vec<String> = branches.iter().map(path).collect();
        let mut has = vec![None; paths.len()];
        let taken = self.server.each(&paths, FILES_PER_RUN, |at, answer| {
            let folder: Folder = found(answer).map_err(|why| self.server.odd(&paths[at], &why))?;
            if folder.kind != "folder" || folder.content.is_empty() {
                return Err(self.server.odd(&paths[at], "it is no list of files"));
            }
            has[at] = Some(folder.content.iter().any(|one| one.name == file));
            Ok(())
        });
        taken.await?;
        let all: Option<Vec<bool>> = has.into_iter().collect();
        all.ok_or_else(|| self.server.odd(&project, "not all was answered"))
    }
}

/// Pagure's own word that there is no such project.
fn is_no_project(answer: &Answer) -> bool {
    let refusal = serde_json::from_slice::<Refusal>(&answer.body);
    answer.status == 404
        && is_json(answer)
        && refusal.is_ok_and(|refusal| refusal.error_code == "ENOPROJECT" && refusal.error == "Project not found")
}

/// The error is the end of a sentence.
fn branches_of(answer: &Answer) -> Result<Vec<String>, String> {
    if is_no_project(answer) {
        return Err(format!("HTTP status 404: {}", said(answer)));
    }
    let Branches { branches, total_branches } = found(answer)?;
    if branches.len() as u64 != total_branches {
        return Err(format!("it counts {total_branches} branches and names {}", branches.len()));
    }
    Ok(branches)
}

#[cfg(test)]
#[path = "pagure/tests.rs"]
mod tests;
