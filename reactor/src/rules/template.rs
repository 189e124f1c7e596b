//! `key` and `with`: Handlebars, strict, typed.
//!
//! The `handlebars` crate parses; the evaluator is our own, over borrowed messages: a value keeps its JSON type, a missing
//! field is named with what is there instead, and nothing runs longer than the template is: there are `if` and
//! `unless`, but no loops and no partials. Nothing is escaped: what a value may be is the handler's parameter check.
//! `docs/templates.md` has every helper; its examples are tests.

mod helpers;
mod parse;

use std::borrow::Cow;

use serde_json::{Map, Value};

use self::helpers::Helper;
use super::ExprError;
use super::scope::{EvalError, Scope, kind, shorten};

/// Longest template, in bytes.
pub const SOURCE_BYTES_MAX: usize = 8 * 1024;
/// Longest string that a template or helper gives, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Most items in a list that a helper makes.
pub const LIST_ITEMS_MAX: usize = 10_000;
/// Deepest nesting of `(helper …)`, literals and `{{#if}}` in one another.
pub const NESTING_MAX: usize = 16;

/// A parsed template that gives text.
#[derive(Debug)]
pub struct Template {
    source: String,
    nodes: Vec<Node>,
}

#[derive(Debug)]
enum Node {
    Text(String),
    Value(Expr),
    If { negate: bool, test: Expr, then: Vec<Node>, otherwise: Vec<Node> },
}

#[derive(Debug)]
enum Expr {
    Literal(Value),
    Path(Vec<String>),
    /// The first, or the second where the first is missing or null.
    Default(Box<(Expr, Expr)>),
    /// `pluck messages PATH`: out of each message's body.
    PluckMessages(Box<Expr>),
    Call(&'static Helper, Vec<Expr>),
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// What is wrong and where in `source`.
    pub fn parse(source: &str) -> Result<Self, ExprError> {
        Ok(Self { source: source.into(), nodes: parse::parse(source)? })
    }

    /// The template as written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The paths that it looks at, as `["headers", "x-github-event"]`.
    #[must_use]
    pub fn paths(&self) -> Vec<&[String]> {
        let mut found = Vec::new();
        paths_of_nodes(&self.nodes, &mut found);
        found
    }

    /// Renders it as text, at most [`OUTPUT_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// A missing field; null, a list or a map where text is wanted; too long.
    pub fn render(&self, scope: &Scope) -> Result<String, EvalError> {
        let mut out = String::new();
        render(&self.nodes, scope, &mut out)?;
        Ok(out)
    }

    /// Text, or any JSON where the template is one whole expression.
    fn value(&self, scope: &Scope) -> Result<Value, EvalError> {
        if let [Node::Value(expr)] = self.nodes.as_slice() {
            let value = eval(expr, scope)?.into_owned();
            return value.as_str().map_or(Ok(()), |text| fits(text.len())).map(|()| value);
        }
        self.render(scope).map(Value::String)
    }
}

fn paths_of_nodes<'t>(nodes: &'t [Node], found: &mut Vec<&'t [String]>) {
    for node in nodes {
        match node {
            Node::Text(_) => {}
            Node::Value(expr) => paths_of(expr, found),
            Node::If { test, then, otherwise, .. } => {
                paths_of(test, found);
                paths_of_nodes(then, found);
                paths_of_nodes(otherwise, found);
            }
        }
    }
}

fn paths_of<'t>(expr: &'t Expr, found: &mut Vec<&'t [String]>) {
    match expr {
        Expr::Literal(_) => {}
        Expr::Path(path) => found.push(path),
        Expr::Default(both) => [&both.0, &both.1].into_iter().for_each(|one| paths_of(one, found)),
        Expr::PluckMessages(path) => paths_of(path, found),
        Expr::Call(_, args) => args.iter().for_each(|arg| paths_of(arg, found)),
    }
}

/// The parameters of a rule: JSON whose strings are templates. A string that is one whole expression keeps its JSON type.
#[derive(Debug, Default)]
pub struct WithTemplate {
    source: Value,
    parts: Vec<(String, Part)>,
}

#[derive(Debug)]
enum Part {
    Fixed(Value),
    Template(Template),
    List(Vec<Part>),
    Map(Vec<(String, Part)>),
}

impl WithTemplate {
    /// Parses every string in `source`, which is a map (or null, for none).
    ///
    /// # Errors
    /// The path to the first bad string (keys and indexes) and what is wrong there.
    pub fn parse(source: Value) -> Result<Self, (Vec<String>, ExprError)> {
        let parts = match part(&source, &mut Vec::new())? {
            Part::Map(parts) => parts,
            Part::Fixed(Value::Null) => Vec::new(),
            _ => {
                let message = format!("`with` is {}, not a map of parameters", kind(&source));
                return Err((Vec::new(), ExprError { offset: 0, len: 0, message, hint: None }));
            }
        };
        Ok(Self { source, parts })
    }

    /// The parameters as written.
    #[must_use]
    pub const fn source(&self) -> &Value {
        &self.source
    }

    /// Renders every string.
    ///
    /// # Errors
    /// As [`Template::render`], with the parameter's name in front.
    pub fn render(&self, scope: &Scope) -> Result<Map<String, Value>, EvalError> {
        render_map(&self.parts, scope, "with")
    }
}

fn part(source: &Value, path: &mut Vec<String>) -> Result<Part, (Vec<String>, ExprError)> {
    Ok(match source {
        Value::String(text) if text.contains("{{") => {
            Part::Template(Template::parse(text).map_err(|error| (path.clone(), error))?)
        }
        Value::Array(items) => {
            let parts = items.iter().enumerate().map(|(n, item)| below(item, path, n.to_string()));
            Part::List(parts.collect::<Result<_, _>>()?)
        }
        Value::Object(map) => {
            let parts = map.iter().map(|(key, item)| Ok((key.clone(), below(item, path, key.clone())?)));
            Part::Map(parts.collect::<Result<_, _>>()?)
        }
        other => Part::Fixed(other.clone()),
    })
}

fn below(source: &Value, path: &mut Vec<String>, name: String) -> Result<Part, (Vec<String>, ExprError)> {
    path.push(name);
    let parsed = part(source, path);
    path.pop();
    parsed
}

fn render_map(parts: &[(String, Part)], scope: &Scope, name: &str) -> Result<Map<String, Value>, EvalError> {
    parts.iter().map(|(key, part)| Ok((key.clone(), render_part(part, scope, &format!("{name}.{key}"))?))).collect()
}

fn render_part(part: &Part, scope: &Scope, name: &str) -> Result<Value, EvalError> {
    match part {
        Part::Fixed(value) => Ok(value.clone()),
        Part::Template(template) => template
            .value(scope)
            .map_err(|error| EvalError { message: format!("{}: {}", shorten(name), error.message), ..error }),
        Part::List(items) => {
            items.iter().enumerate().map(|(n, item)| render_part(item, scope, &format!("{name}.{n}"))).collect()
        }
        Part::Map(parts) => render_map(parts, scope, name).map(Value::Object),
    }
}

fn render(nodes: &[Node], scope: &Scope, out: &mut String) -> Result<(), EvalError> {
    for node in nodes {
        match node {
            Node::Text(text) => push(out, text)?,
            Node::Value(expr) => match eval(expr, scope)?.as_ref() {
                Value::String(text) => push(out, text)?,
                plain @ (Value::Number(_) | Value::Bool(_)) => push(out, &plain.to_string())?,
                other => return Err(not_text(&name_of(expr), other)),
            },
            Node::If { negate, test, then, otherwise } => {
                let holds = truthy(eval(test, scope)?.as_ref()) != *negate;
                render(if holds { then } else { otherwise }, scope, out)?;
            }
        }
    }
    Ok(())
}

fn push(out: &mut String, text: &str) -> Result<(), EvalError> {
    fits(out.len() + text.len())?;
    out.push_str(text);
    Ok(())
}

fn fits(bytes: usize) -> Result<(), EvalError> {
    if bytes <= OUTPUT_BYTES_MAX {
        return Ok(());
    }
    Err(EvalError::new(format!("the text has {bytes} bytes, at most {OUTPUT_BYTES_MAX} are allowed"))
        .hint("hand over where to look, not the data itself; the handler reads the source"))
}

fn not_text(name: &str, value: &Value) -> EvalError {
    let error = EvalError::new(format!("{name} is {}, which can't stand in text", kind(value)));
    match value {
        Value::Null => error.hint(format!("write {{{{default {name} ''}}}} if it may be null")),
        Value::Array(_) => {
            error.hint("write {{join LIST ', '}}, or nothing else beside the expression to keep the list")
        }
        _ => error.hint("write {{json MAP}}, or nothing else beside the expression to keep the map"),
    }
}

/// What an expression is called in errors.
fn name_of(expr: &Expr) -> String {
    match expr {
        Expr::Literal(value) => shorten(&value.to_string()),
        Expr::Path(path) => shorten(&path.join(".")),
        Expr::Default(_) => "what `default` gives".into(),
        Expr::PluckMessages(_) => "what `pluck` gives".into(),
        Expr::Call(helper, _) => format!("what `{}` gives", helper.name),
    }
}

/// false, null, 0, "", [] and {} are not.
fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn eval<'a>(expr: &'a Expr, scope: &Scope<'a>) -> Result<Cow<'a, Value>, EvalError> {
    match expr {
        Expr::Literal(value) => Ok(Cow::Borrowed(value)),
        Expr::Path(path) => scope.get(path),
        Expr::Default(both) => match eval(&both.0, scope) {
            Err(error) if error.missing => eval(&both.1, scope),
            Ok(value) if value.is_null() => eval(&both.1, scope),
            other => other,
        },
        Expr::PluckMessages(path) => {
            let path = eval(path, scope)?;
            let bodies = scope.messages().iter().map(|message| &message.body);
            helpers::pluck("msg", bodies, path.as_ref()).map(Cow::Owned)
        }
        Expr::Call(helper, args) => {
            let args: Vec<Cow<'a, Value>> = args.iter().map(|arg| eval(arg, scope)).collect::<Result<_, _>>()?;
            let in_helper =
                |error: EvalError| EvalError { message: format!("{}: {}", helper.name, error.message), ..error };
            (helper.run)(&args).map(Cow::Owned).map_err(in_helper)
        }
    }
}

#[cfg(test)]
mod tests;
