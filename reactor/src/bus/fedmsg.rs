//! fedmsg over ZeroMQ: a SUB socket that connects to every endpoint, on a thread of its own. The thread looks at topics only;
//! what nobody wants is dropped before its body is touched. It never checks a signature and never parses a body.
//!
//! * `reader`: the thread
//! * [`discovery`], `dns`: where publishers are, when the site does not list them
//! * `connections`: who is connected, and what libzmq has given up (pure)
//! * `subscriptions`: what to ask publishers for (pure)

mod connections;
pub mod discovery;
mod dns;
mod reader;
mod subscriptions;

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::queue::Queue;
use super::{BoxFuture, BusError, Counters, Source, Wants};
use crate::message::{BODY_BYTES_MAX, RawMessage};
use crate::rules::site::BusConfig;
use discovery::{Discovery, Named};
use reader::Reader;

/// Messages in libzmq's own queue, per publisher. Beyond it TCP holds the publisher back.
const RECEIVE_HIGH_WATER_MESSAGES: i32 = 1_000;
/// Largest frame that libzmq takes, in bytes; a larger one costs its publisher the connection. Above [`BODY_BYTES_MAX`], so
/// that a body that is only somewhat too large is told and not cut off.
const FRAME_BYTES_MAX: i64 = 16 * BODY_BYTES_MAX as i64;
/// A publisher is asked for a sign of life (ZMTP 3.1 PING) this often, in milliseconds…
const HEARTBEAT_EVERY_MS: i32 = 60_000;
/// …and its connection is made anew when nothing at all came for so long, in milliseconds. Much longer than a stall of ours
/// should be: while our queue is full the answers are not read either. A machine that is gone is found sooner, by keepalive.
const HEARTBEAT_TIMEOUT_MS: i32 = 300_000;
/// A connection that takes longer to say who it is, or to come about at all, is given up and tried again, in milliseconds.
const HANDSHAKE_MS_MAX: i32 = 15_000;
/// First and longest wait before a lost connection is tried again, in milliseconds.
const RECONNECT_MS: (i32, i32) = (100, 10_000);
/// TCP keepalive: after so many idle seconds, every so many seconds, so many times (fedmsg ships the same).
const KEEPALIVE: (i32, i32, i32) = (60, 5, 3);

/// The source of one fedmsg bus. Dropping it ends its thread.
pub struct FedmsgSource {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    subscriber: Subscriber,
    thread: Option<JoinHandle<()>>,
}

/// Changes the subscriptions and the addresses of a source that is being read elsewhere.
#[derive(Clone)]
pub struct Subscriber {
    orders: Orders,
    /// Whoever looks for addresses ends when the last of these is gone.
    named: Sender<Named>,
}

/// The line to the thread.
#[derive(Clone)]
struct Orders(Arc<Mutex<zmq::Socket>>);

/// What the thread is told. On the inproc socket: one message, its first frame [`ORDER_STOP`], [`ORDER_SUBSCRIBE`] or
/// [`ORDER_CONNECT`]; after the latter two every prefix, or every address, is a frame.
enum Order {
    Stop,
    Subscribe(Vec<String>),
    /// Be connected to these and to nobody else.
    Connect(Vec<String>),
}

const ORDER_STOP: &[u8] = b"stop";
const ORDER_SUBSCRIBE: &[u8] = b"subscribe";
const ORDER_CONNECT: &[u8] = b"connect";

impl Subscriber {
    /// Subscribes to what begins with one of these prefixes from now on, and to nothing else.
    pub fn resubscribe(&self, prefixes: Vec<String>) {
        self.orders.order(Order::Subscribe(prefixes));
    }

    /// Is connected to these addresses and to those that are found there from now on, and to nobody else.
    pub fn connect_to(&self, fixed: Vec<String>, discovery: Discovery) {
        // Where nobody looks for addresses any more, the source has ended.
        let _ = self.named.send(Named { fixed, discovery });
    }
}

impl Orders {
    fn order(&self, order: Order) {
        let parts = match &order {
            Order::Stop => vec![ORDER_STOP],
            Order::Subscribe(prefixes) => {
                std::iter::once(ORDER_SUBSCRIBE).chain(prefixes.iter().map(String::as_bytes)).collect()
            }
            Order::Connect(addresses) => {
                std::iter::once(ORDER_CONNECT).chain(addresses.iter().map(String::as_bytes)).collect()
            }
        };
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = socket.send_multipart(parts, zmq::DONTWAIT) {
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
        let broken = |why: String| BusError::Broken { bus: config.name.to_string(), why };
        let of_zmq = |error: zmq::Error| broken(format!("ZeroMQ: {error}"));
        let context = zmq::Context::new();
        let counters = Arc::new(Counters::default());
        let queue = Arc::new(Queue::new(config.name.clone(), config.queue_messages_max, counters.clone()));
        let (theirs, orders) = orders(&context).map_err(of_zmq)?;
        let socket = context.socket(zmq::SUB).map_err(of_zmq)?;
        prepare(&socket).map_err(of_zmq)?;
        let monitor = reader::monitor(&context, &socket).map_err(of_zmq)?;
        for endpoint in &config.fedmsg {
            connect(&socket, endpoint).map_err(|error| BusError::Config {
                bus: config.name.to_string(),
                why: format!("`{endpoint}` can't be connected to: {error}"),
                hint: "an address looks like tcp://hub.example.org:9940".into(),
            })?;
        }
        let mut reader = Reader::new(config, socket, theirs, monitor, wants, queue.clone(), counters.clone());
        reader.subscribe(&prefixes).map_err(of_zmq)?;
        let thread = std::thread::Builder::new().name(format!("bus {}", config.name)).spawn(move || reader.run());
        let thread = thread.map_err(|error| broken(format!("no thread: {error}")))?;
        let named = Named { fixed: config.fedmsg.clone(), discovery: config.discovery.clone() };
        let named = discovery::follow(&config.name, named, &orders, &counters);
        let named = named.map_err(|error| broken(format!("no thread: {error}")))?;
        Ok(Self { queue, counters, subscriber: Subscriber { orders, named }, thread: Some(thread) })
    }

    /// For changing the subscriptions and addresses later.
    #[must_use]
    pub fn subscriber(&self) -> Subscriber {
        self.subscriber.clone()
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
        self.subscriber.orders.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // It ends with the order above; if it panicked, there is nothing left to end.
            let _ = thread.join();
        }
    }
}

/// The thread's end of the line, and ours. Each source has a context of its own, so the name can be the same.
fn orders(context: &zmq::Context) -> zmq::Result<(zmq::Socket, Orders)> {
    let theirs = context.socket(zmq::PULL)?;
    theirs.bind("inproc://orders")?;
    let ours = context.socket(zmq::PUSH)?;
    ours.set_linger(0)?;
    ours.connect("inproc://orders")?;
    Ok((theirs, Orders(Arc::new(Mutex::new(ours)))))
}

fn prepare(socket: &zmq::Socket) -> zmq::Result<()> {
    socket.set_rcvhwm(RECEIVE_HIGH_WATER_MESSAGES)?;
    socket.set_maxmsgsize(FRAME_BYTES_MAX)?;
    socket.set_linger(0)?;
    socket.set_heartbeat_ivl(HEARTBEAT_EVERY_MS)?;
    socket.set_heartbeat_timeout(HEARTBEAT_TIMEOUT_MS)?;
    socket.set_heartbeat_ttl(HEARTBEAT_TIMEOUT_MS)?;
    keep_alive(socket)
}

/// What keeps a TCP connection from being dead without our knowing, and brings it back.
pub(super) fn keep_alive(socket: &zmq::Socket) -> zmq::Result<()> {
    let (idle_s, every_s, times) = KEEPALIVE;
    socket.set_tcp_keepalive(1)?;
    socket.set_tcp_keepalive_idle(idle_s)?;
    socket.set_tcp_keepalive_intvl(every_s)?;
    socket.set_tcp_keepalive_cnt(times)?;
    socket.set_reconnect_ivl(RECONNECT_MS.0)?;
    socket.set_reconnect_ivl_max(RECONNECT_MS.1)?;
    socket.set_handshake_ivl(HANDSHAKE_MS_MAX)?;
    socket.set_connect_timeout(HANDSHAKE_MS_MAX)
}

/// libzmq tries only the first address of a name, and with IPv6 allowed that is the IPv6 one, where a fedmsg publisher does
/// not listen. So names are looked up as IPv4, as fedmsg itself does; IPv6 is for addresses written as such.
fn connect(socket: &zmq::Socket, endpoint: &str) -> zmq::Result<()> {
    socket.set_ipv6(endpoint.contains("//["))?;
    socket.connect(endpoint)
}
