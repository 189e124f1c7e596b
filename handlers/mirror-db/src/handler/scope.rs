//! The request's parameters → which parts of which categories. Pure.

use std::collections::{BTreeMap, BTreeSet};

use handler_api::{Failure, Params};
use serde_json::Value;

use crate::config::{Config, is_directory, trimmed};
use crate::rows::Part;

/// Most directories in one request; whoever has more names the one above them.
pub const DIRECTORIES_MAX: usize = 1_000;
/// Most parts of a directory's name: each may be a question to the database.
pub const PARTS_MAX: usize = 64;

/// What is looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// By category.
    pub(super) parts: BTreeMap<String, Part>,
    /// What a person should know.
    pub(super) notes: Vec<String>,
}

impl Scope {
    /// `directories`, or what `repo` and `release` mean, in `category` if it is said; none of them = everything.
    ///
    /// # Errors
    /// Permanent: a directory is in no category or not in that one; the table has no line; a word is missing.
    pub(super) fn read(config: &Config, with: &Params) -> Result<Self, Failure> {
        let text = |word: &str| with.get(word).and_then(Value::as_str);
        let category = text("category").map(|name| config.category(name).map(|(name, _)| name)).transpose()?;
        let directories = match (with.get("directories").and_then(Value::as_array), text("repo"), text("release")) {
            (Some(list), _, _) => {
                list.iter().filter_map(Value::as_str).map(named).collect::<Result<BTreeSet<_>, _>>()?
            }
            (None, Some(repo), Some(release)) => config.hints.directories(repo, release)?,
            (None, None, None) => {
                let all = config.categories.keys().filter(|name| category.is_none_or(|one| one == *name));
                return Ok(Self { parts: all.map(|name| (name.clone(), Part::Whole)).collect(), notes: Vec::new() });
            }
            _ => {
                let message = "`repo` and `release` say only together which directories are meant";
                return Err(Failure::permanent(message).hinting("give the rule's `with` both, or `directories`"));
            }
        };
        Self::of(config, directories, category)
    }

    fn of(config: &Config, directories: BTreeSet<String>, category: Option<&str>) -> Result<Self, Failure> {
        if directories.is_empty() {
            // An empty list is nothing, not everything.
            return Ok(Self {
                parts: BTreeMap::new(),
                notes: vec!["no directory is meant: nothing of it is on the mirror".into()],
            });
        }
        if directories.len() > DIRECTORIES_MAX {
            let message = format!("{} directories at once, at most {DIRECTORIES_MAX} are allowed", directories.len());
            return Err(Failure::permanent(message).hinting("name the directory above them, or only the `category`"));
        }
        let mut by_category: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for directory in directories {
            let own = config.category_of(&directory)?;
            if let Some(other) = category.filter(|other| *other != own) {
                let message = format!("{directory} is in the category {own}, not in {other}");
                return Err(Failure::permanent(message).hinting("leave `category` out where directories are named"));
            }
            by_category.entry(own.to_owned()).or_default().insert(directory);
        }
        let part = |(name, tops): (String, BTreeSet<String>)| {
            let is_whole = config.categories.get(&name).is_some_and(|category| tops.contains(&category.top));
            (name, if is_whole { Part::Whole } else { Part::Below(topmost(tops)) })
        };
        Ok(Self { parts: by_category.into_iter().map(part).collect(), notes: Vec::new() })
    }
}

/// A directory of a message, as the database would have it. The type `path` has seen to `..` and control characters.
fn named(name: &str) -> Result<String, Failure> {
    let own = trimmed(name);
    if !is_directory(&own) || own.split('/').count() > PARTS_MAX {
        let message = format!("{} is not the name of a directory of the mirror", handler_api::words::quoted(name));
        let hint =
            format!("it begins with a category's path: pub/epel/9; at most {PARTS_MAX} parts, none of them empty");
        return Err(Failure::permanent(message).hinting(hint));
    }
    Ok(own)
}

/// Without those that are below another.
pub(super) fn topmost(names: BTreeSet<String>) -> BTreeSet<String> {
    let is_below = |name: &String| name.match_indices('/').any(|(at, _)| names.contains(&name[..at]));
    names.iter().filter(|name| !is_below(name)).cloned().collect()
}
