use super::*;

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const FILE: &str = "users:
  ralph: {keys: [\"ssh-ed25519 AAAA r\", \"ssh-ed25519 BBBB r\"]}
  toshio:
    keys: |
      ssh-ed25519 CCCC t
      ssh-ed25519 DDDD t
  pingou: {locked: true}
  nokeys: {keys: []}
groups:
  web: [ralph, toshio, pingou]
  db: [ralph, nokeys]
  empty: []
";

#[test]
fn yaml_and_json_of_the_same_shape_answer_the_same() {
    let json = r#"{"users":{"ralph":{"keys":["ssh-ed25519 AAAA r","ssh-ed25519 BBBB r"]},"toshio":{"keys":"ssh-ed25519 CCCC t\nssh-ed25519 DDDD t\n"},
        "pingou":{"locked":true},"nokeys":{"keys":[]}},"groups":{"web":["ralph","toshio","pingou"],"db":["ralph","nokeys"],"empty":[]}}"#;
    for roster in [Roster::from_yaml(FILE, "f").unwrap(), Roster::from_json(json.as_bytes(), "c").unwrap()] {
        let ralph = roster.user("ralph", &names(&["web", "db", "empty"])).unwrap().unwrap();
        assert_eq!(ralph.keys, ["ssh-ed25519 AAAA r", "ssh-ed25519 BBBB r"]);
        assert_eq!(ralph.groups, names(&["web", "db"]));
        let toshio = roster.user("toshio", &names(&["db"])).unwrap().unwrap();
        assert_eq!(toshio.keys, ["ssh-ed25519 CCCC t\nssh-ed25519 DDDD t\n"]);
        assert!(toshio.groups.is_empty());
        let all = roster.members(&names(&["web", "db"])).unwrap();
        assert_eq!(all.accounts.keys().map(String::as_str).collect::<Vec<_>>(), ["nokeys", "ralph", "toshio"]);
        assert_eq!(all.accounts["ralph"].groups, names(&["web", "db"]));
    }
}

#[test]
fn locked_and_unknown_people_have_no_account() {
    let roster = Roster::from_yaml(FILE, "f").unwrap();
    assert_eq!(roster.user("pingou", &names(&["web"])).unwrap(), None);
    assert_eq!(roster.user("nobody", &names(&["web"])).unwrap(), None);
}

#[test]
fn a_group_that_is_not_there_is_a_failure_and_not_an_empty_one() {
    let roster = Roster::from_yaml(FILE, "/srv/a.yaml").unwrap();
    let failure = roster.members(&names(&["web", "emty"])).unwrap_err();
    assert!(failure.message().contains("/srv/a.yaml has no group `emty`; there is `empty`"), "{failure}");
    assert!(failure.hint().unwrap().contains("emty: []"));
    assert!(roster.user("ralph", &names(&["wbe"])).is_err());
}

#[test]
fn a_member_without_an_entry_is_a_failure_that_names_both_and_the_line() {
    let roster =
        Roster::from_yaml("users:\n  a: {keys: []}\ngroups:\n  web:\n  - a\n  - ghost\n", "/srv/a.yaml").unwrap();
    let failure = roster.members(&names(&["web"])).unwrap_err();
    assert!(failure.message().starts_with("/srv/a.yaml:6: group web has the member \"ghost\""), "{failure}");
    assert!(roster.user("ghost", &names(&["web"])).is_err(), "asked about one by one it is no \"nobody\" either");
    assert!(roster.user("a", &names(&["web"])).is_ok(), "and it is nothing to the others");
}

#[test]
fn a_name_that_is_no_name_is_left_out_with_a_note_and_the_others_go_on() {
    let roster = Roster::from_yaml("users: {a: {keys: []}}\ngroups:\n  web: [../../etc/x, a, \"-rf\"]\n", "f").unwrap();
    let members = roster.members(&names(&["web"])).unwrap();
    assert_eq!(members.accounts.len(), 1);
    assert_eq!(
        members.notes,
        ["f:3: group web: \"../../etc/x\" is not a user name", "f:3: group web: \"-rf\" is not a user name"]
    );
}

#[test]
fn notes_are_bounded() {
    let bad: Vec<String> = (0..1_000).map(|n| format!("\"-{n}\"")).collect();
    let text = format!("users: {{a: {{keys: []}}}}\ngroups: {{web: [a, {}]}}\n", bad.join(", "));
    let members = Roster::from_yaml(&text, "f").unwrap().members(&names(&["web"])).unwrap();
    assert_eq!(members.notes.len(), handler_api::limits::NOTES_MAX);
    assert!(members.notes.last().unwrap().contains("901 more"), "{:?}", members.notes.last());
}

#[test]
fn whatever_is_not_the_shape_is_an_error_with_its_line() {
    for (text, line, part) in [
        ("users:\n  a: {kyes: []}\ngroups: {}\n", 2, "kyes"),
        ("users:\n  a: {keys: []}\n  a: {keys: []}\ngroups: {}\n", 3, ""),
        ("users:\n  a:\ngroups: {}\n", 0, ""),
        ("users:\n  a: {}\ngroups: {}\n", 0, "has no `keys`"),
        ("users:\n  a: {keys: 5}\ngroups: {}\n", 2, ""),
        ("users:\n  a: {keys: [[x]]}\ngroups: {}\n", 2, ""),
        ("users:\n  a: {locked: yes}\ngroups: {}\n", 2, ""),
        ("users: {a: {keys: []}}\ngroups:\n  web:\n", 0, ""),
        ("users: {a: {keys: []}}\ngroups:\n  web: a\n", 3, ""),
        ("users: {a: {keys: []}}\ngroups:\n  web: [~]\n", 3, ""),
        ("users: {a: {keys: [~]}}\ngroups: {}\n", 1, ""),
        ("users: {a: {keys: [], locked: }}\ngroups: {}\n", 1, ""),
        ("users: {a: {keys: }}\ngroups: {}\n", 0, "has no `keys`"),
        ("users: {a: {keys: []}}\n", 0, "groups"),
        ("groups: {}\n", 0, "users"),
        ("users: {}\ngroups: {}\n", 0, "no users at all"),
        ("", 0, ""),
        ("[]", 0, ""),
        ("users: {a: {keys: []}}\ngroups: {}\nfoo: 1\n", 3, "foo"),
        ("users: {a: {keys: []}}\ngroups: {}\n---\nusers: {}\n", 0, ""),
        ("users: [\n", 0, ""),
    ] {
        let failure = Roster::from_yaml(text, "f").expect_err(text);
        assert!(line == 0 || failure.message().starts_with(&format!("f:{line}: ")), "{text:?}: {failure}");
        assert!(failure.message().contains(part) && !failure.message().contains('\n'), "{text:?}: {failure}");
        for inner in [" at line ", "Policy", "Options"] {
            assert!(!failure.message().contains(inner), "{text:?}: {failure}");
        }
        assert!(failure.message().starts_with('f') && failure.hint().is_some(), "{text:?}: {failure}");
    }
}

#[test]
fn json_that_is_cut_off_doubled_or_followed_by_something_is_an_error() {
    for text in [
        "",
        "null",
        "{}",
        r#"{"users":{"a":{"keys":[]}}"#,
        r#"{"users":{"a":{"keys":[]},"a":{"keys":["x"]}},"groups":{}}"#,
        r#"{"users":{"a":{"keys":[]}},"groups":{"g":[],"g":["a"]}}"#,
        r#"{"users":{"a":{"keys":[]}},"groups":{}} trailing"#,
        r#"{"users":{"a":null},"groups":{}}"#,
        r#"{"users":{"a":{"keys":[null]}},"groups":{}}"#,
        r#"{"users":{"a":{"keys":[]}},"groups":{"g":null}}"#,
        r#"{"error":"no such user"}"#,
        r#"{"users":{},"groups":{}}"#,
    ] {
        assert!(Roster::from_json(text.as_bytes(), "c").is_err(), "{text}");
    }
}

#[test]
fn yaml_cant_blow_up_through_aliases_or_depth() {
    let mut bomb = String::from("users: {a: {keys: &a0 [x,x,x,x,x,x,x,x,x,x]}}\ngroups:\n");
    for n in 1..12 {
        bomb.push_str(&format!("  g{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(",")));
    }
    assert!(Roster::from_yaml(&bomb, "f").is_err());
    assert!(Roster::from_yaml(&"[".repeat(100_000), "f").is_err());
}
