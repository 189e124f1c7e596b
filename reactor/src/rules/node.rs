//! YAML text → a tree that remembers where everything stands. Nothing in here knows the words of a site.
//!
//! The events come from the parser inside serde-saphyr (`granit_parser`, YAML 1.2), not from its serde side: that one
//! stops at the first duplicate key and hides how a text was quoted, which the place of an error inside an expression
//! needs. Texts follow the core schema of YAML 1.2 (§10.3): `yes`, `no` and `on` are texts.
//!
//! Never reads a file, never follows a reference out of the text, and holds every limit named here.

use std::collections::HashMap;

use serde_json::{Number, Value as Json};
use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, StructureStyle};

use super::diagnostics::{Diagnostic, Diagnostics, Span, shown};
use super::node_errors::explain;

/// Largest file of a site, in bytes.
pub const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most values in a file, with every alias counted at its full size.
pub const NODES_MAX: usize = 500_000;
/// Deepest nesting of lists and maps, also through aliases.
pub const DEPTH_MAX: usize = 32;

/// One value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where: the text itself, the first key of a map, the first dash of a list; of an alias, the alias.
    pub span: Span,
    /// What.
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`, `~`, or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number that JSON can hold.
    Number(Number),
    /// Any other text.
    Text(String, Style),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file; no key is there twice.
    Map(Vec<(Key, Node)>),
}

/// A key of a map, as written.
#[derive(Clone, Debug)]
pub struct Key {
    /// The word.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// How a text was written, so that a place inside of it can be found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes.
    Plain,
    /// `'…'`
    Single,
    /// `"…"`
    Double,
    /// `|` or `>`, on the lines below.
    Block,
    /// An alias: the text stands elsewhere.
    Alias,
}

impl Node {
    /// What it is, as the end of "…, not".
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(..) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// The same as JSON.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(yes) => Json::Bool(*yes),
            Value::Number(number) => Json::Number(number.clone()),
            Value::Text(text, _) => Json::String(text.clone()),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect(),
        }
    }

    /// The value behind keys and indexes.
    #[must_use]
    pub fn at(&self, path: &[String]) -> Option<&Self> {
        path.iter().try_fold(self, |node, step| match &node.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key.text == *step).map(|(_, node)| node),
            Value::List(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }
}

/// Reads `text` (file number `file`) into a tree. What is wrong goes to `found`; `None` where no tree could be made. An
/// empty text is [`Value::Null`].
pub fn read(file: u32, text: &str, found: &mut Diagnostics) -> Option<Node> {
    let mut options = granit_parser::options! { flow_nesting_limit: DEPTH_MAX, block_nesting_limit: DEPTH_MAX };
    options.set_emit_comments(false);
    let mut tree = Tree { file, text, found, open: Vec::new(), anchors: HashMap::new(), nodes: 0, root: None };
    for event in Parser::new_from_str_with_options(text, options) {
        let step = match event {
            Ok((event, span)) => tree.take(event, &span),
            Err(error) => Err(explain(&error, file, text)),
        };
        if let Err(stop) = step {
            tree.found.push(stop);
            return None;
        }
    }
    let top = Span { file, line: 1, column: 1, ..Span::default() };
    Some(tree.root.unwrap_or(Node { span: top, value: Value::Null }))
}

/// A list or map that has not ended yet.
struct Open {
    span: Span,
    block: bool,
    anchor: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Map(Vec<(Key, Node)>, Option<Key>),
}

/// A value with an anchor, for its aliases.
struct Anchored {
    node: Node,
    nodes: usize,
    depth: usize,
}

struct Tree<'a> {
    file: u32,
    text: &'a str,
    found: &'a mut Diagnostics,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
    root: Option<Node>,
}

impl Tree<'_> {
    /// Takes one event. An error ends the reading.
    fn take(&mut self, event: Event<'_>, span: &granit_parser::Span) -> Result<(), Diagnostic> {
        let at = self.span(span);
        if let Some(tag) = event.tag() {
            let tag_span = span.tag_span().map_or(at, |tag| self.span(&tag));
            let message = format!("YAML tags such as {} are not used here", shown(&tag.original()));
            self.found.push(Diagnostic::error(tag_span, message).hint("leave it out; quotes make a text of a number"));
        }
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                let message = "a second document begins here";
                return Err(Diagnostic::error(at, message).hint("take out the `---`, or make it a file of its own"));
            }
            Event::Scalar(text, style, anchor, _) => {
                let node = self.scalar(&text, style, at);
                self.complete(node, anchor)?;
            }
            Event::SequenceStart(style, anchor, _) => self.begin(at, style, anchor, Inside::List(Vec::new()))?,
            Event::MappingStart(style, anchor, _) => self.begin(at, style, anchor, Inside::Map(Vec::new(), None))?,
            Event::SequenceEnd | Event::MappingEnd => self.end(at)?,
            Event::Alias(anchor) => self.alias(anchor, at)?,
            _ => {}
        }
        Ok(())
    }

    fn span(&self, span: &granit_parser::Span) -> Span {
        let start = span.start.byte_offset().unwrap_or(self.text.len()).min(self.text.len());
        let end = span.end.byte_offset().unwrap_or(start).clamp(start, self.text.len());
        Span {
            file: self.file,
            start: small(start),
            len: small(self.text.get(start..end).map_or(0, |text| text.trim_end().len())),
            line: small(span.start.line()),
            column: small(span.start.col() + 1),
        }
    }

    fn begin(&mut self, span: Span, style: StructureStyle, anchor: usize, inside: Inside) -> Result<(), Diagnostic> {
        if self.open.len() >= DEPTH_MAX {
            return Err(Diagnostic::error(span, format!("more than {DEPTH_MAX} lists and maps inside each other")));
        }
        self.open.push(Open { span, block: style == StructureStyle::Block, anchor, inside });
        Ok(())
    }

    fn end(&mut self, at: Span) -> Result<(), Diagnostic> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let mut span = open.span;
        if !open.block {
            span.len = (at.start + at.len).saturating_sub(span.start);
        }
        let value = match open.inside {
            Inside::List(items) => Value::List(items),
            Inside::Map(entries, _) => {
                if let (true, Some((key, _))) = (open.block, entries.first()) {
                    span = key.span;
                }
                Value::Map(self.without_duplicates(entries))
            }
        };
        self.complete(Node { span, value }, open.anchor)
    }

    /// Reports every key that is there twice, and keeps the first.
    fn without_duplicates(&mut self, mut entries: Vec<(Key, Node)>) -> Vec<(Key, Node)> {
        let mut seen: HashMap<String, Span> = HashMap::with_capacity(entries.len());
        let found = &mut *self.found;
        entries.retain(|(key, _)| {
            let Some(first) = seen.get(&key.text) else {
                seen.insert(key.text.clone(), key.span);
                return true;
            };
            found.push(
                Diagnostic::error(key.span, format!("{} is given twice", shown(&key.text)))
                    .second(*first, "first given here")
                    .hint("keep one of the two"),
            );
            false
        });
        entries
    }

    fn alias(&mut self, anchor: usize, at: Span) -> Result<(), Diagnostic> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            return Err(Diagnostic::error(at, "this alias stands inside of what it stands for"));
        };
        if self.open.len() + anchored.depth > DEPTH_MAX {
            let message = format!("with this alias, more than {DEPTH_MAX} lists and maps are inside each other");
            return Err(Diagnostic::error(at, message));
        }
        self.nodes += anchored.nodes;
        self.check_nodes(at)?;
        let mut node = anchored.node.clone();
        node.span = at;
        if let Value::Text(_, style) = &mut node.value {
            *style = Style::Alias;
        }
        self.place(node)
    }

    fn check_nodes(&self, at: Span) -> Result<(), Diagnostic> {
        if self.nodes <= NODES_MAX {
            return Ok(());
        }
        Err(Diagnostic::error(at, format!("the file has more than {NODES_MAX} values, every alias counted in full"))
            .hint("split the site into several files of a directory"))
    }

    /// A value has ended: remembers it for its aliases, and puts it where it belongs.
    fn complete(&mut self, node: Node, anchor: usize) -> Result<(), Diagnostic> {
        self.nodes += 1;
        if anchor != 0 {
            let (nodes, depth) = size(&node);
            self.nodes += nodes;
            self.check_nodes(node.span)?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, depth });
        }
        self.check_nodes(node.span)?;
        self.place(node)
    }

    fn place(&mut self, node: Node) -> Result<(), Diagnostic> {
        match self.open.last_mut().map(|open| &mut open.inside) {
            None => self.root = Some(node),
            Some(Inside::List(items)) => items.push(node),
            Some(Inside::Map(entries, key)) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(as_key(self.text, &node)?),
            },
        }
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, span: Span) -> Node {
        let quoted = |style| Value::Text(text.to_owned(), style);
        let value = match style {
            ScalarStyle::SingleQuoted => quoted(Style::Single),
            ScalarStyle::DoubleQuoted => quoted(Style::Double),
            ScalarStyle::Literal | ScalarStyle::Folded => quoted(Style::Block),
            ScalarStyle::Plain => plain(text).unwrap_or_else(|(message, hint)| {
                self.found.push(Diagnostic::error(span, message).hint(hint));
                quoted(Style::Plain)
            }),
        };
        Node { span, value }
    }
}

/// A value as the key of a map.
fn as_key(source: &str, node: &Node) -> Result<Key, Diagnostic> {
    let span = node.span;
    let from = span.start as usize;
    let key = |text: &str| Key { text: text.to_owned(), span };
    match &node.value {
        Value::Text(text, Style::Plain) if text == "<<" => Err(Diagnostic::error(
            span,
            "merge keys (`<<`) are not used here: what a rule does should be read from the rule",
        )
        .hint("write the words out, or put common limits into `defaults`")),
        Value::Text(text, _) => Ok(key(text)),
        Value::Null if span.len == 0 => Err(Diagnostic::error(span, "a key is missing before the `:`")),
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            Ok(key(source.get(from..from + span.len as usize).unwrap_or_default()))
        }
        // `{{msg.user}}` without quotes is a map whose key is a map.
        Value::Map(_) if source[..from].ends_with('{') || source[from..].starts_with("{{") => {
            Err(Diagnostic::error(span, "a template must stand in quotes")
                .hint("write \"{{…}}\": without the quotes YAML takes `{` as the beginning of a map"))
        }
        Value::List(_) | Value::Map(_) => {
            Err(Diagnostic::error(span, format!("a key must be a word, not {}", node.kind())))
        }
    }
}

/// Values in it, itself counted, and how deep it goes.
fn size(node: &Node) -> (usize, usize) {
    let add = |(nodes, depth): (usize, usize), inner: &Node| {
        let (more, below) = size(inner);
        (nodes + more, depth.max(below + 1))
    };
    match &node.value {
        Value::List(items) => items.iter().fold((1, 1), add),
        Value::Map(entries) => entries.iter().map(|(_, node)| node).fold((1, 1), add),
        _ => (1, 0),
    }
}

/// A text without quotes by the core schema of YAML 1.2; an error (message, hint) for numbers that would not come out
/// as they look.
fn plain(text: &str) -> Result<Value, (String, &'static str)> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if is_digits(unsigned) {
        return whole(text, unsigned);
    }
    let based = match text.get(..2) {
        Some("0x") => u64::from_str_radix(&text[2..], 16).ok(),
        Some("0o") => u64::from_str_radix(&text[2..], 8).ok(),
        _ => None,
    };
    if let Some(number) = based.filter(|_| !text[2..].starts_with('+')) {
        return Ok(Value::Number(number.into()));
    }
    let looks_like_float = unsigned.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b))
        && unsigned.bytes().any(|b| b.is_ascii_digit())
        && unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    match text.parse::<f64>() {
        Ok(number) if looks_like_float => Number::from_f64(number)
            .map(Value::Number)
            .ok_or_else(|| (format!("{} is too large for a number", shown(text)), "put it in quotes if it is a text")),
        _ => Ok(Value::Text(text.to_owned(), Style::Plain)),
    }
}

fn whole(text: &str, unsigned: &str) -> Result<Value, (String, &'static str)> {
    if unsigned.len() > 1 && unsigned.starts_with('0') {
        let message = format!("the number {} begins with 0, which YAML readers take in different ways", shown(text));
        return Err((message, "put it in quotes if it is a text; else leave out the 0, or write 0o… for octal"));
    }
    let number = match text.strip_prefix('+').unwrap_or(text) {
        negative if negative.starts_with('-') => negative.parse::<i64>().ok().map(Number::from),
        positive => positive.parse::<u64>().ok().map(Number::from),
    };
    number.map(Value::Number).ok_or_else(|| {
        (format!("the number {} does not fit into 64 bits", shown(text)), "put it in quotes if it is a text")
    })
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
