//! Who may do what in which repository: pagure, pkgdb, a YAML file, a command.
//!
//! A source answers for certain, or fails: **unknown is not empty**. An error, a partial page, another shape, a name that is
//! no name: a [`Failure`], never "nobody" and never "no such repository".

pub mod command;
pub mod pagure;
pub mod pkgdb;
pub mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use handler_api::Failure;
use serde_json::Value;

use crate::names::{BranchName, GroupName, RepoName, UserName};

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
    /// What a person should know, a sentence each; bounded.
    pub notes: Vec<String>,
}

/// A source of repositories.
#[derive(Debug)]
pub struct Truth {}

impl Truth {
    /// Reads the `repos` block of the handler's configuration: `{yaml: PATH}`, `{command: [...]}`, `{pagure: URL, …}`,
    /// `{pkgdb: URL, …}`. Nothing is asked yet.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word and says what is expected.
    pub fn open(config: &Value) -> Result<Self, Failure> {
        let _ = config;
        todo!()
    }

    /// One repository. `None` = the source says for certain that there is none of that name.
    ///
    /// # Errors
    /// Whatever is not a certain answer.
    pub async fn repo(&self, name: &RepoName) -> Result<Option<Repo>, Failure> {
        let _ = name;
        todo!()
    }

    /// All of them.
    ///
    /// # Errors
    /// Whatever is not a certain and whole answer.
    pub async fn all(&self) -> Result<All, Failure> {
        todo!()
    }
}
