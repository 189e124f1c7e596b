//! What `reactor check` asks. Changes nothing.

use std::path::Path;

use handler_api::Failure;
use serde_json::{Map, Value};

use crate::config::Config;
use crate::rsync;

/// Looks at every word of the block without asking anybody.
///
/// # Errors
/// What is wrong with them.
pub fn check_config(words: &Map<String, Value>) -> Result<(), Failure> {
    Config::read(words).map(drop)
}

/// Looks at what the block names on this machine: what is wrong with each.
#[must_use]
pub fn check_files(words: &Map<String, Value>) -> Vec<Failure> {
    let Ok(config) = Config::read(words) else { return Vec::new() };
    let mut wrong = Vec::new();
    wrong.extend(directory("to", &config.to).err());
    if !config.is_remote() {
        wrong.extend(directory("from", Path::new(&config.from)).err());
    }
    if let Some(announce) = &config.announce
        && let Err(error) = std::fs::File::open(&announce.cert)
    {
        let message = format!("mirror-pull: announce: `cert` {} can't be read: {error}", announce.cert.display());
        wrong.push(Failure::permanent(message));
    }
    if !rsync::is_there() {
        wrong.push(Failure::permanent("mirror-pull: there is no rsync on this machine").hinting(rsync::INSTALL));
    }
    wrong
}

/// That a directory is there.
///
/// # Errors
/// Retry: it is not; a file system that is not mounted comes back.
pub fn directory(word: &str, path: &Path) -> Result<(), Failure> {
    let why = match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => "is no directory".to_owned(),
        Err(error) => format!("can't be read: {error}"),
    };
    Err(Failure::retry(format!("mirror-pull: `{word}` {} {why}", path.display()))
        .hinting(format!("is its file system mounted? then: mkdir -p {}", path.display())))
}
