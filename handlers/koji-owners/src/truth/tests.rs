use serde_json::json;

use super::*;

fn wanted(names: &[&str]) -> Wanted {
    names.iter().map(|name| BranchName::parse(name).unwrap()).collect()
}

fn name(text: &str) -> PackageName {
    PackageName::parse(text).unwrap()
}

#[test]
fn exactly_one_source_is_named() {
    for (config, part) in [
        (json!("/etc/packages.yaml"), "not a map"),
        (json!({}), "names no source"),
        (json!({"yaml": "/x", "pkgdb": "https://x"}), "more than one source: yaml, pkgdb"),
        (json!({"pagrue": "https://x"}), "`pagrue`"),
        (json!({"yaml": "/x", "namespace": "rpms"}), "`namespace`"),
        (json!({"yaml": "x.yaml"}), "absolute path"),
        (json!({"command": []}), "`command`"),
        (json!({"command": "packages --all"}), "`command`"),
        (json!({"command": ["x"], "timeout": "2h"}), "`timeout`"),
        (json!({"pagure": "src.example.org"}), "https://"),
        (json!({"pagure": "http://src.example.org"}), "another machine"),
        (json!({"pagure": "https://x", "namespace": "rpms/foo"}), "no namespace"),
        (json!({"pagure": "https://x", "namespace": "forks"}), "no namespace"),
        (json!({"pagure": "https://x", "retired": "yes"}), "`retired`"),
        (json!({"pagure": "https://x", "retired_in": "https://x/retired.json"}), "no {branch}"),
        (json!({"pagure": "https://x", "retired_in": "/retired_in_{branch}.json"}), "https://"),
        (json!({"pagure": "https://x", "retired_in": "https://x/{branch}/{branch}"}), "`retired_in`"),
        (json!({"pagure": "https://x", "retired_in": "https://{branch}.x/r.json"}), "before its path"),
        (json!({"pagure": "https://x", "retired": false, "retired_in": "https://x/{branch}"}), "of no use"),
        (json!({"pkgdb": "https://x", "namespace": "a/b"}), "`namespace`"),
        (json!({"pkgdb": "https://x?y"}), "`pkgdb`"),
    ] {
        let failure = Truth::open(&config).unwrap_err();
        assert!(failure.message().contains(part), "{config}: {failure}");
        assert_eq!(failure.exit_code(), handler_api::exit::PERMANENT, "{config}");
    }
    let failure = Truth::open(&json!({"pagrue": "https://x"})).unwrap_err();
    assert!(failure.hint().unwrap().contains("did you mean `pagure`?"), "{failure:?}");
    for good in [
        json!({"yaml": "/x"}),
        json!({"command": ["x", "--a b"], "timeout": "5m"}),
        json!({"pagure": "https://src.example.org/", "namespace": "rpms", "retired": false, "ca": "/ca.pem"}),
        json!({"pagure": "https://src.example.org", "retired_in": "https://x.org/lookaside/retired_in_{branch}.json"}),
        json!({"pkgdb": "https://x/pkgdb", "namespace": "rpms", "timeout": "60s"}),
    ] {
        Truth::open(&good).unwrap();
    }
}

#[tokio::test]
async fn a_file_is_read_anew_and_only_branches_with_tags_come_out_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("packages.yaml");
    let entry = |owner: &str| format!("packages: {{bash: {{owner: {owner}, branches: [f44, f43]}}}}\n");
    std::fs::write(&path, entry("alice")).unwrap();
    let truth = Truth::open(&json!({"yaml": path})).unwrap();
    for owner in ["alice", "carol"] {
        std::fs::write(&path, entry(owner)).unwrap();
        let bash = truth.package(&name("bash"), &wanted(&["f44", "f45"])).await.unwrap().unwrap();
        let rows: Vec<_> = bash.branches.iter().map(|(name, branch)| (name.as_str(), branch.owner.as_str())).collect();
        assert_eq!(rows, [("f44", owner)]);
        assert_eq!(truth.all(&wanted(&["f44"])).await.unwrap().packages[&name("bash")], bash);
    }
    assert_eq!(truth.package(&name("bash"), &wanted(&["f45"])).await.unwrap(), Some(Package::default()));
    assert_eq!(truth.package(&name("ksh"), &wanted(&["f44"])).await.unwrap(), None);
    std::fs::write(&path, "packages: {bash: {owner: alice}}\n").unwrap();
    assert!(truth.package(&name("bash"), &wanted(&["f44"])).await.is_err());
}

#[tokio::test]
async fn none_at_all_is_not_believed() {
    let says = |json: &str| {
        let script = format!("printf '%s' '{json}'");
        Truth::open(&json!({"command": ["/bin/sh", "-c", script, "packages"]})).unwrap()
    };
    let failure = says(r#"{"packages": {}}"#).all(&wanted(&["f44"])).await.unwrap_err();
    assert!(failure.message().contains("none at all") && failure.hint().is_some(), "{failure:?}");
    let bad = says(r#"{"packages": {"-x": {"owner": "a", "branches": []}}}"#);
    let failure = bad.all(&wanted(&["f44"])).await.unwrap_err();
    assert!(failure.message().contains("none at all") && failure.message().contains("\"-x\""), "{failure:?}");
    let one = says(r#"{"packages": {"bash": {"owner": "a", "branches": ["f44"]}}}"#);
    let failure = one.all(&wanted(&["main"])).await.unwrap_err();
    assert!(
        failure.message().contains("none on any of the branches") && failure.message().contains("main"),
        "{failure}"
    );
    assert_eq!(one.all(&wanted(&["main", "f44"])).await.unwrap().packages.len(), 1);
}

#[tokio::test]
async fn a_command_gets_what_is_asked_as_arguments_and_must_end_well() {
    let says = |script: &str| Truth::open(&json!({"command": ["/bin/sh", "-c", script, "packages"]})).unwrap();
    let good = says(
        r#"case "$*" in
            'package bash') printf '{"package": {"owner": "alice", "branches": ["f44"]}}' ;;
            'package ksh') printf '{"package": null}' ;;
            all) printf '{"packages": {"bash": {"owner": "alice", "branches": ["f44"]}}}' ;;
            *) exit 1 ;;
        esac"#,
    );
    let bash = good.package(&name("bash"), &wanted(&["f44"])).await.unwrap().unwrap();
    assert_eq!(bash.branches.len(), 1);
    assert_eq!(good.package(&name("ksh"), &wanted(&["f44"])).await.unwrap(), None);
    assert_eq!(good.all(&wanted(&["f44"])).await.unwrap().packages[&name("bash")], bash);
    for (script, part) in [
        ("echo '{\"package\": null}'; echo broken pipe >&2; exit 3", "broken pipe"),
        ("true", "printed nothing"),
        ("echo '{\"packages\": {}}'", "not the JSON"),
        ("echo '<html>'", "not the JSON"),
    ] {
        let failure = says(script).package(&name("bash"), &wanted(&["f44"])).await.unwrap_err();
        assert!(failure.message().contains(part) && failure.hint().is_some(), "{script}: {failure:?}");
        assert_eq!(failure.exit_code(), handler_api::exit::TRY_LATER, "{script}");
    }
}
