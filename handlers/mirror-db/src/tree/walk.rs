//! The walk: every directory is stat'ed, files only in those whose time is another than the database's.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use handler_api::Failure;
use handler_api::notes::Notes;
use rustix::fs::{FileType, RawDir, SeekFrom, Stat, fstat, seek};
use rustix::io::Errno;

use super::NOTES_MAX;
use super::names::{self, Excludes};
use super::{Ask, folder};
use crate::details::is_read;
use crate::rows::{File, Files, Found, Part, Tree};

mod settle;

/// How often a directory is read that changes meanwhile.
const READS_MAX: usize = 4;
/// Deepest directory below the category's top; each level holds one open file.
const DEPTH_MAX: usize = 128;
/// How many bytes of directory entries are asked for at once.
const ENTRIES_BYTES: usize = 64 * 1024;
/// Others may read or enter.
const OTHERS: u32 = 0o005;

struct Walk<'a> {
    ask: &'a Ask<'a>,
    excludes: Excludes,
    tree: Tree,
    notes: Notes,
    buffer: Vec<u8>,
    /// When the walk began, in seconds since 1970.
    began: i64,
    fresh: Vec<settle::Fresh>,
}

pub(super) fn walk(ask: &Ask<'_>) -> Result<Tree, Failure> {
    let mut walk = Walk::new(ask)?;
    let top = walk.top()?;
    match ask.part {
        Part::Whole => walk.directory(&top, ask.top.to_owned(), true, 0)?,
        Part::Below(hinted) => walk.hinted(&top, hinted)?,
    }
    walk.tree.notes = std::mem::take(&mut walk.notes).into_sentences();
    walk.not_suddenly_empty()?;
    walk.settle()?;
    Ok(walk.tree)
}

impl<'a> Walk<'a> {
    fn new(ask: &'a Ask<'a>) -> Result<Self, Failure> {
        let excludes = Excludes::new(ask.excludes)?;
        if excludes.has(ask.top) {
            return Err(Failure::permanent(format!("`excludes` leave out {}, the whole category", ask.top)));
        }
        Ok(Self {
            ask,
            excludes,
            tree: Tree::default(),
            notes: Notes::at_most(NOTES_MAX),
            buffer: Vec::with_capacity(ENTRIES_BYTES),
            began: settle::seconds(settle::now()),
            fresh: Vec::new(),
        })
    }
}

impl Walk<'_> {
    fn path(&self, name: &str) -> String {
        self.ask.root.join(name).display().to_string()
    }

    fn trouble(&self, name: &str, why: &str) -> Failure {
        let path = self.path(name);
        Failure::retry(format!("{path}: {why}")).hinting(format!("ls -ld {path}"))
    }

    fn errno(&self, name: &str, error: Errno) -> Failure {
        match error {
            Errno::NOENT | Errno::STALE | Errno::NOTDIR | Errno::LOOP => {
                self.trouble(name, &format!("vanished while it was walked ({error})"))
            }
            Errno::ACCESS | Errno::PERM => {
                let path = self.path(name);
                Failure::retry(format!("{path} can't be read, so what is in it is unknown: {error}"))
                    .hinting(format!("ls -ld {path}; let the handler's user read it, or name it in `excludes`"))
            }
            _ => self.trouble(name, &error.to_string()),
        }
    }

    /// The category's top directory, which must be there and have something in it.
    fn top(&mut self) -> Result<OwnedFd, Failure> {
        let missing = |name: &str, error: Errno, walk: &Self| {
            let path = walk.path(name);
            let why = if matches!(error, Errno::NOTDIR | Errno::LOOP) {
                "it is no directory, or a link, which is not followed below `root`".to_owned()
            } else {
                format!("{error}; is it mounted?")
            };
            Failure::retry(format!("{path}: {why}")).hinting(format!("ls -ld {path}; findmnt -T {path}"))
        };
        let mut at = folder::root(self.ask.root).map_err(|error| missing("", error, self))?;
        let mut name = String::new();
        for part in parts(self.ask.top)? {
            name = names::below(&name, part);
            at = folder::enter(&at, part).map_err(|error| missing(&name, error, self))?;
        }
        if !self.any_entry(at.as_fd(), &name)? {
            let path = self.path(&name);
            return Err(Failure::retry(format!("{path} is empty; is it mounted?"))
                .hinting(format!("ls -la {path}; findmnt -T {path}")));
        }
        Ok(at)
    }

    fn hinted(&mut self, top: &OwnedFd, hinted: &BTreeSet<String>) -> Result<(), Failure> {
        let top_readable = readable(&fstat(top).map_err(|error| self.errno(self.ask.top, error))?);
        for name in hinted {
            let Some(rest) = name.strip_prefix(self.ask.top).and_then(|rest| rest.strip_prefix('/')) else {
                return Err(Failure::permanent(format!("{name} is not below {}", self.ask.top)));
            };
            self.one_hinted(top, top_readable, &parts(rest)?)?;
        }
        Ok(())
    }

    /// Goes down to a hinted directory. One that is not there is absent, if the last that is there on the way has something in it.
    fn one_hinted(&mut self, top: &OwnedFd, mut above: bool, parts: &[&str]) -> Result<(), Failure> {
        let mut name = self.ask.top.to_owned();
        let mut entered: Option<OwnedFd> = None;
        for (depth, part) in parts.iter().enumerate() {
            let at = entered.as_ref().unwrap_or(top);
            let child = names::below(&name, part);
            if self.excludes.has(&child) {
                self.notes.add(|| format!("{child} is left out by `excludes`"));
                return Ok(());
            }
            let next = match folder::enter(at, *part) {
                Ok(next) => next,
                Err(Errno::NOENT) if self.any_entry(at.as_fd(), &name)? => return Ok(()),
                Err(Errno::NOENT) => {
                    return Err(
                        self.trouble(&name, &format!("it is empty, so that {child} is unknown; is it mounted?"))
                    );
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    self.notes.add(|| format!("{child} is a file or a link, no directory: not walked"));
                    return Ok(());
                }
                Err(error) => return Err(self.errno(&child, error)),
            };
            if depth + 1 == parts.len() {
                return self.directory(&next, child, above, depth + 1);
            }
            above &= readable(&fstat(&next).map_err(|error| self.errno(&child, error))?);
            name = child;
            entered = Some(next);
        }
        Ok(())
    }

    fn directory(&mut self, at: &OwnedFd, name: String, above: bool, depth: usize) -> Result<(), Failure> {
        if depth > DEPTH_MAX {
            return Err(self.trouble(&name, &format!("it is more than {DEPTH_MAX} directories deep")));
        }
        let seen = self.look(at.as_fd(), &name)?;
        for bad in &seen.bad {
            let name = &name;
            self.notes.add(|| format!("left out, its name can't be written: {name}/{}", names::shown(bad)));
        }
        let readable = above && seen.readable;
        let has = |wanted: &CStr| seen.below.iter().any(|child| child.as_c_str() == wanted);
        let found = Found {
            time: seen.time,
            readable,
            has_repodata: has(c"repodata"),
            is_ostree: seen.has_summary && has(c"objects"),
            files: seen.files.map_or(Files::Unchanged, Files::All),
            read: seen.read,
        };
        for child in &seen.below {
            let Some(text) = names::text(child.to_bytes()) else { continue };
            let whole = names::below(&name, text);
            if self.excludes.has(&whole) {
                continue;
            }
            let entered = folder::enter(at, child.as_c_str()).map_err(|error| self.errno(&whole, error))?;
            self.directory(&entered, whole, readable, depth + 1)?;
        }
        self.tree.directories.insert(name, found);
        Ok(())
    }

    /// Reads a directory until it holds still.
    fn look(&mut self, at: BorrowedFd<'_>, name: &str) -> Result<Seen, Failure> {
        for _ in 0..READS_MAX {
            let before = fstat(at).map_err(|error| self.errno(name, error))?;
            let known = self.ask.times.get(name).copied();
            let seen = read(at, &before, known, &mut self.buffer).map_err(|error| self.errno(name, error))?;
            let after = fstat(at).map_err(|error| self.errno(name, error))?;
            if after.st_nlink == 0 {
                return Err(self.errno(name, Errno::NOENT));
            }
            let stamp = folder::Stamp::of(&before);
            if let Some(seen) = seen.filter(|_| stamp == folder::Stamp::of(&after)) {
                if seen.time >= self.began {
                    self.fresh.push(settle::Fresh { name: name.to_owned(), time: seen.time, stamp });
                }
                return Ok(seen);
            }
        }
        Err(self.trouble(name, &format!("still changing, read {READS_MAX} times")))
    }

    fn any_entry(&mut self, at: BorrowedFd<'_>, name: &str) -> Result<bool, Failure> {
        let mut any = false;
        each(at, &mut self.buffer, |_, _| {
            any = true;
            Ok(false)
        })
        .map_err(|error| self.errno(name, error))?;
        Ok(any)
    }

    /// Directories that are there but have nothing in them, though the database knows some below: a mount that failed.
    fn not_suddenly_empty(&self) -> Result<(), Failure> {
        let Part::Below(hinted) = self.ask.part else { return Ok(()) };
        let bare = |name: &&String| {
            let found = self.tree.directories.get(name.as_str());
            let below = format!("{name}/");
            found.is_some_and(|found| !matches!(&found.files, Files::All(files) if !files.is_empty()))
                && self.tree.notes.is_empty()
                && !self
                    .tree
                    .directories
                    .range(below.clone()..)
                    .next()
                    .is_some_and(|(next, _)| next.starts_with(&below))
        };
        for name in hinted.iter().filter(bare) {
            let below = format!("{name}/");
            let known = self.ask.times.range(below.as_str()..).take_while(|(next, _)| next.starts_with(&below)).count();
            if known > 0 {
                let path = self.path(name);
                return Err(Failure::retry(format!(
                    "{path} has nothing in it, though the database knows {known} directories below it; is it mounted?"
                ))
                .hinting(format!("ls -la {path}; findmnt -T {path}")));
            }
        }
        Ok(())
    }
}

/// The parts of a name, none of which leads elsewhere.
fn parts(name: &str) -> Result<Vec<&str>, Failure> {
    let parts: Vec<&str> = name.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..") || names::text(part.as_bytes()).is_none()) {
        let shown = names::shown(name.as_bytes());
        return Err(Failure::permanent(format!("`{shown}` is no name of a directory: like pub/epel/9")));
    }
    Ok(parts)
}

fn readable(stat: &Stat) -> bool {
    stat.st_mode & OTHERS != 0
}

/// What one reading of a directory shows.
struct Seen {
    time: i64,
    readable: bool,
    /// Its directories; links are none.
    below: Vec<CString>,
    /// `None` = not looked at.
    files: Option<Vec<File>>,
    has_summary: bool,
    read: Vec<String>,
    /// Names that can't be written.
    bad: Vec<Vec<u8>>,
}

/// `None`: a file went away between its name and its stat.
fn read(at: BorrowedFd<'_>, stat: &Stat, known: Option<i64>, buffer: &mut Vec<u8>) -> Result<Option<Seen>, Errno> {
    let time = folder::time(stat);
    let mut seen = Seen {
        time,
        readable: readable(stat),
        below: Vec::new(),
        files: (known != Some(time)).then(Vec::new),
        has_summary: false,
        read: Vec::new(),
        bad: Vec::new(),
    };
    let mut whole = true;
    each(at, buffer, |name, kind| {
        whole = entry(&mut seen, at, name, kind)?;
        Ok(whole)
    })?;
    Ok(whole.then_some(seen))
}

/// Takes in one name; false = it is gone.
fn entry(seen: &mut Seen, at: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<bool, Errno> {
    let kind = match kind {
        FileType::Unknown => match folder::stat_in(at, name) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error),
        },
        known => known,
    };
    if !matches!(kind, FileType::Directory | FileType::RegularFile) {
        return Ok(true);
    }
    let Some(text) = names::text(name.to_bytes()) else {
        seen.bad.push(name.to_bytes().to_owned());
        return Ok(true);
    };
    if kind == FileType::Directory {
        seen.below.push(name.to_owned());
        return Ok(true);
    }
    if let Some(files) = &mut seen.files {
        match folder::stat_in(at, name) {
            Ok(stat) if folder::is_file(&stat) => files.push(File {
                name: text.to_owned(),
                size: u64::try_from(stat.st_size).unwrap_or_default(),
                time: folder::time(&stat),
            }),
            Ok(_) | Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    seen.has_summary |= text == "summary";
    if is_read(text) {
        seen.read.push(text.to_owned());
    }
    Ok(true)
}

/// Says every name in a directory, until it is told false. A directory that was removed is an error, not an empty one.
fn each(
    at: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
    mut say: impl FnMut(&CStr, FileType) -> Result<bool, Errno>,
) -> Result<(), Errno> {
    seek(at, SeekFrom::Start(0))?;
    buffer.clear();
    let mut entries = RawDir::new(at, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if !say(name, entry.file_type())? {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
