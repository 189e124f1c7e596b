//! What goes wrong between `koji-owners` and a hub: everything is done once, nothing is lost, and a person is told what to do.

use reactor_tests::koji::{Call, EXPIRED, EXPIRING, Hub, PLAIN, REACTOR};
use serde_json::json;

use super::bomb;
use super::site::{Site, writes};

/// A reason that people read is not longer, in bytes.
const REASON_BYTES_MAX: usize = 4_000;

/// A running site with a warm session, where bash is about to become kevin's in three tags.
fn warm(name: &str) -> Site {
    let mut site = Site::start(name);
    site.owns("ralph", "zsh");
    site.changed_hands_done("zsh");
    site.owns("kevin", "bash");
    site
}

/// bash is kevin's in all tags, and became so once.
fn is_done_once(site: &Site) {
    assert_eq!(site.owners("bash"), ["kevin", "kevin", "kevin"]);
    let times =
        "[sum(row['owner.name'] == 'kevin' for row in s.queryHistory(tag=tag, package='bash')['tag_package_owners'])
        for tag in ('f43', 'f44', 'f45')]";
    assert_eq!(site.hub.ask(None, times), json!([1, 1, 1]));
}

fn multicalls(calls: &[Call]) -> Vec<&Call> {
    calls.iter().filter(|call| call.writes().next().is_some()).collect()
}

#[test]
fn a_hub_that_is_killed_in_mid_multicall_has_done_nothing_and_then_all() {
    let mut site = warm("koji-mid");
    site.hub.trouble("hold", "write", json!({"after": 2}));
    site.changed_hands("bash");
    site.hub.until_held();
    site.hub.kill_9();
    site.until_waits_for("bash", "");
    site.hub.resume();
    site.until("bash", "done", 1);
    is_done_once(&site);
}

#[test]
fn a_daemon_that_is_killed_while_the_hub_writes_finds_it_done() {
    let mut site = warm("koji-daemon");
    site.hub.trouble("hold", "write", json!({"after": 1}));
    site.changed_hands("bash");
    site.hub.until_held();
    site.daemon.take().expect("a daemon").kill_9();
    site.hub.release();
    site.run();
    site.until("bash", "done", 1);
    is_done_once(&site);
}

#[test]
fn what_was_done_and_not_answered_is_done_once() {
    for (kind, more) in [("lose", json!({})), ("cut", json!({"bytes": 60})), ("drop", json!({}))] {
        let mut site = warm("koji-lost");
        site.hub.trouble(kind, "write", more);
        let calls = site.calls_of(|site| site.changed_hands_done("bash"));
        is_done_once(&site);
        let sent = multicalls(&calls);
        assert_eq!((sent.len(), sent[0].trouble.as_deref()), (2, Some(kind)), "{calls:#?}");
        assert_eq!(sent[0].callnum, sent[1].callnum, "{kind}: the same call again, not another one");
    }
}

#[test]
fn a_hub_that_does_not_know_that_it_was_done_does_it_once_all_the_same() {
    let mut site = warm("koji-released");
    site.hub.wish(&json!({"do": "old header", "on": true}));
    site.hub.blocked("f44", "bash", "ralph");
    site.is("bash", json!({"owner": "kevin", "branches": ["f43", "f44", "rawhide"], "retired": []}));
    site.hub.trouble("lose", "write", json!({}));
    site.changed_hands_done("bash");
    is_done_once(&site);
    assert!(!site.hub.entries()["f44"]["bash"].blocked);
}

#[test]
fn a_session_that_is_over_is_opened_again() {
    for (how, code) in [("expire", "1007"), ("close", "1002")] {
        let mut site = warm("koji-session");
        site.hub.wish(&json!({"do": how}));
        let calls = site.calls_of(|site| site.changed_hands_done("bash"));
        is_done_once(&site);
        assert!(
            calls.iter().any(|call| call.fault.as_deref().is_some_and(|fault| fault.starts_with(code))),
            "{calls:#?}"
        );
        assert!(calls.iter().any(|call| call.method == "sslLogin"), "{calls:#?}");
        assert!(site.rows().iter().all(|row| row["tries"].as_u64().unwrap_or(1) <= 1), "{:?}", site.rows());
    }
}

#[test]
fn who_may_not_is_told_what_to_type() {
    let mut site = warm("koji-may");
    site.hub.wish(&json!({"do": "revoke", "user": REACTOR}));
    site.changed_hands("bash");
    site.until("bash", "failed", 1);
    let story = site.story("bash");
    assert!(story.contains("Only admin/tag can do this") && story.contains("koji grant-permission"), "{story}");
    let (code, said) = site.reactor(&["retry", &site.id("bash")]);
    assert_eq!(code, 0, "{said}");
    site.until("bash", "failed", 1);
    site.hub.user(REACTOR, &["tag"]);
    let (code, said) = site.reactor(&["retry", &site.id("bash")]);
    assert_eq!(code, 0, "{said}");
    site.until("bash", "done", 1);
    is_done_once(&site);
}

#[test]
fn an_owner_without_an_account_is_never_somebody_else() {
    let mut site = warm("koji-nobody");
    site.owns("carol", "bash");
    site.changed_hands("bash");
    site.until("bash", "failed", 1);
    let story = site.story("bash");
    assert!(story.contains("carol") && story.contains("account") && story.contains("hint "), "{story}");
    assert_eq!(site.owners("bash"), ["ralph", "ralph", "ralph"]);
    site.hub.user("carol", &[]);
    assert_eq!(site.reactor(&["retry", &site.id("bash")]).0, 0);
    site.until("bash", "done", 1);
    assert_eq!(site.owners("bash"), ["carol", "carol", "carol"]);
}

#[test]
fn only_what_failed_is_sent_again() {
    let mut site = warm("koji-part");
    site.hub.trouble("elements", "write", json!({"code": 1000, "text": "deadlock detected", "first": 2}));
    let calls = site.calls_of(|site| site.changed_hands_done("bash"));
    is_done_once(&site);
    let sent = multicalls(&calls);
    assert_eq!(sent[0].faults, [true, true, false]);
    let again: Vec<&str> = sent[1..].iter().flat_map(|call| call.writes()).collect();
    assert_eq!(again, sent[0].writes().take(2).collect::<Vec<_>>());
}

#[test]
fn an_answer_that_is_none_is_no_answer() {
    let html = "<html><body>".to_owned() + &"down ".repeat(200_000);
    let megabyte = "x".repeat(1_000_000);
    for (kind, of, more, says) in [
        ("answer", "read", json!({"status": 200, "body": bomb()}), ""),
        ("answer", "read", json!({"status": 503, "body": html}), "503"),
        ("answer", "write", json!({"status": 200, "body": html}), ""),
        ("fault", "read", json!({"code": 1014, "text": "database outage"}), "database outage"),
        ("fault", "write", json!({"code": 1014, "text": "database outage"}), "database outage"),
        ("fault", "read", json!({"code": 1000, "text": megabyte}), "xxxx"),
        ("elements", "write", json!({"code": 1000, "text": megabyte, "first": 3}), "xxxx"),
        ("fault", "login", json!({"code": 1002, "text": "no such certificate"}), "no such certificate"),
    ] {
        let mut site = warm("koji-answer");
        let mut more = more;
        more["times"] = json!(1_000);
        if of == "login" {
            site.hub.wish(&json!({"do": "close"}));
        }
        site.hub.trouble(kind, of, more);
        site.changed_hands("bash");
        let reason = site.until_waits_for("bash", says);
        assert!(reason.len() < REASON_BYTES_MAX && reason.contains("localhost"), "{kind} of {of}: {reason:.5000}");
        site.hub.well();
        site.until("bash", "done", 1);
        is_done_once(&site);
    }
}

#[test]
fn reading_needs_no_login_and_writing_does() {
    let mut site = warm("koji-login");
    let calls = site.calls_of(|site| {
        let (code, said) = site.reactor(&["reconcile", "koji", "rules.yaml"]);
        assert!(code == 1 && said.contains("f45: owner of bash"), "{said}");
    });
    assert!(!calls.is_empty() && writes(&calls).is_empty(), "{calls:?}");
    assert!(calls.iter().all(|call| call.user.is_none()), "{calls:?}");
}

#[test]
fn doctor_says_what_is_wrong_before_it_is() {
    for (certificate, wrong) in
        [(REACTOR, None), (EXPIRING, Some("ends")), (EXPIRED, Some("ended")), (PLAIN, Some("koji grant-permission"))]
    {
        let site = Site::new("koji-doctor", |dir| {
            let hub = Hub::start(dir);
            let secrets = json!({"koji": {"file": hub.certificate(certificate)}});
            (hub, json!({"secrets": secrets}))
        });
        let said = site.reactor(&["doctor", "rules.yaml"]).1;
        let mut lines = said.lines().skip_while(|line| !line.contains("handler koji"));
        let failed = lines.any(|line| line.starts_with("FAIL"));
        assert!(failed == wrong.is_some() && said.contains(wrong.unwrap_or("reactor")), "{certificate}:\n{said}");
        println!("{certificate}:\n{said}");
    }
}
