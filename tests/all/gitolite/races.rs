//! Two writers at once, and a reactor that is killed in the middle of a push.

use reactor_tests::gitolite::{Gate, Gitolite, Options};

use super::site::{Site, Truth, Wish};

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
            site.kill_9_all();
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
    }
}
