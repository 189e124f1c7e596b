//! The rules of trust, one test each, on the repo's own small set in `testdata/` (made by
//! `tests/support-scripts/make-trust-testdata`).

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rsa::RsaPrivateKey;
use rsa::pkcs1v15::SigningKey;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::signature::{SignatureEncoding as _, Signer as _};
use serde_json::{Value, json};
use sha1::Sha1;

use super::canonical::Json;
use super::encoding::base64_lines;
use super::{Refusal, TrustConfig, Verifier, X509Config};
use crate::message::{Form, Message, RawMessage};

mod broker;
mod envelope;
mod gpg;
mod sign;
mod webhook;
mod x509;

const TOPIC: &str = "org.example.test.user.update";

fn data(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/trust/testdata")).join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(data(name)).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-12-01T00:00:00Z")
}

/// Believes the test CA, with this revocation list, for every topic.
fn ca(crl: Option<&str>) -> TrustConfig {
    let x509 = X509Config { ca: data("ca.crt"), crl: crl.map(data) };
    TrustConfig { x509: Some(x509), accept_unlisted: true, ..TrustConfig::default() }
}

/// Believes the keys of the test keyring for every topic.
fn keyring() -> TrustConfig {
    let files = ["good.pub.asc", "expired.pub.asc", "revoked.pub.asc", "revoked.rev.asc", "subkey.pub.asc"];
    TrustConfig { gpg_keys: Some(files.map(data).to_vec()), accept_unlisted: true, ..TrustConfig::default() }
}

fn body() -> Value {
    json!({"topic": TOPIC, "msg": {"user": "ralph"}, "msg_id": "2026-1", "timestamp": 1_790_000_000, "i": 1, "username": "fas"})
}

/// `fields` signed by a certificate's key as fedmsg does it.
fn signed_with(mut fields: Value, certificate: &str, key: &str) -> Value {
    let private = RsaPrivateKey::from_pkcs8_pem(text(key).split_once('\n').unwrap().1).unwrap();
    let signature = SigningKey::<Sha1>::new(private).sign(&Json::from(&fields).encode());
    fields["signature"] = base64_lines(&signature.to_bytes()).into();
    fields["certificate"] = base64_lines(certificate.as_bytes()).into();
    fields
}

/// The usual message, signed by the holder of this certificate.
fn signed(certificate: &str, key: &str) -> Value {
    let mut fields = body();
    fields["crypto"] = "x509".into();
    signed_with(fields, &text(certificate), key)
}

fn by_app() -> Value {
    signed("app.crt", "leaf.key")
}

/// `msg: {"n": 1}`, signed with a GPG key of the test keyring.
fn by_gpg(signature: &str) -> Value {
    let mut fields = body();
    fields["crypto"] = "gpg".into();
    fields["msg"] = json!({"n": 1});
    fields["signature"] = STANDARD.encode(std::fs::read(data(signature)).unwrap()).into();
    fields
}

fn raw(body: &Value) -> RawMessage {
    raw_bytes(body.to_string().as_bytes())
}

fn raw_bytes(body: &[u8]) -> RawMessage {
    RawMessage {
        bus: "test".into(),
        topic: TOPIC.into(),
        body: body.to_vec(),
        received: now(),
        token: 0,
        form: Form::Envelope,
    }
}

fn verify(config: TrustConfig, body: &Value) -> Result<Message, Refusal> {
    Verifier::open(config).verify(&raw(body), now()).map(super::Verified::into_inner)
}

#[track_caller]
fn refused(config: TrustConfig, body: &Value, why: &str) -> Refusal {
    let refusal = verify(config, body).unwrap_err();
    assert!(refusal.reason.contains(why), "{:?} should say {why:?}", refusal.reason);
    refusal
}
