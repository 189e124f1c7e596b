use proptest::prelude::*;

use std::collections::BTreeSet;

use super::*;
use crate::names::List;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

fn repo(name: &str) -> RepoName {
    RepoName::parse(name).unwrap()
}

fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

fn group(name: &str) -> GroupName {
    GroupName::parse(name).unwrap()
}

fn key(comment: &str) -> Key {
    let line = format!("{KEY} {comment}").trim_end().to_owned();
    Key { shown: accounts::keys::shown(&line), line }
}

#[test]
fn each_file_has_its_place() {
    let print = Print::of(&key("")).unwrap();
    let name = print.as_str();
    let keys = format!("keys/{}/{name}", &name[..2]);
    let keydir = format!("keydir/reactor/al/alice/{name}/alice.pub");
    let foo = "9d"; // printf %s rpms/foo | sha256sum
    for (place, path) in [
        (Place::Rules(repo("rpms/foo")), format!("conf/reactor/repos/{foo}/rpms@foo.conf")),
        (Place::Rules(repo("foo.conf")), conf_repo(&repo("foo.conf"))),
        (Place::ConfGroup(group("perl-sig")), "conf/reactor/groups/perl-sig.conf".to_owned()),
        (Place::KeyFile(user("alice"), print.clone()), keydir),
        (Place::Group(group("perl-sig")), "groups/perl-sig".to_owned()),
        (Place::Lists(repo("rpms/foo")), format!("lists/{foo}/rpms@foo")),
        (Place::In(Member::User(user("alice"))), "in/al/alice".to_owned()),
        (Place::In(Member::User(user("al"))), "in/al/al".to_owned()),
        (Place::In(Member::User(user("a"))), "in/a/a".to_owned()),
        (Place::In(Member::Group(group("perl-sig"))), "in/@p/@perl-sig".to_owned()),
        (Place::In(Member::Group(group("p"))), "in/@p/@p".to_owned()),
        (Place::People(user("alice")), "people/al/alice".to_owned()),
        (Place::KeyIndex(print), keys),
    ] {
        let (branch, at) = place.path();
        assert_eq!(at, path);
        assert_eq!(Place::at(branch, &path), Some(place));
        assert!(branch.has(&path));
    }
}

#[test]
fn a_file_where_we_would_not_look_for_it_is_none_of_ours() {
    for (branch, path) in [
        (Branch::Master, "conf/reactor/repos/00/rpms@foo.conf"),
        (Branch::Master, "conf/reactor/repos/rpms@foo.conf"),
        (Branch::Master, "conf/reactor/groups/@all.conf"),
        (Branch::Master, "conf/reactor/groups/a/b.conf"),
        (Branch::Master, "conf/gitolite.conf"),
        (Branch::Master, "keydir/reactor/al/alice/x/alice.pub"),
        (Branch::Master, "keydir/alice.pub"),
        (Branch::Members, "in/alice"),
        (Branch::Members, "in/bo/alice"),
        (Branch::Members, "in/@a/@all"),
        (Branch::Members, "groups/-x"),
        (Branch::Members, "groups"),
        (Branch::Members, "keys/ab/abc"),
        (Branch::Members, ""),
    ] {
        assert_eq!(Place::at(branch, path), None, "{path}");
    }
    assert!(!Branch::Master.has("conf/gitolite.conf") && !Branch::Master.has("conf/reactors/x"));
    assert!(!Branch::Members.has("README") && !Branch::Members.has("inner/x"));
}

/// `$REPONAME_PATT` of Rc.pm, without which `ssh-authkeys` ends with an error and nobody has a key.
fn is_reponame(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-._@/+".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_part)
}

#[test]
fn gitolite_takes_the_user_from_the_name_of_a_key_file_that_holds_one_line() {
    let print = Print::parse("+_bcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP").unwrap();
    let path = keydir_key(&user("al.ice+x"), &print);
    assert!(is_reponame(&path), "{path}");
    let name = path.rsplit('/').next().unwrap();
    assert_eq!(name.strip_suffix(".pub"), Some("al.ice+x"), "no `@`, which would cut the name");
    assert_eq!(key_file(&key("me")), format!("{KEY} me\n").into_bytes());
}

#[test]
fn a_fingerprint_is_one_word_that_gitolite_and_a_path_take() {
    let key =
        Key { line: String::new(), shown: "ED25519 SHA256:/+cdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ me".into() };
    assert_eq!(Print::of(&key).unwrap().as_str(), "_+cdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ");
    for shown in ["ED25519 MD5:aa", "ED25519", "", "a line that is no key", "ED25519 SHA256:../../x"] {
        assert_eq!(Print::of(&Key { line: String::new(), shown: shown.into() }), None, "{shown}");
    }
}

#[test]
fn lines_are_written_sorted_and_read_back() {
    let members: BTreeSet<UserName> = [user("bob"), user("alice")].into();
    let conf = group_conf(&group("perl-sig"), &members);
    let text = String::from_utf8(conf.clone()).unwrap();
    assert!(text.starts_with("# group perl-sig: "), "{text}");
    assert!(text.ends_with("\n@perl-sig = alice\n@perl-sig = bob\n"), "{text}");
    assert_eq!(read_group_conf(&group("perl-sig"), &conf), Read { found: members.clone(), odd: 0 });
    assert_eq!(group_lines(&members), b"alice\nbob\n");
    assert_eq!(read_group(b"alice\nbob\n"), Read { found: members, odd: 0 });
    assert_eq!(group_lines(&BTreeSet::new()), b"");

    let foo = repo("rpms/foo");
    let of_branch = List::parse("commit.f41@rpms@foo").unwrap();
    let entries: BTreeSet<Entry> = [
        Entry::new(&of_branch, Member::User(user("bob"))),
        Entry::new(&List::commit(&foo), Member::Group(group("perl-sig"))),
    ]
    .into();
    assert_eq!(list_lines(&entries), b"commit @perl-sig\ncommit.f41 bob\n");
    assert_eq!(read_entries(&foo, &list_lines(&entries)), Read { found: entries.clone(), odd: 0 });
    assert_eq!(entries.first().unwrap().name(&foo), "commit@rpms@foo");

    let index = key_index_line(&user("alice"), &key("a comment"));
    assert_eq!(index, format!("alice {KEY}"));
    let lines = [index, "perl-sig".to_owned(), "commit@rpms@foo".to_owned()].into();
    assert_eq!(read_index(&index_lines(&lines)), Read { found: lines, odd: 0 });
    let keys = read_keys(&keys_lines([&key("a comment")]));
    assert_eq!(keys.found.into_values().collect::<Vec<_>>(), [key("a comment")]);
}

#[test]
fn what_we_would_not_have_written_is_counted_and_not_taken() {
    let odd = |read: Read<BTreeSet<UserName>>| (read.found.len(), read.odd);
    assert_eq!(odd(read_group(b"alice\n# a comment\n\n@all\nfoo bar\n-x\n\xff\n")), (1, 4));
    let conf = b"@g = alice\n@g = bob eve\n@h = eve\nrepo x\n    RW+ = eve\n";
    assert_eq!(odd(read_group_conf(&group("g"), conf)), (1, 4));
    let foo = repo("rpms/foo");
    let entries = read_entries(&foo, b"commit alice\ncommit @all\nowner bob\ncommit@rpms@bar eve\nany\nany  bob\n");
    assert_eq!((entries.found.len(), entries.odd), (1, 5));
    let keys = read_keys(format!("{KEY}\ncommand=\"x\" {KEY}\nssh-ed25519 AAAA\n").as_bytes());
    assert_eq!((keys.found.len(), keys.odd), (1, 2));
    assert_eq!(read_index(b"@all\nperl-sig\nalice ssh-ed25519 x\n").odd, 2);
}

proptest! {
    #[test]
    fn nothing_that_stands_in_a_file_can_end_in_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in ".{0,80}") {
        for bytes in [bytes.as_slice(), text.as_bytes()] {
            let _ = read_group(bytes);
            let _ = read_group_conf(&group("g"), bytes);
            let _ = read_entries(&repo("rpms/foo"), bytes);
            let _ = read_index(bytes);
            let _ = read_keys(bytes);
        }
        let _ = Place::at(Branch::Master, &text);
        let _ = Place::at(Branch::Members, &format!("in/{text}"));
    }

    /// As `server/reactor-groups` cuts it.
    #[test]
    fn a_shell_finds_the_shard(name in "@?[0-9A-Za-z][0-9A-Za-z._+-]{0,4}") {
        let rest = if name.len() >= 2 { &name[2..] } else { &name[..] };
        let cut = name.strip_suffix(rest).unwrap();
        prop_assert_eq!(super::shard(&name), if cut.is_empty() { &name } else { cut });
    }

    #[test]
    fn paths_of_keys_suit_gitolite(name in "[0-9A-Za-z][0-9A-Za-z._+-]{0,20}", print in "[0-9A-Za-z_+]{43}") {
        let place = UserName::parse(&name).map(|user| Place::KeyFile(user, Print::parse(&print).unwrap()));
        if let Ok(place) = place {
            let (branch, path) = place.path();
            prop_assert!(is_reponame(&path));
            prop_assert_eq!(Place::at(branch, &path), Some(place));
        }
    }
}
