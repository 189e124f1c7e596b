//! Where several nodes share the work, a daemon that is stopped (SIGSTOP, a debugger) or killed must not leave handlers behind
//! that write while another node already does their work. So each daemon has a warden: a small process beside it, which is told
//! after each beat how long the lease holds. When that time is over, or the daemon is gone without a word, it ends both the
//! daemon and its handlers.
//!
//! What it is told, a line each on its stdin: `watch MS` (until then, by [`boottime_ms`]), `rest` (nothing runs, nothing begins).

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, getppid, pidfd_send_signal};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines, Stdin, stdin};
use tokio::process::ChildStdin;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::time::timeout;

use super::process::Exit;
use crate::engine::fence::boottime_ms;

/// Longest wait until the warden has taken a line, in milliseconds. One that does not is replaced.
const TELL_MS_MAX: u64 = 500;
/// How long the daemon may take to be gone once it was killed, in seconds. More only if it is stuck in the kernel.
const GONE_SECONDS_MAX: u64 = 2;

/// The daemon's side.
#[derive(Debug)]
pub struct Warden {
    /// The daemon's program.
    reactor: PathBuf,
    /// The daemon's state directory.
    state: PathBuf,
    child: Option<(Child, ChildStdin)>,
}

impl Warden {
    /// For a daemon on the state directory `state`. Started when it is first told something.
    #[must_use]
    pub const fn new(reactor: PathBuf, state: PathBuf) -> Self {
        Self { reactor, state, child: None }
    }

    /// Ends the daemon and its handlers then (by [`boottime_ms`]), unless it is told something else before. False: there is no
    /// warden that could.
    pub async fn watch_until(&mut self, ms: u64) -> bool {
        let line = format!("watch {ms}\n");
        for _ in 0..2 {
            match self.tell(&line).await {
                Ok(()) => return true,
                Err(error) => {
                    tracing::warn!(%error, "the warden does not hear; another one is started");
                    self.dismiss();
                }
            }
        }
        false
    }

    /// Nothing has to be watched until it is told again.
    pub async fn rest(&mut self) {
        if self.child.is_some()
            && let Err(error) = self.tell("rest\n").await
        {
            tracing::warn!(%error, "the warden does not hear");
            self.dismiss();
        }
    }

    async fn tell(&mut self, line: &str) -> io::Result<()> {
        if self.child.is_none() {
            self.child = Some(self.start()?);
        }
        let Some((_, stdin)) = &mut self.child else { return Ok(()) };
        let limit = Duration::from_millis(TELL_MS_MAX);
        timeout(limit, stdin.write_all(line.as_bytes())).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    #[allow(clippy::disallowed_methods, reason = "this is the runner")]
    fn start(&self) -> io::Result<(Child, ChildStdin)> {
        let mut command = Command::new(&self.reactor);
        command.arg("--state").arg(&self.state).args(["warden", "--daemon", &std::process::id().to_string()]);
        // A group of its own: what a terminal sends to the daemon's is not for it.
        command.env_clear().current_dir("/").process_group(0).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().ok_or_else(|| io::Error::other("it has no stdin"))?;
        Ok((child, ChildStdin::from_std(stdin)?))
    }

    fn dismiss(&mut self) {
        if let Some((mut child, _)) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How a watch has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// The daemon ended when there was nothing to watch.
    Fine,
    /// The daemon is gone, and what it started may still run.
    Orphaned,
}

/// The warden's side: watches the process `daemon`, its parent, until that is gone.
///
/// # Errors
/// When the system does not let it.
pub async fn watch(daemon: u32) -> io::Result<Watched> {
    let pid = i32::try_from(daemon).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("no process id"))?;
    let pidfd = Exit::open(pid);
    // Its number may be another's by now; a parent's is not.
    let daemon = if getppid() == Some(pid) { Some(pidfd?) } else { None };
    let mut deaf = Deaf::new()?;
    let mut lines = BufReader::new(stdin()).lines();
    let (alarm, mut until) = (Alarm::new()?, None);
    loop {
        match next(&mut lines, &mut deaf, &alarm).await {
            Next::Said(Some(line)) => {
                until = line.strip_prefix("watch ").and_then(|ms| ms.trim().parse().ok());
                alarm.set(until)?;
            }
            Next::Said(None) if until.is_none() => return Ok(Watched::Fine),
            Next::Said(None) => break,
            Next::Looked => {}
        }
        if until.is_some_and(|until: u64| boottime_ms() >= until) {
            tracing::error!("the lease has run out and the daemon does not say a word: it is ended, with its handlers");
            break;
        }
    }
    if let Some(daemon) = daemon {
        let _ = pidfd_send_signal(&daemon, Signal::KILL);
        let gone = Exit::of(daemon)?;
        let _ = timeout(Duration::from_secs(GONE_SECONDS_MAX), gone.ended()).await;
    }
    Ok(Watched::Orphaned)
}

enum Next {
    /// `None`: the daemon is gone.
    Said(Option<String>),
    Looked,
}

async fn next(lines: &mut Lines<BufReader<Stdin>>, deaf: &mut Deaf, alarm: &Alarm) -> Next {
    tokio::select! {
        biased;
        line = lines.next_line() => Next::Said(line.ok().flatten()),
        () = deaf.hear() => Next::Looked,
        () = alarm.rung() => Next::Looked,
    }
}

/// Rings at a time of the clock that goes on while the machine sleeps: at once when it wakes up behind that.
struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    #[allow(
        deprecated,
        reason = "its successor is `unsafe` and asks for a descriptor that is owned and stays: it is, here"
    )]
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        AsyncFd::new(timerfd_create(TimerfdClockId::Boottime, flags)?).map(Self)
    }

    /// By [`boottime_ms`]; `None`: never.
    fn set(&self, until: Option<u64>) -> io::Result<()> {
        // Zero would be never.
        let ms = i64::try_from(until.map_or(0, |until| until.max(1))).unwrap_or(i64::MAX);
        let it_value = Timespec { tv_sec: ms / 1_000, tv_nsec: ms % 1_000 * 1_000_000 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }

    /// Safe to cancel.
    async fn rung(&self) {
        while let Ok(mut ready) = self.0.readable().await {
            let mut times = [0; 8];
            match ready.try_io(|alarm| Ok(rustix::io::read(alarm.get_ref(), &mut times)?)) {
                // It was set anew meanwhile.
                Err(_) => {}
                Ok(_) => return,
            }
        }
    }
}

/// Who stops a service may send these to all of its processes. The warden ends with the daemon, not before.
struct Deaf([Signals; 3]);

impl Deaf {
    fn new() -> io::Result<Self> {
        let of = |kind| signal(kind);
        Ok(Self([of(SignalKind::terminate())?, of(SignalKind::interrupt())?, of(SignalKind::hangup())?]))
    }

    async fn hear(&mut self) {
        let [term, int, hup] = &mut self.0;
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = hup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_alarm_rings_at_its_time_and_not_at_one_that_it_was_set_to_before() {
        let alarm = Alarm::new().unwrap();
        alarm.set(Some(boottime_ms() + 20)).unwrap();
        alarm.set(None).unwrap();
        assert!(
            timeout(Duration::from_millis(100), alarm.rung()).await.is_err(),
            "it was told that nothing is watched"
        );
        let until = boottime_ms() + 50;
        alarm.set(Some(until)).unwrap();
        alarm.rung().await;
        assert!(boottime_ms() >= until);
        // What is over rings at once, as it does when the machine wakes up.
        alarm.set(Some(1)).unwrap();
        alarm.rung().await;
    }
}
