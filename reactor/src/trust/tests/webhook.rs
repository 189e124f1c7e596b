//! Messages that are posted: who knows the secret is believed, as each kind of sender shows it. The signatures are those of the
//! senders' own documentation, or were made with Python's `hmac`.

use std::sync::Arc;

use super::*;
use crate::rules::template::Template;
use crate::trust::webhook::{Bearer, Delivery, Signature, TIMESTAMP_SECONDS_MAX, Unfit, WebhookConfig};

/// The secret of GitHub's documentation ("Validating webhook deliveries").
const SECRET: &str = "It's a Secret to Everybody";
const BODY: &[u8] = br#"{"action":"opened","n":1}"#;
/// `hmac.new(SECRET, BODY, "sha256").hexdigest()`
const HEX: &str = "727d25fc651bb6485e735d9fc9f3ce9dae7074e5bd7b79f9114614f7d49ea85c";
/// The example of standardwebhooks.com, of another body.
const STANDARD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const STANDARD_ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const STANDARD_SECONDS: i64 = 1_614_265_330;

struct Hook {
    dir: tempfile::TempDir,
    signature: Signature,
    id: Option<&'static str>,
    topic: &'static str,
    trust: TrustConfig,
}

fn hook(signature: Signature, secrets: &[&str]) -> Hook {
    let dir = tempfile::tempdir().unwrap();
    for (n, secret) in secrets.iter().enumerate() {
        std::fs::write(dir.path().join(n.to_string()), format!("{secret}\n")).unwrap();
    }
    let trust = TrustConfig { accept_unlisted: true, ..TrustConfig::default() };
    Hook { dir, signature, id: None, topic: "forge.{{msg.action}}", trust }
}

impl Hook {
    fn verifier(&self) -> Verifier {
        let mut secrets: Vec<PathBuf> =
            std::fs::read_dir(self.dir.path()).unwrap().map(|at| at.unwrap().path()).collect();
        secrets.sort();
        let config = WebhookConfig {
            path: "/hook".into(),
            secrets,
            signature: self.signature,
            topic: Template::parse(self.topic).unwrap(),
            id: self.id.map(|id| Template::parse(id).unwrap()),
            body_bytes_max: 1_000,
        };
        Verifier::open(self.trust.clone()).with_webhook("forge".into(), Arc::new(config))
    }

    fn judge(&self, headers: &[(&str, &str)], body: &[u8]) -> Result<Message, Unfit> {
        self.judge_at(headers, body, now())
    }

    fn judge_at(&self, headers: &[(&str, &str)], body: &[u8], now: Timestamp) -> Result<Message, Unfit> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let delivery = Delivery { headers, body: body.to_vec(), received: now, number: 7 };
        self.verifier().webhook(&delivery, now).map(super::super::Verified::into_inner)
    }
}

#[track_caller]
fn stranger(judged: Result<Message, Unfit>, why: &str) {
    let Err(Unfit::Stranger(refusal)) = judged else { panic!("{judged:?}") };
    assert!(refusal.reason.contains(why) && refusal.signer.is_none(), "{refusal}");
}

#[test]
fn github_and_forgejo_sign_the_body() {
    let signed = format!("sha256={HEX}");
    let github = hook(Signature::Github, &[SECRET]);
    let headers = [("x-hub-signature-256", &*signed), ("x-github-delivery", "d-1"), ("x-github-event", "issues")];
    let message = github.judge(&headers, BODY).unwrap();
    assert_eq!((message.id.as_str(), message.topic.as_str()), ("webhook:forge:d-1", "forge.opened"));
    assert_eq!((message.signer.as_str(), &*message.bus, message.sent), ("webhook:forge", "forge", now()));
    assert_eq!(message.body, json!({"action": "opened", "n": 1}));
    assert_eq!(message.headers["x-github-event"], "issues");

    stranger(github.judge(&headers, br#"{"action":"closed","n":1}"#), "does not fit the body");
    stranger(github.judge(&headers[1..], BODY), "no header x-hub-signature-256");
    for broken in ["", "sha256=", "sha256=zz", &signed[..70], &format!("{signed}00")] {
        stranger(github.judge(&[("x-hub-signature-256", broken)], BODY), "X-Hub-Signature-256");
    }
    // The example of GitHub's documentation; what it signs is no JSON, which is found out only after its signature is good.
    let documented = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let judged = github.judge(&[("x-hub-signature-256", documented)], b"Hello, World!");
    assert!(matches!(judged, Err(Unfit::Content(_))), "{judged:?}");
    stranger(github.judge(&[("x-hub-signature-256", documented)], b"Hello, World?"), "does not fit the body");

    let forgejo = hook(Signature::Forgejo, &[SECRET]);
    for name in ["x-forgejo-signature", "x-gitea-signature"] {
        assert!(forgejo.judge(&[(name, HEX)], BODY).is_ok(), "{name}");
    }
    let both = [("x-forgejo-signature", "00"), ("x-gitea-signature", HEX)];
    stranger(forgejo.judge(&both, BODY), "does not fit");
}

#[test]
fn gitlab_signs_id_and_time_where_the_secret_is_of_that_kind() {
    let body = br#"{"test": 2432232314}"#;
    let gitlab = Hook { topic: "gitlab.push", ..hook(Signature::Gitlab, &[STANDARD_SECRET]) };
    let seconds = STANDARD_SECONDS.to_string();
    // Another version's signature, one of another secret, the right one.
    let tags = "v1a,AAAA v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    let headers = [("webhook-id", STANDARD_ID), ("webhook-timestamp", &*seconds), ("webhook-signature", tags)];
    let then = Timestamp::from_second(STANDARD_SECONDS).unwrap();
    let message = gitlab.judge_at(&headers, body, then).unwrap();
    assert_eq!(message.id, format!("webhook:forge:{STANDARD_ID}"));
    let late = Timestamp::from_second(STANDARD_SECONDS + TIMESTAMP_SECONDS_MAX + 1).unwrap();
    stranger(gitlab.judge_at(&headers, body, late), "300 s");
    let other_id = [("webhook-id", "msg_other"), headers[1], headers[2]];
    stranger(gitlab.judge_at(&other_id, body, then), "does not fit the body, its id and its time");
    stranger(gitlab.judge_at(&[("x-gitlab-token", STANDARD_SECRET)], body, then), "webhook-signature");

    let older = Hook { topic: "gitlab.push", ..hook(Signature::Gitlab, &[SECRET, STANDARD_SECRET]) };
    assert!(older.judge_at(&headers, body, then).is_ok(), "while one moves to the newer kind");
    assert!(older.judge(&[("x-gitlab-token", SECRET)], body).is_ok());
    stranger(older.judge(&[("x-gitlab-token", "It's a Secret to Everybod")], body), "is not the secret");
}

#[test]
fn a_token_is_the_secret_itself() {
    let token = hook(Signature::Token, &[SECRET]);
    let bearer = format!("Bearer {SECRET}");
    let message = token.judge(&[("authorization", &*bearer), ("idempotency-key", "k")], BODY).unwrap();
    assert_eq!((message.id.as_str(), message.headers.len()), ("webhook:forge:k", 1), "the token is not kept");
    assert!(token.judge(&[("authorization", &*format!("bearer  {SECRET} "))], BODY).is_ok());
    stranger(token.judge(&[("authorization", "Bearer wrong-wrong-wrong")], BODY), "is not the secret");
    stranger(token.judge(&[("authorization", "Basic dXNlcjpwYXNz")], BODY), "Bearer TOKEN");
    stranger(token.judge(&[("authorization", "Bearer ")], BODY), "is not the secret");
    let bearer = Bearer::open(token.dir.path().join("0"));
    assert!(bearer.check(Some(&format!("Bearer {SECRET}")), now()).is_ok() && bearer.check(None, now()).is_err());
}

#[test]
fn two_secrets_are_good_at_once_and_a_bad_file_believes_nobody() {
    let two = hook(Signature::Token, &["the-new-one-is-long-enough", SECRET]);
    for secret in ["the-new-one-is-long-enough", SECRET] {
        assert!(two.judge(&[("authorization", &format!("Bearer {secret}"))], BODY).is_ok());
    }
    let empty = hook(Signature::Token, &[""]);
    stranger(empty.judge(&[("authorization", "Bearer ")], BODY), "no secret can be read");
    assert!(empty.verifier().problems(now())[0].contains("at least 16 bytes"));
    let gone = hook(Signature::Github, &[SECRET]);
    let verifier = gone.verifier();
    std::fs::remove_file(gone.dir.path().join("0")).unwrap();
    let later = Timestamp::from_second(now().as_second() + 10).unwrap();
    assert!(verifier.problems(later)[0].contains("can't be read"));
    let bad = hook(Signature::Gitlab, &["whsec_no-base64-at-all!"]);
    assert!(bad.verifier().problems(now())[0].contains("base64"));
}

#[test]
fn the_policy_says_which_topics_its_holder_may_use() {
    let mut github = hook(Signature::Forgejo, &[SECRET]);
    github.trust.accept_unlisted = false;
    github.trust.policy = [("forge.opened".to_owned(), vec!["webhook:forge".to_owned()])].into();
    assert!(github.judge(&[("x-gitea-signature", HEX)], BODY).is_ok());
    github.topic = "other.{{msg.action}}";
    let judged = github.judge(&[("x-gitea-signature", HEX)], BODY);
    assert!(
        matches!(&judged, Err(Unfit::NotAllowed(why)) if why.signer.as_deref() == Some("webhook:forge")),
        "{judged:?}"
    );
}

#[test]
fn what_can_be_no_message_says_why() {
    let bearer = [("authorization", &*format!("Bearer {SECRET}"))];
    let content = |topic, body: &[u8], why: &str| {
        let token = Hook { topic, ..hook(Signature::Token, &[SECRET]) };
        match token.judge(&bearer, body) {
            Err(Unfit::Content(refusal)) => assert!(refusal.reason.contains(why), "{refusal}"),
            other => panic!("{topic}: {other:?}"),
        }
    };
    content("a", b"not json", "the body is");
    content("a", b"[1]", "not a JSON object");
    content("a", br#"{"a": NaN}"#, "NaN");
    content("a", "[".repeat(100_000).as_bytes(), "the body is");
    content("forge.{{msg.nothing}}", b"{}", "its topic can't be made: msg has no `nothing`");
    content("forge.{{headers.x-github-event}}", b"{}", "its topic can't be made");
    content("{{msg.t}}", br#"{"t": "a b"}"#, "white space");
    content("{{msg.t}}", br#"{"t": "a..b"}"#, "empty word");
    content("{{msg.t}}", br#"{"t": "reactor.reaction.done"}"#, "reactor's own");
}

#[test]
fn ids_belong_to_their_bus_and_fit() {
    let bearer = ("authorization", &*format!("Bearer {SECRET}"));
    let id = |template, headers: &[(&str, &str)]| {
        let token = Hook { id: template, ..hook(Signature::Token, &[SECRET]) };
        token.judge(&[&[bearer], headers].concat(), BODY).unwrap().id
    };
    assert_eq!(id(Some("compose-{{msg.n}}"), &[]), "webhook:forge:compose-1");
    let long = "k".repeat(1_000);
    let hashed = id(None, &[("idempotency-key", &long)]);
    assert!(hashed.starts_with("webhook:forge:sha256-") && hashed.len() < 100, "{hashed}");
    assert_eq!(hashed, id(None, &[("idempotency-key", &long)]), "the same every time");
    assert!(id(None, &[]).starts_with("webhook:forge:sha256-"));
    assert!(id(None, &[("idempotency-key", "")]).starts_with("webhook:forge:sha256-"));
}

#[test]
fn a_form_has_its_json_under_payload() {
    let token = hook(Signature::Token, &[SECRET]);
    let bearer = ("authorization", &*format!("Bearer {SECRET}"));
    let form = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
    let message = token.judge(&[bearer, form], b"x=1&payload=%7B%22action%22%3A+%22opened%22%7D").unwrap();
    assert_eq!(message.body, json!({"action": "opened"}));
    let judged = token.judge(&[bearer, form], BODY);
    assert!(matches!(&judged, Err(Unfit::Content(why)) if why.reason.contains("payload")), "{judged:?}");
}

#[test]
fn headers_that_may_hold_a_secret_or_an_address_are_not_kept() {
    let headers = [
        ("authorization", &*format!("Bearer {SECRET}")),
        ("x-gitlab-token", "t"),
        ("x-hub-signature-256", "s"),
        ("cookie", "c"),
        ("x-api-key", "k"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-auth-user", "u"),
        ("accept", "a"),
        ("x-gitlab-event", "Push Hook"),
        ("x-large", &"l".repeat(2_000)),
    ];
    let message = hook(Signature::Token, &[SECRET]).judge(&headers, BODY).unwrap();
    assert_eq!(message.headers.keys().collect::<Vec<_>>(), ["x-gitlab-event"]);
}
