//! The secrets of a webhook, each in a file of its own, and how a sender shows that it knows one. Every comparison takes the
//! same time whatever is wrong.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ring::hmac;

use super::{Delivery, Signature, TIMESTAMP_SECONDS_MAX};
use crate::trust::watched;

/// Shortest secret that is taken, in bytes: a shorter one can be guessed.
pub const SECRET_BYTES_MIN: usize = 16;
/// Before a secret of GitLab's newer kind; the rest is base64.
const STANDARD_PREFIX: &str = "whsec_";

/// What was in the files.
pub(super) struct Secrets {
    /// The whole text as a key, of each file.
    plain: Vec<hmac::Key>,
    /// Those that sign the id and the time too.
    standard: Vec<hmac::Key>,
    /// What is wrong with a file; the others count.
    pub problems: Vec<String>,
}

impl Secrets {
    pub(super) fn read(files: &[PathBuf]) -> Self {
        let mut secrets = Self { plain: Vec::new(), standard: Vec::new(), problems: Vec::new() };
        for file in files {
            match watched::read(file) {
                Ok(content) => secrets.add(file, content.trim_ascii()),
                Err(why) => secrets.problems.push(format!("a secret: {why}")),
            }
        }
        secrets
    }

    fn add(&mut self, file: &Path, secret: &[u8]) {
        let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        if secret.len() < SECRET_BYTES_MIN {
            self.problems.push(format!(
                "{}: a secret must have at least {SECRET_BYTES_MIN} bytes; openssl rand -hex 32 makes one",
                file.display()
            ));
            return;
        }
        if let Some(encoded) = secret.strip_prefix(STANDARD_PREFIX.as_bytes()) {
            match STANDARD.decode(encoded) {
                Ok(bytes) if bytes.len() >= SECRET_BYTES_MIN => self.standard.push(key(&bytes)),
                _ => {
                    let file = file.display();
                    let why =
                        format!("after {STANDARD_PREFIX} there must be base64 of at least {SECRET_BYTES_MIN} bytes");
                    self.problems.push(format!("{file}: {why}"));
                    return;
                }
            }
        }
        self.plain.push(key(secret));
    }

    /// Whether the sender knows one of them.
    ///
    /// # Errors
    /// What is wrong; nothing of a secret or signature is in it.
    pub(super) fn check(&self, signature: Signature, delivery: &Delivery, now: Timestamp) -> Result<(), String> {
        if self.plain.is_empty() {
            return Err("no secret can be read here, so nobody is believed".into());
        }
        match signature {
            Signature::Github => {
                let given = header(delivery, &["x-hub-signature-256"])?;
                self.hex("X-Hub-Signature-256", given.strip_prefix("sha256=").unwrap_or(given), &delivery.body)
            }
            Signature::Forgejo => {
                let given = header(delivery, &["x-forgejo-signature", "x-gitea-signature"])?;
                self.hex("X-Forgejo-Signature", given, &delivery.body)
            }
            Signature::Gitlab if self.signs(delivery) => self.standard(delivery, now),
            Signature::Gitlab => self.token("X-Gitlab-Token", header(delivery, &["x-gitlab-token"])?),
            Signature::Token => self.bearer(header(delivery, &["authorization"])?),
        }
    }

    /// Whether the value of the header Authorization says that the sender knows one of them.
    pub(super) fn bearer(&self, given: &str) -> Result<(), String> {
        let (scheme, token) = given.split_once(' ').unwrap_or((given, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err("its Authorization is not `Bearer TOKEN`".into());
        }
        self.token("Authorization", token.trim())
    }

    /// Whether a delivery of GitLab has to be signed: where every secret is of that kind, or one is and it says it is.
    fn signs(&self, delivery: &Delivery) -> bool {
        let all = self.standard.len() == self.plain.len();
        all || !self.standard.is_empty() && delivery.headers.contains_key("webhook-signature")
    }

    /// `given` is the HMAC of the body, in hex.
    fn hex(&self, name: &str, given: &str, body: &[u8]) -> Result<(), String> {
        let tag = unhex(given).ok_or_else(|| format!("its {name} is not the hex of an HMAC-SHA256"))?;
        let good = self.plain.iter().any(|key| hmac::verify(key, body, &tag).is_ok());
        if good { Ok(()) } else { Err(wrong(name, "does not fit the body")) }
    }

    /// `given` is the secret. What is compared are HMACs, so that the time taken tells nothing of it.
    fn token(&self, name: &str, given: &str) -> Result<(), String> {
        // Whoever knows the secret makes the same HMAC of it, under itself as the key.
        let known = |key: &hmac::Key| {
            let own = hmac::Key::new(hmac::HMAC_SHA256, given.as_bytes());
            hmac::verify(key, b"token", hmac::sign(&own, b"token").as_ref()).is_ok()
        };
        if self.plain.iter().any(known) { Ok(()) } else { Err(wrong(name, "is not the secret")) }
    }

    /// The signature of standardwebhooks.com: of `ID.TIME.BODY`.
    fn standard(&self, delivery: &Delivery, now: Timestamp) -> Result<(), String> {
        let given = header(delivery, &["webhook-signature"])?;
        let (id, time) = (header(delivery, &["webhook-id"])?, header(delivery, &["webhook-timestamp"])?);
        let sent: i64 = time.parse().map_err(|_| "its webhook-timestamp is no number of seconds".to_owned())?;
        let signed = [id.as_bytes(), b".", time.as_bytes(), b".", &delivery.body].concat();
        let tags = given.split(' ').filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
        let fits = |tag: Vec<u8>| self.standard.iter().any(|key| hmac::verify(key, &signed, &tag).is_ok());
        if !tags.take(SIGNATURES_MAX).any(fits) {
            return Err(wrong("webhook-signature", "does not fit the body, its id and its time"));
        }
        if now.as_second().abs_diff(sent) > TIMESTAMP_SECONDS_MAX.unsigned_abs() {
            return Err(format!(
                "it was signed more than {TIMESTAMP_SECONDS_MAX} s before or after now: an old one that is sent again, or a clock is wrong"
            ));
        }
        Ok(())
    }
}

/// Most signatures of one delivery that are looked at.
const SIGNATURES_MAX: usize = 8;

fn wrong(name: &str, how: &str) -> String {
    format!("its {name} {how}: the sender has another secret than the bus")
}

/// The first of these headers that is there.
fn header<'d>(delivery: &'d Delivery, names: &[&str]) -> Result<&'d str, String> {
    let found = names.iter().find_map(|name| delivery.headers.get(*name));
    found.map(String::as_str).ok_or_else(|| format!("it has no header {}", names.join(" or ")))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let bytes = text.trim().as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}
