//! What would be pulled: the dry run of one part, as changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use handler_api::{Action, Change, Failure};
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::paths::{self, Piece};
use crate::rsync::{self, Lines, args, exit, itemize, itemize::Item, progress};

/// Changes of one part that are told one by one; more are summed up.
pub const ONE_BY_ONE_MAX: usize = 50;
/// Directories that are summed up each for itself; more are summed up as their part.
pub const SUMS_MAX: usize = 100;
/// Directories that may be gone from the upstream in one request; with more it is not believed.
pub const GONE_MAX: usize = 20;

/// What a dry run of one part found.
#[derive(Debug, Default)]
pub struct Difference {
    /// The changes.
    pub changes: Vec<Change>,
    /// Bytes to come, at most.
    pub bytes: u64,
}

/// The dry run of a piece.
///
/// # Errors
/// The upstream or our own tree can't be read; the upstream has nothing where it must have something.
pub async fn difference(config: &Config, piece: &Piece) -> Result<Difference, Failure> {
    no_links(config, piece)?;
    let mut gone = BTreeSet::new();
    let (mut code, mut said, mut tally) = dry(config, piece).await?;
    if code == Some(exit::VANISHED) {
        gone = missing(config, piece).await?;
        if !gone.is_empty() {
            (code, said, tally) = dry(config, &without(piece, &gone)).await?;
        }
    }
    if code != Some(0) {
        let doing = format!("the dry run of {}", paths::shown(&piece.part));
        return Err(exit::failure(config, &doing, code, &said));
    }
    let depth = piece.part.split('/').filter(|word| !word.is_empty()).count() as u64;
    if tally.part_is_gone || (piece.is_whole() && tally.listed <= depth + 1) {
        return Err(not_believed(config, &piece.part));
    }
    Ok(Difference { bytes: tally.bytes, changes: tally.changes(piece, &gone) })
}

/// The upstream without a whole part: a file system that is not mounted looks so.
fn not_believed(config: &Config, part: &str) -> Failure {
    let message = format!("{} has nothing of {}: that is not believed", config.from, paths::shown(part));
    Failure::retry(message).hinting(format!("rsync {}/{part}; if it is true: rm it here by hand", config.from))
}

/// A piece, with what is gone asked for where it is gone.
#[must_use]
pub fn without(piece: &Piece, gone: &BTreeSet<String>) -> Piece {
    let place =
        |directory: &String| gone.iter().find(|gone| paths::is_below(directory, gone)).unwrap_or(directory).clone();
    Piece { part: piece.part.clone(), directories: piece.directories.iter().map(place).collect() }
}

/// That no directory that is asked for lies behind a link here: rsync would follow it.
///
/// # Errors
/// Permanent: one does.
pub fn no_links(config: &Config, piece: &Piece) -> Result<(), Failure> {
    for directory in &piece.directories {
        let mut place = config.to.clone();
        for word in directory.split('/').filter(|word| !word.is_empty()) {
            place.push(word);
            if fs::symlink_metadata(&place).is_ok_and(|found| found.is_symlink()) {
                let message = format!("directory {directory}: {} is a link here", place.display());
                return Err(Failure::permanent(message).hinting("name the directory that it leads to"));
            }
        }
    }
    Ok(())
}

async fn dry(config: &Config, piece: &Piece) -> Result<(Option<i32>, String, Tally), Failure> {
    let mut tally = Tally::new(piece);
    let mut lines = Lines::default();
    let hear = |some: &[u8]| lines.take(some, |line| tally.take(line));
    let ran = rsync::run(config, args::dry(config), args::names(&piece.directories), hear).await?;
    Ok((ran.code, ran.said, tally))
}

/// The topmost of what is gone of each directory, below the part.
async fn missing(config: &Config, piece: &Piece) -> Result<BTreeSet<String>, Failure> {
    let mut gone: BTreeSet<String> = BTreeSet::new();
    for directory in &piece.directories {
        let mut top = directory.as_str();
        let mut there = exists(config, top).await?;
        let mut entry = None;
        while !there {
            if top == piece.part {
                return Err(not_believed(config, &piece.part));
            }
            entry = Some(top);
            top = top.rsplit_once('/').map_or("", |(above, _)| above);
            there = exists(config, top).await?;
        }
        gone.extend(entry.map(str::to_owned));
        if gone.len() > GONE_MAX {
            return Err(not_believed(config, &piece.part));
        }
    }
    Ok(gone)
}

async fn exists(config: &Config, directory: &str) -> Result<bool, Failure> {
    let ran = rsync::run(config, args::exists(config, directory), Vec::new(), |_| ()).await?;
    match ran.code {
        Some(0) => Ok(true),
        Some(exit::PARTIAL) if ran.said.contains("No such file or directory") => Ok(false),
        code => Err(exit::failure(config, &format!("looking for {directory}"), code, &ran.said)),
    }
}

/// What a dry run said, counted as it comes.
#[derive(Debug)]
struct Tally {
    part: String,
    /// Directories by which is summed up.
    tops: BTreeSet<Vec<u8>>,
    first: Vec<Item>,
    sums: BTreeMap<(&'static str, Vec<u8>), u64>,
    bytes: u64,
    listed: u64,
    part_is_gone: bool,
}

impl Tally {
    fn new(piece: &Piece) -> Self {
        let few = piece.directories.len() <= SUMS_MAX;
        let tops = piece.directories.iter().filter(|_| few).map(|directory| directory.clone().into_bytes()).collect();
        Self {
            part: piece.part.clone(),
            tops,
            first: Vec::new(),
            sums: BTreeMap::new(),
            bytes: 0,
            listed: 0,
            part_is_gone: false,
        }
    }

    fn take(&mut self, line: &[u8]) {
        self.listed = itemize::files(line).unwrap_or(self.listed);
        let Some(item) = itemize::read(line) else { return };
        self.bytes += item.bytes;
        self.part_is_gone |= item.action == Action::Delete && item.path == self.part.as_bytes();
        let verb = match item.action {
            Action::Create => "create",
            Action::Delete => "delete",
            _ => "update",
        };
        *self.sums.entry((verb, self.top(&item.path))).or_default() += 1;
        if self.first.len() <= ONE_BY_ONE_MAX {
            self.first.push(item);
        }
    }

    /// The directory that a path is summed up with.
    fn top(&self, path: &[u8]) -> Vec<u8> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let found = ends.chain([path.len()]).map(|end| &path[..end]).find(|top| self.tops.contains(*top));
        found.map_or_else(|| self.part.clone().into_bytes(), <[u8]>::to_vec)
    }

    fn changes(&self, piece: &Piece, gone: &BTreeSet<String>) -> Vec<Change> {
        let more = |mut more: Map<String, Value>| {
            if !gone.is_empty() {
                more.insert("gone".into(), json!(gone));
            }
            more
        };
        if self.first.len() <= ONE_BY_ONE_MAX {
            let one = |item: &Item| change(item.action, itemize::shown(&item.path), more(mark(&piece.part)));
            return self.first.iter().map(one).collect();
        }
        let sum = |((verb, top), count): (&(&'static str, Vec<u8>), &u64)| {
            let action = match *verb {
                "create" => Action::Create,
                "delete" => Action::Delete,
                _ => Action::Update,
            };
            let target =
                if top.is_empty() { "files".to_owned() } else { format!("files below {}", itemize::shown(top)) };
            Change { count: Some(*count), ..change(action, target, more(mark(&piece.part))) }
        };
        self.sums.iter().map(sum).collect()
    }
}

/// What a change carries so that apply knows which part it is in.
#[must_use]
pub fn mark(part: &str) -> Map<String, Value> {
    Map::from_iter([("in".to_owned(), Value::from(part))])
}

/// A change with nothing but that.
#[must_use]
pub fn change(action: Action, target: String, more: Map<String, Value>) -> Change {
    Change { action, target, before: None, after: None, secret: false, hold: None, count: None, more }
}

/// What is to come, for people.
#[must_use]
pub fn to_come(part: &str, difference: &Difference) -> String {
    let count: u64 = difference.changes.iter().map(|change| change.count.unwrap_or(1)).sum();
    format!("{}: {count} to change, {} to come at most", paths::shown(part), progress::size(difference.bytes))
}
