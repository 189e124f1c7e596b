//! Key files → who may sign. Every self-signature, subkey binding, back signature and revocation is checked here, once;
//! what depends on the time is kept as times. Fails closed: a file that can't be read whole might hold a revocation.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pgp::composed::{Deserializable as _, SignedPublicKey, SignedPublicSubKey};
use pgp::packet::{
    KeyFlags, Packet, PacketParser, PacketTrait as _, PublicKey, PublicSubkey, Signature, SignatureType,
};
use pgp::types::{KeyDetails as _, Tag};

use super::super::encoding::{armoured_blocks, hex_upper};
use super::super::watched::read;

/// Most packets in all key files: keys with thousands of foreign signatures are for key servers, not for this.
const PACKETS_MAX: usize = 20_000;

/// One OpenPGP key.
pub struct Key {
    /// Of the primary key, upper-case hex.
    pub fingerprint: String,
    /// The primary key and the subkeys that may sign data.
    pub parts: Vec<Part>,
    created_s: i64,
    expires_s: Option<i64>,
    revoked: bool,
}

/// A key that can sign: the primary one or a subkey.
pub struct Part {
    /// When it was made, in seconds since 1970. No signature is older.
    pub created_s: i64,
    material: Material,
    expires_s: Option<i64>,
    revoked: bool,
}

enum Material {
    Primary(PublicKey),
    Sub(PublicSubkey),
}

impl Key {
    /// Whether the primary key holds at `now`.
    pub fn holds(&self, now: Timestamp) -> Result<(), String> {
        holds(&format!("the key {}", self.fingerprint), self.created_s, self.expires_s, self.revoked, now)
    }
}

impl Part {
    /// Whether this part itself holds at `now`; for the primary key that is what [`Key::holds`] says.
    pub fn holds(&self, now: Timestamp) -> Result<(), String> {
        holds("the subkey that signed", self.created_s, self.expires_s, self.revoked, now)
    }

    /// Whether it made this signature over `signed`.
    pub fn made(&self, signature: &Signature, signed: &[u8]) -> bool {
        match &self.material {
            Material::Primary(key) => signature.verify(key, signed).is_ok(),
            Material::Sub(key) => signature.verify(key, signed).is_ok(),
        }
    }
}

fn holds(what: &str, created_s: i64, expires_s: Option<i64>, revoked: bool, now: Timestamp) -> Result<(), String> {
    if revoked {
        return Err(format!("{what} has been revoked"));
    }
    if now.as_second() < created_s {
        return Err(format!("{what} is not valid yet"));
    }
    match expires_s.filter(|at| now.as_second() >= *at) {
        Some(at) => Err(format!("{what} has expired on {}", Timestamp::from_second(at).unwrap_or(now))),
        None => Ok(()),
    }
}

/// All keys of all files, with the revocations of any of them applied.
pub fn load(files: &[PathBuf]) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    let mut revocations = Vec::new();
    let mut packets_left = PACKETS_MAX;
    for file in files {
        let wrong = |why: &str| format!("the key file {}: {why}", file.display());
        let blocks = packet_blocks(file)?;
        for block in &blocks {
            let mut packets = Vec::new();
            for packet in PacketParser::new(&block[..]) {
                packets_left = packets_left.checked_sub(1).ok_or_else(|| wrong("too many packets"))?;
                packets.push(packet.map_err(|error| wrong(&format!("not readable as OpenPGP: {error}")))?);
            }
            if packets.iter().any(|packet| matches!(packet.tag(), Tag::SecretKey | Tag::SecretSubkey)) {
                return Err(wrong("it holds a secret key; hint: gpg --export --armor KEY writes the public one"));
            }
            let first_key = packets.iter().position(|packet| packet.tag() == Tag::PublicKey).unwrap_or(packets.len());
            let of_keys = packets.split_off(first_key);
            revocations.extend(packets.into_iter().filter_map(revocation));
            for key in
                SignedPublicKey::from_packets(of_keys.into_iter().map(Ok).collect::<Vec<_>>().into_iter().peekable())
            {
                keys.push(key.map_err(|error| wrong(&format!("not readable as an OpenPGP key: {error}")))?);
            }
        }
        if blocks.is_empty() {
            return Err(wrong("it holds no OpenPGP key and no revocation certificate"));
        }
    }
    if keys.is_empty() {
        return Err("the gpg key files hold no key".into());
    }
    Ok(keys.iter().filter_map(|key| examine(key, &revocations)).collect())
}

fn packet_blocks(file: &Path) -> Result<Vec<Vec<u8>>, String> {
    let content = read(file).map_err(|why| format!("the key file {why}"))?;
    // The first byte of a packet has its highest bit set; armour and the text before it are ASCII.
    if content.first().is_some_and(|byte| byte & 0x80 != 0) {
        return Ok(vec![content]);
    }
    armoured_blocks(&content, &["PGP PUBLIC KEY BLOCK"])
        .map_err(|why| format!("the key file {}: {why}", file.display()))
}

fn revocation(packet: Packet) -> Option<Signature> {
    match packet {
        Packet::Signature(signature) if signature.typ() == Some(SignatureType::KeyRevocation) => Some(signature),
        _ => None,
    }
}

/// `None` for a key without any valid signature by itself: nothing then says that it belongs together.
fn examine(key: &SignedPublicKey, revocations: &[Signature]) -> Option<Key> {
    let primary = &key.primary_key;
    let selves = self_signatures(key);
    let newest = selves.iter().max_by_key(|signature| signature.created().map(|time| time.as_secs()))?;
    let all_revocations = key.details.revocation_signatures.iter().chain(revocations);
    let created_s = i64::from(primary.created_at().as_secs());
    let mut parts = Vec::new();
    if may_sign(newest, true) {
        let material = Material::Primary(primary.clone());
        parts.push(Part { created_s, material, expires_s: None, revoked: false });
    }
    parts.extend(key.public_subkeys.iter().filter_map(|subkey| examine_subkey(subkey, primary)));
    Some(Key {
        fingerprint: hex_upper(primary.fingerprint().as_bytes()),
        parts,
        created_s,
        expires_s: expiry(newest, created_s),
        revoked: all_revocations.into_iter().any(|signature| {
            signature.typ() == Some(SignatureType::KeyRevocation) && signature.verify_key(primary).is_ok()
        }),
    })
}

/// The valid signatures of the primary key on itself and on its user ids.
fn self_signatures(key: &SignedPublicKey) -> Vec<&Signature> {
    let primary = &key.primary_key;
    let direct = key.details.direct_signatures.iter();
    let direct = direct.filter(|sig| sig.typ() == Some(SignatureType::Key) && sig.verify_key(primary).is_ok());
    let certifies = |sig: &Signature| {
        let kinds = [
            SignatureType::CertGeneric,
            SignatureType::CertPersona,
            SignatureType::CertCasual,
            SignatureType::CertPositive,
        ];
        sig.typ().is_some_and(|kind| kinds.contains(&kind))
    };
    let on_users = key.details.users.iter().flat_map(|user| {
        let own = move |sig: &&Signature| sig.verify_certification(primary, Tag::UserId, &user.id).is_ok();
        user.signatures.iter().filter(move |sig| certifies(sig)).filter(own)
    });
    direct.chain(on_users).collect()
}

/// A subkey counts if the primary key bound it for signing data and it signed that binding itself.
fn examine_subkey(subkey: &SignedPublicSubKey, primary: &PublicKey) -> Option<Part> {
    let valid = || subkey.signatures.iter().filter(|sig| sig.verify_subkey_binding(primary, &subkey.key).is_ok());
    let bindings = valid().filter(|sig| sig.typ() == Some(SignatureType::SubkeyBinding));
    let newest = bindings.max_by_key(|signature| signature.created().map(|time| time.as_secs()))?;
    let back = newest.embedded_signature()?;
    if !may_sign(newest, false) || back.verify_primary_key_binding(&subkey.key, primary).is_err() {
        return None;
    }
    let created_s = i64::from(subkey.key.created_at().as_secs());
    Some(Part {
        created_s,
        material: Material::Sub(subkey.key.clone()),
        expires_s: expiry(newest, created_s),
        revoked: valid().any(|sig| sig.typ() == Some(SignatureType::SubkeyRevocation)),
    })
}

/// Old primary keys do not list their uses and may do everything.
fn may_sign(newest: &Signature, is_primary: bool) -> bool {
    let uses = newest.key_flags();
    uses.sign() || (is_primary && uses == KeyFlags::default())
}

fn expiry(newest: &Signature, created_s: i64) -> Option<i64> {
    let lasts_s = newest.key_expiration_time().map_or(0, |time| i64::from(time.as_secs()));
    (lasts_s > 0).then_some(created_s + lasts_s)
}
