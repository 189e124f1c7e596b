//! Who may log in where: groups of hosts, the account groups that may log in, the options of their keys. Pure but for
//! reading the file or asking the command.
//!
//! ```yaml
//! keys: /etc/ssh/authorized_keys.d/%u     # as AuthorizedKeysFile in sshd_config; the default
//! groups:                                 # of hosts
//!   web:
//!     hosts: [web01.example.org, web02.example.org]
//!     access:                             # account groups, most privileged first
//!       - sysadmin-web
//!       - deployers: [restrict, 'command="/usr/local/bin/deploy %u"']
//! ```

mod load;
mod options;
mod place;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use handler_api::{Failure, ParamType};
use serde_json::Value;

use crate::config::HostsFrom;
use crate::config::node::Node;
use crate::config::words::Problems;

pub use load::{INVENTORY_BYTES_MAX, INVENTORY_SECONDS_MAX};
pub use options::{OPTION_BYTES_MAX, OPTIONS_BYTES_MAX, OPTIONS_MAX};
pub use read::{ACCESS_MAX, HOSTS_MAX};

/// The inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// `DIR/%u`: a file for each user in a directory that only root can write to. Holds the pattern as it was written:
    /// absolute, with `/%u` at its end; before that, `%` stands as `%%`.
    Directory(String),
    /// `%h/.ssh/authorized_keys`, or any path with `%u` before the last slash: the user's own, written with the user's
    /// own rights. Holds the pattern as it was written: `%h` at its beginning, `%u` and `%%` anywhere.
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
    /// The options for somebody in these groups, joined by commas; `Some("")` = a full login, `None` = may not log in.
    /// Without options wins over with options; among those with options the earlier. `%u` becomes the user's name, so a
    /// user whose name is no [`ParamType::Name`] may not log in at all.
    #[must_use]
    pub fn options(&self, user: &str, groups: &BTreeSet<String>) -> Option<String> {
        ParamType::Name.check(&Value::from(user)).ok()?;
        let mut best: Option<&Access> = None;
        for access in self.access.iter().filter(|access| groups.contains(&access.group)) {
            if access.options.is_empty() {
                return Some(String::new());
            }
            best = best.or(Some(access));
        }
        best.map(|access| access.options.join(",").replace("%u", user))
    }
}

impl Inventory {
    /// Reads the inventory from where it is.
    ///
    /// # Errors
    /// Whatever is not a whole and sound inventory with at least one host. Every mistake is named at once, with file and
    /// line where there is one. What is written in the rules file is a permanent failure; what is wrong in a file or with
    /// a command is tried again, because somebody may be mending it.
    pub async fn load(from: &HostsFrom) -> Result<Self, Failure> {
        load::load(from).await
    }

    /// Looks at an inventory that is written in the rules file; what is wrong goes to `problems`.
    pub(crate) fn check(tree: &Node, problems: &mut Problems) {
        read::inventory(tree, None, problems);
    }

    /// Every account group that may log in anywhere.
    #[must_use]
    pub fn groups(&self) -> BTreeSet<String> {
        self.hosts.values().flat_map(|host| host.access.iter().map(|access| access.group.clone())).collect()
    }
}

#[cfg(test)]
mod tests;
