//! Packages as the YAML file has them and as a command prints them in JSON. Pure.
//!
//! ```yaml
//! packages:
//!   bash:
//!     owner: alice                 # on every branch
//!     branches: [rawhide, f44]     # where it lives; `[]` is nowhere
//!     retired: [f43]               # where it lived: builds are refused there
//!     owners: {f44: bob}           # on this branch another one
//! ```
//!
//! What is not under `retired` is not retired, so both are always known.

use std::collections::BTreeMap;

use forge::document::{List, Name, Pairs, Placed, from_json, from_yaml};
use handler_api::Failure;
use handler_api::notes::Notes;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::entry::{Place, Row, checked, package_name};
use super::{All, BRANCHES_MAX, PACKAGES_MAX, Package};
use crate::names::PackageName;

/// What is read of one package: good, or a sentence that says what is wrong with it.
type Read = Result<Package, String>;

/// All packages of a file or command.
#[derive(Debug)]
pub(super) struct Document {
    packages: BTreeMap<PackageName, Read>,
    notes: Vec<String>,
    /// The file or command, for messages.
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound = "N: Placed")]
struct RawAll<N> {
    packages: Pairs<N, RawPackage<N>, PACKAGES_MAX>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOne {
    // Without this serde would take a missing word for null.
    #[serde(deserialize_with = "Option::deserialize")]
    package: Option<RawPackage<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound = "N: Placed")]
struct RawPackage<N> {
    owner: N,
    branches: List<N, BRANCHES_MAX>,
    #[serde(default = "List::none")]
    retired: List<N, BRANCHES_MAX>,
    #[serde(default = "Pairs::none")]
    owners: Pairs<N, N, BRANCHES_MAX>,
}

impl Document {
    /// Reads YAML. `source` is the file's path.
    pub fn from_yaml(text: &str, source: &str) -> Result<Self, Failure> {
        let hint = "`packages:` is a map of NAME: {owner: alice, branches: [rawhide, f44], …}";
        Ok(Self::checked(from_yaml::<RawAll<Spanned<String>>>(text, source, hint)?, source))
    }

    /// Reads the JSON of all packages. `source` says whose it is.
    pub fn from_json(bytes: &[u8], source: &str) -> Result<Self, Failure> {
        let shape = r#"{"packages": {"NAME": {"owner": "alice", "branches": ["rawhide"]}}}"#;
        Ok(Self::checked(from_json::<RawAll<String>>(bytes, source, shape)?, source))
    }

    fn checked<N: Placed>(raw: RawAll<N>, source: &str) -> Self {
        let mut packages = BTreeMap::new();
        let mut notes = Notes::default();
        for (name, package) in raw.packages.0 {
            let name = name.name();
            match package_name(&name, source) {
                Ok(checked) => drop(packages.insert(checked, package.read(Place { source, package: &name.text }))),
                Err(sentence) => notes.add(|| sentence),
            }
        }
        Self { packages, notes: notes.into_sentences(), source: source.to_owned() }
    }

    /// See [`super::Truth::package`].
    pub fn package(&self, name: &PackageName) -> Result<Option<Package>, Failure> {
        match self.packages.get(name) {
            None if self.packages.is_empty() => {
                let message = format!("{} has no packages at all: that is not believed", self.source);
                Err(Failure::retry(message).hinting("see `packages` of the handler's block"))
            }
            None => Ok(None),
            Some(Ok(package)) => Ok(Some(package.clone())),
            Some(Err(sentence)) => {
                Err(Place { source: &self.source, package: name.as_str() }.failure(sentence.clone()))
            }
        }
    }

    /// See [`super::Truth::all`].
    pub fn all(&self) -> All {
        let mut all = All { notes: self.notes.clone(), ..All::default() };
        for (name, read) in &self.packages {
            match read {
                Ok(package) => drop(all.packages.insert(name.clone(), package.clone())),
                Err(sentence) => drop(all.left_alone.insert(name.as_str().to_owned(), sentence.clone())),
            }
        }
        all
    }
}

/// Reads the JSON of one package: `{"package": {…}}`, or null where there is none.
pub(super) fn one_from_json(bytes: &[u8], name: &PackageName, source: &str) -> Result<Option<Package>, Failure> {
    let shape =
        r#"{"package": {"owner": "alice", "branches": ["rawhide"]}}, or {"package": null} for "there is none","#;
    let Some(raw) = from_json::<RawOne>(bytes, source, shape)?.package else { return Ok(None) };
    let place = Place { source, package: name.as_str() };
    raw.read(place).map(Some).map_err(|sentence| place.failure(sentence))
}

impl<N: Placed> RawPackage<N> {
    fn read(self, place: Place<'_>) -> Read {
        let owner = self.owner.name();
        let mut owners: BTreeMap<String, (Name, Name)> = BTreeMap::new();
        for (branch, owner) in self.owners.0 {
            let branch = branch.name();
            owners.insert(branch.text.clone(), (branch, owner.name()));
        }
        let mut rows = Vec::new();
        for (list, retired) in [(self.branches, false), (self.retired, true)] {
            for branch in list.0 {
                let branch = branch.name();
                let owner = owners.remove(&branch.text).map_or_else(|| owner.clone(), |(_, own)| own);
                rows.push(Row { branch, owner, retired: Some(retired) });
            }
        }
        // One who owns it on no branch is a mistake that nobody would see.
        if let Some((branch, _)) = owners.values().next() {
            let why = "has an owner, but is neither under `branches` nor under `retired`";
            return Err(place.wrong(branch, "branch", why));
        }
        checked(&rows, place)
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
