//! `bus.NAME.catch_up`.

use std::time::Duration;

use accounts::curl::check_url;

use super::diagnostics::shown;
use super::lower::{Fields, Reader};
use crate::bus::catch_up::{
    AT_MOST_DEFAULT, CATCH_UP_SECONDS_MAX, CatchUp, OVERLAP_DEFAULT, OVERLAP_SECONDS_MIN, Server,
};

/// The block of a bus that listens, or does not.
pub(super) fn catch_up(reader: &mut Reader<'_>, fields: &Fields<'_>, listens: bool) -> Option<CatchUp> {
    let ca = fields.path(reader, "ca", "the CA of the server that is asked");
    let token = fields.block(reader, "token");
    let token = token.and_then(|inner| inner.path(reader, "file", "the token for the server that is asked"));
    let believe_all = fields.one_of(reader, "believe") == Some("all");
    let overlap = fields.some_time(reader, "overlap").unwrap_or(OVERLAP_DEFAULT);
    let at_most = fields.some_time(reader, "at_most").unwrap_or(AT_MOST_DEFAULT);
    if let (Some(node), true) = (fields.node("overlap"), overlap < Duration::from_secs(OVERLAP_SECONDS_MIN)) {
        let message = format!("`overlap` must be at least {OVERLAP_SECONDS_MIN}s");
        reader.error(
            node.span,
            message,
            "clocks differ, and messages take their time to the server: 5m is a good value",
        );
    }
    if !listens {
        reader.error(
            fields.span,
            "`catch_up` on a bus that is not listened to",
            "add `fedmsg:` or `amqp:`, or take it out",
        );
    }
    let url = fields.text(reader, "datagrepper").and_then(|text| url(reader, fields, text));
    let address = fields.text(reader, "replay").and_then(|text| address(reader, fields, text));
    for word in ["ca", "token"] {
        if let (Some(span), Some(_)) = (fields.key_span(word), &address) {
            reader.error(
                span,
                format!("`{word}` beside `replay`"),
                "fedmsg.replay has neither TLS nor a login; take it out",
            );
        }
    }
    let server = match (url, address) {
        (Some(url), _) => Server::Datagrepper { url, ca, token },
        (_, Some(address)) => Server::Replay { address },
        _ => return None,
    };
    Some(CatchUp { server, believe_all, overlap, at_most, patience: Duration::from_secs(CATCH_UP_SECONDS_MAX) })
}

fn url(reader: &mut Reader<'_>, fields: &Fields<'_>, text: &str) -> Option<String> {
    let span = fields.node("datagrepper")?.span;
    match check_url(text) {
        Ok(url) => Some(url),
        Err(why) => {
            let why = if text.starts_with("http://") {
                "is http:// to another machine, where anybody on the way could leave messages out"
            } else {
                why
            };
            let hint = "write its whole URL, as https://apps.fedoraproject.org/datagrepper/raw";
            reader.error(span, format!("{} {why}", shown(text)), hint);
            None
        }
    }
}

/// `tcp://HOST:PORT` → `HOST:PORT`.
fn address(reader: &mut Reader<'_>, fields: &Fields<'_>, text: &str) -> Option<String> {
    let span = fields.node("replay")?.span;
    let address = text.strip_prefix("tcp://").filter(|rest| {
        let parts = rest.rsplit_once(':');
        parts.is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains(['/', ' ', '*']) && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    });
    if address.is_none() {
        reader.error(
            span,
            format!("{} is not an address", shown(text)),
            "write tcp://HOST:PORT, as in tcp://hub.example.org:9941",
        );
    }
    address.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::rules::file::{load_str, read_str};

    fn site(block: &str) -> Result<Option<CatchUp>, String> {
        let text = format!(
            "version: 1\nbus:\n  b:\n    fedmsg: tcp://127.0.0.1:1\n    trust: {{ x509: {{ ca: ca.crt }}, unlisted: accept }}\n    catch_up: {block}\n"
        );
        let mut site = load_str("rules.yaml", &text, Path::new("/etc/reactor")).map_err(|errors| errors.to_string())?;
        Ok(site.buses.remove("b").and_then(|bus| bus.catch_up))
    }

    #[test]
    fn a_server_is_enough_and_the_rest_has_defaults() {
        let server = Server::Datagrepper { url: "https://x.example.org/raw".into(), ca: None, token: None };
        let (overlap, at_most) = (OVERLAP_DEFAULT, AT_MOST_DEFAULT);
        let patience = Duration::from_secs(CATCH_UP_SECONDS_MAX);
        let config = CatchUp { server, believe_all: false, overlap, at_most, patience };
        assert_eq!(site("{ datagrepper: https://x.example.org/raw/ }").expect("good"), Some(config));
        let config =
            site("{ replay: 'tcp://x:9941', believe: all, overlap: 1m, at_most: 12h }").expect("good").expect("there");
        assert_eq!(config.server, Server::Replay { address: "x:9941".into() });
        assert!(config.believe_all && config.overlap == Duration::from_secs(60));
    }

    #[test]
    fn files_are_found_beside_the_rules() {
        let config =
            site("{ datagrepper: https://x/raw, ca: ca.pem, token: { file: token } }").expect("good").expect("there");
        let Server::Datagrepper { ca, token, .. } = config.server else { panic!() };
        assert_eq!(ca.as_deref(), Some(Path::new("/etc/reactor/ca.pem")));
        assert_eq!(token.as_deref(), Some(Path::new("/etc/reactor/token")));
    }

    #[test]
    fn a_broker_whose_messages_nobody_signs_is_warned_about() {
        let text = "version: 1\nbus: { b: { amqp: { config: f.toml }, trust: { broker: accept, unlisted: accept }, catch_up: { datagrepper: https://x/raw } } }\n";
        let read = |text: &str| read_str("rules.yaml", text, Path::new("/site")).diagnostics.to_string();
        assert!(read(text).contains("nobody signs what comes from a broker"), "{}", read(text));
        let believed = text.replace("/raw }", "/raw, believe: all }");
        assert!(!read(&believed).contains("nobody signs"), "{}", read(&believed));
    }

    #[test]
    fn what_can_not_work_is_told_with_what_to_write() {
        for (block, said) in [
            ("{}", "needs `datagrepper` or `replay`"),
            ("{ datagrepper: https://x/raw, replay: 'tcp://x:1' }", "not both"),
            ("{ datagrepper: http://x.example.org/raw }", "leave messages out"),
            ("{ datagrepper: x.example.org/raw }", "https://"),
            ("{ replay: x:1 }", "is not an address"),
            ("{ replay: 'tcp://x:0' }", "is not an address"),
            ("{ replay: 'tcp://x:1', ca: f }", "beside `replay`"),
            ("{ replay: 'tcp://x:1', overlap: 1s }", "at least 10s"),
            ("{ replay: 'tcp://x:1', believe: none }", "`believe`"),
            ("{ datagreper: https://x/raw }", "datagrepper"),
        ] {
            let error = site(block).expect_err(block);
            assert!(error.contains(said), "{block}: {error}");
        }
    }
}
