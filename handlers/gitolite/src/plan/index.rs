//! The index of the branch `members`: what somebody is in, whose key it is.
//!
//! It follows groups, lists and keys, so what is changed in it because of them is not told apart from them. Where it was
//! not what they said already (somebody wrote in it by hand), that is a change of its own.

use std::collections::{BTreeMap, BTreeSet};

use handler_api::{Action, Failure};

use super::Work;
use super::tell::{Of, change, digest};
use crate::files::{self, Branch, Edits};

/// What the index must be.
pub(super) struct Index {
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
    pub(super) fn new(all: bool) -> Self {
        Self { wishes: BTreeMap::new(), all: all.then(BTreeMap::new) }
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
        let known = self.wishes.entry(path).or_default().entry(line).or_insert(wish);
        known.told |= wish.told;
    }
}

impl Work<'_> {
    /// Edits the index.
    pub(super) fn index(&mut self) -> Result<(), Failure> {
        let mut wishes = std::mem::take(&mut self.index.wishes);
        let mut mended = Edits::new();
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
        if !mended.is_empty() {
            let s = if mended.len() == 1 { "" } else { "s" };
            let target = format!("index: {} file{s}", mended.len());
            let sha256 = digest(mended.iter().map(|((_, path), bytes)| (path, bytes)));
            let after = format!("as groups, lists and keys say: sha256 {sha256}");
            self.notes.push(format!("the index said otherwise than groups, lists and keys in {}", few_paths(&mended)));
            self.tell(Of::Single(target.clone()), change(Action::Update, target, None, Some(after.into())));
        }
        Ok(())
    }

    /// One file of it. What is not explained by what is told of groups, lists and keys goes to `mended`.
    fn index_file(
        &mut self,
        path: String,
        wishes: &BTreeMap<String, Wish>,
        lines: Option<BTreeSet<String>>,
        mended: &mut Edits,
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
                if wish.stands { lines.insert(line.clone()) } else { lines.remove(line) };
            }
            lines
        });
        let after = (!lines.is_empty()).then(|| files::index_lines(&lines));
        let is_clean = before.as_ref().is_none_or(|bytes| !bytes.is_empty() && *bytes == files::index_lines(&read.found));
        if before != after && (explained != lines || !is_clean) {
            mended.insert((Branch::Members, path.clone()), after.clone());
        }
        self.edit(Branch::Members, path, before.as_deref(), after);
        Ok(())
    }
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
