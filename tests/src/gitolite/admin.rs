//! What stands in the admin repository, read where it lies, and what gitolite made of it.

use std::fs;

use super::{Commit, Gitolite, REACTOR};

impl Gitolite {
    /// The commits of a branch of the admin repository, the newest first; none when there is no such branch.
    ///
    /// # Panics
    /// When it can't be read.
    #[must_use]
    pub fn admin_log(&self, branch: &str) -> Vec<Commit> {
        if self.admin_git(&["rev-parse", "--verify", "--quiet", &format!("refs/heads/{branch}")]).is_none() {
            return Vec::new();
        }
        let log = ["log", "-z", "--format=%H%x01%an <%ae>%x01%B", &format!("refs/heads/{branch}"), "--"];
        let text = self.admin_git(&log).expect("the log");
        let commit = |entry: &str| {
            let mut words = entry.splitn(3, '\u{1}').map(ToOwned::to_owned);
            let mut next = || words.next().expect("a commit");
            Commit { id: next(), author: next(), message: next() }
        };
        text.split('\0').filter(|entry| !entry.is_empty()).map(commit).collect()
    }

    /// What a file of the admin repository holds at the tip of a branch.
    #[must_use]
    pub fn admin_file(&self, branch: &str, path: &str) -> Option<String> {
        self.admin_git(&["cat-file", "blob", &format!("refs/heads/{branch}:{path}")])
    }

    /// The paths of all files at the tip of a branch of the admin repository.
    #[must_use]
    pub fn admin_files(&self, branch: &str) -> Vec<String> {
        let list =
            self.admin_git(&["ls-tree", "-r", "--name-only", &format!("refs/heads/{branch}")]).unwrap_or_default();
        list.lines().map(ToOwned::to_owned).collect()
    }

    pub(super) fn admin_git(&self, words: &[&str]) -> Option<String> {
        let at = self.repository("gitolite-admin");
        let output = self.git().arg("--git-dir").arg(at).args(words).output().expect("git");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What gitolite has compiled for the site as a whole.
    ///
    /// # Panics
    /// When it can't be read.
    #[must_use]
    pub fn conf(&self) -> String {
        fs::read_to_string(self.home().join(".gitolite/conf/gitolite.conf-compiled.pm")).expect("what is compiled")
    }

    /// How many pushes of [`REACTOR`]'s to this branch of the admin repository gitolite has let through.
    ///
    /// # Panics
    /// When its log can't be read.
    #[must_use]
    pub fn pushes(&self, branch: &str) -> usize {
        let logs = fs::read_dir(self.home().join(".gitolite/logs")).expect("gitolite's logs").flatten();
        let text: String = logs.map(|log| fs::read_to_string(log.path()).expect("a log")).collect();
        let (who, what) = (format!("\tupdate\tgitolite-admin\t{REACTOR}\t"), format!("\trefs/heads/{branch}\t"));
        text.lines().filter(|line| line.contains(&who) && line.contains(&what) && !line.contains("DENIED")).count()
    }
}
