//! Rows as changes: what people read, and what the guard counts.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};

use handler_api::limits::NOTES_MAX;
use handler_api::notes::few;
use handler_api::{Action, Change, Plan};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{LINES_MAX, text};
use crate::rows::{Detail, DirectoryChange, Known, KnownRepository, NewDirectory, NewRepository, Rows};

/// More bytes of names than this in one kind are summed up too: apply gets the plan back, and it must fit.
const NAME_BYTES_MAX: usize = 32 * 1024;
/// Examples where changes are summed up.
const EXAMPLES_SHOWN: usize = 3;
/// Up to this many directories may go without a word of doubt, however few there are.
const GONE_UNDOUBTED: usize = 10;
/// What is shown of a checksum, in characters.
const SUM_SHOWN: usize = 16;

pub(super) fn told(known: &Known, rows: &Rows) -> Plan {
    let teller = Teller::new(known, rows);
    Plan { changes: teller.changes(rows), notes: few(rows.notes.clone(), NOTES_MAX) }
}

pub(super) fn digest(known: &Known, rows: &Rows) -> String {
    let Rows { new_versions, new_directories, links, directories, new_repositories, repositories, .. } = rows;
    let Rows { new_details, gone_details, gone_repositories, gone_directories, unlinks, .. } = rows;
    let mut sum = Sum(Sha256::new());
    let category = (known.category.id, &known.category.name);
    // Writing into a sum never fails.
    let _ = write!(sum, "{:?}", (category, new_versions, new_directories, links, directories));
    let _ = write!(sum, "{:?}", (new_repositories, repositories, new_details, gone_details));
    let _ = write!(sum, "{:?}", (gone_repositories, gone_directories, unlinks));
    sum.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Sum(Sha256);

impl fmt::Write for Sum {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

/// Changes of one kind.
struct Kind<'a> {
    action: Action,
    /// `directories`.
    many: &'a str,
    /// What stands behind the place: ` in Fedora EPEL`.
    after: String,
}

/// One change of a kind, before it is known whether it is told by itself.
struct Line {
    target: String,
    before: Option<Value>,
    after: Option<Value>,
}

struct Teller<'a> {
    known: &'a Known,
    arches: HashMap<i32, &'a str>,
    repositories: HashMap<i32, &'a KnownRepository>,
    details: HashMap<i32, &'a Detail>,
    hold: Option<String>,
    more: Map<String, Value>,
}

impl<'a> Teller<'a> {
    fn new(known: &'a Known, rows: &Rows) -> Self {
        Self {
            known,
            arches: known.arches.iter().map(|(id, name)| (*id, name.as_str())).collect(),
            repositories: known.repositories.iter().map(|one| (one.id, one)).collect(),
            details: known.details.iter().map(|(id, detail)| (*id, detail)).collect(),
            hold: hold(known, rows),
            more: Map::from_iter([("rows".to_owned(), Value::from(digest(known, rows)))]),
        }
    }

    fn changes(&self, rows: &Rows) -> Vec<Change> {
        let mut out = Vec::new();
        let kind = |action, many| Kind { action, many, after: String::new() };
        let here = format!(" in {}", self.known.category.name);
        let linked = |action| Kind { action, many: "directories", after: here.clone() };
        let link = |name: &str| Line::of(format!("directory {name}{here}"));
        let versions =
            Kind { action: Action::Create, many: "versions", after: format!(" of {}", self.known.category.product) };
        self.kind(
            &mut out,
            &versions,
            &rows.new_versions,
            |_| "",
            |(name, test)| Line {
                after: Some(format!("{}{}", self.known.category.product, if *test { ", a test" } else { "" }).into()),
                ..Line::of(format!("version {name}"))
            },
        );
        self.kind(
            &mut out,
            &kind(Action::Create, "directories"),
            &rows.new_directories,
            |new| &new.name,
            new_directory,
        );
        self.kind(&mut out, &linked(Action::Create), &rows.links, |(_, name)| name, |(_, name)| link(name));
        let change = |change: &DirectoryChange| self.directory(change);
        self.kind(&mut out, &kind(Action::Update, "directories"), &rows.directories, |change| &change.name, change);
        let new = |new: &NewRepository| Line { after: Some(repository(new)), ..self.new_repository(new) };
        self.kind(&mut out, &kind(Action::Create, "repositories"), &rows.new_repositories, |new| &new.name, new);
        let moved = |(id, new): &(i32, NewRepository)| self.moved(*id, new);
        self.kind(&mut out, &kind(Action::Update, "repositories"), &rows.repositories, |(_, new)| &new.name, moved);
        self.details(&mut out, rows);
        let gone = |(id, name): &(i32, String)| self.gone_repository(*id, name);
        self.kind(&mut out, &kind(Action::Delete, "repositories"), &rows.gone_repositories, |(_, name)| name, gone);
        let gone = |(_, name): &(i32, String)| self.gone_directory(name);
        self.kind(&mut out, &kind(Action::Delete, "directories"), &rows.gone_directories, |(_, name)| name, gone);
        self.kind(&mut out, &linked(Action::Delete), &rows.unlinks, |(_, name)| name, |(_, name)| link(name));
        out
    }

    /// Several versions of one file are one change: its target must be its own.
    fn details(&self, out: &mut Vec<Change>, rows: &Rows) {
        let mut new: BTreeMap<(&str, &str), Vec<&Detail>> = BTreeMap::new();
        for detail in &rows.new_details {
            new.entry((&detail.directory, &detail.filename)).or_default().push(detail);
        }
        let new: Vec<Files<'_>> = new
            .into_iter()
            .map(|((directory, file), details)| (directory, format!("{directory}/{file}"), details.len(), details))
            .collect();
        let mut gone: BTreeMap<&str, (usize, Vec<&Detail>)> = BTreeMap::new();
        for (id, path) in &rows.gone_details {
            let (count, details) = gone.entry(path).or_default();
            *count += 1;
            details.extend(self.details.get(id).copied());
        }
        let gone: Vec<Files<'_>> =
            gone.into_iter().map(|(path, (count, details))| (parent(path), path.to_owned(), count, details)).collect();
        let line = |(_, path, _, details): &Files<'_>| {
            (Line::of(format!("checksums {path}")), details.iter().map(|detail| checksums(detail)).collect::<Vec<_>>())
        };
        for (action, files) in [(Action::Create, &new), (Action::Delete, &gone)] {
            let kind = Kind { action, many: "checksums", after: String::new() };
            let told = |file: &Files<'_>| {
                let (line, mut shown) = line(file);
                let shown = if shown.len() == 1 { shown.pop() } else { Some(Value::Array(shown)) };
                if action == Action::Create { Line { after: shown, ..line } } else { Line { before: shown, ..line } }
            };
            self.counted(out, &kind, files, |file| file.0, |file| file.2, told);
        }
    }

    fn kind<T>(
        &self,
        out: &mut Vec<Change>,
        kind: &Kind<'_>,
        items: &[T],
        directory: impl Fn(&T) -> &str,
        line: impl Fn(&T) -> Line,
    ) {
        self.counted(out, kind, items, directory, |_| 1, line);
    }

    fn counted<T>(
        &self,
        out: &mut Vec<Change>,
        kind: &Kind<'_>,
        items: &[T],
        directory: impl Fn(&T) -> &str,
        count: impl Fn(&T) -> usize,
        line: impl Fn(&T) -> Line,
    ) {
        let bytes: usize = items.iter().map(|item| directory(item).len()).sum();
        if items.len() <= LINES_MAX && bytes <= NAME_BYTES_MAX {
            out.extend(items.iter().map(|item| self.change(kind, line(item), count(item))));
            return;
        }
        let below = common(items.iter().map(directory));
        let place = if below.is_empty() { String::new() } else { format!(" below {below}") };
        let examples: Value = items.iter().take(EXAMPLES_SHOWN).map(|item| line(item).target).collect();
        let mut line = Line::of(format!("{}{place}{}", kind.many, kind.after));
        *(if kind.action == Action::Delete { &mut line.before } else { &mut line.after }) = Some(examples);
        out.push(self.change(kind, line, items.iter().map(count).sum()));
    }

    fn change(&self, kind: &Kind<'_>, line: Line, count: usize) -> Change {
        let Line { target, before, after } = line;
        let hold = if kind.action == Action::Delete { self.hold.clone() } else { None };
        let count = (count > 1).then_some(count as u64);
        Change { action: kind.action, target, before, after, secret: false, hold, count, more: self.more.clone() }
    }

    fn directory(&self, change: &DirectoryChange) -> Line {
        let stood = self.known.directories.get(&change.name);
        let (mut before, mut after) = (Map::new(), Map::new());
        if change.was != Some(change.time) {
            before.insert("time".into(), change.was.map_or(Value::Null, time));
            after.insert("time".into(), time(change.time));
        }
        if let Some(stood) = stood.filter(|stood| stood.readable != change.readable) {
            before.insert("readable".into(), stood.readable.into());
            after.insert("readable".into(), change.readable.into());
        }
        if let Some(files) = &change.files {
            after.insert("files".into(), count_of(files.as_deref()));
        }
        let shown = |map: Map<String, Value>| (!map.is_empty()).then_some(Value::Object(map));
        Line { before: shown(before), after: shown(after), ..Line::of(format!("directory {}", change.name)) }
    }

    fn gone_directory(&self, name: &str) -> Line {
        let stood = self.known.directories.get(name).and_then(|stood| stood.time);
        Line { before: stood.map(|stood| json!({"time": time(stood)})), ..Line::of(format!("directory {name}")) }
    }

    fn new_repository(&self, new: &NewRepository) -> Line {
        self.repository_named(new.prefix.as_deref().unwrap_or(&new.name), Some(new.arch_id))
    }

    fn moved(&self, id: i32, new: &NewRepository) -> Line {
        let stood = self.repositories.get(&id);
        let stood = stood.map(|stood| json!({"directory": stood.directory, "prefix": stood.prefix}));
        Line { before: stood, after: Some(repository(new)), ..self.new_repository(new) }
    }

    fn gone_repository(&self, id: i32, name: &str) -> Line {
        let stood = self.repositories.get(&id);
        let called = stood.and_then(|stood| stood.prefix.as_deref()).unwrap_or(name);
        let line = self.repository_named(called, stood.and_then(|stood| stood.arch_id));
        Line { before: stood.map(|stood| json!({"directory": stood.directory})), ..line }
    }

    fn repository_named(&self, called: &str, arch: Option<i32>) -> Line {
        let arch = arch.and_then(|arch| self.arches.get(&arch)).copied().unwrap_or("of no arch");
        Line::of(format!("repository {called} {arch}"))
    }
}

/// Directory, whole name, how many versions, and what is known of them.
type Files<'a> = (&'a str, String, usize, Vec<&'a Detail>);

impl Line {
    fn of(target: String) -> Self {
        Self { target, before: None, after: None }
    }
}

/// Why nothing is deleted without a person: a mount that failed looks just so.
fn hold(known: &Known, rows: &Rows) -> Option<String> {
    let (all, gone) = (known.directories.len(), rows.gone_directories.len() + rows.unlinks.len());
    let much = gone > GONE_UNDOUBTED && gone > all / 2;
    much.then(|| format!("{gone} of {all} directories would go: is the mirror mounted?"))
}

fn new_directory(new: &NewDirectory) -> Line {
    let after = json!({"time": time(new.time), "readable": new.readable, "files": count_of(new.files.as_deref())});
    Line { after: Some(after), ..Line::of(format!("directory {}", new.name)) }
}

fn repository(new: &NewRepository) -> Value {
    json!({"directory": new.directory, "prefix": new.prefix, "version": new.version})
}

fn checksums(detail: &Detail) -> Value {
    let sums = &detail.sums;
    let best = [("sha256", &sums.sha256), ("sha512", &sums.sha512), ("sha1", &sums.sha1), ("md5", &sums.md5)];
    let mut shown = Map::from_iter([
        ("time".to_owned(), detail.timestamp.map_or(Value::Null, time)),
        ("size".to_owned(), detail.size.into()),
    ]);
    if let Some((name, sum)) = best.iter().find_map(|(name, sum)| Some((name, sum.as_ref()?))) {
        shown.insert((*name).to_owned(), format!("{}…", sum.chars().take(SUM_SHOWN).collect::<String>()).into());
    }
    Value::Object(shown)
}

fn count_of(files: Option<&str>) -> Value {
    match files.map_or(0, text::count) {
        0 => "no files".into(),
        1 => "1 file".into(),
        n => format!("{n} files").into(),
    }
}

fn time(seconds: i64) -> Value {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.into(), |time| time.to_string().into())
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The directory that all of these are in or are.
fn common<'a>(mut names: impl Iterator<Item = &'a str>) -> &'a str {
    let Some(mut all) = names.next() else { return "" };
    for name in names {
        while !(name.strip_prefix(all).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))) {
            all = parent(all);
            if all.is_empty() {
                return "";
            }
        }
    }
    all
}
