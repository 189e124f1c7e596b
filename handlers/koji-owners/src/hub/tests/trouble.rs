//! Lost answers, sessions that end, faults by the thousand, and answers that are none.

use super::*;

/// The verdicts as `ok`, `retry` or `permanent`.
fn told(verdicts: &[Verdict]) -> Vec<&'static str> {
    let word = |verdict: &Verdict| match verdict {
        Ok(()) => "ok",
        Err(Failure::Retry { .. }) => "retry",
        Err(Failure::Permanent { .. }) => "permanent",
    };
    verdicts.iter().map(word).collect()
}

fn two() -> [Write; 2] {
    [set_owner("bash", "bob"), set_owner("zsh", "bob")]
}

/// What a look after two writes finds: the first is done.
fn first_is_done() -> Act {
    say(vec![one(row("bash", "bob", false)), one(row("zsh", "alice", false))])
}

fn expired() -> Act {
    Act::Fault(1007, "session \"1\" has expired".into())
}

#[tokio::test]
async fn each_of_many_is_judged_by_itself() {
    let answers = (0..WRITES_PER_CALL).map(|at| match at % 4 {
        0 => done(),
        1 => fault(1000, "No such user: 'nobody'"),
        2 => fault(1000, "package p is blocked in tag f-test"),
        _ => fault(1004, "policy violation (package_list): Only admin/tag can do this via default policy"),
    });
    let stub = Stub::start(vec![say(answers.collect())]).await;
    let writes: Vec<Write> = (0..WRITES_PER_CALL).map(|at| set_owner(&format!("p{at}"), "nobody")).collect();
    let verdicts = stub.hub.write(&writes).await.unwrap();
    assert_eq!(told(&verdicts), ["ok", "permanent", "retry", "permanent"].repeat(WRITES_PER_CALL / 4));
    let unknown = verdicts[1].as_ref().unwrap_err();
    assert!(unknown.message().contains("f-test: nobody as owner of p1: Koji says \"No such user: 'nobody'\" (1000)"));
    assert_eq!(unknown.hint(), Some("let nobody log in to Koji once, then: reactor retry ID"));
}

#[tokio::test]
async fn the_recorded_partial_multicall_has_its_verdicts() {
    let Some(text) = recorded("060.res") else { return };
    let answer = Act::Raw(200, "text/xml", parts(&text).1.to_owned());
    let stub = Stub::start(vec![answer]).await;
    let writes = [set_owner("bash", "alice"), set_owner("bash", "nobody")];
    assert_eq!(told(&stub.hub.write(&writes).await.unwrap()), ["ok", "permanent"]);
    if let Some((method, params)) = recorded_call(60) {
        assert_eq!((method, params), (stub.asked()[1].method.clone(), stub.asked()[1].params.clone()));
    }
}

#[tokio::test]
async fn a_thousand_faults_of_a_look_are_one_short_failure() {
    let answers = (0..READS_PER_CALL).map(|_| fault(1000, &"x".repeat(1_000)));
    let stub = Stub::start(vec![say(answers.collect())]).await;
    let users = (0..READS_PER_CALL).map(|at| user(&format!("u{at}"))).collect();
    let failure = stub.hub.without_account(&users).await.unwrap_err();
    assert!(is_retry(&failure) && failure.message().len() < 300, "{failure}");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_with_the_same_number_and_what_was_done_is_read_back() {
    for lost in [Act::Drop, Act::CutOff, Act::Raw(504, "text/html", "<html>".into())] {
        for again in [Act::Fault(1009, "unable to retry call 0".into()), Act::Say(Value::Nil)] {
            let lost = match &lost {
                Act::Raw(status, kind, body) => Act::Raw(*status, kind, body.clone()),
                Act::CutOff => Act::CutOff,
                _ => Act::Drop,
            };
            let stub = Stub::start(vec![lost, again, first_is_done()]).await;
            let verdicts = stub.hub.write(&two()).await.unwrap();
            assert_eq!(told(&verdicts), ["ok", "retry"]);
            assert!(verdicts[1].as_ref().unwrap_err().message().contains("not done"));
            assert_eq!(stub.end().await, ["sslLogin", "multiCall 1#0", "multiCall 1#0", "multiCall", "logout 1#1"]);
        }
    }
}

#[tokio::test]
async fn what_was_lost_before_the_hub_did_it_is_done_by_the_second_sending() {
    let stub = Stub::start(vec![Act::Drop, say(vec![done(), done()])]).await;
    assert_eq!(told(&stub.hub.write(&two()).await.unwrap()), ["ok", "ok"]);
    assert_eq!(stub.end().await, ["sslLogin", "multiCall 1#0", "multiCall 1#0", "logout 1#1"]);
}

#[tokio::test]
async fn each_kind_of_write_is_known_when_it_is_read_back() {
    let add = |name: &str| write(name, What::Add { owner: user("bob"), extra_arches: None });
    let block = |name: &str| write(name, What::Block);
    let unblock = |name: &str| write(name, What::Unblock);
    let mut inherited = row("g", "bob", false);
    if let Value::Struct(members) = &mut inherited {
        members.insert("tag_name".into(), Value::text("f-parent"));
    }
    let cases = [
        (add("a"), row("a", "bob", false), "ok"),
        (add("b"), Value::Nil, "retry"),
        (block("c"), row("c", "x", true), "ok"),
        (block("d"), row("d", "x", false), "retry"),
        (unblock("e"), row("e", "x", false), "ok"),
        (unblock("f"), row("f", "x", true), "retry"),
        (set_owner("g", "bob"), inherited, "retry"),
        (set_owner("h", "bob"), row("another", "bob", false), "retry"),
    ];
    let rows = cases.iter().map(|(_, row, _)| one(row.clone())).collect();
    let stub = Stub::start(vec![Act::Drop, Act::Say(Value::Nil), say(rows)]).await;
    let writes: Vec<Write> = cases.iter().map(|(write, ..)| write.clone()).collect();
    let wanted: Vec<&str> = cases.iter().map(|(.., verdict)| *verdict).collect();
    assert_eq!(told(&stub.hub.write(&writes).await.unwrap()), wanted);
}

#[tokio::test]
async fn lost_twice_is_left_to_the_next_try_which_has_another_number() {
    let stub = Stub::start(vec![Act::Drop, Act::CutOff, say(vec![done(), done()])]).await;
    assert!(is_retry(&stub.hub.write(&two()).await.unwrap_err()));
    assert_eq!(told(&stub.hub.write(&two()).await.unwrap()), ["ok", "ok"]);
    assert_eq!(stub.end().await, ["sslLogin", "multiCall 1#0", "multiCall 1#0", "multiCall 1#1", "logout 1#2"]);
}

#[tokio::test]
async fn a_session_that_is_over_is_opened_again_once() {
    for over in [expired(), Act::Fault(1002, "Invalid session or bad credentials".into())] {
        let stub = Stub::start(vec![over, say(vec![done(), done()])]).await;
        assert_eq!(told(&stub.hub.write(&two()).await.unwrap()), ["ok", "ok"]);
        assert_eq!(stub.end().await, ["sslLogin", "multiCall 1#0", "sslLogin", "multiCall 2#0", "logout 2#1"]);
    }
    let stub = Stub::start(vec![expired(), expired()]).await;
    assert!(is_retry(&stub.hub.write(&two()).await.unwrap_err()));
    assert_eq!(stub.end().await, ["sslLogin", "multiCall 1#0", "sslLogin", "multiCall 2#0"]);
}

#[tokio::test]
async fn what_a_new_session_can_not_know_is_read_back_and_not_sent_again() {
    let out_of_order = Act::Fault(1008, "39 > 34 (session 1)".into());
    for acts in [vec![Act::Drop, expired(), first_is_done()], vec![out_of_order, first_is_done()]] {
        let stub = Stub::start(acts).await;
        assert_eq!(told(&stub.hub.write(&two()).await.unwrap()), ["ok", "retry"]);
        let calls = stub.end().await;
        assert_eq!((calls[0].as_str(), calls.last().unwrap().as_str()), ("sslLogin", "multiCall"));
        assert_eq!(calls.iter().filter(|call| *call == "sslLogin").count(), 1);
    }
}

#[tokio::test]
async fn a_refused_call_was_not_done_and_says_what_helps() {
    let stub = Stub::start(vec![
        Act::Fault(1014, "database outage".into()),
        Act::Fault(1001, "locked".into()),
        Act::Fault(1004, "not allowed".into()),
        Act::Raw(400, "text/plain", "Invalid request: Request too long\n".into()),
    ])
    .await;
    let failure = stub.hub.write(&two()).await.unwrap_err();
    assert!(is_retry(&failure) && failure.message().contains("offline: \"database outage\""), "{failure}");
    assert!(is_retry(&stub.hub.write(&two()).await.unwrap_err()));
    let failure = stub.hub.write(&two()).await.unwrap_err();
    assert!(!is_retry(&failure) && failure.hint().unwrap().contains("koji grant-permission"), "{failure}");
    let failure = stub.hub.write(&two()).await.unwrap_err();
    assert!(is_retry(&failure) && failure.message().contains("answered 400: \"Invalid request"), "{failure}");
    assert_eq!(stub.end().await.len(), 6);
}

#[tokio::test]
async fn answers_that_are_none_are_short_failures() {
    let bomb = "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY a \"aaaa\">]><methodResponse>&a;</methodResponse>";
    let whole = stub::respond(&row("bash", "alice", false));
    for (answer, part) in [
        (Act::Raw(200, "text/xml", bomb.into()), "document type"),
        (Act::Raw(200, "text/xml", whole[..whole.len() / 2].into()), "the answer is"),
        (Act::Raw(200, "text/html", "<html>log in here".into()), "no XML-RPC"),
        (Act::Raw(502, "text/html", "<html>".repeat(100_000)), "answered 502"),
        (Act::Fault(1000, "é\u{1b}".repeat(500_000)), "Koji says"),
        (Act::CutOff, "curl"),
    ] {
        let stub = Stub::start(vec![answer]).await;
        let failure = stub.hub.list(&tag("f-test")).await.unwrap_err();
        assert!(is_retry(&failure) && failure.message().contains(part), "{failure}");
        assert!(failure.message().len() < 500 && !failure.message().contains('\u{1b}'), "{failure}");
    }
}

#[tokio::test]
async fn a_refused_login_can_be_mended_and_keeps_the_reactions() {
    for (answer, part) in [
        (Act::Fault(1002, "logins by reactor are not allowed".into()), "refused: \"logins by reactor"),
        (Act::Raw(401, "text/html", "<html>".into()), "answered 401"),
        (Act::Drop, "curl"),
        (Act::Fault(1014, "database outage".into()), "offline"),
        (Act::Say(members_of([("session-id", Value::Int(1)), ("session-key", Value::text("k"))])), "header-auth"),
    ] {
        let stub = Stub::with_login(vec![], Some(answer)).await;
        let failure = stub.hub.write(&two()).await.unwrap_err();
        assert!(is_retry(&failure) && failure.message().contains(part), "{failure}");
        let of_login = ["refused: \"logins by reactor", "answered 401", "curl"].contains(&part);
        assert_eq!(failure.hint().is_some_and(|hint| hint.contains("certificate still good")), of_login, "{failure}");
        assert_eq!(stub.end().await, ["sslLogin"]);
    }
    let place = Place { hub: "http://127.0.0.1:1/x".into(), ca: None, timeout: Duration::from_secs(5), login: None };
    let failure = Hub::new(place).write(&two()).await.unwrap_err();
    assert!(is_retry(&failure) && failure.hint().unwrap().contains("add `login:"), "{failure}");
}
