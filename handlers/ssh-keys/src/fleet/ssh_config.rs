//! Our own ssh_config: what ssh may do for us, and what never. ssh takes the first value it finds, so the site's own file
//! comes last and can only add: aliases, addresses, jump hosts.

use std::path::Path;

use crate::config::SshConfig;

/// Seconds between two signs of life of a connection; after three without an answer it is closed.
const ALIVE_SECONDS: u64 = 15;
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
    let mut text = String::from(
        "# Written by reactor (ssh-keys); gone when it ends.\n\
         BatchMode yes\nStrictHostKeyChecking yes\nUpdateHostKeys no\nVerifyHostKeyDNS no\nCheckHostIP no\n\
         ControlPersist no\nConnectionAttempts 1\nTCPKeepAlive yes\nServerAliveCountMax 3\nLogLevel ERROR\n\
         ForwardAgent no\nForwardX11 no\nClearAllForwardings yes\nTunnel no\nGatewayPorts no\n\
         PermitLocalCommand no\nRemoteCommand none\nRequestTTY no\nEscapeChar none\nCompression no\n\
         AddKeysToAgent no\nVisualHostKey no\n",
    );
    let kex: Vec<&str> = KEX.into_iter().filter(|name| known.lines().any(|line| line.trim() == *name)).collect();
    if !kex.is_empty() {
        text.push_str(&format!("KexAlgorithms {}\n", kex.join(",")));
    }
    let seconds = ssh.connect_timeout.as_secs().max(1);
    text.push_str(&format!("ServerAliveInterval {ALIVE_SECONDS}\nConnectTimeout {seconds}\n"));
    if let Some(file) = &ssh.known_hosts {
        text.push_str(&format!("UserKnownHostsFile {}\nGlobalKnownHostsFile none\n", quoted(file, true)?));
    }
    if let Some(key) = key {
        text.push_str(&format!("IdentityFile {}\nIdentitiesOnly yes\nIdentityAgent none\n", quoted(key, true)?));
    }
    match &ssh.config {
        Some(file) => text.push_str(&format!("Include {}\n", quoted(file, false)?)),
        // What ssh reads by itself when it is not given a file.
        None => text.push_str("Include ~/.ssh/config\nInclude /etc/ssh/ssh_config\n"),
    }
    Ok(text)
}

/// A path as one word. Where ssh looks for `%` tokens they are taken literally.
fn quoted(path: &Path, tokens: bool) -> Result<String, String> {
    let Some(text) = path.to_str().filter(|text| text.starts_with('/')) else {
        return Err(format!("{} is not an absolute path in UTF-8", path.display()));
    };
    if text.chars().any(|c| c.is_control() || matches!(c, '"' | '\\' | '$' | '*' | '?' | '[')) {
        return Err(format!("{text:?} has a mark in it that ssh_config would take for something else"));
    }
    Ok(format!("\"{}\"", if tokens { text.replace('%', "%%") } else { text.to_owned() }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ssh() -> SshConfig {
        SshConfig {
            key: "ssh_key".into(),
            known_hosts: Some("/etc/reactor/known hosts %".into()),
            config: None,
            at_once: 1,
            connect_timeout: Duration::from_millis(10),
            command_timeout: Duration::from_secs(1),
            keep: Duration::from_secs(1),
            connections_max: 1,
        }
    }

    #[test]
    fn the_dear_key_exchange_is_the_last_resort_and_unknown_ones_are_not_named() {
        let known = "sntrup761x25519-sha512@openssh.com\ncurve25519-sha256\n";
        let text = text(&ssh(), known, Some(Path::new("/run/key"))).unwrap();
        assert!(text.contains("\nKexAlgorithms curve25519-sha256,sntrup761x25519-sha512@openssh.com\n"), "{text}");
        assert!(text.contains("\nUserKnownHostsFile \"/etc/reactor/known hosts %%\"\nGlobalKnownHostsFile none\n"));
        assert!(text.contains("\nIdentityFile \"/run/key\"\nIdentitiesOnly yes\n"));
        assert!(text.contains("\nConnectTimeout 1\n"), "never 0, which is for ever");
        assert!(text.ends_with("Include ~/.ssh/config\nInclude /etc/ssh/ssh_config\n"), "the site's own comes last");
    }

    #[test]
    fn a_path_can_not_add_a_line() {
        for bad in ["/x\nProxyCommand id", "/a\"b", "/${HOME}", "relative"] {
            let ssh = SshConfig { known_hosts: Some(bad.into()), ..ssh() };
            assert!(text(&ssh, "", None).is_err(), "{bad:?}");
        }
    }
}
