//! Which rows must change, and how a person reads that. Pure.
//!
//! * [`directories`]: directories that are new, changed or gone
//! * [`repositories`]: what yum asks for: repositories and versions; [`names`] finds versions and arches in a path, [`prefix`]
//!   makes prefixes of the site's rules
//! * [`details`]: versions of files that metalinks are made of, and which of them are too old
//! * [`text`]: the column `files`
//! * [`tell`]: the changes as people and the guard read them

mod details;
mod directories;
mod names;
mod prefix;
mod repositories;
mod tell;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use handler_api::{Change, Failure, Plan};
use regex::{Regex, RegexSet};

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

impl PrefixRule {
    /// A rule whose expression and words are looked at.
    ///
    /// # Errors
    /// Permanent: `path` is no regular expression; `prefix` has a word in braces that is none.
    pub fn new(path: &str, prefix: Option<&str>) -> Result<Self, Failure> {
        let expression =
            Regex::new(path).map_err(|why| Failure::permanent(format!("{path:?} is no regular expression: {why}")))?;
        let rule = Self { path: expression, prefix: prefix.map(ToOwned::to_owned) };
        prefix::check(&rule)?;
        Ok(rule)
    }
}

/// How the site reads its tree.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// `prefixes`.
    pub prefixes: Vec<PrefixRule>,
    /// `no_repositories`: a directory whose name (below the category's top) has one of these in it is no repository (umdl:
    /// Cloud, Workstation, Server).
    pub no_repositories: Vec<String>,
    /// `no_versions`: no repository is made at or below these (umdl: pub/alt, pub/archive).
    pub no_versions: Vec<String>,
    /// `keep_details`: in days; see [`rows`].
    pub keep_days: u32,
}

/// Forgets of `known` what the category's `excludes` leave out of the tree: nothing is known of it, so it is neither changed
/// nor gone. Call it before [`rows`]. Only directories that are not in the tree are looked at: what is excluded is never there.
pub fn leave_out(known: &mut Known, tree: &Tree, excludes: &RegexSet) {
    if excludes.is_empty() {
        return;
    }
    let strangers = known.strangers.keys().filter(|name| !tree.directories.contains_key(*name));
    let mut out = BTreeSet::new();
    for name in directories::absent(known, tree).chain(strangers) {
        // Nothing below an excluded directory is in the tree either.
        let above = name.match_indices('/').map(|(at, _)| &name[..at]);
        if above.chain([name.as_str()]).any(|path| out.contains(path) || excludes.is_match(path)) {
            out.insert(name.clone());
        }
    }
    if out.is_empty() {
        return;
    }
    known.directories.retain(|name, _| !out.contains(name));
    known.strangers.retain(|name, _| !out.contains(name));
}

/// What must be written. `now` is in seconds since 1970; `files` are the columns of the directories that changed
/// ([`changed`]). Converges: what comes out, written, makes the next call return nothing. Only a directory that another
/// category has already ([`Known::strangers`]) needs a second call: of it no more than the id is known before it is linked.
///
/// Of the versions of a file those on the mirror and the newest stay always; the one before the newest as long as the newest
/// is younger than `keep_days` - 1 days, or itself is younger than `keep_days`; the others as long as they are younger than
/// `keep_days`.
///
/// # Errors
/// Permanent: two directories claim the same prefix and arch for the first time; a prefix has a word that is none. Retry: the
/// tree is not what it should be (its top, or the files of a new directory, are missing).
pub fn rows(
    known: &Known,
    part: &Part,
    tree: &Tree,
    details: &[Detail],
    files: &BTreeMap<i32, Option<Vec<u8>>>,
    reading: &Reading,
    now: i64,
) -> Result<Rows, Failure> {
    let top = known.category.top.as_str();
    if *part == Part::Whole && !tree.directories.contains_key(top) {
        return Err(Failure::retry(format!("the tree of {top} lacks {top} itself, so it is not whole"))
            .hinting("ls -la of that directory below `root`: is it mounted?"));
    }
    let mut rows = Rows { notes: tree.notes.clone(), ..Rows::default() };
    directories::all(known, part, tree, files, &mut rows)?;
    repositories::all(known, tree, reading, &mut rows)?;
    details::all(known, tree, details, reading.keep_days, now, &mut rows);
    Ok(rows)
}

/// The ids of the directories whose `files` column is needed to know what changes: those whose time is another.
#[must_use]
pub fn changed(known: &Known, tree: &Tree) -> Vec<i32> {
    directories::looked_at(known, tree).map(|directory| directory.id).collect()
}

/// The text of the column `files`: umdl's own, sorted by name; only the three newest where there are more than ten of .html, .rpm,
/// .hdr or .drpm. `None` for no files.
#[must_use]
pub fn files_json(files: &[File]) -> Option<String> {
    text::files_json(files)
}

/// The plan as people and the guard read it: rows as changes, summed up over [`LINES_MAX`] of a kind. Every change carries what
/// makes the whole exact (a digest of all the rows), so that apply knows whether it still is the same.
#[must_use]
pub fn told(known: &Known, rows: &Rows) -> Plan {
    tell::told(known, rows)
}

/// The digest of all the rows: what [`told`] puts into each change, as the field `rows`.
#[must_use]
pub fn digest(known: &Known, rows: &Rows) -> String {
    tell::digest(known, rows)
}

/// The digest that the changes of a plan carry.
#[must_use]
pub fn digest_of(changes: &[Change]) -> Option<&str> {
    changes.first()?.more.get("rows")?.as_str()
}

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod prefix_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tests;
