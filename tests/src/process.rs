//! Child processes that never outlive the test: each leads a process group, which is killed when the [`Child`] goes.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Between two looks at a child, in milliseconds.
const LOOK_MS: u64 = 5;

/// A command for [`Child::start`], or to run to its end.
#[must_use]
#[allow(
    clippy::disallowed_methods,
    reason = "the tests start the programs they test; the product's rule is about handlers"
)]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// A command whose program the kernel kills when the thread that started it ends, however it ends. For servers, which do not end
/// with their stdin. It can't be a program that changes its user.
#[must_use]
pub fn mortal(program: impl AsRef<OsStr>) -> Command {
    let mut command = command("/usr/bin/setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// A running program.
#[derive(Debug)]
pub struct Child {
    /// The program; take its pipes from here.
    pub inner: std::process::Child,
}

impl Child {
    /// Starts it as the leader of a process group of its own.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let inner = command.process_group(0).spawn();
        Self { inner: inner.unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display())) }
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// When the system does not say.
    pub fn has_ended(&mut self) -> bool {
        self.inner.try_wait().expect("the state of a child").is_some()
    }

    /// How it ended, if it does within `limit`.
    ///
    /// # Panics
    /// When the system does not say.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let began = Instant::now();
        loop {
            let ended = self.inner.try_wait().expect("the state of a child");
            if ended.is_some() || began.elapsed() >= limit {
                return ended;
            }
            std::thread::sleep(Duration::from_millis(LOOK_MS));
        }
    }

    /// Sends a signal to the program alone.
    pub fn signal(&self, signal: Signal) {
        // It may have ended in this very moment.
        let _ = kill_process(self.pid(), signal);
    }

    /// SIGKILL to the program alone, not to what it started; waits for its end.
    pub fn kill_9(&mut self) {
        if !self.has_ended() {
            self.signal(Signal::KILL);
        }
        let _ = self.inner.wait();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.inner)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The group may outlive its leader. Its number is not given away before the leader was waited for.
        if !matches!(self.inner.try_wait(), Ok(Some(_))) {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            let _ = self.inner.wait();
        }
    }
}
