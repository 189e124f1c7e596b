//! `reactor reconcile`: what is missing and what is too much, on both branches.

use reactor_tests::gitolite::{Gitolite, Options};

use super::site::{Site, Truth, Wish};

#[test]
fn reconcile_finds_what_is_missing_and_what_is_too_much() {
    for membership in ["asked", "compiled"] {
        let server = Gitolite::start(&Options { asks_groups: membership == "asked", ..Options::default() });
        let mut truth = Truth::foo();
        truth.repo("rpms/bar", &["@perl-sig"]);
        truth.group("perl-sig", &["alice"]);
        let site = Site::start("git-drift", &server, &truth, &Wish { every: true, ..Wish::of(membership) });
        reactor_tests::wait_until("the first reconcile", super::site::SOON, || {
            site.rows().iter().any(|row| row["state"] == "done")
        });
        assert!(server.may_push("alice", "rpms/bar", "rawhide") && server.may_push("bob", "rpms/foo", "rawhide"));
        let (code, said) = site.reactor(&["reconcile", "git", "rules.yaml"]);
        assert_eq!(code, 0, "{membership}: nothing to do: {said}");

        let ours = server.admin_files("master").into_iter().find(|path| path.contains("rpms@foo")).expect("a file");
        let path = ours.replace("rpms@foo", "rpms@extra");
        let extra = (path, Some("repo rpms/extra\n    RW = alice\n".to_owned()));
        server.edit_by_hand("drift", &[(ours, None), extra]).expect("taken");
        assert!(server.may_push("alice", "rpms/extra", "master") && !server.may_push("bob", "rpms/foo", "rawhide"));
        let (_, said) = site.reactor(&["reconcile", "git", "rules.yaml"]);
        assert!(said.contains("rpms/foo") && said.contains("rpms/extra"), "{membership}: both ways: {said}");

        let (_, said) = site.reactor(&["reconcile", "git", "--apply"]);
        let rows = site.rows();
        let held = rows.iter().find(|row| row["state"] == "held");
        let held = held.unwrap_or_else(|| panic!("{membership}: a whole section waits for a person: {said} {rows:?}"));
        let (code, said) = site.reactor(&["approve", held["id"].as_str().expect("an id")]);
        assert_eq!(code, 0, "{said}");
        reactor_tests::wait_until("all is done", super::site::SOON, || {
            site.rows().iter().all(|row| row["state"] == "done")
        });
        assert!(!server.may_push("alice", "rpms/extra", "master") && server.may_push("bob", "rpms/foo", "rawhide"));
    }
}
