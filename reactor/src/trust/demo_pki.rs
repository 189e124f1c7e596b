//! A throwaway CA, its certificates and an empty revocation list, for `reactor demo` and tests. Never for production: the
//! private keys exist only in memory, and the certificates name nobody real.

use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rsa::RsaPrivateKey;
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _};
use rsa::rand_core::OsRng;

use super::encoding::pem;

/// The CN of the demo's certificate.
pub const DEMO_SIGNER: &str = "demo.example.org";
const DEMO_CA: &str = "reactor demo CA";
const KEY_BITS: usize = 2048;
/// How long all of it is valid, in days.
const VALID_DAYS: i64 = 7;

/// The files of a small PKI, as PEM text.
#[derive(Clone, Debug)]
pub struct DemoPki {
    /// The CA certificate.
    pub ca_pem: String,
    /// Its revocation list, empty.
    pub crl_pem: String,
    /// A certificate that it issued.
    pub cert_pem: String,
    /// Its private key (PKCS#8).
    pub key_pem: String,
}

/// A throwaway CA that can issue certificates.
#[derive(Debug)]
pub struct DemoCa {
    key: RsaKeyPair,
    ca_pem: String,
    now: Timestamp,
    /// The serial number that was given last.
    serial: u8,
}

impl DemoCa {
    /// Makes one, valid from a day before `now` for some days.
    ///
    /// # Errors
    /// A sentence, where the system has no random numbers.
    pub fn new(now: Timestamp) -> Result<Self, String> {
        let (pkcs8, public) = new_key()?;
        let key = RsaKeyPair::from_pkcs8(&pkcs8).map_err(|error| format!("the new RSA key can't sign: {error}"))?;
        let ca_pem = pem("CERTIFICATE", &signed(&key, &certificate(1, DEMO_CA, &public, true, now))?);
        Ok(Self { key, ca_pem, now, serial: 1 })
    }

    /// A certificate for a common name, with a key of its own.
    ///
    /// # Errors
    /// A sentence, where the system has no random numbers, or when there are too many.
    pub fn issue(&mut self, name: &str) -> Result<DemoPki, String> {
        self.serial = self.serial.checked_add(1).filter(|n| *n < 0x80).ok_or("the demo CA issued too many")?;
        let (pkcs8, public) = new_key()?;
        Ok(DemoPki {
            ca_pem: self.ca_pem.clone(),
            cert_pem: pem(
                "CERTIFICATE",
                &signed(&self.key, &certificate(self.serial, name, &public, false, self.now))?,
            ),
            crl_pem: pem("X509 CRL", &signed(&self.key, &empty_crl(self.now))?),
            key_pem: pem("PRIVATE KEY", &pkcs8),
        })
    }
}

/// Makes one for [`DEMO_SIGNER`], valid from a day before `now` for some days.
///
/// # Errors
/// A sentence, where the system has no random numbers.
pub fn demo_pki(now: Timestamp) -> Result<DemoPki, String> {
    DemoCa::new(now)?.issue(DEMO_SIGNER)
}

/// A private key (PKCS#8) and its public key (SubjectPublicKeyInfo), both DER.
fn new_key() -> Result<(Vec<u8>, Vec<u8>), String> {
    let key = RsaPrivateKey::new(&mut OsRng, KEY_BITS).map_err(|error| format!("no new RSA key: {error}"))?;
    let private = key.to_pkcs8_der().map_err(|error| error.to_string())?;
    let public = key.to_public_key().to_public_key_der().map_err(|error| error.to_string())?;
    Ok((private.as_bytes().to_vec(), public.into_vec()))
}

// DER by hand (X.690): tag, length, content. The structures are those of RFC 5280, section 4.1 and 5.1.
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const GENERALIZED_TIME: u8 = 0x18;
const UTC_TIME: u8 = 0x17;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const EXPLICIT_0: u8 = 0xa0;
const EXPLICIT_3: u8 = 0xa3;
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 0x13];
const CA_TRUE: [u8; 5] = [0x30, 0x03, 0x01, 0x01, 0xff];
const CA_FALSE: [u8; 2] = [0x30, 0x00];
/// sha256WithRSAEncryption, NULL.
const SHA256_WITH_RSA: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00];

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    if content.len() < 0x80 {
        out.push(content.len() as u8);
    } else {
        let bytes: Vec<u8> = content.len().to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        out.push(0x80 | bytes.len() as u8);
        out.extend(bytes);
    }
    out.extend(content);
    out
}

fn name(common_name: &str) -> Vec<u8> {
    let cn = der(SEQUENCE, &[&der(OID, &[&COMMON_NAME]), &der(UTF8_STRING, &[common_name.as_bytes()])]);
    der(SEQUENCE, &[&der(SET, &[&cn])])
}

fn time(at: Timestamp) -> Vec<u8> {
    let at = Offset::UTC.to_datetime(at);
    // RFC 5280: UTCTime until 2049.
    if at.year() < 2050 {
        der(UTC_TIME, &[at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()])
    } else {
        der(GENERALIZED_TIME, &[at.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes()])
    }
}

fn validity(now: Timestamp) -> (Vec<u8>, Vec<u8>) {
    let hours = |n: i64| now.saturating_add(SignedDuration::from_hours(n)).unwrap_or(now);
    (time(hours(-24)), time(hours(24 * VALID_DAYS)))
}

fn certificate(serial: u8, subject: &str, public_key: &[u8], is_ca: bool, now: Timestamp) -> Vec<u8> {
    let (from, until) = validity(now);
    let constraints: &[u8] = if is_ca { &CA_TRUE } else { &CA_FALSE };
    let extension = der(SEQUENCE, &[&der(OID, &[&BASIC_CONSTRAINTS]), &der(OCTET_STRING, &[constraints])]);
    der(
        SEQUENCE,
        &[
            &der(EXPLICIT_0, &[&der(INTEGER, &[&[2]])]),
            &der(INTEGER, &[&[serial]]),
            &SHA256_WITH_RSA,
            &name(DEMO_CA),
            &der(SEQUENCE, &[&from, &until]),
            &name(subject),
            public_key,
            &der(EXPLICIT_3, &[&der(SEQUENCE, &[&extension])]),
        ],
    )
}

/// Version 1, as Fedora's: it has no extensions.
fn empty_crl(now: Timestamp) -> Vec<u8> {
    let (from, until) = validity(now);
    der(SEQUENCE, &[&SHA256_WITH_RSA, &name(DEMO_CA), &from, &until])
}

fn signed(ca: &RsaKeyPair, content: &[u8]) -> Result<Vec<u8>, String> {
    let mut signature = vec![0; ca.public().modulus_len()];
    ca.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), content, &mut signature).map_err(|_| "signing failed")?;
    Ok(der(SEQUENCE, &[content, &SHA256_WITH_RSA, &der(BIT_STRING, &[&[0], &signature])]))
}
