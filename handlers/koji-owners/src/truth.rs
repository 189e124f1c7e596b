//! Who owns which package, and on which branches it lives: a YAML file, a command, pagure, pkgdb.
//!
//! A source answers for certain, or fails: **unknown is not empty**. An error, a partial page, another shape, a name that is no
//! name: a [`Failure`], never "no branches", never "no such package" and never somebody else as the owner.
//!
//! Only branches that have tags are of interest, so each question names them: of others nothing is asked, and whoever may push can
//! make branches of any name without being in the way.
//!
//! * [`yaml`]: a file, the embedded default
//! * [`command`]: a program of the site's, which prints JSON of the same shape
//! * [`pagure`]: pagure's API
//! * [`pkgdb`]: pkgdb's API
//!
//! Each makes of its own words an `entry`: hostile text, of which the checked [`Package`] is made in one place.

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

use crate::names::{BranchName, PackageName, UserName};

/// Most packages of one source.
pub const PACKAGES_MAX: usize = 200_000;
/// Most branches of one package.
pub const BRANCHES_MAX: usize = 1_000;

/// The word of each source.
const SOURCES: [&str; 4] = ["yaml", "command", "pagure", "pkgdb"];

/// The branches that have tags.
pub type Wanted = BTreeSet<BranchName>;

/// What the truth has of one package on one branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Who answers for it there.
    pub owner: UserName,
    /// Whether it is retired there; `None` = the source does not say, and it is neither blocked nor unblocked.
    pub retired: Option<bool>,
}

/// What the truth has of one package: those of the asked branches that exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// By name. A branch that is not here has nothing to do with this package, and tags for it are left alone.
    pub branches: BTreeMap<BranchName, Branch>,
}

/// All packages of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct All {
    /// Those that could be read.
    pub packages: BTreeMap<PackageName, Package>,
    /// Those that are there and could not be read (a bad name in them): they stay as they are, and a sentence says why.
    pub left_alone: BTreeMap<String, String>,
    /// What a person should know, a sentence each; at most [`handler_api::limits::NOTES_MAX`].
    pub notes: Vec<String>,
}

/// A source of packages.
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
    /// Reads the `packages` block of the handler's configuration: `{yaml: PATH}`, `{command: [...]}`, `{pagure: URL, …}`,
    /// `{pkgdb: URL, …}`. Nothing is asked yet.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word and says what is expected.
    pub fn open(config: &Value) -> Result<Self, Failure> {
        let source = match the_source("packages", config, &SOURCES)? {
            "yaml" => Source::Yaml(yaml::Yaml::open(config)?),
            "command" => Source::Command(command::Command::open(config)?),
            "pagure" => Source::Pagure(Box::new(pagure::Pagure::open(config)?)),
            _ => Source::Pkgdb(Box::new(pkgdb::Pkgdb::open(config)?)),
        };
        Ok(Self { source })
    }

    /// One package, on those of the branches `wanted` that it has. `None` = the source says for certain that there is none of that
    /// name.
    ///
    /// # Errors
    /// Whatever is not a certain answer. Permanent when the source has a name in this package that is none: waiting does not mend it.
    pub async fn package(&self, name: &PackageName, wanted: &Wanted) -> Result<Option<Package>, Failure> {
        let found = match &self.source {
            Source::Yaml(source) => source.package(name).await,
            Source::Command(source) => source.package(name).await,
            Source::Pagure(source) => source.package(name, wanted).await,
            Source::Pkgdb(source) => source.package(name).await,
        }?;
        Ok(found.map(|package| package.only(wanted)))
    }

    /// All of them, on those of the branches `wanted` that each has.
    ///
    /// # Errors
    /// Whatever is not a certain and whole answer; also "there are no packages at all", and "no package has any of these branches",
    /// which are not believed.
    pub async fn all(&self, wanted: &Wanted) -> Result<All, Failure> {
        let mut all = match &self.source {
            Source::Yaml(source) => source.all().await,
            Source::Command(source) => source.all().await,
            Source::Pagure(source) => source.all(wanted).await,
            Source::Pkgdb(source) => source.all().await,
        }?;
        let hint = "look at `packages` and `tags` of the handler's block";
        let why = all.notes.first().map(|note| format!(" ({note})")).unwrap_or_default();
        if all.packages.is_empty() && all.left_alone.is_empty() {
            let message = "the source of packages says that there are none at all: that is not believed";
            return Err(Failure::retry(format!("{message}{why}")).hinting(hint));
        }
        all.packages = all.packages.into_iter().map(|(name, package)| (name, package.only(wanted))).collect();
        if all.left_alone.is_empty() && all.packages.values().all(|package| package.branches.is_empty()) {
            let first: Vec<&str> = wanted.iter().take(3).map(BranchName::as_str).collect();
            let message = "the source of packages has none on any of the branches that have tags";
            return Err(Failure::retry(format!("{message} (such as {})", first.join(", "))).hinting(hint));
        }
        Ok(all)
    }
}

impl Package {
    /// The same, on these branches only.
    fn only(mut self, wanted: &Wanted) -> Self {
        self.branches.retain(|branch, _| wanted.contains(branch));
        self
    }
}

#[cfg(test)]
#[path = "truth/tests.rs"]
mod tests;
