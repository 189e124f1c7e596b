//! Which rows must change, and how a person reads that. Pure.

use std::collections::BTreeMap;

use handler_api::{Change, Failure, Plan};
use regex::Regex;

use crate::rows::{Detail, File, Known, Part, Rows, Tree};

/// More changes of one kind than this are said in one line, with their number.
pub const LINES_MAX: usize = 50;

/// What yum asks for: the first whose `path` fits makes the prefix (`prefixes` of the block).
#[derive(Clone, Debug)]
pub struct PrefixRule {
    /// Matched against the directory's whole name, anywhere in it unless anchored.
    pub path: Regex,
    /// `epel-{kind}{version}`: `{kind}` is `debug-`, `source-` or nothing, `{version}` the version's name; `{1}`, `{name}` are
    /// groups of the expression. `None` = a repository without a prefix.
    pub prefix: Option<String>,
}

/// How the site reads its tree.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// `prefixes`.
    pub prefixes: Vec<PrefixRule>,
    /// `no_repositories`: a directory whose name has one of these in it is no repository (umdl: Cloud, Workstation, Server).
    pub no_repositories: Vec<String>,
    /// `no_versions`: no repository is made below these (umdl: pub/alt, pub/archive).
    pub no_versions: Vec<String>,
    /// `keep_details`: in days; see [`rows`].
    pub keep_days: u32,
}

/// What must be written. `now` is in seconds since 1970; `files` are the columns of the directories that changed
/// ([`changed`]). Converges: what comes out, written, makes the next call return nothing.
///
/// # Errors
/// Permanent: two directories claim the same prefix and arch for the first time.
pub fn rows(
    known: &Known,
    part: &Part,
    tree: &Tree,
    details: &[Detail],
    files: &BTreeMap<i32, Option<Vec<u8>>>,
    reading: &Reading,
    now: i64,
) -> Result<Rows, Failure> {
    let _ = (known, part, tree, details, files, reading, now);
    todo!()
}

/// The ids of the directories whose `files` column is needed to know what changes: those whose time is another.
#[must_use]
pub fn changed(known: &Known, tree: &Tree) -> Vec<i32> {
    let _ = (known, tree);
    todo!()
}

/// The text of the column `files`: umdl's own, sorted by name; only the three newest where there are more than ten of .html, .rpm,
/// .hdr or .drpm. `None` for no files.
#[must_use]
pub fn files_json(files: &[File]) -> Option<String> {
    let _ = files;
    todo!()
}

/// The plan as people and the guard read it: rows as changes, summed up over [`LINES_MAX`] of a kind. Every change carries what
/// makes the whole exact (a digest of all the rows), so that apply knows whether it still is the same.
#[must_use]
pub fn told(known: &Known, rows: &Rows) -> Plan {
    let _ = (known, rows);
    todo!()
}

/// The digest of all the rows: what [`told`] puts into each change, as the field `rows`.
#[must_use]
pub fn digest(known: &Known, rows: &Rows) -> String {
    let _ = (known, rows);
    todo!()
}

/// The digest that the changes of a plan carry.
#[must_use]
pub fn digest_of(changes: &[Change]) -> Option<&str> {
    changes.first()?.more.get("rows")?.as_str()
}
