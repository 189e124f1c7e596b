//! The thread of a fedmsg source: it reads the socket, obeys orders, and watches the connections. Nothing else touches its
//! sockets. It sleeps in `zmq_poll` when there is nothing to do.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::connections::{Change, Connections, Event};
use super::subscriptions::{SUBSCRIPTIONS_MAX, cover};
use super::{ORDER_CONNECT, ORDER_SUBSCRIBE, Order, connect};
use crate::bus::queue::{Offered, Queue};
use crate::bus::{Counters, Wants, clock, wire};
use crate::message::{Form, RawMessage};
use crate::rules::site::BusConfig;

/// Wanted messages that the thread hands over at once.
const BATCH_MESSAGES_MAX: usize = 256;
/// Their bodies, in bytes, after which they are handed over.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Messages that the thread reads before it looks at its other sockets again.
const READS_IN_A_ROW_MAX: usize = 4_096;
/// While the queue is full, how often the thread looks after its connections.
const STALL_LOOK: Duration = Duration::from_millis(500);

/// What the monitor tells of. `zmq::SocketEvent::from_raw` panics on what it does not know, so these are compared as numbers.
const MONITORED: [(zmq::SocketEvent, Event); 3] = [
    (zmq::SocketEvent::HANDSHAKE_SUCCEEDED, Event::Connected),
    (zmq::SocketEvent::DISCONNECTED, Event::Lost),
    (zmq::SocketEvent::CONNECT_RETRIED, Event::Retried),
];

/// The monitor's end of a socket.
pub(super) fn monitor(context: &zmq::Context, socket: &zmq::Socket) -> zmq::Result<zmq::Socket> {
    socket.monitor("inproc://monitor", MONITORED.iter().fold(0, |all, (event, _)| all | i32::from(event.to_raw())))?;
    let monitor = context.socket(zmq::PAIR)?;
    monitor.connect("inproc://monitor")?;
    Ok(monitor)
}

/// The thread.
pub(super) struct Reader {
    bus: Arc<str>,
    socket: zmq::Socket,
    orders: zmq::Socket,
    monitor: zmq::Socket,
    connections: Connections,
    /// What the socket is to be connected to.
    endpoints: BTreeSet<String>,
    /// What it is to be disconnected from, once nothing is left to read.
    leaving: BTreeSet<String>,
    wants: Wants,
    prefixes: BTreeSet<String>,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    batch: VecDeque<RawMessage>,
    batch_bytes: usize,
    token: u64,
}

impl Reader {
    pub(super) fn new(
        config: &BusConfig,
        socket: zmq::Socket,
        orders: zmq::Socket,
        monitor: zmq::Socket,
        wants: Wants,
        queue: Arc<Queue>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            bus: config.name.clone(),
            socket,
            orders,
            monitor,
            connections: Connections::new(config.fedmsg.clone()),
            endpoints: config.fedmsg.iter().cloned().collect(),
            leaving: BTreeSet::new(),
            wants,
            prefixes: BTreeSet::new(),
            queue,
            counters,
            batch: VecDeque::new(),
            batch_bytes: 0,
            token: 0,
        }
    }

    pub(super) fn run(mut self) {
        // An error here is a closed context, or a bug that a restart would not mend: say it and end.
        if let Err(error) = self.read_until_stopped() {
            tracing::error!(bus = %self.bus, "ZeroMQ: {error}; nothing more is read from this bus\nhint: systemctl restart reactor");
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
            match zmq::poll(&mut items, self.poll_ms()) {
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
            if readable {
                if !self.read()? {
                    return Ok(());
                }
            } else {
                // Only with nothing left to read: what a given up connection had brought would be thrown away.
                self.reopen();
                self.leave();
            }
        }
    }

    /// How long to sleep: for ever, unless a connection may have been given up.
    fn poll_ms(&self) -> i64 {
        if !self.leaving.is_empty() {
            return 0;
        }
        let wake = self.connections.wake_in(Instant::now());
        wake.map_or(-1, |wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX).saturating_add(1))
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
            let is_enough = self.batch.len() >= BATCH_MESSAGES_MAX || self.batch_bytes >= BATCH_BYTES_MAX;
            if is_enough && !self.hand_over()? {
                return Ok(false);
            }
        }
        Ok(self.batch.is_empty() || self.hand_over()?)
    }

    /// Puts the batch into the queue, however long that takes; false when nobody takes it any more. The monitor is
    /// read meanwhile, since libzmq's own thread would wait for it.
    fn hand_over(&mut self) -> zmq::Result<bool> {
        self.batch_bytes = 0;
        loop {
            match self.queue.offer(&mut self.batch, STALL_LOOK) {
                Offered::All => return Ok(true),
                Offered::Closed => return Ok(false),
                Offered::Full => self.note_connections()?,
            }
        }
    }

    /// One message, whose first frame is there.
    fn one(&mut self, frame: &mut zmq::Message) -> zmq::Result<()> {
        if !frame.get_more() {
            match wire::split_at_nul(frame).and_then(|(topic, body)| Ok((wire::topic(topic)?, wire::body(body)?))) {
                Ok((topic, body)) if (self.wants)(topic) => self.keep(topic.to_owned(), body),
                Ok(_) => Counters::add(&self.counters.unwanted, 1),
                Err(why) => self.malformed(&why),
            }
            return Ok(());
        }
        let topic = match wire::topic(frame) {
            Ok(topic) if (self.wants)(topic) => topic.to_owned(),
            Ok(_) => {
                Counters::add(&self.counters.unwanted, 1);
                return self.skip(frame);
            }
            Err(why) => {
                self.malformed(&why);
                return self.skip(frame);
            }
        };
        self.socket.recv(frame, 0)?;
        if frame.get_more() {
            self.malformed("more than two frames");
            return self.skip(frame);
        }
        match wire::body(frame) {
            Ok(body) => self.keep(topic, body),
            Err(why) => self.malformed(&why),
        }
        Ok(())
    }

    fn keep(&mut self, topic: String, body: &[u8]) {
        self.token += 1;
        self.batch_bytes += body.len();
        let (bus, body) = (self.bus.clone(), body.to_vec());
        self.batch.push_back(RawMessage {
            bus,
            topic,
            body,
            received: clock(),
            token: self.token,
            form: Form::Envelope,
        });
    }

    /// Throws the rest of a message away. libzmq hands over whole messages only, so the frames are there.
    fn skip(&self, frame: &mut zmq::Message) -> zmq::Result<()> {
        while frame.get_more() {
            self.socket.recv(frame, 0)?;
        }
        Ok(())
    }

    fn malformed(&self, why: &str) {
        let times = self.counters.malformed.fetch_add(1, Ordering::Relaxed) + 1;
        // The 1st, 2nd, 4th, 8th…: a publisher gone mad must not fill the log.
        if times.is_power_of_two() {
            tracing::warn!(bus = %self.bus, times, "no message could be made of what came: {why}");
        }
    }

    /// False when the order is to stop.
    fn obey(&mut self) -> zmq::Result<bool> {
        match self.order()? {
            Order::Stop => Ok(false),
            Order::Subscribe(prefixes) => self.subscribe(&prefixes).map(|()| true),
            Order::Connect(addresses) => {
                self.connect_to(addresses.into_iter().collect());
                Ok(true)
            }
        }
    }

    fn order(&self) -> zmq::Result<Order> {
        let frames = self.orders.recv_multipart(0)?;
        match frames.split_first() {
            Some((first, prefixes)) if first == ORDER_SUBSCRIBE => {
                let text = |prefix: &Vec<u8>| String::from_utf8_lossy(prefix).into_owned();
                Ok(Order::Subscribe(prefixes.iter().map(text).collect()))
            }
            Some((first, addresses)) if first == ORDER_CONNECT => {
                let text = |address: &Vec<u8>| String::from_utf8_lossy(address).into_owned();
                Ok(Order::Connect(addresses.iter().map(text).collect()))
            }
            _ => Ok(Order::Stop),
        }
    }

    /// Connects to what is new at once; what is not wanted any more is left when nothing is left to read.
    fn connect_to(&mut self, wanted: BTreeSet<String>) {
        for address in wanted.difference(&self.endpoints) {
            if self.leaving.remove(address) {
                continue;
            }
            tracing::info!(bus = %self.bus, "connecting to {address}");
            self.connections.add(address);
            if let Err(error) = connect(&self.socket, address) {
                tracing::error!(bus = %self.bus, "{address} can't be connected to: {error}");
            }
        }
        self.leaving.extend(self.endpoints.difference(&wanted).cloned());
        self.endpoints = wanted;
    }

    /// Ends the connections that are not wanted any more. What they had brought is read already.
    fn leave(&mut self) {
        while let Some(address) = self.leaving.pop_first() {
            tracing::info!(bus = %self.bus, "leaving {address}: it is not named any more");
            if let Err(error) = self.socket.disconnect(&address) {
                tracing::debug!(bus = %self.bus, "{address}: {error}");
            }
            Counters::add(&self.counters.left, self.connections.forget(&address));
        }
    }

    pub(super) fn subscribe(&mut self, prefixes: &[String]) -> zmq::Result<()> {
        let new = cover(prefixes, SUBSCRIPTIONS_MAX);
        // First what is new, so that what stays is never without a subscription.
        for prefix in new.difference(&self.prefixes) {
            self.socket.set_subscribe(prefix.as_bytes())?;
        }
        for prefix in self.prefixes.difference(&new) {
            self.socket.set_unsubscribe(prefix.as_bytes())?;
        }
        self.prefixes = new;
        Ok(())
    }

    /// A monitor message is two frames: number and value of what happened (u16, u32), and the address (zmq_socket_monitor(3)).
    fn note_connections(&mut self) -> zmq::Result<()> {
        loop {
            let frames = match self.monitor.recv_multipart(zmq::DONTWAIT) {
                Err(zmq::Error::EAGAIN) => return Ok(()),
                Err(zmq::Error::EINTR) => continue,
                other => other?,
            };
            let number = frames.first().and_then(|frame| frame.first_chunk()).map(|bytes| u16::from_ne_bytes(*bytes));
            let event = MONITORED.iter().find(|(event, _)| number == Some(event.to_raw()));
            if let (Some((_, event)), Some(address)) = (event, frames.get(1)) {
                self.note(*event, &String::from_utf8_lossy(address));
            }
        }
    }

    fn note(&mut self, event: Event, address: &str) {
        let change = self.connections.note(event, address, Instant::now());
        let (connected, bus) = (self.connections.connected(), &self.bus);
        match change {
            Some(Change::Connected) => {
                Counters::add(&self.counters.connects, 1);
                tracing::info!(%bus, connected, "connected to {address}");
            }
            Some(Change::Lost) => {
                Counters::add(&self.counters.disconnects, 1);
                tracing::warn!(%bus, connected, "connection to {address} lost; what it publishes until it is back is missed");
            }
            None => {}
        }
    }

    /// Opens anew what libzmq has given up.
    fn reopen(&mut self) {
        for endpoint in self.connections.take_given_up(Instant::now()) {
            tracing::warn!(bus = %self.bus, "{endpoint} broke the protocol (a frame over {} bytes, or wrong ZeroMQ); connecting anew", super::FRAME_BYTES_MAX);
            // It knows the address or it does not; in both cases it is free to be connected to.
            let _ = self.socket.disconnect(&endpoint);
            if let Err(error) = connect(&self.socket, &endpoint) {
                tracing::error!(bus = %self.bus, "{endpoint} can't be connected to: {error}");
            }
        }
    }
}
