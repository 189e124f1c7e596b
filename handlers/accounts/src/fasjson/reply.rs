//! What one answer of FASJSON says. Pure.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::curl::Answer;
use handler_api::words::quoted;

use super::pages::Listing;

/// An answer that is certain.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    /// 200, a JSON object.
    Found(Value),
    /// 404, in FASJSON's own words and about what was asked.
    NotThere,
}

/// Reads an answer. A 404 counts only if it is FASJSON's own: a JSON object with a `message`, and `about` what was asked.
/// A proxy's "not found", or FASJSON's for a path it does not have, is neither.
pub(super) fn reply(answer: &Answer, about: impl Fn(&Value) -> bool) -> Result<Reply, String> {
    let is_json = answer.content_type.split(';').next().is_some_and(|kind| kind.trim() == "application/json");
    let body = serde_json::from_slice::<Value>(&answer.body).ok().filter(|body| is_json && body.is_object());
    let said = said(answer, body.as_ref());
    match (answer.status, body) {
        (200, Some(body)) => Ok(Reply::Found(body)),
        (200, None) => Err(format!("the answer is not a JSON object ({}): {said}", quoted(&answer.content_type))),
        (404, Some(body)) if body["message"].is_string() && about(&body) => Ok(Reply::NotThere),
        (404, _) => Err(format!("the 404 is not FASJSON's own \"not found\" for this: {said}")),
        (401, _) => Err(format!("it does not know who we are (401): {said}; see `kerberos` of the accounts block")),
        (status, _) => Err(format!("HTTP status {status}: {said}")),
    }
}

/// The beginning of what an answer says, for people.
fn said(answer: &Answer, body: Option<&Value>) -> String {
    let message = body.and_then(|body| body["message"].as_str());
    let text = message.map_or_else(|| String::from_utf8_lossy(&answer.body), Into::into);
    if text.trim().is_empty() { "nothing".into() } else { quoted(text.trim()) }
}

impl Reply {
    /// The one object in `result`; `None` if it is not there.
    pub fn one<T: DeserializeOwned>(self) -> Result<Option<T>, String> {
        match self {
            Self::NotThere => Ok(None),
            Self::Found(mut body) => {
                let result = body.get_mut("result").map(Value::take).unwrap_or_default();
                serde_json::from_value(result)
                    .map(Some)
                    .map_err(|error| format!("`result` is not what it should be: {error}"))
            }
        }
    }
}

/// A field that must be there, though it may be null.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

/// One person.
#[derive(Debug, Deserialize)]
pub(super) struct Person {
    pub username: String,
    #[serde(deserialize_with = "present")]
    sshpubkeys: Option<Vec<String>>,
    pub locked: bool,
}

impl Person {
    pub const FIELDS: &str = "username,sshpubkeys,locked";

    pub fn keys(self) -> Vec<String> {
        self.sshpubkeys.unwrap_or_default()
    }
}

/// One person in a list.
#[derive(Debug, Deserialize)]
pub(super) struct Member {
    username: String,
    #[serde(deserialize_with = "present")]
    sshpubkeys: Option<Vec<String>>,
}

impl Member {
    pub const FIELDS: &str = "username,sshpubkeys";

    pub fn into_parts(self) -> (String, Vec<String>) {
        (self.username, self.sshpubkeys.unwrap_or_default())
    }
}

impl Listing for Member {
    fn name(&self) -> &str {
        &self.username
    }
}

/// One group.
#[derive(Debug, Deserialize)]
pub(super) struct GroupName {
    pub groupname: String,
}

impl GroupName {
    pub const FIELDS: &str = "groupname";
}

impl Listing for GroupName {
    fn name(&self) -> &str {
        &self.groupname
    }
}
