//! Publishing on an AMQP bus: one message after the other, each confirmed by the broker before the next.

use jiff::Timestamp;

use super::config::Amqp;
use super::connection::{Broken, Connection, within};
use super::methods::{self, CONFIRM_SELECT_OK, Said};
use super::properties;
use crate::message::{BODY_BYTES_MAX, TOPIC_BYTES_MAX};

/// Longest wait for the broker to say that it has a message, in seconds; as fedora-messaging's.
pub const CONFIRM_SECONDS_MAX: u64 = 30;

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

    /// Publishes one message (`body` is a JSON object) and waits until the broker has it. A message that no queue wants is
    /// confirmed too.
    ///
    /// # Errors
    /// That it is too large, or the broker did not take it, or did not say so within [`CONFIRM_SECONDS_MAX`].
    pub async fn publish(&mut self, topic: &str, id: &str, sent: Timestamp, body: &[u8]) -> Result<(), Broken> {
        let topic = self.whole_topic(topic);
        if topic.len() > TOPIC_BYTES_MAX || body.len() > BODY_BYTES_MAX {
            let (topic_bytes, body_bytes) = (topic.len(), body.len());
            return Err(format!("a topic of {topic_bytes} bytes and a body of {body_bytes}; at most {TOPIC_BYTES_MAX} and {BODY_BYTES_MAX} are published").into());
        }
        let properties = properties::outgoing(id, sent, self.priority);
        let most = self.connection.frame_bytes_max;
        let frames = methods::publish(&self.exchange, &topic, properties, body, most);
        self.connection.send_all(&frames).await?;
        match within(CONFIRM_SECONDS_MAX, self.connection.said()).await? {
            Said::Confirmed => Ok(()),
            Said::NotTaken => Err("the broker could not take the message".to_owned().into()),
            _ => Err("the broker did not confirm the message".to_owned().into()),
        }
    }

    /// Says goodbye.
    pub async fn close(self) {
        self.connection.close().await;
    }
}
