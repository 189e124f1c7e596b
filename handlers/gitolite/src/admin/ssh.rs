//! What ssh is told: a configuration file of our own, read before the site's, and one connection that fetches and pushes
//! share.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use handler_api::Failure;

use crate::config::Remote;

/// How long an idle connection is kept, in seconds. After a `kill -9` of the handler it closes itself after as long.
pub const KEEP_SECONDS: u64 = 30;
/// How long a connection may take to be made, in seconds.
pub const CONNECT_SECONDS_MAX: u64 = 10;
/// Seconds between two signs of life of a connection; after three without an answer it is closed.
const ALIVE_SECONDS: u64 = 15;
/// Longest path of a control socket, in bytes: a Unix socket's has at most 107, and ssh adds 17 while it makes it.
const SOCKET_PATH_BYTES_MAX: usize = 107 - 17;

/// How ssh is called. Dropped, the connection is closed.
#[derive(Debug)]
pub(super) struct Ssh {
    config: PathBuf,
    socket: Option<PathBuf>,
}

impl Ssh {
    /// Writes its configuration into `dir`, our private directory.
    pub fn new(remote: &Remote, dir: &Path) -> Result<Self, Failure> {
        let socket = dir.join("ssh");
        // Without a place for the socket each fetch and push makes a connection of its own.
        let socket = (socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX).then_some(socket);
        for file in remote.ssh_config.iter().chain(&remote.known_hosts) {
            fs::File::open(file).map_err(|error| {
                Failure::permanent(format!("admin repository: {}: {error}", file.display()))
                    .hinting(format!("ls -l {}", file.display()))
            })?;
        }
        let text = text(remote, key_file(&remote.key).as_deref(), socket.as_deref()).map_err(|why| {
            Failure::permanent(format!("admin repository: {why}")).hinting("look at `ssh:` in the handler's block")
        })?;
        let config = dir.join("ssh_config");
        fs::write(&config, text).map_err(|error| Failure::retry(format!("{}: {error}", config.display())))?;
        Ok(Self { config, socket })
    }

    /// For `GIT_SSH_COMMAND`, which git gives to a shell.
    pub fn command(&self) -> OsString {
        let path = self.config.to_string_lossy().replace('\'', r"'\''");
        OsString::from(format!("ssh -F '{path}'"))
    }

    /// Nobody else gets the shared connection, which may hang; it closes when those are done that have it.
    pub fn give_up(&self) {
        self.tell("stop");
    }

    #[allow(clippy::disallowed_methods, reason = "a word to ssh's own background process, which answers at once")]
    fn tell(&self, word: &str) {
        let Some(socket) = self.socket.as_ref().filter(|socket| socket.exists()) else { return };
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "/dev/null", "-O", word, "-S"]).arg(socket).arg("x");
        let _ = ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        // One that hangs must not be met again.
        let _ = fs::remove_file(socket);
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        self.tell("exit");
    }
}

/// The secret with the private key, where there is one.
fn key_file(name: &str) -> Option<PathBuf> {
    let file = PathBuf::from(std::env::var_os("REACTOR_SECRETS")?).join(name);
    (!name.contains('/') && file.is_file()).then_some(file)
}

/// The file's text. ssh takes the first value it finds: the site's own file comes last and can only add.
fn text(remote: &Remote, key: Option<&Path>, socket: Option<&Path>) -> Result<String, String> {
    let mut text = format!(
        "# Written by reactor (gitolite); gone when it ends.\n\
         BatchMode yes\nStrictHostKeyChecking yes\nUpdateHostKeys no\nCheckHostIP no\nConnectionAttempts 1\n\
         ConnectTimeout {CONNECT_SECONDS_MAX}\nServerAliveInterval {ALIVE_SECONDS}\nServerAliveCountMax 3\n\
         ForwardAgent no\nForwardX11 no\nClearAllForwardings yes\nTunnel no\nPermitLocalCommand no\n\
         RemoteCommand none\nRequestTTY no\nEscapeChar none\nAddKeysToAgent no\nVisualHostKey no\nLogLevel ERROR\n\
         KexAlgorithms ^curve25519-sha256\n"
    );
    match socket {
        Some(socket) => text.push_str(&format!(
            "ControlMaster auto\nControlPersist {KEEP_SECONDS}\nControlPath {}\n",
            quoted(socket, true)?
        )),
        None => text.push_str("ControlMaster no\nControlPath none\n"),
    }
    if let Some(file) = &remote.known_hosts {
        text.push_str(&format!("UserKnownHostsFile {}\nGlobalKnownHostsFile none\n", quoted(file, true)?));
    }
    if let Some(key) = key {
        text.push_str(&format!("IdentityFile {}\nIdentitiesOnly yes\nIdentityAgent none\n", quoted(key, true)?));
    }
    match &remote.ssh_config {
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

    fn remote() -> Remote {
        Remote {
            url: "git@h:gitolite-admin".into(),
            key: "ssh_key".into(),
            known_hosts: None,
            ssh_config: None,
            author: ("reactor".into(), "reactor@example.org".into()),
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn our_own_values_come_first_and_the_sites_file_can_only_add() {
        let text = text(&remote(), Some(Path::new("/run/a key%")), Some(Path::new("/run/x/ssh"))).unwrap();
        assert!(text.contains("\nIdentityFile \"/run/a key%%\"\nIdentitiesOnly yes\n"), "{text}");
        assert!(text.contains("\nControlPath \"/run/x/ssh\"\n") && text.contains("\nBatchMode yes\n"), "{text}");
        assert!(text.ends_with("Include ~/.ssh/config\nInclude /etc/ssh/ssh_config\n"));
    }

    #[test]
    fn no_path_gets_out_of_its_place() {
        for bad in ["/x\nProxyCommand id", "/a\"b", "/${HOME}", "relative"] {
            let remote = Remote { known_hosts: Some(bad.into()), ..remote() };
            assert!(text(&remote, None, None).is_err(), "{bad:?}");
        }
        let ssh = Ssh { config: "/tmp/it's $(id)/c".into(), socket: None };
        assert_eq!(ssh.command(), r"ssh -F '/tmp/it'\''s $(id)/c'");
    }

    #[test]
    fn where_the_path_is_too_long_for_a_socket_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(90));
        fs::create_dir(&deep).unwrap();
        assert!(Ssh::new(&remote(), &deep).unwrap().socket.is_none());
        assert!(fs::read_to_string(deep.join("ssh_config")).unwrap().contains("\nControlMaster no\n"));
    }
}
