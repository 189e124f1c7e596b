//! The program `git`, which fetches and pushes: without a shell, bounded in time, killed with all that it started.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use accounts::program::{self, Ended, Run, Trouble};
use git2::Oid;
use handler_api::Failure;

use super::objects::Copy;
use super::ssh::Ssh;
use super::verdict::{Heard, clean};
use crate::config::Remote;
use crate::files::Branch;

/// Most that git may print, in bytes.
const STDOUT_BYTES_MAX: usize = 1024 * 1024;
/// Our refs in the copy, as fetched.
pub(super) const MASTER: &str = "refs/reactor/master";
pub(super) const MEMBERS: &str = "refs/reactor/heads/members";
pub(super) const COMPILED: &str = "refs/reactor/marks/compiled";
/// The marker at the remote: the last commit of ours whose compile was seen to end well.
pub(super) const MARKER: &str = "refs/reactor/compiled";
/// What is fetched. A name that ends in `*` may be missing there; nobody has others of those names.
const WANTED: [&str; 3] = [
    "+refs/heads/master:refs/reactor/master",
    "+refs/heads/member*:refs/reactor/heads/member*",
    "+refs/reactor/compile*:refs/reactor/marks/compile*",
];

impl Branch {
    /// Its ref at the remote.
    pub(super) fn at_remote(self) -> &'static str {
        match self {
            Self::Master => "refs/heads/master",
            Self::Members => "refs/heads/members",
        }
    }
}

/// The remote, and how git gets there.
#[derive(Debug)]
pub(super) struct Git {
    remote: Remote,
    ssh: Option<Ssh>,
    program: Vec<&'static str>,
    env: Vec<(OsString, OsString)>,
}

/// What became of a push.
#[derive(Debug)]
pub(super) enum Pushed {
    /// All refs stand there now.
    Done(Heard),
    /// None does, since somebody else was faster; what git said.
    Moved(String),
}

impl Git {
    /// `copy` is where git works. Nothing is connected.
    pub fn new(remote: &Remote, copy: &Copy) -> Result<Self, Failure> {
        let mut env: Vec<(OsString, OsString)> = vec![
            ("GIT_DIR".into(), copy.git_dir().into()),
            ("GIT_TERMINAL_PROMPT".into(), "0".into()),
            ("GIT_ALLOW_PROTOCOL".into(), "file:ssh".into()),
            ("LC_ALL".into(), "C".into()),
        ];
        let local = remote.url.starts_with('/');
        let ssh = if local { None } else { Some(Ssh::new(remote, copy.dir())?) };
        let mut program = vec!["git"];
        if let Some(ssh) = &ssh {
            env.push(("GIT_SSH_COMMAND".into(), ssh.command()));
            env.push(("GIT_SSH_VARIANT".into(), "ssh".into()));
            // The same everywhere, whoever runs us.
            env.push(("GIT_CONFIG_GLOBAL".into(), "/dev/null".into()));
            env.push(("GIT_CONFIG_NOSYSTEM".into(), "1".into()));
            env.extend(std::env::var_os("SSH_AUTH_SOCK").map(|socket| ("SSH_AUTH_SOCK".into(), socket)));
        } else if let Some(home) = gitolite_home(Path::new(&remote.url)) {
            // gitolite's hooks want to be called by gitolite, which finds its configuration in this home.
            program = vec!["gitolite", "push"];
            env.push(("HOME".into(), home.into()));
        }
        Ok(Self { remote: remote.clone(), ssh, program, env })
    }

    /// Fetches the tips; afterwards they stand under [`MASTER`], [`MEMBERS`], [`COMPILED`].
    pub async fn fetch(&self) -> Result<(), Failure> {
        let words = ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--prune", "--"];
        let args = words.into_iter().chain([self.remote.url.as_str()]).chain(WANTED).map(str::to_owned).collect();
        let ended = self.run(&["git"], args, |_| ()).await.map_err(|trouble| self.trouble("fetch", &trouble))?;
        if ended.status.success() { Ok(()) } else { Err(self.explain("fetch", &ended.stderr)) }
    }

    /// Pushes commits to branches, all or none, and only on top of what stands there.
    pub async fn push(&self, commits: &[(Branch, Oid)]) -> Result<Pushed, Failure> {
        let mut heard = Heard::default();
        let refs = commits.iter().map(|(branch, commit)| format!("{commit}:{}", branch.at_remote())).collect();
        let ended = self.push_refs(refs, |bytes| heard.hear(bytes)).await?;
        heard.end();
        if ended.status.success() {
            return Ok(Pushed::Done(heard));
        }
        let said = String::from_utf8_lossy(&ended.stdout);
        let rejected: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("!\t")).collect();
        // What a person must mend comes first: it does not pass by itself.
        if heard.fatal.is_empty() && rejected.iter().any(|line| is_race(line)) {
            return Ok(Pushed::Moved(clean(&rejected.join("; "))));
        }
        let all = format!("{} / {}", ended.stderr, rejected.join("; "));
        Err(self.explain("push", &all))
    }

    /// Says at the remote that this commit compiled well.
    pub async fn mark(&self, commit: Oid) -> Result<(), Failure> {
        let ended = self.push_refs(vec![format!("+{commit}:{MARKER}")], |_| ()).await?;
        if ended.status.success() { Ok(()) } else { Err(self.explain("push", &ended.stderr)) }
    }

    async fn push_refs(&self, refs: Vec<String>, hear: impl FnMut(&[u8]) + Send) -> Result<Ended, Failure> {
        let words = ["--atomic", "--porcelain", "--no-verify", "--no-follow-tags", "--"];
        let first = (self.program.len() == 1).then_some("push");
        let args = first.into_iter().chain(words).chain([self.remote.url.as_str()]).map(str::to_owned);
        let ended = self.run(&self.program, args.chain(refs).collect(), hear).await;
        ended.map_err(|trouble| self.trouble("push", &trouble))
    }

    async fn run(&self, program: &[&str], args: Vec<String>, hear: impl FnMut(&[u8]) + Send) -> Result<Ended, Trouble> {
        let (program, first) = program.split_first().unwrap_or((&"git", &[]));
        let run = Run {
            program: (*program).to_owned(),
            args: first.iter().map(|word| (*word).to_owned()).chain(args).collect(),
            env: self.env.clone(),
            stdin: Vec::new(),
            stdout_bytes_max: STDOUT_BYTES_MAX,
            timeout: self.remote.timeout,
        };
        program::run_heard(run, hear).await
    }

    fn trouble(&self, what: &str, trouble: &Trouble) -> Failure {
        let program = self.program[0];
        let message = format!("admin repository {}: `git {what}` {trouble}", self.remote.url);
        match trouble {
            Trouble::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Failure::permanent(format!("there is no program `{program}` on this machine")).hinting(format!(
                    "apt-get install {0}, or: dnf install {0}",
                    if program == "git" { "git" } else { "gitolite3" }
                ))
            }
            Trouble::TooSlow(..) => {
                // It may hang for ever.
                if let Some(ssh) = &self.ssh {
                    ssh.give_up();
                }
                let hint = "gitolite may be compiling still: raise `timeout` in the handler's block above what `time gitolite compile` \
                            says on the server";
                Failure::retry(message).hinting(hint)
            }
            _ => Failure::retry(message),
        }
    }

    /// From what git, ssh and gitolite say to what a person can do about it.
    fn explain(&self, what: &str, said: &str) -> Failure {
        let url = &self.remote.url;
        let has = |word: &str| said.contains(word);
        let message = format!("admin repository {url}: {what} failed: {}", shorten(said));
        if has("Host key verification failed") || has("HOST IDENTIFICATION HAS CHANGED") {
            let file = self.remote.known_hosts.as_ref();
            let file = file.map_or("the known_hosts file that ssh uses".into(), |path| path.display().to_string());
            return Failure::permanent(message).hinting(format!(
                "look at the server's key (`ssh-keyscan HOST | ssh-keygen -lf -`), then add it to {file}"
            ));
        }
        if has("Permission denied (") {
            return Failure::permanent(message).hinting(format!(
                "the server takes no key of ours: is the secret `{}` there, and its public half in keydir/ of gitolite-admin? \
                 Afterwards: reactor retry ID",
                self.remote.key
            ));
        }
        if has(" DENIED ") {
            return Failure::permanent(message).hinting(
                "is it the right repository? Then let this user in: in conf/gitolite.conf, below `repo gitolite-admin`: \
                 RW+ = USER; it needs refs/heads/master, refs/heads/members and refs/reactor/compiled",
            );
        }
        if has("couldn't find remote ref refs/heads/master") {
            return Failure::permanent(format!("admin repository {url}: it has no branch `master`"))
                .hinting(format!("is it the right one? git ls-remote {url}"));
        }
        if has("dubious ownership") || has("insufficient permission") {
            return Failure::permanent(message)
                .hinting(format!("run the handler as its owner: `user: git` in the handler's block; ls -ld {url}"));
        }
        if has("does not appear to be a git repository") || has("does not exist") || has("mis-spelled the reponame") {
            return Failure::permanent(message).hinting(format!("try it by hand: git ls-remote {url}"));
        }
        if has("cannot run ssh") {
            return Failure::permanent(message)
                .hinting("apt-get install openssh-client, or: dnf install openssh-clients");
        }
        if has("hook declined") {
            return Failure::permanent(message)
                .hinting("a hook of the server's does not let this through; what it said stands above");
        }
        if has("No space left on device") || has("Disk quota exceeded") {
            return Failure::retry(message).hinting(
                "on the git server: df -h. When there is space this goes on by itself, and at once with: reactor retry ID",
            );
        }
        if NOT_REACHED.iter().any(|words| has(words)) {
            return Failure::retry(message).hinting(
                "is the git server up, and are its name and port right (`admin`)? Then this goes on by itself, and at once with: \
                 reactor retry ID",
            );
        }
        Failure::retry(message).hinting(format!("try it by hand: git ls-remote {url}"))
    }
}

/// ssh's words for a server that it does not get to.
const NOT_REACHED: [&str; 6] = [
    "Connection refused",
    "Connection timed out",
    "No route to host",
    "Network is unreachable",
    "Could not resolve hostname",
    "Connection closed by remote host",
];

/// Without what git and ssh say each time.
fn shorten(said: &str) -> String {
    const ALWAYS: [&str; 7] = [
        "fatal: Could not read from remote repository.",
        "Please make sure you have the correct access rights",
        "and the repository exists.",
        "IT IS POSSIBLE THAT",
        "Someone could be eavesdropping",
        "It is also possible that",
        "error: failed to push some refs",
    ];
    let says =
        |line: &&str| !line.is_empty() && !line.starts_with('@') && !ALWAYS.iter().any(|words| line.starts_with(words));
    let lines: Vec<String> = said.split(" / ").map(str::trim).filter(says).map(clean).collect();
    lines.join("; ")
}

/// Whether a rejected ref was one that somebody else moved, or is moving.
fn is_race(line: &str) -> bool {
    const RACES: [&str; 9] = [
        "(fetch first)",
        "(non-fast-forward)",
        "(stale info)",
        "failed to update ref",
        "failed to lock",
        "cannot lock ref",
        "incorrect old value",
        "reference already exists",
        "remote ref changed",
    ];
    RACES.iter().any(|word| line.contains(word))
}

/// The home of the user whose gitolite a local admin repository belongs to: its `update` hook is a link into
/// `HOME/.gitolite`.
fn gitolite_home(repo: &Path) -> Option<PathBuf> {
    let hook = fs::read_link(repo.join("hooks/update")).ok()?;
    let base = hook.parent()?.parent()?.parent()?;
    (hook.ends_with("hooks/common/update") && base.ends_with(".gitolite")).then(|| base.parent().map(Path::to_owned))?
}
