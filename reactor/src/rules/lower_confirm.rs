//! `confirm`, of a bus and of a rule: whether, and where, what became of a message is published.

use std::collections::BTreeMap;

use super::diagnostics::{Diagnostic, Diagnostics, Span, shown};
use super::lower::{Fields, Reader};
use super::node::{Node, Value};
use super::site::{BusConfig, Confirm, On, Site};
use crate::bus::amqp::config::Settings;
use crate::message::{TOPIC_BYTES_MAX, Topic};

/// Longest `prefix`, in bytes: the rest of the topic has to fit behind it.
const PREFIX_BYTES_MAX: usize = TOPIC_BYTES_MAX - "reactor.reaction.planned".len() - 1;

/// The word, where it is given.
pub(super) fn confirm(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Confirm> {
    match &fields.node("confirm")?.value {
        Value::Bool(true) => Some(Confirm::There),
        Value::Bool(false) => Some(Confirm::No),
        Value::Text(..) => fields.text(reader, "confirm").map(|name| Confirm::On(name.to_owned())),
        _ => {
            fields.wrong_kind(reader, "confirm");
            None
        }
    }
}

/// The same of a rule, which must wait for messages then.
pub(super) fn of_rule(reader: &mut Reader<'_>, fields: &Fields<'_>, on: Option<&On>) -> Option<Confirm> {
    let confirm = confirm(reader, fields)?;
    if let (Some(On::Every(_)), Some(span), true) = (on, fields.key_span("confirm"), confirm != Confirm::No) {
        let hint = "no message leads to this rule's reactions, so nobody waits to hear of them: take it out";
        reader.error(span, "`confirm` beside `every`", hint);
    }
    Some(confirm)
}

/// `publish.prefix`: words joined by dots.
pub(super) fn prefix(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<String> {
    let text = fields.text(reader, "prefix")?;
    let span = fields.node("prefix")?.span;
    let wrong = match Topic::new(text) {
        Err(why) => Some(why),
        Ok(topic) if topic.is_internal() => Some("it begins with reactor., which no bus brings in".to_owned()),
        Ok(_) if text.len() > PREFIX_BYTES_MAX => Some(format!("it has more than {PREFIX_BYTES_MAX} bytes")),
        Ok(_) => None,
    };
    if let Some(why) = wrong {
        reader.error(span, format!("`prefix` can't begin a topic: {why}"), "write it as in org.example.prod");
    }
    Some(text.to_owned())
}

/// Why outcomes can't be published on this bus, and what to do about it.
///
/// # Errors
/// That they can't.
pub(crate) fn can_confirm(bus: &BusConfig) -> Result<(), (&'static str, &'static str)> {
    if let Some(amqp) = &bus.amqp {
        let is_bare = matches!(&amqp.settings, Settings::Words(words) if words.topic_prefix.is_empty());
        let hint = "add `topic_prefix: org.example.prod` to its `amqp`: topics that begin with reactor. are believed by no reactor";
        return if is_bare { Err(("has no prefix for topics", hint)) } else { Ok(()) };
    }
    let Some(publish) = &bus.publish else {
        let hint = "add `publish: { bind: tcp://*:9941, prefix: org.example.prod, cert: FILE, key: FILE }` to the bus";
        return Err(("has no `publish`", hint));
    };
    if publish.prefix.is_none() {
        let hint = "add `prefix: org.example.prod` to its `publish`: it is put before reactor.reaction.done";
        return Err(("has no `prefix` in its `publish`", hint));
    }
    if publish.cert.is_none() && !bus.trust.accept_unsigned {
        let hint = "add `cert: FILE` and `key: FILE` to its `publish`";
        return Err(("has nothing to sign with", hint));
    }
    Ok(())
}

/// Where what `confirm` says stands, for errors that only the whole site shows.
#[derive(Default)]
pub(super) struct Spans {
    /// By bus.
    of_buses: BTreeMap<String, Span>,
    /// Of each rule, by its index in the site.
    pub of_rules: Vec<Option<Span>>,
}

impl Spans {
    /// Notes it of the bus that `node` describes.
    pub(super) fn of_bus(&mut self, name: &str, node: &Node) {
        let Value::Map(entries) = &node.value else { return };
        if let Some((_, node)) = entries.iter().find(|(key, _)| key.text == "confirm") {
            self.of_buses.insert(name.to_owned(), node.span);
        }
    }
}

/// Whether every bus that is to be published on is there, and can be.
pub(super) fn check(site: &Site, spans: &Spans, found: &mut Diagnostics) {
    for (name, bus) in &site.buses {
        let Some(span) = spans.of_buses.get(name) else { continue };
        match &bus.confirm {
            Confirm::No => {}
            Confirm::There => cannot(name, bus, *span, found),
            Confirm::On(target) => on(site, target, *span, found),
        }
    }
    for (rule, span) in site.rules.iter().zip(&spans.of_rules) {
        let Some(span) = *span else { continue };
        match &rule.confirm {
            None | Some(Confirm::No) => {}
            Some(Confirm::On(target)) => on(site, target, span, found),
            Some(Confirm::There) => there(site, &rule.name, span, found),
        }
    }
}

fn on(site: &Site, target: &str, span: Span, found: &mut Diagnostics) {
    match site.buses.get(target) {
        Some(bus) => cannot(target, bus, span, found),
        None => {
            let known = site.buses.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let error =
                Diagnostic::error(span, format!("`confirm` names the bus {}, which is not there", shown(target)));
            found.push(error.hint(format!("the buses of this site are: {known}")));
        }
    }
}

fn cannot(name: &str, bus: &BusConfig, span: Span, found: &mut Diagnostics) {
    if let Err((why, hint)) = can_confirm(bus) {
        let message = format!("`confirm` asks to publish on the bus {}, which {why}", shown(name));
        found.push(Diagnostic::error(span, message).hint(hint));
    }
}

/// A rule takes messages of every bus that is listened to; where none of them can be published on, it is a mistake.
fn there(site: &Site, rule: &str, span: Span, found: &mut Diagnostics) {
    let listening: Vec<_> = site.buses.iter().filter(|(_, bus)| bus.listens()).collect();
    let all_can_not = listening.iter().all(|(_, bus)| can_confirm(bus).is_err());
    for (name, bus) in listening {
        let Err((why, hint)) = can_confirm(bus) else { continue };
        let message =
            format!("rule {} confirms on the bus of its message, but the bus {} {why}", shown(rule), shown(name));
        let made = if all_can_not { Diagnostic::error(span, message) } else { Diagnostic::warning(span, message) };
        found.push(made.hint(hint));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::rules::file::read_str;

    const PUBLISH: &str = "publish: {bind: 'tcp://*:9', prefix: org.example, cert: c, key: k}";

    /// What is said of a site with a bus `b` that has these words, and one rule that has those.
    fn said(bus: &str, rule: &str) -> Vec<String> {
        let yaml = format!(
            "version: 1\nbus:\n  b:\n    fedmsg: [tcp://h:1]\n    trust: {{x509: {{ca: c}}, unlisted: accept}}\n    {bus}\n\
             handlers: {{h: {{exec: /bin/true}}}}\nrules:\n  - name: r\n    do: h\n    {rule}\n"
        );
        read_str("rules.yaml", &yaml, Path::new("/site"))
            .diagnostics
            .iter()
            .map(|found| found.message.clone())
            .collect()
    }

    #[test]
    fn a_bus_that_can_be_published_on_may_be_asked_to_confirm() {
        assert_eq!(said(PUBLISH, "on: a.b\n    confirm: true"), Vec::<String>::new());
        assert_eq!(said(PUBLISH, "on: a.b\n    confirm: b"), Vec::<String>::new());
        assert_eq!(said(&format!("{PUBLISH}\n    confirm: true"), "on: a.b\n    confirm: false"), Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_is_shown_where_it_stands() {
        let at = |bus: &str, rule: &str| {
            let site = format!(
                "version: 1\nbus:\n  b: {{ fedmsg: [tcp://h:1], trust: {{ x509: {{ca: c}}, unlisted: accept }}{bus} }}\n\
                 handlers: {{h: {{exec: /bin/true}}}}\nrules:\n  - {{ name: r, on: a.b, do: h{rule} }}\n"
            );
            let loaded = read_str("rules.yaml", &site, Path::new("/site"));
            let found = loaded.diagnostics.iter().next().expect("something is wrong");
            site[found.span.start as usize..][..found.span.len as usize].to_owned()
        };
        assert_eq!(at("", ", confirm: nowhere"), "nowhere");
        assert_eq!(at(", confirm: nowhere", ""), "nowhere");
        assert_eq!(at("", ", confirm: true"), "true", "the bus can't be published on");
        assert_eq!(at(", confirm: true", ""), "true");
    }

    #[test]
    fn what_cannot_be_published_on_is_an_error_that_says_why() {
        for (bus, rule, why) in [
            ("queue: 9", "on: a.b\n    confirm: true", "the bus `b` has no `publish`"),
            ("confirm: true", "on: a.b", "the bus `b`, which has no `publish`"),
            (
                "publish: {bind: 'tcp://*:9', cert: c, key: k}",
                "on: a.b\n    confirm: b",
                "has no `prefix` in its `publish`",
            ),
            (
                "publish: {bind: 'tcp://*:9', prefix: org.example}",
                "on: a.b\n    confirm: b",
                "has nothing to sign with",
            ),
            (PUBLISH, "on: a.b\n    confirm: c", "names the bus `c`, which is not there"),
            (PUBLISH, "every: 1h\n    confirm: true", "`confirm` beside `every`"),
            (PUBLISH, "on: a.b\n    confirm: 3", "`confirm` must be true, false, or the name of a bus"),
            ("publish: {bind: 'tcp://*:9', prefix: a..b, cert: c, key: k}", "on: a.b", "`prefix` can't begin a topic"),
        ] {
            let said = said(bus, rule).join("\n");
            assert!(said.contains(why), "{bus} {rule}: {said}");
        }
    }
}
