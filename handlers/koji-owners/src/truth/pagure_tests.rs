//! Against a stand-in that answers in pagure's shapes (see `forge::stub`).

use std::time::Duration;

use forge::stub::{Act, Acts, Stub, faults, say};
use handler_api::exit;
use serde_json::json;

use super::*;

fn wanted() -> Wanted {
    ["rawhide", "f44", "f43", "epel9"].iter().map(|name| BranchName::parse(name).unwrap()).collect()
}

fn name(text: &str) -> PackageName {
    PackageName::parse(text).unwrap()
}

fn project(name: &str, owner: &str) -> Value {
    json!({
        "access_groups": {"admin": [], "collaborator": [], "commit": ["infra-sig"], "ticket": []},
        "access_users": {"admin": ["bob"], "collaborator": [], "commit": ["dave"], "owner": [owner], "ticket": []},
        "fullname": format!("rpms/{name}"), "name": name, "namespace": "rpms", "parent": null,
        "user": {"name": "creator"}
    })
}

fn branches(names: &[&str]) -> Value {
    json!({"branches": names, "default": names.first(), "total_branches": names.len()})
}

fn files(names: &[&str]) -> Value {
    let file = |name: &&str| json!({"name": name, "path": name, "type": "file"});
    json!({"content": names.iter().map(file).collect::<Vec<_>>(), "name": null, "type": "folder"})
}

fn no_project() -> Act {
    Act::Say(404, "application/json", json!({"error": "Project not found", "error_code": "ENOPROJECT"}).to_string())
}

/// A package that lives on rawhide, is retired on f44, and has a branch of somebody's own.
fn bash() -> Acts {
    Acts::from([
        ("/api/0/rpms/bash".to_owned(), say(&project("bash", "alice"))),
        ("/api/0/rpms/bash/git/branches".to_owned(), say(&branches(&["rawhide", "f44", "a b;c", "f20"]))),
        ("/api/0/rpms/bash/tree/rawhide".to_owned(), say(&files(&["bash.spec", "sources"]))),
        ("/api/0/rpms/bash/tree/f44".to_owned(), say(&files(&["dead.package"]))),
    ])
}

fn source(stub: &Stub, more: &Value) -> Pagure {
    let mut config = json!({"pagure": stub.url, "timeout": "2s"});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut source = Pagure::open(&config).unwrap();
    source.site.page_sizes = [100; 3];
    source
}

fn shown(package: &Package) -> Vec<(&str, &str, Option<bool>)> {
    package.branches.iter().map(|(name, branch)| (name.as_str(), branch.owner.as_str(), branch.retired)).collect()
}

#[tokio::test]
async fn the_main_admin_owns_it_and_dead_package_retires_it() {
    let stub = Stub::start(bash()).await;
    let found = source(&stub, &json!({})).package(&name("bash"), &wanted()).await.unwrap().unwrap();
    assert_eq!(shown(&found), [("f44", "alice", Some(true)), ("rawhide", "alice", Some(false))]);
    // Of branches without tags nothing is asked.
    assert_eq!(stub.count("/tree/"), 2);
    let unasked = source(&stub, &json!({"retired": false})).package(&name("bash"), &wanted()).await.unwrap().unwrap();
    assert_eq!(shown(&unasked), [("f44", "alice", None), ("rawhide", "alice", None)]);
    assert_eq!(stub.count("/tree/"), 2);
}

#[tokio::test]
async fn only_pagures_own_word_means_that_there_is_none() {
    let stub = Stub::start(Acts::new()).await;
    let source = source(&stub, &json!({}));
    // A proxy's 404.
    assert_eq!(source.package(&name("gone"), &wanted()).await.unwrap_err().exit_code(), exit::TRY_LATER);
    stub.set("/api/0/rpms/gone", no_project());
    assert_eq!(source.package(&name("gone"), &wanted()).await.unwrap_err().exit_code(), exit::TRY_LATER);
    stub.set("/api/0/rpms/gone/git/branches", no_project());
    assert_eq!(source.package(&name("gone"), &wanted()).await.unwrap(), None);
}

#[tokio::test]
async fn no_error_reads_as_no_branches_as_another_owner_or_as_not_retired() {
    let stub = Stub::start(bash()).await;
    let mut source = source(&stub, &json!({}));
    source.site.server.curl.timeout = Duration::from_secs(1);
    let (about, listed, tree) = ("/api/0/rpms/bash", "/api/0/rpms/bash/git/branches", "/api/0/rpms/bash/tree/f44");
    let mut wrong = Vec::new();
    for (path, good) in [(about, project("bash", "alice")), (listed, branches(&["rawhide"])), (tree, files(&["x"]))] {
        wrong.extend(faults(&good).into_iter().map(|(act, part)| (path, act, part)));
    }
    let mut nobody = project("bash", "alice");
    nobody["access_users"]["owner"] = json!([]);
    let mut short = branches(&["rawhide"]);
    short["total_branches"] = json!(2);
    wrong.extend([(about, say(&nobody), "owner"), (listed, say(&short), "2 branches"), (listed, no_project(), "gone")]);
    for (path, act, part) in wrong {
        let shown = format!("{path} {act:?}");
        for (path, act) in bash() {
            stub.set(&path, act);
        }
        stub.set(path, act);
        let failure = source.package(&name("bash"), &wanted()).await.unwrap_err();
        assert!(failure.message().contains(part) && failure.hint().is_some(), "{shown}: {failure:?}");
        assert_eq!(failure.exit_code(), exit::TRY_LATER, "{shown}");
    }
    for (owners, part) in [(json!(["a b"]), "the owner \"a b\" is no name"), (json!(["a", "b"]), "more than one owner")]
    {
        let mut odd = project("bash", "alice");
        odd["access_users"]["owner"] = owners;
        bash().into_iter().for_each(|(path, act)| stub.set(&path, act));
        stub.set(about, say(&odd));
        let failure = source.package(&name("bash"), &wanted()).await.unwrap_err();
        assert!(failure.message().contains(part), "{failure}");
        assert_eq!(failure.exit_code(), exit::PERMANENT);
    }
}

/// p0 to p3 on rawhide and f44, and one with a name that Koji must not see.
fn five() -> Acts {
    let names = ["p0", "p1", "p2", "p3", "a b"];
    let all: Vec<Value> = names.iter().map(|name| project(name, "alice")).collect();
    let body = json!({
        "pagination": {"page": 1, "pages": 1, "per_page": 100}, "projects": all, "total_projects": all.len()
    });
    let path = "/api/0/projects?namespace=rpms&fork=false&per_page=100&page=1".to_owned();
    let mut acts = Acts::from([(path, say(&body))]);
    for name in &names[..4] {
        acts.insert(format!("/api/0/rpms/{name}/git/branches"), say(&branches(&["rawhide", "f44", "private"])));
    }
    acts
}

#[tokio::test]
async fn all_of_them_and_a_bad_one_spoils_no_other() {
    let stub = Stub::start(five()).await;
    stub.set("/api/0/rpms/p2/git/branches", Act::Say(500, "text/html", "<html>".into()));
    let all = source(&stub, &json!({})).all(&wanted()).await.unwrap();
    assert_eq!(all.packages.keys().map(PackageName::as_str).collect::<Vec<_>>(), ["p0", "p1", "p3"]);
    assert_eq!(shown(&all.packages[&name("p0")]), [("f44", "alice", None), ("rawhide", "alice", None)]);
    assert!(all.left_alone.len() == 1 && all.left_alone["p2"].contains("500"), "{:?}", all.left_alone);
    assert!(all.notes.len() == 1 && all.notes[0].contains("\"a b\""), "{:?}", all.notes);
}

#[tokio::test]
async fn a_list_of_the_retired_says_who_is_and_never_who_is_not() {
    let mut acts = five();
    let path = |branch: &str| format!("/lookaside/retired_in_{branch}.json");
    acts.insert(path("rawhide"), say(&json!({"rawhide": ["p1", "other"]})));
    acts.insert(path("f44"), say(&json!({"f44": ["p1", "p3"]})));
    acts.insert(path("f43"), say(&json!({"f43": []})));
    let stub = Stub::start(acts).await;
    let lists = format!("{}/lookaside/retired_in_{{branch}}.json", stub.url);
    let source = source(&stub, &json!({"retired_in": lists}));
    let all = source.all(&wanted()).await.unwrap();
    assert_eq!(shown(&all.packages[&name("p0")]), [("f44", "alice", None), ("rawhide", "alice", None)]);
    assert_eq!(shown(&all.packages[&name("p1")]), [("f44", "alice", Some(true)), ("rawhide", "alice", Some(true))]);
    assert_eq!(shown(&all.packages[&name("p3")]), [("f44", "alice", Some(true)), ("rawhide", "alice", None)]);
    // There is no list of epel9.
    assert!(all.notes.iter().any(|note| note.contains("epel9") && note.contains("not known")), "{:?}", all.notes);
    for (act, part) in [
        (say(&json!({"f43": ["p0"]})), "not the list of f44"),
        (say(&json!({})), "not the list of f44"),
        (say(&json!({"f44": ["p0"], "f45": []})), "more than 1"),
        (say(&json!({"f44": null})), "shape"),
        (say(&json!({"f44": [5]})), "shape"),
        (say(&json!(["p0"])), "shape"),
        (Act::Say(503, "text/html", String::new()), "503"),
        (Act::Say(200, "text/html", "<html>Log in</html>".into()), "not JSON"),
        (Act::CutOff("{\"f44\": [\"p0\"]}".into()), "curl: (18)"),
    ] {
        let shown = format!("{act:?}");
        stub.set(&path("f44"), act);
        let failure = source.all(&wanted()).await.unwrap_err();
        assert!(failure.message().contains(part) && failure.hint().is_some(), "{shown}: {failure:?}");
    }
}
