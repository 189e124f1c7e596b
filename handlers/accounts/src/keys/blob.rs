//! A type and its base64, checked with the crate ssh-key and by OpenSSH's own rules where those are stricter.

use ssh_key::certificate::CertType;
use ssh_key::public::{EcdsaPublicKey, KeyData, RsaPublicKey};
use ssh_key::{Certificate, HashAlg, PublicKey};

use super::{Kind, Policy, RSA_BITS_MAX};

/// The type words of OpenSSH, with the names for people that `ssh-keygen -l` uses.
const TYPES: [(&str, &str); 16] = [
    ("ssh-ed25519", "ED25519"),
    ("ecdsa-sha2-nistp256", "ECDSA"),
    ("ecdsa-sha2-nistp384", "ECDSA"),
    ("ecdsa-sha2-nistp521", "ECDSA"),
    ("ssh-rsa", "RSA"),
    ("sk-ssh-ed25519@openssh.com", "ED25519-SK"),
    ("sk-ecdsa-sha2-nistp256@openssh.com", "ECDSA-SK"),
    ("ssh-dss", "DSA"),
    ("ssh-ed25519-cert-v01@openssh.com", "ED25519-CERT"),
    ("ecdsa-sha2-nistp256-cert-v01@openssh.com", "ECDSA-CERT"),
    ("ecdsa-sha2-nistp384-cert-v01@openssh.com", "ECDSA-CERT"),
    ("ecdsa-sha2-nistp521-cert-v01@openssh.com", "ECDSA-CERT"),
    ("ssh-rsa-cert-v01@openssh.com", "RSA-CERT"),
    ("sk-ssh-ed25519-cert-v01@openssh.com", "ED25519-SK-CERT"),
    ("sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", "ECDSA-SK-CERT"),
    ("ssh-dss-cert-v01@openssh.com", "DSA-CERT"),
];

/// How the types of certificates end.
const CERTIFICATE: &str = "-cert-v01@openssh.com";

/// First byte of an elliptic curve point in its uncompressed form, the only one that OpenSSH reads.
const UNCOMPRESSED: u8 = 4;

/// A key that was understood and may be written.
pub(super) struct Checked {
    /// Type and base64, put together anew.
    pub line: String,
    /// `ED25519`
    pub label: &'static str,
    /// `SHA256:…`
    pub fingerprint: String,
}

/// Whether this is a type word of OpenSSH's.
pub(super) fn is_type(word: &str) -> bool {
    label(word).is_some()
}

fn label(word: &str) -> Option<&'static str> {
    TYPES.iter().find(|(known, _)| *known == word).map(|(_, label)| *label)
}

/// Reads a key and checks it. `word` is one of the type words.
pub(super) fn check(word: &str, base64: &str, policy: &Policy) -> Result<Checked, String> {
    if word.starts_with("ssh-dss") {
        return Err("DSA is refused".into());
    }
    if word.ends_with(CERTIFICATE) {
        return certificate(word, base64, policy);
    }
    let key = PublicKey::from_openssh(&format!("{word} {base64}")).map_err(|_| unread(word, base64))?;
    is_sound(key.key_data(), policy)?;
    let line = key.to_openssh().map_err(|_| unread(word, base64))?;
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    Ok(Checked { line, label: label(word).unwrap_or_default(), fingerprint })
}

/// The name for people and the fingerprint of any key that can be read, whatever the policy.
pub(super) fn name(word: &str, base64: &str) -> Option<String> {
    let text = format!("{word} {base64}");
    let fingerprint = match PublicKey::from_openssh(&text) {
        Ok(key) => key.fingerprint(HashAlg::Sha256),
        Err(_) => Certificate::from_openssh(&text).ok()?.public_key().fingerprint(HashAlg::Sha256),
    };
    Some(format!("{} {fingerprint}", label(word)?))
}

fn certificate(word: &str, base64: &str, policy: &Policy) -> Result<Checked, String> {
    takes(Kind::Certificate, policy)?;
    let text = format!("{word} {base64}");
    let certificate = Certificate::from_openssh(&text).map_err(|_| unread(word, base64))?;
    if certificate.cert_type() != CertType::User {
        return Err("it is the certificate of a host, not of a user".into());
    }
    is_sound(certificate.public_key(), policy)?;
    let line = certificate.to_openssh().map_err(|_| unread(word, base64))?;
    let line = line.trim_end().to_owned();
    let fingerprint = certificate.public_key().fingerprint(HashAlg::Sha256).to_string();
    Ok(Checked { line, label: label(word).unwrap_or_default(), fingerprint })
}

/// Why it could not be read: also whether it is a key, but of another type.
fn unread(word: &str, base64: &str) -> String {
    let reads_as = |other: &str| {
        let text = format!("{other} {base64}");
        other != word && (PublicKey::from_openssh(&text).is_ok() || Certificate::from_openssh(&text).is_ok())
    };
    match TYPES.iter().find(|(other, _)| reads_as(other)) {
        Some((other, _)) => format!("the type in front says {word}, the key itself is {other}"),
        None if word.ends_with(CERTIFICATE) => "the certificate can't be read; one without an end (-V) is not".into(),
        None => "what stands behind the type can't be read; it may be cut short".into(),
    }
}

fn takes(kind: Kind, policy: &Policy) -> Result<(), String> {
    if policy.kinds.contains(&kind) {
        return Ok(());
    }
    let words: Vec<&str> = policy.kinds.iter().map(|kind| kind.word()).collect();
    Err(format!("{} is not among the types that are taken ({})", kind.word(), words.join(", ")))
}

fn is_sound(data: &KeyData, policy: &Policy) -> Result<(), String> {
    match data {
        KeyData::Ed25519(_) => takes(Kind::Ed25519, policy),
        KeyData::SkEd25519(key) => {
            takes(Kind::SkEd25519, policy)?;
            is_application(key.application())
        }
        KeyData::Rsa(key) => {
            takes(Kind::Rsa, policy)?;
            is_rsa(key, policy.rsa_bits_min)
        }
        KeyData::Ecdsa(key) => {
            takes(Kind::Ecdsa, policy)?;
            is_point(key)
        }
        KeyData::SkEcdsaSha2NistP256(key) => {
            takes(Kind::SkEcdsa, policy)?;
            is_point(&EcdsaPublicKey::NistP256(*key.ec_point()))?;
            is_application(key.application())
        }
        KeyData::Dsa(_) => Err("DSA is refused".into()),
        _ => Err("it is not a key of a known type".into()),
    }
}

/// The bits that count are those of the modulus, not those of its padding. An exponent below 3 would let anyone sign.
fn is_rsa(key: &RsaPublicKey, bits_min: usize) -> Result<(), String> {
    let (Some(modulus), Some(exponent)) = (key.n.as_positive_bytes(), key.e.as_positive_bytes()) else {
        return Err("its RSA numbers are not positive".into());
    };
    let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
    if bits < bits_min {
        return Err(format!("RSA with {bits} bits is too short, at least {bits_min} are asked for"));
    }
    if bits > RSA_BITS_MAX {
        return Err(format!("RSA with {bits} bits is too long, OpenSSH reads at most {RSA_BITS_MAX}"));
    }
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    if !odd(modulus) || !odd(exponent) || exponent == [1] {
        return Err("its RSA numbers can't be those of a key".into());
    }
    Ok(())
}

/// OpenSSH takes uncompressed points that lie on the curve.
fn is_point(key: &EcdsaPublicKey) -> Result<(), String> {
    let bytes = key.as_sec1_bytes();
    let on_curve = match key {
        EcdsaPublicKey::NistP256(_) => p256::PublicKey::from_sec1_bytes(bytes).is_ok(),
        EcdsaPublicKey::NistP384(_) => p384::PublicKey::from_sec1_bytes(bytes).is_ok(),
        EcdsaPublicKey::NistP521(_) => p521::PublicKey::from_sec1_bytes(bytes).is_ok(),
    };
    if on_curve && bytes.first() == Some(&UNCOMPRESSED) {
        return Ok(());
    }
    Err("its numbers are not a point of its curve".into())
}

fn is_application(text: &str) -> Result<(), String> {
    if text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    Err("the application in it is not printable".into())
}
