//! `http` and `bus.NAME.webhook`, and whether the two fit together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::diagnostics::{Diagnostic, Diagnostics, Span, shown};
use super::lower::{Fields, Reader};
use super::node::{Node, Value};
use super::site::Site;
use super::template::Template;
use super::words::HISTORY;
use crate::http::{HistoryAccess, HttpConfig, LISTEN_DEFAULT, OWN_PATHS};
use crate::message::BODY_BYTES_MAX;
use crate::trust::webhook::{Signature, WebhookConfig};

/// Longest path of a webhook, in bytes.
const PATH_BYTES_MAX: usize = 255;
/// What `topic` and `id` can be made of.
const NAMES: [&str; 2] = ["headers", "msg"];

/// Where `http` says something that other parts of the site must fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    http: Span,
    listen: Span,
    history: Option<Span>,
}

/// The `http` block.
pub(super) fn http(reader: &mut Reader<'_>, span: Span, fields: &Fields<'_>) -> (HttpConfig, Places) {
    let listen = fields.text(reader, "listen").map(|text| (text, fields.node("listen").map_or(span, |node| node.span)));
    let address = listen.and_then(|(text, span)| {
        let address = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
        if address.is_none() {
            reader.error(
                span,
                format!("{} is not an address and port", shown(text)),
                "write 127.0.0.1:8080, [::1]:8080, or 0.0.0.0:8080 for every address of this machine",
            );
        }
        address
    });
    let config = HttpConfig { listen: address.unwrap_or(LISTEN_DEFAULT), history: history(reader, fields) };
    let places =
        Places { http: span, listen: listen.map_or(span, |listen| listen.1), history: fields.key_span("history") };
    (config, places)
}

fn history(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<HistoryAccess> {
    let node = fields.node("history")?;
    if !matches!(node.value, Value::Map(_)) {
        return fields.boolean(reader, "history").filter(|yes| *yes).map(|_| HistoryAccess::Anyone);
    }
    let inner = reader.fields("history", node, &HISTORY)?;
    let token = inner.block(reader, "token")?;
    token.path(reader, "file", "the token of the history").map(HistoryAccess::Token)
}

/// A `webhook` block. `None` where something that it needs is wrong.
pub(super) fn webhook(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<WebhookConfig> {
    let path = path(reader, fields);
    let secrets = fields.block(reader, "secret").map(|inner| {
        let files = inner.texts(reader, "file");
        files.into_iter().map(|(text, node)| reader.path(text, node.span, "a secret of the webhook")).collect()
    });
    let signature = fields.one_of(reader, "signature").map(|word| match word {
        "github" => Signature::Github,
        "gitlab" => Signature::Gitlab,
        "forgejo" => Signature::Forgejo,
        _ => Signature::Token,
    });
    let topic = fields.node("topic").and_then(|node| template(reader, fields, "topic", node));
    let has_id = fields.node("id");
    let id = has_id.and_then(|node| template(reader, fields, "id", node));
    let body_bytes_max = fields.size(reader, "body_bytes_max").unwrap_or(BODY_BYTES_MAX);
    Some(WebhookConfig { path: path?, secrets: secrets?, signature: signature?, topic: topic?, id, body_bytes_max })
}

fn path(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<String> {
    let text = fields.text(reader, "path")?;
    let span = fields.node("path")?.span;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    if !text.starts_with('/') || text.len() > PATH_BYTES_MAX || !text.bytes().all(good) || text.contains("..") {
        let message = format!("{} is not a path that can be posted to", shown(text));
        reader.error(span, message, "begin with /, then letters, digits, `-`, `.`, `_` and `/`: /hook/github");
        return None;
    }
    if OWN_PATHS.contains(&text.trim_end_matches('/')) {
        reader.error(
            span,
            format!("{} is where the history is asked for", shown(text)),
            "take another path: /hook/github",
        );
        return None;
    }
    Some(text.to_owned())
}

fn template(reader: &mut Reader<'_>, fields: &Fields<'_>, word: &'static str, node: &Node) -> Option<Template> {
    let text = fields.text(reader, word)?;
    let parsed = match Template::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            reader.expression_error(node, error, "a template: github.{{headers.x-github-event}}");
            return None;
        }
    };
    for path in parsed.paths() {
        match path {
            [name, ..] if !NAMES.contains(&name.as_str()) => {
                let message = format!("`{word}` can't be made of `{name}`: before it there is no message");
                reader.error(node.span, message, "it is made of `headers` and `msg`, the body");
            }
            [name, header, ..] if name == "headers" && header.chars().any(char::is_uppercase) => {
                let message = format!("`headers.{header}`: the names of HTTP headers are in small letters here");
                reader.error(node.span, message, format!("write headers.{}", header.to_lowercase()));
            }
            _ => {}
        }
    }
    Some(parsed)
}

/// Whether all that `http` and the buses say of one another holds.
pub(super) fn check(site: &Site, places: Option<&Places>, buses: &BTreeMap<String, Span>, found: &mut Diagnostics) {
    let mut paths: BTreeMap<&str, Span> = BTreeMap::new();
    let mut bearers = Vec::new();
    for (name, bus) in &site.buses {
        let (Some(webhook), Some(span)) = (&bus.webhook, buses.get(name)) else { continue };
        if site.http.is_none() {
            let message = format!("bus {} is posted to, and the site has no `http`", shown(name));
            found.push(Diagnostic::error(*span, message).hint("add `http: { listen: 127.0.0.1:8080 }`"));
        }
        if let Some(before) = paths.insert(&webhook.path, *span) {
            let message = format!("the path {} is that of two buses", shown(&webhook.path));
            found.push(Diagnostic::error(*span, message).second(before, "the other one").hint("give each its own"));
        }
        if matches!(webhook.signature, Signature::Token | Signature::Gitlab) {
            bearers.push(shown(name));
        }
    }
    let (Some(http), Some(places)) = (&site.http, places) else { return };
    let is_near = http.listen.ip().is_loopback();
    if let (Some(span), Some(access)) = (places.history, &http.history) {
        if !site.journal.history_all {
            let message = "`history` tells what came, but the journal keeps only what a rule wanted";
            found.push(Diagnostic::error(span, message).hint("add `journal: { history: all }`"));
        }
        if *access == HistoryAccess::Anyone && !is_near {
            let message = format!("everybody who reaches {} could read the history", http.listen);
            let hint = "listen on 127.0.0.1, or ask for a token: history: { token: { file: FILE } }";
            found.push(Diagnostic::error(span, message).second(places.listen, "not this machine alone").hint(hint));
        }
        bearers.extend(matches!(access, HistoryAccess::Token(_)).then(|| "`history`".to_owned()));
    }
    if !is_near && !bearers.is_empty() {
        let message =
            format!("whoever can listen on the way sees the secret of {}: there is no TLS here", bearers.join(", "));
        let hint = "listen on 127.0.0.1 behind a reverse proxy that speaks TLS (docs/webhook.md)";
        found.push(Diagnostic::warning(places.listen, message).hint(hint));
    }
    if http.history.is_none() && paths.is_empty() {
        let message = "nothing is asked or told over `http`";
        let hint = "add a bus with `webhook`, or `history: true`, or take it out";
        found.push(Diagnostic::warning(places.http, message).hint(hint));
    }
}

/// What a webhook's bus believes where it has no `trust`: the secret is the proof, so its holder may say whatever `topic` can
/// make.
pub(super) fn trust_of_secret() -> crate::trust::TrustConfig {
    crate::trust::TrustConfig { accept_unlisted: true, ..crate::trust::TrustConfig::default() }
}

/// The block of a bus as it is kept.
pub(super) fn of_bus(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Arc<WebhookConfig>> {
    let block = fields.block(reader, "webhook")?;
    for (name, hint) in [
        ("fedmsg", "make it another bus"),
        ("amqp", "make it another bus"),
        ("topics", "what comes is said by whoever posts it; `topic` in `webhook` names it"),
        ("publish", "one does not publish on a webhook: make it another bus"),
    ] {
        if let Some(span) = fields.key_span(name) {
            reader.error(span, format!("`{name}` beside `webhook`"), hint);
        }
    }
    webhook(reader, &block).map(Arc::new)
}
