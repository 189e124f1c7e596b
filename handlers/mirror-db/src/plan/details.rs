//! Versions of the files that metalinks are made of: the new ones, and those that no mirror can have any more.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::rows::{Detail, Known, Rows, Sums, Tree};

/// In seconds.
const DAY: i64 = 24 * 60 * 60;

/// The versions of one file.
#[derive(Default)]
struct Versions<'a> {
    known: Vec<(i32, &'a Detail)>,
    /// What is on the mirror.
    now: BTreeSet<&'a Detail>,
}

/// One of them, as ageing sees it.
struct Aged<'a> {
    /// `None` = it is on the mirror: it stays.
    id: Option<i32>,
    time: i64,
    directory: &'a str,
    filename: &'a str,
}

/// New rows, and rows that go. Only of directories that are there: the rows of one that goes, go with it; of one that is only
/// linked now, none are known yet.
pub(super) fn all(known: &Known, tree: &Tree, details: &[Detail], keep_days: u32, now: i64, rows: &mut Rows) {
    let mut files: BTreeMap<(&str, &str), Versions<'_>> = BTreeMap::new();
    for (id, detail) in &known.details {
        let there = tree.directories.contains_key(&detail.directory);
        if there && known.directories.contains_key(&detail.directory) {
            files.entry((&detail.directory, &detail.filename)).or_default().known.push((*id, detail));
        }
    }
    for detail in details {
        let there = tree.directories.contains_key(&detail.directory);
        if there && !known.strangers.contains_key(&detail.directory) {
            files.entry((&detail.directory, &detail.filename)).or_default().now.insert(detail);
        }
    }
    for versions in files.into_values() {
        one(versions, keep_days, now, rows);
    }
}

fn one(versions: Versions<'_>, keep_days: u32, now: i64, rows: &mut Rows) {
    let mut standing: BTreeSet<i32> = BTreeSet::new();
    let mut aged: Vec<Aged<'_>> = Vec::with_capacity(versions.known.len() + versions.now.len());
    for detail in versions.now {
        match versions.known.iter().find(|(_, known)| is_same(known, detail)) {
            Some((id, _)) => drop(standing.insert(*id)),
            None => {
                rows.new_details.push(detail.clone());
                aged.extend(Aged::new(None, detail));
            }
        }
    }
    aged.extend(
        versions.known.iter().filter_map(|(id, detail)| Aged::new((!standing.contains(id)).then_some(*id), detail)),
    );
    // For those that stand on the mirror too, the newest first.
    aged.sort_by_key(|one| (Reverse(one.time), one.id.is_some(), Reverse(one.id)));
    let Some(newest) = aged.first() else { return };
    let before = |days: u32| now.saturating_sub(i64::from(days) * DAY);
    let kept = if newest.time < before(keep_days.saturating_sub(1)) { 1 } else { 2 };
    for old in aged.iter().skip(kept).filter(|old| old.time < before(keep_days)) {
        rows.gone_details.extend(old.id.map(|id| (id, format!("{}/{}", old.directory, old.filename))));
    }
}

impl<'a> Aged<'a> {
    /// Nothing is known of the age of a row without a time: it stays.
    fn new(id: Option<i32>, detail: &'a Detail) -> Option<Self> {
        let time = detail.timestamp?;
        Some(Self { id, time, directory: &detail.directory, filename: &detail.filename })
    }
}

/// Whether a row is this version. scan-primary-mirror writes an empty text where umdl writes NULL.
fn is_same(known: &Detail, now: &Detail) -> bool {
    let sum = |one: &Option<String>, other: &Option<String>| {
        let [one, other] = [one, other].map(|sum| sum.as_deref().unwrap_or_default());
        one.eq_ignore_ascii_case(other)
    };
    let Sums { md5, sha1, sha256, sha512 } = &known.sums;
    known.timestamp == now.timestamp
        && known.size == now.size
        && sum(md5, &now.sums.md5)
        && sum(sha1, &now.sums.sha1)
        && sum(sha256, &now.sums.sha256)
        && sum(sha512, &now.sums.sha512)
}
