//! The stand-in itself: that it answers as a real hub did, serves the real client, and has the troubles that it is asked for.

use std::path::Path;
use std::process::{Command, Stdio};

use reactor_tests::Scratch;
use reactor_tests::kdc::Kdc;
use reactor_tests::koji::{ADMIN, EXPIRED, Hub, PLAIN, PRINCIPAL, REACTOR, Row};
use reactor_tests::process::{Child, command};
use serde_json::{Value, json};

use super::bomb;

/// What was recorded at a real hub 1.35.3. Not in this repository.
const RECORDED: &str = "/work/shared/targets/koji";
/// How many exchanges that are.
const EXCHANGES: usize = 77;

#[test]
fn it_answers_as_a_real_hub_did() {
    if !Path::new(RECORDED).exists() {
        eprintln!("not compared with a real hub: the recording is not in {RECORDED}");
        return;
    }
    let scratch = Scratch::new("koji-replay");
    let hub = Hub::start(scratch.path());
    hub.user(REACTOR, &[]);
    assert_eq!(hub.replay(Path::new(RECORDED)), (EXCHANGES, Vec::new()), "{}", hub.log());
}

/// Runs a line to its end; what it says on both pipes, and whether it succeeded.
fn said(line: &mut Command) -> (bool, String) {
    let out = line.output().expect("the client runs");
    let text = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (out.status.success(), text.concat())
}

fn site(scratch: &Scratch) -> Hub {
    let hub = Hub::start(scratch.path());
    hub.user(REACTOR, &["tag"]);
    hub.tag("f42", None);
    hub.tag("f42-candidate", Some("f42"));
    hub.packages("f42", &[("bash", "ralph"), ("zsh", "kevin")]);
    hub.blocked("f42", "old", "kevin");
    hub
}

#[test]
fn the_real_client_reads_and_writes_it() {
    let scratch = Scratch::new("koji-client");
    let hub = site(&scratch);
    let koji = |user, args: &[&str]| said(&mut hub.client(user, args));
    let list = |tag: &str| {
        let (good, text) = koji(None, &["list-pkgs", "--quiet", "--show-blocked", &format!("--tag={tag}")]);
        assert!(good, "{text}");
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(line).collect::<Vec<_>>()
    };
    assert_eq!(list("f42-candidate"), ["bash f42 ralph", "zsh f42 kevin", "old f42 kevin [BLOCKED]"], "inherited");

    let write: [&[&str]; 4] = [
        &["set-pkg-owner", "kevin", "f42", "bash"],
        &["add-pkg", "--owner=ralph", "--extra-arches=i386 i686", "f42-candidate", "fish"],
        &["block-pkg", "f42", "zsh"],
        &["unblock-pkg", "f42", "old"],
    ];
    for args in write {
        let (good, text) = koji(Some(PLAIN), args);
        assert!(!good && text.contains("Only admin/tag can do this via default policy"), "{args:?}: {text}");
        let (good, text) = koji(Some(REACTOR), args);
        assert!(good, "{args:?}: {text}");
    }
    assert_eq!(list("f42"), ["bash f42 kevin", "zsh f42 kevin [BLOCKED]", "old f42 kevin"]);
    let fish = Row { owner: "ralph".to_owned(), blocked: false, extra_arches: Some("i386 i686".to_owned()) };
    assert_eq!(hub.entries()["f42-candidate"]["fish"], fish);
    let (_, history) = koji(None, &["list-history", "--tag=f42", "--package=bash"]);
    assert!(history.contains("package owner kevin set for bash in f42 by reactor"), "{history}");

    // The owner of a package that is only inherited: no error, and nothing that anybody sees.
    let (good, text) = koji(Some(REACTOR), &["set-pkg-owner", "ralph", "f42-candidate", "bash"]);
    assert!(good, "{text}");
    assert_eq!(hub.owner("f42-candidate", "bash"), None);
    assert!(list("f42-candidate").contains(&"bash f42 kevin".to_owned()));
}

#[test]
fn who_logs_in_over_kerberos_proves_it() {
    let scratch = Scratch::new("koji-kerberos");
    let kdc = Kdc::start(scratch.path(), &[PRINCIPAL, REACTOR]);
    let hub = Hub::with_kerberos(scratch.path(), &kdc);
    hub.user(REACTOR, &["tag"]);
    let login = |keytab: &str| format!("s.gssapi_login(principal='reactor', keytab={keytab:?}, ccache='MEMORY:here')");
    let keytab = kdc.keytab(REACTOR).display().to_string();
    let me = "[s.getLoggedInUser()['name'], s.getPerms(), s.getLoggedInUser()['authtype']]";
    assert_eq!(hub.python(&login(&keytab), me), json!([REACTOR, ["tag"], 3]));
    let (good, text) = said(&mut hub.python_command(&login("/nonexistent"), me));
    assert!(!good && text.contains("Error"), "{text}");
    assert_eq!(hub.ask(Some(ADMIN), me), json!([ADMIN, ["admin"], 2]), "a certificate still does");
}

/// What a write is: the owner of bash becomes somebody else's.
const WRITE: &str = "s.packageListSetOwner('f42', 'bash', 'kevin')";
/// Two writes and a fault between them.
const WRITES: &str = "(setattr(s, 'multicall', True), s.packageListSetOwner('f42', 'bash', 'kevin'), \
    s.packageListSetOwner('f42', 'bash', 'nobody'), s.packageListSetOwner('f42', 'zsh', 'ralph'), \
    [one.get('faultCode', 0) if isinstance(one, dict) else one for one in s.multiCall()])[-1]";

#[test]
fn a_write_whose_answer_is_lost_was_done_once() {
    let scratch = Scratch::new("koji-lost");
    let hub = site(&scratch);
    for (kind, more) in [("lose", json!({})), ("cut", json!({"bytes": 40}))] {
        hub.packages("f42", &[("bash", "ralph")]);
        let before = hub.calls().len();
        hub.trouble(kind, "write", more);
        let (good, text) = said(&mut hub.python_command(&login(&hub), WRITE));
        assert!(!good && text.contains("RetryError"), "the client asks again, with the same callnum: {text}");
        assert_eq!(hub.owner("f42", "bash").as_deref(), Some("kevin"));
        let calls = hub.calls();
        let writes: Vec<_> = calls[before..].iter().filter(|call| call.writes().next().is_some()).collect();
        assert_eq!(writes.len(), 2, "{writes:?}");
        assert_eq!((writes[0].callnum, writes[0].trouble.as_deref()), (writes[1].callnum, Some(kind)));
        assert!(
            writes[1].fault.as_deref().is_some_and(|fault| fault.starts_with("1009: unable to retry")),
            "{writes:?}"
        );
    }
    hub.packages("f42", &[("bash", "ralph")]);
    hub.trouble("drop", "write", json!({}));
    assert_eq!(hub.ask(Some(REACTOR), WRITE), Value::Null, "nothing was done, so it may be done again");
    assert_eq!(hub.owner("f42", "bash").as_deref(), Some("kevin"));
}

#[test]
fn a_released_hub_knows_no_callnum_of_the_clients() {
    let scratch = Scratch::new("koji-released");
    let hub = site(&scratch);
    hub.wish(&json!({"do": "old header", "on": true}));
    hub.trouble("lose", "write", json!({}));
    assert_eq!(hub.ask(Some(REACTOR), WRITE), Value::Null, "done again, and nobody is told");
    assert_eq!(hub.owner("f42", "bash").as_deref(), Some("kevin"));
}

fn login(hub: &Hub) -> String {
    format!("s.ssl_login({:?}, None, {:?})", hub.certificate(REACTOR), hub.ca())
}

#[test]
fn a_multicall_that_is_killed_leaves_nothing() {
    let scratch = Scratch::new("koji-killed");
    let hub = site(&scratch);
    let before = hub.entries();
    hub.trouble("hold", "write", json!({"after": 2}));
    let mut client = Child::start(hub.python_command(&login(&hub), WRITES).stderr(Stdio::null()));
    hub.until_held();
    hub.kill_9();
    hub.resume();
    client.kill_9();
    assert_eq!(hub.entries(), before);
    assert_eq!(hub.ask(Some(REACTOR), WRITES), json!([[null], 1000, [null]]), "each element by itself");
    let calls = hub.calls();
    let faults: Vec<_> = calls.iter().filter(|call| call.method == "multiCall").map(|call| &call.faults).collect();
    assert_eq!(faults, [&[false, true, false]]);
    hub.kill_9();
    hub.resume();
    assert_eq!(hub.owner("f42", "bash").as_deref(), Some("kevin"), "what is committed stays");
    assert_eq!(hub.owner("f42", "zsh").as_deref(), Some("ralph"));
}

#[test]
fn each_trouble_is_what_it_says() {
    let scratch = Scratch::new("koji-trouble");
    let hub = site(&scratch);
    let fails = |of: &str, expression: &str, text: &str| {
        let (good, said) = said(&mut hub.python_command(of, expression));
        assert!(!good && said.contains(text), "{expression}: {said:.2000}");
    };
    let read = "s.listPackages(tagID='f42')";
    hub.trouble("fault", "read", json!({"code": 1004, "text": "no"}));
    fails("", read, "ActionNotAllowed: no");
    hub.trouble("fault", "login", json!({"code": 1002, "text": "who are you"}));
    fails(&login(&hub), "1", "who are you");
    hub.trouble("answer", "any", json!({"status": 200, "body": bomb()}));
    fails("", read, "EntitiesForbidden");
    hub.trouble("answer", "any", json!({"status": 503, "body": "<html>down</html>", "times": 9}));
    fails("s.opts['max_retries'] = 0", read, "503");
    hub.well();
    hub.trouble("elements", "write", json!({"code": 1000, "text": "x".repeat(1_000_000), "first": 1}));
    assert_eq!(hub.ask(Some(REACTOR), WRITES), json!([1000, 1000, [null]]));
    hub.trouble("hold", "write", json!({}));
    let mut client = Child::start(hub.python_command(&login(&hub), WRITE).stdout(Stdio::null()));
    hub.until_held();
    hub.release();
    assert!(client.wait(std::time::Duration::from_secs(30)).is_some_and(|status| status.success()));
    hub.wish(&json!({"do": "disable", "user": REACTOR}));
    fails(&login(&hub), "1", "logins by reactor are not allowed");
    // Who is no hub's client.
    let curl = |user| {
        let mut curl = command("curl");
        said(curl.args(["-sS", "--cacert"]).arg(hub.ca()).arg("--cert").arg(hub.certificate(user)).arg(hub.url()))
    };
    assert!(curl(REACTOR).1.starts_with("Method Not Allowed"));
    let (good, text) = curl(EXPIRED);
    assert!(!good && text.contains("expired"), "{text}");
}
