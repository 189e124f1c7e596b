//! Our own messages, signed so that real fedmsg consumers accept them (fedmsg `core.py`, `crypto/x509_ng.py`). It never
//! checks anything; that is `verifier`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rsa::RsaPrivateKey;
use rsa::pkcs1::{DecodeRsaPrivateKey as _, EncodeRsaPublicKey as _};
use rsa::pkcs1v15::SigningKey;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::rand_core::OsRng;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use serde_json::Value;
use sha1::Sha1;

use super::canonical::{Json, object};
use super::encoding::{armoured_blocks, base64_lines};
use super::watched::read;
use super::x509::signer_and_key;

/// Permission bits that let every user of the machine read, write or run a file.
const OTHERS: u32 = 0o007;

/// What a message says, before it is signed.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The whole topic, prefix included.
    pub topic: &'a str,
    /// The payload.
    pub msg: &'a Value,
    /// Counts the messages of this publisher, from 1.
    pub i: u64,
    /// `YEAR-UUID` by convention; consumers dedupe by it.
    pub msg_id: &'a str,
    /// Seconds since 1970.
    pub timestamp_s: i64,
    /// The Unix user that publishes.
    pub username: &'a str,
}

/// Signs with one certificate and its private key.
pub struct Signer {
    key: SigningKey<Sha1>,
    /// The certificate as it goes into each message.
    certificate: String,
    name: String,
}

impl Signer {
    /// Reads a certificate and its private key (PEM; PKCS#1 or PKCS#8, not encrypted).
    ///
    /// # Errors
    /// What is wrong with which file, and a hint. A private key that every user may read is refused.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, String> {
        let shown = key.display();
        let mode =
            std::fs::metadata(key).map_err(|error| format!("{shown} can't be read: {error}"))?.permissions().mode();
        if mode & OTHERS != 0 {
            return Err(format!("the private key {shown} can be read by every user\nhint: chmod o-rwx {shown}"));
        }
        Self::from_pem(&read(certificate)?, &read(key)?)
            .map_err(|why| format!("{} with {shown}: {why}", certificate.display()))
    }

    /// From PEM text.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, String> {
        let (name, public) = signer_and_key(certificate)?;
        let private = private_key(key)?;
        let fits = private.to_public_key().to_pkcs1_der().is_ok_and(|der| der.as_bytes() == public);
        if !fits {
            return Err(format!("the private key does not belong to the certificate of {name}"));
        }
        Ok(Self { key: SigningKey::new(private), certificate: base64_lines(certificate), name })
    }

    /// Who this signer is: the first CN of the certificate.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The body to publish: canonical JSON with `certificate`, `crypto` and `signature`.
    ///
    /// # Errors
    /// A sentence, where the key is too small to sign with.
    pub fn envelope(&self, message: &Outgoing<'_>) -> Result<Vec<u8>, String> {
        let mut fields = fields(message);
        fields.push(text("crypto", "x509"));
        let signed = object(fields.clone()).encode();
        let signature =
            self.key.try_sign_with_rng(&mut OsRng, &signed).map_err(|error| format!("signing failed: {error}"))?;
        fields.push(text("certificate", &self.certificate));
        fields.push(text("signature", &base64_lines(&signature.to_bytes())));
        Ok(object(fields).encode())
    }
}

/// The body to publish without a signature.
#[must_use]
pub fn unsigned_envelope(message: &Outgoing<'_>) -> Vec<u8> {
    object(fields(message)).encode()
}

type Field = (std::borrow::Cow<'static, [u8]>, Json<'static>);

fn fields(message: &Outgoing<'_>) -> Vec<Field> {
    let int = |name: &'static str, value: String| (name.as_bytes().into(), Json::Int(value.into()));
    vec![
        text("topic", message.topic),
        (b"msg".into(), Json::from(message.msg)),
        int("i", message.i.to_string()),
        text("msg_id", message.msg_id),
        int("timestamp", message.timestamp_s.to_string()),
        text("username", message.username),
    ]
}

fn text(name: &'static str, value: &str) -> Field {
    (name.as_bytes().into(), Json::Text(value.as_bytes().to_vec().into()))
}

fn private_key(pem: &[u8]) -> Result<RsaPrivateKey, String> {
    if let Some(der) = armoured_blocks(pem, &["RSA PRIVATE KEY"])?.first() {
        return RsaPrivateKey::from_pkcs1_der(der).map_err(|error| format!("the private key can't be read: {error}"));
    }
    if let Some(der) = armoured_blocks(pem, &["PRIVATE KEY"])?.first() {
        return RsaPrivateKey::from_pkcs8_der(der)
            .map_err(|error| format!("the private key can't be read (RSA?): {error}"));
    }
    Err("there is no private key (PEM, RSA, not encrypted)\nhint: openssl pkey -in OLD -out NEW removes the password"
        .into())
}
