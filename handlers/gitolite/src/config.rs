//! The handler's block of the rules file. Pure.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use handler_api::Failure;
use serde_json::{Map, Value};

use crate::layout::Membership;
use crate::names::GroupName;

/// All of it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The admin repository (`admin`, `ssh`, `author`, `timeout`).
    pub admin: Remote,
    /// `membership: asked` or `compiled` (default).
    pub membership: Membership,
    /// `template`: a file; absent = Fedora's layout.
    pub template: Option<PathBuf>,
    /// `repos`: see [`crate::truth::Truth::open`].
    pub repos: Value,
    /// `accounts`: see [`accounts::Accounts::open`].
    pub accounts: Value,
    /// `groups`: kept in any case, also if no repository names them.
    pub groups: BTreeSet<GroupName>,
    /// `keys: { groups: […] }`: whose ssh keys are kept; absent = none, keydir is somebody else's.
    pub keys: Option<BTreeSet<GroupName>>,
    /// `made_by`: who makes a repository. Absent = gitolite, when it compiles the first rules.
    pub made_by: MadeBy,
}

/// Who makes a repository, and so how it is known that it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MadeBy {
    /// gitolite does, when it compiles.
    Gitolite,
    /// Somebody else, in this directory (`made_by: { path: /srv/git/repositories }`): no rules before `NAME.git` is there.
    Path(PathBuf),
    /// Somebody else; this program is asked (`made_by: { command: […] }`): the name is its last argument, exit 0 = there.
    Command(Vec<String>),
}

/// How to reach the admin repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// `admin`: `git@host:gitolite-admin`, `ssh://…`, or the absolute path of a bare repository.
    pub url: String,
    /// `ssh: { key: NAME }`: the secret with the private key, default `ssh_key`; no such secret = ssh's own ways.
    pub key: String,
    /// `ssh: { known_hosts: PATH }`; absent = ssh's own.
    pub known_hosts: Option<PathBuf>,
    /// `ssh: { config: PATH }`; absent = ssh's own.
    pub ssh_config: Option<PathBuf>,
    /// `author: "reactor <reactor@example.org>"`.
    pub author: (String, String),
    /// `timeout`: how long one fetch or push may take, gitolite's compile in it.
    pub timeout: Duration,
}

impl Config {
    /// Reads the block.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word and says what is expected.
    pub fn read(words: &Map<String, Value>) -> Result<Self, Failure> {
        let _ = words;
        todo!()
    }
}
