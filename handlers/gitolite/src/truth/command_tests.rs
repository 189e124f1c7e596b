use std::time::Instant;

use serde_json::json;

use super::*;

fn sh(script: &str, timeout: &str) -> Command {
    Command::open(&json!({"command": ["/bin/sh", "-c", script, "repos"], "timeout": timeout})).unwrap()
}

fn foo() -> RepoName {
    RepoName::parse("rpms/foo").unwrap()
}

#[tokio::test]
async fn it_gets_what_is_asked_as_arguments() {
    let script = r#"[ "$*" = 'repo rpms/foo' ] && printf '{"repo": {"commit": ["alice", "@perl-sig"]}}'
        [ "$*" = 'all' ] && printf '{"repos": {"rpms/foo": {"commit": ["alice"]}, "rpms/bar": {"commit": ["-x"]}}}'"#;
    let repo = sh(script, "30s").repo(&foo()).await;
    // The second test of the script is its exit status.
    assert!(repo.unwrap_err().message().contains("failed"));
    let script = format!("{script}\ntrue");
    let repo = sh(&script, "30s").repo(&foo()).await.unwrap().unwrap();
    assert_eq!((repo.commit.users.len(), repo.commit.groups.len()), (1, 1));
    let all = sh(&script, "30s").all().await.unwrap();
    assert_eq!((all.repos.len(), all.left_alone.len()), (1, 1));
    assert!(all.left_alone.values().all(|why| why.contains("\"-x\"")), "{all:?}");
    let none = sh(r#"printf '{"repo": null}'"#, "30s").repo(&foo()).await.unwrap();
    assert_eq!(none, None);
}

#[tokio::test]
async fn whatever_is_not_a_whole_answer_is_a_failure() {
    for (script, part) in [
        ("echo '{\"repo\": null}'; echo broken pipe >&2; exit 3", "broken pipe"),
        ("kill -9 $$", "signal"),
        ("true", "printed nothing"),
        ("echo", "printed nothing"),
        ("echo '{\"repo\": {\"commit\": [\"a\"'", "not the JSON"),
        ("echo '{\"repos\": {}}'", "not the JSON"),
        ("echo '<html>'", "not the JSON"),
    ] {
        let failure = sh(script, "30s").repo(&foo()).await.unwrap_err();
        assert!(failure.message().contains(part) && failure.hint().is_some(), "{script}: {failure:?}");
        assert_eq!(failure.exit_code(), handler_api::exit::TRY_LATER, "{script}");
    }
    let missing = Command::open(&json!({"command": ["/nowhere/repos"]})).unwrap().all().await.unwrap_err();
    assert!(missing.message().contains("/nowhere/repos"), "{missing}");
}

#[tokio::test]
async fn one_that_hangs_is_ended() {
    let begun = Instant::now();
    let failure = sh("sleep 60", "1s").all().await.unwrap_err();
    assert!(failure.message().contains("longer than 1s") && begun.elapsed().as_secs() < 30, "{failure}");
}
