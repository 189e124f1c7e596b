//! The admin repository: reads what stands there, makes commits, pushes them.
//!
//! Objects are read and made with libgit2 in a bare, shallow copy that lives as long as the process; the program `git` fetches and
//! pushes, so that ssh's own configuration counts. Reactions that wait while a push is under way go out together in
//! the next one: one commit each, one push, one compile.

use std::sync::Arc;

use handler_api::Failure;

use crate::config::Remote;
use crate::files::{Branch, Edits};
use crate::plan::Look;

/// The admin repository.
#[derive(Debug)]
pub struct Admin {}

/// What stood there at one moment.
#[derive(Debug)]
pub struct Snapshot {}

impl Look for Snapshot {
    fn read(&self, branch: Branch, path: &str) -> Result<Option<Vec<u8>>, Failure> {
        let _ = (branch, path);
        todo!()
    }

    fn below(&self, branch: Branch, dir: &str) -> Result<Vec<String>, Failure> {
        let _ = (branch, dir);
        todo!()
    }
}

/// One reaction's commit.
pub struct Job {
    /// Says what to write on top of what stands there now; a failure goes to whoever gave the job, and the others go on.
    pub edits: Box<dyn Fn(&Snapshot) -> Result<Edits, Failure> + Send + Sync>,
    /// The commit's message.
    pub message: String,
}

impl Admin {
    /// Nothing is read or connected yet.
    #[must_use]
    pub fn new(remote: Remote) -> Self {
        let _ = remote;
        todo!()
    }

    /// What stands there now, fetched.
    ///
    /// # Errors
    /// When it can't be reached or read.
    pub async fn look(&self) -> Result<Arc<Snapshot>, Failure> {
        todo!()
    }

    /// Commits and pushes. Returns when the push has ended, and gitolite (with a change on `master`) has compiled.
    ///
    /// # Errors
    /// [`Failure::Retry`] when somebody else pushed and the job's edits do not stand any more, or the remote can't be
    /// reached; [`Failure::Permanent`] when gitolite refused the configuration: then what stood there before stands there
    /// again, and the line is named.
    pub async fn push(&self, job: Job) -> Result<(), Failure> {
        let _ = job;
        todo!()
    }

    /// Whether the last compile of our own commit was seen to end well. If not (killed in the middle), [`Self::compile`].
    ///
    /// # Errors
    /// When it can't be read.
    pub fn is_compiled(&self, now: &Snapshot) -> Result<bool, Failure> {
        let _ = now;
        todo!()
    }

    /// Lets gitolite compile again what stands there: an empty commit.
    ///
    /// # Errors
    /// As for [`Self::push`].
    pub async fn compile(&self, message: String) -> Result<(), Failure> {
        let _ = message;
        todo!()
    }
}
