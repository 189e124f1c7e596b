//! Debian's gitolite3 behind a private sshd: an account, a home and a port of its own, real pushes by real users.
//!
//! A [`Gitolite`] belongs to one test. What it made (processes, the account, its directory) goes with it as a farm of
//! [`crate::sshd`] does: also after a panic, and after a SIGKILL of the test. Needs root: sshd must become gitolite's user.

mod admin;
mod gate;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Output, Stdio};
use std::time::Duration;

use crate::process::{Child, command};
use crate::sshd::{
    KeyPair, SSHD, add_user, base, give, greets, ids, make_privsep_directory, newer_options, run, start_guardian,
};
use crate::{free_port, random_below, wait_until};

pub use gate::Gate;

/// How long a started sshd may take until it greets.
const UP_MAX: Duration = Duration::from_secs(60);
/// How long the guardian may take to clean up.
const CLEAN_UP_MAX: Duration = Duration::from_secs(120);
/// What comes with Debian's package.
const GITOLITE: &str = "/usr/bin/gitolite";
/// The scripts that a site installs on its server.
const SERVER_PART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/gitolite/server");
const HINT: &str = "hint: run scripts/install-test-deps as root";
/// Who administers by hand.
pub const ADMIN: &str = "admin";
/// Who reactor is there.
pub const REACTOR: &str = "reactor";

/// What a test may want of the server.
#[derive(Clone, Debug)]
pub struct Options {
    /// People with a key each. [`ADMIN`] and [`REACTOR`] are there in any case.
    pub users: Vec<&'static str>,
    /// gitolite asks `reactor-groups` at each access.
    pub asks_groups: bool,
    /// sshd asks `reactor-keys` at each login.
    pub asks_keys: bool,
    /// Whose keys do not stand in keydir from the beginning.
    pub without_key: Vec<&'static str>,
    /// The part of gitolite.conf that is written by hand, above reactor's includes.
    pub by_hand: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            users: vec!["alice", "bob"],
            asks_groups: false,
            asks_keys: false,
            without_key: Vec::new(),
            by_hand: String::new(),
        }
    }
}

/// A commit on the admin repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its number.
    pub id: String,
    /// `name <address>`.
    pub author: String,
    /// All of it.
    pub message: String,
}

/// A gitolite.
#[derive(Debug)]
pub struct Gitolite {
    /// Its directory.
    pub dir: PathBuf,
    /// gitolite's account.
    pub account: String,
    /// Where its sshd listens.
    pub address: SocketAddrV4,
    /// Everybody's key.
    pub keys: BTreeMap<String, KeyPair>,
    sshd: Option<Child>,
    guardian: Child,
    alive: Option<ChildStdin>,
}

impl Gitolite {
    /// Sets it up, makes the hand-written configuration the first push, and waits until all is compiled.
    ///
    /// # Panics
    /// When gitolite3 or openssh-server is missing, or we are not root.
    #[must_use]
    pub fn start(options: &Options) -> Self {
        assert!(Path::new(GITOLITE).exists() && Path::new(SSHD).exists(), "no {GITOLITE} or no {SSHD}\n{HINT}");
        assert!(rustix::process::geteuid().is_root(), "gitolite behind sshd needs root: sshd becomes gitolite's user");
        make_privsep_directory();
        let dir = tempfile::Builder::new()
            .prefix("reactor-test-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(base())
            .expect("a directory")
            .keep();
        let account = format!("rtgl{:05x}", random_below(1 << 20));
        let (guardian, alive) = start_guardian(&dir, std::slice::from_ref(&account));
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, free_port());
        let (keys, alive) = (BTreeMap::new(), Some(alive));
        let mut it = Self { dir, account, address, keys, sshd: None, guardian, alive };
        add_user(&it.home().display().to_string(), &it.account);
        it.make_keys(options);
        it.install(options);
        it.set_up();
        it.start_sshd(options);
        it.write_by_hand(options);
        it
    }

    fn make_keys(&mut self, options: &Options) {
        let dir = self.dir.join("keys");
        fs::create_dir(&dir).expect("a directory");
        let all = options.users.iter().chain(&[ADMIN, REACTOR]);
        self.keys = all.map(|name| ((*name).to_owned(), KeyPair::new(&dir, name))).collect();
    }

    /// The scripts, as the README says; gitolite.rc; what holds a push where a test wants it.
    fn install(&self, options: &Options) {
        let libexec = self.dir.join("libexec");
        fs::create_dir(&libexec).expect("a directory");
        for script in ["reactor-groups", "reactor-keys"] {
            fs::copy(Path::new(SERVER_PART).join(script), libexec.join(script)).expect("a script");
        }
        fs::create_dir_all(self.home()).expect("gitolite's home");
        gate::install(self);
        let asked = format!("    GROUPLIST_PGM => '{}',\n", libexec.join("reactor-groups").display());
        let rc = format!(
            "%RC = (\n    UMASK => 0077,\n    GIT_CONFIG_KEYS => '.*',\n    LOG_EXTRA => 1,\n{}{}    \
             ROLES => {{ READERS => 1, WRITERS => 1 }},\n    \
             ENABLE => [ 'help', 'desc', 'info', 'perms', 'writable', 'ssh-authkeys', 'git-config' ],\n);\n1;\n",
            if options.asks_groups { &asked } else { "" },
            gate::rc(self),
        );
        fs::write(self.home().join(".gitolite.rc"), rc).expect("gitolite.rc");
        let config = "[init]\n\tdefaultBranch = master\n[user]\n\tname = gitolite\n\temail = gitolite@localhost\n";
        fs::write(self.home().join(".gitconfig"), config).expect("git's configuration");
        give(&self.home(), &self.account, 0o755);
    }

    fn set_up(&self) {
        let public = self.home().join("admin.pub");
        fs::write(&public, format!("{}\n", self.keys[ADMIN].public)).expect("the admin's key");
        let output = self.as_git(&["gitolite", "setup", "-pk", "admin.pub"]);
        assert!(output.status.success(), "gitolite setup: {}", said(&output));
        gate::install_hooks(self);
    }

    fn start_sshd(&mut self, options: &Options) {
        let at = self.dir.join("server");
        fs::create_dir(&at).expect("a directory");
        run(command("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at.join("host_key")));
        let public = fs::read_to_string(at.join("host_key.pub")).expect("the host's key");
        let material = public.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let (ip, port) = (self.address.ip(), self.address.port());
        fs::write(self.known_hosts(), format!("[{ip}]:{port} {}\n", material.trim())).expect("known_hosts");
        let (dir, account) = (at.display(), &self.account);
        let asked = format!(
            "Match User {account}\n  AuthorizedKeysCommand {}/libexec/reactor-keys %f\n  AuthorizedKeysCommandUser {account}\n",
            self.dir.display()
        );
        let config = format!(
            "Port {port}\nListenAddress {ip}\nHostKey {dir}/host_key\nPidFile {dir}/sshd.pid\nUsePAM no\nStrictModes yes\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUseDNS no\nAllowUsers {account}\n\
             PrintMotd no\nPrintLastLog no\nLoginGraceTime 60\nMaxStartups 500\nMaxSessions 50\n{more}{asked}",
            more = newer_options(),
            asked = if options.asks_keys { &asked } else { "" },
        );
        fs::write(at.join("sshd_config"), config).expect("sshd's configuration");
        fs::write(self.dir.join("ssh_config"), self.ssh_config()).expect("ssh's configuration");
        let log = fs::File::create(at.join("sshd.log")).expect("sshd's log");
        let mut sshd = command(SSHD);
        sshd.arg("-D").arg("-e").arg("-f").arg(at.join("sshd_config")).current_dir("/").env_clear();
        let out = log.try_clone().expect("sshd's log");
        self.sshd = Some(Child::start(sshd.stdin(Stdio::null()).stdout(out).stderr(log)));
        wait_until(&format!("sshd greets, see {dir}/sshd.log"), UP_MAX, || greets(self.address));
    }

    /// What the README tells an administrator to write once.
    fn write_by_hand(&self, options: &Options) {
        let conf = format!(
            "repo gitolite-admin\n    RW+ = {ADMIN}\n    RW = {REACTOR}\n    RW+ refs/heads/members = {REACTOR}\n\n{}\n\
             include \"reactor/groups/*.conf\"\ninclude \"reactor/repos/*/*.conf\"\n",
            options.by_hand
        );
        let mut files = vec![("conf/gitolite.conf".to_owned(), Some(conf))];
        for (name, key) in self.keys.iter().filter(|(name, _)| !options.without_key.contains(&name.as_str())) {
            files.push((format!("keydir/{name}.pub"), Some(format!("{}\n", key.public))));
        }
        let told = self.edit_by_hand("the hand-written part", &files).expect("the first push");
        // Without GROUPLIST_PGM gitolite also warns of groups that it does not know.
        assert!(!told.contains("FATAL") && !told.contains("ignoring"), "{told}");
    }

    /// gitolite's home.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    /// Where a repository is.
    #[must_use]
    pub fn repository(&self, name: &str) -> PathBuf {
        self.home().join("repositories").join(format!("{name}.git"))
    }

    /// The admin repository's address for the handler's block.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ssh://{}@{}/gitolite-admin", self.account, self.address)
    }

    /// The file with the host's key.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.dir.join("known_hosts")
    }

    /// An ssh_config in which everybody has a host of their own, `as-NAME`. It stands in `ssh_config` in [`Self::dir`].
    #[must_use]
    pub fn ssh_config(&self) -> String {
        let user =
            |(name, key): (&String, &KeyPair)| format!("Host as-{name}\n  IdentityFile {}\n", key.path.display());
        let users: String = self.keys.iter().map(user).collect();
        format!(
            "{users}Host *\n  HostName {}\n  Port {}\n  User {}\n  IdentitiesOnly yes\n  IdentityAgent none\n  \
             UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  BatchMode yes\n  \
             PreferredAuthentications publickey\n  KexAlgorithms curve25519-sha256\n  ConnectTimeout 20\n  LogLevel ERROR\n",
            self.address.ip(),
            self.address.port(),
            self.account,
            self.known_hosts().display()
        )
    }

    /// Runs a program as gitolite's user in its home.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn as_git(&self, words: &[&str]) -> Output {
        let (uid, gid) = ids(&self.account);
        let mut program = command("/usr/bin/setpriv");
        program.args([&format!("--reuid={}", uid.as_raw()), &format!("--regid={}", gid.as_raw()), "--clear-groups"]);
        program.arg("--").args(words).current_dir(self.home()).env_clear().stdin(Stdio::null());
        program.env("HOME", self.home()).env("USER", &self.account).env("PATH", "/usr/local/bin:/usr/bin:/bin");
        program.output().unwrap_or_else(|error| panic!("{words:?}: {error}\n{HINT}"))
    }

    /// SIGKILL to all that runs on the server for whoever is logged in just now, as when its machine loses power.
    pub fn kill_sessions(&self) {
        let (uid, _) = ids(&self.account);
        wait_until("nothing runs for gitolite", CLEAN_UP_MAX, || {
            let numbers = fs::read_dir("/proc").expect("/proc").flatten();
            let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
            let own = |pid: &u32| {
                let meta = fs::metadata(format!("/proc/{pid}"));
                meta.is_ok_and(|meta| meta.uid() == uid.as_raw())
            };
            let left: Vec<u32> = pids.filter(own).collect();
            for pid in &left {
                let _ = command("kill").args(["-KILL", &pid.to_string()]).output();
            }
            left.is_empty()
        });
    }

    /// Whether gitolite would let somebody do this: `access("rpms/foo", "alice", "W", "refs/heads/rawhide")`.
    ///
    /// # Panics
    /// When it says neither yes nor no.
    #[must_use]
    pub fn access(&self, repo: &str, user: &str, what: &str, reference: &str) -> bool {
        let output = self.as_git(&["gitolite", "access", repo, user, what, reference]);
        let told = said(&output);
        let denied = told.contains("DENIED by");
        assert!(output.status.success() != denied, "gitolite access {repo} {user} {what} {reference}: {told}");
        !denied
    }

    /// The groups and lists that gitolite knows a user in, each with its `@`.
    ///
    /// # Panics
    /// When it can't say.
    #[must_use]
    pub fn memberships(&self, user: &str) -> Vec<String> {
        let output = self.as_git(&["gitolite", "list-memberships", "-u", user]);
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8_lossy(&output.stdout).lines().map(ToOwned::to_owned).collect()
    }

    /// A real push of a new commit to a branch.
    ///
    /// # Errors
    /// What git said when it was not taken.
    ///
    /// # Panics
    /// When git can't be started.
    pub fn push_as(&self, who: &str, repo: &str, branch: &str) -> Result<String, String> {
        let at = self.dir.join("pushes.git");
        let git = |words: &[&str]| -> Result<String, String> {
            let output = self.git().arg("--git-dir").arg(&at).args(words).output().expect("git");
            let told = said(&output);
            if output.status.success() { Ok(told.trim().to_owned()) } else { Err(told) }
        };
        if !at.exists() {
            git(&["init", "--quiet", "--bare"]).expect("a repository");
        }
        let own = format!("refs/pushed/{repo}/{branch}");
        let parent = git(&["rev-parse", "--verify", "--quiet", &own]).unwrap_or_default();
        let tree = git(&["hash-object", "-t", "tree", "-w", "/dev/null"]).expect("a tree");
        let message = format!("{who} {}", random_below(u64::MAX));
        let mut words = vec!["commit-tree", tree.as_str(), "-m", &message];
        if !parent.is_empty() {
            words.extend(["-p", &parent]);
        }
        let commit = git(&words).expect("a commit");
        let told = git(&["push", &format!("as-{who}:{repo}"), &format!("{commit}:refs/heads/{branch}")])?;
        git(&["update-ref", &own, &commit]).expect("a reference");
        Ok(told)
    }

    /// Whether a push of a new commit to a branch is taken.
    ///
    /// # Panics
    /// When it is neither taken nor denied: unknown is not "no".
    #[must_use]
    pub fn may_push(&self, who: &str, repo: &str, branch: &str) -> bool {
        match self.push_as(who, repo, branch) {
            Ok(_) => true,
            Err(told) => {
                let denied = told.contains("DENIED by") || told.contains("Permission denied (publickey)");
                assert!(denied, "{who} to {branch} of {repo}: {told}");
                false
            }
        }
    }

    /// Whom gitolite greets who comes with this key; `None` = sshd does not let the key in.
    ///
    /// # Panics
    /// When there is another answer.
    #[must_use]
    pub fn greets(&self, key: &KeyPair) -> Option<String> {
        let mut ssh = command("ssh");
        ssh.arg("-F").arg(self.dir.join("ssh_config")).arg("-i").arg(&key.path).args(["-n", "-T", "host", "info"]);
        let told = said(&ssh.output().unwrap_or_else(|error| panic!("ssh: {error}\n{HINT}")));
        if told.contains("Permission denied (publickey)") {
            return None;
        }
        let name = told.strip_prefix("hello ").and_then(|rest| rest.split(',').next());
        Some(name.unwrap_or_else(|| panic!("gitolite said {told}")).to_owned())
    }

    /// A push by the administrator: what each file must hold, `None` = no such file. What git and gitolite said.
    ///
    /// # Errors
    /// What git said when it was not taken.
    ///
    /// # Panics
    /// When git can't be started, or the copy can't be written.
    pub fn edit_by_hand(&self, message: &str, files: &[(String, Option<String>)]) -> Result<String, String> {
        let at = self.dir.join("by-hand");
        let git = |words: &[&str]| -> Result<String, String> {
            let output = self.git().arg("-C").arg(&at).args(words).output().expect("git");
            if output.status.success() { Ok(said(&output)) } else { Err(said(&output)) }
        };
        if !at.exists() {
            fs::create_dir(&at).expect("a directory");
            git(&["init", "--quiet", "--initial-branch=master"])?;
            git(&["remote", "add", "origin", &format!("as-{ADMIN}:gitolite-admin")])?;
        }
        git(&["fetch", "--quiet", "origin"])?;
        git(&["reset", "--quiet", "--hard", "refs/remotes/origin/master"])?;
        for (path, text) in files {
            let file = at.join(path);
            fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
            match text {
                Some(text) => fs::write(&file, text).expect("a file"),
                None => fs::remove_file(&file).expect("a file that was there"),
            }
        }
        git(&["add", "--all"])?;
        git(&["commit", "--quiet", "--allow-empty", "--message", message])?;
        git(&["push", "origin", "HEAD:refs/heads/master"])
    }

    /// Sets what the branch `members` holds, as reactor would, whole; [`REACTOR`] pushes it.
    ///
    /// # Errors
    /// What git said when it was not taken.
    ///
    /// # Panics
    /// When git can't be started.
    pub fn put_members(&self, files: &[(&str, &str)]) -> Result<String, String> {
        let at = tempfile::tempdir_in(&self.dir).expect("a directory");
        let git = |words: &[&str]| -> Result<String, String> {
            let output = self.git().arg("-C").arg(at.path()).args(words).output().expect("git");
            if output.status.success() { Ok(said(&output)) } else { Err(said(&output)) }
        };
        git(&["init", "--quiet", "--initial-branch=members"])?;
        for (path, text) in files {
            let file = at.path().join(path);
            fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
            fs::write(file, text).expect("a file");
        }
        git(&["add", "--all"])?;
        git(&["commit", "--quiet", "--allow-empty", "--message", "members"])?;
        git(&["push", "--force", &format!("as-{REACTOR}:gitolite-admin"), "HEAD:refs/heads/members"])
    }

    /// A git that reads nobody's configuration and logs in as `as-NAME`.
    fn git(&self) -> Command {
        let mut git = command("git");
        git.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", &self.dir).env("LC_ALL", "C");
        git.env("GIT_SSH_COMMAND", format!("ssh -F {}/ssh_config", self.dir.display())).env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), ADMIN).env(format!("GIT_{who}_EMAIL"), "admin@localhost");
        }
        git.stdin(Stdio::null());
        git
    }
}

impl Drop for Gitolite {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.join("server/sshd.log")).unwrap_or_default();
            let from = log.len().saturating_sub(1_000);
            eprintln!("the end of sshd's log: {}", String::from_utf8_lossy(&log.as_bytes()[from..]));
        }
        drop(self.alive.take());
        let cleaned = self.guardian.wait(CLEAN_UP_MAX);
        self.sshd = None;
        if cleaned.is_none() || self.dir.exists() {
            eprintln!("the gitolite in {} is not cleaned up", self.dir.display());
        }
    }
}

/// All that a program said.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}
