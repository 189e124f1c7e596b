//! Two writers at once, a reactor that is killed in the middle of a push, and many messages at once.

use reactor_tests::gitolite::{Gate, Gitolite, Options};

use serde_json::json;

use super::site::{Site, Truth, Wish};

/// Messages of a burst, each for a repository of its own.
const BURST: usize = 50;
/// Most pushes that it may take. 16 reactions run at a time; those that wait while one push is under way go out in the next.
const BURST_PUSHES_MAX: usize = 12;

/// A repository that people look after by hand.
const BY_HAND: &str = "repo by-hand\n    RW = alice\n";

fn server(membership: &str) -> Gitolite {
    Gitolite::start(&Options { asks_groups: membership == "asked", ..Options::default() })
}

#[test]
fn a_push_by_hand_in_between_is_kept_and_so_is_ours() {
    for gate in [Gate::Before, Gate::Taken] {
        let server = server("compiled");
        let mut truth = Truth::foo();
        let mut site = Site::start("git-race", &server, &truth, &Wish::of("compiled"));
        site.project_done("rpms/foo", "new", "bob");
        truth.repo("rpms/foo", &["alice", "bob"]);
        truth.write(&site);
        server.shut(gate);
        site.project("rpms/foo", "user.added", "alice");
        server.until_one_waits(gate);
        let conf = server.admin_file("master", "conf/gitolite.conf").expect("the hand-written part");
        let more = [("conf/gitolite.conf".to_owned(), Some(format!("{BY_HAND}\n{conf}")))];
        server.edit_by_hand("somebody is faster", &more).expect("taken");
        server.open(gate);
        site.until("rpms/foo", "done", 2);
        assert!(server.may_push("alice", "rpms/foo", "rawhide"), "{gate:?}: ours");
        assert!(server.may_push("alice", "by-hand", "master"), "{gate:?}: theirs");
        let ours = server.admin_log("master").iter().filter(|commit| commit.message.contains("user.added")).count();
        assert_eq!(ours, 1, "{gate:?}");
    }
}

#[test]
fn a_reactor_that_is_killed_around_a_push_does_it_once_and_gitolite_compiles_it() {
    for (membership, branch) in [("compiled", "master"), ("asked", "members")] {
        let server = server(membership);
        let mut truth = Truth::foo();
        let mut site = Site::start("git-kill", &server, &truth, &Wish::of(membership));
        site.project_done("rpms/foo", "new", "bob");
        for (n, gate) in [Gate::Before, Gate::Taken, Gate::Moved].into_iter().enumerate() {
            let mut people = vec!["bob"];
            if n % 2 == 0 {
                people.push("alice");
            }
            truth.repo("rpms/foo", &people);
            truth.write(&site);
            let before = server.admin_log(branch).len();
            server.shut(gate);
            site.project("rpms/foo", if n % 2 == 0 { "user.added" } else { "user.removed" }, "alice");
            server.until_one_waits(gate);
            if membership == "asked" {
                // What it leaves running is for its next start to end.
                site.kill_9();
            } else {
                site.kill_9_all();
            }
            server.open(gate);
            site.run();
            site.until("rpms/foo", "done", n + 2);
            assert_eq!(server.may_push("alice", "rpms/foo", "rawhide"), n % 2 == 0, "{membership}, {gate:?}");
            // With gitolite cut off in its compile there may be one more, that lets it compile again.
            let log = server.admin_log(branch);
            let added = &log[..log.len() - before];
            let ours = added.iter().filter(|commit| commit.message.contains("rpms/foo")).count();
            assert_eq!(ours, 1, "{membership}, {gate:?}: {added:?}");
        }
        site.ends_and_leaves_nothing();
    }
}

#[test]
fn a_compile_that_was_cut_off_is_made_up_for() {
    let server = server("compiled");
    let mut truth = Truth::foo();
    let mut site = Site::start("git-cut", &server, &truth, &Wish::of("compiled"));
    site.project_done("rpms/foo", "new", "bob");
    let mut people = vec!["bob"];
    for (n, (gate, who)) in [(Gate::Moved, "alice"), (Gate::Compiling, "eve")].into_iter().enumerate() {
        people.push(who);
        truth.repo("rpms/foo", &people);
        truth.write(&site);
        let before = server.admin_log("master").len();
        server.shut(gate);
        site.project("rpms/foo", "user.added", who);
        server.until_one_waits(gate);
        site.kill_9_all();
        server.kill_sessions();
        server.open(gate);
        let may = || server.access("rpms/foo", who, "W", "refs/heads/rawhide");
        assert_eq!(server.admin_log("master").len(), before + 1, "{gate:?}: the commit stands there");
        assert!(!may(), "{gate:?}: and gitolite has never compiled it");
        site.run();
        site.until("rpms/foo", "done", n + 2);
        assert!(may(), "{gate:?}");
        let log = server.admin_log("master");
        assert_eq!(log.len(), before + 2, "{gate:?}: {log:?}");
        assert!(log[0].message.contains("compile again"), "{gate:?}: {log:?}");
    }
    assert!(server.may_push("alice", "rpms/foo", "rawhide"));
}

#[test]
fn a_burst_is_a_commit_for_each_message_and_few_pushes() {
    for (membership, branch) in [("compiled", "master"), ("asked", "members")] {
        let server = server(membership);
        let mut truth = Truth::default();
        truth.group("provenpackager", &[]);
        let names: Vec<String> = (0..BURST).map(|n| format!("rpms/p{n}")).collect();
        names.iter().for_each(|name| truth.repo(name, &["bob"]));
        let wish = Wish { handler: json!({"at_once": 16}), every: true, ..Wish::of(membership) };
        let mut site = Site::start("git-burst", &server, &truth, &wish);
        site.until_all_done(1);
        names.iter().for_each(|name| truth.repo(name, &["alice", "bob"]));
        truth.write(&site);
        let (commits, pushes) = (server.admin_log(branch).len(), server.pushes(branch));
        names.iter().for_each(|name| site.project(name, "user.added", "alice"));
        site.until_all_done(1 + BURST);
        assert_eq!(server.admin_log(branch).len(), commits + BURST, "{membership}");
        let pushes = server.pushes(branch) - pushes;
        println!("{membership}: {BURST} messages at once took {pushes} pushes");
        assert!((1..=BURST_PUSHES_MAX).contains(&pushes), "{membership}: {pushes} pushes");
        assert!(server.may_push("alice", &names[0], "rawhide") && server.may_push("alice", &names[BURST - 1], "f41"));
        site.ends_and_leaves_nothing();
    }
}
