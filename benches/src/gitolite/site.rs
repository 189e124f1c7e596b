//! A real gitolite with many repositories.
//!
//! gitolite itself takes 43 s for 1,000 new repositories (a `git init` and its triggers for each). Here they are copies of one
//! skeleton, made as `Store.pm` would leave them: 20,000 in 4 s, so nothing need be kept between two runs.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use reactor_tests::gitolite::{Gitolite, Options};

use super::conf::{WHO, repo};

/// What a bare repository must have; git makes the rest when it is pushed to.
const DIRECTORIES: [&str; 4] = ["", "objects", "refs", "hooks"];
/// What POST_COMPILE runs in gitolite's own gitolite.rc, besides ssh-authkeys.
const DEFAULT_TRIGGERS: &str = "'git-config', 'daemon', 'gitweb'";

/// What gitolite.rc says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rc {
    /// GROUPLIST_PGM: a program in `libexec`.
    pub asks: Option<&'static str>,
    /// All of POST_COMPILE that gitolite comes with.
    pub default_triggers: bool,
}

/// A gitolite whose many repositories are removed first: the tests' own cleaning up has a limit, and a disk may be busy.
#[derive(Debug)]
pub struct Server(Gitolite);

impl Deref for Server {
    type Target = Gitolite;

    fn deref(&self) -> &Gitolite {
        &self.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What can't be removed here, the tests' own cleaning up says.
        let _ = fs::remove_dir_all(self.0.home().join("repositories/rpms"));
    }
}

/// Starts it; the repositories are there, no rules name them.
///
/// # Errors
/// When they can't be made.
pub fn start(repos: usize, asks_keys: bool) -> Result<Server> {
    let users = WHO.iter().map(|(who, _)| *who).chain(["alice"]).collect();
    let gitolite = Server(Gitolite::start(&Options { users, asks_groups: true, asks_keys, ..Options::default() }));
    // The tests' own hooks there hold a push where a test wants it.
    for hook in ["pre-receive", "post-receive"] {
        fs::remove_file(gitolite.repository("gitolite-admin").join("hooks").join(hook))?;
    }
    populate(&gitolite, repos)?;
    Ok(gitolite)
}

fn populate(gitolite: &Gitolite, repos: usize) -> Result<()> {
    let config = fs::read(gitolite.repository("gitolite-admin").join("config"))?;
    let hook = gitolite.home().join(".gitolite/hooks/common/update");
    let all = gitolite.home().join("repositories/rpms");
    fs::create_dir(&all)?;
    (0..repos).try_for_each(|n| skeleton(&gitolite.repository(&repo(n)), &config, &hook))?;
    let done = Command::new("chown").args(["-R", "-h", &gitolite.account]).arg(&all).status()?;
    ensure!(done.success(), "chown of {}: {done}", all.display());
    Ok(())
}

fn skeleton(dir: &Path, config: &[u8], hook: &Path) -> Result<()> {
    DIRECTORIES.iter().try_for_each(|name| fs::create_dir(dir.join(name)))?;
    fs::write(dir.join("HEAD"), "ref: refs/heads/rawhide\n")?;
    fs::write(dir.join("config"), config)?;
    symlink(hook, dir.join("hooks/update"))?;
    // By this gitolite knows a repository that it need not set up.
    Ok(fs::write(dir.join("gl-conf"), "")?)
}

/// Writes gitolite.rc.
///
/// # Errors
/// When it can't be written.
pub fn write_rc(gitolite: &Gitolite, rc: Rc) -> Result<()> {
    let program = |name: &str| format!("    GROUPLIST_PGM => '{}',\n", libexec(gitolite).join(name).display());
    let text = format!(
        "%RC = (\n    UMASK => 0077,\n    GIT_CONFIG_KEYS => '',\n    LOG_EXTRA => 1,\n{}    \
         ROLES => {{ READERS => 1, WRITERS => 1 }},\n    \
         ENABLE => [ 'help', 'desc', 'info', 'perms', 'writable', 'ssh-authkeys', {} ],\n);\n1;\n",
        rc.asks.map(program).unwrap_or_default(),
        if rc.default_triggers { DEFAULT_TRIGGERS } else { "" },
    );
    Ok(fs::write(gitolite.home().join(".gitolite.rc"), text)?)
}

/// Where the server's part is installed.
pub fn libexec(gitolite: &Gitolite) -> PathBuf {
    gitolite.dir.join("libexec")
}
