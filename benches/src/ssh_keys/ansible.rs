//! Ansible doing the same: its module `authorized_key`, with pipelining and warm connections (ControlPersist).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use reactor_tests::sshd::Farm;
use serde_json::{Map, Value, json};

use super::bare;

/// Longest path of Ansible's directory for control sockets, in bytes: a Unix socket's has at most 107, and ssh adds some while
/// it makes it.
const SOCKET_DIR_BYTES_MAX: usize = 70;

/// How much of what Ansible says stands in an error, in characters.
const SAID_MAX: usize = 3_000;

/// How a playbook is run.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Hosts at the same time.
    pub forks: usize,
    /// Whether it gathers facts first, as it does unless it is told not to.
    pub facts: bool,
    /// Whether it only says what it would change.
    pub check: bool,
}

/// Ansible, and a directory with its inventory. Its connections end with this value.
#[derive(Debug)]
pub struct Ansible {
    program: PathBuf,
    dir: PathBuf,
}

impl Ansible {
    /// Writes its configuration and inventory.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn new(program: &Path, dir: &Path, farm: &Farm) -> Result<Self> {
        let hosts: Map<String, Value> = farm
            .hosts
            .iter()
            .enumerate()
            .map(|(n, host)| (host.name.clone(), json!({"keys": farm.key_file(n, "")})))
            .collect();
        let inventory = json!({"all": {"hosts": hosts, "vars": {"ansible_python_interpreter": "/usr/bin/python3"}}});
        fs::write(dir.join("inventory.json"), inventory.to_string())?;
        fs::write(dir.join("ssh_config"), bare::config(farm))?;
        let sockets = dir.join("cp");
        if sockets.as_os_str().len() > SOCKET_DIR_BYTES_MAX {
            bail!("{} is too long for control sockets", sockets.display());
        }
        let text = format!(
            "[defaults]\ninventory = {dir}/inventory.json\nremote_tmp = {dir}/remote\nlocal_tmp = {dir}/local\n\
             host_key_checking = True\ntimeout = 60\nretry_files_enabled = False\n\
             [ssh_connection]\npipelining = True\ncontrol_path_dir = {sockets}\n\
             ssh_args = -F {dir}/ssh_config -o ControlMaster=auto -o ControlPersist=600s\n",
            dir = dir.display(),
            sockets = sockets.display()
        );
        fs::write(dir.join("ansible.cfg"), text)?;
        Ok(Self { program: program.to_owned(), dir: dir.to_owned() })
    }

    /// Gives each of these users one key, on all hosts.
    ///
    /// # Errors
    /// When it fails, with what it says.
    pub fn run(&self, users: &[String], keys: &[String], how: How) -> Result<()> {
        let all: Vec<Value> = users.iter().zip(keys).map(|(user, key)| json!({"user": user, "key": key})).collect();
        let words = json!({
            "user": "{{ item.user }}", "key": "{{ item.key }}", "path": "{{ keys }}{{ item.user }}",
            "manage_dir": false, "exclusive": true,
        });
        let task = json!({"ansible.posix.authorized_key": words, "loop": all});
        let play = json!([{"hosts": "all", "gather_facts": how.facts, "tasks": [task]}]);
        fs::write(self.dir.join("play.json"), play.to_string())?;
        let mut command = self.command(&self.program);
        command.args(["--forks", &how.forks.to_string(), "play.json"]).args(how.check.then_some("--check"));
        let done = command.output()?;
        if !done.status.success() {
            let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
            bail!("ansible-playbook: {}\n{}", done.status, said.chars().take(SAID_MAX).collect::<String>());
        }
        Ok(())
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.dir).env("ANSIBLE_CONFIG", self.dir.join("ansible.cfg")).env("HOME", &self.dir);
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Ansible {
    fn drop(&mut self) {
        // Its ssh masters would stay for ten minutes: each is asked to end over its control socket.
        for socket in fs::read_dir(self.dir.join("cp")).into_iter().flatten().flatten() {
            let mut ssh = self.command(Path::new("ssh"));
            ssh.args(["-F", "/dev/null", "-O", "exit", "-S"]).arg(socket.path()).arg("x");
            let _ = ssh.stderr(Stdio::null()).status();
        }
    }
}
