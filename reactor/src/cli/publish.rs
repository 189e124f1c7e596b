//! `reactor publish`: puts one message on a bus: fedmsg, signed, or AMQP, confirmed by the broker. For trying a site, and for scripts that have something to say.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

use super::confirmed::Ear;
use super::{Common, Format, NO, now, out, site_paths};
use crate::bus::amqp;
use crate::bus::amqp::config::AmqpBus;
use crate::bus::amqp::connection::Broken;
use crate::bus::amqp::publish::{AmqpPublisher, Sent};
use crate::bus::publish::Publisher;
use crate::message::{BODY_BYTES_MAX, Topic};
use crate::rules::file;
use crate::rules::site::{BusConfig, PublishConfig};
use crate::trust::schemas::{BASE_SCHEMA, Schemas};
use crate::trust::sign::{Outgoing, Signer, unsigned_envelope};
use handler_api::units::{parse_duration, show_duration};

/// Shortest time that the connections may take on which an answer is waited for.
const LISTEN_MIN: Duration = Duration::from_secs(5);

/// Put a message on a bus
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(group(clap::ArgGroup::new("where").required(true).args(["bus", "bind", "connect"])))]
#[command(
    after_help = "Example: reactor publish --bus fedora org.fedoraproject.prod.fas.user.update '{\"user\": \"ralph\"}'
         reactor publish --bus fedora --wait=2m org.fedoraproject.prod.fas.user.update '{\"user\": \"ralph\"}'
         echo '{}' | reactor publish --connect tcp://relay:2001 --cert me.crt --key me.key org.example.x
On fedmsg it waits until somebody has subscribed to the topic: a message that nobody listens to is lost, and that is exit\ncode 1. On a bus with `amqp` it waits until the broker has the message; that no queue wants it is exit code 1 too (but with --listener 0s)."
)]
pub struct Args {
    /// The whole topic; on a bus with `amqp` its `topic_prefix` is put before it
    #[arg(value_name = "TOPIC", value_parser = |text: &str| Topic::new(text))]
    topic: Topic,
    /// The payload, JSON; `-` or nothing: read from stdin
    #[arg(value_name = "BODY", default_value = "-", hide_default_value = true)]
    body: String,
    /// Publish as this bus of the site says (its `publish` or `amqp` block)
    #[arg(long, value_name = "NAME")]
    bus: Option<String>,
    /// The site that --bus is in [default: /etc/reactor, else ./rules.yaml]
    #[arg(long, value_name = "FILE|DIR", requires = "bus")]
    site: Vec<PathBuf>,
    /// Bind this address, as a fedmsg service does, until the message is out: tcp://*:3000
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<String>,
    /// Connect to this inbound address of a fedmsg-relay: tcp://relay:2001
    #[arg(long, value_name = "ADDRESS")]
    connect: Option<String>,
    /// Sign with this certificate (PEM)…
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// …and its private key (PEM, not encrypted)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Do not sign
    #[arg(long, conflicts_with = "cert")]
    unsigned: bool,
    /// On a bus with `amqp`: the name of the body's schema, for the header fedora_messaging_schema. Where the bus has
    /// `schemas`, the body must fit
    #[arg(long, value_name = "NAME", requires = "bus")]
    schema: Option<String>,
    /// Longest wait for somebody to subscribe to the topic; 0s: publish at once, whoever listens. A subscriber may take
    /// ten seconds to come back to an address that was closed
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_duration)]
    listener: Duration,
    /// Then wait until a reactor says on the same bus what became of it, where its rules `confirm`; at most a minute, or
    /// --wait=TIME. Exit code: 0 done; 1 failed, held, dropped or only planned; 3 nobody said
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "60s", value_parser = parse_duration, requires = "bus")]
    wait: Option<Duration>,
}

/// Publishes the message and prints its id.
///
/// # Errors
/// A wrong body, key or address.
pub fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    ensure!(
        !args.topic.is_internal(),
        "{} is one of reactor's own topics, which no bus brings in\nhint: take another topic, as in org.example.test",
        args.topic
    );
    let bus = args.bus.as_ref().map(|name| bus_of_site(name, &args.site)).transpose()?;
    if let Some((bus, amqp)) = bus.as_ref().and_then(|bus| Some((bus, bus.amqp.as_ref()?))) {
        return to_broker(args, common, bus, amqp);
    }
    ensure!(args.schema.is_none(), "`--schema` is for a bus with `amqp`\nhint: leave it out");
    let (name, config) = where_to(args, bus.as_ref())?;
    let signer = signer(args, &config)?;
    let msg = body(&args.body)?;
    let id = message_id()?;
    let username = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "reactor".into());
    let outgoing = Outgoing {
        topic: args.topic.as_str(),
        msg: &msg,
        i: 1,
        msg_id: &id,
        timestamp_s: now().as_second(),
        username: &username,
    };
    let wire = match &signer {
        Some(signer) => signer.envelope(&outgoing).map_err(|why| anyhow!("{why}"))?,
        None => unsigned_envelope(&outgoing),
    };
    let ear = ear(args, bus.as_ref())?;
    let mut publisher = Publisher::open(&name, &config)?;
    if !args.listener.is_zero() && !publisher.wait_for_subscriber_of(args.topic.as_str(), args.listener)? {
        eprintln!(
            "error: nobody has subscribed to {} at {} within {}, so nothing was published\n\
             hint: does anyone connect there? reactor tail --connect ADDRESS; or --listener with a longer time",
            args.topic,
            publisher.address(),
            show_duration(args.listener)
        );
        return Ok(ExitCode::from(NO));
    }
    publisher.publish(args.topic.as_str(), &wire)?;
    let signed_by = signer.as_ref().map(Signer::name);
    out(&match common.format {
        Format::Human => id.clone(),
        Format::Json => {
            json!({"id": id, "topic": args.topic.as_str(), "address": publisher.address(), "signer": signed_by})
                .to_string()
        }
    });
    Ok(heard(ear, &id, args, common))
}

/// Listens for what becomes of the message, where that was asked for: before it is published, so that nothing is missed.
fn ear(args: &Args, bus: Option<&BusConfig>) -> anyhow::Result<Option<Ear>> {
    match (args.wait, bus) {
        (Some(_), Some(bus)) => Ear::open(bus, args.listener.max(LISTEN_MIN)).map(Some),
        _ => Ok(None),
    }
}

fn heard(ear: Option<Ear>, id: &str, args: &Args, common: &Common) -> ExitCode {
    match (ear, args.wait) {
        (Some(ear), Some(limit)) => ear.hear(id, limit, common),
        _ => ExitCode::SUCCESS,
    }
}

/// The body fits the schema that is named, where the bus has it; as fedora-messaging looks before it publishes.
fn check_schema(args: &Args, dir: Option<&Path>, body: &Value) -> anyhow::Result<()> {
    if let (Some(name), Some(dir)) = (&args.schema, dir) {
        let fits = Schemas::open(dir).check_body(name, body);
        fits.map_err(|why| anyhow!("{why}\nhint: {} has the schema", dir.join(format!("{name}.json")).display()))?;
    }
    Ok(())
}

/// As fedora-messaging does it: not signed, confirmed.
fn to_broker(args: &Args, common: &Common, whole: &BusConfig, bus: &AmqpBus) -> anyhow::Result<ExitCode> {
    let msg = body(&args.body)?;
    ensure!(
        msg.is_object(),
        "the body is not a JSON object, which fedora-messaging asks for\nhint: '{{\"user\": \"ralph\"}}'"
    );
    check_schema(args, whole.trust.schemas.as_deref(), &msg)?;
    let name = &whole.name;
    let (id, wire) = (random_uuid()?, serde_json::to_vec(&msg)?);
    let amqp = amqp::resolve(name, bus)?;
    // Why the broker lets us wait is told while we wait.
    super::log(common);
    let failed = |broken| anyhow!("bus {name} ({}): {broken}", amqp.url);
    let ear = ear(args, Some(whole))?;
    let topic = super::runtime()?.block_on(async {
        let mut publisher = AmqpPublisher::open(&amqp).await?;
        let (topic, schema) = (args.topic.as_str(), args.schema.as_deref().unwrap_or(BASE_SCHEMA));
        let sent =
            publisher.send(&amqp::publish::Outgoing { topic, id: &id, sent: now(), schema, body: &wire }).await?;
        let topic = publisher.whole_topic(topic);
        publisher.close().await;
        Ok::<_, Broken>((topic, sent))
    });
    let (topic, sent) = topic.map_err(failed)?;
    if sent == Sent::Unwanted && !args.listener.is_zero() {
        eprintln!(
            "error: no queue wants {topic}, so the broker has thrown the message away\n\
             hint: which bindings fit? rabbitmqctl list_bindings -p VHOST; or --listener 0s where nobody need listen"
        );
        return Ok(ExitCode::from(NO));
    }
    out(&match common.format {
        Format::Human => id.clone(),
        Format::Json => json!({"id": id, "topic": topic, "address": amqp.url.to_string(), "signer": null}).to_string(),
    });
    Ok(heard(ear, &id, args, common))
}

/// The bus's name, for errors, and how to publish on it.
fn where_to(args: &Args, bus: Option<&BusConfig>) -> anyhow::Result<(String, PublishConfig)> {
    let Some(config) = bus else {
        let (bind, connect) = (args.bind.clone(), args.connect.clone());
        return Ok(("publish".into(), PublishConfig { bind, connect, cert: None, key: None, prefix: None }));
    };
    let name = &config.name;
    let publish = config.publish.clone().ok_or_else(|| {
        anyhow!("bus {name} has no `publish` block\nhint: bus: {{{name}: {{publish: {{bind: tcp://*:9941, cert: FILE, key: FILE}}}}}}")
    })?;
    Ok((name.to_string(), publish))
}

/// One bus of the site.
pub(super) fn bus_of_site(name: &str, site: &[PathBuf]) -> anyhow::Result<BusConfig> {
    let paths = site_paths(site);
    let mut site = file::load(&paths)?;
    let known: Vec<_> = site.buses.keys().cloned().collect();
    site.buses.remove(name).ok_or_else(|| {
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        anyhow!("there is no bus `{name}` in {}\nhint: buses there: {known}", paths[0].display())
    })
}

fn signer(args: &Args, config: &PublishConfig) -> anyhow::Result<Option<Signer>> {
    if args.unsigned {
        return Ok(None);
    }
    match (args.cert.as_ref().or(config.cert.as_ref()), args.key.as_ref().or(config.key.as_ref())) {
        (Some(cert), Some(key)) => Ok(Some(Signer::open(cert, key).map_err(|why| anyhow!("{why}"))?)),
        _ => bail!(
            "there is nothing to sign with\nhint: --cert FILE --key FILE, or --unsigned where nobody asks for a signature"
        ),
    }
}

fn body(given: &str) -> anyhow::Result<Value> {
    let mut text = given.to_owned();
    if given == "-" {
        text.clear();
        let most = BODY_BYTES_MAX as u64 + 1;
        std::io::stdin().lock().take(most).read_to_string(&mut text).context("the body can't be read from stdin")?;
    }
    ensure!(text.len() <= BODY_BYTES_MAX, "the body has more than {BODY_BYTES_MAX} bytes");
    serde_json::from_str(&text).context("the body is not JSON\nhint: quote it for the shell: '{\"user\": \"ralph\"}'")
}

/// `YEAR-UUID`, as fedmsg makes them (`fedmsg/core.py`).
fn message_id() -> anyhow::Result<String> {
    Ok(format!("{}-{}", now().strftime("%Y"), random_uuid()?))
}

/// A random UUID (RFC 9562, version 4).
pub(super) fn random_uuid() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow!("the system gives no random numbers"))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let part =
        |range: std::ops::Range<usize>| bytes[range].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok([part(0..4), part(4..6), part(6..8), part(8..10), part(10..16)].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_year_and_a_random_uuid() {
        let (one, other) = (message_id().unwrap(), message_id().unwrap());
        assert_ne!(one, other);
        let parts: Vec<&str> = one.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [4, 8, 4, 4, 4, 12]);
        assert!(parts[3].starts_with('4') && "89ab".contains(&parts[4][..1]), "{one}");
    }

    #[test]
    fn a_body_is_any_json_and_nothing_else() {
        assert_eq!(body("{\"a\": 1}").unwrap(), json!({"a": 1}));
        assert_eq!(body("[]").unwrap(), json!([]));
        assert!(body("user: ralph").unwrap_err().to_string().contains("hint: quote it"));
    }
}
