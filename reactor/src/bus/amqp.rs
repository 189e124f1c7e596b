//! fedora-messaging over RabbitMQ (AMQP 0-9-1): queues that are read with acknowledgements. A delivery is acknowledged when
//! the journal holds it, and never sent back: what can't be a message is handed over too, so that it is refused and kept
//! with its reason, and then acknowledged. It never parses a body.
//!
//! Any error ends the connection, and a new one is made: at once after a good one, else after half a second, doubled up to
//! 15 s. Deliveries that were not acknowledged come again then, and are known by their id.
//!
//! * `config`: what the site or a file of fedora-messaging says; `url`
//! * `connection`, `tls`: log in, frames; `consumer`: reading queues, on a task; `publish`: one message, confirmed;
//!   `look`: for `doctor`
//! * `wire`, `methods`, `properties`, `again`: pure

pub mod again;
pub mod config;
pub mod connection;
mod consumer;
pub mod look;
pub mod methods;
pub mod properties;
pub mod publish;
#[cfg(test)]
mod stand_in;
mod tls;
pub mod url;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::again::{Acks, Backoff};
use self::config::{Amqp, AmqpBus, Settings};
use self::connection::Broken;
use self::consumer::{Consumer, Delivery, News};
use super::queue::QUEUE_BYTES_MAX;
use super::{BoxFuture, BusError, Counters, Source, Wants, clock};
use crate::message::{Form, RawMessage, Unsigned};

/// The same trouble is logged again only after so long.
const TROUBLE_SAID_EVERY: Duration = Duration::from_secs(300);

/// The source of one AMQP bus.
pub struct AmqpSource {
    bus: Arc<str>,
    from: AmqpBus,
    wants: Wants,
    counters: Arc<Counters>,
    link: Option<Link>,
    backoff: Backoff,
    /// The highest token that was handed out: what is not above it belongs to an older connection.
    token_max: u64,
    said: Option<(Instant, String)>,
}

/// A connection that is read.
struct Link {
    consumer: Consumer,
    acks: Acks,
    /// A delivery's token is this and its tag.
    token_base: u64,
    since: Instant,
    /// Whether every queue was read: whoever never got so far has not lost what others count as a connection.
    consumed: bool,
}

impl AmqpSource {
    /// Reads what `from` names. The broker itself may come later: it is tried again.
    ///
    /// # Errors
    /// When a file can't be read or says what can't work.
    pub fn open(bus: &Arc<str>, from: &AmqpBus, wants: Wants) -> Result<Self, BusError> {
        let amqp = resolve(bus, from)?;
        if amqp.keeps_nothing() {
            tracing::warn!(bus = %bus, "it names no queue, so what is sent while reactor is away is lost\nhint: name one under `queues`, durable where the broker allows it");
        }
        Ok(Self {
            bus: bus.clone(),
            from: from.clone(),
            wants,
            counters: Arc::default(),
            link: None,
            backoff: Backoff::default(),
            token_max: 0,
            said: None,
        })
    }

    async fn batch(&mut self, at_most: usize) -> Vec<RawMessage> {
        loop {
            let Some(link) = &mut self.link else {
                tokio::time::sleep(self.backoff.wait()).await;
                // The files are read again: a renewed password or certificate needs no restart.
                let opened = match self.from.resolve() {
                    Ok(amqp) => Consumer::open(&amqp).await,
                    Err(why) => Err(why.into()),
                };
                match opened {
                    Ok(consumer) => self.begin(consumer),
                    Err(broken) => self.trouble(&format!("no connection to the broker: {broken}")),
                }
                continue;
            };
            let news = link.consumer.next().await;
            let batch = self.take(news, at_most);
            if !batch.is_empty() {
                return batch;
            }
        }
    }

    fn begin(&mut self, consumer: Consumer) {
        let (acks, since) = (Acks::default(), Instant::now());
        self.link = Some(Link { consumer, acks, token_base: self.token_max, since, consumed: false });
    }

    /// Takes news in, and what else is there already, but no more than [`QUEUE_BYTES_MAX`]; what of it is wanted.
    fn take(&mut self, first: News, at_most: usize) -> Vec<RawMessage> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(news) = next {
            match news {
                News::Consuming => self.consuming(),
                News::Delivery(delivery) => {
                    bytes += delivery.bytes;
                    batch.extend(self.delivered(*delivery));
                }
                News::Broken(broken) => {
                    self.lost(&broken);
                    break;
                }
            }
            let has_room = batch.len() < at_most && bytes < QUEUE_BYTES_MAX;
            next = if has_room { self.link.as_mut().and_then(|link| link.consumer.try_next()) } else { None };
        }
        self.acknowledge();
        batch
    }

    fn consuming(&mut self) {
        if let Some(link) = &mut self.link {
            link.consumed = true;
        }
        Counters::add(&self.counters.connects, 1);
        self.said = None;
        self.counters.set_trouble(None);
        tracing::info!(bus = %self.bus, "connected to the broker, its queues are read");
    }

    /// A delivery, if anyone wants it.
    fn delivered(&mut self, delivery: Delivery) -> Option<RawMessage> {
        let link = self.link.as_mut()?;
        Counters::add(&self.counters.received, 1);
        let topic = String::from_utf8_lossy(&delivery.routing_key).into_owned();
        if !(self.wants)(&topic) {
            Counters::add(&self.counters.unwanted, 1);
            link.acks.done(delivery.tag);
            return None;
        }
        let is_text = std::str::from_utf8(&delivery.routing_key).is_ok();
        let properties = if is_text { delivery.properties } else { Err("its routing key is not UTF-8".to_owned()) };
        let token = link.token_base + delivery.tag;
        self.token_max = self.token_max.max(token);
        if properties.is_err() {
            Counters::add(&self.counters.malformed, 1);
        }
        let form = Form::Amqp(Box::new(properties.map(|properties| Unsigned {
            id: properties.id,
            encoding: properties.encoding,
            headers: properties.headers,
        })));
        Some(RawMessage { bus: self.bus.clone(), topic, body: delivery.body, received: clock(), token, form })
    }

    /// Tells the broker what it may forget.
    fn acknowledge(&mut self) {
        if let Some(link) = &mut self.link
            && let Some(tag) = link.acks.take()
        {
            link.consumer.ack_up_to(tag);
        }
    }

    fn lost(&mut self, broken: &Broken) {
        if let Some(link) = self.link.take() {
            self.backoff.lost_after(link.since.elapsed());
            Counters::add(&self.counters.disconnects, u64::from(link.consumed));
        }
        self.trouble(&format!("the connection to the broker is lost: {broken}"));
    }

    /// Says what keeps the bus from being read: in `status` always, in the log when it is news.
    fn trouble(&mut self, why: &str) {
        let now = Instant::now();
        let is_news = self.said.as_ref().is_none_or(|(at, said)| said != why || now - *at >= TROUBLE_SAID_EVERY);
        if is_news {
            tracing::error!(bus = %self.bus, "{why}");
            self.said = Some((now, why.to_owned()));
        }
        self.counters.set_trouble(Some(why.lines().next().unwrap_or_default().to_owned()));
    }
}

/// What a bus's block and the files that it names say.
///
/// # Errors
/// Which file can't be read, or what in it can't work.
pub fn resolve(bus: &str, from: &AmqpBus) -> Result<Amqp, BusError> {
    from.resolve().map_err(|why| BusError::Config {
        bus: bus.to_owned(),
        why,
        hint: match &from.settings {
            Settings::File(path) => {
                format!("the form of the file is that of fedora-messaging: ls -l {}", path.display())
            }
            Settings::Words(_) => "docs/amqp.md has the words of `amqp`".into(),
        },
    })
}

impl Source for AmqpSource {
    fn next(&mut self, at_most: usize) -> BoxFuture<'_, Result<Vec<RawMessage>, BusError>> {
        Box::pin(async move { Ok(self.batch(at_most).await) })
    }

    /// Tokens of a connection that is gone are nothing to this one: those deliveries come again, and are known by their id.
    fn ack<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            if let Some(link) = &mut self.link {
                let base = link.token_base;
                tokens.iter().filter_map(|token| token.checked_sub(base)).for_each(|tag| link.acks.done(tag));
            }
            self.acknowledge();
            Ok(())
        })
    }

    fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }
}

#[cfg(test)]
#[path = "amqp/source_tests.rs"]
mod tests;
