//! What holds of every plan.

use proptest::prelude::*;

use super::keys::key;
use super::*;

const USERS: [&str; 5] = ["alice", "bob", "a", "al", "carol"];
const GROUPS: [&str; 3] = ["g", "perl-sig", "alice"];
const REPOS: [&str; 4] = ["rpms/foo", "foo", "rpms/bar", "forks/al/rpms/foo"];

fn some(names: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(names.to_vec(), 0..=names.len())
}

fn who() -> impl Strategy<Value = Vec<&'static str>> {
    some(&["alice", "bob", "a", "al", "carol", "@g", "@perl-sig"])
}

/// The rules hold names as the template for either membership would write them; what they say is not looked at here.
fn a_repo(name: &'static str) -> impl Strategy<Value = Option<Rendered>> {
    type Names = Vec<&'static str>;
    let of = move |(commit, any, branch, flags): (Names, Names, Names, (bool, bool, u8))| {
        let (is_there, has_rules, order) = flags;
        let word = name.replace('/', "@");
        let lists = [
            (format!("commit@{word}"), &commit),
            (format!("any@{word}"), &any),
            (format!("commit.f41@{word}"), &branch),
        ];
        let lists: Vec<(&str, &[&str])> = lists.iter().map(|(list, who)| (list.as_str(), who.as_slice())).collect();
        let writes = format!("RW f41 = {}", commit.join(" "));
        let mut rules = vec!["R = @all", "- f[0-9][0-9] = @all", "RW = bob"];
        rules.rotate_left(usize::from(order) % 3);
        if !commit.is_empty() {
            rules.insert(usize::from(order) % 4, &writes);
        }
        is_there.then(|| rendered(name, if has_rules { &rules } else { &[] }, &lists))
    };
    (who(), who(), who(), (prop::bool::weighted(0.8), prop::bool::weighted(0.9), any::<u8>())).prop_map(of)
}

fn a_group() -> impl Strategy<Value = Group> {
    let whole = some(&USERS).prop_map(|names| Group::Whole(users(&names)));
    let one = (proptest::sample::select(USERS.to_vec()), any::<bool>())
        .prop_map(|(name, is_in)| Group::One(user(name), is_in));
    prop_oneof![whole, one]
}

fn a_wanted() -> impl Strategy<Value = Wanted> {
    let repos = REPOS.map(|name| proptest::option::of(a_repo(name)).prop_map(move |is| is.map(|is| (repo(name), is))));
    let groups = GROUPS.map(|name| proptest::option::of(a_group()).prop_map(move |is| is.map(|is| (group(name), is))));
    let numbers = proptest::sample::subsequence(vec![0, 1, 2], 0..=3);
    let keys = USERS.map(|name| {
        let keys = (numbers.clone(), "[a-z]{0,2}");
        let keys =
            keys.prop_map(|(numbers, comment)| numbers.into_iter().map(|n| key(n, &comment)).collect::<Vec<_>>());
        proptest::option::of(keys).prop_map(move |is| is.map(|is| (user(name), is)))
    });
    let left = proptest::option::weighted(0.3, some(&REPOS));
    (repos, groups, keys, left, some(&GROUPS)).prop_map(|(repos, groups, keys, left, groups_left)| {
        let repos: BTreeMap<_, _> = repos.into_iter().flatten().collect();
        let everything: Option<BTreeSet<RepoName>> = left.map(|left| left.iter().map(|name| repo(name)).collect());
        Wanted {
            everything: everything.map(|all| all.into_iter().filter(|repo| !repos.contains_key(repo)).collect()),
            repos,
            groups: groups.into_iter().flatten().collect(),
            groups_left_alone: groups_left.into_iter().map(group).collect(),
            keys: keys.into_iter().flatten().collect(),
            groups_meant: BTreeSet::new(),
        }
    })
}

/// Something by hand.
fn drift() -> impl Strategy<Value = (Branch, String, Option<String>)> {
    let path = proptest::sample::select(vec![
        (MASTER, crate::files::conf_repo(&repo("rpms/foo"))),
        (MASTER, "conf/reactor/repos/zz.conf".to_owned()),
        (MASTER, "conf/reactor/groups/g.conf".to_owned()),
        (MASTER, "keydir/reactor/al/alice/x/alice.pub".to_owned()),
        (MEMBERS, "groups/g".to_owned()),
        (MEMBERS, "groups/h i".to_owned()),
        (MEMBERS, crate::files::asked_list(&repo("rpms/foo"))),
        (MEMBERS, "in/al/alice".to_owned()),
        (MEMBERS, "in/@g/@g".to_owned()),
        (MEMBERS, "in/x".to_owned()),
        (MEMBERS, "people/al/alice".to_owned()),
        (MEMBERS, "keys/x/y".to_owned()),
    ]);
    let text = proptest::sample::select(vec![
        "",
        "alice\n",
        "g\n",
        "@g = alice\n",
        "commit bob\n",
        "\u{0}x",
        "repo foo\n    RW = bob\n",
    ]);
    (path, proptest::option::of(text)).prop_map(|((branch, path), text)| (branch, path, text.map(ToOwned::to_owned)))
}

/// A group of which one member is asked for must have a file: as the caller sees to.
fn whole_where_absent(wanted: &mut Wanted, files: &Files, membership: Membership) {
    for (name, group_is) in &mut wanted.groups {
        let (branch, path) = match membership {
            Compiled => (MASTER, crate::files::conf_group(name)),
            Asked => (MEMBERS, crate::files::asked_group(name)),
        };
        if let (Group::One(user, _), None) = (&*group_is, files.read(branch, &path).unwrap()) {
            *group_is = Group::Whole(BTreeSet::from([user.clone()]));
        }
    }
}

/// The index as groups, lists and keys say it.
fn index_of(files: &Files) -> BTreeMap<String, BTreeSet<String>> {
    let mut index: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for ((branch, path), bytes) in &files.0 {
        match crate::files::Place::at(*branch, path) {
            Some(crate::files::Place::Group(name)) => {
                for user in crate::files::read_group(bytes).found {
                    let path = crate::files::asked_in(&crate::files::Member::User(user));
                    index.entry(path).or_default().insert(name.to_string());
                }
            }
            Some(crate::files::Place::Lists(repo)) => {
                for entry in crate::files::read_entries(&repo, bytes).found {
                    index.entry(crate::files::asked_in(&entry.who)).or_default().insert(entry.name(&repo));
                }
            }
            Some(crate::files::Place::People(user)) => {
                for (print, key) in crate::files::read_keys(bytes).found {
                    let line = crate::files::key_index_line(&user, &key);
                    index.entry(crate::files::asked_key(&print)).or_default().insert(line);
                }
            }
            _ => {}
        }
    }
    index
}

fn index_in(files: &Files) -> BTreeMap<String, BTreeSet<String>> {
    let in_index = files.0.iter().filter(|((_, path), _)| path.starts_with("in/") || path.starts_with("keys/"));
    in_index.map(|((_, path), bytes)| (path.clone(), crate::files::read_index(bytes).found)).collect()
}

fn is_sound(planned: &Planned, names: &[&str]) -> Result<(), TestCaseError> {
    prop_assert_eq!(
        planned.changes.is_empty(),
        planned.edits.is_empty(),
        "an edit is told, and what is told is an edit"
    );
    for change in &planned.changes {
        let of_one = names.iter().any(|name| {
            change.target.ends_with(&format!(": {name}")) || change.target.starts_with(&format!("key of {name}: "))
        });
        let must_wait = change.action == Action::Delete && !of_one;
        prop_assert!(!must_wait || (change).hold.as_deref().is_some(), "{:?}", change);
        prop_assert!(
            !names.is_empty() || change.action != Action::Delete || (change).hold.as_deref().is_some(),
            "{:?}",
            change
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn plans_settle_and_the_index_is_what_groups_lists_and_keys_say(
        steps in proptest::collection::vec((a_wanted(), some(&USERS)), 1..6),
        membership in proptest::sample::select(vec![Asked, Compiled]),
    ) {
        let mut files = Files::default();
        for (mut wanted, names) in steps {
            whole_where_absent(&mut wanted, &files, membership);
            let same = plan(&wanted, &files, membership, &told(&names)).unwrap();
            let planned = make(&mut files, &wanted, membership, &names);
            prop_assert_eq!(&same, &planned);
            is_sound(&planned, &names)?;
            prop_assert_eq!(index_in(&files), index_of(&files));
        }
    }

    #[test]
    fn a_reconcile_undoes_whatever_was_done_by_hand(
        mut wanted in a_wanted(),
        hands in proptest::collection::vec(drift(), 0..5),
        partial in a_wanted(),
        membership in proptest::sample::select(vec![Asked, Compiled]),
    ) {
        let mut fresh = Files::default();
        wanted.everything = Some(BTreeSet::new());
        wanted.groups_left_alone.clear();
        whole_where_absent(&mut wanted, &fresh, membership);
        make(&mut fresh, &wanted, membership, &[]);
        let mut files = fresh.clone();
        for (branch, path, text) in hands {
            match text {
                Some(text) => files.put(branch, &path, &text),
                None => _ = files.0.remove(&(branch, path)),
            }
        }
        let mut partial = Wanted { everything: None, ..partial };
        whole_where_absent(&mut partial, &files, membership);
        is_sound(&make(&mut files, &partial, membership, &["bob"]), &["bob"])?;
        is_sound(&make(&mut files, &wanted, membership, &[]), &[])?;
        prop_assert_eq!(&files, &fresh, "the same truth makes the same bytes");
    }
}
