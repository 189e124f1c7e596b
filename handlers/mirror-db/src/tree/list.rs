//! The file list of the master. It is read twice: first for the directories (files may stand before theirs), then for the files
//! of those that changed, so that memory holds no more than that.

use std::collections::HashMap;
use std::fs::{File as Open, Metadata};
use std::io::{BufReader, Seek as _};
use std::os::unix::fs::MetadataExt;

use handler_api::Failure;
use handler_api::notes::Notes;

use self::lines::{Algorithm, Entry, Refused, Said};
use super::NOTES_MAX;
use super::names::{self, Excludes};
use super::{Ask, List};
use crate::details::is_read;
use crate::rows::{File, Files, Found, Part, Sums, Tree};

mod lines;

/// How many bytes of the list are read at once.
const READ_BYTES: usize = 256 * 1024;

/// A directory, while the list is read.
struct Folder {
    time: i64,
    /// As its own line says; then also as those above say.
    readable: bool,
    /// By the excludes, or what is above it is.
    left_out: bool,
    /// In the part and not left out.
    wanted: bool,
    has_repodata: bool,
    has_objects: bool,
    has_summary: bool,
    /// `None` = not looked at.
    files: Option<Vec<File>>,
    read: Vec<String>,
}

struct Reading<'a> {
    ask: &'a Ask<'a>,
    list: &'a List,
    excludes: Excludes,
    /// What the paths of the category begin with: `linux`; nothing if the list was made in the top directory.
    inside: String,
    /// By what stands below the category's top: nothing for the top itself.
    index: HashMap<Vec<u8>, usize>,
    folders: Vec<Folder>,
    sums: HashMap<String, Sums>,
    /// The directory of the file before, as most files have the same.
    last: (Vec<u8>, Option<usize>),
    notes: Notes,
}

pub(super) fn read(list: &List, ask: &Ask<'_>) -> Result<Tree, Failure> {
    let inside = names::under(list.base.as_bytes(), ask.top.as_bytes());
    let inside = inside.and_then(names::text).ok_or_else(|| {
        Failure::permanent(format!(
            "the file list {} is of {}, which is neither {} nor above it",
            list.path.display(),
            list.base,
            ask.top
        ))
        .hinting("`base` of the list is the directory that it was made in")
    })?;
    let excludes = Excludes::new(ask.excludes)?;
    if excludes.has(ask.top) {
        return Err(Failure::permanent(format!("`excludes` leave out {}, the whole category", ask.top)));
    }
    let mut reading = Reading {
        ask,
        list,
        excludes,
        inside: inside.to_owned(),
        index: HashMap::new(),
        folders: Vec::new(),
        sums: HashMap::new(),
        last: (Vec::new(), None),
        notes: Notes::at_most(NOTES_MAX),
    };
    reading.run()?;
    Ok(reading.into_tree())
}

impl Reading<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        let shown = self.list.path.display().to_string();
        let failed = |why: String| {
            Failure::retry(format!("the file list {shown}: {why}")).hinting(format!("ls -l {shown}; tail -3 {shown}"))
        };
        // Opening a FIFO would wait for its other end.
        if !std::fs::metadata(&self.list.path).map_err(|error| failed(error.to_string()))?.is_file() {
            return Err(failed("it is not a file".to_owned()));
        }
        let mut open = Open::open(&self.list.path).map_err(|error| failed(error.to_string()))?;
        let before = open.metadata().map_err(|error| failed(error.to_string()))?;
        if before.len() == 0 {
            return Err(failed("it is empty".to_owned()));
        }
        let refused = |Refused(line, why): Refused| {
            Failure::retry(format!("the file list {shown}, line {line}: {why}"))
                .hinting(format!("sed -n {line}p {shown}"))
        };
        if self.inside.is_empty() {
            self.put(Vec::new(), 0, true).map_err(failed)?;
        }
        lines::read(BufReader::with_capacity(READ_BYTES, &open), false, |said| self.first(&said)).map_err(refused)?;
        self.complete().map_err(failed)?;
        open.rewind().map_err(|error| failed(error.to_string()))?;
        lines::read(BufReader::with_capacity(READ_BYTES, &open), true, |said| self.second(&said)).map_err(refused)?;
        self.no_name_twice().map_err(failed)?;
        let after = open.metadata().map_err(|error| failed(error.to_string()))?;
        if stamp(&before) != stamp(&after) {
            return Err(failed("it was written while it was read".to_owned()));
        }
        Ok(())
    }

    fn whole(&self, rest: &str) -> String {
        if rest.is_empty() { self.ask.top.to_owned() } else { names::below(self.ask.top, rest) }
    }

    fn put(&mut self, rest: Vec<u8>, time: i64, readable: bool) -> Result<(), String> {
        let folder = Folder {
            time,
            readable,
            left_out: false,
            wanted: false,
            has_repodata: false,
            has_objects: false,
            has_summary: false,
            files: None,
            read: Vec::new(),
        };
        if self.index.contains_key(rest.as_slice()) {
            return Err(format!("the directory `{}` has two lines", names::shown(&rest)));
        }
        self.index.insert(rest, self.folders.len());
        self.folders.push(folder);
        Ok(())
    }

    /// The first time: the directories.
    fn first(&mut self, said: &Said<'_>) -> Result<(), String> {
        let Said::Entry(Entry { kind: b'd', time, readable, path, .. }) = said else { return Ok(()) };
        let Some(rest) = names::under(self.inside.as_bytes(), path) else { return Ok(()) };
        let Some(text) = names::text(rest) else {
            self.notes.add(|| format!("left out, its name can't be written: {}", names::shown(path)));
            return Ok(());
        };
        if self.near(&self.whole(text)) {
            self.put(rest.to_owned(), *time, *readable)?;
        }
        Ok(())
    }

    /// Whether a directory is in the part, or above it.
    fn near(&self, name: &str) -> bool {
        match self.ask.part {
            Part::Whole => true,
            Part::Below(tops) => {
                self.ask.part.has(name)
                    || tops.iter().any(|top| names::under(name.as_bytes(), top.as_bytes()).is_some())
            }
        }
    }

    /// What the directories say about each other; which are wanted, and which changed.
    fn complete(&mut self) -> Result<(), String> {
        if !self.index.contains_key(&[][..]) {
            return Err(format!("it has no line for {}, the category's top", self.inside));
        }
        // Sorted, what is above stands before what is below.
        let mut order: Vec<(Vec<u8>, usize)> = self.index.iter().map(|(rest, at)| (rest.clone(), *at)).collect();
        order.sort_unstable();
        if order.len() < 2 && matches!(self.ask.part, Part::Whole) {
            return Err(format!("it has no directory below {}", self.ask.top));
        }
        for (rest, at) in order {
            let Some(text) = names::text(&rest) else { continue };
            let name = self.whole(text);
            let above = parent(&rest).and_then(|above| self.index.get(above).copied());
            let above_readable = above.and_then(|above| self.folders.get(above)).is_none_or(|above| above.readable);
            let left_out = match above.and_then(|above| self.folders.get(above)) {
                Some(above) => above.left_out || self.excludes.has(&name),
                None => self.excludes.has_or_above(&name, self.ask.top),
            };
            if let Some(above) = above.and_then(|above| self.folders.get_mut(above)) {
                above.has_repodata |= base(&rest) == b"repodata";
                above.has_objects |= base(&rest) == b"objects";
            }
            let wanted = !left_out && self.ask.part.has(&name);
            if let Some(folder) = self.folders.get_mut(at) {
                folder.left_out = left_out;
                folder.readable &= above_readable;
                folder.wanted = wanted;
                let known = self.ask.times.get(name.as_str());
                folder.files = (wanted && known != Some(&folder.time)).then(Vec::new);
            }
        }
        Ok(())
    }

    /// The second time: files and checksums.
    fn second(&mut self, said: &Said<'_>) -> Result<(), String> {
        match said {
            Said::Entry(entry) if entry.kind == b'f' => self.file(entry),
            Said::Entry(_) => {}
            Said::Sum(algorithm, hex, path) => self.sum(*algorithm, hex, path),
        }
        Ok(())
    }

    fn file(&mut self, entry: &Entry<'_>) {
        let Some(rest) = names::under(self.inside.as_bytes(), entry.path).filter(|rest| !rest.is_empty()) else {
            return;
        };
        let Some(at) = self.directory(parent(rest).unwrap_or_default()) else { return };
        let Some(folder) = self.folders.get_mut(at).filter(|folder| folder.wanted) else { return };
        let Some(name) = names::text(base(rest)) else {
            self.notes.add(|| format!("left out, its name can't be written: {}", names::shown(entry.path)));
            return;
        };
        folder.has_summary |= name == "summary";
        if is_read(name) {
            folder.read.push(name.to_owned());
        }
        if let Some(files) = &mut folder.files {
            files.push(File { name: name.to_owned(), size: entry.size, time: entry.time });
        }
    }

    /// The directory of a file; says once what has none.
    fn directory(&mut self, rest: &[u8]) -> Option<usize> {
        if self.last.0 == rest && (self.last.1.is_some() || !rest.is_empty()) {
            return self.last.1;
        }
        let at = self.index.get(rest).copied();
        self.last.0.clear();
        self.last.0.extend_from_slice(rest);
        self.last.1 = at;
        if at.is_none()
            && let Some(text) = names::text(rest)
        {
            let name = self.whole(text);
            if self.ask.part.has(&name) && !self.excludes.has_or_above(&name, self.ask.top) {
                self.notes.add(|| format!("passed over, the list has files in {name}, but no line for itself"));
            }
        }
        at
    }

    fn sum(&mut self, algorithm: Algorithm, hex: &str, path: &[u8]) {
        let Some(rest) = names::under(self.inside.as_bytes(), path).filter(|rest| !rest.is_empty()) else { return };
        let at = self.index.get(parent(rest).unwrap_or_default());
        if !at.and_then(|at| self.folders.get(*at)).is_some_and(|folder| folder.wanted) {
            return;
        }
        let Some(text) = names::text(rest) else { return };
        let sums = self.sums.entry(names::below(self.ask.top, text)).or_default();
        let sum = match algorithm {
            Algorithm::Md5 => &mut sums.md5,
            Algorithm::Sha1 => &mut sums.sha1,
            Algorithm::Sha256 => &mut sums.sha256,
            Algorithm::Sha512 => &mut sums.sha512,
        };
        *sum = Some(hex.to_ascii_lowercase());
    }

    fn no_name_twice(&mut self) -> Result<(), String> {
        for files in self.folders.iter_mut().filter_map(|folder| folder.files.as_mut()) {
            files.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            let twice = files.iter().zip(files.iter().skip(1)).find(|(one, other)| one.name == other.name);
            if let Some((twice, _)) = twice {
                return Err(format!("the file `{}` has two lines in one directory", twice.name));
            }
        }
        Ok(())
    }

    fn into_tree(self) -> Tree {
        let mut tree =
            Tree { sums: self.sums.into_iter().collect(), notes: self.notes.into_sentences(), ..Tree::default() };
        let mut names: Vec<(usize, String)> = Vec::with_capacity(self.index.len());
        for (rest, at) in &self.index {
            let rest = names::text(rest).unwrap_or_default();
            names.push((*at, if rest.is_empty() { self.ask.top.to_owned() } else { names::below(self.ask.top, rest) }));
        }
        names.sort_unstable();
        for (folder, (_, name)) in self.folders.into_iter().zip(names) {
            if !folder.wanted {
                continue;
            }
            let found = Found {
                time: folder.time,
                readable: folder.readable,
                files: folder.files.map_or(Files::Unchanged, Files::All),
                has_repodata: folder.has_repodata,
                is_ostree: folder.has_summary && folder.has_objects,
                read: folder.read,
            };
            tree.directories.insert(name, found);
        }
        tree
    }
}

/// What is above; nothing is above the top itself.
fn parent(rest: &[u8]) -> Option<&[u8]> {
    match rest.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => rest.get(..slash),
        None if rest.is_empty() => None,
        None => Some(&[]),
    }
}

fn base(rest: &[u8]) -> &[u8] {
    rest.iter().rposition(|byte| *byte == b'/').and_then(|slash| rest.get(slash + 1..)).unwrap_or(rest)
}

fn stamp(meta: &Metadata) -> (u64, i64, i64, i64, i64) {
    (meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
}

#[cfg(test)]
mod tests;
