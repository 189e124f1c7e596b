//! Publishing on an AMQP bus: one message after the other, each confirmed by the broker before the next.

use jiff::Timestamp;

use super::config::Amqp;
use super::connection::{Broken, Connection, shown, within};
use super::methods::{self, CONFIRM_SELECT_OK, Said};
use super::properties;
use crate::message::{BODY_BYTES_MAX, TOPIC_BYTES_MAX};
use crate::trust::schemas::BASE_SCHEMA;

/// Longest wait for the broker to say that it has a message, in seconds; as fedora-messaging's.
pub const CONFIRM_SECONDS_MAX: u64 = 30;

/// What goes out.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Its topic, without the site's prefix.
    pub topic: &'a str,
    /// Its id.
    pub id: &'a str,
    /// When it happened.
    pub sent: Timestamp,
    /// The name of its schema; [`BASE_SCHEMA`] where it has none.
    pub schema: &'a str,
    /// A JSON object, at most [`BODY_BYTES_MAX`].
    pub body: &'a [u8],
}

/// What became of a message that the broker has confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is in a queue at least.
    Queued,
    /// No queue wants it: nobody will ever get it.
    Unwanted,
}

/// A connection for publishing. Dropping it ends the connection.
pub struct AmqpPublisher {
    connection: Connection,
    exchange: String,
    prefix: String,
    priority: Option<u8>,
}

impl AmqpPublisher {
    /// Connects and logs in.
    ///
    /// # Errors
    /// Why not.
    pub async fn open(amqp: &Amqp) -> Result<Self, Broken> {
        let mut connection = Connection::connect(amqp).await?;
        within(CONFIRM_SECONDS_MAX, connection.call(&methods::confirm_select(), CONFIRM_SELECT_OK)).await?;
        let (exchange, prefix) = (amqp.publish_exchange.clone(), amqp.topic_prefix.clone());
        Ok(Self { connection, exchange, prefix, priority: amqp.publish_priority })
    }

    /// The topic as it goes out: with the site's prefix.
    #[must_use]
    pub fn whole_topic(&self, topic: &str) -> String {
        if self.prefix.is_empty() { topic.to_owned() } else { format!("{}.{topic}", self.prefix) }
    }

    /// [`AmqpPublisher::send`] of a message of fedora-messaging's base class.
    ///
    /// # Errors
    /// As there.
    pub async fn publish(&mut self, topic: &str, id: &str, sent: Timestamp, body: &[u8]) -> Result<Sent, Broken> {
        self.send(&Outgoing { topic, id, sent, schema: BASE_SCHEMA, body }).await
    }

    /// Publishes one message and waits until the broker has it. While the broker takes none (`connection.blocked`, as when its
    /// disk is full) it waits as long, and goes on by itself.
    ///
    /// # Errors
    /// That it is too large, or the broker did not take it, or did not say so within [`CONFIRM_SECONDS_MAX`]: then it
    /// may have it all the same.
    pub async fn send(&mut self, message: &Outgoing<'_>) -> Result<Sent, Broken> {
        let topic = self.whole_topic(message.topic);
        if topic.len() > TOPIC_BYTES_MAX || message.body.len() > BODY_BYTES_MAX {
            let (topic_bytes, body_bytes) = (topic.len(), message.body.len());
            return Err(format!("a topic of {topic_bytes} bytes and a body of {body_bytes}; at most {TOPIC_BYTES_MAX} and {BODY_BYTES_MAX} are published").into());
        }
        let properties = properties::outgoing(message.id, message.sent, message.schema, self.priority);
        let most = self.connection.frame_bytes_max;
        let frames = methods::publish(&self.exchange, &topic, properties, message.body, most);
        let confirmed = async {
            self.connection.send_all(&frames).await?;
            let mut sent = Sent::Queued;
            loop {
                match self.connection.said().await? {
                    Said::Confirmed => return Ok(sent),
                    Said::Returned => sent = Sent::Unwanted,
                    Said::NotTaken => return Err("the broker could not take the message".to_owned().into()),
                    _ => return Err("the broker did not confirm the message".to_owned().into()),
                }
            }
        };
        let confirmed = within(CONFIRM_SECONDS_MAX, confirmed).await;
        confirmed.map_err(|late| match &self.connection.blocked {
            Some(reason) => Broken {
                why: format!("the broker takes no messages now ({}): {}", shown(reason), late.why),
                hint: Some(
                    "rabbitmqctl status says its alarms (disk, memory); when they are over it may still take this one",
                ),
            },
            None => late,
        })
    }

    /// Says goodbye.
    pub async fn close(self) {
        self.connection.close().await;
    }
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
