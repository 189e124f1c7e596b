//! The index of the branch `members`: what somebody is in, whose key it is.
//!
//! It follows groups, lists and keys, so what is changed in it because of them is not told apart from them. Where it was
//! not what they said already (somebody wrote in it by hand), that is a change of its own.

use std::collections::{BTreeMap, BTreeSet};

use handler_api::{Action, Failure};

use super::Work;
use super::tell::{Of, change, digest, held};
use crate::files::{self, Branch, Edits, Place};

/// What the index must be.
pub(super) struct Index {
    /// Whether there is one: not with `membership: compiled`.
    is_kept: bool,
    /// By path and line: whether it must stand there, and why.
    wishes: BTreeMap<String, BTreeMap<String, Wish>>,
    /// All lines of all files, where the whole index is known.
    all: Option<BTreeMap<String, BTreeSet<String>>>,
}

#[derive(Clone, Copy)]
struct Wish {
    stands: bool,
    /// Whether a change in a group, list or key leads to it.
    told: bool,
}

impl Index {
    /// `all`: every line of the index is going to be said.
    pub(super) fn new(is_kept: bool, all: bool) -> Self {
        Self { is_kept, wishes: BTreeMap::new(), all: all.then(BTreeMap::new) }
    }

    /// A line that comes since a name comes into a group or list.
    pub(super) fn comes(&mut self, path: String, line: String) {
        self.wish(path, line, Wish { stands: true, told: true });
    }

    /// A line that goes since a name goes from a group or list.
    pub(super) fn goes(&mut self, path: String, line: String) {
        self.wish(path, line, Wish { stands: false, told: true });
    }

    /// A line that must stand there. `look`: also if only a part of the index is known, see whether it does.
    pub(super) fn stands(&mut self, path: String, line: String, look: bool) {
        match &mut self.all {
            _ if !self.is_kept => {}
            Some(all) => _ = all.entry(path).or_default().insert(line),
            None if look => self.wish(path, line, Wish { stands: true, told: false }),
            None => {}
        }
    }

    /// A line that must not stand there.
    pub(super) fn stands_not(&mut self, path: String, line: String) {
        if self.all.is_none() {
            self.wish(path, line, Wish { stands: false, told: false });
        }
    }

    fn wish(&mut self, path: String, line: String, wish: Wish) {
        if !self.is_kept {
            return;
        }
        let known = self.wishes.entry(path).or_default().entry(line).or_insert(wish);
        known.told |= wish.told;
    }
}

impl Work<'_> {
    /// Edits the index.
    pub(super) fn index(&mut self) -> Result<(), Failure> {
        let mut wishes = std::mem::take(&mut self.index.wishes);
        let mut mended = Mended::default();
        match self.index.all.take() {
            None => {
                for (path, wishes) in wishes {
                    self.index_file(path, &wishes, None, &mut mended)?;
                }
            }
            Some(mut all) => {
                for dir in [files::IN, files::KEYS] {
                    for path in self.now.below(Branch::Members, dir)? {
                        all.entry(path).or_default();
                    }
                }
                for (path, lines) in all {
                    let wishes = wishes.remove(&path).unwrap_or_default();
                    self.index_file(path, &wishes, Some(lines), &mut mended)?;
                }
            }
        }
        let Mended { edits, hold } = mended;
        if !edits.is_empty() {
            let s = if edits.len() == 1 { "" } else { "s" };
            let target = format!("index: {} file{s}", edits.len());
            let sha256 = digest(edits.iter().map(|((_, path), bytes)| (path, bytes)));
            let after = format!("as groups, lists and keys say: sha256 {sha256}");
            self.notes.push(format!("the index said otherwise than groups, lists and keys in {}", few_paths(&edits)));
            let mending = change(Action::Update, target.clone(), None, Some(after.into()));
            self.tell(Of::Single(target), held(mending, hold));
        }
        Ok(())
    }

    /// One file of it. What is not explained by what is told of groups, lists and keys goes to `mended`.
    fn index_file(
        &mut self,
        path: String,
        wishes: &BTreeMap<String, Wish>,
        lines: Option<BTreeSet<String>>,
        mended: &mut Mended,
    ) -> Result<(), Failure> {
        let before = self.now.read(Branch::Members, &path)?;
        let read = before.as_deref().map(files::read_index).unwrap_or_default();
        let mut explained = read.found.clone();
        for (line, _) in wishes.iter().filter(|(_, wish)| wish.told && wish.stands) {
            explained.insert(line.clone());
        }
        for (line, _) in wishes.iter().filter(|(_, wish)| wish.told && !wish.stands) {
            explained.remove(line);
        }
        let lines = lines.unwrap_or_else(|| {
            let mut lines = explained.clone();
            for (line, wish) in wishes {
                if wish.stands {
                    lines.insert(line.clone())
                } else {
                    lines.remove(line)
                };
            }
            lines
        });
        let after = (!lines.is_empty()).then(|| files::index_lines(&lines));
        let is_clean =
            before.as_ref().is_none_or(|bytes| !bytes.is_empty() && *bytes == files::index_lines(&read.found));
        if before != after && (explained != lines || !is_clean) {
            mended.edits.insert((Branch::Members, path.clone()), after.clone());
            let lost = explained.difference(&lines).next();
            if mended.hold.is_none() && (lost.is_some() || read.odd > 0) {
                mended.hold = self.waits_in_index(&path, lost);
            }
        }
        self.edit(Branch::Members, path, before.as_deref(), after);
        Ok(())
    }

    /// Why it waits that a line goes which no group, list or key explains.
    fn waits_in_index(&self, path: &str, line: Option<&String>) -> Option<String> {
        let who = match Place::at(Branch::Members, path) {
            Some(Place::In(who)) => who.to_string(),
            // The line of a key begins with the user's name.
            _ => line.and_then(|line| line.split(' ').next()).unwrap_or_default().to_owned(),
        };
        self.waits(&who).map(|why| format!("{path}: somebody loses what only the index said; {why}"))
    }
}

/// What of the index was not explained by a change in groups, lists or keys.
#[derive(Default)]
struct Mended {
    edits: Edits,
    /// Why it waits: somebody loses what only the index said.
    hold: Option<String>,
}

/// The first of them, and how many more.
fn few_paths(edits: &Edits) -> String {
    let first: Vec<&str> = edits.keys().take(3).map(|(_, path)| path.as_str()).collect();
    let more = match edits.len() - first.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", first.join(", "))
}
