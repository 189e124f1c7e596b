//! Certificates in fedmsg's layout: `ca.crt`, `crl.pem`, `NAME.crt`, `NAME.key`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use reactor::trust::TrustConfig;
use reactor::trust::X509Config;
use reactor::trust::demo_pki::{DEMO_SIGNER, DemoPki, demo_pki};

/// A CA, its empty revocation list, and one certificate, as files.
#[derive(Clone, Debug)]
pub struct Pki {
    /// The directory (fedmsg's `ssldir`).
    pub dir: PathBuf,
}

/// The CN of its certificate, and the name of its files.
pub const SIGNER: &str = DEMO_SIGNER;

impl Pki {
    /// Writes one into `dir/pki`. All tests of a run share the keys: making them takes a second.
    ///
    /// # Panics
    /// When the files can't be written.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        static SHARED: OnceLock<DemoPki> = OnceLock::new();
        let pem = SHARED.get_or_init(|| demo_pki(now()).expect("a PKI"));
        let dir = dir.join("pki");
        std::fs::create_dir_all(&dir).expect("a directory");
        let key = format!("{SIGNER}.key");
        let files = [("ca.crt", &pem.ca_pem), ("crl.pem", &pem.crl_pem), (&key, &pem.key_pem)];
        for (name, text) in files.into_iter().chain([(&*format!("{SIGNER}.crt"), &pem.cert_pem)]) {
            std::fs::write(dir.join(name), text).expect("a file");
        }
        std::fs::set_permissions(dir.join(key), PermissionsExt::from_mode(0o600)).expect("its mode");
        Self { dir }
    }

    /// A file of it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The signer's certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.file(&format!("{SIGNER}.crt"))
    }

    /// The signer's private key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.file(&format!("{SIGNER}.key"))
    }

    /// Trust in this CA, for every topic.
    #[must_use]
    pub fn trust(&self) -> TrustConfig {
        let x509 = X509Config { ca: self.file("ca.crt"), crl: Some(self.file("crl.pem")) };
        TrustConfig { x509: Some(x509), accept_unlisted: true, ..TrustConfig::default() }
    }
}

/// The wall clock.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "certificates are valid at the time of the test")]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
