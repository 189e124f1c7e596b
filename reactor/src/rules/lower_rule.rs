//! `rules` and `defaults`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::condition::Condition;
use super::diagnostics::{Diagnostic, Span, shown};
use super::lower::{Fields, Reader};
use super::lower_confirm;
use super::node::{Node, Value};
use super::site::{AT_MOST_PER_QUIET, Coalesce, FieldTest, GuardLimits, Mode, On, Retry, Rule, TIMEOUT_DEFAULT};
use super::template::{Template, WithTemplate};
use super::topic::Pattern;
use super::words::{COALESCE, ON, Shape};
use handler_api::units::show_duration;

/// What a `when` looks like.
const CONDITION_FORM: &str =
    "a CEL expression, as in: msg.bytes > 0 && msg.path.startsWith(\"pub/\")   (docs/templates.md)";
/// What a template looks like.
const TEMPLATE_FORM: &str = "a template, as in \"{{msg.user}}\" or \"{{lower msg.user}}\"   (docs/templates.md)";

/// The limits of a rule that does not give its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub timeout: Duration,
    pub retry: Retry,
    pub guard: GuardLimits,
    pub mode: Mode,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: TIMEOUT_DEFAULT, retry: Retry::default(), guard: GuardLimits::default(), mode: Mode::default() }
    }
}

/// The words `timeout`, `retry`, `guard` and `mode`, which `defaults` and a rule share; what is not given is `default`'s.
pub(super) fn limits(reader: &mut Reader<'_>, fields: &Fields<'_>, default: Limits) -> Limits {
    let timeout = fields.some_time(reader, "timeout").unwrap_or(default.timeout);
    let mut retry = default.retry;
    if let Some(inner) = fields.block(reader, "retry") {
        let times = inner.count(reader, "times").and_then(|times| u32::try_from(times).ok());
        retry = Retry {
            times: times.unwrap_or(retry.times),
            wait: inner.some_time(reader, "wait").unwrap_or(retry.wait),
            up_to: inner.some_time(reader, "up_to").unwrap_or(retry.up_to),
        };
        if retry.wait > retry.up_to {
            let (wait, up_to) = (show_duration(retry.wait), show_duration(retry.up_to));
            let span = inner.key_span("wait").or(inner.key_span("up_to")).unwrap_or(inner.span);
            let message = format!("`wait: {wait}` is longer than `up_to: {up_to}`");
            reader.error(span, message, "`wait` is the first pause, `up_to` the longest; make `up_to` the larger one");
        }
    }
    let mut guard = default.guard;
    if let Some(inner) = fields.block(reader, "guard") {
        guard = GuardLimits {
            changes: inner.size(reader, "changes").unwrap_or(guard.changes),
            deletes: inner.size(reader, "deletes").unwrap_or(guard.deletes),
        };
    }
    let mode = match fields.one_of(reader, "mode") {
        Some("plan") => Mode::Plan,
        Some(_) => Mode::Apply,
        None => default.mode,
    };
    Limits { timeout, retry, guard, mode }
}

/// A rule, and where its name, its topics and its handler's name stand.
pub(super) struct Lowered {
    /// `None` where a word that it needs is missing or wrong (then there is an error).
    pub rule: Option<Rule>,
    pub name: Option<(Arc<str>, Span)>,
    pub handler: Option<(Arc<str>, Span)>,
    pub on_span: Span,
    /// Where what `confirm` says stands.
    pub confirm: Option<Span>,
}

/// One entry of `rules`.
pub(super) fn rule(reader: &mut Reader<'_>, fields: &Fields<'_>, default: Limits) -> Lowered {
    let name = fields.text(reader, "name");
    let why = fields.text(reader, "why").map(str::to_owned);
    let on = on(reader, fields);
    let where_all = field_tests(reader, fields, "where");
    let unless_any = field_tests(reader, fields, "unless");
    let when = fields.text(reader, "when").and_then(|text| {
        let node = fields.node("when")?;
        Condition::parse(text).map_err(|error| reader.expression_error(node, error, CONDITION_FORM)).ok()
    });
    let key = fields.text(reader, "key").and_then(|text| {
        let node = fields.node("key")?;
        Template::parse(text).map_err(|error| reader.expression_error(node, error, TEMPLATE_FORM)).ok()
    });
    let coalesce = coalesce(reader, fields);
    let handler = fields.text(reader, "do");
    let with = with(reader, fields);
    let Limits { timeout, retry, guard, mode } = limits(reader, fields, default);
    let confirm = lower_confirm::of_rule(reader, fields, on.as_ref());
    let span_of = |word| fields.node(word).map_or(fields.span, |node| node.span);
    let on_span = span_of(if fields.key_span("on").is_some() { "on" } else { "every" });
    let confirm_span = fields.node("confirm").map(|node| node.span);
    let name = name.map(|name| (Arc::from(name), span_of("name")));
    let handler = handler.map(|handler| (Arc::from(handler), span_of("do")));
    let place = reader.place(span_of("name"));
    let rule = match (&name, on, &handler) {
        (Some((name, _)), Some(on), Some((handler, _))) => {
            let (name, handler) = (Arc::clone(name), Arc::clone(handler));
            Some(Rule {
                name,
                why,
                on,
                where_all,
                unless_any,
                when,
                key,
                coalesce,
                handler,
                with,
                timeout,
                retry,
                guard,
                mode,
                confirm,
                place,
            })
        }
        _ => None,
    };
    Lowered { rule, name, handler, on_span, confirm: confirm_span }
}

fn on(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<On> {
    let every = fields.some_time(reader, "every");
    let Some(node) = fields.node("on") else { return every.map(On::Every) };
    if matches!(node.value, Value::Map(_)) {
        return reader.fields("on", node, &ON)?.some_time(reader, "every").map(On::Every);
    }
    let topics = reader.texts("on", node, &Shape::OrBlock(&Shape::Texts, &ON));
    let mut patterns = Vec::with_capacity(topics.len());
    for (text, node) in topics {
        match Pattern::parse(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(why) => reader.found.push(
                Diagnostic::error(node.span, why)
                    .hint("`*` is one word, `**` any number of words, as in org.example.*.update"),
            ),
        }
    }
    (!patterns.is_empty()).then_some(On::Topics(patterns))
}

fn field_tests(reader: &mut Reader<'_>, fields: &Fields<'_>, word: &'static str) -> Vec<FieldTest> {
    let mut tests = Vec::new();
    for (key, node) in fields.entries(reader, word) {
        if key.text.split('.').any(|part| part.trim().is_empty()) {
            let message = format!("{} is not a field: a name between two dots is missing", shown(&key.text));
            reader.error(key.span, message, "write it as in `user.name`");
        }
        if let Some(inner) = key.text.strip_prefix("msg.") {
            let message =
                format!("`{word}` looks into the message's body already: {} is a field `msg` in it", shown(&key.text));
            reader.found.push(Diagnostic::warning(key.span, message).hint(format!("write {}", shown(inner))));
        }
        let any_of = scalars(reader, &key.text, node);
        if !any_of.is_empty() {
            let path = key.text.split('.').map(str::to_owned).collect();
            tests.push(FieldTest { path, any_of, place: reader.place(key.span) });
        }
    }
    tests
}

fn scalars(reader: &mut Reader<'_>, field: &str, node: &Node) -> Vec<Json> {
    let items = match &node.value {
        Value::List(items) if items.is_empty() => {
            let message = format!("{} is compared with an empty list, which nothing is in", shown(field));
            reader.error(node.span, message, "write at least one value");
            return Vec::new();
        }
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    items.iter().filter_map(|item| scalar(reader, field, item)).collect()
}

fn scalar(reader: &mut Reader<'_>, field: &str, node: &Node) -> Option<Json> {
    let dotted = format!("{field}.…");
    let (message, hint) = match &node.value {
        Value::Bool(_) | Value::Number(_) | Value::Text(..) => return Some(node.to_json()),
        Value::Null => (
            format!("{} has no value to compare with", shown(field)),
            format!("write one; to ask for an empty field use `when: msg.{field} == null`"),
        ),
        Value::Map(_) => (
            format!("{} can only be compared with a text, a number, true or false", shown(field)),
            format!("write the path as one word ({dotted}), or use `when` for the rest"),
        ),
        Value::List(_) => (
            format!("{} is compared with a list inside of a list", shown(field)),
            "write one list, or use `when` for the rest".to_owned(),
        ),
    };
    reader.error(node.span, message, hint);
    None
}

fn coalesce(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Coalesce> {
    let node = fields.node("coalesce")?;
    let (quiet, at_most, span) = if matches!(node.value, Value::Map(_)) {
        let inner = reader.fields("coalesce", node, &COALESCE)?;
        let quiet = inner.some_time(reader, "quiet");
        let at_most = inner.some_time(reader, "at_most");
        (quiet?, at_most, inner.node("at_most").map_or(node.span, |node| node.span))
    } else {
        (fields.some_time(reader, "coalesce")?, None, node.span)
    };
    let at_most = at_most.unwrap_or_else(|| quiet.saturating_mul(AT_MOST_PER_QUIET));
    if at_most < quiet {
        let message =
            format!("`at_most: {}` is shorter than `quiet: {}`", show_duration(at_most), show_duration(quiet));
        reader.error(
            span,
            message,
            "`quiet` waits for the last of a burst, `at_most` ends the wait; make `at_most` the longer one",
        );
        return None;
    }
    Some(Coalesce { quiet, at_most })
}

fn with(reader: &mut Reader<'_>, fields: &Fields<'_>) -> WithTemplate {
    let (Some(parameters), Some(node)) = (fields.json_map(reader, "with"), fields.node("with")) else {
        return WithTemplate::parse(Json::Object(serde_json::Map::new())).unwrap_or_default();
    };
    WithTemplate::parse(Json::Object(parameters)).unwrap_or_else(|(path, error)| {
        reader.expression_error(node.at(&path).unwrap_or(node), error, TEMPLATE_FORM);
        WithTemplate::default()
    })
}
