//! What is refused when a `when` is loaded: too long, too deep, unknown names and functions, bad regular expressions.

use cel::IdedExpr;
use cel::ParseErrors;
use cel::common::ast::{EntryExpr, Expr, LiteralValue};

use super::{DEPTH_MAX, MACRO_DEPTH_MAX, NODE_DEPTH_MAX, SOURCE_BYTES_MAX};
use crate::rules::ExprError;
use crate::rules::scope::{NAMES, shorten};
use handler_api::spelling::did_you_mean;

/// CEL's functions that a `when` may call; the macros has, all, exists, exists_one, map and filter are not among them
/// because the parser has replaced them.
pub(super) const FUNCTIONS: [&str; 13] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "bytes",
    "type",
    "dyn",
];
const MACROS: [&str; 6] = ["has", "all", "exists", "exists_one", "map", "filter"];

fn error(offset: usize, len: usize, message: impl Into<String>, hint: Option<String>) -> ExprError {
    ExprError { offset, len, message: message.into(), hint }
}

/// Before parsing.
pub(super) fn source(source: &str) -> Result<(), ExprError> {
    if source.trim().is_empty() {
        return Err(error(0, 0, "the condition is empty", Some("leave `when` out if every message fits".into())));
    }
    if source.len() > SOURCE_BYTES_MAX {
        let message = format!("the condition has {} bytes, at most {SOURCE_BYTES_MAX} are allowed", source.len());
        return Err(error(0, 0, message, Some("let the handler decide what is this long".into())));
    }
    match too_deep(source) {
        Some(at) => Err(error(at, 1, format!("nested deeper than {DEPTH_MAX}"), None)),
        None => Ok(()),
    }
}

/// Where brackets, or `!`, `-` and `?` in a row, go too deep: the parser recurses on these, so they are counted before it
/// runs. Generous: what stands in quotes counts too.
fn too_deep(source: &str) -> Option<usize> {
    let (mut brackets, mut signs, mut choices) = (0_usize, 0, 0);
    source.bytes().position(|byte| {
        match byte {
            b'(' | b'[' | b'{' => brackets += 1,
            b')' | b']' | b'}' => brackets = brackets.saturating_sub(1),
            b'?' => choices += 1,
            _ => {}
        }
        signs = match byte {
            b'!' | b'-' => signs + 1,
            b' ' | b'\t' | b'\r' | b'\n' => signs,
            _ => 0,
        };
        brackets > DEPTH_MAX || signs > DEPTH_MAX || choices > DEPTH_MAX
    })
}

/// The parser's first error, at its place.
pub(super) fn parse_error(source: &str, errors: &ParseErrors) -> ExprError {
    let Some(first) = errors.errors.iter().find(|e| e.pos.0 > 0).or(errors.errors.first()) else {
        return error(0, 0, "this is not a CEL expression", None);
    };
    let (line, column) = (usize::try_from(first.pos.0).unwrap_or(0), usize::try_from(first.pos.1).unwrap_or(0));
    let before: usize = source.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = source.get(before..).unwrap_or("");
    let within: usize = rest.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum();
    error((before + within).min(source.len()), 0, plainly(&first.msg), hint_for(source))
}

/// The parser's words in ours: "found `)` where an expression is expected".
fn plainly(message: &str) -> String {
    let message = message.trim_start_matches("Syntax error: ");
    let Some((found, wanted)) = message.strip_prefix("mismatched input '").and_then(|m| m.split_once("' expecting "))
    else {
        return shorten(message);
    };
    let found = if found == "<EOF>" { "the end".into() } else { format!("`{}`", shorten(found)) };
    let wanted = match wanted {
        "<EOF>" => "the end",
        "expression" => "an expression",
        other => other,
    };
    format!("found {found} where {} is expected", shorten(wanted))
}

fn hint_for(source: &str) -> Option<String> {
    let word = |wanted: &str| source.split(|c: char| !c.is_alphanumeric()).any(|word| word == wanted);
    if word("and") || word("or") || word("not") {
        return Some("CEL writes && for and, || for or, ! for not".into());
    }
    (source.contains('=') && !source.contains("==")).then(|| "CEL compares with ==".into())
}

/// After parsing: every name, function and regular expression in it.
pub(super) fn expression(source: &str, expression: &IdedExpr) -> Result<(), ExprError> {
    Found { source, bound: Vec::new(), macros: 0, depth: 0 }.visit(expression)
}

struct Found<'s> {
    source: &'s str,
    /// Variables of the macros around.
    bound: Vec<String>,
    /// Macros around.
    macros: usize,
    /// Nodes around.
    depth: usize,
}

impl Found<'_> {
    fn visit(&mut self, node: &IdedExpr) -> Result<(), ExprError> {
        self.depth += 1;
        if self.depth > NODE_DEPTH_MAX {
            let message = format!("the expression is more than {NODE_DEPTH_MAX} steps deep");
            return Err(error(0, self.source.len(), message, Some("use `in [..]` for many values".into())));
        }
        let visited = self.visit_here(node);
        self.depth -= 1;
        visited
    }

    fn visit_here(&mut self, node: &IdedExpr) -> Result<(), ExprError> {
        match &node.expr {
            Expr::Ident(name) => return self.name(name),
            Expr::Call(call) => {
                self.function(&call.func_name)?;
                if call.func_name == "matches" {
                    self.regex(call.args.last())?;
                }
            }
            Expr::Struct(message) => {
                return Err(self.at(&message.type_name, "types can't be made here".into(), None));
            }
            Expr::Comprehension(all) => {
                self.visit(&all.iter_range)?;
                self.macros += 1;
                if self.macros > MACRO_DEPTH_MAX {
                    let message =
                        format!("macros are nested {} deep, at most {MACRO_DEPTH_MAX} are allowed", self.macros);
                    return Err(error(0, self.source.len(), message, Some("let the handler look that deep".into())));
                }
                let bound = self.bound.len();
                self.bound.extend([all.iter_var.clone(), all.accu_var.clone()]);
                self.bound.extend(all.iter_var2.clone());
                [&all.accu_init, &all.loop_cond, &all.loop_step, &all.result]
                    .into_iter()
                    .try_for_each(|e| self.visit(e))?;
                self.bound.truncate(bound);
                self.macros -= 1;
                return Ok(());
            }
            _ => {}
        }
        children(node).into_iter().try_for_each(|child| self.visit(child))
    }

    fn name(&self, name: &str) -> Result<(), ExprError> {
        if self.bound.iter().any(|bound| bound == name) || FUNCTIONS.contains(&name) || name.starts_with('@') {
            return Ok(());
        }
        let plain = name.trim_start_matches('.');
        if NAMES.contains(&plain) {
            return Ok(());
        }
        let near = did_you_mean(name, NAMES).map(|near| format!("did you mean `{near}`?"));
        let hint = near.unwrap_or_else(|| format!("a field of the message's body is written `msg.{}`", shorten(name)));
        let message = format!("`{}` is not known here; known are {}", shorten(name), NAMES.join(", "));
        Err(self.at(name, message, Some(hint)))
    }

    fn function(&self, name: &str) -> Result<(), ExprError> {
        let operator = name.starts_with(['_', '@', '!', '-']) && !name.chars().any(char::is_alphanumeric);
        if operator || ["@in", "@not_strictly_false"].contains(&name) || FUNCTIONS.contains(&name) {
            return Ok(());
        }
        if MACROS.contains(&name) {
            let message = format!("`{name}` is written with other arguments");
            return Err(self.at(name, message, Some("for example has(msg.x), msg.list.exists(x, x == 1)".into())));
        }
        let near =
            did_you_mean(name, FUNCTIONS.into_iter().chain(MACROS)).map(|near| format!("did you mean `{near}`?"));
        let known = || format!("there are {} and {}", FUNCTIONS.join(", "), MACROS.join(", "));
        Err(self.at(name, format!("there is no function `{}`", shorten(name)), Some(near.unwrap_or_else(known))))
    }

    fn regex(&self, argument: Option<&IdedExpr>) -> Result<(), ExprError> {
        let Some(Expr::Literal(LiteralValue::String(pattern))) = argument.map(|a| &a.expr) else { return Ok(()) };
        let Err(wrong) = regex::Regex::new(pattern.inner()) else { return Ok(()) };
        let why = wrong.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Err(self.at(pattern.inner(), format!("this is not a regular expression: {why}"), None))
    }

    /// An error at the first place where `word` stands in the source.
    fn at(&self, word: &str, message: String, hint: Option<String>) -> ExprError {
        let part_of_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let places = self.source.match_indices(word).map(|(at, _)| at);
        let whole = |at: &usize| {
            let before = self.source[..*at].chars().next_back();
            !part_of_name(before) && !part_of_name(self.source[at + word.len()..].chars().next())
        };
        match places.clone().find(whole).or_else(|| places.clone().next()) {
            Some(at) => error(at, word.len(), message, hint),
            None => error(0, self.source.len(), message, hint),
        }
    }
}

/// The direct parts of a node; a macro has none here.
fn children(node: &IdedExpr) -> Vec<&IdedExpr> {
    match &node.expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Select(select) => vec![&*select.operand],
        Expr::Map(map) => map
            .entries
            .iter()
            .flat_map(|entry| match &entry.expr {
                EntryExpr::StructField(field) => vec![&field.value],
                EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The path that a node spells (`msg.user.name`, `msg["user"]`, `msg.list[0]`), if it spells one.
pub(super) fn path(node: &IdedExpr) -> Option<Vec<String>> {
    let deeper = |node: &IdedExpr, last: String| {
        let mut path = path(node)?;
        path.push(last);
        Some(path)
    };
    match &node.expr {
        Expr::Ident(name) => NAMES.contains(&name.as_str()).then(|| vec![name.clone()]),
        Expr::Select(select) if !select.test => deeper(&select.operand, select.field.clone()),
        Expr::Call(call) if call.func_name == "_[_]" => match &call.args.get(1)?.expr {
            Expr::Literal(LiteralValue::String(key)) => deeper(call.args.first()?, key.inner().to_owned()),
            Expr::Literal(LiteralValue::Int(index)) => deeper(call.args.first()?, index.inner().to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// The longest paths in a node, in order; of a macro only what it goes over.
pub(super) fn paths(node: &IdedExpr, found: &mut Vec<Vec<String>>) {
    if let Some(path) = path(node) {
        found.push(path);
    } else if let Expr::Comprehension(all) = &node.expr {
        paths(&all.iter_range, found);
    } else {
        children(node).into_iter().for_each(|child| paths(child, found));
    }
}

/// The parts between the outermost `&&`; one part if `||` or `?:` stands beside them.
pub(super) fn split_and(source: &str) -> Vec<&str> {
    let (mut depth, mut quote, mut start) = (0_i32, None, 0);
    let mut parts = Vec::new();
    let bytes = source.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), close) if open == close => quote = None,
            (Some(_), _) => {}
            (None, open @ (b'"' | b'\'')) => quote = Some(open),
            (None, b'(' | b'[' | b'{') => depth += 1,
            (None, b')' | b']' | b'}') => depth -= 1,
            (None, b'?') if depth == 0 => return vec![source],
            (None, b'|') if depth == 0 => return vec![source],
            (None, b'&') if depth == 0 && bytes.get(at + 1) == Some(&b'&') => {
                parts.push(&source[start..at]);
                at += 1;
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    parts.push(&source[start..]);
    parts
}
