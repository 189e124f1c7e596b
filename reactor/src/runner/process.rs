//! One child process and its group: started without a shell, ended for certain.
//!
//! The leader is reaped only after the group was killed: until then its process id can't be given to another process, so
//! the signal never hits a stranger. What left the group (`setsid`) is not reached from here; see [`super::leftovers`].

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

use super::sandbox;

/// How often a program is tried that is being written at this moment (`ETXTBSY`).
const BUSY_TRIES_MAX: u32 = 20;
/// Between two such tries, in milliseconds.
const BUSY_WAIT_MS: u64 = 5;

/// A child that leads its own process group. Dropped = the whole group is killed.
pub(super) struct Process {
    group: Group,
    exit: Exit,
}

/// Waits for the end of a process, ours or not, by its pidfd (Linux 5.3).
pub(super) struct Exit(AsyncFd<OwnedFd>);

impl Exit {
    /// Opened before anything is sent to it, a pidfd can't come to mean another process.
    pub fn open(pid: Pid) -> io::Result<OwnedFd> {
        Ok(pidfd_open(pid, PidfdFlags::NONBLOCK)?)
    }

    #[allow(
        deprecated,
        reason = "its successor is `unsafe` and asks for a descriptor that is owned and stays: it is, here"
    )]
    pub fn of(pidfd: OwnedFd) -> io::Result<Self> {
        AsyncFd::new(pidfd).map(Self)
    }

    /// Safe to cancel.
    pub async fn ended(&self) {
        // A pidfd is readable from the end of its process on; an error can only mean that there is nothing to wait for.
        drop(self.0.readable().await);
    }
}

/// The ends of its pipes that are ours.
pub(super) struct Pipes {
    pub stdin: Option<ChildStdin>,
    pub stdout: ChildStdout,
    pub stderr: ChildStderr,
}

struct Group {
    child: Child,
    pid: Pid,
    reaped: bool,
}

/// Starts `command`, in a thread of its own: starting blocks for about a millisecond, and with `read_only_but` the thread
/// gives up the right to write anywhere but there; the child inherits that (see [`sandbox`]).
pub(super) async fn start(command: Command, read_only_but: Option<PathBuf>) -> io::Result<(Process, Pipes)> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("start handler".into()).spawn(move || {
        // Nobody waits any more: the value comes back here and its drop ends the child.
        drop(sender.send(start_here(command, read_only_but)));
    })?;
    let (mut group, pidfd) = receiver.await.map_err(io::Error::other)??;
    let missing = || io::Error::other("a pipe of the child is missing");
    let stdin = group.child.stdin.take().map(ChildStdin::from_std).transpose()?;
    let stdout = ChildStdout::from_std(group.child.stdout.take().ok_or_else(missing)?)?;
    let stderr = ChildStderr::from_std(group.child.stderr.take().ok_or_else(missing)?)?;
    Ok((Process { exit: Exit::of(pidfd)?, group }, Pipes { stdin, stdout, stderr }))
}

fn start_here(mut command: Command, read_only_but: Option<PathBuf>) -> io::Result<(Group, OwnedFd)> {
    if let Some(work) = read_only_but {
        sandbox::restrict_this_thread(&work)?;
    }
    let mut tries = 0;
    let child = loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES_MAX => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(BUSY_WAIT_MS));
            }
            other => break other?,
        }
    };
    let pid = Pid::from_child(&child);
    let group = Group { child, pid, reaped: false };
    Ok((group, Exit::open(pid)?))
}

impl Process {
    /// Waits until the leader has ended; it is not reaped yet. Safe to cancel.
    pub async fn ended(&self) {
        self.exit.ended().await;
    }

    /// Sends SIGTERM to the group.
    pub fn terminate(&self) {
        let _ = kill_process_group(self.group.pid, Signal::TERM);
    }

    /// Kills what is left of the group, then reaps the leader.
    pub async fn finish(mut self) -> io::Result<ExitStatus> {
        self.group.kill();
        self.ended().await;
        let status = self.group.child.wait();
        self.group.reaped = true;
        status
    }
}

impl Group {
    fn kill(&self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        self.kill();
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Killed, but perhaps stuck in the kernel for a while: nobody else waits for it.
        let pid = self.pid;
        let reap = move || {
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        };
        let _ = std::thread::Builder::new().name("reap handler".into()).spawn(reap);
    }
}
