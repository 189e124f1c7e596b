//! A real MIT KDC of the test's own, for one realm.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::{Child, command, mortal};
use crate::slapd::run;
use crate::{free_port, wait_until};

/// Its realm.
pub const REALM: &str = "REACTOR.TEST";
/// Longest start.
const START_MAX: Duration = Duration::from_secs(30);

/// A running KDC.
#[derive(Debug)]
pub struct Kdc {
    _child: Child,
    dir: PathBuf,
}

impl Kdc {
    /// Where the client's configuration of a KDC below `dir` is: its `KRB5_CONFIG`. Known before it starts, because a test
    /// can't change its own environment.
    #[must_use]
    pub fn config(dir: &Path) -> PathBuf {
        dir.join("kdc/krb5.conf")
    }

    /// Starts one below `dir`, with these principals (a name, or `service/localhost`).
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(dir: &Path, principals: &[&str]) -> Self {
        let dir = dir.join("kdc");
        std::fs::create_dir_all(&dir).expect("a directory");
        let (port, here) = (free_port(), dir.display());
        let client = format!(
            "[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n rdns = false\n \
             dns_canonicalize_hostname = false\n[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{port}\n }}\n\
             [domain_realm]\n localhost = {REALM}\n"
        );
        let server = format!(
            "[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n[realms]\n {REALM} = {{\n  \
             database_name = {here}/principal\n  key_stash_file = {here}/stash\n  acl_file = {here}/acl\n }}\n"
        );
        std::fs::write(dir.join("krb5.conf"), client).expect("krb5.conf");
        std::fs::write(dir.join("kdc.conf"), server).expect("kdc.conf");
        run(with(&dir, &mut command("/usr/sbin/kdb5_util")).args(["create", "-s", "-r", REALM, "-P", "master"]), "");
        let mut lines = String::new();
        for principal in principals {
            let keytab = keytab(&dir, principal);
            lines += &format!("addprinc -randkey {principal}\nktadd -k {} {principal}\n", keytab.display());
        }
        run(with(&dir, &mut command("/usr/sbin/kadmin.local")), &lines);
        let log = std::fs::File::create(dir.join("log")).expect("its log");
        let mut kdc = mortal("/usr/sbin/krb5kdc");
        with(&dir, &mut kdc).arg("-n").stdin(Stdio::null()).stdout(log.try_clone().expect("its log")).stderr(log);
        let mut child = Child::start(&mut kdc);
        wait_until("the KDC listens", START_MAX, || {
            let log = || std::fs::read_to_string(dir.join("log")).unwrap_or_default();
            assert!(!child.has_ended(), "the KDC has ended: {}", log());
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { _child: child, dir }
    }

    /// The file with the keys of a principal.
    #[must_use]
    pub fn keytab(&self, principal: &str) -> PathBuf {
        keytab(&self.dir, principal)
    }

    /// What a program needs in its environment to be served by this KDC.
    #[must_use]
    pub fn env(&self) -> Vec<(String, PathBuf)> {
        vec![("KRB5_CONFIG".to_owned(), self.dir.join("krb5.conf"))]
    }

    /// Gets a ticket for `principal` into the file `cache`.
    ///
    /// # Panics
    /// When the KDC refuses.
    pub fn ticket(&self, principal: &str, cache: &Path) {
        let mut kinit = command("/usr/bin/kinit");
        with(&self.dir, &mut kinit).arg("-c").arg(cache).arg("-k").arg("-t").arg(self.keytab(principal)).arg(principal);
        run(&mut kinit, "");
    }
}

fn keytab(dir: &Path, principal: &str) -> PathBuf {
    dir.join(format!("{}.keytab", principal.replace('/', "-")))
}

fn with<'a>(dir: &Path, program: &'a mut Command) -> &'a mut Command {
    program.env("KRB5_CONFIG", dir.join("krb5.conf")).env("KRB5_KDC_PROFILE", dir.join("kdc.conf"))
}
