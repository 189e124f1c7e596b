//! The source of truth for people: who has which keys, who is in which groups.
//!
//! Shared by every handler that asks about people. A source answers for certain, or fails: **unknown is not empty**. An
//! error, a partial page, an answer of another shape, a group that is not there or has no members (unless the site says
//! that it may) is a [`Failure`], never "nobody".
//!
//! * [`yaml`]: a file, the embedded default
//! * [`command`]: a program of the site's, which prints JSON
//! * [`fasjson`]: FASJSON over HTTP, with Kerberos where configured
//! * [`ldap`]: FreeIPA's tree, or openssh-lpk with POSIX groups

pub mod command;
pub mod fasjson;
pub mod ldap;
pub mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use handler_api::Failure;
use serde_json::Value;

/// What the source has of one person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The keys as they stand at the source: hostile text, possibly several lines in one.
    pub keys: Vec<String>,
    /// Those of the groups asked about that the person is in.
    pub groups: BTreeSet<String>,
}

/// The members of some groups, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Everyone who is in at least one of the groups asked about and may log in, by name.
    pub accounts: BTreeMap<String, Account>,
    /// What was left out and why (names that are no names), a sentence each; at most [`NOTES_MAX`].
    pub notes: Vec<String>,
}

/// Most sentences in [`Members::notes`].
pub const NOTES_MAX: usize = 100;

/// A source of accounts.
#[derive(Debug)]
pub struct Accounts {
    source: Source,
    /// Groups that may have no members (`empty_groups`).
    empty_groups: BTreeSet<String>,
}

#[derive(Debug)]
enum Source {
    Yaml(yaml::Yaml),
    Command(command::Command),
    Fasjson(Box<fasjson::Fasjson>),
    Ldap(Box<ldap::Ldap>),
}

impl Accounts {
    /// Reads the `accounts` block of a handler's configuration. Nothing is asked yet.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word and says what is expected.
    pub fn open(config: &Value) -> Result<Self, Failure> {
        let _ = config;
        Err(Failure::permanent("not built yet"))
    }

    /// One person, and which of `groups` that person is in. `None` = the source says for certain that there is no such
    /// person, or that the account is locked: no key may stand anywhere.
    ///
    /// # Errors
    /// Whatever is not a certain answer.
    pub async fn user(&self, name: &str, groups: &BTreeSet<String>) -> Result<Option<Account>, Failure> {
        let _ = (name, groups, &self.source);
        Err(Failure::permanent("not built yet"))
    }

    /// Everyone who is in one of `groups`.
    ///
    /// # Errors
    /// Whatever is not a certain and whole answer: also a group that is not there, or (unless the site says that it may
    /// be) one without members.
    pub async fn members(&self, groups: &BTreeSet<String>) -> Result<Members, Failure> {
        let _ = (groups, &self.empty_groups);
        Err(Failure::permanent("not built yet"))
    }
}
