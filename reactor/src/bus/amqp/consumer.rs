//! Reading queues: declares what the site says, consumes, and keeps the connection alive on a task of its own, so that a
//! reader that is slow (a full disk, too much pending) does not look dead to the broker. What is on its way is
//! limited by the broker's prefetch. It never acknowledges anything by itself.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::config::{Amqp, Queue};
use super::connection::{Broken, Connection, SETUP_SECONDS_MAX, within};
use super::methods::{self, CHANNEL, EXCHANGE_DECLARE_OK, QOS_OK, QUEUE_BIND_OK, Said};
use super::properties::Properties;
use super::wire::{Frame, Kind};
use crate::journal::REFUSED_BODY_BYTES_MAX;
use crate::message::BODY_BYTES_MAX;

/// A time that never comes: for a broker that wants no signs of life.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// One delivery, as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Which one on this connection, from 1, without gaps.
    pub tag: u64,
    /// In any encoding.
    pub routing_key: Vec<u8>,
    /// Its properties, or why it can't be a message.
    pub properties: Result<Properties, String>,
    /// Its body; of one that is too large the first bytes.
    pub body: Vec<u8>,
}

/// What a consumer tells.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Every queue is read now.
    Consuming,
    /// A delivery.
    Delivery(Box<Delivery>),
    /// The end.
    Broken(Broken),
}

/// The queues of one connection. Dropping it closes the connection; what was not acknowledged comes again.
pub struct Consumer {
    news: mpsc::Receiver<News>,
    acks: mpsc::UnboundedSender<u64>,
}

impl Consumer {
    /// Connects, declares, and begins to consume; within two times [`SETUP_SECONDS_MAX`].
    ///
    /// # Errors
    /// Why not.
    pub async fn open(amqp: &Amqp) -> Result<Self, Broken> {
        let mut connection = Connection::connect(amqp).await?;
        let queues = within(SETUP_SECONDS_MAX, declare(&mut connection, amqp)).await?;
        let consumers: Vec<Frame> = queues.iter().map(|queue| methods::consume(queue)).collect();
        connection.send_all(&consumers).await?;
        // So many deliveries can be on their way at once, and two pieces of news beside them.
        let (tell, news) = mpsc::channel(usize::from(amqp.prefetch_messages) * consumers.len() + 2);
        let (acks, to_ack) = mpsc::unbounded_channel();
        let mut reading = Reading { tell: tell.clone(), consumers_starting: consumers.len(), pending: None };
        tokio::spawn(async move {
            let ended = reading.run(&mut connection, to_ack).await;
            match ended {
                // Whoever does not listen any more need not be told.
                Err(broken) => drop(tell.send(News::Broken(broken)).await),
                Ok(()) => connection.close().await,
            }
        });
        Ok(Self { news, acks })
    }

    /// The next news. Safe to cancel.
    pub async fn next(&mut self) -> News {
        self.news.recv().await.unwrap_or_else(ended)
    }

    /// The next news, if it is there already.
    pub fn try_next(&mut self) -> Option<News> {
        self.news.try_recv().ok()
    }

    /// This delivery and all before it may be forgotten.
    pub fn ack_up_to(&self, tag: u64) {
        // Where the connection has ended, they come again.
        let _ = self.acks.send(tag);
    }
}

fn ended() -> News {
    News::Broken("its task has ended".to_owned().into())
}

/// Declares exchanges, queues and bindings; the names of the queues to read.
async fn declare(connection: &mut Connection, amqp: &Amqp) -> Result<Vec<String>, Broken> {
    connection.call(&methods::qos(amqp.prefetch_messages), QOS_OK).await?;
    for (name, exchange) in &amqp.exchanges {
        let frame = methods::exchange_declare(name, exchange, amqp.passive_declares);
        connection.call(&frame, EXCHANGE_DECLARE_OK).await?;
    }
    let mut names = Vec::new();
    if amqp.queues.is_empty() {
        let ours = Queue { auto_delete: true, exclusive: true, ..Queue::default() };
        names.push(declare_queue(connection, &methods::queue_declare("", &ours, false)).await?);
    }
    for (name, queue) in &amqp.queues {
        names.push(declare_queue(connection, &methods::queue_declare(name, queue, amqp.passive_declares)).await?);
    }
    for binding in &amqp.bindings {
        for queue in names.iter().filter(|name| binding.queue.as_ref().is_none_or(|only| only == *name)) {
            for key in &binding.routing_keys {
                connection.call(&methods::queue_bind(queue, &binding.exchange, key), QUEUE_BIND_OK).await?;
            }
        }
    }
    Ok(names)
}

async fn declare_queue(connection: &mut Connection, frame: &Frame) -> Result<String, Broken> {
    connection.send(frame).await?;
    match connection.said().await? {
        Said::QueueDeclared { queue } => Ok(queue),
        _ => Err("the broker does not answer the declaration of a queue".to_owned().into()),
    }
}

/// What the task knows.
struct Reading {
    tell: mpsc::Sender<News>,
    consumers_starting: usize,
    /// A delivery whose body is not whole yet, and how many bytes are missing.
    pending: Option<(Delivery, Option<u64>)>,
}

impl Reading {
    async fn run(&mut self, connection: &mut Connection, mut acks: mpsc::UnboundedReceiver<u64>) -> Result<(), Broken> {
        let (beat_every, dead_after) = match connection.heartbeat {
            Duration::ZERO => (NEVER, NEVER),
            heartbeat => (heartbeat / 2, heartbeat * 2),
        };
        let (mut heard, mut beat) = (Instant::now(), Instant::now() + beat_every);
        loop {
            tokio::select! {
                frame = connection.frame() => {
                    heard = Instant::now();
                    if let Some(answer) = self.take(frame?)? {
                        connection.send(&answer).await?;
                    }
                }
                tag = acks.recv() => match tag {
                    Some(tag) => connection.send(&methods::ack_up_to(tag)).await?,
                    None => return Ok(()),
                },
                () = sleep_until(beat) => {
                    beat = Instant::now() + beat_every;
                    connection.send(&methods::heartbeat()).await?;
                }
                () = sleep_until(heard + dead_after) => {
                    return Err(format!("nothing was heard of the broker for {} s", dead_after.as_secs()).into());
                }
            }
        }
    }

    /// Takes a frame in; what is to be answered.
    fn take(&mut self, frame: Frame) -> Result<Option<Frame>, Broken> {
        match frame.kind {
            Kind::Heartbeat => {}
            Kind::Method => return self.take_method(&frame.payload),
            _ if frame.channel != CHANNEL => {
                return Err("content on a channel that was never opened".to_owned().into());
            }
            Kind::Header => {
                let (bytes, properties) = Properties::decode(&frame.payload)?;
                let Some((delivery, missing @ None)) = &mut self.pending else { return Err(out_of_turn()) };
                let too_large = || format!("the body has {bytes} bytes, at most {BODY_BYTES_MAX} are read");
                delivery.properties = if bytes > BODY_BYTES_MAX as u64 { Err(too_large()) } else { properties };
                *missing = Some(bytes);
                self.hand_over_whole()?;
            }
            Kind::Body => {
                let Some((delivery, Some(missing))) = &mut self.pending else { return Err(out_of_turn()) };
                *missing = missing.checked_sub(frame.payload.len() as u64).ok_or_else(out_of_turn)?;
                let most = if delivery.properties.is_ok() { BODY_BYTES_MAX } else { REFUSED_BODY_BYTES_MAX };
                let kept = frame.payload.len().min(most.saturating_sub(delivery.body.len()));
                delivery.body.extend_from_slice(&frame.payload[..kept]);
                self.hand_over_whole()?;
            }
        }
        Ok(None)
    }

    fn take_method(&mut self, payload: &[u8]) -> Result<Option<Frame>, Broken> {
        match Said::decode(payload)? {
            Said::Deliver { tag, routing_key } => {
                let delivery = Delivery { tag, routing_key, properties: Ok(Properties::default()), body: Vec::new() };
                if self.pending.replace((delivery, None)).is_some() {
                    return Err(out_of_turn());
                }
            }
            Said::Consuming => {
                self.consumers_starting = self.consumers_starting.saturating_sub(1);
                if self.consumers_starting == 0 {
                    self.tell(News::Consuming)?;
                }
            }
            Said::Cancelled => {
                return Err(Broken {
                    why: "the broker ended our consumer: its queue was deleted, or moved to another node".into(),
                    hint: Some("what was in a deleted queue is lost: ask whoever deleted it"),
                });
            }
            Said::Closed { code, text, .. } => return Err(Broken::closed(code, &text)),
            Said::Flow(active) => return Ok(Some(methods::flow_ok(active))),
            _ => {}
        }
        Ok(None)
    }

    fn hand_over_whole(&mut self) -> Result<(), Broken> {
        match self.pending.take_if(|(_, missing)| *missing == Some(0)) {
            Some((delivery, _)) => self.tell(News::Delivery(Box::new(delivery))),
            None => Ok(()),
        }
    }

    fn tell(&self, news: News) -> Result<(), Broken> {
        self.tell.try_send(news).map_err(|_| "the broker sends more than the prefetch allows".to_owned().into())
    }
}

fn out_of_turn() -> Broken {
    "the broker's frames come in no order that AMQP knows".to_owned().into()
}

#[cfg(test)]
#[path = "consumer_tests.rs"]
mod tests;
