//! Against a stand-in that answers in pagure's shapes. What a list must be is also tested where it is used (gitolite).

use std::time::Duration;

use handler_api::exit;
use serde_json::{Value, json};

use super::*;
use crate::stub::{Act, Acts, Stub, faults, say};

fn site(stub: &Stub) -> Pagure {
    let config = json!({"pagure": stub.url, "timeout": "2s"});
    let mut site = Pagure::read(&Words::read(&config, "x", &["pagure", "timeout"]).unwrap()).unwrap();
    site.server.curl.timeout = Duration::from_secs(1);
    site
}

fn files(names: &[&str]) -> Value {
    let file = |name: &&str| json!({"content_url": "https://x", "name": name, "path": name, "type": "file"});
    json!({"content": names.iter().map(file).collect::<Vec<_>>(), "name": null, "type": "folder"})
}

#[tokio::test]
async fn a_file_is_there_or_not_only_when_the_whole_list_says_so() {
    let mut acts = Acts::new();
    let tree = |branch: &str| format!("/api/0/rpms/foo/tree/{branch}");
    for branch in ["rawhide", "f44", "f43", "epel9"] {
        acts.insert(tree(branch), say(&files(&["foo.spec", "sources"])));
    }
    acts.insert(tree("f44"), say(&files(&["dead.package"])));
    let stub = Stub::start(acts).await;
    let site = site(&stub);
    let asked = ["rawhide", "f44", "f43", "epel9"];
    let has = site.has_file("rpms/foo", &asked, "dead.package").await.unwrap();
    assert_eq!(has, [false, true, false, false]);
    assert!(site.has_file("rpms/foo", &[], "dead.package").await.unwrap().is_empty());
    let refused = |code: &str, error: &str| {
        Act::Say(404, "application/json", json!({"error": error, "error_code": code}).to_string())
    };
    let mut wrong = faults(&files(&["dead.package"]));
    wrong.extend([
        (refused("EFILENOTFOUND", "File not found in this git repository"), "404"),
        (refused("EEMPTYGIT", "This git repository is empty"), "404"),
        (say(&files(&[])), "no list of files"),
        (say(&json!({"type": "file", "name": "f43", "content_url": "x"})), "content"),
        (say(&json!({"type": "file", "name": "f43", "content": [{"name": "x"}]})), "no list of files"),
    ]);
    for (act, part) in wrong {
        let shown = format!("{act:?}");
        stub.set(&tree("f43"), act);
        let failure = site.has_file("rpms/foo", &asked, "dead.package").await.unwrap_err();
        assert!(failure.message().contains(part) && failure.hint().is_some(), "{shown}: {failure:?}");
        assert_eq!(failure.exit_code(), exit::TRY_LATER, "{shown}");
    }
}

#[tokio::test]
async fn branches_come_in_the_order_of_the_question() {
    let mut acts = Acts::new();
    for n in 0..120 {
        let body = json!({"branches": [format!("b{n}")], "total_branches": 1});
        acts.insert(format!("/api/0/rpms/p{n}/git/branches"), say(&body));
    }
    let stub = Stub::start(acts).await;
    stub.set("/api/0/rpms/p7/git/branches", Act::Say(500, "text/html", "<html>".into()));
    let names: Vec<String> = (0..120).map(|n| format!("rpms/p{n}")).collect();
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    let read = site(&stub).branches(&asked).await.unwrap();
    for (n, branches) in read.iter().enumerate() {
        match n {
            7 => assert!(branches.as_ref().unwrap_err().contains("500")),
            _ => assert_eq!(*branches.as_ref().unwrap(), [format!("b{n}")]),
        }
    }
}
