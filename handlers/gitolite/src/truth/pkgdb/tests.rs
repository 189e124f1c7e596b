//! Against a stand-in that answers in pkgdb's shapes (see `forge::stub`).

use std::time::Duration;

use handler_api::exit;
use serde_json::json;
use tokio::sync::Semaphore;

use super::*;
use crate::names::BranchName;
use crate::truth::People;
use forge::stub::{Act, Acts, Stub, faults, say};

fn name(text: &str) -> RepoName {
    RepoName::parse(text).unwrap()
}

fn acl(people: &[&str], groups: &[&str]) -> Value {
    json!({"commit": {"groups": groups, "people": people}})
}

/// The shape of pkgdb 2, with several namespaces.
fn answer() -> Value {
    json!({
        "rpms": {
            "geany": {
                "f23": acl(&["pingou"], &["provenpackager"]),
                "f24": acl(&["pingou", "spot"], &["gtk-sig", "provenpackager"]),
                "master": acl(&["spot", "pingou"], &["provenpackager", "gtk-sig"])
            },
            "fedocal": {"epel7": acl(&["pingou"], &["provenpackager"])},
            "open": {"master": acl(&["pingou"], &["packager"]), "el6": acl(&["pingou"], &[])}
        },
        "docker": {"geany": {"master": acl(&["cook"], &[])}},
        "title": "Fedora Package Database -- VCS ACLs"
    })
}

async fn stub(body: &Value) -> Stub {
    Stub::start(Acts::from([(PATH.to_owned(), say(body))])).await
}

fn source(stub: &Stub) -> Pkgdb {
    let config = json!({"pkgdb": stub.url, "namespace": "rpms", "everyone_group": "packager", "timeout": "5s"});
    Pkgdb::open(&config).unwrap()
}

fn shown(people: &People) -> String {
    let mut names: Vec<String> = people.users.iter().map(|user| user.as_str().to_owned()).collect();
    names.extend(people.groups.iter().map(|group| format!("@{}", group.as_str())));
    names.extend(people.everyone.then(|| "everyone".to_owned()));
    names.join(" ")
}

fn branch<'a>(repo: &'a Repo, name: &str) -> &'a Option<People> {
    &repo.branches[&BranchName::parse(name).unwrap()]
}

#[tokio::test]
async fn each_branch_has_its_own_people_where_they_differ_from_masters() {
    let stub = stub(&answer()).await;
    let source = source(&stub);
    let geany = source.repo(&name("rpms/geany")).await.unwrap().unwrap();
    assert_eq!(shown(&geany.commit), "pingou spot @gtk-sig @provenpackager");
    assert_eq!(shown(branch(&geany, "f23").as_ref().unwrap()), "pingou @provenpackager");
    assert_eq!((branch(&geany, "f24"), branch(&geany, "master")), (&None, &None));
    let fedocal = source.repo(&name("rpms/fedocal")).await.unwrap().unwrap();
    assert_eq!(fedocal.commit, People::default());
    assert_eq!(shown(branch(&fedocal, "epel7").as_ref().unwrap()), "pingou @provenpackager");
    let open = source.repo(&name("rpms/open")).await.unwrap().unwrap();
    assert_eq!(shown(&open.commit), "pingou everyone");
    assert_eq!(shown(branch(&open, "el6").as_ref().unwrap()), "pingou");
    let docker = source.repo(&name("docker/geany")).await.unwrap().unwrap();
    assert_eq!(shown(&docker.commit), "cook");
    assert_eq!(source.repo(&name("rpms/none")).await.unwrap(), None);
    let all = source.all().await.unwrap();
    assert_eq!((all.repos.len(), all.left_alone.len(), all.notes.len()), (4, 0, 0));
    assert_eq!(all.repos[&name("rpms/geany")], geany);
}

#[tokio::test]
async fn the_old_shape_is_of_the_configured_namespace() {
    let body = json!({"packageAcls": answer()["rpms"], "title": "Fedora Package Database -- VCS ACLs"});
    let stub = stub(&body).await;
    let all = source(&stub).all().await.unwrap();
    assert_eq!(all.repos.keys().map(RepoName::as_str).collect::<Vec<_>>(), ["rpms/fedocal", "rpms/geany", "rpms/open"]);
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_not_taken_for_an_empty_one() {
    let stub = stub(&answer()).await;
    for wrong in ["modules/core", "geany", "forks/bob/rpms/geany"] {
        let failure = source(&stub).repo(&name(wrong)).await.unwrap_err();
        assert!(failure.message().contains("has no namespace") && failure.hint().is_some(), "{wrong}: {failure:?}");
        assert_eq!(failure.exit_code(), exit::TRY_LATER);
    }
}

#[tokio::test]
async fn whatever_is_not_a_whole_answer_is_a_failure() {
    let stub = stub(&answer()).await;
    let mut source = source(&stub);
    source.server.curl.timeout = Duration::from_secs(1);
    let mut wrong = faults(&answer());
    let package = |value: Value| say(&json!({"rpms": {"geany": value}, "title": "x"}));
    wrong.extend([
        (say(&json!({"title": "x"})), "no packages at all"),
        (say(&json!({"rpms": {}, "title": "x"})), "no packages at all"),
        (say(&json!({"rpms": [], "title": "x"})), "a map of packages"),
        (say(&json!({"output": "notok", "error": "x"})), "a map of packages"),
        (say(&json!({"rpms": answer()["rpms"], "title": {}})), ""),
        (say(&json!({"rpms": answer()["rpms"], "packageAcls": {}})), "twice"),
        (package(json!(null)), ""),
        (package(json!({"master": {}})), "commit"),
        (package(json!({"master": {"commit": {"people": []}}})), "groups"),
        (package(json!({"master": {"commit": {"groups": []}}})), "people"),
        (package(json!({"master": {"commit": {"people": null, "groups": []}}})), ""),
        (package(json!({"master": {"commit": {"people": [null], "groups": []}}})), ""),
        (Act::Say(200, "application/json", "{\"rpms\": {\"geany\": {}, \"geany\": {}}}".into()), "twice"),
        (Act::Say(200, "application/json", format!("{} x", answer())), ""),
    ]);
    for (act, part) in wrong {
        let about = format!("{act:?}");
        stub.set(PATH, act);
        for failure in [source.repo(&name("rpms/geany")).await.err(), source.all().await.err()] {
            let failure = failure.unwrap_or_else(|| panic!("{about} was taken"));
            assert!(failure.message().contains(part) && failure.hint().is_some(), "{about}: {failure:?}");
            assert_eq!(failure.exit_code(), exit::TRY_LATER, "{about}");
        }
    }
}

#[tokio::test]
async fn a_hostile_name_spoils_its_package_and_no_other() {
    let long = "x".repeat(1_000_000);
    let hostile = ["all", "@all", "foo bar", "-x", "a\nb", "", &long, "group::perl-sig"];
    let mut body = answer();
    for (n, wrong) in hostile.iter().enumerate() {
        body["rpms"][format!("user{n}")] = json!({"master": acl(&["bob", wrong], &[])});
        body["rpms"][format!("group{n}")] = json!({"master": acl(&[], &[]), "f23": acl(&[], &["sig", wrong])});
        body["rpms"][format!("-{wrong}")] = json!({"master": acl(&[], &[])});
    }
    body["rpms"]["branch"] = json!({"master": acl(&[], &[]), "f 23": acl(&[], &[])});
    let stub = stub(&body).await;
    let source = source(&stub);
    let all = source.all().await.unwrap();
    assert_eq!((all.repos.len(), all.left_alone.len(), all.notes.len()), (4, 2 * hostile.len() + 1, hostile.len()));
    for (repo, sentence) in &all.left_alone {
        assert!(sentence.contains(repo.as_str()) && sentence.len() < 600, "{sentence}");
        let failure = source.repo(repo).await.unwrap_err();
        assert_eq!((failure.exit_code(), failure.message()), (exit::PERMANENT, sentence.as_str()));
    }
}

#[tokio::test]
async fn a_burst_shares_answers_and_none_is_older_than_its_request() {
    let leave = Arc::new(Semaphore::new(0));
    let stub = Stub::start(Acts::from([(PATH.to_owned(), Act::Held(Arc::clone(&leave), answer().to_string()))])).await;
    let source = Arc::new(Pkgdb::open(&json!({"pkgdb": stub.url, "timeout": "60s"})).unwrap());
    let ask = || {
        let source = Arc::clone(&source);
        tokio::spawn(async move { source.repo(&name("rpms/geany")).await })
    };
    let until = async |what: &dyn Fn() -> bool| {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let first = ask();
    until(&|| stub.count("vcs") == 1).await;
    // The first answer is under way: these came after it was begun.
    let burst: Vec<_> = (0..50).map(|_| ask()).collect();
    until(&|| source.shared.waiting.load(Ordering::SeqCst) == 51).await;
    // What it says from now on.
    let mut after = answer();
    after["rpms"]["geany"]["master"] = acl(&["newcomer"], &[]);
    stub.set(PATH, Act::Held(Arc::clone(&leave), after.to_string()));
    leave.add_permits(2);
    assert_eq!(shown(&first.await.unwrap().unwrap().unwrap().commit), "pingou spot @gtk-sig @provenpackager");
    for one in burst {
        assert_eq!(shown(&one.await.unwrap().unwrap().unwrap().commit), "newcomer");
    }
    assert_eq!(stub.count("vcs"), 2);
    // Nobody waits: nothing is kept, and the next one asks anew.
    assert!(source.shared.last.lock().await.is_none());
    leave.add_permits(1);
    ask().await.unwrap().unwrap();
    assert_eq!(stub.count("vcs"), 3);
}

#[tokio::test]
async fn a_failure_is_shared_and_one_that_stops_waiting_holds_up_nobody() {
    let leave = Arc::new(Semaphore::new(0));
    let stub = Stub::start(Acts::from([(PATH.to_owned(), Act::Held(Arc::clone(&leave), String::new()))])).await;
    let source = Arc::new(Pkgdb::open(&json!({"pkgdb": stub.url, "timeout": "60s"})).unwrap());
    let ask = || {
        let source = Arc::clone(&source);
        tokio::spawn(async move { source.all().await })
    };
    let first = ask();
    while stub.count("vcs") < 1 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let burst: Vec<_> = (0..10).map(|_| ask()).collect();
    while source.shared.waiting.load(Ordering::SeqCst) < 11 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    stub.set(PATH, Act::Say(502, "text/html", "<html>".into()));
    for one in burst {
        assert!(one.await.unwrap().unwrap_err().message().contains("502"));
    }
    assert_eq!((stub.count("vcs"), source.shared.waiting.load(Ordering::SeqCst)), (2, 0));
}

#[tokio::test]
async fn one_package_of_twenty_thousand_is_found_and_all_are() {
    let mut packages = serde_json::Map::new();
    for n in 0..20_000 {
        let branches: serde_json::Map<String, Value> = ["f22", "f23", "f24", "epel7", "el6", "master"]
            .iter()
            .map(|branch| ((*branch).to_owned(), acl(&[&format!("user{}", n % 997), "bob"], &["provenpackager"])))
            .collect();
        packages.insert(format!("package-{n}"), Value::Object(branches));
    }
    let body = json!({"rpms": packages, "title": "x"});
    let stub = stub(&body).await;
    let source = source(&stub);
    assert!(source.repo(&name("rpms/package-19999")).await.unwrap().is_some());
    assert_eq!(source.all().await.unwrap().repos.len(), 20_000);
}
