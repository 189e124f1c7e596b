//! A copy of the admin repository from which the bench itself pushes; no work tree, so that only the push is measured.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use reactor_tests::gitolite::{Gitolite, REACTOR};

use super::conf::File;
use crate::ssh_keys::work::{Cost, cost_with};

/// The copy.
#[derive(Debug)]
pub struct Admin {
    dir: PathBuf,
    ssh: String,
    servers: Vec<u32>,
    commits: u64,
}

impl Admin {
    /// Fetches what is there.
    ///
    /// # Errors
    /// When git can't.
    pub fn new(gitolite: &Gitolite) -> Result<Self> {
        let dir = gitolite.dir.join("bench-admin.git");
        let ssh = format!("ssh -F {}/ssh_config", gitolite.dir.display());
        let admin = Self { dir, ssh, servers: vec![sshd(gitolite)?], commits: 0 };
        git(&admin.ssh, Path::new("/"), &["init", "--quiet", "--bare", &admin.dir.display().to_string()])?;
        admin.git(&["remote", "add", "origin", &format!("as-{REACTOR}:gitolite-admin")])?;
        admin.git(&["fetch", "--quiet", "origin", "master:refs/heads/master"])?;
        Ok(admin)
    }

    /// With one connection that stays (`ControlPersist`), or with one for each push.
    ///
    /// # Errors
    /// When ssh can't.
    pub fn keep_connection(&mut self, keep: bool) -> Result<()> {
        let control = self.dir.with_file_name("control");
        if keep {
            self.ssh += &format!(" -o ControlMaster=auto -o ControlPersist=600 -S {}", control.display());
        } else {
            let words = format!("exec {} -O exit as-{REACTOR}", self.ssh);
            // It may not be there any more.
            Command::new("sh").args(["-c", &words]).stderr(Stdio::null()).status()?;
            self.ssh.truncate(self.ssh.find(" -o Control").unwrap_or(self.ssh.len()));
        }
        Ok(())
    }

    /// A commit on top of the branch: these directories go, then these files hold this.
    ///
    /// # Errors
    /// When git can't.
    pub fn commit(&mut self, branch: &str, without: &[&str], files: &[File]) -> Result<()> {
        self.commits += 1;
        let message = format!("{branch} {}", self.commits);
        let mut stream = Vec::new();
        writeln!(stream, "commit refs/heads/{branch}\ncommitter bench <bench@localhost> {} +0000", self.commits)?;
        writeln!(stream, "data {}\n{message}", message.len())?;
        if self.git(&["rev-parse", "--quiet", "--verify", &format!("refs/heads/{branch}")]).is_ok() {
            writeln!(stream, "from refs/heads/{branch}^0")?;
        }
        without.iter().try_for_each(|path| writeln!(stream, "D {path}"))?;
        for (path, text) in files {
            writeln!(stream, "M 100644 inline {path}\ndata {}\n{text}", text.len())?;
        }
        let mut command = command(&self.ssh, &self.dir);
        let mut child = command.args(["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn()?;
        child.stdin.take().context("no stdin")?.write_all(&stream)?;
        ensure!(child.wait()?.success(), "git fast-import failed on {branch}");
        Ok(())
    }

    /// Pushes a branch; what that cost until it returned: with `master` gitolite has compiled.
    ///
    /// # Errors
    /// When it is refused, or gitolite does not take the configuration.
    pub fn push(&self, branch: &str) -> Result<Cost> {
        let (said, cost) = cost_with(&self.servers, || self.git(&["push", "--quiet", "origin", branch]))?;
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        ensure!(!said.contains("FATAL") && !said.contains("WARNING"), "gitolite does not take it: {said}");
        Ok(cost)
    }

    /// Runs any program as part of what is measured.
    ///
    /// # Errors
    /// Its own.
    pub fn cost<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Cost)> {
        cost_with(&self.servers, work)
    }

    fn git(&self, words: &[&str]) -> Result<Output> {
        git(&self.ssh, &self.dir, words)
    }
}

/// The process id of its sshd.
fn sshd(gitolite: &Gitolite) -> Result<u32> {
    let file = gitolite.dir.join("server/sshd.pid");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(text.trim().parse()?)
}

fn command(ssh: &str, dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C");
    command.env("GIT_SSH_COMMAND", ssh).env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", dir).stdin(Stdio::null());
    command
}

fn git(ssh: &str, dir: &Path, words: &[&str]) -> Result<Output> {
    let output = command(ssh, dir).args(words).output()?;
    if !output.status.success() {
        bail!("git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(output)
}
