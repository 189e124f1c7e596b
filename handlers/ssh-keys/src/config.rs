//! The handler's block of the rules file.

pub mod node;
pub mod words;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use handler_api::spelling::did_you_mean;
use handler_api::{Failure, ParamType};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::access::Inventory;
use crate::block;
use accounts::keys::{Kind, Policy, RSA_BITS_MAX, RSA_BITS_MIN};
use node::Node;
use words::{Problems, Words};

/// Most hosts that may be worked on at the same time.
pub const AT_ONCE_MAX: usize = 512;
/// Most connections that may be kept.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Most words of the command for the hosts.
pub const COMMAND_WORDS_MAX: usize = 100;
/// How long a connection may take where nothing is said, in seconds.
pub const CONNECT_TIMEOUT_SECONDS: u64 = 5;
/// How long one command may take where nothing is said, in seconds.
pub const COMMAND_TIMEOUT_SECONDS: u64 = 20;
/// How long an idle connection is kept where nothing is said, in seconds.
pub const KEEP_SECONDS: u64 = 600;

const WORDS: [&str; 6] = ["accounts", "hosts", "block", "keys", "ssh", "end_sessions"];
const SSH_WORDS: [&str; 8] =
    ["key", "known_hosts", "config", "at_once", "connect_timeout", "command_timeout", "keep", "connections_max"];

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
    /// Hosts worked on at the same time (`at_once`; default 32).
    pub at_once: usize,
    /// How long a connection may take (`connect_timeout`; default [`CONNECT_TIMEOUT_SECONDS`]).
    pub connect_timeout: Duration,
    /// How long one command may take (`command_timeout`; default [`COMMAND_TIMEOUT_SECONDS`]).
    pub command_timeout: Duration,
    /// How long an idle connection is kept (`keep`; default [`KEEP_SECONDS`]).
    pub keep: Duration,
    /// Most connections kept (`connections_max`; default 512).
    pub connections_max: usize,
}

impl Default for SshConfig {
    fn default() -> Self {
        Self {
            key: "ssh_key".into(),
            known_hosts: None,
            config: None,
            at_once: 32,
            connect_timeout: Duration::from_secs(CONNECT_TIMEOUT_SECONDS),
            command_timeout: Duration::from_secs(COMMAND_TIMEOUT_SECONDS),
            keep: Duration::from_secs(KEEP_SECONDS),
            connections_max: 512,
        }
    }
}

impl Config {
    /// Reads the block, also an inventory that is written in it. The `accounts` block is the matter of the crate
    /// `accounts`; here it must only be there.
    ///
    /// # Errors
    /// A permanent failure that names every wrong word, with "did you mean".
    pub fn read(config: &Map<String, Value>) -> Result<Self, Failure> {
        let what = "the configuration of ssh-keys";
        let node = Node::deserialize(&Value::Object(config.clone()))
            .map_err(|error| Failure::permanent(format!("{what}: {error}")))?;
        let mut problems = Problems::default();
        let read = read(&node, config, &mut problems);
        match read {
            Some(config) if !problems.any() => Ok(config),
            _ => Err(problems.permanent(what).hinting("mend it in the rules file, then: reactor check")),
        }
    }
}

fn read(node: &Node, config: &Map<String, Value>, problems: &mut Problems) -> Option<Config> {
    let words = Words::of(node, "the handler", &WORDS, problems)?;
    let accounts = config.get("accounts").filter(|value| value.is_object()).cloned();
    if accounts.is_none() {
        problems.add(0, "`accounts` is missing or no map: where the keys come from, as in {yaml: ./accounts.yaml}");
    }
    let hosts = hosts(&words, config, problems);
    let block = words.checked("block", problems, |name| {
        if block::is_name(name) {
            Ok(())
        } else {
            Err(format!("is `{}`, not a name such as reactor", words::cut(name)))
        }
    });
    let policy = words.get("keys").map_or_else(|| Some(Policy::default()), |keys| policy(keys, problems));
    let ssh = words.get("ssh").map_or_else(|| Some(SshConfig::default()), |ssh| read_ssh(ssh, problems));
    let end_sessions = words.bool("end_sessions", problems).unwrap_or(false);
    let block = block.unwrap_or("reactor").to_owned();
    Some(Config { accounts: accounts?, hosts: hosts?, block, policy: policy?, ssh: ssh?, end_sessions })
}

fn hosts(words: &Words<'_>, config: &Map<String, Value>, problems: &mut Problems) -> Option<HostsFrom> {
    let forms = "a path such as ./hosts.yaml, {command: [PROGRAM, ARGUMENT…]}, or the inventory itself";
    let Some(node) = words.get("hosts") else {
        problems.add(0, format!("`hosts` is missing: {forms}"));
        return None;
    };
    match &node.value {
        node::Value::Text(_) => {
            let path = words.checked("hosts", problems, words::is_path)?;
            Some(HostsFrom::File(path.into()))
        }
        node::Value::Map(entries) if entries.iter().any(|(key, _)| key.text == "command") => {
            let inner = Words::of(node, "`hosts`", &["command"], problems)?;
            command(inner.get("command")?, problems).map(HostsFrom::Command)
        }
        node::Value::Map(_) => {
            Inventory::check(node, problems);
            Some(HostsFrom::Inline(config.get("hosts")?.clone()))
        }
        _ => {
            problems.add(0, format!("`hosts` is {}, not {forms}", node.kind()));
            None
        }
    }
}

fn command(node: &Node, problems: &mut Problems) -> Option<Vec<String>> {
    let node::Value::List(items) = &node.value else {
        problems.add(0, format!("`command` of `hosts` is {}, not a list: no shell reads it", node.kind()));
        return None;
    };
    let words: Option<Vec<String>> = items
        .iter()
        .map(|item| match &item.value {
            node::Value::Text(text) if !text.contains('\0') => Some(text.clone()),
            node::Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
        .collect();
    let words = words.filter(|words| (1..=COMMAND_WORDS_MAX).contains(&words.len()));
    let Some(words) = words else {
        problems.add(0, format!("`command` of `hosts` must be from 1 to {COMMAND_WORDS_MAX} texts"));
        return None;
    };
    // Without a slash it is looked for in PATH; with one it must not depend on the working directory.
    let in_path = !words[0].is_empty() && !words[0].contains('/') && !words[0].starts_with('-');
    match words::is_path(&words[0]) {
        Err(why) if !in_path => {
            problems.add(0, format!("the program in `command` of `hosts` {why}"));
            None
        }
        _ => Some(words),
    }
}

fn policy(node: &Node, problems: &mut Problems) -> Option<Policy> {
    let words = Words::of(node, "`keys`", &["types", "rsa_bits_min"], problems)?;
    let mut policy = Policy::default();
    if let Some(bits) = words.number("rsa_bits_min", RSA_BITS_MIN, RSA_BITS_MAX, problems) {
        policy.rsa_bits_min = bits;
    }
    let Some(types) = words.get("types") else { return Some(policy) };
    let known = Kind::ALL.map(Kind::word);
    let node::Value::List(items) = &types.value else {
        words.add("types", problems, &format!("is {}, not a list of {}", types.kind(), known.join(", ")));
        return None;
    };
    let mut kinds = BTreeSet::new();
    for item in items {
        let word = if let node::Value::Text(word) = &item.value { word.as_str() } else { item.kind() };
        if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.word() == word) {
            kinds.insert(kind);
        } else {
            let hint = did_you_mean(word, known.iter().copied())
                .map_or_else(|| format!("they are {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
            problems.add(0, format!("`{}` is not a type of key that can be taken; {hint}", words::cut(word)));
        }
    }
    if items.is_empty() {
        words.add("types", problems, &format!("is empty: no key would be taken; the types are {}", known.join(", ")));
    }
    Some(Policy { kinds, ..policy })
}

fn read_ssh(node: &Node, problems: &mut Problems) -> Option<SshConfig> {
    let words = Words::of(node, "`ssh`", &SSH_WORDS, problems)?;
    let usual = SshConfig::default();
    let key = words.checked("key", problems, |name| {
        ParamType::Name.check(&Value::from(name)).map_err(|why| format!("is the name of a secret, which {why}"))
    });
    Some(SshConfig {
        key: key.map_or(usual.key, str::to_owned),
        known_hosts: words.plain_path("known_hosts", problems),
        config: words.plain_path("config", problems),
        at_once: words.number("at_once", 1, AT_ONCE_MAX, problems).unwrap_or(usual.at_once),
        connect_timeout: words.duration("connect_timeout", "1s", "5m", problems).unwrap_or(usual.connect_timeout),
        command_timeout: words.duration("command_timeout", "1s", "1h", problems).unwrap_or(usual.command_timeout),
        keep: words.duration("keep", "0s", "1d", problems).unwrap_or(usual.keep),
        connections_max: words.number("connections_max", 1, CONNECTIONS_MAX, problems).unwrap_or(usual.connections_max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(value: Value) -> Result<Config, Failure> {
        Config::read(value.as_object().unwrap())
    }

    fn why(value: Value) -> String {
        let failure = config(value).unwrap_err();
        assert!(matches!(failure, Failure::Permanent { .. }) && failure.hint().is_some());
        failure.message().to_owned()
    }

    #[test]
    fn the_least_is_where_accounts_and_hosts_come_from() {
        let read = config(json!({"accounts": {"yaml": "/a.yaml"}, "hosts": "/h.yaml"})).unwrap();
        assert_eq!(read.hosts, HostsFrom::File("/h.yaml".into()));
        assert_eq!(
            (read.accounts, read.block.as_str(), read.end_sessions),
            (json!({"yaml": "/a.yaml"}), "reactor", false)
        );
        assert_eq!((read.policy, read.ssh), (Policy::default(), SshConfig::default()));
        assert!(!Policy::default().kinds.contains(&Kind::Certificate));
    }

    #[test]
    fn every_word_is_read() {
        let read = config(json!({
            "accounts": {"yaml": "/a"}, "hosts": {"command": ["/usr/bin/hosts", "--port", 22]}, "block": "web-2",
            "keys": {"types": ["ed25519", "certificate", "sk-ecdsa"], "rsa_bits_min": 3072}, "end_sessions": true,
            "ssh": {"key": "deploy", "known_hosts": "/etc/reactor/known_hosts", "config": "/etc/reactor/ssh_config",
                    "at_once": 512, "connect_timeout": "3s", "command_timeout": "1m30s", "keep": "0s", "connections_max": 7},
        }))
        .unwrap();
        assert_eq!(read.hosts, HostsFrom::Command(vec!["/usr/bin/hosts".into(), "--port".into(), "22".into()]));
        assert_eq!(read.policy.kinds, [Kind::Ed25519, Kind::Certificate, Kind::SkEcdsa].into());
        assert_eq!((read.policy.rsa_bits_min, read.block.as_str(), read.end_sessions), (3072, "web-2", true));
        let ssh = SshConfig {
            key: "deploy".into(),
            known_hosts: Some("/etc/reactor/known_hosts".into()),
            config: Some("/etc/reactor/ssh_config".into()),
            at_once: 512,
            connect_timeout: Duration::from_secs(3),
            command_timeout: Duration::from_secs(90),
            keep: Duration::ZERO,
            connections_max: 7,
        };
        assert_eq!(read.ssh, ssh);
        let inline = json!({"groups": {"web": {"hosts": ["w"], "access": ["ops"]}}});
        let read = config(json!({"accounts": {"yaml": "/a"}, "hosts": inline.clone()})).unwrap();
        assert_eq!(read.hosts, HostsFrom::Inline(inline));
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let why = why(json!({
            "acounts": {}, "hosts": "hosts.yaml", "block": "a b", "end_sessions": "yes",
            "keys": {"types": ["ed2551", "ssh-dss"], "rsa_bits_min": 1024},
            "ssh": {"at_once": 1000, "keep": "10", "connect_timeout": 5, "known_hosts": "/a b", "config": "/a%h",
                    "key": "../x", "port": 22, "command_timeout": "2h"},
        }));
        for said in [
            "`acounts` is not a word of the handler; did you mean `accounts`?",
            "`accounts` is missing",
            "`hosts` of the handler is `hosts.yaml`, not an absolute path",
            "`block` of the handler is `a b`",
            "`end_sessions` of the handler is a text, not true or false",
            "`ed2551` is not a type of key that can be taken; did you mean `ed25519`?",
            "`ssh-dss` is not a type of key that can be taken; they are ed25519, ecdsa",
            "`rsa_bits_min` of `keys` is 1024, not a number from 2048 to 16384",
            "`at_once` of `ssh` is 1000, not a number from 1 to 512",
            "`keep` of `ssh` is `10`, not a duration",
            "`connect_timeout` of `ssh` is a number, not a duration",
            "`command_timeout` of `ssh` is 2h, not from 1s to 1h",
            "`known_hosts` of `ssh` has ' ' in it",
            "`config` of `ssh` has '%' in it",
            "`key` of `ssh` is the name of a secret, which is not a name",
            "`port` is not a word of `ssh`; the words are",
        ] {
            assert!(why.contains(said), "{said}\n{why}");
        }
    }

    #[test]
    fn hosts_and_their_command_have_one_of_three_forms() {
        let with = |hosts: Value| why(json!({"accounts": {"yaml": "/a"}, "hosts": hosts}));
        assert!(with(json!(5)).contains("`hosts` is a number, not a path"));
        assert!(with(json!({"command": "ls -l"})).contains("not a list: no shell reads it"));
        assert!(with(json!({"command": []})).contains("from 1 to 100 texts"));
        assert!(with(json!({"command": [["a"]]})).contains("from 1 to 100 texts"));
        assert!(with(json!({"command": ["../hosts"]})).contains("not an absolute path"));
        assert!(config(json!({"accounts": {"yaml": "/a"}, "hosts": {"command": ["hosts"]}})).is_ok(), "found in PATH");
        assert!(with(json!({"groups": {"a": {"hosts": ["h"]}}})).contains("no group of host `h` has `access`"));
        assert!(with(json!({"command": ["/h"], "groups": {}})).contains("`groups` is not a word of `hosts`"));
        assert!(with(json!("/a/../b")).contains("not an absolute path"));
        assert!(why(json!({"accounts": {"yaml": "/a"}})).contains("`hosts` is missing"));
        assert!(why(json!({"accounts": "x", "hosts": "/h", "keys": {"types": []}})).contains("no key would be taken"));
    }
}
