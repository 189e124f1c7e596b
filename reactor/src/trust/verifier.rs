//! Raw message → verified message, or a refusal that says why. Time comes in as an argument; the only IO is reading the
//! files of keys, certificates and revocation lists when they change.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Map;

use super::encoding::sha256_hex;
use super::envelope::{Claim, Envelope};
use super::gpg::Gpg;
use super::policy::Policy;
use super::schemas::Schemas;
use super::webhook::{Delivery, Unfit, Webhook, WebhookConfig};
use super::x509::{X509, verify_signature_alone};
use super::{Refusal, TrustConfig, Verified, broker};
use crate::message::{Form, Message, RawMessage, Unsigned};

/// The signer of messages without a signature, where the site accepts those.
pub const UNSIGNED: &str = "unsigned";
/// Why a message is refused that came late and without a signature.
pub const NOT_SIGNED_LATE: &str =
    "it carries no signature, and the server that kept it is not believed without (`believe`)";

/// Checks the messages of one bus. Cheap to share: all methods take `&self`.
pub struct Verifier {
    x509: Option<X509>,
    gpg: Option<Gpg>,
    policy: Policy,
    accept_unsigned: bool,
    accept_broker: bool,
    schemas: Option<Schemas>,
    webhook: Option<Webhook>,
}

impl Verifier {
    /// Reads the files that `config` names. Never fails: a file that can't be read refuses messages, and
    /// [`Verifier::problems`] says so.
    #[must_use]
    pub fn open(config: TrustConfig) -> Self {
        Self {
            x509: config.x509.as_ref().map(X509::open),
            gpg: config.gpg_keys.map(Gpg::open),
            policy: Policy::new(&config.policy, config.accept_unlisted),
            accept_unsigned: config.accept_unsigned,
            accept_broker: config.accept_broker,
            schemas: config.schemas.as_deref().map(Schemas::open),
            webhook: None,
        }
    }

    /// The same, for what comes by the webhook of the bus of that name.
    #[must_use]
    pub fn with_webhook(self, bus: Arc<str>, config: Arc<WebhookConfig>) -> Self {
        Self { webhook: Some(Webhook::open(bus, config)), ..self }
    }

    /// Whether a delivery is genuine and may say its topic. Whoever brings it hands the answer on as [`Form::Judged`].
    ///
    /// # Errors
    /// The first thing that is wrong, in words.
    pub fn webhook(&self, delivery: &Delivery, now: Timestamp) -> Result<Verified<Message>, Unfit> {
        let none = || Unfit::Stranger(Refusal::new("the bus has no webhook any more"));
        self.webhook.as_ref().ok_or_else(none)?.judge(delivery, &self.policy, now)
    }

    /// Whether the message is genuine and its signer may use its topic.
    ///
    /// # Errors
    /// The first thing that is wrong, in words.
    pub fn verify(&self, raw: &RawMessage, now: Timestamp) -> Result<Verified<Message>, Refusal> {
        let message = match &raw.form {
            // Who sent it waits for the answer, so it was judged when it came, by `webhook` of this bus.
            Form::Judged(judged) => return judged.as_ref().clone(),
            Form::Envelope => self.enveloped(raw, now, self.accept_unsigned.then_some(UNSIGNED))?,
            // Whether live messages need a signature says nothing of what somebody kept.
            Form::Kept { believed_as } => {
                self.fitting(self.enveloped(raw, now, *believed_as)?).map_err(Refusal::new)?
            }
            Form::Amqp(form) if self.accept_broker => self.of_broker(raw, form).map_err(Refusal::new)?,
            Form::Amqp(_) => {
                return Err(Refusal::new(
                    "a broker tells nobody who sent it, and the trust block has no `broker: accept`",
                ));
            }
        };
        let allowed = self.policy.allows(message.topic.as_str(), &message.signer);
        allowed.map_err(|why| Refusal { reason: why, signer: Some(message.signer.clone()) })?;
        Ok(Verified(message))
    }

    /// The message that a broker brought.
    fn of_broker(&self, raw: &RawMessage, form: &Result<Unsigned, String>) -> Result<Message, String> {
        self.fitting(broker::message(raw, form)?)
    }

    /// The message, if its body fits its schema.
    fn fitting(&self, message: Message) -> Result<Message, String> {
        match &self.schemas {
            Some(schemas) => schemas.check(&message).map(|()| message),
            None => Ok(message),
        }
    }

    /// The message of an envelope, if its signature is good; or if it has none, and `unsigned` says whose it is then.
    fn enveloped(&self, raw: &RawMessage, now: Timestamp, unsigned: Option<&str>) -> Result<Message, Refusal> {
        let envelope = Envelope::read(&raw.body, &raw.topic).map_err(Refusal::new)?;
        match envelope.claim().map_err(Refusal::new)? {
            Claim::X509 { certificate, signature } => {
                let x509 = self.x509.as_ref().ok_or_else(|| {
                    Refusal::new("it is signed with a certificate (x509), which the trust block does not accept")
                })?;
                let signed = envelope.signed_by_x509();
                let signer = x509.verify(certificate, signature, &signed, now)?;
                whole(&envelope, raw, &signed, signer)
            }
            Claim::Gpg { signature } => {
                let gpg = self
                    .gpg
                    .as_ref()
                    .ok_or_else(|| Refusal::new("it is signed with gpg, which the trust block does not accept"))?;
                let signed = envelope.signed_by_gpg().map_err(Refusal::new)?;
                let signer = gpg.verify(signature, &signed, now)?;
                payload_only(&envelope, raw, &signed, signer)
            }
            Claim::Unsigned => match (unsigned, &raw.form) {
                (Some(signer), _) => whole(&envelope, raw, &envelope.signed_by_x509(), signer.to_owned()),
                (None, Form::Kept { .. }) => Err(Refusal::new(NOT_SIGNED_LATE)),
                (None, _) => Err(Refusal::new("it carries no signature")),
            },
        }
    }

    /// What is wrong with the keys, the CA, its revocation list or the schemas at `now`: as long as it is so, messages are refused.
    #[must_use]
    pub fn problems(&self, now: Timestamp) -> Vec<String> {
        let mut problems = self.x509.as_ref().map(|x509| x509.problems(now)).unwrap_or_default();
        problems.extend(self.gpg.as_ref().map(|gpg| gpg.problems(now)).unwrap_or_default());
        problems.extend(self.schemas.as_ref().map(Schemas::problems).unwrap_or_default());
        problems.extend(self.webhook.as_ref().map(|webhook| webhook.problems(now)).unwrap_or_default());
        problems
    }
}

/// The message of an envelope that the signature covers as a whole.
fn whole(envelope: &Envelope<'_>, raw: &RawMessage, signed: &[u8], signer: String) -> Result<Message, Refusal> {
    let because = |why| Refusal { reason: why, signer: Some(signer.clone()) };
    Ok(Message {
        id: envelope.id(signed),
        topic: envelope.topic.clone(),
        sent: envelope.sent().unwrap_or(raw.received),
        bus: raw.bus.clone(),
        body: envelope.msg().map_err(because)?,
        headers: envelope.headers().map_err(because)?,
        signer,
    })
}

/// The message of an envelope of which only `msg` is signed. What anyone could have changed is not used: the id is made of
/// the topic and the signed bytes, so that the same content under another `msg_id` is still the same message; the time
/// is that of arrival; there are no headers. The topic stays unproven: the policy has to say who may use it.
fn payload_only(envelope: &Envelope<'_>, raw: &RawMessage, signed: &[u8], signer: String) -> Result<Message, Refusal> {
    let body = envelope.msg().map_err(|why| Refusal { reason: why, signer: Some(signer.clone()) })?;
    Ok(Message {
        id: format!("gpg-{}", sha256_hex(&[envelope.topic.as_str().as_bytes(), b"\0", signed])),
        topic: envelope.topic.clone(),
        sent: raw.received,
        bus: raw.bus.clone(),
        body,
        headers: Map::new(),
        signer,
    })
}

/// Checks only the signature of a body against the certificate that it carries itself: not who issued that, not its dates,
/// no policy. For telling apart "changed on the way" and "not trusted".
///
/// # Errors
/// Why the signature does not hold.
pub fn signature_alone(body: &[u8]) -> Result<String, Refusal> {
    let envelope = Envelope::read(body, "").map_err(Refusal::new)?;
    match envelope.claim().map_err(Refusal::new)? {
        Claim::X509 { certificate, signature } => {
            verify_signature_alone(certificate, signature, &envelope.signed_by_x509())
        }
        _ => Err(Refusal::new("it carries no certificate")),
    }
}
