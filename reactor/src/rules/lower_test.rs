//! `tests`.

use serde_json::{Map, Value as Json};

use super::diagnostics::{Diagnostic, Span};
use super::lower::{Fields, Reader};
use super::site::{Expect, Given, GivenMessage, PlannedSize, RuleTest};
use crate::message::Topic;

/// A rule test, and where the names of the rules in it stand.
pub(super) struct Lowered {
    pub test: RuleTest,
    pub name_span: Span,
    pub rules: Vec<(String, Span)>,
}

/// One entry of `tests`.
pub(super) fn test(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Lowered> {
    let name = fields.text(reader, "name");
    let name_span = fields.node("name").map_or(fields.span, |node| node.span);
    let given: Vec<Given> = fields.list(reader, "given").iter().filter_map(|fields| given(reader, fields)).collect();
    let mut rules = Vec::new();
    let expect = fields.list(reader, "expect").iter().filter_map(|fields| expect(reader, fields, &mut rules)).collect();
    let test = RuleTest { name: name?.to_owned(), given, expect, place: reader.place(name_span) };
    Some(Lowered { test, name_span, rules })
}

fn given(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Given> {
    let topic = fields.text(reader, "topic");
    let msg = fields.node("msg");
    let file = fields.path(reader, "message", "the message");
    let at = fields.duration(reader, "at");
    let repeat = fields.count(reader, "repeat").and_then(|repeat| u32::try_from(repeat).ok()).unwrap_or(1);
    let after = fields.duration(reader, "after").unwrap_or_default();
    let signer = fields.text(reader, "signer").map(str::to_owned);
    let plan = fields.block(reader, "plan").map(|fields| planned(reader, &fields));
    if let (Some(topic), Some(node)) = (topic, fields.node("topic"))
        && let Err(why) = Topic::new(topic)
    {
        reader.found.push(Diagnostic::error(node.span, why));
    } else if let (Some(true), Some(node)) = (topic.map(|topic| topic.contains('*')), fields.node("topic")) {
        reader.error(node.span, "a message has a topic, not a pattern", "write the topic in full");
    }
    if let (Some(_), Some(span)) = (&file, fields.key_span("msg")) {
        reader.error(span, "`msg` beside `message`: the file holds the body already", "leave one of the two out");
    }
    let message = match file {
        Some(file) => GivenMessage::File(file),
        None => GivenMessage::Inline {
            topic: topic?.to_owned(),
            msg: msg.map_or_else(|| Json::Object(Map::new()), super::node::Node::to_json),
        },
    };
    Some(Given { message, at, repeat, after, signer, plan, place: reader.place(fields.span) })
}

fn planned(reader: &mut Reader<'_>, fields: &Fields<'_>) -> PlannedSize {
    let deletes = fields.size(reader, "deletes").unwrap_or(0);
    let changes = fields.size(reader, "changes").unwrap_or(deletes);
    if deletes > changes {
        let message = format!("{deletes} deletes among {changes} changes");
        reader.error(fields.span, message, "`changes` counts all changes, the deletes too");
    }
    PlannedSize { changes, deletes }
}

fn expect(reader: &mut Reader<'_>, fields: &Fields<'_>, rules: &mut Vec<(String, Span)>) -> Option<Expect> {
    let at = fields.duration(reader, "at");
    let rule = fields.text(reader, "rule");
    let key = fields.text(reader, "key").map(str::to_owned);
    let with = fields.json_map(reader, "with");
    let messages = fields.size(reader, "messages");
    let held = fields.boolean(reader, "held").unwrap_or(false);
    let failed = fields.boolean(reader, "failed").unwrap_or(false);
    if let (true, true, Some(span)) = (held, failed, fields.key_span("failed")) {
        reader.error(span, "a reaction is held or it fails, not both", "leave one of the two out");
    }
    let rule = rule?;
    rules.push((rule.to_owned(), fields.node("rule").map_or(fields.span, |node| node.span)));
    Some(Expect { at, rule: rule.to_owned(), key, with, messages, held, failed, place: reader.place(fields.span) })
}
