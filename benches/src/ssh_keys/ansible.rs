//! Ansible's authorized_key doing the same, as quick as it gets: pipelining, connections kept and already made, no facts.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use reactor_tests::sshd::Farm;
use serde_json::{Value, json};

use super::{random_key, timed};
use crate::process::deps_dir;

/// One run's surroundings.
struct Ansible<'a> {
    farm: &'a Farm,
    dir: PathBuf,
    bin: PathBuf,
    hosts: usize,
    forks: usize,
}

impl<'a> Ansible<'a> {
    fn new(farm: &'a Farm, dir: &Path, hosts: usize, forks: usize) -> Result<Self> {
        let bin = deps_dir().context("no HOME")?.join("ansible/bin");
        if !bin.join("ansible-playbook").exists() {
            bail!("there is no Ansible in {}\nhint: scripts/install-bench-deps", bin.display());
        }
        let dir = dir.join(format!("ansible-{hosts}-{forks}"));
        fs::create_dir_all(&dir)?;
        let mut inventory = String::from("[all]\n");
        for host in farm.hosts.iter().take(hosts) {
            writeln!(
                inventory,
                "{} ansible_host={} ansible_port={} keys={}/authorized_keys.d",
                host.name,
                host.address.ip(),
                host.address.port(),
                host.dir.display()
            )?;
        }
        writeln!(
            inventory,
            "[all:vars]\nansible_user=root\nansible_python_interpreter=/usr/bin/python3\nansible_ssh_private_key_file={}",
            farm.management.path.display()
        )?;
        fs::write(dir.join("inventory"), inventory)?;
        Ok(Self { farm, dir, bin, hosts, forks })
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let known = self.farm.known_hosts();
        let ssh = format!(
            "-o ControlMaster=auto -o ControlPersist=900s -o KexAlgorithms=curve25519-sha256 -o UserKnownHostsFile={}",
            known.display()
        );
        let output = Command::new(self.bin.join(program))
            .args(["-i", "inventory", "--forks", &self.forks.to_string()])
            .args(args)
            .current_dir(&self.dir)
            .env("ANSIBLE_HOME", self.dir.join("home"))
            .env("ANSIBLE_SSH_CONTROL_PATH_DIR", self.dir.join("cp"))
            .env("ANSIBLE_SSH_ARGS", ssh)
            .env("ANSIBLE_PIPELINING", "1")
            .env("ANSIBLE_GATHERING", "explicit")
            .env("ANSIBLE_RETRY_FILES_ENABLED", "0")
            .env("ANSIBLE_DEPRECATION_WARNINGS", "0")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .with_context(|| format!("{program} can't be started"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let end = said.len().saturating_sub(2_000);
            bail!("{program}: {}\n{}{}", output.status, &said[end..], String::from_utf8_lossy(&output.stderr));
        }
        Ok(said)
    }

    /// Seconds of a playbook with this one thing to do, over connections that are there.
    fn play(&self, what: &Value) -> Result<f64> {
        fs::write(
            self.dir.join("play.yaml"),
            json!([{"hosts": "all", "gather_facts": false, "tasks": [what]}]).to_string(),
        )?;
        self.run("ansible", &["all", "-m", "raw", "-a", "true"])?;
        let (took, said) = timed(|| self.run("ansible-playbook", &["play.yaml"]))?;
        let changed = said.matches("changed=1 ").count();
        if changed != self.hosts {
            bail!("Ansible changed {changed} of {} hosts\n{said}", self.hosts);
        }
        Ok(took)
    }
}

/// Seconds to change a key on the first `hosts` hosts.
///
/// # Errors
/// When Ansible is not there or fails.
pub fn many_hosts(farm: &Farm, dir: &Path, user: &str, hosts: usize, forks: usize) -> Result<f64> {
    let ansible = Ansible::new(farm, dir, hosts, forks)?;
    let path = format!("{{{{ keys }}}}/{user}");
    let key = random_key(user)?;
    ansible.play(&json!({"ansible.posix.authorized_key":
        {"user": "root", "path": path, "manage_dir": false, "exclusive": true, "key": key}}))
}

/// Seconds to change these users' keys on the first host.
///
/// # Errors
/// When Ansible is not there or fails.
pub fn many_users(farm: &Farm, dir: &Path, users: &[String]) -> Result<f64> {
    let ansible = Ansible::new(farm, dir, 1, 5)?;
    let items: Vec<Value> =
        users.iter().map(|user| Ok(json!({"name": user, "key": random_key(user)?}))).collect::<Result<_>>()?;
    ansible.play(
        &json!({"loop": items, "ansible.posix.authorized_key": {"user": "root", "path": "{{ keys }}/{{ item.name }}",
        "manage_dir": false, "exclusive": true, "key": "{{ item.key }}"}}),
    )
}
