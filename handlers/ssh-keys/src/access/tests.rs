use std::path::Path;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::config::node::{self, Node};
use crate::config::words::Problems;

fn read(text: &str) -> Result<Inventory, String> {
    let mut problems = Problems::of_file("hosts.yaml".into());
    let tree = node::yaml(text, &mut problems);
    let inventory = tree.map(|tree| read::inventory(&tree, Some(Path::new("/srv/site")), &mut problems));
    if problems.any() { Err(problems.told("the inventory")) } else { Ok(inventory.unwrap()) }
}

fn wrong(text: &str, all: &[&str]) {
    let why = read(text).unwrap_err();
    for said in all {
        assert!(why.contains(said), "{said}\n{why}");
    }
}

fn groups(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const SITE: &str = r#"
groups:
  web:
    hosts: [web01.example.org, web02.example.org]
    access:
      - sysadmin-web
      - deployers: [restrict, 'command="/usr/local/bin/deploy %u"']
      - guests: [restrict, pty]
    user: reactor
    sudo: true
  people:
    hosts:
      people01: {address: 10.0.0.1, port: 2222}
      web02.example.org:
      here: {local: true, keys: ./keys/%u}
    access: [sysadmin-main]
    keys: "%h/.ssh/authorized_keys"
"#;

#[test]
fn hosts_and_who_may_log_in_are_read() {
    let site = read(SITE).unwrap();
    assert_eq!(site.hosts.keys().collect::<Vec<_>>(), ["here", "people01", "web01.example.org", "web02.example.org"]);
    assert_eq!(site.groups(), groups(&["deployers", "guests", "sysadmin-main", "sysadmin-web"]));
    let web = &site.hosts["web01.example.org"];
    let ssh = |address: &str, port, user: Option<&str>, sudo| Reach::Ssh {
        address: address.into(),
        port,
        user: user.map(str::to_owned),
        sudo,
    };
    assert_eq!(web.reach, ssh("web01.example.org", None, Some("reactor"), true));
    assert_eq!(web.place, Place::Directory("/etc/ssh/authorized_keys.d/%u".into()));
    let both = &site.hosts["web02.example.org"];
    let order: Vec<&str> = both.access.iter().map(|access| access.group.as_str()).collect();
    assert_eq!(order, ["sysadmin-web", "deployers", "guests", "sysadmin-main"], "access lists are joined");
    assert_eq!(both.place, Place::Own("%h/.ssh/authorized_keys".into()), "what one group says holds");
    assert_eq!(both.reach, ssh("web02.example.org", None, Some("reactor"), true));
    assert_eq!(site.hosts["people01"].reach, ssh("10.0.0.1", Some(2222), None, false));
    let here = &site.hosts["here"];
    assert_eq!((&here.reach, &here.place), (&Reach::Local, &Place::Directory("/srv/site/keys/%u".into())));
}

#[test]
fn what_is_said_at_the_top_holds_where_nothing_else_is_said() {
    let text = "{keys: /k/%u, user: r, port: 24, sudo: true, groups: {a: {hosts: [x, y], access: [g]}, \
                b: {hosts: {y: {user: s, port: 22, sudo: false, keys: /l/%u}}}}}";
    let site = read(text).unwrap();
    let reach = |port, user: &str, sudo, address: &str| Reach::Ssh {
        address: address.into(),
        port: Some(port),
        user: Some(user.into()),
        sudo,
    };
    assert_eq!(site.hosts["x"].reach, reach(24, "r", true, "x"));
    assert_eq!(site.hosts["y"].reach, reach(22, "s", false, "y"));
    assert_eq!(site.hosts["x"].place, Place::Directory("/k/%u".into()));
    assert_eq!(site.hosts["y"].place, Place::Directory("/l/%u".into()));
}

#[test]
fn the_most_privileged_group_decides() {
    let site = read(SITE).unwrap();
    let web = &site.hosts["web01.example.org"];
    let may = |user: &str, names: &[&str]| web.options(user, &groups(names));
    assert_eq!(may("ralph", &["deployers"]).unwrap(), "restrict,command=\"/usr/local/bin/deploy ralph\"");
    assert_eq!(may("ralph", &["guests", "deployers"]).unwrap(), "restrict,command=\"/usr/local/bin/deploy ralph\"");
    assert_eq!(may("ralph", &["guests"]).unwrap(), "restrict,pty");
    assert_eq!(may("ralph", &["deployers", "guests", "sysadmin-web"]).unwrap(), "", "without options wins");
    assert_eq!(may("ralph", &["sysadmin-main"]), None);
    assert_eq!(may("ralph", &[]), None);
    for user in ["../../etc/x", "a\"b", "a b", "", "-x", "a\nb"] {
        assert_eq!(may(user, &["sysadmin-web", "deployers"]), None, "{user:?}");
    }
}

#[test]
fn every_mistake_is_told_at_once_with_its_line() {
    wrong(
        "kyes: /a/%u\n\
         groups:\n\
         \x20 web:\n\
         \x20   host: [a]\n\
         \x20 db:\n\
         \x20   hosts: [-x, 'a b', 5, good, '10.0.0.1:22']\n\
         \x20   acess: [g]\n\
         \x20   access:\n\
         \x20     - a b\n\
         \x20     - deployers: [restrikt, 'command=/bin/x']\n\
         \x20     - two: [pty]\n\
         \x20       three: [pty]\n\
         \x20   keys: /etc/../%u\n\
         \x20   port: 70000\n\
         \x20   user: -oProxyCommand=x\n\
         \x20   sudo: 'yes'\n\
         \x20 web:\n\
         \x20   hosts: {h: {address: 'a:22', prot: 1}}\n",
        &[
            "hosts.yaml:1: `kyes` is not a word of the inventory; did you mean `keys`?",
            "hosts.yaml:4: `host` is not a word of group `web`; did you mean `hosts`?",
            "group `web` has no `hosts`",
            "hosts.yaml:6: `-x` in group `db` can't be the name of a host",
            "hosts.yaml:6: `a b` in group `db`",
            "hosts.yaml:6: a host of group `db` is a number, not a name",
            "hosts.yaml:6: `10.0.0.1:22` in group `db` can't be the name of a host",
            "hosts.yaml:7: `acess` is not a word of group `db`; did you mean `access`?",
            "hosts.yaml:9: `access` of group `db`: `a b` can't be the name of an account group",
            "hosts.yaml:10: group `db`, options of `deployers`: `restrikt` is not an option of a key; did you mean `restrict`?",
            "hosts.yaml:10: group `db`, options of `deployers`: `command=/bin/x` needs a value in quotes",
            "hosts.yaml:11: `access` of group `db`: each item is an account group",
            "hosts.yaml:13: `keys` of group `db` is `/etc/../%u`",
            "hosts.yaml:14: `port` of group `db` is 70000, not a number from 1 to 65535",
            "hosts.yaml:15: `user` of group `db` is `-oProxyCommand=x`",
            "hosts.yaml:16: `sudo` of group `db` is a text, not true or false",
            "hosts.yaml:17: `web` is given twice, first in line 3",
            "hosts.yaml:18: `address` of host `h` of group `web` is `a:22`, not a host name or an address; a port goes",
            "hosts.yaml:18: `prot` is not a word of host `h` of group `web`; did you mean `port`?",
        ],
    );
}

#[test]
fn an_inventory_that_names_nobody_or_nothing_is_a_mistake() {
    wrong("", &["the inventory is nothing, not a map"]);
    wrong("{}", &["`groups` is missing"]);
    wrong("groups:", &["there are no groups"]);
    wrong("groups: {}", &["there are no groups"]);
    wrong("groups: [a]", &["`groups` is a list"]);
    wrong("groups: {a: {hosts: [], access: [g]}}", &["`hosts` of group `a` is empty"]);
    wrong("groups: {a: {hosts: , access: [g]}}", &["`hosts` of group `a` is nothing"]);
    wrong("groups: {a: {hosts: [h], access: }}", &["`access` of group `a` is nothing, not a list"]);
    wrong("groups: {a: {hosts: [h]}}", &["no group of host `h` has `access`"]);
    wrong("groups: {a: {hosts: [h], access: [{g: []}]}}", &["the list is empty; a full login is written without"]);
    assert_eq!(read("groups: {a: {hosts: [h], access: []}}").unwrap().hosts["h"].access, []);
}

#[test]
fn groups_that_contradict_each_other_are_both_named() {
    let two = |a: &str, b: &str| format!("groups:\n  a: {{hosts: [h], access: [g], {a}}}\n  b: {{hosts: [h], {b}}}\n");
    for (a, b) in [
        ("keys: /a/%u", "keys: /b/%u"),
        ("port: 22", "port: 23"),
        ("user: root", "user: r"),
        ("sudo: true", "sudo: false"),
        ("local: true", "local: false"),
    ] {
        let word = a.split(':').next().unwrap();
        wrong(
            &two(a, b),
            &[&format!("hosts.yaml:3: `{word}` of host `h` is"), "(group `a`, line 2)", "(group `b`, line 3)"],
        );
        assert!(read(&two(a, a)).is_ok(), "{a} twice is no contradiction");
    }
    wrong(
        "groups: {a: {hosts: {h: {address: x}}, access: [g]}, b: {hosts: {h: {address: y}}}}",
        &["`address` of host `h` is x (host `h` of group `a`", "y (host `h` of group `b`"],
    );
    wrong(
        "groups: {a: {hosts: {h: {local: true, user: root}}, access: [g]}}",
        &["host `h` is local: `user` means nothing"],
    );
    wrong("groups: {a: {hosts: [h], access: [g], keys: ./k/%u}}", &["is for hosts with `local: true`"]);
    wrong(
        "groups: {a: {hosts: {b@c: {}}, access: [g]}}",
        &["`b@c` can't be looked up as a host; give it an `address`"],
    );
}

#[test]
fn two_hosts_that_are_one_are_a_mistake() {
    let text =
        "groups: {a: {hosts: {web01: {}, web01.example.org: {address: WEB01}, v6: {address: 'fe80::1'}}, access: [g]}}";
    wrong(text, &["hosts `web01` and `web01.example.org` are the same files of the same machine"]);
    wrong(
        "groups: {a: {hosts: {x: {local: true}, y: {local: true}}, access: [g]}}",
        &["hosts `x` and `y` are the same"],
    );
    let apart =
        "groups: {a: {hosts: {x: {address: 127.0.0.1, port: 1}, y: {address: 127.0.0.1, port: 2}}, access: [g]}}";
    assert_eq!(read(apart).unwrap().hosts.len(), 2);
}

#[test]
fn yaml_that_hides_what_it_says_is_refused() {
    wrong("groups: &a {x: *a}", &["hosts.yaml:1:"]);
    wrong("a: &a {}\nb: *a", &["hosts.yaml:2: aliases"]);
    wrong("a: !!str x", &["YAML tags"]);
    wrong("a: 1\n---\nb: 2", &["a second document"]);
    wrong("<<: {}", &["merge keys"]);
    wrong("groups: {a: {keys: %h/x}}", &["hosts.yaml:1: this is not YAML", "needs quotes?"]);
    wrong(&"[".repeat(5_000), &["hosts.yaml:1:"]);
    wrong("groups: [", &["this is not YAML"]);
}

#[test]
fn json_is_read_alike_and_twice_the_same_key_is_an_error() {
    let value = json!({"groups": {"a": {"hosts": {"h": {"port": 22}}, "access": ["g", {"d": ["restrict"]}]}}});
    let mut problems = Problems::default();
    let tree = Node::deserialize(&value).unwrap();
    let from_json = read::inventory(&tree, None, &mut problems);
    assert!(!problems.any());
    assert_eq!(from_json, read(&value.to_string()).unwrap());
    assert!(
        serde_json::from_str::<Node>(r#"{"a": 1, "a": 2}"#).unwrap_err().to_string().contains("`a` is given twice")
    );
}

fn option(text: &str) -> Result<(), Vec<String>> {
    options::check(&[text.to_owned()])
}

#[test]
fn options_are_those_of_sshd() {
    for good in [
        "restrict",
        "pty",
        "no-pty",
        "X11-forwarding",
        "no-x11-forwarding",
        "verify-required",
        "no-touch-required",
        r#"command="a, b = c""#,
        r#"command="echo \"x\" \y""#,
        r#"from="*.example.org,!bad,10.0.0.0/8""#,
        r#"from="0.0.0.0/0,::/0,2001:db8::/32,192.0.2.7/32,10.128.0.0/9""#,
        r#"environment="LANG=C""#,
        r#"expiry-time="20271231""#,
        r#"expiry-time="202712312359Z""#,
        r#"tunnel="0""#,
        r#"permitopen="192.0.2.1:80""#,
        r#"permitopen="[::1]:*""#,
        r#"permitlisten="8080""#,
        r#"permitlisten="localhost:*""#,
    ] {
        assert_eq!(option(good), Ok(()), "{good}");
    }
    for (bad, said) in [
        ("", "is not an option"),
        ("restrict,pty", "more than one option"),
        ("restrict ", "is not an option"),
        (" pty", "is not an option"),
        ("pty=\"x\"", "has no value"),
        ("command", "needs a value in quotes"),
        ("command=x", "needs a value in quotes"),
        ("command=\"\"", "needs a value in quotes"),
        ("command='x'", "needs a value in quotes"),
        ("command=\"x", "never closed"),
        ("command=\"x\\\"", "never closed"),
        ("command=\"x\" ssh-rsa AAAA", "behind the closing quote"),
        ("command=\"x\",pty", "behind the closing quote"),
        ("command=\"x\\\\\"y\" \"", "behind the closing quote"),
        ("command=\"a\nb\"", "must not stand in a key file"),
        ("command=\"a\u{0}b\"", "must not stand"),
        ("command=\"a\u{202e}b\"", "must not stand"),
        ("cert-authority", "certificate authority"),
        ("principals=\"x\"", "certificate authority"),
        ("environment=\"a b=c\"", "is not NAME=value"),
        ("expiry-time=\"20271331\"", "is not a time"),
        ("expiry-time=\"never\"", "is not a time"),
        ("permitopen=\"80\"", "is not HOST:PORT"),
        ("permitopen=\"a:0\"", "is not HOST:PORT"),
        ("permitlisten=\"::1:80\"", "is not [HOST:]PORT"),
        ("from=\"a b\"", "is not a list of patterns"),
        ("from=\"10.0.0.1/8\"", "is not a list of patterns"),
        ("from=\"300.1.1.1/8\"", "is not a list of patterns"),
        ("from=\"10.0.0.0/33\"", "is not a list of patterns"),
        ("from=\"a,,b\"", "is not a list of patterns"),
        ("tunnel=\"x\"", "is not the number of a tunnel"),
        ("no-restrict", "is not an option of a key"),
    ] {
        let why = option(bad).unwrap_err();
        assert!(why.len() == 1 && why[0].contains(said), "{bad:?}: {why:?}");
    }
    assert!(option(&format!("command=\"{}\"", "x".repeat(OPTION_BYTES_MAX))).unwrap_err()[0].contains("longer than"));
    let twice = ["command=\"a\"".to_owned(), "COMMAND=\"b\"".to_owned()];
    assert!(options::check(&twice).unwrap_err()[0].contains("given twice"));
    assert!(options::check(&vec!["pty".to_owned(); OPTIONS_MAX + 1]).unwrap_err()[0].contains("more than 32 options"));
}

#[test]
fn whatever_option_is_taken_openssh_finds_the_key_behind_it() {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH x";
    let lines = std::sync::Mutex::new(BTreeSet::new());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(20_000));
    let text = prop_oneof![
        "command=\"[a\"\\\\ ,#\t=é\n]{0,10}\"",
        "[a-z\"\\\\ ,=-]{0,12}",
        "(from|environment)=\"[aA=,\"\\\\]{0,6}\""
    ];
    runner
        .run(&text, |text| {
            if option(&text).is_ok() {
                lines.lock().unwrap().insert(format!("{text} {key}"));
            }
            Ok(())
        })
        .unwrap();
    let lines: Vec<String> = lines.into_inner().unwrap().into_iter().collect();
    assert!(lines.len() > 100, "too few to say anything: {}", lines.len());
    assert_eq!(listed(&lines), lines.len());
}

/// Of how many lines of an authorized_keys file ssh-keygen can read a key.
#[allow(clippy::disallowed_methods, reason = "a test: a program of our own choice")]
fn listed(lines: &[String]) -> usize {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines.join("\n") + "\n").unwrap();
    let output = std::process::Command::new("ssh-keygen").args(["-l", "-f"]).arg(file.path()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().count()
}

#[test]
fn the_example_is_sound() {
    let site = read(include_str!("../../example/hosts.yaml")).unwrap();
    assert_eq!(site.hosts.len(), 5);
    assert_eq!(site.hosts["web02.example.org"].access.len(), 3);
    assert_eq!(site.hosts["localhost"].place, Place::Directory("/srv/site/authorized_keys.d/%u".into()));
    assert_eq!(site.hosts["builder01"].place, Place::Own("%h/.ssh/authorized_keys".into()));
}

#[test]
fn as_many_hosts_as_there_may_be_are_read_and_one_more_is_too_many() {
    let hosts: Vec<String> = (0..HOSTS_MAX).map(|at| format!("host{at:05}.example.org")).collect();
    let text = format!("groups:\n  all:\n    hosts: [{}]\n    access: [a, b: [pty]]\n", hosts.join(", "));
    let site = read(&text).unwrap();
    assert_eq!(site.hosts.len(), HOSTS_MAX);
    wrong(&text.replace("[host00000", "[more, host00000"), &["there are more than 10000 hosts"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Broken in any way, a file gives sentences on one line, or what it gives is sound in itself.
    #[test]
    fn a_broken_file_gives_sentences_or_a_sound_inventory(at in 0..SITE.len(), cut in 0..30_usize, new in "[ -~\n\t\u{e9}\u{0}\u{202e}]{0,12}") {
        let (Some(before), Some(after)) = (SITE.get(..at), SITE.get(at + cut..)) else { return Ok(()) };
        match read(&format!("{before}{new}{after}")) {
            Ok(site) => {
                prop_assert!(!site.hosts.is_empty());
                for host in site.hosts.values() {
                    prop_assert!(host.access.iter().all(|access| options::check(&access.options).is_ok()));
                    let line = host.options("ralph", &site.groups()).unwrap_or_default();
                    prop_assert!(!line.contains(char::is_control));
                }
            }
            Err(why) => prop_assert!(!why.contains(|c: char| c.is_control() || c == '\u{202e}'), "{:?}", why),
        }
    }
}
