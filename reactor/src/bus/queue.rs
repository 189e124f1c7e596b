//! The bounded queue between a bus's thread and the engine. When it is full the thread stops reading its sockets: TCP then
//! holds the publisher back, and what the publisher drops meanwhile can't be seen here, so the stall itself is counted and said.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Counters;
use crate::message::RawMessage;

/// Most bytes of bodies in the queue. One message more may be in it.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Between two log lines about stalls: a queue that is full all the time must not fill the log. The counters have them all.
const STALLS_SAID_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Inner {
    messages: VecDeque<RawMessage>,
    bytes: usize,
    closed: bool,
    /// Full, and not half empty again: when that was last counted.
    stalled: Option<Instant>,
    said: Option<Instant>,
}

/// The queue; shared by the thread that fills it and the source that empties it.
#[derive(Debug)]
pub struct Queue {
    bus: Arc<str>,
    inner: Mutex<Inner>,
    room: Condvar,
    arrived: Notify,
    messages_max: usize,
    counters: Arc<Counters>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// All of it is in the queue.
    All,
    /// The queue is full. What did not fit is still in the batch: offer it again.
    Full,
    /// Nobody takes anything any more.
    Closed,
}

impl Queue {
    /// An empty queue for at most `messages_max` messages (and [`QUEUE_BYTES_MAX`] bytes).
    #[must_use]
    pub fn new(bus: Arc<str>, messages_max: usize, counters: Arc<Counters>) -> Self {
        let (inner, room, arrived) = (Mutex::default(), Condvar::new(), Notify::new());
        Self { bus, inner, room, arrived, messages_max: messages_max.max(1), counters }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what fits of a batch, from its front, and waits at most `limit` until the rest fits too. Once full, the
    /// queue takes nothing before it is half empty, so that a steady flood is few long stalls and not many short ones.
    pub fn offer(&self, batch: &mut VecDeque<RawMessage>, limit: Duration) -> Offered {
        let mut inner = self.lock();
        if inner.stalled.is_some() {
            inner = self.wait_for_room(inner, limit);
        }
        if inner.closed {
            return Offered::Closed;
        }
        if inner.stalled.is_some() {
            return Offered::Full;
        }
        while !self.is_full(&inner)
            && let Some(raw) = batch.pop_front()
        {
            inner.bytes += raw.body.len();
            inner.messages.push_back(raw);
        }
        self.counters.queued.store(inner.messages.len() as u64, Ordering::Relaxed);
        if !batch.is_empty() {
            self.stall(&mut inner);
        }
        drop(inner);
        self.arrived.notify_one();
        if batch.is_empty() { Offered::All } else { Offered::Full }
    }

    fn stall(&self, inner: &mut Inner) {
        let now = Instant::now();
        inner.stalled = Some(now);
        Counters::add(&self.counters.stalls, 1);
        if inner.said.is_none_or(|said| now - said >= STALLS_SAID_EVERY) {
            inner.said = Some(now);
            let (messages, bytes) = (inner.messages.len(), inner.bytes);
            let stalls = self.counters.stalls.load(Ordering::Relaxed);
            tracing::warn!(bus = %self.bus, messages, bytes, stalls,
                "the queue is full, reading stops until it is half empty; publishers may drop what is not taken meanwhile\nhint: reactor status shows how long; `queue` in the bus's block makes it longer");
        }
    }

    fn wait_for_room<'a>(&self, inner: MutexGuard<'a, Inner>, limit: Duration) -> MutexGuard<'a, Inner> {
        let since = inner.stalled;
        let full = |inner: &mut Inner| inner.stalled.is_some() && !inner.closed;
        let (mut inner, _) = self.room.wait_timeout_while(inner, limit, full).unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let ms = since.map_or(0, |since| u64::try_from((now - since).as_millis()).unwrap_or(u64::MAX));
        Counters::add(&self.counters.stalled_ms, ms);
        if inner.stalled.is_some() {
            inner.stalled = Some(now);
        }
        inner
    }

    fn is_full(&self, inner: &Inner) -> bool {
        inner.messages.len() >= self.messages_max || inner.bytes >= QUEUE_BYTES_MAX
    }

    fn is_half_empty(&self, inner: &Inner) -> bool {
        inner.messages.len() <= self.messages_max / 2 && inner.bytes <= QUEUE_BYTES_MAX / 2
    }

    /// At least one and at most `at_most` messages, the oldest first; none when the queue was closed. Safe to cancel.
    pub async fn take(&self, at_most: usize) -> Vec<RawMessage> {
        loop {
            if let Some(taken) = self.try_take(at_most) {
                return taken;
            }
            self.arrived.notified().await;
        }
    }

    fn try_take(&self, at_most: usize) -> Option<Vec<RawMessage>> {
        let mut inner = self.lock();
        if inner.messages.is_empty() {
            return inner.closed.then(Vec::new);
        }
        let n = inner.messages.len().min(at_most.max(1));
        let taken: Vec<RawMessage> = inner.messages.drain(..n).collect();
        inner.bytes -= taken.iter().map(|raw| raw.body.len()).sum::<usize>();
        self.counters.queued.store(inner.messages.len() as u64, Ordering::Relaxed);
        if inner.stalled.is_some() && self.is_half_empty(&inner) {
            inner.stalled = None;
            self.room.notify_one();
        }
        Some(taken)
    }

    /// Nothing more comes, or nobody takes any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.room.notify_all();
        self.arrived.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Form;
    use jiff::Timestamp;

    const LONG: Duration = Duration::from_secs(20);

    fn raw(token: u64, bytes: usize) -> RawMessage {
        let (bus, topic, body) = ("b".into(), "t".into(), vec![b'x'; bytes]);
        RawMessage { bus, topic, body, received: Timestamp::UNIX_EPOCH, token, form: Form::Envelope }
    }

    fn queue(messages_max: usize) -> (Arc<Queue>, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        (Arc::new(Queue::new("b".into(), messages_max, counters.clone())), counters)
    }

    fn batch(messages: impl IntoIterator<Item = RawMessage>) -> VecDeque<RawMessage> {
        messages.into_iter().collect()
    }

    #[tokio::test]
    async fn a_full_queue_holds_the_reader_back_and_loses_nothing() {
        let (queue, counters) = queue(3);
        let filler = std::thread::spawn({
            let queue = queue.clone();
            move || {
                let mut messages = batch((0..100).map(|n| raw(n, 10)));
                while queue.offer(&mut messages, LONG) == Offered::Full {}
                messages.is_empty()
            }
        });
        let mut tokens = Vec::new();
        while tokens.len() < 100 {
            let taken = queue.take(2).await;
            assert!(!taken.is_empty() && taken.len() <= 2 && counters.queued.load(Ordering::Relaxed) <= 3);
            tokens.extend(taken.iter().map(|raw| raw.token));
        }
        assert!(filler.join().expect("no panic"));
        assert_eq!(tokens, (0..100).collect::<Vec<_>>());
        assert!(counters.stalls.load(Ordering::Relaxed) >= 1);
    }

    #[tokio::test]
    async fn what_is_full_takes_nothing_before_it_is_half_empty() {
        let (queue, counters) = queue(4);
        let mut messages = batch((0..5).map(|n| raw(n, 1)));
        assert_eq!(queue.offer(&mut messages, LONG), Offered::Full, "the fifth does not fit");
        assert_eq!((messages.len(), queue.take(1).await.len()), (1, 1));
        assert_eq!(queue.offer(&mut messages, Duration::ZERO), Offered::Full, "three of four are still there");
        queue.take(1).await;
        assert_eq!(queue.offer(&mut messages, Duration::ZERO), Offered::All);
        assert_eq!(counters.stalls.load(Ordering::Relaxed), 1, "it was one stall");
    }

    #[tokio::test]
    async fn bytes_are_limited_as_messages_are() {
        let (queue, _) = queue(1_000);
        let mut messages = batch((0..3).map(|n| raw(n, QUEUE_BYTES_MAX / 2)));
        assert_eq!(queue.offer(&mut messages, Duration::ZERO), Offered::Full);
        assert_eq!(messages.len(), 1);
        assert_eq!(queue.take(9).await.len(), 2);
        assert_eq!(queue.offer(&mut messages, Duration::ZERO), Offered::All);
    }

    #[tokio::test]
    async fn a_closed_queue_gives_what_is_in_it_and_then_ends() {
        let (queue, _) = queue(3);
        assert_eq!(queue.offer(&mut batch([raw(1, 1)]), LONG), Offered::All);
        queue.close();
        assert_eq!(queue.offer(&mut batch([raw(2, 1)]), LONG), Offered::Closed, "the filler is told");
        assert_eq!(queue.take(9).await.len(), 1);
        assert!(queue.take(9).await.is_empty());
    }

    #[test]
    fn who_waits_for_room_is_told_of_the_end() {
        let (queue, _) = queue(1);
        let mut messages = batch([raw(1, 1), raw(2, 1)]);
        assert_eq!(queue.offer(&mut messages, LONG), Offered::Full);
        let closer = std::thread::spawn({
            let queue = queue.clone();
            move || queue.close()
        });
        assert_eq!(queue.offer(&mut messages, LONG), Offered::Closed);
        closer.join().expect("no panic");
    }
}
