//! Where messages come from and go to. A new bus = one file here and one line in `open`.

pub mod amqp;
pub mod catch_up;
pub mod fedmsg;
pub mod jsonl;
pub mod publish;
mod queue;
pub mod silence;
pub mod webhook;
pub mod wire;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::message::RawMessage;

/// A boxed future, so that [`Source`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Tells by its topic alone whether anyone wants a message. Called for every message on the bus, before its body is
/// parsed; cheap, and never blocks.
pub type Wants = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Where messages come from.
pub trait Source: Send {
    /// The next messages, at least one and at most `at_most`; an empty list when the source has ended. Safe to cancel.
    ///
    /// # Errors
    /// Only what can't be mended by trying again; a source reconnects by itself.
    fn next(&mut self, at_most: usize) -> BoxFuture<'_, Result<Vec<RawMessage>, BusError>>;

    /// The journal holds these (by [`RawMessage::token`]): the bus may forget them.
    ///
    /// # Errors
    /// As [`Source::next`].
    fn ack<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), BusError>>;

    /// What happened on it since it was opened.
    fn counters(&self) -> Arc<Counters>;
}

/// What a source counts. Everything that can lose a message has a number here.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages that came in, wanted or not.
    pub received: AtomicU64,
    /// Of those, what nobody wanted, by topic alone.
    pub unwanted: AtomicU64,
    /// Thrown away because no message could be made of them: wrong number of frames, too large, topic not UTF-8.
    pub malformed: AtomicU64,
    /// In our queue now: received, wanted, not yet handed over.
    pub queued: AtomicU64,
    /// How often the queue was full and we stopped reading; meanwhile the publisher may drop what we do not take.
    pub stalls: AtomicU64,
    /// How long in all we stopped reading, in milliseconds.
    pub stalled_ms: AtomicU64,
    /// Connections made, and lost again.
    pub connects: AtomicU64,
    /// Connections lost.
    pub disconnects: AtomicU64,
    /// Connections that we ended ourselves: their publishers are not named any more.
    pub left: AtomicU64,
    /// How often the site's `silence` has passed while it was connected and nothing came.
    pub silences: AtomicU64,
    /// How long it has been connected and silent now, in seconds; 0 where that is not too long.
    pub silent_s: AtomicU64,
    /// How long is too long, in milliseconds; 0 = nothing is.
    silence_limit_ms: AtomicU64,
    trouble: Mutex<Option<String>>,
    addresses: Mutex<Vec<String>>,
}

impl Counters {
    /// Adds to one of them.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// Whether any connection stands.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        let ended = self.disconnects.load(Ordering::Relaxed) + self.left.load(Ordering::Relaxed);
        self.connects.load(Ordering::Relaxed) > ended
    }

    /// How long a connected bus may be silent; zero: as long as it likes.
    #[must_use]
    pub fn silence_limit(&self) -> Duration {
        Duration::from_millis(self.silence_limit_ms.load(Ordering::Relaxed))
    }

    /// Sets it, as the site says (`silence`).
    pub fn set_silence_limit(&self, limit: Option<Duration>) {
        let ms = limit.map_or(0, |limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        self.silence_limit_ms.store(ms, Ordering::Relaxed);
    }

    /// That it is connected and silent for too long, in one line.
    #[must_use]
    pub fn silent(&self) -> Option<String> {
        let silent = Duration::from_secs(self.silent_s.load(Ordering::Relaxed));
        let say = || format!("connected, but no message has come for {}", handler_api::units::show_duration(silent));
        (!silent.is_zero()).then(say)
    }

    /// Where its addresses come from and how many, a line each; nothing where the site lists them.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes where the addresses come from.
    pub fn set_addresses(&self, addresses: Vec<String>) {
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// What keeps the bus from being read now, in one line.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what keeps the bus from being read, or that nothing does.
    pub fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// What went wrong on a bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The configuration can't work.
    #[error("bus {bus}: {why}\nhint: {hint}")]
    Config {
        /// Which bus.
        bus: String,
        /// What is wrong.
        why: String,
        /// What to do.
        hint: String,
    },
    /// Reading or writing failed for good.
    #[error("bus {bus}: {why}")]
    Broken {
        /// Which bus.
        bus: String,
        /// What failed, on what, why.
        why: String,
    },
}

/// The wall clock: when a message arrived.
#[allow(clippy::disallowed_methods, reason = "the bus notes when a message arrived")]
fn clock() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
