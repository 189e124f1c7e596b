//! `bus.NAME.fedmsg`: a list of addresses, or a map that says where to ask for them.

use std::net::{IpAddr, SocketAddr};

use super::diagnostics::shown;
use super::lower::{Fields, Reader};
use super::lower_bus::address;
use super::node::{Node, Value};
use super::words::{DNS, FEDMSG, Shape};
use crate::bus::fedmsg::discovery::{Discovery, FILE_WHAT};

/// DNS's own port.
const DNS_PORT: u16 = 53;
/// Longest name in DNS, in bytes, with `_fedmsg._tcp.` before it.
const DOMAIN_BYTES_MAX: usize = 253 - 13;

/// The addresses that stand there, and where to ask for more.
pub(super) fn fedmsg(reader: &mut Reader<'_>, fields: &Fields<'_>) -> (Vec<String>, Discovery) {
    let Some(node @ Node { value: Value::Map(entries), span }) = fields.node("fedmsg") else {
        return (listed(reader, fields, "fedmsg"), Discovery::default());
    };
    let Some(fields) = reader.fields("fedmsg", node, &FEDMSG) else { return (Vec::new(), Discovery::default()) };
    let addresses = listed(reader, &fields, "addresses");
    let (domains, server) = dns(reader, &fields);
    let config = fields.path(reader, "config", FILE_WHAT);
    if entries.is_empty() {
        reader.error(
            *span,
            "`fedmsg` says nothing",
            "add `dns: DOMAIN`, `config: FILE` or `addresses: [tcp://HOST:PORT]`",
        );
    }
    (addresses, Discovery { domains, server, config })
}

fn listed(reader: &mut Reader<'_>, fields: &Fields<'_>, word: &'static str) -> Vec<String> {
    let listed = fields.texts(reader, word);
    for (text, node) in &listed {
        address(reader, text, node, false);
    }
    listed.into_iter().map(|(text, _)| text.to_owned()).collect()
}

fn dns(reader: &mut Reader<'_>, fields: &Fields<'_>) -> (Vec<String>, Option<SocketAddr>) {
    let Some(node) = fields.node("dns") else { return (Vec::new(), None) };
    if !matches!(node.value, Value::Map(_)) {
        let texts = reader.texts("dns", node, &Shape::OrBlock(&Shape::Texts, &DNS));
        return (domains(reader, texts), None);
    }
    let Some(fields) = reader.fields("dns", node, &DNS) else { return (Vec::new(), None) };
    let texts = fields.texts(reader, "domain");
    let domains = domains(reader, texts);
    let server = fields.text(reader, "server").and_then(|text| {
        let server = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT))).ok();
        if let (None, Some(node)) = (server, fields.node("server")) {
            let message = format!("{} is not the address of a server", shown(text));
            reader.error(
                node.span,
                message,
                "write an address, as 192.0.2.53, 192.0.2.53:5353 or \"[2001:db8::53]:53\"",
            );
        }
        server
    });
    (domains, server)
}

fn domains(reader: &mut Reader<'_>, texts: Vec<(&str, &Node)>) -> Vec<String> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    for (text, node) in &texts {
        if text.len() > DOMAIN_BYTES_MAX || !text.trim_end_matches('.').split('.').all(is_label) {
            let hint = "write it as in example.org; `_fedmsg._tcp.` is put before it";
            reader.error(node.span, format!("{} is not a domain", shown(text)), hint);
        }
    }
    texts.into_iter().map(|(text, _)| text.to_owned()).collect()
}
