//! What may be asked for, and in which part it lies. Pure.

use std::collections::BTreeSet;

use handler_api::words::quoted;
use handler_api::{Failure, ParamType};
use serde_json::Value;

/// Where a mirror keeps its marker and its trace, below its top.
pub const OWN: &str = ".reactor-mirror";
/// Directories that are asked for one by one; over it, the parts that they lie in are asked for whole.
pub const DIRECTORIES_MAX: usize = 1_000;

/// The path in its one form: no slash at the beginning or the end, no `.`; `` = the top itself.
///
/// # Errors
/// Why it can't be used, as the end of a sentence that begins with the path.
pub fn clean(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        return Err("is absolute: write it relative to `from`".into());
    }
    ParamType::Path.check(&Value::String(text.to_owned()))?;
    if text.contains(['*', '?', '[', ']', '\\']) {
        return Err("has one of *?[]\\ in it, which are patterns to rsync".into());
    }
    let words: Vec<&str> = text.split('/').filter(|word| !word.is_empty() && *word != ".").collect();
    if words.first() == Some(&OWN) {
        return Err(format!("is what mirrors say of themselves ({OWN}), which is never pulled"));
    }
    Ok(words.join("/"))
}

/// Whether `path` is `top` or lies below it.
#[must_use]
pub fn is_below(path: &str, top: &str) -> bool {
    top.is_empty() || path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether one lies below the other.
#[must_use]
pub fn overlap(one: &str, other: &str) -> bool {
    is_below(one, other) || is_below(other, one)
}

/// What a part is called.
#[must_use]
pub fn shown(part: &str) -> &str {
    if part.is_empty() { "all" } else { part }
}

/// A part as the beginning of a file's name.
#[must_use]
pub fn stem(part: &str) -> String {
    shown(part).replace('%', "%25").replace('/', "%2F")
}

/// The part that a [`stem`] stands for.
#[must_use]
pub fn unstem(stem: &str) -> String {
    stem.replace("%2F", "/").replace("%25", "%")
}

/// One part, and what of it is asked for: itself, or directories below it, none below another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The part; `` = all of it is one part.
    pub part: String,
    /// What is asked for.
    pub directories: BTreeSet<String>,
}

impl Piece {
    /// All of a part.
    #[must_use]
    pub fn whole(part: &str) -> Self {
        Self { part: part.to_owned(), directories: BTreeSet::from([part.to_owned()]) }
    }

    /// Whether it is all of its part.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.directories.contains(&self.part)
    }
}

/// What the parameter `directories` asks for, part by part; a sentence about what lies in no part.
///
/// # Errors
/// Permanent: a path that can't be used.
pub fn scope(parts: &[String], directories: Option<&Value>) -> Result<(Vec<Piece>, Vec<String>), Failure> {
    let asked: Vec<&str> =
        directories.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    if asked.is_empty() {
        return Ok((parts.iter().map(|part| Piece::whole(part)).collect(), Vec::new()));
    }
    let mut paths = BTreeSet::new();
    for text in asked {
        let path = clean(text).map_err(|why| {
            Failure::permanent(format!("directory {} {why}", quoted(text)))
                .hinting("directories are written relative to `from`, as in fedora/linux/updates/44")
        })?;
        paths.insert(path);
    }
    let strangers: Vec<String> =
        paths.iter().filter(|path| !parts.iter().any(|part| overlap(path, part))).map(|path| quoted(path)).collect();
    let pieces = parts.iter().filter_map(|part| piece(part, &paths)).collect();
    let notes = match strangers.first() {
        None => Vec::new(),
        Some(first) if strangers.len() == 1 => vec![format!("{first} lies in no part of this mirror: not pulled")],
        Some(first) => {
            vec![format!("{first} and {} more lie in no part of this mirror: not pulled", strangers.len() - 1)]
        }
    };
    Ok((pieces, notes))
}

fn piece(part: &str, paths: &BTreeSet<String>) -> Option<Piece> {
    if paths.iter().any(|path| is_below(part, path)) {
        return Some(Piece::whole(part));
    }
    let mut directories: BTreeSet<String> = BTreeSet::new();
    // In this order a directory comes before what is below it, though not always right before it.
    for path in paths.iter().filter(|path| is_below(path, part)) {
        let covered = path.match_indices('/').any(|(at, _)| directories.contains(&path[..at]));
        if !covered {
            directories.insert(path.clone());
        }
    }
    match directories.len() {
        0 => None,
        1..=DIRECTORIES_MAX => Some(Piece { part: part.to_owned(), directories }),
        _ => Some(Piece::whole(part)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_that_leaves_the_module_or_means_something_to_rsync_is_refused() {
        for bad in [
            "../../etc",
            "a/../b",
            "/etc",
            "-e",
            "a/-e",
            "a*",
            "a?",
            "[a]",
            "a\\b",
            "a\nb",
            "",
            ".reactor-mirror",
            "./.reactor-mirror/x",
        ] {
            assert!(clean(bad).is_err(), "{bad:?}");
        }
        for (text, path) in [("a//b/./c/", "a/b/c"), (".", ""), ("ü/#x", "ü/#x"), (";x", ";x"), ("a b", "a b")] {
            assert_eq!(clean(text).as_deref(), Ok(path));
        }
    }

    #[test]
    fn directories_are_put_to_their_parts_and_none_is_asked_for_twice() {
        let parts = ["epel".to_owned(), "fedora".to_owned()];
        let asked = |directories: Value| scope(&parts, Some(&directories)).unwrap();
        let (pieces, notes) = asked(json!(["fedora/u/29", "fedora/u/29/x86_64", "fedora/u/29-x", "fedorae/x"]));
        assert_eq!(pieces.len(), 1);
        assert_eq!(pieces[0].part, "fedora");
        assert_eq!(pieces[0].directories, BTreeSet::from(["fedora/u/29".into(), "fedora/u/29-x".into()]));
        assert!(notes[0].contains("fedorae/x"), "{notes:?}");
        assert_eq!(asked(json!(["."])).0, [Piece::whole("epel"), Piece::whole("fedora")]);
        assert_eq!(asked(json!([])).0.len(), 2);
        assert_eq!(scope(&parts, None).unwrap().0.len(), 2);
        let (all, _) = scope(&[String::new()], Some(&json!(["x/y"]))).unwrap();
        assert_eq!((all[0].part.as_str(), all[0].is_whole()), ("", false));
        assert_eq!(scope(&parts, Some(&json!(["../../etc"]))).unwrap_err().exit_code(), handler_api::exit::PERMANENT);
    }

    proptest! {
        #[test]
        fn a_stem_is_one_file_name_and_reads_back(part in "[a-z%/2F5]{1,20}") {
            prop_assume!(clean(&part).is_ok_and(|path| path == part));
            prop_assert!(!stem(&part).contains('/'));
            prop_assert_eq!(unstem(&stem(&part)), part);
        }

        #[test]
        fn a_clean_path_stays_below(text in ".{0,40}") {
            if let Ok(path) = clean(&text) {
                prop_assert!(!path.starts_with('/') && path.split('/').all(|word| word != ".." && word != "."));
                prop_assert!(path.is_empty() || clean(&path) == Ok(path.clone()));
            }
        }
    }
}
