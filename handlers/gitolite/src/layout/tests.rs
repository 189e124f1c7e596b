use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::names::{BranchName, GroupName, UserName};

const SIMPLE: &str = include_str!("../../example/simple.hbs");

fn repo(name: &str) -> RepoName {
    RepoName::parse(name).unwrap()
}

fn branch(name: &str) -> BranchName {
    BranchName::parse(name).unwrap()
}

/// `alice bob @perl-sig`; `@all` = everyone.
fn people(names: &str) -> People {
    let mut people = People::default();
    for name in names.split_whitespace() {
        match name.strip_prefix('@') {
            Some("all") => people.everyone = true,
            Some(group) => drop(people.groups.insert(GroupName::parse(group).unwrap())),
            None => drop(people.users.insert(UserName::parse(name).unwrap())),
        }
    }
    people
}

fn package() -> Repo {
    Repo {
        commit: people("bob alice @perl-sig"),
        branches: ["rawhide", "epel10.1", "f41"].iter().map(|name| (branch(name), None)).collect(),
        deploy_keys: [("deploykey_foo_1", true), ("deploykey_foo_2", false)]
            .map(|(name, write)| (UserName::parse(name).unwrap(), write))
            .into(),
        ..Repo::default()
    }
}

fn render(template: &str, name: &str, truth: &Repo, membership: Membership) -> Rendered {
    Layout::read("x.hbs", template).unwrap().render(&repo(name), truth, membership).unwrap()
}

fn compiled(name: &str, truth: &Repo) -> String {
    let rendered = render(FEDORA, name, truth, Membership::Compiled);
    assert!(rendered.lists.is_empty());
    rendered.text
}

#[test]
fn fedoras_layout_of_a_package() {
    assert_eq!(
        compiled("rpms/foo", &package()),
        r"# rpms/foo: written by reactor; what is changed here by hand is undone
repo rpms/foo
    R    = @all
    RWC  epel10\.1$ = alice bob @perl-sig @provenpackager
    RWC  f41$ = alice bob @perl-sig @provenpackager
    RWC  rawhide$ = alice bob @perl-sig @provenpackager
    -    f[0-9][0-9] = @all
    -    epel[0-9] = @all
    -    epel[0-9][0-9] = @all
    -    el[0-9] = @all
    -    olpc[0-9] = @all
    RWC  refs/tags/ = alice bob @perl-sig @provenpackager
    RWC  = alice bob @perl-sig @provenpackager
    RW   = deploykey_foo_1
"
    );
}

#[test]
fn fedoras_layout_where_membership_is_asked() {
    let rendered = render(FEDORA, "rpms/foo", &package(), Membership::Asked);
    assert_eq!(
        rendered.text,
        r"# rpms/foo: written by reactor; what is changed here by hand is undone
repo rpms/foo
    R    = @all
    RWC  epel10\.1$ = @commit@rpms@foo @provenpackager
    RWC  f41$ = @commit@rpms@foo @provenpackager
    RWC  rawhide$ = @commit@rpms@foo @provenpackager
    -    f[0-9][0-9] = @all
    -    epel[0-9] = @all
    -    epel[0-9][0-9] = @all
    -    el[0-9] = @all
    -    olpc[0-9] = @all
    RWC  refs/tags/ = @commit@rpms@foo @provenpackager
    RWC  = @commit@rpms@foo @provenpackager
    RW   = deploykey_foo_1
"
    );
    assert_eq!(rendered.lists, BTreeMap::from([(List::commit(&repo("rpms/foo")), people("alice bob @perl-sig"))]));
}

/// As pkgdb had it: people of a branch, and nobody else there.
#[test]
fn a_branch_with_people_of_its_own_is_theirs_alone() {
    let truth = Repo {
        commit: people("alice"),
        branches: [(branch("f23"), Some(people("bob @perl-sig"))), (branch("master"), Some(people("alice")))].into(),
        ..Repo::default()
    };
    let rendered = render(FEDORA, "rpms/foo", &truth, Membership::Asked);
    assert_eq!(
        rendered.text.lines().skip(2).collect::<Vec<_>>(),
        [
            "    R    = @all",
            "    RWC  f23$ = @commit.f23@rpms@foo",
            "    RWC  master$ = @commit.master@rpms@foo",
            "    -    f23$ = @all",
            "    -    master$ = @all",
            "    -    f[0-9][0-9] = @all",
            "    -    epel[0-9] = @all",
            "    -    epel[0-9][0-9] = @all",
            "    -    el[0-9] = @all",
            "    -    olpc[0-9] = @all",
            "    RWC  refs/tags/ = @any@rpms@foo @provenpackager",
            "    RWC  = @commit@rpms@foo @provenpackager",
        ]
    );
    let name = repo("rpms/foo");
    let of_branch = |of: &str| List::of_branch(&name, &branch(of)).unwrap();
    let expected = BTreeMap::from([
        (List::commit(&name), people("alice")),
        (List::any(&name), people("alice bob @perl-sig")),
        (of_branch("f23"), people("bob @perl-sig")),
        (of_branch("master"), people("alice")),
    ]);
    assert_eq!(rendered.lists, expected);
    let text = compiled("rpms/foo", &truth);
    assert!(text.contains("    RWC  f23$ = bob @perl-sig\n"), "{text}");
    assert!(text.contains("    RWC  refs/tags/ = alice bob @perl-sig @provenpackager\n"), "{text}");
}

#[test]
fn packages_with_trademarks_forks_and_pull_requests_only() {
    for name in ["rpms/firefox", "rpms/thunderbird", "rpms/xulrunner"] {
        let text = compiled(name, &package());
        assert!(!text.contains("provenpackager") && text.contains("    RWC  = alice bob @perl-sig\n"), "{text}");
        assert!(!compiled(name, &Repo { commit: People::default(), ..package() }).contains("RWC"));
    }
    let fork = Repo { fork: true, ..package() };
    assert_eq!(
        compiled("forks/alice/rpms/foo", &fork).lines().skip(1).collect::<Vec<_>>(),
        ["repo forks/alice/rpms/foo", "    R    = @all", "    RW+C = alice bob @perl-sig"]
    );
    let closed = Repo { pull_requests_only: true, ..package() };
    for membership in [Membership::Compiled, Membership::Asked] {
        let rendered = render(FEDORA, "rpms/foo", &closed, membership);
        assert!(rendered.text.is_empty() && rendered.lists.is_empty());
    }
}

#[test]
fn everyone_is_written_out_wherever_membership_stands() {
    let truth = Repo { commit: people("alice @all"), ..package() };
    for membership in [Membership::Compiled, Membership::Asked] {
        let rendered = render(SIMPLE, "rpms/foo", &truth, membership);
        assert!(rendered.text.ends_with("    R   = @all\n    RWC = @all\n"), "{}", rendered.text);
        assert!(rendered.lists.is_empty());
    }
}

#[test]
fn nobody_is_no_line_when_compiled_and_an_empty_list_when_asked() {
    let truth = Repo::default();
    assert!(render(SIMPLE, "rpms/foo", &truth, Membership::Compiled).text.ends_with("    R   = @all\n"));
    let asked = render(SIMPLE, "rpms/foo", &truth, Membership::Asked);
    assert!(asked.text.ends_with("    RWC = @commit@rpms@foo\n"), "{}", asked.text);
    assert_eq!(asked.lists, BTreeMap::from([(List::commit(&repo("rpms/foo")), People::default())]));
}

#[test]
fn a_branch_with_a_slash_has_its_people_written_out() {
    let branches = [(branch("private/x"), Some(people("bob")))].into();
    let text = render(FEDORA, "rpms/foo", &Repo { branches, ..Repo::default() }, Membership::Asked).text;
    assert!(text.contains("    RWC  private/x$ = bob\n"), "{text}");
}

#[test]
fn a_template_may_speak_of_repositories_beside_this_one_and_of_no_other() {
    let beside = "repo {{repo}} requests/{{repo}}\n R = @all\n option x.y = {{name}}-{{namespace}}\n";
    assert!(
        render(beside, "rpms/foo", &package(), Membership::Asked).text.contains("repo rpms/foo requests/rpms/foo\n")
    );
    for other in ["bar", "x{{repo}}", "{{repo}}-x", "[a-z]*/{{repo}}", "rpms/.*"] {
        let failure = Layout::read("x.hbs", &format!("repo {other}\n R = @all\n")).unwrap_err();
        assert!(failure.message().contains("only rpms/sample and SOMETHING/rpms/sample may be"), "{failure}");
    }
    let failure = Layout::read("x.hbs", "repo {{repo}}\n RW = @commit@rpms@bar\n").unwrap_err();
    assert!(failure.message().contains("names the list `@commit@rpms@bar`"), "{failure}");
}

#[test]
fn a_mistake_in_a_template_is_named_with_its_line() {
    for (template, expected) in [
        ("repo {{repo}}\n R = {{comit}}\n", "the template x.hbs, line 2: `comit` is no value here"),
        ("repo {{repo}}\n{{#if pull_request_only}}\n{{/if}}\n", "line 2: `pull_request_only` is no value here"),
        ("repo {{repo}}\n{{#each branches}}\n - {{reff}} = @all\n{{/each}}", "line 3: `reff` is no value here"),
        ("\n{{#if (eq repoo \"x\")}}{{/if}}", "line 2: a value is not there"),
        ("\n\n{{#if fork}}", "line 3: it can't be read"),
        ("\n{{> other}}", "line 2: partials and decorators"),
        ("{{#*inline \"a\"}}{{> a}}{{/inline}}{{> a}}", "line 1: partials and decorators"),
        ("\n{{lookup branches 0}}", "line 2: \"lookup\" is no helper here; there are if, unless"),
        ("{{#log repo}}{{/log}}", "line 1: \"log\" is no helper here"),
        ("{{#if (len branches)}}{{/if}}", "\"len\" is no helper here"),
        (
            "\nrepo {{repo}}\n\n  RWX = {{repo}}\n",
            "line 3 of what it makes of rpms/sample is \"RWX = rpms/sample\": gitolite does not",
        ),
        ("repo {{repo}}\n RW = {{repo}}\n", "line 3 of what it makes of rpms/sample is \"RW = rpms/sample\": the user"),
    ] {
        let failure = Layout::read("x.hbs", template).unwrap_err();
        assert!(failure.message().contains(expected), "{template:?}: {failure}");
        assert!(failure.hint().unwrap().contains("`reactor check`"));
        assert_eq!(failure.exit_code(), handler_api::exit::PERMANENT);
    }
}

#[test]
fn what_a_template_makes_has_an_end() {
    let layout =
        Layout::read("x.hbs", &format!("{{{{#each branches}}}}\n# {}\n{{{{/each}}}}", "x".repeat(2_000))).unwrap();
    let many = |count: usize| Repo {
        branches: (0..count).map(|at| (branch(&format!("b{at}")), None)).collect(),
        ..Repo::default()
    };
    let failure = layout.render(&repo("rpms/foo"), &many(1_000), Membership::Asked).unwrap_err();
    assert!(failure.message().contains("more than 1048576 bytes of rpms/foo"), "{failure}");
    let layout = Layout::read("x.hbs", "{{#each branches}}\n#\n{{/each}}").unwrap();
    let failure = layout.render(&repo("rpms/foo"), &many(10_001), Membership::Asked).unwrap_err();
    assert!(failure.message().contains("more than 10000 lines of rpms/foo"), "{failure}");
    assert!(Layout::read("x.hbs", &" ".repeat(TEMPLATE_BYTES_MAX + 1)).is_err());
    let deep = format!("{}{}", "{{#if fork}}".repeat(30), "{{/if}}".repeat(30));
    assert!(Layout::read("x.hbs", &deep).unwrap_err().message().contains("more than 20 blocks"));
}

#[test]
fn a_layout_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&Layout::read("fedora.hbs", FEDORA).unwrap());
}

fn some_people() -> impl Strategy<Value = People> {
    (prop::collection::btree_set("[a-f]", 0..4), prop::collection::btree_set("[a-c]-sig", 0..3)).prop_map(
        |(users, groups)| People {
            users: users.iter().map(|name| UserName::parse(name).unwrap()).collect(),
            groups: groups.iter().map(|name| GroupName::parse(name).unwrap()).collect(),
            everyone: false,
        },
    )
}

/// Two truths of the same repository that differ in who may commit, and in nothing else.
fn before_and_after() -> impl Strategy<Value = (Repo, Repo)> {
    let branches = prop::collection::btree_map(
        "(f4[0-9]|epel1[0-9]\\.1|main)",
        prop::option::of((some_people(), some_people())),
        0..5,
    );
    (branches, some_people(), some_people(), any::<bool>()).prop_map(|(branches, one, two, fork)| {
        let pick = |first: bool| {
            let of =
                |own: &Option<(People, People)>| own.as_ref().map(|own| if first { &own.0 } else { &own.1 }.clone());
            branches.iter().map(|(name, own)| (branch(name), of(own))).collect::<BTreeMap<_, _>>()
        };
        let base = Repo { fork, ..package() };
        (
            Repo { commit: one, branches: pick(true), ..base.clone() },
            Repo { commit: two, branches: pick(false), ..base },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn where_membership_is_asked_people_are_no_part_of_the_rules((one, two) in before_and_after()) {
        let name = repo("rpms/foo");
        for template in [FEDORA, SIMPLE, "repo {{repo}}\n{{#unless nobody}}\nRW = {{any}}\n{{/unless}}"] {
            let layout = Layout::read("x.hbs", template).unwrap();
            let [one, two] = [&one, &two].map(|truth| layout.render(&name, truth, Membership::Asked).unwrap());
            prop_assert_eq!(&one.text, &two.text);
            let lists = |rendered: &Rendered| rendered.lists.keys().cloned().collect::<BTreeSet<_>>();
            prop_assert_eq!(lists(&one), grammar::read(&one.text).unwrap().lists());
            prop_assert_eq!(lists(&one), lists(&two));
        }
    }

    /// The rules say the same in both modes, when lists are replaced by who is in them.
    #[test]
    fn both_modes_give_the_same_people_the_same_rules((truth, _) in before_and_after()) {
        let name = repo("rpms/foo");
        let layout = Layout::read("x.hbs", FEDORA).unwrap();
        let rules = |membership| {
            let rendered = layout.render(&name, &truth, membership).unwrap();
            let mut all = Vec::new();
            for rule in grammar::read(&rendered.text).unwrap().rules {
                let who = match rule.list() {
                    None => vec![rule.who.clone()],
                    Some(list) => {
                        let People { users, groups, .. } = &rendered.lists[&list];
                        users.iter().map(ToString::to_string).chain(groups.iter().map(|group| format!("@{group}"))).collect()
                    }
                };
                all.extend(who.into_iter().map(|who| (rule.permission.clone(), rule.refex.clone(), who)));
            }
            all
        };
        prop_assert_eq!(rules(Membership::Asked), rules(Membership::Compiled));
    }
}

#[test]
fn where_the_source_names_every_group_the_template_adds_none() {
    for membership in [Membership::Compiled, Membership::Asked] {
        let truth = Repo { explicit: true, ..package() };
        let text = render(FEDORA, "rpms/foo", &truth, membership).text;
        assert!(text.contains("RWC  f41$ = ") && !text.contains("provenpackager"), "{text}");
        let named = Repo { commit: people("alice @provenpackager"), ..truth };
        let text = render(FEDORA, "rpms/foo", &named, Membership::Compiled).text;
        assert!(text.contains("    RWC  f41$ = alice @provenpackager\n"), "{text}");
    }
}

#[test]
fn many_people_on_many_branches_are_refused_before_they_fill_the_memory() {
    let users = (0..5_000).map(|n| UserName::parse(&format!("{}{n}", "u".repeat(60))).unwrap()).collect();
    let branches = (0..5_000).map(|n| (branch(&format!("b{n}")), None)).collect();
    let truth = Repo { commit: People { users, ..People::default() }, branches, ..Repo::default() };
    let layout = Layout::read("x.hbs", SIMPLE).unwrap();
    let failure = layout.render(&repo("rpms/foo"), &truth, Membership::Compiled).unwrap_err();
    assert!(failure.message().contains("so many people and branches"), "{failure}");
    assert!(layout.render(&repo("rpms/foo"), &truth, Membership::Asked).is_ok(), "a list's name is short");
}
