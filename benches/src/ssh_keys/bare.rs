//! What ssh alone can do: warm masters, a client for each command, 16 at once; a file is written and moved, no more.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use reactor_tests::sshd::Farm;

use super::{AT_ONCE, USER, key_file, timed};
use crate::table::percentile;

/// How long a master may take until it is connected, in seconds.
const CONNECT_SECONDS_MAX: u64 = 60;

/// The masters of a farm, one a host; they end with this value.
struct Masters<'a> {
    farm: &'a Farm,
    dir: tempfile::TempDir,
    masters: Vec<Child>,
}

impl<'a> Masters<'a> {
    fn connect(farm: &'a Farm) -> Result<Self> {
        // Paths of sockets are short.
        let dir = tempfile::Builder::new().prefix("bare").tempdir_in("/tmp")?;
        std::fs::write(dir.path().join("config"), format!("{}  KexAlgorithms curve25519-sha256\n", farm.ssh_config()))?;
        let mut masters = Self { farm, dir, masters: Vec::new() };
        for n in 0..farm.hosts.len() {
            if n >= AT_ONCE {
                masters.wait_for(n - AT_ONCE)?;
            }
            let mut master = masters.ssh(n);
            master.args(["-M", "-N"]).arg(&farm.hosts[n].name).stdin(Stdio::null()).stdout(Stdio::null());
            masters.masters.push(master.spawn().context("ssh")?);
        }
        (0..farm.hosts.len()).try_for_each(|n| masters.wait_for(n))?;
        Ok(masters)
    }

    fn socket(&self, n: usize) -> PathBuf {
        self.dir.path().join(n.to_string())
    }

    fn wait_for(&self, n: usize) -> Result<()> {
        let began = Instant::now();
        while !self.socket(n).exists() {
            ensure!(began.elapsed().as_secs() < CONNECT_SECONDS_MAX, "no connection to {}", self.farm.hosts[n].name);
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn ssh(&self, n: usize) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(self.dir.path().join("config")).arg("-S").arg(self.socket(n));
        ssh
    }

    /// Runs `command` on a host with the file on its stdin.
    fn run(&self, n: usize, command: &str, stdin: &Path) -> Result<()> {
        let mut ssh = self.ssh(n);
        ssh.arg(&self.farm.hosts[n].name).arg(command).stdin(std::fs::File::open(stdin)?);
        let output = ssh.output().context("ssh")?;
        if !output.status.success() {
            bail!("{command}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Writes the file at many places, `(host, path)`, 16 at once.
    fn write(&self, places: &[(usize, PathBuf)], from: &Path) -> Result<()> {
        let next = AtomicUsize::new(0);
        let one = || -> Result<()> {
            while let Some((n, to)) = places.get(next.fetch_add(1, Ordering::SeqCst)) {
                let to = to.display();
                self.run(*n, &format!("cat > {to}.new && mv {to}.new {to}"), from)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one)).collect();
            all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| bail!("a writer panicked")))
        })
    }
}

impl Drop for Masters<'_> {
    fn drop(&mut self) {
        for master in &mut self.masters {
            let _ = master.kill();
            let _ = master.wait();
        }
    }
}

/// Seconds to change a key on all hosts: with the connecting, and warm (the median).
///
/// # Errors
/// When ssh can't.
pub fn many_hosts(farm: &Farm, dir: &Path, rounds: usize) -> Result<(f64, f64)> {
    let key = dir.join("key");
    let places: Vec<_> = (0..farm.hosts.len()).map(|n| (n, farm.key_file(n, USER))).collect();
    key_file(&key, USER)?;
    let (cold, masters) = timed(|| {
        let masters = Masters::connect(farm)?;
        masters.write(&places, &key)?;
        Ok(masters)
    })?;
    let mut warm = Vec::new();
    for _ in 0..rounds {
        key_file(&key, USER)?;
        warm.push(timed(|| masters.write(&places, &key))?.0);
    }
    Ok((cold, percentile(&mut warm, 0.5)))
}

/// Seconds to change these users' keys on the first host, a command each.
///
/// # Errors
/// When ssh can't.
pub fn many_users(farm: &Farm, dir: &Path, users: &[String]) -> Result<f64> {
    let key = dir.join("key");
    key_file(&key, USER)?;
    let masters = Masters::connect(farm)?;
    let places: Vec<_> = users.iter().map(|user| (0, farm.key_file(0, user))).collect();
    Ok(timed(|| masters.write(&places, &key))?.0)
}

/// Seconds to change all users' keys on the first host with one archive. Nothing is looked at, nothing is flushed.
///
/// # Errors
/// When ssh or tar can't.
pub fn all_users_at_once(farm: &Farm, dir: &Path, users: &[String]) -> Result<f64> {
    let files = dir.join("files");
    std::fs::create_dir_all(&files)?;
    users.iter().try_for_each(|user| key_file(&files.join(user), user).map(drop))?;
    let masters = Masters::connect(farm)?;
    let archive = dir.join("files.tar");
    let work = || {
        let made = Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&files).arg(".").status()?;
        ensure!(made.success(), "tar: {made}");
        let to = farm.keys_dir(0);
        let to = to.display();
        masters.run(
            0,
            &format!("mkdir {to}/.new && tar -xf - -C {to}/.new && mv -f {to}/.new/* {to}/ && rmdir {to}/.new"),
            &archive,
        )
    };
    Ok(timed(work)?.0)
}
