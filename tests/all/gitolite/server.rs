//! The server's part, without the handler: what is pushed to `members` decides the next access.

use std::time::{Duration, Instant};

use reactor_tests::gitolite::{Gitolite, Options};
use reactor_tests::process::command;
use reactor_tests::sshd::KeyPair;

/// One repository with lists, as the handler's template writes it.
const FOO: &str = "repo rpms/foo\n    RWC refs/heads/f41$ = @commit.f41@rpms@foo\n    RWC refs/heads/rawhide$ = @commit@rpms@foo\n    \
                   R = @all\n";
/// What an access check may take with the question, on a loaded machine.
const CHECK_MAX: Duration = Duration::from_secs(5);

fn asked() -> Options {
    Options { asks_groups: true, by_hand: FOO.to_owned(), ..Options::default() }
}

#[test]
fn a_push_to_members_decides_the_next_access_and_compiles_nothing() {
    let site = Gitolite::start(&asked());
    assert!(!site.may_push("alice", "rpms/foo", "rawhide"), "there is no branch members: nobody is in anything");
    assert!(
        site.push_as("alice", "rpms/foo", "rawhide").expect_err("denied").contains("reactor-groups: "),
        "it says why"
    );
    let compiled = site.conf();

    let told = site.put_members(&[("in/al/alice", "commit@rpms@foo\n")]).expect("reactor may write it");
    assert!(!told.contains("FATAL"), "{told}");
    assert!(site.may_push("alice", "rpms/foo", "rawhide"), "in the list herself");
    assert!(!site.may_push("alice", "rpms/foo", "f41"), "another list");
    assert!(!site.may_push("bob", "rpms/foo", "rawhide"));

    let group = [("in/bo/bob", "perl-sig\n"), ("in/@p/@perl-sig", "commit.f41@rpms@foo\ncommit@rpms@foo\n")];
    site.put_members(&group).expect("taken");
    assert!(!site.may_push("alice", "rpms/foo", "rawhide"), "not in it any more");
    assert!(site.may_push("bob", "rpms/foo", "rawhide") && site.may_push("bob", "rpms/foo", "f41"), "by his group");
    assert_eq!(site.memberships("bob"), ["@commit.f41@rpms@foo", "@commit@rpms@foo", "@perl-sig"]);
    assert_eq!(site.conf(), compiled, "gitolite compiled nothing");
    assert!(site.edit_by_hand("as before", &[]).is_ok(), "and people go on as before");
}

#[test]
fn what_can_not_be_read_or_is_no_name_lets_nobody_in() {
    let site = Gitolite::start(&asked());
    for (why, files) in [
        ("a word with a space", vec![("in/al/alice", "commit@rpms@foo\nfoo bar\n")]),
        ("an option", vec![("in/al/alice", "commit@rpms@foo\n-x\n")]),
        ("a command", vec![("in/al/alice", "commit@rpms@foo\n$(id)\n")]),
        ("a group's file", vec![("in/al/alice", "commit@rpms@foo\nperl-sig\n"), ("in/@p/@perl-sig", "a;b\n")]),
        ("a directory", vec![("in/al/alice/x", "commit@rpms@foo\n")]),
        ("another shard", vec![("in/a/alice", "commit@rpms@foo\n")]),
    ] {
        site.put_members(&files).expect("taken");
        assert!(!site.may_push("alice", "rpms/foo", "rawhide"), "{why}");
    }
    site.put_members(&[("in/al/alice", "commit@rpms@foo\n")]).expect("taken");
    assert!(site.may_push("alice", "rpms/foo", "rawhide"), "none of that stays");
    let ask = |user: &str| {
        let output = site.as_git(&[&site.dir.join("libexec/reactor-groups").display().to_string(), user]);
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for user in [
        "",
        "-x",
        "--help",
        "foo bar",
        "al*",
        "../al/alice",
        "alice\nbob",
        "$(id)",
        "@all",
        "a\u{e9}",
        &"a".repeat(129),
    ] {
        assert_eq!(ask(user), (false, String::new()), "{user:?}");
    }
    assert_eq!(ask("alice"), (true, "commit@rpms@foo\n".to_owned()));
    assert_eq!(ask("nobody"), (true, String::new()));
}

#[test]
fn nobody_but_reactor_and_the_admin_writes_the_branch_or_reads_it() {
    let site = Gitolite::start(&asked());
    site.put_members(&[("in/bo/bob", "commit@rpms@foo\n")]).expect("taken");
    for branch in ["members", "master"] {
        assert!(!site.may_push("alice", "gitolite-admin", branch), "{branch}");
    }
    assert_eq!(site.admin_files("members"), ["in/bo/bob"]);
}

#[test]
fn a_key_on_members_opens_git_access_with_the_next_login() {
    let site = Gitolite::start(&Options { asks_keys: true, without_key: vec!["alice"], ..asked() });
    let (alice, bob) = (site.keys["alice"].clone(), site.keys["bob"].clone());
    let print = |key: &KeyPair| {
        let output = command("ssh-keygen").arg("-lf").arg(&key.path).output().expect("ssh-keygen");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let print = told.split(' ').nth(1).and_then(|word| word.strip_prefix("SHA256:")).expect("a fingerprint");
        print.replace('/', "_")
    };
    let file = |key: &KeyPair| format!("keys/{}/{}", &print(key)[..2], print(key));
    assert_eq!(site.greets(&alice), None, "no key anywhere");
    assert_eq!(site.greets(&bob).as_deref(), Some("bob"), "keydir still counts");

    let line = format!("alice {}\n", alice.material());
    site.put_members(&[(&file(&alice), &line), ("in/al/alice", "commit@rpms@foo\n")]).expect("taken");
    assert_eq!(site.greets(&alice).as_deref(), Some("alice"));
    assert!(site.may_push("alice", "rpms/foo", "rawhide"));

    let other = format!("alice {}\n", bob.material());
    let more = format!("{line}bob\n");
    for wrong in [other.as_str(), more.as_str(), "alice; ssh-ed25519 AAAA\n", "alice\" ssh-ed25519 AAAA\n", ""] {
        site.put_members(&[(&file(&alice), wrong)]).expect("taken");
        assert_eq!(site.greets(&alice), None, "{wrong:?}");
    }
    let both = format!("{line}bob {}\n", alice.material());
    site.put_members(&[(&file(&alice), &both)]).expect("taken");
    assert_eq!(site.greets(&alice).as_deref(), Some("alice"), "of two users with one key the first counts");
    site.put_members(&[("keys/none", "")]).expect("taken");
    assert_eq!(site.greets(&alice), None, "taken away");
}

#[test]
fn asking_costs_an_access_check_little() {
    let [with, without] = [true, false].map(|asks_groups| {
        let site = Gitolite::start(&Options { asks_groups, ..asked() });
        // A package maintainer of the busiest kind: a list in each of 500 repositories, and a group with 2,000.
        let lists = |from: usize, n: usize| (from..from + n).map(|n| format!("commit@rpms@p{n}\n")).collect::<String>();
        let alice = format!("commit@rpms@foo\nperl-sig\n{}", lists(0, 500));
        site.put_members(&[("in/al/alice", &alice), ("in/@p/@perl-sig", &lists(500, 2_000))]).expect("taken");
        assert_eq!(site.access("rpms/foo", "alice", "W", "refs/heads/rawhide"), asks_groups);
        let mut took: Vec<_> = (0..9)
            .map(|_| {
                let began = Instant::now();
                let _ = site.access("rpms/foo", "alice", "W", "refs/heads/rawhide");
                began.elapsed()
            })
            .collect();
        took.sort();
        took[4]
    });
    println!("an access check, median of 9: {without:?} without asking, {with:?} with");
    assert!(with < CHECK_MAX, "{with:?}");
}
