//! One package as a source has it, and the checked [`Package`] made of it. Pure.
//!
//! Every name here is hostile text. One that is none spoils its package, and only that: nothing is changed in Koji by leaving out
//! what could not be read.

use forge::document::Name;
use handler_api::Failure;
use handler_api::words::quoted;

use super::{BRANCHES_MAX, Branch, Package};
use crate::names::{BranchName, PackageName, UserName};

/// One package on one branch.
#[derive(Debug)]
pub(super) struct Row {
    pub branch: Name,
    pub owner: Name,
    pub retired: Option<bool>,
}

/// Where an entry was found, for sentences.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// The file, command or server.
    pub source: &'a str,
    /// The package.
    pub package: &'a str,
}

impl Place<'_> {
    /// The sentence for something that is wrong in this package, at this name.
    pub fn wrong(&self, name: &Name, what: &str, why: &str) -> String {
        format!("{}: {}: the {what} {} {why}", name.place(self.source), self.package, quoted(&name.text))
    }

    /// The failure for a package that could not be read.
    pub fn failure(&self, sentence: String) -> Failure {
        let hint = format!("correct it there; until then Koji keeps what it has of {}", self.package);
        Failure::permanent(sentence).hinting(hint)
    }
}

/// The package, if every name in it is one; else a sentence that says where, which and why.
pub(super) fn checked(rows: &[Row], place: Place<'_>) -> Result<Package, String> {
    if rows.len() > BRANCHES_MAX {
        let (source, package, count) = (place.source, place.package, rows.len());
        return Err(format!("{source}: {package} has {count} branches, at most {BRANCHES_MAX} are taken"));
    }
    let mut package = Package::default();
    for Row { branch, owner, retired } in rows {
        let name = BranchName::parse(&branch.text).map_err(|why| place.wrong(branch, "branch", &why))?;
        let owner = UserName::parse(&owner.text).map_err(|why| place.wrong(owner, "owner", &why))?;
        if package.branches.insert(name, Branch { owner, retired: *retired }).is_some() {
            return Err(place.wrong(branch, "branch", "is there twice"));
        }
    }
    Ok(package)
}

/// Checks the name of a package; the error is a sentence.
pub(super) fn package_name(name: &Name, source: &str) -> Result<PackageName, String> {
    PackageName::parse(&name.text).map_err(|why| {
        let at = name.place(source);
        format!("{at}: the package {} {why}; it is left out", quoted(&name.text))
    })
}
