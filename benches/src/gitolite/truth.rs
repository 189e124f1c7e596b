//! Who may do what at the bench's site: a program for repositories and one for accounts, which print files that the bench
//! writes; asking for one thing costs the same at any size of the site.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::conf::{BRANCHES, GROUPS, members, people, repo};

const REPOS: &str = "#!/bin/sh\ncase $1 in\n    all) exec cat \"${0%/*}/all.json\" ;;\n    repo) exec cat \"${0%/*}/repos/$2.json\" ;;\nesac\n";
const ACCOUNTS: &str = "#!/bin/sh\nexec cat \"${0%/*}/accounts.json\"\n";

/// The truth.
#[derive(Debug)]
pub struct Truth {
    dir: PathBuf,
    repos: BTreeMap<String, BTreeSet<String>>,
    groups: BTreeMap<String, BTreeSet<String>>,
}

impl Truth {
    /// Writes it for this many repositories.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn new(dir: PathBuf, repos: usize) -> Result<Self> {
        fs::create_dir_all(dir.join("repos/rpms"))?;
        for (name, text) in [("repos-of", REPOS), ("accounts-of", ACCOUNTS)] {
            fs::write(dir.join(name), text)?;
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755))?;
        }
        let repos = (0..repos).map(|n| (repo(n), people(n).into_iter().collect())).collect();
        let mut groups: BTreeMap<_, BTreeSet<_>> =
            (0..GROUPS).map(|n| (format!("sig{n:02}"), members(n).into_iter().collect())).collect();
        groups.insert("provenpackager".into(), members(0).into_iter().collect());
        let truth = Self { dir, repos, groups };
        truth.repos.keys().try_for_each(|name| truth.write_repo(name))?;
        truth.write_all()?;
        truth.write_accounts()?;
        Ok(truth)
    }

    /// The program for `repos:`, and the one for `accounts:`.
    pub fn programs(&self) -> [PathBuf; 2] {
        ["repos-of", "accounts-of"].map(|name| self.dir.join(name))
    }

    /// Somebody may commit to a repository, or may not.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn commit(&mut self, name: &str, who: &str, may: bool) -> Result<()> {
        set(self.repos.entry(name.to_owned()).or_default(), who, may);
        self.write_repo(name)
    }

    /// A branch of a release comes up, or goes.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn branch(&self, name: &str, there: bool) -> Result<()> {
        let mut entry = self.entry(name);
        if there && let Some(branches) = entry["branches"].as_array_mut() {
            branches.push("f43".into());
        }
        write(&self.dir.join(format!("repos/{name}.json")), &json!({"repo": entry}))
    }

    /// Somebody is in a group, or is not.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn member(&mut self, group: &str, who: &str, is: bool) -> Result<()> {
        set(self.groups.entry(group.to_owned()).or_default(), who, is);
        self.write_accounts()
    }

    /// All repositories in one file, as reconcile asks for them.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_all(&self) -> Result<()> {
        let all: Map<String, Value> = self.repos.keys().map(|name| (name.clone(), self.entry(name))).collect();
        write(&self.dir.join("all.json"), &json!({"repos": all}))
    }

    fn entry(&self, name: &str) -> Value {
        json!({"commit": self.repos.get(name), "branches": BRANCHES})
    }

    fn write_repo(&self, name: &str) -> Result<()> {
        write(&self.dir.join(format!("repos/{name}.json")), &json!({"repo": self.entry(name)}))
    }

    fn write_accounts(&self) -> Result<()> {
        let alice = "alice".to_owned();
        let names: BTreeSet<&String> = self.groups.values().flatten().chain([&alice]).collect();
        let users: Map<String, Value> = names.into_iter().map(|name| (name.clone(), json!({"keys": []}))).collect();
        write(&self.dir.join("accounts.json"), &json!({"users": users, "groups": self.groups}))
    }
}

fn set(names: &mut BTreeSet<String>, who: &str, is: bool) {
    if is {
        names.insert(who.to_owned());
    } else {
        names.remove(who);
    }
}

/// Whole or not at all.
fn write(path: &Path, value: &Value) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, value.to_string())?;
    Ok(fs::rename(new, path)?)
}
