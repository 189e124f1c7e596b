//! What the tests of both sources share.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use handler_api::Failure;
use regex::RegexSet;

use super::*;
use crate::rows::{Files, Found};

/// Makes a file and what is above it.
pub(crate) fn file(root: &Path, name: &str, content: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A question about `pub/epel`, which the tests change.
pub(crate) struct Asked {
    pub(crate) part: Part,
    pub(crate) times: BTreeMap<&'static str, i64>,
    pub(crate) excludes: RegexSet,
    pub(crate) top: &'static str,
}

impl Asked {
    pub(crate) fn whole() -> Self {
        let excludes = RegexSet::new([r".*\.snapshot", r".*/\.~tmp~"]).unwrap();
        Self { part: Part::Whole, times: BTreeMap::new(), excludes, top: "pub/epel" }
    }

    pub(crate) fn below(names: &[&str]) -> Self {
        let part = Part::Below(names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>());
        Self { part, ..Self::whole() }
    }

    pub(crate) fn ask<'a>(&'a self, root: &'a Path) -> Ask<'a> {
        Ask { root, top: self.top, part: &self.part, times: &self.times, excludes: &self.excludes }
    }
}

pub(crate) fn names(tree: &Tree) -> Vec<&str> {
    tree.directories.keys().map(String::as_str).collect()
}

pub(crate) fn found<'a>(tree: &'a Tree, name: &str) -> &'a Found {
    tree.directories.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", names(tree)))
}

pub(crate) fn file_names(found: &Found) -> Vec<&str> {
    let Files::All(files) = &found.files else { panic!("unchanged") };
    let mut names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    names.sort_unstable();
    names
}

pub(crate) fn is_retry(failure: &Failure) -> bool {
    matches!(failure, Failure::Retry { .. })
}

#[test]
fn a_list_that_is_not_there_was_not_made() {
    let root = tempfile::tempdir().unwrap();
    let list = List { path: root.path().join("fullfiletimelist"), base: "pub/epel".to_owned() };
    let failure = made(&list).unwrap_err();
    assert!(is_retry(&failure), "{failure}");
    assert!(failure.hint().unwrap().starts_with("ls -l "));
    fs::write(&list.path, "x").unwrap();
    assert!(made(&list).unwrap() > 1_600_000_000);
}
