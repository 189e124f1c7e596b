//! What a mirror's admin relies on.

use std::collections::{BTreeMap, BTreeSet};

use handler_api::Action;
use regex::RegexSet;

use super::support::{Db, NOW, Row, TOP, detail, found, reading, seed, tree};
use super::{LINES_MAX, digest, digest_of, leave_out, told};
use crate::rows::{Detail, Files, Found, Known, KnownDirectory, KnownRepository, Part, Rows, Tree};

const DAY: i64 = 24 * 60 * 60;

fn filled(all: &BTreeMap<String, Found>) -> Db {
    let mut db = seed();
    db.converge(&Part::Whole, all, &[], NOW);
    db
}

fn names(list: &[(i32, String)]) -> Vec<&str> {
    list.iter().map(|(_, name)| name.as_str()).collect()
}

fn below(name: &str) -> Part {
    Part::Below(BTreeSet::from([format!("{TOP}/{name}")]))
}

fn repository<'a>(db: &'a Db, directory: &str) -> &'a KnownRepository {
    let name = format!("{TOP}/{directory}");
    db.known.repositories.iter().find(|row| row.directory.as_ref() == Some(&name)).unwrap()
}

#[test]
fn a_new_release_has_its_version_and_repositories_in_one_run() {
    let db = filled(&tree(&["9", "9/Everything/x86_64+", "9/Everything/SRPMS+", "test/10_Beta/x86_64+"]));
    assert_eq!(repository(&db, "9/Everything/x86_64").prefix.as_deref(), Some("epel-9"));
    let source = repository(&db, "9/Everything/SRPMS");
    assert_eq!((source.prefix.as_deref(), source.arch_id), (Some("epel-source-9"), Some(1)));
    assert_eq!((db.tests["9"], db.tests["10_Beta"]), (false, true));
}

#[test]
fn an_ostree_repository_has_the_version_of_its_last_part() {
    let mut all = tree(&["atomic/29", "atomic/rawhide"]);
    all.values_mut().skip(1).for_each(|found| found.is_ostree = true);
    let db = filled(&all);
    let rows: Vec<_> = db.known.repositories.iter().map(|row| (row.prefix.as_deref().unwrap(), row.arch_id)).collect();
    assert_eq!(rows, [("epel-29", Some(3)), ("epel-development", Some(3))]);
}

#[test]
fn what_is_no_repository_is_said_or_passed_over() {
    let all = tree(&["9/Cloud/x86_64+", "alt/9/x86_64+", "9/mips+", "noarch/x86_64+", "altar/9/x86_64+"]);
    let rows = seed().plan(&Part::Whole, &all, &[], NOW);
    let made: Vec<_> = rows.new_repositories.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(made, ["pub/epel/altar/9/x86_64"], "no_versions are whole directories");
    assert_eq!(rows.notes.len(), 2, "{:?}", rows.notes);
    assert!(rows.notes[0].contains("pub/epel/9/mips: no arch"), "{:?}", rows.notes);
    assert!(rows.notes[1].contains("pub/epel/noarch/x86_64: no version"), "{:?}", rows.notes);
}

#[test]
fn repositories_without_a_prefix_are_made_each() {
    let db = filled(&tree(&["nameless/9/x86_64+", "nameless/9/b/x86_64+"]));
    assert_eq!(db.known.repositories.iter().map(|row| row.prefix.as_deref()).collect::<Vec<_>>(), [None, None]);
}

#[test]
fn two_directories_that_want_one_name_are_a_failure_that_names_both() {
    let all = tree(&["9/a/x86_64+", "9/b/x86_64+"]);
    let failure = seed().plan_with(&Part::Whole, &all, &[], NOW, &reading()).unwrap_err();
    assert_eq!(
        failure.message(),
        "pub/epel/9/a/x86_64 and pub/epel/9/b/x86_64 both would be the repository epel-9 x86_64, and neither is it yet"
    );
    assert!(failure.hint().unwrap().contains("prefixes"));
    // One has it already: it keeps it, and the other is said.
    let mut db = filled(&tree(&["9/a/x86_64+"]));
    let rows = db.converge(&Part::Whole, &all, &[], NOW);
    assert_eq!((rows.new_repositories.len(), rows.repositories.len()), (0, 0));
    assert_eq!(rows.notes, ["no repository for pub/epel/9/b/x86_64: pub/epel/9/a/x86_64 is epel-9 already"]);
}

#[test]
fn where_two_directories_could_be_the_one_that_moved_nobody_guesses() {
    let db = filled(&tree(&["9/old/x86_64+"]));
    let all = tree(&["9/a/x86_64+", "9/b/x86_64+"]);
    let failure = db.plan_with(&Part::Whole, &all, &[], NOW, &reading()).unwrap_err();
    assert!(failure.message().contains("neither is it yet"), "{}", failure.message());
}

#[test]
fn a_repository_moves_with_its_directory() {
    let mut db = filled(&tree(&["9/old/x86_64+"]));
    let id = repository(&db, "9/old/x86_64").id;
    let rows = db.converge(&Part::Whole, &tree(&["9/new/x86_64+"]), &[], NOW);
    assert_eq!((rows.gone_repositories.len(), rows.new_repositories.len()), (0, 0), "its statistics stay");
    let row = repository(&db, "9/new/x86_64");
    assert_eq!((row.id, row.name.as_str()), (id, "pub/epel/9/new/x86_64"));
}

#[test]
fn where_nobody_looked_nothing_is_moved() {
    let mut db = filled(&tree(&["9/old/x86_64+"]));
    let rows = db.converge(&below("9/new"), &tree(&["9/new/x86_64+"]), &[], NOW);
    assert_eq!((rows.repositories.len(), rows.new_repositories.len(), rows.notes.len()), (0, 0, 1));
    // A whole run finds the old one gone.
    db.converge(&Part::Whole, &tree(&["9/new/x86_64+"]), &[], NOW);
    assert_eq!(repository(&db, "9/new/x86_64").prefix.as_deref(), Some("epel-9"));
}

#[test]
fn a_repository_that_lost_its_directory_gets_it_again() {
    let all = tree(&["9/Everything/x86_64+"]);
    let mut db = filled(&all);
    db.known.repositories[0].directory = None;
    let id = db.known.repositories[0].id;
    db.converge(&Part::Whole, &all, &[], NOW);
    assert_eq!(repository(&db, "9/Everything/x86_64").id, id);
    // Of another category: not ours to move.
    (db.known.repositories[0].directory, db.known.repositories[0].category_id) = (None, Some(7));
    let rows = db.converge(&Part::Whole, &all, &[], NOW);
    assert_eq!((rows.repositories.len(), rows.notes.len()), (0, 1));
}

#[test]
fn only_what_differs_is_written() {
    let mut all = tree(&["9"]);
    all.insert("pub/epel/9/p".into(), found(10, &[("a.rpm", 1)]));
    let mut db = filled(&all);
    // Another readable, the same time: its files stay.
    all.get_mut("pub/epel/9").unwrap().readable = false;
    let rows = db.converge(&Part::Whole, &all, &[], NOW);
    assert_eq!((rows.directories.len(), rows.directories[0].files.as_ref()), (1, None));
    // Another time, the same files.
    all.get_mut("pub/epel/9/p").unwrap().time = 11;
    let rows = db.converge(&Part::Whole, &all, &[], NOW);
    assert_eq!((rows.directories.len(), rows.directories[0].files.as_ref()), (1, None));
    // All files gone: umdl's empty list, not NULL.
    all.insert("pub/epel/9/p".into(), found(12, &[]));
    let rows = db.converge(&Part::Whole, &all, &[], NOW);
    assert_eq!(rows.directories[0].files, Some(Some("[]".into())));
    // A row that something else wrote, without a time and with a Python pickle.
    let row = db.directories.get_mut("pub/epel/9/p").unwrap();
    (row.row.time, row.files) = (None, Some(b"\x80\x03}q\x00.".to_vec()));
    db.converge(&Part::Whole, &all, &[], NOW);
    assert_eq!(db.directories["pub/epel/9/p"].files.as_deref(), Some(&b"[]"[..]));
}

#[test]
fn a_list_without_a_line_for_the_top_leaves_its_time() {
    let mut db = filled(&tree(&["9"]));
    assert_eq!(db.directories[TOP].row.time, Some(10), "a walk knows it");
    let mut all = tree(&["9"]);
    all.insert(TOP.into(), Found { readable: false, ..found(0, &[("KEY", 3)]) });
    let rows = db.converge(&Part::Whole, &all, &[], NOW);
    assert_eq!(rows.directories.len(), 1, "the new file");
    let row = &db.directories[TOP].row;
    assert_eq!((row.time, row.readable), (Some(10), true), "what the list does not say, stays");
}

#[test]
fn a_directory_of_another_category_is_linked_and_left() {
    let all = tree(&["9", "9/x"]);
    let mut db = filled(&all);
    let row = KnownDirectory { id: 77, time: Some(1), readable: true, categories: 1 };
    db.directories.insert("pub/epel/shared".into(), Row { row, files: None, ours: false });
    let with = tree(&["9", "9/x", "shared"]);
    let known = [detail("shared", NOW, "aa")];
    let first = db.plan(&Part::Whole, &with, &known, NOW);
    assert_eq!((names(&first.links), first.new_details.len()), (vec!["pub/epel/shared"], 0));
    db.write(&first);
    let second = db.converge(&Part::Whole, &with, &known, NOW);
    assert_eq!((second.directories.len(), second.new_details.len()), (1, 1), "what was not known before the link");
    // Gone here: the row is the other category's still.
    let rows = db.converge(&Part::Whole, &all, &[], NOW);
    assert_eq!((names(&rows.unlinks), rows.gone_directories.len()), (vec!["pub/epel/shared"], 0));
}

#[test]
fn what_is_excluded_is_not_gone() {
    let mut known = Known::default();
    let row = KnownDirectory { id: 1, time: None, readable: true, categories: 1 };
    for name in ["pub/a", "pub/a/.snapshot", "pub/a/.snapshot/b", "pub/a/.snapshot/c/d", "pub/z/.snapshot/e", "pub/b"] {
        known.directories.insert(name.into(), row.clone());
    }
    leave_out(&mut known, &Tree::default(), &RegexSet::new([r"^(?:.*/\.snapshot$)"]).unwrap());
    assert_eq!(known.directories.keys().collect::<Vec<_>>(), ["pub/a", "pub/b"]);
}

#[test]
fn a_tree_that_is_not_whole_is_no_empty_tree() {
    let db = filled(&tree(&["9", "10"]));
    let failure = db.plan_with(&Part::Whole, &BTreeMap::new(), &[], NOW, &reading()).unwrap_err();
    assert!(failure.message().contains("lacks pub/epel itself"), "{}", failure.message());
    let mut all = tree(&["9", "10", "11"]);
    all.get_mut("pub/epel/11").unwrap().files = Files::Unchanged;
    let failure = db.plan_with(&Part::Whole, &all, &[], NOW, &reading()).unwrap_err();
    assert!(failure.message().contains("the files of pub/epel/11 were not read"), "{}", failure.message());
}

/// The times of what is left of these versions, in days before now; the first is the one on the mirror.
fn aged(days: &[i64]) -> Vec<i64> {
    let all = tree(&["9"]);
    let mut db = filled(&all);
    let versions: Vec<Detail> =
        days.iter().enumerate().map(|(i, days)| detail("9", NOW - days * DAY, &i.to_string())).collect();
    db.known.details = versions.iter().skip(1).enumerate().map(|(i, one)| (i as i32 + 500, one.clone())).collect();
    db.converge(&Part::Whole, &all, &versions[..1], NOW);
    db.known
        .details
        .iter()
        .map(|(_, one)| (NOW - one.timestamp.unwrap()) / DAY)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

#[test]
fn old_versions_go_when_no_mirror_can_have_them() {
    assert_eq!(aged(&[0, 1, 5, 9]), [0, 1], "two always, as long as the newest is young");
    assert_eq!(aged(&[0, 8, 9]), [0, 8]);
    assert_eq!(aged(&[5, 8, 9]), [5], "the newest had the time to get everywhere");
    assert_eq!(aged(&[2, 3, 3]), [2, 3], "younger than four days");
    assert_eq!(aged(&[9]), [9], "the newest always stays");
    assert_eq!(aged(&[9, 5, 8]), [5, 9], "and what is on the mirror, however old");
}

#[test]
fn few_changes_are_told_one_by_one() {
    let mut all = tree(&["9"]);
    all.insert("pub/epel/9/x86_64".into(), Found { has_repodata: true, ..found(86_400, &[("a", 1), ("b", 2)]) });
    let db = seed();
    let rows = db.plan(&Part::Whole, &all, &[detail("9", 0, "0123456789abcdef0123")], NOW);
    let plan = told(&db.known(&Part::Whole), &rows);
    let lines: Vec<String> = plan.changes.iter().map(|one| format!("{:?} {}", one.action, one.target)).collect();
    assert_eq!(
        lines,
        [
            "Create version 9",
            "Create directory pub/epel/9",
            "Create directory pub/epel/9/x86_64",
            "Update directory pub/epel",
            "Create repository epel-9 x86_64",
            "Create checksums pub/epel/9/repomd.xml",
        ]
    );
    let after = |n: usize| plan.changes[n].after.as_ref().unwrap().to_string();
    assert_eq!(after(2), r#"{"time":"1970-01-02T00:00:00Z","readable":true,"files":"2 files"}"#);
    assert_eq!(after(3), r#"{"time":"1970-01-01T00:00:10Z"}"#);
    assert_eq!(after(5), r#"{"time":"1970-01-01T00:00:00Z","size":9,"sha256":"0123456789abcdef…"}"#);
    assert_eq!(digest_of(&plan.changes), Some(digest(&db.known(&Part::Whole), &rows).as_str()));
}

#[test]
fn many_changes_are_told_in_one_line_and_counted() {
    let many: Vec<String> = (0..=LINES_MAX).map(|i| format!("testing/9/{i:03}")).collect();
    let all = tree(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let db = seed();
    let rows = db.plan(&Part::Whole, &all, &[], NOW);
    let plan = told(&db.known(&Part::Whole), &rows);
    assert_eq!(plan.changes.len(), 2);
    let one = &plan.changes[0];
    assert_eq!((one.target.as_str(), one.count), ("directories below pub/epel/testing/9", Some(51)));
    assert_eq!(one.after.as_ref().unwrap().as_array().unwrap().len(), 3, "examples");
    let same: Rows = db.plan(&Part::Whole, &all, &[], NOW);
    assert_eq!(told(&db.known(&Part::Whole), &same), plan);
}

#[test]
fn another_file_in_a_directory_is_another_digest() {
    let with = |name: &str| {
        let mut all = tree(&[]);
        all.insert("pub/epel/9".into(), found(10, &[(name, 1)]));
        let rows = seed().plan(&Part::Whole, &all, &[], NOW);
        told(&seed().known(&Part::Whole), &rows).changes
    };
    let (one, other) = (with("a"), with("b"));
    assert!(one[0].same_as(&other[0]));
    assert_ne!(digest_of(&one), digest_of(&other), "approved is what was seen");
}

#[test]
fn a_mount_that_failed_is_held() {
    let many: Vec<String> = (0..30).map(|i| format!("9/{i:03}/x86_64+")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut db = seed();
    let reading = super::Reading { prefixes: Vec::new(), ..reading() };
    db.write(&db.plan_with(&Part::Whole, &tree(&many), &[], NOW, &reading).unwrap());
    let known = db.known(&Part::Whole);
    let gone = |kept: usize| {
        let rows = db.plan_with(&Part::Whole, &tree(&many[..kept]), &[], NOW, &reading).unwrap();
        told(&known, &rows)
    };
    let plan = gone(10);
    let deletes: Vec<_> = plan.changes.iter().filter(|one| one.action == Action::Delete).collect();
    assert_eq!(deletes.len(), 40, "directories and repositories");
    for one in deletes {
        assert_eq!(one.hold.as_deref(), Some("20 of 31 directories would go: is the mirror mounted?"));
    }
    assert!(gone(15).changes.iter().all(|one| one.hold.is_none()), "15 of 31: the guard's limits decide");
}

#[test]
fn several_versions_of_a_file_that_go_are_one_change() {
    let all = tree(&["9"]);
    let mut db = filled(&all);
    db.known.details = (0..5).map(|i| (i + 500, detail("9", NOW - (i64::from(i) + 6) * DAY, &i.to_string()))).collect();
    let rows = db.plan(&Part::Whole, &all, &[], NOW);
    let plan = told(&db.known(&Part::Whole), &rows);
    assert_eq!(plan.changes.len(), 1);
    assert_eq!((plan.changes[0].target.as_str(), plan.changes[0].count), ("checksums pub/epel/9/repomd.xml", Some(4)));
}
