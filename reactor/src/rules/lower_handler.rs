//! `handlers`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::diagnostics::shown;
use super::lower::{Fields, Reader};
use super::node::{Key, Node, Value};
use super::site::{AT_ONCE_DEFAULT, HandlerConfig, Program, Secret};
use super::words::{EXEC, SECRET, Shape, USE};
use handler_api::spelling::did_you_mean;

/// Environment variables that reactor sets itself begin with this.
const OUR_VARIABLES: &str = "REACTOR_";

/// A value of `env`, and any text in the settings of a built-in handler, that begins so is a path beside the file, like every
/// other path in it.
const BESIDE: &str = "./";

/// One entry of `handlers`.
pub(super) fn handler(reader: &mut Reader<'_>, name: &Key, node: &Node) -> Option<HandlerConfig> {
    let Value::Map(entries) = &node.value else {
        let message = format!("handler {} must be {}, not {}", shown(&name.text), Shape::Handler.takes(), node.kind());
        reader.error(node.span, message, "a program: { exec: /path/to/program }");
        return None;
    };
    let key = |word: &str| entries.iter().map(|(key, _)| key).find(|key| key.text == word);
    match (key("exec"), key("use")) {
        (Some(exec), Some(other)) => {
            let message = "a handler has either `exec` or `use`, not both";
            reader.found.push(
                super::diagnostics::Diagnostic::error(other.span, message)
                    .second(exec.span, "the other one")
                    .hint("keep one of the two"),
            );
            None
        }
        (None, Some(_)) => built_in(reader, name, node),
        _ => program(reader, name, node),
    }
}

fn program(reader: &mut Reader<'_>, name: &Key, node: &Node) -> Option<HandlerConfig> {
    let fields = reader.fields(&name.text, node, &EXEC)?;
    let exec = fields.path(reader, "exec", "the handler's program");
    let args = fields.texts(reader, "args").into_iter().map(|(text, _)| text.to_owned()).collect();
    let config = fields.json_map(reader, "config").unwrap_or_default();
    let common = common(reader, name, &fields);
    Some(HandlerConfig { program: Program::Exec(exec?), args, config, ..common })
}

fn built_in(reader: &mut Reader<'_>, name: &Key, node: &Node) -> Option<HandlerConfig> {
    let fields = reader.fields(&name.text, node, &USE)?;
    let used = fields.text(reader, "use");
    let common = common(reader, name, &fields);
    let mut config: Map<_, _> = fields.others.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect();
    config.values_mut().for_each(|value| paths_beside(reader, value));
    let used = used?;
    if !reader.built_in.contains(&used) {
        let hint = match did_you_mean(used, reader.built_in.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if reader.built_in.is_empty() => {
                "this version has none; `exec: PROGRAM` runs a program of yours".into()
            }
            None => format!("there are {}; `exec: PROGRAM` runs a program of yours", reader.built_in.join(", ")),
        };
        let span = fields.node("use").map_or(fields.span, |node| node.span);
        reader.error(span, format!("there is no built-in handler {}", shown(used)), hint);
        return None;
    }
    Some(HandlerConfig { program: Program::BuiltIn(used.to_owned()), config, ..common })
}

/// Makes every text that begins with `./`, however deep it stands, an absolute path. The handler runs in a directory of its
/// own, so a relative one would mean nothing to it.
fn paths_beside(reader: &Reader<'_>, value: &mut Json) {
    match value {
        Json::String(text) if text.starts_with(BESIDE) => *text = reader.beside(text),
        Json::Array(items) => items.iter_mut().for_each(|item| paths_beside(reader, item)),
        Json::Object(map) => map.values_mut().for_each(|item| paths_beside(reader, item)),
        _ => {}
    }
}

/// The words that both kinds have.
fn common(reader: &mut Reader<'_>, name: &Key, fields: &Fields<'_>) -> HandlerConfig {
    let mut env = fields.text_map(reader, "env");
    env.values_mut().filter(|value| value.starts_with(BESIDE)).for_each(|value| *value = reader.beside(value));
    for (key, _) in fields.node("env").map_or(&[][..], |node| reader.entries("env", node, &Shape::Named(&Shape::Text)))
    {
        check_variable(reader, key);
    }
    HandlerConfig {
        name: Arc::from(name.text.as_str()),
        program: Program::BuiltIn(String::new()),
        args: Vec::new(),
        env,
        secrets: secrets(reader, fields),
        user: fields.text(reader, "user").map(str::to_owned),
        at_once: fields.size(reader, "at_once").unwrap_or(AT_ONCE_DEFAULT),
        config: Map::new(),
        place: reader.place(name.span),
    }
}

fn check_variable(reader: &mut Reader<'_>, key: &Key) {
    let name = &key.text;
    let well_formed =
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.starts_with(|c: char| c.is_ascii_digit());
    if !well_formed && !name.trim().is_empty() {
        reader.error(
            key.span,
            format!("{} is not the name of an environment variable", shown(name)),
            "use letters, digits and _, not beginning with a digit",
        );
    } else if name.starts_with(OUR_VARIABLES) {
        reader.error(
            key.span,
            format!("{} is set by reactor itself", shown(name)),
            format!("choose a name that does not begin with {OUR_VARIABLES}"),
        );
    }
}

fn secrets(reader: &mut Reader<'_>, fields: &Fields<'_>) -> BTreeMap<String, Secret> {
    let mut secrets = BTreeMap::new();
    for (key, node) in fields.entries(reader, "secrets") {
        // The name becomes a file name in the directory that REACTOR_SECRETS names.
        let well_formed =
            key.text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) && !key.text.starts_with('.');
        if !well_formed && !key.text.trim().is_empty() {
            let message = format!("{} cannot be the name of a secret: it becomes a file name", shown(&key.text));
            reader.error(key.span, message, "use letters, digits and _.-, not beginning with a dot");
        }
        if let Some(secret) = secret(reader, key, node) {
            secrets.insert(key.text.clone(), secret);
        }
    }
    secrets
}

fn secret(reader: &mut Reader<'_>, key: &Key, node: &Node) -> Option<Secret> {
    if !matches!(node.value, Value::Map(_)) {
        let text = reader.text(&key.text, node, &Shape::OrBlock(&Shape::Text, &SECRET))?;
        return Some(Secret { file: reader.path(text, node.span, "the secret"), in_plan: false });
    }
    let fields = reader.fields(&key.text, node, &SECRET)?;
    let file = fields.path(reader, "file", "the secret");
    let in_plan = fields.boolean(reader, "plan").unwrap_or(false);
    Some(Secret { file: file?, in_plan })
}
