//! The built `reactor`: as a daemon, or for one answer. Both in a test's directory, with the state in `state/` there.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::PATIENCE;
use crate::process::{Child, command};

/// Where a daemon's stderr goes, in its directory; appended to by each daemon there.
pub const LOG: &str = "daemon.log";

/// Between two looks at the journal: each is a process.
const LOOK: Duration = Duration::from_millis(100);

/// A running `reactor`, killed when this goes.
#[derive(Debug)]
pub struct Daemon(Child);

impl Daemon {
    /// Starts `reactor ARGS… --state DIR/state` in `dir`.
    ///
    /// # Panics
    /// When it is not built, or can't be started.
    #[must_use]
    pub fn start(dir: &Path, args: &[&str]) -> Self {
        let log = OpenOptions::new().create(true).append(true).open(dir.join(LOG)).expect("the daemon's log");
        let out = log.try_clone().expect("the daemon's log");
        Self(Child::start(reactor(dir).args(args).stdin(Stdio::null()).stdout(out).stderr(log)))
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.0.has_ended()
    }

    /// How it ended, if it does within `limit`.
    pub fn wait(mut self, limit: Duration) -> Option<ExitStatus> {
        self.0.wait(limit)
    }

    /// SIGKILL to the daemon alone: its handlers live on, as after a crash.
    pub fn kill_9(&mut self) {
        self.0.kill_9();
    }

    /// SIGSTOP to the daemon alone: it does nothing any more, and neither does it end.
    pub fn pause(&self) {
        self.0.signal(Signal::STOP);
    }

    /// SIGTERM: finish what runs, and end.
    pub fn terminate(&self) {
        self.0.signal(Signal::TERM);
    }

    /// SIGHUP: read the rules again.
    pub fn hang_up(&self) {
        self.0.signal(Signal::HUP);
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.inner.id()
    }
}

/// Keeps every other program from writing the journal of the daemon in `dir`, as a full disk would, until it is dropped.
///
/// # Panics
/// When the journal can't be opened, or is not free within `limit`.
#[must_use]
pub fn hold_journal(dir: &Path, limit: Duration) -> rusqlite::Connection {
    let journal = rusqlite::Connection::open(dir.join("state/journal.db")).expect("the journal");
    journal.busy_timeout(limit).expect("an option");
    journal.execute_batch("BEGIN IMMEDIATE").expect("the journal's lock");
    journal
}

/// Runs `reactor ARGS… --state DIR/state` in `dir` to its end.
///
/// # Panics
/// When it is not built, or can't be started.
#[must_use]
pub fn reactor_output(dir: &Path, args: &[&str]) -> Output {
    reactor(dir).args(args).stdin(Stdio::null()).output().expect("reactor runs")
}

/// Runs `reactor ARGS… --state DIR/state` in `dir` to its end; its exit code (-1: none) and all it says.
///
/// # Panics
/// As [`reactor_output`].
#[must_use]
pub fn reactor_said(dir: &Path, args: &[&str]) -> (i32, String) {
    let output = reactor_output(dir, args);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
}

/// All reactions in the journal of `dir`, the newest first. None while there is no journal.
///
/// # Panics
/// As [`reactor_output`].
#[must_use]
pub fn reactions(dir: &Path) -> Vec<Value> {
    let output = reactor_output(dir, &["list", "--at-most", "0", "--format", "json"]);
    String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// How many reactions with this key are in this state.
///
/// # Panics
/// As [`reactor_output`].
#[must_use]
pub fn count_of_key(dir: &Path, key: &str, state: &str) -> usize {
    reactions(dir).iter().filter(|row| row["key"] == key && row["state"] == state).count()
}

/// Waits until `n` reactions with this key are in this state.
///
/// # Panics
/// When they never are: with all reactions, and what `log` says.
pub fn until_count_of_key(dir: &Path, key: &str, state: &str, n: usize, log: impl Fn() -> String) {
    let began = Instant::now();
    while count_of_key(dir, key, state) != n {
        let rows = || reactions(dir).iter().map(|row| format!("{row}\n")).collect::<String>();
        assert!(began.elapsed() < PATIENCE, "no {n} reactions with the key {key} are {state}:\n{}{}", rows(), log());
        std::thread::sleep(LOOK);
    }
}

/// What `reactor ARGS… --format json` says: one value a line.
///
/// # Panics
/// When it does not end with 0, or says something that is not JSON.
#[must_use]
pub fn reactor_json(dir: &Path, args: &[&str]) -> Vec<Value> {
    let output = reactor_output(dir, &[args, &["--format", "json"]].concat());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "reactor {args:?}: {}\n{said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
}

/// A command for the built program, in `dir`, with its state there.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn reactor(dir: &Path) -> Command {
    let mut reactor = command(program());
    reactor.current_dir(dir).arg("--state").arg(dir.join("state"));
    reactor
}

/// `target/PROFILE/reactor`, beside this test's own directory `target/PROFILE/deps`.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn program() -> PathBuf {
    let own = std::env::current_exe().expect("the test's own path");
    let profile = own.parent().and_then(Path::parent).expect("target/PROFILE");
    let program = profile.join("reactor");
    let wanted = if profile.ends_with("debug") {
        String::new()
    } else {
        format!(" --profile {}", profile.file_name().unwrap_or_default().display())
    };
    assert!(
        program.exists(),
        "{} is not built\nhint: cargo build{wanted} -p reactor   (make test does it)",
        program.display()
    );
    program
}
