//! Notes, and what an apply leaves for later.

use super::*;

const LATER: &str = r#"echo '{"later":{"key":"host h7","with":{"host":"h7"},"why":"h7: refused","target":"h7"}}'"#;
const PARAMS: &str = r#"{"params":{"host":"name?"}}"#;

fn params() -> Value {
    serde_json::from_str(PARAMS).unwrap()
}

fn run(target: &str) -> Change {
    serde_json::from_value(json!({"action": "run", "target": target})).unwrap()
}

fn h7() -> Later {
    let with = json!({"host": "h7"}).as_object().unwrap().clone();
    Later { key: "host h7".into(), with, why: "h7: refused".into(), target: Some("h7".into()) }
}

#[tokio::test]
async fn a_note_stands_beside_the_changes_of_plan_and_apply() {
    let site = Site::new();
    let handler = site.handler(&json!({}), &format!("echo '{{\"note\":\"key 2 left out\"}}'\n{CREATE_A}"));
    let plan = site.runner.plan(&handler, request(json!({})), LONG, never()).await.unwrap();
    assert_eq!((plan.changes.len(), plan.notes), (1, vec!["key 2 left out".to_owned()]));
    let applied = site.apply(&handler, &plan.changes, LONG).await;
    assert_eq!((applied.verdict, applied.notes), (Verdict::Done, vec!["key 2 left out".to_owned()]));
}

#[tokio::test]
async fn what_is_left_for_later_is_not_undone_and_its_parameters_are_checked() {
    let site = Site::new();
    let handler = site.handler(
        &params(),
        &format!(r#"echo '{{"change":{{"action":"run","target":"h1"}}}}'\n{LATER}"#).replace("\\n", "\n"),
    );
    let planned = [run("h1"), run("h7"), run("h7: ralph"), run("h8")];
    let applied = site.apply(&handler, &planned, LONG).await;
    assert_eq!(applied.warning.as_deref(), Some("handler toy exited with 0, but did not do all of its plan: run h8"));
    assert_eq!(applied.left, [Left { later: h7(), wrong: None }]);
    let wrong = LATER.replace(r#""host":"h7""#, r#""host":"-h7","x":1"#);
    let applied = site.apply(&site.handler(&params(), &wrong), &[run("h7")], LONG).await;
    let wrong = applied.left[0].wrong.as_deref().unwrap();
    assert!(wrong.contains("parameter `host` is not a name") && wrong.contains("parameter `x`"), "{wrong}");
    assert_eq!((applied.verdict, applied.warning), (Verdict::Done, None));
}

#[tokio::test]
async fn an_apply_that_does_not_end_well_leaves_nothing_and_a_plan_never_does() {
    let site = Site::new();
    for code in [1, 65, 75] {
        let applied = site.apply(&site.handler(&params(), &format!("{LATER}\nexit {code}")), &[run("h7")], LONG).await;
        assert!(applied.verdict != Verdict::Done && applied.left.is_empty(), "{applied:?}");
    }
    let failure = site.plan(&site.handler(&params(), LATER), LONG).await.unwrap_err();
    assert!(permanent(&failure).contains("it left something for `later` in its plan"), "{failure}");
    let garbage = r#"echo '{"later":{"key":"","why":"x"}}'"#;
    let applied = site.apply(&site.handler(&params(), garbage), &[], LONG).await;
    assert!(permanent(failed(&applied)).contains("a `later` whose `key` is empty"), "{applied:?}");
}

#[tokio::test]
async fn one_that_can_not_plan_is_not_said_to_have_done_what_it_leaves() {
    let site = Site::new();
    let handler = site.handler(&json!({"plan": false, "params": {"host": "name?"}}), LATER);
    let plan = site.plan(&handler, LONG).await.unwrap();
    let applied = site.apply(&handler, &plan, LONG).await;
    assert_eq!((applied.verdict, applied.done, applied.left.len()), (Verdict::Done, vec![], 1));
}

#[tokio::test]
async fn a_long_lived_handler_can_too() {
    let site = Site::new();
    let handler = site.script(
        r#"#!/usr/bin/python3
import json, sys
if sys.argv[1] == "describe":
    print(json.dumps({"describe": {"reactor": 1, "name": "toy", "serve": True, "params": {"host": "name?"}}}))
    sys.exit(0)
for line in sys.stdin:
    r = json.loads(line)
    if "verb" not in r: continue
    later = {"key": "host h7", "with": {"host": "h7"}, "why": "h7: refused", "target": "h7"}
    for said in [{"note": "one host is down"}, {"later": later}, {"end": 0}]:
        print(json.dumps({"id": r["id"], **said}), flush=True)
"#,
    );
    let applied = site.apply(&handler, &[run("h7")], LONG).await;
    assert_eq!((applied.verdict, applied.warning, applied.notes.len()), (Verdict::Done, None, 1));
    assert_eq!(applied.left, [Left { later: h7(), wrong: None }]);
    site.runner.close().await;
}
