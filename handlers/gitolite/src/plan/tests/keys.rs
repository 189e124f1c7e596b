//! Keys; and all of the site, both ways.

use accounts::keys;

use super::*;

const BLOBS: [&str; 3] = [
    "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
    "AAAAC3NzaC1lZDI1NTE5AAAAIAbcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ",
    "AAAAC3NzaC1lZDI1NTE5AAAAIBbcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ",
];

pub(super) fn key(n: usize, comment: &str) -> Key {
    let line = format!("ssh-ed25519 {} {comment}", BLOBS[n]).trim_end().to_owned();
    let key = Key { shown: keys::shown(&line), line };
    assert!(key.fingerprint().starts_with("SHA256:"), "{key:?}");
    key
}

fn of_keys(name: &str, keys: &[Key]) -> Wanted {
    Wanted { keys: BTreeMap::from([(user(name), keys.to_vec())]), ..Wanted::default() }
}

#[test]
fn keys_come_change_and_go() {
    for membership in [Asked, Compiled] {
        let mut files = Files::default();
        let planned = make(&mut files, &of_keys("alice", &[key(0, "old"), key(1, "")]), membership, &["alice"]);
        assert_eq!(words(&planned).len(), 2);
        assert!(words(&planned).iter().all(|words| words.starts_with("create key of alice: ED25519 SHA256:")));
        let planned = make(&mut files, &of_keys("alice", &[key(0, "new"), key(2, "")]), membership, &["bob"]);
        let is = |action, hold_is: Option<&str>| {
            let found = planned.changes.iter().filter(|change| change.action == action);
            let found: Vec<&Change> = found.collect();
            assert_eq!((found.len(), found[0].hold.as_deref()), (1, hold_is), "{planned:?}");
        };
        is(Action::Create, None);
        is(Action::Update, None);
        is(Action::Delete, Some("no message names alice"));
        let text = serde_json::to_string(&planned.changes).unwrap();
        assert!(!text.contains("AAAAC3Nza"), "a plan shows no key: {text}");
        let planned = make(&mut files, &of_keys("alice", &[]), membership, &["alice"]);
        assert!(
            planned.changes.iter().all(|change| change.action == Action::Delete && change.hold.as_deref().is_none())
        );
        assert_eq!(files, Files::default());
    }
}

#[test]
fn a_key_of_two_users_has_two_lines_and_a_note() {
    let mut files = Files::default();
    let both = [(user("mallory"), vec![key(0, "m")]), (user("alice"), vec![key(0, "a")])];
    let planned = make(&mut files, &Wanted { keys: both.into(), ..Wanted::default() }, Asked, &["x"]);
    assert!(planned.notes[0].contains("alice, mallory"), "{:?}", planned.notes);
    let index = |files: &Files| {
        let path = files.below(MEMBERS, "keys").unwrap().pop().unwrap();
        files.text(MEMBERS, &path).unwrap()
    };
    assert_eq!(index(&files), format!("alice ssh-ed25519 {0}\nmallory ssh-ed25519 {0}\n", BLOBS[0]));
    make(&mut files, &of_keys("alice", &[]), Asked, &["alice"]);
    assert_eq!(index(&files), format!("mallory ssh-ed25519 {}\n", BLOBS[0]));
}

#[test]
fn another_key_in_a_users_file_is_seen_for_what_it_is() {
    let mut files = Files::default();
    let wanted = of_keys("alice", &[key(0, "")]);
    make(&mut files, &wanted, Compiled, &["x"]);
    let path = files.below(MASTER, "keydir").unwrap().pop().unwrap();
    files.put(MASTER, &path, &format!("{}\n", key(1, "eve").line));
    files.put(MASTER, "keydir/reactor/al/alice/by-hand.pub", "no key\n");
    let planned = make(&mut files, &wanted, Compiled, &["alice"]);
    let words = words(&planned);
    assert!(words[0].starts_with("create key of alice") && words[1].starts_with("delete key of alice"), "{words:?}");
    assert!(words[1].contains("eve"), "{words:?}");
    assert_eq!(
        words[2],
        "update lines of the keys of alice ! what stood there can't be read: who loses access is not known"
    );
    assert_eq!(files.below(MASTER, "keydir").unwrap(), [path]);
}

/// A site with a little of everything.
fn site() -> Wanted {
    let mut wanted = of_repo("rpms/foo", &["RW = @commit@rpms@foo"], &[("commit@rpms@foo", &["alice", "@g"])]);
    wanted.groups.insert(group("g"), Group::Whole(users(&["bob"])));
    wanted.keys.insert(user("alice"), vec![key(0, "")]);
    wanted.everything = Some(BTreeSet::new());
    wanted
}

#[test]
fn reconcile_finds_what_is_missing_and_what_is_too_much() {
    for membership in [Asked, Compiled] {
        let mut files = Files::default();
        make(&mut files, &site(), membership, &[]);
        let clean = files.clone();
        for at in clean.0.keys() {
            let mut files = clean.clone();
            files.0.remove(at);
            assert!(!make(&mut files, &site(), membership, &[]).changes.is_empty());
            assert_eq!(files, clean, "{at:?}");
        }
        for (branch, path) in [
            (MASTER, crate::files::conf_repo(&repo("rpms/bar"))),
            (MASTER, "conf/reactor/repos/00/zz.conf".into()),
            (MASTER, "conf/reactor/groups/h.conf".into()),
            (MASTER, "conf/reactor/x".into()),
            (MASTER, "keydir/reactor/mallory.pub".into()),
            (MASTER, "keydir/reactor/al/alice/x.pub".into()),
            (MASTER, "keydir/reactor/ma/mallory/x/mallory.pub".into()),
            (MEMBERS, "in/ma/mallory".into()),
            (MEMBERS, "in/@a/@all".into()),
            (MEMBERS, "groups/h".into()),
            (MEMBERS, "lists/00/h".into()),
            (MEMBERS, crate::files::asked_list(&repo("rpms/bar"))),
            (MEMBERS, "people/ma/mallory".into()),
            (MEMBERS, "keys/x".into()),
        ] {
            let mut files = clean.clone();
            files.put(branch, &path, "g\n");
            let planned = make(&mut files, &site(), membership, &[]);
            assert_eq!(planned.changes.len(), 1, "{path}: {planned:?}");
            assert!(planned.changes[0].hold.as_deref().is_some(), "{path}: {planned:?}");
            assert_eq!(files, clean, "{path}");
        }
    }
}

#[test]
fn what_is_not_ours_stays() {
    for membership in [Asked, Compiled] {
        let mut files = Files::default();
        for (branch, path) in [(MASTER, "conf/gitolite.conf"), (MASTER, "keydir/admin.pub"), (MEMBERS, "README")] {
            files.put(branch, path, "by hand\n");
        }
        let hand = files.clone();
        make(&mut files, &site(), membership, &[]);
        make(&mut files, &Wanted { everything: Some(BTreeSet::new()), ..Wanted::default() }, membership, &[]);
        assert_eq!(files, hand);
    }
}

#[test]
fn what_could_not_be_known_stays_and_counts_in_the_index() {
    for membership in [Asked, Compiled] {
        let mut files = Files::default();
        make(&mut files, &site(), membership, &[]);
        let wanted = Wanted {
            groups_left_alone: BTreeSet::from([group("g")]),
            everything: Some(BTreeSet::from([repo("rpms/foo")])),
            keys: site().keys,
            ..Wanted::default()
        };
        assert_eq!(plan(&wanted, &files, membership, &told(&[])).unwrap(), Planned::default());
    }
}

#[test]
fn the_other_membership_is_cleaned_up_as_one_change() {
    for (before, after) in [(Asked, Compiled), (Compiled, Asked)] {
        let mut files = Files::default();
        make(&mut files, &site(), before, &[]);
        let planned = make(&mut files, &site(), after, &[]);
        let left: Vec<String> = words(&planned).into_iter().filter(|words| words.contains("has left")).collect();
        assert_eq!(left.len(), 1, "{planned:?}");
        assert!(left[0].ends_with("! nobody said so: found by reconcile"), "{left:?}");
        let mut fresh = Files::default();
        make(&mut fresh, &site(), after, &[]);
        assert_eq!(files, fresh);
    }
}

#[test]
fn a_reconcile_mends_the_index_as_one_change() {
    let mut files = Files::default();
    make(&mut files, &site(), Asked, &[]);
    let clean = files.clone();
    files.0.retain(|(_, path), _| !path.starts_with("in/"));
    let planned = make(&mut files, &site(), Asked, &[]);
    assert_eq!(words(&planned), ["update index: 3 files"]);
    assert_eq!(files, clean);
    // What follows from a change is not told again.
    let mut wanted = site();
    wanted.groups.insert(group("g"), Group::Whole(users(&["bob", "carol"])));
    assert_eq!(words(&make(&mut files, &wanted, Asked, &[])), ["create group g: carol"]);
}
