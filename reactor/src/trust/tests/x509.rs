use super::*;
use crate::trust::RELOAD_CHECK_SECONDS;

#[test]
fn a_message_signed_by_a_certificate_of_the_ca_is_valid() {
    let message = verify(ca(Some("crl.pem")), &by_app()).unwrap();
    assert_eq!((message.signer.as_str(), message.id.as_str()), ("app.example.org", "2026-1"));
    assert_eq!((message.body, message.sent.as_second()), (json!({"user": "ralph"}), 1_790_000_000));
    assert_eq!(verify(ca(None), &signed("old1024.crt", "leaf1024.key")).unwrap().signer, "old.example.org");
    assert_eq!(verify(ca(None), &signed("twocn.crt", "leaf.key")).unwrap().signer, "first.example.org");
    assert_eq!(verify(ca(None), &signed("ca.crt", "ca.key")).unwrap().signer, "test ca");
}

#[test]
fn a_certificate_that_the_ca_did_not_issue_or_that_does_not_hold_is_refused() {
    for (certificate, key, why) in [
        ("wrongca.crt", "leaf.key", "not signed by it"),
        ("selfsigned.crt", "leaf.key", "which is not the CA"),
        ("under-intermediate.crt", "leaf.key", "which is not the CA"),
        ("under-leaf.crt", "leaf.key", "which is not the CA"),
        ("md5.crt", "leaf.key", "not signed by it"),
        ("expired.crt", "leaf.key", "has expired on 2021-01-01"),
        ("future.crt", "leaf.key", "valid only from 2100-01-01"),
        ("revoked.crt", "leaf.key", "has been revoked"),
    ] {
        let refusal = refused(ca(Some("crl.pem")), &signed(certificate, key), why);
        assert!(refusal.reason.starts_with("the signature itself is good, but "), "{refusal}");
        assert!(refusal.signer.is_some());
    }
    for (certificate, why) in [
        ("nocn.crt", "no CN"),
        ("ec.crt", "not RSA"),
        ("strange.crt", "critical extension that is not known here (1.2.3.4.5)"),
        ("reserved.crt", "reserved"),
    ] {
        assert_eq!(refused(ca(None), &signed(certificate, "leaf.key"), why).signer, None);
    }
}

#[test]
fn an_intermediate_is_no_root() {
    let mut config = ca(None);
    config.x509.as_mut().unwrap().ca = data("intermediate.crt");
    refused(config.clone(), &signed("under-intermediate.crt", "leaf.key"), "no self-signed CA certificate");
    refused(config.clone(), &by_app(), "no self-signed CA certificate");
    assert_eq!(Verifier::open(config).problems(now()).len(), 1);
}

#[test]
fn several_roots_may_stand_in_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("ca.pem");
    std::fs::write(&bundle, ["otherca.crt", "intermediate.crt", "ca-expired.crt", "ca.crt"].map(text).concat())
        .unwrap();
    let mut config = ca(None);
    config.x509.as_mut().unwrap().ca = bundle;
    assert!(verify(config.clone(), &by_app()).is_ok(), "renewed with the same key: the one that holds counts");
    assert!(verify(config.clone(), &signed("wrongca.crt", "leaf.key")).is_ok());
    refused(config, &signed("under-intermediate.crt", "leaf.key"), "which is not the CA");
}

#[test]
fn every_kind_of_revocation_list_counts() {
    for crl in ["crl.pem", "crl-v1.pem", "crl-v1-md5.pem"] {
        assert!(verify(ca(Some(crl)), &by_app()).is_ok(), "{crl}");
        refused(ca(Some(crl)), &signed("revoked.crt", "leaf.key"), "has been revoked");
    }
    assert!(verify(ca(None), &signed("revoked.crt", "leaf.key")).is_ok(), "none is configured");
}

#[test]
fn a_revocation_list_that_does_not_hold_refuses_everything_and_says_so() {
    for (crl, why) in [
        ("crl-expired.pem", "has expired on 2021-01-01"),
        ("crl-otherca.pem", "holds no list that test ca signed"),
        ("no-such-file.pem", "can't be read: No such file"),
        ("ca.crt", "holds no list"),
    ] {
        refused(ca(Some(crl)), &by_app(), why);
        let problems = Verifier::open(ca(Some(crl))).problems(now());
        assert!(matches!(&problems[..], [one] if one.contains(why)), "{problems:?}");
    }
    let early = Verifier::open(ca(Some("crl.pem"))).verify(&raw(&by_app()), at("2019-12-31T23:59:59Z"));
    assert!(early.unwrap_err().reason.contains("valid only from 2020-01-01"));
}

#[test]
fn a_ca_that_does_not_hold_refuses_everything_and_says_so() {
    for (file, why) in [
        ("ca-expired.crt", "has expired on 2021-01-01"),
        ("no-such-file", "can't be read"),
        ("leaf.key", "no self-signed"),
    ] {
        let mut config = ca(None);
        config.x509.as_mut().unwrap().ca = data(file);
        refused(config.clone(), &by_app(), why);
        assert_eq!(Verifier::open(config).problems(now()).len(), 1, "{file}");
    }
    assert_eq!(Verifier::open(ca(Some("crl.pem"))).problems(now()), Vec::<String>::new());
}

#[test]
fn time_is_looked_at_for_each_message_also_of_a_known_certificate() {
    let verifier = Verifier::open(ca(Some("crl.pem")));
    let message = raw(&by_app());
    assert!(verifier.verify(&message, now()).is_ok());
    assert!(verifier.verify(&message, at("2120-01-01T00:00:00Z")).unwrap_err().reason.contains("has expired"));
    assert!(verifier.verify(&message, now()).is_ok());
}

#[test]
fn a_new_revocation_list_counts_within_seconds_also_for_a_known_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let crl = dir.path().join("crl.pem");
    std::fs::copy(data("crl-empty.pem"), &crl).unwrap();
    let mut config = ca(None);
    config.x509.as_mut().unwrap().crl = Some(crl.clone());
    let verifier = Verifier::open(config);
    let message = raw(&signed("revoked.crt", "leaf.key"));
    let later = |checks: i64| now() + jiff::SignedDuration::from_secs(RELOAD_CHECK_SECONDS * checks);
    assert!(verifier.verify(&message, later(0)).is_ok());
    std::fs::copy(data("crl.pem"), &crl).unwrap();
    assert!(verifier.verify(&message, later(1)).unwrap_err().reason.contains("has been revoked"));
    std::fs::remove_file(&crl).unwrap();
    assert!(verifier.verify(&message, later(2)).unwrap_err().reason.contains("can't be read"));
    std::fs::copy(data("crl-empty.pem"), &crl).unwrap();
    assert!(verifier.verify(&message, later(3)).is_ok());
}

#[test]
fn what_was_changed_after_signing_is_refused() {
    for (field, value) in [
        ("msg", json!({"user": "eve"})),
        ("timestamp", json!(1)),
        ("msg_id", json!("other")),
        ("i", json!(2)),
        ("seq_id", json!(7)),
        ("headers", json!({})),
    ] {
        let mut changed = by_app();
        changed[field] = value;
        refused(ca(None), &changed, "the signature does not fit the message");
    }
    let mut swapped = by_app();
    swapped["certificate"] = base64_lines(text("old1024.crt").as_bytes()).into();
    refused(ca(None), &swapped, "the signature does not fit");
}

#[test]
fn the_signature_has_to_be_of_the_length_of_the_key() {
    let signature = crate::trust::encoding::python_base64(by_app()["signature"].as_str().unwrap()).unwrap();
    let longer = [&[0], &signature[..]].concat();
    for wrong in [&signature[..255], &signature[1..], &longer, b""] {
        let mut message = by_app();
        message["signature"] = base64_lines(wrong).into();
        refused(ca(None), &message, "the signature does not fit");
    }
}

#[test]
fn the_first_pem_block_counts_whatever_is_around_it() {
    let app = text("app.crt");
    let mut fields = body();
    fields["crypto"] = "x509".into();
    let good = [
        app.clone(),
        app.replace('\n', "\r\n"),
        format!("Certificate:\n    Data: x\n{app}"),
        app.clone() + &text("other.crt"),
        app.trim_end().to_owned(),
    ];
    for certificate in good {
        let message = verify(ca(None), &signed_with(fields.clone(), &certificate, "leaf.key")).unwrap();
        assert_eq!(message.signer, "app.example.org");
    }
    let mut junk = by_app();
    junk["certificate"] = junk["certificate"].as_str().unwrap().replace('\n', "-\n*").into();
    assert!(verify(ca(None), &junk).is_ok(), "Python's base64 skips what is not in its alphabet");
    for (certificate, why) in [
        ("", "no PEM block"),
        ("hello", "no PEM block"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "can't be read"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n", "has no end"),
    ] {
        refused(ca(None), &signed_with(fields.clone(), certificate, "leaf.key"), why);
    }
}

#[test]
fn the_policy_is_asked_after_the_signature() {
    let mut config = ca(None);
    config.accept_unlisted = false;
    assert_eq!(refused(config.clone(), &by_app(), "does not list").signer.as_deref(), Some("app.example.org"));
    config.policy.insert("org.example.**".into(), vec!["app.example.org".into()]);
    assert!(verify(config.clone(), &by_app()).is_ok());
    config.policy.insert(TOPIC.into(), vec!["other.example.org".into()]);
    refused(config.clone(), &by_app(), "does not let app.example.org say");
    assert!(verify(config, &signed("other.crt", "leaf.key")).is_ok());
}
