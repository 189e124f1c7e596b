//! What `reactor doctor` asks of a handler: can its target and its truth be reached, with which rights.

use serde::{Deserialize, Serialize};

use crate::protocol::Failure;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Whether it is as it must be.
    pub good: bool,
    /// What was looked at, and how it is: one line.
    pub what: String,
    /// The next command to type, or what to write; only where something is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    /// Something is as it must be.
    pub fn good(what: impl Into<String>) -> Self {
        Self { good: true, what: what.into(), hint: None }
    }

    /// Something is not as it must be.
    pub fn bad(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { good: false, what: what.into(), hint: Some(hint.into()) }
    }
}

impl From<Failure> for Finding {
    /// Something that could not even be looked at.
    fn from(failure: Failure) -> Self {
        Self { good: false, what: failure.message().to_owned(), hint: failure.hint().map(str::to_owned) }
    }
}
