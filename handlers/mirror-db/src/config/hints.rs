//! `directories`: what a message that names a repository and a release means, but no directory. Pure.

use std::collections::{BTreeMap, BTreeSet};

use handler_api::Failure;
use handler_api::words::{Words, quoted};
use serde_json::Value;

use super::words::{about, is_directory, texts};
use super::{CategoryConfig, category_of, trimmed};

/// Most lines of the table.
pub const LINES_MAX: usize = 2_000;
/// Most directories of one line.
pub const DIRECTORIES_MAX: usize = 200;
/// Longest repo or release of a message, in bytes.
pub const PART_BYTES_MAX: usize = 64;

const HINT: &str = "write directories: [{ repo: epel, release: \"*\", directories: [\"pub/epel/{release}\"] }]";
/// What may stand in a directory of the table.
const PLACES: [&str; 3] = ["{repo}", "{release}", "{*}"];

/// `directories`: what a message that names a repo and a release means. `{release}` stands for the release, `{repo}` for the repo,
/// `{*}` for what the `*` in the line's `release` stood for; the first whose `repo` and `release` fit counts.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    repo: Pattern,
    release: Pattern,
    directories: Vec<String>,
}

/// A text in which one `*` stands for one or more characters.
#[derive(Clone, Debug)]
struct Pattern {
    before: String,
    /// `None` = no `*`: `before` is all of it.
    after: Option<String>,
}

impl Hints {
    /// Reads the table; every directory must be in one of the categories.
    pub(super) fn read(value: Option<&Value>, categories: &BTreeMap<String, CategoryConfig>) -> Result<Self, Failure> {
        let Some(value) = value else { return Ok(Self::default()) };
        let wrong = |why: String| Failure::permanent(format!("mirror-db: `directories` {why}")).hinting(HINT);
        let list = value.as_array().ok_or_else(|| wrong("is not a list of lines".into()))?;
        if list.len() > LINES_MAX {
            return Err(wrong(format!("has {} lines, at most {LINES_MAX} are allowed", list.len())));
        }
        let line = |(at, value): (usize, &Value)| {
            Line::read(value, categories).map_err(|failure| about(&format!("directories, line {}", at + 1), failure))
        };
        list.iter().enumerate().map(line).collect::<Result<_, _>>().map(|lines| Self { lines })
    }

    /// The directories that (repo, release) stand for.
    ///
    /// # Errors
    /// Permanent: one of them is no plain word; the table has no line for them, and the hint says which line to write.
    pub fn directories(&self, repo: &str, release: &str) -> Result<BTreeSet<String>, Failure> {
        for (what, text) in [("repo", repo), ("release", release)] {
            if !is_part(text) {
                let message = format!("the {what} {} is not what may stand in a directory's name", quoted(text));
                let hint = format!(
                    "letters, digits and _.+-, at most {PART_BYTES_MAX}; what the message says is under `with`"
                );
                return Err(Failure::permanent(message).hinting(hint));
            }
        }
        let found = self.lines.iter().find_map(|line| {
            line.repo.fits(repo)?;
            line.release.fits(release).map(|star| (line, star))
        });
        let Some((line, star)) = found else {
            let message = format!("`directories` of the handler has no line for repo {repo}, release {release}");
            let hint = format!(
                "add to `directories`: {{ repo: {repo}, release: \"*\", directories: [\"pub/…/{{release}}\"] }} ([] = nothing of it \
                 is on the mirror)"
            );
            return Err(Failure::permanent(message).hinting(hint));
        };
        let filled = |text: &String| text.replace("{repo}", repo).replace("{release}", release).replace("{*}", star);
        Ok(line.directories.iter().map(filled).collect())
    }
}

impl Line {
    fn read(value: &Value, categories: &BTreeMap<String, CategoryConfig>) -> Result<Self, Failure> {
        let words = Words::read(value, "mirror-db", &["repo", "release", "directories"])?;
        let pattern = |word: &'static str, text: &str| {
            Pattern::read(text).ok_or_else(|| {
                let why = "is not a word of letters, digits and _.+- with at most one *";
                words.wrong(word, why, &text.into()).hinting(HINT)
            })
        };
        let missing = |word: &str| Failure::permanent(format!("mirror-db: `{word}` is missing")).hinting(HINT);
        let repo = words.text("repo")?.ok_or_else(|| missing("repo"))?;
        let all = texts(&words, "directories", DIRECTORIES_MAX)?.ok_or_else(|| missing("directories"))?;
        let directories: Vec<String> = all.iter().map(|name| trimmed(name)).collect();
        for name in &directories {
            let tried = PLACES.iter().fold(name.clone(), |name, place| name.replace(place, "x"));
            let wrong = |why: &str| words.wrong("directories", why, &name.as_str().into());
            if tried.contains(['{', '}']) {
                return Err(wrong("has something in braces that is not known here")
                    .hinting("{repo}, {release}, and {*} for what the * in `release` stood for"));
            }
            if !is_directory(&tried) {
                return Err(wrong("has something in it that is not the name of a directory").hinting(HINT));
            }
            if category_of(categories, &tried).is_none() {
                let tops = categories.values().map(|category| category.top.as_str()).collect::<Vec<_>>();
                return Err(wrong("has a directory that is in none of the categories")
                    .hinting(format!("the categories have {}", tops.join(", "))));
            }
        }
        let release = words.text("release")?.unwrap_or("*");
        Ok(Self { repo: pattern("repo", repo)?, release: pattern("release", release)?, directories })
    }
}

impl Pattern {
    fn read(text: &str) -> Option<Self> {
        let (before, after) = match text.split_once('*') {
            None => (text, None),
            Some((before, after)) => (before, Some(after)),
        };
        let plain = |text: &str| text.len() <= PART_BYTES_MAX && text.bytes().all(is_mark);
        (plain(before) && after.is_none_or(plain))
            .then(|| Self { before: before.to_owned(), after: after.map(str::to_owned) })
    }

    /// What the `*` stands for in `text` (nothing where there is none), if it fits.
    fn fits<'a>(&self, text: &'a str) -> Option<&'a str> {
        match &self.after {
            None => (text == self.before).then_some(""),
            Some(after) => {
                text.strip_prefix(self.before.as_str())?.strip_suffix(after.as_str()).filter(|star| !star.is_empty())
            }
        }
    }
}

/// Whether it may stand in a directory's name: one part, and not one that begins with a dot or dash.
fn is_part(text: &str) -> bool {
    text.len() <= PART_BYTES_MAX
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric() || first == b'_')
        && text.bytes().all(is_mark)
}

fn is_mark(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte)
}
