//! One POST → one message. The answer tells whoever sent it whether it can forget it: any 2xx means that the journal holds it, or
//! that nobody wants it; after anything else it may send it again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request};
use serde_json::json;

use super::BODY_SECONDS_MAX;
use super::answer::Answer;
use crate::bus::webhook::Inbox;
use crate::bus::{Counters, Wants};
use crate::engine::clock;
use crate::engine::daemon::Health;
use crate::journal::handle::JournalHandle;
use crate::message::{Form, Message, RawMessage};
use crate::trust::webhook::{Delivery, Unfit, WebhookConfig, is_form, is_json};
use crate::trust::{Verified, Verifier};

/// How long the journal may take before its sender is told to come again, in seconds. GitHub waits for 10 s.
pub const DURABLE_SECONDS_MAX: u64 = 8;
/// Of a body that is too large, so much is read and thrown away, so that its sender hears why; in bytes.
const TOO_LARGE_READ_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The webhook of one bus.
pub struct Hook {
    /// The bus's name.
    pub bus: Arc<str>,
    /// Its words, as of the start.
    pub config: Arc<WebhookConfig>,
    /// Judges what comes; follows the rules file.
    pub verifier: Arc<ArcSwap<Verifier>>,
    /// Whether anyone wants a topic.
    pub wants: Wants,
    /// Where it goes.
    pub inbox: Arc<Inbox>,
    /// Asked whether a message is known.
    pub journal: Arc<JournalHandle>,
    /// Asked whether the journal can be written.
    pub health: Arc<Health>,
}

impl Hook {
    /// Where it is posted to.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.config.path
    }

    /// Takes in what is posted.
    pub(super) async fn posted(&self, request: Request<Incoming>) -> Answer {
        if request.method() != Method::POST {
            return Answer::only("POST", "a webhook is posted to");
        }
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        if !is_json(content_type) && !is_form(content_type) {
            return Answer::wrong(415, "the body must be JSON", "send the header Content-Type: application/json");
        }
        if self.health.journal_said().is_some() {
            return Answer::later("the journal can't be written now");
        }
        let counters = &self.inbox.counters;
        Counters::add(&counters.received, 1);
        let (parts, body) = request.into_parts();
        let body = match self.read(body).await {
            Ok(body) => body,
            Err(answer) => {
                Counters::add(&counters.malformed, 1);
                return answer;
            }
        };
        let (headers, number) = (texts(&parts.headers), self.inbox.number());
        let delivery = Delivery { headers, body, received: clock(), number };
        match self.verifier.load().webhook(&delivery, delivery.received) {
            Ok(message) => self.take(delivery, message).await,
            Err(unfit) => self.refuse(delivery, unfit),
        }
    }

    /// The whole body.
    async fn read(&self, body: Incoming) -> Result<Vec<u8>, Answer> {
        let most = self.config.body_bytes_max;
        let too_large = || {
            let hint =
                "`body_bytes_max` of the webhook is at most 1 MiB; send less, or where to look instead of the data";
            Answer::wrong(413, format!("the body has more than {most} bytes"), hint)
        };
        if body.size_hint().lower() > TOO_LARGE_READ_BYTES_MAX {
            return Err(too_large());
        }
        let limit = Duration::from_secs(BODY_SECONDS_MAX);
        match tokio::time::timeout(limit, collect(body, most)).await {
            Ok(Ok(Some(bytes))) => Ok(bytes),
            Ok(Ok(None)) => Err(too_large()),
            Ok(Err(error)) => Err(Answer::wrong(400, format!("the body can't be read: {error}"), "send it again")),
            Err(_) => {
                Err(Answer::wrong(408, format!("the body took longer than {BODY_SECONDS_MAX} s"), "send it again"))
            }
        }
    }

    /// A good message: into the journal, if anyone wants it.
    async fn take(&self, delivery: Delivery, message: Verified<Message>) -> Answer {
        let (id, topic) = (message.get().id.clone(), message.get().topic.clone());
        if !(self.wants)(topic.as_str()) {
            Counters::add(&self.inbox.counters.unwanted, 1);
            return Answer::new(200, json!({"id": id, "topic": topic, "result": "no rule wants it"}));
        }
        let limit = Duration::from_secs(DURABLE_SECONDS_MAX);
        match tokio::time::timeout(limit, self.journal.seen(vec![id.clone()])).await {
            Ok(Ok(known)) if known.contains(&id) => {
                return Answer::new(200, json!({"id": id, "topic": topic, "result": "it came before"}));
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Answer::later("the journal can't be read now"),
        }
        let Some(durable) = self.inbox.put(self.raw(delivery, Form::Judged(Box::new(Ok(message))))) else {
            return Answer::later("too many messages wait for the journal");
        };
        match tokio::time::timeout(limit, durable).await {
            Ok(Ok(())) => Answer::new(202, json!({"id": id, "topic": topic, "result": "taken"})),
            Ok(Err(_)) | Err(_) => Answer::later("the journal does not hold it yet"),
        }
    }

    fn refuse(&self, delivery: Delivery, unfit: Unfit) -> Answer {
        let why = unfit.refusal().clone();
        let reason = why.reason.clone();
        self.inbox.put_refused(self.raw(delivery, Form::Judged(Box::new(Err(why)))));
        match unfit {
            Unfit::Stranger(_) => Answer::stranger(
                reason,
                "the secret must be the same here (`secret: { file: … }`) and where the webhook is set up",
            ),
            Unfit::NotAllowed(_) => {
                Answer::wrong(403, reason, "the bus's `trust: { policy: … }` says who may say what")
            }
            Unfit::Content(_) => Answer::wrong(
                400,
                reason,
                "docs/webhook.md has what a body must be, and what `topic` and `id` can be made of",
            ),
        }
    }

    fn raw(&self, delivery: Delivery, form: Form) -> RawMessage {
        let Delivery { body, received, number: token, .. } = delivery;
        RawMessage { bus: self.bus.clone(), topic: self.config.path.clone(), body, received, token, form }
    }
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queued = self.inbox.counters.queued.load(Ordering::Relaxed);
        f.debug_struct("Hook")
            .field("bus", &self.bus)
            .field("path", &self.config.path)
            .field("queued", &queued)
            .finish()
    }
}

/// All of it; `None` where it is more than `most`. So much more is read that whoever sends it hears the answer.
async fn collect(mut body: Incoming, most: usize) -> Result<Option<Vec<u8>>, hyper::Error> {
    let mut bytes = Vec::new();
    let mut read: u64 = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        read += data.len() as u64;
        if read <= most as u64 {
            bytes.extend_from_slice(&data);
        } else {
            bytes = Vec::new();
        }
        if read > TOO_LARGE_READ_BYTES_MAX {
            break;
        }
    }
    Ok((read <= most as u64).then_some(bytes))
}

fn texts(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for (name, value) in headers {
        if let Ok(text) = std::str::from_utf8(value.as_bytes()) {
            texts.entry(name.as_str().to_owned()).or_insert_with(|| text.to_owned());
        }
    }
    texts
}
