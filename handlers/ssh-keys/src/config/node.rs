//! A value from YAML or JSON that knows the line it stands on. Knows no word of the configuration, reads no file.
//!
//! YAML comes as the events of the parser inside serde-saphyr, so that all mistakes can be told at once, each with its
//! line. Whole numbers, `true`, `false` and `null` are what they look like; everything else is a text.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle};

use super::words::Problems;

/// Deepest nesting of lists and maps.
pub const DEPTH_MAX: usize = 16;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The line, counted from 1; 0 = not from a file.
    pub line: usize,
    /// What.
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`, `~`, or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number, not negative.
    Number(u64),
    /// Any other text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file; no key is there twice.
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The word.
    pub text: String,
    /// Its line, as [`Node::line`].
    pub line: usize,
}

impl Node {
    /// What it is, as the end of "…, not".
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// Reads YAML. What is wrong goes to `problems`; `None` where no value could be made of it. Anchors, aliases and tags are
/// not taken: what a file says is read from the place where it stands.
pub fn yaml(text: &str, problems: &mut Problems) -> Option<Node> {
    let mut options = granit_parser::options! { flow_nesting_limit: DEPTH_MAX, block_nesting_limit: DEPTH_MAX };
    options.set_emit_comments(false);
    let mut tree = Tree { problems, open: Vec::new(), root: None };
    for event in Parser::new_from_str_with_options(text, options) {
        let step = match event {
            Ok((event, span)) => tree.take(event, span.start.line()),
            Err(error) => Err((
                error.marker().line(),
                format!(
                    "this is not YAML: {}; is a `{{`, `%`, `*`, `@` or `: ` in it that needs quotes?",
                    error.info()
                ),
            )),
        };
        if let Err((line, message)) = step {
            tree.problems.add(line, message);
            return None;
        }
    }
    tree.root.or(Some(Node { line: 1, value: Value::Null }))
}

/// A list or map that has not ended.
enum Open {
    List(usize, Vec<Node>),
    Map(usize, Vec<(Key, Node)>, Option<Key>),
}

struct Tree<'a> {
    problems: &'a mut Problems,
    open: Vec<Open>,
    root: Option<Node>,
}

type Step = Result<(), (usize, String)>;

impl Tree<'_> {
    fn take(&mut self, event: Event<'_>, line: usize) -> Step {
        if event.tag().is_some() {
            return Err((line, "YAML tags (`!…`) are not used here; leave it out".into()));
        }
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                Err((line, "a second document begins here; take out the `---`".into()))
            }
            Event::Alias(_) => {
                Err((line, "aliases (`*…`) are not used here; write it out, or put it in quotes".into()))
            }
            Event::Scalar(text, style, ..) => {
                let value = if style == ScalarStyle::Plain { plain(&text) } else { Value::Text(text.into_owned()) };
                self.place(Node { line, value })
            }
            Event::SequenceStart(..) => self.begin(Open::List(line, Vec::new()), line),
            Event::MappingStart(..) => self.begin(Open::Map(line, Vec::new(), None), line),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open, line: usize) -> Step {
        if self.open.len() >= DEPTH_MAX {
            return Err((line, format!("more than {DEPTH_MAX} lists and maps stand inside of each other")));
        }
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self) -> Step {
        let node = match self.open.pop() {
            Some(Open::List(line, items)) => Node { line, value: Value::List(items) },
            Some(Open::Map(line, entries, _)) => {
                let mut seen: HashMap<&str, usize> = HashMap::with_capacity(entries.len());
                for (key, _) in &entries {
                    if let Some(first) = seen.insert(&key.text, key.line) {
                        let again = format!("`{}` is given twice, first in line {first}", super::words::cut(&key.text));
                        self.problems.add(key.line, again);
                    }
                }
                Node { line, value: Value::Map(entries) }
            }
            None => return Ok(()),
        };
        self.place(node)
    }

    fn place(&mut self, node: Node) -> Step {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, entries, key)) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(as_key(node)?),
            },
        }
        Ok(())
    }
}

fn as_key(node: Node) -> Result<Key, (usize, String)> {
    let line = node.line;
    let text = match node.value {
        Value::Text(text) if text == "<<" => {
            return Err((line, "merge keys (`<<`) are not used here; write the words out".into()));
        }
        Value::Text(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Bool(yes) => yes.to_string(),
        Value::Null | Value::List(_) | Value::Map(_) => {
            return Err((line, "the key of a map must be a word; what begins with `{` or `[` goes in quotes".into()));
        }
    };
    Ok(Key { text, line })
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if text == "0" || !text.starts_with(['0', '+']) => {
            text.parse().map_or_else(|_| Value::Text(text.to_owned()), Value::Number)
        }
        _ => Value::Text(text.to_owned()),
    }
}

/// From JSON, as text or as a value; a key that is there twice is an error. Numbers other than whole ones become texts.
impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Json).map(|value| Self { line: 0, value })
    }
}

struct Json;

impl<'de> Visitor<'de> for Json {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, yes: bool) -> Result<Value, E> {
        Ok(Value::Bool(yes))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(u64::try_from(number).map_or_else(|_| Value::Text(number.to_string()), Value::Number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Text(number.to_string()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen = HashMap::new();
        while let Some((text, node)) = map.next_entry::<String, Node>()? {
            if seen.insert(text.clone(), ()).is_some() {
                return Err(A::Error::custom(format!("`{}` is given twice", super::words::cut(&text))));
            }
            entries.push((Key { text, line: 0 }, node));
        }
        Ok(Value::Map(entries))
    }
}
