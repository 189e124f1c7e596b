//! Running a program of somebody else's: without a shell, in a clean environment, in a process group of its own that is
//! ended for certain, with all that it prints bounded.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

/// What of stderr goes into a failure, in bytes: its end.
const STDERR_KEPT_BYTES_MAX: usize = 2_000;
/// What is read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// How often a program is tried that is being written at this moment (`ETXTBSY`).
const BUSY_TRIES_MAX: u32 = 20;
/// Between two such tries.
const BUSY_WAIT: Duration = Duration::from_millis(5);
/// What of our own environment a program gets. `REACTOR_STATE` is how a restarted daemon finds what it must end.
const ENVIRONMENT: [&str; 6] = ["PATH", "LANG", "HOME", "TMPDIR", "REACTOR_SECRETS", "REACTOR_STATE"];

/// What to run.
pub struct Run {
    /// The program; searched in `PATH` if it has no slash.
    pub program: String,
    /// Its arguments. Nothing secret: everybody on the machine can read them.
    pub args: Vec<String>,
    /// What stands in its environment beside [`ENVIRONMENT`].
    pub env: Vec<(OsString, OsString)>,
    /// What it gets on stdin.
    pub stdin: Vec<u8>,
    /// Most that it may print, in bytes.
    pub stdout_bytes_max: usize,
    /// After this it is killed with its whole group.
    pub timeout: Duration,
}

/// A program that has ended by itself.
pub struct Ended {
    /// All that it printed.
    pub stdout: Vec<u8>,
    /// The end of what it said on stderr, in one line, fit to show.
    pub stderr: String,
    /// How it ended.
    pub status: ExitStatus,
}

/// Why there is no [`Ended`]. Its text is the end of a sentence that begins with the program.
pub enum Trouble {
    /// It could not be started, or its pipes broke.
    Io(io::Error),
    /// It printed more than it may; the limit in bytes.
    TooMuch(usize),
    /// It took too long; the limit, and the end of its stderr.
    TooSlow(Duration, String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "could not be run: {error}"),
            Self::TooMuch(max) => write!(f, "printed more than {max} bytes and was ended"),
            Self::TooSlow(max, stderr) if stderr.is_empty() => {
                write!(f, "took longer than {}s and was ended", max.as_secs())
            }
            Self::TooSlow(max, stderr) => write!(f, "took longer than {}s and was ended: {stderr}", max.as_secs()),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Runs it. Dropped = the whole group is killed.
pub async fn run(run: Run) -> Result<Ended, Trouble> {
    run_heard(run, |_| ()).await
}

/// As [`run`]; `hear` gets every piece of stderr as it comes, also of what is not kept.
pub async fn run_heard(run: Run, hear: impl FnMut(&[u8]) + Send) -> Result<Ended, Trouble> {
    let stdout_bytes_max = run.stdout_bytes_max;
    let mut stdout = Vec::new();
    let keep = |some: &[u8]| {
        if stdout.len() + some.len() > stdout_bytes_max {
            return Err(Trouble::TooMuch(stdout_bytes_max));
        }
        stdout.extend_from_slice(some);
        Ok(())
    };
    let mut ended = in_time(run, keep, hear).await?;
    ended.stdout = stdout;
    Ok(ended)
}

/// As [`run`], for a program that prints more than is worth keeping: `take` gets every piece of stdout as it comes,
/// [`Ended::stdout`] stays empty, and `stdout_bytes_max` does not count.
pub async fn run_streamed(run: Run, mut take: impl FnMut(&[u8]) + Send) -> Result<Ended, Trouble> {
    let take = |some: &[u8]| {
        take(some);
        Ok(())
    };
    in_time(run, take, |_| ()).await
}

async fn in_time(
    run: Run,
    take: impl FnMut(&[u8]) -> Result<(), Trouble> + Send,
    hear: impl FnMut(&[u8]) + Send,
) -> Result<Ended, Trouble> {
    let timeout = run.timeout;
    let stderr = Tail::default();
    match tokio::time::timeout(timeout, to_its_end(run, &stderr, take, hear)).await {
        Ok(ended) => ended,
        Err(_) => Err(Trouble::TooSlow(timeout, stderr.shown())),
    }
}

async fn to_its_end(
    run: Run,
    tail: &Tail,
    take: impl FnMut(&[u8]) -> Result<(), Trouble> + Send,
    hear: impl FnMut(&[u8]) + Send,
) -> Result<Ended, Trouble> {
    let stdin_bytes = run.stdin.clone();
    // Starting blocks for about a millisecond.
    let started = tokio::task::spawn_blocking(move || start(&run)).await.map_err(io::Error::other)?;
    let (mut group, pidfd) = started?;
    let missing = || io::Error::other("a pipe of the program is missing");
    let mut stdin = ChildStdin::from_std(group.child.stdin.take().ok_or_else(missing)?)?;
    let stdout = ChildStdout::from_std(group.child.stdout.take().ok_or_else(missing)?)?;
    let stderr = ChildStderr::from_std(group.child.stderr.take().ok_or_else(missing)?)?;
    let end = exit_of(pidfd)?;
    let feed = async {
        // A program that does not read its stdin is fine.
        let _ = stdin.write_all(&stdin_bytes).await;
        drop(stdin);
        Ok(())
    };
    let ended = async {
        drop(end.readable().await);
        // What it left behind would hold its pipes open.
        group.kill();
        Ok(())
    };
    tokio::try_join!(feed, read(stdout, take), tail.read(stderr, hear), ended)?;
    let status = group.reap()?;
    Ok(Ended { stdout: Vec::new(), stderr: tail.shown(), status })
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place of this crate that starts programs; `runner` is the engine's"
)]
fn start(run: &Run) -> io::Result<(Group, OwnedFd)> {
    let mut command = Command::new(&run.program);
    command.args(&run.args).env_clear().process_group(0);
    for name in ENVIRONMENT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(run.env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tries = 0;
    let child = loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES_MAX => {
                tries += 1;
                std::thread::sleep(BUSY_WAIT);
            }
            other => break other?,
        }
    };
    let pid = Pid::from_child(&child);
    let group = Group { child, pid, reaped: false };
    // Opened before anything is sent to it, a pidfd can't come to mean another process.
    Ok((group, pidfd_open(pid, PidfdFlags::NONBLOCK)?))
}

#[allow(
    deprecated,
    reason = "its successor is `unsafe` and asks for a descriptor that is owned and stays: it is, here"
)]
fn exit_of(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(pidfd)
}

/// The leader of a group. It is reaped only after the group was killed: until then its process id can't come to mean a
/// stranger.
struct Group {
    child: Child,
    pid: Pid,
    reaped: bool,
}

impl Group {
    fn kill(&self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
    }

    /// Only after its end.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait();
        self.reaped = true;
        status
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        self.kill();
        let pid = self.pid;
        // Killed, but perhaps stuck in the kernel for a while: nobody else waits for it.
        let reap = move || {
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        };
        let _ = std::thread::Builder::new().name("reap program".into()).spawn(reap);
    }
}

async fn read(
    mut pipe: impl AsyncRead + Unpin,
    mut take: impl FnMut(&[u8]) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let mut some = vec![0; READ_BYTES];
    loop {
        let count = pipe.read(&mut some).await?;
        if count == 0 {
            return Ok(());
        }
        take(&some[..count])?;
    }
}

/// The end of a stderr.
#[derive(Default)]
struct Tail(Arc<Mutex<Vec<u8>>>);

impl Tail {
    async fn read(&self, mut pipe: impl AsyncRead + Unpin, mut hear: impl FnMut(&[u8])) -> Result<(), Trouble> {
        let mut some = vec![0; 4_096];
        loop {
            let count = pipe.read(&mut some).await?;
            if count == 0 {
                return Ok(());
            }
            hear(&some[..count]);
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(&some[..count]);
            let over = kept.len().saturating_sub(STDERR_KEPT_BYTES_MAX);
            kept.drain(..over);
        }
    }

    fn shown(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect();
        lines.join(" / ")
    }
}
