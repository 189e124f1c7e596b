//! Who may do what in which repository: pagure, pkgdb, a YAML file, a command.
//!
//! A source answers for certain, or fails: **unknown is not empty**. An error, a partial page, another shape, a name that is
//! no name: a [`Failure`], never "nobody" and never "no such repository".
//!
//! * [`yaml`]: a file, the embedded default
//! * [`command`]: a program of the site's, which prints JSON of the same shape
//! * [`pagure`]: pagure's API
//! * [`pkgdb`]: pkgdb's `/api/vcs`
//!
//! Each makes of its own words an `entry`: hostile text, of which the checked [`Repo`] is made in one place.

pub mod command;
mod document;
mod entry;
pub mod pagure;
pub mod pkgdb;
pub mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use handler_api::Failure;
use handler_api::words::the_source;
use serde_json::Value;

use crate::names::{BranchName, GroupName, RepoName, UserName};

/// Most repositories of one source.
pub const REPOS_MAX: usize = 200_000;
/// Most users and groups, together, in one list of one repository.
pub const PEOPLE_MAX: usize = 10_000;
/// Most branches of one repository.
pub const BRANCHES_MAX: usize = 10_000;
/// Most deploy keys of one repository.
pub const DEPLOY_KEYS_MAX: usize = 1_000;

/// The word of each source.
const SOURCES: [&str; 4] = ["yaml", "command", "pagure", "pkgdb"];

/// Who is in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct People {
    /// By name.
    pub users: BTreeSet<UserName>,
    /// All members of these.
    pub groups: BTreeSet<GroupName>,
    /// Whoever has an account (gitolite's `@all`). A plan in which this comes up always waits for a person.
    pub everyone: bool,
}

/// What the truth has of one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repo {
    /// Who may commit: owner and admins too.
    pub commit: People,
    /// The branches that exist and are not to be made by anyone; those with people of their own (pkgdb) have them.
    pub branches: BTreeMap<BranchName, Option<People>>,
    /// Nobody pushes; changes come in by pull requests only.
    pub pull_requests_only: bool,
    /// Somebody's fork.
    pub fork: bool,
    /// The source names every group that may commit, such as provenpackager (pkgdb): what is not named there may not.
    pub explicit: bool,
    /// Deploy keys: the user's name for gitolite, and whether it may write.
    pub deploy_keys: BTreeMap<UserName, bool>,
}

/// All repositories of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct All {
    /// Those that could be read.
    pub repos: BTreeMap<RepoName, Repo>,
    /// Those that are there and could not be read (a bad name in them): they stay as they are, and a sentence says why.
    pub left_alone: BTreeMap<RepoName, String>,
    /// What a person should know, a sentence each; at most [`handler_api::limits::NOTES_MAX`].
    pub notes: Vec<String>,
}

/// A source of repositories.
#[derive(Debug)]
pub struct Truth {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Yaml(yaml::Yaml),
    Command(command::Command),
    Pagure(Box<pagure::Pagure>),
    Pkgdb(Box<pkgdb::Pkgdb>),
}

impl Truth {
    /// Reads the `repos` block of the handler's configuration: `{yaml: PATH}`, `{command: [...]}`, `{pagure: URL, …}`,
    /// `{pkgdb: URL, …}`. Nothing is asked yet.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word and says what is expected.
    pub fn open(config: &Value) -> Result<Self, Failure> {
        let source = match the_source("repos", config, &SOURCES)? {
            "yaml" => Source::Yaml(yaml::Yaml::open(config)?),
            "command" => Source::Command(command::Command::open(config)?),
            "pagure" => Source::Pagure(Box::new(pagure::Pagure::open(config)?)),
            _ => Source::Pkgdb(Box::new(pkgdb::Pkgdb::open(config)?)),
        };
        Ok(Self { source })
    }

    /// One repository. `None` = the source says for certain that there is none of that name.
    ///
    /// # Errors
    /// Whatever is not a certain answer. Permanent when the source has a name in this repository that is none: waiting
    /// does not mend it.
    pub async fn repo(&self, name: &RepoName) -> Result<Option<Repo>, Failure> {
        match &self.source {
            Source::Yaml(source) => source.repo(name).await,
            Source::Command(source) => source.repo(name).await,
            Source::Pagure(source) => source.repo(name).await,
            Source::Pkgdb(source) => source.repo(name).await,
        }
    }

    /// All of them.
    ///
    /// # Errors
    /// Whatever is not a certain and whole answer; also "there are no repositories at all", which is not believed.
    pub async fn all(&self) -> Result<All, Failure> {
        let all = match &self.source {
            Source::Yaml(source) => source.all().await,
            Source::Command(source) => source.all().await,
            Source::Pagure(source) => source.all().await,
            Source::Pkgdb(source) => source.all().await,
        }?;
        if all.repos.is_empty() && all.left_alone.is_empty() {
            let message = "the source of repositories says that there are none at all: that is not believed";
            let why = all.notes.first().map(|note| format!(" ({note})")).unwrap_or_default();
            return Err(Failure::retry(format!("{message}{why}")).hinting("look at `repos` of the handler's block"));
        }
        Ok(all)
    }
}

#[cfg(test)]
#[path = "truth/tests.rs"]
mod tests;
