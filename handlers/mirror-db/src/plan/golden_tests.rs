//! Row by row beside the tables that umdl wrote (`../shared/golden/mirror-db`, where it is). Each difference is named here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Reading;
use super::support::{NOW, TOP, detail_line, example_prefixes, seed};
use crate::rows::{Detail, File, Files, Found, Part, Sums};

fn golden(name: &str) -> Option<String> {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let shared = manifest.join("../../../shared/golden/mirror-db").join(name);
    let text = std::fs::read_to_string(&shared).ok();
    if text.is_none() {
        println!("not compared with umdl: {} is not here", shared.display());
    }
    text
}

/// Enough of a parser for that one list; the real one is `tree::read`.
fn list(text: &str) -> BTreeMap<String, Found> {
    let mut all: BTreeMap<String, Found> = BTreeMap::new();
    let empty = || Found {
        time: 0,
        readable: true,
        files: Files::All(Vec::new()),
        has_repodata: false,
        is_ostree: false,
        read: Vec::new(),
    };
    all.insert(TOP.to_owned(), empty());
    let lines = text.lines().skip_while(|line| *line != "[Files]").skip(1).take_while(|line| !line.is_empty());
    for line in lines {
        let columns: Vec<&str> = line.splitn(4, '\t').collect();
        let (time, path) = (columns[0].parse().unwrap(), format!("{TOP}/{}", columns[3]));
        let (parent, name) = path.rsplit_once('/').unwrap();
        if columns[1].starts_with('d') {
            let found = all.entry(path.clone()).or_insert_with(empty);
            (found.time, found.readable) = (time, columns[1] == "d");
            all.entry(parent.to_owned()).or_insert_with(empty).has_repodata |= name == "repodata";
        } else if let Files::All(files) = &mut all.entry(parent.to_owned()).or_insert_with(empty).files {
            files.push(File { name: name.to_owned(), size: columns[2].parse().unwrap(), time });
        }
    }
    all
}

fn lines(dump: &str) -> Vec<String> {
    let mut lines: Vec<String> = dump.lines().map(ToOwned::to_owned).collect();
    lines.sort();
    lines
}

fn details(dump: &str) -> Vec<Detail> {
    let text = |text: &str| (text != "\\N" && !text.is_empty()).then(|| text.to_owned());
    dump.lines()
        .filter_map(|line| line.strip_prefix("file_detail\t"))
        .map(|line| {
            let c: Vec<&str> = line.split('\t').collect();
            Detail {
                directory: c[0].into(),
                filename: c[1].into(),
                timestamp: c[2].parse().ok(),
                size: c[3].parse().ok(),
                sums: Sums { md5: text(c[4]), sha1: text(c[5]), sha256: text(c[6]), sha512: text(c[7]) },
            }
        })
        .collect()
}

fn reading(with_minor: bool) -> Reading {
    let mut prefixes = example_prefixes();
    prefixes.retain(|rule| with_minor || !rule.prefix.as_ref().is_some_and(|prefix| prefix.starts_with("epel-z")));
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
    Reading {
        prefixes,
        no_repositories: words(&["Cloud", "Workstation", "Server"]),
        no_versions: words(&["pub/alt", "pub/archive"]),
        keep_days: 4,
    }
}

/// Ours, then theirs, where they differ.
fn differences(ours: &[String], theirs: &[String]) -> (Vec<String>, Vec<String>) {
    let only =
        |these: &[String], those: &[String]| these.iter().filter(|line| !those.contains(line)).cloned().collect();
    (only(ours, theirs), only(theirs, ours))
}

#[test]
fn one_run_writes_what_umdl_writes_in_two() {
    let (Some(files), Some(dump)) = (golden("fullfiletimelist-epel"), golden("umdl_python_run2.tsv")) else { return };
    let (all, mut db, wanted) = (list(&files), seed(), details(&dump));
    let rows = db.plan_with(&Part::Whole, &all, &wanted, NOW, &reading(false)).unwrap();
    assert_eq!(rows.notes, [] as [&str; 0]);
    db.write(&rows);
    let again = db.plan_with(&Part::Whole, &all, &wanted, NOW, &reading(false)).unwrap();
    assert!(again.is_empty(), "{again:#?}");

    let (ours, theirs) = differences(&db.dump(), &lines(&dump));
    // Readable goes down: nobody gets into stage, so nobody gets at what is in it.
    assert_eq!(ours, ["directory\tpub/epel/stage/hidden\tf\t1700009389\t\\N"]);
    assert_eq!(theirs, ["directory\tpub/epel/stage/hidden\tt\t1700009389\t\\N"]);
    assert_eq!(db.dump().len(), 139 + 139 + 3 + 20 + 21);
}

#[test]
fn what_umdl_wrote_is_taken_over_without_a_write() {
    let (Some(files), Some(dump)) = (golden("fullfiletimelist-epel"), golden("umdl_python_run2.tsv")) else { return };
    let (all, mut db, wanted) = (list(&files), seed(), details(&dump));
    db.write(&db.plan_with(&Part::Whole, &all, &wanted, NOW, &reading(false)).unwrap());
    db.directories.get_mut("pub/epel/stage/hidden").unwrap().row.readable = true;
    assert_eq!(differences(&db.dump(), &lines(&dump)), (vec![], vec![]), "now it is umdl's");
    let rows = db.plan_with(&Part::Whole, &all, &wanted, NOW, &reading(false)).unwrap();
    assert_eq!((rows.directories.len(), rows.directories[0].readable), (1, false));
    assert_eq!(super::told(&db.known(&Part::Whole), &rows).changes.len(), 1);
}

#[test]
fn umdl_left_half_of_the_repositories_to_a_second_run() {
    let (Some(files), Some(dump)) = (golden("fullfiletimelist-epel"), golden("umdl_python_run1.tsv")) else { return };
    let (all, mut db) = (list(&files), seed());
    db.write(&db.plan_with(&Part::Whole, &all, &details(&dump), NOW, &reading(false)).unwrap());
    let (ours, _) = differences(&db.dump(), &lines(&dump));
    assert_eq!(ours.iter().filter(|line| line.starts_with("repository\t")).count(), 10, "{ours:#?}");
    assert_eq!(ours.len(), 11, "and stage/hidden");
}

#[test]
fn with_its_prefixes_the_names_are_those_of_scan_primary_mirror() {
    let Some(files) = golden("fullfiletimelist-epel") else { return };
    let Some(dump) = golden("scan_primary_mirror_run1.tsv") else { return };
    let (all, mut db, wanted) = (list(&files), seed(), details(&dump));
    db.write(&db.plan_with(&Part::Whole, &all, &wanted, NOW, &reading(true)).unwrap());
    let kinds = ["category_directory\t", "version\t", "repository\t", "file_detail\t"];
    let of = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().filter(|line| kinds.iter().any(|kind| line.starts_with(kind))).collect()
    };
    // It writes empty texts where umdl writes NULL, and its `files` are another text.
    let mut theirs: Vec<String> =
        of(lines(&dump)).into_iter().filter(|line| !line.starts_with("file_detail\t")).collect();
    theirs.extend(wanted.iter().map(detail_line));
    theirs.sort();
    assert_eq!(of(db.dump()), theirs);
    assert_eq!(theirs.iter().filter(|line| line.contains("\tepel-z-")).count(), 10);
}

#[test]
fn rows_with_empty_sums_are_known_for_what_they_are() {
    let (Some(files), Some(dump)) = (golden("fullfiletimelist-epel"), golden("scan_primary_mirror_run1.tsv")) else {
        return;
    };
    let (all, mut db, wanted) = (list(&files), seed(), details(&dump));
    db.write(&db.plan_with(&Part::Whole, &all, &wanted, NOW, &reading(true)).unwrap());
    for (_, detail) in &mut db.known.details {
        let Sums { md5, sha1, sha256, sha512 } = &mut detail.sums;
        for sum in [md5, sha1, sha256, sha512] {
            sum.get_or_insert_default();
        }
    }
    assert!(db.plan_with(&Part::Whole, &all, &wanted, NOW, &reading(true)).unwrap().is_empty());
}
