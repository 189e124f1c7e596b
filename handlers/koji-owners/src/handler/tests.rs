//! With package lists in memory; what a real hub does is in `tests/all/koji`.

use std::collections::VecDeque;

use handler_api::line::{Answer, Line as Said};
use serde_json::json;

use super::*;
use crate::hub::{Entry, Look, Verdict, WRITES_PER_CALL, Write};
use crate::names::UserName;

/// Package lists in memory.
#[derive(Debug, Default)]
struct Memory(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    rows: BTreeMap<(String, String), Entry>,
    /// Who has no account.
    strangers: BTreeSet<String>,
    /// What is written to these packages fails so.
    refused: BTreeMap<String, Failure>,
    /// What the next calls of `write` answer instead of doing anything.
    next: VecDeque<Result<Vec<Verdict>, Failure>>,
    calls: Vec<String>,
}

impl Memory {
    fn with(rows: &[(&str, &str, &str)]) -> Arc<Self> {
        let memory = Self::default();
        for (tag, package, owner) in rows {
            memory.put(tag, package, owner);
        }
        Arc::new(memory)
    }

    fn put(&self, tag: &str, package: &str, owner: &str) {
        let (package, owner, tag) = (package.to_owned(), owner.to_owned(), tag.to_owned());
        let row = Entry { package: package.clone(), owner, blocked: false, extra_arches: None, tag: tag.clone() };
        lock(&self.0).rows.insert((tag, package), row);
    }

    fn rows(&self) -> String {
        let shown = |row: &Entry| {
            format!("{} {} {}{}", row.tag, row.package, row.owner, if row.blocked { " blocked" } else { "" })
        };
        lock(&self.0).rows.values().map(shown).collect::<Vec<_>>().join("\n")
    }

    /// The calls since the last time.
    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.0).calls)
    }
}

impl Inside {
    fn write(&mut self, write: &Write) -> Verdict {
        if let Some(failure) = self.refused.get(write.package.as_str()) {
            return Err(failure.clone());
        }
        let at = (write.tag.to_string(), write.package.to_string());
        let row = self.rows.get_mut(&at);
        match (&write.what, row) {
            (What::Add { owner, extra_arches }, None) => {
                let (tag, package) = at.clone();
                let (owner, extra_arches) = (owner.to_string(), extra_arches.clone());
                self.rows.insert(at, Entry { package, owner, blocked: false, extra_arches, tag });
            }
            (What::SetOwner(owner), Some(row)) => row.owner = owner.to_string(),
            (What::Block, Some(row)) => row.blocked = true,
            (What::Unblock, Some(row)) if row.blocked => row.blocked = false,
            (what, row) => return Err(Failure::retry(format!("{what:?}: {row:?}"))),
        }
        Ok(())
    }
}

impl Lists for Memory {
    async fn list(&self, tag: &TagName) -> Result<Vec<Entry>, Failure> {
        let mut inside = lock(&self.0);
        inside.calls.push(format!("list {tag}"));
        Ok(inside.rows.values().filter(|row| row.tag == tag.as_str()).cloned().collect())
    }

    async fn look(&self, asked: &[(TagName, PackageName)], users: &BTreeSet<UserName>) -> Result<Look, Failure> {
        let mut inside = lock(&self.0);
        inside.calls.push(format!("look {} {}", asked.len(), users.len()));
        let row = |(tag, package): &(TagName, PackageName)| inside.rows.get(&(tag.to_string(), package.to_string()));
        Ok(Look {
            entries: asked.iter().map(|one| row(one).cloned()).collect(),
            without_account: users.iter().filter(|user| inside.strangers.contains(user.as_str())).cloned().collect(),
        })
    }

    async fn write(&self, writes: &[Write]) -> Result<Vec<Verdict>, Failure> {
        assert!(writes.len() <= WRITES_PER_CALL);
        let mut inside = lock(&self.0);
        inside.calls.push(format!("write {}", writes.len()));
        if let Some(answer) = inside.next.pop_front() {
            return answer;
        }
        Ok(writes.iter().map(|write| inside.write(write)).collect())
    }
}

/// A site with this truth, and the files it is in.
struct Here {
    site: Site<Memory>,
    hub: Arc<Memory>,
    dir: tempfile::TempDir,
}

const TRUTH: &str = "packages:
  bash: {owner: bob, branches: [rawhide, f44]}
  zsh: {owner: alice, branches: [rawhide], retired: [f44]}
  fish: {owner: orphan, branches: [rawhide]}
";

impl Here {
    fn new(truth: &str, hub: Arc<Memory>, more: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("packages.yaml");
        std::fs::write(&file, truth).unwrap();
        let mut words = json!({
            "hub": "https://koji.example.org/kojihub", "login": {"certificate": "koji"},
            "packages": {"yaml": file}, "tags": {"rawhide": "f45", "f44": ["f44", "f44-extra"]},
        });
        for (word, value) in more.as_object().unwrap() {
            words[word] = value.clone();
        }
        let words = words.as_object().unwrap();
        let site = Site::new(words, Config::read(words).unwrap(), Arc::clone(&hub)).unwrap();
        Self { site, hub, dir }
    }

    fn truth(&self, text: &str) {
        std::fs::write(self.dir.path().join("packages.yaml"), text).unwrap();
    }

    async fn plan(&self, with: &Value) -> Result<Plan, Failure> {
        self.site.plan(&request(with, None)).await
    }

    /// Applies; the targets that were reported.
    async fn apply(&self, with: &Value, changes: &[Change]) -> (Result<(), Failure>, Vec<String>) {
        let said = Heard::default();
        let mut done = Done::to(said.clone());
        let ended = self.site.apply(&request(with, Some(changes.to_vec())), &mut done).await;
        let lines = lock(&said.0).clone();
        let target = |line: &[u8]| match Answer::parse(line).unwrap().line {
            Said::Change(change) => change.target,
            other => panic!("{other:?}"),
        };
        (ended, lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(target).collect())
    }
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn request(with: &Value, changes: Option<Vec<Change>>) -> Request {
    let mut request: Request = serde_json::from_value(json!({
        "reactor": 1, "reaction": "r", "rule": "x", "key": "k", "attempt": 1, "with": with, "messages": [],
    }))
    .unwrap();
    request.changes = changes;
    request
}

fn targets(plan: &Plan) -> Vec<&str> {
    plan.changes.iter().map(|change| change.target.as_str()).collect()
}

#[tokio::test]
async fn one_package_is_planned_and_applied_with_three_calls_and_then_nothing_is_to_do() {
    let rows =
        [("f45", "bash", "alice"), ("f44", "bash", "alice"), ("f44-extra", "bash", "bob"), ("f45", "zsh", "carol")];
    let here = Here::new(TRUTH, Memory::with(&rows), &json!({}));
    let with = json!({"package": "rpms/bash"});
    let plan = here.plan(&with).await.unwrap();
    assert_eq!(targets(&plan), ["f44: owner of bash", "f45: owner of bash"]);
    assert_eq!(
        here.apply(&with, &plan.changes).await,
        (Ok(()), vec!["f44: owner of bash".into(), "f45: owner of bash".into()])
    );
    assert_eq!(here.hub.calls(), ["look 3 1", "look 2 0", "write 2"]);
    assert_eq!(here.hub.rows(), "f44 bash bob\nf44-extra bash bob\nf45 bash bob\nf45 zsh carol");
    assert_eq!(here.plan(&with).await.unwrap(), Plan::default());
}

#[tokio::test]
async fn only_the_tags_that_are_asked_for_are_looked_at() {
    let here = Here::new(TRUTH, Memory::with(&[]), &json!({}));
    let plan = here.plan(&json!({"package": "bash", "tags": ["f45"]})).await.unwrap();
    assert_eq!(targets(&plan), ["f45: package bash"]);
    let failure = here.plan(&json!({"package": "bash", "tags": ["f4"]})).await.unwrap_err();
    assert_eq!(failure.message(), "the tag f4 is not one of those that are looked after");
    assert!(failure.hint().unwrap().starts_with("did you mean f4"), "{failure:?}");
}

#[tokio::test]
async fn what_is_not_looked_at_is_said() {
    let here = Here::new(TRUTH, Memory::with(&[]), &json!({}));
    for (with, note) in [
        (json!({"package": "tests/bash"}), "\"tests/bash\" is no package of rpms: nothing is to do"),
        (json!({"package": "tcsh"}), "the truth has no package tcsh; in Koji it stays as it is"),
        (json!({"package": "fish", "tags": ["f44"]}), "fish lives on no branch that one of these tags stands for"),
    ] {
        let plan = here.plan(&with).await.unwrap();
        assert!(plan.changes.is_empty() && plan.notes == [note], "{plan:?}");
    }
    assert!(here.hub.calls().is_empty());
}

#[tokio::test]
async fn a_truth_that_can_not_be_read_fails_and_changes_nobodys_owner() {
    let here = Here::new(TRUTH, Memory::with(&[("f45", "bash", "alice")]), &json!({"no_account": {"owner": "releng"}}));
    for broken in [
        "",
        "packages: {}\n",
        "packages:\n  bash: {owner: , branches: [rawhide]}\n",
        "packages:\n  bash: {owner: 'x y', branches: [rawhide]}\n",
    ] {
        here.truth(broken);
        let failure = here.plan(&json!({"package": "bash"})).await.expect_err(broken);
        assert!(failure.hint().is_some(), "{failure:?}");
    }
    std::fs::remove_file(here.dir.path().join("packages.yaml")).unwrap();
    for with in [json!({"package": "bash"}), json!({})] {
        assert_eq!(here.plan(&with).await.unwrap_err().exit_code(), handler_api::exit::TRY_LATER);
    }
}

#[tokio::test]
async fn a_reconcile_is_one_call_a_tag_and_one_for_whoever_is_new() {
    let rows = [
        ("f45", "bash", "bob"),
        ("f45", "zsh", "alice"),
        ("f45", "fish", "orphan"),
        ("f44", "bash", "bob"),
        ("f44-extra", "bash", "bob"),
    ];
    let here = Here::new(TRUTH, Memory::with(&rows), &json!({}));
    assert_eq!(here.plan(&json!({})).await.unwrap(), Plan::default());
    assert_eq!(here.hub.calls(), ["list f44", "list f44-extra", "list f45"]);
    here.hub.put("f44", "zsh", "alice");
    here.hub.put("f45", "fish", "carol");
    here.hub.put("f45", "bash", "alice");
    here.hub.put("f45", "ksh", "alice");
    lock(&here.hub.0).strangers.insert("bob".into());
    let plan = here.plan(&json!({})).await.unwrap();
    assert_eq!(here.hub.calls().last().unwrap(), "look 0 2", "bob and orphan");
    assert_eq!(targets(&plan), ["f44: package zsh", "f45: owner of fish"]);
    assert!(plan.changes.iter().all(|change| change.hold.is_some()), "a block and an orphan wait for a person");
    assert_eq!(plan.notes.len(), 2, "{:?}", plan.notes);
    assert!(plan.notes[0].contains("bash of bob is left alone") && plan.notes[1].contains("ksh is in the list"));
    let (ended, done) = here.apply(&json!({}), &plan.changes).await;
    assert_eq!((ended, done.len()), (Ok(()), 2));
    assert!(here.hub.rows().contains("f44 zsh alice blocked") && here.hub.rows().contains("f45 fish orphan"));
    assert!(here.plan(&json!({})).await.unwrap().changes.is_empty());
}

#[tokio::test]
async fn what_somebody_changed_since_the_plan_is_not_written_over_and_what_is_true_already_is_not_written() {
    let rows = [("f45", "bash", "alice"), ("f44", "bash", "alice"), ("f44-extra", "bash", "bob")];
    let here = Here::new(TRUTH, Memory::with(&rows), &json!({}));
    let with = json!({"package": "bash"});
    let plan = here.plan(&with).await.unwrap();
    here.hub.put("f45", "bash", "carol");
    let (ended, done) = here.apply(&with, &plan.changes).await;
    assert_eq!((ended.unwrap_err().exit_code(), done.len()), (handler_api::exit::TRY_LATER, 0));
    assert!(!here.hub.calls().iter().any(|call| call.starts_with("write")));
    here.hub.put("f45", "bash", "bob");
    let (ended, done) = here.apply(&with, &plan.changes).await;
    assert_eq!((ended, done.len()), (Ok(()), 2), "one was true already");
    assert_eq!(here.hub.calls().last().unwrap(), "write 1");
}

#[tokio::test]
async fn each_answer_is_judged_and_only_what_failed_is_left_for_the_next_plan() {
    let truth: String = std::iter::once("packages:\n".to_owned())
        .chain((0..1_200).map(|n| format!("  p{n:04}: {{owner: bob, branches: [rawhide]}}\n")))
        .collect();
    let here = Here::new(&truth, Memory::with(&[]), &json!({"tags": {"rawhide": "f45"}}));
    let plan = here.plan(&json!({})).await.unwrap();
    here.hub.calls();
    let permanent =
        Failure::permanent("f45: add p0007 for bob: not allowed").hinting("koji grant-permission tag reactor");
    let refused = [("p0007", permanent.clone()), ("p0600", permanent), ("p1100", Failure::retry("the hub is offline"))];
    lock(&here.hub.0).refused = refused.map(|(name, failure)| (name.to_owned(), failure)).into();
    let (ended, done) = here.apply(&json!({}), &plan.changes).await;
    let Failure::Retry { message, .. } = ended.unwrap_err() else { panic!("one of them may pass") };
    assert!(message.starts_with("3 failures: f45: add p0007 for bob: not allowed; "), "{message}");
    assert_eq!(
        (done.len(), here.hub.calls()),
        (1_197, vec!["look 1200 0".into(), "write 500".into(), "write 500".into(), "write 200".into()])
    );
    let plan = here.plan(&json!({})).await.unwrap();
    assert_eq!(targets(&plan), ["f45: package p0007", "f45: package p0600", "f45: package p1100"]);
    lock(&here.hub.0).refused.remove("p1100");
    let (ended, done) = here.apply(&json!({}), &plan.changes).await;
    let failure = ended.unwrap_err();
    assert_eq!((failure.exit_code(), done.len()), (handler_api::exit::PERMANENT, 1), "{failure}");
    assert_eq!(failure.hint(), Some("koji grant-permission tag reactor"));
}

#[tokio::test]
async fn a_thousand_failures_are_one_message_that_can_be_read() {
    let truth: String = std::iter::once("packages:\n".to_owned())
        .chain((0..1_000).map(|n| format!("  p{n:04}: {{owner: bob, branches: [rawhide]}}\n")))
        .collect();
    let here = Here::new(&truth, Memory::with(&[]), &json!({"tags": {"rawhide": "f45"}}));
    let plan = here.plan(&json!({})).await.unwrap();
    let long = |n: usize| (format!("p{n:04}"), Failure::permanent("x".repeat(10_000)));
    lock(&here.hub.0).refused = (0..1_000).map(long).collect();
    let (ended, done) = here.apply(&json!({}), &plan.changes).await;
    let failure = ended.unwrap_err();
    assert!(failure.message().len() < 2_000 && failure.message().ends_with("; and 997 more"), "{failure}");
    assert!(done.is_empty());
}

#[tokio::test]
async fn a_hub_that_goes_away_between_two_batches_leaves_what_was_done_reported() {
    let truth: String = std::iter::once("packages:\n".to_owned())
        .chain((0..600).map(|n| format!("  p{n:04}: {{owner: bob, branches: [rawhide]}}\n")))
        .collect();
    let here = Here::new(&truth, Memory::with(&[]), &json!({"tags": {"rawhide": "f45"}}));
    let plan = here.plan(&json!({})).await.unwrap();
    let next = [Ok(vec![Ok(()); 500]), Err(Failure::retry("the hub is gone"))];
    lock(&here.hub.0).next.extend(next);
    let (ended, done) = here.apply(&json!({}), &plan.changes).await;
    assert_eq!((ended, done.len()), (Err(Failure::retry("the hub is gone")), 500));
    lock(&here.hub.0).next.push_back(Ok(vec![Ok(()); 499]));
    let (ended, done) = here.apply(&json!({}), &plan.changes).await;
    assert!(ended.unwrap_err().message().contains("asked 500 things, and answered 499") && done.is_empty());
}

#[tokio::test]
async fn changes_that_stand_for_many_are_planned_again_and_written_only_if_they_are_the_same() {
    let truth = |owner: &str| -> String {
        std::iter::once("packages:\n".to_owned())
            .chain((0..2_100).map(|n| format!("  p{n:04}: {{owner: {owner}, branches: [rawhide]}}\n")))
            .collect()
    };
    let here = Here::new(&truth("bob"), Memory::with(&[]), &json!({"tags": {"rawhide": "f45"}}));
    let plan = here.plan(&json!({})).await.unwrap();
    assert_eq!((targets(&plan), plan.changes[0].count), (vec!["f45: new packages"], Some(2_100)));
    here.truth(&truth("mallory"));
    let (ended, done) = here.apply(&json!({}), &plan.changes).await;
    assert_eq!((ended.unwrap_err().exit_code(), done.len()), (handler_api::exit::TRY_LATER, 0));
    assert_eq!(here.hub.rows(), "");
    here.truth(&truth("bob"));
    let (ended, done) = here.apply(&json!({}), &plan.changes).await;
    assert_eq!((ended, done), (Ok(()), vec!["f45: new packages".to_owned()]));
    assert_eq!(here.plan(&json!({})).await.unwrap(), Plan::default());
}

#[tokio::test]
async fn a_package_that_lives_again_is_unblocked_and_then_gets_its_owner() {
    let here = Here::new(TRUTH, Memory::with(&[("f45", "zsh", "carol")]), &json!({"hold": []}));
    lock(&here.hub.0).rows.values_mut().for_each(|row| row.blocked = true);
    let with = json!({"package": "zsh"});
    let plan = here.plan(&with).await.unwrap();
    assert_eq!(targets(&plan), ["f45: package zsh", "f45: owner of zsh"]);
    let (ended, done) = here.apply(&with, &plan.changes).await;
    assert_eq!((ended, done.len()), (Ok(()), 2));
    assert_eq!(here.hub.rows(), "f45 zsh alice");
}

#[tokio::test]
async fn without_a_login_nothing_is_written_and_the_failure_says_what_to_write() {
    let here = Here::new(TRUTH, Memory::with(&[]), &json!({"login": null}));
    let plan = here.plan(&json!({"package": "bash"})).await.unwrap();
    let (ended, _) = here.apply(&json!({"package": "bash"}), &plan.changes).await;
    let failure = ended.unwrap_err();
    assert_eq!(failure.exit_code(), handler_api::exit::PERMANENT);
    assert!(failure.hint().unwrap().contains("write login:"));
    assert_eq!(here.hub.rows(), "");
}

#[tokio::test]
async fn the_session_stays_when_only_other_words_change() {
    let mut words = json!({
        "hub": "https://koji.example.org/kojihub", "packages": {"yaml": "/x/packages.yaml"}, "tags": {"rawhide": "f45"},
    });
    let handler = KojiOwners::new();
    let first = handler.site(words.as_object().unwrap()).unwrap();
    assert!(Arc::ptr_eq(&first, &handler.site(words.as_object().unwrap()).unwrap()));
    words["orphan"] = "nobody".into();
    let second = handler.site(words.as_object().unwrap()).unwrap();
    assert!(!Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&first.hub, &second.hub));
    words["hub"] = "https://koji2.example.org/kojihub".into();
    assert!(!Arc::ptr_eq(&second.hub, &handler.site(words.as_object().unwrap()).unwrap().hub));
}
