//! `bus.NAME.amqp`.

use std::collections::BTreeMap;

use serde_json::Map;

use super::diagnostics::{Diagnostic, shown};
use super::lower::{Fields, Reader};
use super::lower_bus::is_near;
use super::words::{EXCHANGE, QUEUE};
use crate::bus::amqp::config::{Amqp, AmqpBus, Binding, Exchange, FILE_WHAT, Queue, Settings, Tls};
use crate::bus::amqp::url::Url;

/// Words that stand in the file of fedora-messaging where `config` names one.
const IN_THE_FILE: [&str; 10] = [
    "tls",
    "passive_declares",
    "exchanges",
    "queues",
    "bindings",
    "qos",
    "topic_prefix",
    "publish_exchange",
    "publish_priority",
    "client_properties",
];

/// An `amqp` block. `None` where it names no broker that can be one.
pub(super) fn amqp(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<AmqpBus> {
    let file = fields.path(reader, "config", FILE_WHAT);
    let password = fields.block(reader, "password").and_then(|fields| fields.path(reader, "file", "the password"));
    let words = words(reader, fields);
    let settings = match file {
        Some(file) => {
            for name in IN_THE_FILE {
                if let Some(span) = fields.key_span(name) {
                    reader.error(
                        span,
                        format!("`{name}` beside `config`"),
                        "write it into that file, or all of it here",
                    );
                }
            }
            Settings::File(file)
        }
        None => Settings::Words(Box::new(words?)),
    };
    if let (Settings::Words(amqp), Some(_), Some(node)) = (&settings, &password, fields.node("amqp_url"))
        && !amqp.url.tls
        && !is_near(&amqp.url.host)
    {
        let warning = Diagnostic::warning(node.span, "the password goes over the network in the clear");
        reader
            .found
            .push(warning.hint("write amqps://, with `tls: { ca_cert: FILE }` where the CA is not the system's"));
    }
    Some(AmqpBus { settings, password })
}

fn words(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Amqp> {
    let url = url(reader, fields);
    let mut amqp = Amqp::at(url.clone().unwrap_or_else(Url::local));
    amqp.tls = fields.block(reader, "tls").map(|fields| tls(reader, &fields)).unwrap_or_default();
    amqp.passive_declares = fields.boolean(reader, "passive_declares").unwrap_or_default();
    amqp.exchanges = exchanges(reader, fields);
    amqp.queues = queues(reader, fields);
    let bindings: Vec<_> =
        fields.list(reader, "bindings").iter().filter_map(|fields| binding(reader, fields)).collect();
    if fields.key_span("bindings").is_some() {
        amqp.bindings = bindings;
    }
    let prefetch = fields.block(reader, "qos").and_then(|fields| fields.count(reader, "prefetch_count"));
    amqp.prefetch_messages = prefetch.and_then(|n| u16::try_from(n).ok()).unwrap_or(amqp.prefetch_messages);
    amqp.topic_prefix = fields.text(reader, "topic_prefix").unwrap_or_default().to_owned();
    if let Some(exchange) = fields.text(reader, "publish_exchange") {
        amqp.publish_exchange = exchange.to_owned();
    }
    amqp.publish_priority = fields.count(reader, "publish_priority").and_then(|n| u8::try_from(n).ok());
    amqp.client_properties = fields.text_map(reader, "client_properties");
    if let Err(why) = amqp.check() {
        reader.error(fields.span, why, "the words of `amqp` are those of fedora-messaging's config.toml");
    }
    url.map(|_| amqp)
}

fn url(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Url> {
    let text = fields.text(reader, "amqp_url")?;
    let span = fields.node("amqp_url")?.span;
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(why) => {
            reader.error(span, format!("`amqp_url`: {why}"), "write amqps://USER@HOST/VHOST, a / in the vhost as %2F");
            return None;
        }
    };
    if url.has_secret() {
        let hint = "write amqp://USER@HOST/VHOST, and beside it `password: { file: FILE }`";
        reader.error(span, "a password in `amqp_url`: the rules file is for everyone to read", hint);
    }
    Some(url)
}

fn tls(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Tls {
    let ca_cert = fields.path(reader, "ca_cert", "the CA of the broker");
    let certfile = fields.path(reader, "certfile", "the certificate to log in with");
    let keyfile = fields.path(reader, "keyfile", "its private key");
    for (given, missing) in [("certfile", "keyfile"), ("keyfile", "certfile")] {
        if let (Some(span), None) = (fields.key_span(given), fields.key_span(missing)) {
            let message = format!("`{given}` without `{missing}`: logging in with a certificate needs both");
            reader.error(span, message, format!("add `{missing}: FILE`, or leave both out to log in with a password"));
        }
    }
    Tls { ca_cert, certfile, keyfile }
}

fn exchanges(reader: &mut Reader<'_>, fields: &Fields<'_>) -> BTreeMap<String, Exchange> {
    let mut exchanges = BTreeMap::new();
    for (name, node) in fields.entries(reader, "exchanges") {
        let Some(fields) = reader.fields(&name.text, node, &EXCHANGE) else { continue };
        let kind = fields.text(reader, "type").unwrap_or_default().to_owned();
        let durable = fields.boolean(reader, "durable").unwrap_or_default();
        let auto_delete = fields.boolean(reader, "auto_delete").unwrap_or_default();
        let arguments = fields.json_map(reader, "arguments").unwrap_or_else(Map::new);
        exchanges.insert(name.text.clone(), Exchange { kind, durable, auto_delete, arguments });
    }
    exchanges
}

fn queues(reader: &mut Reader<'_>, fields: &Fields<'_>) -> BTreeMap<String, Queue> {
    let mut queues = BTreeMap::new();
    for (name, node) in fields.entries(reader, "queues") {
        let Some(fields) = reader.fields(&name.text, node, &QUEUE) else { continue };
        if name.text.starts_with("amq.") {
            let message = format!("{} begins with amq., which brokers keep for themselves", shown(&name.text));
            reader.error(name.span, message, "take another name; on public brokers it must be a UUID: uuidgen");
        }
        let durable = fields.boolean(reader, "durable").unwrap_or_default();
        let auto_delete = fields.boolean(reader, "auto_delete").unwrap_or_default();
        let exclusive = fields.boolean(reader, "exclusive").unwrap_or_default();
        let arguments = fields.json_map(reader, "arguments").unwrap_or_else(Map::new);
        queues.insert(name.text.clone(), Queue { durable, auto_delete, exclusive, arguments });
    }
    queues
}

fn binding(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Binding> {
    let exchange = fields.text(reader, "exchange").map(str::to_owned);
    let queue = fields.text(reader, "queue").map(str::to_owned);
    let routing_keys = fields.texts(reader, "routing_keys").into_iter().map(|(text, _)| text.to_owned()).collect();
    Some(Binding { exchange: exchange?, queue, routing_keys })
}
