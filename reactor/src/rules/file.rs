//! YAML files → [`super::site::Site`], with every error at its line and column.
//!
//! A site is one file, or several (a directory) that are merged: lists one behind the other, maps by their names, the
//! same name twice is an error. Reads only the site's own files; whether the files that those name are there is asked
//! by [`Loaded::warn_of_missing_files`] alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostics::{Diagnostic, Diagnostics, Span, shown};
use super::lower::{Fields, NamedFile, Reader};
use super::lower_rule::{Limits, limits};
use super::node::Value;
use super::reach;
use super::site::{BUILT_IN, Site};
use super::source::Source;
use super::words::{SITE, TRUST, TRUST_FILE};
use super::{lower_bus, lower_confirm, lower_handler, lower_http, lower_rule, lower_test};
use crate::trust::TrustConfig;
use handler_api::spelling::did_you_mean;

/// Most files of one site.
pub const SITE_FILES_MAX: usize = 1_000;

/// A site as it was read, and everything that was found on the way.
#[derive(Debug)]
pub struct Loaded {
    /// The site, if there is no error.
    pub site: Option<Site>,
    /// Errors and warnings, in the order of the files.
    pub diagnostics: Diagnostics,
    /// The site's own files, in the order they were read.
    pub files: Vec<PathBuf>,
    /// Every file that the site names.
    pub named_files: Vec<NamedFile>,
}

impl Loaded {
    /// The site, or what is wrong with it.
    ///
    /// # Errors
    /// Everything that is wrong with it, warnings too.
    pub fn into_result(self) -> Result<Site, Diagnostics> {
        self.site.ok_or(self.diagnostics)
    }

    /// Adds a warning for each file that the site names and that is not there.
    pub fn warn_of_missing_files(&mut self) {
        for file in &self.named_files {
            if let Err(error) = std::fs::metadata(&file.path) {
                let message = format!("{} cannot be read: {}: {error}", file.what, file.path.display());
                let hint = if file.path.extension().is_some_and(|end| end == "crt" || end == "pem") {
                    "a path begins at this file's directory. Put your CA's there (docs/trust.md); `reactor demo` makes its own"
                } else {
                    "relative paths begin at the directory of the file they stand in"
                };
                self.diagnostics.push(Diagnostic::warning(file.span, message).hint(hint));
            }
        }
        self.diagnostics.sort();
    }
}

/// Loads a site: each path is one file, or a directory whose `*.yaml` and `*.yml` files are merged in the order of
/// their names.
///
/// # Errors
/// Everything that is wrong with it, not only the first.
pub fn load(paths: &[PathBuf]) -> Result<Site, Diagnostics> {
    read(paths).into_result()
}

/// As [`load`], with the warnings of a good site too.
#[must_use]
pub fn read(paths: &[PathBuf]) -> Loaded {
    let mut found = Diagnostics::default();
    let files = site_files(paths, &mut found);
    let sources = files.iter().filter_map(|path| Source::open(path, &mut found)).collect();
    build(sources, files, found, BUILT_IN)
}

/// Loads a site from a text, as if it stood in the file `name` in the directory `dir`.
#[must_use]
pub fn read_str(name: &str, text: &str, dir: &Path) -> Loaded {
    let mut found = Diagnostics::default();
    let source = Source::new(Path::new(name), dir.to_owned(), text, &mut found);
    build(source.into_iter().collect(), vec![name.into()], found, BUILT_IN)
}

/// As [`read_str`], without the warnings of a good site.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_str(name: &str, text: &str, dir: &Path) -> Result<Site, Diagnostics> {
    read_str(name, text, dir).into_result()
}

/// Loads a `trust:` block that stands alone in a file (for `reactor verify --trust FILE`), with or without the word
/// `trust:` around it. Files that it names need not be there.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_trust(path: &Path) -> Result<TrustConfig, Diagnostics> {
    let mut found = Diagnostics::default();
    if !path.exists() {
        found.error_in_file(path, "there is no such file", "docs/trust.md shows what to write into it");
        return Err(found);
    }
    let source = Source::open(path, &mut found);
    let mut named_files = Vec::new();
    let trust = source.as_ref().and_then(|source| {
        let tree = source.tree.as_ref()?;
        let reader = &mut source.reader(&mut found, &mut named_files, BUILT_IN);
        if matches!(tree.value, Value::Null) {
            reader.error(
                tree.span,
                "the file is empty",
                "write a trust block: x509: { ca: FILE }, policy: { TOPIC: [SIGNER] }",
            );
            return None;
        }
        if tree.at(&["bus".into()]).is_some() {
            reader.error(
                tree.span,
                "this is a site, not a trust block",
                "put what is under `bus.NAME.trust` into a file of its own",
            );
            return None;
        }
        let wrapped = tree.at(&["trust".into()]).is_some();
        let outer = if wrapped { Some(reader.fields("trust", tree, &TRUST_FILE)?) } else { None };
        let fields = match &outer {
            Some(outer) => outer.block(reader, "trust")?,
            None => reader.fields("trust", tree, &TRUST)?,
        };
        Some(lower_bus::trust_block(reader, &fields))
    });
    found.sort();
    trust.filter(|_| !found.has_errors()).ok_or(found)
}

/// What the files of a site look like from outside: name, size and time of each, and which files a directory holds. Another
/// answer = something has changed.
#[must_use]
pub fn stamps(paths: &[PathBuf]) -> Vec<(PathBuf, u64, Option<std::time::SystemTime>)> {
    let files = site_files(paths, &mut Diagnostics::default());
    let stamp = |path: PathBuf| {
        let meta = std::fs::metadata(&path).ok();
        (path, meta.as_ref().map_or(0, std::fs::Metadata::len), meta.and_then(|meta| meta.modified().ok()))
    };
    files.into_iter().map(stamp).collect()
}

/// The files behind `paths`.
fn site_files(paths: &[PathBuf], found: &mut Diagnostics) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        match directory_files(path) {
            Err(error) => found.error_in_file(
                path,
                format!("the directory cannot be read: {error}"),
                "ls -ld it: who may read it?",
            ),
            Ok(inside) if inside.is_empty() => {
                found.error_in_file(
                    path,
                    "no *.yaml file is in this directory",
                    "a site begins with a file of `version: 1`",
                );
            }
            Ok(inside) => files.extend(inside),
        }
    }
    if let Some(first) = files.get(SITE_FILES_MAX) {
        found.error_in_file(first, format!("the site has more than {SITE_FILES_MAX} files"), "merge some of them");
        files.truncate(SITE_FILES_MAX);
    }
    files
}

fn directory_files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let yaml = path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml");
        if yaml && !hidden && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Names that were given, by where they were given first.
type Names = BTreeMap<String, Span>;

/// What all files together say.
#[derive(Default)]
struct Merged {
    site: Site,
    buses: Names,
    handlers: Names,
    rules: Names,
    tests: Names,
    /// The handlers that rules name, and the rules that tests name.
    handlers_used: Vec<(Arc<str>, Span)>,
    rules_used: Vec<(String, Span)>,
    /// Where the topics of each rule stand, by its index in `site.rules`.
    topics: Vec<Span>,
    /// Where what a bus or a rule says of `confirm` stands.
    confirms: lower_confirm::Spans,
}

fn build(sources: Vec<Source>, files: Vec<PathBuf>, mut found: Diagnostics, built_in: &[&str]) -> Loaded {
    let mut named_files = Vec::new();
    let mut merged = Merged::default();
    let complete = sources.len() == files.len() && sources.iter().all(|source| source.tree.is_some());
    let tops: Vec<(&Source, Fields<'_>)> = sources
        .iter()
        .filter_map(|source| Some((source, top(&mut source.reader(&mut found, &mut named_files, built_in), source)?)))
        .collect();
    let (limits, http) = site_wide(&tops, &mut merged.site, &mut found, &mut named_files);
    for (source, fields) in &tops {
        let reader = &mut source.reader(&mut found, &mut named_files, built_in);
        named(reader, fields, &mut merged);
        rules(reader, fields, &mut merged, limits);
        tests(reader, fields, &mut merged);
    }
    // With a file missing, every name might stand in there.
    if complete {
        check_names(&merged, &mut found);
        lower_confirm::check(&merged.site, &merged.confirms, &mut found);
        lower_http::check(&merged.site, http.as_ref(), &merged.buses, &mut found);
    }
    if !found.has_errors() {
        warn(&merged, sources.first(), &mut found);
    }
    found.sort();
    let site = (complete && !found.has_errors()).then_some(merged.site);
    Loaded { site, diagnostics: found, files, named_files }
}

/// The words of one file, its version checked.
fn top<'n>(reader: &mut Reader<'_>, source: &'n Source) -> Option<Fields<'n>> {
    let tree = source.tree.as_ref()?;
    if matches!(tree.value, Value::Null) {
        let top = Span { file: source.file, line: 1, column: 1, ..Span::default() };
        reader.error(top, "the file is empty", "a site begins with `version: 1`");
        return None;
    }
    if !matches!(tree.value, Value::Map(_)) {
        let message = format!("a site is a map of words, not {}", tree.kind());
        reader.error(tree.span, message, format!("begin with `version: 1`; then {}", SITE.list()));
        return None;
    }
    let fields = reader.fields("site", tree, &SITE)?;
    if let Some(node) = fields.node("version")
        && node.to_json() != 1
    {
        let said = match &node.value {
            Value::Number(number) => format!("version {number} is not known here"),
            _ => format!("`version` must be the number 1, not {}", node.kind()),
        };
        reader.error(node.span, said, "this reactor reads `version: 1`");
    }
    Some(fields)
}

/// `journal`, `http` and `defaults`: at most once in a site.
fn site_wide(
    tops: &[(&Source, Fields<'_>)],
    site: &mut Site,
    found: &mut Diagnostics,
    named_files: &mut Vec<NamedFile>,
) -> (Limits, Option<lower_http::Places>) {
    let (mut default, mut places) = (Limits::default(), None);
    let mut first: HashMap<&str, Span> = HashMap::new();
    for (source, fields) in tops {
        let reader = &mut source.reader(found, named_files, &[]);
        for word in ["journal", "http", "defaults"] {
            if let Some(span) = fields.key_span(word)
                && let Some(before) = first.insert(word, span)
            {
                twice(reader.found, format!("`{word}` is given twice in this site"), span, before);
            }
        }
        if let Some(inner) = fields.block(reader, "journal") {
            site.journal = lower_bus::journal(reader, &inner);
        }
        if let Some(inner) = fields.block(reader, "http") {
            let span = fields.key_span("http").unwrap_or(inner.span);
            let (http, at) = lower_http::http(reader, span, &inner);
            (site.http, places) = (Some(http), Some(at));
        }
        if let Some(inner) = fields.block(reader, "defaults") {
            default = limits(reader, &inner, default);
        }
    }
    (default, places)
}

fn twice(found: &mut Diagnostics, message: String, span: Span, before: Span) {
    found.push(
        Diagnostic::error(span, message)
            .second(before, "first given here")
            .hint("rename one of the two, or take it out"),
    );
}

/// Remembers a name; says so if it was there before.
fn claim(names: &mut Names, found: &mut Diagnostics, what: &str, name: &str, span: Span) -> bool {
    match names.get(name) {
        Some(before) => {
            twice(found, format!("{what} {} is there twice", shown(name)), span, *before);
            false
        }
        None => names.insert(name.to_owned(), span).is_none(),
    }
}

/// `bus` and `handlers`.
fn named(reader: &mut Reader<'_>, fields: &Fields<'_>, merged: &mut Merged) {
    for (key, node) in fields.entries(reader, "bus") {
        let bus = lower_bus::bus(reader, key, node);
        if claim(&mut merged.buses, reader.found, "bus", &key.text, key.span)
            && let Some(bus) = bus
        {
            merged.confirms.of_bus(&key.text, node);
            merged.site.buses.insert(key.text.clone(), bus);
        }
    }
    for (key, node) in fields.entries(reader, "handlers") {
        let handler = lower_handler::handler(reader, key, node);
        if claim(&mut merged.handlers, reader.found, "handler", &key.text, key.span)
            && let Some(handler) = handler
        {
            merged.site.handlers.insert(key.text.clone(), handler);
        }
    }
}

fn rules(reader: &mut Reader<'_>, fields: &Fields<'_>, merged: &mut Merged, default: Limits) {
    for fields in fields.list(reader, "rules") {
        let lowered = lower_rule::rule(reader, &fields, default);
        if let Some((name, span)) = &lowered.name {
            claim(&mut merged.rules, reader.found, "rule", name, *span);
        }
        merged.handlers_used.extend(lowered.handler);
        if let Some(rule) = lowered.rule {
            merged.site.rules.push(Arc::new(rule));
            merged.topics.push(lowered.on_span);
            merged.confirms.of_rules.push(lowered.confirm);
        }
    }
}

fn tests(reader: &mut Reader<'_>, fields: &Fields<'_>, merged: &mut Merged) {
    for fields in fields.list(reader, "tests") {
        if let Some(lowered) = lower_test::test(reader, &fields) {
            claim(&mut merged.tests, reader.found, "test", &lowered.test.name, lowered.name_span);
            merged.rules_used.extend(lowered.rules);
            merged.site.tests.push(lowered.test);
        }
    }
}

/// Every handler that a rule names, and every rule that a test names, is there.
fn check_names(merged: &Merged, found: &mut Diagnostics) {
    for (name, span) in merged.handlers_used.iter().filter(|(name, _)| !merged.handlers.contains_key(&**name)) {
        let hint = there_are(name, &merged.handlers, "handlers: { NAME: { exec: PROGRAM } }");
        found.push(Diagnostic::error(*span, format!("there is no handler {}", shown(name))).hint(hint));
    }
    for (name, span) in merged.rules_used.iter().filter(|(name, _)| !merged.rules.contains_key(name)) {
        let hint = there_are(name, &merged.rules, "rules: [ { name: …, on: …, do: … } ]");
        found.push(Diagnostic::error(*span, format!("there is no rule {}", shown(name))).hint(hint));
    }
}

/// Most names that a hint lists.
const LISTED_NAMES_MAX: usize = 8;

fn there_are(wrong: &str, names: &Names, none: &str) -> String {
    let all = names.keys().map(String::as_str);
    let list = || {
        let mut list: Vec<_> = all.clone().take(LISTED_NAMES_MAX).map(shown).collect();
        if names.len() > LISTED_NAMES_MAX {
            list.push("…".into());
        }
        list.join(", ")
    };
    match did_you_mean(wrong, all.clone()) {
        Some(near) => format!("did you mean {}?", shown(near)),
        None if names.is_empty() => format!("there is none yet: {none}"),
        None => format!("there are: {}", list()),
    }
}

/// What can be used, but hardly as meant. Only of a site without errors: behind an error the rest is a guess.
fn warn(merged: &Merged, first: Option<&Source>, found: &mut Diagnostics) {
    for (name, bus) in merged.site.buses.iter().filter(|(_, bus)| bus.listens()) {
        if let (Some((why, hint)), Some(span)) = (lower_bus::refuses_all(bus), merged.buses.get(name)) {
            let message = format!("bus {} {why}: every message on it will be refused", shown(name));
            found.push(Diagnostic::warning(*span, message).hint(hint));
        }
    }
    for (name, _) in merged.site.buses.iter().filter(|(_, bus)| bus.amqp.is_some() && !bus.listens()) {
        if let Some(span) = merged.buses.get(name) {
            let message = format!(
                "bus {} does not say that the broker is believed: it is not read, only published on",
                shown(name)
            );
            let hint = "to read it: trust: { broker: accept, policy: { TOPIC: [broker] } }";
            found.push(Diagnostic::warning(*span, message).hint(hint));
        }
    }
    let used: HashSet<&str> = merged.handlers_used.iter().map(|(name, _)| &**name).collect();
    for (name, span) in &merged.handlers {
        if !used.contains(name.as_str()) {
            let message = format!("no rule uses handler {}", shown(name));
            found.push(
                Diagnostic::warning(*span, message).hint(format!("a rule uses it with `do: {name}`; or take it out")),
            );
        }
    }
    for (rule, span) in merged.site.rules.iter().zip(&merged.topics) {
        if let Some(topic) = reach::unreachable(rule, &merged.site) {
            let message = format!("rule {} can never run: no bus subscribes to {}", shown(&rule.name), shown(topic));
            found.push(Diagnostic::warning(*span, message).hint("add a prefix of it to `bus.NAME.topics`"));
        }
    }
    if let (Some(source), true) = (first, merged.site.rules.is_empty()) {
        let top = Span { file: source.file, line: 1, column: 1, ..Span::default() };
        found.push(Diagnostic::warning(top, "the site has no rule").hint("rules: [ { name: …, on: …, do: … } ]"));
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
