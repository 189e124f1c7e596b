//! Bodhi: against a stand-in that answers in its shapes (see `forge::stub`).

use std::time::Duration;

use forge::stub::{Acts, Stub, faults, say};
use handler_api::exit;
use serde_json::json;

use super::*;

fn shown(tags: &ByBranch) -> Vec<String> {
    let line = |(branch, tags): (&BranchName, &BTreeSet<TagName>)| {
        let tags: Vec<&str> = tags.iter().map(TagName::as_str).collect();
        format!("{branch}: {}", tags.join(" "))
    };
    tags.iter().map(line).collect()
}

#[tokio::test]
async fn a_branch_has_one_tag_or_several() {
    let tags = Tags::open(&json!({"rawhide": "f45", "f44": ["f44", "f44-extra"]})).unwrap();
    assert_eq!(shown(&tags.read().await.unwrap()), ["f44: f44 f44-extra", "rawhide: f45"]);
}

#[test]
fn what_is_wrong_in_the_block_is_named() {
    let many: serde_json::Map<String, Value> =
        (0..=TAGGED_BRANCHES_MAX).map(|n| (format!("b{n}"), json!(format!("t{n}")))).collect();
    for (config, part) in [
        (json!(null), "not a map"),
        (json!({}), "not a map"),
        (json!(["f44"]), "not a map"),
        (Value::Object(many), "1001 branches"),
        (json!({"f 44": "f44"}), "the branch \"f 44\" is no name"),
        (json!({"f44": "f 44"}), "f44: the tag \"f 44\" is no name"),
        (json!({"f44": null}), "is no text"),
        (json!({"f44": []}), "f44: it has 0 tags"),
        (json!({"f44": [["f44"]]}), "is no text"),
        (json!({"f44": "f44", "rawhide": ["f45", "f44"]}), "the tag f44 stands for two branches, f44 and rawhide"),
        (json!({"bodhi": "bodhi.example.org"}), "https://"),
        (json!({"bodhi": "https://x", "prefixes": []}), "`prefixes`"),
        (json!({"bodhi": "https://x", "prefixes": "FEDORA"}), "`prefixes`"),
        (json!({"bodhi": "https://x", "rawhide": "f45"}), "`rawhide`"),
    ] {
        let failure = Tags::open(&config).unwrap_err();
        assert!(failure.message().contains(part) && failure.hint().is_some(), "{failure:?}");
        assert_eq!(failure.exit_code(), exit::PERMANENT);
    }
}

fn release(name: &str, prefix: &str, branch: &str, dist_tag: &str) -> Value {
    json!({
        "name": name, "long_name": name, "version": "44", "id_prefix": prefix, "branch": branch, "dist_tag": dist_tag,
        "stable_tag": format!("{dist_tag}-updates"), "state": "current", "eol": null, "composed_by_bodhi": true
    })
}

fn page(number: u64, releases: &[Value]) -> (String, Value) {
    let path = format!("/releases/?exclude_archived=true&rows_per_page=3&page={number}");
    (path, json!({"releases": releases, "page": number, "pages": 2, "rows_per_page": 3, "total": 5}))
}

fn pages() -> [(String, Value); 2] {
    let first = [
        release("F45", "FEDORA", "rawhide", "f45"),
        release("F44", "FEDORA", "f44", "f44"),
        release("F44C", "FEDORA-CONTAINER", "f44", "f44-container"),
    ];
    let second = [release("EPEL-9", "FEDORA-EPEL", "epel9", "epel9"), release("ELN", "FEDORA-ELN", "eln", "eln")];
    [page(1, &first), page(2, &second)]
}

fn bodhi(stub: &Stub, prefixes: &Value) -> Bodhi {
    let config = json!({"bodhi": stub.url, "prefixes": prefixes, "timeout": "2s"});
    let mut bodhi = Bodhi::open(&config).unwrap();
    bodhi.page_releases = 3;
    bodhi
}

fn acts() -> Acts {
    pages().into_iter().map(|(path, body)| (path, say(&body))).collect()
}

#[tokio::test]
async fn every_release_of_the_prefixes_gives_its_tag() {
    let stub = Stub::start(acts()).await;
    let tags = bodhi(&stub, &Value::Null).read().await.unwrap();
    assert_eq!(shown(&tags), ["epel9: epel9", "f44: f44", "rawhide: f45"]);
    let tags = bodhi(&stub, &json!(["FEDORA", "FEDORA-CONTAINER"])).read().await.unwrap();
    assert_eq!(shown(&tags), ["f44: f44 f44-container", "rawhide: f45"]);
}

#[tokio::test]
async fn an_empty_or_partial_answer_is_a_failure() {
    let stub = Stub::start(acts()).await;
    let mut bodhi = bodhi(&stub, &Value::Null);
    bodhi.server.curl.timeout = Duration::from_secs(1);
    let [first, second] = pages();
    let with = |page: &(String, Value), change: &dyn Fn(&mut Value)| {
        let mut body = page.1.clone();
        change(&mut body);
        (page.0.clone(), say(&body))
    };
    let mut wrong: Vec<_> = faults(&second.1).into_iter().map(|(act, part)| ((second.0.clone(), act), part)).collect();
    wrong.extend([
        (with(&first, &|body| body["total"] = json!(0)), "0 releases"),
        (with(&first, &|body| body["total"] = json!(100_000)), "100000 releases"),
        (with(&first, &|body| body["rows_per_page"] = json!(20)), "of 2 with 20"),
        (with(&first, &|body| body["pages"] = json!(1)), "page 1 of 1"),
        (with(&second, &|body| body["page"] = json!(1)), "answers with page 1"),
        (with(&second, &|body| body["total"] = json!(4)), "came and went"),
        (with(&second, &|body| body["releases"] = json!([])), "3 releases came, and 5 should have"),
        (with(&second, &|body| body["releases"][1] = json!(null)), "shape"),
        (with(&second, &|body| body["releases"][1]["name"] = json!("F45")), "4 releases came"),
        (with(&second, &|body| body["releases"][0]["dist_tag"] = json!(null)), "shape"),
        (with(&second, &|body| body["releases"][0]["dist_tag"] = json!("epel 9")), "the dist_tag \"epel 9\""),
        (with(&second, &|body| body["releases"][0]["branch"] = json!("")), "the branch \"\""),
        (with(&second, &|body| body["releases"][0]["dist_tag"] = json!("f44")), "stands for two branches"),
        (with(&second, &|body| body["releases"][0]["id_prefix"] = json!("EPEL")), "no release with the id_prefix"),
    ]);
    for ((path, act), part) in wrong {
        let shown = format!("{path} {act:?}");
        acts().into_iter().for_each(|(path, act)| stub.set(&path, act));
        stub.set(&path, act);
        let failure = bodhi.read().await.unwrap_err();
        assert!(failure.message().contains(part) && failure.hint().is_some(), "{shown}: {failure:?}");
        assert_eq!(failure.exit_code(), exit::TRY_LATER, "{shown}");
    }
}
