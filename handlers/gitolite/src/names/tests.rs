use proptest::prelude::*;

use super::*;

/// `REPONAME_PATT` and `USERNAME_PATT` of gitolite 3.6 (`Rc.pm`), by hand: the first may have `/`.
fn gitolite_takes(text: &str, slash: bool) -> bool {
    let mut bytes = text.strip_prefix('@').unwrap_or(text).bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"-._@+".contains(&b) || slash && b == b'/')
}

/// No name of anything.
fn hostile() -> Vec<String> {
    let texts = [
        "",
        " ",
        "@",
        "@all",
        "@foo",
        "foo bar",
        "foo\n",
        "\nfoo",
        "foo\nrepo bar",
        "foo\0",
        "-x",
        "--",
        ".",
        "..",
        "../x",
        ".git",
        "+a",
        "_a",
        "a=b",
        "a#b",
        "a\"b",
        "a\\b",
        "a$b",
        "a;b",
        "`a`",
        "a@b",
        "foo\u{a0}bar",
        "fооbar",
        "ｆｏｏ",
        "foo\u{200b}",
        "é",
        "/",
        "/a",
        "a/",
        "a//b",
        "a/./b",
        "a/../b",
        "a/-b",
        "~a",
        "a:b",
        "a,b",
        "a*",
        "[a]",
        "%HOSTNAME",
    ];
    texts.iter().map(|text| (*text).to_owned()).chain(["a".repeat(10_000)]).collect()
}

#[test]
fn hostile_text_is_no_name_of_anything() {
    for text in hostile() {
        assert!(RepoName::parse(&text).is_err(), "{text:?}");
        assert!(UserName::parse(&text).is_err(), "{text:?}");
        assert!(GroupName::parse(&text).is_err(), "{text:?}");
        assert!(BranchName::parse(&text).is_err(), "{text:?}");
        assert!(List::parse(&text).is_err(), "{text:?}");
    }
}

#[test]
fn words_that_gitolite_takes_for_everyone_or_a_role_are_nobodys_name() {
    for word in ["all", "All", "ALL", "@all", "@All", "CREATOR", "creator", "READERS", "WRITERS", "Owners"] {
        assert!(GroupName::parse(word).is_err(), "{word}");
        assert!(UserName::parse(word).is_err(), "{word}");
    }
    let why = GroupName::parse("@all").unwrap_err();
    assert_eq!(why, "means everyone to gitolite, so nobody and no group can be called so");
    assert!(UserName::parse("READERS").unwrap_err().starts_with("is `READERS` to gitolite, a role"));
    assert!(GroupName::parse("@perl-sig").unwrap_err().contains("`@`, which marks groups"));
}

#[test]
fn names_as_fedora_has_them_are_taken_as_they_are() {
    for name in
        ["rpms/gtk+", "rpms/0ad", "rpms/perl-Foo.Bar_x", "forks/alice/rpms/foo", "foo", "rpms/libstdc++", "rpms/a"]
    {
        assert_eq!(RepoName::parse(name).unwrap().to_string(), name);
    }
    for name in ["alice", "deploykey_rpms.foo_12", "4lice", "a.b", "a+b"] {
        assert_eq!(UserName::parse(name).unwrap().to_string(), name);
    }
    for name in ["perl-sig", "provenpackager", "git389"] {
        assert_eq!(GroupName::parse(name).unwrap().to_string(), name);
    }
    for name in ["f41", "epel8-next", "epel10.1", "rawhide", "stream-1.0/x", "9stable"] {
        assert_eq!(BranchName::parse(name).unwrap().to_string(), name);
    }
    let fork = RepoName::parse("forks/alice/rpms/foo").unwrap();
    assert_eq!((fork.namespace(), fork.base()), ("forks/alice/rpms", "foo"));
    let plain = RepoName::parse("foo").unwrap();
    assert_eq!((plain.namespace(), plain.base()), ("", "foo"));
}

#[test]
fn a_repository_is_not_gitolites_own_and_not_a_directory_of_git() {
    for name in ["gitolite-admin", "x.git", "x.git/y", "rpms/x.git", "a..b", "rpms/..", "EXTCMD/x", "u/CREATOR/x"] {
        assert!(RepoName::parse(name).is_err(), "{name}");
    }
    assert!(RepoName::parse("gitolite-admin").unwrap_err().contains("written by hand only"));
    assert!(RepoName::parse(&format!("a/{}", "b".repeat(REPO_BYTES_MAX - 2))).is_ok());
    assert!(RepoName::parse(&"b".repeat(REPO_BYTES_MAX + 1)).is_err());
    assert!(UserName::parse(&"b".repeat(NAME_BYTES_MAX)).is_ok() && UserName::parse(&"b".repeat(129)).is_err());
}

#[test]
fn a_branch_is_no_other_kind_of_ref_and_matches_itself_only() {
    for name in ["refs", "refs/heads/x", "VREF/NAME/x", "NAME/x", "x/USER/y", "x.lock", "x.", "a..b", "a/b.lock/c"] {
        assert!(BranchName::parse(name).is_err(), "{name}");
    }
    assert_eq!(BranchName::parse("epel10.1+x").unwrap().refex(), r"epel10\.1\+x");
}

#[test]
fn lists_are_read_back_as_they_were_written() {
    let repo = RepoName::parse("rpms/foo").unwrap();
    let f41 = BranchName::parse("f41").unwrap();
    let of_branch = List::of_branch(&repo, &f41).unwrap();
    assert_eq!(List::commit(&repo).to_string(), "commit@rpms@foo");
    assert_eq!(List::any(&repo).to_string(), "any@rpms@foo");
    assert_eq!(of_branch.to_string(), "commit.f41@rpms@foo");
    for list in [List::commit(&repo), List::any(&repo), of_branch] {
        assert_eq!(List::parse(&list.to_string()), Ok(list));
    }
    assert_eq!(List::of_branch(&repo, &BranchName::parse("a/b").unwrap()), None);
    for text in
        ["commit", "commit@", "@rpms@foo", "any.f41@rpms@foo", "owner@x", "commit.@x", "commit.a/b@x", "commit@a/b"]
    {
        assert!(List::parse(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_taken_is_inside_of_gitolites_patterns(text in r"(\PC{0,6}|[-A-Za-z0-9._+@/]{0,12}|[a-c./]{0,8})") {
        if RepoName::parse(&text).is_ok() {
            prop_assert!(gitolite_takes(&text, true) && !text.contains('@'));
        }
        if BranchName::parse(&text).is_ok() {
            prop_assert!(gitolite_takes(&text, true));
        }
        if UserName::parse(&text).is_ok() || GroupName::parse(&text).is_ok() {
            let in_a_rule = format!("@{text}");
            prop_assert!(gitolite_takes(&text, false) && gitolite_takes(&in_a_rule, false) && !text.contains('@'));
        }
        if let Ok(list) = List::parse(&text) {
            prop_assert!(gitolite_takes(&text, false) && GroupName::parse(&text).is_err());
            prop_assert_eq!(list.to_string(), text);
        }
    }

    #[test]
    fn words_and_lists_come_back(
        repo in r"[a-z0-9][a-zA-Z0-9._+-]{0,6}(/[a-z0-9][a-zA-Z0-9._+-]{0,6}){0,2}",
        branch in r"[a-z0-9][a-zA-Z0-9._+/-]{0,8}",
    ) {
        if let Ok(repo) = RepoName::parse(&repo) {
            prop_assert_eq!(RepoName::parse_word(&repo.word()), Ok(repo.clone()));
            prop_assert_eq!(List::parse(&List::any(&repo).to_string()), Ok(List::any(&repo)));
            if let Some(list) = BranchName::parse(&branch).ok().and_then(|branch| List::of_branch(&repo, &branch)) {
                prop_assert!(gitolite_takes(&list.to_string(), false));
                prop_assert_eq!(List::parse(&list.to_string()), Ok(list));
            }
        }
    }
}
