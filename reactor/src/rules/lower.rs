//! One file's tree → typed values, word by word. Every error is collected; nothing stops at the first.
//!
//! Reads no file and resolves no name of another place: [`super::file`] does, once all files are read.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::ExprError;
use super::diagnostics::{Diagnostic, Diagnostics, Span, shown};
use super::node::{Key, Node, Value};
use super::site::Place;
use super::text_place::inside;
use super::words::{Block, SITE, Shape};
use handler_api::units::parse_duration;

/// Words with which the files of the built-in handlers begin (hosts, accounts); no site has them.
const OF_OTHER_FILES: [&str; 3] = ["groups", "repos", "users"];

/// A file that the site names.
#[derive(Clone, Debug)]
pub struct NamedFile {
    /// What it is for: `the CA certificate`.
    pub what: &'static str,
    /// Absolute, where the site's file has an absolute path.
    pub path: PathBuf,
    /// Where it is named.
    pub span: Span,
}

/// What the reading of one file needs and collects.
pub(super) struct Reader<'a> {
    pub found: &'a mut Diagnostics,
    pub named_files: &'a mut Vec<NamedFile>,
    /// The file as it was named, its text, and the directory that it stands in (absolute).
    pub file: &'a Path,
    pub source: &'a str,
    pub dir: &'a Path,
    /// The built-in handlers that there are.
    pub built_in: &'a [&'a str],
}

impl Reader<'_> {
    pub fn error(&mut self, span: Span, message: impl Into<String>, hint: impl Into<String>) {
        self.found.push(Diagnostic::error(span, message).hint(hint));
    }

    pub fn place(&self, span: Span) -> Place {
        Place { file: self.file.to_owned(), line: span.line as usize, column: span.column as usize }
    }

    /// A path as the file gives it → absolute, from the directory that the file stands in.
    pub fn path(&mut self, text: &str, span: Span, what: &'static str) -> PathBuf {
        let path = self.dir.join(text);
        let path = std::path::absolute(&path).unwrap_or(path);
        self.named_files.push(NamedFile { what, path: path.clone(), span });
        path
    }

    /// A path as text, beside the file.
    pub fn beside(&self, text: &str) -> String {
        let path = self.dir.join(text.trim_start_matches("./"));
        std::path::absolute(&path).unwrap_or(path).display().to_string()
    }

    /// `word` cannot be `node`.
    fn wrong(&mut self, word: &str, node: &Node, shape: &Shape) {
        self.wrong_thing(&format!("`{word}`"), node, shape);
    }

    fn wrong_thing(&mut self, what: &str, node: &Node, shape: &Shape) {
        let (message, hint) = match node.value {
            Value::Null => (format!("{what} is empty"), format!("it takes {}; or leave it out", shape.takes())),
            _ => (format!("{what} must be {}, not {}", shape.takes(), node.kind()), correction(node, shape)),
        };
        let error = Diagnostic::error(node.span, message);
        self.found.push(if hint.is_empty() { error } else { error.hint(hint) });
    }

    pub fn text<'n>(&mut self, what: &str, node: &'n Node, shape: &Shape) -> Option<&'n str> {
        match &node.value {
            Value::Text(text, _) if text.trim().is_empty() => {
                self.error(node.span, format!("`{what}` is empty"), "write something, or leave the word out");
                None
            }
            Value::Text(text, _) => Some(text),
            _ => {
                self.wrong(what, node, shape);
                None
            }
        }
    }

    /// A text or a list of texts, each with where it stands.
    pub fn texts<'n>(&mut self, what: &str, node: &'n Node, shape: &Shape) -> Vec<(&'n str, &'n Node)> {
        let Value::List(items) = &node.value else {
            if matches!(shape, Shape::TextList) {
                self.wrong(what, node, shape);
                return Vec::new();
            }
            return self.text(what, node, shape).map(|text| (text, node)).into_iter().collect();
        };
        if items.is_empty() && !matches!(shape, Shape::TextList | Shape::Signers) {
            self.error(node.span, format!("`{what}` is an empty list"), "write at least one, or leave the word out");
        }
        items.iter().filter_map(|item| Some((self.text(what, item, &Shape::Text)?, item))).collect()
    }

    pub fn duration(&mut self, what: &str, node: &Node, shape: &Shape) -> Option<Duration> {
        let text = match &node.value {
            Value::Text(text, _) => text,
            Value::Number(number) => {
                let message = format!("`{what}: {number}` has no unit");
                self.error(node.span, message, format!("write {number}s, {number}m, {number}h or {number}d"));
                return None;
            }
            _ => {
                self.wrong(what, node, shape);
                return None;
            }
        };
        match parse_duration(text) {
            Ok(duration) => Some(duration),
            Err(why) => {
                let (message, hint) =
                    why.split_once("; ").unwrap_or((&why, "write a number and its unit, as in 30s, 5m, 6h or 7d"));
                self.error(node.span, message, hint);
                None
            }
        }
    }

    fn count(&mut self, what: &str, node: &Node, shape: &Shape) -> Option<u64> {
        let Shape::Count(least, most) = shape else { return None };
        let number = match &node.value {
            Value::Number(number) => number.as_u64(),
            _ => {
                self.wrong(what, node, shape);
                return None;
            }
        };
        if number.is_none_or(|number| !(*least..=*most).contains(&number)) {
            self.found.push(Diagnostic::error(node.span, format!("`{what}` must be {}", shape.takes())));
            return None;
        }
        number
    }

    fn one_of(&mut self, what: &str, node: &Node, shape: &Shape) -> Option<&'static str> {
        let Shape::OneOf(words) = shape else { return None };
        let Value::Text(text, _) = &node.value else {
            self.wrong(what, node, shape);
            return None;
        };
        let known = words.iter().find(|word| *word == text).copied();
        if known.is_none() {
            let message = format!("`{what}` must be {}, not {}", shape.takes(), shown(text));
            let near = handler_api::spelling::did_you_mean(text, words.iter().copied());
            let error = Diagnostic::error(node.span, message);
            self.found.push(match near {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error,
            });
        }
        known
    }

    /// A map from names to anything.
    pub fn entries<'n>(&mut self, what: &str, node: &'n Node, shape: &Shape) -> &'n [(Key, Node)] {
        let Value::Map(entries) = &node.value else {
            self.wrong(what, node, shape);
            return &[];
        };
        for (key, _) in entries.iter().filter(|(key, _)| key.text.trim().is_empty()) {
            self.error(key.span, format!("a name in `{what}` is empty"), "give it a name");
        }
        entries
    }

    /// A list of maps with the words of `block`.
    pub fn list<'n>(&mut self, what: &str, node: &'n Node, block: &'static Block) -> Vec<Fields<'n>> {
        match &node.value {
            Value::List(items) => items.iter().filter_map(|item| self.fields_of(block.what, item, block)).collect(),
            _ => {
                self.wrong(what, node, &Shape::List(block));
                Vec::new()
            }
        }
    }

    /// A map with the words of `block`; says every unknown and every missing word.
    pub fn fields<'n>(&mut self, word: &str, node: &'n Node, block: &'static Block) -> Option<Fields<'n>> {
        self.fields_of(&format!("`{word}`"), node, block)
    }

    fn fields_of<'n>(&mut self, what: &str, node: &'n Node, block: &'static Block) -> Option<Fields<'n>> {
        let Value::Map(entries) = &node.value else {
            self.wrong_thing(what, node, &Shape::Block(block));
            return None;
        };
        let mut fields = Fields {
            block,
            slots: vec![None; block.words.len()],
            asked: Cell::new(0),
            span: node.span,
            others: Vec::new(),
        };
        for (key, node) in entries {
            match block.words.iter().position(|word| word.name == key.text) {
                Some(at) => fields.slots[at] = Some((key, node)),
                None if block.open => fields.others.push((key, node)),
                None => self.unknown(key, block),
            }
        }
        self.missing(&fields, entries);
        Some(fields)
    }

    fn unknown(&mut self, key: &Key, block: &'static Block) {
        let hint = match block.meant_by(&key.text) {
            // A site's directory holds the site alone.
            _ if std::ptr::eq(block, &SITE) && OF_OTHER_FILES.contains(&key.text.as_str()) => format!(
                "is this a file that a handler names? Of a directory every *.yaml is read as a part of the site: move it into \
                 a directory below. Allowed here: {}",
                block.list()
            ),
            Some(meant) => format!("did you mean `{meant}`? Allowed here: {}", block.list()),
            None => format!("allowed here: {}", block.list()),
        };
        self.error(key.span, format!("{} is not a word of {}", shown(&key.text), block.what), hint);
    }

    fn missing(&mut self, fields: &Fields<'_>, entries: &[(Key, Node)]) {
        let block = fields.block;
        // A word that was misspelt is not also missing.
        let misspelt = |word: &str| {
            entries.iter().any(|(key, _)| block.word(&key.text).is_none() && block.meant_by(&key.text) == Some(word))
        };
        for word in block.words.iter().filter(|word| word.required && !fields.has(word.name) && !misspelt(word.name)) {
            self.error(
                fields.span,
                format!("{} needs `{}`", block.what, word.name),
                format!("add `{}:`, {}", word.name, word.about),
            );
        }
        for group in block.exactly_one {
            let given: Vec<Span> = group.iter().filter_map(|name| fields.slot(name)).map(|(key, _)| key.span).collect();
            let names = group.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
            match given[..] {
                [] if !group.iter().any(|name| misspelt(name)) => self.error(
                    fields.span,
                    format!("{} needs {names}", block.what),
                    block
                        .word(group[0])
                        .map(|word| format!("add `{}:`, {}", word.name, word.about))
                        .unwrap_or_default(),
                ),
                [first, second, ..] => self.found.push(
                    Diagnostic::error(second, format!("{} takes {names}, not both", block.what))
                        .second(first, "the other one")
                        .hint("keep one of the two"),
                ),
                _ => {}
            }
        }
    }

    /// An error inside of a text, at its place in the file. `form` is the hint where the error has none of its own.
    pub fn expression_error(&mut self, node: &Node, error: ExprError, form: &'static str) {
        let span = inside(self.source, node, error.offset, error.len);
        self.found.push(Diagnostic::error(span, error.message).hint(error.hint.unwrap_or_else(|| form.into())));
    }
}

/// How to write what was probably meant.
fn correction(node: &Node, shape: &Shape) -> String {
    let texts = matches!(shape, Shape::Text | Shape::Texts | Shape::Signers | Shape::TextList);
    match (&node.value, shape) {
        (Value::Number(number), _) if texts => format!("in quotes it is a text: \"{number}\""),
        (Value::Bool(yes), _) if texts => format!("in quotes it is a text: \"{yes}\""),
        (Value::Map(_), Shape::Text) => "put a text with `{` or `: ` in it in quotes".into(),
        (Value::Text(text, _), Shape::Bool) if matches!(text.as_str(), "yes" | "on" | "y") => "write true".into(),
        (Value::Text(text, _), Shape::Bool) if matches!(text.as_str(), "no" | "off" | "n") => "write false".into(),
        (Value::Text(..), Shape::TextList) => "write it as [a, b], or each with a dash on a line of its own".into(),
        (Value::Text(text, _), Shape::Count(..)) if text.parse::<u64>().is_ok() => "write it without quotes".into(),
        (Value::Map(_), Shape::List(_)) => "begin each with a dash: `- name: …`".into(),
        (_, Shape::Block(block)) => format!("its words are {}", block.list()),
        (_, Shape::Named(_) | Shape::JsonMap) => {
            "write { NAME: VALUE }, or each `NAME: VALUE` on a line of its own".into()
        }
        _ => String::new(),
    }
}

/// The words of one map.
pub(super) struct Fields<'n> {
    block: &'static Block,
    slots: Vec<Option<(&'n Key, &'n Node)>>,
    asked: Cell<u32>,
    pub span: Span,
    /// Words that the block leaves open.
    pub others: Vec<(&'n Key, &'n Node)>,
}

impl<'n> Fields<'n> {
    fn slot(&self, name: &str) -> Option<(&'n Key, &'n Node)> {
        self.index(name).and_then(|at| self.slots[at])
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.block.words.iter().position(|word| word.name == name)
    }

    fn has(&self, name: &str) -> bool {
        self.slot(name).is_some()
    }

    /// The word's value and what it takes, where it is given. Asking for a word that the table lacks is a mistake in
    /// our code, as is never asking for one that it has: tests (debug builds) stop at both.
    fn ask(&self, name: &'static str) -> Option<(&'n Node, &'static Shape)> {
        let at = self.index(name);
        debug_assert!(at.is_some(), "`{name}` is not in the table of {}", self.block.what);
        let at = at?;
        self.asked.set(self.asked.get() | 1 << at);
        self.slots[at].map(|(_, node)| (node, &self.block.words[at].shape))
    }

    /// The value as it is.
    pub fn node(&self, name: &'static str) -> Option<&'n Node> {
        self.ask(name).map(|(node, _)| node)
    }

    /// Where the word stands.
    pub fn key_span(&self, name: &str) -> Option<Span> {
        self.slot(name).map(|(key, _)| key.span)
    }

    pub fn text(&self, reader: &mut Reader<'_>, name: &'static str) -> Option<&'n str> {
        self.ask(name).and_then(|(node, shape)| reader.text(name, node, shape))
    }

    pub fn texts(&self, reader: &mut Reader<'_>, name: &'static str) -> Vec<(&'n str, &'n Node)> {
        self.ask(name).map(|(node, shape)| reader.texts(name, node, shape)).unwrap_or_default()
    }

    pub fn duration(&self, reader: &mut Reader<'_>, name: &'static str) -> Option<Duration> {
        self.ask(name).and_then(|(node, shape)| reader.duration(name, node, shape))
    }

    /// A duration that is not 0.
    pub fn some_time(&self, reader: &mut Reader<'_>, name: &'static str) -> Option<Duration> {
        let duration = self.duration(reader, name)?;
        if duration.is_zero() {
            let span = self.node(name)?.span;
            reader.error(span, format!("`{name}` must be more than 0s"), "write how long, as in 30s or 5m");
            return None;
        }
        Some(duration)
    }

    pub fn count(&self, reader: &mut Reader<'_>, name: &'static str) -> Option<u64> {
        self.ask(name).and_then(|(node, shape)| reader.count(name, node, shape))
    }

    pub fn size(&self, reader: &mut Reader<'_>, name: &'static str) -> Option<usize> {
        self.count(reader, name).and_then(|count| usize::try_from(count).ok())
    }

    pub fn boolean(&self, reader: &mut Reader<'_>, name: &'static str) -> Option<bool> {
        let (node, shape) = self.ask(name)?;
        if let Value::Bool(yes) = node.value {
            return Some(yes);
        }
        reader.wrong(name, node, shape);
        None
    }

    /// A word that takes several kinds of values, to be looked at by the caller; [`Fields::wrong_kind`] says what it takes.
    pub fn wrong_kind(&self, reader: &mut Reader<'_>, name: &'static str) {
        if let Some((node, shape)) = self.ask(name) {
            reader.wrong(name, node, shape);
        }
    }

    pub fn one_of(&self, reader: &mut Reader<'_>, name: &'static str) -> Option<&'static str> {
        self.ask(name).and_then(|(node, shape)| reader.one_of(name, node, shape))
    }

    pub fn path(&self, reader: &mut Reader<'_>, name: &'static str, what: &'static str) -> Option<PathBuf> {
        let text = self.text(reader, name)?;
        let span = self.node(name)?.span;
        Some(reader.path(text, span, what))
    }

    pub fn entries(&self, reader: &mut Reader<'_>, name: &'static str) -> &'n [(Key, Node)] {
        self.ask(name).map_or(&[], |(node, shape)| reader.entries(name, node, shape))
    }

    pub fn block(&self, reader: &mut Reader<'_>, name: &'static str) -> Option<Fields<'n>> {
        let (node, shape) = self.ask(name)?;
        let Shape::Block(block) = shape else { return None };
        reader.fields(name, node, block)
    }

    pub fn list(&self, reader: &mut Reader<'_>, name: &'static str) -> Vec<Fields<'n>> {
        let Some((node, Shape::List(block))) = self.ask(name) else { return Vec::new() };
        reader.list(name, node, block)
    }

    /// Names and texts (`env`).
    pub fn text_map(&self, reader: &mut Reader<'_>, name: &'static str) -> BTreeMap<String, String> {
        self.entries(reader, name)
            .iter()
            .filter_map(|(key, node)| Some((key.text.clone(), reader.text(&key.text, node, &Shape::Text)?.to_owned())))
            .collect()
    }

    /// A map of anything (`config`, `with`).
    pub fn json_map(&self, reader: &mut Reader<'_>, name: &'static str) -> Option<Map<String, Json>> {
        let (node, shape) = self.ask(name)?;
        let entries = reader.entries(name, node, shape);
        matches!(node.value, Value::Map(_))
            .then(|| entries.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect())
    }

    /// Every word of the table has been asked for.
    pub fn done(&self) {
        let all = (1u32 << self.block.words.len()) - 1;
        debug_assert_eq!(self.asked.get(), all, "some words of {} are never read", self.block.what);
    }
}

impl Drop for Fields<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.done();
        }
    }
}
