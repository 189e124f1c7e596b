//! Messages that come as an HTTP POST: whoever knows the secret of the bus said them. The signature covers the body; GitLab's
//! newer one also the delivery's id and time. Other headers are believed as far as the way they came is (TLS).
//!
//! * `secrets`: the files of the secrets, and what each kind of sender makes of one

mod secrets;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::{Map, Value};

use self::secrets::Secrets;
use super::encoding::sha256_hex;
use super::policy::Policy;
use super::watched::Watched;
use super::{Refusal, Verified, broker};
use crate::message::{ID_BYTES_MAX, Message, Topic};
use crate::rules::scope::{EvalError, Scope};
use crate::rules::template::Template;

/// Before the bus's name: who said what came by its webhook.
pub const SIGNER_PREFIX: &str = "webhook:";
/// How far the time in a signature may be from ours, in seconds.
pub const TIMESTAMP_SECONDS_MAX: i64 = 300;
/// Most headers that a message keeps.
pub const HEADERS_KEPT_MAX: usize = 32;
/// Longest value of a header that a message keeps, in bytes.
pub const HEADER_BYTES_MAX: usize = 1_024;

/// How a sender proves that it knows the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// `X-Hub-Signature-256: sha256=HEX`, HMAC-SHA256 of the body.
    Github,
    /// `webhook-signature: v1,BASE64` (standardwebhooks.com) for a secret that begins with `whsec_`, else the secret itself
    /// in `X-Gitlab-Token`.
    Gitlab,
    /// `X-Forgejo-Signature: HEX` or `X-Gitea-Signature: HEX`, HMAC-SHA256 of the body.
    Forgejo,
    /// `Authorization: Bearer SECRET`.
    Token,
}

/// `bus.NAME.webhook`.
#[derive(Debug)]
pub struct WebhookConfig {
    /// Where it is posted to, as `/hook/NAME`.
    pub path: String,
    /// The files of the secrets; each one is good.
    pub secrets: Vec<PathBuf>,
    /// How the sender proves that it knows one.
    pub signature: Signature,
    /// Makes the topic, of `msg` and `headers`.
    pub topic: Template,
    /// Makes the id, of `msg` and `headers`; without it, the sender's own id of the delivery.
    pub id: Option<Template>,
    /// Largest body, in bytes.
    pub body_bytes_max: usize,
}

/// One POST, as it came.
#[derive(Debug)]
pub struct Delivery {
    /// Names in small letters; of a name that comes twice the first; only what is text.
    pub headers: BTreeMap<String, String>,
    /// The body, at most [`WebhookConfig::body_bytes_max`] bytes.
    pub body: Vec<u8>,
    /// When it arrived.
    pub received: Timestamp,
    /// Its number since the start: two that come in one instant are two.
    pub number: u64,
}

/// Why a delivery is no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Who sent it does not know the secret.
    Stranger(Refusal),
    /// It knows it, but may not say this topic.
    NotAllowed(Refusal),
    /// It may, but this can't be a message.
    Content(Refusal),
}

impl Unfit {
    /// Why, for the journal.
    #[must_use]
    pub const fn refusal(&self) -> &Refusal {
        match self {
            Self::Stranger(refusal) | Self::NotAllowed(refusal) | Self::Content(refusal) => refusal,
        }
    }
}

/// Judges what one bus's webhook brings.
pub(super) struct Webhook {
    bus: std::sync::Arc<str>,
    config: std::sync::Arc<WebhookConfig>,
    secrets: Watched<Secrets>,
}

impl Webhook {
    pub(super) fn open(bus: std::sync::Arc<str>, config: std::sync::Arc<WebhookConfig>) -> Self {
        let secrets = Watched::open(config.secrets.clone(), Secrets::read);
        Self { bus, config, secrets }
    }

    pub(super) fn problems(&self, now: Timestamp) -> Vec<String> {
        self.secrets.current(now).problems.clone()
    }

    /// The message, if its sender knows the secret and may say its topic.
    pub(super) fn judge(
        &self,
        delivery: &Delivery,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Verified<Message>, Unfit> {
        let known = self.secrets.current(now).check(self.config.signature, delivery, now);
        known.map_err(|why| Unfit::Stranger(Refusal::new(why)))?;
        let signer = format!("{SIGNER_PREFIX}{}", self.bus);
        let message = self.message(delivery, &signer).map_err(|why| Unfit::Content(Refusal::of(&signer, why)))?;
        let allowed = policy.allows(message.topic.as_str(), &signer);
        allowed.map_err(|why| Unfit::NotAllowed(Refusal::of(&signer, why)))?;
        Ok(Verified(message))
    }

    fn message(&self, delivery: &Delivery, signer: &str) -> Result<Message, String> {
        let mut message = Message {
            id: String::new(),
            // Until the template has been asked; it can't name it.
            topic: Topic::new("webhook")?,
            sent: delivery.received,
            bus: self.bus.clone(),
            signer: signer.to_owned(),
            body: broker::body(&json_of(delivery)?, None)?,
            headers: kept(&delivery.headers),
        };
        let topic = self.config.topic.render(&Scope::new(&[&message])).map_err(|why| unmade("topic", &why))?;
        let topic = Topic::new(&topic)?;
        if topic.is_internal() {
            return Err(format!("{topic} is one of reactor's own topics, which no bus may bring in"));
        }
        let given = match &self.config.id {
            Some(id) => Some(id.render(&Scope::new(&[&message])).map_err(|why| unmade("id", &why))?),
            None => delivery_id(self.config.signature, &delivery.headers).map(str::to_owned),
        };
        message.id = self.id(given.as_deref(), topic.as_str(), delivery);
        message.topic = topic;
        Ok(message)
    }

    /// Begins with the bus, so that no sender can take an id that belongs to a message of another bus. Without an id of the
    /// sender's own, the time of arrival is a part of it: what comes twice runs twice then, which is harmless; two that are
    /// taken for one would not be.
    fn id(&self, given: Option<&str>, topic: &str, delivery: &Delivery) -> String {
        let own = format!("{SIGNER_PREFIX}{}:", self.bus);
        match given.filter(|id| !id.is_empty()) {
            Some(id) if own.len() + id.len() <= ID_BYTES_MAX && !id.chars().any(char::is_control) => own + id,
            Some(id) => own + "sha256-" + &sha256_hex(&[id.as_bytes()]),
            None => {
                let time = format!("{} {}", delivery.received, delivery.number);
                own + "sha256-" + &sha256_hex(&[topic.as_bytes(), b"\0", time.as_bytes(), b"\0", &delivery.body])
            }
        }
    }
}

fn unmade(what: &str, why: &EvalError) -> String {
    format!("its {what} can't be made: {why}")
}

/// What the sender calls this delivery; the same when it sends it again.
fn delivery_id(signature: Signature, headers: &BTreeMap<String, String>) -> Option<&str> {
    // GitLab's X-Gitlab-Event-UUID is not among them: deliveries that led to one another share it.
    let names: &[&str] = match signature {
        Signature::Github => &["x-github-delivery"],
        Signature::Gitlab => &["webhook-id", "idempotency-key"],
        Signature::Forgejo => &["x-forgejo-delivery", "x-gitea-delivery"],
        Signature::Token => &["idempotency-key"],
    };
    names.iter().find_map(|name| headers.get(*name)).map(String::as_str)
}

/// Whether the body is a form, as GitHub and Forgejo can send it.
pub(crate) fn is_form(content_type: &str) -> bool {
    is_type(content_type, |kind| kind == "application/x-www-form-urlencoded")
}

/// Whether the body is JSON.
pub(crate) fn is_json(content_type: &str) -> bool {
    is_type(content_type, |kind| {
        kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")
    })
}

fn is_type(content_type: &str, fits: impl Fn(&str) -> bool) -> bool {
    fits(content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str())
}

/// The JSON that the body is, or that stands in its form under `payload`.
fn json_of(delivery: &Delivery) -> Result<Cow<'_, [u8]>, String> {
    if !is_form(delivery.headers.get("content-type").map_or("", String::as_str)) {
        return Ok(Cow::Borrowed(&delivery.body));
    }
    let mut fields = form_urlencoded::parse(&delivery.body);
    let payload = fields.find(|(name, _)| name == "payload").map(|(_, json)| json.into_owned().into_bytes());
    let none = "the form has no field `payload`; curl sends JSON with -H 'Content-Type: application/json'";
    payload.map(Cow::Owned).ok_or_else(|| none.into())
}

/// The headers that tell something about the message: those of the senders (`X-…`) and ids. Never one that may hold a
/// secret or say whose address it came from: the journal keeps them.
fn kept(headers: &BTreeMap<String, String>) -> Map<String, Value> {
    let of_sender = |name: &str| name.starts_with("x-") || matches!(name, "webhook-id" | "idempotency-key");
    let secret = ["token", "signature", "secret", "auth", "api-key", "apikey", "cookie", "passw", "cert", "session"];
    let of_proxy = ["x-forwarded-", "x-real-ip", "x-client-", "x-original-"];
    let good = |name: &str| {
        of_sender(name)
            && !secret.iter().any(|part| name.contains(part))
            && !of_proxy.iter().any(|start| name.starts_with(start))
    };
    let fits = headers.iter().filter(|(name, value)| good(name) && value.len() <= HEADER_BYTES_MAX);
    fits.take(HEADERS_KEPT_MAX).map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect()
}

/// A token in a file, which whoever asks has to send as `Authorization: Bearer TOKEN`. Read again when it changes.
pub struct Bearer(Watched<Secrets>);

impl Bearer {
    /// Reads the file; one that can't be read admits nobody.
    #[must_use]
    pub fn open(file: PathBuf) -> Self {
        Self(Watched::open(vec![file], Secrets::read))
    }

    /// What is wrong with the file.
    #[must_use]
    pub fn problems(&self, now: Timestamp) -> Vec<String> {
        self.0.current(now).problems.clone()
    }

    /// Whether this is the token.
    ///
    /// # Errors
    /// What is wrong; nothing of the token is in it.
    pub fn check(&self, authorization: Option<&str>, now: Timestamp) -> Result<(), String> {
        self.0.current(now).bearer(authorization.ok_or("there is no header Authorization")?)
    }
}
