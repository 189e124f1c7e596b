use std::fs;

use serde_json::json;

use super::*;

const GOOD: &str = "groups: {web: {hosts: [web01], access: [ops]}}";

fn words(words: &[&str]) -> HostsFrom {
    HostsFrom::Command(words.iter().map(|word| (*word).to_owned()).collect())
}

fn sh(program: &str) -> HostsFrom {
    words(&["/bin/sh", "-c", program])
}

/// A failure that is tried again, with a hint.
fn again(loaded: Result<Inventory, Failure>) -> String {
    let failure = loaded.unwrap_err();
    assert!(matches!(failure, Failure::Retry { .. }) && failure.hint().is_some(), "{failure:?}");
    failure.message().to_owned()
}

#[tokio::test]
async fn a_file_is_read_and_what_is_wrong_in_it_has_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hosts.yaml");
    let from = HostsFrom::File(path.clone());
    let shown = path.display().to_string();
    assert!(again(load(&from).await).contains("No such file"));
    fs::write(&path, GOOD).unwrap();
    assert_eq!(load(&from).await.unwrap().hosts.len(), 1);
    fs::write(&path, "groups:\n  web: {hosts: [-x], access: [ops]}\n").unwrap();
    assert!(again(load(&from).await).contains(&format!("{shown}:2: `-x` in group `web`")));
    let whole = "groups:\n  web:\n    hosts: [web01]\n    access:\n      - ops\n      - deployers\n";
    fs::write(&path, whole).unwrap();
    assert_eq!(load(&from).await.unwrap().groups().len(), 2);
    fs::write(&path, &whole[..whole.len() - 2]).unwrap();
    assert!(again(load(&from).await).contains("still being written"));
    fs::write(&path, "").unwrap();
    assert!(again(load(&from).await).contains("is nothing"), "half-written is not empty");
    fs::write(&path, b"groups: \xff").unwrap();
    assert!(again(load(&from).await).contains("not UTF-8"));
    fs::write(&path, " ".repeat(INVENTORY_BYTES_MAX + 1)).unwrap();
    assert!(again(load(&from).await).contains("larger than"));
    assert!(again(load(&HostsFrom::File(dir.path().into())).await).contains("it is not a file"));
}

#[tokio::test]
async fn what_is_in_the_rules_file_fails_for_good() {
    assert_eq!(
        load(&HostsFrom::Inline(json!({"groups": {"a": {"hosts": ["h"], "access": ["g"]}}})))
            .await
            .unwrap()
            .hosts
            .len(),
        1
    );
    let failure =
        load(&HostsFrom::Inline(json!({"groups": {"a": {"hosts": ["h"], "acces": ["g"]}}}))).await.unwrap_err();
    assert!(matches!(failure, Failure::Permanent { .. }));
    assert!(failure.message().contains("did you mean `access`?"), "{failure}");
}

#[tokio::test]
async fn a_program_prints_json_and_anything_else_is_unknown() {
    let good = r#"echo '{"groups": {"web": {"hosts": ["web01"], "access": ["ops"]}}}'"#;
    assert_eq!(load(&sh(good)).await.unwrap().hosts.len(), 1);
    assert_eq!(load(&sh(&format!("yes warning | head -c 900000 >&2; {good}"))).await.unwrap().hosts.len(), 1);
    for (program, said) in [
        (format!("{good}; echo it broke >&2; exit 3"), "exit status: 3: it broke"),
        ("true".into(), "not one JSON value"),
        ("echo '{}'".into(), "`groups` is missing"),
        (format!("{good}; echo more"), "not one JSON value"),
        ("echo '{\"groups\": {}, \"groups\": {}}'".into(), "`groups` is given twice"),
        ("kill -9 $$".into(), "signal: 9"),
        (format!("yes | head -c {}", INVENTORY_BYTES_MAX * 2), "more than 4194304 bytes"),
        ("printf 'a\\033[31mb\\n' >&2; exit 1".into(), "a[31mb"),
    ] {
        let why = again(load(&sh(&program)).await);
        assert!(why.contains(said) && !why.contains(char::is_control), "{program}: {why}");
    }
    assert!(again(load(&words(&["/no/such/program"])).await).contains("No such file"));
}

#[tokio::test]
async fn a_program_gets_a_clean_environment_and_its_arguments_as_they_are() {
    let program = "env >&2; printf '%s' \"$1\" >&2; exit 1";
    let why = again(load(&words(&["sh", "-c", program, "sh", "$(id); x y"])).await);
    assert!(why.contains("$(id); x y") && !why.contains("CARGO"), "{why}");
}
