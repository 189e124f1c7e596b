use super::*;

fn fingerprint(who: &str) -> String {
    text(&format!("{who}.fpr")).trim().to_owned()
}

#[test]
fn a_good_key_signs_and_its_fingerprint_is_the_signer() {
    assert_eq!(verify(keyring(), &by_gpg("good.sig")).unwrap().signer, fingerprint("good"));
    let mut binary = keyring();
    binary.gpg_keys = Some(vec![data("good.pub.gpg")]);
    assert!(verify(binary, &by_gpg("good.sig")).is_ok());
}

#[test]
fn a_bound_subkey_signs_for_its_primary_key() {
    assert_eq!(verify(keyring(), &by_gpg("subkey.sig")).unwrap().signer, fingerprint("subkey"));
}

#[test]
fn keys_that_do_not_hold_are_refused() {
    for (signature, why) in [("revoked.sig", "has been revoked"), ("expired.sig", "has expired on 2020-12-31")] {
        let refusal = refused(keyring(), &by_gpg(signature), why);
        assert_eq!(refusal.signer, Some(fingerprint(signature.trim_end_matches(".sig"))));
    }
    refused(keyring(), &by_gpg("stranger.sig"), "no key in the key files made the signature");
    let mut unrevoked = keyring();
    unrevoked.gpg_keys = Some(vec![data("revoked.pub.asc")]);
    assert!(verify(unrevoked, &by_gpg("revoked.sig")).is_ok(), "it is the revocation certificate that counts");
    let early = Verifier::open(keyring()).verify(&raw(&by_gpg("good.sig")), at("2019-12-31T00:00:00Z"));
    assert!(early.unwrap_err().reason.contains("not valid yet"));
    assert_eq!(Verifier::open(keyring()).problems(now()).len(), 2, "both are said");
}

#[test]
fn a_signature_is_one_strong_binary_packet_over_the_payload() {
    let mut changed = by_gpg("good.sig");
    changed["msg"] = json!({"n": 2});
    refused(keyring(), &changed, "or the message was changed");
    refused(keyring(), &by_gpg("good-sha1.sig"), "too weak");
    let good = std::fs::read(data("good.sig")).unwrap();
    for wrong in [
        &b""[..],
        b"hello",
        &good[..good.len() - 1],
        &[&good[..], &good[..]].concat(),
        &std::fs::read(data("good.pub.gpg")).unwrap(),
    ] {
        let mut message = by_gpg("good.sig");
        message["signature"] = STANDARD.encode(wrong).into();
        assert!(verify(keyring(), &message).is_err());
    }
    let mut no_payload = by_gpg("good.sig");
    no_payload.as_object_mut().unwrap().remove("msg");
    refused(keyring(), &no_payload, "no msg");
}

#[test]
fn what_gpg_does_not_sign_is_not_believed() {
    let first = verify(keyring(), &by_gpg("good.sig")).unwrap();
    let mut replayed = by_gpg("good.sig");
    replayed["msg_id"] = "another".into();
    replayed["timestamp"] = 5.into();
    replayed["headers"] = json!({"x": 1});
    let again = verify(keyring(), &replayed).unwrap();
    assert_eq!(again.id, first.id, "the same content under another id is the same message");
    assert!(first.id.starts_with("gpg-"));
    assert_eq!((again.sent, again.headers.len()), (now(), 0));
    replayed["topic"] = "org.example.test.other".into();
    let mut elsewhere = raw(&replayed);
    elsewhere.topic = "org.example.test.other".into();
    let moved = Verifier::open(keyring()).verify(&elsewhere, now()).unwrap().into_inner();
    assert_ne!(moved.id, first.id);
}

#[test]
fn the_policy_holds_for_gpg_too() {
    let mut config = keyring();
    config.policy.insert(TOPIC.into(), vec![fingerprint("subkey").to_lowercase()]);
    refused(config.clone(), &by_gpg("good.sig"), "does not let");
    assert!(verify(config, &by_gpg("subkey.sig")).is_ok());
}

#[test]
fn a_key_file_that_can_not_be_read_refuses_everything_and_says_so() {
    for (file, why) in [
        ("no-such-file", "can't be read"),
        ("good.fpr", "holds no OpenPGP key"),
        ("good.sig", "hold no key"),
        ("revoked.rev.asc", "hold no key"),
    ] {
        let mut config = keyring();
        config.gpg_keys = Some(vec![data(file)]);
        refused(config.clone(), &by_gpg("good.sig"), why);
        assert_eq!(Verifier::open(config).problems(now()).len(), 1, "{file}");
    }
}

#[test]
fn where_both_kinds_are_accepted_the_message_says_which_it_is() {
    let both = TrustConfig { gpg_keys: keyring().gpg_keys, ..ca(None) };
    assert!(verify(both.clone(), &by_gpg("good.sig")).is_ok());
    assert!(verify(both.clone(), &by_app()).is_ok());
    let mut downgraded = by_app();
    downgraded["crypto"] = "gpg".into();
    assert!(verify(both, &downgraded).is_err());
    refused(keyring(), &by_app(), "x509), which the trust block does not accept");
    refused(ca(None), &by_gpg("good.sig"), "gpg, which the trust block does not accept");
}
