//! A Koji hub, over its XML-RPC.
//!
//! Format and behaviour: recorded from a hub 1.35.3 (facts/targets.md; the exchanges are what tests/all/koji replays).
//!
//! * Reading needs no login: plans and dry runs have no use for a credential.
//! * Writing: one session, its calls one after the other. A call whose answer was lost is sent again with the same `callnum`, so it
//!   is never done twice; what it did is then read back, for the hub may answer `None` or `RetryError` to both a done and a failed one.
//! * `multiCall` succeeds in part: every element is judged by itself.

mod xml;

use handler_api::Failure;

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

#[cfg(any())] // The contract of the helper that writes this module:
impl Hub {
    /// Asks nobody. `hub: URL`, `ca`, `timeout`, `login`.
    pub fn new(place: Place) -> Self;
    /// What each (tag, package) is now, inheritance in it: `None` = the package is not in that list. In the order of `asked`;
    /// one `multiCall` of `getPackageConfig` for READS_PER_CALL. Anonymous.
    pub async fn entries(&self, asked: &[(TagName, PackageName)]) -> Result<Vec<Option<Entry>>, Failure>;
    /// The whole list of a tag, inherited and blocked rows too (one call, `listPackages(tagID, inherited=True)`).
    pub async fn list(&self, tag: &TagName) -> Result<Vec<Entry>, Failure>;
    /// Which of these have no account, for certain (`getUser` = None). `multiCall`. Anonymous.
    pub async fn without_account(&self, users: &BTreeSet<UserName>) -> Result<BTreeSet<UserName>, Failure>;
    /// Both of the above in one `multiCall`: what a single change needs.
    pub async fn look(&self, asked: &[(TagName, PackageName)], users: &BTreeSet<UserName>) -> Result<Look, Failure>;
    /// Does at most WRITES_PER_CALL of them in one `multiCall`; a verdict for each, in their order. `Err` = nothing certain is known
    /// of any (offline, login refused, hub gone), or nothing was done. A lost answer is looked into (see above) before this returns.
    pub async fn write(&self, writes: &[Write]) -> Result<Vec<Verdict>, Failure>;
    /// What `reactor doctor` asks: who we are there and which permissions we have; nothing is changed.
    pub async fn who(&self) -> Result<Who, Failure>;
}
