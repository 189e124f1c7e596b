//! Signature and policy. Only this module makes a [`Verified`] message; nothing behind it takes any other. It never reads
//! the clock and never sends anything.
//!
//! * [`verifier`]: raw message → verified message or refusal
//! * [`x509`], [`gpg`]: the two kinds of signature
//! * [`broker`]: messages that nobody signs, of a broker that the site believes
//! * [`webhook`]: messages that come by HTTP, signed with a secret
//! * [`policy`]: who may say what; [`schemas`]: what a body must look like
//! * [`canonical`]: JSON as Python writes it, which is what was signed
//! * [`local`](local()): messages that the operator hands over as a file
//! * [`sign`]: our own signed messages; [`demo_pki`]: a throwaway CA for the demo

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::message::Message;

pub mod broker;
pub mod canonical;
pub mod demo_pki;
pub mod encoding;
mod envelope;
pub mod gpg;
mod local;
pub mod policy;
pub mod schemas;
pub mod sign;
pub mod verifier;
mod watched;
pub mod webhook;
pub mod x509;

pub use envelope::beside_msg;
pub use local::local;
pub use verifier::{Verifier, signature_alone};
pub use watched::RELOAD_CHECK_SECONDS;

/// Why a message was not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// One line: what was wrong.
    pub reason: String,
    /// Who signed it, where the signature itself is good.
    pub signer: Option<String>,
}

/// How a refusal begins that says nothing against the message: its key or certificate is not believed, or not now.
pub const SIGNED_BUT: &str = "the signature itself is good, but ";

impl Refusal {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), signer: None }
    }

    pub(crate) fn of(signer: &str, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), signer: Some(signer.to_owned()) }
    }
}

/// Who is believed on one bus: the `trust:` block of `rules.yaml`, paths resolved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrustConfig {
    /// Signatures by X.509 certificates.
    pub x509: Option<X509Config>,
    /// GPG: files with armored or binary public keys.
    pub gpg_keys: Option<Vec<PathBuf>>,
    /// Topic pattern → who may say it (first CN of the certificate, or GPG fingerprint).
    pub policy: BTreeMap<String, Vec<String>>,
    /// Whether topics that the policy does not list are accepted (`unlisted: accept`). Default: refused.
    pub accept_unlisted: bool,
    /// Whether messages without any signature are accepted (`unsigned: accept`). Default: refused.
    pub accept_unsigned: bool,
    /// Whether an AMQP broker is believed, which tells of no message who sent it (`broker: accept`). Default: refused.
    pub accept_broker: bool,
    /// The directory of the JSON schemas that bodies of an AMQP bus must fit.
    pub schemas: Option<PathBuf>,
}

/// Where the CA and its revocation list are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct X509Config {
    /// The CA certificate (PEM).
    pub ca: PathBuf,
    /// The revocation list (PEM), if revocation is checked.
    pub crl: Option<PathBuf>,
}

/// Something whose signature and right to its topic were checked. Only `trust` can make one.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// What was verified.
    pub const fn get(&self) -> &T {
        &self.0
    }

    /// What was verified, owned.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl Verified<Message> {
    /// For reactor's own `reactor.*` messages, which never were on a bus.
    pub(crate) const fn internal(message: Message) -> Self {
        Self(message)
    }

    /// For messages that the operator hands over as a file or on stdin: who may start the daemon may also say what
    /// happened. Their signer is `file:NAME`, so no policy entry for a certificate or key ever fits them.
    pub(crate) const fn by_operator(message: Message) -> Self {
        Self(message)
    }
}

#[cfg(test)]
mod tests;
