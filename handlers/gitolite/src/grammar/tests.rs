use super::*;

fn why(text: &str) -> String {
    let wrong = read(text).expect_err(text);
    format!("{}: {}", wrong.line, wrong.why)
}

/// A rule in one repository.
fn rule(line: &str) -> Result<Vec<Rule>, Wrong> {
    read(&format!("repo rpms/foo\n{line}\n")).map(|section| section.rules)
}

#[test]
fn rules_are_read_one_for_each_name_in_their_order() {
    let section = read(
        "# rpms/foo: written by reactor\n\nrepo rpms/foo   # two words\n\tRWC  f41$ refs/tags/=alice @perl-sig\n   - f[0-9][0-9] = @all # no\n\
         \u{20}   RW+CD= @commit.f41@rpms@foo\n    option deny-rules=1\n    config hooks.mail = a b=c\n",
    )
    .unwrap();
    let read: Vec<String> =
        section.rules.iter().map(|r| format!("{}|{}|{}|{}", r.repo, r.permission, r.refex, r.who)).collect();
    assert_eq!(
        read,
        [
            "rpms/foo|RWC|f41$|alice",
            "rpms/foo|RWC|f41$|@perl-sig",
            "rpms/foo|RWC|refs/tags/|alice",
            "rpms/foo|RWC|refs/tags/|@perl-sig",
            "rpms/foo|-|f[0-9][0-9]|@all",
            "rpms/foo|RW+CD||@commit.f41@rpms@foo",
        ]
    );
    assert_eq!(section.options, ["rpms/foo option deny-rules = 1", "rpms/foo config hooks.mail = a b=c"]);
    assert_eq!(section.lists(), BTreeSet::from([List::parse("commit.f41@rpms@foo").unwrap()]));
}

#[test]
fn writing_for_everyone_or_under_a_pattern_is_seen() {
    let section =
        read("repo rpms/foo\n R = @all\n RW x = @all\n - = @all\nrepo rpms/.*\n R = bob\n RWC = bob\n C = bob\n")
            .unwrap();
    let opens = |r: &&Rule| r.writes() && (r.is_for_everyone() || r.is_about_a_pattern());
    let seen = section.rules.iter().filter(opens).map(|r| format!("{} {} {}", r.repo, r.permission, r.who));
    let seen: Vec<String> = seen.collect();
    assert_eq!(seen, ["rpms/foo RW @all", "rpms/.* RWC bob", "rpms/.* C bob"]);
}

#[test]
fn what_gitolite_would_ignore_or_refuse_is_an_error_with_its_line() {
    for (line, expected) in [
        ("QQ = x", "gitolite does not know \"QQ\""),
        ("RWX = x", "gitolite does not know"),
        ("= begin testconf", "gitolite does not know \"=\""),
        ("RW = bad/user", "the user \"bad/user\" has '/' in it"),
        ("RW = READERS", "is `READERS` to gitolite"),
        ("RW = @CREATOR", "is `CREATOR` to gitolite"),
        ("RW = @commit@", "the list \"@commit@\""),
        ("RW alice", "there is no `=`"),
        ("RW =", "nobody stands after"),
        ("RW x = = y", "the user \"=\""),
        ("R f41 = alice", "can't name a ref"),
        ("C f41 = alice", "can't name a ref"),
        ("RW @refs = alice", "a group of refs"),
        ("RW f41(= alice", "a `(` without"),
        ("RW f41;x = alice", "gitolite takes in no pattern"),
        ("RW f[9-0] = alice", "goes from nothing"),
        ("RW = alice \\", "can't be continued"),
        ("RW = alice\r", "'\\r' may not stand"),
        ("RW = alic\u{e9}", "not ASCII"),
        ("@devs = alice", "no group is defined here"),
        ("include \"x.conf\"", "`include` has no place"),
        ("subconf x", "`subconf` has no place"),
        ("option x =", "the value is empty"),
        ("option x = `id`", "'`' may not stand in a value"),
        ("option x = %HOSTNAME", "%HOSTNAME"),
        ("option x = \"a # b\"", "hard to tell"),
        ("config x = y", "names no section"),
        ("desc = x", "`config gitweb.…`"),
        ("repo @all", "is a group of repositories"),
        ("repo gitolite-admin", "whose rules are written by hand only"),
        ("repo x.git", "ends in `.git`"),
        ("repo a b*(", "a `(` without"),
        ("repo", "names no repository"),
        ("repo a = b", "has no `=`"),
        ("# conf/x.conf 12", "a mark of its own"),
        ("RW = alice # \u{1b}[2J", "may not stand in a line"),
    ] {
        let said = why(&format!("repo rpms/foo\n{line}"));
        assert!(said.starts_with("2: ") && said.contains(expected), "{line:?}: {said}");
    }
    assert!(why("\nRW = alice").contains("2: no `repo` line stands before it"));
    assert!(why("option x = y").contains("no `repo` line"));
    let wrong = read("repo rpms/foo\n    QQ = x").unwrap_err();
    assert_eq!((wrong.line, wrong.text.as_str()), (2, "    QQ = x"));
}

#[test]
fn limits_hold() {
    let names = "a ".repeat(1_000);
    let many = format!("repo {names}\nRW {names} = x\n");
    assert!(why(&many).contains("more than 100000 rules"));
    assert!(why(&"#".repeat(FILE_BYTES_MAX + 1)).contains("more than 4194304 bytes"));
    assert_eq!(read("").unwrap(), Section::default());
    assert!(rule(&format!("RW {} = x", "f".repeat(300))).is_err());
    assert!(rule(&format!("RW {}{} = x", "(".repeat(20), ")".repeat(20))).is_err());
}

#[test]
fn patterns_that_perl_could_not_read_are_refused() {
    for good in [
        "f[0-9][0-9]",
        r"epel10\.1$",
        "(a|b)c*",
        "refs/.*",
        "x{2,5}",
        "[^a-z]x",
        r"\d+-\w?",
        "((a|b)|c)",
        "VREF/NAME/x",
    ] {
        assert!(rule(&format!("RW {good} = x")).is_ok(), "{good}");
    }
    for bad in [
        "f[0-9",
        "a**",
        "a+*",
        "x{2",
        "x{5,2}",
        "x{,2}",
        "(",
        "a)",
        "*",
        "[]",
        "[a-]-z[",
        r"\",
        r"\x",
        "a{1}{2}",
        "(?i)x",
        "|*",
        "a|b",
        "(a|b)|c",
        "refs/heads/a|",
    ] {
        assert!(rule(&format!("RW {bad} = x")).is_err(), "{bad}");
    }
}
