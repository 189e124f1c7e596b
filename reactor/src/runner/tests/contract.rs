//! The contract test, on the handlers that this repository ships and on handlers that break it.

use super::*;
use crate::runner::contract::{Contract, Step, contract, holds};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path).canonicalize().unwrap()
}

async fn check(site: &Site, handler: HandlerConfig, with: Value) -> Vec<Step> {
    let with = with.as_object().unwrap().clone();
    // The scripts of these tests write next to themselves.
    let watch = site.path("watched").exists().then(|| site.path("watched"));
    contract(&site.runner, &Contract { handler, with, messages: Vec::new(), watch, timeout: LONG }).await
}

fn shipped(site: &Site, path: &str, variable: &str, target: &str) -> HandlerConfig {
    let mut handler = config(&repository(path));
    handler.env.insert(variable.into(), site.path(target).display().to_string());
    handler
}

#[tokio::test]
async fn mail_alias_keeps_the_contract_and_every_other_line() {
    let site = Site::new();
    let before = "# aliases\nroot: kevin\nralph:\told@x.org,\n  \"|/bin/prog \\x\"\nralphie: other@x.org\n .*: x\nlast: no newline";
    fs::write(site.path("aliases"), before).unwrap();
    fs::set_permissions(site.path("aliases"), fs::Permissions::from_mode(0o640)).unwrap();
    let handler = shipped(&site, "handlers/examples/mail-alias", "ALIASES", "aliases");
    let steps = check(&site, handler.clone(), json!({"user": "ralph", "address": "new@x.org"})).await;
    assert!(holds(&steps) && steps.len() == 6, "{steps:#?}");
    let after = "# aliases\nroot: kevin\nralphie: other@x.org\n .*: x\nlast: no newline\nralph: new@x.org\n";
    assert_eq!(site.read("aliases"), after);
    assert_eq!(fs::metadata(site.path("aliases")).unwrap().permissions().mode() & 0o777, 0o640);
    // The other order of parameters, and a new user.
    let steps = check(&site, handler.clone(), json!({"address": "k+1@x.org", "user": "k.evin"})).await;
    assert!(holds(&steps), "{steps:#?}");
    assert_eq!(site.read("aliases"), format!("{after}k.evin: k+1@x.org\n"));
    fs::remove_file(site.path("aliases")).unwrap();
    let with = request(json!({"user": "ralph", "address": "new@x.org"}));
    let failure = site.runner.plan(&handler, with, LONG, never()).await.unwrap_err();
    assert_eq!(retry(&failure), "handler toy, plan: the aliases file can not be read (exit code 75)");
}

#[tokio::test]
async fn two_mail_aliases_at_once_lose_nothing() {
    let site = Site::new();
    fs::write(site.path("aliases"), "").unwrap();
    let handler = shipped(&site, "handlers/examples/mail-alias", "ALIASES", "aliases");
    let one = |user: String| {
        let (site, handler) = (&site, &handler);
        async move {
            let request = request(json!({"user": user, "address": "a@x.org"}));
            let plan = [change(&format!("alias {user}"))];
            let applied = site.runner.apply(handler, request, &plan, LONG, never(), &mut |_| {}).await;
            assert_eq!(applied.verdict, Verdict::Done);
        }
    };
    tokio::join!(one("a".into()), one("b".into()), one("c".into()), one("d".into()));
    assert_eq!(site.read("aliases").lines().count(), 4, "{}", site.read("aliases"));
}

#[tokio::test]
async fn host_access_keeps_the_contract_both_ways() {
    let site = Site::new();
    fs::create_dir(site.path("access.d")).unwrap();
    let handler = shipped(&site, "handlers/examples/host-access", "ACCESS_DIR", "access.d");
    for (user, present, after) in [
        ("ralph", true, "+:ralph:ALL\n"),
        ("kevin", true, "+:ralph:ALL\n+:kevin:ALL\n"),
        ("ralph", false, "+:kevin:ALL\n"),
    ] {
        let with = json!({"group": "sysadmin", "user": user, "present": present});
        let steps = check(&site, handler.clone(), with).await;
        assert!(holds(&steps) && steps.len() == 6, "{steps:#?}");
        assert_eq!(site.read("access.d/sysadmin.conf"), after);
    }
    let with = request(json!({"group": "../../etc/x", "user": "a", "present": true}));
    permanent(&site.runner.plan(&handler, with, LONG, never()).await.unwrap_err());
    fs::remove_dir_all(site.path("access.d")).unwrap();
    let with = request(json!({"group": "sysadmin", "user": "a", "present": false}));
    retry(&site.runner.plan(&handler, with, LONG, never()).await.unwrap_err());
}

#[tokio::test]
async fn the_handler_of_the_kill_tests_keeps_the_contract() {
    let site = Site::new();
    fs::write(site.path("file"), "xline\n").unwrap();
    let handler = shipped(&site, "tests/peers/append", "FILE", "file");
    let steps = check(&site, handler, json!({"line": "line"})).await;
    assert!(holds(&steps) && steps.len() == 6, "{steps:#?}");
    assert_eq!(site.read("file"), "xline\nline\n");
}

#[tokio::test]
async fn a_handler_that_breaks_the_contract_is_told_where() {
    let site = Site::new();
    fs::create_dir(site.path("watched")).unwrap();
    fs::write(site.path("watched/n"), "x").unwrap();
    let file = site.path("watched/n").display().to_string();
    let say = |target: &str| format!("echo '{{\"change\":{{\"action\":\"create\",\"target\":\"{target}\"}}}}'");
    for (body, step, says) in [
        ("exit 3".to_owned(), "plan says what would change", "exit code 3"),
        (say("$RANDOM").replace("$RANDOM", "'$RANDOM$RANDOM'"), "a second plan says the same", "then create"),
        ("exit 0".to_owned(), "apply does what the plan said", "the plan is empty"),
        (
            format!("[[ $1 == plan ]] && {0}; [[ $1 == apply ]] && {1}; exit 0", say("a"), say("b")),
            "apply does what the plan said",
            "did more than planned: create b",
        ),
        (format!("[[ $1 == plan ]] && {}; exit 0", say("a")), "apply does what the plan said", "did not do all"),
        (say("a"), "after apply, the plan is empty", "it still says create a"),
        (
            format!("[[ $1 == plan ]] && date +%N >> {file} 2>/dev/null; {}", say("a")),
            "plan wrote nothing",
            "watched/n",
        ),
    ] {
        if step == "plan wrote nothing" && site.runner.sandbox() == "landlock" {
            continue; // It can't: that is the other test.
        }
        let steps = check(&site, site.handler(&json!({}), &body), json!({})).await;
        let last = steps.last().unwrap();
        assert!(!holds(&steps) && last.name == step, "{body}: {steps:#?}");
        assert!(last.result.as_ref().unwrap_err().message.contains(says), "{body}: {steps:#?}");
    }
}

#[tokio::test]
async fn a_plan_that_writes_through_a_server_is_seen_in_the_watched_directory() {
    let site = Site::new();
    fs::create_dir(site.path("watched")).unwrap();
    // A long-lived handler is not held to reading.
    let body = format!(
        r#"while read -r line; do id=${{line#*\"id\":}} id=${{id%%,*}}; touch {}/new
           echo "{{\"id\":$id,\"change\":{{\"action\":\"run\",\"target\":\"x\"}}}}"; echo "{{\"id\":$id,\"end\":0}}"; done"#,
        site.path("watched").display()
    );
    let steps = check(&site, site.handler(&json!({"serve": true}), &body), json!({})).await;
    let last = steps.last().unwrap();
    assert_eq!(last.name, "plan wrote nothing", "{steps:#?}");
    assert!(last.result.as_ref().unwrap_err().message.contains("watched"), "{steps:#?}");
}
