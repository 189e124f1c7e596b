//! Directories and files by file descriptor: no link is followed below the root, and no name is looked up twice.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;
use rustix::path::Arg;

/// The later of mtime and ctime, in seconds since 1970.
pub(crate) fn time(stat: &Stat) -> i64 {
    stat.st_mtime.max(stat.st_ctime)
}

/// What moves when a directory's entries or a file's content change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp([i64; 3], [u64; 2]);

impl Stamp {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self([stat.st_mtime, stat.st_ctime, stat.st_size], [stat.st_mtime_nsec, stat.st_ctime_nsec])
    }
}

pub(crate) fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Opens the root; that itself may be a link.
pub(crate) fn root(path: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a directory in another; a link is none.
pub(crate) fn enter<P: Arg>(above: impl AsFd, name: P) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(above, name, flags, Mode::empty())
}

/// Opens a directory by its whole name below the root, part by part.
pub(crate) fn enter_all(root: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let mut at = root.try_clone_to_owned().map_err(|_| Errno::MFILE)?;
    for part in name.split('/').filter(|part| !part.is_empty()) {
        if part == ".." {
            return Err(Errno::XDEV);
        }
        at = enter(&at, part)?;
    }
    Ok(at)
}

/// What a name in a directory is; a link is a link.
pub(crate) fn stat_in<P: Arg>(at: impl AsFd, name: P) -> Result<Stat, Errno> {
    statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// A file's content.
pub(crate) enum Content {
    /// All of it, and the file's time.
    Whole(Vec<u8>, i64),
    /// It is larger than the limit.
    TooLarge,
}

/// Reads a file in a directory; a link is none.
///
/// # Errors
/// Also if it changed while it was read, or is no file.
pub(crate) fn content(at: impl AsFd, name: &str, bytes_max: u64) -> io::Result<Content> {
    // Without NONBLOCK, opening a FIFO would wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(openat(at, name, flags, Mode::empty())?);
    let before = fstat(&file)?;
    if !is_file(&before) {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    (&mut file).take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Ok(Content::TooLarge);
    }
    let after = fstat(&file)?;
    if Stamp::of(&before) != Stamp::of(&after) || i64::try_from(bytes.len()) != Ok(after.st_size) {
        return Err(io::Error::other("it changed while it was read"));
    }
    Ok(Content::Whole(bytes, time(&after)))
}
