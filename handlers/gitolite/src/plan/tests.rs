mod hand;
mod keys;
mod much;
mod props;

use serde_json::Value;

use super::*;
use crate::names::List;
use crate::truth::People;
use handler_api::Action;

/// The admin repository, in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Files(BTreeMap<(Branch, String), Vec<u8>>);

impl Look for Files {
    fn read(&self, branch: Branch, path: &str) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.0.get(&(branch, path.to_owned())).cloned())
    }

    fn below(&self, branch: Branch, dir: &str) -> Result<Vec<String>, Failure> {
        let paths = self.0.keys().filter(|(at, path)| *at == branch && path.starts_with(&format!("{dir}/")));
        Ok(paths.map(|(_, path)| path.clone()).collect())
    }
}

impl Files {
    pub(super) fn apply(&mut self, planned: &Planned) {
        for ((branch, path), bytes) in &planned.edits {
            assert!(branch.has(path), "{path} is not ours");
            match bytes {
                Some(bytes) => self.0.insert((*branch, path.clone()), bytes.clone()),
                None => self.0.remove(&(*branch, path.clone())),
            };
        }
    }

    pub(super) fn put(&mut self, branch: Branch, path: &str, text: &str) {
        self.0.insert((branch, path.to_owned()), text.as_bytes().to_vec());
    }

    pub(super) fn text(&self, branch: Branch, path: &str) -> Option<String> {
        self.read(branch, path).unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
    }
}

pub(super) fn repo(name: &str) -> RepoName {
    RepoName::parse(name).unwrap()
}

pub(super) fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

pub(super) fn group(name: &str) -> GroupName {
    GroupName::parse(name).unwrap()
}

pub(super) fn users(names: &[&str]) -> BTreeSet<UserName> {
    names.iter().map(|name| user(name)).collect()
}

/// `alice`, `@perl-sig`.
pub(super) fn people(names: &[&str]) -> People {
    let (groups, users): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.starts_with('@'));
    let groups = groups.into_iter().map(|name| group(&name[1..])).collect();
    People { users: users.into_iter().map(user).collect(), groups, everyone: false }
}

/// `text` = the rules, without their first line.
pub(super) fn rendered(name: &str, rules: &[&str], lists: &[(&str, &[&str])]) -> Rendered {
    let lines: String = rules.iter().map(|rule| format!("    {rule}\n")).collect();
    let text = if rules.is_empty() { String::new() } else { format!("# {name}\nrepo {name}\n{lines}") };
    let lists = lists.iter().map(|(list, names)| (List::parse(list).unwrap(), people(names))).collect();
    Rendered { text, lists }
}

pub(super) fn of_repo(name: &str, rules: &[&str], lists: &[(&str, &[&str])]) -> Wanted {
    let repos = BTreeMap::from([(repo(name), Some(rendered(name, rules, lists)))]);
    Wanted { repos, ..Wanted::default() }
}

pub(super) fn of_group(name: &str, group_is: Group) -> Wanted {
    Wanted { groups: BTreeMap::from([(group(name), group_is)]), ..Wanted::default() }
}

pub(super) fn told(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

/// `create rpms/foo: RW: alice`, and behind ` !` why it waits.
pub(super) fn words(planned: &Planned) -> Vec<String> {
    let word = |change: &Change| {
        let action = serde_json::to_value(change.action).unwrap();
        let why = change.hold.as_deref().map(|why| format!(" ! {why}")).unwrap_or_default();
        format!("{} {}{why}", action.as_str().unwrap(), change.target)
    };
    planned.changes.iter().map(word).collect()
}

/// Plans and applies; the next plan of the same must be empty.
pub(super) fn make(files: &mut Files, wanted: &Wanted, membership: Membership, names: &[&str]) -> Planned {
    let planned = plan(wanted, files, membership, &told(names)).unwrap();
    files.apply(&planned);
    let again = plan(wanted, files, membership, &told(names)).unwrap();
    assert_eq!(again, Planned { notes: again.notes.clone(), ..Planned::default() }, "it has not settled");
    planned
}

use Membership::{Asked, Compiled};

const MASTER: Branch = Branch::Master;
const MEMBERS: Branch = Branch::Members;

#[test]
fn a_new_repository_is_told_rule_by_rule() {
    let mut files = Files::default();
    let wanted = of_repo("rpms/foo", &["R = @all", "RW f41 = alice bob", "- f[0-9][0-9] = @all", "RW = alice"], &[]);
    let planned = make(&mut files, &wanted, Compiled, &["rpms/foo"]);
    assert_eq!(
        words(&planned),
        [
            "create rpms/foo: R: @all",
            "create rpms/foo: RW f41: alice",
            "create rpms/foo: RW f41: bob",
            "create rpms/foo: - f[0-9][0-9]: @all",
            "create rpms/foo: RW: alice"
        ]
    );
    assert_eq!(planned.edits.len(), 1);
    let text = files.text(MASTER, &crate::files::conf_repo(&repo("rpms/foo"))).unwrap();
    assert_eq!(text, wanted.repos[&repo("rpms/foo")].as_ref().unwrap().text);
}

#[test]
fn who_loses_access_without_being_named_waits_for_a_person() {
    let before = of_repo("rpms/foo", &["RW = alice bob @perl-sig"], &[]);
    let after = of_repo("rpms/foo", &["RW = carol"], &[]);
    let plan_told = |names: &[&str]| {
        let mut files = Files::default();
        make(&mut files, &before, Compiled, &["x"]);
        words(&make(&mut files, &after, Compiled, names))
    };
    assert_eq!(
        plan_told(&["alice", "carol"]),
        [
            "delete rpms/foo: RW: @perl-sig ! no message names @perl-sig",
            "delete rpms/foo: RW: alice",
            "delete rpms/foo: RW: bob ! no message names bob",
            "create rpms/foo: RW: carol"
        ]
    );
    assert_eq!(plan_told(&["perl-sig", "alice", "bob"])[0], "delete rpms/foo: RW: @perl-sig");
    let found = plan_told(&[]);
    assert_eq!(found.iter().filter(|words| words.ends_with("! nobody said so: found by reconcile")).count(), 3);
}

#[test]
fn everyone_in_a_rule_that_writes_waits_also_if_all_is_named() {
    let wanted = of_repo("rpms/foo", &["R = @all", "RW f41 = @all", "RW+CD = alice"], &[]);
    let planned = make(&mut Files::default(), &wanted, Compiled, &["all", "@all"]);
    assert_eq!(words(&planned)[1], "create rpms/foo: RW f41: @all ! everyone may write");
    assert_eq!(planned.changes.iter().filter(|change| change.hold.as_deref().is_some()).count(), 1);
}

#[test]
fn a_new_denial_in_rules_that_stand_takes_access_away() {
    let mut files = Files::default();
    make(&mut files, &of_repo("rpms/foo", &["RW = alice bob"], &[]), Compiled, &["x"]);
    let planned = make(
        &mut files,
        &of_repo("rpms/foo", &["- f41 = bob", "- f42 = alice", "RW = alice bob"], &[]),
        Compiled,
        &["bob"],
    );
    assert_eq!(
        words(&planned),
        [
            "create rpms/foo: - f41: bob",
            "create rpms/foo: - f42: alice ! takes access away from alice: no message names alice"
        ]
    );
}

#[test]
fn a_repository_that_is_no_more_always_waits_and_leaves_nothing() {
    let mut files = Files::default();
    make(
        &mut files,
        &of_repo("rpms/foo", &["RW = @commit@rpms@foo"], &[("commit@rpms@foo", &["alice"])]),
        Asked,
        &["x"],
    );
    assert_eq!(files.0.len(), 3);
    let wanted = Wanted { repos: BTreeMap::from([(repo("rpms/foo"), None)]), ..Wanted::default() };
    let planned = make(&mut files, &wanted, Asked, &["alice", "rpms/foo"]);
    assert_eq!(
        words(&planned),
        [
            "delete rpms/foo: all rules ! rpms/foo: all access by its rules goes",
            "delete rpms/foo: all lists ! rpms/foo: all access by its lists goes"
        ]
    );
    assert_eq!(files, Files::default());
    // One where nobody may do anything has no rules.
    make(&mut files, &of_repo("rpms/foo", &["RW = alice"], &[]), Compiled, &["x"]);
    let planned = make(&mut files, &of_repo("rpms/foo", &[], &[]), Compiled, &["alice"]);
    assert!(planned.changes[0].hold.as_deref().is_some(), "{planned:?}");
}

#[test]
fn order_comments_and_options_are_one_change() {
    let mut files = Files::default();
    let rules = |rules: &[&str]| of_repo("rpms/foo", rules, &[]);
    make(&mut files, &rules(&["RW f41 = alice", "- f41 = bob", "RW = bob"]), Compiled, &["x"]);
    let planned = make(&mut files, &rules(&["- f41 = bob", "RW f41 = alice", "RW = bob"]), Compiled, &["x"]);
    let why = "its denials count in another order: who gains or loses access is not told name by name";
    assert_eq!(words(&planned), [format!("update rpms/foo: rules ! {why}")]);
    let before = planned.changes[0].before.as_ref().and_then(Value::as_str).unwrap();
    assert!(before.starts_with("# rpms/foo\nrepo rpms/foo\n    RW f41 = alice\n"), "{before}");
    // The order of what stays counts also where something comes.
    let planned = make(&mut files, &rules(&["RW f41 = alice", "- f41 = bob", "RW = bob carol"]), Compiled, &["x"]);
    assert_eq!(words(&planned), ["create rpms/foo: RW: carol".to_owned(), format!("update rpms/foo: rules ! {why}")]);
    let planned = make(&mut files, &rules(&["RW f41 = alice", "- f41 = bob", "RW = bob"]), Compiled, &["carol"]);
    assert_eq!(words(&planned), ["delete rpms/foo: RW: carol"]);
    let with_option = rules(&["RW f41 = alice", "- f41 = bob", "RW = bob", "option deny-rules = 1"]);
    let why = "other options: what they give or take is not told name by name";
    let planned = make(&mut files, &with_option, Compiled, &["x"]);
    assert_eq!(words(&planned), [format!("update rpms/foo: rules ! {why}")]);
    // Where nothing is denied the order counts for nothing, and nobody is asked.
    make(&mut files, &rules(&["RW f41 = alice", "RW f42 = bob"]), Compiled, &["bob", "alice", "carol", "all"]);
    let planned = make(&mut files, &rules(&["RW f42 = bob", "RW f41 = alice"]), Compiled, &["x"]);
    assert_eq!(words(&planned), ["update rpms/foo: rules"]);
}

#[test]
fn what_was_written_by_hand_and_cant_be_read_is_replaced_by_a_person() {
    for hand in ["include \"../x.conf\"\n", "repo rpms/foo\n    RWX = mallory\n", "\u{0}", ""] {
        let mut files = Files::default();
        let path = crate::files::conf_repo(&repo("rpms/foo"));
        files.put(MASTER, &path, hand);
        let planned = make(&mut files, &of_repo("rpms/foo", &["RW = alice"], &[]), Compiled, &["alice"]);
        if hand.is_empty() {
            assert_eq!(words(&planned)[0], "create rpms/foo: RW: alice");
            continue;
        }
        let why = "what stood there can't be read: who loses access is not known";
        assert_eq!(words(&planned), [format!("update rpms/foo: rules ! {why}")]);
        assert!(planned.notes[0].contains(&path) && planned.notes[0].contains("line "), "{:?}", planned.notes);
    }
}

#[test]
fn rules_that_gitolite_would_not_take_are_never_written() {
    let failure =
        plan(&of_repo("rpms/foo", &["RWX = alice"], &[]), &Files::default(), Compiled, &told(&["x"])).unwrap_err();
    assert!(failure.message().contains("RWX = alice"), "{failure}");
}

#[test]
fn a_member_that_comes_edits_the_group_and_one_file_of_the_index() {
    let mut files = Files::default();
    let planned = make(&mut files, &of_group("perl-sig", Group::Whole(users(&["alice", "bob"]))), Asked, &["x"]);
    assert_eq!(words(&planned), ["create group perl-sig: alice", "create group perl-sig: bob"]);
    let planned = make(&mut files, &of_group("perl-sig", Group::One(user("carol"), true)), Asked, &["carol"]);
    assert_eq!(words(&planned), ["create group perl-sig: carol"]);
    let paths: Vec<&str> = planned.edits.keys().map(|(_, path)| path.as_str()).collect();
    assert_eq!(paths, ["groups/perl-sig", "in/ca/carol"]);
    assert_eq!(files.text(MEMBERS, "groups/perl-sig").unwrap(), "alice\nbob\ncarol\n");
    assert_eq!(files.text(MEMBERS, "in/ca/carol").unwrap(), "perl-sig\n");

    let planned = make(&mut files, &of_group("perl-sig", Group::One(user("bob"), false)), Asked, &["alice"]);
    assert_eq!(words(&planned), ["delete group perl-sig: bob ! no message names bob"]);
    assert_eq!(files.text(MEMBERS, "in/bo/bob"), None);
    let planned = make(&mut files, &of_group("perl-sig", Group::Whole(users(&[]))), Asked, &["alice", "carol"]);
    assert_eq!(words(&planned), ["delete group perl-sig: alice", "delete group perl-sig: carol"]);
    assert_eq!(files.text(MEMBERS, "groups/perl-sig").unwrap(), "", "it is still there, for the next one");
}

#[test]
fn compiled_groups_are_lines_on_master_and_have_no_index() {
    let mut files = Files::default();
    make(&mut files, &of_group("perl-sig", Group::Whole(users(&["bob"]))), Compiled, &["x"]);
    make(&mut files, &of_group("perl-sig", Group::One(user("alice"), true)), Compiled, &["x"]);
    assert_eq!(files.0.len(), 1);
    let text = files.text(MASTER, "conf/reactor/groups/perl-sig.conf").unwrap();
    assert!(text.ends_with("\n@perl-sig = alice\n@perl-sig = bob\n"), "{text}");
}

#[test]
fn one_member_of_a_group_that_is_not_there_is_an_error() {
    for membership in [Asked, Compiled] {
        let wanted = of_group("perl-sig", Group::One(user("carol"), true));
        let failure = plan(&wanted, &Files::default(), membership, &told(&["carol"])).unwrap_err();
        assert!(matches!(failure, Failure::Permanent { .. }) && failure.hint().is_some(), "{failure:?}");
    }
}

#[test]
fn an_empty_group_is_told_too() {
    let planned = make(&mut Files::default(), &of_group("g", Group::Whole(users(&[]))), Asked, &["x"]);
    assert_eq!(words(&planned), ["create group g: lines"]);
}

#[test]
fn a_group_that_was_edited_by_hand_is_written_anew() {
    let mut files = Files::default();
    make(&mut files, &of_group("g", Group::Whole(users(&["alice"]))), Asked, &["x"]);
    files.put(MEMBERS, "groups/g", "alice\n@all\n");
    let planned = make(&mut files, &of_group("g", Group::One(user("bob"), true)), Asked, &["bob"]);
    let why = "what stood there can't be read: who loses access is not known";
    assert_eq!(words(&planned), ["create group g: bob".to_owned(), format!("update group g: lines ! {why}")]);
    files.put(MEMBERS, "groups/g", "bob\nalice");
    let planned = make(&mut files, &of_group("g", Group::Whole(users(&["alice", "bob"]))), Asked, &["x"]);
    assert_eq!(words(&planned), ["update group g: lines"]);
}

#[test]
fn the_index_of_the_one_whom_a_message_names_is_mended() {
    let mut files = Files::default();
    let bob = |is_in| of_group("g", Group::One(user("bob"), is_in));
    make(&mut files, &of_group("g", Group::Whole(users(&["alice", "bob"]))), Asked, &["x"]);
    files.0.remove(&(MEMBERS, "in/bo/bob".to_owned()));
    assert_eq!(words(&make(&mut files, &bob(true), Asked, &["bob"])), ["update index: 1 file"]);
    assert_eq!(files.text(MEMBERS, "in/bo/bob").unwrap(), "g\n");
    make(&mut files, &bob(false), Asked, &["bob"]);
    files.put(MEMBERS, "in/bo/bob", "g\n");
    assert_eq!(words(&make(&mut files, &bob(false), Asked, &["bob"])), ["update index: 1 file"]);
    files.put(MEMBERS, "in/bo/bob", "g\n");
    let held = "update index: 1 file ! in/bo/bob: somebody loses what only the index said; no message names bob";
    assert_eq!(words(&make(&mut files, &bob(false), Asked, &["alice"])), [held]);
}

#[test]
fn lists_stand_on_members_and_the_rules_do_not_change() {
    let rules = ["R = @all", "RW = @commit@rpms@foo"];
    let mut files = Files::default();
    let of = |names: &[&str]| of_repo("rpms/foo", &rules, &[("commit@rpms@foo", names), ("any@rpms@foo", &["bob"])]);
    make(&mut files, &of(&["alice", "@perl-sig"]), Asked, &["x"]);
    let path = crate::files::asked_list(&repo("rpms/foo"));
    assert_eq!(files.text(MEMBERS, &path).unwrap(), "any bob\ncommit @perl-sig\ncommit alice\n");
    assert_eq!(files.text(MEMBERS, "in/@p/@perl-sig").unwrap(), "commit@rpms@foo\n");
    let planned = make(&mut files, &of(&["carol"]), Asked, &["perl-sig", "carol"]);
    assert_eq!(
        words(&planned),
        [
            "create rpms/foo: commit: carol",
            "delete rpms/foo: commit: alice ! no message names alice",
            "delete rpms/foo: commit: @perl-sig"
        ]
    );
    assert!(planned.edits.keys().all(|(branch, _)| *branch == MEMBERS), "nothing is compiled");
    assert_eq!(files.text(MEMBERS, "in/@p/@perl-sig"), None);
    assert_eq!(files.text(MEMBERS, "in/ca/carol").unwrap(), "commit@rpms@foo\n");
}

#[test]
fn a_list_of_another_repository_is_an_error() {
    let wanted = of_repo("rpms/foo", &["R = @all"], &[("commit@rpms@bar", &["alice"])]);
    assert!(plan(&wanted, &Files::default(), Asked, &told(&["x"])).is_err());
}
