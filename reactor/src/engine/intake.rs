//! From a source to the engine: judge a batch (trust, then rules), hand it over, and acknowledge it once it is durable.
//!
//! Architecture Invariant: a source is told to forget a message only after the journal holds what came of it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{JoinError, spawn_blocking};

use super::catch_up::Care;
use super::catch_up::heard::Gap;
use super::core::Arrived;
use super::{Input, clock};
use crate::bus::Source;
use crate::journal::{Entry, REFUSED_BODY_BYTES_MAX};
use crate::message::{Form, Message, RawMessage};
use crate::rules::matcher::Rules;
use crate::trust::verifier::NOT_SIGNED_LATE;
use crate::trust::{Refusal, SIGNED_BUT, Verified, beside_msg};

/// Messages that are judged and journaled together.
pub const BATCH_MESSAGES_MAX: usize = 512;
/// Reactions that may be pending. Over it the daemon stops reading its buses until some are over.
pub const PENDING_REACTIONS_MAX: usize = 50_000;
/// Bytes of message bodies that pending reactions may keep in memory (as parsed values they take a few times that). Over it
/// the daemon stops reading its buses until some are over.
pub const PENDING_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Why a message is refused that should have been judged.
const BROKE_JUDGE: &str = "it could not be judged: a bug in reactor, the daemon's log says more";

/// Tells whether a raw message is believed.
pub type Judge = Arc<dyn Fn(&RawMessage, Timestamp) -> Result<Verified<Message>, Refusal> + Send + Sync>;

/// What intake and engine tell each other without waiting.
#[derive(Debug, Default)]
pub struct Gauge {
    /// Messages taken from a source and not yet journaled: what a kill would lose, beside what is queued in the source.
    pub in_hand: AtomicU64,
    /// Reactions that are not over.
    pending: AtomicUsize,
    /// Bytes of their messages' bodies.
    pending_bytes: AtomicUsize,
    /// Too much waits in the inbox of all nodes.
    inbox_is_full: AtomicBool,
    /// Told after each turn.
    turned: Notify,
}

impl Gauge {
    /// Says how much is pending after a turn.
    pub fn set(&self, reactions: usize, bytes: usize) {
        self.pending.store(reactions, Ordering::Relaxed);
        self.pending_bytes.store(bytes, Ordering::Relaxed);
        self.turned.notify_waiters();
    }

    /// Says whether all nodes together have taken in more than they get done.
    pub fn inbox_is_full(&self, is_full: bool) {
        self.inbox_is_full.store(is_full, Ordering::Relaxed);
        self.turned.notify_waiters();
    }

    /// Whether so much is pending that no more is taken from the buses.
    #[must_use]
    pub fn stops_intake(&self) -> bool {
        self.is_full() || self.inbox_is_full.load(Ordering::Relaxed)
    }

    /// Whether so much is pending here that nothing more is begun.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.pending.load(Ordering::Relaxed) >= PENDING_REACTIONS_MAX
            || self.pending_bytes.load(Ordering::Relaxed) >= PENDING_BYTES_MAX
    }

    /// Waits until there is room for more.
    async fn room(&self) {
        loop {
            // From here on it hears of every turn: one that ends between the look and the wait is not missed.
            let turned = self.turned.notified();
            if !self.stops_intake() {
                return;
            }
            turned.await;
        }
    }
}

/// A judged batch.
#[derive(Debug)]
pub struct Batch {
    /// Trusted messages, with what the rules say of them.
    pub arrived: Vec<Arrived>,
    /// Refused ones, as the journal keeps them.
    pub refused: Vec<Entry>,
    /// Whether a server kept these: how many of them are new is asked for, and told.
    pub is_late: bool,
    /// Answered when the journal holds the batch, with the number of messages that were new and wanted.
    pub durable: oneshot::Sender<u64>,
}

/// The way from a source to the journal.
pub struct Passing {
    judge: Judge,
    rules: Arc<ArcSwap<Rules>>,
    gauge: Arc<Gauge>,
    engine: mpsc::Sender<Input>,
}

/// What became of a batch.
#[derive(Clone, Debug, Default)]
pub struct Passed {
    /// Messages that were not known, and led to something.
    pub new: u64,
    /// Messages that came late, and were refused only because they carry no signature.
    pub unsigned_late: u64,
    /// Messages that were refused although their signature is good: certificate or revocation list do not hold now.
    pub not_now: u64,
    /// Why, of the first of them.
    pub why_not_now: Option<String>,
}

/// Counts what a kill would lose, for as long as it lives.
pub struct InHand {
    gauge: Arc<Gauge>,
    n: u64,
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.gauge.in_hand.fetch_sub(self.n, Ordering::Relaxed);
    }
}

/// Reads one source until it ends; `care` sees to it that nothing is missed.
pub async fn take_in(mut source: Box<dyn Source>, mut care: Option<Care>, passing: Passing) {
    let broken = loop {
        passing.gauge.room().await;
        let next = match &mut care {
            Some(care) => care.next(&mut *source, &passing).await,
            None => Some(source.next(BATCH_MESSAGES_MAX).await),
        };
        let raws = match next {
            Some(Ok(raws)) if raws.is_empty() => break None,
            Some(Ok(raws)) => raws,
            Some(Err(error)) => break Some(error.to_string()),
            None => return,
        };
        let in_hand = passing.in_hand(raws.len());
        let handed_over = match &mut care {
            Some(care) => care.catch_up(&passing).await && hand_over(&mut *source, raws, Some(care), &passing).await,
            None => hand_over(&mut *source, raws, None, &passing).await,
        };
        drop(in_hand);
        if !handed_over {
            return;
        }
    };
    // The engine may be gone already; then nobody needs to know.
    let _ = passing.engine.send(Input::SourceEnded(broken)).await;
}

/// False when the engine is gone.
async fn hand_over(source: &mut dyn Source, raws: Vec<RawMessage>, care: Option<&mut Care>, passing: &Passing) -> bool {
    let tokens: Vec<u64> = raws.iter().map(|raw| raw.token).collect();
    let Some(last) = raws.last().map(|raw| raw.received) else { return true };
    if passing.pass(raws).await.is_none() {
        return false;
    }
    if let Err(error) = source.ack(&tokens).await {
        tracing::error!("{error}");
    }
    if let Some(care) = care {
        care.handed(last);
    }
    true
}

impl Passing {
    /// From a source whose messages `judge` judges.
    #[must_use]
    pub const fn new(judge: Judge, rules: Arc<ArcSwap<Rules>>, gauge: Arc<Gauge>, engine: mpsc::Sender<Input>) -> Self {
        Self { judge, rules, gauge, engine }
    }

    /// So many messages are taken from a source, and not yet in the journal.
    #[must_use]
    pub fn in_hand(&self, messages: usize) -> InHand {
        let n = messages as u64;
        self.gauge.in_hand.fetch_add(n, Ordering::Relaxed);
        InHand { gauge: self.gauge.clone(), n }
    }

    /// Judges a batch, hands it over, and waits until the journal has it; `None` when the engine is gone.
    pub async fn pass(&self, raws: Vec<RawMessage>) -> Option<Passed> {
        self.gauge.room().await;
        let is_late = raws.first().is_some_and(|raw| matches!(raw.form, Form::Kept { .. }));
        let (arrived, refused) = self.judged(raws.into()).await?;
        let reasons = refused.iter().filter_map(|entry| match entry {
            Entry::Refused { reason, .. } => Some(reason),
            _ => None,
        });
        let unsigned_late = reasons.clone().filter(|reason| *reason == NOT_SIGNED_LATE).count() as u64;
        let mut not_now = reasons.filter(|reason| reason.starts_with(SIGNED_BUT)).cloned();
        let why_not_now = not_now.next();
        let not_now = u64::from(why_not_now.is_some()) + not_now.count() as u64;
        let (durable, is_durable) = oneshot::channel();
        self.engine.send(Input::Batch(Batch { arrived, refused, is_late, durable })).await.ok()?;
        Some(Passed { new: is_durable.await.ok()?, unsigned_late, not_now, why_not_now })
    }

    /// A batch, judged; `None` when the program ends. A message that breaks the judge costs itself alone: it is refused.
    async fn judged(&self, raws: Arc<[RawMessage]>) -> Option<(Vec<Arrived>, Vec<Entry>)> {
        match self.judge_some(&raws, 0..raws.len()).await {
            Ok(judged) => return Some(judged),
            Err(error) if error.is_cancelled() => return None,
            Err(_) => {}
        }
        let (mut arrived, mut refused) = (Vec::new(), Vec::new());
        for (n, raw) in raws.iter().enumerate() {
            match self.judge_some(&raws, n..n + 1).await {
                Ok((more_arrived, more_refused)) => {
                    arrived.extend(more_arrived);
                    refused.extend(more_refused);
                }
                Err(error) if error.is_cancelled() => return None,
                Err(error) => {
                    tracing::error!(bus = %raw.bus, "a message could not be judged, so it is refused; this is a bug in reactor: {error}\nhint: reactor list --refused shows it; please report it");
                    refused.push(entry_of(raw, Refusal::new(BROKE_JUDGE), clock()));
                }
            }
        }
        Some((arrived, refused))
    }

    async fn judge_some(
        &self,
        raws: &Arc<[RawMessage]>,
        which: Range<usize>,
    ) -> Result<(Vec<Arrived>, Vec<Entry>), JoinError> {
        let (raws, judge, rules) = (raws.clone(), self.judge.clone(), self.rules.load_full());
        spawn_blocking(move || judge_all(&raws[which], &judge, &rules)).await
    }

    /// Tells of a gap; false when the engine is gone.
    pub async fn tell(&self, gap: Gap) -> bool {
        self.engine.send(Input::Gap(Box::new(gap))).await.is_ok()
    }
}

fn judge_all(raws: &[RawMessage], judge: &Judge, rules: &Rules) -> (Vec<Arrived>, Vec<Entry>) {
    let now = clock();
    let mut arrived = Vec::with_capacity(raws.len());
    let mut refused = Vec::new();
    for raw in raws {
        match judge(raw, now) {
            Ok(message) => {
                let decisions = rules.decide(message.get());
                let envelope = if rules.keeps_envelopes() { beside_msg(raw) } else { None };
                arrived.push(Arrived { message, decisions, envelope });
            }
            Err(refusal) => refused.push(entry_of(raw, refusal, now)),
        }
    }
    (arrived, refused)
}

fn entry_of(raw: &RawMessage, refusal: Refusal, at: Timestamp) -> Entry {
    let kept = &raw.body[..raw.body.len().min(REFUSED_BODY_BYTES_MAX)];
    Entry::Refused {
        at,
        bus: raw.bus.to_string(),
        topic: raw.topic.clone(),
        reason: refusal.reason,
        body: String::from_utf8_lossy(kept).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Form, Unsigned};
    use crate::trust::{TrustConfig, Verifier};

    fn raw(body: &[u8]) -> RawMessage {
        let form = Form::Amqp(Box::new(Ok(Unsigned::default())));
        let received = "2026-11-21T02:35:17Z".parse().unwrap();
        RawMessage { bus: "b".into(), topic: "org.example.x".into(), body: body.to_vec(), received, token: 1, form }
    }

    #[tokio::test]
    async fn a_message_that_breaks_the_judge_costs_itself_alone_and_is_kept() {
        let trust = TrustConfig { accept_broker: true, accept_unlisted: true, ..TrustConfig::default() };
        let verifier = Verifier::open(trust);
        let judge: Judge = Arc::new(move |raw, now| {
            assert!(raw.body != b"bad", "a bug");
            verifier.verify(raw, now)
        });
        let (engine, mut inputs) = mpsc::channel(1);
        let rules = Arc::new(ArcSwap::from_pointee(Rules::new(Vec::new())));
        let passing = Passing::new(judge, rules, Arc::default(), engine);
        let passed = tokio::spawn(async move { passing.pass(vec![raw(b"{}"), raw(b"bad"), raw(b"{}")]).await });
        let Some(Input::Batch(batch)) = inputs.recv().await else { panic!("no batch") };
        let [Entry::Refused { reason, body, .. }] = &batch.refused[..] else { panic!("{:?}", batch.refused) };
        assert_eq!((batch.arrived.len(), reason.as_str(), body.as_str()), (2, BROKE_JUDGE, "bad"));
        batch.durable.send(0).unwrap();
        assert!(passed.await.unwrap().is_some());
    }
}
