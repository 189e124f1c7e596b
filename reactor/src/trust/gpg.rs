//! GPG signatures as fedmsg's second backend makes them (`crypto/gpg.py`): a detached OpenPGP signature over the canonical
//! JSON of `msg` alone. Stricter than fedmsg, which asks only for gpg's exit status: revoked and expired keys, expired
//! signatures and weak digests are refused.
//!
//! It never asks a keyring, an agent or a key server: only the files that the site names count.
//!
//! * `gpg/keys.rs`: key files → who may sign, from when to when

use std::path::PathBuf;

use jiff::Timestamp;
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Packet, PacketParser, Signature, SignatureType};

use self::keys::{Key, load};
use super::encoding::python_base64;
use super::watched::Watched;
use super::{Refusal, SIGNED_BUT};

mod keys;

/// Longest signature, in bytes: the largest RSA keys make about 2 KiB.
pub const SIGNATURE_BYTES_MAX: usize = 16 * 1024;

/// Checks signatures against the keys in some files.
pub struct Gpg {
    keys: Watched<Result<Vec<Key>, String>>,
}

impl Gpg {
    /// Reads key files: armoured or binary, each with any number of public keys or revocation certificates.
    #[must_use]
    pub fn open(files: Vec<PathBuf>) -> Self {
        Self { keys: Watched::open(files, load) }
    }

    /// The signer of `signed`: the fingerprint of the primary key, in upper-case hex, also where a subkey signed.
    ///
    /// # Errors
    /// Why the signature or its key does not hold at `now`.
    pub fn verify(&self, signature: &str, signed: &[u8], now: Timestamp) -> Result<String, Refusal> {
        let keys = self.keys.current(now);
        let keys = keys.as_ref().as_ref().map_err(|why| Refusal::new(why.clone()))?;
        let signature = read_signature(signature).map_err(Refusal::new)?;
        let mut why = Refusal::new("no key in the key files made the signature, or the message was changed");
        for key in keys {
            let Some(part) = key.parts.iter().find(|part| part.made(&signature, signed)) else { continue };
            match key.holds(now).and_then(|()| part.holds(now)).and_then(|()| in_date(&signature, part.created_s, now))
            {
                Ok(()) => return Ok(key.fingerprint.clone()),
                Err(reason) => {
                    why = Refusal::of(&key.fingerprint, format!("{SIGNED_BUT}{reason}"));
                }
            }
        }
        Err(why)
    }

    /// What is wrong with the keys at `now`, in words.
    #[must_use]
    pub fn problems(&self, now: Timestamp) -> Vec<String> {
        match self.keys.current(now).as_ref() {
            Err(why) => vec![why.clone()],
            Ok(keys) => keys.iter().filter_map(|key| key.holds(now).err()).collect(),
        }
    }
}

/// One binary signature packet, of a kind that counts for data.
fn read_signature(field: &str) -> Result<Signature, String> {
    let bytes = python_base64(field).map_err(|why| format!("the signature is {why}"))?;
    if bytes.is_empty() || bytes.len() > SIGNATURE_BYTES_MAX {
        return Err(format!("the signature has {} bytes (1 to {SIGNATURE_BYTES_MAX} are read)", bytes.len()));
    }
    let mut packets = PacketParser::new(&bytes[..]);
    let (Some(Ok(Packet::Signature(signature))), None) = (packets.next(), packets.next()) else {
        return Err("the signature is not one OpenPGP signature (binary, detached)".into());
    };
    if signature.typ() != Some(SignatureType::Binary) {
        return Err("the signature is not one over binary data".into());
    }
    let strong = [HashAlgorithm::Sha224, HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];
    if !signature.hash_alg().is_some_and(|digest| strong.contains(&digest)) {
        return Err("the signature uses a digest that is too weak or not known (SHA-2 is needed)".into());
    }
    Ok(signature)
}

fn in_date(signature: &Signature, key_created_s: i64, now: Timestamp) -> Result<(), String> {
    let created_s =
        signature.created().map(|time| i64::from(time.as_secs())).ok_or("it does not say when it was made")?;
    if created_s < key_created_s {
        return Err("it is older than its key".into());
    }
    let lasts_s = signature.signature_expiration_time().map_or(0, |time| i64::from(time.as_secs()));
    if lasts_s > 0 && now.as_second() >= created_s + lasts_s {
        return Err("it has expired".into());
    }
    Ok(())
}
