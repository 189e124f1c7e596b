//! The lines of each kind of file, read and written. What can't be read was changed by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use accounts::keys::{self, Key};

use super::{Member, Print};
use crate::names::{GroupName, List, RepoName, UserName};

/// What stands in a file: what was understood, and how many lines were not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// Understood.
    pub found: T,
    /// Lines that we would not have written.
    pub odd: usize,
}

impl<T: Default> Default for Read<T> {
    fn default() -> Self {
        Self { found: T::default(), odd: 0 }
    }
}

/// A line of a repository's lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// Which list, without the repository: `commit`, `any`, `commit.f41`.
    pub list: String,
    /// Who is in it.
    pub who: Member,
}

impl Entry {
    /// Of a list.
    #[must_use]
    pub fn new(list: &List, who: Member) -> Self {
        let name = list.to_string();
        let end = name.len() - list.repo.word().len() - 1;
        Self { list: name[..end].to_owned(), who }
    }

    /// The list's name as gitolite sees it: `commit@rpms@foo`.
    #[must_use]
    pub fn name(&self, repo: &RepoName) -> String {
        format!("{}@{}", self.list, repo.word())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.list, self.who)
    }
}

/// Reads lines; empty ones and comments count for nothing.
fn read<T: Ord>(bytes: &[u8], parse: impl Fn(&str) -> Option<T>) -> Read<BTreeSet<T>> {
    let mut read = Read::<BTreeSet<T>> { found: BTreeSet::new(), odd: 0 };
    for line in bytes.split(|byte| *byte == b'\n') {
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match std::str::from_utf8(line).ok().and_then(&parse) {
            Some(value) => _ = read.found.insert(value),
            None => read.odd += 1,
        }
    }
    read
}

fn write(lines: impl IntoIterator<Item = String>) -> Vec<u8> {
    let mut lines: Vec<String> = lines.into_iter().collect();
    lines.sort_unstable();
    lines.dedup();
    let mut bytes = Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
    for line in lines {
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

/// A group on `master`. gitolite takes no group without members, so one that is empty is a comment alone.
#[must_use]
pub fn group_conf(group: &GroupName, members: &BTreeSet<UserName>) -> Vec<u8> {
    let name = group.as_str();
    let head = format!("# group {name}: written by reactor; what is changed here by hand is undone\n");
    let lines = write(members.iter().map(|user| format!("@{name} = {}", user.as_str())));
    [head.into_bytes(), lines].concat()
}

/// Reads a group on `master`.
#[must_use]
pub fn read_group_conf(group: &GroupName, bytes: &[u8]) -> Read<BTreeSet<UserName>> {
    let head = format!("@{} = ", group.as_str());
    read(bytes, |line| UserName::parse(line.strip_prefix(&head)?).ok())
}

/// A group on `members`.
#[must_use]
pub fn group_lines(members: &BTreeSet<UserName>) -> Vec<u8> {
    write(members.iter().map(|user| user.as_str().to_owned()))
}

/// Reads a group on `members`.
#[must_use]
pub fn read_group(bytes: &[u8]) -> Read<BTreeSet<UserName>> {
    read(bytes, |line| UserName::parse(line).ok())
}

/// The lists of a repository.
#[must_use]
pub fn list_lines(entries: &BTreeSet<Entry>) -> Vec<u8> {
    write(entries.iter().map(Entry::to_string))
}

/// Reads the lists of a repository.
#[must_use]
pub fn read_entries(repo: &RepoName, bytes: &[u8]) -> Read<BTreeSet<Entry>> {
    let word = repo.word();
    read(bytes, |line| {
        let (list, who) = line.split_once(' ')?;
        let list = List::parse(&format!("{list}@{word}")).ok().filter(|list| list.repo == *repo)?;
        Some(Entry::new(&list, Member::parse(who).ok()?))
    })
}

/// A file of the index.
#[must_use]
pub fn index_lines(lines: &BTreeSet<String>) -> Vec<u8> {
    write(lines.iter().cloned())
}

/// Reads a file of the index: what somebody is in, or whose key it is.
#[must_use]
pub fn read_index(bytes: &[u8]) -> Read<BTreeSet<String>> {
    read(bytes, |line| is_index_line(line).then(|| line.to_owned()))
}

fn is_index_line(line: &str) -> bool {
    match line.split_once(' ') {
        None => GroupName::parse(line).is_ok() || List::parse(line).is_ok(),
        Some((user, key)) => {
            let words: Vec<&str> = key.split(' ').collect();
            UserName::parse(user).is_ok() && words.len() == 2 && read_key(key).is_some()
        }
    }
}

/// The keys of a user.
#[must_use]
pub fn keys_lines<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Vec<u8> {
    write(keys.into_iter().map(|key| key.line.clone()))
}

/// Reads keys, a key a line: those of a user, or the only one in a file of the keydir.
#[must_use]
pub fn read_keys(bytes: &[u8]) -> Read<BTreeMap<Print, Key>> {
    let Read { found, odd } = read(bytes, read_key);
    Read { found: found.into_iter().collect(), odd }
}

fn read_key(line: &str) -> Option<(Print, Key)> {
    let key = Key { line: line.to_owned(), shown: keys::shown(line) };
    // With options in front, or if it is no key, the second word of what is shown is no fingerprint.
    Some((Print::of(&key)?, key))
}

/// A file of the keydir. gitolite takes no file that has not exactly one line.
#[must_use]
pub fn key_file(key: &Key) -> Vec<u8> {
    format!("{}\n", key.line).into_bytes()
}

/// A line of the index of keys: the user, type and base64, and no comment.
#[must_use]
pub fn key_index_line(user: &UserName, key: &Key) -> String {
    let mut words = key.line.split(' ');
    let (kind, base64) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    format!("{} {kind} {base64}", user.as_str())
}
