//! Directories that are new, changed or gone.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::iter;

use handler_api::Failure;

use super::text::files_json;
use crate::rows::{DirectoryChange, Files, Found, Known, KnownDirectory, NewDirectory, Part, Rows, Tree};

/// What the column says of a directory that had files, and has none now; one that never had any is NULL.
const NO_FILES: &str = "[]";

/// Whether this is the top directory in a file list, which has no line for it: its time and whether it is readable are not
/// known then, and stay what they are.
fn has_no_line(known: &Known, name: &str, found: &Found) -> bool {
    found.time == 0 && name == known.category.top
}

/// A directory's name; what the database has of it; what is on the mirror.
type Pair<'a> = (&'a String, Option<&'a KnownDirectory>, Option<&'a Found>);

/// All directories of both sides in the order of their names: both are sorted, so each is walked once.
fn pairs<'a>(known: &'a Known, tree: &'a Tree) -> impl Iterator<Item = Pair<'a>> + use<'a> {
    let (mut known, mut tree) = (known.directories.iter().peekable(), tree.directories.iter().peekable());
    iter::from_fn(move || {
        let order = match (known.peek(), tree.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let directory = if order.is_le() { known.next() } else { None };
        let found = if order.is_ge() { tree.next() } else { None };
        let name = directory.map(|(name, _)| name).or(found.map(|(name, _)| name))?;
        Some((name, directory.map(|(_, one)| one), found.map(|(_, one)| one)))
    })
}

/// Directories that the database has, and that are not on the mirror.
pub(super) fn absent<'a>(known: &'a Known, tree: &'a Tree) -> impl Iterator<Item = &'a String> + use<'a> {
    pairs(known, tree).filter(|(_, _, found)| found.is_none()).map(|(name, ..)| name)
}

/// The directories that the database has too and whose files were read because something of them may have changed.
pub(super) fn looked_at<'a>(known: &'a Known, tree: &'a Tree) -> impl Iterator<Item = &'a KnownDirectory> + use<'a> {
    pairs(known, tree).filter_map(move |(name, directory, found)| {
        let (directory, found) = directory.zip(found)?;
        is_looked_at(known, name, directory, found).then_some(directory)
    })
}

fn is_looked_at(known: &Known, name: &str, directory: &KnownDirectory, found: &Found) -> bool {
    matches!(found.files, Files::All(_)) && (directory.time != Some(found.time) || has_no_line(known, name, found))
}

/// What is on the mirror, and what is there no more. The top directory never goes.
pub(super) fn all(
    known: &Known,
    part: &Part,
    tree: &Tree,
    files: &BTreeMap<i32, Option<Vec<u8>>>,
    rows: &mut Rows,
) -> Result<(), Failure> {
    for (name, directory, found) in pairs(known, tree) {
        match (directory, found) {
            (Some(directory), Some(found)) => rows.directories.extend(change(known, name, directory, found, files)),
            (None, Some(found)) => match known.strangers.get(name) {
                Some(id) => rows.links.push((*id, name.clone())),
                None => rows.new_directories.push(new(name, found)?),
            },
            (Some(directory), None) if *name != known.category.top && part.has(name) => {
                let others = directory.categories > 1;
                let list = if others { &mut rows.unlinks } else { &mut rows.gone_directories };
                list.push((directory.id, name.clone()));
            }
            (_, None) => {}
        }
    }
    Ok(())
}

fn new(name: &str, found: &Found) -> Result<NewDirectory, Failure> {
    let Files::All(files) = &found.files else {
        return Err(Failure::retry(format!(
            "the files of {name} were not read, but the database does not have it either"
        )));
    };
    Ok(NewDirectory { name: name.to_owned(), time: found.time, readable: found.readable, files: files_json(files) })
}

fn change(
    known: &Known,
    name: &str,
    directory: &KnownDirectory,
    found: &Found,
    files: &BTreeMap<i32, Option<Vec<u8>>>,
) -> Option<DirectoryChange> {
    let (time, readable) = if has_no_line(known, name, found) {
        (directory.time.unwrap_or(0), directory.readable)
    } else {
        (found.time, found.readable)
    };
    let moved = directory.time != Some(time);
    let files = match &found.files {
        Files::All(now) if is_looked_at(known, name, directory, found) => {
            column(files_json(now), files.get(&directory.id), moved)
        }
        Files::All(_) | Files::Unchanged => None,
    };
    let same = !moved && directory.readable == readable && files.is_none();
    (!same).then(|| DirectoryChange {
        id: directory.id,
        name: name.to_owned(),
        was: directory.time,
        time,
        readable,
        files,
    })
}

/// The column to be, where it is not what stands there. A column that was not read is written, if the row is written anyway.
fn column(now: Option<String>, stands: Option<&Option<Vec<u8>>>, moved: bool) -> Option<Option<String>> {
    match (stands, now) {
        (None, now) => moved.then_some(now),
        (Some(None), None) => None,
        (Some(None), Some(now)) => Some(Some(now)),
        (Some(Some(stands)), now) => {
            let now = now.unwrap_or_else(|| NO_FILES.to_owned());
            (stands.as_slice() != now.as_bytes()).then_some(Some(now))
        }
    }
}
