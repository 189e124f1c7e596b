use std::fmt::Write as _;
use std::time::{Duration, Instant};

use handler_api::exit;

use super::*;
use crate::names::BranchName;
use crate::truth::Branch;

const EXAMPLE: &str = include_str!("../../example/packages.yaml");

fn name(text: &str) -> PackageName {
    PackageName::parse(text).unwrap()
}

/// `branch owner`, with `(retired)` where it is.
fn shown(package: &Package) -> Vec<String> {
    let row = |(name, Branch { owner, retired }): (&BranchName, &Branch)| {
        let retired = match retired {
            Some(true) => " (retired)",
            Some(false) => "",
            None => " (unknown)",
        };
        format!("{name} {owner}{retired}")
    };
    package.branches.iter().map(row).collect()
}

/// What is wrong with `foo: {…}`, in a file that is well otherwise.
fn left_alone(entry: &str) -> String {
    let text = format!("packages:\n  good: {{owner: alice, branches: [f44]}}\n  foo: {entry}\n");
    let document = Document::from_yaml(&text, "p.yaml").unwrap();
    assert!(document.package(&name("good")).unwrap().is_some());
    let failure = document.package(&name("foo")).unwrap_err();
    assert_eq!(failure.exit_code(), exit::PERMANENT, "{failure}");
    assert!(failure.hint().is_some_and(|hint| hint.contains("keeps what it has of foo")), "{failure:?}");
    let all = document.all();
    assert_eq!((all.packages.len(), all.left_alone.len()), (1, 1));
    assert_eq!(failure.message(), all.left_alone["foo"]);
    all.left_alone["foo"].clone()
}

#[test]
fn the_example_says_what_its_comments_say() {
    let document = Document::from_yaml(EXAMPLE, "packages.yaml").unwrap();
    let all = document.all();
    assert_eq!((all.packages.len(), all.left_alone.len(), all.notes.len()), (4, 0, 0));
    assert_eq!(shown(&all.packages[&name("bash")]), ["f43 alice (retired)", "f44 bob", "rawhide alice"]);
    assert_eq!(shown(&all.packages[&name("gtk+")]), ["epel9 carol", "f44 carol", "rawhide carol"]);
    let telnet = document.package(&name("telnet")).unwrap().unwrap();
    assert_eq!(shown(&telnet), ["f43 orphan (retired)", "f44 orphan (retired)", "rawhide orphan (retired)"]);
    assert_eq!(document.package(&name("ksh")).unwrap(), None);
}

#[test]
fn yaml_and_json_of_the_same_shape_are_the_same() {
    let entry = r#"{"owner": "alice", "branches": ["rawhide", "f44"], "retired": ["f43"], "owners": {"f43": "bob"}}"#;
    let all = format!(r#"{{"packages": {{"bash": {entry}, "x": {{"owner": "y", "branches": []}}}}}}"#);
    let json = Document::from_json(all.as_bytes(), "c").unwrap();
    let yaml = Document::from_yaml(
        "packages:\n  bash:\n    owner: alice\n    branches: [rawhide, f44]\n    retired: [f43]\n    owners: {f43: bob}\n  \
         x: {owner: y, branches: []}\n",
        "f",
    );
    assert_eq!(json.all(), yaml.unwrap().all());
    let one = one_from_json(format!(r#"{{"package": {entry}}}"#).as_bytes(), &name("bash"), "c").unwrap();
    assert_eq!(one, json.package(&name("bash")).unwrap());
    assert_eq!(json.package(&name("x")).unwrap(), Some(Package::default()));
    assert_eq!(one_from_json(b"{\"package\": null}", &name("bash"), "c").unwrap(), None);
}

#[test]
fn what_is_wrong_in_one_package_is_told_with_its_line_and_spoils_no_other() {
    for (entry, at, part) in [
        ("{owner: a b, branches: [f44]}", 3, "the owner \"a b\" is no name"),
        ("{owner: \"\", branches: [f44]}", 3, "the owner \"\" is empty"),
        ("{owner: alice, branches: [f44, f 43]}", 3, "the branch \"f 43\" is no name"),
        ("{owner: alice, branches: [f44, f44]}", 3, "the branch \"f44\" is there twice"),
        ("{owner: alice, branches: [f44], retired: [f44]}", 3, "the branch \"f44\" is there twice"),
        ("\n    owner: alice\n    branches: [f44]\n    owners: {f44: -x}", 6, "the owner \"-x\" is no name"),
        ("\n    owner: alice\n    branches: [f44]\n    owners: {f4: bob}", 6, "the branch \"f4\" has an owner, but"),
    ] {
        let sentence = left_alone(entry);
        assert!(sentence.starts_with(&format!("p.yaml:{at}: foo: ")) && sentence.contains(part), "{entry}: {sentence}");
    }
    let long = left_alone(&format!("{{owner: \"{}\", branches: [f44]}}", "x".repeat(1_000_000)));
    assert!(long.len() < 600, "{}", long.len());
    let hostile = left_alone("{owner: \"a\\e[31m\\nb\", branches: [f44]}");
    assert!(!hostile.chars().any(char::is_control), "{hostile:?}");
}

#[test]
fn a_package_with_a_name_that_is_none_is_told_and_left_out() {
    for wrong in ["zsh evil;name", "<x>&\\\"", "rpms/foo", "-x", "a\\nb", "", &"x".repeat(1_000)] {
        let text =
            format!("packages:\n  good: {{owner: a, branches: []}}\n  \"{wrong}\": {{owner: b, branches: []}}\n");
        let all = Document::from_yaml(&text, "p.yaml").unwrap().all();
        assert_eq!((all.packages.len(), all.left_alone.len(), all.notes.len()), (1, 0, 1), "{wrong}");
        assert!(all.notes[0].starts_with("p.yaml:3: the package ") && all.notes[0].len() < 600, "{:?}", all.notes);
    }
}

#[test]
fn a_file_of_another_shape_is_a_failure_with_its_line() {
    for (text, place, part) in [
        ("", "p.yaml", ""),
        ("packages:\n", "p.yaml", "map of names"),
        ("packages: []\n", "p.yaml:1", "map of names"),
        ("packages: {}\npackage: {}\n", "p.yaml:2", "package"),
        ("packages:\n  a: {owner: x, branches: []}\n  a: {owner: y, branches: []}\n", "p.yaml:3", ""),
        ("packages:\n  a:\n    owner: x\n    owner: y\n    branches: []\n", "p.yaml:4", ""),
        ("packages:\n  a: {branches: [f44]}\n", "p.yaml", "owner"),
        ("packages:\n  a: {owner: x}\n", "p.yaml", "branches"),
        ("packages:\n  a: {owner: x, branches: }\n", "p.yaml", "list of names"),
        ("packages:\n  a: {owner: x, branches: f44}\n", "p.yaml:2", "list of names"),
        ("packages:\n  a: {owner: x, branches: {f44: y}}\n", "p.yaml:2", "list of names"),
        ("packages:\n  a: {owner: [x], branches: []}\n", "p.yaml:2", ""),
        ("packages:\n  a: {owner: x, branches: [], retired: true}\n", "p.yaml:2", "list of names"),
        ("packages:\n  a: {owner: x, branches: [], owners: {f44: a, f44: b}}\n", "p.yaml:2", ""),
        ("packages:\n  a: {owner: x, branches: [], ownerz: {}}\n", "p.yaml:2", "ownerz"),
        ("packages:\n  a:\n", "p.yaml", ""),
        ("packages:\n  a: {owner: x, branches: []}\n---\npackages: {}\n", "p.yaml", ""),
    ] {
        let failure = Document::from_yaml(text, "p.yaml").err().unwrap_or_else(|| panic!("{text:?} was taken"));
        let message = failure.message();
        assert!(message.starts_with(place) && message.contains(part), "{text:?}: {failure:?}");
        assert!(failure.hint().is_some() && message.len() > place.len() + 10, "{text:?}: {failure:?}");
        assert_eq!(failure.exit_code(), exit::TRY_LATER);
    }
    let none = Document::from_yaml("packages: {}\n", "p.yaml").unwrap();
    assert!(none.package(&name("a")).unwrap_err().message().contains("not believed"));
}

#[test]
fn a_command_that_prints_another_shape_is_a_failure() {
    for wrong in [
        "",
        "null",
        "[]",
        "{}",
        "{\"packages\": {}}",
        "{\"package\": false}",
        "{\"package\": {}}",
        "{\"package\": {\"owner\": \"a\"}}",
        "{\"package\": {\"owner\": null, \"branches\": []}}",
        "{\"package\": {\"owner\": \"a\", \"branches\": null}}",
        "{\"package\": {\"owner\": \"a\", \"branches\": [], \"x\": 1}}",
        "{\"package\": {\"owner\": \"a\", \"owner\": \"b\", \"branches\": []}}",
        "{\"package\": {\"owner\": \"a\", \"branches\": [], \"owners\": {\"f\": \"a\", \"f\": \"b\"}}}",
        "{\"package\": null} x",
        "{\"package\": {\"owner\": \"a\", \"branches\": [\"f4",
    ] {
        let failure = one_from_json(wrong.as_bytes(), &name("x"), "the command").unwrap_err();
        assert!(failure.message().starts_with("the command") && failure.hint().is_some(), "{wrong}: {failure:?}");
        assert_eq!(failure.exit_code(), exit::TRY_LATER, "{wrong}");
    }
    let bad = br#"{"package": {"owner": "a b", "branches": ["f44"]}}"#;
    assert_eq!(one_from_json(bad, &name("x"), "c").unwrap_err().exit_code(), exit::PERMANENT);
    let twice = br#"{"packages": {"x": {"owner": "a", "branches": []}, "x": {"owner": "b", "branches": []}}}"#;
    assert!(Document::from_json(twice, "c").unwrap_err().message().contains("\"x\" is given twice"));
}

#[test]
fn twenty_four_thousand_packages_are_parsed_in_time() {
    let mut text = String::from("packages:\n");
    for n in 0..24_000 {
        let owner = n % 977;
        writeln!(text, "  package-{n}: {{owner: user{owner}, branches: [rawhide, f43, f44, epel9], retired: [f42]}}")
            .unwrap();
    }
    let begun = Instant::now();
    let document = Document::from_yaml(&text, "p.yaml").unwrap();
    let took = begun.elapsed();
    println!("{} bytes in {took:?}", text.len());
    assert_eq!(document.all().packages.len(), 24_000);
    // 0.5 s optimised and alone; tests run unoptimised, beside builds.
    assert!(took < Duration::from_secs(60), "{took:?}");
}
