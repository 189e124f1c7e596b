//! The ssh_config of handlers that use ssh: what ssh may do for us, and what never. Pure but for [`key_file`].
//!
//! ssh takes the first value it finds, so the site's own file comes last and can only add: aliases, addresses, jump hosts.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Seconds between two signs of life of a connection; after three without an answer it is closed.
pub const ALIVE_SECONDS: u64 = 15;

/// What a site says of ssh.
#[derive(Clone, Copy, Debug)]
pub struct Ssh<'a> {
    /// The file with the private key; `None` = ssh's own ways.
    pub key: Option<&'a Path>,
    /// The file of host keys; `None` = ssh's own.
    pub known_hosts: Option<&'a Path>,
    /// The site's own ssh_config; `None` = what ssh reads by itself.
    pub config: Option<&'a Path>,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
}

impl Ssh<'_> {
    /// The file's text, for `handler`; `own` are the handler's own lines.
    ///
    /// # Errors
    /// Which path can't be written into an ssh_config.
    pub fn text(&self, handler: &str, own: &str) -> Result<String, String> {
        // 0 would be for ever.
        let seconds = self.connect_timeout.as_secs().max(1);
        let mut text = format!(
            "# Written by reactor ({handler}); gone when it ends.\n\
             BatchMode yes\nStrictHostKeyChecking yes\nUpdateHostKeys no\nVerifyHostKeyDNS no\nCheckHostIP no\n\
             ConnectTimeout {seconds}\nConnectionAttempts 1\nTCPKeepAlive yes\nServerAliveInterval {ALIVE_SECONDS}\n\
             ServerAliveCountMax 3\nLogLevel ERROR\nForwardAgent no\nForwardX11 no\nClearAllForwardings yes\nTunnel no\n\
             GatewayPorts no\nPermitLocalCommand no\nRemoteCommand none\nRequestTTY no\nEscapeChar none\nCompression no\n\
             AddKeysToAgent no\nVisualHostKey no\n{own}"
        );
        if let Some(file) = self.known_hosts {
            text.push_str(&format!("UserKnownHostsFile {}\nGlobalKnownHostsFile none\n", quoted(file, true)?));
        }
        if let Some(key) = self.key {
            text.push_str(&format!("IdentityFile {}\nIdentitiesOnly yes\nIdentityAgent none\n", quoted(key, true)?));
        }
        match self.config {
            Some(file) => text.push_str(&format!("Include {}\n", quoted(file, false)?)),
            None => text.push_str("Include ~/.ssh/config\nInclude /etc/ssh/ssh_config\n"),
        }
        Ok(text)
    }
}

/// The secret with the private key, where there is one.
#[must_use]
pub fn key_file(name: &str) -> Option<PathBuf> {
    let file = PathBuf::from(std::env::var_os("REACTOR_SECRETS")?).join(name);
    (!name.contains('/') && file.is_file()).then_some(file)
}

/// A path as one word. Where ssh looks for `%` tokens they are taken literally.
///
/// # Errors
/// Why it can't be written into an ssh_config.
pub fn quoted(path: &Path, tokens: bool) -> Result<String, String> {
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
    use super::*;

    fn ssh(known_hosts: &str) -> Result<String, String> {
        let ssh = Ssh {
            key: Some(Path::new("/run/a key%")),
            known_hosts: Some(Path::new(known_hosts)),
            config: None,
            connect_timeout: Duration::from_millis(10),
        };
        ssh.text("test", "KexAlgorithms ^curve25519-sha256\n")
    }

    #[test]
    fn our_own_values_come_first_and_the_sites_file_can_only_add() {
        let text = ssh("/etc/reactor/known hosts %").unwrap();
        assert!(text.contains("\nUserKnownHostsFile \"/etc/reactor/known hosts %%\"\nGlobalKnownHostsFile none\n"));
        assert!(text.contains("\nIdentityFile \"/run/a key%%\"\nIdentitiesOnly yes\n"), "{text}");
        assert!(text.contains("\nKexAlgorithms ^curve25519-sha256\n") && text.contains("\nBatchMode yes\n"));
        assert!(text.contains("\nConnectTimeout 1\n"), "never 0, which is for ever");
        assert!(text.ends_with("Include ~/.ssh/config\nInclude /etc/ssh/ssh_config\n"));
    }

    #[test]
    fn a_path_can_not_add_a_line() {
        for bad in ["/x\nProxyCommand id", "/a\"b", "/${HOME}", "relative"] {
            assert!(ssh(bad).is_err(), "{bad:?}");
        }
    }
}
