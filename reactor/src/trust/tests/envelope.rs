use super::*;
use crate::message::BODY_BYTES_MAX;
use crate::trust::canonical::VALUE_DEPTH_MAX;
use crate::trust::signature_alone;

fn resigned(change: impl FnOnce(&mut Value)) -> Value {
    let mut fields = body();
    fields["crypto"] = "x509".into();
    change(&mut fields);
    signed_with(fields, &text("app.crt"), "leaf.key")
}

fn verdict(config: TrustConfig, body: &[u8]) -> Result<Message, Refusal> {
    Verifier::open(config).verify(&raw_bytes(body), now()).map(crate::trust::Verified::into_inner)
}

#[test]
fn the_body_is_re_encoded_before_the_signature_is_checked() {
    let compact = by_app().to_string();
    let respaced = serde_json::to_string_pretty(&by_app()).unwrap();
    assert_ne!(compact, respaced);
    assert!(verdict(ca(None), respaced.as_bytes()).is_ok());
}

#[test]
fn of_a_key_that_stands_twice_the_signed_one_is_acted_on() {
    let good = by_app().to_string();
    let forged_first = good.replacen('{', r#"{"msg":{"user":"eve"},"#, 1);
    assert_eq!(verdict(ca(None), forged_first.as_bytes()).unwrap().body, json!({"user": "ralph"}));
    let forged_last = format!(r#"{},"msg":{{"user":"eve"}}}}"#, good.trim_end_matches('}'));
    assert!(verdict(ca(None), forged_last.as_bytes()).unwrap_err().reason.contains("does not fit"));
}

#[test]
fn what_is_no_envelope_is_refused() {
    for (body, why) in [
        (&b""[..], "not JSON"),
        (b"hello", "not JSON"),
        (b"\xef\xbb\xbf{}", "byte-order mark"),
        (b"{\"topic\":\"\xff\"}", "invalid UTF-8"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{}", "has no topic"),
        (br#"{"topic":1}"#, "is not text"),
        (br#"{"topic":["a"]}"#, "is not text"),
        (br#"{"topic":"\ud800"}"#, "is not text"),
        (br#"{"topic":""}"#, "the topic is empty"),
        (br#"{"topic":"a b"}"#, "white space"),
        (br#"{"topic":"org.example.other"}"#, "but it was sent as"),
    ] {
        let refusal = verdict(ca(None), body).unwrap_err();
        assert!(refusal.reason.contains(why), "{refusal}");
    }
    let large = vec![b' '; BODY_BYTES_MAX + 1];
    assert!(verdict(ca(None), &large).unwrap_err().reason.contains("bytes"));
}

#[test]
fn no_bus_brings_in_reactors_own_topics() {
    let mut message = raw(&resigned(|fields| fields["topic"] = "reactor.reaction.done".into()));
    message.topic = "reactor.reaction.done".into();
    let refusal = Verifier::open(ca(None)).verify(&message, now()).unwrap_err();
    assert!(refusal.reason.contains("reactor's own topics"));
}

#[test]
fn the_crypto_field_is_x509_or_gpg_or_from_before_it_existed() {
    let legacy = resigned(|fields| drop(fields.as_object_mut().unwrap().remove("crypto")));
    assert!(verify(ca(None), &legacy).is_ok());
    for crypto in [json!(null), json!("X509"), json!(""), json!(["x509"]), json!({}), json!(1)] {
        refused(ca(None), &resigned(|fields| fields["crypto"] = crypto), "neither");
    }
    let mut removed = by_app();
    removed.as_object_mut().unwrap().remove("crypto");
    refused(ca(None), &removed, "does not fit");
}

#[test]
fn signature_and_certificate_have_to_be_there_and_base64() {
    for (field, value, why) in [
        ("signature", json!(null), "signature of the message is not text"),
        ("signature", json!(5), "signature of the message is not text"),
        ("signature", json!(["x"]), "signature of the message is not text"),
        ("signature", json!("abcde"), "wrong padding"),
        ("signature", json!("é"), "not ASCII"),
        ("certificate", json!(null), "certificate of the message is not text"),
        ("certificate", json!({}), "certificate of the message is not text"),
        ("certificate", json!("abcde"), "wrong padding"),
    ] {
        let mut message = by_app();
        message[field] = value;
        refused(ca(None), &message, why);
    }
    for field in ["signature", "certificate"] {
        let mut message = by_app();
        message.as_object_mut().unwrap().remove(field);
        refused(ca(None), &message, &format!("has no {field}"));
    }
}

#[test]
fn unsigned_messages_are_refused_unless_the_site_says_otherwise() {
    refused(ca(None), &body(), "carries no signature");
    let open = TrustConfig { accept_unsigned: true, ..ca(None) };
    assert_eq!(verify(open.clone(), &body()).unwrap().signer, "unsigned");
    let mut broken = by_app();
    broken["msg"] = json!({});
    refused(open.clone(), &broken, "does not fit");
    broken.as_object_mut().unwrap().remove("certificate");
    refused(open.clone(), &broken, "has no certificate");

    let mut listed = TrustConfig { accept_unlisted: false, ..open };
    refused(listed.clone(), &body(), "does not list");
    listed.policy.insert(TOPIC.into(), vec!["app.example.org".into()]);
    refused(listed.clone(), &body(), "does not let unsigned say");
    listed.policy.insert(TOPIC.into(), vec!["unsigned".into()]);
    assert!(verify(listed, &body()).is_ok());
}

#[test]
fn a_message_without_a_usable_id_or_time_gets_them() {
    let odd = resigned(|fields| {
        fields["msg_id"] = "x".repeat(256).into();
        fields["timestamp"] = "yesterday".into();
    });
    let message = verify(ca(None), &odd).unwrap();
    assert!(message.id.starts_with("sha256-") && message.id.len() == 71);
    assert_eq!(message.sent, now());
    let datagrepper = resigned(|fields| fields["timestamp"] = json!(1504643075.5));
    assert_eq!(verify(ca(None), &datagrepper).unwrap().sent.as_millisecond(), 1_504_643_075_500);
    let far = resigned(|fields| fields["timestamp"] = json!(1e300));
    assert_eq!(verify(ca(None), &far).unwrap().sent, now());
}

#[test]
fn signed_headers_come_with_the_message() {
    let message = verify(ca(None), &resigned(|fields| fields["headers"] = json!({"x": "y"}))).unwrap();
    assert_eq!(Value::Object(message.headers), json!({"x": "y"}));
}

#[test]
fn a_body_too_deep_for_what_comes_after_is_refused() {
    let nested = |levels| (1..levels).fold(json!([]), |inner, _| json!([inner]));
    assert!(verify(ca(None), &resigned(|fields| fields["msg"] = nested(VALUE_DEPTH_MAX))).is_ok());
    refused(ca(None), &resigned(|fields| fields["msg"] = nested(VALUE_DEPTH_MAX + 1)), "nests deeper");
}

#[test]
fn the_signature_alone_can_be_checked() {
    assert_eq!(signature_alone(signed("wrongca.crt", "leaf.key").to_string().as_bytes()).unwrap(), "app.example.org");
    let mut changed = by_app();
    changed["i"] = 9.into();
    assert!(signature_alone(changed.to_string().as_bytes()).is_err());
    assert!(signature_alone(body().to_string().as_bytes()).unwrap_err().reason.contains("no certificate"));
}
