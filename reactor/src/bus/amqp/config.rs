//! What there is to know for an AMQP bus: from the words of `rules.yaml`, or from a file of fedora-messaging
//! (`fedora_messaging/config.py`), which is read as it is.
//!
//! Of that file `callback`, `consumer_config`, `log_config`, `monitoring` and `qos.prefetch_size` are for the Python consumer
//! and are not used; a key that is unknown there is an error here too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::url::Url;
use crate::rules::masked::masked;

/// Largest file of fedora-messaging, or of a password, in bytes.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Messages that a broker sends before it waits for acknowledgements, where the site does not say.
pub const PREFETCH_MESSAGES_DEFAULT: u16 = 200;
/// What the file of fedora-messaging is called where a site names it.
pub const FILE_WHAT: &str = "the configuration of fedora-messaging";
/// The exchange of fedora-messaging.
pub const EXCHANGE_DEFAULT: &str = "amq.topic";
/// Most queues, exchanges or bindings.
pub const ENTRIES_MAX: usize = 1_000;

/// `bus.NAME.amqp`, as the site says it.
#[derive(Clone, Debug, PartialEq)]
pub struct AmqpBus {
    /// Where the rest stands.
    pub settings: Settings,
    /// The file that the password is in; else it is in the URL.
    pub password: Option<PathBuf>,
}

/// Where the settings of an AMQP bus stand.
#[derive(Clone, Debug, PartialEq)]
pub enum Settings {
    /// In a file of fedora-messaging.
    File(PathBuf),
    /// In `rules.yaml`.
    Words(Box<Amqp>),
}

/// How to reach a broker, and what to ask it for.
#[derive(Clone, Debug, PartialEq)]
pub struct Amqp {
    /// Where, and as whom.
    pub url: Url,
    /// Certificates; used where the URL is `amqps`.
    pub tls: Tls,
    /// Whether queues and exchanges must be there already.
    pub passive_declares: bool,
    /// Exchanges to declare, by name.
    pub exchanges: BTreeMap<String, Exchange>,
    /// Queues to declare and read, by name. None = one that the broker names, and that ends with the connection.
    pub queues: BTreeMap<String, Queue>,
    /// What comes into the queues.
    pub bindings: Vec<Binding>,
    /// Messages that the broker sends before it waits for acknowledgements, per queue.
    pub prefetch_messages: u16,
    /// Put before the topic of what we publish, with a dot.
    pub topic_prefix: String,
    /// Where we publish.
    pub publish_exchange: String,
    /// The priority of what we publish.
    pub publish_priority: Option<u8>,
    /// What the broker's operator sees of us.
    pub client_properties: BTreeMap<String, String>,
}

impl Amqp {
    /// The defaults, for this address.
    #[must_use]
    pub fn at(url: Url) -> Self {
        Self {
            url,
            tls: Tls::default(),
            passive_declares: false,
            exchanges: BTreeMap::new(),
            queues: BTreeMap::new(),
            bindings: vec![Binding { exchange: EXCHANGE_DEFAULT.into(), queue: None, routing_keys: vec!["#".into()] }],
            prefetch_messages: PREFETCH_MESSAGES_DEFAULT,
            topic_prefix: String::new(),
            publish_exchange: EXCHANGE_DEFAULT.into(),
            publish_priority: None,
            client_properties: BTreeMap::new(),
        }
    }

    /// The first thing that can't work, in words.
    ///
    /// # Errors
    /// That there is one.
    pub fn check(&self) -> Result<(), String> {
        let unknown = self.bindings.iter().filter_map(|binding| binding.queue.as_ref());
        if let Some(queue) = unknown.into_iter().find(|queue| !self.queues.contains_key(*queue)) {
            return Err(format!("a binding names the queue `{queue}`, which is not in `queues`"));
        }
        for (what, n) in
            [("queues", self.queues.len()), ("exchanges", self.exchanges.len()), ("bindings", self.bindings.len())]
        {
            if n > ENTRIES_MAX {
                return Err(format!("{n} {what}; at most {ENTRIES_MAX} are allowed"));
            }
        }
        let keys = self.bindings.iter().flat_map(|binding| binding.routing_keys.iter().chain([&binding.exchange]));
        let names = self.queues.keys().chain(self.exchanges.keys()).chain([&self.publish_exchange, &self.topic_prefix]);
        match keys.chain(names).chain(self.client_properties.keys()).find(|name| name.len() > 255) {
            Some(name) => Err(format!("a name has {} bytes, at most 255 are allowed in AMQP", name.len())),
            None => Ok(()),
        }
    }

    /// Whether what is sent while we are away is kept by no queue.
    #[must_use]
    pub fn keeps_nothing(&self) -> bool {
        self.queues.is_empty()
    }
}

/// `tls`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The CA that the broker's certificate must come from (PEM); without it, the system's.
    pub ca_cert: Option<PathBuf>,
    /// Our certificate (PEM): with it and its key one logs in as its CN (SASL EXTERNAL).
    pub certfile: Option<PathBuf>,
    /// Its private key (PEM).
    pub keyfile: Option<PathBuf>,
}

/// `queues.NAME`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// Whether it outlives a restart of the broker.
    pub durable: bool,
    /// Whether it ends with its last consumer.
    pub auto_delete: bool,
    /// Whether it ends with its connection, and only that may read it.
    pub exclusive: bool,
    /// `x-max-length` and the like.
    pub arguments: Map<String, Value>,
}

/// `exchanges.NAME`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// `topic`, `fanout`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it outlives a restart of the broker.
    pub durable: bool,
    /// Whether it ends with its last queue.
    pub auto_delete: bool,
    /// Its arguments.
    pub arguments: Map<String, Value>,
}

/// One of `bindings`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// From which exchange.
    pub exchange: String,
    /// Into which queue; without it, into each.
    pub queue: Option<String>,
    /// Which topics: `*` is one word, `#` any number of words.
    pub routing_keys: Vec<String>,
}

/// The file as `toml` reads it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    amqp_url: Option<String>,
    passive_declares: Option<bool>,
    #[serde(default)]
    tls: Tls,
    exchanges: Option<BTreeMap<String, Exchange>>,
    queues: Option<BTreeMap<String, Queue>>,
    bindings: Option<Vec<Binding>>,
    #[serde(default)]
    qos: Qos,
    topic_prefix: Option<String>,
    publish_exchange: Option<String>,
    publish_priority: Option<u8>,
    #[serde(default)]
    client_properties: BTreeMap<String, String>,
    #[serde(rename = "callback")]
    _callback: Option<IgnoredAny>,
    #[serde(rename = "consumer_config")]
    _consumer_config: Option<IgnoredAny>,
    #[serde(rename = "log_config")]
    _log_config: Option<IgnoredAny>,
    #[serde(rename = "monitoring")]
    _monitoring: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Qos {
    prefetch_count: Option<u16>,
    #[serde(rename = "prefetch_size")]
    _prefetch_size: Option<IgnoredAny>,
}

/// Reads the text of a file of fedora-messaging. What it does not say is as there: `amqp://` on this machine, every message of
/// `amq.topic`.
///
/// # Errors
/// What is wrong and where, never with a line of the file: the password may be in it.
pub fn of_toml(text: &str) -> Result<Amqp, String> {
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        // A message may quote a value.
        format!("{place}{}", masked(error.message()))
    })?;
    let url = Url::parse(file.amqp_url.as_deref().unwrap_or("amqp://")).map_err(|why| format!("`amqp_url`: {why}"))?;
    let mut amqp = Amqp::at(url);
    amqp.tls = file.tls;
    amqp.passive_declares = file.passive_declares.unwrap_or_default();
    amqp.exchanges = file.exchanges.unwrap_or_default();
    amqp.queues = file.queues.unwrap_or_default();
    amqp.bindings = file.bindings.unwrap_or(amqp.bindings);
    // There, a binding without a queue is for the one that the broker names (`fedora_messaging/twisted/factory.py`); what
    // comes into the others may have been said on the broker alone.
    if !amqp.queues.is_empty() {
        amqp.bindings.retain(|binding| binding.queue.is_some());
    }
    amqp.prefetch_messages = match file.qos.prefetch_count {
        Some(0) => return Err("`qos.prefetch_count` is 0, which is no limit: write one, as in 200".into()),
        count => count.unwrap_or(PREFETCH_MESSAGES_DEFAULT),
    };
    amqp.topic_prefix = file.topic_prefix.unwrap_or_default();
    amqp.publish_exchange = file.publish_exchange.unwrap_or(amqp.publish_exchange);
    amqp.publish_priority = file.publish_priority;
    amqp.client_properties = file.client_properties;
    amqp.check()?;
    Ok(amqp)
}

impl AmqpBus {
    /// Reads the files that it names.
    ///
    /// # Errors
    /// Which file, and what is wrong with it; never with its content.
    pub fn resolve(&self) -> Result<Amqp, String> {
        let mut amqp = match &self.settings {
            Settings::Words(amqp) => Amqp::clone(amqp),
            Settings::File(path) => of_toml(&read(path)?).map_err(|why| format!("{}: {why}", path.display()))?,
        };
        if let Some(path) = &self.password {
            amqp.url.password = read(path)?.trim_end_matches(['\r', '\n']).to_owned();
        }
        Ok(amqp)
    }
}

/// A small text file.
///
/// # Errors
/// Why it can't be read.
pub fn read(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let wrong = |why: &dyn std::fmt::Display| format!("{} can't be read: {why}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(wrong(&format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
