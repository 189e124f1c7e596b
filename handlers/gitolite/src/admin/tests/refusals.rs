//! gitolite refuses after the branch has moved: our files are put back, the line is named, nobody else is held up.

use super::lanes::behind_a_held_push;
use super::*;

#[tokio::test]
async fn what_gitolite_refuses_is_put_back_and_the_line_is_named() {
    let site = Site::new();
    let admin = site.admin();
    admin.push(conf("a", "repo a\n    RW = alice\n")).await.unwrap();
    let failure = admin.push(conf("a", "repo a\n    RW = alice BAD/x\n")).await.unwrap_err();
    assert!(matches!(failure, Failure::Permanent { .. }), "{failure}");
    let line = "conf/reactor/repos/a.conf:2: RW = alice BAD/x (FATAL: bad username 'BAD/x')";
    assert!(failure.message().ends_with(line), "{failure}");
    assert!(failure.message().contains("nothing has changed"), "{failure}");
    assert_eq!(site.file("master", "conf/reactor/repos/a.conf").unwrap(), "repo a\n    RW = alice\n");
    let subjects = site.subjects("master");
    assert_eq!(subjects[0], "Taken back: gitolite refused it");
    assert_eq!(subjects.len(), 4, "nothing was rewritten: {subjects:?}");
    assert!(admin.is_compiled(&admin.look().await.unwrap()).unwrap(), "what was put back compiled");
    until("the mark", || site.tip("refs/reactor/compiled") == site.tip("refs/heads/master")).await;
}

#[tokio::test]
async fn a_line_that_gitolite_ignores_is_refused_if_it_is_ours() {
    let site = Site::new();
    let admin = site.admin();
    let failure = admin.push(conf("a", "repo a\n  QQ=x\n")).await.unwrap_err();
    assert!(failure.message().contains("conf/reactor/repos/a.conf:2: QQ=x (WARNING: syntax error"), "{failure}");
    assert_eq!(site.file("master", "conf/reactor/repos/a.conf"), None);
    site.by_hand("conf/gitolite.conf", "repo gitolite-admin\n  QQ = x\n", "by hand");
    admin.push(conf("b", "repo b\n")).await.unwrap();
    assert_eq!(site.file("master", "conf/reactor/repos/b.conf").unwrap(), "repo b\n", "theirs is theirs to mend");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_refused_does_not_take_the_others_of_its_push_with_it() {
    let site = Site::new();
    let admin = Arc::new(site.admin());
    let jobs = vec![conf("a", "repo a\n"), conf("bad", "RW = BAD/x\n"), conf("b", "repo b\n")];
    let tasks = behind_a_held_push(&site, &admin, jobs).await;
    site.touch("go");
    let mut ends = Vec::new();
    for task in tasks {
        ends.push(task.await.unwrap());
    }
    assert_eq!(ends.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, true]);
    assert!(ends[2].as_ref().unwrap_err().message().contains("conf/reactor/repos/bad.conf:1: RW = BAD/x"));
    for (name, there) in [("a", true), ("bad", false), ("b", true)] {
        assert_eq!(site.file("master", &format!("conf/reactor/repos/{name}.conf")).is_some(), there, "{name}");
    }
    assert_eq!(site.count("compiles"), 4, "first, all three, put back, the other two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_gitolite_names_no_word_the_one_is_found_by_halves() {
    let site = Site::new();
    let admin = Arc::new(site.admin());
    let mut jobs: Vec<Job> = (0..4).map(|number| conf(&number.to_string(), "repo x\n")).collect();
    jobs.insert(1, conf("luck", "repo LUCK\n"));
    let tasks = behind_a_held_push(&site, &admin, jobs).await;
    site.touch("go");
    for (number, task) in tasks.into_iter().enumerate() {
        let end = task.await.unwrap();
        assert_eq!(end.is_ok(), number != 2, "{number}: {end:?}");
    }
    assert_eq!(site.file("master", "conf/reactor/repos/luck.conf"), None);
    assert!((0..4).all(|number| site.file("master", &format!("conf/reactor/repos/{number}.conf")).is_some()));
}

#[tokio::test]
async fn what_was_broken_before_is_not_said_to_be_ours() {
    let site = Site::new();
    let admin = site.admin();
    site.by_hand("conf/gitolite.conf", "repo gitolite-admin\n    RW+ = admin\n    R = BAD/x\n", "broken by hand");
    let failure = admin.push(conf("a", "repo a\n")).await.unwrap_err();
    assert!(matches!(failure, Failure::Retry { .. }), "it goes on once it is mended: {failure}");
    assert!(failure.message().contains("was broken before: conf/gitolite.conf:3: R = BAD/x"), "{failure}");
    assert!(failure.hint().unwrap().contains("git log -1 conf/gitolite.conf"), "{failure:?}");
    // As with a full disk: it is nobody's line.
    site.by_hand("conf/gitolite.conf", "repo gitolite-admin\n    RW+ = LUCK\n", "something else");
    let failure = admin.push(conf("a", "repo a\n")).await.unwrap_err();
    assert!(matches!(failure, Failure::Retry { .. }), "{failure}");
    assert!(failure.message().ends_with("also not what stood there before: FATAL: out of luck"), "{failure}");
    assert!(failure.hint().unwrap().contains("df -h"), "{failure:?}");
    site.by_hand("conf/gitolite.conf", "repo gitolite-admin\n    RW+ = admin\n", "mended");
    admin.push(conf("a", "repo a\n")).await.unwrap();
}

#[tokio::test]
async fn what_people_broke_does_not_take_back_what_was_done_since_the_mark() {
    let site = Site::new();
    let admin = site.admin();
    admin.push(conf("a", "repo a\n")).await.unwrap();
    until("the mark", || site.tip("refs/reactor/compiled") == site.tip("refs/heads/master")).await;
    // Somebody breaks their part; upon it stands a commit of ours that could not be marked.
    site.by_hand("conf/gitolite.conf", "repo gitolite-admin\n    R = BAD/x\n", "broken by hand");
    site.by_hand("conf/reactor/repos/a.conf", "repo a\n    R = bob\n", "a\n\nReactor: not marked\n");
    let next = site.admin();
    let failure = next.compile("compile again".into()).await.unwrap_err();
    assert!(failure.message().contains("was broken before: conf/gitolite.conf:2: R = BAD/x"), "{failure}");
    assert_eq!(site.file("master", "conf/reactor/repos/a.conf").unwrap(), "repo a\n    R = bob\n");
}

#[tokio::test]
async fn killed_before_it_was_put_back_it_is_put_back_by_the_next_compile() {
    let site = Site::new();
    let admin = site.admin();
    admin.push(conf("a", "repo a\n")).await.unwrap();
    until("the mark", || site.tip("refs/reactor/compiled") == site.tip("refs/heads/master")).await;
    // As it stands after a kill between gitolite's refusal and what puts it back.
    site.by_hand("conf/reactor/repos/a.conf", "repo a\n    RW = BAD/x\n", "a\n\nReactor: killed\n");
    let next = site.admin();
    assert!(!next.is_compiled(&next.look().await.unwrap()).unwrap());
    let failure = next.compile("compile again".into()).await.unwrap_err();
    assert!(failure.message().contains("conf/reactor/repos/a.conf:2: RW = BAD/x"), "{failure}");
    assert_eq!(site.file("master", "conf/reactor/repos/a.conf").unwrap(), "repo a\n");
    assert!(next.is_compiled(&next.look().await.unwrap()).unwrap());
}
