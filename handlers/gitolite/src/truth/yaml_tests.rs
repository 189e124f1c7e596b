use std::fmt::Write as _;
use std::sync::Arc;

use accounts::yaml::YAML_BYTES_MAX;
use serde_json::json;

use super::*;

fn name(text: &str) -> RepoName {
    RepoName::parse(text).unwrap()
}

fn users(repo: Option<Repo>) -> Vec<String> {
    repo.unwrap().commit.users.iter().map(|user| user.as_str().to_owned()).collect()
}

#[tokio::test]
async fn a_changed_file_is_seen_at_once_and_an_unchanged_one_is_parsed_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("repos.yaml");
    // The same size, and within one tick of the clock of the file system.
    std::fs::write(&path, "repos: {a: {commit: [x]}}\n").unwrap();
    let source = Yaml::open(&json!({"yaml": path})).unwrap();
    let before = source.file.read().await.unwrap();
    assert_eq!(users(source.repo(&name("a")).await.unwrap()), ["x"]);
    assert!(Arc::ptr_eq(&before, &source.file.read().await.unwrap()));
    std::fs::write(&path, "repos: {a: {commit: [y]}}\n").unwrap();
    assert_eq!(users(source.repo(&name("a")).await.unwrap()), ["y"]);
    // A broken file never means what stood there before.
    std::fs::write(&path, "repos: {a: {comit: [y]}}\n").unwrap();
    assert!(source.repo(&name("a")).await.is_err() && source.all().await.is_err());
    std::fs::write(&path, "repos: {b: {commit: [y]}}\n").unwrap();
    assert_eq!(source.repo(&name("a")).await.unwrap(), None);
    assert_eq!(source.all().await.unwrap().repos.len(), 1);
}

#[tokio::test]
async fn a_file_that_cant_be_read_is_a_failure_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let big = file("big.yaml", b"");
    std::fs::File::options().write(true).open(&big).unwrap().set_len(YAML_BYTES_MAX + 1).unwrap();
    let bytes = file("bytes.yaml", b"repos: \xff\n");
    let cut = file("cut.yaml", b"repos:\n  a:\n    commit: [bob]\n  b:\n    commit:\n    - carol\n    - da");
    let none = file("none.yaml", b"repos: {}\n");
    for path in [dir.path().join("missing.yaml"), dir.path().to_owned(), big, bytes, cut, none] {
        let source = Yaml::open(&json!({"yaml": path})).unwrap();
        let failure = source.repo(&name("b")).await.unwrap_err();
        assert!(failure.message().contains(&path.display().to_string()) && failure.hint().is_some(), "{failure:?}");
        assert_eq!(failure.exit_code(), handler_api::exit::TRY_LATER);
    }
}

#[tokio::test]
async fn a_file_that_has_not_changed_is_not_parsed_again() {
    let mut text = String::from("repos:\n");
    for n in 0..2_000 {
        writeln!(
            text,
            "  rpms/package-{n}:\n    commit: [user{}, user{}, \"@sig{}\"]\n    branches: [rawhide, f40, f41, f42, epel9]",
            n % 977,
            n % 1_013,
            n % 31
        )
        .unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("repos.yaml");
    std::fs::write(&path, &text).unwrap();
    let source = Yaml::open(&json!({"yaml": path})).unwrap();
    let first = source.file.read().await.unwrap();
    assert!(source.repo(&name("rpms/package-1999")).await.unwrap().is_some());
    assert!(Arc::ptr_eq(&first, &source.file.read().await.unwrap()), "it was parsed again");
    std::fs::write(&path, text.replace("user0,", "user1,")).unwrap();
    assert!(!Arc::ptr_eq(&first, &source.file.read().await.unwrap()), "the old one was kept");
    assert_eq!(source.all().await.unwrap().repos.len(), 2_000);
}
