//! Who may log in where: groups of hosts, the account groups that may log in, the options of their keys. Pure but for
//! reading the file or asking the command.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The inventory.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Hosts by name.
    pub hosts: BTreeMap<String, Arc<Host>>,
}

/// One host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name in plans.
    pub name: String,
    /// How it is reached.
    pub reach: Reach,
    /// Where the keys stand.
    pub place: Place,
    /// Which account groups may log in, most privileged first.
    pub access: Vec<Access>,
}

/// How a host is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// This machine.
    Local,
    /// Over ssh.
    Ssh {
        /// Host name or address for ssh; may be an alias of the site's ssh_config.
        address: String,
        /// `None` = ssh's own default.
        port: Option<u16>,
        /// Who to log in as.
        user: Option<String>,
        /// Whether commands run under `sudo -n`.
        sudo: bool,
    },
}

/// Where the keys stand, in the words of sshd_config's `AuthorizedKeysFile`: `%u`, `%h`, `%%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `DIR/%u`: a file for each user in a directory that only root can write to.
    Directory(String),
    /// `%h/.ssh/authorized_keys`, or any path with `%u` or `%h` before the last slash: the user's own, written with the
    /// user's own rights.
    Own(String),
}

/// What one account group may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The account group.
    pub group: String,
    /// The options before each key, checked; empty = a full login.
    pub options: Vec<String>,
}

impl Host {
    /// The options for somebody in these groups; `None` = may not log in. Without options wins over with options; among
    /// those with options the earlier.
    #[must_use]
    pub fn options(&self, user: &str, groups: &BTreeSet<String>) -> Option<String> {
        let _ = (user, groups);
        None
    }
}

impl Inventory {
    /// Every account group that may log in anywhere.
    #[must_use]
    pub fn groups(&self) -> BTreeSet<String> {
        self.hosts.values().flat_map(|host| host.access.iter().map(|access| access.group.clone())).collect()
    }
}
impl Inventory {
    /// stub
    #[allow(clippy::unused_async, missing_docs, clippy::missing_errors_doc)]
    pub async fn load(_: &crate::config::HostsFrom) -> Result<Self, handler_api::Failure> {
        Err(handler_api::Failure::permanent("stub"))
    }
}
