//! A CA of the test's own for TLS on the loopback, and certificates of servers and of users. The openssl program makes them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::process::command;
use crate::slapd::run;

/// How long a certificate is good if nothing else is said, in days.
pub const DAYS: &str = "30";
const EC_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/// A CA: `ca.crt`, and for each certificate `NAME.crt`, `NAME.key`, and both in `NAME.pem`, the key first.
#[derive(Clone, Debug)]
pub struct Ca {
    dir: PathBuf,
}

impl Ca {
    /// Makes one, in a new directory.
    ///
    /// # Panics
    /// When it can't.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        std::fs::create_dir(dir).expect("a directory for certificates");
        std::fs::write(dir.join("server.ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").expect("a file");
        std::fs::write(dir.join("user.ext"), "extendedKeyUsage=clientAuth\n").expect("a file");
        let me = Self { dir: dir.to_owned() };
        let ca = ["req", "-x509", "-days", DAYS, "-subj", "/CN=test CA", "-keyout", "ca.key", "-out", "ca.crt"];
        me.openssl(&[&ca[..], &EC_KEY].concat());
        me
    }

    /// A server's certificate, for `localhost` and 127.0.0.1. `days` of -1: it has ended.
    pub fn server(&self, name: &str, days: &str) {
        self.certificate(name, "localhost", days, "server.ext");
    }

    /// A user's certificate, with the user's name as the CN. `days` of -1: it has ended.
    pub fn user(&self, name: &str, user: &str, days: &str) {
        self.certificate(name, user, days, "user.ext");
    }

    /// A file of it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn certificate(&self, name: &str, cn: &str, days: &str, extensions: &str) {
        let file = |extension: &str| format!("{name}.{extension}");
        let (key, request, certificate) = (file("key"), file("csr"), file("crt"));
        let subject = format!("/O=reactor tests/CN={cn}");
        self.openssl(&[&["req", "-new", "-subj", &subject, "-keyout", &key, "-out", &request], &EC_KEY[..]].concat());
        let sign = ["x509", "-req", "-in", &request, "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days"];
        self.openssl(&[&sign[..], &[days, "-extfile", extensions, "-out", &certificate]].concat());
        let read = |name: &str| std::fs::read_to_string(self.file(name)).expect("a file of openssl's");
        let pem = self.file(&file("pem"));
        std::fs::write(&pem, read(&key) + &read(&certificate)).expect("a file");
        std::fs::set_permissions(&pem, PermissionsExt::from_mode(0o600)).expect("its mode");
    }

    fn openssl(&self, args: &[&str]) {
        run(command("openssl").current_dir(&self.dir).args(args), "");
    }
}
