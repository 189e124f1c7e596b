//! `reactor tail`: watches a fedmsg bus, and says of each message whether it would be believed. Reads; stores nothing.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};

use super::publish::bus_of_site;
use super::{Common, Format, now, out, print};
use crate::bus::Source as _;
use crate::bus::fedmsg::FedmsgSource;
use crate::bus::fedmsg::discovery::Discovery;
use crate::message::RawMessage;
use crate::rules::file;
use crate::rules::site::{BusConfig, Confirm, QUEUE_MESSAGES_DEFAULT};
use crate::rules::topic::{Index, Pattern};
use crate::trust::{TrustConfig, Verifier};

/// Messages taken from the bus at once.
const BATCH_MESSAGES_MAX: usize = 256;

/// Watch a fedmsg bus: time, topic, signer, payload of each message
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(group(clap::ArgGroup::new("where").required(true).args(["bus", "connect"])))]
#[command(after_help = "Example: reactor tail --bus fedora 'org.fedoraproject.prod.fas.**'
         reactor tail --connect tcp://hub.fedoraproject.org:9940 --trust trust.yaml -n 10
Without a trust block nothing is checked, and the signer is only what the message claims.")]
pub struct Args {
    /// Which topics: `*` is one word, `**` any number of words
    #[arg(value_name = "TOPIC", default_value = "**", value_parser = |text: &str| Pattern::parse(text))]
    topic: Pattern,
    /// Watch this bus of the site, with its trust
    #[arg(long, value_name = "NAME")]
    bus: Option<String>,
    /// The site that --bus is in [default: /etc/reactor, else ./rules.yaml]
    #[arg(long, value_name = "FILE|DIR", requires = "bus")]
    site: Vec<PathBuf>,
    /// Watch this publisher, relay or gateway: tcp://host:9940. May be given several times
    #[arg(long, value_name = "ADDRESS")]
    connect: Vec<String>,
    /// Whom to believe: the YAML block that `bus: NAME: trust:` takes, in a file of its own
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// End after so many messages
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
}

/// Prints messages until there were enough, or it is ended.
///
/// # Errors
/// A wrong site, trust block or address.
pub fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    super::log(common);
    let (config, trust) = watched(args)?;
    let verifier = trust.map(Verifier::open);
    if !common.quiet {
        let problems = verifier.iter().flat_map(|verifier| verifier.problems(now()));
        problems.for_each(|problem| eprintln!("warning: {problem}"));
    }
    let prefixes = Index::new([(args.topic.clone(), 0)]).prefixes();
    let pattern = args.topic.clone();
    let mut source = FedmsgSource::open(&config, Arc::new(move |topic| pattern.matches(topic)), prefixes)?;
    super::runtime()?.block_on(async {
        let mut left = args.count.unwrap_or(u64::MAX);
        while left > 0 {
            let at_most = usize::try_from(left).unwrap_or(BATCH_MESSAGES_MAX).min(BATCH_MESSAGES_MAX);
            let messages = source.next(at_most).await?;
            if messages.is_empty() {
                break;
            }
            left -= messages.len() as u64;
            for raw in &messages {
                out(&line(&Seen::new(raw, verifier.as_ref()), common.format));
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// What to connect to, and whom to believe: `--trust`, else the bus's own; nobody is asked where neither is given.
fn watched(args: &Args) -> anyhow::Result<(BusConfig, Option<TrustConfig>)> {
    let named = args.trust.as_ref().map(|path| file::load_trust(path)).transpose()?;
    if let Some(name) = &args.bus {
        let config = bus_of_site(name, &args.site)?;
        anyhow::ensure!(
            config.amqp.is_none(),
            "bus {name} is a queue: whoever reads it takes the messages away from the daemon\nhint: what came is in the journal: reactor list"
        );
        anyhow::ensure!(
            config.webhook.is_none(),
            "bus {name} is posted to: only the running daemon hears it\nhint: what came is in the journal: reactor list"
        );
        let trust = named.unwrap_or_else(|| config.trust.clone());
        return Ok((config, Some(trust)));
    }
    let config = BusConfig {
        name: "tail".into(),
        fedmsg: args.connect.clone(),
        discovery: Discovery::default(),
        amqp: None,
        webhook: None,
        topics: Vec::new(),
        trust: TrustConfig::default(),
        publish: None,
        queue_messages_max: QUEUE_MESSAGES_DEFAULT,
        confirm: Confirm::No,
        catch_up: None,
        silence: None,
    };
    Ok((config, named))
}

/// One message, as far as it can be told.
struct Seen<'a> {
    raw: &'a RawMessage,
    /// `valid`, `refused`, or `unchecked`.
    verdict: &'static str,
    signer: Option<String>,
    reason: Option<String>,
    id: Option<String>,
    msg: Value,
}

impl<'a> Seen<'a> {
    fn new(raw: &'a RawMessage, verifier: Option<&Verifier>) -> Self {
        let judged = verifier.map(|verifier| verifier.verify(raw, raw.received));
        if let Some(Ok(message)) = judged {
            let message = message.into_inner();
            let (signer, id, msg) = (Some(message.signer), Some(message.id), message.body);
            return Self { raw, verdict: "valid", signer, reason: None, id, msg };
        }
        // For people only: what is refused or unchecked goes nowhere else.
        let mut body: Value = serde_json::from_slice(&raw.body).unwrap_or(Value::Null);
        let id = body["msg_id"].as_str().map(str::to_owned);
        let msg = body.get_mut("msg").map_or(Value::Null, Value::take);
        match judged {
            Some(Err(refusal)) => {
                Self { raw, verdict: "refused", signer: refusal.signer, reason: Some(refusal.reason), id, msg }
            }
            _ => Self { raw, verdict: "unchecked", signer: None, reason: None, id, msg },
        }
    }
}

fn line(seen: &Seen<'_>, format: Format) -> String {
    match format {
        Format::Human => {
            let (time, topic) = (print::time(seen.raw.received), print::clean(&seen.raw.topic));
            let signer = print::clean(seen.signer.as_deref().unwrap_or(match seen.verdict {
                "unchecked" => "unchecked",
                _ => "nobody",
            }));
            let said = print::value(&seen.msg);
            match &seen.reason {
                Some(reason) => format!("{time} {topic} {signer} REFUSED ({}) {said}", print::clean(reason)),
                None => format!("{time} {topic} {signer} {said}"),
            }
        }
        Format::Json => json!({
            "received": seen.raw.received,
            "topic": seen.raw.topic,
            "verdict": seen.verdict,
            "signer": seen.signer,
            "reason": seen.reason,
            "id": seen.id,
            "msg": seen.msg,
        })
        .to_string(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::message::Form;

    fn raw(topic: &str, body: &str) -> RawMessage {
        RawMessage {
            bus: "b".into(),
            topic: topic.into(),
            body: body.into(),
            received: Timestamp::UNIX_EPOCH,
            token: 1,
            form: Form::Envelope,
        }
    }

    #[test]
    fn a_line_is_time_topic_signer_and_payload_without_control_characters() {
        let raw = raw("a.b", r#"{"topic":"a.b","msg":{"x":"\u001b[2J"},"msg_id":"7"}"#);
        let seen = Seen::new(&raw, None);
        assert_eq!(line(&seen, Format::Human), r#"1970-01-01 00:00:00Z a.b unchecked {"x":"\u001b[2J"}"#);
        let json: Value = serde_json::from_str(&line(&seen, Format::Json)).unwrap();
        assert_eq!(
            (&json["verdict"], &json["id"], &json["msg"]["x"]),
            (&json!("unchecked"), &json!("7"), &json!("\u{1b}[2J"))
        );
    }

    #[test]
    fn what_is_refused_says_why() {
        let raw = raw("a.b", r#"{"topic":"a.b","msg":1}"#);
        let shown = line(&Seen::new(&raw, Some(&Verifier::open(TrustConfig::default()))), Format::Human);
        assert!(shown.contains("a.b nobody REFUSED (it carries no signature) 1"), "{shown}");
    }
}
