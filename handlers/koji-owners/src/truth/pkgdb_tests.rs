//! Against a stand-in that answers in pkgdb's shapes (see `forge::stub`).

use std::time::Duration;

use forge::stub::{Act, Acts, Stub, faults, say};
use handler_api::exit;
use serde_json::json;

use super::*;

const ONE: &str = "/api/package/?namespace=rpms&pkgname=guake&eol=1&acls=0";
const LIST: &str = "/api/packages/?namespace=rpms&eol=1";

fn name(text: &str) -> PackageName {
    PackageName::parse(text).unwrap()
}

fn listing(branch: &str, owner: &str, status: &str) -> Value {
    json!({
        "collection": {"branchname": branch, "name": "Fedora", "status": "Active", "version": "23"},
        "critpath": false, "point_of_contact": owner, "status": status, "status_change": 1_385_366_044.0
    })
}

fn guake() -> Value {
    json!({"output": "ok", "packages": [
        listing("master", "pingou", "Approved"), listing("f23", "spot", "Approved"), listing("f22", "orphan", "Retired"),
        listing("el6", "pingou", "Orphaned"), listing("f19", "pingou", "Removed")
    ]})
}

fn refusal(error: &str) -> Act {
    Act::Say(404, "application/json", json!({"output": "notok", "error": error}).to_string())
}

fn source(stub: &Stub) -> Pkgdb {
    let mut source = Pkgdb::open(&json!({"pkgdb": stub.url, "timeout": "2s"})).unwrap();
    source.page_packages = 2;
    source
}

fn shown(package: &Package) -> Vec<(&str, &str, Option<bool>)> {
    package.branches.iter().map(|(name, branch)| (name.as_str(), branch.owner.as_str(), branch.retired)).collect()
}

#[tokio::test]
async fn the_point_of_contact_owns_it_branch_by_branch() {
    let stub = Stub::start(Acts::from([(ONE.to_owned(), say(&guake()))])).await;
    let found = source(&stub).package(&name("guake")).await.unwrap().unwrap();
    let expected = [
        ("el6", "orphan", Some(false)),
        ("f22", "orphan", Some(true)),
        ("f23", "spot", Some(false)),
        ("master", "pingou", Some(false)),
    ];
    assert_eq!(shown(&found), expected);
}

#[tokio::test]
async fn only_pkgdbs_own_word_means_that_there_is_none() {
    let stub = Stub::start(Acts::new()).await;
    let source = source(&stub);
    assert_eq!(source.package(&name("guake")).await.unwrap_err().exit_code(), exit::TRY_LATER);
    for none in ["Package: rpms/guake not found", "Package: guake not found"] {
        stub.set(ONE, refusal(none));
        assert_eq!(source.package(&name("guake")).await.unwrap(), None);
    }
    for other in ["Package: rpms/other not found", "No package found on these branches: ", "x"] {
        stub.set(ONE, refusal(other));
        assert_eq!(source.package(&name("guake")).await.unwrap_err().exit_code(), exit::TRY_LATER, "{other}");
    }
}

#[tokio::test]
async fn whatever_is_not_a_certain_answer_is_a_failure() {
    let stub = Stub::start(Acts::new()).await;
    let mut source = source(&stub);
    source.server.curl.timeout = Duration::from_secs(1);
    let mut wrong = faults(&guake());
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = guake();
        change(&mut body);
        say(&body)
    };
    wrong.extend([
        (with(&|body| body["output"] = json!("notok")), "notok"),
        (with(&|body| body["packages"] = json!([])), "0 branches"),
        (with(&|body| body["packages"][0]["point_of_contact"] = json!(null)), "shape"),
        (with(&|body| body["packages"][0]["collection"] = json!(null)), "shape"),
        (with(&|body| body["packages"][0]["status"] = json!(1)), "shape"),
    ]);
    for (act, part) in wrong {
        let shown = format!("{act:?}");
        stub.set(ONE, act);
        let failure = source.package(&name("guake")).await.unwrap_err();
        assert!(failure.message().contains(part) && failure.hint().is_some(), "{shown}: {failure:?}");
        assert_eq!(failure.exit_code(), exit::TRY_LATER, "{shown}");
    }
    for (index, word, value, part) in [
        (0, "point_of_contact", json!("group::perl-sig"), "the owner \"group::perl-sig\""),
        (1, "status", json!("Odd"), "the branch \"f23\" has the status \"Odd\""),
        (1, "collection", json!({"branchname": "master"}), "the branch \"master\" is there twice"),
        (1, "collection", json!({"branchname": "f 23"}), "the branch \"f 23\" is no name"),
    ] {
        stub.set(ONE, with(&|body| body["packages"][index][word] = value.clone()));
        let failure = source.package(&name("guake")).await.unwrap_err();
        assert!(failure.message().contains(part), "{failure}");
        assert_eq!(failure.exit_code(), exit::PERMANENT);
    }
}

/// Five packages on three pages.
fn five() -> Vec<(String, Value)> {
    let listed = |name: &str| json!({"name": name, "status": "Approved", "acls": [listing("f23", "spot", "Approved")]});
    let page = |number: u64, names: &[&str]| {
        let packages: Vec<Value> = names.iter().map(|name| listed(name)).collect();
        let body = json!({"output": "ok", "page": number, "page_total": 3, "packages": packages});
        (format!("{LIST}&acls=1&limit=2&page={number}"), body)
    };
    let count = json!({"output": "ok", "packages": 5, "page": 1, "page_total": 1});
    vec![(format!("{LIST}&count=1"), count), page(1, &["a", "b"]), page(2, &["c", "d"]), page(3, &["e"])]
}

#[tokio::test]
async fn all_pages_are_read_and_a_bad_package_spoils_no_other() {
    let mut pages = five();
    pages[2].1["packages"][0]["acls"] = json!([]);
    pages[2].1["packages"][1]["acls"][0]["point_of_contact"] = json!("group::perl-sig");
    pages[3].1["packages"][0]["name"] = json!("<x>&\"");
    let stub = Stub::start(pages.iter().map(|(path, body)| (path.clone(), say(body))).collect()).await;
    let all = source(&stub).all().await.unwrap();
    assert_eq!(all.packages.keys().map(PackageName::as_str).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(shown(&all.packages[&name("a")]), [("f23", "spot", Some(false))]);
    assert_eq!(all.left_alone.keys().collect::<Vec<_>>(), ["c", "d"]);
    assert!(all.left_alone["c"].contains("no branches") && all.left_alone["d"].contains("group::perl-sig"));
    assert!(all.notes.len() == 1 && all.notes[0].contains("<x>"), "{:?}", all.notes);
}

#[tokio::test]
async fn a_list_that_is_not_whole_is_a_failure() {
    let good = five();
    let stub = Stub::start(Acts::new()).await;
    let source = source(&stub);
    let with = |at: usize, change: &dyn Fn(&mut Value)| {
        let (path, mut body) = good[at].clone();
        change(&mut body);
        (path, say(&body))
    };
    for ((path, act), part) in [
        (with(0, &|body| body["packages"] = json!(0)), "counts 0"),
        (with(0, &|body| body["packages"] = json!(1_000_000)), "counts 1000000"),
        (with(0, &|body| body["packages"] = json!([])), "shape"),
        (with(0, &|body| body["packages"] = json!(6)), "5 packages came, and 6 were counted"),
        (with(1, &|body| body["page"] = json!(2)), "with page 2 of 3"),
        (with(2, &|body| body["page_total"] = json!(1)), "with page 2 of 1"),
        (with(2, &|body| body["output"] = json!("notok")), "notok"),
        (with(2, &|body| body["packages"] = json!([])), "3 packages came"),
        (with(3, &|body| body["packages"][0]["name"] = json!("a")), "4 packages came"),
        (with(3, &|body| body["packages"][0]["acls"] = json!(null)), "shape"),
        ((good[2].0.clone(), refusal("No packages found for these parameters")), "404"),
        ((good[2].0.clone(), Act::Say(502, "text/html", "<html>".into())), "502"),
    ] {
        let shown = format!("{path} {act:?}");
        good.iter().for_each(|(path, body)| stub.set(path, say(body)));
        stub.set(&path, act);
        let failure = source.all().await.unwrap_err();
        assert!(failure.message().contains(part) && failure.hint().is_some(), "{shown}: {failure:?}");
        assert_eq!(failure.exit_code(), exit::TRY_LATER, "{shown}");
    }
}
