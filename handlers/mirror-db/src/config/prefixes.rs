//! `prefixes`: what yum asks for. In the block, or in a file of its own.

use std::fmt::Display;
use std::io::Read;
use std::path::{Path, PathBuf};

use handler_api::Failure;
use handler_api::spelling::did_you_mean;
use handler_api::words::Words;
use regex::Regex;
use serde_json::Value;

use super::words::{about, absolute, regex};
use crate::plan::PrefixRule;

/// Most lines.
pub const PREFIXES_MAX: usize = 2_000;
/// Largest file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Most values in the file; an alias counts in full.
const NODES_MAX: usize = 50_000;

const HINT: &str = "write prefixes: [{ path: '^pub/epel/', prefix: 'epel-{kind}{version}' }], ./prefixes.yaml for a file, or [] for none";

/// The lines that stand in the block, or the file that it names.
pub(super) fn read(words: &Words<'_>) -> Result<(Vec<PrefixRule>, Option<PathBuf>), Failure> {
    match words.get("prefixes") {
        None => Err(Failure::permanent("mirror-db: `prefixes` is missing: what yum asks for").hinting(HINT)),
        Some(Value::String(_)) => Ok((Vec::new(), absolute(words, "prefixes")?)),
        Some(list) => lines(list).map(|lines| (lines, None)),
    }
}

/// Reads the file: a list, or a map with nothing but such a list under `prefixes`. Blocks.
pub(super) fn load(path: &Path) -> Result<Vec<PrefixRule>, Failure> {
    let shown = path.display();
    let failed = |why: &dyn Display| {
        Failure::retry(format!("the file of prefixes {shown} can't be read: {why}")).hinting(format!("ls -lL {shown}"))
    };
    let about_it = std::fs::metadata(path).map_err(|error| failed(&error))?;
    if !about_it.is_file() || about_it.len() > FILE_BYTES_MAX {
        return Err(failed(&format!("it is no file of at most {FILE_BYTES_MAX} bytes")));
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| failed(&error))?;
    parse(&text).map_err(|failure| about(&shown.to_string(), failure))
}

fn parse(text: &str) -> Result<Vec<PrefixRule>, Failure> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        merge_keys: serde_saphyr::MergeKeyPolicy::Error,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        reject_unsupported_tags: true,
        budget: serde_saphyr::budget! { max_nodes: NODES_MAX, max_events: 2 * NODES_MAX, max_documents: 1 },
    };
    let value: Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let at = error.location().map(|at| format!("line {}: ", at.line())).unwrap_or_default();
        let why = error.to_string();
        Failure::permanent(format!("{at}{}", why.lines().next().unwrap_or_default())).hinting(HINT)
    })?;
    match &value {
        Value::Object(_) => {
            let words = Words::read(&value, "mirror-db", &["prefixes"])?;
            lines(words.get("prefixes").unwrap_or(&Value::Null))
        }
        list => lines(list),
    }
}

fn lines(value: &Value) -> Result<Vec<PrefixRule>, Failure> {
    let wrong = |why: String| Failure::permanent(format!("mirror-db: `prefixes` {why}")).hinting(HINT);
    let list = value.as_array().ok_or_else(|| wrong("is neither a list nor the name of a file".into()))?;
    if list.len() > PREFIXES_MAX {
        return Err(wrong(format!("has {} lines, at most {PREFIXES_MAX} are allowed", list.len())));
    }
    let line = |(at, value): (usize, &Value)| {
        line(value).map_err(|failure| about(&format!("prefixes, line {}", at + 1), failure))
    };
    list.iter().enumerate().map(line).collect()
}

fn line(value: &Value) -> Result<PrefixRule, Failure> {
    let words = Words::read(value, "mirror-db", &["path", "prefix"])?;
    let Some(text) = words.text("path")? else {
        return Err(Failure::permanent("mirror-db: `path` is missing: an expression").hinting(HINT));
    };
    let path = regex(text).map_err(|why| {
        let hint =
            "regular expressions as in https://docs.rs/regex/latest/regex/#syntax; in YAML put them into single quotes";
        words.wrong("path", &why, &text.into()).hinting(hint)
    })?;
    let prefix = words.text("prefix")?.map(str::to_owned);
    if let Some(prefix) = &prefix {
        check_prefix(prefix, &path)
            .map_err(|(why, hint)| words.wrong("prefix", &why, &prefix.as_str().into()).hinting(hint))?;
    }
    Ok(PrefixRule { path, prefix })
}

/// Whether everything in braces is known: what is wrong, and a hint.
fn check_prefix(prefix: &str, path: &Regex) -> Result<(), (String, String)> {
    let names: Vec<&str> = path.capture_names().flatten().chain(["kind", "version"]).collect();
    let mut rest = prefix;
    while let Some(at) = rest.find(['{', '}']) {
        let Some((name, after)) = rest[at..].strip_prefix('{').and_then(|inner| inner.split_once('}')) else {
            return Err(("has a brace without its other half".into(), "{kind}, {version}, {1}, {NAME}".into()));
        };
        let is_group = name.parse::<usize>().is_ok_and(|group| group < path.captures_len());
        if !is_group && !names.contains(&name) {
            let near = did_you_mean(name, names.iter().copied());
            let near = near.map(|near| format!("did you mean {{{near}}}? ")).unwrap_or_default();
            let hint = format!("{near}known are {{kind}}, {{version}}, and the groups of `path` by number or name");
            return Err((format!("has {{{name}}}, which is not known here"), hint));
        }
        rest = after;
    }
    Ok(())
}
