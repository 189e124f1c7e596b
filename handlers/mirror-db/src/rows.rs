//! The words that the parts of this crate share: what is on the mirror, what the database has, what must be written. Pure.
//!
//! A directory is named as the database names it: `pub/epel/9/Everything/x86_64`, no slash at either end.

use std::collections::{BTreeMap, BTreeSet};

/// A file in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name, without the directory.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// When it last changed, in seconds since 1970: the later of mtime and ctime, as the master's file list has it.
    pub time: i64,
}

/// What is known of a directory's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// The directory's time is the one in the database: they were not looked at.
    Unchanged,
    /// All of them, in no order.
    All(Vec<File>),
}

/// A directory on the mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The later of mtime and ctime, in seconds since 1970. 0 for the top directory of a file list, which has no line.
    pub time: i64,
    /// Whether everybody may read it: it, and every directory above it up to the category's top.
    pub readable: bool,
    /// Its files.
    pub files: Files,
    /// Whether it has a directory `repodata`.
    pub has_repodata: bool,
    /// Whether it has a file `summary` and a directory `objects` (an ostree repository).
    pub is_ostree: bool,
    /// Those of its files whose content says something, by name: `repomd.xml`, `summary`, checksum files
    /// ([`crate::details::is_read`]). Also of a directory that is unchanged.
    pub read: Vec<String>,
}

/// What is on the mirror, whole, for the parts that were asked about.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// By name; the category's top directory is in it when it was asked about.
    pub directories: BTreeMap<String, Found>,
    /// The checksums that the file list has of some files, by their whole name.
    pub sums: BTreeMap<String, Sums>,
    /// What a person should know: names that can't be written, lines that were passed over. A sentence each.
    pub notes: Vec<String>,
}

/// Checksums, in lower-case hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sums {
    /// 32 characters.
    pub md5: Option<String>,
    /// 40 characters.
    pub sha1: Option<String>,
    /// 64 characters.
    pub sha256: Option<String>,
    /// 128 characters.
    pub sha512: Option<String>,
}

/// One version of a file that metalinks are made of (a row of `file_detail`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Detail {
    /// The directory's name.
    pub directory: String,
    /// The file's name.
    pub filename: String,
    /// For repomd.xml the largest timestamp in it, else the file's time; seconds since 1970.
    pub timestamp: Option<i64>,
    /// In bytes.
    pub size: Option<i64>,
    /// Of the content.
    pub sums: Sums,
}

/// The part of a category that is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// These directories and all below them. None is below another; the top directory itself is [`Part::Whole`].
    Below(BTreeSet<String>),
}

impl Part {
    /// Whether a directory of that name is in it.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Whole => true,
            Self::Below(tops) => tops.iter().any(|top| {
                name.strip_prefix(top.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }),
        }
    }
}

/// What the database has, for one part of one category.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The category.
    pub category: Category,
    /// The directories of the category in that part, by name.
    pub directories: BTreeMap<String, KnownDirectory>,
    /// Directories that stand in the table in that part, but not in this category: name → id.
    pub strangers: BTreeMap<String, i32>,
    /// The versions of the category's product, in the order of their ids: id, name.
    pub versions: Vec<(i32, String)>,
    /// All arches, in the order of their names: id, name.
    pub arches: Vec<(i32, String)>,
    /// All repositories, of every category: prefix and arch must be unique among them.
    pub repositories: Vec<KnownRepository>,
    /// The file details of the directories in `directories`: id and row.
    pub details: Vec<(i32, Detail)>,
}

/// A row of `category`, with what it refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Category {
    /// Its id.
    pub id: i32,
    /// Its name: `Fedora EPEL`.
    pub name: String,
    /// The product's id.
    pub product_id: i32,
    /// The product's name: `EPEL`.
    pub product: String,
    /// The name of its top directory: `pub/epel`.
    pub top: String,
}

/// A row of `directory`, without its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownDirectory {
    /// Its id.
    pub id: i32,
    /// `ctime`, in seconds since 1970; NULL in rows that something else wrote.
    pub time: Option<i64>,
    /// `readable`.
    pub readable: bool,
    /// In how many categories it is, this one counted.
    pub categories: u32,
}

/// A row of `repository`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRepository {
    /// Its id.
    pub id: i32,
    /// Its name: that of its directory when it was made.
    pub name: String,
    /// What yum asks for: `epel-9`.
    pub prefix: Option<String>,
    /// The category's id.
    pub category_id: Option<i32>,
    /// The version's id.
    pub version_id: Option<i32>,
    /// The arch's id.
    pub arch_id: Option<i32>,
    /// The directory's name; absent if that was deleted.
    pub directory: Option<String>,
}

/// What must be written for one category, in this order, in one transaction. Empty = nothing to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Versions of the category's product that are new: name, whether it is a test.
    pub new_versions: Vec<(String, bool)>,
    /// New rows of `directory`; each is linked to the category too.
    pub new_directories: Vec<NewDirectory>,
    /// Directories that are in the table already and are linked to the category: id, name.
    pub links: Vec<(i32, String)>,
    /// Rows of `directory` that change.
    pub directories: Vec<DirectoryChange>,
    /// New rows of `repository`.
    pub new_repositories: Vec<NewRepository>,
    /// Rows of `repository` that get another directory, name or prefix: id and the new row.
    pub repositories: Vec<(i32, NewRepository)>,
    /// New rows of `file_detail`.
    pub new_details: Vec<Detail>,
    /// Rows of `file_detail` that go: id, `directory/filename`.
    pub gone_details: Vec<(i32, String)>,
    /// Rows of `repository` that go, with their statistics: id, name.
    pub gone_repositories: Vec<(i32, String)>,
    /// Rows of `directory` that go, with everything that refers to them: id, name.
    pub gone_directories: Vec<(i32, String)>,
    /// Directories that leave this category only, because others have them too: id, name.
    pub unlinks: Vec<(i32, String)>,
    /// What a person should know that is no row: a sentence each. Not written.
    pub notes: Vec<String>,
}

impl Rows {
    /// Whether nothing is to be written; notes are none of that.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.new_versions.is_empty()
            && self.new_directories.is_empty()
            && self.links.is_empty()
            && self.directories.is_empty()
            && self.new_repositories.is_empty()
            && self.repositories.is_empty()
            && self.new_details.is_empty()
            && self.gone_details.is_empty()
            && self.gone_repositories.is_empty()
            && self.gone_directories.is_empty()
            && self.unlinks.is_empty()
    }
}

/// A row of `directory` to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDirectory {
    /// `name`.
    pub name: String,
    /// `ctime`.
    pub time: i64,
    /// `readable`.
    pub readable: bool,
    /// `files`: the JSON of [`crate::plan::files_json`]; NULL for none.
    pub files: Option<String>,
}

/// A row of `directory` that changes. It is written only if `ctime` is still what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryChange {
    /// `id`.
    pub id: i32,
    /// `name`, for people.
    pub name: String,
    /// `ctime` as the plan found it.
    pub was: Option<i64>,
    /// `ctime` to be.
    pub time: i64,
    /// `readable` to be.
    pub readable: bool,
    /// `files` to be; `None` = they stay.
    pub files: Option<Option<String>>,
}

/// A row of `repository` to be; its category is the one that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRepository {
    /// `name` = the directory's.
    pub name: String,
    /// `prefix`; NULL where none of the site's prefixes fits.
    pub prefix: Option<String>,
    /// The version's name; it is in the table or in [`Rows::new_versions`].
    pub version: String,
    /// `arch_id`.
    pub arch_id: i32,
    /// The directory's name; it is in the table or in [`Rows::new_directories`]. `None` = it is gone.
    pub directory: Option<String>,
}
