//! What ssh is told: a configuration file of our own, read before the site's, and one connection that fetches and pushes
//! share.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use handler_api::Failure;
use handler_api::ssh_config::{self, key_file, quoted};

use crate::config::Remote;

/// How long an idle connection is kept, in seconds. After a `kill -9` of the handler it closes itself after as long.
pub const KEEP_SECONDS: u64 = 30;
/// How long a connection may take to be made, in seconds.
pub const CONNECT_SECONDS_MAX: u64 = 10;
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

/// The file's text.
fn text(remote: &Remote, key: Option<&Path>, socket: Option<&Path>) -> Result<String, String> {
    let shared = match socket {
        Some(socket) => format!("auto\nControlPersist {KEEP_SECONDS}\nControlPath {}", quoted(socket, true)?),
        None => "no\nControlPath none".to_owned(),
    };
    let settings = ssh_config::Ssh {
        key,
        known_hosts: remote.known_hosts.as_deref(),
        config: remote.ssh_config.as_deref(),
        connect_timeout: Duration::from_secs(CONNECT_SECONDS_MAX),
    };
    settings.text("gitolite", &format!("KexAlgorithms ^curve25519-sha256\nControlMaster {shared}\n"))
}

#[cfg(test)]
mod tests {
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
    fn fetch_and_push_share_a_connection() {
        let text = text(&remote(), Some(Path::new("/run/a key%")), Some(Path::new("/run/x/ssh"))).unwrap();
        assert!(text.contains("\nControlPath \"/run/x/ssh\"\n") && text.contains("\nBatchMode yes\n"), "{text}");
    }

    #[test]
    fn no_path_gets_out_of_its_place() {
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
