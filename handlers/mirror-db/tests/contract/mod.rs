//! What the store must do on every database, each sentence a test: on SQLite here, on a real PostgreSQL in `tests/all`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers may panic as the test may")]

use std::collections::BTreeSet;

use handler_api::Failure;
use mirror_db::rows::{Detail, DirectoryChange, Known, NewDirectory, NewRepository, Part, Rows, Sums};
use mirror_db::store::{Place, Store};

/// A database of one sentence, with [`SEED`] in it.
pub trait Peer: Sync {
    /// Where the store finds it.
    fn place(&self) -> Place;
    /// Does some SQL, past the foreign keys.
    fn sql(&self, text: &str);
    /// The first column of what it answers.
    fn column(&self, query: &str) -> Vec<String>;
}

/// What stands in the tables before a sentence.
pub const SEED: &str = "
    INSERT INTO arch (name, publiclist, primary_arch) VALUES ('x86_64', true, true), ('source', false, false), ('aarch64', true, true);
    INSERT INTO product (name, publiclist) VALUES ('EPEL', true), ('Fedora', true);
    INSERT INTO directory (name, files, readable, ctime) VALUES ('pub/epel', NULL, true, 0), ('pub/fedora', NULL, true, 0);
    INSERT INTO category (name, publiclist, admin_only, product_id, topdir_id) VALUES
        ('Fedora EPEL', true, false, 1, 1), ('Fedora Linux', true, false, 2, 2);
    INSERT INTO category_directory (category_id, directory_id) VALUES (1, 1), (2, 2);
    INSERT INTO version (name, is_test, display, ordered_mirrorlist, sortorder, product_id) VALUES
        ('development', false, true, true, 0, 1), (NULL, false, true, true, 0, 1), ('40', false, true, true, 0, 2);
";

/// The category of the sentences.
pub const EPEL: &str = "Fedora EPEL";
/// Tables that a write may touch, each with how its rows are counted.
const TABLES: [&str; 9] = [
    "version",
    "directory",
    "category_directory",
    "repository",
    "file_detail",
    "propagation_stat",
    "file_detail_file_group",
    "host_category_dir",
    "directory_exclusive_host",
];

/// A new directory that everybody may read.
pub fn directory(name: &str, time: i64) -> NewDirectory {
    NewDirectory { name: name.into(), time, readable: true, files: None }
}

pub fn repository(name: &str, prefix: Option<&str>, version: &str, arch_id: i32) -> NewRepository {
    NewRepository {
        name: name.into(),
        prefix: prefix.map(str::to_owned),
        version: version.into(),
        arch_id,
        directory: Some(name.into()),
    }
}

pub fn detail(directory: &str, sha256: &str) -> Detail {
    Detail {
        directory: directory.into(),
        filename: "repomd.xml".into(),
        timestamp: Some(1_700_000_000),
        size: Some(3_000_000_000),
        sums: Sums { sha256: Some(sha256.into()), ..Sums::default() },
    }
}

pub fn below(tops: &[&str]) -> Part {
    Part::Below(tops.iter().map(|top| (*top).to_owned()).collect())
}

pub fn names(known: &Known) -> Vec<&str> {
    known.directories.keys().map(String::as_str).collect()
}

pub async fn whole(store: &Store) -> Known {
    store.known(EPEL, &Part::Whole).await.unwrap()
}

/// One repository with its directories, version and details.
pub fn first_fill() -> Rows {
    let new = ["pub/epel/9", "pub/epel/9/x86_64", "pub/epel/9/x86_64/repodata"];
    let mut new_directories: Vec<NewDirectory> = new.map(|name| directory(name, 100)).into();
    new_directories[1].files = Some(r#"[{"name": "a'b\\ü.rpm", "size": 5, "timestamp": 7}]"#.into());
    new_directories[2].readable = false;
    Rows {
        new_versions: vec![("9".into(), false), ("10-Beta".into(), true)],
        new_directories,
        directories: vec![DirectoryChange {
            id: 1,
            name: "pub/epel".into(),
            was: Some(0),
            time: 100,
            readable: true,
            files: Some(Some("[]".into())),
        }],
        new_repositories: vec![repository("pub/epel/9/x86_64", Some("epel-9"), "9", 1)],
        new_details: vec![detail("pub/epel/9/x86_64/repodata", "aa")],
        ..Rows::default()
    }
}

pub async fn filled(peer: &dyn Peer) -> Store {
    let store = Store::new(peer.place());
    store.write(&whole(&store).await, &first_fill()).await.unwrap();
    store
}

pub fn is_retry(failure: &Failure) -> bool {
    matches!(failure, Failure::Retry { .. })
}

pub fn counts(peer: &dyn Peer) -> Vec<String> {
    TABLES.iter().map(|table| peer.column(&format!("SELECT count(*) FROM {table}")).remove(0)).collect()
}

fn update(known: &Known, name: &str, time: i64) -> DirectoryChange {
    let row = &known.directories[name];
    DirectoryChange { id: row.id, name: name.into(), was: row.time, time, readable: row.readable, files: None }
}

pub async fn what_was_written_is_known(peer: &dyn Peer) {
    let store = Store::new(peer.place());
    let known = whole(&store).await;
    assert_eq!((known.category.product.as_str(), known.category.top.as_str()), ("EPEL", "pub/epel"));
    assert_eq!(known.versions.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["development"]);
    let arches: Vec<&str> = known.arches.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(arches, ["aarch64", "source", "x86_64"], "in the order of their names");
    store.write(&known, &first_fill()).await.unwrap();
    let known = whole(&store).await;
    let expected = ["pub/epel", "pub/epel/9", "pub/epel/9/x86_64", "pub/epel/9/x86_64/repodata"];
    assert_eq!(names(&known), expected);
    assert!(known.directories.values().all(|row| row.time == Some(100) && row.categories == 1), "{known:?}");
    assert!(!known.directories["pub/epel/9/x86_64/repodata"].readable && known.directories["pub/epel/9"].readable);
    let versions: Vec<&str> = known.versions.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(versions, ["development", "9", "10-Beta"]);
    let [repository] = known.repositories.as_slice() else { panic!("{known:?}") };
    let version = known.versions.iter().find(|(_, name)| name == "9").unwrap().0;
    assert_eq!(repository.name, "pub/epel/9/x86_64");
    assert_eq!(repository.directory.as_deref(), Some("pub/epel/9/x86_64"));
    let columns = (repository.prefix.as_deref(), repository.category_id, repository.version_id, repository.arch_id);
    assert_eq!(columns, (Some("epel-9"), Some(1), Some(version), Some(1)));
    let details: Vec<&Detail> = known.details.iter().map(|(_, row)| row).collect();
    assert_eq!(details, [&detail("pub/epel/9/x86_64/repodata", "aa")]);
    let ids: Vec<i32> = known.directories.values().map(|row| row.id).collect();
    let files = store.files(&ids).await.unwrap();
    assert_eq!(files[&known.directories["pub/epel/9"].id], None);
    let bytes = files[&known.directories["pub/epel/9/x86_64"].id].clone().unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), r#"[{"name": "a'b\\ü.rpm", "size": 5, "timestamp": 7}]"#);
    let defaults = "SELECT count(*) FROM version v, repository r WHERE v.name = '10-Beta' AND v.is_test AND v.display \
                    AND v.ordered_mirrorlist AND v.sortorder = 0 AND v.codename IS NULL AND NOT r.disabled";
    assert_eq!(peer.column(defaults), ["1"]);
}

pub async fn a_part_is_what_its_names_say(peer: &dyn Peer) {
    let store = Store::new(peer.place());
    let new = [
        "pub/epel/9",
        "pub/epel/9/a",
        "pub/epel/9-a",
        "pub/epel/9.1",
        "pub/epel/90",
        "pub/epel/90/a",
        "pub/epel/a_b",
        "pub/epel/a_b/c",
        "pub/epel/axb/c",
        "pub/epel/a%",
        "pub/epel/a%/c",
        r"pub/epel/a\",
        r"pub/epel/a\/c",
        "pub/epel/A_B/c",
        "pub/epel/ü",
        "pub/epel/ü/c",
        "pub/epel/9/A",
        "pub/epel/o'brien/c",
    ];
    let rows = Rows { new_directories: new.map(|name| directory(name, 1)).into(), ..Rows::default() };
    store.write(&whole(&store).await, &rows).await.unwrap();
    for (tops, expected) in [
        (&["pub/epel/9"][..], &["pub/epel/9", "pub/epel/9/A", "pub/epel/9/a"][..]),
        (&["pub/epel/a_b"], &["pub/epel/a_b", "pub/epel/a_b/c"]),
        (&["pub/epel/a%"], &["pub/epel/a%", "pub/epel/a%/c"]),
        (&[r"pub/epel/a\"], &[r"pub/epel/a\", r"pub/epel/a\/c"]),
        (&["pub/epel/ü", "pub/epel/90"], &["pub/epel/90", "pub/epel/90/a", "pub/epel/ü", "pub/epel/ü/c"]),
        (&["pub/epel/o'brien"], &["pub/epel/o'brien/c"]),
        (&["pub/epel/nothing"], &[]),
        (&["pub/fedora"], &[]),
    ] {
        assert_eq!(names(&store.known(EPEL, &below(tops)).await.unwrap()), expected, "{tops:?}");
    }
    let many: BTreeSet<String> = (0..120).map(|n| format!("pub/epel/{n}")).collect();
    let known = store.known(EPEL, &Part::Below(many)).await.unwrap();
    assert_eq!(known.directories.len(), 5, "{:?}", names(&known));
}

pub async fn directories_of_other_categories_are_strangers(peer: &dyn Peer) {
    let store = filled(peer).await;
    peer.sql(
        "INSERT INTO directory (name, readable, ctime) VALUES ('pub/epel/8', true, 5), ('pub/epel/7', true, 5);
         INSERT INTO category_directory (category_id, directory_id) SELECT 2, id FROM directory WHERE name LIKE 'pub/epel/8%'
            OR name = 'pub/epel/9';",
    );
    let known = whole(&store).await;
    let strangers: Vec<(String, i32)> = known.strangers.clone().into_iter().collect();
    assert_eq!(strangers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["pub/epel/7", "pub/epel/8"]);
    assert_eq!(known.directories["pub/epel/9"].categories, 2);
    let part = store.known(EPEL, &below(&["pub/epel/8"])).await.unwrap();
    assert_eq!((part.directories.len(), part.strangers.len()), (0, 1));
    let links = strangers.into_iter().map(|(name, id)| (id, name)).collect();
    let unlinks = vec![(known.directories["pub/epel/9"].id, "pub/epel/9".to_owned())];
    store.write(&known, &Rows { links, unlinks, ..Rows::default() }).await.unwrap();
    let known = whole(&store).await;
    assert_eq!(known.directories["pub/epel/8"].categories, 2);
    assert_eq!(known.strangers.keys().collect::<Vec<_>>(), ["pub/epel/9"], "it left this category, and is there still");
}

pub async fn seventeen_thousand_directories_are_one_write(peer: &dyn Peer) {
    let store = Store::new(peer.place());
    let names: Vec<String> = (0..17_000).map(|n| format!("pub/epel/{}/{n}", n % 7)).collect();
    let rows = Rows {
        new_directories: names.iter().map(|name| directory(name, 3)).collect(),
        new_details: names.iter().map(|name| detail(name, "bb")).collect(),
        ..Rows::default()
    };
    store.write(&whole(&store).await, &rows).await.unwrap();
    let known = whole(&store).await;
    assert_eq!((known.directories.len(), known.details.len()), (17_001, 17_000));
    let changes = names.iter().map(|name| update(&known, name, 4)).collect();
    let gone_details =
        known.details.iter().map(|(id, row)| (*id, format!("{}/{}", row.directory, row.filename))).collect();
    store.write(&known, &Rows { directories: changes, gone_details, ..Rows::default() }).await.unwrap();
    let known = whole(&store).await;
    assert!(known.details.is_empty());
    assert_eq!(known.directories.values().filter(|row| row.time == Some(4)).count(), 17_000);
}

pub async fn a_row_that_moved_takes_everything_back(peer: &dyn Peer) {
    let store = filled(peer).await;
    let known = whole(&store).await;
    let id = |name: &str| (known.directories[name].id, name.to_owned());
    let moved = |rows: Rows| Rows { new_directories: vec![directory("pub/epel/new", 1)], ..rows };
    peer.sql("UPDATE directory SET ctime = 101 WHERE name = 'pub/epel/9'");
    let before = counts(peer);
    let mut other = update(&known, "pub/epel", 200);
    other.was = None;
    let mut renamed = update(&known, "pub/epel/9/x86_64", 200);
    renamed.name = "pub/epel/9/another".into();
    for rows in [
        Rows {
            directories: vec![update(&known, "pub/epel", 200), update(&known, "pub/epel/9", 200)],
            ..Rows::default()
        },
        Rows { directories: vec![other], ..Rows::default() },
        Rows { directories: vec![renamed], ..Rows::default() },
        Rows { gone_directories: vec![(9_999, "pub/epel/x".into())], ..Rows::default() },
        Rows { gone_directories: vec![(id("pub/epel/9/x86_64").0, "pub/epel/x".into())], ..Rows::default() },
        Rows { gone_details: vec![(known.details[0].0, "pub/epel/x/repomd.xml".into())], ..Rows::default() },
        Rows { gone_repositories: vec![(known.repositories[0].id, "pub/epel/x".into())], ..Rows::default() },
        Rows { unlinks: vec![(2, "pub/fedora".into())], ..Rows::default() },
        Rows { links: vec![(2, "pub/another".into())], ..Rows::default() },
        Rows { links: vec![id("pub/epel/9")], ..Rows::default() },
        Rows { new_versions: vec![("9".into(), false)], ..Rows::default() },
        Rows { new_details: vec![detail("pub/epel/x", "cc")], ..Rows::default() },
        Rows { new_repositories: vec![repository("pub/epel/x", None, "9", 1)], ..Rows::default() },
        Rows { new_repositories: vec![repository("pub/epel/9", None, "11", 1)], ..Rows::default() },
        Rows { new_repositories: vec![repository("pub/epel/9", Some("epel-9"), "9", 1)], ..Rows::default() },
        Rows { repositories: vec![(9_999, repository("pub/epel/9", None, "9", 1))], ..Rows::default() },
    ] {
        let failure = store.write(&known, &moved(rows.clone())).await.unwrap_err();
        assert!(is_retry(&failure) && failure.message().contains("changed since the plan"), "{rows:?}: {failure:?}");
        assert_eq!(counts(peer), before, "{rows:?}");
        assert_eq!(peer.column("SELECT ctime FROM directory WHERE name = 'pub/epel'"), ["100"], "{rows:?}");
    }
    let failure = store.files(&[1, 9_999]).await.unwrap_err();
    assert!(is_retry(&failure) && failure.message().contains("9999"), "{failure:?}");
    // After all of these, it works as if nothing had been.
    store.write(&known, &moved(Rows::default())).await.unwrap();
}

pub async fn what_goes_takes_along_what_refers_to_it(peer: &dyn Peer) {
    let store = filled(peer).await;
    let known = whole(&store).await;
    let more = Rows {
        new_directories: vec![directory("pub/epel/8", 1)],
        new_repositories: vec![repository("pub/epel/8", Some("epel-8"), "development", 1)],
        ..Rows::default()
    };
    store.write(&known, &more).await.unwrap();
    peer.sql(
        "INSERT INTO host_category_dir (host_category_id, path, up2date, directory_id)
            SELECT 1, name, true, id FROM directory WHERE name LIKE 'pub/epel/9%';
         INSERT INTO directory_exclusive_host (directory_id, host_id)
            SELECT id, 1 FROM directory WHERE name = 'pub/epel/9/x86_64';
         INSERT INTO file_detail_file_group (file_detail_id, file_group_id) SELECT id, 1 FROM file_detail;
         INSERT INTO propagation_stat (repository_id, datetime, same_day, one_day, two_day, older, no_info)
            SELECT id, '2024-01-01', 1, 1, 1, 1, 1 FROM repository;
         INSERT INTO file_detail (filename, directory_id) SELECT 'lonely', directory_id FROM file_detail;",
    );
    let known = whole(&store).await;
    let gone = known.directories.iter().filter(|(name, _)| name.starts_with("pub/epel/9") || *name == "pub/epel/8");
    let repositories = known.repositories.iter().filter(|row| row.prefix.as_deref() == Some("epel-9"));
    let first = known.details.iter().find(|(_, row)| row.filename == "repomd.xml").unwrap();
    let rows = Rows {
        gone_details: vec![(first.0, format!("{}/{}", first.1.directory, first.1.filename))],
        gone_repositories: repositories.map(|row| (row.id, row.name.clone())).collect(),
        gone_directories: gone.map(|(name, row)| (row.id, name.clone())).collect(),
        ..Rows::default()
    };
    assert_eq!((rows.gone_directories.len(), rows.gone_repositories.len()), (4, 1));
    store.write(&known, &rows).await.unwrap();
    let known = whole(&store).await;
    assert_eq!(names(&known), ["pub/epel"]);
    let [left] = known.repositories.as_slice() else { panic!("{known:?}") };
    assert_eq!((left.name.as_str(), &left.directory), ("pub/epel/8", &None), "it stays, without its directory");
    assert_eq!(&counts(peer)[1..], ["2", "2", "1", "0", "1", "0", "0", "0"]);
}

pub async fn a_directory_that_another_category_took_meanwhile_stays(peer: &dyn Peer) {
    let store = filled(peer).await;
    let known = whole(&store).await;
    peer.sql("INSERT INTO category_directory (category_id, directory_id) SELECT 2, id FROM directory WHERE name = 'pub/epel/9'");
    let before = counts(peer);
    let rows =
        Rows { gone_directories: vec![(known.directories["pub/epel/9"].id, "pub/epel/9".into())], ..Rows::default() };
    let failure = store.write(&known, &rows).await.unwrap_err();
    assert!(is_retry(&failure), "{failure:?}");
    assert_eq!(counts(peer), before);
}

pub async fn repositories_exchange_names_and_prefixes(peer: &dyn Peer) {
    let store = filled(peer).await;
    let more = Rows {
        new_directories: vec![directory("pub/epel/8", 1), directory("pub/epel/7", 1)],
        new_repositories: vec![repository("pub/epel/8", Some("epel-8"), "development", 1)],
        ..Rows::default()
    };
    store.write(&whole(&store).await, &more).await.unwrap();
    let known = whole(&store).await;
    let id = |prefix: &str| known.repositories.iter().find(|row| row.prefix.as_deref() == Some(prefix)).unwrap().id;
    let (nine, eight) = (id("epel-9"), id("epel-8"));
    let rows = Rows {
        repositories: vec![
            (nine, repository("pub/epel/8", Some("epel-8"), "9", 1)),
            (
                eight,
                NewRepository { directory: None, ..repository("pub/epel/9/x86_64", Some("epel-9"), "development", 2) },
            ),
        ],
        ..Rows::default()
    };
    store.write(&known, &rows).await.unwrap();
    let known = whole(&store).await;
    let shown: Vec<_> =
        known.repositories.iter().map(|row| (row.id, row.name.as_str(), row.directory.as_deref())).collect();
    assert_eq!(shown, [(nine, "pub/epel/8", Some("pub/epel/8")), (eight, "pub/epel/9/x86_64", None)]);
    // What one lets go, a new one has in the same write.
    let rows = Rows {
        gone_repositories: vec![(nine, "pub/epel/8".into())],
        new_repositories: vec![NewRepository {
            prefix: Some("epel-8".into()),
            ..repository("pub/epel/8", None, "9", 1)
        }],
        ..Rows::default()
    };
    store.write(&known, &rows).await.unwrap();
    assert_eq!(peer.column("SELECT name FROM repository ORDER BY prefix"), ["pub/epel/8", "pub/epel/9/x86_64"]);
}

pub async fn of_two_writers_with_the_same_plan_one_is_late(peer: &dyn Peer) {
    let store = filled(peer).await;
    let other = Store::new(peer.place());
    let known = whole(&store).await;
    let rows = Rows { directories: vec![update(&known, "pub/epel/9", 500)], ..Rows::default() };
    let (one, two) = tokio::join!(store.write(&known, &rows), other.write(&known, &rows));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    let late = one.and(two).unwrap_err();
    assert!(is_retry(&late) && late.message().contains("of 1 directories, 0 are as the plan found them"), "{late:?}");
}

pub async fn old_rows_are_read_as_they_are(peer: &dyn Peer) {
    let store = filled(peer).await;
    peer.sql(
        "UPDATE directory SET ctime = NULL, files = NULL WHERE name = 'pub/epel/9';
         UPDATE file_detail SET md5 = '', sha1 = '', size = NULL, \"timestamp\" = NULL;",
    );
    let known = whole(&store).await;
    assert_eq!(known.directories["pub/epel/9"].time, None);
    let (_, row) = &known.details[0];
    assert_eq!((&row.sums.md5, &row.sums.sha1, row.size, row.timestamp), (&None, &None, None, None));
    let rows = Rows { directories: vec![update(&known, "pub/epel/9", 7)], ..Rows::default() };
    store.write(&known, &rows).await.unwrap();
    assert_eq!(
        whole(&store).await.directories["pub/epel/9"].time,
        Some(7),
        "NULL is something that a row can have been"
    );
}

pub async fn what_a_person_must_mend_is_said(peer: &dyn Peer) {
    let store = filled(peer).await;
    let known = whole(&store).await;
    let asked = |name: &'static str| {
        let store = &store;
        async move {
            let failure = store.known(name, &Part::Whole).await.unwrap_err();
            assert!(!is_retry(&failure), "{failure:?}");
            format!("{} / {}", failure.message(), failure.hint().unwrap_or_default())
        }
    };
    let said = asked("Fedora EPLE").await;
    assert!(said.contains("no category `Fedora EPLE`") && said.contains("did you mean `Fedora EPEL`? "), "{said}");
    assert!(said.contains("Fedora EPEL, Fedora Linux"), "{said}");
    assert!(asked("x' OR 'a'='a").await.contains("no category"));
    peer.sql("UPDATE category SET topdir_id = NULL WHERE id = 1");
    assert!(asked(EPEL).await.contains("no top directory"));
    peer.sql("UPDATE category SET product_id = NULL WHERE id = 1");
    assert!(asked(EPEL).await.contains("has no product"));
    let gone =
        store.write(&known, &Rows { new_versions: vec![("11".into(), false)], ..Rows::default() }).await.unwrap_err();
    assert!(is_retry(&gone) && gone.message().contains("of another product"), "{gone:?}");
    peer.sql("UPDATE category SET product_id = 1, topdir_id = 1 WHERE id = 1; ALTER TABLE directory RENAME COLUMN ctime TO changed");
    let said = asked(EPEL).await;
    assert!(said.contains("ctime") && said.contains("is this MirrorManager2's database?"), "{said}");
    peer.sql("ALTER TABLE repository RENAME TO warehouse; ALTER TABLE directory RENAME COLUMN changed TO ctime");
    let said = asked(EPEL).await;
    assert!(said.contains("repository") && said.contains("is this MirrorManager2's database?"), "{said}");
}

/// Calls `$each!(sentence)` for every one of them.
macro_rules! sentences {
    ($each:ident) => {
        $each!(what_was_written_is_known);
        $each!(a_part_is_what_its_names_say);
        $each!(directories_of_other_categories_are_strangers);
        $each!(seventeen_thousand_directories_are_one_write);
        $each!(a_row_that_moved_takes_everything_back);
        $each!(what_goes_takes_along_what_refers_to_it);
        $each!(a_directory_that_another_category_took_meanwhile_stays);
        $each!(repositories_exchange_names_and_prefixes);
        $each!(of_two_writers_with_the_same_plan_one_is_late);
        $each!(old_rows_are_read_as_they_are);
        $each!(what_a_person_must_mend_is_said);
    };
}
pub(crate) use sentences;
