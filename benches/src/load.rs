//! The messages that are sent: the size and shape of real fedmsg ones (600 bytes of payload; signed with RSA-2048, 2.9 KB).

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use reactor::trust::demo_pki::{DEMO_SIGNER, DemoPki, demo_pki};
use reactor::trust::sign::{Outgoing, Signer, unsigned_envelope};
use serde_json::{Value, json};

/// A topic that the sites here want.
pub const WANTED: &str = "org.fedoraproject.prod.fas.user.update";
/// One that nobody wants.
pub const UNWANTED: &str = "org.fedoraproject.prod.buildsys.build.state.change";

/// A throwaway certificate authority, and the trust block that believes its one signer.
#[derive(Debug)]
pub struct Pki {
    pems: DemoPki,
    dir: tempfile::TempDir,
}

impl Pki {
    /// Makes keys and certificates.
    ///
    /// # Errors
    /// When the system has no random numbers or no room.
    pub fn new() -> Result<Self> {
        let pems = demo_pki(Timestamp::now()).map_err(|why| anyhow!(why))?;
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("ca.crt"), &pems.ca_pem)?;
        std::fs::write(dir.path().join("crl.pem"), &pems.crl_pem)?;
        Ok(Self { pems, dir })
    }

    /// Where `ca.crt` and `crl.pem` are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The certificate of the one signer (PEM).
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        self.pems.cert_pem.as_bytes()
    }

    /// The `trust:` block: signed by our signer, or refused.
    #[must_use]
    pub fn trust(&self) -> String {
        let dir = self.dir.path().display();
        format!(
            "{{ x509: {{ ca: {dir}/ca.crt, crl: {dir}/crl.pem }}, policy: {{ \"org.fedoraproject.prod.fas.**\": [{DEMO_SIGNER}] }} }}"
        )
    }

    /// The one signer, for messages of other shapes.
    ///
    /// # Errors
    /// When its key can't be read.
    pub fn signer(&self) -> Result<Signer> {
        Signer::from_pem(self.certificate(), self.pems.key_pem.as_bytes()).map_err(|why| anyhow!(why))
    }

    /// `n` signed bodies, numbered from 0, made on all cores.
    ///
    /// # Errors
    /// When signing fails.
    pub fn signed(&self, n: usize) -> Result<Vec<Vec<u8>>> {
        let signer = self.signer()?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut bodies = vec![Vec::new(); n];
        std::thread::scope(|scope| {
            let sizes = bodies.chunks_mut(n.div_ceil(threads).max(1)).enumerate();
            let running: Vec<_> = sizes
                .map(|(part, bodies)| {
                    let (signer, first) = (&signer, part * n.div_ceil(threads).max(1));
                    scope.spawn(move || sign_into(signer, first, bodies))
                })
                .collect();
            running.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("a signing thread died"))?)
        })?;
        Ok(bodies)
    }
}

fn sign_into(signer: &Signer, first: usize, bodies: &mut [Vec<u8>]) -> Result<()> {
    for (at, body) in bodies.iter_mut().enumerate() {
        let n = first + at;
        *body = with_outgoing(WANTED, n, |out| signer.envelope(out)).map_err(|why| anyhow!(why)).context("signing")?;
    }
    Ok(())
}

/// The body of message number `n` on `topic`, not signed.
#[must_use]
pub fn unsigned(topic: &str, n: usize) -> Vec<u8> {
    with_outgoing(topic, n, unsigned_envelope)
}

/// About 600 bytes, as an account system says it.
#[must_use]
pub fn payload(n: usize) -> Value {
    json!({
        "n": n, "user": format!("user{n}"), "agent": format!("user{n}"), "fields": ["ssh_key", "timezone"],
        "comment": "the quick brown fox jumps over the lazy dog ".repeat(10),
    })
}

fn with_outgoing<T>(topic: &str, n: usize, then: impl FnOnce(&Outgoing<'_>) -> T) -> T {
    let msg = payload(n);
    let msg_id = format!("2026-{n:08x}-0ed6-4621-a5f2-5dddfa14d792");
    let timestamp_s = Timestamp::now().as_second();
    then(&Outgoing { topic, msg: &msg, i: n as u64 + 1, msg_id: &msg_id, timestamp_s, username: "bench" })
}
