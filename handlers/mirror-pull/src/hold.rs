//! What is held, by whom, until when; and the lock of a part. One small file each below `state`.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use handler_api::{Failure, MessageView};
use jiff::{SignedDuration, Timestamp};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::config::Config;
use crate::paths;

/// The last word of a topic that says that an update is over: it releases holds.
pub const OVER: [&str; 4] = ["synced", "finished", "complete", "done"];
/// Largest file of ours that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A part that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Who signed the message; absent = a person held it.
    pub by: Option<String>,
    /// The message's id.
    pub message: Option<String>,
    /// When it was sent.
    pub sent: Timestamp,
    /// The upstream's number of the state that it is about to leave, if it said one.
    #[serde(default)]
    pub serial: Option<i64>,
    /// When the hold began.
    pub since: Timestamp,
    /// When it lapses.
    pub until: Timestamp,
}

impl Hold {
    /// The hold that a message (none: a person) asks for.
    #[must_use]
    pub fn new(config: &Config, message: Option<&Said>, serial: Option<i64>, now: Timestamp) -> Self {
        let sent = message.map_or(now, |message| message.sent.min(now));
        let length = SignedDuration::try_from(config.hold).unwrap_or(SignedDuration::MAX);
        Self {
            by: message.map(|message| message.signer.clone()),
            message: message.map(|message| message.id.clone()),
            sent,
            serial,
            since: sent,
            until: sent.checked_add(length).unwrap_or(Timestamp::MAX),
        }
    }

    /// Whether what was sent then, with this serial, came before this hold. Messages of one second may come in any order, so
    /// serials count before times where both have one.
    #[must_use]
    pub fn is_after(&self, sent: Timestamp, serial: Option<i64>) -> bool {
        match (self.serial, serial) {
            (Some(held), Some(said)) if held != said => held > said,
            _ => self.sent > sent,
        }
    }

    /// Whether a message that says that an update is over, with this serial, speaks of what this holds for.
    #[must_use]
    pub fn is_ended_by(&self, message: &Said, serial: Option<i64>) -> bool {
        message.over && !self.is_after(message.sent, serial)
    }

    /// In words.
    #[must_use]
    pub fn shown(&self) -> String {
        let whose = match (&self.by, &self.message) {
            (Some(by), Some(message)) => format!(" by message {message} of {by}"),
            _ => String::new(),
        };
        format!("held since {}{whose}, until {}", self.since, self.until)
    }
}

/// What counts of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its id.
    pub id: String,
    /// Who signed it.
    pub signer: String,
    /// When it was sent.
    pub sent: Timestamp,
    /// Whether it says that an update is over.
    pub over: bool,
}

/// The messages of a request, believed.
///
/// # Errors
/// Permanent: one is signed by somebody who is none of the upstream's signers, or says no time.
pub fn believed(config: &Config, messages: &[MessageView]) -> Result<Vec<Said>, Failure> {
    let read = |message: &MessageView| {
        if !config.signers.contains(&message.signer) {
            let text = format!("{} ({}) is not a signer of {}", message.signer, message.topic, config.from);
            let hint = format!("if it speaks for that upstream: signers: [{}] in the handler's block", message.signer);
            return Err(Failure::permanent(text).hinting(hint));
        }
        let sent = message.sent.parse().map_err(|error| {
            Failure::permanent(format!("message {} says no time that can be read: {error}", message.id))
        })?;
        let last = message.topic.rsplit('.').next().unwrap_or_default();
        let (id, signer) = (message.id.clone(), message.signer.clone());
        Ok(Said { id, signer, sent, over: OVER.contains(&last) })
    };
    messages.iter().map(read).collect()
}

/// Whether a part may be pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Nobody holds it.
    Free,
    /// It is held, and the message says that this is over.
    Released(Hold),
    /// It is held, and nobody said for too long that this is over.
    Lapsed(Hold),
    /// It is held.
    Held(Hold),
}

/// Whether a part may be pulled because of these messages with this serial (none: by schedule).
///
/// # Errors
/// Retry: the state can't be read.
pub fn gate(
    config: &Config,
    part: &str,
    messages: &[Said],
    serial: Option<i64>,
    now: Timestamp,
) -> Result<Gate, Failure> {
    let Some(hold) = read_json::<Hold>(&file(config, part))? else { return Ok(Gate::Free) };
    let over = messages.iter().any(|message| hold.is_ended_by(message, serial));
    Ok(match () {
        () if over => Gate::Released(hold),
        () if now >= hold.until => Gate::Lapsed(hold),
        () => Gate::Held(hold),
    })
}

/// What is in force.
///
/// # Errors
/// Retry: the state can't be read.
pub fn held(config: &Config, part: &str) -> Result<Option<Hold>, Failure> {
    read_json(&file(config, part))
}

/// Holds a part.
///
/// # Errors
/// Retry: the state can't be written.
pub fn set(config: &Config, part: &str, hold: &Hold) -> Result<(), Failure> {
    write_json(&file(config, part), hold)
}

/// Ends a hold, if it is still this one.
///
/// # Errors
/// Retry: the state can't be read or written.
pub fn release(config: &Config, part: &str, hold: &Hold) -> Result<(), Failure> {
    let file = file(config, part);
    if read_json::<Hold>(&file)?.as_ref() != Some(hold) {
        return Ok(());
    }
    remove(&file)
}

fn file(config: &Config, part: &str) -> PathBuf {
    config.state.join("hold").join(format!("{}.json", paths::stem(part)))
}

/// The lock of a part, as long as this lives; the kernel ends it with the process.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    /// Closing the file would not do: a child that another thread is just about to start has a copy of it until it is a program of
    /// its own, and with it the lock.
    fn drop(&mut self) {
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Lock {
    /// Takes it.
    ///
    /// # Errors
    /// Retry: another pull of the part is under way; the state can't be written.
    pub fn take(config: &Config, part: &str) -> Result<Self, Failure> {
        let path = config.state.join(format!("{}.lock", paths::stem(part)));
        let open = || {
            fs::create_dir_all(&config.state)?;
            File::options().create(true).truncate(false).write(true).open(&path)
        };
        let file = open().map_err(|error| trouble("opened", &path, &error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(under_way(part, &path)),
            Err(error) => Err(trouble("locked", &path, &error.into())),
        }
    }

    /// Takes the lock of what all parts write, which is held for a moment only. Waits for it.
    ///
    /// # Errors
    /// Retry: the state can't be written.
    pub fn take_waiting(config: &Config) -> Result<Self, Failure> {
        let path = config.state.join("%trace.lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| trouble("opened", &path, &error))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|error| trouble("locked", &path, &error.into()))?;
        Ok(Self { file })
    }

    /// Whether nobody has it. Writes nothing.
    ///
    /// # Errors
    /// Retry: somebody has it.
    pub fn is_free(config: &Config, part: &str) -> Result<(), Failure> {
        let path = config.state.join(format!("{}.lock", paths::stem(part)));
        let Ok(file) = File::open(&path) else { return Ok(()) };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::WOULDBLOCK) => Err(under_way(part, &path)),
            _ => {
                drop(Self { file });
                Ok(())
            }
        }
    }
}

fn under_way(part: &str, path: &Path) -> Failure {
    Failure::retry(format!("a pull of {} is under way already", paths::shown(part)))
        .hinting(format!("fuser {} tells by which process; tried again by itself", path.display()))
}

fn trouble(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::retry(format!("{} can't be {what}: {error}", path.display())).hinting(format!("ls -l {}", path.display()))
}

/// Reads a file of ours; `None` = there is none.
///
/// # Errors
/// Retry: it is there and can't be read.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    let bytes = match fs::metadata(path).and_then(|found| {
        if found.len() > FILE_BYTES_MAX { Err(io::Error::other("it is too large")) } else { fs::read(path) }
    }) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(trouble("read", path, &error)),
    };
    let wrong = |error| {
        Failure::retry(format!("{} is not what was written there: {error}", path.display()))
            .hinting(format!("rm {}: then it counts as never written", path.display()))
    };
    serde_json::from_slice(&bytes).map(Some).map_err(wrong)
}

/// Writes a file so that a reader finds the old or the new one, and nothing in between.
///
/// # Errors
/// Retry: it can't be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let write = || {
        let directory = path.parent().unwrap_or(path);
        fs::create_dir_all(directory)?;
        let mut new = tempfile::Builder::new().prefix(".new-").tempfile_in(directory)?;
        let mut bytes = serde_json::to_vec_pretty(value)?;
        bytes.push(b'\n');
        new.write_all(&bytes)?;
        // Who pulls from this mirror must be able to read it.
        new.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        new.as_file().sync_all()?;
        new.persist(path).map_err(|error| error.error)?;
        Ok::<(), io::Error>(())
    };
    write().map_err(|error| trouble("written", path, &error))
}

/// Removes a file; one that is not there is fine.
///
/// # Errors
/// Retry: it is still there.
pub fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(trouble("removed", path, &error)),
        _ => Ok(()),
    }
}
