//! The JSON lines of protocol version 1. No IO.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::params::{ParamType, Params};

/// The version of the protocol that this crate speaks.
pub const VERSION: u32 = 1;

/// Exit codes with a meaning. Any other, a signal or a timeout is taken as temporary.
pub mod exit {
    /// Done, or planned.
    pub const OK: i32 = 0;
    /// Permanent: bad data (`EX_DATAERR` of sysexits.h).
    pub const PERMANENT: i32 = 65;
    /// Try later (`EX_TEMPFAIL` of sysexits.h); in apply: the world moved, plan again.
    pub const TRY_LATER: i32 = 75;
}

/// What a handler says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Describe {
    /// The protocol version it speaks.
    pub reactor: u32,
    /// Its name.
    pub name: String,
    /// Its own version.
    #[serde(default)]
    pub version: String,
    /// One sentence.
    #[serde(default)]
    pub about: String,
    /// Its parameters and their types.
    #[serde(default)]
    pub params: BTreeMap<String, ParamType>,
    /// Whether it can plan. One that can't is refused in a dry run, never faked: its plan is one change `run`.
    #[serde(default = "yes")]
    pub plan: bool,
    /// Whether one process serves many requests (`HANDLER serve`).
    #[serde(default)]
    pub serve: bool,
    /// The names of the secrets it needs.
    #[serde(default)]
    pub secrets: Vec<String>,
}

impl Describe {
    /// What a handler written with [`crate::serve()`] says: it plans, serves, and needs no secret that its configuration does not
    /// name. `params` are names and types (`name?`); a type that is none is left out.
    #[must_use]
    pub fn served(name: &str, version: &str, about: &str, params: &[(&str, &str)]) -> Self {
        let params = params.iter().filter_map(|&(name, kind)| Some((name.to_owned(), ParamType::parse(kind).ok()?)));
        Self {
            reactor: VERSION,
            name: name.to_owned(),
            version: version.to_owned(),
            about: about.to_owned(),
            params: params.collect(),
            plan: true,
            serve: true,
            secrets: Vec::new(),
        }
    }
}

const fn yes() -> bool {
    true
}

/// What a change does to its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The target is new.
    Create,
    /// The target is there and becomes different.
    Update,
    /// The target goes away. Counted by the guard's `deletes`.
    Delete,
    /// Something is done that has no before and after.
    Run,
}

/// One difference. In a plan it *would be*, in an apply it *is done*. Unknown fields are kept and handed back verbatim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// What is done.
    pub action: Action,
    /// To what, in words a person knows: `alias ralph`, `host web01: key SHA256:…`.
    pub target: String,
    /// What stands there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What will stand there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// Before and after are secret: the journal and every print-out hold a hash.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// Why it always waits for a person, whatever the guard's limits are. At most
    /// [`HOLD_BYTES_MAX`](crate::limits::HOLD_BYTES_MAX) bytes are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// How many differences of this kind this one line stands for, where a line each would be too many to read; absent = 1.
    /// The guard counts it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// What else the handler put in; comes back to it in apply.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Change {
    /// Whether `other` is the same difference: the same action on the same target.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.action == other.action && self.target == other.target
    }
}

/// What a plan says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What would change. None = nothing is to do.
    pub changes: Vec<Change>,
    /// What a person should know that is no change and no failure: a sentence each. At most
    /// [`NOTES_MAX`](crate::limits::NOTES_MAX) of [`NOTE_BYTES_MAX`](crate::limits::NOTE_BYTES_MAX) bytes are shown.
    pub notes: Vec<String>,
}

impl From<Vec<Change>> for Plan {
    fn from(changes: Vec<Change>) -> Self {
        Self { changes, notes: Vec::new() }
    }
}

/// What an apply could not do now and leaves to a reaction of its own, so that its lane need not wait for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Later {
    /// The key of that reaction; with the handler it names its lane.
    pub key: String,
    /// Its parameters, instead of the rule's.
    #[serde(default)]
    pub with: Params,
    /// Why it could not be done now: what failed, on what.
    pub why: String,
    /// What it is about. Every planned change whose target is this, or begins with this, a colon and a space (`h7: ralph`),
    /// is thereby accounted for: it is not missed when plan and apply are compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// A message as a handler sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageView {
    /// Its id.
    pub id: String,
    /// Its topic.
    pub topic: String,
    /// When it was sent, RFC 3339 in UTC.
    pub sent: String,
    /// Who signed it.
    pub signer: String,
    /// The payload.
    pub body: Value,
}

/// What a handler gets on stdin, one JSON object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The protocol version.
    pub reactor: u32,
    /// Only to a long-lived handler: the number that its answer carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Only to a long-lived handler, where the verb is not on the command line: `plan` or `apply`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verb: Option<String>,
    /// The reaction's id.
    pub reaction: String,
    /// The rule's name.
    pub rule: String,
    /// The lane's key.
    pub key: String,
    /// 1 at the first try.
    pub attempt: u32,
    /// The rule's `with`, rendered and checked.
    pub with: Params,
    /// The handler's own block of the rules file, where it has one.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    /// The messages that led here, oldest first; none for a reconcile.
    pub messages: Vec<MessageView>,
    /// Only in apply: the plan's changes, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<Change>>,
}

/// Why a handler could not do its work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// Temporary: try again, after the given time if it says so.
    #[error("{message}")]
    Retry {
        /// What failed, on what, why.
        message: String,
        /// The next command to type, or where to look.
        hint: Option<String>,
        /// When to try again; held within the rule's limits.
        after: Option<Duration>,
    },
    /// Bad data: trying again can't help.
    #[error("{message}")]
    Permanent {
        /// What failed, on what, why.
        message: String,
        /// The next command to type, or where to look.
        hint: Option<String>,
    },
}

impl Failure {
    /// A temporary failure with neither hint nor time.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::Retry { message: message.into(), hint: None, after: None }
    }

    /// A permanent failure without a hint.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::Permanent { message: message.into(), hint: None }
    }

    /// The same failure with this hint; a hint that it has already stays.
    #[must_use]
    pub fn hinting(mut self, text: impl Into<String>) -> Self {
        let (Self::Retry { hint, .. } | Self::Permanent { hint, .. }) = &mut self;
        if hint.is_none() {
            *hint = Some(text.into());
        }
        self
    }

    /// What failed, on what, why.
    #[must_use]
    pub fn message(&self) -> &str {
        let (Self::Retry { message, .. } | Self::Permanent { message, .. }) = self;
        message
    }

    /// The next command to type, or where to look.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        let (Self::Retry { hint, .. } | Self::Permanent { hint, .. }) = self;
        hint.as_deref()
    }

    /// The exit code that says this.
    #[must_use]
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::Retry { .. } => exit::TRY_LATER,
            Self::Permanent { .. } => exit::PERMANENT,
        }
    }
}
