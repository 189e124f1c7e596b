//! The publisher that all receivers here are measured with: libzmq, bodies encoded beforehand, nothing ever dropped.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// How long a receiver may take to subscribe, in milliseconds.
const SUBSCRIBE_MS_MAX: i64 = 20_000;

/// An XPUB socket without a high-water mark: it sees who subscribes, and it loses nothing (it grows instead).
pub struct Publisher {
    socket: zmq::Socket,
    /// Where to subscribe.
    pub address: String,
}

impl Publisher {
    /// Binds to a free port of the loopback address.
    ///
    /// # Errors
    /// When there is none.
    pub fn bind() -> Result<Self> {
        let socket = zmq::Context::new().socket(zmq::XPUB)?;
        socket.set_sndhwm(0)?;
        socket.set_linger(0)?;
        socket.bind("tcp://127.0.0.1:*")?;
        let address = socket.get_last_endpoint()?.map_err(|_| zmq::Error::EINVAL)?;
        Ok(Self { socket, address: address.trim_end_matches('\0').to_owned() })
    }

    /// Waits until somebody has subscribed. What is published from then on arrives there.
    ///
    /// # Errors
    /// When nobody does.
    pub fn wait_for_subscriber(&self) -> Result<()> {
        let mut wait_ms = SUBSCRIBE_MS_MAX;
        while self.socket.poll(zmq::POLLIN, wait_ms)? > 0 {
            self.socket.recv_bytes(0)?;
            // A receiver may subscribe to several prefixes; the last one counts.
            wait_ms = 200;
        }
        (wait_ms != SUBSCRIBE_MS_MAX).then_some(()).context("nobody subscribed to the bench's publisher")
    }

    /// Sends `count` messages as fast as it can, the bodies over and over; gives the time of the first (seconds since 1970).
    ///
    /// # Errors
    /// What libzmq says.
    pub fn burst(&self, topic: &str, bodies: &[Vec<u8>], count: usize) -> Result<f64> {
        let started = now_seconds();
        for body in bodies.iter().cycle().take(count) {
            self.send(topic, body)?;
        }
        Ok(started)
    }

    /// Sends every body once, `per_second` of them; gives when each was sent (seconds since 1970).
    ///
    /// # Errors
    /// What libzmq says.
    pub fn paced(&self, topic: &str, bodies: &[Vec<u8>], per_second: u32) -> Result<Vec<f64>> {
        let started = Instant::now();
        let mut sent = Vec::with_capacity(bodies.len());
        for (n, body) in (0u32..).zip(bodies) {
            let due = started + Duration::from_secs(1) / per_second * n;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            sent.push(now_seconds());
            self.send(topic, body)?;
        }
        Ok(sent)
    }

    fn send(&self, topic: &str, body: &[u8]) -> Result<()> {
        self.socket.send(topic, zmq::SNDMORE)?;
        Ok(self.socket.send(body, 0)?)
    }
}

/// Seconds since 1970: the clock that all processes of a bench share.
#[must_use]
pub fn now_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
