//! Warm connections: one ssh master a host, commands go over its control socket without a further process here.
//!
//! The masters are our own children in our own process group, started in the foreground: each dies with its [`Link`], with
//! a signal to our group, and is found by `REACTOR_STATE` in its environment should we be killed.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use handler_api::ssh_config::key_file;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout};

use super::Trouble;
use super::edge::{Heard, converse, too_slow};
use super::ssh_config;
use super::trouble::{of_ssh, of_text};
use crate::access::{Host, Reach};
use crate::config::SshConfig;

/// Longest path of a control socket, in bytes: a Unix socket's has at most 107, and ssh adds 17 while it makes it.
const SOCKET_PATH_BYTES_MAX: usize = 107 - 17;
/// Longest name of a control socket with its slash, in bytes.
const SOCKET_NAME_BYTES_MAX: usize = 1 + 12;
/// Connections that are made at the same time, for each core: a key exchange is work for the CPU.
const CONNECTS_A_CORE_MAX: usize = 4;
/// How long a connection that is being made keeps others from being made, in milliseconds: a host that is down costs no CPU, and
/// many of those must not hold up the hosts that are not.
const CONNECT_TURN_MS: u64 = 500;
/// How long after ssh's own time limit we give a connection up, in milliseconds: what ssh says is the better reason.
const CONNECT_GRACE_MS: u64 = 1_000;
/// How often it is looked whether a connection is made: at first, and at most, in milliseconds.
const CONNECT_LOOK_MS: (u64, u64) = (4, 32);
/// Most that is read of what a master said, in bytes.
const LOG_BYTES_MAX: usize = 8 * 1024;
/// How long `ssh -Q kex` may take, in seconds.
const QUERY_SECONDS_MAX: u64 = 10;
/// Idle connections are looked for at least this often, in seconds.
const SWEEP_SECONDS_MAX: u64 = 30;

/// The connections. Dropped = all are closed.
#[derive(Debug)]
pub(super) struct Pool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ssh: SshConfig,
    ground: OnceCell<Arc<Ground>>,
    slots: Mutex<HashMap<Target, Arc<Slot>>>,
    turns: Semaphore,
    connects: Semaphore,
    next: AtomicU64,
    sweeping: AtomicBool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Target {
    address: String,
    port: Option<u16>,
    user: Option<String>,
}

/// One host's place. Whoever holds the lock has the host to itself.
#[derive(Debug, Default)]
struct Slot {
    link: tokio::sync::Mutex<Option<Link>>,
}

/// Our private directories.
#[derive(Debug)]
struct Ground {
    dir: TempDir,
    config: PathBuf,
    sockets: PathBuf,
    _short: Option<TempDir>,
}

/// One connection.
#[derive(Debug)]
struct Link {
    session: openssh::Session,
    master: Child,
    socket: PathBuf,
    log: PathBuf,
    used: Instant,
    _ground: Arc<Ground>,
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.master.start_kill();
        let _ = fs::remove_file(&self.socket);
        let _ = fs::remove_file(&self.log);
    }
}

/// Why a command came to nothing.
enum Broken {
    /// Nothing of it was begun.
    NotStarted(String),
    /// It may have been done, in part or as a whole.
    Midway(String),
}

impl Pool {
    pub fn new(ssh: SshConfig) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let inner = Inner {
            turns: Semaphore::new(ssh.at_once.max(1)),
            connects: Semaphore::new(CONNECTS_A_CORE_MAX * cores),
            ssh,
            ground: OnceCell::new(),
            slots: Mutex::default(),
            next: AtomicU64::new(0),
            sweeping: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Waits until one more host may be worked on.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed.
        self.inner.turns.acquire().await.ok()
    }

    /// Runs a line on a host. Time counts from when the host's turn has come.
    pub async fn ask(&self, host: &Host, line: &str, input: &[u8], patience: Duration) -> Result<Heard, Trouble> {
        let Reach::Ssh { address, port, user, .. } = &host.reach else {
            return Err(Trouble::lasting(host, "is this machine, not reached over ssh"));
        };
        let target = Target { address: address.clone(), port: *port, user: user.clone() };
        let slot = self.inner.slot(&target);
        let mut place = slot.link.lock().await;
        let mut turn = self.turn().await;
        self.sweep();
        // Taken out while it is used: whoever is dropped midway drops it too, and nobody meets a stranger's answer.
        let mut kept = place.take().filter(|link| !link.idle_for(self.inner.ssh.keep));
        loop {
            let warm = kept.as_mut().is_some_and(Link::lives);
            let mut link = match kept.take() {
                Some(link) if warm => link,
                _ => self.inner.connect(host, &target, &mut turn).await?,
            };
            if turn.is_none() {
                turn = self.turn().await;
            }
            match timeout(patience, link.run(line, input)).await {
                Ok(Ok(heard)) => {
                    link.used = Instant::now();
                    *place = Some(link);
                    return Ok(heard);
                }
                // It broke while nobody looked.
                Ok(Err(Broken::NotStarted(_))) if warm => {}
                Ok(Err(Broken::NotStarted(why) | Broken::Midway(why))) => {
                    let said = link.last_words();
                    let what = format!("ssh {address}: the connection broke during a command ({why})");
                    return Err(of_text(host, &what, &said));
                }
                Err(_) => return Err(too_slow(host, patience)),
            }
        }
    }

    /// Sees to it that idle connections are closed, as long as there is a pool.
    fn sweep(&self) {
        if self.inner.sweeping.swap(true, Ordering::Relaxed) {
            return;
        }
        let pool = Arc::downgrade(&self.inner);
        let pause = (self.inner.ssh.keep / 2).clamp(Duration::from_millis(50), Duration::from_secs(SWEEP_SECONDS_MAX));
        tokio::spawn(async move {
            loop {
                sleep(pause).await;
                let Some(pool) = Weak::upgrade(&pool) else { return };
                pool.close_idle();
            }
        });
    }
}

impl Inner {
    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<Target, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, target: &Target) -> Arc<Slot> {
        Arc::clone(self.slots().entry(target.clone()).or_default())
    }

    /// Closes what is idle for too long or dead, and forgets hosts that nobody asks for any more.
    fn close_idle(&self) {
        let keep = self.ssh.keep;
        self.slots().retain(|_, slot| {
            if let Ok(mut place) = slot.link.try_lock() {
                let over = place.as_mut().is_some_and(|link| link.idle_for(keep) || !link.lives());
                if over {
                    *place = None;
                }
                return place.is_some() || Arc::strong_count(slot) > 1;
            }
            true
        });
    }

    /// Closes the longest idle connections until one more may be made. Those in use are not counted: `at_once` bounds them.
    fn make_room(&self) {
        let slots = self.slots();
        let mut idle: Vec<_> =
            slots.values().filter_map(|slot| slot.link.try_lock().ok()).filter(|l| l.is_some()).collect();
        let over = (idle.len() + 1).saturating_sub(self.ssh.connections_max.max(1));
        idle.sort_by_key(|place| place.as_ref().map(|link| link.used));
        for place in idle.iter_mut().take(over) {
            **place = None;
        }
    }

    /// One that takes long gives its turn back meanwhile.
    async fn connect(
        &self,
        host: &Host,
        target: &Target,
        turn: &mut Option<SemaphorePermit<'_>>,
    ) -> Result<Link, Trouble> {
        let permit = self.connects.acquire().await;
        let ground = self.ground.get_or_try_init(|| Ground::new(&self.ssh, host)).await?;
        self.make_room();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let socket = ground.sockets.join(number.to_string());
        let log = ground.dir.path().join(format!("{number}.log"));
        let failed = |error: std::io::Error| ssh_failed(host, &error);
        let mut command = ssh();
        command.args(["-N", "-M", "-S"]).arg(&socket).arg("-F").arg(&ground.config);
        if let Some(port) = target.port {
            command.args(["-p", &port.to_string()]);
        }
        if let Some(user) = &target.user {
            command.args(["-l", user]);
        }
        command.args(["--", &target.address]).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(&log).map_err(failed)?);
        let mut link = Link {
            master: command.spawn().map_err(failed)?,
            session: openssh::Session::resume_mux(socket.clone().into(), None),
            socket,
            log,
            used: Instant::now(),
            _ground: Arc::clone(ground),
        };
        let limit = self.ssh.connect_timeout.max(Duration::from_secs(1)) + Duration::from_millis(CONNECT_GRACE_MS);
        let began = Instant::now();
        let up = match timeout(limit.min(Duration::from_millis(CONNECT_TURN_MS)), link.is_up()).await {
            Err(_) => {
                drop((permit, turn.take()));
                timeout(limit.saturating_sub(began.elapsed()), link.is_up()).await
            }
            up => up,
        };
        match up {
            Ok(true) => Ok(link),
            Ok(false) => Err(of_ssh(host, &target.address, target.port, &link.last_words())),
            Err(_) => {
                let mut said = link.last_words();
                said.extend(format!("\nnot connected within {} s", self.ssh.connect_timeout.as_secs()).bytes());
                Err(of_ssh(host, &target.address, target.port, &said))
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place that starts ssh")]
fn ssh() -> Command {
    let mut command = Command::new("ssh");
    command.kill_on_drop(true);
    command
}

fn ssh_failed(host: &Host, error: &std::io::Error) -> Trouble {
    match error.kind() {
        std::io::ErrorKind::NotFound => Trouble::lasting(host, "there is no program `ssh` on this machine")
            .hinting("apt-get install openssh-client, or: dnf install openssh-clients"),
        _ => of_text(host, "ssh can't be started on this machine", error.to_string().as_bytes()),
    }
}

impl Link {
    /// Waits for its control socket, which ssh makes once it is logged in; `false` = ssh ended first.
    async fn is_up(&mut self) -> bool {
        let mut pause = CONNECT_LOOK_MS.0;
        while !self.socket.exists() {
            if !self.lives() {
                return false;
            }
            sleep(Duration::from_millis(pause)).await;
            pause = (pause + 2).min(CONNECT_LOOK_MS.1);
        }
        true
    }

    fn lives(&mut self) -> bool {
        matches!(self.master.try_wait(), Ok(None))
    }

    fn idle_for(&self, keep: Duration) -> bool {
        self.used.elapsed() >= keep
    }

    /// What the master said.
    fn last_words(&self) -> Vec<u8> {
        let mut said = fs::read(&self.log).unwrap_or_default();
        said.truncate(LOG_BYTES_MAX);
        said
    }

    async fn run(&self, line: &str, input: &[u8]) -> Result<Heard, Broken> {
        let mut command = self.session.raw_command(line);
        let pipe = openssh::Stdio::piped;
        command.stdin(pipe()).stdout(pipe()).stderr(pipe());
        let mut child = command.spawn().await.map_err(|error| Broken::NotStarted(reason(&error)))?;
        let (stdin, stdout, stderr) = (child.stdin().take(), child.stdout().take(), child.stderr().take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(Broken::Midway("it has no pipes".into()));
        };
        let said = converse(stdin, stdout, stderr, input).await.map_err(|error| Broken::Midway(error.to_string()))?;
        let code = match child.wait().await {
            Ok(status) => status.code().unwrap_or(137),
            // How the crate says exit code 127.
            Err(openssh::Error::Remote(_)) => 127,
            Err(error) => return Err(Broken::Midway(reason(&error))),
        };
        Ok((code, said.0, said.1))
    }
}

/// The error with what is behind it.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(error) = at {
        text.push_str(&format!(": {error}"));
        at = error.source();
    }
    text
}

impl Ground {
    async fn new(ssh_config: &SshConfig, host: &Host) -> Result<Arc<Self>, Trouble> {
        let failed = |error: std::io::Error| of_text(host, "our own directory for ssh", error.to_string().as_bytes());
        let dir = private_dir(&std::env::temp_dir()).map_err(failed)?;
        let known = query_kex().await.map_err(|error| ssh_failed(host, &error))?;
        let key = key_file(&ssh_config.key);
        let text = ssh_config::text(ssh_config, &known, key.as_deref())
            .map_err(|why| Trouble::lasting(host, why).hinting("look at `ssh:` in the handler's block"))?;
        for file in ssh_config.config.iter().chain(&ssh_config.known_hosts) {
            fs::File::open(file).map_err(|error| {
                Trouble::lasting(host, format!("{}: {error}", file.display()))
                    .hinting(format!("ls -l {}", file.display()))
            })?;
        }
        let config = dir.path().join("ssh_config");
        fs::write(&config, text).map_err(failed)?;
        let (sockets, short) = socket_dir(dir.path()).map_err(failed)?;
        Ok(Arc::new(Self { dir, config, sockets, _short: short }))
    }
}

/// Where a socket's path is short enough: in our own directory, by its path from where we are if need be, else in a private
/// one of its own.
fn socket_dir(dir: &Path) -> std::io::Result<(PathBuf, Option<TempDir>)> {
    let fits = |path: &Path| path.as_os_str().len() + SOCKET_NAME_BYTES_MAX <= SOCKET_PATH_BYTES_MAX;
    if fits(dir) {
        return Ok((dir.to_owned(), None));
    }
    if let Some(near) = std::env::current_dir().ok().and_then(|here| dir.strip_prefix(here).ok().map(Path::to_owned))
        && fits(&near)
    {
        return Ok((near, None));
    }
    let mut last = std::io::Error::other("no directory for control sockets");
    for parent in ["/dev/shm", "/tmp"] {
        match private_dir(Path::new(parent)) {
            Ok(short) => return Ok((short.path().to_owned(), Some(short))),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A new directory that only we can enter.
fn private_dir(parent: &Path) -> std::io::Result<TempDir> {
    tempfile::Builder::new().prefix("ssh-keys-").permissions(fs::Permissions::from_mode(0o700)).tempdir_in(parent)
}

async fn query_kex() -> std::io::Result<String> {
    let mut command = ssh();
    let ask = command.args(["-Q", "kex"]).stdin(Stdio::null()).output();
    match timeout(Duration::from_secs(QUERY_SECONDS_MAX), ask).await {
        Ok(output) => Ok(String::from_utf8_lossy(&output?.stdout).into_owned()),
        Err(_) => Err(std::io::Error::other("`ssh -Q kex` does not answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_socket_fits_into_the_path_of_a_unix_socket_wherever_we_work() {
        let short = Path::new("/var/lib/reactor/work/ssh-keys-4711-0/ssh-keys-Ab12Cd");
        assert_eq!(socket_dir(short).unwrap().0, short);
        let deep = std::env::current_dir().unwrap().join("d".repeat(60));
        let (near, other) = socket_dir(&deep).unwrap();
        assert!(deep.ends_with(&near) && other.is_none(), "by its path from here: {near:?}");
        let (other, dir) = socket_dir(&Path::new("/elsewhere").join("d".repeat(90))).unwrap();
        assert!(dir.is_some() && other.as_os_str().len() + SOCKET_NAME_BYTES_MAX <= SOCKET_PATH_BYTES_MAX);
        assert_eq!(fs::metadata(other).unwrap().permissions().mode() & 0o7777, 0o700, "whatever the umask is");
    }
}
