//! Real processes: handlers are small bash scripts in a temporary directory. Nothing sleeps to hope; what hangs is ended by
//! a short timeout and waited for.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

mod contract;
mod later;
mod leftover;
mod limits;
mod serve;
mod surroundings;

/// A state directory, a runner on it, and handlers.
pub(super) struct Site {
    pub dir: TempDir,
    pub runner: Runner,
}

/// Long enough for a loaded machine, short enough for a test that goes wrong.
pub(super) const LONG: Duration = Duration::from_secs(60);
pub(super) const SHORT: Duration = Duration::from_millis(300);

impl Site {
    pub fn new() -> Self {
        Self::with_grace(LONG)
    }

    pub fn with_grace(term_to_kill: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options =
            Options { term_to_kill, restart_wait: Duration::from_millis(1), describe_max: LONG, ..Options::default() };
        let runner = Runner::new(&dir.path().join("state"), options).unwrap();
        Self { dir, runner }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A bash handler; `describe` is what it says beside its name, `body` runs for every other verb (`$1`).
    pub fn handler(&self, describe: &Value, body: &str) -> HandlerConfig {
        let mut full = json!({"reactor": 1, "name": "toy"});
        full.as_object_mut().unwrap().extend(describe.as_object().unwrap().clone());
        let says = json!({"describe": full});
        self.script(&format!("#!/bin/bash\nif [[ $1 == describe ]]; then echo '{says}'; exit; fi\n{body}\n"))
    }

    pub fn script(&self, text: &str) -> HandlerConfig {
        let path = self.path("handler");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        config(&path)
    }

    pub async fn plan(&self, handler: &HandlerConfig, timeout: Duration) -> Result<Vec<Change>, Failure> {
        self.runner.plan(handler, request(json!({})), timeout, never()).await.map(|plan| plan.changes)
    }

    pub async fn apply(&self, handler: &HandlerConfig, plan: &[Change], timeout: Duration) -> Applied {
        self.runner.apply(handler, request(json!({})), plan, timeout, never(), &mut |_| {}).await
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

pub(super) fn config(path: &Path) -> HandlerConfig {
    HandlerConfig {
        name: "toy".into(),
        program: Program::Exec(path.into()),
        args: Vec::new(),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        user: None,
        at_once: 4,
        config: Map::new(),
        place: crate::rules::site::Place::default(),
    }
}

pub(super) fn request(with: Value) -> Request {
    let request = json!({"reactor": 1, "reaction": "r", "rule": "a rule", "key": "k", "attempt": 1, "with": with,
        "messages": [{"id": "m", "topic": "a.b", "sent": "2026-01-01T00:00:00Z", "signer": "s", "body": {"x": 1}}]});
    serde_json::from_value(request).unwrap()
}

pub(super) fn change(target: &str) -> Change {
    serde_json::from_value(json!({"action": "create", "target": target})).unwrap()
}

pub(super) fn retry(failure: &Failure) -> &str {
    assert!(matches!(failure, Failure::Retry { .. }), "{failure:?}");
    failure.message()
}

pub(super) fn permanent(failure: &Failure) -> &str {
    assert!(matches!(failure, Failure::Permanent { .. }), "{failure:?}");
    failure.message()
}

pub(super) fn failed(applied: &Applied) -> &Failure {
    match &applied.verdict {
        Verdict::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

/// Whether a process is still there and running.
pub(super) fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

const CREATE_A: &str = r#"echo '{"change":{"action":"create","target":"a","row":7}}'"#;

#[tokio::test]
async fn a_plan_is_what_the_handler_said_and_comes_back_to_it_in_apply() {
    let site = Site::new();
    let body = format!("cat >> {}\n{CREATE_A}", site.path("stdin").display());
    // Landlock lets plan write nowhere else, so that it is seen in apply only.
    let handler = site.handler(&json!({}), &format!("[[ $1 == apply ]] || {{ {CREATE_A}; exit; }}\n{body}"));
    let plan = site.plan(&handler, LONG).await.unwrap();
    assert_eq!((plan.len(), &plan[0].target[..], &plan[0].more["row"]), (1, "a", &json!(7)));
    let applied = site.apply(&handler, &plan, LONG).await;
    assert_eq!(applied, Applied { verdict: Verdict::Done, done: plan, warning: None, notes: vec![], left: vec![] });
    let stdin: Value = serde_json::from_str(&site.read("stdin")).unwrap();
    assert_eq!(stdin["changes"][0]["row"], 7);
    assert_eq!(stdin["messages"][0]["body"]["x"], 1);
}

#[tokio::test]
async fn a_change_is_known_while_the_handler_still_runs() {
    let site = Site::new();
    // It goes on only when the first change was seen: the test makes the file it waits for.
    let go = site.path("go");
    let body = format!("{CREATE_A}; until [[ -e {} ]]; do read -t 0.01 <> <(:); done; exit 0", go.display());
    let handler = site.handler(&json!({}), &body);
    let mut seen = 0;
    let mut on_change = |_: &Change| {
        seen += 1;
        fs::write(&go, "").unwrap();
    };
    let plan = [change("a")];
    let applied = site.runner.apply(&handler, request(json!({})), &plan, LONG, never(), &mut on_change).await;
    assert_eq!(applied.verdict, Verdict::Done);
    assert_eq!(seen, 1);
}

#[tokio::test]
async fn each_exit_code_means_what_the_protocol_says() {
    let site = Site::new();
    let error = r#"echo '{"error":{"message":"no VPN","hint":"wg up","retry_after":"90s"}}'; echo "some log" >&2"#;
    let with = |code: i32, what: &str| site.handler(&json!({}), &format!("{what}\nexit {code}"));
    assert_eq!(site.plan(&with(0, ""), LONG).await, Ok(vec![]));
    let failure = site.plan(&with(65, error), LONG).await.unwrap_err();
    assert_eq!(permanent(&failure), "handler toy, plan: no VPN (exit code 65)");
    let failure = site.plan(&with(75, error), LONG).await.unwrap_err();
    assert_eq!(failure.hint(), Some("wg up"));
    assert!(matches!(failure, Failure::Retry { after: Some(after), .. } if after == Duration::from_secs(90)));
    let failure = site.plan(&with(7, "echo 'curl: (7) refused' >&2"), LONG).await.unwrap_err();
    assert_eq!(retry(&failure), "handler toy, plan: curl: (7) refused (exit code 7)");
    let failure = site.plan(&with(0, "kill -SEGV $$"), LONG).await.unwrap_err();
    assert_eq!(retry(&failure), "handler toy, plan: it was ended by signal 11");
    let moved = site.apply(&with(75, error), &[change("a")], LONG).await;
    assert!(matches!(moved.verdict, Verdict::Replan(Failure::Retry { .. })), "{moved:?}");
}

#[tokio::test]
async fn more_than_planned_fails_and_less_is_a_warning() {
    let site = Site::new();
    let handler = site.handler(&json!({}), CREATE_A);
    let applied = site.apply(&handler, &[], LONG).await;
    assert_eq!(permanent(failed(&applied)), "handler toy, apply: did more than planned: create a");
    assert_eq!(applied.done.len(), 1, "what was done is known all the same");
    let applied = site.apply(&handler, &[change("a"), change("b")], LONG).await;
    assert_eq!(applied.verdict, Verdict::Done);
    assert_eq!(applied.warning.unwrap(), "handler toy exited with 0, but did not do all of its plan: create b");
}

#[tokio::test]
async fn a_wrong_parameter_never_reaches_the_program() {
    let site = Site::new();
    let started = site.path("started");
    let params = json!({"params": {"user": "name", "n": "int"}});
    let handler = site.handler(&params, &format!("touch {}", started.display()));
    let with = request(json!({"user": ".*", "n": 1, "other": 2}));
    let failure = site.runner.plan(&handler, with.clone(), LONG, never()).await.unwrap_err();
    let said = permanent(&failure);
    assert!(said.contains("parameter `user` is not a name") && said.contains("parameter `other`"), "{said}");
    let applied = site.runner.apply(&handler, with, &[change("a")], LONG, never(), &mut |_| {}).await;
    permanent(failed(&applied));
    assert!(!started.exists());
}

#[tokio::test]
async fn a_handler_that_can_not_plan_is_never_faked() {
    let site = Site::new();
    let handler = site.handler(&json!({"plan": false}), "exit 0");
    let plan = site.plan(&handler, LONG).await.unwrap();
    assert_eq!((plan[0].action, &plan[0].target[..]), (Action::Run, "toy k"));
    assert!(plan[0].more["note"].as_str().unwrap().contains("can't plan"));
    let applied = site.apply(&handler, &plan, LONG).await;
    assert_eq!(applied, Applied { verdict: Verdict::Done, done: plan, warning: None, notes: vec![], left: vec![] });
}

#[tokio::test]
async fn what_can_not_be_started_says_what_to_do() {
    let site = Site::new();
    let failure = site.plan(&config(&site.path("none")), LONG).await.unwrap_err();
    // It may be there again in a moment: a package is upgraded.
    assert!(matches!(&failure, Failure::Retry { message, .. } if message.contains("can't start")), "{failure}");
    let handler = site.script("#!/bin/bash\n");
    fs::set_permissions(site.path("handler"), fs::Permissions::from_mode(0o644)).unwrap();
    let failure = site.plan(&handler, LONG).await.unwrap_err();
    permanent(&failure);
    assert!(failure.hint().unwrap().starts_with("chmod +x /"), "{failure:?}");
    for (script, says) in [
        ("#!/no/such/interpreter\n", "can't start"),
        ("echo no interpreter\n", "can't start"),
        ("#!/bin/bash\necho '{\"describe\":{\"reactor\":2,\"name\":\"x\"}}'\n", "version 2"),
        ("#!/bin/bash\nexit 0\n", "no `describe` line"),
        (
            "#!/bin/bash\necho '{\"describe\":{\"reactor\":1,\"name\":\"x\",\"params\":{\"a\":\"string\"}}}'\n",
            "`string`",
        ),
    ] {
        let failure = site.plan(&site.script(script), LONG).await.unwrap_err();
        assert!(permanent(&failure).contains(says), "{script}: {failure}");
        assert!(failure.hint().is_some(), "{script}");
    }
}

#[tokio::test]
async fn describe_is_asked_again_only_when_the_file_changed() {
    let site = Site::new();
    let text = |version: &str| {
        format!(
            "#!/bin/bash\necho '{{\"describe\":{{\"reactor\":1,\"name\":\"x\",\"version\":\"{version}\",\"plan\":false}}}}'\n"
        )
    };
    let handler = site.script(&text("1"));
    let first = site.runner.describe(&handler).await.unwrap();
    assert!(Arc::ptr_eq(&first, &site.runner.describe(&handler).await.unwrap()));
    let handler = site.script(&text("1.0.2"));
    assert_eq!(site.runner.describe(&handler).await.unwrap().version, "1.0.2");
}

#[tokio::test]
async fn a_cancelled_run_is_ended_and_tried_again_later() {
    let site = Site::new();
    let handler = site.handler(&json!({}), "echo $$ > pid; exec sleep 600");
    site.runner.describe(&handler).await.unwrap();
    let (cancel, receiver) = watch::channel(false);
    cancel.send(true).unwrap();
    let failure = site.runner.plan(&handler, request(json!({})), LONG, receiver).await.unwrap_err();
    assert_eq!(retry(&failure), "handler toy, plan: it was cancelled");
}
