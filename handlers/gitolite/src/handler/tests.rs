//! All parts together, against a bare repository, without a daemon.

use std::fs;

use serde_json::json;

use super::*;
use crate::admin::tests::Site as Remote;
use crate::files::conf_repo;
use crate::names::RepoName;

/// A truth, an admin repository, and the handler between them.
struct Whole {
    dir: tempfile::TempDir,
    remote: Remote,
    handler: Gitolite,
}

impl Whole {
    fn new() -> Self {
        let whole = Self { dir: tempfile::tempdir().unwrap(), remote: Remote::new(), handler: Gitolite::new() };
        fs::write(
            whole.dir.path().join("rules.hbs"),
            "repo {{repo}}\n  R = @all\n{{#if commit}}  RW = {{commit}}\n{{/if}}",
        )
        .unwrap();
        fs::write(whole.dir.path().join("accounts.yaml"), "users: {alice: {keys: []}, bob: {keys: []}}\ngroups: {}\n")
            .unwrap();
        whole.people("alice");
        whole
    }

    fn people(&self, names: &str) {
        fs::write(self.dir.path().join("repos.yaml"), format!("repos: {{rpms/foo: {{commit: [{names}]}}}}\n")).unwrap();
    }

    /// A reaction; `about` = whom its message names, or none for a reconcile.
    fn request(&self, reaction: &str, about: Option<&str>) -> Request {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let message = |name: &str| json!({"id": "1", "topic": "t", "sent": "", "signer": "s", "body": {"user": name}});
        serde_json::from_value(json!({
            "reactor": 1, "reaction": reaction, "rule": "r", "key": "k", "attempt": 1,
            "with": about.map_or(json!({}), |_| json!({"repo": "rpms/foo"})),
            "messages": about.map(message).into_iter().collect::<Vec<_>>(),
            "config": {
                "admin": self.remote.path(), "template": at("rules.hbs"),
                "repos": {"yaml": at("repos.yaml")}, "accounts": {"yaml": at("accounts.yaml")},
            },
        }))
        .unwrap()
    }

    async fn plan(&self, request: &Request) -> Vec<Change> {
        self.handler.plan(request).await.unwrap().changes
    }

    async fn push(&self, request: &Request, changes: &[Change]) -> Result<(), Failure> {
        let site = self.handler.site(&request.config)?;
        let known = match site.kept(&request.reaction) {
            Some(known) => known,
            None => site.ask(request).await?,
        };
        site.push(request, &known, changes).await
    }

    /// A message comes, and what it led to is done.
    async fn done(&self, reaction: &str, about: &str, names: &str) {
        self.people(names);
        let request = self.request(reaction, Some(about));
        let changes = self.plan(&request).await;
        assert!(!changes.is_empty() && changes.iter().all(|change| change.hold.is_none()), "{changes:?}");
        self.push(&request, &changes).await.unwrap();
    }

    fn rules(&self) -> String {
        self.remote.file("master", &conf_repo(&RepoName::parse("rpms/foo").unwrap())).unwrap()
    }
}

#[tokio::test]
async fn who_came_and_went_while_all_was_asked_does_not_come_back_by_the_old_answer() {
    let whole = Whole::new();
    whole.done("01", "alice", "alice").await;
    whole.people("alice, bob");
    let reconcile = whole.request("02", None);
    let seen = whole.plan(&reconcile).await;
    assert_eq!(seen.iter().map(|change| change.target.as_str()).collect::<Vec<_>>(), ["rpms/foo: RW: bob"]);
    whole.done("03", "bob", "alice, bob").await;
    whole.done("04", "bob", "alice").await;
    let failure = whole.push(&reconcile, &seen).await.unwrap_err();
    assert!(matches!(failure, Failure::Retry { .. }), "{failure:?}");
    assert!(!whole.rules().contains("bob"), "{}", whole.rules());
    assert!(whole.plan(&reconcile).await.is_empty(), "asked again it has nothing to do");
}

#[tokio::test]
async fn only_one_plan_of_all_and_no_empty_one_is_kept() {
    let whole = Whole::new();
    for reaction in ["01", "02", "03"] {
        assert!(!whole.plan(&whole.request(reaction, None)).await.is_empty());
    }
    let site = whole.handler.site(&whole.request("", None).config).unwrap();
    assert_eq!(lock(&site.kept).iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["03"]);
    whole.done("04", "alice", "alice").await;
    assert!(whole.plan(&whole.request("03", None)).await.is_empty());
    assert!(lock(&site.kept).is_empty());
}

#[tokio::test]
async fn more_groups_than_are_asked_about_at_once_are_asked_about_in_parts() {
    let whole = Whole::new();
    let groups: Vec<String> = (0..=accounts::GROUPS_MAX).map(|n| format!("g{n}")).collect();
    let of = |n: usize| if n == 7 { "alice, bob" } else { "bob" };
    let lines: String = groups.iter().enumerate().map(|(n, group)| format!("  {group}: [{}]\n", of(n))).collect();
    let text = format!("users: {{alice: {{keys: []}}, bob: {{keys: []}}}}\ngroups:\n{lines}");
    fs::write(whole.dir.path().join("accounts.yaml"), text).unwrap();
    whole.people(&groups.iter().map(|group| format!("\"@{group}\"")).collect::<Vec<_>>().join(", "));
    let known = whole.handler.site(&whole.request("", None).config).unwrap();
    let known = known.ask(&whole.request("01", None)).await.unwrap();
    assert!(known.notes.is_empty(), "{:?}", known.notes);
    let with_alice = |group: &plan::Group| matches!(group, plan::Group::Whole(all) if all.len() == 2);
    assert_eq!(known.wanted.groups.len(), groups.len());
    let found: Vec<&str> =
        known.wanted.groups.iter().filter(|(_, group)| with_alice(group)).map(|(name, _)| name.as_str()).collect();
    assert_eq!(found, ["g7"]);
}
