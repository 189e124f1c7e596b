//! Long-lived handlers.

use super::*;

/// Answers by key: `slow` never ends, `die` exits, `deaf` ignores its cancelling; others at once, with the process id.
const SERVER: &str = r#"
import json, os, sys, time
if sys.argv[1] == "describe":
    print(json.dumps({"describe": {"reactor": 1, "name": "toy", "serve": True}})); sys.exit()
def say(**line): print(json.dumps(line), flush=True)
for line in sys.stdin:
    r = json.loads(line)
    if "cancel" in r:
        open(os.environ["SEEN"], "a").write("cancel %s\n" % r["cancel"])
        if os.environ.get("DEAF"): continue
        say(id=r["cancel"], change={"action": "create", "target": "late"})
        say(id=r["cancel"], end=75); continue
    if r["key"] == "die": print("out of memory", file=sys.stderr); os._exit(3)
    if r["key"] == "garbage": print("hello", flush=True); continue
    if r["key"] == "flood":
        try:
            while True: say(id=r["id"], change={"action": "create", "target": "x"})
        except BrokenPipeError: os._exit(0)
    say(id=r["id"], change={"action": "create", "target": "%s %s %d" % (r["verb"], r["key"], os.getpid())})
    if r["key"] != "slow": say(id=r["id"], end=0)
open(os.environ["SEEN"], "a").write("eof\n")
"#;

impl Site {
    fn server(&self) -> HandlerConfig {
        let mut handler = self.script(&format!("#!/usr/bin/python3\n{SERVER}"));
        handler.env.insert("SEEN".into(), self.path("seen").display().to_string());
        handler
    }

    async fn key(&self, handler: &HandlerConfig, key: &str, timeout: Duration) -> Result<Vec<Change>, Failure> {
        let request = Request { key: key.into(), ..request(json!({})) };
        self.runner.plan(handler, request, timeout, never()).await.map(|plan| plan.changes)
    }
}

/// The process id at the end of the target.
fn pid(plan: &[Change]) -> &str {
    plan[0].target.rsplit(' ').next().unwrap()
}

#[tokio::test]
async fn one_process_answers_all_and_a_slow_one_holds_nobody_up() {
    let site = Site::with_grace(LONG);
    let handler = site.server();
    let first = site.key(&handler, "a", LONG).await.unwrap();
    assert!(first[0].target.starts_with("plan a "), "{first:?}");
    let both = tokio::join!(site.key(&handler, "slow", Duration::from_secs(2)), async {
        site.key(&handler, "b", LONG).await.unwrap()
    });
    assert_eq!(pid(&both.1), pid(&first), "the same process");
    assert!(retry(&both.0.unwrap_err()).contains("took longer than 2s"));
    assert!(site.read("seen").starts_with("cancel "), "it was told");
    let applied = site.apply(&handler, &[change("late")], LONG).await;
    assert!(permanent(failed(&applied)).contains("did more than planned: create apply k "), "{applied:?}");
}

#[tokio::test]
async fn what_is_done_after_a_cancel_is_known() {
    let site = Site::with_grace(LONG);
    let handler = site.server();
    site.key(&handler, "a", LONG).await.unwrap();
    let slow = Request { key: "slow".into(), ..request(json!({})) };
    let mut heard = Vec::new();
    let mut on_change = |change: &Change| heard.push(change.target.clone());
    let applied = site.runner.apply(&handler, slow, &[], SHORT, never(), &mut on_change).await;
    assert_eq!(applied.done.last().unwrap().target, "late");
    assert_eq!(heard.len(), applied.done.len());
}

#[tokio::test]
async fn a_process_that_ignores_a_cancel_is_killed_and_started_again() {
    let site = Site::with_grace(SHORT);
    let mut handler = site.server();
    handler.env.insert("DEAF".into(), "1".into());
    let first = site.key(&handler, "a", LONG).await.unwrap();
    assert!(retry(&site.key(&handler, "slow", SHORT).await.unwrap_err()).contains("took longer"));
    let second = again(&site, &handler).await;
    assert_ne!(pid(&first), pid(&second));
    assert!(!is_running(pid(&first)));
}

/// Asks until the wait before a restart is over; every refusal is temporary and says when.
async fn again(site: &Site, handler: &HandlerConfig) -> Vec<Change> {
    loop {
        match site.key(handler, "a", LONG).await {
            Ok(plan) => return plan,
            Err(failure) => drop(retry(&failure).to_owned()),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn when_it_dies_everything_under_way_is_tried_again_and_it_is_restarted() {
    let site = Site::new();
    let handler = site.server();
    let first = site.key(&handler, "a", LONG).await.unwrap();
    let (slow, died) = tokio::join!(site.key(&handler, "slow", LONG), site.key(&handler, "die", LONG));
    for failure in [slow.unwrap_err(), died.unwrap_err()] {
        assert!(retry(&failure).contains("exit status: 3: out of memory"), "{failure}");
    }
    assert_ne!(pid(&again(&site, &handler).await), pid(&first));
}

#[tokio::test]
async fn a_line_that_is_not_protocol_ends_the_process() {
    let site = Site::new();
    let handler = site.server();
    let failure = site.key(&handler, "garbage", LONG).await.unwrap_err();
    assert!(retry(&failure).contains("not a JSON object"), "{failure}");
    let failure = site.key(&handler, "a", LONG).await;
    assert!(failure.is_ok() || retry(&failure.unwrap_err()).contains("started again"));
}

#[tokio::test]
async fn a_flood_of_changes_is_stopped_at_the_limit() {
    let site = Site::with_grace(SHORT);
    let failure = site.key(&site.server(), "flood", LONG).await.unwrap_err();
    assert!(permanent(&failure).contains("10000 changes"), "{failure}");
}

#[tokio::test]
async fn a_changed_entry_starts_a_new_process_and_the_old_one_ends_by_itself() {
    let site = Site::new();
    let mut handler = site.server();
    let first = site.key(&handler, "a", LONG).await.unwrap();
    handler.env.insert("OTHER".into(), "1".into());
    let second = site.key(&handler, "a", LONG).await.unwrap();
    assert_ne!(pid(&first), pid(&second));
    site.runner.close().await;
    assert!(!is_running(pid(&second)));
    while is_running(pid(&first)) {
        tokio::task::yield_now().await;
    }
    assert_eq!(site.read("seen"), "eof\neof\n");
}
