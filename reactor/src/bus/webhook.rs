//! Messages that are posted to us. Who posts one waits for our answer, so it was judged when it came ([`Form::Judged`]), and is
//! told when the journal holds it. The HTTP side is [`crate::http`]; between the two stands the [`Inbox`].

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::queue::{Offered, Queue};
use super::{BoxFuture, BusError, Counters, Source};
use crate::journal::REFUSED_BODY_BYTES_MAX;
use crate::message::RawMessage;

/// What was posted and is not yet journaled, and who waits for that.
#[derive(Debug)]
pub struct Inbox {
    queue: Queue,
    waiting: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    numbers: AtomicU64,
    /// What happened on the bus since the start.
    pub counters: Arc<Counters>,
}

impl Inbox {
    /// A number for the next delivery, as its token.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a message in; the answer comes when the journal holds it. `None`: there is no room for it.
    pub fn put(&self, raw: RawMessage) -> Option<oneshot::Receiver<()>> {
        let token = raw.token;
        let (durable, is_durable) = oneshot::channel();
        self.lock().insert(token, durable);
        if self.offer(raw) {
            return Some(is_durable);
        }
        self.lock().remove(&token);
        None
    }

    /// Takes in what is refused, for the journal and the log. Nobody waits for that; where there is no room, the answer that
    /// its sender got is all there is. No more of its body waits than the journal keeps: a stranger must not fill the queue.
    pub fn put_refused(&self, mut raw: RawMessage) {
        raw.body.truncate(REFUSED_BODY_BYTES_MAX);
        raw.body.shrink_to_fit();
        self.offer(raw);
    }

    /// False when there is no room.
    fn offer(&self, raw: RawMessage) -> bool {
        self.queue.offer(&mut VecDeque::from([raw]), Duration::ZERO) == Offered::All
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The source of one webhook.
#[derive(Debug)]
pub struct WebhookSource(Arc<Inbox>);

impl WebhookSource {
    /// With room for `messages_max` messages that are not yet journaled.
    #[must_use]
    pub fn new(bus: &Arc<str>, messages_max: usize) -> Self {
        let counters: Arc<Counters> = Arc::default();
        // Whoever wants to post can: so a silence counts.
        Counters::add(&counters.connects, 1);
        let queue = Queue::new(bus.clone(), messages_max, counters.clone());
        Self(Arc::new(Inbox { queue, waiting: Mutex::default(), numbers: AtomicU64::default(), counters }))
    }

    /// Where what is posted goes.
    #[must_use]
    pub fn inbox(&self) -> Arc<Inbox> {
        self.0.clone()
    }
}

impl Source for WebhookSource {
    fn next(&mut self, at_most: usize) -> BoxFuture<'_, Result<Vec<RawMessage>, BusError>> {
        Box::pin(async move { Ok(self.0.queue.take(at_most).await) })
    }

    fn ack<'a>(&'a mut self, tokens: &'a [u64]) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            let mut waiting = self.0.lock();
            for durable in tokens.iter().filter_map(|token| waiting.remove(token)) {
                // Whoever posted it may have hung up.
                let _ = durable.send(());
            }
            Ok(())
        })
    }

    fn counters(&self) -> Arc<Counters> {
        self.0.counters.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Form;
    use jiff::Timestamp;

    fn raw(token: u64) -> RawMessage {
        let (bus, topic, body) = ("b".into(), "/hook".into(), b"{}".to_vec());
        RawMessage { bus, topic, body, received: Timestamp::UNIX_EPOCH, token, form: Form::Envelope }
    }

    #[tokio::test]
    async fn of_what_is_refused_only_the_beginning_waits() {
        let mut source = WebhookSource::new(&"b".into(), 2);
        source.inbox().put_refused(RawMessage { body: vec![b'x'; REFUSED_BODY_BYTES_MAX + 1], ..raw(0) });
        assert_eq!(source.next(9).await.expect("a working source")[0].body.len(), REFUSED_BODY_BYTES_MAX);
    }

    #[tokio::test]
    async fn who_posted_is_told_only_when_it_is_acknowledged() {
        let mut source = WebhookSource::new(&"b".into(), 2);
        let inbox = source.inbox();
        let mut first = inbox.put(raw(inbox.number())).expect("room");
        let mut second = inbox.put(raw(inbox.number())).expect("room");
        assert!(inbox.put(raw(inbox.number())).is_none(), "a third one has no room");
        inbox.put_refused(raw(inbox.number()));
        let taken = source.next(9).await.expect("a working source");
        assert_eq!(taken.iter().map(|raw| raw.token).collect::<Vec<_>>(), [0, 1]);
        assert!(first.try_recv().is_err(), "it is only in hand");
        source.ack(&[1]).await.expect("acknowledged");
        assert!(first.try_recv().is_err() && second.try_recv().is_ok());
        source.ack(&[0, 1, 77]).await.expect("others are nothing");
        assert!(first.try_recv().is_ok() && inbox.lock().is_empty());
    }
}
