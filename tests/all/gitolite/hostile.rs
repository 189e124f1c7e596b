//! Names that are options, words of gitolite's or two words; a hand-written part that gitolite refuses; repositories that are not there yet.

use reactor_tests::gitolite::{Gitolite, Options};
use serde_json::json;

use super::site::{Site, Truth, Wish};

const NAMES: [&str; 8] = ["@all", "all", "foo bar", "-x", "../../x", "$(id)", "CREATOR", "a\nRW+ = @all"];

fn server() -> Gitolite {
    Gitolite::start(&Options { asks_groups: true, ..Options::default() })
}

fn tips(server: &Gitolite) -> [Vec<String>; 2] {
    ["master", "members"].map(|branch| server.admin_log(branch).into_iter().map(|commit| commit.id).collect())
}

#[test]
fn a_name_that_is_no_name_changes_nothing_wherever_it_comes_from() {
    let server = server();
    let mut truth = Truth::foo();
    let mut site = Site::start("git-names", &server, &truth, &Wish { tries: 1, ..Wish::of("asked") });
    site.project_done("rpms/foo", "new", "bob");
    let before = tips(&server);
    for name in NAMES {
        // Everything that such a message leads to is behind the next good one.
        site.project(name, "user.added", "alice");
        site.member(name, "sponsor", "alice");
        site.member("perl-sig", "sponsor", name);
        let group = format!("@{name}");
        for commit in [name, &group] {
            truth.repo("rpms/foo", &["bob", commit]);
            truth.write(&site);
            let failed = site.count("rpms/foo", "failed");
            site.project("rpms/foo", "user.added", "alice");
            site.until("rpms/foo", "failed", failed + 1);
            assert_eq!(tips(&server), before, "{commit:?} in the truth");
        }
    }
    truth.repo("rpms/foo", &["bob"]);
    truth.write(&site);
    site.project_done("rpms/foo", "user.added", "alice");
    assert_eq!(tips(&server), before);
    assert!(!server.may_push("alice", "rpms/foo", "rawhide") && server.may_push("bob", "rpms/foo", "rawhide"));
}

#[test]
fn a_repository_for_everyone_waits_for_a_person() {
    let server = server();
    let mut truth = Truth::foo();
    let mut site = Site::start("git-everyone", &server, &truth, &Wish::of("asked"));
    site.project_done("rpms/foo", "new", "bob");
    truth.repos.insert("rpms/foo".into(), json!({"everyone": true, "branches": ["rawhide", "f41"]}));
    truth.write(&site);
    let before = tips(&server);
    site.project("rpms/foo", "edit", "bob");
    site.until("rpms/foo", "held", 1);
    assert_eq!(tips(&server), before);
    assert!(!server.may_push("alice", "rpms/foo", "rawhide"));
    let rows = site.rows();
    let held = rows.iter().find(|row| row["state"] == "held").expect("the held one");
    let (code, said) = site.reactor(&["approve", held["id"].as_str().expect("an id")]);
    assert_eq!(code, 0, "{said}");
    site.until("rpms/foo", "done", 2);
    assert!(server.may_push("alice", "rpms/foo", "rawhide"), "a person said yes");
}

#[test]
fn a_hand_written_part_that_gitolite_refuses_is_named_and_nothing_of_ours_changes() {
    let server = Gitolite::start(&Options::default());
    let mut truth = Truth::foo();
    let mut site = Site::start("git-refused", &server, &truth, &Wish { tries: 2, ..Wish::of("compiled") });
    site.project_done("rpms/foo", "new", "bob");
    let file = |text: &str| [("conf/gitolite.conf".to_owned(), Some(text.to_owned()))];
    let good = server.admin_file("master", "conf/gitolite.conf").expect("the hand-written part");
    let told = server.edit_by_hand("a slip", &file(&format!("repo x\n    RW = bad/user\n\n{good}"))).expect("taken");
    assert!(told.contains("bad username"), "{told}");
    let ours = |server: &Gitolite| -> Vec<(String, Option<String>)> {
        let paths = server.admin_files("master").into_iter().filter(|path| path.contains("/reactor/"));
        paths.map(|path| (path.clone(), server.admin_file("master", &path))).collect()
    };
    let before = ours(&server);

    truth.repo("rpms/foo", &["alice", "bob"]);
    truth.write(&site);
    site.project("rpms/foo", "user.added", "alice");
    site.until("rpms/foo", "failed", 1);
    let story = site.story("rpms/foo");
    assert!(story.contains("bad/user"), "the line is named: {story}");
    assert_eq!(ours(&server), before, "what stood there stands there again");
    assert!(!server.may_push("alice", "rpms/foo", "rawhide") && server.may_push("bob", "rpms/foo", "rawhide"));

    server.edit_by_hand("mended", &file(&good)).expect("taken");
    site.project("rpms/foo", "user.added", "alice");
    site.until("rpms/foo", "done", 2);
    assert!(server.may_push("alice", "rpms/foo", "rawhide"));
}

#[test]
fn a_part_by_hand_that_gitolite_refuses_holds_up_nobody_who_is_asked_for() {
    let server = server();
    let mut truth = Truth::foo();
    let mut site = Site::start("git-broken", &server, &truth, &Wish::of("asked"));
    site.project_done("rpms/foo", "new", "bob");
    let good = server.admin_file("master", "conf/gitolite.conf").expect("the hand-written part");
    let bad = format!("repo x\n    RW = bad/user\n\n{good}");
    server.edit_by_hand("a slip", &[("conf/gitolite.conf".to_owned(), Some(bad))]).expect("taken");
    truth.repo("rpms/foo", &["alice", "bob"]);
    truth.write(&site);
    site.project_done("rpms/foo", "user.added", "alice");
    assert!(server.may_push("alice", "rpms/foo", "rawhide"));
}

#[test]
fn a_repository_that_somebody_else_makes_has_no_rules_before_it_is_there() {
    let server = server();
    let mut truth = Truth::foo();
    truth.repo("rpms/new", &["alice"]);
    let made = server.dir.join("made");
    std::fs::create_dir_all(&made).expect("a directory");
    let wish = Wish { handler: json!({"made_by": {"path": made}}), ..Wish::of("asked") };
    let mut site = Site::start("git-made", &server, &truth, &wish);
    let before = tips(&server);
    site.project("rpms/new", "new", "alice");
    site.until_waits_for("rpms/new", "rpms/new");
    assert_eq!(tips(&server), before, "gitolite would make it empty, and whoever sets it up would find it there");
    assert!(!server.repository("rpms/new").exists());
    std::fs::create_dir_all(made.join("rpms/new.git")).expect("the repository");
    site.until("rpms/new", "done", 1);
    assert!(server.may_push("alice", "rpms/new", "rawhide"));
}
