//! Handlebars' syntax tree → ours. Everything that can be known without a message is refused here.

use handlebars::template::{HelperTemplate, Parameter, Subexpression, TemplateElement};
use handlebars::{Path, PathSeg, Template as Tree, TemplateError, TemplateErrorReason};

use super::helpers::{self, HELPERS};
use super::{Expr, NESTING_MAX, Node, SOURCE_BYTES_MAX};
use crate::rules::ExprError;
use crate::rules::scope::{NAMES, shorten, unknown_name};
use handler_api::spelling::did_you_mean;

/// What is wrong; the place is added where it is known.
struct Wrong {
    /// The text in the source that it is about.
    text: String,
    message: String,
    hint: Option<String>,
}

fn wrong(text: impl Into<String>, message: impl Into<String>) -> Wrong {
    Wrong { text: text.into(), message: message.into(), hint: None }
}

impl Wrong {
    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

pub(super) fn parse(source: &str) -> Result<Vec<Node>, ExprError> {
    let refuse = |offset, message, hint| Err(ExprError { offset, len: 0, message, hint });
    if source.len() > SOURCE_BYTES_MAX {
        let message = format!("the template has {} bytes, at most {SOURCE_BYTES_MAX} are allowed", source.len());
        return refuse(0, message, None);
    }
    if !source.contains("{{") {
        return Ok(vec![Node::Text(source.into())]);
    }
    if let Some(offset) = too_deep(source) {
        return refuse(offset, format!("nested deeper than {NESTING_MAX}"), None);
    }
    let tree = Tree::compile(source).map_err(|error| syntax(source, &error))?;
    nodes(source, &tree)
}

/// Where brackets or blocks within `{{…}}` go too deep: the parser recurses, so this is looked at before it runs.
fn too_deep(source: &str) -> Option<usize> {
    let (mut depth, mut blocks, mut inside) = (0_usize, 0_usize, false);
    let bytes = source.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match (byte, bytes.get(at + 1)) {
            (b'{', Some(b'{')) => {
                inside = true;
                blocks += usize::from(matches!(bytes.get(at + 2), Some(b'#' | b'{' | b'~')));
            }
            (b'}', Some(b'}')) => (inside, depth) = (false, 0),
            (b'(' | b'[' | b'{', _) if inside => depth += 1,
            (b')' | b']' | b'}', _) if inside => depth = depth.saturating_sub(1),
            (b'/', _) if at >= 2 && &source.as_bytes()[at - 2..at] == b"{{" => blocks = blocks.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX || blocks > SOURCE_BYTES_MAX / 16 {
            return Some(at);
        }
    }
    None
}

fn syntax(source: &str, error: &TemplateError) -> ExprError {
    let mut offset = error.pos().map_or(0, |(line, column)| offset(source, line, column));
    let (message, hint) = match error.reason() {
        TemplateErrorReason::InvalidSyntax(_) if source.matches("{{").count() > source.matches("}}").count() => {
            offset = source.rfind("{{").unwrap_or(offset);
            ("`{{` without its `}}`".to_owned(), None)
        }
        TemplateErrorReason::InvalidSyntax(_) => (
            "this is not a Handlebars expression".to_owned(),
            Some("for example {{msg.user}}, {{lower msg.user}} or {{unique (pluck messages 'path')}}".to_owned()),
        ),
        TemplateErrorReason::InvalidParam(text) => (format!("`{}` is not a value", shorten(text)), None),
        other => (shorten(&other.to_string()), None),
    };
    ExprError { offset, len: 0, message, hint }
}

/// Handlebars counts lines and columns from 1, columns in characters.
fn offset(source: &str, line: usize, column: usize) -> usize {
    let before: usize = source.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let within: usize = source[before..].chars().take(column.saturating_sub(1)).map(char::len_utf8).sum();
    before + within
}

fn nodes(source: &str, tree: &Tree) -> Result<Vec<Node>, ExprError> {
    let mut out = Vec::with_capacity(tree.elements.len());
    for (n, element) in tree.elements.iter().enumerate() {
        let start = tree.mapping.get(n).map_or(0, |place| offset(source, place.0, place.1));
        let at = |wrong: Wrong| {
            let found = source[start..].find(&wrong.text).filter(|_| !wrong.text.is_empty());
            let len = if found.is_some() { wrong.text.len() } else { 0 };
            ExprError { offset: start + found.unwrap_or(0), len, message: wrong.message, hint: wrong.hint }
        };
        match element {
            TemplateElement::Comment(_) => {}
            TemplateElement::RawString(text) => out.push(Node::Text(text.clone())),
            TemplateElement::Expression(tag) | TemplateElement::HtmlExpression(tag) => {
                out.push(Node::Value(tag_expr(tag).map_err(at)?));
            }
            TemplateElement::HelperBlock(block) => out.push(block_node(source, block, &at)?),
            _ => {
                return Err(at(
                    wrong("", "there are no partials and no decorators here").hint("write it out in the rule")
                ));
            }
        }
    }
    Ok(out)
}

fn block_node(source: &str, block: &HelperTemplate, at: &dyn Fn(Wrong) -> ExprError) -> Result<Node, ExprError> {
    let name = block.name.as_name().unwrap_or("").to_owned();
    if !["if", "unless"].contains(&name.as_str()) {
        let error = wrong(&*name, format!("there is no block `{}`; there are if and unless", shorten(&name)));
        return Err(at(error.hint("there are no loops here; lists are handed over whole: {{pluck messages 'path'}}")));
    }
    let [test] = block.params.as_slice() else {
        return Err(at(
            wrong(&*name, format!("`{name}` takes one value")).hint("for example {{#if (eq msg.state 'open')}}")
        ));
    };
    if !block.hash.is_empty() || block.block_param.is_some() {
        return Err(at(wrong(&*name, format!("`{name}` takes one value and nothing else"))));
    }
    let inner = |tree: &Option<Tree>| tree.as_ref().map_or_else(|| Ok(Vec::new()), |tree| nodes(source, tree));
    Ok(Node::If {
        negate: name == "unless",
        test: param(test).map_err(at)?,
        then: inner(&block.template)?,
        otherwise: inner(&block.inverse)?,
    })
}

fn tag_expr(tag: &HelperTemplate) -> Result<Expr, Wrong> {
    if let Some((key, _)) = tag.hash.iter().next() {
        return Err(wrong(key, format!("helpers take values in order, not `{key}=…`")));
    }
    match &tag.name {
        Parameter::Subexpression(inner) => sub(inner),
        Parameter::Name(name) => call(name, &tag.params),
        Parameter::Path(path) if tag.params.is_empty() => segments(path),
        Parameter::Path(path) => call(&raw(path), &tag.params),
        Parameter::Literal(value) => Ok(Expr::Literal(value.clone())),
        _ => Err(wrong("", "this is not an expression")),
    }
}

fn sub(inner: &Subexpression) -> Result<Expr, Wrong> {
    match inner.as_element() {
        TemplateElement::Expression(tag) => tag_expr(tag),
        _ => Err(wrong("", "this is not an expression")),
    }
}

fn param(parameter: &Parameter) -> Result<Expr, Wrong> {
    match parameter {
        Parameter::Literal(value) => Ok(Expr::Literal(value.clone())),
        Parameter::Path(path) => segments(path),
        Parameter::Subexpression(inner) => sub(inner),
        Parameter::Name(name) => Err(wrong(name, format!("`{}` is not a value", shorten(name)))),
        _ => Err(wrong("", "this is not a value")),
    }
}

fn raw(path: &Path) -> String {
    match path {
        Path::Relative((_, raw)) | Path::Local((_, _, raw)) => raw.clone(),
    }
}

fn segments(path: &Path) -> Result<Expr, Wrong> {
    let text = raw(path);
    let Path::Relative((parts, _)) = path else {
        return Err(wrong(&*text, format!("`{}`: there are no @variables here", shorten(&text))));
    };
    let words = parts.iter().map(|part| match part {
        PathSeg::Named(word) => Some(word.clone()),
        _ => None,
    });
    let words: Option<Vec<String>> = words.collect();
    let Some(words) = words.filter(|words| !words.is_empty()) else {
        return Err(wrong(&*text, format!("`{}`: a path begins with one of {}", shorten(&text), NAMES.join(", "))));
    };
    if NAMES.contains(&words[0].as_str()) {
        return Ok(Expr::Path(words));
    }
    if words.len() == 1 && HELPERS.iter().any(|helper| helper.name == words[0]) {
        return Err(wrong(&*text, format!("the helper `{text}` needs something to work on"))
            .hint(format!("{{{{{text} msg.x}}}}")));
    }
    let error = unknown_name(&words[0]);
    Err(Wrong { text, message: error.message, hint: error.hint })
}

fn call(name: &str, params: &[Parameter]) -> Result<Expr, Wrong> {
    let Some(helper) = HELPERS.iter().find(|helper| helper.name == name) else {
        let known = HELPERS.iter().map(|helper| helper.name);
        let near = did_you_mean(name, known.clone()).map(|near| format!("did you mean `{near}`?"));
        let all = || format!("there are {}", known.collect::<Vec<_>>().join(", "));
        return Err(wrong(name, format!("there is no helper `{}`", shorten(name))).hint(near.unwrap_or_else(all)));
    };
    if params.len() != helper.takes.len() {
        let form = format!("{{{{{name} {}}}}}", helper.takes.join(" "));
        let message = format!("`{name}` takes {} values, here are {}", helper.takes.len(), params.len());
        return Err(wrong(name, message).hint(form));
    }
    let mut args: Vec<Expr> = params.iter().map(param).collect::<Result<_, _>>()?;
    let all_messages = matches!(args.first(), Some(Expr::Path(path)) if path.len() == 1 && path[0] == "messages");
    match (name, args.as_slice()) {
        (helpers::DEFAULT, [_, _]) => {
            let (Some(other), Some(value)) = (args.pop(), args.pop()) else { return Err(wrong(name, "two values")) };
            Ok(Expr::Default(Box::new((value, other))))
        }
        (helpers::PLUCK, [_, _]) if all_messages => Ok(Expr::PluckMessages(Box::new(args.remove(1)))),
        _ => Ok(Expr::Call(helper, args)),
    }
}
