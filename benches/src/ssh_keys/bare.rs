//! Bare ssh: one master a host where they are warm, a client process a command; each command writes a file by cat and mv.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reactor_tests::sshd::Farm;

/// How long a master may take until it is logged in.
const MASTER_UP_MAX: Duration = Duration::from_secs(60);

/// One command: what it is sent on which host.
#[derive(Debug)]
pub struct Order {
    /// The host's number.
    pub host: usize,
    /// The line for the login shell there.
    pub line: String,
    /// Its stdin.
    pub input: Vec<u8>,
}

impl Order {
    /// Writes this user's file: a new one, then renamed.
    pub fn write(farm: &Farm, host: usize, user: &str, text: &str) -> Self {
        let file = directory(farm, host).join(user);
        let (file, new) = (file.display(), file.with_extension("new"));
        Self {
            host,
            line: format!("umask 022; cat >{new} && mv {new} {file}", new = new.display()),
            input: text.as_bytes().to_vec(),
        }
    }
}

/// Where bare ssh writes: not where ours does, which would find its own block gone.
pub fn directory(farm: &Farm, host: usize) -> PathBuf {
    farm.hosts[host].dir.join("bare.d")
}

/// A program that ends with this value.
#[derive(Debug)]
struct Mortal(Child);

impl Drop for Mortal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// ssh to the hosts of a farm.
#[derive(Debug)]
pub struct Bare {
    dir: PathBuf,
    masters: Vec<Mortal>,
}

impl Bare {
    /// Without masters: each command is a connection of its own.
    ///
    /// # Errors
    /// When the configuration can't be written.
    pub fn cold(dir: &Path, farm: &Farm) -> Result<Self> {
        std::fs::write(dir.join("ssh_config"), config(farm))?;
        (0..farm.hosts.len()).try_for_each(|host| std::fs::create_dir_all(directory(farm, host)))?;
        Ok(Self { dir: dir.to_owned(), masters: Vec::new() })
    }

    /// With a master for each host, logged in.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn warm(dir: &Path, farm: &Farm) -> Result<Self> {
        let mut bare = Self::cold(dir, farm)?;
        for host in &farm.hosts {
            let mut ssh = bare.ssh();
            ssh.args(["-N", "-M", "-S"]).arg(bare.socket(&host.name)).arg(&host.name);
            bare.masters.push(Mortal(ssh.stdin(Stdio::null()).spawn()?));
            // Not all at once: the key exchanges would time each other out.
            if bare.masters.len() % 8 == 0 {
                bare.wait_for(&host.name)?;
            }
        }
        farm.hosts.iter().try_for_each(|host| bare.wait_for(&host.name))?;
        Ok(bare)
    }

    fn wait_for(&self, host: &str) -> Result<()> {
        let started = Instant::now();
        while !self.socket(host).exists() {
            ensure!(started.elapsed() < MASTER_UP_MAX, "no ssh master for {host} within {MASTER_UP_MAX:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Runs all, so many at once.
    ///
    /// # Errors
    /// When one fails.
    pub fn run(&self, farm: &Farm, orders: &[Order], at_once: usize) -> Result<()> {
        let next = AtomicUsize::new(0);
        let some = || {
            while let Some(order) = orders.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.one(&farm.hosts[order.host].name, order)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..at_once).map(|_| scope.spawn(some)).collect();
            all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread failed"))))
        })
    }

    fn one(&self, host: &str, order: &Order) -> Result<()> {
        let mut ssh = self.ssh();
        if !self.masters.is_empty() {
            ssh.arg("-S").arg(self.socket(host));
        }
        let mut child = ssh.args([host, &order.line]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        child.stdin.take().context("no stdin")?.write_all(&order.input)?;
        let ended = child.wait()?;
        ensure!(ended.success(), "ssh {host}: {ended}");
        Ok(())
    }

    fn ssh(&self) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(self.dir.join("ssh_config"));
        ssh
    }

    fn socket(&self, host: &str) -> PathBuf {
        self.dir.join(host)
    }
}

/// The hosts' names and addresses. With the key exchange that reactor asks for: OpenSSH's own choice would cost ten times the
/// processor time, and that is not what is compared here.
pub fn config(farm: &Farm) -> String {
    format!("KexAlgorithms curve25519-sha256\nConnectTimeout 60\n{}", farm.ssh_config())
}
