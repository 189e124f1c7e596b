//! Names that may stand in gitolite's files. Pure.
//!
//! Every name from a truth or a message is hostile until it is one of these types; gitolite's own patterns (`Rc.pm`:
//! `REPONAME_PATT`, `USERNAME_PATT`) are wider, and what they allow beyond ours would be ambiguous here: `@` is ours, it
//! parts the words of a [`List`]'s name.

use std::fmt;

/// Longest name of a repository, in bytes.
pub const REPO_BYTES_MAX: usize = 200;
/// Longest name of a user, group or branch, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// A repository: parts of `[0-9A-Za-z][0-9A-Za-z._+-]*` joined by `/`; no part has `..` in it or ends in `.git`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoName(String);

/// A user: `[0-9A-Za-z][0-9A-Za-z._+-]*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(String);

/// A group, without the `@`: as a user, and none of the words that mean something to gitolite (`all`, `CREATOR`, `READERS`,
/// `WRITERS`, `OWNERS`, in any case).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(String);

/// A branch in full (`f41`, `epel8-next`): as a user; it may have `/` as a repository has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BranchName(String);

/// A list of people of one repository: who may commit, or who may commit to one branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Who may commit to the repository as a whole.
    Commit,
    /// Who may commit to at least one branch, where branches differ.
    Any,
}

/// The name of a list as gitolite sees it, where membership is asked for: `commit@rpms@foo`, `any@rpms@foo`, and for a branch
/// with people of its own `commit.f41@rpms@foo`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct List {
    /// Of which repository.
    pub repo: RepoName,
    /// Which of its lists.
    pub role: Role,
    /// Only with [`Role::Commit`]: of which branch.
    pub branch: Option<BranchName>,
}

impl RepoName {
    /// # Errors
    /// What is wrong with the name: the end of a sentence that begins with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let _ = text;
        todo!()
    }

    /// As it stands in gitolite's files.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// With `@` for `/`: one word, as in file names and names of lists. Two repositories never have the same.
    #[must_use]
    pub fn word(&self) -> String {
        self.0.replace('/', "@")
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
