//! Who owns which package, and on which branches it lives: a YAML file, a command, pagure, pkgdb.
//!
//! A source answers for certain, or fails: **unknown is not empty**. An error, a partial page, another shape, a name that is no
//! name: a [`Failure`], never "no branches", never "no such package" and never somebody else as the owner.
//!
//! * [`yaml`]: a file, the embedded default
//! * [`command`]: a program of the site's, which prints JSON of the same shape
//! * [`pagure`]: pagure's API
//! * [`pkgdb`]: pkgdb's API

use std::collections::BTreeMap;

use handler_api::Failure;
use serde_json::Value;

use crate::names::{BranchName, PackageName, UserName};

/// Most packages of one source.
pub const PACKAGES_MAX: usize = 200_000;
/// Most branches of one package.
pub const BRANCHES_MAX: usize = 1_000;
/// Most sentences in [`All::notes`].
pub const NOTES_MAX: usize = 100;

/// What the truth has of one package on one branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Who answers for it there.
    pub owner: UserName,
    /// Whether it is retired there; `None` = the source does not say, and it is neither blocked nor unblocked.
    pub retired: Option<bool>,
}

/// What the truth has of one package: the branches that exist.
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
    /// What a person should know, a sentence each; bounded.
    pub notes: Vec<String>,
}
