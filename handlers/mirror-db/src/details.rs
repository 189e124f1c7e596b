//! Checksums of repomd.xml and ostree summaries, and of the files that checksum files name.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use handler_api::Failure;
use rustix::io::Errno;

use crate::rows::{Detail, File, Files, Found, Sums, Tree};
use crate::tree::folder::{self, Content};

mod named;
mod repomd;
mod sums;

/// Largest repomd.xml, summary or checksum file, in bytes.
const CONTENT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Whether the content of a file of that name says something: `repomd.xml`, `summary`, `*-CHECKSUM`, `sha256sum.txt`, …
#[must_use]
pub fn is_read(filename: &str) -> bool {
    is_repository(filename) || named::algorithm(filename).is_some()
}

fn is_repository(filename: &str) -> bool {
    filename == "repomd.xml" || filename == "summary"
}

/// Reads what [`crate::rows::Found::read`] names, in every directory of the tree. Where the tree has the sums of a
/// `repomd.xml`, and `has` knows a row with them, the file is not read: that row is the answer. Blocks.
///
/// In a directory that is unchanged, a row with the same sums is the answer too, whatever its time: the time in the database
/// may be from a file list, and a second look at the disk must not make a second row.
///
/// Returns the rows as they must be (the newest version of each), and a sentence for each file that was passed over because
/// it can't be understood (a repomd.xml that is no XML): its old rows stay.
///
/// # Errors
/// Retry: a file vanished or can't be read.
pub fn read(root: &Path, tree: &Tree, has: &[(i32, Detail)]) -> Result<(Vec<Detail>, Vec<String>), Failure> {
    let mut rows: HashMap<(&str, &str), Vec<&Detail>> = HashMap::new();
    for (_, row) in has {
        rows.entry((&row.directory, &row.filename)).or_default().push(row);
    }
    let (mut details, mut notes) = (Vec::new(), Vec::new());
    let mut opened = None;
    for (name, found) in tree.directories.iter().filter(|(_, found)| !found.read.is_empty()) {
        let mut directory = Directory { root, opened: &mut opened, fd: None, name, found, rows: &rows };
        directory.repositories(tree, &mut details, &mut notes)?;
        directory.named(&mut details, &mut notes)?;
    }
    details.sort_unstable();
    details.dedup();
    Ok((details, notes))
}

/// One directory; opened when something in it is read.
struct Directory<'a> {
    root: &'a Path,
    /// The root, once something was read below it.
    opened: &'a mut Option<OwnedFd>,
    fd: Option<OwnedFd>,
    name: &'a str,
    found: &'a Found,
    rows: &'a HashMap<(&'a str, &'a str), Vec<&'a Detail>>,
}

impl Directory<'_> {
    /// repomd.xml and summary.
    fn repositories(&mut self, tree: &Tree, details: &mut Vec<Detail>, notes: &mut Vec<String>) -> Result<(), Failure> {
        let found = self.found;
        for filename in found.read.iter().filter(|filename| is_repository(filename)) {
            let listed = tree.sums.get(&format!("{}/{filename}", self.name));
            if filename == "repomd.xml"
                && let Some(row) = listed.and_then(|listed| self.row(filename, |row| agree(listed, row)))
            {
                details.push(row);
                continue;
            }
            let Some((bytes, time)) = self.content(filename, notes)? else { continue };
            let sums = sums::of(&bytes);
            let timestamp = if filename == "repomd.xml" {
                match repomd::timestamp(&bytes) {
                    Ok(timestamp) => timestamp,
                    Err(why) => {
                        notes.push(format!("{}/{filename} is passed over: {why}", self.name));
                        continue;
                    }
                }
            } else {
                if let Some(row) = self.unchanged_row(filename, &sums) {
                    details.push(row);
                    continue;
                }
                self.listed(filename).map_or(time, |file| file.time)
            };
            details.push(Detail {
                directory: self.name.to_owned(),
                filename: filename.clone(),
                timestamp: Some(timestamp),
                size: i64::try_from(bytes.len()).ok(),
                sums,
            });
        }
        Ok(())
    }

    /// The files that its checksum files name.
    fn named(&mut self, details: &mut Vec<Detail>, notes: &mut Vec<String>) -> Result<(), Failure> {
        let found = self.found;
        let mut read: Vec<_> = found.read.iter().filter_map(|name| Some((named::algorithm(name)?, name))).collect();
        read.sort_unstable();
        let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
        for (algorithm, filename) in read {
            if let Some((bytes, _)) = self.content(filename, notes)? {
                named::read(&bytes, algorithm, &mut sums);
            }
        }
        let files: HashMap<&str, &File> = match &found.files {
            Files::All(files) if !sums.is_empty() => files.iter().map(|file| (file.name.as_str(), file)).collect(),
            _ => HashMap::new(),
        };
        for (filename, sums) in sums {
            if let Some(row) = self.unchanged_row(&filename, &sums) {
                details.push(row);
                continue;
            }
            let (size, timestamp) = match &found.files {
                Files::All(_) => match files.get(filename.as_str()) {
                    Some(file) => (i64::try_from(file.size).ok(), file.time),
                    None => continue,
                },
                Files::Unchanged => match self.stat(&filename)? {
                    Some((size, time)) => (Some(size), time),
                    None => continue,
                },
            };
            let directory = self.name.to_owned();
            details.push(Detail { directory, filename, timestamp: Some(timestamp), size, sums });
        }
        Ok(())
    }

    /// The file as the tree has it.
    fn listed(&self, filename: &str) -> Option<&File> {
        match &self.found.files {
            Files::All(files) => files.iter().find(|file| file.name == filename),
            Files::Unchanged => None,
        }
    }

    /// The newest row of the file of which that is true.
    fn row(&self, filename: &str, is: impl Fn(&Detail) -> bool) -> Option<Detail> {
        let rows = self.rows.get(&(self.name, filename))?;
        rows.iter().filter(|row| is(row)).max_by_key(|row| row.timestamp).map(|row| (*row).clone())
    }

    fn unchanged_row(&self, filename: &str, sums: &Sums) -> Option<Detail> {
        if self.found.files != Files::Unchanged {
            return None;
        }
        self.row(filename, |row| row.sums == *sums)
    }

    fn trouble(&self, filename: &str, error: &impl std::fmt::Display) -> Failure {
        let path = self.root.join(self.name).join(filename);
        let path = path.display();
        Failure::retry(format!("{path} can't be read: {error}")).hinting(format!("ls -l {path}"))
    }

    fn open(&mut self) -> Result<&OwnedFd, Failure> {
        if self.fd.is_none() {
            let root = match self.opened.take() {
                Some(root) => root,
                None => folder::root(self.root).map_err(|error| {
                    let root = self.root.display();
                    Failure::retry(format!("{root}: {error}; is it mounted?")).hinting(format!("ls -ld {root}"))
                })?,
            };
            let root = self.opened.insert(root);
            let entered = folder::enter_all(root.as_fd(), self.name);
            self.fd = Some(entered.map_err(|error| self.trouble("", &error))?);
        }
        self.fd.as_ref().ok_or_else(|| self.trouble("", &"it was not opened"))
    }

    /// A file's content and time; nothing, with a note, if it is too large.
    fn content(&mut self, filename: &str, notes: &mut Vec<String>) -> Result<Option<(Vec<u8>, i64)>, Failure> {
        let content = folder::content(self.open()?, filename, CONTENT_BYTES_MAX);
        match content.map_err(|error| self.trouble(filename, &error))? {
            Content::Whole(bytes, time) => Ok(Some((bytes, time))),
            Content::TooLarge => {
                let name = self.name;
                notes.push(format!("{name}/{filename} is passed over: it is larger than {CONTENT_BYTES_MAX} bytes"));
                Ok(None)
            }
        }
    }

    /// Size and time of a file; nothing if there is none of that name.
    fn stat(&mut self, filename: &str) -> Result<Option<(i64, i64)>, Failure> {
        match folder::stat_in(self.open()?, filename) {
            Ok(stat) if folder::is_file(&stat) => Ok(Some((stat.st_size, folder::time(&stat)))),
            Ok(_) | Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(None),
            Err(error) => Err(self.trouble(filename, &error)),
        }
    }
}

/// Whether a row has the sums that a list has; a list need not have all four.
fn agree(listed: &Sums, row: &Detail) -> bool {
    let pairs = [
        (&listed.md5, &row.sums.md5),
        (&listed.sha1, &row.sums.sha1),
        (&listed.sha256, &row.sums.sha256),
        (&listed.sha512, &row.sums.sha512),
    ];
    // MD5 alone proves nothing about who wrote the file.
    let strong = [&listed.sha1, &listed.sha256, &listed.sha512].iter().any(|sum| sum.is_some());
    strong && pairs.iter().all(|(listed, row)| listed.is_none() || listed == row)
}

#[cfg(test)]
mod tests;
