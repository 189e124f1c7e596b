//! `bus`, `trust` and `journal`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::diagnostics::{Diagnostic, shown};
use super::lower::{Fields, Reader};
use super::lower_catch_up::catch_up;
use super::node::{Key, Node};
use super::site::{BusConfig, JournalConfig, PublishConfig, QUEUE_MESSAGES_DEFAULT};
use super::topic::Pattern;
use super::words::{BUS, Shape};
use super::{lower_amqp, lower_confirm, lower_fedmsg, lower_http};
use crate::journal::place::{Postgres, host_name};
use crate::trust::{TrustConfig, X509Config};

/// PostgreSQL's own port.
const POSTGRESQL_PORT: u16 = 5432;
/// Longest name of a node, in bytes.
const NODE_BYTES_MAX: usize = 64;

/// One entry of `bus`.
pub(super) fn bus(reader: &mut Reader<'_>, name: &Key, node: &Node) -> Option<BusConfig> {
    let fields = reader.fields(&name.text, node, &BUS)?;
    let amqp_span = fields.key_span("amqp");
    let (fedmsg, discovery) = lower_fedmsg::fedmsg(reader, &fields);
    let topics = fields.texts(reader, "topics").into_iter().map(|(text, node)| prefix(reader, text, node)).collect();
    let trust = fields.block(reader, "trust");
    let publish = fields.block(reader, "publish").map(|fields| publish(reader, &fields));
    let queue = fields.size(reader, "queue");
    let late = fields.block(reader, "catch_up");
    let listens = fields.key_span("fedmsg").is_some() || fields.key_span("amqp").is_some();
    let catch_up = late.and_then(|inner| catch_up(reader, &inner, listens));
    if let (Some(span), Some(false)) = (amqp_span, catch_up.as_ref().map(|config| config.believe_all)) {
        let message = "nobody signs what comes from a broker, so nothing that `catch_up` asks for is believed";
        let hint = "add `believe: all` to it; the signer is `datagrepper` then, also in the policy";
        reader.found.push(Diagnostic::warning(fields.key_span("catch_up").unwrap_or(span), message).hint(hint));
    }
    let silence = fields.some_time(reader, "silence");
    let amqp = fields.block(reader, "amqp").and_then(|fields| lower_amqp::amqp(reader, &fields));
    let webhook = lower_http::of_bus(reader, &fields);
    let is_posted_to = fields.key_span("webhook").is_some();
    if is_posted_to {
        // What stands beside it was looked at there.
    } else if fields.key_span("amqp").is_some() {
        beside_amqp(reader, &fields);
    } else if fields.key_span("fedmsg").is_none() && publish.is_none() {
        let message = format!("bus {} says neither where to listen nor where to publish", shown(&name.text));
        reader.error(name.span, message, "add `fedmsg: [tcp://HOST:PORT]`, or `amqp:`, or `webhook:`, or `publish:`");
    }
    let trust = trust.map(|fields| {
        if let (Some(span), None) = (fields.key_span("broker"), amqp_span) {
            reader.error(span, "`broker` is for a bus with `amqp`", "what comes by fedmsg is signed: x509 or gpg");
        }
        for word in ["x509", "gpg", "unsigned"] {
            if let (Some(span), true) = (fields.key_span(word), is_posted_to) {
                let message =
                    format!("`{word}` is for a bus whose messages are signed; a webhook's secret is its proof");
                reader.error(span, message, "keep `policy` and `unlisted`, or leave `trust` out");
            }
        }
        trust_block(reader, &fields)
    });
    let trust = if is_posted_to { trust.or_else(|| Some(lower_http::trust_of_secret())) } else { trust };
    Some(BusConfig {
        name: Arc::from(name.text.as_str()),
        fedmsg,
        discovery,
        amqp,
        webhook,
        topics,
        trust: trust.unwrap_or_default(),
        publish,
        queue_messages_max: queue.unwrap_or(QUEUE_MESSAGES_DEFAULT),
        confirm: lower_confirm::confirm(reader, &fields).unwrap_or_default(),
        catch_up,
        silence,
    })
}

/// Words that mean nothing on an AMQP bus.
fn beside_amqp(reader: &mut Reader<'_>, fields: &Fields<'_>) {
    for (name, hint) in [
        ("fedmsg", "make it another bus"),
        ("topics", "what comes is said by `bindings`"),
        ("publish", "publishing goes to `publish_exchange` of the same broker"),
        ("queue", "how much is on its way is said by `qos: { prefetch_count: … }`"),
    ] {
        if let Some(span) = fields.key_span(name) {
            reader.error(span, format!("`{name}` beside `amqp`"), hint);
        }
    }
}

/// Checks a ZeroMQ address: `tcp://host:port` or `ipc://path` (zmq_tcp(7), zmq_ipc(7)).
pub(super) fn address(reader: &mut Reader<'_>, text: &str, node: &Node, bind: bool) {
    let example = if bind { "tcp://*:9940" } else { "tcp://127.0.0.1:9940" };
    let hint = if text.contains("://") || !text.contains(':') {
        format!("write tcp://HOST:PORT, as in {example}")
    } else {
        format!("write tcp://{text}")
    };
    if text.strip_prefix("ipc://").is_some_and(|path| !path.is_empty()) {
        return;
    }
    let parts = text.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':'));
    let Some((host, port)) = parts.filter(|(host, _)| !host.is_empty() && !host.contains(['/', ' '])) else {
        reader.error(node.span, format!("{} is not an address", shown(text)), hint);
        return;
    };
    if port.parse::<u16>().map_or(true, |port| port == 0) {
        reader.error(
            node.span,
            format!("{} is not a port in {}", shown(port), shown(text)),
            "a port is a number from 1 to 65535",
        );
    } else if host == "*" && !bind {
        reader.error(node.span, format!("`*` is no host to listen to in {}", shown(text)), "name the publisher's host");
    }
}

/// A prefix as ZeroMQ takes it; a pattern here would never match.
fn prefix(reader: &mut Reader<'_>, text: &str, node: &Node) -> String {
    if text.contains('*') {
        let plain = text.split('*').next().unwrap_or_default().trim_end_matches('.');
        let message = format!("{} is a pattern; `topics` takes prefixes", shown(text));
        reader.error(
            node.span,
            message,
            format!("write {}: everything that begins with it is subscribed to", shown(plain)),
        );
    }
    text.to_owned()
}

fn publish(reader: &mut Reader<'_>, fields: &Fields<'_>) -> PublishConfig {
    let bind = fields.text(reader, "bind").map(str::to_owned);
    let connect = fields.text(reader, "connect").map(str::to_owned);
    for (text, word, binds) in [(&bind, "bind", true), (&connect, "connect", false)] {
        if let (Some(text), Some(node)) = (text, fields.node(word)) {
            address(reader, text, node, binds);
        }
    }
    let cert = fields.path(reader, "cert", "the certificate");
    let key = fields.path(reader, "key", "the private key");
    for (given, missing) in [("cert", "key"), ("key", "cert")] {
        if let (Some(span), None) = (fields.key_span(given), fields.key_span(missing)) {
            let message = format!("`{given}` without `{missing}`: signing needs both");
            reader.error(span, message, format!("add `{missing}: FILE`, or leave both out to publish unsigned"));
        }
    }
    let prefix = lower_confirm::prefix(reader, fields);
    PublishConfig { bind, connect, cert, key, prefix }
}

/// A trust block.
pub(super) fn trust_block(reader: &mut Reader<'_>, fields: &Fields<'_>) -> TrustConfig {
    let x509 = fields.block(reader, "x509").and_then(|fields| {
        let ca = fields.path(reader, "ca", "the CA certificate");
        let crl = fields.path(reader, "crl", "the revocation list");
        Some(X509Config { ca: ca?, crl })
    });
    let gpg_keys = fields.block(reader, "gpg").map(|fields| {
        let files = fields.texts(reader, "keys");
        files.into_iter().map(|(text, node)| reader.path(text, node.span, "the GPG keys")).collect()
    });
    let policy = policy(reader, fields);
    let accepts = |word: Option<&str>| word == Some("accept");
    let accept_unlisted = accepts(fields.one_of(reader, "unlisted"));
    let accept_unsigned = accepts(fields.one_of(reader, "unsigned"));
    let accept_broker = accepts(fields.one_of(reader, "broker"));
    let schemas = fields.path(reader, "schemas", "the schemas");
    if let (Some(span), false) = (fields.key_span("schemas"), accept_broker) {
        reader.error(
            span,
            "`schemas` without `broker: accept`",
            "schemas are for what comes from a broker of fedora-messaging",
        );
    }
    TrustConfig { x509, gpg_keys, policy, accept_unlisted, accept_unsigned, accept_broker, schemas }
}

fn policy(reader: &mut Reader<'_>, fields: &Fields<'_>) -> BTreeMap<String, Vec<String>> {
    let mut policy = BTreeMap::new();
    for (topic, signers) in fields.entries(reader, "policy") {
        if let Err(why) = Pattern::parse(&topic.text) {
            reader.found.push(Diagnostic::error(topic.span, why));
        }
        let signers = reader.texts(&topic.text, signers, &Shape::Signers);
        policy.insert(topic.text.clone(), signers.into_iter().map(|(text, _)| text.to_owned()).collect());
    }
    policy
}

/// Why every message on a bus is refused, and what to do about it; `None` where some can be trusted.
pub(super) fn refuses_all(bus: &BusConfig) -> Option<(&'static str, &'static str)> {
    let trust = &bus.trust;
    let by_secret = bus.webhook.is_some();
    if !by_secret && *trust == TrustConfig::default() {
        return Some(("has no `trust`", "add `trust: { x509: { ca: FILE }, policy: { TOPIC: [SIGNER] } }`"));
    }
    if !by_secret && trust.x509.is_none() && trust.gpg_keys.is_none() && !trust.accept_unsigned && !trust.accept_broker
    {
        return Some((
            "trusts no certificate and no key",
            "add `x509: { ca: FILE }` or `gpg: { keys: [FILE] }` to its `trust`",
        ));
    }
    let hint = "add `policy: { TOPIC: [SIGNER] }`, or `unlisted: accept` to believe every signer";
    (trust.policy.is_empty() && !trust.accept_unlisted).then_some(("lists no topic in its `policy`", hint))
}

/// The `journal` block.
pub(super) fn journal(reader: &mut Reader<'_>, fields: &Fields<'_>) -> JournalConfig {
    let default = JournalConfig::default();
    JournalConfig {
        history_all: fields.one_of(reader, "history") == Some("all"),
        keep: fields.some_time(reader, "keep").unwrap_or(default.keep),
        messages_max: fields.count(reader, "messages").unwrap_or(default.messages_max),
        server: fields.block(reader, "postgresql").and_then(|inner| postgresql(reader, &inner)),
    }
}

/// The `postgresql` block of the journal.
fn postgresql(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Postgres> {
    let host = fields.text(reader, "host").map(str::to_owned);
    let name = fields.text(reader, "name").map(str::to_owned);
    let user = fields.text(reader, "user").map(str::to_owned);
    let port = fields.count(reader, "port").and_then(|port| u16::try_from(port).ok()).unwrap_or(POSTGRESQL_PORT);
    let password = fields.block(reader, "password");
    let password = password.and_then(|inner| inner.path(reader, "file", "the journal's password"));
    let is_near = host.as_deref().is_some_and(is_near);
    let tls = fields.boolean(reader, "tls").unwrap_or(!is_near);
    let ca = fields.path(reader, "ca", "the certificates of the journal's server");
    if let (Some(span), false) = (fields.key_span("ca"), tls) {
        reader.error(span, "`ca` counts only with TLS", "add `tls: true`, or take `ca` out");
    }
    let schema = fields.text(reader, "schema").unwrap_or("reactor").to_owned();
    if let (Some(span), false) = (fields.key_span("schema"), is_schema(&schema)) {
        let message = format!("`{}` can't be the name of a schema here", schema.escape_debug());
        reader.error(span, message, "use small letters, digits and _, not beginning with a digit or pg_, at most 63");
    }
    let node = fields.text(reader, "node").map_or_else(host_name, str::to_owned);
    if let (Some(span), false) = (fields.key_span("node"), is_node(&node)) {
        let message = format!("`{}` can't be the name of a node", node.escape_debug());
        reader.error(span, message, "use letters, digits, `.`, `-` and `_`, at most 64, such as the host's name");
    }
    Some(Postgres { host: host?, port, name: name?, user: user?, password, tls, ca, schema, node })
}

/// Whether nobody else can listen on the way there.
pub(super) fn is_near(host: &str) -> bool {
    host.starts_with('/') || host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// People type and read it, and it stands in a lock's key.
fn is_node(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !name.is_empty() && name.len() <= NODE_BYTES_MAX && name.bytes().all(fits)
}

/// PostgreSQL keeps names beginning with `pg_` for itself, and cuts longer ones.
fn is_schema(name: &str) -> bool {
    name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.starts_with("pg_")
}
