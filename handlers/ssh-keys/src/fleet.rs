//! The hosts: what stands there, and writing it. One edge for ssh and for this machine: both run the same small shell
//! programs, with data on stdin.

use std::collections::BTreeMap;

use crate::access::Host;
use crate::config::SshConfig;

/// What is wrong with a host, or with one user's file on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What failed, on what, why.
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

/// All hosts. Holds the warm connections.
#[derive(Debug)]
pub struct Fleet {}

impl Fleet {
    /// No connection is made yet.
    #[must_use]
    pub fn new(ssh: SshConfig) -> Self {
        let _ = ssh;
        Self {}
    }

    /// What stands on a host. Writes nothing. `block` = the block's name.
    ///
    /// # Errors
    /// When the host can't be asked, or its directory is not as it must be.
    pub async fn look(&self, host: &Host, who: &Who, block: &str) -> Result<BTreeMap<String, Found>, Trouble> {
        let _ = (host, who, block);
        Ok(BTreeMap::new())
    }

    /// Writes files on a host, each whole or not at all, and only over what the plan saw. Answers for each user.
    ///
    /// # Errors
    /// When nothing was written at all.
    pub async fn write(&self, host: &Host, writes: &[Write]) -> Result<BTreeMap<String, Result<(), Trouble>>, Trouble> {
        let _ = (host, writes);
        Ok(BTreeMap::new())
    }

    /// Ends the login sessions of these users.
    ///
    /// # Errors
    /// When the host can't be asked.
    pub async fn end_sessions(&self, host: &Host, users: &[String]) -> Result<(), Trouble> {
        let _ = (host, users);
        Ok(())
    }
}
