//! The handler's block of the rules file; which directories a message means. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use handler_api::Failure;
use regex::RegexSet;
use serde_json::{Map, Value};

use crate::plan::Reading;
use crate::store::Place;
use crate::tree::List;

/// All of it.
#[derive(Clone, Debug)]
pub struct Config {
    /// `database`.
    pub database: Place,
    /// `root`: the directory that names in the database are relative to.
    pub root: PathBuf,
    /// `categories`, by name.
    pub categories: BTreeMap<String, CategoryConfig>,
    /// `prefixes`, `no_repositories`, `no_versions`, `keep_details`.
    pub reading: Reading,
    /// `directories`: where a message names none.
    pub hints: Hints,
    /// `old_list`: what to do while the list is older than the message.
    pub old_list: OldList,
}

/// One category of the block.
#[derive(Clone, Debug)]
pub struct CategoryConfig {
    /// `path`: its top directory, as the database must have it: `pub/epel`.
    pub top: String,
    /// `list`: the master's file list; absent = the whole category is walked too.
    pub list: Option<List>,
    /// `excludes`, after umdl's two (`.*\.snapshot`, `.*/\.~tmp~`).
    pub excludes: RegexSet,
}

/// While the list is older than the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldList {
    /// Walk the hinted directories (default).
    Walk,
    /// Try again until there is a newer one.
    Wait,
}

/// `directories`: what a message that names a repo and a release means. `{release}` stands for the release; the first whose `repo`
/// and `release` fit counts.
#[derive(Clone, Debug, Default)]
pub struct Hints {}

impl Config {
    /// Reads the block.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word and says what is expected.
    pub fn read(words: &Map<String, Value>) -> Result<Self, Failure> {
        let _ = words;
        todo!()
    }
}

impl Hints {
    /// The directories that (repo, release) stand for.
    ///
    /// # Errors
    /// Permanent: the table has no line for them; the hint says which line to write.
    pub fn directories(&self, repo: &str, release: &str) -> Result<BTreeSet<String>, Failure> {
        let _ = (repo, release);
        todo!()
    }
}
