//! X.509 signatures as fedmsg makes them: RSA PKCS#1 v1.5 over SHA-1 of the canonical JSON, by a certificate that one CA
//! issued directly (fedmsg `crypto/x509_ng.py`). A small check of our own, since the real material (RSA-1024 keys, SHA-1
//! leaves, version 1 revocation lists) is refused by webpki.
//!
//! It never builds chains, never downloads anything, and never falls back to "no revocation list" when one is configured
//! and can't be read.
//!
//! * `x509/certificate.rs`: one certificate, and who signed it
//! * `x509/authority.rs`: the CA and its revocation list

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use ring::signature::{RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};

use self::authority::Authority;
use self::certificate::Certificate;
use super::encoding::python_base64;
use super::watched::Watched;
use super::{Refusal, SIGNED_BUT, X509Config};

mod authority;
mod certificate;

/// Most certificates kept parsed and checked. When it is full all are forgotten and checked anew.
pub const CERTIFICATES_KEPT_MAX: usize = 512;
/// Longest certificate field that is kept, in bytes; a longer one is checked each time.
pub const KEPT_FIELD_BYTES_MAX: usize = 16 * 1024;

/// Checks signatures against one CA.
pub struct X509 {
    store: Watched<Store>,
}

/// What the CA's files say, and the certificates that were found good under exactly them.
struct Store {
    authority: Authority,
    kept: RwLock<HashMap<Box<str>, Arc<Checked>>>,
}

/// A certificate, and the roots that issued it.
struct Checked {
    leaf: Certificate,
    issuers: Result<Vec<usize>, String>,
}

impl X509 {
    /// Reads the CA and its revocation list. What is wrong with them is said by [`X509::problems`] and in each refusal.
    #[must_use]
    pub fn open(config: &X509Config) -> Self {
        let files: Vec<PathBuf> = std::iter::once(&config.ca).chain(&config.crl).cloned().collect();
        let load = |files: &[PathBuf]| Store {
            authority: Authority::load(&files[0], files.get(1).map(PathBuf::as_path)),
            kept: RwLock::default(),
        };
        Self { store: Watched::open(files, load) }
    }

    /// The signer (the first CN of the certificate) of `signed`, the canonical bytes.
    ///
    /// # Errors
    /// Why the signature, the certificate or the CA does not hold at `now`.
    pub fn verify(&self, certificate: &str, signature: &str, signed: &[u8], now: Timestamp) -> Result<String, Refusal> {
        let signature = python_base64(signature).map_err(|why| Refusal::new(format!("the signature is {why}")))?;
        let store = self.store.current(now);
        let (checked, is_new) = match store.kept(certificate) {
            Some(checked) => (checked, false),
            None => (Arc::new(store.check(read_field(certificate)?)), true),
        };
        let leaf = &checked.leaf;
        let trusted = store.trusts(&checked, now);
        if !is_signed_by(leaf, signed, &signature) {
            return Err(Refusal::new(match trusted {
                Ok(()) => wrong_signature(leaf),
                Err(why) => format!("{why}; nor does the signature fit the message"),
            }));
        }
        trusted.map_err(|why| Refusal::of(&leaf.signer, format!("{SIGNED_BUT}{why}")))?;
        if is_new {
            store.keep(certificate, &checked);
        }
        Ok(leaf.signer.clone())
    }

    /// What is wrong with the CA or its revocation list, in words; every message is refused for it.
    #[must_use]
    pub fn problems(&self, now: Timestamp) -> Vec<String> {
        self.store.current(now).authority.problems(now)
    }
}

impl Store {
    /// What stays true of a certificate as long as the CA's files do not change.
    fn check(&self, leaf: Certificate) -> Checked {
        Checked { issuers: self.authority.issuers(&leaf), leaf }
    }

    /// What depends on the time.
    fn trusts(&self, checked: &Checked, now: Timestamp) -> Result<(), String> {
        let issuers = checked.issuers.as_ref().map_err(Clone::clone)?;
        self.authority.holds_for(&checked.leaf, issuers, now)?;
        checked.leaf.in_date(now)
    }

    fn kept(&self, certificate: &str) -> Option<Arc<Checked>> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).get(certificate).cloned()
    }

    fn keep(&self, certificate: &str, checked: &Arc<Checked>) {
        if certificate.len() > KEPT_FIELD_BYTES_MAX {
            return;
        }
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= CERTIFICATES_KEPT_MAX {
            kept.clear();
        }
        kept.insert(certificate.into(), Arc::clone(checked));
    }
}

/// The signer, if `signed` carries a good signature by the certificate; says nothing about who issued that.
///
/// # Errors
/// Why not.
pub fn verify_signature_alone(certificate: &str, signature: &str, signed: &[u8]) -> Result<String, Refusal> {
    let signature = python_base64(signature).map_err(|why| Refusal::new(format!("the signature is {why}")))?;
    let leaf = read_field(certificate)?;
    if is_signed_by(&leaf, signed, &signature) { Ok(leaf.signer) } else { Err(Refusal::new(wrong_signature(&leaf))) }
}

/// The CN and RSA public key (PKCS#1 DER) of the first certificate in PEM text.
///
/// # Errors
/// A sentence.
pub fn signer_and_key(pem: &[u8]) -> Result<(String, Vec<u8>), String> {
    Certificate::from_pem(pem).map(|leaf| (leaf.signer, leaf.key))
}

fn read_field(certificate: &str) -> Result<Certificate, Refusal> {
    let pem = python_base64(certificate).map_err(|why| Refusal::new(format!("the certificate field is {why}")))?;
    Certificate::from_pem(&pem).map_err(Refusal::new)
}

fn is_signed_by(leaf: &Certificate, signed: &[u8], signature: &[u8]) -> bool {
    // ring also checks that the signature is as long as the modulus.
    UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, &leaf.key).verify(signed, signature).is_ok()
}

fn wrong_signature(leaf: &Certificate) -> String {
    format!("the signature does not fit the message and the key of {}: one of them was changed", leaf.signer)
}
