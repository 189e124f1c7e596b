//! The handler's block of the rules file.

use std::path::PathBuf;
use std::time::Duration;

use handler_api::Failure;
use serde_json::{Map, Value};

use crate::keys::Policy;

/// The handler's configuration, checked.
#[derive(Debug)]
pub struct Config {
    /// The `accounts` block, for the crate `accounts`.
    pub accounts: Value,
    /// Where the inventory comes from (`hosts`).
    pub hosts: HostsFrom,
    /// The name in the marker lines (`block`; default `reactor`).
    pub block: String,
    /// Which keys are taken (`keys`).
    pub policy: Policy,
    /// How hosts are reached (`ssh`).
    pub ssh: SshConfig,
    /// Whether whoever lost access also loses the sessions (`end_sessions`; default false).
    pub end_sessions: bool,
}

/// Where the inventory comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum HostsFrom {
    /// A YAML file.
    File(PathBuf),
    /// A program that prints the same as JSON; its first word is the program.
    Command(Vec<String>),
    /// Written in the rules file itself.
    Inline(Value),
}

/// How hosts are reached over ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshConfig {
    /// Name of the secret with the private key (`key`; default `ssh_key`); absent and no such secret = ssh's own ways.
    pub key: String,
    /// The host keys (`known_hosts`); absent = the system's.
    pub known_hosts: Option<PathBuf>,
    /// The site's ssh_config (`config`), read after ours: aliases, ports, jump hosts.
    pub config: Option<PathBuf>,
    /// Hosts worked on at the same time (`at_once`).
    pub at_once: usize,
    /// How long a connection may take (`connect_timeout`).
    pub connect_timeout: Duration,
    /// How long one command may take (`command_timeout`).
    pub command_timeout: Duration,
    /// How long an idle connection is kept (`keep`).
    pub keep: Duration,
    /// Most connections kept (`connections_max`).
    pub connections_max: usize,
}

impl Config {
    /// Reads the block.
    ///
    /// # Errors
    /// A permanent failure that names every wrong word, with "did you mean".
    pub fn read(config: &Map<String, Value>) -> Result<Self, Failure> {
        let _ = config;
        Err(Failure::permanent("not built yet"))
    }
}
