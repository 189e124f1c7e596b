//! A real PostgreSQL of the test's own: in a directory of its own, on a Unix socket and a port of the loopback. It loses what
//! it wrote if the machine crashes, so it is quick.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, geteuid};

use crate::process::{Child, command};
use crate::slapd::run;
use crate::tls::Ca;
use crate::{free_port, wait_until};

/// Longest start, and longest stop.
const START_MAX: Duration = Duration::from_secs(60);
/// Whom it runs as where we are root: it refuses to be root. Debian's package makes the account.
const USER: &str = "postgres";
const HINT: &str = "hint: run scripts/install-test-deps as root";

/// A running server. The role `postgres` may do everything and needs no password, `reader` and `writer` need theirs over TCP.
#[derive(Debug)]
pub struct Postgres {
    child: Option<Child>,
    dir: PathBuf,
    port: u16,
    conf: String,
}

/// Locks that somebody else holds, until this goes.
#[derive(Debug)]
pub struct Holder {
    inner: Child,
}

impl Postgres {
    /// Starts one below `dir`, with these lines in its configuration, such as `ssl = on`.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(dir: &Path, conf: &str) -> Self {
        Self::start_with(dir, conf, &[])
    }

    /// The same with TLS, and this certificate of a server (`NAME.crt`, `NAME.key`).
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_tls(dir: &Path, ca: &Ca, name: &str) -> Self {
        let file = |end: &str| std::fs::read(ca.file(&format!("{name}.{end}"))).expect("its certificate and key");
        let conf = "ssl=on\nlisten_addresses=127.0.0.1,127.0.0.2";
        Self::start_with(dir, conf, &[("server.crt", file("crt")), ("server.key", file("key"))])
    }

    /// `files`: what stands beside the server's data, for its eyes only.
    fn start_with(dir: &Path, conf: &str, files: &[(&str, Vec<u8>)]) -> Self {
        // The account must get through, but needs to see nothing.
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711)).expect("the test's own directory");
        let dir = dir.join("postgres");
        std::fs::create_dir(&dir).expect("a directory for the server");
        if geteuid().is_root() {
            let (user, group) = (id("-u"), id("-g"));
            chown(&dir, Some(user), Some(group)).expect("its owner");
        }
        let mut me = Self { child: None, dir, port: free_port(), conf: conf.to_owned() };
        let mut initdb = me.program("initdb", &[]);
        initdb.args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"]);
        run(initdb.arg(me.dir.join("data")), "");
        let hba =
            "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(me.dir.join("data/pg_hba.conf"), hba).expect("who may");
        for (name, content) in files {
            let path = me.dir.join("data").join(name);
            std::fs::write(&path, content).expect("a file of the server");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
            if geteuid().is_root() {
                chown(&path, Some(id("-u")), Some(id("-g"))).expect("its owner");
            }
        }
        me.resume();
        me
    }

    fn program(&self, name: &str, setpriv: &[&str]) -> Command {
        let mut line = command("/usr/bin/setpriv");
        if geteuid().is_root() {
            line.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
        }
        line.args(setpriv).arg("--").arg(bin().join(name)).current_dir(&self.dir);
        line
    }

    /// The process id of the server, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(|child| child.inner.id())
    }

    /// Ends it, as a crash would: clients are cut off. What was committed stays.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.signal(Signal::QUIT);
            let _ = child.wait(START_MAX);
        }
    }

    /// Starts it again, on the same port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn resume(&mut self) {
        let log = std::fs::File::create(self.dir.join("log")).expect("its log");
        // Not SIGKILL: a killed one leaves its shared memory behind.
        let mut server = self.program("postgres", &["--pdeathsig", "QUIT"]);
        server.arg("-D").arg(self.dir.join("data"));
        let settings = [
            "listen_addresses=127.0.0.1",
            &format!("port={}", self.port),
            &format!("unix_socket_directories={}", self.dir.display()),
            "fsync=off",
            "full_page_writes=off",
            "shared_buffers=32MB",
            "autovacuum_naptime=1h",
        ];
        for setting in settings.into_iter().chain(self.conf.lines()) {
            server.args(["-c", setting]);
        }
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = self.child.insert(Child::start(&mut server));
        let (dir, socket) = (&self.dir, self.dir.join(format!(".s.PGSQL.{}", self.port)));
        wait_until("the socket of PostgreSQL", START_MAX, || {
            let log = || std::fs::read_to_string(dir.join("log")).unwrap_or_default();
            assert!(!child.has_ended(), "PostgreSQL has ended: {}", log());
            socket.exists()
        });
        wait_until("PostgreSQL answers", START_MAX, || {
            let mut ready = command(bin().join("pg_isready"));
            ready.args(["-q", "-h"]).arg(dir).args(["-p", &self.port.to_string()]);
            ready.status().is_ok_and(|status| status.success())
        });
    }

    /// SIGSTOP to the processes that serve this database: they hold their connections and answer nothing.
    ///
    /// # Panics
    /// When there is none.
    pub fn freeze(&self, database: &str) {
        let pids = self.column("postgres", &format!("SELECT pid FROM pg_stat_activity WHERE datname = '{database}'"));
        assert!(!pids.is_empty(), "nobody is connected to {database}");
        for pid in pids {
            let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
            rustix::process::kill_process(pid, Signal::STOP).expect("a process of the server");
        }
    }

    /// The directory of its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.dir
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A line of psql for `database`, as `postgres`.
    #[must_use]
    pub fn psql(&self, database: &str) -> Command {
        let mut psql = command(bin().join("psql"));
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-p",
            &self.port.to_string(),
            "-h",
        ]);
        psql.arg(&self.dir).args(["-d", database]);
        psql
    }

    /// Does some SQL.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn sql(&self, database: &str, text: &str) {
        run(self.psql(database).args(["-f", "-"]), text);
    }

    /// The first column of what it answers.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn column(&self, database: &str, query: &str) -> Vec<String> {
        let out = self.psql(database).args(["-c", query]).output().expect("psql");
        assert!(out.status.success(), "{query}: {}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).expect("UTF-8");
        text.lines().map(|line| line.split('|').next().unwrap_or_default().to_owned()).collect()
    }

    /// Cuts off everybody who is connected to a database. Returns how many.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn cut_off(&self, database: &str) -> usize {
        let sql = format!("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{database}'");
        self.column("postgres", &sql).len()
    }

    /// Does some SQL in a transaction that stays open until the [`Holder`] goes.
    ///
    /// # Panics
    /// When the server refuses, or does not do it in time.
    #[must_use]
    pub fn hold(&self, database: &str, sql: &str) -> Holder {
        use std::io::{BufRead as _, BufReader, Write as _};
        let mut psql = self.psql(database);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut inner = Child::start(&mut psql);
        let stdin = inner.inner.stdin.as_mut().expect("its stdin");
        writeln!(stdin, "BEGIN; {sql}; SELECT 'held';").expect("psql reads");
        let mut line = String::new();
        BufReader::new(inner.inner.stdout.take().expect("its stdout")).read_line(&mut line).expect("its answer");
        assert_eq!(line.trim(), "held", "{sql}");
        Holder { inner }
    }

    /// Waits until somebody in this database waits for a lock.
    ///
    /// # Panics
    /// When nobody does.
    pub async fn until_blocked(&self, database: &str) {
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE datname = '{database}' AND wait_event_type = 'Lock'");
        crate::wait_until_async("somebody waits for a lock", START_MAX, || !self.column("postgres", &sql).is_empty())
            .await;
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // The end of its input is the end of its transaction.
        drop(self.inner.inner.stdin.take());
        let _ = self.inner.wait(START_MAX);
    }
}

/// The newest one that is installed.
fn bin() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").map(|dir| dir.flatten().collect::<Vec<_>>());
    let versions = versions.unwrap_or_default().into_iter().map(|entry| entry.path().join("bin"));
    let number = |path: &PathBuf| {
        path.parent().and_then(Path::file_name).and_then(|name| name.to_str()?.parse::<u32>().ok()).unwrap_or(0)
    };
    let installed = versions.filter(|bin| bin.join("postgres").exists());
    installed.max_by_key(number).unwrap_or_else(|| panic!("there is no PostgreSQL in /usr/lib/postgresql\n{HINT}"))
}

/// The number of the account or of its group.
fn id(flag: &str) -> u32 {
    let out = command("/usr/bin/id").args([flag, USER]).output().expect("id");
    let text = String::from_utf8_lossy(&out.stdout).trim().parse();
    text.unwrap_or_else(|_| panic!("there is no account {USER}\n{HINT}"))
}
