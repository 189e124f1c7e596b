//! A database in memory for the tests of the plan: what [`super::rows`] says is written into it.

use std::collections::{BTreeMap, BTreeSet};

use regex::RegexSet;

use super::{PrefixRule, Reading, changed, leave_out, rows};
use crate::rows::{
    Category, Detail, File, Files, Found, Known, KnownDirectory, KnownRepository, NewRepository, Part, Rows, Sums, Tree,
};

pub(super) const TOP: &str = "pub/epel";
/// 2023-11-15.
pub(super) const NOW: i64 = 1_700_006_400;

/// A row of `directory`, and whether it is in our category.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) row: KnownDirectory,
    pub(super) files: Option<Vec<u8>>,
    pub(super) ours: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Db {
    pub(super) known: Known,
    pub(super) directories: BTreeMap<String, Row>,
    /// name → is_test
    pub(super) tests: BTreeMap<String, bool>,
    next: i32,
}

/// The golden seed: the top directory, six arches, the version `development`.
pub(super) fn seed() -> Db {
    let arches = [(5, "aarch64"), (2, "i386"), (4, "ppc64le"), (6, "s390x"), (1, "source"), (3, "x86_64")];
    let known = Known {
        category: Category {
            id: 1,
            name: "Fedora EPEL".into(),
            product_id: 1,
            product: "EPEL".into(),
            top: TOP.into(),
        },
        versions: vec![(1, "development".into())],
        arches: arches.map(|(id, name)| (id, name.to_owned())).to_vec(),
        ..Known::default()
    };
    let top = Row {
        row: KnownDirectory { id: 1, time: Some(0), readable: true, categories: 1 },
        files: Some(b"[]".to_vec()),
        ours: true,
    };
    let tests = BTreeMap::from([("development".to_owned(), false)]);
    Db { known, directories: BTreeMap::from([(TOP.to_owned(), top)]), tests, next: 100 }
}

impl Db {
    fn id(&mut self) -> i32 {
        self.next += 1;
        self.next
    }

    /// What the store says of a part.
    pub(super) fn known(&self, part: &Part) -> Known {
        let mut known = self.known.clone();
        for (name, row) in self.directories.iter().filter(|(name, _)| part.has(name)) {
            if row.ours {
                known.directories.insert(name.clone(), row.row.clone());
            } else {
                known.strangers.insert(name.clone(), row.row.id);
            }
        }
        known.details.retain(|(_, detail)| known.directories.contains_key(&detail.directory));
        known
    }

    /// The tree as a walk says it that was told what the database has.
    pub(super) fn seen(&self, part: &Part, all: &BTreeMap<String, Found>) -> Tree {
        let mut directories: BTreeMap<String, Found> =
            all.iter().filter(|(name, _)| part.has(name)).map(|(name, found)| (name.clone(), found.clone())).collect();
        for (name, found) in &mut directories {
            let stands = self.directories.get(name).filter(|row| row.ours);
            if stands.is_some_and(|stands| stands.row.time == Some(found.time)) {
                found.files = Files::Unchanged;
            }
        }
        Tree { directories, ..Tree::default() }
    }

    /// One request, planned.
    pub(super) fn plan(&self, part: &Part, all: &BTreeMap<String, Found>, details: &[Detail], now: i64) -> Rows {
        self.plan_with(part, all, details, now, &reading()).unwrap()
    }

    pub(super) fn plan_with(
        &self,
        part: &Part,
        all: &BTreeMap<String, Found>,
        details: &[Detail],
        now: i64,
        reading: &Reading,
    ) -> Result<Rows, handler_api::Failure> {
        let mut known = self.known(part);
        let tree = self.seen(part, all);
        leave_out(&mut known, &tree, &RegexSet::new([r"^(?:.*\.snapshot)"]).unwrap());
        let ids = changed(&known, &tree);
        let files = self.directories.values().filter(|row| ids.contains(&row.row.id));
        let files = files.map(|row| (row.row.id, row.files.clone())).collect();
        let details: Vec<Detail> = details.iter().filter(|one| part.has(&one.directory)).cloned().collect();
        rows(&known, part, &tree, &details, &files, reading, now)
    }

    /// Planned, written, and planned again: nothing is left to do.
    pub(super) fn converge(
        &mut self,
        part: &Part,
        all: &BTreeMap<String, Found>,
        details: &[Detail],
        now: i64,
    ) -> Rows {
        let rows = self.plan(part, all, details, now);
        self.write(&rows);
        let again = self.plan(part, all, details, now);
        assert!(again.is_empty(), "{again:#?}");
        rows
    }

    pub(super) fn write(&mut self, rows: &Rows) {
        for (name, test) in &rows.new_versions {
            let id = self.id();
            self.known.versions.push((id, name.clone()));
            assert_eq!(self.tests.insert(name.clone(), *test), None, "version {name} twice");
        }
        for new in &rows.new_directories {
            let row = KnownDirectory { id: self.id(), time: Some(new.time), readable: new.readable, categories: 1 };
            let row = Row { row, files: new.files.clone().map(String::into_bytes), ours: true };
            assert!(self.directories.insert(new.name.clone(), row).is_none(), "{} twice", new.name);
        }
        for (id, name) in &rows.links {
            let row = self.directories.get_mut(name).unwrap();
            assert_eq!((row.row.id, row.ours), (*id, false));
            row.ours = true;
            row.row.categories += 1;
        }
        for change in &rows.directories {
            let row = self.directories.get_mut(&change.name).unwrap();
            assert_eq!((row.row.id, row.row.time), (change.id, change.was));
            (row.row.time, row.row.readable) = (Some(change.time), change.readable);
            if let Some(files) = &change.files {
                row.files = files.clone().map(String::into_bytes);
            }
        }
        for new in &rows.new_repositories {
            let id = self.id();
            let row = self.repository(id, new);
            self.known.repositories.push(row);
        }
        for (id, new) in &rows.repositories {
            let row = self.repository(*id, new);
            *self.known.repositories.iter_mut().find(|row| row.id == *id).unwrap() = row;
        }
        for detail in &rows.new_details {
            let id = self.id();
            assert!(self.directories.contains_key(&detail.directory));
            self.known.details.push((id, detail.clone()));
        }
        self.remove(rows);
        self.check();
    }

    fn remove(&mut self, rows: &Rows) {
        let ids = |gone: &[(i32, String)]| gone.iter().map(|(id, _)| *id).collect::<BTreeSet<i32>>();
        let (details, repositories) = (ids(&rows.gone_details), ids(&rows.gone_repositories));
        self.known.details.retain(|(id, _)| !details.contains(id));
        self.known.repositories.retain(|row| !repositories.contains(&row.id));
        for (id, name) in &rows.gone_directories {
            assert_eq!(self.directories.remove(name).unwrap().row.id, *id);
            self.known.details.retain(|(_, detail)| detail.directory != *name);
            let left = self.known.repositories.iter().find(|row| row.directory.as_ref() == Some(name));
            assert!(left.is_none(), "{left:?} would be left without its directory");
        }
        for (_, name) in &rows.unlinks {
            let row = self.directories.get_mut(name).unwrap();
            row.ours = false;
            row.row.categories -= 1;
        }
    }

    fn repository(&self, id: i32, new: &NewRepository) -> KnownRepository {
        let version = self.known.versions.iter().find(|(_, name)| *name == new.version).unwrap();
        assert!(new.directory.as_ref().is_none_or(|name| self.directories.contains_key(name)));
        KnownRepository {
            id,
            name: new.name.clone(),
            prefix: new.prefix.clone(),
            category_id: Some(1),
            version_id: Some(version.0),
            arch_id: Some(new.arch_id),
            directory: new.directory.clone(),
        }
    }

    /// The unique keys of the schema.
    fn check(&self) {
        let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for row in &self.known.repositories {
            assert!(names.insert(&row.name), "repository {} twice", row.name);
            let key = row.prefix.as_ref().zip(row.arch_id);
            assert!(key.is_none_or(|key| keys.insert(key)), "repository {key:?} twice");
        }
    }

    /// Without ids, as the golden dumps have it.
    pub(super) fn dump(&self) -> Vec<String> {
        let mut out = Vec::new();
        let text = |text: Option<&str>| text.unwrap_or("\\N").to_owned();
        let flag = |flag: bool| if flag { "t" } else { "f" };
        for (name, Row { row, files, ours }) in &self.directories {
            let files = text(files.as_ref().map(|files| std::str::from_utf8(files).unwrap()));
            let time = row.time.map_or("\\N".to_owned(), |time| time.to_string());
            out.push(format!("directory\t{name}\t{}\t{time}\t{files}", flag(row.readable)));
            out.extend(ours.then(|| format!("category_directory\tFedora EPEL\t{name}")));
        }
        for (_, name) in &self.known.versions {
            out.push(format!("version\t{name}\t\\N\t{}\tt\t\\N\tt\t0\tEPEL", flag(self.tests[name])));
        }
        let named = |list: &[(i32, String)], id: Option<i32>| {
            text(list.iter().find(|(one, _)| Some(*one) == id).map(|(_, name)| name.as_str()))
        };
        for row in &self.known.repositories {
            let (version, arch) = (named(&self.known.versions, row.version_id), named(&self.known.arches, row.arch_id));
            let (prefix, directory) = (text(row.prefix.as_deref()), text(row.directory.as_deref()));
            out.push(format!("repository\t{}\t{prefix}\tFedora EPEL\t{version}\t{arch}\t{directory}\tf", row.name));
        }
        out.extend(self.known.details.iter().map(|(_, detail)| detail_line(detail)));
        out.sort();
        out
    }
}

pub(super) fn detail_line(detail: &Detail) -> String {
    let number = |number: Option<i64>| number.map_or("\\N".to_owned(), |number| number.to_string());
    let sums = [&detail.sums.md5, &detail.sums.sha1, &detail.sums.sha256, &detail.sums.sha512];
    let sums = sums.map(|sum| sum.clone().unwrap_or_else(|| "\\N".to_owned())).join("\t");
    let (directory, filename) = (&detail.directory, &detail.filename);
    format!("file_detail\t{directory}\t{filename}\t{}\t{}\t{sums}", number(detail.timestamp), number(detail.size))
}

pub(super) fn found(time: i64, files: &[(&str, i64)]) -> Found {
    let files = files.iter().map(|(name, time)| File { name: (*name).to_owned(), size: 7, time: *time }).collect();
    Found { time, readable: true, files: Files::All(files), has_repodata: false, is_ostree: false, read: Vec::new() }
}

/// Directories at one time, without files; a trailing `+` makes a repository.
pub(super) fn tree(names: &[&str]) -> BTreeMap<String, Found> {
    let mut all = BTreeMap::from([(TOP.to_owned(), found(10, &[]))]);
    for name in names {
        let (name, repository) = name.strip_suffix('+').map_or((*name, false), |name| (name, true));
        let one = Found { has_repodata: repository, ..found(10, &[]) };
        all.insert(format!("{TOP}/{name}"), one);
    }
    all
}

pub(super) fn detail(directory: &str, timestamp: i64, sha256: &str) -> Detail {
    Detail {
        directory: format!("{TOP}/{directory}"),
        filename: "repomd.xml".into(),
        timestamp: Some(timestamp),
        size: Some(9),
        sums: Sums { sha256: Some(sha256.into()), ..Sums::default() },
    }
}

pub(super) fn reading() -> Reading {
    let rule = |path, prefix| PrefixRule::new(path, prefix).unwrap();
    Reading {
        prefixes: vec![
            rule("^pub/epel/testing/", Some("testing-{kind}epel{version}")),
            rule("^pub/epel/nameless/", None),
            rule("^pub/epel/", Some("epel-{kind}{version}")),
        ],
        no_repositories: vec!["Cloud".into()],
        no_versions: vec!["pub/epel/alt".into()],
        keep_days: 4,
    }
}

/// The example's prefixes, one in a line: enough of YAML for that file.
pub(super) fn example_prefixes() -> Vec<PrefixRule> {
    let text = include_str!("../../example/prefixes-fedora.yaml");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let rest = line.strip_prefix("- { path: '").and_then(|rest| rest.strip_suffix(" }"));
            let (path, prefix) = rest.and_then(|rest| rest.split_once("', prefix: ")).expect(line);
            PrefixRule::new(path, (prefix != "null").then(|| prefix.trim_matches('\''))).unwrap()
        })
        .collect()
}
