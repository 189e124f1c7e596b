//! What is on the mirror: a walk of the hinted directories, or the master's own file list.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use handler_api::Failure;
use regex::RegexSet;

use crate::rows::{Part, Tree};

pub(crate) mod folder;
mod list;
mod names;
mod walk;

/// More notes than this are only counted.
pub const NOTES_MAX: usize = 20;

/// What both sources are told. Nothing below a directory that is excluded is looked at.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The directory that names are relative to: `/srv/mirror`, so that `pub/epel` is `/srv/mirror/pub/epel`.
    pub root: &'a Path,
    /// The category's top directory: `pub/epel`.
    pub top: &'a str,
    /// What to look at.
    pub part: &'a Part,
    /// The time of each directory in the database: one with the same time is [`crate::rows::Files::Unchanged`].
    pub times: &'a BTreeMap<&'a str, i64>,
    /// What is left out, matched at the beginning of a directory's whole name, as umdl does.
    pub excludes: &'a RegexSet,
}

/// A file list as `create-filelist` writes it (`fullfiletimelist-*`; format version 2, CC0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The file.
    pub path: PathBuf,
    /// What every path in it lacks: the name of the directory it was made in (`pub/epel`; for "Fedora Linux" `pub/fedora`).
    pub base: String,
}

/// Walks the directories of the part on disk. Blocks: call it where blocking is allowed.
///
/// # Errors
/// Retry: the root or the top directory is not there, not readable or empty (a mount that failed); a directory vanished or
/// can't be read while it was walked; nothing was found though the database knows directories there. A part's directory that is
/// not there, while its parent is and is not empty, is no error: it is absent from the tree.
pub fn walk(ask: &Ask<'_>) -> Result<Tree, Failure> {
    walk::walk(ask)
}

/// Reads a list. Blocks.
///
/// # Errors
/// Retry: it is not there, empty, without `[Version]` 2, `[Files]` or `[End]`, changed while it was read, has a line that is no
/// line (then who asks may walk instead).
pub fn read(list: &List, ask: &Ask<'_>) -> Result<Tree, Failure> {
    list::read(list, ask)
}

/// When a list was made: its mtime, in seconds since 1970. A list older than a message says nothing about it.
///
/// # Errors
/// Retry: it is not there.
pub fn made(list: &List) -> Result<i64, Failure> {
    let shown = list.path.display();
    let meta = std::fs::metadata(&list.path)
        .map_err(|error| Failure::retry(format!("the file list {shown}: {error}")).hinting(format!("ls -l {shown}")))?;
    Ok(meta.mtime())
}

#[cfg(test)]
pub(crate) mod tests;
