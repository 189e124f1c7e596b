//! Names that may stand in gitolite's files. Pure.
//!
//! Every name from a truth or a message is hostile until it is one of these types; gitolite's own patterns (`Rc.pm`:
//! `REPONAME_PATT`, `USERNAME_PATT`) are wider, and what they allow beyond ours would be ambiguous here: `@` is ours, it
//! parts the words of a [`List`]'s name.

use std::fmt;

#[cfg(test)]
mod tests;

/// Longest name of a repository, in bytes.
pub const REPO_BYTES_MAX: usize = 200;
/// Longest name of a user, group or branch, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// The repository that gitolite itself reads: whoever may write there may do everything.
const ADMIN: &str = "gitolite-admin";
/// Words that gitolite takes as groups or roles where a name stands, in any case.
const RESERVED: [&str; 5] = ["all", "CREATOR", "READERS", "WRITERS", "OWNERS"];
/// Parts of a branch's name that gitolite takes for something else in a rule.
const NO_BRANCH_PARTS: [&str; 4] = ["refs", "VREF", "NAME", "USER"];

/// A repository: parts of `[0-9A-Za-z][0-9A-Za-z._+-]*` joined by `/`; no part has `..` in it or ends in `.git`. Not
/// `gitolite-admin`, nor what gitolite takes for something else (`CREATOR`, `EXTCMD/`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoName(String);

/// A user: `[0-9A-Za-z][0-9A-Za-z._+-]*`, and none of the words that a [`GroupName`] may not be: gitolite writes `@` before
/// some of them by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(String);

/// A group, without the `@`: as a user, and none of the words that mean something to gitolite (`all`, `CREATOR`, `READERS`,
/// `WRITERS`, `OWNERS`, in any case).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(String);

/// A branch in full (`f41`, `epel8-next`): as a user; it may have `/` as a repository has. No part is `refs`, `VREF`, `NAME`
/// or `USER`, has `..` in it, or ends in `.` or `.lock`.
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
/// with people of its own `commit.f41@rpms@foo`. A group's name has no `@`, so no group is taken for a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct List {
    /// Of which repository.
    pub repo: RepoName,
    /// Which of its lists.
    pub role: Role,
    /// Only with [`Role::Commit`]: of which branch. Never one with `/` in it ([`List::of_branch`]).
    pub branch: Option<BranchName>,
}

/// What is wrong with one part of a name: the end of a sentence.
fn check_part(part: &str) -> Result<(), String> {
    let Some(first) = part.chars().next() else { return Err("is empty".to_owned()) };
    if let Some(bad) = part.chars().find(|c| !c.is_ascii_alphanumeric() && !"._+-".contains(*c)) {
        let shown = if bad == '@' {
            "`@`, which marks groups and is written by reactor itself".to_owned()
        } else {
            format!("{bad:?}")
        };
        return Err(format!("has {shown} in it; allowed are ASCII letters, digits and . _ + -"));
    }
    if !first.is_ascii_alphanumeric() {
        return Err(format!("begins with {first:?}; the first is an ASCII letter or digit"));
    }
    Ok(())
}

/// The name of a person or group.
fn check_name(text: &str) -> Result<(), String> {
    check_bytes(text, NAME_BYTES_MAX)?;
    if let Some(word) = RESERVED.iter().find(|word| word.eq_ignore_ascii_case(text.strip_prefix('@').unwrap_or(text))) {
        return Err(if *word == "all" {
            "means everyone to gitolite, so nobody and no group can be called so".to_owned()
        } else {
            format!("is `{word}` to gitolite, a role, so nobody and no group can be called so")
        });
    }
    check_part(text)
}

fn check_bytes(text: &str, max: usize) -> Result<(), String> {
    match text.len() {
        0 => Err("is empty".to_owned()),
        bytes if bytes > max => Err(format!("has {bytes} bytes; at most {max} are allowed")),
        _ => Ok(()),
    }
}

/// A name of parts; `more` says what else is wrong with a part.
fn check_parts(text: &str, max: usize, more: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    check_bytes(text, max)?;
    for part in text.split('/') {
        if part.is_empty() {
            return Err("begins or ends with `/`, or has `//` in it".to_owned());
        }
        check_part(part)?;
        if part.contains("..") {
            return Err("has `..` in it".to_owned());
        }
        if let Some(why) = more(part) {
            return Err(why);
        }
    }
    Ok(())
}

impl RepoName {
    /// # Errors
    /// What is wrong with the name: the end of a sentence that begins with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        check_parts(text, REPO_BYTES_MAX, |part| {
            part.ends_with(".git").then(|| "ends in `.git`; the name is written without it".to_owned())
        })?;
        if text == ADMIN {
            return Err("is the admin repository, whose rules are written by hand only".to_owned());
        }
        if text.contains("CREATOR") || text.contains("EXTCMD/") {
            return Err("has `CREATOR` or `EXTCMD/` in it, which gitolite takes for something else".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// Reads what [`Self::word`] made.
    ///
    /// # Errors
    /// What is wrong with the word: the end of a sentence that begins with it.
    pub fn parse_word(word: &str) -> Result<Self, String> {
        if word.contains('/') {
            return Err("has `/` in it, where `@` should stand".to_owned());
        }
        Self::parse(&word.replace('@', "/"))
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

    /// What stands before the last `/` (`rpms`, `forks/alice/rpms`); empty where there is none.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// What stands after the last `/` (`foo`).
    #[must_use]
    pub fn base(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, base)| base)
    }
}

impl UserName {
    /// # Errors
    /// What is wrong with the name: the end of a sentence that begins with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        check_name(text)?;
        Ok(Self(text.to_owned()))
    }

    /// As it stands in gitolite's files.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl GroupName {
    /// Reads a group's name as the truth has it, without `@`.
    ///
    /// # Errors
    /// What is wrong with the name: the end of a sentence that begins with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        check_name(text)?;
        Ok(Self(text.to_owned()))
    }

    /// Without the `@`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl BranchName {
    /// # Errors
    /// What is wrong with the name: the end of a sentence that begins with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        check_parts(text, NAME_BYTES_MAX, |part| {
            if NO_BRANCH_PARTS.contains(&part) {
                return Some(format!("has the part `{part}`, which gitolite takes for something else"));
            }
            (part.ends_with('.') || part.ends_with(".lock"))
                .then(|| "has a part that ends in `.` or `.lock`".to_owned())
        })?;
        Ok(Self(text.to_owned()))
    }

    /// In full, without `refs/heads/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a regular expression that matches this name: `epel10\.1`. gitolite takes it for the beginning of a name; with `$`
    /// after it, for this branch alone.
    #[must_use]
    pub fn refex(&self) -> String {
        self.0.replace('.', r"\.").replace('+', r"\+")
    }
}

impl List {
    /// Who may commit to the repository as a whole.
    #[must_use]
    pub fn commit(repo: &RepoName) -> Self {
        Self { repo: repo.clone(), role: Role::Commit, branch: None }
    }

    /// Who may commit to at least one branch.
    #[must_use]
    pub fn any(repo: &RepoName) -> Self {
        Self { repo: repo.clone(), role: Role::Any, branch: None }
    }

    /// Who may commit to a branch with people of its own. `None` = the branch has `/` in its name, which can't stand in the
    /// name of a list: there is none, and its people are written out.
    #[must_use]
    pub fn of_branch(repo: &RepoName, branch: &BranchName) -> Option<Self> {
        let fits = !branch.0.contains('/');
        fits.then(|| Self { repo: repo.clone(), role: Role::Commit, branch: Some(branch.clone()) })
    }

    /// Reads a list's name, without the leading `@` of a rule: what [`fmt::Display`] writes.
    ///
    /// # Errors
    /// What is wrong with the name: the end of a sentence that begins with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORMS: &str = "`commit@rpms@foo`, `any@rpms@foo`, `commit.f41@rpms@foo`";
        let Some((role, word)) = text.split_once('@') else {
            return Err(format!("is no list of a repository; such are {FORMS}"));
        };
        let repo = RepoName::parse_word(word).map_err(|why| format!("is no list: its repository {why}"))?;
        let list = match role.split_once('.') {
            None if role == "commit" => Some(Self::commit(&repo)),
            None if role == "any" => Some(Self::any(&repo)),
            Some(("commit", branch)) => {
                let branch = BranchName::parse(branch).map_err(|why| format!("is no list: its branch {why}"))?;
                Self::of_branch(&repo, &branch)
            }
            _ => None,
        };
        list.ok_or_else(|| format!("is no list of a repository; such are {FORMS}"))
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Without the `@`.
impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Without the leading `@` of a rule.
impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.role, &self.branch) {
            (Role::Any, _) => write!(f, "any@{}", self.repo.word()),
            (Role::Commit, None) => write!(f, "commit@{}", self.repo.word()),
            (Role::Commit, Some(branch)) => write!(f, "commit.{branch}@{}", self.repo.word()),
        }
    }
}
