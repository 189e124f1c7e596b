//! Plans with too many changes to be told one by one, and the speed of a large one.

use super::*;

fn site(repos: usize, names: &[&str]) -> Wanted {
    site_of(repos, |_| names.to_vec())
}

fn site_of<'a>(repos: usize, names: impl Fn(usize) -> Vec<&'a str>) -> Wanted {
    let of = |n: usize| {
        let name = format!("rpms/p{n}");
        let list = format!("commit@rpms@p{n}");
        let rule = format!("RW = @{list}");
        (repo(&name), Some(rendered(&name, &["R = @all", &rule], &[(&list, &names(n))])))
    };
    Wanted { repos: (0..repos).map(of).collect(), everything: Some(BTreeSet::new()), ..Wanted::default() }
}

fn bytes(planned: &Planned) -> usize {
    serde_json::to_string(&planned.changes).unwrap().len()
}

#[test]
fn many_changes_are_told_by_file_and_more_by_shard() {
    let mut files = Files::default();
    let planned = make(&mut files, &site(700, &["alice", "bob"]), Asked, &[]);
    assert_eq!(planned.changes.len(), 1_400);
    assert!(words(&planned)[0].starts_with("create rpms/p0: 2 rules ! "), "{:?}", words(&planned)[0]);
    assert!(planned.changes.iter().all(|change| change.more["sha256"].as_str().is_some_and(|sum| sum.len() == 64)));

    let planned = make(&mut files, &site(3_000, &["alice", "bob"]), Asked, &[]);
    assert!(planned.changes.len() <= 512, "{}", planned.changes.len());
    assert!(words(&planned)[0].starts_with("create lists of repositories 00: "), "{:?}", words(&planned)[0]);

    let planned = make(&mut files, &site(3_000, &["alice", "carol"]), Asked, &["bob"]);
    assert!(planned.changes.iter().all(|change| change.action == Action::Delete));
    assert!(planned.changes.iter().all(|change| !change.hold.as_deref().unwrap_or_default().contains("no message")));
    let planned = make(&mut files, &site(3_000, &["carol"]), Asked, &["bob"]);
    assert!(
        planned
            .changes
            .iter()
            .all(|change| change.hold.as_deref().is_some_and(|why| why.contains("no message names alice")))
    );
    assert!(planned.changes.len() <= 256 && bytes(&planned) <= PLAN_BYTES_MAX);
}

#[test]
fn an_approval_of_many_changes_is_for_their_content() {
    let told_of = |names: &[&str]| plan(&site(3_000, names), &Files::default(), Asked, &told(&["x"])).unwrap().changes;
    let (one, same, other) = (told_of(&["alice"]), told_of(&["alice"]), told_of(&["mallory"]));
    assert_eq!(one, same);
    let lists = |changes: &[Change]| {
        let lists = changes.iter().filter(|change| change.target.starts_with("lists")).cloned();
        lists.map(|change| change.after.unwrap().to_string()).collect::<BTreeSet<_>>().len()
    };
    let is_same = |a: &Change, b: &Change| a.same_as(b) && a.after == b.after;
    assert!(lists(&one) > 1);
    let both = one.iter().filter(|a| other.iter().any(|b| is_same(a, b))).all(|a| a.target.starts_with("repositories"));
    assert!(both, "the rules are the same, the lists are not");
}

#[test]
fn what_a_guard_cant_count_waits_for_a_person() {
    let many = |n: usize| (0..n).map(|n| user(&format!("u{n}"))).collect::<BTreeSet<_>>();
    let plan_of = |n| plan(&of_group("g", Group::Whole(many(n))), &Files::default(), Asked, &told(&["g"])).unwrap();
    let planned = plan_of(PLAN_CHANGES_MAX);
    assert!(planned.changes.len() == PLAN_CHANGES_MAX && planned.changes.iter().all(|change| change.hold.is_none()));
    let n = PLAN_CHANGES_MAX + 1;
    let why = format!("{n} changes told as one, so that no guard can count them");
    assert_eq!(words(&plan_of(n)), [format!("create group g: {n} members ! {why}")]);
}

#[test]
fn a_plan_is_bounded_in_bytes() {
    let of = |n: usize| {
        let name = format!("rpms/{}{n}", "x".repeat(150));
        let rules: Vec<String> = (0..20).map(|n| format!("RW f{n} = alice")).collect();
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        (repo(&name), Some(rendered(&name, &rules, &[])))
    };
    let wanted = Wanted { repos: (0..99).map(of).collect(), ..Wanted::default() };
    let mut files = Files::default();
    assert!(bytes(&make(&mut files, &wanted, Compiled, &["x"])) <= PLAN_BYTES_MAX);
    // By hand, anything may stand there.
    for name in wanted.repos.keys() {
        files.put(MASTER, &crate::files::conf_repo(name), &"# ä\n".repeat(100_000));
    }
    assert!(bytes(&make(&mut files, &wanted, Compiled, &["x"])) <= PLAN_BYTES_MAX);
}

#[test]
fn in_a_whole_site_of_twenty_thousand_repositories_nothing_is_left_to_do_after_its_plan() {
    let names: Vec<String> = (0..3_000).map(|n| format!("u{n}")).collect();
    let wanted = site_of(20_000, |n| (0..5).map(|at| names[(n * 7 + at * 11) % names.len()].as_str()).collect());
    let mut files = Files::default();
    for membership in [Asked, Compiled] {
        let planned = plan(&wanted, &files, membership, &told(&[])).unwrap();
        files.apply(&planned);
        assert_eq!(plan(&wanted, &files, membership, &told(&[])).unwrap(), Planned::default());
    }
}
