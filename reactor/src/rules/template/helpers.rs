//! The helpers: pure functions from JSON to JSON, each bounded. `docs/templates.md` describes them; a test holds that it
//! describes all of them.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashSet;

use serde_json::Value;

use super::{LIST_ITEMS_MAX, fits};
use crate::rules::condition::same;
use crate::rules::scope::{EvalError, kind, shorten, walk};

type Args<'a, 'v> = &'a [Cow<'v, Value>];

/// One helper.
#[derive(Debug)]
pub(super) struct Helper {
    pub(super) name: &'static str,
    /// What it takes, in order, for error messages.
    pub(super) takes: &'static [&'static str],
    pub(super) run: fn(Args) -> Result<Value, EvalError>,
}

/// Its first value may be missing, so the evaluator does it.
pub(super) const DEFAULT: &str = "default";
/// Over `messages` the evaluator does it, without copying them.
pub(super) const PLUCK: &str = "pluck";

const fn helper(
    name: &'static str,
    takes: &'static [&'static str],
    run: fn(Args) -> Result<Value, EvalError>,
) -> Helper {
    Helper { name, takes, run }
}

/// All of them.
pub(super) static HELPERS: [Helper; 21] = [
    helper(DEFAULT, &["VALUE", "OTHER"], |args| Ok(args[0].as_ref().clone())),
    helper("eq", &["A", "B"], |args| Ok(same(&args[0], &args[1]).into())),
    helper("first", &["LIST"], |args| end(list(&args[0])?.first())),
    helper("flatten", &["LIST"], flatten),
    helper("get", &["MAP", "'PATH'"], |args| at("the value", &args[0], text(&args[1])?).cloned()),
    helper("join", &["LIST", "'BETWEEN'"], join),
    helper("json", &["VALUE"], |args| bounded(args[0].to_string())),
    helper("last", &["LIST"], |args| end(list(&args[0])?.last())),
    helper("length", &["VALUE"], length),
    helper("lower", &["TEXT"], |args| bounded(text(&args[0])?.to_lowercase())),
    helper("parse_json", &["TEXT"], parse_json),
    helper(PLUCK, &["LIST", "'PATH'"], |args| pluck("an element", list(&args[0])?.iter(), &args[1])),
    helper("replace", &["TEXT", "'OLD'", "'NEW'"], replace),
    helper("reverse", &["LIST"], |args| Ok(list(&args[0])?.iter().rev().cloned().collect())),
    helper("sort", &["LIST"], sort),
    helper("split", &["TEXT", "'BETWEEN'"], split),
    helper("strip_prefix", &["TEXT", "'PREFIX'"], |args| {
        let (all, part) = (text(&args[0])?, text(&args[1])?);
        Ok(all.strip_prefix(part).unwrap_or(all).into())
    }),
    helper("strip_suffix", &["TEXT", "'SUFFIX'"], |args| {
        let (all, part) = (text(&args[0])?, text(&args[1])?);
        Ok(all.strip_suffix(part).unwrap_or(all).into())
    }),
    helper("trim", &["TEXT"], |args| Ok(text(&args[0])?.trim().into())),
    helper("unique", &["LIST"], unique),
    helper("upper", &["TEXT"], |args| bounded(text(&args[0])?.to_uppercase())),
];

fn text(value: &Value) -> Result<&str, EvalError> {
    value.as_str().ok_or_else(|| EvalError::new(format!("wants text, this is {}", kind(value))))
}

fn list(value: &Value) -> Result<&Vec<Value>, EvalError> {
    value.as_array().ok_or_else(|| EvalError::new(format!("wants a list, this is {}", kind(value))))
}

fn bounded(text: String) -> Result<Value, EvalError> {
    fits(text.len()).map(|()| text.into())
}

fn few(items: usize) -> Result<(), EvalError> {
    if items <= LIST_ITEMS_MAX {
        return Ok(());
    }
    Err(EvalError::new(format!("the list would have {items} items, at most {LIST_ITEMS_MAX} are allowed")))
}

fn end(item: Option<&Value>) -> Result<Value, EvalError> {
    let empty =
        || EvalError { missing: true, ..EvalError::new("the list is empty").hint("{{default (first LIST) 'x'}}") };
    item.cloned().ok_or_else(empty)
}

fn at<'v>(name: &str, value: &'v Value, path: &str) -> Result<&'v Value, EvalError> {
    let words: Vec<String> = path.split('.').map(String::from).collect();
    walk(name, value, &words)
}

pub(super) fn pluck<'v>(
    name: &str,
    items: impl ExactSizeIterator<Item = &'v Value>,
    path: &Value,
) -> Result<Value, EvalError> {
    let path = text(path)?;
    few(items.len())?;
    items.map(|item| at(name, item, path).cloned()).collect()
}

fn flatten(args: Args) -> Result<Value, EvalError> {
    let items = list(&args[0])?;
    few(items.iter().map(|item| item.as_array().map_or(1, Vec::len)).sum())?;
    let mut out = Vec::new();
    for item in items {
        match item {
            Value::Array(inner) => out.extend(inner.iter().cloned()),
            other => out.push(other.clone()),
        }
    }
    Ok(out.into())
}

fn join(args: Args) -> Result<Value, EvalError> {
    let (items, between) = (list(&args[0])?, text(&args[1])?);
    let mut out = String::new();
    for (n, item) in items.iter().enumerate() {
        let word = match item {
            Value::String(word) => Cow::Borrowed(word.as_str()),
            Value::Number(_) | Value::Bool(_) => Cow::Owned(item.to_string()),
            other => return Err(EvalError::new(format!("an item is {}, which can't stand in text", kind(other)))),
        };
        if n > 0 {
            out.push_str(between);
        }
        out.push_str(&word);
        fits(out.len())?;
    }
    Ok(out.into())
}

fn length(args: Args) -> Result<Value, EvalError> {
    match args[0].as_ref() {
        Value::String(text) => Ok(text.chars().count().into()),
        Value::Array(items) => Ok(items.len().into()),
        Value::Object(map) => Ok(map.len().into()),
        other => Err(EvalError::new(format!("wants a list, a map or text, this is {}", kind(other)))),
    }
}

fn parse_json(args: Args) -> Result<Value, EvalError> {
    let source = text(&args[0])?;
    serde_json::from_str(source)
        .map_err(|wrong| EvalError::new(format!("\"{}\" is not JSON: {wrong}", shorten(source))))
}

fn replace(args: Args) -> Result<Value, EvalError> {
    let (all, old, new) = (text(&args[0])?, text(&args[1])?, text(&args[2])?);
    if old.is_empty() {
        return Err(EvalError::new("the text to replace is empty"));
    }
    let times = all.matches(old).count();
    fits(all.len().saturating_sub(times * old.len()).saturating_add(times.saturating_mul(new.len())))?;
    Ok(all.replace(old, new).into())
}

fn sort(args: Args) -> Result<Value, EvalError> {
    let mut items = list(&args[0])?.clone();
    let texts = items.iter().all(Value::is_string);
    if !texts && !items.iter().all(Value::is_number) {
        return Err(EvalError::new("wants a list of texts or a list of numbers"));
    }
    items.sort_by(|a, b| match (a, b) {
        (Value::String(a), Value::String(b)) => a.cmp(b),
        _ => a.as_f64().zip(b.as_f64()).map_or(Ordering::Equal, |(a, b)| a.total_cmp(&b)),
    });
    Ok(items.into())
}

fn split(args: Args) -> Result<Value, EvalError> {
    let (all, between) = (text(&args[0])?, text(&args[1])?);
    if between.is_empty() {
        return Err(EvalError::new("the text to split at is empty"));
    }
    few(all.matches(between).count() + 1)?;
    Ok(all.split(between).collect())
}

fn unique(args: Args) -> Result<Value, EvalError> {
    let mut seen = HashSet::new();
    Ok(list(&args[0])?.iter().filter(|item| seen.insert(item.to_string())).cloned().collect())
}
