use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::trust::demo_pki::{DEMO_SIGNER, demo_pki};
use crate::trust::sign::{Outgoing, Signer, unsigned_envelope};

fn outgoing(msg: &Value) -> Outgoing<'_> {
    Outgoing { topic: TOPIC, msg, i: 1, msg_id: "2026-x", timestamp_s: 1_790_000_000, username: "root" }
}

#[test]
fn what_we_sign_is_valid_and_in_fedmsgs_form() {
    let signer = Signer::from_pem(text("app.crt").as_bytes(), text("leaf.key").as_bytes()).unwrap();
    assert_eq!(signer.name(), "app.example.org");
    let msg = json!({"é": [1, 2.5, null], "a": "\u{7f}"});
    let wire = signer.envelope(&outgoing(&msg)).unwrap();
    let message = Verifier::open(ca(None)).verify(&raw_bytes(&wire), now()).unwrap().into_inner();
    assert_eq!((message.body, message.id.as_str()), (msg, "2026-x"));
    let parsed: Value = serde_json::from_slice(&wire).unwrap();
    let keys: Vec<&String> = parsed.as_object().unwrap().keys().collect();
    let order = ["certificate", "crypto", "i", "msg", "msg_id", "signature", "timestamp", "topic", "username"];
    assert_eq!(keys, order);
    for field in ["certificate", "signature"] {
        let lines = parsed[field].as_str().unwrap();
        assert!(lines.ends_with('\n') && lines.lines().all(|line| line.len() <= 76), "{field}");
    }
    assert!(wire.is_ascii());
}

#[test]
fn an_unsigned_envelope_is_what_fedmsg_publishes_unsigned() {
    let wire = unsigned_envelope(&outgoing(&json!({"log": "é"})));
    let expected = r#"{"i":1,"msg":{"log":"\u00e9"},"msg_id":"2026-x","timestamp":1790000000,"topic":"org.example.test.user.update","username":"root"}"#;
    assert_eq!(String::from_utf8(wire).unwrap(), expected);
}

#[test]
fn both_forms_of_private_keys_are_read() {
    assert!(Signer::from_pem(text("app.crt").as_bytes(), text("leaf-pkcs1.key").as_bytes()).is_ok());
    assert!(Signer::from_pem(text("old1024.crt").as_bytes(), text("leaf1024.key").as_bytes()).is_ok());
}

#[test]
fn a_key_that_does_not_fit_or_that_everybody_may_read_is_refused() {
    let wrong = |certificate: &str, key: &str| {
        Signer::from_pem(text(certificate).as_bytes(), text(key).as_bytes()).err().unwrap()
    };
    assert!(wrong("app.crt", "ca.key").contains("does not belong"));
    assert!(wrong("app.crt", "app.crt").contains("no private key"));
    assert!(wrong("leaf.key", "leaf.key").contains("no PEM block"));

    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("leaf.key");
    std::fs::copy(data("leaf.key"), &key).unwrap();
    let allow = |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
    allow(0o644);
    let error = Signer::open(&data("app.crt"), &key).err().unwrap();
    assert!(error.contains("every user") && error.contains("hint: chmod o-rwx"), "{error}");
    allow(0o640);
    assert!(Signer::open(&data("app.crt"), &key).is_ok());
}

#[test]
fn the_demo_has_a_whole_pki_of_its_own() {
    let pki = demo_pki(now()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (ca, crl) = (dir.path().join("ca.crt"), dir.path().join("crl.pem"));
    std::fs::write(&ca, &pki.ca_pem).unwrap();
    std::fs::write(&crl, &pki.crl_pem).unwrap();
    let config =
        TrustConfig { x509: Some(X509Config { ca, crl: Some(crl) }), accept_unlisted: true, ..TrustConfig::default() };
    let verifier = Verifier::open(config);
    assert_eq!(verifier.problems(now()), Vec::<String>::new());
    let signer = Signer::from_pem(pki.cert_pem.as_bytes(), pki.key_pem.as_bytes()).unwrap();
    let wire = signer.envelope(&outgoing(&json!({}))).unwrap();
    assert_eq!(verifier.verify(&raw_bytes(&wire), now()).unwrap().get().signer, DEMO_SIGNER);
}
