//! What a handler finds around it.

use super::*;

#[tokio::test]
async fn the_environment_is_clean_and_the_group_its_own() {
    let site = Site::new();
    let seen = site.path("seen");
    let mut handler = site.handler(
        &json!({}),
        &format!("env | sort > {0}; echo pgid=$(ps -o pgid= $$) pid=$$ >> {0}; umask >> {0}", seen.display()),
    );
    handler.env.insert("ALIASES".into(), "/etc/aliases".into());
    handler.env.insert("REACTOR_STATE".into(), "/forged".into());
    handler.args = vec!["--fast".into()];
    // With an argument before the verb, `$1` is that.
    let text = fs::read_to_string(site.path("handler")).unwrap().replace("$1", "$2");
    fs::write(site.path("handler"), text).unwrap();
    init();
    assert_eq!(site.apply(&handler, &[], LONG).await.verdict, Verdict::Done);
    let seen = site.read("seen");
    let names: Vec<&str> = seen.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let bash_own = ["PWD", "SHLVL", "_", "OLDPWD"];
    let names: Vec<&str> = names.into_iter().filter(|name| !bash_own.contains(name)).collect();
    assert_eq!(names, ["ALIASES", "HOME", "LANG", "PATH", "REACTOR_STATE", "TMPDIR", "pgid"]);
    let state = site.path("state").canonicalize().unwrap();
    assert!(seen.contains(&format!("REACTOR_STATE={}\n", state.display())), "{seen}");
    assert!(
        seen.contains(&format!("PATH={PATH}\n")) && seen.contains("LANG=C.UTF-8\n") && seen.ends_with("0077\n"),
        "{seen}"
    );
    let ids = seen.lines().find_map(|line| line.strip_prefix("pgid=")).unwrap().replace("pid=", "");
    let ids: Vec<&str> = ids.split_whitespace().collect();
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn the_working_directory_is_private_empty_and_removed() {
    let site = Site::new();
    let seen = site.path("seen");
    let body = format!("{{ pwd; ls -A; stat -c %a .; echo $TMPDIR; }} > {}; mkdir -p x/y; touch x/y/z", seen.display());
    assert_eq!(site.apply(&site.handler(&json!({}), &body), &[], LONG).await.verdict, Verdict::Done);
    let seen = site.read("seen");
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines.len(), 3, "it is empty: {seen}");
    assert_eq!((lines[1], lines[0]), ("700", lines[2]));
    assert!(lines[0].contains("/state/work/toy-"), "{seen}");
    assert!(!Path::new(lines[0]).exists());
}

fn secret(site: &Site, name: &str, in_plan: bool) -> (String, Secret) {
    let file = site.path(name);
    fs::write(&file, "s3cret").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    (name.to_owned(), Secret { file, in_plan })
}

#[tokio::test]
async fn secrets_are_files_in_apply_and_only_listed_ones_in_plan() {
    let site = Site::new();
    // In plan it may write to its own directory only, so it tells by a change what it sees.
    let body = r#"for f in ${REACTOR_SECRETS:+$REACTOR_SECRETS/*}; do
        echo "{\"change\":{\"action\":\"run\",\"target\":\"${f##*/} $(<$f) $(stat -c %a $f $REACTOR_SECRETS | xargs) ${f%/*}\"}}"; done
        [[ -n ${REACTOR_SECRETS+x} ]] || echo '{"change":{"action":"run","target":"unset"}}'"#;
    let mut handler = site.handler(&json!({"secrets": ["token"]}), body);
    let failure = site.plan(&handler, LONG).await.unwrap_err();
    assert!(permanent(&failure).contains("needs the secret token"), "{failure}");
    handler.secrets.extend([secret(&site, "token", false)]);
    let plan = site.plan(&handler, LONG).await.unwrap();
    assert_eq!(plan[0].target, "unset");
    handler.secrets.extend([secret(&site, "read-only", true)]);
    let plan = site.plan(&handler, LONG).await.unwrap();
    assert!(plan.len() == 1 && plan[0].target.starts_with("read-only s3cret 600 700 /"), "{plan:?}");
    let done = site.apply(&handler, &plan, LONG).await.done;
    assert!(done.len() == 2 && done[1].target.starts_with("token s3cret 600 700 /"), "{done:?}");
    let dir = done[1].target.rsplit(' ').next().unwrap();
    assert!(dir.starts_with('/') && !Path::new(dir).exists(), "{dir}");
}

#[tokio::test]
async fn a_secret_that_others_can_read_is_refused_and_a_missing_one_waited_for() {
    let site = Site::new();
    let mut handler = site.handler(&json!({}), "exit 0");
    handler.secrets.extend([secret(&site, "token", false)]);
    fs::set_permissions(site.path("token"), fs::Permissions::from_mode(0o640)).unwrap();
    let applied = site.apply(&handler, &[], LONG).await;
    assert!(permanent(failed(&applied)).contains("mode 0640"), "{applied:?}");
    assert!(failed(&applied).hint().unwrap().starts_with("chmod 600 "));
    fs::remove_file(site.path("token")).unwrap();
    let applied = site.apply(&handler, &[], LONG).await;
    assert!(retry(failed(&applied)).contains("No such file"), "{applied:?}");
    assert_eq!(fs::read_dir(site.path("state/work")).unwrap().count(), 0, "nothing is left of either");
}

#[tokio::test]
async fn a_plan_that_writes_is_stopped_by_landlock() {
    let site = Site::new();
    let target = site.path("target");
    fs::write(&target, "before").unwrap();
    let write = format!("echo mine > own && echo after > {} || exit 66", target.display());
    let handler = site.handler(&json!({}), &write);
    let planned = site.plan(&handler, LONG).await;
    if site.runner.sandbox() == "none" {
        println!("no Landlock in this kernel: that a plan can't write is not tested");
        return;
    }
    let failure = planned.unwrap_err();
    assert!(retry(&failure).contains("Permission denied"), "{failure}");
    assert!(failure.message().contains("exit code 66"), "{failure}");
    assert_eq!(site.read("target"), "before");
    for body in ["rm -f {}", "mv {} {}.x", "mkdir {}.d", "ln -s x {}.l", "truncate -s 0 {}", "touch {}.t"] {
        let body = format!("{} || exit 66", body.replace("{}", &target.display().to_string()));
        assert!(site.plan(&site.handler(&json!({}), &body), LONG).await.is_err(), "{body}");
    }
    let usual = "echo x >/dev/null; echo x | tee /dev/stderr >/dev/null; cat <<< 'here' >/dev/null; mktemp >/dev/null";
    assert_eq!(site.plan(&site.handler(&json!({}), &format!("set -e; {usual}")), LONG).await, Ok(vec![]));
    let handler = site.handler(&json!({}), &write);
    assert_eq!(site.apply(&handler, &[], LONG).await.verdict, Verdict::Done, "apply may write");
    assert_eq!(site.read("target"), "after\n");
}

#[tokio::test]
async fn another_user_runs_it_without_our_groups() {
    let site = Site::new();
    if !rustix::process::geteuid().is_root() {
        println!("not root: `user:` is not tested");
        return;
    }
    let body = r#"touch mine; echo "{\"change\":{\"action\":\"run\",\"target\":\"$(id -un) $(id -G) $HOME $(stat -c %U .)\"}}""#;
    let mut handler = site.handler(&json!({}), body);
    handler.user = Some("nobody".into());
    handler.secrets.extend([secret(&site, "token", true)]);
    let failure = site.plan(&handler, LONG).await.unwrap_err();
    assert!(permanent(&failure).contains("can't get to its working directory"), "{failure}");
    for dir in [site.dir.path().to_owned(), site.path("state")] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).unwrap();
    }
    let plan = site.plan(&handler, LONG).await.unwrap();
    let nogroup = plan[0].target.split(' ').nth(1).unwrap().to_owned();
    assert_eq!(plan[0].target, format!("nobody {nogroup} /nonexistent nobody"));
    assert_ne!(nogroup, "0");
    handler.user = Some("no-such-user".into());
    assert!(permanent(&site.plan(&handler, LONG).await.unwrap_err()).contains("no user `no-such-user`"));
}

#[tokio::test]
async fn a_request_has_its_parameters_before_everything_that_a_message_wrote() {
    let mut request = request(json!({"user": "ralph", "address": "r@x.org"}));
    request.key = "\"with\":{\"user\":\"forged\"".into();
    request.config.insert("x".into(), json!(1));
    request.messages[0].body = json!({"with": {"user": "forged"}});
    let line = String::from_utf8(request_line(&request).unwrap()).unwrap();
    let begin = line.split_once("\"with\":{").unwrap().1;
    assert!(begin.starts_with("\"user\":\"ralph\",\"address\":\"r@x.org\"}"), "{line}");
    assert_eq!(line.matches('\n').count(), 1);
}
