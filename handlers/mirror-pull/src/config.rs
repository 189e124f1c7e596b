//! The handler's block of the rules file. Pure.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handler_api::words::{Words, is_name};
use handler_api::{Failure, ParamType};
use serde_json::{Map, Value};

use crate::paths;

/// Longest `time` and `hold`: a day.
pub const TIME_MAX: Duration = Duration::from_secs(24 * 3_600);
/// `time` where none is said: of one rsync.
pub const TIME: Duration = Duration::from_secs(2 * 3_600);
/// `hold` where none is said.
pub const HOLD: Duration = Duration::from_secs(2 * 3_600);
/// Most items of `signers`, `parts`, `last` and `excludes`.
pub const ITEMS_MAX: usize = 1_000;
/// What comes in stage 2 where `last` says nothing: what names other files and their checksums.
pub const LAST: [&str; 9] = [
    "repodata",
    "repomd.xml*",
    "*-CHECKSUM",
    "CHECKSUM*",
    "SHA*SUMS*",
    ".treeinfo",
    "treeinfo",
    "fullfile*list*",
    "imagelist-*",
];

const WORDS: [&str; 12] =
    ["name", "from", "to", "signers", "parts", "last", "excludes", "bandwidth", "time", "hold", "state", "announce"];

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What this mirror calls itself.
    pub name: String,
    /// Where it pulls from: `rsync://…` or an absolute directory; no slash at its end.
    pub from: String,
    /// Where what is below `from` goes.
    pub to: PathBuf,
    /// Whose messages are believed about `from`.
    pub signers: BTreeSet<String>,
    /// What one hold holds, none below another; one empty text = all of it is one part.
    pub parts: Vec<String>,
    /// Patterns of what comes after what it names.
    pub last: Vec<String>,
    /// Patterns of what is left alone, there and here.
    pub excludes: Vec<String>,
    /// Most bytes a second.
    pub bandwidth: Option<u64>,
    /// How long one rsync may take.
    pub time: Duration,
    /// After this a hold without an end lapses.
    pub hold: Duration,
    /// Holds, locks and what was pulled.
    pub state: PathBuf,
    /// Where `mirror.pull.started` and `.finished` are published.
    pub announce: Option<Announce>,
}

/// The block `announce`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The inbound address of a relay.
    pub connect: String,
    /// The certificate.
    pub cert: PathBuf,
    /// The secret with its key.
    pub key: String,
    /// What stands before `.mirror.pull.started`.
    pub topics: String,
}

impl Config {
    /// Reads the block.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word and says what is expected.
    pub fn read(words: &Map<String, Value>) -> Result<Self, Failure> {
        let block = Value::Object(words.clone());
        let words = Words::read(&block, "mirror-pull", &WORDS)?;
        let missing = |word: &str, hint: &str| {
            Failure::permanent(format!("mirror-pull: `{word}` is missing")).hinting(hint.to_owned())
        };
        let name = words
            .text("name")?
            .ok_or_else(|| missing("name", "write name: MIRROR.EXAMPLE.ORG, what this mirror calls itself"))?;
        if !is_name(name) {
            return Err(words.wrong("name", "is not a name", &name.into()));
        }
        let from = words.text("from")?.ok_or_else(|| missing("from", "write from: rsync://HOST/MODULE"))?;
        let from = from.trim_end_matches('/');
        if !is_upstream(from) {
            return Err(words
                .wrong("from", "is neither rsync://HOST/MODULE nor an absolute directory", &from.into())
                .hinting("write from: rsync://master.example.org/pub"));
        }
        let to = path(&words, "to")?.ok_or_else(|| missing("to", "write to: /srv/mirror/pub"))?;
        let state = path(&words, "state")?
            .ok_or_else(|| missing("state", "write state: /var/lib/reactor/mirror, a directory outside of `to`"))?;
        let here = |other: &Path| other.starts_with(&to) || to.starts_with(other);
        if state.starts_with(&to) {
            return Err(words.wrong("state", "lies inside of `to`, where everybody reads it", &text(&state)));
        }
        if from.starts_with('/') && here(Path::new(from)) {
            return Err(words.wrong("to", "and `from` lie inside of each other", &text(&to)));
        }
        Ok(Self {
            name: name.to_owned(),
            from: from.to_owned(),
            signers: list(&words, "signers")?.unwrap_or_default().into_iter().collect(),
            parts: parts(&words)?,
            last: patterns(&words, "last")?.unwrap_or_else(|| LAST.map(str::to_owned).to_vec()),
            excludes: patterns(&words, "excludes")?.unwrap_or_default(),
            bandwidth: bandwidth(&words)?,
            time: words.duration("time", TIME, TIME_MAX)?,
            hold: words.duration("hold", HOLD, TIME_MAX)?,
            announce: words.get("announce").map(announce).transpose()?,
            to,
            state,
        })
    }

    /// Whether `from` is a daemon's.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.from.starts_with("rsync://")
    }
}

/// Whether rsync takes this as a daemon's module or as a directory, and as nothing else.
fn is_upstream(from: &str) -> bool {
    let Some(rest) = from.strip_prefix("rsync://") else {
        return from.len() > 1 && from.starts_with('/') && paths::clean(from.trim_start_matches('/')).is_ok();
    };
    let Some((host, module)) = rest.split_once('/') else { return false };
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"@._-+[]:~".contains(&b));
    !host.is_empty() && plain(host) && !host.starts_with('-') && paths::clean(module).is_ok_and(|path| path == module)
}

fn text(path: &Path) -> Value {
    path.display().to_string().into()
}

fn path(words: &Words<'_>, word: &str) -> Result<Option<PathBuf>, Failure> {
    match words.text(word)? {
        None => Ok(None),
        Some(text) if text.len() > 1 && text.starts_with('/') && !text.split('/').any(|part| part == "..") => {
            Ok(Some(text.trim_end_matches('/').into()))
        }
        Some(text) => Err(words
            .wrong(word, "is not an absolute path without `..`", &text.into())
            .hinting("write /PATH, or ./PATH for one beside the rules file")),
    }
}

fn list(words: &Words<'_>, word: &str) -> Result<Option<Vec<String>>, Failure> {
    let Some(value) = words.get(word) else { return Ok(None) };
    let plain = |item: &Value| {
        item.as_str().filter(|text| !text.is_empty() && !text.chars().any(char::is_control)).map(str::to_owned)
    };
    let read = value.as_array().filter(|list| list.len() <= ITEMS_MAX);
    let read: Option<Vec<String>> = read.and_then(|list| list.iter().map(plain).collect());
    let wrong = || words.wrong(word, "is not a list of texts of one line", value);
    read.map(Some).ok_or_else(wrong)
}

fn parts(words: &Words<'_>) -> Result<Vec<String>, Failure> {
    let Some(parts) = list(words, "parts")?.filter(|parts| !parts.is_empty()) else { return Ok(vec![String::new()]) };
    let mut read: Vec<String> = Vec::new();
    for part in parts {
        let path =
            paths::clean(&part).and_then(|path| if path.is_empty() { Err("is all of it".into()) } else { Ok(path) });
        let path = path.map_err(|why| words.wrong("parts", &format!("has one that {why}"), &part.clone().into()))?;
        if let Some(other) = read.iter().find(|other| paths::overlap(other, &path)) {
            return Err(words.wrong("parts", &format!("has two that overlap, {other} and"), &path.into()));
        }
        read.push(path);
    }
    Ok(read)
}

fn patterns(words: &Words<'_>, word: &str) -> Result<Option<Vec<String>>, Failure> {
    let read = list(words, word)?;
    // To rsync these would be other rules than "leave it out".
    let odd = |text: &&String| text.starts_with("+ ") || text.starts_with("- ") || text.starts_with('!');
    match read.iter().flatten().find(odd) {
        None => Ok(read),
        Some(odd) => Err(words.wrong(word, "has something that is no pattern", &odd.clone().into())),
    }
}

/// `20MB/s`, `500KB/s`: in bytes a second.
fn bandwidth(words: &Words<'_>) -> Result<Option<u64>, Failure> {
    let Some(text) = words.text("bandwidth")? else { return Ok(None) };
    let read = || {
        let rate = text.strip_suffix("/s")?;
        let digits = rate.bytes().take_while(u8::is_ascii_digit).count();
        let unit = match &rate[digits..] {
            "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => return None,
        };
        rate[..digits].parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 1_024)
    };
    let wrong = || words.wrong("bandwidth", "is not a rate; write 500KB/s or 20MB/s", &text.into());
    read().map(Some).ok_or_else(wrong)
}

fn announce(value: &Value) -> Result<Announce, Failure> {
    let words = Words::read(value, "mirror-pull: announce", &["connect", "cert", "key", "topics"])?;
    let hint = "write announce: {connect: tcp://RELAY:2001, cert: FILE, key: SECRET, topics: org.example.prod}";
    let need = |word: &str| {
        let missing = || Failure::permanent(format!("mirror-pull: announce: `{word}` is missing")).hinting(hint);
        words.text(word)?.map(str::to_owned).ok_or_else(missing)
    };
    let (connect, key, topics) = (need("connect")?, need("key")?, need("topics")?);
    need("cert")?;
    let plain = |text: &str| !text.starts_with('-');
    if !connect.contains("://") || !plain(&connect) {
        return Err(words.wrong("connect", "is not an address", &connect.into()).hinting(hint));
    }
    if !is_name(&key) {
        return Err(words.wrong("key", "is not the name of a secret", &key.into()).hinting(hint));
    }
    if !plain(&topics) || ParamType::Topic.check(&Value::String(topics.clone())).is_err() {
        return Err(words.wrong("topics", "is not the beginning of a topic", &topics.into()).hinting(hint));
    }
    let cert = path(&words, "cert")?.unwrap_or_default();
    Ok(Announce { connect, cert, key, topics })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(more: &Value) -> Result<Config, Failure> {
        let mut words = json!({"name": "t1a.example.org", "from": "rsync://m.example.org/pub", "to": "/srv/pub", "state": "/var/m"});
        let map = words.as_object_mut().unwrap();
        for (word, value) in more.as_object().unwrap() {
            map.insert(word.clone(), value.clone());
        }
        Config::read(map)
    }

    #[test]
    fn four_words_are_enough_and_all_are_read() {
        let config = read(&json!({})).unwrap();
        assert_eq!((config.parts, config.time, config.announce), (vec![String::new()], TIME, None));
        assert!(config.last.contains(&"repodata".to_owned()) && config.signers.is_empty());
        let config = read(&json!({
            "from": "rsync://u@[::1]:8873/pub/x/", "signers": ["master.example.org"], "parts": ["fedora/", "epel"],
            "last": ["x"], "excludes": ["*.iso"], "bandwidth": "20MB/s", "time": "1h", "hold": "5m",
            "announce": {"connect": "tcp://r:2001", "cert": "/c.crt", "key": "bus_key", "topics": "org.example.prod"},
        }))
        .unwrap();
        assert_eq!((config.from.as_str(), config.bandwidth), ("rsync://u@[::1]:8873/pub/x", Some(20_000_000)));
        assert_eq!(config.parts, ["fedora", "epel"]);
        assert_eq!(config.announce.unwrap().key, "bus_key");
        assert!(!read(&json!({"from": "/srv/master"})).unwrap().is_remote());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (wrong, said) in [
            (json!({"name": null}), "`name` is missing"),
            (json!({"form": "x"}), "did you mean `from`"),
            (json!({"from": "host:path"}), "`from` is neither"),
            (json!({"from": "host::module"}), "`from` is neither"),
            (json!({"from": "rsync://h"}), "`from` is neither"),
            (json!({"from": "rsync://-oX/y"}), "`from` is neither"),
            (json!({"from": "rsync://h/../x"}), "`from` is neither"),
            (json!({"from": "-e sh"}), "`from` is neither"),
            (json!({"to": "srv"}), "`to` is not an absolute"),
            (json!({"state": "/srv/pub/state"}), "inside of `to`"),
            (json!({"from": "/srv"}), "inside of each other"),
            (json!({"parts": ["a", "a/b"]}), "overlap"),
            (json!({"parts": ["../x"]}), "`parts`"),
            (json!({"last": ["+ *"]}), "`last`"),
            (json!({"bandwidth": "20"}), "`bandwidth`"),
            (json!({"bandwidth": 20}), "`bandwidth`"),
            (json!({"time": "9d"}), "`time`"),
            (json!({"signers": "x"}), "`signers`"),
            (json!({"announce": {"connect": "tcp://r:1"}}), "is missing"),
            (json!({"announce": {"connect": "tcp://r:1", "cert": "/c", "key": "../k", "topics": "a"}}), "`key`"),
        ] {
            let failure = read(&wrong).unwrap_err();
            let all = format!("{failure} {}", failure.hint().unwrap_or_default());
            assert!(all.contains(said), "{wrong}: {all}");
            assert_eq!(failure.exit_code(), handler_api::exit::PERMANENT);
        }
    }
}
