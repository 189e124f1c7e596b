//! One certificate, parsed once into what the checks need, and whose signature is on it. Knows no CA and no policy.

use jiff::Timestamp;
use ring::signature::{
    RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA384, UnparsedPublicKey,
};
use rsa::pkcs1::DecodeRsaPublicKey as _;
use rsa::{Pkcs1v15Sign, RsaPublicKey};
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo, X509Name, X509Version};

use super::super::encoding::armoured_blocks;

const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";
const MD5_WITH_RSA: &str = "1.2.840.113549.1.1.4";
const SHA1_WITH_RSA: &str = "1.2.840.113549.1.1.5";
const SHA256_WITH_RSA: &str = "1.2.840.113549.1.1.11";
const SHA384_WITH_RSA: &str = "1.2.840.113549.1.1.12";
const SHA512_WITH_RSA: &str = "1.2.840.113549.1.1.13";
/// The DER before an MD5 digest in a PKCS#1 v1.5 signature (RFC 8017, section 9.2, note 1).
const MD5_PREFIX: [u8; 18] =
    [0x30, 0x20, 0x30, 0x0c, 0x06, 0x08, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x05, 0x05, 0x00, 0x04, 0x10];
/// Names that reactor gives to signers itself; no certificate may take them.
const RESERVED_SIGNERS: [&str; 2] = ["unsigned", "reactor"];

/// What the checks need of a certificate.
pub struct Certificate {
    /// The first CN of the subject.
    pub signer: String,
    /// Subject and issuer, as DER; compared byte by byte.
    pub subject: Vec<u8>,
    /// See `subject`.
    pub issuer: Vec<u8>,
    /// The issuer, for people.
    pub issuer_shown: String,
    /// Without leading zeros.
    pub serial: Vec<u8>,
    /// Seconds since 1970: valid from, and no longer valid at.
    pub valid_s: (i64, i64),
    /// RSA public key, PKCS#1 DER.
    pub key: Vec<u8>,
    /// Whether it may issue certificates.
    pub is_ca: bool,
    /// Whether its key may sign revocation lists.
    pub may_sign_crl: bool,
    /// What was signed, and the signature.
    pub seal: Seal,
}

/// The signed part of a certificate or revocation list.
pub struct Seal {
    signed: Vec<u8>,
    algorithm: String,
    signature: Vec<u8>,
}

/// Whether a signature over MD5 counts. It does on revocation lists only (Fedora's was signed so in 2012): who can forge
/// MD5 could forge a certificate, but gains little by a list that names more serials.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Md5 {
    /// For revocation lists, and a root's signature on itself, which proves nothing anyway.
    Accepted,
    /// For certificates.
    Refused,
}

impl Certificate {
    /// The first certificate in PEM text; what follows it does not count.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let blocks = armoured_blocks(pem, &["CERTIFICATE", "X509 CERTIFICATE"])?;
        let der = blocks.first().ok_or("the certificate field has no PEM block (base64 of PEM text, not of DER)")?;
        Self::from_der(der)
    }

    /// From DER, all of it.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| "the certificate can't be read (X.509)")?;
        if !rest.is_empty() {
            return Err("there is something after the certificate in its PEM block".into());
        }
        let signer = first_common_name(parsed.subject())?;
        let because = |why: &str| format!("the certificate of {signer} {why}");
        let tbs = &parsed.tbs_certificate;
        if tbs.signature.algorithm != parsed.signature_algorithm.algorithm {
            return Err(because("names two different signature algorithms"));
        }
        if let Some(oid) = unknown_critical(parsed.extensions()) {
            return Err(because(&format!("has a critical extension that is not known here ({oid})")));
        }
        Ok(Self {
            subject: parsed.subject().as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            issuer_shown: parsed.issuer().to_string(),
            serial: serial(parsed.raw_serial()),
            valid_s: (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp()),
            key: rsa_key(parsed.public_key())
                .ok_or_else(|| because("has a key that is not RSA; only RSA is accepted"))?,
            is_ca: is_ca(&parsed).map_err(because)?,
            may_sign_crl: usage(&parsed).map_err(because)?.is_none_or(|usage| usage.crl_sign()),
            seal: Seal::new(tbs.as_ref(), &parsed.signature_algorithm, &parsed.signature_value.data),
            signer,
        })
    }

    /// Whether it is valid at `now`.
    pub fn in_date(&self, now: Timestamp) -> Result<(), String> {
        let (from_s, until_s) = self.valid_s;
        if now.as_second() < from_s {
            return Err(format!("the certificate of {} is valid only from {}", self.signer, shown(from_s)));
        }
        if now.as_second() >= until_s {
            return Err(format!("the certificate of {} has expired on {}", self.signer, shown(until_s)));
        }
        Ok(())
    }
}

impl Seal {
    /// From the parts of a certificate or revocation list.
    pub fn new(signed: &[u8], algorithm: &AlgorithmIdentifier<'_>, signature: &[u8]) -> Self {
        Self { signed: signed.to_vec(), algorithm: algorithm.algorithm.to_id_string(), signature: signature.to_vec() }
    }

    /// Whether `key` (PKCS#1 DER) made the signature.
    pub fn is_by(&self, key: &[u8], md5: Md5) -> bool {
        let scheme = match self.algorithm.as_str() {
            SHA1_WITH_RSA => &RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
            SHA256_WITH_RSA => &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
            SHA384_WITH_RSA => &RSA_PKCS1_2048_8192_SHA384,
            SHA512_WITH_RSA => &RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
            MD5_WITH_RSA => return md5 == Md5::Accepted && self.is_by_with_md5(key),
            _ => return false,
        };
        UnparsedPublicKey::new(scheme, key).verify(&self.signed, &self.signature).is_ok()
    }

    fn is_by_with_md5(&self, key: &[u8]) -> bool {
        use md5::{Digest as _, Md5};
        let scheme = Pkcs1v15Sign { hash_len: Some(16), prefix: MD5_PREFIX.into() };
        RsaPublicKey::from_pkcs1_der(key)
            .is_ok_and(|key| key.verify(scheme, &Md5::digest(&self.signed), &self.signature).is_ok())
    }
}

/// A serial number without leading zeros.
pub fn serial(raw: &[u8]) -> Vec<u8> {
    raw.iter().skip_while(|byte| **byte == 0).copied().collect()
}

/// Seconds since 1970, for people.
pub fn shown(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| format!("second {seconds}"), |time| time.to_string())
}

/// The first extension that is critical and that nothing here looks at.
pub fn unknown_critical(extensions: &[X509Extension<'_>]) -> Option<String> {
    let known = |extension: &X509Extension<'_>| {
        matches!(
            extension.parsed_extension(),
            ParsedExtension::BasicConstraints(_)
                | ParsedExtension::KeyUsage(_)
                | ParsedExtension::ExtendedKeyUsage(_)
                | ParsedExtension::SubjectAlternativeName(_)
        )
    };
    let unknown = extensions.iter().find(|extension| extension.critical && !known(extension));
    unknown.map(|extension| extension.oid.to_id_string())
}

fn first_common_name(subject: &X509Name<'_>) -> Result<String, String> {
    let first =
        subject.iter_common_name().next().ok_or("the certificate has no CN, so nobody is named as the signer")?;
    let name = first.as_str().map_err(|_| "the CN of the certificate is not text that can be read")?;
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(format!("the CN of the certificate is not a name: {name:?}"));
    }
    if RESERVED_SIGNERS.contains(&name) || name.starts_with("file:") {
        return Err(format!("the CN of the certificate is {name}, a name that is reserved for reactor itself"));
    }
    Ok(name.to_owned())
}

fn rsa_key(key: &SubjectPublicKeyInfo<'_>) -> Option<Vec<u8>> {
    (key.algorithm.algorithm.to_id_string() == RSA_ENCRYPTION).then(|| key.subject_public_key.data.to_vec())
}

/// CA:TRUE, and allowed to sign certificates if its uses are listed. Version 1 has no such words; OpenSSL takes it.
fn is_ca(certificate: &X509Certificate<'_>) -> Result<bool, &'static str> {
    let constraints = certificate.basic_constraints().map_err(|_| "has its basic constraints twice")?;
    let says_ca = match constraints {
        Some(found) => found.value.ca,
        None => certificate.version() == X509Version::V1,
    };
    Ok(says_ca && usage(certificate)?.is_none_or(|usage| usage.key_cert_sign()))
}

fn usage<'c>(
    certificate: &'c X509Certificate<'_>,
) -> Result<Option<&'c x509_parser::extensions::KeyUsage>, &'static str> {
    Ok(certificate.key_usage().map_err(|_| "has its key usage twice")?.map(|found| found.value))
}
