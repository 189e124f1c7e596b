//! Names that people have used themselves.

use super::keys::key;
use super::*;

const BY_HAND: &str = "@admins = root @deputies # not @everybody\n@deputies = deputy\nrepo gitolite-admin\n    RW+ = @admins\n    \
                       R = reader\nrepo infra/secret\n    RW = @infra\n# repo rpms/foo\n";

fn by_hand(text: &str) -> Files {
    let mut files = Files::default();
    files.put(MASTER, "conf/gitolite.conf", "include \"hand/*.conf\"\n");
    files.put(MASTER, "conf/hand/site.conf", text);
    files
}

/// Whether it waits for a person.
fn waits(planned: &Planned) -> bool {
    planned.changes.iter().any(|change| change.hold.is_some())
}

#[test]
fn a_group_that_a_hand_written_line_names_gets_no_members_unseen() {
    for membership in [Asked, Compiled] {
        for (name, expected) in
            [("admins", true), ("deputies", true), ("infra", true), ("everybody", false), ("root", false)]
        {
            let mut wanted = of_group(name, Group::Whole(users(&["mallory"])));
            let planned = plan(&wanted, &by_hand(BY_HAND), membership, &told(&["mallory", name])).unwrap();
            assert_eq!(waits(&planned), expected, "{name}: {planned:?}");
            wanted.groups_meant.insert(group(name));
            let planned = plan(&wanted, &by_hand(BY_HAND), membership, &told(&["mallory"])).unwrap();
            assert!(!waits(&planned), "the configuration names it: {planned:?}");
        }
        // Once a person has let it through, its members come and go as any other's.
        let mut files = by_hand(BY_HAND);
        make(&mut files, &of_group("infra", Group::Whole(users(&["alice"]))), membership, &["x"]);
        let planned = make(&mut files, &of_group("infra", Group::One(user("bob"), true)), membership, &["bob"]);
        assert!(!waits(&planned), "{planned:?}");
    }
}

#[test]
fn a_key_of_whoever_may_write_to_the_admin_repository_is_looked_at() {
    for membership in [Asked, Compiled] {
        for (name, expected) in [("root", true), ("deputy", true), ("reader", false), ("alice", false)] {
            let wanted = Wanted { keys: BTreeMap::from([(user(name), vec![key(0, "x")])]), ..Wanted::default() };
            let planned = plan(&wanted, &by_hand(BY_HAND), membership, &told(&[name])).unwrap();
            assert_eq!(waits(&planned), expected, "{name}: {planned:?}");
        }
        let wanted = Wanted { keys: BTreeMap::from([(user("bob"), vec![key(0, "x")])]), ..Wanted::default() };
        for text in
            ["repo @all\n\tRW = bob\n", "repo foo gitolite-admin\n RW master = alice bob\n", "repo .*\n RW+=bob"]
        {
            assert!(waits(&plan(&wanted, &by_hand(text), membership, &told(&["bob"])).unwrap()), "{text}");
        }
    }
}

#[test]
fn a_repository_with_rules_by_hand_gets_no_more_of_them_unseen() {
    for (name, expected) in [("infra/secret", true), ("rpms/foo", false)] {
        let wanted = of_repo(name, &["R = @all", "RW = mallory"], &[]);
        let mut files = by_hand(BY_HAND);
        let planned = make(&mut files, &wanted, Compiled, &["mallory"]);
        assert_eq!(waits(&planned), expected, "{planned:?}");
        let planned = make(&mut files, &of_repo(name, &["R = @all", "RW = bob mallory"], &[]), Compiled, &["bob"]);
        assert!(!waits(&planned), "{planned:?}");
    }
}
