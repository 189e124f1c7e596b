//! Reading queues: declares what the site says, consumes, and keeps the connection alive on a task of its own, so that a
//! reader that is slow (a full disk, too much pending) does not look dead to the broker. What is on its way is
//! limited by the broker's prefetch. It never acknowledges anything by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use super::config::{Amqp, Queue};
use super::connection::{Broken, Connection, NEVER, SETUP_SECONDS_MAX, within};
use super::methods::{self, CHANNEL, EXCHANGE_DECLARE_OK, QOS_OK, QUEUE_BIND_OK, Said};
use super::properties::Properties;
use super::wire::{Frame, Kind};
use crate::bus::queue::QUEUE_BYTES_MAX;
use crate::journal::REFUSED_BODY_BYTES_MAX;
use crate::message::BODY_BYTES_MAX;

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
    /// What it takes in memory, about, in bytes.
    pub bytes: usize,
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
    waiting: Arc<Waiting>,
}

/// Deliveries that were read and not taken. Over [`QUEUE_BYTES_MAX`] nothing more is read, and TCP holds the broker back.
#[derive(Debug, Default)]
struct Waiting {
    bytes: AtomicUsize,
    taken: Notify,
}

impl Waiting {
    fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) < QUEUE_BYTES_MAX
    }
}

impl Consumer {
    /// Connects, declares, and begins to consume; each within [`SETUP_SECONDS_MAX`].
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
        let mut reading = Reading::new(tell.clone(), consumers.len());
        let waiting = reading.waiting.clone();
        tokio::spawn(async move {
            if let Err(broken) = reading.run(&mut connection, to_ack).await {
                // Whoever does not listen any more need not be told.
                drop(tell.send(News::Broken(broken)).await);
            }
            connection.close().await;
        });
        Ok(Self { news, acks, waiting })
    }

    /// One that tells this news.
    #[cfg(test)]
    pub fn telling(news: mpsc::Receiver<News>) -> Self {
        Self { news, acks: mpsc::unbounded_channel().0, waiting: Arc::default() }
    }

    /// The next news. Safe to cancel.
    pub async fn next(&mut self) -> News {
        let news = self.news.recv().await.unwrap_or_else(ended);
        self.taken(&news);
        news
    }

    /// The next news, if it is there already.
    pub fn try_next(&mut self) -> Option<News> {
        let news = self.news.try_recv().ok()?;
        self.taken(&news);
        Some(news)
    }

    fn taken(&self, news: &News) {
        if let News::Delivery(delivery) = news {
            self.waiting.bytes.fetch_sub(delivery.bytes, Ordering::Relaxed);
            self.waiting.taken.notify_one();
        }
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
    // As the site calls them, and as the broker does.
    let mut names = Vec::new();
    if amqp.queues.is_empty() {
        let ours = Queue { auto_delete: true, exclusive: true, ..Queue::default() };
        names.push(("", declare_queue(connection, &methods::queue_declare("", &ours, false)).await?));
    }
    for (name, queue) in &amqp.queues {
        let frame = methods::queue_declare(name, queue, amqp.passive_declares);
        names.push((name, declare_queue(connection, &frame).await?));
    }
    for binding in &amqp.bindings {
        for (_, queue) in names.iter().filter(|(name, _)| binding.queue.as_ref().is_none_or(|only| only == name)) {
            for key in &binding.routing_keys {
                connection.call(&methods::queue_bind(queue, &binding.exchange, key), QUEUE_BIND_OK).await?;
            }
        }
    }
    Ok(names.into_iter().map(|(_, queue)| queue).collect())
}

async fn declare_queue(connection: &mut Connection, frame: &Frame) -> Result<String, Broken> {
    connection.send(frame).await?;
    match connection.said().await? {
        Said::QueueDeclared { queue, .. } => Ok(queue),
        _ => Err("the broker does not answer the declaration of a queue".to_owned().into()),
    }
}

/// What the task knows.
struct Reading {
    tell: mpsc::Sender<News>,
    consumers_starting: usize,
    /// A delivery whose body is not whole yet, and how many bytes are missing.
    pending: Option<(Delivery, Option<u64>)>,
    /// The last delivery's tag.
    tag: u64,
    waiting: Arc<Waiting>,
    /// How long the broker may take to say that all queues are read.
    ready_within: Duration,
    /// Why the broker closed channel or connection. It is answered before all ends.
    closed: Option<Broken>,
}

impl Reading {
    fn new(tell: mpsc::Sender<News>, consumers_starting: usize) -> Self {
        let ready_within = Duration::from_secs(SETUP_SECONDS_MAX);
        Self { tell, consumers_starting, pending: None, tag: 0, waiting: Arc::default(), ready_within, closed: None }
    }

    async fn run(&mut self, connection: &mut Connection, mut acks: mpsc::UnboundedReceiver<u64>) -> Result<(), Broken> {
        let (beat_every, dead_after) = match connection.heartbeat {
            Duration::ZERO => (NEVER, NEVER),
            heartbeat => (heartbeat / 2, heartbeat * 2),
        };
        let (mut heard, mut beat) = (Instant::now(), Instant::now() + beat_every);
        let ready_by = Instant::now() + self.ready_within;
        let waiting = self.waiting.clone();
        loop {
            let has_room = waiting.has_room();
            tokio::select! {
                // First what came: whoever was stopped for a minute is not deaf, it has all of it to read.
                biased;
                tag = acks.recv() => match tag {
                    Some(tag) => connection.send(&methods::ack_up_to(tag)).await?,
                    None => return Ok(()),
                },
                frame = connection.frame(), if has_room => {
                    heard = Instant::now();
                    if let Some(answer) = self.take(frame?)? {
                        connection.send(&answer).await?;
                    }
                    if let Some(closed) = self.closed.take() {
                        return Err(closed);
                    }
                }
                () = waiting.taken.notified(), if !has_room => heard = Instant::now(),
                () = sleep_until(beat) => {
                    beat = Instant::now() + beat_every;
                    connection.send(&methods::heartbeat()).await?;
                }
                () = sleep_until(heard + dead_after), if has_room => {
                    return Err(format!("nothing was heard of the broker for {} s", dead_after.as_secs()).into());
                }
                // It lives, and yet nothing would ever come.
                () = sleep_until(ready_by), if self.consumers_starting > 0 => return Err(not_read()),
            }
        }
    }

    /// Takes a frame in; what is to be answered.
    fn take(&mut self, frame: Frame) -> Result<Option<Frame>, Broken> {
        match frame.kind {
            Kind::Heartbeat => {}
            Kind::Method => return self.take_method(&frame.payload),
            _ if frame.channel != CHANNEL => return Err(out_of_turn()),
            Kind::Header => {
                let (bytes, properties) = Properties::decode(&frame.payload)?;
                let Some((delivery, missing @ None)) = &mut self.pending else { return Err(out_of_turn()) };
                delivery.bytes += frame.payload.len();
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
                delivery.bytes += kept;
                self.hand_over_whole()?;
            }
        }
        Ok(None)
    }

    fn take_method(&mut self, payload: &[u8]) -> Result<Option<Frame>, Broken> {
        match Said::decode(payload)? {
            Said::Deliver { tag, routing_key } => {
                let properties = Ok(Properties::default());
                let delivery = Delivery { tag, routing_key, properties, body: Vec::new(), bytes: payload.len() };
                // Acknowledging rests on tags without gaps.
                if tag != self.tag.wrapping_add(1) || self.pending.replace((delivery, None)).is_some() {
                    return Err(out_of_turn());
                }
                self.tag = tag;
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
            Said::Closed { connection, code, text } => {
                self.closed = Some(Broken::closed(code, &text));
                return Ok(Some(methods::close_ok(connection)));
            }
            Said::Flow(active) => return Ok(Some(methods::flow_ok(active))),
            _ => {}
        }
        Ok(None)
    }

    fn hand_over_whole(&mut self) -> Result<(), Broken> {
        match self.pending.take_if(|(_, missing)| *missing == Some(0)) {
            Some((delivery, _)) => {
                self.waiting.bytes.fetch_add(delivery.bytes, Ordering::Relaxed);
                self.tell(News::Delivery(Box::new(delivery)))
            }
            None => Ok(()),
        }
    }

    fn tell(&self, news: News) -> Result<(), Broken> {
        self.tell.try_send(news).map_err(|_| "the broker sends more than the prefetch allows".to_owned().into())
    }
}

fn not_read() -> Broken {
    Broken {
        why: format!("the broker has our queues and has not begun to read them for us within {SETUP_SECONDS_MAX} s"),
        hint: Some("is the node of a queue away? rabbitmqctl list_queues name state"),
    }
}

fn out_of_turn() -> Broken {
    "the broker's frames come in no order that AMQP knows".to_owned().into()
}

#[cfg(test)]
#[path = "consumer_tests.rs"]
mod tests;
