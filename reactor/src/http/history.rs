//! `GET /raw` and `GET /id`: the messages that the journal holds, asked and told as datagrepper does it, so that what was written
//! for datagrepper can catch up from us. The journal is read over a connection of its own: no question holds up what is written.
//!
//! * `arguments`: what is asked; every parameter that would change the answer and is not known is an error

mod arguments;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST};
use serde_json::{Map, Value, json};

use self::arguments::Arguments;
use super::HistoryAccess;
use super::answer::Answer;
use crate::engine::clock;
use crate::journal::handle::JournalHandle;
use crate::journal::{Answer as Told, Kept, Page, Question, Wanted, place};
use crate::message::Message;
use crate::trust::webhook::Bearer;

/// How long one question may take, in seconds.
pub const QUESTION_SECONDS_MAX: u64 = 20;

/// The history of one journal.
pub(super) struct History {
    journal: Arc<JournalHandle>,
    /// `None`: whoever can connect may ask.
    bearer: Option<Bearer>,
}

impl History {
    /// Opens the journal once more, to read it. The daemon has opened it before.
    pub(super) async fn open(state: &Path, access: HistoryAccess) -> anyhow::Result<Self> {
        let state = state.to_owned();
        let opened = tokio::task::spawn_blocking(move || JournalHandle::open(place::open_read_only(&state)?)).await?;
        let bearer = match access {
            HistoryAccess::Anyone => None,
            HistoryAccess::Token(file) => Some(Bearer::open(file)),
        };
        for problem in bearer.iter().flat_map(|bearer| bearer.problems(clock())) {
            tracing::warn!("http: nobody is told the history: {problem}");
        }
        Ok(Self { journal: Arc::new(opened?), bearer })
    }

    /// `GET /raw`.
    pub(super) async fn raw(&self, request: &Request<Incoming>) -> Answer {
        match self.try_raw(request).await {
            Ok(answer) | Err(answer) => answer,
        }
    }

    async fn try_raw(&self, request: &Request<Incoming>) -> Result<Answer, Answer> {
        self.admit(request)?;
        let now = clock();
        let arguments = Arguments::read(request.uri().query().unwrap_or(""), now).map_err(wrong)?;
        let Page { total, messages } = self.ask(arguments.wanted()).await?;
        let rows: Vec<Value> = messages.iter().map(shown).collect();
        let pages = total.div_ceil(arguments.rows_per_page as u64);
        let body = json!({
            "raw_messages": rows, "total": total, "pages": pages, "count": rows.len(), "arguments": arguments.shown(),
        });
        Ok(Answer::new(200, body))
    }

    /// `GET /id?id=…`.
    pub(super) async fn id(&self, request: &Request<Incoming>) -> Answer {
        match self.try_id(request).await {
            Ok(answer) | Err(answer) => answer,
        }
    }

    async fn try_id(&self, request: &Request<Incoming>) -> Result<Answer, Answer> {
        self.admit(request)?;
        let id = arguments::id(request.uri().query().unwrap_or("")).map_err(wrong)?;
        let page = self.ask(Wanted { id: Some(id), at_most: 1, ..Wanted::default() }).await?;
        let gone = "it never came, or is older than the journal keeps (`journal: { keep: … }`)";
        page.messages
            .first()
            .map(|message| Answer::new(200, shown(message)))
            .ok_or_else(|| Answer::wrong(404, "no message has this id", gone))
    }

    /// Whether who asks may.
    fn admit(&self, request: &Request<Incoming>) -> Result<(), Answer> {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        match &self.bearer {
            Some(bearer) => bearer.check(header(AUTHORIZATION), clock()).map_err(|why| {
                Answer::stranger(
                    why,
                    "send Authorization: Bearer TOKEN; the token is in the file under `http: { history: … }`",
                )
            }),
            None if header(HOST).is_some_and(is_this_machine) => Ok(()),
            None => Err(Answer::wrong(
                403,
                "without a token the history is told only under the name of this machine",
                "ask http://127.0.0.1/…; for others `http: { history: { token: { file: … } } }`",
            )),
        }
    }

    async fn ask(&self, wanted: Wanted) -> Result<Page, Answer> {
        let asked = self.journal.ask(Question::Messages(Box::new(wanted)));
        match tokio::time::timeout(Duration::from_secs(QUESTION_SECONDS_MAX), asked).await {
            Ok(Ok(Told::Messages(page))) => Ok(page),
            Ok(Err(error)) => {
                tracing::warn!("http: the history can't be read: {error}");
                Err(Answer::later("the journal can't be read now"))
            }
            Ok(Ok(_)) | Err(_) => Err(Answer::later(format!("the journal took longer than {QUESTION_SECONDS_MAX} s"))),
        }
    }
}

fn wrong((error, hint): (String, String)) -> Answer {
    Answer::wrong(400, error, &hint)
}

/// A page of a stranger that a browser on this machine shows could ask us under that stranger's own name: a name that leads to
/// 127.0.0.1. So without a token only our own names count.
fn is_this_machine(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A message as datagrepper tells one (`__json__` of datanommer.models): with the fields of its envelope where that is kept, and no others
/// but those that fedmsg's `fix_datagrepper_message` takes out again before it checks the signature.
fn shown(kept: &Kept) -> Value {
    let message = &kept.message;
    let envelope = kept.envelope.as_deref().and_then(|json| serde_json::from_str::<Map<String, Value>>(json).ok());
    let mut shown = envelope.unwrap_or_else(|| unsigned(message));
    shown.insert("msg".into(), message.body.clone());
    shown.entry("headers").or_insert_with(|| json!({}));
    shown.insert("source_name".into(), "reactor".into());
    shown.insert("source_version".into(), env!("CARGO_PKG_VERSION").into());
    Value::Object(shown)
}

/// As datagrepper tells what came by fedora-messaging.
fn unsigned(message: &Message) -> Map<String, Value> {
    let fields = json!({
        "i": 0, "msg_id": message.id, "topic": message.topic, "timestamp": seconds(message.sent), "certificate": null,
        "signature": null, "agent_name": null, "username": null, "crypto": null, "msg": null,
        "headers": message.headers, "users": named(&message.headers, "fedora_messaging_user_"),
        "packages": named(&message.headers, "fedora_messaging_rpm_"),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// What headers of fedora-messaging name: `fedora_messaging_user_ralph: true`.
fn named(headers: &Map<String, Value>, prefix: &str) -> Vec<String> {
    let of = headers.iter().filter(|(_, value)| **value == Value::Bool(true));
    of.filter_map(|(name, _)| name.strip_prefix(prefix)).map(str::to_owned).collect()
}

fn seconds(at: jiff::Timestamp) -> f64 {
    at.as_microsecond() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_ours() {
        for ours in ["localhost", "localhost:8080", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:8080", "LOCALHOST"] {
            assert!(is_this_machine(ours), "{ours}");
        }
        for other in ["example.org", "example.org:8080", "10.0.0.1", "localhost.example.org", "", "[::2]:80"] {
            assert!(!is_this_machine(other), "{other}");
        }
    }
}
