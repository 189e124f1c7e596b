use handler_api::exit;

use super::*;
use crate::names::{BranchName, GroupName, UserName};
use crate::truth::People;

const EXAMPLE: &str = include_str!("../../../example/repos.yaml");

fn name(text: &str) -> RepoName {
    RepoName::parse(text).unwrap()
}

fn people(users: &[&str], groups: &[&str]) -> People {
    People {
        users: users.iter().map(|user| UserName::parse(user).unwrap()).collect(),
        groups: groups.iter().map(|group| GroupName::parse(group).unwrap()).collect(),
        everyone: false,
    }
}

fn branch(text: &str) -> BranchName {
    BranchName::parse(text).unwrap()
}

/// What is wrong with `rpms/foo: {…}`, in a file that is well otherwise.
fn left_alone(entry: &str) -> String {
    let text = format!("repos:\n  rpms/good: {{commit: [alice]}}\n  rpms/foo: {entry}\n");
    let document = Document::from_yaml(&text, "r.yaml").unwrap();
    let all = document.all();
    assert!(all.repos.contains_key(&name("rpms/good")), "{entry}");
    assert!(document.repo(&name("rpms/good")).unwrap().is_some());
    let failure = document.repo(&name("rpms/foo")).unwrap_err();
    assert_eq!(failure.exit_code(), exit::PERMANENT, "{failure}");
    assert!(failure.hint().is_some());
    let sentence = all.left_alone.get(&name("rpms/foo")).unwrap_or_else(|| panic!("{entry}: {all:?}"));
    assert_eq!(failure.message(), sentence);
    sentence.clone()
}

#[test]
fn the_example_says_what_its_comments_say() {
    let all = Document::from_yaml(EXAMPLE, "repos.yaml").unwrap().all();
    assert_eq!((all.left_alone.len(), all.notes.len(), all.repos.len()), (0, 0, 5));
    let foo = &all.repos[&name("rpms/foo")];
    assert_eq!(foo.commit, people(&["alice"], &["perl-sig"]));
    assert_eq!(foo.branches, ["rawhide", "f41", "epel9"].map(|name| (branch(name), None)).into());
    assert_eq!(foo.deploy_keys, [(UserName::parse("deploykey_rpms_foo_12").unwrap(), true)].into());
    assert!(!foo.fork && !foo.pull_requests_only);
    let bar = &all.repos[&name("rpms/bar")];
    assert_eq!(bar.branches, [(branch("rawhide"), None), (branch("epel9"), Some(people(&["carol"], &[])))].into());
    assert!(all.repos[&name("rpms/shim")].pull_requests_only);
    assert_eq!(all.repos[&name("playground")].commit, People { everyone: true, ..People::default() });
    assert!(all.repos[&name("forks/dave/rpms/foo")].fork);
}

#[test]
fn yaml_and_json_of_the_same_shape_are_the_same() {
    let json = br#"{"repos": {"rpms/foo": {"commit": ["alice", "@perl-sig"], "branches": {"master": null,
        "f41": ["bob"], "el6": {"everyone": true}}, "deploy_keys": {"k": "read"}}, "x": {"commit": []}}}"#;
    let yaml = "repos:\n  rpms/foo:\n    commit: [alice, \"@perl-sig\"]\n    branches: {master: , f41: [bob], el6: {everyone: true}}\n    \
                deploy_keys: {k: read}\n  x: {commit: []}\n";
    let (json, yaml) = (Document::from_json(json, "c").unwrap(), Document::from_yaml(yaml, "f").unwrap());
    assert_eq!(json.all(), yaml.all());
    let foo = json.repo(&name("rpms/foo")).unwrap().unwrap();
    assert!(foo.branches[&branch("el6")].as_ref().unwrap().everyone);
    assert_eq!(foo.deploy_keys, [(UserName::parse("k").unwrap(), false)].into());
    assert_eq!(json.repo(&name("x")).unwrap().unwrap(), Repo::default());
    assert_eq!(json.repo(&name("rpms/none")).unwrap(), None);
}

#[test]
fn everyone_is_said_in_one_way_only() {
    for wrong in ["all", "\"@all\"", "\"@ALL\"", "\"*\"", "everyone", "\"@everybody \""] {
        let sentence = left_alone(&format!("{{commit: [bob, {wrong}]}}"));
        assert!(sentence.starts_with("r.yaml:3: rpms/foo: the "), "{sentence}");
        if !wrong.contains(' ') {
            assert!(sentence.contains("write `everyone: true`"), "{sentence}");
        }
    }
    assert!(left_alone("{commit: [], branches: {f41: [\"@all\"]}}").contains("`everyone: true`"));
}

#[test]
fn a_name_that_is_none_is_told_with_its_place_and_spoils_only_its_repository() {
    let long = "x".repeat(1_000_000);
    for wrong in [
        "\"foo bar\"",
        "\"-x\"",
        "\"@-x\"",
        "\"@foo bar\"",
        "\"@\"",
        "\"\"",
        "\"a\\nb\"",
        "\"@@x\"",
        "\"@readers\"",
        &long,
    ] {
        let sentence = left_alone(&format!("\n    commit:\n      - bob\n      - {wrong}"));
        assert!(sentence.starts_with("r.yaml:6: rpms/foo: the "), "{sentence}");
        assert!(sentence.len() < 600 && !sentence.chars().any(char::is_control), "{}", sentence.len());
    }
    assert!(left_alone("{commit: [], branches: [\"f 41\"]}").contains("the branch \"f 41\""));
    assert!(left_alone("{commit: [], branches: {f41: [a b]}}").contains("the user \"a b\""));
    assert!(left_alone("{commit: [], deploy_keys: {\"@all\": write}}").contains("the deploy key \"@all\""));
}

#[test]
fn a_repository_with_a_name_that_is_none_is_told_and_left_out() {
    for wrong in
        ["../etc", "/rpms/foo", "rpms/foo.git", "-x", "foo bar", "@all", "gitolite-admin", "a\\nb", &"x".repeat(1_000)]
    {
        let text = format!("repos:\n  rpms/good: {{commit: [alice]}}\n  \"{wrong}\": {{commit: [bob]}}\n");
        let all = Document::from_yaml(&text, "r.yaml").unwrap().all();
        assert_eq!((all.repos.len(), all.left_alone.len(), all.notes.len()), (1, 0, 1), "{wrong}");
        assert!(all.notes[0].starts_with("r.yaml:3: the repository ") && all.notes[0].len() < 600, "{:?}", all.notes);
    }
}

#[test]
fn a_file_of_another_shape_is_a_failure_with_its_line() {
    for (text, place, part) in [
        ("", "r.yaml", ""),
        ("repos:\n", "r.yaml", "map of names"),
        ("repos: []\n", "r.yaml:1", "map of names"),
        ("repos: {}\nrepositories: {}\n", "r.yaml:2", "repositories"),
        ("repos:\n  a: {commit: []}\n  a: {commit: [x]}\n", "r.yaml:3", ""),
        ("repos:\n  a:\n    commit: []\n    commit: [x]\n", "r.yaml:4", ""),
        ("repos:\n  a:\n    commit: []\n    comit: [x]\n", "r.yaml:4", "comit"),
        ("repos:\n  a:\n    commit: bob\n", "r.yaml:3", "list of names"),
        ("repos:\n  a:\n    commit: {bob: true}\n", "r.yaml:3", "list of names"),
        ("repos:\n  a:\n    commit: [[bob]]\n", "r.yaml:3", ""),
        ("repos:\n  a:\n    commit: [bob\n", "r.yaml", ""),
        ("repos:\n  a:\n    commit: [@sig]\n", "r.yaml:3", ""),
        ("repos:\n  a:\n    commit: []\n    everyone: yes\n", "r.yaml:4", ""),
        ("repos:\n  a:\n    commit: []\n    fork:\n", "r.yaml", ""),
        ("repos:\n  a:\n    commit: []\n    branches:\n", "r.yaml", "list of branches"),
        ("repos:\n  a:\n    commit: []\n    branches: f41\n", "r.yaml:4", "list of branches"),
        ("repos:\n  a:\n    commit: []\n    branches: {f41: bob}\n", "r.yaml:4", "list of names"),
        ("repos:\n  a:\n    commit: []\n    branches: {f41: {}}\n", "r.yaml:4", "`commit` is missing"),
        ("repos:\n  a:\n    commit: []\n    branches: {f41: [a], f41: [b]}\n", "r.yaml:4", ""),
        ("repos:\n  a:\n    commit: []\n    deploy_keys: {k: RW}\n", "r.yaml:4", "write"),
        ("repos:\n  a:\n    commit: []\n    deploy_keys: [k]\n", "r.yaml:4", "map of names"),
        ("repos:\n  a:\n", "r.yaml", ""),
        ("repos:\n  a: {}\n", "r.yaml:2", "a has no `commit`"),
        ("repos:\n  a: {commit: }\n", "r.yaml:2", "a has no `commit`"),
        ("repos:\n  a: {fork: true}\n", "r.yaml:2", "a has no `commit`"),
        ("repos:\n  a: {commit: []}\n---\nrepos: {}\n", "r.yaml", ""),
    ] {
        let failure = Document::from_yaml(text, "r.yaml").err().unwrap_or_else(|| panic!("{text:?} was taken"));
        let message = failure.message();
        assert!(
            message.starts_with(place) && message.contains(part) && failure.hint().is_some(),
            "{text:?}: {failure:?}"
        );
        assert!(message.len() > place.len() + 10, "{text:?}: {message}");
    }
}

#[test]
fn a_command_that_prints_another_shape_is_a_failure() {
    for wrong in [
        "",
        "null",
        "[]",
        "{}",
        "{\"repo\"}",
        "{\"repos\": {}}",
        "{\"repo\": false}",
        "{\"repo\": []}",
        "{\"repo\": {}}",
        "{\"repo\": {\"commit\": null}}",
        "{\"repo\": {\"commit\": [\"a\"], \"admins\": []}}",
        "{\"repo\": {\"commit\": [\"a\"], \"commit\": []}}",
        "{\"repo\": {\"commit\": [\"a\"], \"branches\": {\"f41\": [\"a\"], \"f41\": [\"b\"]}}}",
        "{\"repo\": {\"commit\": [5]}}",
        "{\"repo\": {\"commit\": [\"a\"], \"everyone\": \"true\"}}",
        "{\"repo\": null} x",
        "{\"repo\": {\"commit\": [\"a\"",
    ] {
        let failure = one_from_json(wrong.as_bytes(), &name("x"), "the command").unwrap_err();
        assert!(failure.message().starts_with("the command") && failure.hint().is_some(), "{wrong}: {failure:?}");
        assert_eq!(failure.exit_code(), exit::TRY_LATER, "{wrong}");
    }
    assert_eq!(one_from_json(b"{\"repo\": null}", &name("x"), "c").unwrap(), None);
    let failure = one_from_json(br#"{"repo": {"commit": ["@all"]}}"#, &name("x"), "c").unwrap_err();
    assert_eq!((failure.exit_code(), failure.message().contains("@all")), (exit::PERMANENT, true), "{failure}");
    let twice = br#"{"repos": {"x": {"commit": ["a"]}, "x": {"commit": []}}}"#;
    assert!(Document::from_json(twice, "c").unwrap_err().message().contains("\"x\" is given twice"));
}

#[test]
fn lists_have_a_maximum() {
    let many = |count: usize| (0..count).map(|n| format!("u{n}")).collect::<Vec<_>>().join(", ");
    let text = |count| format!("repos:\n  a: {{commit: [{}]}}\n", many(count));
    assert!(Document::from_yaml(&text(PEOPLE_MAX), "r").unwrap().repo(&name("a")).unwrap().is_some());
    let failure = Document::from_yaml(&text(PEOPLE_MAX + 1), "r").unwrap_err();
    assert!(failure.message().contains("more than 10000"), "{failure}");
}
