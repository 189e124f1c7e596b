//! The hosts: what stands there, and writing it. One edge for ssh and for this machine: both run the same small shell
//! programs (`fleet/scripts`), with data on stdin.
//!
//! A host needs sh, GNU tar, coreutils, findutils, grep, flock and setpriv (util-linux), getent; for ending sessions also
//! procps. One that is missing is a lasting trouble that names it.

mod edge;
mod look;
mod names;
mod own;
mod pool;
mod sessions;
mod ssh_config;
mod trouble;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::access::{Host, Place};
use crate::config::SshConfig;
use edge::Edge;

/// Largest file that is read or written, in bytes.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

/// What is wrong with a host, or with one user's file on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What failed, on what, why. One line without control characters.
    pub message: String,
    /// The next command to type, or where to look.
    pub hint: Option<String>,
    /// What kind of trouble.
    pub kind: TroubleKind,
}

/// What kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleKind {
    /// Down, slow, full: may pass by itself.
    MayPass,
    /// A person must mend it: a link where a file should be, a directory that others can write to.
    Lasting,
    /// What stands there is not what the plan saw: plan again.
    Moved,
}

/// Whom to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// These users.
    Only(Vec<String>),
    /// These users, and whoever else has a file in which the block's name occurs.
    Everyone(Vec<String>),
}

/// What stands there for one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No file.
    Absent,
    /// The file, whole.
    File(Vec<u8>),
    /// The host does not know the user (only where the file is the user's own).
    NoUser,
    /// Not to be touched: a link, a directory, too large.
    Odd(Trouble),
}

/// One file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Whose.
    pub user: String,
    /// What the plan saw there; `None` = no file.
    pub before: Option<Vec<u8>>,
    /// What shall stand there; `None` = no file.
    pub after: Option<Vec<u8>>,
}

/// All hosts. Holds the warm connections; dropped, it closes them.
#[derive(Debug)]
pub struct Fleet {
    edge: Edge,
}

impl Fleet {
    /// No connection is made yet.
    #[must_use]
    pub fn new(ssh: SshConfig) -> Self {
        Self { edge: Edge::new(ssh) }
    }

    /// What stands on a host. Writes nothing. `block` = the block's name.
    ///
    /// Every user asked for is in the answer. A name that can't be a user's is [`Found::Odd`] and goes nowhere near the
    /// host. A host whose directory service is down looks as if it did not know its users.
    ///
    /// # Errors
    /// When the host can't be asked, or its directory is not as it must be.
    pub async fn look(&self, host: &Host, who: &Who, block: &str) -> Result<BTreeMap<String, Found>, Trouble> {
        let (Who::Only(users) | Who::Everyone(users)) = who;
        let (users, mut found) = names::sort_out(host, users);
        let marker = match who {
            Who::Only(_) => None,
            Who::Everyone(_) => Some(names::marker(host, block)?),
        };
        if users.is_empty() && marker.is_none() {
            return Ok(found);
        }
        found.extend(match &host.place {
            Place::Directory(dir) => look::directory(&self.edge, host, dir, &users, marker.as_deref()).await?,
            Place::Own(pattern) => own::look(&self.edge, host, pattern, &users, marker.as_deref()).await?,
        });
        Ok(found)
    }

    /// Writes files on a host, each whole or not at all, and only over what the plan saw. Answers for each user.
    ///
    /// In a directory for all users the files become root's with mode 0644 (sshd reads them with the user's rights), and
    /// nothing is written if one of them has moved since the plan. A user's own file becomes mode 0600.
    ///
    /// # Errors
    /// When nothing was written at all.
    pub async fn write(&self, host: &Host, writes: &[Write]) -> Result<BTreeMap<String, Result<(), Trouble>>, Trouble> {
        let (writes, mut done) = write::sort_out(host, writes);
        done.extend(match &host.place {
            Place::Directory(dir) => write::directory(&self.edge, host, dir, &writes).await?,
            Place::Own(pattern) => own::write(&self.edge, host, pattern, &writes).await?,
        });
        Ok(done)
    }

    /// Ends the login sessions of these users: those of systemd-logind, and what sshd runs for them. Never root's, nor
    /// those of whoever we log in as. What a user detached from its session stays where there is no systemd.
    ///
    /// # Errors
    /// When the host can't be asked.
    pub async fn end_sessions(&self, host: &Host, users: &[String]) -> Result<(), Trouble> {
        sessions::end(&self.edge, host, users).await
    }
}
