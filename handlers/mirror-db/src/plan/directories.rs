//! Directories that are new, changed or gone.

use std::collections::BTreeMap;

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

/// The directories that the database has too and whose files were read because something of them may have changed.
pub(super) fn looked_at<'a>(
    known: &'a Known,
    tree: &'a Tree,
) -> impl Iterator<Item = (&'a KnownDirectory, &'a Found)> + use<'a> {
    tree.directories.iter().filter_map(move |(name, found)| {
        let directory = known.directories.get(name)?;
        is_looked_at(known, name, directory, found).then_some((directory, found))
    })
}

fn is_looked_at(known: &Known, name: &str, directory: &KnownDirectory, found: &Found) -> bool {
    matches!(found.files, Files::All(_)) && (directory.time != Some(found.time) || has_no_line(known, name, found))
}

/// Those on the mirror.
pub(super) fn come(
    known: &Known,
    tree: &Tree,
    files: &BTreeMap<i32, Option<Vec<u8>>>,
    rows: &mut Rows,
) -> Result<(), Failure> {
    for (name, found) in &tree.directories {
        if let Some(directory) = known.directories.get(name) {
            rows.directories.extend(change(known, name, directory, found, files));
        } else if let Some(id) = known.strangers.get(name) {
            rows.links.push((*id, name.clone()));
        } else {
            rows.new_directories.push(new(name, found)?);
        }
    }
    Ok(())
}

fn new(name: &str, found: &Found) -> Result<NewDirectory, Failure> {
    let Files::All(files) = &found.files else {
        return Err(Failure::retry(format!("the files of {name} were not read, but the database does not have it either")));
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

/// Those that are on the mirror no more. The top directory never goes.
pub(super) fn go(known: &Known, part: &Part, tree: &Tree, rows: &mut Rows) {
    for (name, directory) in &known.directories {
        if *name == known.category.top || tree.directories.contains_key(name) || !part.has(name) {
            continue;
        }
        let gone = (directory.id, name.clone());
        if directory.categories > 1 { rows.unlinks.push(gone) } else { rows.gone_directories.push(gone) }
    }
}
