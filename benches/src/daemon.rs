//! A daemon on a scratch site: started, asked over its control socket, killed when dropped.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{self, Memory};

/// How long a daemon may take until it answers, in seconds.
const START_SECONDS_MAX: u64 = 20;

/// A running daemon; its directory and its process end with this value.
#[derive(Debug)]
pub struct Daemon {
    reactor: PathBuf,
    child: Child,
    stdin: Option<ChildStdin>,
    dir: TempDir,
    /// From the start of the process to the first answer of its control socket.
    pub start_up: Duration,
}

impl Daemon {
    /// Starts `reactor run` on this `rules.yaml` and waits until it answers.
    ///
    /// # Errors
    /// When it does not; its log is in the error.
    pub fn start(reactor: &Path, rules: &str) -> Result<Self> {
        Self::start_with(reactor, rules, &[], &std::env::temp_dir())
    }

    /// The same with its journal in `base`, for a disk of another speed.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_in(reactor: &Path, rules: &str, base: &Path) -> Result<Self> {
        Self::start_with(reactor, rules, &[], base)
    }

    /// The same, reading messages from what [`Daemon::feed`] writes.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_fed(reactor: &Path, rules: &str) -> Result<Self> {
        Self::start_with(reactor, rules, &["--from", "-"], &std::env::temp_dir())
    }

    fn start_with(reactor: &Path, rules: &str, more: &[&str], base: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("reactor-bench").tempdir_in(base)?;
        std::fs::write(dir.path().join("rules.yaml"), rules)?;
        let log = std::fs::File::create(dir.path().join("log"))?;
        let started = Instant::now();
        let mut child = Command::new(reactor)
            .args(["run", "rules.yaml", "--state", "state", "-q"])
            .args(more)
            .current_dir(dir.path())
            .env_remove("STATE_DIRECTORY")
            .stdin(if more.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} can't be started", reactor.display()))?;
        let stdin = child.stdin.take();
        let mut daemon = Self { reactor: reactor.to_owned(), child, stdin, dir, start_up: Duration::ZERO };
        while daemon.status().is_err() {
            if started.elapsed().as_secs() > START_SECONDS_MAX || daemon.child.try_wait()?.is_some() {
                bail!("the daemon did not start:\n{}", daemon.log());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        daemon.start_up = started.elapsed();
        Ok(daemon)
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// How it ended, if it did, and its log: for errors.
    pub fn said_last(&mut self) -> String {
        let ended = self.child.try_wait().ok().flatten();
        let ended =
            ended.map_or("the daemon still runs".to_owned(), |status| format!("the daemon has ended: {status}"));
        format!("{ended}\n{}", self.log())
    }

    /// Its directory: on the disk whose speed the journal has.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the journal holds, as `reactor status --format json` counts it; also when the daemon has ended.
    ///
    /// # Errors
    /// When there is no journal.
    pub fn journal(&self) -> Result<Value> {
        Ok(self.whole_status()?["journal"].take())
    }

    /// What `reactor status --format json` says; also when the daemon has ended.
    ///
    /// # Errors
    /// When there is no journal.
    pub fn whole_status(&self) -> Result<Value> {
        let mut command = Command::new(&self.reactor);
        command.args(["status", "--format", "json", "--state", "state"]).current_dir(self.dir.path());
        Ok(serde_json::from_slice(&command.output()?.stdout)?)
    }

    /// Waits until a daemon that reads lines has done all they lead to, and ended.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_until_ended(&mut self, seconds_max: u64) -> Result<()> {
        let started = Instant::now();
        while self.child.try_wait()?.is_none() {
            if started.elapsed().as_secs() >= seconds_max {
                bail!("the daemon did not end within {seconds_max} s\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// What only the running daemon knows: its side of `reactor status`, without starting a program for it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<Value> {
        let mut socket = UnixStream::connect(self.dir.path().join("state/control.sock"))?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.write_all(b"{\"ask\":\"status\"}\n")?;
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line)?;
        let mut answered: Value = serde_json::from_str(&line)?;
        if answered["status"].is_null() {
            bail!("no status: {line}");
        }
        Ok(answered["status"].take())
    }

    /// Writes messages, a line each, and ends the input. The daemon must have been started with [`Daemon::start_fed`].
    ///
    /// # Errors
    /// When it is gone.
    pub fn feed(&mut self, lines: &[u8]) -> Result<()> {
        let mut stdin = self.stdin.take().context("the daemon reads no lines")?;
        stdin.write_all(lines).with_context(|| format!("the daemon is gone:\n{}", self.log()))
    }

    /// Asks every few milliseconds until its status is as wanted.
    ///
    /// # Errors
    /// When that takes too long; the last status is in the error.
    pub fn wait_until(&self, what: &str, seconds_max: u64, done: impl Fn(&Value) -> bool) -> Result<Value> {
        let started = Instant::now();
        loop {
            let status = self.status().with_context(|| format!("while waiting for: {what}\n{}", self.log()))?;
            if done(&status) {
                return Ok(status);
            }
            if started.elapsed().as_secs() >= seconds_max {
                bail!("{what}: not within {seconds_max} s\n{status:#}\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Processor seconds so far, without handlers.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_seconds(&self) -> Result<f64> {
        process::cpu_seconds(self.pid())
    }

    /// Its memory.
    ///
    /// # Errors
    /// When it is gone.
    pub fn memory(&self) -> Result<Memory> {
        process::memory(self.pid())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be gone already. What it leaves is in the directory that is removed next.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number in a status, by its path: `buses/0/received`.
#[must_use]
pub fn number(status: &Value, path: &str) -> u64 {
    status.pointer(&format!("/{path}")).and_then(Value::as_u64).unwrap_or(0)
}
