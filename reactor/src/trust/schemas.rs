//! JSON schemas that a site provides: what a body of each kind of message must look like. The file `NAME.json` is for the messages
//! whose header `fedora_messaging_schema` is `NAME`. In fedora-messaging they come from Python packages
//! (`fedora_messaging/message.py`, `body_schema`); docs/amqp.md says how to write those into files.
//!
//! Drafts 4, 6, 7, 2019-09 and 2020-12 (where a schema does not say: the latest), by the crate `boon`: patterns are matched in linear
//! time, formats are notes and not checked, as with Python's `jsonschema.validate`. Nothing is fetched: a `$ref` leads into
//! the same directory, or the schema can't be used.

use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use boon::{Compiler, Format, SchemaIndex, UrlLoader, ValidationError};
use serde_json::Value;

use crate::message::Message;

/// The header that names a message's schema.
pub const SCHEMA_HEADER: &str = "fedora_messaging_schema";
/// The schema of messages that have none of their own: any object.
pub const BASE_SCHEMA: &str = "base.message";
/// Most schemas of a directory.
pub const SCHEMAS_MAX: usize = 1_000;
/// Largest file of a schema, in bytes.
pub const SCHEMA_BYTES_MAX: u64 = 1024 * 1024;
/// Most unknown schemas that are noted one by one.
const NOTED_MAX: usize = 1_000;
/// Longest account of what does not fit, in characters.
const SAID_CHARS_MAX: usize = 300;
/// Where the files are, for `$ref`: next to each other, and nowhere else.
const PLACE: &str = "schemas://site/";
/// What drafts up to 7 would check beside the types (`format`).
const FORMATS: [&str; 19] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "idn-email",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "period",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
];

/// The schemas of one directory.
pub struct Schemas {
    compiled: boon::Schemas,
    /// Where each is in `compiled`, or why it can't be used.
    by_name: BTreeMap<String, Result<SchemaIndex, String>>,
    /// Why the directory can't be read, if it can't.
    unreadable: Option<String>,
    noted: Mutex<HashSet<String>>,
}

impl Schemas {
    /// Reads all `*.json` of a directory. Never fails: what can't be used refuses the messages that it is for, and
    /// [`Schemas::problems`] says so.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        let (files, unreadable) = match read_all(dir) {
            Ok(files) => (files, None),
            Err(why) => (BTreeMap::new(), Some(format!("the schemas in {} can't be read: {why}", dir.display()))),
        };
        let mut compiler = Compiler::new();
        compiler.use_loader(Box::new(Nothing));
        FORMATS.iter().for_each(|name| compiler.register_format(Format { name, func: |_| Ok(()) }));
        let place = |name: &str| format!("{PLACE}{name}.json");
        for (name, schema) in files.iter().filter_map(|(name, read)| Some((name, read.as_ref().ok()?))) {
            // What is wrong with its place is said when it is compiled.
            let _ = compiler.add_resource(&place(name), schema.clone());
        }
        let mut compiled = boon::Schemas::new();
        let mut compile = |name: &str, read: Result<Value, String>| {
            read?;
            compiler.compile(&place(name), &mut compiled).map_err(|error| one_line(&chain(&error)))
        };
        let by_name = files.into_iter().map(|(name, read)| {
            let index = compile(&name, read).map_err(|why| format!("{}: {why}", dir.join(&name).display()));
            (name, index)
        });
        Self { by_name: by_name.collect(), compiled, unreadable, noted: Mutex::default() }
    }

    /// Whether the body of a message fits the schema that it names. One whose schema is not here fits, and that is noted
    /// in the log once.
    ///
    /// # Errors
    /// What does not fit, with its place in the body; or why that can't be told.
    pub fn check(&self, message: &Message) -> Result<(), String> {
        let Some(name) = message.headers.get(SCHEMA_HEADER).and_then(Value::as_str) else { return Ok(()) };
        self.check_body(name, &message.body)
    }

    /// [`Schemas::check`] of a body.
    ///
    /// # Errors
    /// As there.
    pub fn check_body(&self, name: &str, body: &Value) -> Result<(), String> {
        if let (Some(why), false) = (&self.unreadable, name == BASE_SCHEMA) {
            return Err(why.clone());
        }
        match self.by_name.get(name) {
            Some(Ok(index)) => self
                .compiled
                .validate(body, *index)
                .map_err(|error| format!("the body does not fit the schema {name}: {}", misfit(&error))),
            Some(Err(why)) => Err(format!("its schema can't be used: {why}")),
            None => {
                self.note(name);
                Ok(())
            }
        }
    }

    fn note(&self, name: &str) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if name != BASE_SCHEMA && noted.len() < NOTED_MAX && noted.insert(name.to_owned()) {
            tracing::info!("messages of the schema {} are not checked: there is no file of it", name.escape_debug());
        }
    }

    /// What can't be used. As long as it is so, the messages that it is for are refused.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let broken = self.by_name.values().filter_map(|index| index.as_ref().err());
        let broken = broken.map(|why| format!("a schema can't be used: {why}"));
        self.unreadable.iter().cloned().chain(broken).collect()
    }
}

/// The files of a directory by the names of their schemas, or why not.
fn read_all(dir: &Path) -> Result<BTreeMap<String, Result<Value, String>>, String> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"))
        else {
            continue;
        };
        if files.len() == SCHEMAS_MAX {
            return Err(format!("there are more than {SCHEMAS_MAX}"));
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let read = if name.chars().all(is_name) { read(&path) } else { Err("that is no name of a schema".into()) };
        files.insert(name.to_owned(), read);
    }
    Ok(files)
}

fn read(path: &Path) -> Result<Value, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(SCHEMA_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > SCHEMA_BYTES_MAX {
        return Err(format!("it has more than {SCHEMA_BYTES_MAX} bytes"));
    }
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// Fetches nothing.
struct Nothing;

impl UrlLoader for Nothing {
    fn load(&self, _url: &str) -> Result<Value, Box<dyn Error>> {
        Err("nothing is fetched: put it beside the schema, and refer to it by its file's name".into())
    }
}

/// The first thing that does not fit: `at /user: want string, but got number`.
fn misfit(error: &ValidationError<'_, '_>) -> String {
    let mut at = error;
    while let Some(cause) = at.causes.first() {
        at = cause;
    }
    let place = at.instance_location.to_string();
    one_line(&format!("at {}: {}", if place.is_empty() { "the top" } else { &place }, at.kind))
}

/// An error and what led to it.
fn chain(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        if !said.contains(&why) {
            said = format!("{said}: {why}");
        }
        cause = error.source();
    }
    said
}

/// What may have been said by a publisher, safe to print and not too long.
fn one_line(text: &str) -> String {
    let line = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let mut cut: String = line.chars().take(SAID_CHARS_MAX).collect();
    if cut.len() < line.len() {
        cut.push('…');
    }
    cut.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schemas(files: &[(&str, &str)]) -> (tempfile::TempDir, Schemas) {
        let dir = tempfile::tempdir().expect("a directory");
        files.iter().for_each(|(name, text)| std::fs::write(dir.path().join(name), text).expect("written"));
        let schemas = Schemas::open(dir.path());
        (dir, schemas)
    }

    fn of(text: &str) -> (tempfile::TempDir, Schemas) {
        schemas(&[("demo.v1.json", text)])
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        let draft_4 = r##"{"$schema": "http://json-schema.org/draft-04/schema#", "id": "http://example.org/demo#", "type": "object",
            "properties": {"user": {"type": "string"}, "at": {"type": "string", "format": "date-time"},
                "groups": {"type": "array", "items": {"$ref": "#/definitions/group"}}},
            "required": ["user"], "definitions": {"group": {"type": "string", "pattern": "^[a-z]+$"}}}"##;
        let (_dir, schemas) = of(draft_4);
        assert_eq!(schemas.problems(), [""; 0]);
        assert_eq!(schemas.check_body("demo.v1", &json!({"user": "ralph", "groups": ["a"], "at": "no date"})), Ok(()));
        for (body, part) in [
            (json!({"user": 5}), "schema demo.v1: at /user: "),
            (json!({}), "at the top: missing"),
            (json!({"user": "x", "groups": ["a", "\u{1b}[31m"]}), "at /groups/1: "),
            (json!({"user": "x", "groups": ["a", "B".repeat(100_000)]}), "…"),
        ] {
            let why = schemas.check_body("demo.v1", &body).expect_err(part);
            assert!(why.contains(part) && why.len() < 600 && !why.contains('\u{1b}'), "{why}");
        }
    }

    #[test]
    fn an_unknown_schema_fits_and_every_draft_is_known() {
        let (_dir, schemas) = of("{\"type\": \"object\"}");
        assert_eq!(schemas.check_body("demo.v2", &json!({})), Ok(()));
        assert_eq!(schemas.check_body(BASE_SCHEMA, &json!({})), Ok(()));
        for draft in [
            "http://json-schema.org/draft-06/schema#",
            "http://json-schema.org/draft-07/schema#",
            "https://json-schema.org/draft/2019-09/schema",
            "https://json-schema.org/draft/2020-12/schema",
        ] {
            let (_dir, schemas) = of(&json!({"$schema": draft, "properties": {"a": {"const": 1}}}).to_string());
            assert!(schemas.check_body("demo.v1", &json!({"a": 1})).is_ok(), "{draft}");
            assert!(schemas.check_body("demo.v1", &json!({"a": 2})).is_err(), "{draft}");
        }
    }

    #[test]
    fn a_reference_leads_into_the_directory_and_nowhere_else() {
        let (_dir, good) = schemas(&[
            ("demo.v1.json", r#"{"properties": {"user": {"$ref": "user.json"}}}"#),
            ("user.json", r#"{"type": "string"}"#),
        ]);
        assert!(good.problems().is_empty() && good.check_body("demo.v1", &json!({"user": 1})).is_err());
        for reference in ["http://example.org/x.json", "file:///etc/passwd", "../x.json", "other.json", "/etc/passwd"] {
            let (_dir, schemas) = of(&json!({"properties": {"user": {"$ref": reference}}}).to_string());
            let why = schemas.check_body("demo.v1", &json!({})).expect_err(reference);
            assert!(why.contains("nothing is fetched"), "{reference}: {why}");
            assert_eq!(schemas.problems().len(), 1);
        }
    }

    #[test]
    fn what_can_not_be_used_refuses_its_messages_and_no_others() {
        let looping = r##"{"$ref": "#"}"##;
        let deep = format!("{}{}", "{\"not\":".repeat(200), "}".repeat(200));
        let (_dir, schemas) = schemas(&[
            ("text.json", "no JSON"),
            ("list.json", "[]"),
            ("wrong.json", r#"{"type": "strnig"}"#),
            ("deep.json", &deep),
            ("loop.json", looping),
            ("a b.json", "{}"),
            ("README", "not a schema"),
            ("good.json", "{}"),
        ]);
        for name in ["text", "list", "wrong", "deep", "loop"] {
            assert!(schemas.check_body(name, &json!({})).is_err(), "{name}");
        }
        assert_eq!(schemas.check_body("good", &json!({})), Ok(()));
        assert_eq!(schemas.problems().len(), 5, "all but the loop, which only a body shows: {:?}", schemas.problems());
        let none = Schemas::open(Path::new("/nonexistent"));
        assert!(none.check_body("good", &json!({})).is_err_and(|why| why.contains("/nonexistent")));
        assert!(none.check_body(BASE_SCHEMA, &json!({})).is_ok() && none.problems().len() == 1);
    }
}
