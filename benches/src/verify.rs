//! Signatures a second on one core, in-process: parse, canonical form, certificate, policy, RSA; beside the bare RSA check
//! and beside fedmsg's own `validate()`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use reactor::message::{Form, RawMessage};
use reactor::trust::canonical;
use reactor::trust::demo_pki::DEMO_SIGNER;
use reactor::trust::x509::signer_and_key;
use reactor::trust::{TrustConfig, Verifier, X509Config};
use ring::signature::{RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::Env;
use crate::load::{Pki, WANTED};
use crate::table::Row;

const BENCH: &str = "verify";

/// Runs it.
///
/// # Errors
/// When a signature made here is refused.
pub fn run(env: &Env) -> Result<Vec<Row>> {
    let pki = Pki::new()?;
    let bodies = pki.signed(env.size(1_000, 50))?;
    let ours = verified(env, &pki, &bodies)?;
    let bare = bare(env, &pki, &bodies)?;
    let bytes = bodies.iter().map(Vec::len).sum::<usize>() / bodies.len();
    let mut rows = vec![
        Row::new(BENCH, "signed messages, one thread", ours, "msg/s")
            .beside("ring RSA-2048 SHA-1 alone", bare)
            .note(format!("{bytes} bytes each, one signer, certificate cached"))
            .sane(0.05..=1.2),
    ];
    let config = json!({"ca": pki.dir().join("ca.crt"), "crl": pki.dir().join("crl.pem")});
    if let Some(python) = crate::peers::python_validate(env, &bodies, &config)? {
        rows.push(
            Row::new(BENCH, "the same, beside fedmsg", ours, "msg/s")
                .beside("fedmsg.crypto.validate()", python)
                .note("one call; fedmsg-hub makes two")
                .sane(0.5..=10_000.0),
        );
    }
    Ok(rows)
}

fn verified(env: &Env, pki: &Pki, bodies: &[Vec<u8>]) -> Result<f64> {
    let verifier = Verifier::open(TrustConfig {
        x509: Some(X509Config { ca: pki.dir().join("ca.crt"), crl: Some(pki.dir().join("crl.pem")) }),
        policy: BTreeMap::from([("org.fedoraproject.prod.fas.**".to_owned(), vec![DEMO_SIGNER.to_owned()])]),
        ..TrustConfig::default()
    });
    let now = Timestamp::now();
    let raw = |body: &Vec<u8>| RawMessage {
        bus: "bench".into(),
        topic: WANTED.into(),
        body: body.clone(),
        received: now,
        token: 0,
        form: Form::Envelope,
    };
    let raws: Vec<_> = bodies.iter().map(raw).collect();
    verifier.verify(&raws[0], now).map_err(|refusal| anyhow!("refused: {refusal}"))?;
    per_second(env, &raws, |raw| verifier.verify(raw, now).is_ok())
}

fn bare(env: &Env, pki: &Pki, bodies: &[Vec<u8>]) -> Result<f64> {
    let (_, key) = signer_and_key(pki.certificate()).map_err(|why| anyhow!(why))?;
    let key = UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, key);
    let pairs = bodies.iter().map(|body| signed_and_signature(body)).collect::<Result<Vec<_>>>()?;
    per_second(env, &pairs, |(signed, signature)| key.verify(signed, signature).is_ok())
}

fn signed_and_signature(body: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let parsed = canonical::parse(body).map_err(|error| anyhow!("{error}"))?;
    let envelope: Value = serde_json::from_slice(body)?;
    let signature = envelope["signature"].as_str().context("no signature")?.replace('\n', "");
    Ok((parsed.encode_without(&["certificate", "signature"], body.len()), STANDARD.decode(signature)?))
}

/// Calls a second, over all items again and again; every call must be true.
fn per_second<T>(env: &Env, items: &[T], call: impl Fn(&T) -> bool) -> Result<f64> {
    let long_enough = Duration::from_millis(if env.short { 200 } else { 3_000 });
    let started = Instant::now();
    let mut calls = 0usize;
    while started.elapsed() < long_enough {
        for item in items {
            anyhow::ensure!(black_box(call(black_box(item))), "a good signature was refused");
        }
        calls += items.len();
    }
    Ok(calls as f64 / started.elapsed().as_secs_f64())
}
