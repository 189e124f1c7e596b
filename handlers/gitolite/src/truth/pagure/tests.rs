//! Against a stand-in that answers in pagure's shapes (see `forge::stub`).

use std::time::Duration;

use handler_api::exit;
use serde_json::json;

use super::*;
use forge::stub::{Act, Acts, Stub, faults, say};

fn name(text: &str) -> RepoName {
    RepoName::parse(text).unwrap()
}

/// A project as pagure 5.14 shows it to everybody.
fn project(fullname: &str) -> Value {
    let parts: Vec<&str> = fullname.split('/').collect();
    let namespace = (parts.len() == 2 || parts.len() == 4).then(|| parts[parts.len() - 2]);
    json!({
        "access_groups": {"admin": ["perl-sig"], "collaborator": [], "commit": ["infra-sig"], "ticket": ["testers"]},
        "access_users": {"admin": ["bob"], "collaborator": ["carol"], "commit": ["dave"], "owner": ["alice"], "ticket": ["erin"]},
        "close_status": [], "custom_keys": [], "date_created": "1498841289", "date_modified": "1498841289",
        "description": "The foo package", "full_url": "https://src.example.org/x", "fullname": fullname, "id": 1, "milestones": {},
        "name": parts.last(), "namespace": namespace, "parent": null, "priorities": {}, "tags": [], "url_path": fullname,
        "user": {"fullname": "Alice", "name": "alice", "url_path": "user/alice", "full_url": "https://src.example.org/user/alice"}
    })
}

fn branches(names: &[&str]) -> Value {
    json!({"branches": names, "default": names.first(), "total_branches": names.len()})
}

fn no_project() -> Act {
    Act::Say(404, "application/json", json!({"error": "Project not found", "error_code": "ENOPROJECT"}).to_string())
}

fn put(acts: &mut Acts, fullname: &str) {
    let path = format!("/api/0/{}", fullname.replacen("forks/", "fork/", 1));
    acts.insert(path.clone(), say(&project(fullname)));
    acts.insert(format!("{path}/git/branches"), say(&branches(&["rawhide", "f41"])));
}

/// One page as pagure cuts it.
fn page(projects: &[Value], size: usize, number: usize) -> Value {
    let from = ((number - 1) * size).min(projects.len());
    json!({
        "args": {"fork": false, "namespace": "rpms", "owner": null, "page": number, "pattern": null, "per_page": size, "short": false,
            "tags": [], "username": null},
        "pagination": {"first": "http://x", "last": "http://x", "next": null, "page": number,
            "pages": projects.len().div_ceil(size), "per_page": size, "prev": null},
        "projects": projects[from..(from + size).min(projects.len())],
        "total_projects": projects.len()
    })
}

const LIST: &str = "/api/0/projects?namespace=rpms&fork=false";

fn list(acts: &mut Acts, query: &str, projects: &[Value], size: usize) {
    for number in 1..=projects.len().div_ceil(size).max(1) {
        acts.insert(format!("{query}&per_page={size}&page={number}"), say(&page(projects, size, number)));
    }
}

fn source(stub: &Stub, more: &Value) -> Pagure {
    let mut config = json!({"pagure": stub.url, "namespaces": ["rpms"], "timeout": "2s"});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut source = Pagure::open(&config).unwrap();
    source.site.page_sizes = [2, 3, 5];
    source
}

fn users(repo: &Repo) -> Vec<&str> {
    repo.commit.users.iter().map(|user| user.as_str()).collect()
}

fn groups(repo: &Repo) -> Vec<&str> {
    repo.commit.groups.iter().map(|group| group.as_str()).collect()
}

#[tokio::test]
async fn owner_admins_and_committers_may_commit_and_nobody_else() {
    let mut acts = Acts::new();
    put(&mut acts, "rpms/foo");
    put(&mut acts, "rpms/shim");
    put(&mut acts, "forks/bob/rpms/foo");
    let stub = Stub::start(acts).await;
    let source = source(&stub, &json!({"forks": true, "pull_requests_only": ["rpms/shim"]}));
    let foo = source.repo(&name("rpms/foo")).await.unwrap().unwrap();
    assert_eq!((users(&foo), groups(&foo)), (vec!["alice", "bob", "dave"], vec!["infra-sig", "perl-sig"]));
    assert_eq!(foo.branches.keys().map(BranchName::as_str).collect::<Vec<_>>(), ["f41", "rawhide"]);
    assert!(foo.branches.values().all(Option::is_none));
    assert!(!foo.fork && !foo.pull_requests_only && !foo.commit.everyone && foo.deploy_keys.is_empty());
    assert_eq!(*stub.asked.lock().unwrap(), ["/api/0/rpms/foo", "/api/0/rpms/foo/git/branches"]);
    assert!(source.repo(&name("rpms/shim")).await.unwrap().unwrap().pull_requests_only);
    assert!(source.repo(&name("forks/bob/rpms/foo")).await.unwrap().unwrap().fork);
    assert_eq!(stub.count("/api/0/fork/bob/rpms/foo"), 2);
}

#[tokio::test]
async fn only_pagures_own_word_said_twice_means_that_there_is_none() {
    let mut acts = Acts::new();
    for (at, project_act, branches_act) in [
        ("gone", no_project(), no_project()),
        ("half", no_project(), say(&branches(&["rawhide"]))),
        ("other", say(&project("rpms/other")), no_project()),
    ] {
        acts.insert(format!("/api/0/rpms/{at}"), project_act);
        acts.insert(format!("/api/0/rpms/{at}/git/branches"), branches_act);
    }
    for (at, code, error) in
        [("a", "ENOPROJECTS", "Project not found"), ("b", "ENOPROJECT", "x"), ("c", "ENOUSER", "No such user found")]
    {
        let act = Act::Say(404, "application/json", json!({"error": error, "error_code": code}).to_string());
        acts.insert(format!("/api/0/rpms/{at}"), act.clone());
        acts.insert(format!("/api/0/rpms/{at}/git/branches"), act);
    }
    let stub = Stub::start(acts).await;
    for more in [json!({}), json!({"branches": false})] {
        let source = source(&stub, &more);
        assert_eq!(source.repo(&name("rpms/gone")).await.unwrap(), None);
        for wrong in ["half", "other", "a", "b", "c", "proxy"] {
            let failure = source.repo(&name(&format!("rpms/{wrong}"))).await.unwrap_err();
            assert_eq!(failure.exit_code(), exit::TRY_LATER, "{wrong}: {failure}");
            assert!(failure.message().contains(&stub.url) && failure.hint().is_some(), "{failure:?}");
        }
    }
}

#[tokio::test]
async fn whatever_is_not_a_certain_answer_is_a_failure() {
    let mut acts = Acts::new();
    put(&mut acts, "rpms/foo");
    let stub = Stub::start(acts).await;
    let mut source = source(&stub, &json!({}));
    source.site.server.curl.timeout = Duration::from_secs(1);
    let (at, listed) = ("/api/0/rpms/foo", "/api/0/rpms/foo/git/branches");
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut body = project("rpms/foo");
        change(&mut body);
        say(&body)
    };
    let without = |map: &'static str, word: &'static str| {
        changed(&move |body| drop(body[map].as_object_mut().unwrap().shift_remove(word)))
    };
    let mut wrong: Vec<(&str, Act, &str)> =
        faults(&project("rpms/foo")).into_iter().map(|(act, part)| (at, act, part)).collect();
    wrong.extend(faults(&branches(&["f41"])).into_iter().map(|(act, part)| (listed, act, part)));
    wrong.extend([
        (at, say(&project("rpms/bar")), "rpms/bar"),
        (at, say(&project("RPMS/foo")), "RPMS/foo"),
        (at, changed(&|body| drop(body.as_object_mut().unwrap().shift_remove("access_users"))), "access_users"),
        (at, changed(&|body| drop(body.as_object_mut().unwrap().shift_remove("access_groups"))), "access_groups"),
        (at, changed(&|body| body["access_users"] = json!({})), "owner"),
        (at, without("access_users", "owner"), "owner"),
        (at, changed(&|body| body["access_users"]["owner"] = json!([])), "owner"),
        (at, without("access_users", "admin"), "admin"),
        (at, without("access_users", "commit"), "commit"),
        (at, without("access_groups", "admin"), "admin"),
        (at, without("access_groups", "commit"), "commit"),
        (at, changed(&|body| body["access_users"]["commit"] = json!(null)), "null"),
        (at, changed(&|body| body["access_users"]["commit"] = json!([{"name": "dave"}])), "shape"),
        (listed, say(&json!({"branches": ["f41"], "total_branches": 2})), "2 branches"),
        (listed, say(&json!({"branches": ["f41"]})), "total_branches"),
        (listed, say(&json!({"branches": {"f41": "0123"}, "total_branches": 1})), "shape"),
        (listed, no_project(), "gone between"),
    ]);
    for (path, act, part) in wrong {
        let shown = format!("{path} {act:?}");
        stub.set(at, say(&project("rpms/foo")));
        stub.set(listed, say(&branches(&["f41"])));
        stub.set(path, act);
        let failure = source.repo(&name("rpms/foo")).await.unwrap_err();
        assert!(failure.message().contains(part) && failure.hint().is_some(), "{shown}: {failure:?}");
        assert_eq!(failure.exit_code(), exit::TRY_LATER, "{shown}");
        assert!(failure.message().len() < 1_000, "{failure}");
    }
}

#[tokio::test]
async fn a_hostile_name_spoils_its_project_and_no_other() {
    let long = "x".repeat(1_000_000);
    let mut acts = Acts::new();
    let mut all = Vec::new();
    let hostile = ["all", "@all", "foo bar", "-x", "a\nb", "", &long, "perl-sig = mallory"];
    for (n, wrong) in hostile.into_iter().enumerate() {
        for kind in ["access_users", "access_groups"] {
            let fullname = format!("rpms/{kind}{n}");
            let mut body = project(&fullname);
            body[kind]["admin"] = json!(["good", wrong]);
            put(&mut acts, &fullname);
            acts.insert(format!("/api/0/{fullname}"), say(&body));
            all.push(body);
        }
    }
    all.push(project("rpms/good"));
    put(&mut acts, "rpms/good");
    list(&mut acts, LIST, &all, 100);
    let stub = Stub::start(acts).await;
    let mut source = source(&stub, &json!({}));
    source.site.page_sizes = [100; 3];
    let found = source.all().await.unwrap();
    assert_eq!((found.repos.len(), found.left_alone.len()), (1, 2 * hostile.len()));
    for (repo, sentence) in &found.left_alone {
        let failure = source.repo(repo).await.unwrap_err();
        assert_eq!((failure.exit_code(), failure.message()), (exit::PERMANENT, sentence.as_str()));
        assert!(sentence.contains(repo.as_str()) && sentence.len() < 600, "{sentence}");
        assert!(!sentence.chars().any(char::is_control), "{sentence:?}");
    }
}

#[tokio::test]
async fn a_branch_that_no_rule_can_name_does_not_stop_the_rules() {
    let mut acts = Acts::new();
    put(&mut acts, "rpms/foo");
    acts.insert("/api/0/rpms/foo/git/branches".into(), say(&branches(&["f41", "a b", "x#1", "refs/x", "@all", "-x"])));
    let stub = Stub::start(acts).await;
    let foo = source(&stub, &json!({})).repo(&name("rpms/foo")).await.unwrap().unwrap();
    assert_eq!(foo.branches.keys().map(BranchName::as_str).collect::<Vec<_>>(), ["f41"]);
}

#[tokio::test]
async fn what_is_not_looked_after_is_told_and_not_asked_for() {
    let stub = Stub::start(Acts::new()).await;
    for (wrong, part) in [
        ("modules/foo", "none of the namespaces"),
        ("foo", "none of the namespaces"),
        ("forks/bob/rpms/foo", "forks are not looked after"),
        ("forks/bob", "no name that a project"),
        ("rpms/foo/git/branches", "no name that a project"),
        ("forks/a/b/c/d", "no name that a project"),
    ] {
        let failure = source(&stub, &json!({})).repo(&name(wrong)).await.unwrap_err();
        assert!(failure.message().contains(part) && failure.hint().is_some(), "{wrong}: {failure:?}");
        assert_eq!(failure.exit_code(), exit::PERMANENT, "{wrong}");
    }
    let failure = source(&stub, &json!({"forks": true})).repo(&name("forks/bob/modules/x")).await.unwrap_err();
    assert!(failure.message().contains("none of the namespaces"), "{failure}");
    assert!(stub.asked.lock().unwrap().is_empty());
}

fn five() -> Vec<Value> {
    (0..5).map(|n| project(&format!("rpms/p{n}"))).collect()
}

fn acts_of(projects: &[Value]) -> Acts {
    let mut acts = Acts::new();
    list(&mut acts, LIST, projects, 2);
    projects.iter().for_each(|project| put(&mut acts, project["fullname"].as_str().unwrap()));
    acts
}

#[tokio::test]
async fn every_page_of_every_namespace_is_read() {
    let mut acts = acts_of(&five());
    let query = |namespace: &str, fork: bool| format!("/api/0/projects?namespace={namespace}&fork={fork}");
    list(&mut acts, &query("modules", false), &[project("modules/m")], 2);
    list(&mut acts, &query("modules", true), &[], 2);
    list(&mut acts, &query("rpms", true), &[project("forks/bob/rpms/p1")], 2);
    put(&mut acts, "modules/m");
    put(&mut acts, "forks/bob/rpms/p1");
    let stub = Stub::start(acts).await;
    let all = source(&stub, &json!({"namespaces": ["rpms", "modules"], "forks": true})).all().await.unwrap();
    let names: Vec<&str> = all.repos.keys().map(RepoName::as_str).collect();
    assert_eq!(names, ["forks/bob/rpms/p1", "modules/m", "rpms/p0", "rpms/p1", "rpms/p2", "rpms/p3", "rpms/p4"]);
    assert!(all.repos.values().all(|repo| repo.branches.len() == 2 && repo.commit.users.len() == 3));
    assert!(all.left_alone.is_empty() && all.notes.is_empty());
    let without = source(&stub, &json!({"branches": false})).all().await.unwrap();
    assert!(without.repos.len() == 5 && without.repos.values().all(|repo| repo.branches.is_empty()));
}

#[tokio::test]
async fn a_list_that_is_not_whole_is_a_failure() {
    let good = page(&five(), 2, 3);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut body = good.clone();
        change(&mut body);
        say(&body)
    };
    let mut wrong = faults(&good);
    wrong.extend([
        (changed(&|body| body["total_projects"] = json!(6)), "counts 6 projects in all, the first counted 5"),
        (changed(&|body| body["pagination"]["page"] = json!(1)), "answers with page 1"),
        (changed(&|body| body["pagination"]["per_page"] = json!(20)), "with 20"),
        (changed(&|body| body["pagination"]["pages"] = json!(2)), "of 2"),
        (changed(&|body| drop(body.as_object_mut().unwrap().shift_remove("pagination"))), "pagination"),
        (changed(&|body| drop(body.as_object_mut().unwrap().shift_remove("total_projects"))), "total_projects"),
        (changed(&|body| body["projects"] = json!([])), "has 0 projects, and should have 1"),
        (changed(&|body| body["projects"][0]["fullname"] = json!("modules/p4")), "not asked for"),
        (changed(&|body| body["projects"][0]["fullname"] = json!("rpmsx/p4")), "not asked for"),
        (changed(&|body| body["projects"][0]["fullname"] = json!("forks/bob/rpms/p4")), "not asked for"),
        (
            changed(&|body| drop(body["projects"][0].as_object_mut().unwrap().shift_remove("access_users"))),
            "access_users",
        ),
        // In the list twice, and so another is missing: also with the other sizes, which this server does not know.
        (changed(&|body| body["projects"][0] = project("rpms/p0")), "404"),
        (no_project(), "404"),
    ]);
    let stub = Stub::start(acts_of(&five())).await;
    let mut source = source(&stub, &json!({"branches": false}));
    source.site.server.curl.timeout = Duration::from_secs(1);
    for (act, part) in wrong {
        let shown = format!("{act:?}");
        stub.set(&format!("{LIST}&per_page=2&page=3"), act);
        let failure = source.all().await.unwrap_err();
        assert!(failure.message().contains(part) && failure.hint().is_some(), "{shown}: {failure:?}");
        assert_eq!(failure.exit_code(), exit::TRY_LATER, "{shown}");
    }
}

#[tokio::test]
async fn a_project_lost_where_two_pages_meet_is_found_in_pages_that_meet_elsewhere() {
    let five = five();
    let mut acts = acts_of(&five);
    list(&mut acts, LIST, &five, 3);
    let mut second = page(&five, 2, 2);
    second["projects"][0] = project("rpms/p1");
    acts.insert(format!("{LIST}&per_page=2&page=2"), say(&second));
    let stub = Stub::start(acts).await;
    let source = source(&stub, &json!({"branches": false}));
    assert_eq!(source.all().await.unwrap().repos.len(), 5);
    // Lost in all three: never taken for "no such project".
    let mut same = page(&five, 3, 2);
    same["projects"] = json!([project("rpms/p0"), project("rpms/p1")]);
    stub.set(&format!("{LIST}&per_page=3&page=2"), say(&same));
    second["projects"][1] = project("rpms/p1");
    stub.set(&format!("{LIST}&per_page=2&page=2"), say(&second));
    let mut whole = page(&five, 5, 1);
    whole["projects"][3] = project("rpms/p0");
    stub.set(&format!("{LIST}&per_page=5&page=1"), say(&whole));
    let failure = source.all().await.unwrap_err();
    assert!(failure.message().contains("4 projects came, and 5 should have"), "{failure}");
}

#[tokio::test]
async fn a_namespace_without_projects_is_not_believed() {
    let mut acts = Acts::new();
    list(&mut acts, LIST, &[], 2);
    let stub = Stub::start(acts).await;
    let failure = source(&stub, &json!({})).all().await.unwrap_err();
    assert!(failure.message().contains("no projects in the namespace rpms") && failure.hint().is_some(), "{failure:?}");
}

#[tokio::test]
async fn a_project_whose_branches_cant_be_read_is_left_alone_but_many_are_a_failure() {
    let stub = Stub::start(acts_of(&five())).await;
    stub.set("/api/0/rpms/p1/git/branches", Act::Say(500, "text/html", "<html>".into()));
    stub.set("/api/0/rpms/p2/git/branches", no_project());
    let all = source(&stub, &json!({})).all().await.unwrap();
    assert_eq!((all.repos.len(), all.left_alone.len()), (3, 2));
    assert!(all.left_alone[&name("rpms/p1")].contains("500"), "{all:?}");
    assert!(all.left_alone[&name("rpms/p2")].contains("went away"), "{all:?}");
    let many: Vec<Value> = (0..=forge::pagure::UNREADABLE_MAX).map(|n| project(&format!("rpms/q{n}"))).collect();
    let mut acts = Acts::new();
    list(&mut acts, LIST, &many, 500);
    let stub = Stub::start(acts).await;
    let mut source = source(&stub, &json!({}));
    source.site.page_sizes = [500; 3];
    let failure = source.all().await.unwrap_err();
    assert!(failure.message().contains("more than 100 projects"), "{failure}");
}

#[tokio::test]
async fn a_project_with_a_name_that_is_none_is_told() {
    let projects = [project("rpms/good"), project("rpms/foo bar"), project("rpms/-x")];
    let mut acts = Acts::new();
    list(&mut acts, LIST, &projects, 2);
    let stub = Stub::start(acts).await;
    let all = source(&stub, &json!({"branches": false})).all().await.unwrap();
    assert_eq!((all.repos.len(), all.left_alone.len(), all.notes.len()), (1, 0, 2));
    assert!(all.notes.iter().any(|note| note.contains("\"rpms/foo bar\"")), "{:?}", all.notes);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_failure() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let source = Pagure::open(&json!({"pagure": url})).unwrap();
    for failure in [source.repo(&name("rpms/foo")).await.unwrap_err(), source.all().await.unwrap_err()] {
        assert!(failure.message().contains("curl: (7)") && failure.message().contains(&url), "{failure}");
    }
}

#[tokio::test]
async fn twenty_thousand_projects_come_whole_and_two_thousand_with_their_branches() {
    let many: Vec<Value> = (0..20_000).map(|n| project(&format!("rpms/package-{n}"))).collect();
    let mut acts = Acts::new();
    list(&mut acts, LIST, &many, 100);
    let some = &many[..2_000];
    list(&mut acts, "/api/0/projects?namespace=rpms&fork=false", some, 97);
    some.iter().for_each(|project| put(&mut acts, project["fullname"].as_str().unwrap()));
    let stub = Stub::start(acts).await;
    let mut without = source(&stub, &json!({"branches": false, "timeout": "60s"}));
    without.site.page_sizes = forge::pagure::PAGE_PROJECTS;
    assert_eq!(without.all().await.unwrap().repos.len(), 20_000);
    let mut with = source(&stub, &json!({"timeout": "60s"}));
    with.site.page_sizes = [97; 3];
    assert_eq!(with.all().await.unwrap().repos.values().filter(|repo| repo.branches.len() == 2).count(), 2_000);
}
