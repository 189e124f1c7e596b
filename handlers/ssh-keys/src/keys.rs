//! Keys are hostile text: parsed, and written anew. Pure.

use std::collections::BTreeSet;

/// Which keys are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The kinds (`types`).
    pub kinds: BTreeSet<Kind>,
    /// Shortest RSA modulus, in bits (`rsa_bits_min`); never below 2048.
    pub rsa_bits_min: usize,
}

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `ssh-ed25519`
    Ed25519,
    /// `ecdsa-sha2-nistp256`, `384`, `521`
    Ecdsa,
    /// `ssh-rsa`
    Rsa,
    /// `sk-ssh-ed25519@openssh.com`
    SkEd25519,
    /// `sk-ecdsa-sha2-nistp256@openssh.com`
    SkEcdsa,
    /// any `…-cert-v01@openssh.com`
    Certificate,
}

/// A key that may be written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// One line without its newline and without options: type, base64, comment.
    pub line: String,
    /// For people: `ED25519 SHA256:… ralph@laptop`.
    pub shown: String,
}

/// Reads what the account system has: any number of texts, each of any number of lines. The keys come sorted, each once;
/// beside them a sentence for each that was left out (`key 2: DSA is refused`), which never holds the key itself.
#[must_use]
pub fn read(texts: &[String], policy: &Policy) -> (Vec<Key>, Vec<String>) {
    let _ = (texts, policy);
    (Vec::new(), Vec::new())
}

/// stub
#[must_use]
pub fn shown(line: &str) -> String {
    line.into()
}
