//! The copy of the admin repository: bare, shallow, in a directory that only this process uses. Reading files and making
//! commits with libgit2; what a commit costs grows with its edits, since only the directories on their paths are written.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use git2::{ObjectType, Oid, Repository, RepositoryInitOptions, Signature, Tree, TreeWalkMode, TreeWalkResult};
use handler_api::Failure;
use tempfile::TempDir;

use super::Snapshot;
use crate::files::{Branch, Edits};

/// Largest file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The mode of a file in a tree.
const FILE_MODE: i32 = 0o100_644;
/// The mode of a directory in a tree.
const DIR_MODE: i32 = 0o040_000;

/// The copy. Removed when nobody holds it any more.
pub(super) struct Copy {
    repo: Mutex<Repository>,
    /// Something could not be read or written in it: it is made anew.
    broken: AtomicBool,
    dir: TempDir,
}

impl fmt::Debug for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Copy({})", self.dir.path().display())
    }
}

/// What is wrong with our own copy is nobody's fault but this machine's.
fn failed(what: &str, error: &dyn fmt::Display) -> Failure {
    let dir = std::env::temp_dir();
    // Nobody makes it again: this process may write nowhere else.
    let hint = if dir.is_dir() {
        format!("is there room? df -h {}", dir.display())
    } else {
        format!("somebody removed {}: start reactor again (systemctl restart reactor)", dir.display())
    };
    Failure::retry(format!("the copy of the admin repository: {what}: {error}")).hinting(hint)
}

impl Copy {
    /// An empty one, in the handler's own directory (`TMPDIR`).
    pub fn new() -> Result<Self, Failure> {
        let mode = fs::Permissions::from_mode(0o700);
        let dir = tempfile::Builder::new().prefix("gitolite-").permissions(mode).tempdir_in(std::env::temp_dir());
        let dir = dir.map_err(|error| failed("no directory for it", &error))?;
        let mut how = RepositoryInitOptions::new();
        how.bare(true).external_template(false).initial_head("none");
        let repo = Repository::init_opts(dir.path().join("git"), &how);
        let repo = repo.map_err(|error| failed("it can't be made", &error))?;
        let set = || -> Result<(), git2::Error> {
            let mut config = repo.config()?;
            config.set_i32("gc.auto", 0)?;
            config.set_bool("maintenance.auto", false)?;
            // It is made anew after a crash.
            config.set_str("core.fsync", "none")
        };
        set().map_err(|error| failed("its configuration", &error))?;
        Ok(Self { repo: Mutex::new(repo), broken: AtomicBool::new(false), dir })
    }

    /// Our directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What `GIT_DIR` must be.
    pub fn git_dir(&self) -> PathBuf {
        self.dir.path().join("git")
    }

    /// Whether git can work in it: nobody took it away, and no fetch was killed in it.
    pub fn is_whole(&self) -> bool {
        let dir = self.git_dir();
        !self.broken.load(Ordering::SeqCst)
            && dir.join("HEAD").exists()
            && !["shallow.lock", "packed-refs.lock"].iter().any(|lock| dir.join(lock).exists())
    }

    fn with<T>(&self, what: &str, work: impl FnOnce(&Repository) -> Result<T, git2::Error>) -> Result<T, Failure> {
        let repo = self.repo.lock().unwrap_or_else(PoisonError::into_inner);
        work(&repo).map_err(|error| {
            // Without a class it is what we say ourselves of what stands in the admin repository.
            if error.class() != git2::ErrorClass::None {
                self.broken.store(true, Ordering::SeqCst);
            }
            failed(what, &error)
        })
    }

    /// What a ref of ours points to.
    pub fn tip(&self, name: &str) -> Result<Option<Oid>, Failure> {
        self.with(name, |repo| none_if_missing(repo.refname_to_id(name)))
    }

    /// So that the next fetch says that we have it.
    pub fn keep(&self, name: &str, commit: Oid) -> Result<(), Failure> {
        self.with(name, |repo| repo.reference(name, commit, true, "pushed").map(drop))
    }

    /// A file in a commit.
    pub fn read(&self, commit: Oid, path: &str) -> Result<Option<Vec<u8>>, Failure> {
        let read = |repo: &Repository| {
            let tree = repo.find_commit(commit)?.tree()?;
            let Some(entry) = none_if_missing(tree.get_path(Path::new(path)))? else { return Ok(None) };
            if entry.kind() != Some(ObjectType::Blob) || entry.filemode() == 0o120_000 {
                return Err(git2::Error::from_str("is no plain file"));
            }
            let blob = repo.find_blob(entry.id())?;
            if blob.size() > FILE_BYTES_MAX {
                return Err(git2::Error::from_str(&format!("has more than {FILE_BYTES_MAX} bytes")));
            }
            Ok(Some(blob.content().to_vec()))
        };
        self.with(path, read)
    }

    /// All files below a directory of a commit, sorted; `""` = all of it.
    pub fn below(&self, commit: Oid, dir: &str) -> Result<Vec<String>, Failure> {
        let list = |repo: &Repository| {
            let root = repo.find_commit(commit)?.tree()?;
            let Some(tree) = subtree(repo, &root, dir)? else { return Ok(Vec::new()) };
            let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
            let mut paths = Vec::new();
            tree.walk(TreeWalkMode::PreOrder, |parent, entry| {
                if entry.kind() == Some(ObjectType::Blob) {
                    paths.push(format!("{prefix}{parent}{}", String::from_utf8_lossy(entry.name_bytes())));
                }
                TreeWalkResult::Ok
            })?;
            paths.sort_unstable();
            Ok(paths)
        };
        self.with(dir, list)
    }

    /// The message of a commit.
    pub fn message(&self, commit: Oid) -> Result<String, Failure> {
        let name = commit.to_string();
        self.with(&name, |repo| Ok(String::from_utf8_lossy(repo.find_commit(commit)?.message_raw_bytes()).into_owned()))
    }

    /// The files below `dirs` that are not the same in both commits.
    pub fn differing(&self, a: Oid, b: Oid, dirs: &[&str]) -> Result<BTreeSet<String>, Failure> {
        self.with("comparing", |repo| {
            let mut found = BTreeSet::new();
            for dir in dirs {
                let of = |commit| subtree(repo, &repo.find_commit(commit)?.tree()?, dir);
                let diff = repo.diff_tree_to_tree(of(a)?.as_ref(), of(b)?.as_ref(), None)?;
                for file in diff.deltas().flat_map(|delta| [delta.old_file(), delta.new_file()]) {
                    found.extend(file.path().and_then(Path::to_str).map(|path| format!("{dir}/{path}")));
                }
            }
            Ok(found)
        })
    }

    /// Commits edits of one branch on top of `parent`; `None` = they change nothing, and it need not be done `always`.
    pub fn commit(
        &self,
        parent: Option<Oid>,
        edits: &Edits,
        branch: Branch,
        always: bool,
        text: (&str, &(String, String)),
    ) -> Result<Option<Oid>, Failure> {
        let edits: Vec<(&str, Option<&[u8]>)> = edits
            .iter()
            .filter(|((of, _), _)| *of == branch)
            .map(|((_, path), bytes)| (path.as_str(), bytes.as_deref()))
            .collect();
        self.with("a commit", |repo| {
            let mut blobs = Vec::with_capacity(edits.len());
            for (path, bytes) in edits {
                blobs.push((path, bytes.map(|bytes| repo.blob(bytes)).transpose()?));
            }
            let parent = parent.map(|id| repo.find_commit(id)).transpose()?;
            let old = parent.as_ref().map(git2::Commit::tree).transpose()?;
            let tree = match rewrite(repo, old.as_ref(), &blobs)? {
                Some(tree) => tree,
                None if parent.is_none() => return Ok(None),
                None => repo.treebuilder(None)?.write()?,
            };
            if !always && old.as_ref().is_some_and(|old| old.id() == tree) {
                return Ok(None);
            }
            let (message, (name, email)) = text;
            let who = Signature::now(name, email)?;
            let parents: Vec<_> = parent.iter().collect();
            repo.commit(None, &who, &who, message, &repo.find_tree(tree)?, &parents).map(Some)
        })
    }
}

fn none_if_missing<T>(found: Result<T, git2::Error>) -> Result<Option<T>, git2::Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn subtree<'a>(repo: &'a Repository, root: &Tree<'a>, dir: &str) -> Result<Option<Tree<'a>>, git2::Error> {
    if dir.is_empty() {
        return Ok(Some(root.clone()));
    }
    match none_if_missing(root.get_path(Path::new(dir)))? {
        None => Ok(None),
        Some(entry) if entry.kind() == Some(ObjectType::Tree) => repo.find_tree(entry.id()).map(Some),
        Some(_) => Err(git2::Error::from_str("is no directory")),
    }
}

/// A tree with these files put in or (`None`) taken out; `edits` is sorted by path. `None` = nothing is left in it.
fn rewrite(
    repo: &Repository,
    old: Option<&Tree<'_>>,
    edits: &[(&str, Option<Oid>)],
) -> Result<Option<Oid>, git2::Error> {
    let mut new = repo.treebuilder(old)?;
    let mut rest = edits;
    while let [(path, blob), ..] = rest {
        let Some((dir, _)) = path.split_once('/') else {
            match blob {
                Some(blob) => drop(new.insert(path, *blob, FILE_MODE)?),
                None if new.get(path)?.is_some() => new.remove(path)?,
                None => {}
            }
            rest = &rest[1..];
            continue;
        };
        // Sorted: all that is below one directory stands together.
        let inside = |(path, _): &(&str, Option<Oid>)| path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
        let count = rest.iter().take_while(|edit| inside(edit)).count();
        let below: Vec<_> = rest[..count].iter().map(|(path, blob)| (&path[dir.len() + 1..], *blob)).collect();
        let was = match new.get(dir)? {
            Some(entry) if entry.kind() == Some(ObjectType::Tree) => Some(repo.find_tree(entry.id())?),
            _ => None,
        };
        match rewrite(repo, was.as_ref(), &below)? {
            Some(tree) => drop(new.insert(dir, tree, DIR_MODE)?),
            // What is no directory is not ours to take out.
            None if was.is_some() => new.remove(dir)?,
            None => {}
        }
        rest = &rest[count..];
    }
    if new.is_empty() { Ok(None) } else { new.write().map(Some) }
}

impl Snapshot {
    /// The commit at a branch's tip.
    pub(super) fn tip(&self, branch: Branch) -> Option<Oid> {
        match branch {
            Branch::Master => Some(self.master),
            Branch::Members => self.members,
        }
    }

    /// The same with one more commit.
    pub(super) fn set(&mut self, branch: Branch, commit: Oid) {
        match branch {
            Branch::Master => self.master = commit,
            Branch::Members => self.members = Some(commit),
        }
    }
}
