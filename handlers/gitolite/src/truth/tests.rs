use serde_json::json;

use super::*;

#[test]
fn exactly_one_source_is_named() {
    for (config, part) in [
        (json!("/etc/repos.yaml"), "not a map"),
        (json!({}), "names no source"),
        (json!({"yaml": "/x", "pkgdb": "https://x"}), "more than one source: yaml, pkgdb"),
        (json!({"pagrue": "https://x"}), "`pagrue`"),
        (json!({"yaml": "/x", "branches": true}), "`branches`"),
        (json!({"yaml": "x.yaml"}), "absolute path"),
        (json!({"yaml": 5}), "`yaml`"),
        (json!({"command": []}), "`command`"),
        (json!({"command": "repos --all"}), "`command`"),
        (json!({"command": ["x"], "timeout": "0s"}), "`timeout`"),
        (json!({"command": ["x"], "timeout": "2h"}), "`timeout`"),
        (json!({"pagure": "src.example.org"}), "https://"),
        (json!({"pagure": "http://src.example.org"}), "another machine"),
        (json!({"pagure": "https://x", "namespaces": []}), "`namespaces` is empty"),
        (json!({"pagure": "https://x", "namespaces": "rpms"}), "`namespaces`"),
        (json!({"pagure": "https://x", "namespaces": ["rpms/foo"]}), "no namespace"),
        (json!({"pagure": "https://x", "namespaces": ["forks"]}), "no namespace"),
        (json!({"pagure": "https://x", "branches": "yes"}), "`branches`"),
        (json!({"pagure": "https://x", "pull_requests_only": ["../x"]}), "`pull_requests_only`"),
        (json!({"pagure": "https://x", "everyone_group": "packager"}), "`everyone_group`"),
        (json!({"pagure": "https://x", "ca": "ca.pem"}), "`ca`"),
        (json!({"pkgdb": "https://x", "namespaces": ["rpms"]}), "`namespaces`"),
        (json!({"pkgdb": "https://x", "namespace": "a/b"}), "`namespace`"),
        (json!({"pkgdb": "https://x", "everyone_group": "@all\n"}), "`everyone_group`"),
        (json!({"pkgdb": "https://x?y"}), "`pkgdb`"),
    ] {
        let failure = Truth::open(&config).unwrap_err();
        assert!(failure.message().contains(part), "{config}: {failure}");
        assert_eq!(failure.exit_code(), handler_api::exit::PERMANENT, "{config}");
    }
    let hint = Truth::open(&json!({"pagrue": "https://x"})).unwrap_err();
    assert!(hint.hint().unwrap().contains("did you mean `pagure`?"), "{hint:?}");
    for good in [
        json!({"yaml": "/x"}),
        json!({"command": ["x", "--a b"], "timeout": "5m"}),
        json!({"pagure": "https://src.example.org/", "namespaces": ["rpms", "modules"], "branches": false, "forks": true}),
        json!({"pkgdb": "https://x/pkgdb", "namespace": "rpms", "everyone_group": "packager", "ca": "/ca.pem"}),
    ] {
        Truth::open(&good).unwrap();
    }
}

#[tokio::test]
async fn no_repositories_at_all_are_not_believed() {
    let script = r#"printf '{"repos": {}}'"#;
    let truth = Truth::open(&json!({"command": ["/bin/sh", "-c", script]})).unwrap();
    let failure = truth.all().await.unwrap_err();
    assert!(failure.message().contains("none at all") && failure.hint().is_some(), "{failure:?}");
    let script = r#"printf '{"repos": {"../x": {"commit": []}}}'"#;
    let truth = Truth::open(&json!({"command": ["/bin/sh", "-c", script]})).unwrap();
    let failure = truth.all().await.unwrap_err();
    assert!(failure.message().contains("../x"), "{failure:?}");
}
