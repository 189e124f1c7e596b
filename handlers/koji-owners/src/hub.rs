//! A Koji hub, over its XML-RPC.
//!
//! Format and behaviour: recorded from a hub 1.35.3 (facts/targets.md; the exchanges are what tests/all/koji replays).
//!
//! * Reading needs no login: plans and dry runs have no use for a credential.
//! * Writing: one session, its calls one after the other. A call whose answer was lost is sent again with the same `callnum`, so it
//!   is never done twice; what it did is then read back, for the hub may answer `None` or `RetryError` to both a done and a failed one.
//! * `multiCall` succeeds in part: every element is judged by itself.

mod calls;
mod certificate;
mod judge;
mod session;
pub mod xml;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use handler_api::Failure;

use self::session::Line;
use crate::names::{PackageName, TagName, UserName};

/// Most writes in one `multiCall`. 500 take a hub some 5 s (facts/targets.md).
pub const WRITES_PER_CALL: usize = 500;
/// Most reads in one `multiCall`.
pub const READS_PER_CALL: usize = 1_000;

/// A row of a tag's package list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which package; text, for a hub has names that we would not send.
    pub package: String,
    /// The owner's name.
    pub owner: String,
    /// Whether builds of it are refused.
    pub blocked: bool,
    /// Architectures beside the tag's own, as the hub has them: parted by spaces.
    pub extra_arches: Option<String>,
    /// The tag that the row stands in: another than the asked one when it is inherited.
    pub tag: String,
}

/// One change of a package list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// In which tag.
    pub tag: TagName,
    /// Which package.
    pub package: PackageName,
    /// What is done.
    pub what: What,
}

/// What is done to a package in a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// `packageListAdd`
    Add {
        /// Its owner.
        owner: UserName,
        /// Parted by spaces: a list would break the hub.
        extra_arches: Option<String>,
    },
    /// `packageListSetOwner`
    SetOwner(UserName),
    /// `packageListBlock`
    Block,
    /// `packageListUnblock`
    Unblock,
}

/// How one write ended. `Ok` = the hub has it.
pub type Verdict = Result<(), Failure>;

/// Where a hub is, and how to log in to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its URL, `https://koji.example.org/kojihub`, as [`accounts::curl::check_url`] gives it back.
    pub hub: String,
    /// The certificates that the hub's is checked against; `None` = the system's.
    pub ca: Option<PathBuf>,
    /// How long one call may take: a hub needs some 4 s for a list of 20,000 packages and 5 s for 500 writes.
    pub timeout: Duration,
    /// Who we are there; `None` = nothing can be written.
    pub login: Option<Login>,
}

/// How to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// With a client certificate: names of secrets, files in PEM.
    Certificate {
        /// The certificate, and perhaps its key in the same file (koji's way).
        certificate: String,
        /// The key, when it is a secret of its own.
        key: Option<String>,
    },
    /// With Kerberos: the name of a secret that is a keytab.
    Keytab(String),
    /// With the Kerberos tickets that are there already.
    Environment,
}

/// What a hub has of what was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// As [`Hub::entries`].
    pub entries: Vec<Option<Entry>>,
    /// As [`Hub::without_account`].
    pub without_account: BTreeSet<UserName>,
}

/// Who we are to a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The user's name.
    pub user: String,
    /// What it may do: `admin` or `tag` is needed to write package lists.
    pub permissions: BTreeSet<String>,
    /// When the client certificate ends, in seconds since 1970; `None` = the login is by Kerberos.
    pub certificate_ends: Option<i64>,
}

/// A hub. Keeps its session from call to call, and logs out when it is dropped (which may block for 2 s).
pub struct Hub {
    line: Line,
}

impl fmt::Debug for Hub {
    /// Without the session, whose key is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hub").field(&self.line.server()).finish()
    }
}

#[cfg(test)]
mod tests;
