//! Our own ssh_config: which key exchanges, and the rest as every handler has it ([`handler_api::ssh_config`]).

use std::path::Path;

use handler_api::ssh_config::Ssh;

use crate::config::SshConfig;

/// Key exchanges, quickest first. The default of OpenSSH 9.2 (sntrup761) costs ten times the CPU; it is only the last resort.
const KEX: [&str; 10] = [
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group16-sha512",
    "sntrup761x25519-sha512@openssh.com",
];

/// The file's text. `known` = what `ssh -Q kex` said; `key` = the file with the private key, if we have one.
///
/// # Errors
/// Which path can't be written into an ssh_config.
pub(super) fn text(ssh: &SshConfig, known: &str, key: Option<&Path>) -> Result<String, String> {
    let mut own = String::from("ControlPersist no\n");
    let kex: Vec<&str> = KEX.into_iter().filter(|name| known.lines().any(|line| line.trim() == *name)).collect();
    if !kex.is_empty() {
        own.push_str(&format!("KexAlgorithms {}\n", kex.join(",")));
    }
    let settings = Ssh {
        key,
        known_hosts: ssh.known_hosts.as_deref(),
        config: ssh.config.as_deref(),
        connect_timeout: ssh.connect_timeout,
    };
    settings.text("ssh-keys", &own)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_dear_key_exchange_is_the_last_resort_and_unknown_ones_are_not_named() {
        let ssh = SshConfig {
            key: "ssh_key".into(),
            known_hosts: None,
            config: None,
            at_once: 1,
            connect_timeout: Duration::from_secs(1),
            command_timeout: Duration::from_secs(1),
            keep: Duration::from_secs(1),
            connections_max: 1,
        };
        let known = "sntrup761x25519-sha512@openssh.com\ncurve25519-sha256\n";
        let text = text(&ssh, known, Some(Path::new("/run/key"))).unwrap();
        assert!(text.contains("\nKexAlgorithms curve25519-sha256,sntrup761x25519-sha512@openssh.com\n"), "{text}");
    }
}
