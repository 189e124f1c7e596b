//! Publishing on a fedmsg bus: a socket that is bound (as fedmsg's services do) or connected to a relay (`active=True`), two
//! frames a message, topic and body. It never signs: what goes out is what it is given.
//!
//! The socket is an XPUB, which on the wire is a PUB that lets us see who subscribes: a message that is published before
//! anyone has subscribed is lost (ZeroMQ's slow joiner), so whoever publishes one message and ends waits for that first.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::BusError;
use crate::message::BODY_BYTES_MAX;
use crate::rules::site::PublishConfig;

/// Messages kept for a subscriber that is slower than we are. Beyond it ZeroMQ drops what is new, for that one alone.
const SEND_HIGH_WATER_MESSAGES: i32 = 10_000;
/// How long a socket that is closed goes on to send what it has, in milliseconds.
const LINGER_MS: i32 = 2_000;
/// Different subscriptions that are told apart. Of more, subscribers are still served, but not waited for.
const SUBSCRIPTIONS_MAX: usize = 10_000;

/// A publishing socket. Not for use by two threads at the same time; dropping it waits until all is sent, for
/// at most two seconds.
pub struct Publisher {
    socket: zmq::Socket,
    address: String,
    subscriptions: HashSet<Vec<u8>>,
}

impl Publisher {
    /// As the site says: bound, or connected to a relay.
    ///
    /// # Errors
    /// When neither or both are given, the address can't be one, or is in use.
    pub fn open(bus: &str, config: &PublishConfig) -> Result<Self, BusError> {
        match (&config.bind, &config.connect) {
            (Some(address), None) => Self::new(bus, address, zmq::Socket::bind),
            (None, Some(address)) => Self::new(bus, address, zmq::Socket::connect),
            _ => Err(BusError::Config {
                bus: bus.to_owned(),
                why: "`publish` needs either `bind` or `connect`".into(),
                hint: "publish: {bind: tcp://*:9941}, or {connect: tcp://RELAY:2001}".into(),
            }),
        }
    }

    /// Binds `address`: `tcp://*:PORT` for every interface, `tcp://127.0.0.1:*` for any free port.
    ///
    /// # Errors
    /// When it can't be one, or is in use.
    pub fn bind(address: &str) -> Result<Self, BusError> {
        Self::new("publish", address, zmq::Socket::bind)
    }

    /// Connects to a relay's inbound address. The relay may come later.
    ///
    /// # Errors
    /// When it can't be an address.
    pub fn connect(address: &str) -> Result<Self, BusError> {
        Self::new("publish", address, zmq::Socket::connect)
    }

    fn new(
        bus: &str,
        address: &str,
        attach: impl FnOnce(&zmq::Socket, &str) -> zmq::Result<()>,
    ) -> Result<Self, BusError> {
        let broken = |error: zmq::Error| BusError::Broken { bus: bus.to_owned(), why: format!("ZeroMQ: {error}") };
        let socket = zmq::Context::new().socket(zmq::XPUB).map_err(broken)?;
        socket.set_sndhwm(SEND_HIGH_WATER_MESSAGES).map_err(broken)?;
        socket.set_linger(LINGER_MS).map_err(broken)?;
        super::fedmsg::keep_alive(&socket).map_err(broken)?;
        attach(&socket, address).map_err(|error| BusError::Config {
            bus: bus.to_owned(),
            why: format!("`{address}` can't be published on: {error}"),
            hint: match error {
                zmq::Error::EADDRINUSE => {
                    format!("who has it: ss -ltnp | grep '{}'", address.rsplit(':').next().unwrap_or(""))
                }
                _ => "to bind: tcp://*:9941; to connect: tcp://relay.example.org:2001".into(),
            },
        })?;
        let address = socket.get_last_endpoint().map_err(broken)?.unwrap_or_else(|_| address.to_owned());
        Ok(Self { socket, address, subscriptions: HashSet::new() })
    }

    /// The address, with the real port where any was asked for.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Publishes one message. Never waits.
    ///
    /// # Errors
    /// When the body is larger than any consumer of ours takes, or the socket is broken.
    pub fn publish(&mut self, topic: &str, body: &[u8]) -> Result<(), BusError> {
        self.note_subscriptions().map_err(|error| self.broken(error))?;
        if body.len() > BODY_BYTES_MAX {
            let why =
                format!("the message on {topic} has {} bytes, at most {BODY_BYTES_MAX} are published", body.len());
            return Err(BusError::Broken { bus: self.address.clone(), why });
        }
        self.socket.send_multipart([topic.as_bytes(), body], zmq::DONTWAIT).map_err(|error| self.broken(error))
    }

    /// Waits until anyone has subscribed to anything; false if nobody has within `limit`.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn wait_for_subscriber(&mut self, limit: Duration) -> Result<bool, BusError> {
        self.wait(limit, |subscriptions| !subscriptions.is_empty())
    }

    /// Waits until somebody would get a message on `topic`; false if nobody would within `limit`.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn wait_for_subscriber_of(&mut self, topic: &str, limit: Duration) -> Result<bool, BusError> {
        self.wait(limit, |subscriptions| subscriptions.iter().any(|prefix| topic.as_bytes().starts_with(prefix)))
    }

    /// Waits until nobody is subscribed any more; false if somebody still is after `limit`. After a subscriber was killed,
    /// this tells its end from the beginning of the next one.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn wait_for_nobody(&mut self, limit: Duration) -> Result<bool, BusError> {
        self.wait(limit, HashSet::is_empty)
    }

    fn wait(&mut self, limit: Duration, enough: impl Fn(&HashSet<Vec<u8>>) -> bool) -> Result<bool, BusError> {
        let began = Instant::now();
        loop {
            self.note_subscriptions().map_err(|error| self.broken(error))?;
            if enough(&self.subscriptions) {
                return Ok(true);
            }
            let left = limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            // At least one millisecond, so that the rest of one is not waited for by spinning.
            let left_ms = i64::try_from(left.as_millis()).unwrap_or(i64::MAX).max(1);
            match self.socket.poll(zmq::POLLIN, left_ms) {
                Ok(_) | Err(zmq::Error::EINTR) => {}
                Err(error) => return Err(self.broken(error)),
            }
        }
    }

    /// Reads what came from subscribers: one frame, 1 (from now on) or 0 (no more) and the prefix (ZMTP 3.0, RFC 23).
    fn note_subscriptions(&mut self) -> zmq::Result<()> {
        loop {
            let frame = match self.socket.recv_msg(zmq::DONTWAIT) {
                Err(zmq::Error::EAGAIN) => return Ok(()),
                Err(zmq::Error::EINTR) => continue,
                other => other?,
            };
            match frame.split_first() {
                Some((1, prefix)) if self.subscriptions.len() < SUBSCRIPTIONS_MAX => {
                    self.subscriptions.insert(prefix.to_vec());
                }
                Some((0, prefix)) => {
                    self.subscriptions.remove(prefix);
                }
                _ => {}
            }
        }
    }

    fn broken(&self, error: zmq::Error) -> BusError {
        BusError::Broken { bus: self.address.clone(), why: format!("ZeroMQ: {error}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn subscriber(context: &zmq::Context, address: &str, prefix: &str) -> zmq::Socket {
        let socket = context.socket(zmq::SUB).unwrap();
        socket.set_subscribe(prefix.as_bytes()).unwrap();
        socket.set_rcvtimeo(20_000).unwrap();
        socket.connect(address).unwrap();
        socket
    }

    #[test]
    fn a_message_is_two_frames_and_goes_to_whoever_was_waited_for() {
        let mut publisher = Publisher::bind("tcp://127.0.0.1:*").unwrap();
        assert!(!publisher.wait_for_subscriber(Duration::from_millis(1)).unwrap(), "nobody is there");
        let context = zmq::Context::new();
        let socket = subscriber(&context, publisher.address(), "org.example");
        assert!(publisher.wait_for_subscriber_of("org.example.x", LONG).unwrap());
        assert!(!publisher.wait_for_subscriber_of("com.example", Duration::ZERO).unwrap(), "nobody wants that");
        publisher.publish("org.example.x", b"{}").unwrap();
        assert_eq!(socket.recv_multipart(0).unwrap(), [&b"org.example.x"[..], b"{}"]);
        drop(socket);
        assert!(publisher.wait_for_nobody(LONG).unwrap(), "its end is seen");
    }

    #[test]
    fn what_was_published_before_the_end_still_arrives() {
        let context = zmq::Context::new();
        let mut publisher = Publisher::bind("tcp://127.0.0.1:*").unwrap();
        let socket = subscriber(&context, publisher.address(), "");
        assert!(publisher.wait_for_subscriber(LONG).unwrap());
        for n in 0..1_000 {
            publisher.publish("t", n.to_string().as_bytes()).unwrap();
        }
        drop(publisher);
        for n in 0..1_000 {
            assert_eq!(socket.recv_multipart(0).unwrap()[1], n.to_string().as_bytes());
        }
    }

    #[test]
    fn an_address_in_use_and_a_body_too_large_are_told() {
        let mut first = Publisher::bind("tcp://127.0.0.1:*").unwrap();
        let error = Publisher::bind(first.address()).err().unwrap().to_string();
        assert!(error.contains("in use") && error.contains("hint: who has it"), "{error}");
        assert!(first.publish("t", &vec![b' '; BODY_BYTES_MAX + 1]).is_err());
        assert!(Publisher::connect("nonsense").is_err());
    }
}
