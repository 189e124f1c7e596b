//! The admin repository: reads what stands there, makes commits, pushes them.
//!
//! Objects are read and made with libgit2 in a bare, shallow copy that lives as long as the process; the program `git` fetches and
//! pushes, so that ssh's own configuration counts. Reactions that wait while a push is under way go out together in
//! the next one: one commit each, one push, one compile. There are two lanes, so that what only changes `members` never
//! waits for a compile.
//!
//! Nothing is ever pushed over somebody else's commit: a push that is rejected is fetched, and the edits are made again on
//! what stands there then. gitolite refuses a configuration only after the branch has moved; then one more commit puts our
//! files back as they were.
//!
//! # Killed at each step
//!
//! | killed while | what stands at the remote | afterwards |
//! |---|---|---|
//! | the commit is made | nothing of it | the copy is gone with the process; planned again |
//! | the push sends | nothing: the server throws away what is not whole | planned again |
//! | the branch has moved, gitolite compiles | the commit; the compile ends, or dies with the connection | the plan finds nothing to do; the tip is ours and not marked: [`Admin::compile`] |
//! | it compiled, the mark is not there | the commit, in force | the same: one compile too many |
//! | gitolite refused, the files are not put back | the refused commit; the rules from before are in force | the same; refused again, our files are put back as they were at the last mark, and the line is named |
//! | the files are put back, gitolite compiles | as before, one commit more | the same as for any commit of ours |
//! | the mark is pushed | the commit, in force | nothing is to do |
//!
//! The mark is `refs/reactor/compiled`: the last commit of ours that compiled well. A tip of somebody else's is not looked
//! after: whoever pushed it saw what gitolite said.

mod git;
mod objects;
mod queue;
mod ssh;
mod verdict;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use git2::Oid;
use handler_api::Failure;

pub use self::objects::FILE_BYTES_MAX;
pub use self::ssh::{CONNECT_SECONDS_MAX, KEEP_SECONDS};

use self::git::Git;
use self::objects::Copy;
use self::queue::{Lane, Queue};
use crate::config::Remote;
use crate::files::{Branch, Edits};
use crate::plan::Look;

/// Fetches after which the copy is made anew, since what it has gathered is never cleaned.
pub const FETCHES_MAX: u64 = 5_000;
/// The line of a commit's message by which we know our own.
const TRAILER: &str = "Reactor: ";

/// The admin repository.
#[derive(Debug)]
pub struct Admin {
    inner: Arc<Inner>,
}

/// What stood there at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    place: Arc<Place>,
    master: Oid,
    members: Option<Oid>,
    compiled: Option<Oid>,
}

impl Look for Snapshot {
    fn read(&self, branch: Branch, path: &str) -> Result<Option<Vec<u8>>, Failure> {
        match self.tip(branch) {
            Some(commit) => self.place.copy.read(commit, path),
            None => Ok(None),
        }
    }

    fn below(&self, branch: Branch, dir: &str) -> Result<Vec<String>, Failure> {
        match self.tip(branch) {
            Some(commit) => self.place.copy.below(commit, dir),
            None => Ok(Vec::new()),
        }
    }
}

/// Says what to write on top of what stands there. May be called several times: whenever somebody else was faster.
pub type MakeEdits = dyn Fn(&Snapshot) -> Result<Edits, Failure> + Send + Sync;

/// One reaction's commit.
pub struct Job {
    /// Says what to write on top of what stands there now; a failure goes to whoever gave the job, and the others go on.
    pub edits: Box<MakeEdits>,
    /// The commit's message.
    pub message: String,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({})", self.message.lines().next().unwrap_or_default())
    }
}

/// A copy, and git with it.
#[derive(Debug)]
struct Place {
    // Before the copy: its connection is closed while its directory is there.
    git: Git,
    copy: Copy,
}

/// What all parts share.
#[derive(Debug)]
struct Inner {
    remote: Remote,
    /// The number of the next who wants to know what stands there.
    asked: AtomicU64,
    fetched: tokio::sync::Mutex<Fetched>,
    /// What stands there as far as we know.
    known: Mutex<Option<Snapshot>>,
    /// Tips of ours that are being compiled, and the last that was.
    compiles: Mutex<Compiles>,
    waiting: [Queue; 2],
    /// Held while `members` is pushed, by whoever must not lose a race again.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Fetched {
    place: Option<Arc<Place>>,
    fetches: u64,
    /// Whoever asked under a smaller number is answered by `last`.
    answers: u64,
    last: Option<Arc<Snapshot>>,
}

#[derive(Debug, Default)]
struct Compiles {
    under_way: BTreeSet<Oid>,
    well: Option<Oid>,
    /// To be marked at the remote; `true` = somebody is at it.
    to_mark: Option<Oid>,
    marking: bool,
}

impl Admin {
    /// Nothing is read or connected yet.
    #[must_use]
    pub fn new(remote: Remote) -> Self {
        let inner = Inner {
            remote,
            asked: AtomicU64::new(0),
            fetched: tokio::sync::Mutex::default(),
            known: Mutex::default(),
            compiles: Mutex::default(),
            waiting: [Queue::default(), Queue::default()],
            turn: tokio::sync::Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What stands there now, fetched.
    ///
    /// # Errors
    /// When it can't be reached or read.
    pub async fn look(&self) -> Result<Arc<Snapshot>, Failure> {
        self.inner.fetch().await
    }

    /// Commits and pushes. Returns when the push has ended, and gitolite (with a change on `master`) has compiled.
    ///
    /// Dropped before its commit is made, the job is left out; afterwards it goes on.
    ///
    /// # Errors
    /// [`Failure::Retry`] when somebody else pushed and the job's edits do not stand any more, or the remote can't be
    /// reached; [`Failure::Permanent`] when gitolite refused the configuration: then what stood there before stands there
    /// again, and the line is named.
    pub async fn push(&self, job: Job) -> Result<(), Failure> {
        let job = Arc::new(job);
        let known = self.inner.known_or_fetched().await?;
        let first = Arc::clone(&job);
        let edits = queue::blocking(move || (first.edits)(&known)).await?;
        let lane = if edits.keys().any(|(branch, _)| *branch == Branch::Master) { Lane::Compiled } else { Lane::Asked };
        queue::push(&self.inner, lane, job, false).await
    }

    /// Whether the last compile of our own commit was seen to end well. If not (killed in the middle), [`Self::compile`].
    /// One that we are waiting for just now counts as well: whoever gave the job hears of it.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn is_compiled(&self, now: &Snapshot) -> Result<bool, Failure> {
        if now.compiled == Some(now.master) || self.inner.compiles().knows(now.master) {
            return Ok(true);
        }
        let message = now.place.copy.message(now.master)?;
        Ok(!message.lines().any(|line| line.starts_with(TRAILER)))
    }

    /// Lets gitolite compile again what stands there: an empty commit.
    ///
    /// # Errors
    /// As for [`Self::push`].
    pub async fn compile(&self, message: String) -> Result<(), Failure> {
        let job = Job { edits: Box::new(|_| Ok(Edits::new())), message };
        queue::push(&self.inner, Lane::Compiled, Arc::new(job), true).await
    }
}

impl Compiles {
    fn knows(&self, commit: Oid) -> bool {
        self.well == Some(commit) || self.under_way.contains(&commit)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn compiles(&self) -> MutexGuard<'_, Compiles> {
        lock(&self.compiles)
    }

    async fn known_or_fetched(&self) -> Result<Arc<Snapshot>, Failure> {
        let known = lock(&self.known).clone();
        match known {
            Some(known) => Ok(Arc::new(known)),
            None => self.fetch().await,
        }
    }

    /// Fetches. Those who ask while a fetch runs share the next one.
    async fn fetch(&self) -> Result<Arc<Snapshot>, Failure> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        let mut fetched = self.fetched.lock().await;
        if let Some(last) = fetched.last.as_ref().filter(|_| number < fetched.answers) {
            return Ok(Arc::clone(last));
        }
        let answers = self.asked.load(Ordering::SeqCst);
        // Whoever is dropped in the middle of a fetch drops the copy too: git's locks would stay in it.
        let place = fetched.place.take().filter(|place| fetched.fetches < FETCHES_MAX && place.copy.is_whole());
        let place = match place {
            Some(place) => place,
            None => {
                let remote = self.remote.clone();
                fetched.fetches = 0;
                queue::blocking(move || {
                    let copy = Copy::new()?;
                    Ok(Arc::new(Place { git: Git::new(&remote, &copy)?, copy }))
                })
                .await?
            }
        };
        fetched.fetches += 1;
        let ended = place.git.fetch().await;
        fetched.place = Some(Arc::clone(&place));
        ended?;
        let snapshot = queue::blocking(move || Snapshot::of(place)).await?;
        *lock(&self.known) = Some(snapshot.clone());
        let snapshot = Arc::new(snapshot);
        fetched.answers = answers;
        fetched.last = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }
}

impl Snapshot {
    fn of(place: Arc<Place>) -> Result<Self, Failure> {
        let tip = |name| place.copy.tip(name);
        let master =
            tip(git::MASTER)?.ok_or_else(|| Failure::retry("the copy of the admin repository has no `master`"))?;
        let (members, compiled) = (tip(git::MEMBERS)?, tip(git::COMPILED)?);
        Ok(Self { place, master, members, compiled })
    }
}
