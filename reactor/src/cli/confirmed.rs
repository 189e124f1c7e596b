//! `reactor publish --wait`: listens for what a reactor publishes of a message (`confirm`), and tells it.

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use handler_api::units::show_duration;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::{Common, Format, NO, now, out, print};
use crate::bus::amqp::config::{AmqpBus, Binding, Queue, Settings};
use crate::bus::amqp::{self, AmqpSource};
use crate::bus::fedmsg::FedmsgSource;
use crate::bus::{Counters, Source, Wants};
use crate::engine::core::tells_of_outcome;
use crate::message::{Message, RawMessage};
use crate::rules::site::BusConfig;
use crate::trust::Verifier;

/// Exit code: nobody said in time what became of the message.
pub const NO_ANSWER: u8 = 3;
/// Messages of the bus that wait to be looked at.
const WAITING_MAX: usize = 1_000;
/// Between two looks whether the bus is connected, in milliseconds.
const LOOK_MS: u64 = 10;

/// Listens on a bus.
pub struct Ear {
    runtime: Runtime,
    heard: mpsc::Receiver<RawMessage>,
    verifier: Verifier,
    counters: Arc<Counters>,
    bus: String,
    /// Connections that it takes to hear all of the bus.
    connections: u64,
    /// Whether it is a broker that brings what is said.
    is_broker: bool,
}

/// What was said of one message.
#[derive(Debug, Default)]
struct Told {
    /// Of each reaction that the message itself led to, its state.
    states: BTreeMap<String, String>,
    /// How many of those there are.
    rules: usize,
    seen: HashSet<String>,
}

impl Told {
    fn is_all(&self) -> bool {
        self.rules > 0 && self.states.len() >= self.rules
    }

    /// Takes a message in, if it tells of `id` and is news.
    fn take(&mut self, message: &Message, id: &str) -> bool {
        let body = &message.body;
        let is_of_it = body["messages"].as_array().is_some_and(|ids| ids.iter().any(|one| one == id));
        if !is_of_it || !self.seen.insert(message.id.clone()) {
            return false;
        }
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        // What an apply left for later is told of too, but nobody knows how much of it there will be.
        if body["parent"].is_null() {
            self.states.insert(text("reaction"), text("state"));
            let rules = body["rules"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
            self.rules = self.rules.max(rules);
        }
        true
    }
}

impl Ear {
    /// Subscribes, and waits until it can hear.
    ///
    /// # Errors
    /// When the site does not say where to listen and whom to believe, or nobody is there within `limit`.
    pub fn open(config: &BusConfig, limit: Duration) -> anyhow::Result<Self> {
        anyhow::ensure!(
            config.listens() && config.webhook.is_none(),
            "bus {} does not say where to listen, so nobody can be heard there\nhint: add `fedmsg: [tcp://HOST:PORT]` with the address that the reactor publishes on, or `trust: {{broker: accept}}` beside `amqp`",
            config.name
        );
        let config = &listed(config)?;
        let runtime = super::runtime()?;
        let (tell, heard) = mpsc::channel(WAITING_MAX);
        let (source, connections) = runtime.block_on(async { source(config) })?;
        let counters = source.counters();
        runtime.spawn(listen(source, tell));
        let verifier = Verifier::open(config.trust.clone());
        let (bus, is_broker) = (config.name.to_string(), config.amqp.is_some());
        let ear = Self { runtime, heard, verifier, counters, bus, connections, is_broker };
        ear.ready(limit)?;
        Ok(ear)
    }

    /// Waits until all connections are there; with some of them it goes on, and says so.
    fn ready(&self, limit: Duration) -> anyhow::Result<()> {
        let connected = || {
            let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            of(&self.counters.connects).saturating_sub(of(&self.counters.disconnects))
        };
        let began = Instant::now();
        while connected() < self.connections && began.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(LOOK_MS));
        }
        match connected() {
            0 => Err(anyhow!(
                "bus {}: nobody can be heard there within {}, so nothing was published{}\nhint: {}; or publish without --wait",
                self.bus,
                show_duration(limit),
                self.counters.trouble().map(|why| format!(": {why}")).unwrap_or_default(),
                if self.is_broker { "reactor doctor".to_owned() } else { format!("reactor tail --bus {}", self.bus) }
            )),
            n if n < self.connections => {
                eprintln!("warning: bus {}: {n} of {} addresses are connected", self.bus, self.connections);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Prints what is said of the message `id` within `limit`: [`ExitCode::SUCCESS`] when all of it is done, [`NO`] when any of
    /// it is not, [`NO_ANSWER`] when not all was said.
    pub fn hear(mut self, id: &str, limit: Duration, common: &Common) -> ExitCode {
        let until = tokio::time::Instant::now() + limit;
        let mut told = Told::default();
        while !told.is_all() {
            let heard = &mut self.heard;
            let next = self.runtime.block_on(async { tokio::time::timeout_at(until, heard.recv()).await });
            let Ok(Some(raw)) = next else {
                self.say_nobody(id, limit, &told);
                return ExitCode::from(NO_ANSWER);
            };
            match self.verifier.verify(&raw, now()) {
                Ok(message) => {
                    let message = message.into_inner();
                    if told.take(&message, id) {
                        out(&line(&message, common.format));
                    }
                }
                Err(refusal) if String::from_utf8_lossy(&raw.body).contains(id) => {
                    eprintln!(
                        "warning: this was said of it, and is not believed: {} {}\nhint: `trust` of bus {} says who may say what",
                        print::clean(&raw.topic),
                        print::clean(&refusal.reason),
                        self.bus
                    );
                }
                Err(_) => {}
            }
        }
        if told.states.values().all(|state| state == "done") { ExitCode::SUCCESS } else { ExitCode::from(NO) }
    }

    fn say_nobody(&self, id: &str, limit: Duration, told: &Told) {
        let heard = match told.states.len() {
            0 => "nobody said what became of it".to_owned(),
            n => format!("of {} reactions {n} were told of", told.rules),
        };
        let place = match self.is_broker {
            true => "does it publish on the same exchange as bus",
            false => "is its address in `fedmsg` of bus",
        };
        eprintln!(
            "error: {heard} within {}: {id}\nhint: has the rule `confirm: true` at the reactor, and {place} {}? There: reactor list, reactor status",
            show_duration(limit),
            self.bus
        );
    }
}

/// The same bus with all its addresses listed: only then can be known whether all of them are connected.
fn listed(config: &BusConfig) -> anyhow::Result<BusConfig> {
    let mut config = config.clone();
    for (place, answer) in std::mem::take(&mut config.discovery).ask() {
        match answer {
            Ok(addresses) => config.fedmsg.extend(addresses),
            Err(why) => eprintln!("warning: bus {}: {place}: {why}", config.name),
        }
    }
    config.fedmsg.sort_unstable();
    config.fedmsg.dedup();
    anyhow::ensure!(
        config.amqp.is_some() || !config.fedmsg.is_empty(),
        "bus {}: no address to listen to was found, so nothing was published\nhint: reactor doctor SITE asks the same places; or publish without --wait",
        config.name
    );
    Ok(config)
}

/// What to read, and how many connections that makes.
fn source(config: &BusConfig) -> anyhow::Result<(Box<dyn Source>, u64)> {
    let wants: Wants = Arc::new(tells_of_outcome);
    if let Some(bus) = &config.amqp {
        let mut amqp = amqp::resolve(&config.name, bus)?;
        // A queue of our own beside those of the daemon, gone with this connection.
        let queue = Queue { exclusive: true, auto_delete: true, ..Queue::default() };
        let name = super::publish::random_uuid()?;
        amqp.queues = BTreeMap::from([(name, queue)]);
        // It is not there yet, whatever those of the daemon are; and what is to be read is there.
        (amqp.passive_declares, amqp.exchanges) = (false, BTreeMap::new());
        let routing_keys = vec!["#.reactor.reaction.*".to_owned()];
        amqp.bindings = vec![Binding { exchange: amqp.publish_exchange.clone(), queue: None, routing_keys }];
        let own = AmqpBus { settings: Settings::Words(Box::new(amqp)), password: None };
        return Ok((Box::new(AmqpSource::open(&config.name, &own, wants)?), 1));
    }
    let source = FedmsgSource::open(config, wants, vec![String::new()])?;
    Ok((Box::new(source), config.fedmsg.len() as u64))
}

async fn listen(mut source: Box<dyn Source>, tell: mpsc::Sender<RawMessage>) {
    while let Ok(raws) = source.next(WAITING_MAX).await {
        let tokens: Vec<u64> = raws.iter().map(|raw| raw.token).collect();
        if raws.is_empty() || source.ack(&tokens).await.is_err() {
            return;
        }
        for raw in raws {
            if tell.send(raw).await.is_err() {
                return;
            }
        }
    }
}

fn line(message: &Message, format: Format) -> String {
    let body = &message.body;
    match format {
        Format::Json => json!({
            "id": message.id, "topic": message.topic.as_str(), "sent": message.sent, "signer": message.signer, "msg": body,
        })
        .to_string(),
        Format::Human => {
            let of = |name: &str| print::clean(body[name].as_str().unwrap_or_default());
            let reason = if body["reason"].is_string() { format!(": {}", of("reason")) } else { String::new() };
            let later = match &body["later"] {
                Value::Number(n) if n.as_u64() != Some(0) => format!("; {n} parts of it go on later"),
                _ => String::new(),
            };
            let (state, rule, key) = (of("state"), of("rule"), of("key"));
            let signer = print::clean(&message.signer);
            format!("{state}: {rule} [{key}]{reason}{later}; reaction {}, says {signer}", of("reaction"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Topic;

    fn said(id: &str, body: Value) -> Message {
        Message {
            id: id.into(),
            topic: Topic::new("org.example.reactor.reaction.done").unwrap(),
            sent: jiff::Timestamp::UNIX_EPOCH,
            bus: "b".into(),
            signer: "reactor.example.org".into(),
            body,
            headers: serde_json::Map::new(),
        }
    }

    #[test]
    fn addresses_that_are_asked_for_are_waited_for_like_those_that_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let site = "version: 1\nbus:\n  b:\n    fedmsg: {config: e.json, addresses: ['tcp://a:1']}\n    trust: {unsigned: accept, unlisted: accept}\n";
        std::fs::write(dir.path().join("site.yaml"), site).unwrap();
        let found = |endpoints: &str| {
            std::fs::write(dir.path().join("e.json"), endpoints).unwrap();
            let bus = super::super::publish::bus_of_site("b", &[dir.path().join("site.yaml")]).unwrap();
            listed(&bus).unwrap()
        };
        let bus = found(r#"{"endpoints": {"x": ["tcp://b:1", "tcp://a:1"]}}"#);
        assert_eq!(
            (bus.fedmsg.as_slice(), bus.discovery.is_empty()),
            (&["tcp://a:1".into(), "tcp://b:1".into()][..], true)
        );
        assert_eq!(found("{").fedmsg, ["tcp://a:1"], "the rest is said");
    }

    #[test]
    fn it_ends_when_every_rule_that_confirms_has_spoken() {
        let mut told = Told::default();
        let of = |reaction: &str, state: &str| json!({"messages": ["a", "b"], "rules": 2, "reaction": reaction, "state": state});
        assert!(!told.take(&said("1", of("R1", "done")), "c"), "not of it");
        assert!(told.take(&said("1", of("R1", "done")), "b") && !told.is_all());
        assert!(!told.take(&said("1", of("R1", "done")), "b"), "the same, sent twice");
        let part = json!({"messages": ["b"], "rules": 2, "reaction": "P", "parent": "R1", "state": "done"});
        assert!(told.take(&said("2", part), "b") && !told.is_all(), "a part is told of, but not waited for");
        assert!(told.take(&said("3", of("R2", "held")), "b") && told.is_all());
    }
}
