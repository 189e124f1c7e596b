use std::collections::{BTreeMap, BTreeSet};

use handler_api::{Action, Change};

use super::tell;
use super::*;
use crate::truth::{All, Package};

mod properties;

fn tag(name: &str) -> TagName {
    TagName::parse(name).unwrap()
}

fn package(name: &str) -> PackageName {
    PackageName::parse(name).unwrap()
}

fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

fn users(names: &[&str]) -> BTreeSet<UserName> {
    names.iter().map(|name| user(name)).collect()
}

fn truth(owner: &str, retired: Option<bool>) -> Branch {
    Branch { owner: user(owner), retired }
}

/// A row of f45's list.
fn row(name: &str, owner: &str) -> Entry {
    Entry { package: name.into(), owner: owner.into(), blocked: false, extra_arches: None, tag: "f45".into() }
}

fn blocked(entry: Entry) -> Entry {
    Entry { blocked: true, ..entry }
}

fn from(parent: &str, entry: Entry) -> Entry {
    Entry { tag: parent.into(), ..entry }
}

fn ways() -> Ways {
    Ways {
        orphan: user("orphan"),
        no_account: None,
        hold_block: true,
        hold_orphan: true,
        extra_arches: BTreeMap::from([(package("kernel"), "i386 noarch".into())]),
    }
}

fn printed(change: &Change) -> String {
    let mark = match change.action {
        Action::Create => '+',
        Action::Update => '~',
        Action::Delete => '-',
        Action::Run => '!',
    };
    let text = |value: &Option<serde_json::Value>| value.as_ref().map(|v| v.as_str().unwrap().to_owned());
    let said = match (text(&change.before), text(&change.after)) {
        (Some(before), Some(after)) => format!("{before} → {after}"),
        (before, after) => before.or(after).unwrap_or_default(),
    };
    let hold = change.hold.as_ref().map(|why| format!(" (hold: {why})")).unwrap_or_default();
    let count = change.count.map(|count| format!(" ({count})")).unwrap_or_default();
    format!("{mark} {}{count}: {said}{hold}", change.target)
}

/// The plan for bash in f45, one line a change, and the notes.
fn plan(truth: &Branch, entry: Option<Entry>) -> String {
    plan_of("bash", truth, entry, &ways(), &[]).unwrap()
}

fn plan_of(name: &str, truth: &Branch, entry: Option<Entry>, ways: &Ways, missing: &[&str]) -> Result<String, Failure> {
    let mut draft = Draft::default();
    let (tag, package) = (tag("f45"), package(name));
    let case = Case { tag: &tag, package: &package, truth, entry: entry.as_ref() };
    draft.judge(case, ways, |tag| ["f45", "f44"].contains(&tag));
    let (steps, notes) = draft.settle(&users(missing), ways, true)?;
    let mut lines: Vec<String> = tell::lines(steps).iter().map(|line| printed(&line.change)).collect();
    lines.extend(notes.sentences().into_iter().map(|note| format!("note: {note}")));
    Ok(lines.join("\n"))
}

#[test]
fn an_owner_who_changed_is_set() {
    assert_eq!(plan(&truth("bob", Some(false)), Some(row("bash", "alice"))), "~ f45: owner of bash: alice → bob");
    assert_eq!(plan(&truth("bob", None), Some(row("bash", "alice"))), "~ f45: owner of bash: alice → bob");
    assert_eq!(plan(&truth("alice", Some(false)), Some(row("bash", "alice"))), "");
}

#[test]
fn a_package_that_is_not_in_the_list_is_added_unless_it_is_retired() {
    assert_eq!(plan(&truth("alice", Some(false)), None), "+ f45: package bash: alice");
    assert_eq!(plan(&truth("alice", None), None), "+ f45: package bash: alice");
    assert_eq!(plan(&truth("alice", Some(true)), None), "");
    let kernel = plan_of("kernel", &truth("alice", None), None, &ways(), &[]).unwrap();
    assert_eq!(kernel, "+ f45: package kernel: alice, also on i386 noarch");
}

#[test]
fn a_retired_package_is_blocked_and_one_that_lives_again_unblocked_but_what_is_not_known_neither() {
    let (alice, bob) = (row("bash", "alice"), "bob");
    let block = "- f45: package bash: alice → blocked (hold: builds of bash would be refused in f45)";
    assert_eq!(plan(&truth(bob, Some(true)), Some(alice.clone())), block);
    assert_eq!(plan(&truth(bob, Some(true)), Some(blocked(alice.clone()))), "");
    assert_eq!(plan(&truth(bob, None), Some(blocked(alice.clone()))), "");
    let both = "~ f45: package bash: blocked → alice\n~ f45: owner of bash: alice → bob";
    assert_eq!(plan(&truth(bob, Some(false)), Some(blocked(alice.clone()))), both);
    let free = Ways { hold_block: false, ..ways() };
    let unheld = plan_of("bash", &truth(bob, Some(true)), Some(alice), &free, &[]).unwrap();
    assert_eq!(unheld, "- f45: package bash: alice → blocked");
}

#[test]
fn an_owner_who_becomes_nobody_waits_for_a_person_unless_the_site_says_otherwise() {
    let held = "~ f45: owner of bash: alice → orphan (hold: bash would have no owner in f45: the truth says orphan)";
    assert_eq!(plan(&truth("orphan", None), Some(row("bash", "alice"))), held);
    let free = Ways { hold_orphan: false, ..ways() };
    let plan = plan_of("bash", &truth("orphan", None), Some(row("bash", "alice")), &free, &[]).unwrap();
    assert_eq!(plan, "~ f45: owner of bash: alice → orphan");
}

#[test]
fn the_owner_of_an_inherited_row_is_never_sent_for_the_hub_would_take_it_and_show_nothing() {
    let inherited = |parent| Some(from(parent, row("bash", "alice")));
    let note = "note: f45: bash has another owner than the truth says, and its row is inherited from f40: change them there (`tags` of the handler's block names the tags that are looked after)";
    assert_eq!(plan(&truth("bob", None), inherited("f40")), note);
    assert_eq!(plan(&truth("bob", None), inherited("f44")), "", "f44 is looked after by itself");
    assert_eq!(plan(&truth("alice", None), inherited("f40")), "");
}

#[test]
fn an_inherited_row_is_blocked_and_unblocked_in_the_tag_itself() {
    let inherited = from("f40", row("bash", "alice"));
    let plan_held = plan(&truth("bob", Some(true)), Some(inherited.clone()));
    assert!(plan_held.starts_with("- f45: package bash: alice → blocked"), "{plan_held}");
    let both = "~ f45: package bash: blocked → alice\n~ f45: owner of bash: alice → bob";
    assert_eq!(plan(&truth("bob", Some(false)), Some(blocked(inherited))), both);
}

#[test]
fn whoever_has_no_account_gets_nothing_and_nobody_else_does_unless_the_site_says_who() {
    let bob = truth("bob", None);
    let failure = plan_of("bash", &bob, Some(row("bash", "alice")), &ways(), &["bob"]).unwrap_err();
    assert_eq!(failure.exit_code(), handler_api::exit::PERMANENT);
    assert_eq!(failure.message(), "f45: bash belongs to bob, who has no account in Koji");
    assert!(failure.hint().unwrap().contains("reactor retry ID"));
    let instead = Ways { no_account: Some(user("releng")), ..ways() };
    let told = |entry, missing: &[&str]| plan_of("bash", &bob, entry, &instead, missing);
    let note = "note: f45: bash of bob: releng instead, for its owner has no account in Koji";
    let set = format!("~ f45: owner of bash: alice → releng\n{note}");
    assert_eq!(told(Some(row("bash", "alice")), &["bob"]).unwrap(), set);
    assert_eq!(told(Some(row("bash", "releng")), &["bob"]).unwrap(), note, "it is so already");
    assert_eq!(told(None, &["bob"]).unwrap(), format!("+ f45: package bash: releng\n{note}"));
    let neither = told(Some(row("bash", "alice")), &["bob", "releng"]).unwrap_err();
    assert!(neither.message().contains("has none either"), "{neither}");
    assert_eq!(told(Some(row("bash", "bob")), &["bob"]).unwrap(), "", "nothing is to do, so nobody need have one");
}

/// All packages of a tag, with these owners.
fn all(owners: &[(&str, &str)]) -> All {
    let one = |(name, owner): &(&str, &str)| {
        let branches = BTreeMap::from([(BranchName::parse("rawhide").unwrap(), truth(owner, Some(false)))]);
        (package(name), Package { branches })
    };
    All { packages: owners.iter().map(one).collect(), ..All::default() }
}

fn plan_all(all: &All, entries: &[Entry], missing: &[&str]) -> (Vec<Step>, Vec<String>) {
    let mut draft = Draft::default();
    let list = List { tag: &tag("f45"), branch: &BranchName::parse("rawhide").unwrap(), entries };
    draft.judge_list(list, all, &ways(), |tag| tag == "f45");
    let (steps, notes) = draft.settle(&users(missing), &ways(), false).unwrap();
    (steps, notes.sentences())
}

#[test]
fn what_the_truth_does_not_know_is_left_alone_and_counted() {
    let mut truth = all(&[("bash", "alice"), ("zsh", "bob"), ("fish", "carol")]);
    truth.left_alone.insert("tcsh".into(), "tcsh: a bad name".into());
    let hostile = Entry { package: "zsh evil;name".into(), ..row("x", "alice") };
    let entries = [
        row("bash", "alice"),
        row("zsh", "alice"),
        row("ksh", "alice"),
        hostile,
        row("mksh", "alice"),
        row("dash", "alice"),
        row("tcsh", "alice"),
        blocked(row("csh", "alice")),
        from("f44", row("rc", "alice")),
    ];
    let (steps, notes) = plan_all(&truth, &entries, &[]);
    let lines: Vec<String> = tell::lines(steps).iter().map(|line| printed(&line.change)).collect();
    assert_eq!(lines, ["+ f45: package fish: carol", "~ f45: owner of zsh: alice → bob"]);
    assert_eq!(
        notes,
        ["f45: 4 packages (ksh, \"zsh evil;name\", mksh, …) are in the list and not in the truth; left alone"]
    );
}

#[test]
fn in_a_reconcile_packages_of_somebody_without_an_account_stay_as_they_are_and_are_told() {
    let truth = all(&[("bash", "bob"), ("zsh", "bob"), ("fish", "carol")]);
    let entries = [row("bash", "alice"), row("zsh", "alice"), row("fish", "alice")];
    let (steps, notes) = plan_all(&truth, &entries, &["bob"]);
    assert_eq!(steps.len(), 1);
    assert_eq!(
        notes,
        [
            "f45: bash of bob and zsh of bob are left alone: their owners have no account in Koji, and must log in there once (koji hello)"
        ]
    );
}

#[test]
fn a_change_says_all_that_apply_needs() {
    let truth = all(&[("bash", "bob"), ("kernel", "carol"), ("zsh", "orphan")]);
    let (mut steps, _) = plan_all(&truth, &[row("bash", "alice"), blocked(row("zsh", "alice"))], &[]);
    steps.push(Step {
        write: Write { tag: tag("f45"), package: package("fish"), what: What::Block },
        was: Some("odd\u{1b}name".into()),
        hold: Some("why".into()),
    });
    assert_eq!(steps.len(), 5);
    for line in tell::lines(steps) {
        let sent: Change = serde_json::from_str(&serde_json::to_string(&line.change).unwrap()).unwrap();
        assert_eq!(vec![tell::step(&sent).unwrap()], line.steps);
    }
    for (word, value) in [("what", "remove"), ("owner", "x y"), ("tag", ""), ("package", "<x>")] {
        let (steps, _) = plan_all(&all(&[("bash", "bob")]), &[], &[]);
        let mut change = tell::lines(steps).remove(0).change;
        change.more.insert(word.into(), value.into());
        assert_eq!(tell::step(&change).unwrap_err().exit_code(), handler_api::exit::PERMANENT, "{word}");
    }
}

/// This many packages, all with another owner.
fn many(n: usize) -> Vec<Step> {
    let names: Vec<String> = (0..n).map(|n| format!("package{n:05}")).collect();
    let truth = all(&names.iter().map(|name| (name.as_str(), "bob")).collect::<Vec<_>>());
    let entries: Vec<Entry> = names.iter().map(|name| row(name, "alice")).collect();
    plan_all(&truth, &entries, &[]).0
}

#[test]
fn too_many_changes_are_one_line_a_kind_and_tag_which_the_guard_counts_as_many() {
    assert_eq!(tell::lines(many(tell::PLAN_CHANGES_MAX)).len(), tell::PLAN_CHANGES_MAX);
    let n = tell::PLAN_CHANGES_MAX + 1;
    let mut steps = many(n);
    let lines = tell::lines(steps.clone());
    assert_eq!((lines.len(), lines[0].change.count, lines[0].steps.len()), (1, Some(n as u64), n));
    let told = printed(&lines[0].change);
    let begins = "~ f45: owners of packages (2001): package00000: alice → bob, package00001: alice → bob, package00002: alice → bob, … (sha256 ";
    assert!(told.starts_with(begins), "{told}");
    assert!(tell::are_sums(&[lines[0].change.clone()]));
    // What is not shown tells a difference too: an approval is for what was seen.
    steps[n - 1].write.what = What::SetOwner(user("mallory"));
    assert_ne!(tell::lines(steps.clone())[0].change.after, lines[0].change.after);
    steps[7].hold = Some("nobody".into());
    steps[8].hold = Some("nobody".into());
    assert_eq!(tell::lines(steps.clone())[0].change.hold.as_deref(), Some("nobody; and 1 more"));
    steps[9].write.what = What::Block;
    let lines = tell::lines(steps);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1].change.action, Action::Delete);
    assert_eq!(lines[1].change.count, None, "one alone is told as it is");
}

#[test]
fn all_packages_of_fedora_in_ten_tags_are_compared_in_little_time() {
    let names: Vec<String> = (0..24_000).map(|n| format!("package{n:05}")).collect();
    let truth = all(&names.iter().map(|name| (name.as_str(), "alice")).collect::<Vec<_>>());
    let entries: Vec<Entry> = names.iter().map(|name| row(name, "alice")).collect();
    #[allow(clippy::disallowed_methods, reason = "what is measured is time")]
    let began = std::time::Instant::now();
    for _ in 0..10 {
        let (steps, notes) = plan_all(&truth, &entries, &[]);
        assert!(steps.is_empty() && notes.is_empty());
    }
    let took = began.elapsed();
    assert!(took < std::time::Duration::from_secs(20), "{took:?}");
    println!("240,000 rows: {took:?}");
}

#[test]
fn each_tag_knows_its_branch_and_they_are_not_without_end() {
    let branch = |name: &str| BranchName::parse(name).unwrap();
    let tags = |names: &[&str]| names.iter().map(|name| tag(name)).collect::<BTreeSet<_>>();
    let good = BTreeMap::from([(branch("rawhide"), tags(&["f45"])), (branch("f44"), tags(&["f44", "f44-extra"]))]);
    let expected = [("f44", "f44"), ("f44-extra", "f44"), ("f45", "rawhide")];
    assert_eq!(by_tag(good).unwrap(), expected.map(|(name, of)| (tag(name), branch(of))).into());
    let many: Vec<String> = (0..=TAGS_MAX).map(|n| format!("f{n}")).collect();
    let many = tags(&many.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(by_tag(BTreeMap::from([(branch("rawhide"), many)])).is_err());
}

#[test]
fn what_changed_since_the_plan_is_not_written_over() {
    let step = |what, was: Option<&str>| Step {
        write: Write { tag: tag("f45"), package: package("bash"), what },
        was: was.map(str::to_owned),
        hold: None,
    };
    let add = step(What::Add { owner: user("bob"), extra_arches: None }, None);
    let owner = step(What::SetOwner(user("bob")), Some("alice"));
    let (block, unblock) = (step(What::Block, Some("alice")), step(What::Unblock, Some("alice")));
    let (alice, bob, carol) = (row("bash", "alice"), row("bash", "bob"), row("bash", "carol"));
    use Stand::{Done, Moved, Open};
    for (step, now, unblocked, expected) in [
        (&add, None, false, Open),
        (&add, Some(&bob), false, Done),
        (&add, Some(&alice), false, Moved),
        (&add, Some(&blocked(bob.clone())), false, Moved),
        (&owner, Some(&alice), false, Open),
        (&owner, Some(&bob), false, Done),
        (&owner, Some(&carol), false, Moved),
        (&owner, None, false, Moved),
        (&owner, Some(&blocked(alice.clone())), false, Moved),
        (&owner, Some(&blocked(alice.clone())), true, Open),
        (&owner, Some(&from("f44", alice.clone())), false, Moved),
        (&owner, Some(&blocked(from("f44", alice.clone()))), true, Open),
        (&block, Some(&alice), false, Open),
        (&block, Some(&from("f44", alice.clone())), false, Open),
        (&block, Some(&blocked(alice.clone())), false, Done),
        (&block, None, false, Moved),
        (&unblock, Some(&blocked(alice.clone())), true, Open),
        (&unblock, Some(&alice), true, Done),
        (&unblock, None, true, Moved),
    ] {
        assert_eq!(step.stand(now, unblocked), expected, "{step:?}, {now:?}");
    }
}
