//! The real FASJSON 1.7.0, which answers over Kerberos from a [`crate::slapd::Slapd`].

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::kdc::{Kdc, REALM};
use crate::process::{Child, mortal};
use crate::slapd::{BASE, Slapd};
use crate::{free_port, test_deps, wait_until};

/// The principal that FASJSON serves. Others prove who they are and are refused.
pub const CALLER: &str = "reactor";
/// The principals that a [`Kdc`] for it needs, beside those of clients.
pub const PRINCIPALS: [&str; 3] = ["HTTP/localhost", "ldap/localhost", CALLER];
/// Longest start. Importing it takes two seconds on an idle machine.
const START_MAX: Duration = Duration::from_secs(60);

/// How long a worker may do nothing but one request, in seconds.
const WORKER_SECONDS_MAX: &str = "5";

/// A running FASJSON.
#[derive(Debug)]
pub struct Fasjson {
    _child: Child,
    port: u16,
    log: PathBuf,
}

impl Fasjson {
    /// The environment that the slapd below it needs, so that FASJSON can bind there with Kerberos.
    #[must_use]
    pub fn slapd_env(kdc: &Kdc) -> Vec<(String, PathBuf)> {
        let mut env = kdc.env();
        env.push(("KRB5_KTNAME".to_owned(), kdc.keytab("ldap/localhost")));
        env
    }

    /// Starts one below `dir`.
    ///
    /// # Panics
    /// When it does not start, or is not installed: the real one is not optional.
    #[must_use]
    pub fn start(dir: &Path, kdc: &Kdc, slapd: &Slapd) -> Self {
        let deps = test_deps();
        let gunicorn = deps.join("fasjson/bin/gunicorn");
        assert!(gunicorn.exists(), "FASJSON is not in {}\nhint: run scripts/install-test-deps", deps.display());
        let dir = dir.join("fasjson");
        std::fs::create_dir_all(&dir).expect("a directory");
        let (port, log) = (free_port(), dir.join("log"));
        kdc.ticket(CALLER, &dir.join("tickets"));
        let file = std::fs::File::create(&log).expect("its log");
        let mut program = mortal(gunicorn);
        program
            .args(["--workers", "2", "--bind", &format!("127.0.0.1:{port}"), "--chdir"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers"))
            // Without its LDAP server FASJSON sleeps a minute and tries again; gunicorn replaces a worker that does.
            .args(["--preload", "--timeout", WORKER_SECONDS_MAX, "--worker-tmp-dir", "/dev/shm"])
            .arg("fasjson_app:application")
            .envs(kdc.env())
            .env("HOME", &dir)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("KRB5_KTNAME", kdc.keytab("HTTP/localhost"))
            .env("FASJSON_TICKETS", format!("FILE:{}", dir.join("tickets").display()))
            .env("FASJSON_LDAP", format!("localhost:{}", slapd.port()))
            .env("FASJSON_BASE", BASE)
            .env("FASJSON_REALM", REALM)
            // The name in the URL is the name in the ticket.
            .env("LDAPSASL_NOCANON", "on")
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("its log"))
            .stderr(file);
        let mut child = Child::start(&mut program);
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        wait_until("FASJSON listens", START_MAX, || {
            assert!(!child.has_ended(), "FASJSON has ended: {}", said());
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { _child: child, port, log }
    }

    /// Where it answers. By name, because the name is what the ticket is for.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// What it said so far: a line `negotiated NAME@REALM` for each request that proved a name.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}
