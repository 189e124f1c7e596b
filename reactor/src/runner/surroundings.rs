//! What a handler finds around it: an empty private working directory, a clean environment, its secrets, its user.
//!
//! Nothing of the daemon's own environment gets through but `HOME`; nothing in here is looked up in `PATH`.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use handler_api::limits::SECRET_BYTES_MAX;
use handler_api::{Failure, params::ParamType};

use super::Verb;
use crate::rules::site::{HandlerConfig, Program, Secret};

/// The `PATH` of every handler, unless the rules file gives it another.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Names the state directory in the environment of every handler: by it a restarted daemon knows its own.
pub const STATE_VARIABLE: &str = "REACTOR_STATE";
/// Names the directory with the secrets, where there are any.
pub const SECRETS_VARIABLE: &str = "REACTOR_SECRETS";

/// Where surroundings are made.
#[derive(Debug)]
pub(super) struct Ground {
    /// The state directory, absolute.
    pub state: PathBuf,
    /// Working directories go here.
    pub work: PathBuf,
    /// Copies of secrets go here; in memory where possible.
    pub secrets: PathBuf,
    /// This program, for built-in handlers.
    pub reactor: PathBuf,
}

impl Drop for Ground {
    /// Nothing is left in shared memory by a daemon that ends; not removed while something is in it.
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.secrets);
    }
}

/// What was made for one child; removed when dropped.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub work: PathBuf,
    secrets: Option<PathBuf>,
}

/// A Unix user.
#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: u32,
    home: PathBuf,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Ground {
    /// Makes the directories.
    pub fn new(state: &Path, reactor: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state)?;
        let state = state.canonicalize()?;
        let work = state.join("work");
        private_dir(&work, 0o711)?;
        let secrets = secrets_dir(&state)?;
        Ok(Self { state, work, secrets, reactor })
    }

    /// Makes the surroundings of one child of `handler`, and the command that runs in it.
    pub fn command(&self, handler: &HandlerConfig, verb: Verb) -> Result<(Surroundings, Command), Failure> {
        let user = handler.user.as_deref().map(|name| self.user(handler, name)).transpose()?;
        let name = format!("{}-{}-{}", handler.name, std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let made = |what: &str, error: io::Error| {
            Failure::retry(format!("handler {}: its {what} directory: {error}", handler.name))
                .hinting(format!("look at the space and the rights of {}", self.state.display()))
        };
        let work = self.work.join(&name);
        owned_dir(&work, user.as_ref()).map_err(|error| made("working", error))?;
        let mut around = Surroundings { work, secrets: None };
        let wanted: Vec<_> = handler.secrets.iter().filter(|(_, secret)| verb.sees(secret)).collect();
        if !wanted.is_empty() {
            let dir = self.secrets.join(&name);
            let made_it = owned_dir(&dir, user.as_ref()).or_else(|error| match error.kind() {
                // Another runner on this state directory took the empty one away at its end.
                io::ErrorKind::NotFound => secrets_dir(&self.state).and_then(|_| owned_dir(&dir, user.as_ref())),
                _ => Err(error),
            });
            made_it.map_err(|error| made("secrets", error))?;
            around.secrets = Some(dir.clone());
            wanted.into_iter().try_for_each(|(name, secret)| put(handler, name, secret, &dir, user.as_ref()))?;
        }
        let command = self.bare_command(handler, verb, &around, user.as_ref());
        Ok((around, command))
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place that starts programs")]
    fn bare_command(&self, handler: &HandlerConfig, verb: Verb, around: &Surroundings, user: Option<&User>) -> Command {
        let mut command = match &handler.program {
            Program::Exec(path) => Command::new(path),
            Program::BuiltIn(name) => {
                let mut command = Command::new(&self.reactor);
                command.args(["handler", name]);
                command
            }
        };
        command.args(&handler.args).arg(verb.word()).current_dir(&around.work).process_group(0);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if verb == Verb::Describe { Stdio::null() } else { Stdio::piped() });
        let home = user.map(|user| user.home.clone()).or_else(|| std::env::var_os("HOME").map(PathBuf::from));
        command.env_clear().env("PATH", PATH).env("LANG", "C.UTF-8").env("HOME", home.unwrap_or_else(|| "/".into()));
        command.envs(&handler.env).env("TMPDIR", &around.work).env(STATE_VARIABLE, &self.state);
        match &around.secrets {
            Some(dir) => command.env(SECRETS_VARIABLE, dir),
            None => command.env_remove(SECRETS_VARIABLE),
        };
        // With `uid` the child no longer starts by posix_spawn, so not when it would change nothing. Supplementary groups
        // are dropped by the standard library when root changes the user.
        if let Some(user) = user.filter(|user| user.uid != rustix::process::geteuid().as_raw()) {
            command.gid(user.gid).uid(user.uid);
        }
        command
    }

    fn user(&self, handler: &HandlerConfig, name: &str) -> Result<User, Failure> {
        let passwd = fs::read_to_string("/etc/passwd")
            .map_err(|error| Failure::retry(format!("handler {}: /etc/passwd: {error}", handler.name)))?;
        let user = find_user(&passwd, name).ok_or_else(|| {
            Failure::permanent(format!("handler {}: there is no user `{name}` in /etc/passwd", handler.name))
                .hinting(format!("useradd --system --shell /usr/sbin/nologin {name}"))
        })?;
        let own = rustix::process::geteuid().as_raw();
        if own != user.uid && own != 0 {
            let why = format!("handler {}: only a daemon that runs as root can use `user: {name}`", handler.name);
            return Err(Failure::permanent(why).hinting("run the daemon as root, or take `user` out"));
        }
        if own == user.uid {
            return Ok(user);
        }
        // Its working directory is below ours: each directory on the way must let others through.
        match self.work.ancestors().find(|dir| fs::metadata(dir).is_ok_and(|meta| meta.mode() & 0o001 == 0)) {
            Some(dir) => Err(Failure::permanent(format!(
                "handler {}: user {name} can't get to its working directory through {}",
                handler.name,
                dir.display()
            ))
            .hinting(format!("chmod o+x {}", dir.display()))),
            None => Ok(user),
        }
    }
}

impl Drop for Surroundings {
    fn drop(&mut self) {
        for dir in self.secrets.iter().chain([&self.work]) {
            if let Err(error) = fs::remove_dir_all(dir) {
                tracing::warn!(dir = %dir.display(), %error, "a handler's directory could not be removed");
            }
        }
    }
}

/// Copies one secret.
fn put(handler: &HandlerConfig, name: &str, secret: &Secret, dir: &Path, user: Option<&User>) -> Result<(), Failure> {
    let file = secret.file.display();
    let about = format!("handler {}: secret {name}, file {file}", handler.name);
    if ParamType::Name.check(&name.into()).is_err() {
        return Err(Failure::permanent(format!("handler {}: `{name}` is not a name for a secret", handler.name))
            .hinting("a secret's name is a file name: letters, digits and _.@+-"));
    }
    let unreadable = |error: io::Error| {
        Failure::retry(format!("{about}: {error}")).hinting(format!("ls -l {file}; the daemon must be able to read it"))
    };
    let source = fs::File::open(&secret.file).map_err(unreadable)?;
    let meta = source.metadata().map_err(unreadable)?;
    if meta.mode() & 0o077 != 0 && !by_systemd(&secret.file) {
        return Err(Failure::permanent(format!(
            "{about}: others than its owner can read it (mode {:04o})",
            meta.mode() & 0o7777
        ))
        .hinting(format!("chmod 600 {file}")));
    }
    let mut content = Vec::new();
    source.take(SECRET_BYTES_MAX + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > SECRET_BYTES_MAX {
        return Err(Failure::permanent(format!("{about}: is larger than {SECRET_BYTES_MAX} bytes")));
    }
    let copy = dir.join(name);
    let write = || -> io::Result<()> {
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy)?.write_all(&content)?;
        user.map_or(Ok(()), |user| chown(&copy, Some(user.uid), Some(user.gid)))
    };
    write().map_err(|error| Failure::retry(format!("{about}: its copy {}: {error}", copy.display())))
}

/// systemd's credentials carry an access list whose mask looks like a readable group; their directory is private.
fn by_systemd(file: &Path) -> bool {
    std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|dir| file.starts_with(dir))
}

fn find_user(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields[..] {
            [found, _, uid, gid, _, home, _] if found == name => {
                Some(User { uid: uid.parse().ok()?, gid: gid.parse().ok()?, home: home.into() })
            }
            _ => None,
        }
    })
}

fn owned_dir(dir: &Path, user: Option<&User>) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(dir)?;
    user.map_or(Ok(()), |user| chown(dir, Some(user.uid), Some(user.gid)))
}

/// A directory that is ours alone to write to; one that was there must be a real directory of our own.
fn private_dir(dir: &Path, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(mode).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let meta = fs::symlink_metadata(dir)?;
    if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(format!("{} is not a directory of our own", dir.display())));
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(mode))
}

/// Where copies of secrets go: the runtime directory that systemd gave us, shared memory, or the state directory.
pub(super) fn secrets_dir(state: &Path) -> io::Result<PathBuf> {
    // systemd lists several with colons between them.
    let runtime = std::env::var("RUNTIME_DIRECTORY").ok();
    let runtime = runtime.as_ref().and_then(|dirs| dirs.split(':').next()).map(|dir| Path::new(dir).join("secrets"));
    let uid = rustix::process::geteuid().as_raw();
    let shared = PathBuf::from(format!("/dev/shm/reactor-{uid}-{:016x}", hash(state)));
    let usable = |dir: &PathBuf| private_dir(dir, 0o711).is_ok();
    match runtime.into_iter().chain([shared]).find(usable) {
        Some(dir) => Ok(dir),
        None => private_dir(&state.join("secrets"), 0o711).map(|()| state.join("secrets")),
    }
}

/// FNV-1a: tells state directories apart, nothing more; the same in every build.
fn hash(path: &Path) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    path.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nmail:x:8:12:mail:/var/mail:/usr/sbin/nologin\nbad:x:y:1::/:\n";
        assert_eq!(find_user(passwd, "mail"), Some(User { uid: 8, gid: 12, home: "/var/mail".into() }));
        assert_eq!(find_user(passwd, "mai"), None);
        assert_eq!(find_user(passwd, "bad"), None);
    }

    #[test]
    fn a_link_is_not_taken_for_a_directory_of_our_own() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp", dir.path().join("link")).unwrap();
        assert!(private_dir(&dir.path().join("link"), 0o700).is_err());
        assert!(private_dir(&dir.path().join("new"), 0o700).is_ok());
        assert!(private_dir(&dir.path().join("new"), 0o700).is_ok(), "once more is fine");
    }
}
