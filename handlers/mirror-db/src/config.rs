//! The handler's block of the rules file; which directories a message means. Pure, but for [`Config::load`], which reads the file
//! that `prefixes` names.

mod database;
mod hints;
mod prefixes;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handler_api::Failure;
use handler_api::spelling::did_you_mean;
use handler_api::words::Words;
use regex::RegexSet;
use serde_json::{Map, Value};

pub use self::hints::Hints;
pub(crate) use self::words::is_directory;
use self::words::{about, absolute, texts};
use crate::plan::Reading;
use crate::store::Place;
use crate::tree::List;

/// Most categories.
pub const CATEGORIES_MAX: usize = 1_000;
/// Most expressions in one `excludes`.
pub const EXCLUDES_MAX: usize = 200;
/// Most words in `no_repositories` and `no_versions`.
pub const NAMES_MAX: usize = 1_000;
/// Largest compiled expression or set of them, in bytes.
pub const REGEX_BYTES_MAX: usize = 1024 * 1024;
/// `keep_details` where none is said, in days: umdl's `MAX_STALE_DAYS`.
pub const KEEP_DAYS: u32 = 4;
/// Longest `keep_details`, in days.
pub const KEEP_DAYS_MAX: u32 = 3_660;
/// `list_takes` where none is said, in seconds.
pub const LIST_TAKES_SECONDS: u64 = 600;
/// Longest `list_takes`, in seconds.
pub const LIST_TAKES_SECONDS_MAX: u64 = 24 * 3_600;

/// What umdl leaves out of every category.
const EXCLUDES: [&str; 2] = [r".*\.snapshot", r".*/\.~tmp~"];
/// umdl's own: no repository.
const NO_REPOSITORIES: [&str; 3] = ["Cloud", "Workstation", "Server"];
/// Fedora's own settings of umdl: no versions are made of what is below.
const NO_VERSIONS: [&str; 2] = ["pub/alt", "pub/archive"];

const WORDS: [&str; 10] = [
    "database",
    "root",
    "categories",
    "prefixes",
    "no_repositories",
    "no_versions",
    "keep_details",
    "directories",
    "old_list",
    "list_takes",
];
const CATEGORY_WORDS: [&str; 4] = ["path", "list", "list_base", "excludes"];
const CATEGORIES_HINT: &str =
    "write categories: { Fedora EPEL: { path: pub/epel } }, with the names that the database has";

/// All of it.
#[derive(Clone, Debug)]
pub struct Config {
    /// `database`.
    pub database: Place,
    /// `root`: the directory that names in the database are relative to.
    pub root: PathBuf,
    /// `categories`, by name.
    pub categories: BTreeMap<String, CategoryConfig>,
    /// `prefixes`, `no_repositories`, `no_versions`, `keep_details`. Its prefixes are empty where `prefixes` names a file that
    /// was not read yet ([`Config::load`]).
    pub reading: Reading,
    /// `prefixes`, where it names a file.
    pub prefixes_file: Option<PathBuf>,
    /// `directories`: where a message names none.
    pub hints: Hints,
    /// `old_list`: what to do while the list is older than the message.
    pub old_list: OldList,
    /// `list_takes`: how long the master needs to make a list. What changed meanwhile may be in it or not.
    pub list_takes: Duration,
}

/// One category of the block.
#[derive(Clone, Debug)]
pub struct CategoryConfig {
    /// `path`: its top directory, as the database must have it: `pub/epel`.
    pub top: String,
    /// `list`: the master's file list; absent = the whole category is walked too.
    pub list: Option<List>,
    /// `excludes`, after umdl's two (`.*\.snapshot`, `.*/\.~tmp~`); each fits at the beginning of a directory's name only.
    pub excludes: RegexSet,
}

/// While the list is older than the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldList {
    /// Walk the hinted directories (default).
    Walk,
    /// Try again until there is a newer one.
    Wait,
}

impl Config {
    /// Reads the block.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word and says what is expected.
    pub fn read(words: &Map<String, Value>) -> Result<Self, Failure> {
        let block = Value::Object(words.clone());
        let words = Words::read(&block, "mirror-db", &WORDS)?;
        let Some(root) = absolute(&words, "root")? else {
            return Err(Failure::permanent("mirror-db: `root` is missing: the directory that has `pub`")
                .hinting("write root: /srv/mirror, where pub/epel is /srv/mirror/pub/epel"));
        };
        let categories = categories(words.get("categories"), &root)?;
        let (prefixes, prefixes_file) = prefixes::read(&words)?;
        let names = |word: &str, default: &[&str]| match texts(&words, word, NAMES_MAX) {
            Ok(None) => Ok(default.iter().map(ToString::to_string).collect()),
            other => other.map(Option::unwrap_or_default),
        };
        let reading = Reading {
            prefixes,
            no_repositories: names("no_repositories", &NO_REPOSITORIES)?,
            no_versions: names("no_versions", &NO_VERSIONS)?.iter().map(|name| trimmed(name)).collect(),
            keep_days: keep_days(&words)?,
        };
        let takes = (Duration::from_secs(LIST_TAKES_SECONDS), Duration::from_secs(LIST_TAKES_SECONDS_MAX));
        Ok(Self {
            database: database::read(words.get("database"))?,
            hints: Hints::read(words.get("directories"), &categories)?,
            root,
            categories,
            reading,
            prefixes_file,
            old_list: old_list(&words)?,
            list_takes: words.duration("list_takes", takes.0, takes.1)?,
        })
    }

    /// [`Config::read`], and the file that `prefixes` names, if it names one. Blocks.
    ///
    /// # Errors
    /// And what is wrong in that file. Retry: it can't be read.
    pub fn load(words: &Map<String, Value>) -> Result<Self, Failure> {
        let mut config = Self::read(words)?;
        if let Some(file) = &config.prefixes_file {
            config.reading.prefixes = prefixes::load(file)?;
        }
        Ok(config)
    }

    /// The category that a directory is in, by name: of several the one with the longest path.
    ///
    /// # Errors
    /// Permanent: it is in none; the hint lists those that there are.
    pub fn category_of(&self, directory: &str) -> Result<&str, Failure> {
        category_of(&self.categories, directory).ok_or_else(|| {
            let shown = handler_api::words::quoted(directory);
            Failure::permanent(format!("{shown} is in none of the categories")).hinting(self.listed())
        })
    }

    /// The category of that name, with the name as the block has it.
    ///
    /// # Errors
    /// Permanent: there is none; the hint lists those that there are.
    pub fn category(&self, name: &str) -> Result<(&str, &CategoryConfig), Failure> {
        self.categories.get_key_value(name).map(|(name, category)| (name.as_str(), category)).ok_or_else(|| {
            let near = did_you_mean(name, self.categories.keys().map(String::as_str));
            let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            let shown = handler_api::words::quoted(name);
            let message = format!("the block of the handler has no category {shown}");
            Failure::permanent(message).hinting(format!("{near}{}", self.listed()))
        })
    }

    fn listed(&self) -> String {
        let shown = self.categories.iter().map(|(name, category)| format!("{name} ({})", category.top));
        format!("the block of the handler has the categories {}", shown.collect::<Vec<_>>().join(", "))
    }
}

/// A directory's name as the database has it: no slash at either end.
pub(crate) fn trimmed(name: &str) -> String {
    name.trim_matches('/').to_owned()
}

fn category_of<'a>(categories: &'a BTreeMap<String, CategoryConfig>, directory: &str) -> Option<&'a str> {
    let has = |top: &str| directory.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let all = categories.iter().filter(|(_, category)| has(&category.top));
    all.max_by_key(|(_, category)| category.top.len()).map(|(name, _)| name.as_str())
}

fn categories(value: Option<&Value>, root: &Path) -> Result<BTreeMap<String, CategoryConfig>, Failure> {
    let missing =
        |why: &str| Failure::permanent(format!("mirror-db: `categories` {why}")).hinting(CATEGORIES_HINT.to_owned());
    let all = value.ok_or_else(|| missing("is missing"))?;
    let all = all.as_object().filter(|all| !all.is_empty()).ok_or_else(|| missing("is not a map of categories"))?;
    if all.len() > CATEGORIES_MAX {
        return Err(missing(&format!("has {} of them, at most {CATEGORIES_MAX} are allowed", all.len())));
    }
    let mut read: BTreeMap<String, CategoryConfig> = BTreeMap::new();
    for (name, value) in all {
        let category = category(value, root).map_err(|failure| about(&format!("category {name}"), failure))?;
        if let Some((other, _)) = read.iter().find(|(_, other)| other.top == category.top) {
            let message = format!("mirror-db: `categories`: {other} and {name} have the same `path`");
            return Err(Failure::permanent(message).hinting("a directory's name leads to one category"));
        }
        read.insert(name.clone(), category);
    }
    Ok(read)
}

fn category(value: &Value, root: &Path) -> Result<CategoryConfig, Failure> {
    let words = Words::read(value, "mirror-db", &CATEGORY_WORDS)?;
    let Some(path) = words.text("path")? else {
        return Err(Failure::permanent("mirror-db: `path` is missing: the top directory").hinting(CATEGORIES_HINT));
    };
    let top = trimmed(path);
    let below_root = |word: &str, path: &str| {
        words.wrong(word, "is not the name of a directory", &path.into()).hinting(
            "write it from `root` on, as the database has it: pub/epel; no `.`, no `..`, nothing that can't be typed",
        )
    };
    if !is_directory(&top) {
        return Err(below_root("path", path));
    }
    let base = words.text("list_base")?.map(trimmed);
    let list =
        match (words.text("list")?, &base) {
            (None, Some(_)) => {
                let message = "mirror-db: `list_base` says where a list was made, but there is no `list`";
                return Err(Failure::permanent(message)
                    .hinting("write list: pub/epel/fullfiletimelist-epel, or leave both out"));
            }
            (None, None) => None,
            (Some(list), base) => {
                if !list.starts_with('/') && !is_directory(list) {
                    return Err(below_root("list", list));
                }
                let base = base.clone().unwrap_or_else(|| top.clone());
                if !is_above(&base, &top) {
                    let failure = words.wrong("list_base", "is neither `path` nor above it", &base.as_str().into());
                    return Err(failure
                        .hinting(format!("a list of {top} was made in {top} or above it; its paths begin there")));
                }
                Some(List { path: root.join(list), base })
            }
        };
    Ok(CategoryConfig { top, list, excludes: excludes(&words)? })
}

fn is_above(base: &str, top: &str) -> bool {
    base.is_empty() || top.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn excludes(words: &Words<'_>) -> Result<RegexSet, Failure> {
    let own = texts(words, "excludes", EXCLUDES_MAX)?.unwrap_or_default();
    for expression in &own {
        // One by one, so that the wrong one is named.
        if let Err(why) = words::regex(expression) {
            return Err(words.wrong("excludes", &format!("has an expression that {why}"), &expression.as_str().into()));
        }
    }
    let all = EXCLUDES.into_iter().chain(own.iter().map(String::as_str)).map(|one| format!("^(?:{one})"));
    let set = regex::RegexSetBuilder::new(all).size_limit(REGEX_BYTES_MAX).build();
    set.map_err(|error| Failure::permanent(format!("mirror-db: `excludes` together: {}", words::one_line(&error))))
}

fn keep_days(words: &Words<'_>) -> Result<u32, Failure> {
    const DAY: u64 = 86_400;
    let default = Duration::from_secs(u64::from(KEEP_DAYS) * DAY);
    let keep = words.duration("keep_details", default, Duration::from_secs(u64::from(KEEP_DAYS_MAX) * DAY))?;
    match u32::try_from(keep.as_secs() / DAY) {
        Ok(days) if days > 0 && keep.as_secs() % DAY == 0 => Ok(days),
        _ => {
            let value = words.get("keep_details").unwrap_or(&Value::Null);
            Err(words.wrong("keep_details", "is not a number of whole days", value).hinting("write keep_details: 4d"))
        }
    }
}

fn old_list(words: &Words<'_>) -> Result<OldList, Failure> {
    match words.text("old_list")? {
        None | Some("walk") => Ok(OldList::Walk),
        Some("wait") => Ok(OldList::Wait),
        Some(other) => Err(words.wrong("old_list", "is neither walk nor wait", &other.into()).hinting(
            "walk: look at the directories themselves while the list is older than the message; wait: try again until there is \
             a newer list",
        )),
    }
}

#[cfg(test)]
mod tests;
