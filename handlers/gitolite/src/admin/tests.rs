//! Against local bare repositories, with hooks that do what gitolite's do: say FATAL after the branch has moved, take their
//! time, count.

mod copies;
mod lanes;
mod refusals;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::{Repository, RepositoryInitOptions, Signature};
use tempfile::TempDir;

use super::*;

/// How long a test waits for what must come, in hundredths of a second.
const PATIENCE: usize = 3_000;

/// A remote with a `master`.
pub(crate) struct Site {
    dir: TempDir,
}

/// Counts pushes, can hold them up (`hold` until `go`), and speaks like gitolite.
const PRE_RECEIVE: &str = r#"#!/bin/sh
refs=$(cat)
case $refs in *refs/heads/*) echo push >> pushes;; esac
case $refs in *refs/heads/*) if mkdir held 2>/dev/null && [ -e hold ]; then i=0
  while [ ! -e go ] && [ $i -lt 1500 ]; do i=$((i+1)); sleep 0.02; done; fi; rmdir held 2>/dev/null;; esac
exit 0
"#;
const POST_UPDATE: &str = r#"#!/bin/sh
case " $* " in *" refs/heads/master "*) ;; *) exit 0;; esac
echo compile >> compiles
if [ -e slow ]; then touch compiling; i=0
  while [ ! -e go ] && [ $i -lt 1500 ]; do i=$((i+1)); sleep 0.02; done; fi
if git grep -q LUCK master -- conf; then echo "FATAL: out of luck" >&2; fi
if git grep -q BAD/x master -- conf; then echo "FATAL: bad username 'BAD/x'" >&2; fi
if git grep -qE 'QQ ?= ?x' master -- conf; then echo "WARNING: syntax error, ignoring: 'QQ = x'" >&2; fi
exit 0
"#;

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        let mut how = RepositoryInitOptions::new();
        let repo = Repository::init_opts(site.path(), how.bare(true).external_template(false)).unwrap();
        drop(repo);
        fs::create_dir_all(site.path().join("hooks")).unwrap();
        for (name, text) in [("pre-receive", PRE_RECEIVE), ("post-update", POST_UPDATE)] {
            let file = site.path().join("hooks").join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        site.by_hand("conf/gitolite.conf", "repo gitolite-admin\n    RW+ = admin\n", "by hand");
        site
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("admin.git")
    }

    fn repo(&self) -> Repository {
        Repository::open(self.path()).unwrap()
    }

    /// Somebody else's commit on `master`.
    pub(crate) fn by_hand(&self, path: &str, text: &str, message: &str) -> Oid {
        let repo = self.repo();
        let parent = repo.find_reference("refs/heads/master").ok().map(|tip| tip.peel_to_commit().unwrap());
        let blob = repo.blob(text.as_bytes()).unwrap();
        let old = match &parent {
            Some(parent) => parent.tree().unwrap(),
            None => repo.find_tree(repo.treebuilder(None).unwrap().write().unwrap()).unwrap(),
        };
        let mut update = git2::build::TreeUpdateBuilder::new();
        let tree = update.upsert(path, blob, git2::FileMode::Blob).create_updated(&repo, &old).unwrap();
        let who = Signature::now("somebody", "somebody@example.org").unwrap();
        let parents: Vec<_> = parent.iter().collect();
        repo.commit(Some("refs/heads/master"), &who, &who, message, &repo.find_tree(tree).unwrap(), &parents).unwrap()
    }

    fn admin(&self) -> Admin {
        Admin::new(remote(&self.path()))
    }

    fn tip(&self, name: &str) -> Option<Oid> {
        self.repo().refname_to_id(name).ok()
    }

    /// The subjects of a branch's commits, newest first.
    fn subjects(&self, branch: &str) -> Vec<String> {
        let repo = self.repo();
        let mut walk = repo.revwalk().unwrap();
        walk.push_ref(&format!("refs/heads/{branch}")).unwrap();
        walk.map(|id| repo.find_commit(id.unwrap()).unwrap().summary().unwrap().unwrap().to_owned()).collect()
    }

    pub(crate) fn file(&self, branch: &str, path: &str) -> Option<String> {
        let repo = self.repo();
        let tree = repo.find_reference(&format!("refs/heads/{branch}")).unwrap().peel_to_tree().unwrap();
        let entry = tree.get_path(Path::new(path)).ok()?;
        Some(String::from_utf8(repo.find_blob(entry.id()).unwrap().content().to_vec()).unwrap())
    }

    fn count(&self, what: &str) -> usize {
        fs::read_to_string(self.path().join(what)).unwrap_or_default().lines().count()
    }

    fn touch(&self, name: &str) {
        fs::write(self.path().join(name), "").unwrap();
    }

    async fn comes(&self, name: &str) {
        until(name, || self.path().join(name).exists()).await;
    }
}

fn remote(path: &Path) -> Remote {
    Remote {
        url: path.to_str().unwrap().into(),
        key: "ssh_key".into(),
        known_hosts: None,
        ssh_config: None,
        author: ("reactor".into(), "reactor@example.org".into()),
        timeout: Duration::from_secs(60),
    }
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..PATIENCE {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come");
}

/// Writes one file.
fn writes(branch: Branch, path: &str, text: &str) -> Job {
    let (path, text, message) = (path.to_owned(), text.to_owned(), format!("write {path}\n\nReactor: test\n"));
    let edits = move |_: &Snapshot| Ok(Edits::from([((branch, path.clone()), Some(text.clone().into_bytes()))]));
    Job { edits: Box::new(edits), message }
}

fn conf(name: &str, text: &str) -> Job {
    writes(Branch::Master, &format!("conf/reactor/repos/{name}.conf"), text)
}

/// Adds a line to a file, whatever stands there.
fn adds(path: &'static str, line: String) -> Job {
    let message = format!("add {line}");
    let edits = move |now: &Snapshot| {
        let mut bytes = now.read(Branch::Master, path)?.unwrap_or_default();
        bytes.extend(format!("{line}\n").bytes());
        Ok(Edits::from([((Branch::Master, path.to_owned()), Some(bytes))]))
    };
    Job { edits: Box::new(edits), message }
}

#[tokio::test]
async fn what_stands_there_is_read_and_what_is_written_stands_there() {
    let site = Site::new();
    let admin = site.admin();
    let now = admin.look().await.unwrap();
    assert!(now.read(Branch::Master, "conf/gitolite.conf").unwrap().unwrap().starts_with(b"repo gitolite-admin"));
    assert_eq!(now.read(Branch::Master, "conf/none").unwrap(), None);
    assert_eq!(now.read(Branch::Members, "groups/a").unwrap(), None, "no such branch yet");
    assert!(now.read(Branch::Master, "conf").is_err(), "a directory is no file and not nothing");
    for name in ["00/b", "00/a", "ff/z", "0"] {
        admin.push(conf(name, "repo x\n")).await.unwrap();
    }
    let now = admin.look().await.unwrap();
    let below = now.below(Branch::Master, "conf/reactor/repos").unwrap();
    assert_eq!(
        below,
        ["0.conf", "00/a.conf", "00/b.conf", "ff/z.conf"].map(|name| format!("conf/reactor/repos/{name}"))
    );
    assert_eq!(site.file("master", "conf/reactor/repos/00/a.conf").unwrap(), "repo x\n");
    let gone = |_: &Snapshot| {
        let none = |path: &str| ((Branch::Master, format!("conf/reactor/repos/{path}.conf")), None);
        Ok(Edits::from([none("00/a"), none("00/b"), none("never/was")]))
    };
    admin.push(Job { edits: Box::new(gone), message: "take away".into() }).await.unwrap();
    let now = admin.look().await.unwrap();
    assert_eq!(now.below(Branch::Master, "conf/reactor/repos").unwrap().len(), 2);
    let repo = site.repo();
    let tree = repo.find_reference("refs/heads/master").unwrap().peel_to_tree().unwrap();
    assert!(tree.get_path(Path::new("conf/reactor/repos/00")).is_err(), "no empty directory is left");
    assert!(site.file("master", "conf/gitolite.conf").is_some(), "what is not ours is still there");
}

#[tokio::test]
async fn nothing_to_do_makes_no_commit_and_no_push() {
    let site = Site::new();
    let admin = site.admin();
    admin.push(conf("a", "1\n")).await.unwrap();
    let (tip, pushes) = (site.tip("refs/heads/master"), site.count("pushes"));
    admin.push(conf("a", "1\n")).await.unwrap();
    admin.push(Job { edits: Box::new(|_| Ok(Edits::new())), message: "m".into() }).await.unwrap();
    assert_eq!((site.tip("refs/heads/master"), site.count("pushes")), (tip, pushes));
}

#[tokio::test]
async fn members_is_made_where_it_is_missing_and_compiles_nothing() {
    let site = Site::new();
    let admin = site.admin();
    admin.push(writes(Branch::Members, "groups/perl-sig", "alice\n")).await.unwrap();
    admin.push(writes(Branch::Members, "groups/web", "bob\n")).await.unwrap();
    assert_eq!(site.subjects("members"), ["write groups/web", "write groups/perl-sig"]);
    assert_eq!(site.file("members", "groups/perl-sig").unwrap(), "alice\n");
    assert_eq!(site.count("compiles"), 0);
    let repo = site.repo();
    let commit = repo.find_reference("refs/heads/members").unwrap().peel_to_commit().unwrap();
    assert_eq!(commit.author().name().unwrap(), "reactor");
    assert!(commit.message().unwrap().contains("\nReactor: test\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_at_once_lose_nothing() {
    let site = Site::new();
    site.by_hand("conf/list", "", "made");
    let (one, two) = (site.admin(), site.admin());
    let (one, two) = (Arc::new(one), Arc::new(two));
    let mut all = tokio::task::JoinSet::new();
    for number in 0..10 {
        let admin = Arc::clone(if number % 2 == 0 { &one } else { &two });
        all.spawn(async move {
            // Each try is a race that somebody wins; who loses too often is told to come again.
            while let Err(failure) = admin.push(adds("conf/list", number.to_string())).await {
                assert!(matches!(failure, Failure::Retry { .. }), "{failure}");
            }
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    let mut lines: Vec<usize> =
        site.file("master", "conf/list").unwrap().lines().map(|line| line.parse().unwrap()).collect();
    lines.sort_unstable();
    assert_eq!(lines, (0..10).collect::<Vec<_>>());
    assert_eq!(site.subjects("master").len(), 12, "one commit each, none twice");
}

#[tokio::test]
async fn who_was_slower_makes_its_edits_again_on_what_stands_there_then() {
    let site = Site::new();
    let admin = site.admin();
    admin.push(adds("conf/list", "one".into())).await.unwrap();
    let theirs = site.by_hand("conf/list", "one\ntheirs\n", "by hand");
    admin.push(adds("conf/list", "two".into())).await.unwrap();
    assert_eq!(site.file("master", "conf/list").unwrap(), "one\ntheirs\ntwo\n");
    let repo = site.repo();
    assert!(repo.graph_descendant_of(site.tip("refs/heads/master").unwrap(), theirs).unwrap(), "nothing was forced");
}

#[tokio::test]
async fn the_mark_says_what_compiled_and_who_comes_after_a_kill_compiles_again() {
    let site = Site::new();
    let admin = site.admin();
    assert!(admin.is_compiled(&admin.look().await.unwrap()).unwrap(), "a person's commit is the person's");
    admin.push(conf("a", "repo a\n")).await.unwrap();
    assert!(admin.is_compiled(&admin.look().await.unwrap()).unwrap());
    until("the mark", || site.tip("refs/reactor/compiled") == site.tip("refs/heads/master")).await;
    let other = site.admin();
    assert!(other.is_compiled(&other.look().await.unwrap()).unwrap());
    // As it stands after a kill between push and mark.
    site.by_hand("conf/reactor/repos/b.conf", "repo b\n", "b\n\nReactor: killed\n");
    let now = other.look().await.unwrap();
    assert!(!other.is_compiled(&now).unwrap());
    let compiles = site.count("compiles");
    other.compile("compile again".into()).await.unwrap();
    assert_eq!(site.count("compiles"), compiles + 1);
    assert!(other.is_compiled(&other.look().await.unwrap()).unwrap());
    until("the mark", || site.tip("refs/reactor/compiled") == site.tip("refs/heads/master")).await;
    assert_eq!(site.file("master", "conf/reactor/repos/b.conf").unwrap(), "repo b\n");
    other.compile("once more".into()).await.unwrap();
    assert_eq!(site.count("compiles"), compiles + 1, "it was seen to end well");
}

#[tokio::test]
async fn what_can_not_be_reached_is_a_failure_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let none = Admin::new(remote(&dir.path().join("none.git"))).look().await.unwrap_err();
    assert!(none.message().contains("none.git") && none.hint().unwrap().starts_with("try it by hand: git ls-remote /"));
    let mut how = RepositoryInitOptions::new();
    Repository::init_opts(dir.path().join("empty.git"), how.bare(true)).unwrap();
    let empty = Admin::new(remote(&dir.path().join("empty.git"))).look().await.unwrap_err();
    assert!(empty.message().ends_with("it has no branch `master`"), "{empty}");
    let closed = Remote { url: "ssh://git@127.0.0.1:1/gitolite-admin".into(), ..remote(dir.path()) };
    let closed = Admin::new(closed).look().await.unwrap_err();
    assert!(matches!(&closed, Failure::Retry { message, .. } if message.contains("Connection refused")), "{closed}");
    assert!(closed.hint().unwrap().starts_with("is the git server up"), "{closed:?}");
    let evil = Remote { url: "ext::sh -c id".into(), ..remote(dir.path()) };
    assert!(Admin::new(evil).look().await.unwrap_err().message().contains("not allowed"));
}

#[tokio::test]
async fn a_copy_that_was_taken_away_or_in_which_a_fetch_was_killed_is_made_anew() {
    let site = Site::new();
    let admin = site.admin();
    let now = admin.look().await.unwrap();
    fs::write(now.place.copy.git_dir().join("shallow.lock"), "").unwrap();
    let now = admin.look().await.unwrap();
    fs::remove_dir_all(now.place.copy.git_dir()).unwrap();
    let now = admin.look().await.unwrap();
    assert_eq!(now.below(Branch::Master, "").unwrap(), ["conf/gitolite.conf"]);
    admin.push(conf("a", "repo a\n")).await.unwrap();
    let dir = now.place.copy.dir().to_owned();
    assert!(dir.exists());
    drop((now, admin));
    until("the end of the copy", || !dir.exists()).await;
}
