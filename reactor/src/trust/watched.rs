//! Something that is read from files and read again when they change. A file that has become unreadable replaces what was
//! read before: a stale answer is never kept, since it might be the one that a revocation was to end.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use jiff::Timestamp;

/// How often the files are looked at, at most, in seconds.
pub const RELOAD_CHECK_SECONDS: i64 = 5;
/// Largest file that is read, in bytes (a revocation list of a large CA has some megabytes).
pub const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What tells one version of a file from another: device, inode, length, changed and modified (seconds, nanoseconds).
type Stamp = Option<[i128; 7]>;

/// What `load` made of the files' present content.
pub struct Watched<T> {
    files: Vec<PathBuf>,
    load: fn(&[PathBuf]) -> T,
    loaded: ArcSwap<(Vec<Stamp>, Arc<T>)>,
    looked_s: AtomicI64,
}

impl<T> Watched<T> {
    /// Reads the files. `load` never fails: what is wrong is part of what it makes.
    pub fn open(files: Vec<PathBuf>, load: fn(&[PathBuf]) -> T) -> Self {
        // Stamps first: a file that changes while it is read is read once more.
        let stamps = files.iter().map(|file| stamp(file)).collect();
        let loaded = ArcSwap::from_pointee((stamps, Arc::new(load(&files))));
        Self { files, load, loaded, looked_s: AtomicI64::new(i64::MIN) }
    }

    /// What was made of the files as they are now, at most [`RELOAD_CHECK_SECONDS`] old.
    pub fn current(&self, now: Timestamp) -> Arc<T> {
        let (now_s, looked_s) = (now.as_second(), self.looked_s.load(Ordering::Relaxed));
        let age_s = now_s.saturating_sub(looked_s);
        if !(0..RELOAD_CHECK_SECONDS).contains(&age_s) {
            self.looked_s.store(now_s, Ordering::Relaxed);
            let stamps: Vec<Stamp> = self.files.iter().map(|file| stamp(file)).collect();
            if stamps != self.loaded.load().0 {
                self.loaded.store(Arc::new((stamps, Arc::new((self.load)(&self.files)))));
            }
        }
        Arc::clone(&self.loaded.load().1)
    }
}

fn stamp(file: &Path) -> Stamp {
    let is = std::fs::metadata(file).ok()?;
    let (changed, modified) = ((is.ctime(), is.ctime_nsec()), (is.mtime(), is.mtime_nsec()));
    let times = [changed.0, changed.1, modified.0, modified.1].map(i128::from);
    Some([is.dev().into(), is.ino().into(), is.len().into(), times[0], times[1], times[2], times[3]])
}

/// The content of a file of at most [`FILE_BYTES_MAX`].
///
/// # Errors
/// A sentence with the path and the reason.
pub fn read(file: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let mut content = Vec::new();
    std::fs::File::open(file)
        .and_then(|open| open.take(FILE_BYTES_MAX + 1).read_to_end(&mut content))
        .map_err(|error| format!("{} can't be read: {error}", file.display()))?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{} has more than {FILE_BYTES_MAX} bytes", file.display()));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(files: &[PathBuf]) -> Result<Vec<u8>, String> {
        read(&files[0])
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_lost_one_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "one").unwrap();
        let watched = Watched::open(vec![file.clone()], text);
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!(*watched.current(at(100)), Ok(b"one".to_vec()));
        std::fs::write(&file, "two!").unwrap();
        assert_eq!(*watched.current(at(100 + RELOAD_CHECK_SECONDS - 1)), Ok(b"one".to_vec()));
        assert_eq!(*watched.current(at(100 + RELOAD_CHECK_SECONDS)), Ok(b"two!".to_vec()));
        std::fs::remove_file(&file).unwrap();
        assert!(watched.current(at(200)).is_err());
        std::fs::write(&file, "three").unwrap();
        assert_eq!(*watched.current(at(50)), Ok(b"three".to_vec()), "also when the clock was set back");
    }
}
