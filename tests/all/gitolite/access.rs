//! Refused before the message and accepted after it, and the other way round, in both memberships.

use reactor_tests::gitolite::{Gitolite, Options};
use reactor_tests::sshd::KeyPair;
use serde_json::json;

use super::site::{PACKAGERS, Site, Truth, Wish};

const MEMBERSHIPS: [&str; 2] = ["asked", "compiled"];

fn server(membership: &str) -> Gitolite {
    Gitolite::start(&Options { asks_groups: membership == "asked", ..Options::default() })
}

#[test]
fn who_is_let_into_a_package_may_push_after_the_message_and_who_is_taken_out_may_not() {
    for membership in MEMBERSHIPS {
        let server = server(membership);
        let mut truth = Truth::foo();
        let mut site = Site::start("git-package", &server, &truth, &Wish::of(membership));
        site.project_done("rpms/foo", "new", "bob");
        assert!(server.may_push("bob", "rpms/foo", "rawhide"), "{membership}");
        assert!(!server.may_push("alice", "rpms/foo", "rawhide"), "{membership}: before the message");

        truth.repo("rpms/foo", &["alice", "bob"]);
        truth.write(&site);
        site.project_done("rpms/foo", "user.added", "alice");
        assert!(server.may_push("alice", "rpms/foo", "rawhide"), "{membership}: after it");
        assert!(server.may_push("alice", "rpms/foo", "alices-own"), "{membership}: people make branches");
        assert!(
            !server.may_push("alice", "rpms/foo", "f42"),
            "{membership}: but none of a release that is not there yet"
        );

        truth.repo("rpms/foo", &["bob"]);
        truth.write(&site);
        site.project_done("rpms/foo", "user.removed", "alice");
        assert!(!server.may_push("alice", "rpms/foo", "rawhide"), "{membership}: taken out");
        assert!(server.may_push("bob", "rpms/foo", "rawhide"), "{membership}: bob was never away");
    }
}

#[test]
fn who_comes_into_a_group_may_push_after_the_message_and_who_leaves_it_may_not() {
    for membership in MEMBERSHIPS {
        let server = server(membership);
        let mut truth = Truth::foo();
        truth.repo("rpms/foo", &["bob", "@perl-sig"]);
        let mut site = Site::start("git-group", &server, &truth, &Wish::of(membership));
        site.project_done("rpms/foo", "new", "bob");
        for group in ["perl-sig", "provenpackager"] {
            assert!(!server.may_push("alice", "rpms/foo", "rawhide"), "{membership}: not yet in {group}");
            truth.group(group, &["alice"]);
            truth.write(&site);
            site.member_done(group, "sponsor", "alice");
            assert!(server.may_push("alice", "rpms/foo", "rawhide"), "{membership}: in {group}");
            truth.group(group, &[]);
            truth.write(&site);
            site.member_done(group, "remove", "alice");
            assert!(!server.may_push("alice", "rpms/foo", "rawhide"), "{membership}: has left {group}");
        }
    }
}

#[test]
fn a_change_is_one_small_commit_that_names_its_cause_and_asked_for_compiles_nothing() {
    let server = server("asked");
    let mut truth = Truth::foo();
    let mut site = Site::start("git-commit", &server, &truth, &Wish::of("asked"));
    site.project_done("rpms/foo", "new", "bob");
    let (compiled, master, members) = (server.conf(), server.admin_log("master"), server.admin_log("members"));

    truth.repo("rpms/foo", &["alice", "bob"]);
    truth.write(&site);
    site.project_done("rpms/foo", "user.added", "alice");
    assert_eq!(server.admin_log("master"), master, "nothing on the branch that gitolite compiles");
    assert_eq!(server.conf(), compiled);
    let log = server.admin_log("members");
    assert_eq!(log.len(), members.len() + 1, "{log:?}");
    assert_eq!(log[0].author, "Re Actor <reactor@example.org>");
    for word in ["project changed", "2026-2", "pagure.project.user.added", "alice"] {
        assert!(log[0].message.contains(word), "{word} is not in {}", log[0].message);
    }
    site.project_done("rpms/foo", "user.added", "alice");
    assert_eq!(server.admin_log("members"), log, "the same message again changes nothing");
}

#[test]
fn a_changed_ssh_key_reaches_git_in_both_memberships() {
    for membership in MEMBERSHIPS {
        let server = Gitolite::start(&Options {
            asks_groups: membership == "asked",
            asks_keys: membership == "asked",
            without_key: vec!["alice"],
            ..Options::default()
        });
        let mut truth = Truth::foo();
        truth.group(PACKAGERS, &["alice"]);
        let wish = Wish { handler: json!({"keys": {"groups": [PACKAGERS]}}), ..Wish::of(membership) };
        let mut site = Site::start("git-keys", &server, &truth, &wish);
        let (first, second) = (server.keys["alice"].clone(), KeyPair::new(&server.dir, "second"));
        assert_eq!(server.greets(&first), None, "{membership}: not yet");
        truth.key("alice", &[&first.public]);
        truth.write(&site);
        site.key_done("alice");
        assert_eq!(server.greets(&first).as_deref(), Some("alice"), "{membership}");

        truth.key("alice", &[&second.public]);
        truth.write(&site);
        site.key_done("alice");
        assert_eq!(server.greets(&second).as_deref(), Some("alice"), "{membership}: the new one");
        assert_eq!(server.greets(&first), None, "{membership}: the old one");
        assert_eq!(server.greets(&server.keys["bob"]).as_deref(), Some("bob"), "{membership}: put there by hand");
    }
}
