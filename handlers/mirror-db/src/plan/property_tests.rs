//! What holds for every tree.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::support::{Db, NOW, TOP, detail, found, seed};
use super::told;
use crate::rows::{Detail, Found, Part, Rows, Sums};

const DAY: i64 = 24 * 60 * 60;

/// Names as they are in real trees, so that versions, arches and tests come up.
fn part_name() -> impl Strategy<Value = &'static str> {
    select(vec![
        "9",
        "10.1",
        "30_Beta",
        "testing",
        "test",
        "stage",
        "x86_64",
        "aarch64",
        "debug",
        "source",
        "SRPMS",
        "rawhide",
        "development",
        "Everything",
        "Cloud",
        "alt",
        "nameless",
        "größe",
        "dists",
    ])
}

#[derive(Clone, Debug)]
struct World {
    all: BTreeMap<String, Found>,
    details: Vec<Detail>,
}

fn world() -> impl Strategy<Value = World> {
    let directory = (1..4_i64, any::<bool>(), 0..8_u8, btree_map("[a-c]{1,2}(\\.rpm)?", 0..9_i64, 0..15));
    let directories = btree_map(vec(part_name(), 1..5).prop_map(|parts| parts.join("/")), directory, 0..25);
    let times = vec((any::<Index>(), 0..12_i64, 0..3_u8), 0..12);
    (directories, times).prop_map(|(directories, times)| {
        let mut all = BTreeMap::from([(TOP.to_owned(), found(1, &[]))]);
        for (path, (time, readable, kind, files)) in directories {
            let files: Vec<(&str, i64)> = files.iter().map(|(name, time)| (name.as_str(), *time)).collect();
            let one = Found { readable, has_repodata: kind == 0, is_ostree: kind == 1, ..found(time, &files) };
            let mut name = format!("{TOP}/{path}");
            all.insert(name.clone(), one);
            while let Some((above, _)) = name.rsplit_once('/') {
                name = above.to_owned();
                all.entry(name.clone()).or_insert_with(|| found(1, &[]));
                if name == TOP {
                    break;
                }
            }
        }
        distinct(&mut all);
        let names: Vec<&String> = all.keys().collect();
        let details = times.into_iter().map(|(at, days, sum)| Detail {
            directory: names[at.index(names.len())].clone(),
            timestamp: Some(NOW - days * DAY),
            sums: Sums { sha256: Some(sum.to_string()), ..Sums::default() },
            ..detail("", 0, "")
        });
        let details: BTreeMap<String, Detail> = details.map(|detail| (detail.directory.clone(), detail)).collect();
        World { all, details: details.into_values().collect() }
    })
}

/// Two repositories of one name are a failure of their own: no more than one of each.
fn distinct(all: &mut BTreeMap<String, Found>) {
    loop {
        let failure = match seed().plan_with(&Part::Whole, all, &[], NOW, &super::support::reading()) {
            Ok(_) => return,
            Err(failure) => failure.message().to_owned(),
        };
        let (_, rest) = failure.split_once(" and ").unwrap();
        let (name, _) = rest.split_once(" both would").unwrap();
        let one = all.get_mut(name).unwrap();
        (one.has_repodata, one.is_ostree) = (false, false);
    }
}

fn filled(world: &World) -> Db {
    let mut db = seed();
    db.converge(&Part::Whole, &world.all, &world.details, NOW);
    db
}

/// The rows that are not about what is gone or too old.
fn only_going(rows: &Rows) -> bool {
    let gone =
        Rows { gone_details: Vec::new(), gone_repositories: Vec::new(), gone_directories: Vec::new(), ..rows.clone() };
    gone.is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_not_written_again(before in world(), after in world()) {
        let mut db = filled(&before);
        let later = NOW + 3 * DAY;
        // A repository that two directories claim now, of which one had it: a failure, and nothing is written.
        let Ok(rows) = db.plan_with(&Part::Whole, &after.all, &after.details, later, &super::support::reading()) else {
            return Ok(());
        };
        prop_assert_eq!(rows.is_empty(), told(&db.known(&Part::Whole), &rows).changes.is_empty());
        db.converge(&Part::Whole, &after.all, &after.details, later);
        let there: BTreeSet<&String> = db.directories.keys().collect();
        prop_assert_eq!(there, after.all.keys().collect::<BTreeSet<_>>());
        for detail in &after.details {
            let same = db.known.details.iter().any(|(_, one)| one == detail);
            prop_assert!(same, "what is on the mirror is always there: {:?}", detail);
        }
    }

    #[test]
    fn exactly_what_was_removed_goes(world in world(), gone in vec(any::<Index>(), 0..10)) {
        let mut db = filled(&world);
        let names: Vec<String> = world.all.keys().filter(|name| *name != TOP).cloned().collect();
        let gone: BTreeSet<String> =
            if names.is_empty() { BTreeSet::new() } else { gone.iter().map(|at| at.get(&names).clone()).collect() };
        let mut left = world.clone();
        left.all.retain(|name, _| !gone.contains(name));
        left.details.retain(|detail| !gone.contains(&detail.directory));
        let rows = db.converge(&Part::Whole, &left.all, &left.details, NOW);
        let told: BTreeSet<String> = rows.gone_directories.iter().map(|(_, name)| name.clone()).collect();
        prop_assert_eq!(&told, &gone);
        let plan = super::told(&seed().known, &rows);
        prop_assert_eq!(plan.changes.is_empty(), gone.is_empty());
        // A repository that another directory waited for moves there; else only what was gone goes.
        prop_assert!(only_going(&rows) || !rows.repositories.is_empty(), "{:#?}", rows);
    }

    #[test]
    fn a_part_never_touches_what_is_beside_it(before in world(), after in world(), top in part_name()) {
        let mut db = filled(&before);
        let part = Part::Below(BTreeSet::from([format!("{TOP}/{top}")]));
        let Ok(rows) = db.plan_with(&part, &after.all, &after.details, NOW, &super::support::reading()) else {
            return Ok(());
        };
        let names = rows.directories.iter().map(|row| &row.name).chain(rows.gone_directories.iter().map(|(_, name)| name));
        for name in names.chain(rows.new_directories.iter().map(|row| &row.name)) {
            prop_assert!(part.has(name), "{name}");
        }
        db.converge(&part, &after.all, &after.details, NOW);
    }

    #[test]
    fn a_name_is_read_back_as_it_was(names in btree_set(any::<String>(), 0..8)) {
        let files: Vec<_> = names.iter().map(|name| (name.as_str(), 5)).collect();
        let crate::rows::Files::All(files) = found(1, &files).files else { unreachable!() };
        let text = super::files_json(&files).unwrap_or_else(|| "[]".into());
        prop_assert!(text.is_ascii());
        let read: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let read: BTreeSet<String> = read.iter().map(|file| file["name"].as_str().unwrap().to_owned()).collect();
        prop_assert_eq!(read, names);
    }
}
