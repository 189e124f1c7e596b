//! The bounded queue between a bus's thread and the engine. When it is full the thread waits, so it stops reading its
//! sockets: TCP then holds the publisher back, and what the publisher drops meanwhile is said, since it can't be seen here.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::Counters;
use crate::message::RawMessage;

/// Most bytes of bodies in the queue.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Debug, Default)]
struct Inner {
    messages: VecDeque<RawMessage>,
    bytes: usize,
    closed: bool,
}

/// The queue; shared by the thread that fills it and the source that empties it.
#[derive(Debug)]
pub struct Queue {
    inner: Mutex<Inner>,
    room: Condvar,
    arrived: Notify,
    messages_max: usize,
    counters: Arc<Counters>,
}

impl Queue {
    /// An empty queue for at most `messages_max` messages.
    #[must_use]
    pub fn new(messages_max: usize, counters: Arc<Counters>) -> Self {
        Self { inner: Mutex::default(), room: Condvar::new(), arrived: Notify::new(), messages_max: messages_max.max(1), counters }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a batch, after waiting until there is room. False when the other end is gone.
    pub fn push(&self, batch: &mut Vec<RawMessage>, bus: &str) -> bool {
        let mut inner = self.lock();
        if self.is_full(&inner) && !inner.closed {
            tracing::warn!(bus, messages = inner.messages.len(), "the queue is full, reading stops: publishers may drop what we do not take now");
            let since = Instant::now();
            Counters::add(&self.counters.stalls, 1);
            inner = self.room.wait_while(inner, |inner| self.is_full(inner) && !inner.closed).unwrap_or_else(PoisonError::into_inner);
            let ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            Counters::add(&self.counters.stalled_ms, ms);
            tracing::warn!(bus, ms, "reading goes on");
        }
        inner.bytes += batch.iter().map(|raw| raw.body.len()).sum::<usize>();
        inner.messages.extend(batch.drain(..));
        self.counters.queued.store(inner.messages.len() as u64, Ordering::Relaxed);
        let open = !inner.closed;
        drop(inner);
        self.arrived.notify_one();
        open
    }

    fn is_full(&self, inner: &Inner) -> bool {
        inner.messages.len() >= self.messages_max || inner.bytes >= QUEUE_BYTES_MAX
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
        drop(inner);
        self.room.notify_one();
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
    use jiff::Timestamp;

    fn raw(token: u64) -> RawMessage {
        RawMessage { bus: "b".into(), topic: "t".into(), body: vec![b'x'; 10], received: Timestamp::UNIX_EPOCH, token }
    }

    #[tokio::test]
    async fn a_full_queue_holds_the_reader_back_and_loses_nothing() {
        let counters = Arc::new(Counters::default());
        let queue = Arc::new(Queue::new(3, counters.clone()));
        let filler = std::thread::spawn({
            let queue = queue.clone();
            move || (0..100).all(|n| queue.push(&mut vec![raw(n)], "b"))
        });
        let mut tokens = Vec::new();
        while tokens.len() < 100 {
            let taken = queue.take(2).await;
            assert!(!taken.is_empty() && taken.len() <= 2 && counters.queued.load(Ordering::Relaxed) <= 3);
            tokens.extend(taken.iter().map(|raw| raw.token));
        }
        assert!(filler.join().expect("no panic"));
        assert_eq!(tokens, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_closed_queue_gives_what_is_in_it_and_then_ends() {
        let queue = Queue::new(3, Arc::default());
        assert!(queue.push(&mut vec![raw(1)], "b"));
        queue.close();
        assert!(!queue.push(&mut vec![raw(2)], "b"), "the filler is told");
        assert_eq!(queue.take(9).await.len(), 2);
        assert!(queue.take(9).await.is_empty());
    }
}
