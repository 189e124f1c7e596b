//! The directory, the lock and the bare files, before SQLite opens any of them.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::fault::Fault;

/// The journal's file in its directory.
pub(super) const FILE: &str = "journal.db";
/// The file whose lock says that a daemon has this directory; the daemon's pid stands in it.
pub(super) const LOCK: &str = "lock";
/// Longest pid that is read from the lock file, in bytes.
const PID_BYTES_MAX: u64 = 20;

/// Makes the directory, readable by its owner only. An existing one stays as it is.
pub(super) fn make_directory(directory: &Path) -> Result<(), Fault> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| Fault::Io { what: format!("can't make {}", directory.display()), error })
}

/// A directory that this process alone writes to, until this goes (also by a crash).
#[derive(Debug)]
pub(crate) struct Held(File);

impl Drop for Held {
    /// Closing the file would not do: a child that another thread is just about to start has a copy of it until it is a program of
    /// its own, and with it the lock.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Takes the directory for this process.
pub(super) fn lock(directory: &Path) -> Result<Held, Fault> {
    let path = directory.join(LOCK);
    let io = |error| Fault::Io { what: format!("can't lock {}", path.display()), error };
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(directory, &mut file)),
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
    writeln!(file, "{}", std::process::id()).map_err(io)?;
    Ok(Held(file))
}

fn in_use(directory: &Path, file: &mut File) -> Fault {
    let mut text = String::new();
    let read = file.take(PID_BYTES_MAX).read_to_string(&mut text);
    let pid = read.ok().and_then(|_| text.trim().parse::<u32>().ok());
    let holder = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    let look = pid.map_or_else(String::new, |pid| format!(" (ps -fp {pid})"));
    Fault::Refused {
        why: format!("{holder} has it open; only one daemon may write to {}", directory.display()),
        hint: format!("stop that one{look}, or start this one with another --state DIR"),
    }
}

/// Makes the journal's file, readable by its owner only; SQLite gives the files beside it the same mode. Must run before
/// SQLite opens it in this process: closing the file here would drop SQLite's locks.
pub(super) fn make_file(directory: &Path) -> Result<PathBuf, Fault> {
    let path = directory.join(FILE);
    let io = |error| Fault::Io { what: format!("can't make {}", path.display()), error };
    if path.exists() {
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(io)?;
    } else {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(io)?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)?;
    }
    Ok(path)
}

/// Gives the journal's file a name that no other has: this one, or with a number behind it. Its write-ahead log must be in it by
/// then, as it is when the last one who had it open has closed it.
pub(super) fn put_away(directory: &Path, name: &str) -> std::io::Result<String> {
    let path = directory.join(FILE);
    if std::fs::metadata(wal(&path)).is_ok_and(|data| data.len() > 0) {
        let why = format!("somebody reads {} now (fuser -v {0})", path.display());
        return Err(std::io::Error::other(why));
    }
    let numbered = (2_u32..).map(|n| format!("{name}{n}"));
    let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !directory.join(name).exists());
    let free = free.unwrap_or_else(|| name.to_owned());
    std::fs::rename(&path, directory.join(&free))?;
    File::open(directory)?.sync_all()?;
    Ok(free)
}

/// The write-ahead log of the journal at `path`.
fn wal(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// What the journal takes on the disk, in bytes.
pub(super) fn bytes_on_disk(path: &Path) -> u64 {
    [path.to_owned(), wal(path)].iter().filter_map(|file| std::fs::metadata(file).ok()).map(|data| data.len()).sum()
}
