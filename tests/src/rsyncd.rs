//! A real `rsync --daemon` over one directory: own port, loopback only, its own log. What was really sent to whom is read from
//! that log: a file that only a dry run looked at does not stand there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::process::{Child, mortal};
use crate::{free_port, wait_until};

/// How long a daemon may take until it listens, and a connection until it is at the gate, on a loaded machine.
const COMES_MAX: Duration = Duration::from_secs(30);
/// The name of the only module.
pub const MODULE: &str = "pub";
/// Where a mirror keeps what it says of itself, in its tree.
pub const OWN: &str = ".reactor-mirror";

/// Between two looks of a connection that is held, in seconds (for `sleep`).
const GATE_LOOK_S: &str = "0.02";

/// A running daemon. It and its connections end with this.
#[derive(Debug)]
pub struct Rsyncd {
    /// The directory behind the module.
    pub tree: PathBuf,
    port: u16,
    dir: PathBuf,
    daemon: Option<Child>,
    bwlimit_kib: Option<u32>,
}

impl Rsyncd {
    /// Starts one over `dir/tree`, which is made; its files stand in `dir/rsyncd`.
    ///
    /// # Panics
    /// When there is no rsync, or it does not start.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        let (tree, own) = (dir.join("tree"), dir.join("rsyncd"));
        fs::create_dir_all(&tree).expect("a tree");
        fs::create_dir_all(&own).expect("a directory");
        let mut it = Self { tree, port: free_port(), dir: own, daemon: None, bwlimit_kib: None };
        fs::write(it.dir.join("gate"), it.gate_script()).expect("a script");
        it.configure(false);
        it.spawn();
        it
    }

    /// Where to pull from.
    #[must_use]
    pub fn url(&self) -> String {
        format!("rsync://127.0.0.1:{}/{MODULE}", self.port)
    }

    fn configure(&self, refuse: bool) {
        let whom = if refuse { "hosts deny = *\n" } else { "" };
        let who = if geteuid().is_root() { "uid = 0\ngid = 0\n" } else { "" };
        let text = format!(
            "address = 127.0.0.1\nport = {port}\nuse chroot = no\nsocket options = TCP_NODELAY\nreverse lookup = no\nlog file = {dir}/log\n\
             transfer logging = yes\nlog format = FILE %o %m %l %f\n[{MODULE}]\npath = {tree}\nread only = yes\n\
             pre-xfer exec = /bin/sh {dir}/gate\n{who}{whom}",
            port = self.port,
            dir = self.dir.display(),
            tree = self.tree.display(),
        );
        // The daemon reads it at each connection: it is whole at any moment.
        fs::write(self.dir.join("new"), text).expect("its configuration");
        fs::rename(self.dir.join("new"), self.dir.join("conf")).expect("its configuration");
    }

    fn spawn(&mut self) {
        let mut rsync = mortal("rsync");
        rsync.args(["--daemon", "--no-detach"]).arg(format!("--config={}", self.dir.join("conf").display()));
        rsync.args(self.bwlimit_kib.map(|kib| format!("--bwlimit={kib}")));
        let errors = fs::File::create(self.dir.join("stderr")).expect("its errors");
        self.daemon = Some(Child::start(rsync.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors)));
        wait_until("rsync --daemon listens (hint: scripts/install-test-deps)", COMES_MAX, || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    /// The daemon is gone, and every connection with it; connections are refused.
    pub fn stop(&mut self) {
        self.cut();
        self.daemon = None;
    }

    /// It is back after [`Rsyncd::stop`], at the same port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        self.stop();
        self.spawn();
    }

    /// It is started again, with another limit of what a connection sends. What is under way is cut.
    ///
    /// # Panics
    /// When it does not start.
    pub fn limit(&mut self, kib_a_second: Option<u32>) {
        self.bwlimit_kib = kib_a_second;
        self.start_again();
    }

    /// From now on it sends everybody away (`access denied`).
    pub fn refuse(&self) {
        self.configure(true);
    }

    /// Takes back [`Rsyncd::refuse`].
    pub fn accept(&self) {
        self.configure(false);
    }

    /// kill -9 of all its connections; how many there were.
    pub fn cut(&self) -> usize {
        let children = self.daemon.as_ref().map_or_else(Vec::new, |daemon| below(daemon.inner.id()));
        children.iter().for_each(|pid| kill_9(*pid));
        children.len()
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("log")).unwrap_or_default()).into_owned()
    }

    /// How many connections it took for its module so far, dry runs and looks at [`OWN`] among them.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.log().lines().filter(|line| line.contains(&format!("] rsync on {MODULE}"))).count()
    }

    /// The files that it sent so far, in their order, each as often as it was sent; without those in [`OWN`]. Names stand as
    /// rsync logs them: a newline is `\#012`.
    #[must_use]
    pub fn sent(&self) -> Vec<String> {
        let (log, mark) = (self.log(), format!("] FILE send {MODULE} "));
        let file = |line: &str| Some(line.split_once(&mark)?.1.split_once(' ')?.1.to_owned());
        log.lines().filter_map(file).filter(|file| !file.contains(OWN)).collect()
    }

    /// How often it sent this file.
    #[must_use]
    pub fn times_sent(&self, file: &str) -> usize {
        self.sent().iter().filter(|sent| *sent == file).count()
    }

    // The gate -----------------------------------------------------------------------------------------------------------

    /// From now on a connection waits at its beginning while there is a file of this name; the last part may be a pattern.
    ///
    /// # Panics
    /// When it can't be shut.
    pub fn shut_while(&self, file: &Path) {
        let _ = fs::remove_file(self.dir.join("came"));
        fs::write(self.dir.join("shut.new"), format!("{}\n", file.display())).expect("a shut gate");
        fs::rename(self.dir.join("shut.new"), self.dir.join("shut")).expect("a shut gate");
    }

    /// Waits until a connection waits at the gate.
    ///
    /// # Panics
    /// When none comes.
    pub fn until_one_waits(&self) {
        wait_until("a connection is at the gate", COMES_MAX, || self.dir.join("came").exists());
    }

    /// Lets everybody go on.
    ///
    /// # Panics
    /// When it was not shut.
    pub fn open(&self) {
        fs::remove_file(self.dir.join("shut")).expect("a shut gate");
    }

    fn gate_script(&self) -> String {
        format!(
            "cd '{}' && [ -e shut ] || exit 0\nset -- $(cat shut)\n[ -e \"$1\" ] || exit 0\n: >came\n\
             while [ -e shut ]; do sleep {GATE_LOOK_S}; done\n",
            self.dir.display()
        )
    }
}

impl Drop for Rsyncd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// kill -9 of every rsync whose arguments name this; how many there were. For the client's side of a transfer.
#[must_use]
pub fn kill_clients_of(needle: &str) -> usize {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let ours: Vec<u32> = pids.filter(|pid| is_client_of(*pid, needle)).collect();
    ours.iter().for_each(|pid| kill_9(*pid));
    ours.len()
}

fn is_client_of(pid: u32, needle: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    let program = line.split('\0').next().unwrap_or_default();
    program.rsplit('/').next() == Some("rsync") && !line.contains("--daemon") && line.contains(needle)
}

fn kill_9(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended in this very moment.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// What a process has started, and what that has started.
fn below(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = text.split_whitespace().filter_map(|word| word.parse().ok());
    children.flat_map(|child: u32| std::iter::once(child).chain(below(child))).collect()
}
