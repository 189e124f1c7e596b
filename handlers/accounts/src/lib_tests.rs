use serde_json::json;

use super::*;

fn groups(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn source(text: &str, more: Value) -> (tempfile::TempDir, Accounts) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("accounts.yaml");
    std::fs::write(&path, text).unwrap();
    let mut config = more;
    config["yaml"] = json!(path);
    (dir, Accounts::open(&config).unwrap())
}

#[test]
fn exactly_one_source_is_named() {
    for (config, part) in [
        (json!(null), "not a map"),
        (json!("yaml"), "not a map"),
        (json!({}), "names no source"),
        (json!({"yaml": "/a", "ldap": "ldap://x"}), "more than one source: yaml, ldap"),
        (json!({"yml": "/a"}), "`yml` is not a word"),
        (json!({"fasjsn": "https://x"}), "`fasjsn` is not a word"),
        (json!({"yaml": "/a", "timeout": "3s"}), "`timeout` is not a word"),
        (json!({"yaml": "/a", "empty_groups": "web"}), "`empty_groups`"),
        (json!({"yaml": "/a", "empty_groups": ["-x"]}), "`empty_groups`"),
    ] {
        let failure = Accounts::open(&config).unwrap_err();
        assert!(failure.message().contains(part), "{config}: {failure}");
        assert!(failure.hint().is_some() && failure.exit_code() == handler_api::exit::PERMANENT, "{config}");
    }
    assert!(Accounts::open(&json!({"yml": "/a"})).unwrap_err().hint().unwrap().contains("did you mean `yaml`"));
    assert!(Accounts::open(&json!({"yaml": "/a", "empty_groups": ["web"]})).is_ok());
}

#[tokio::test]
async fn names_that_are_asked_about_are_checked() {
    let (_dir, accounts) = source("users: {a: {keys: []}}\ngroups: {web: [a]}\n", json!({}));
    for wrong in ["", "-rf", "../../etc/x", "a b", "a/b", "a\n", "é"] {
        assert!(accounts.user(wrong, &groups(&["web"])).await.is_err(), "{wrong:?}");
        assert!(accounts.user("a", &groups(&[wrong])).await.is_err(), "{wrong:?}");
        assert!(accounts.members(&groups(&["web", wrong])).await.is_err(), "{wrong:?}");
    }
    let many = (0..=GROUPS_MAX).map(|n| format!("g{n}")).collect();
    assert!(accounts.members(&many).await.unwrap_err().message().contains("at most 1000"));
}

#[tokio::test]
async fn a_group_without_members_is_believed_only_where_the_site_says_so() {
    let text =
        "users: {a: {keys: []}, gone: {locked: true}}\ngroups: {web: [a], empty: [], locked: [gone], bad: [-x]}\n";
    let (_dir, accounts) = source(text, json!({}));
    for group in ["empty", "locked", "bad"] {
        let failure = accounts.members(&groups(&["web", group])).await.unwrap_err();
        assert!(failure.message().contains(&format!("group {group} has no members")), "{failure}");
        assert!(failure.hint().unwrap().contains(&format!("empty_groups: [{group}]")), "{failure:?}");
    }
    let (_dir, accounts) = source(text, json!({"empty_groups": ["empty", "locked", "bad"]}));
    let members = accounts.members(&groups(&["web", "empty", "locked", "bad"])).await.unwrap();
    assert_eq!(members.accounts.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(members.notes.len(), 1, "{:?}", members.notes);
}

#[tokio::test]
async fn without_groups_nobody_is_asked_for() {
    let accounts = Accounts::open(&json!({"yaml": "/nonexistent/accounts.yaml"})).unwrap();
    assert_eq!(accounts.members(&BTreeSet::new()).await.unwrap(), Members::default());
}

#[tokio::test]
async fn twenty_thousand_people_come_whole() {
    let mut text = String::from("users:\n");
    for n in 0..20_000 {
        text.push_str(&format!(
            "  user{n}:\n    keys:\n    - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{n:043} user{n}@host\n"
        ));
    }
    text.push_str("groups:\n  all:\n");
    for n in 0..20_000 {
        text.push_str(&format!("  - user{n}\n"));
    }
    let (_dir, accounts) = source(&text, json!({}));
    assert_eq!(accounts.members(&groups(&["all"])).await.unwrap().accounts.len(), 20_000);
}
