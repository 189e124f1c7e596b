//! A farm of real sshd: each "host" is one Debian sshd on a loopback address of its own, with a host key, a configuration and
//! an authorized_keys place of its own, so that one account has other keys on each host. Logins are made with the real ssh.
//!
//! A [`Farm`] belongs to one test. What it made (processes, accounts, mounts, its directory) goes with it: also after a panic,
//! and after a SIGKILL of the test, because `support-scripts/farm-guardian` waits for the end of its stdin. Needs root: sshd
//! must become the user who logs in.

mod faults;

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::{Gid, Uid};

use crate::process::{Child, command};
use crate::{random_below, wait_until};

pub use faults::CutProxy;

/// Most hosts in a farm.
const HOSTS_MAX: usize = 2_500;
/// How long a started sshd may take until it greets.
const UP_MAX: Duration = Duration::from_secs(60);
/// How long the guardian may take to clean up.
const CLEAN_UP_MAX: Duration = Duration::from_secs(120);
/// Tries to add a user: another run may hold the lock of /etc/passwd.
const USERADD_TRIES: usize = 50;
/// Ports of farms: below those that the kernel gives to clients.
const PORTS: std::ops::Range<u64> = 10_000..30_000;
/// Where farms are made: nobody but root may write to any directory above (sshd's StrictModes), so not below /tmp.
const BASES: [&str; 2] = ["/srv", "/var/lib"];
pub(crate) const SSHD: &str = "/usr/sbin/sshd";
const HINT: &str = "hint: run scripts/install-test-deps as root";
/// What a login prints when it works.
const WELCOME: &str = "logged in";

/// Where a host has its users' keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `HOST/authorized_keys.d/USER`: a directory that only root can write to.
    Directory,
    /// `HOST/home/USER/.ssh/authorized_keys`: the user's own.
    Own,
}

/// An ed25519 key pair in two files.
#[derive(Clone, Debug)]
pub struct KeyPair {
    /// The private key; the public one is beside it.
    pub path: PathBuf,
    /// The line of the public key.
    pub public: String,
}

impl KeyPair {
    /// Makes one: `dir/NAME` and `dir/NAME.pub`. The comment is the name.
    ///
    /// # Panics
    /// When ssh-keygen can't.
    #[must_use]
    pub fn new(dir: &Path, name: &str) -> Self {
        let path = dir.join(name);
        run(command("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&path));
        let public = fs::read_to_string(path.with_added_extension("pub")).expect("a public key").trim().to_owned();
        Self { path, public }
    }

    /// Type and key, without the comment.
    #[must_use]
    pub fn material(&self) -> &str {
        let end = self.public.match_indices(' ').nth(1).map_or(self.public.len(), |(at, _)| at);
        &self.public[..end]
    }
}

/// One host.
#[derive(Debug)]
pub struct Host {
    /// `h1`, `h2`, …
    pub name: String,
    /// Where its sshd listens.
    pub address: SocketAddrV4,
    /// Its files.
    pub dir: PathBuf,
    sshd: Option<Child>,
}

/// Many hosts.
#[derive(Debug)]
pub struct Farm {
    /// Its directory.
    pub dir: PathBuf,
    /// Its hosts.
    pub hosts: Vec<Host>,
    /// Accounts that exist on all hosts, under names of their own for each run.
    pub users: Vec<String>,
    /// Opens root's login on all hosts: what reactor has.
    pub management: KeyPair,
    layout: Layout,
    guardian: Child,
    alive: Option<ChildStdin>,
}

impl Farm {
    /// Starts `hosts` hosts with `users` accounts that have no keys, and waits until all are up.
    ///
    /// # Panics
    /// When openssh-server is missing, or we are not root.
    #[must_use]
    pub fn start(hosts: usize, users: usize, layout: Layout) -> Self {
        assert!((1..=HOSTS_MAX).contains(&hosts), "a farm has 1 to {HOSTS_MAX} hosts");
        assert!(Path::new(SSHD).exists(), "there is no {SSHD}\n{HINT}");
        assert!(rustix::process::geteuid().is_root(), "a farm of sshd needs root: sshd becomes the user who logs in");
        make_privsep_directory();
        let dir = tempfile::Builder::new()
            .prefix("reactor-test-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(base())
            .expect("a directory")
            .keep();
        let tag = format!("{:05x}", random_below(1 << 20));
        let users: Vec<String> = (0..users).map(|n| format!("rt{tag}{}", letters(n))).collect();
        let (guardian, alive) = start_guardian(&dir, &users);
        let management = KeyPair::new(&dir, "management");
        let mut farm = Self { dir, hosts: Vec::new(), users, management, layout, guardian, alive: Some(alive) };
        farm.users.iter().for_each(|user| add_user(&format!("{}/nohome/{user}", farm.dir.display()), user));
        let (net, port) = (random_below(200), 0);
        let port = port + u16::try_from(PORTS.start + random_below(PORTS.end - PORTS.start)).expect("a port");
        farm.hosts = (0..hosts).map(|n| farm.make_host(n, net, port)).collect();
        (0..hosts).for_each(|n| farm.spawn(n));
        (0..hosts).for_each(|n| farm.wait_until_up(n));
        farm
    }

    fn make_host(&self, n: usize, net: u64, port: u16) -> Host {
        let name = format!("h{}", n + 1);
        let dir = self.dir.join(&name);
        fs::create_dir(&dir).expect("a host's directory");
        let octet = |value: u64| u8::try_from(value).expect("an octet");
        let address = Ipv4Addr::new(127, octet(10 + net), octet(n as u64 / 250), octet(n as u64 % 250 + 1));
        let host = Host { name, address: SocketAddrV4::new(address, port), dir, sshd: None };
        fs::write(host.dir.join("root_keys"), format!("{}\n", self.management.public)).expect("root's key");
        make_host_key(&host);
        self.know(host.address, &host);
        match self.layout {
            Layout::Directory => fs::create_dir(host.dir.join("authorized_keys.d")).expect("a directory"),
            Layout::Own => self.users.iter().for_each(|user| make_home(&host.dir.join("home").join(user), user)),
        }
        fs::write(host.dir.join("sshd_config"), self.sshd_config(&host)).expect("sshd's configuration");
        host
    }

    /// With SHLVL set bash does not read the ~/.bashrc of whoever runs the tests, as it else does for each command over ssh.
    fn sshd_config(&self, host: &Host) -> String {
        let (dir, keys) = (host.dir.display(), pattern(&host.dir, self.layout));
        format!(
            "Port {port}\nListenAddress {ip}\nHostKey {dir}/host_key\nPidFile {dir}/sshd.pid\nUsePAM no\nStrictModes yes\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nUseDNS no\n\
             PrintMotd no\nPrintLastLog no\nLoginGraceTime 60\nMaxStartups 500\nMaxSessions 50\nSetEnv FARM_HOST={name} SHLVL=2\n{more}\
             AuthorizedKeysFile {keys}\nMatch User root\n  AuthorizedKeysFile {dir}/root_keys\n",
            port = host.address.port(),
            ip = host.address.ip(),
            name = host.name,
            more = newer_options(),
        )
    }

    /// Adds the host's key at this address to [`Farm::known_hosts`].
    fn know(&self, address: SocketAddrV4, host: &Host) {
        let public = fs::read_to_string(host.dir.join("host_key.pub")).expect("the host's public key");
        let key = public.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let line = format!("[{}]:{} {key}\n", address.ip(), address.port());
        let mut all = fs::read_to_string(self.known_hosts()).unwrap_or_default();
        all.push_str(&line);
        fs::write(self.known_hosts(), all).expect("known_hosts");
    }

    fn spawn(&mut self, n: usize) {
        let host = &mut self.hosts[n];
        let log = fs::OpenOptions::new().create(true).append(true).open(host.dir.join("sshd.log")).expect("sshd's log");
        let mut sshd = command(SSHD);
        sshd.arg("-D").arg("-e").arg("-f").arg(host.dir.join("sshd_config")).current_dir("/").env_clear();
        let out = log.try_clone().expect("sshd's log");
        host.sshd = Some(Child::start(sshd.stdin(Stdio::null()).stdout(out).stderr(log)));
    }

    fn wait_until_up(&self, n: usize) {
        let host = &self.hosts[n];
        wait_until(&format!("{} greets, see {}/sshd.log", host.name, host.dir.display()), UP_MAX, || {
            greets(host.address)
        });
    }

    /// The accounts' pattern for `AuthorizedKeysFile` and for the inventory's `keys`.
    #[must_use]
    pub fn pattern(&self, n: usize) -> String {
        pattern(&self.hosts[n].dir, self.layout)
    }

    /// A user's authorized_keys on a host; it need not be there.
    #[must_use]
    pub fn key_file(&self, n: usize, user: &str) -> PathBuf {
        PathBuf::from(self.pattern(n).replace("%u", user))
    }

    /// What stands in a user's authorized_keys on a host; empty when there is no file.
    ///
    /// # Panics
    /// When it can't be read.
    #[must_use]
    pub fn keys(&self, n: usize, user: &str) -> String {
        match fs::read(self.key_file(n, user)) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => panic!("{}: {error}", self.key_file(n, user).display()),
        }
    }

    /// Puts a user's authorized_keys on a host, as a person would by hand.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn put_keys(&self, n: usize, user: &str, text: &str) {
        let file = self.key_file(n, user);
        fs::write(&file, text).expect("authorized_keys");
        if self.layout == Layout::Own {
            give(&file, user, 0o600);
        }
    }

    /// Every name in the directory where a host has this user's keys, sorted: what a careless writer left is among them.
    ///
    /// # Panics
    /// When it can't be read.
    #[must_use]
    pub fn names_beside(&self, n: usize, user: &str) -> Vec<String> {
        let dir = self.key_file(n, user).parent().expect("a directory").to_owned();
        let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let mut names: Vec<_> =
            entries.map(|e| e.expect("a name").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The file with every host's key.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.dir.join("known_hosts")
    }

    /// Whether this key opens this account on this host, by the real ssh.
    ///
    /// # Panics
    /// When there is another answer than in or "Permission denied": unknown is not "no".
    #[must_use]
    pub fn can_log_in(&self, n: usize, user: &str, key: &KeyPair) -> bool {
        match self.log_in(n, user, key, &format!("echo {WELCOME}")) {
            Ok(said) => said.trim() == WELCOME,
            Err(refused) => {
                assert!(refused.contains("Permission denied"), "{user} at {}: {refused}", self.hosts[n].name);
                false
            }
        }
    }

    /// Runs `what` there over the real ssh; what it prints on stdout.
    ///
    /// # Errors
    /// What ssh says on stderr when the command does not end with 0.
    ///
    /// # Panics
    /// When ssh can't be started.
    pub fn log_in(&self, n: usize, user: &str, key: &KeyPair, what: &str) -> Result<String, String> {
        let address = self.hosts[n].address;
        let known = format!("UserKnownHostsFile={}", self.known_hosts().display());
        let options = [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "GlobalKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "PreferredAuthentications=publickey",
            "ConnectTimeout=20",
            "KexAlgorithms=curve25519-sha256",
            "ControlPath=none",
            "LogLevel=ERROR",
            &known,
        ];
        let mut ssh = command("ssh");
        ssh.args(["-F", "/dev/null", "-n", "-T", "-i"]).arg(&key.path);
        ssh.args(options.iter().flat_map(|option| ["-o", option]));
        ssh.args(["-p", &address.port().to_string(), &format!("{user}@{}", address.ip()), "--", what]);
        let output = ssh.output().unwrap_or_else(|error| panic!("ssh: {error}\n{HINT}"));
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
        }
    }

    /// An ssh_config that names the hosts `h1`, `h2`, … and logs in as root.
    #[must_use]
    pub fn ssh_config(&self) -> String {
        let mut text = String::new();
        for Host { name, address, .. } in &self.hosts {
            text += &format!("Host {name}\n  HostName {}\n  Port {}\n", address.ip(), address.port());
        }
        text + &format!(
            "Host *\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  \
             StrictHostKeyChecking yes\n  BatchMode yes\n",
            self.management.path.display(),
            self.known_hosts().display()
        )
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for host in self.hosts.iter().take(3) {
                let log = fs::read_to_string(host.dir.join("sshd.log")).unwrap_or_default();
                let from = log.len().saturating_sub(600);
                eprintln!("the end of {}'s log: {}", host.name, String::from_utf8_lossy(&log.as_bytes()[from..]));
            }
        }
        drop(self.alive.take());
        let cleaned = self.guardian.wait(CLEAN_UP_MAX);
        self.hosts.clear();
        if cleaned.is_none() || self.dir.exists() {
            eprintln!("the farm in {} is not cleaned up", self.dir.display());
        }
    }
}

fn pattern(host: &Path, layout: Layout) -> String {
    match layout {
        Layout::Directory => format!("{}/authorized_keys.d/%u", host.display()),
        Layout::Own => format!("{}/home/%u/.ssh/authorized_keys", host.display()),
    }
}

/// 0 → `a`, 25 → `z`, 26 → `ba`.
fn letters(n: usize) -> String {
    let rest = if n >= 26 { letters(n / 26) } else { String::new() };
    rest + &char::from(b'a' + u8::try_from(n % 26).expect("a letter")).to_string()
}

pub(crate) fn base() -> &'static str {
    let strict = |base: &&&str| {
        let mode = |path: &Path| fs::metadata(path).map(|at| at.permissions().mode()).unwrap_or(0o777);
        Path::new(base).ancestors().all(|path| mode(path) & 0o022 == 0)
    };
    BASES.iter().find(strict).unwrap_or_else(|| panic!("none of {BASES:?} is a directory that only root can write to"))
}

/// sshd does not start without it; Debian's service makes it.
pub(crate) fn make_privsep_directory() {
    fs::create_dir_all("/run/sshd").expect("/run/sshd");
}

/// From 9.8 on an address that fails to log in is kept waiting; here all hosts and all clients are one machine.
pub(crate) fn newer_options() -> &'static str {
    static OPTIONS: OnceLock<&'static str> = OnceLock::new();
    OPTIONS.get_or_init(|| {
        let output =
            command(SSHD).args(["-T", "-o", "PerSourcePenalties=no", "-h", "/dev/null"]).output().expect("sshd");
        let unknown = String::from_utf8_lossy(&output.stderr).contains("Bad configuration option");
        if unknown { "" } else { "PerSourcePenalties no\n" }
    })
}

fn make_host_key(host: &Host) {
    for file in ["host_key", "host_key.pub"] {
        let _ = fs::remove_file(host.dir.join(file));
    }
    run(command("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", &host.name, "-f"])
        .arg(host.dir.join("host_key")));
}

/// Whether an sshd answers there.
pub(crate) fn greets(address: SocketAddrV4) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&SocketAddr::V4(address), Duration::from_secs(1)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut greeting = [0; 4];
    stream.read_exact(&mut greeting).is_ok() && &greeting == b"SSH-"
}

pub(crate) fn start_guardian(dir: &Path, users: &[String]) -> (Child, ChildStdin) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/support-scripts/farm-guardian");
    let mut guardian = command(script);
    guardian.arg(dir).args(users).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null());
    let mut guardian = Child::start(&mut guardian);
    let alive = guardian.inner.stdin.take().expect("its stdin");
    (guardian, alive)
}

/// The password `*` opens nothing, but unlike `!` it does not lock the account for an sshd without PAM.
pub(crate) fn add_user(home: &str, name: &str) {
    let mut said = String::new();
    for _ in 0..USERADD_TRIES {
        let mut useradd = command("useradd");
        useradd.args(["--system", "--no-create-home", "--home-dir", home, "--shell", "/bin/bash", "--password", "*"]);
        let output = useradd.arg(name).output().unwrap_or_else(|error| panic!("useradd: {error}\n{HINT}"));
        if output.status.success() {
            return;
        }
        said = String::from_utf8_lossy(&output.stderr).into_owned();
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("useradd {name}: {said}");
}

fn make_home(home: &Path, user: &str) {
    fs::create_dir_all(home.join(".ssh")).expect("a home");
    give(home, user, 0o755);
    give(&home.join(".ssh"), user, 0o700);
}

/// Gives a file or directory to a user, with this mode.
pub(crate) fn give(path: &Path, user: &str, mode: u32) {
    let (uid, gid) = ids(user);
    chown(path, Some(uid.as_raw()), Some(gid.as_raw())).expect("its owner");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
}

/// A local account's numbers.
///
/// # Panics
/// When there is no such account.
#[must_use]
pub fn ids(user: &str) -> (Uid, Gid) {
    let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let line = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|words| words[0] == user);
    let number =
        |at: usize| line.as_ref().and_then(|words| words.get(at)?.parse().ok()).expect("the account's numbers");
    (Uid::from_raw(number(2)), Gid::from_raw(number(3)))
}

/// Runs a command to its end; it must end with 0.
pub(crate) fn run(command: &mut Command) {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{program}: {error}\n{HINT}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
