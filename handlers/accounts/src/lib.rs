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
//!
//! What a source has as a key is hostile text: [`keys`] makes lines of it that may be written.

pub mod command;
pub mod curl;
pub mod fasjson;
pub mod keys;
pub mod ldap;
pub mod program;
mod roster;
pub mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use handler_api::Failure;
use handler_api::limits::NOTES_MAX;
use serde_json::Value;

use handler_api::words::{check_name, is_name, quoted, the_source};

/// Most groups that may be asked about at once, and most in `empty_groups`.
pub const GROUPS_MAX: usize = 1_000;

/// The word of each source.
const SOURCES: [&str; 4] = ["yaml", "command", "fasjson", "ldap"];

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
        let source = the_source("accounts", config, &SOURCES)?;
        let mut block = config.as_object().cloned().unwrap_or_default();
        let empty_groups = names(&block.shift_remove("empty_groups").unwrap_or(Value::Null))?;
        let block = Value::Object(block);
        let source = match source {
            "yaml" => Source::Yaml(yaml::Yaml::open(&block)?),
            "command" => Source::Command(command::Command::open(&block)?),
            "fasjson" => Source::Fasjson(Box::new(fasjson::Fasjson::open(&block)?)),
            _ => Source::Ldap(Box::new(ldap::Ldap::open(&block)?)),
        };
        Ok(Self { source, empty_groups })
    }

    /// One person, and which of `groups` that person is in. `None` = the source says for certain that there is no such
    /// person, or that the account is locked: no key may stand anywhere.
    ///
    /// # Errors
    /// Whatever is not a certain answer: also one of `groups` that is not there.
    pub async fn user(&self, name: &str, groups: &BTreeSet<String>) -> Result<Option<Account>, Failure> {
        check_name("user", name)?;
        check_groups(groups)?;
        let account = match &self.source {
            Source::Yaml(source) => source.user(name, groups).await,
            Source::Command(source) => source.user(name, groups).await,
            Source::Fasjson(source) => source.user(name, groups).await,
            Source::Ldap(source) => source.user(name, groups).await,
        };
        Ok(account?.map(|mut account| {
            account.groups.retain(|group| groups.contains(group));
            account
        }))
    }

    /// Everyone who is in one of `groups`.
    ///
    /// # Errors
    /// Whatever is not a certain and whole answer: also a group that is not there, or (unless the site says that it may
    /// be) one without members.
    pub async fn members(&self, groups: &BTreeSet<String>) -> Result<Members, Failure> {
        check_groups(groups)?;
        if groups.is_empty() {
            return Ok(Members::default());
        }
        let members = match &self.source {
            Source::Yaml(source) => source.members(groups).await,
            Source::Command(source) => source.members(groups).await,
            Source::Fasjson(source) => source.members(groups).await,
            Source::Ldap(source) => source.members(groups).await,
        };
        self.checked(members?, groups)
    }

    /// What holds for the answers of all sources.
    fn checked(&self, mut members: Members, groups: &BTreeSet<String>) -> Result<Members, Failure> {
        // The sources have left those out already and said so; nothing may slip through here.
        members.accounts.retain(|name, _| is_name(name));
        members.notes.truncate(NOTES_MAX);
        let mut without: BTreeSet<&String> = groups.difference(&self.empty_groups).collect();
        for account in members.accounts.values_mut() {
            account.groups.retain(|group| groups.contains(group));
            for group in &account.groups {
                without.remove(group);
            }
        }
        let Some(group) = without.first() else { return Ok(members) };
        let message =
            format!("the accounts source says that group {group} has no members who may log in: that is not believed");
        let hint = format!("if it is true, say so beside the source: accounts: {{empty_groups: [{group}]}}");
        Err(Failure::retry(message).hinting(hint))
    }
}

fn check_groups(groups: &BTreeSet<String>) -> Result<(), Failure> {
    if groups.len() > GROUPS_MAX {
        let message = format!("{} groups are asked about at once, at most {GROUPS_MAX} are allowed", groups.len());
        return Err(Failure::permanent(message));
    }
    groups.iter().try_for_each(|group| check_name("group", group))
}

/// Reads `empty_groups`.
fn names(value: &Value) -> Result<BTreeSet<String>, Failure> {
    if value.is_null() {
        return Ok(BTreeSet::new());
    }
    let list = value.as_array().filter(|list| list.len() <= GROUPS_MAX);
    let names = list.and_then(|list| list.iter().map(|name| name.as_str().filter(|name| is_name(name))).collect());
    let names: Option<Vec<&str>> = names;
    names.map(|names| names.into_iter().map(str::to_owned).collect()).ok_or_else(|| {
        let shown = quoted(&value.to_string());
        Failure::permanent(format!("accounts: `empty_groups` is not a list of group names: {shown}"))
            .hinting("write empty_groups: [GROUP, …]")
    })
}

#[cfg(test)]
#[path = "lib_tests.rs"]
mod tests;
