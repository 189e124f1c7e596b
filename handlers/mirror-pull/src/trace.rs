//! What a mirror says of itself to those that pull from it, below [`OWN`]: a marker while it changes, a trace of what it
//! has. And what we remember of the upstream's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use handler_api::Failure;
use handler_api::words::quoted;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::Config;
use crate::hold::{read_json, remove, write_json};
use crate::paths::{self, OWN, Piece};
use crate::rsync;

/// The end of a marker's name.
const IN_PROGRESS: &str = "in-progress";
/// How a trace calls a part that is all of it.
const ALL: &str = ".";

/// What each part was at: serial, finished, and more.
pub type Entries = BTreeMap<String, Value>;

/// `trace.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Who wrote it.
    #[serde(default)]
    pub mirror: String,
    /// The parts.
    #[serde(default)]
    pub parts: Entries,
}

/// What the upstream says of itself now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Upstream {
    /// Parts that it is changing, and since when as far as it says.
    busy: BTreeMap<String, String>,
    trace: Trace,
}

impl Upstream {
    /// Asks it.
    ///
    /// # Errors
    /// It can't be reached or read. One that says nothing of itself is no error: it is no mirror of ours.
    pub async fn look(config: &Config) -> Result<Self, Failure> {
        let no_room = |error| Failure::retry(format!("no temporary directory: {error}")).hinting("df -h /tmp");
        let into = tempfile::Builder::new().prefix("upstream-").tempdir().map_err(no_room)?;
        let ran = rsync::run(config, rsync::args::look(config, into.path()), Vec::new(), |_| ()).await?;
        if ran.code != Some(0) {
            return Err(rsync::exit::failure(config, "asking the upstream", ran.code, &ran.said));
        }
        let own = into.path().join(OWN);
        let Ok(files) = fs::read_dir(&own) else { return Ok(Self::default()) };
        let mut found = Self::default();
        for file in files.flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let Some(stem) = name.strip_suffix(IN_PROGRESS) else { continue };
            let marker: Option<Value> = read_json(&file.path()).unwrap_or_default();
            let since = marker.as_ref().and_then(|marker| marker["since"].as_str()).unwrap_or("an unknown time");
            let part = stem.strip_suffix('.').map(paths::unstem).unwrap_or_default();
            found.busy.insert(part, since.chars().filter(|c| !c.is_control()).take(40).collect());
        }
        // One that is no JSON is no trace: then only the dry run decides.
        found.trace = read_json(&own.join("trace.json")).unwrap_or_default().unwrap_or_default();
        Ok(found)
    }

    /// That it is not changing what is asked for.
    ///
    /// # Errors
    /// Retry: it is.
    pub fn is_at_rest(&self, config: &Config, piece: &Piece) -> Result<(), Failure> {
        let touched = |part: &str| piece.directories.iter().any(|directory| paths::overlap(directory, part));
        let Some((part, since)) = self.busy.iter().find(|(part, _)| touched(part)) else { return Ok(()) };
        let message = format!("{} is mid-update ({}, since {since})", config.from, quoted(paths::shown(part)));
        Err(Failure::retry(message).hinting("tried again by itself; if it stays so, ask who runs that mirror"))
    }

    /// What it says of all parts that a part of ours overlaps.
    #[must_use]
    pub fn seen(&self, part: &str) -> Entries {
        let name = |other: &str| if other == ALL { String::new() } else { other.to_owned() };
        let ours = |(other, _): &(&String, &Value)| paths::overlap(part, &name(other));
        self.trace.parts.iter().filter(ours).map(|(part, entry)| (part.clone(), entry.clone())).collect()
    }

    /// The largest serial in [`Upstream::seen`].
    #[must_use]
    pub fn serial(&self, part: &str) -> Option<i64> {
        self.seen(part).values().filter_map(|entry| entry["serial"].as_i64()).max()
    }
}

/// What was pulled before, of one part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pulled {
    /// What the upstream said of itself when all of the part was pulled.
    #[serde(default)]
    pub whole: Entries,
    /// The directories that were pulled last, and what the upstream said of itself then.
    #[serde(default)]
    pub last: (BTreeSet<String>, Entries),
    /// The time of the newest message that was followed.
    #[serde(default)]
    pub sent: Option<Timestamp>,
    /// The largest serial that was followed.
    #[serde(default)]
    pub serial: Option<i64>,
    /// When the newest message was sent that said that an update is over.
    #[serde(default)]
    pub released: Option<Timestamp>,
    /// The largest serial of such a message.
    #[serde(default)]
    pub released_serial: Option<i64>,
}

impl Pulled {
    /// Whether the update that a hold is for is over already: the hold came late. Serials decide, where both have one.
    #[must_use]
    pub fn is_over(&self, sent: Timestamp, serial: Option<i64>) -> bool {
        match (self.released_serial, serial) {
            (Some(known), Some(serial)) if known != serial => serial < known,
            _ => self.released.is_some_and(|known| known > sent),
        }
    }

    fn file(config: &Config, part: &str) -> PathBuf {
        config.state.join("pulled").join(format!("{}.json", paths::stem(part)))
    }

    /// What is remembered of a part.
    ///
    /// # Errors
    /// Retry: the state can't be read.
    pub fn read(config: &Config, part: &str) -> Result<Self, Failure> {
        Ok(read_json(&Self::file(config, part))?.unwrap_or_default())
    }

    /// Remembers it.
    ///
    /// # Errors
    /// Retry: the state can't be written.
    pub fn write(&self, config: &Config, part: &str) -> Result<(), Failure> {
        write_json(&Self::file(config, part), self)
    }

    /// Whether the upstream is as it was when this piece was pulled, and no message is newer.
    #[must_use]
    pub fn is_current(&self, piece: &Piece, seen: &Entries, sent: Option<Timestamp>, serial: Option<i64>) -> bool {
        let covered = |done: &BTreeSet<String>| {
            piece.directories.iter().all(|directory| done.iter().any(|top| paths::is_below(directory, top)))
        };
        let old = sent.is_none_or(|sent| self.sent.is_some_and(|known| sent <= known))
            && serial.is_none_or(|serial| self.serial.is_some_and(|known| serial <= known));
        let same = self.whole == *seen || (covered(&self.last.0) && self.last.1 == *seen);
        !seen.is_empty() && old && same
    }

    /// Takes in what has now been pulled.
    pub fn add(&mut self, piece: &Piece, seen: Entries, sent: Option<Timestamp>, serial: Option<i64>) {
        if piece.is_whole() || self.is_next(piece, &seen) {
            self.whole.clone_from(&seen);
        }
        self.last = (piece.directories.clone(), seen);
        self.sent = self.sent.max(sent);
        self.serial = self.serial.max(serial);
    }

    /// Whether the upstream did nothing since the whole part was pulled but what is in the piece: then all of it is here.
    fn is_next(&self, piece: &Piece, seen: &Entries) -> bool {
        let follows = |(part, entry): (&String, &Value)| {
            let Some(known) = self.whole.get(part) else { return false };
            let directories: Option<Vec<&str>> =
                entry["directories"].as_array().and_then(|list| list.iter().map(Value::as_str).collect());
            let inside = |directory: &&str| piece.directories.iter().any(|top| paths::is_below(directory, top));
            let next = known["finished"].is_string() && known["finished"] == entry["previous"];
            known == entry || (next && directories.is_some_and(|list| !list.is_empty() && list.iter().all(inside)))
        };
        self.whole.len() == seen.len() && seen.iter().all(follows)
    }
}

/// Our own marker of a part. Away when this is dropped, unless what it stands for may be half new.
#[derive(Debug)]
pub struct Marker {
    path: PathBuf,
    body: Value,
    stays: bool,
}

impl Marker {
    fn path(config: &Config, part: &str) -> PathBuf {
        let name =
            if part.is_empty() { IN_PROGRESS.to_owned() } else { format!("{}.{IN_PROGRESS}", paths::stem(part)) };
        config.to.join(OWN).join(name)
    }

    /// What one that was killed had begun, added to what is asked for: it may be half new.
    #[must_use]
    pub fn and_left_over(config: &Config, piece: Piece) -> Piece {
        if piece.is_whole() || !Self::is_there(config, &piece.part) {
            return piece;
        }
        let body: Option<Value> = read_json(&Self::path(config, &piece.part)).unwrap_or_default();
        let begun = body.and_then(|body| paths::scope(&config.parts, body.get("directories")).ok());
        let begun = begun.and_then(|(pieces, _)| pieces.into_iter().find(|other| other.part == piece.part));
        match begun {
            Some(begun) if !begun.is_whole() => {
                let all: Vec<&String> = piece.directories.iter().chain(&begun.directories).collect();
                let both = paths::scope(&config.parts, Some(&json!(all))).ok();
                let both = both.and_then(|(pieces, _)| pieces.into_iter().find(|other| other.part == piece.part));
                both.unwrap_or_else(|| Piece::whole(&piece.part))
            }
            _ => Piece::whole(&piece.part),
        }
    }

    /// Whether one is there: of a pull that is under way, or of one that was killed.
    #[must_use]
    pub fn is_there(config: &Config, part: &str) -> bool {
        fs::symlink_metadata(Self::path(config, part)).is_ok()
    }

    /// Says that the part changes. One that was killed half-way through stage 2 leaves it half new until a pull comes through.
    ///
    /// # Errors
    /// Retry: it can't be written.
    pub fn begin(config: &Config, piece: &Piece, now: Timestamp) -> Result<Self, Failure> {
        let path = Self::path(config, &piece.part);
        open_to_all(&config.to.join(OWN))?;
        let old: Option<Value> = read_json(&path).unwrap_or_default();
        let stays = old.is_some_and(|old| old["stage"].as_u64() != Some(1)) || {
            // Of one that can't be read nobody knows.
            Self::is_there(config, &piece.part) && read_json::<Value>(&path).is_err()
        };
        let body = json!({
            "mirror": config.name, "part": paths::shown(&piece.part), "directories": piece.directories,
            "since": now.to_string(), "stage": if stays { 2 } else { 1 },
        });
        let marker = Self { path, body, stays };
        write_json(&marker.path, &marker.body)?;
        Ok(marker)
    }

    /// From now on what is named and what names it may not fit together.
    ///
    /// # Errors
    /// Retry: it can't be written.
    pub fn half_new(&mut self) -> Result<(), Failure> {
        self.body["stage"] = 2.into();
        write_json(&self.path, &self.body)?;
        self.stays = true;
        Ok(())
    }

    /// From now on all fits together.
    pub fn whole(&mut self) {
        self.stays = false;
    }

    /// Takes it away.
    ///
    /// # Errors
    /// Retry: it is still there.
    pub fn end(mut self) -> Result<(), Failure> {
        self.stays = true;
        remove(&self.path)
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        if !self.stays {
            let _ = remove(&self.path);
        }
    }
}

/// A directory that everybody may read, whatever our umask is.
fn open_to_all(path: &std::path::Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let make = || {
        if !fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
            fs::create_dir(path)?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
    };
    make().map_err(|error| {
        Failure::retry(format!("{} can't be made: {error}", path.display()))
            .hinting(format!("ls -ld {}", path.display()))
    })
}

/// Writes our own trace of a part that has been pulled; the other parts' stay.
///
/// # Errors
/// Retry: it can't be written.
pub fn write(config: &Config, part: &str, mut entry: Value) -> Result<(), Failure> {
    let path = config.to.join(OWN).join("trace.json");
    let _turn = crate::hold::Lock::take_waiting(config)?;
    // One that can't be read is written anew: it is ours.
    let mut trace: Trace = read_json(&path).unwrap_or_default().unwrap_or_default();
    trace.mirror.clone_from(&config.name);
    let name = if part.is_empty() { ALL } else { part };
    if let Some(old) = trace.parts.get(name) {
        entry["previous"] = old["finished"].clone();
    }
    trace.parts.insert(name.to_owned(), entry);
    trace.parts.retain(|part, _| {
        let part = if part == ALL { "" } else { part };
        config.parts.iter().any(|ours| ours == part)
    });
    write_json(&path, &trace)
}
