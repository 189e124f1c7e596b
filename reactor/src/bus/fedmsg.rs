//! fedmsg over ZeroMQ: a SUB socket that connects to every endpoint, on a thread of its own. The thread looks at topics only;
//! what nobody wants is dropped before its body is touched.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use super::queue::Queue;
use super::{BoxFuture, BusError, Counters, Source, Wants, wire};
use crate::message::{BODY_BYTES_MAX, RawMessage};
use crate::rules::site::BusConfig;

/// Messages in libzmq's own queue, per publisher. Beyond it TCP holds the publisher back.
const RECEIVE_HIGH_WATER_MESSAGES: i32 = 1_000;
/// Largest frame that libzmq takes, in bytes; a larger one costs its publisher the connection. Above [`BODY_BYTES_MAX`], so
/// that a body that is only somewhat too large is told and not cut off.
const FRAME_BYTES_MAX: i64 = 16 * BODY_BYTES_MAX as i64;
/// A publisher is asked for a sign of life this often, in milliseconds…
const HEARTBEAT_EVERY_MS: i32 = 30_000;
/// …and its connection is made anew when none came for so long.
const HEARTBEAT_TIMEOUT_MS: i32 = 90_000;
/// First and longest wait before a lost connection is tried again, in milliseconds.
const RECONNECT_MS: (i32, i32) = (100, 10_000);
/// TCP keepalive: after so many idle seconds, every so many seconds, so many times (fedmsg ships the same).
const KEEPALIVE: (i32, i32, i32) = (60, 5, 3);
/// Messages that the thread hands over at once.
const BATCH_MESSAGES_MAX: usize = 256;
/// Messages that the thread reads before it looks at its other sockets again.
const READS_IN_A_ROW_MAX: usize = 4_096;

/// The source of one fedmsg bus. Dropping it ends its thread.
pub struct FedmsgSource {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    orders: Subscriber,
    thread: Option<JoinHandle<()>>,
}

/// Changes the subscriptions of a source that is being read elsewhere.
#[derive(Clone)]
pub struct Subscriber {
    context: zmq::Context,
    address: String,
}

impl Subscriber {
    /// Subscribes to these prefixes from now on, and to nothing else.
    pub fn resubscribe(&self, prefixes: Vec<String>) {
        self.order(prefixes.into_iter().map(|prefix| [b"+", prefix.as_bytes()].concat()).collect());
    }

    fn stop(&self) {
        self.order(vec![b"stop".to_vec()]);
    }

    /// An order is one multipart message: every prefix with a `+` before it, or `stop`. An empty list is `-`.
    fn order(&self, mut parts: Vec<Vec<u8>>) {
        if parts.is_empty() {
            parts.push(b"-".to_vec());
        }
        let sent = self.context.socket(zmq::PUSH).and_then(|socket| {
            socket.connect(&self.address)?;
            socket.send_multipart(parts, 0)
        });
        if let Err(error) = sent {
            tracing::error!("the bus's thread can't be told: {error}");
        }
    }
}

impl FedmsgSource {
    /// Connects to every endpoint of `config` (in the background: an endpoint that is not there yet is tried again), and
    /// subscribes to `prefixes`. `wants` then decides by the whole topic.
    ///
    /// # Errors
    /// When an address can't be one, or the system gives no more sockets or threads.
    pub fn open(config: &BusConfig, wants: Wants, prefixes: Vec<String>) -> Result<Self, BusError> {
        let context = zmq::Context::new();
        let counters = Arc::new(Counters::default());
        let queue = Arc::new(Queue::new(config.queue_messages_max, counters.clone()));
        let broken = |why: zmq::Error| BusError::Broken { bus: config.name.to_string(), why: format!("ZeroMQ: {why}") };
        let orders = context.socket(zmq::PULL).map_err(broken)?;
        let address = format!("inproc://orders-{:p}", Arc::as_ptr(&queue));
        orders.bind(&address).map_err(broken)?;
        let (socket, monitor) = subscribe_socket(&context).map_err(broken)?;
        for endpoint in &config.fedmsg {
            socket.connect(endpoint).map_err(|error| BusError::Config {
                bus: config.name.to_string(),
                why: format!("`{endpoint}` can't be connected to: {error}"),
                hint: "an address looks like tcp://hub.example.org:9940".into(),
            })?;
        }
        let mut reader = Reader {
            bus: config.name.clone(),
            socket,
            orders,
            monitor,
            wants,
            prefixes: Vec::new(),
            queue: queue.clone(),
            counters: counters.clone(),
            batch: Vec::new(),
            token: 0,
        };
        reader.subscribe(prefixes).map_err(broken)?;
        let thread = std::thread::Builder::new().name(format!("bus {}", config.name)).spawn(move || reader.run());
        let thread = thread.map_err(|error| BusError::Broken { bus: config.name.to_string(), why: format!("no thread: {error}") })?;
        Ok(Self { queue, counters, orders: Subscriber { context, address }, thread: Some(thread) })
    }

    /// For changing the subscriptions later.
    #[must_use]
    pub fn subscriber(&self) -> Subscriber {
        self.orders.clone()
    }
}

impl Source for FedmsgSource {
    fn next(&mut self, at_most: usize) -> BoxFuture<'_, Result<Vec<RawMessage>, BusError>> {
        Box::pin(async move { Ok(self.queue.take(at_most).await) })
    }

    /// fedmsg has no acknowledgement: what we have, the publisher has forgotten.
    fn ack<'a>(&'a mut self, _tokens: &'a [u64]) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async { Ok(()) })
    }

    fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }
}

impl Drop for FedmsgSource {
    fn drop(&mut self) {
        self.queue.close();
        self.orders.stop();
        if let Some(thread) = self.thread.take() {
            // It ends with the order above; if it panicked, there is nothing left to end.
            let _ = thread.join();
        }
    }
}

fn subscribe_socket(context: &zmq::Context) -> zmq::Result<(zmq::Socket, zmq::Socket)> {
    let socket = context.socket(zmq::SUB)?;
    socket.set_rcvhwm(RECEIVE_HIGH_WATER_MESSAGES)?;
    socket.set_maxmsgsize(FRAME_BYTES_MAX)?;
    socket.set_linger(0)?;
    socket.set_tcp_keepalive(1)?;
    socket.set_tcp_keepalive_idle(KEEPALIVE.0)?;
    socket.set_tcp_keepalive_intvl(KEEPALIVE.1)?;
    socket.set_tcp_keepalive_cnt(KEEPALIVE.2)?;
    socket.set_heartbeat_ivl(HEARTBEAT_EVERY_MS)?;
    socket.set_heartbeat_timeout(HEARTBEAT_TIMEOUT_MS)?;
    socket.set_reconnect_ivl(RECONNECT_MS.0)?;
    socket.set_reconnect_ivl_max(RECONNECT_MS.1)?;
    socket.set_ipv6(true)?;
    let address = format!("inproc://monitor-{:p}", &raw const socket);
    let events = zmq::SocketEvent::HANDSHAKE_SUCCEEDED as i32 | zmq::SocketEvent::DISCONNECTED as i32;
    socket.monitor(&address, events)?;
    let monitor = context.socket(zmq::PAIR)?;
    monitor.connect(&address)?;
    Ok((socket, monitor))
}

/// The thread.
struct Reader {
    bus: Arc<str>,
    socket: zmq::Socket,
    orders: zmq::Socket,
    monitor: zmq::Socket,
    wants: Wants,
    prefixes: Vec<String>,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    batch: Vec<RawMessage>,
    token: u64,
}

impl Reader {
    fn run(mut self) {
        // An error here is a closed context, or a bug that a restart would not mend: say it and end.
        if let Err(error) = self.read_until_stopped() {
            tracing::error!(bus = %self.bus, "ZeroMQ: {error}; nothing more is read from this bus");
        }
        self.queue.close();
    }

    fn read_until_stopped(&mut self) -> zmq::Result<()> {
        loop {
            let mut items = [
                self.socket.as_poll_item(zmq::POLLIN),
                self.orders.as_poll_item(zmq::POLLIN),
                self.monitor.as_poll_item(zmq::POLLIN),
            ];
            match zmq::poll(&mut items, -1) {
                Err(zmq::Error::EINTR) => continue,
                other => other?,
            };
            let [readable, ordered, connections] = items.map(|item| item.is_readable());
            if ordered && !self.obey()? {
                return Ok(());
            }
            if connections {
                self.note_connections()?;
            }
            if readable && !self.read()? {
                return Ok(());
            }
        }
    }

    /// Reads what is there. False when nobody takes it any more.
    fn read(&mut self) -> zmq::Result<bool> {
        let mut frame = zmq::Message::new();
        for _ in 0..READS_IN_A_ROW_MAX {
            match self.socket.recv(&mut frame, zmq::DONTWAIT) {
                Err(zmq::Error::EAGAIN) => break,
                Err(zmq::Error::EINTR) => continue,
                other => other?,
            }
            Counters::add(&self.counters.received, 1);
            self.one(&mut frame)?;
            if self.batch.len() >= BATCH_MESSAGES_MAX && !self.hand_over() {
                return Ok(false);
            }
        }
        Ok(self.batch.is_empty() || self.hand_over())
    }

    fn hand_over(&mut self) -> bool {
        self.queue.push(&mut self.batch, &self.bus)
    }

    /// One message, whose first frame is there.
    fn one(&mut self, frame: &mut zmq::Message) -> zmq::Result<()> {
        if !frame.get_more() {
            let taken = wire::split_at_nul(frame).and_then(|(topic, body)| Ok((wire::topic(topic)?.to_owned(), wire::body(body)?.to_vec())));
            match taken {
                Ok((topic, body)) => self.keep(topic, body),
                Err(why) => self.malformed(&why),
            }
            return Ok(());
        }
        let topic = match wire::topic(frame) {
            Ok(topic) if (self.wants)(topic) => topic.to_owned(),
            other => {
                match other {
                    Ok(_) => Counters::add(&self.counters.unwanted, 1),
                    Err(why) => self.malformed(&why),
                }
                return self.skip(frame);
            }
        };
        self.socket.recv(frame, 0)?;
        if frame.get_more() {
            self.malformed("more than two frames");
            return self.skip(frame);
        }
        match wire::body(frame) {
            Ok(body) => {
                let body = body.to_vec();
                self.keep_wanted(topic, body);
            }
            Err(why) => self.malformed(&why),
        }
        Ok(())
    }

    fn keep(&mut self, topic: String, body: Vec<u8>) {
        if (self.wants)(&topic) {
            self.keep_wanted(topic, body);
        } else {
            Counters::add(&self.counters.unwanted, 1);
        }
    }

    fn keep_wanted(&mut self, topic: String, body: Vec<u8>) {
        self.token += 1;
        self.batch.push(RawMessage { bus: self.bus.clone(), topic, body, received: super::clock(), token: self.token });
    }

    /// Throws the rest of a message away.
    fn skip(&self, frame: &mut zmq::Message) -> zmq::Result<()> {
        while frame.get_more() {
            self.socket.recv(frame, 0)?;
        }
        Ok(())
    }

    fn malformed(&self, why: &str) {
        let n = self.counters.malformed.fetch_add(1, Ordering::Relaxed) + 1;
        if n.is_power_of_two() {
            tracing::warn!(bus = %self.bus, times = n, "no message could be made of what came: {why}");
        }
    }

    /// False when the order is to stop.
    fn obey(&mut self) -> zmq::Result<bool> {
        let order = self.orders.recv_multipart(0)?;
        if order.first().is_some_and(|part| part == b"stop") {
            return Ok(false);
        }
        let prefixes = order.iter().filter_map(|part| part.strip_prefix(b"+"));
        self.subscribe(prefixes.map(|prefix| String::from_utf8_lossy(prefix).into_owned()).collect())?;
        Ok(true)
    }

    fn subscribe(&mut self, prefixes: Vec<String>) -> zmq::Result<()> {
        // First what is new, so that what stays is never without a subscription.
        for prefix in prefixes.iter().filter(|prefix| !self.prefixes.contains(prefix)) {
            self.socket.set_subscribe(prefix.as_bytes())?;
        }
        for prefix in self.prefixes.iter().filter(|prefix| !prefixes.contains(prefix)) {
            self.socket.set_unsubscribe(prefix.as_bytes())?;
        }
        self.prefixes = prefixes;
        Ok(())
    }

    /// A monitor message is two frames: number and value of what happened (u16, u32), and the address (zmq_socket_monitor(3)).
    fn note_connections(&self) -> zmq::Result<()> {
        let frames = self.monitor.recv_multipart(0)?;
        let number = frames.first().and_then(|frame| frame.first_chunk::<2>()).map(|bytes| u16::from_ne_bytes(*bytes));
        let address = frames.get(1).map(|frame| String::from_utf8_lossy(frame)).unwrap_or_default();
        if number == Some(zmq::SocketEvent::HANDSHAKE_SUCCEEDED as u16) {
            Counters::add(&self.counters.connects, 1);
            tracing::info!(bus = %self.bus, "connected to {address}");
        } else {
            Counters::add(&self.counters.disconnects, 1);
            tracing::warn!(bus = %self.bus, "connection to {address} lost; what it publishes until it is back is missed");
        }
        Ok(())
    }
}
