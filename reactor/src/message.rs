//! What travels through the pipeline: a raw message before trust, a message after it.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::trust::{Refusal, Verified};

/// Longest topic, in bytes (AMQP routing keys have the same limit).
pub const TOPIC_BYTES_MAX: usize = 255;
/// Most words (parts between dots) in a topic.
pub const TOPIC_WORDS_MAX: usize = 24;
/// Longest message id, in bytes.
pub const ID_BYTES_MAX: usize = 255;
/// Largest body of a message, in bytes. A larger one is refused before it is parsed.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Topics under this prefix are reactor's own; no bus may bring one in.
pub const INTERNAL_PREFIX: &str = "reactor.";

/// A checked topic: words joined by dots, no empty word, no white space or control characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Topic(Arc<str>);

impl Topic {
    /// Checks `text`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the topic is empty".into());
        }
        if text.len() > TOPIC_BYTES_MAX {
            return Err(format!("the topic has {} bytes, at most {TOPIC_BYTES_MAX} are allowed", text.len()));
        }
        if text.split('.').count() > TOPIC_WORDS_MAX {
            return Err(format!("the topic has more than {TOPIC_WORDS_MAX} words"));
        }
        if text.split('.').any(str::is_empty) {
            return Err(format!("the topic `{}` has an empty word", text.escape_debug()));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("the topic `{}` has a white space or control character", text.escape_debug()));
        }
        Ok(Self(text.into()))
    }

    /// The topic as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is one of reactor's own topics (`reactor.…`).
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.0.starts_with(INTERNAL_PREFIX)
    }
}

impl TryFrom<String> for Topic {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl From<Topic> for String {
    fn from(topic: Topic) -> Self {
        topic.0.as_ref().to_owned()
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// What a bus hands over: nothing in it is believed yet.
#[derive(Clone, Debug)]
pub struct RawMessage {
    /// The bus it came from (its name in `rules.yaml`).
    pub bus: Arc<str>,
    /// The topic as the transport gave it (frame 0 for fedmsg). Must equal the topic in the body.
    pub topic: String,
    /// The body as it came, at most [`BODY_BYTES_MAX`] bytes.
    pub body: Vec<u8>,
    /// When it arrived.
    pub received: Timestamp,
    /// The source's own number for it; handed back in `ack`.
    pub token: u64,
    /// How the transport carries what is not the body.
    pub form: Form,
}

/// How a transport carries what is not the payload.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Form {
    /// All of it is in the body: an envelope as fedmsg has it, or a line of JSON.
    #[default]
    Envelope,
    /// Beside the body, as AMQP has it; or why it can't be a message.
    Amqp(Box<Result<Unsigned, String>>),
    /// An envelope that a server kept and handed over later (`catch_up`).
    Kept {
        /// The signer of one that carries no signature, where the site believes that server; `None`: such are refused.
        believed_as: Option<&'static str>,
    },
    /// Judged as it came, because its sender waits for the answer (a webhook).
    Judged(Box<Result<Verified<Message>, Refusal>>),
}

/// What comes beside a body that nobody signed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unsigned {
    /// The publisher's id (`message_id`).
    pub id: Option<String>,
    /// How the body's text is encoded (`content_encoding`); UTF-8 where it is not said.
    pub encoding: Option<String>,
    /// The publisher's headers.
    pub headers: Map<String, Value>,
}

/// One thing that happened, as published on a bus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The dedupe key: the publisher's id, or one derived from the content where there is none.
    pub id: String,
    /// What kind of thing happened.
    pub topic: Topic,
    /// When the publisher says it happened; the time of arrival where it does not say.
    pub sent: Timestamp,
    /// The bus it came from.
    pub bus: Arc<str>,
    /// Who signed it: certificate CN, GPG fingerprint, `file:NAME` for a local file, `reactor` for our own,
    /// `unsigned` or `broker` where the site accepts those, `webhook:BUS` for who knows the secret of that bus.
    pub signer: String,
    /// The payload (`msg` in a fedmsg envelope). Named `msg` in rules, `body` in the handler protocol.
    pub body: Value,
    /// Headers of the envelope, usually empty.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub headers: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_words_joined_by_dots() {
        assert!(Topic::new("org.fedoraproject.prod.fas.user.update").is_ok());
        for wrong in ["", ".", "a..b", "a.", ".a", "a b", "a\nb", &"x".repeat(256), &["w"; 25].join(".")] {
            assert!(Topic::new(wrong).is_err(), "{wrong}");
        }
    }
}
