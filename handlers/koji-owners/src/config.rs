//! The handler's block of the rules file. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use accounts::curl::check_url;
use handler_api::Failure;
use handler_api::words::{Words, is_name, quoted};
use serde_json::{Map, Value};

use crate::hub::{Login, Place};
use crate::names::{PackageName, UserName};
use crate::plan::Ways;
use crate::tags::Tags;
use crate::truth::Truth;

/// Longest `timeout`, in seconds.
pub const TIMEOUT_SECONDS_MAX: u64 = 3_600;
/// The `timeout` where none is said, in seconds: a `multiCall` of 500 changes takes a busy hub a while.
pub const TIMEOUT_SECONDS: u64 = 300;
/// Most packages in `extra_arches`.
pub const EXTRA_ARCHES_MAX: usize = 1_000;
/// Longest text of architectures, in bytes.
pub const ARCHES_BYTES_MAX: usize = 256;
/// The namespace of packages where the truth's block names none.
pub const NAMESPACE: &str = "rpms";

/// The words of the block.
const WORDS: [&str; 10] =
    ["hub", "login", "ca", "timeout", "packages", "tags", "extra_arches", "orphan", "no_account", "hold"];

/// All of it.
#[derive(Clone, Debug)]
pub struct Config {
    /// `hub`, `ca`, `timeout`, `login`.
    pub place: Place,
    /// `packages`: see [`crate::truth::Truth::open`].
    pub packages: Value,
    /// `tags`: see [`crate::tags::Tags::open`].
    pub tags: Value,
    /// `namespace` of `packages`, where it has one: what messages may put before a package's name.
    pub namespace: String,
    /// `extra_arches`, `orphan`, `no_account`, `hold`.
    pub ways: Ways,
}

impl Config {
    /// Reads the block.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word and says what is expected.
    pub fn read(words: &Map<String, Value>) -> Result<Self, Failure> {
        let block = Value::Object(words.clone());
        let words = Words::read(&block, "koji-owners", &WORDS)?;
        let source = |word: &'static str, example: &str| {
            let missing =
                || Failure::permanent(format!("koji-owners: `{word}` is missing")).hinting(example.to_owned());
            words.get(word).cloned().ok_or_else(missing)
        };
        let packages = source("packages", "write packages: {yaml: ./koji/packages.yaml} (or command, pagure, pkgdb)")?;
        let tags = source("tags", "write tags: {rawhide: f45, f44: f44}, or tags: {bodhi: https://bodhi.example.org}")?;
        Truth::open(&packages)?;
        Tags::open(&tags)?;
        let namespace = packages.get("namespace").and_then(Value::as_str).unwrap_or(NAMESPACE).to_owned();
        Ok(Self { place: place(&words)?, packages, tags, namespace, ways: ways(&words)? })
    }
}

fn place(words: &Words<'_>) -> Result<Place, Failure> {
    let hint = "write hub: https://koji.example.org/kojihub";
    let Some(hub) = words.text("hub")? else {
        return Err(Failure::permanent("koji-owners: `hub` is missing: the Koji hub").hinting(hint));
    };
    let ca = match words.text("ca")? {
        Some(path) if !path.starts_with('/') => {
            let failure = words.wrong("ca", "is not the absolute path of a file", &path.into());
            return Err(failure.hinting("write /PATH, or ./PATH for a file beside the rules file"));
        }
        path => path.map(PathBuf::from),
    };
    let (default, max) = (Duration::from_secs(TIMEOUT_SECONDS), Duration::from_secs(TIMEOUT_SECONDS_MAX));
    Ok(Place {
        hub: check_url(hub).map_err(|why| words.wrong("hub", why, &hub.into()).hinting(hint))?,
        ca,
        timeout: words.duration("timeout", default, max)?,
        login: words.get("login").map(login).transpose()?,
    })
}

fn login(value: &Value) -> Result<Login, Failure> {
    let words = Words::read(value, "koji-owners: login", &["certificate", "key", "keytab", "kerberos"])?;
    let secret = |word: &str| match words.text(word)? {
        Some(name) if !is_name(name) => Err(words.wrong(word, "is not the name of a secret", &name.into())),
        name => Ok(name.map(str::to_owned)),
    };
    let kerberos = match words.text("kerberos")? {
        None => false,
        Some("environment") => true,
        Some(other) => return Err(words.wrong("kerberos", "is not `environment`", &other.into())),
    };
    match (secret("certificate")?, secret("key")?, secret("keytab")?, kerberos) {
        (Some(certificate), key, None, false) => Ok(Login::Certificate { certificate, key }),
        (None, None, Some(keytab), false) => Ok(Login::Keytab(keytab)),
        (None, None, None, true) => Ok(Login::Environment),
        _ => Err(Failure::permanent("koji-owners: login: it is not said how, or in two ways at once").hinting(
            "write login: {certificate: SECRET} (and key: SECRET if that is a file of its own), {keytab: SECRET} or {kerberos: environment}",
        )),
    }
}

fn ways(words: &Words<'_>) -> Result<Ways, Failure> {
    let user = |words: &Words<'_>, word: &str| match words.text(word)? {
        None => Ok(None),
        Some(name) => {
            let parsed = UserName::parse(name).map_err(|why| words.wrong(word, &why, &name.into()));
            parsed.map(Some)
        }
    };
    let nobody = || UserName::parse("orphan").map_err(Failure::permanent);
    let orphan = match user(words, "orphan")? {
        Some(name) => name,
        None => nobody()?,
    };
    let no_account = match words.get("no_account") {
        None => None,
        Some(block) => {
            let inner = Words::read(block, "koji-owners: no_account", &["owner"])?;
            let missing = || {
                Failure::permanent("koji-owners: no_account: `owner` is missing: who gets such packages")
                    .hinting("write no_account: {owner: releng}")
            };
            Some(user(&inner, "owner")?.ok_or_else(missing)?)
        }
    };
    let holds = holds(words)?;
    Ok(Ways {
        orphan,
        no_account,
        hold_block: holds.contains("block"),
        hold_orphan: holds.contains("orphan"),
        extra_arches: words.get("extra_arches").map_or_else(|| Ok(BTreeMap::new()), extra_arches)?,
    })
}

/// `hold`: which changes always wait for a person.
fn holds(words: &Words<'_>) -> Result<BTreeSet<String>, Failure> {
    const ALL: [&str; 2] = ["block", "orphan"];
    let Some(value) = words.get("hold") else { return Ok(ALL.map(str::to_owned).into()) };
    let read = |list: &Vec<Value>| {
        let known = |item: &Value| item.as_str().filter(|text| ALL.contains(text)).map(str::to_owned);
        list.iter().map(known).collect::<Option<BTreeSet<String>>>()
    };
    value.as_array().and_then(read).ok_or_else(|| {
        words
            .wrong("hold", "is not a list of `block` and `orphan`", value)
            .hinting("write hold: [block, orphan] (which is what counts when it is left out), or fewer of them")
    })
}

fn extra_arches(value: &Value) -> Result<BTreeMap<PackageName, String>, Failure> {
    let wrong = |why: String| {
        Failure::permanent(format!("koji-owners: extra_arches: {why}"))
            .hinting("write extra_arches: {kernel: \"i386 noarch\"}")
    };
    let Some(map) = value.as_object() else {
        return Err(wrong(format!("is not a map: {}", quoted(&value.to_string()))));
    };
    if map.len() > EXTRA_ARCHES_MAX {
        return Err(wrong(format!("has {} packages, at most {EXTRA_ARCHES_MAX} are allowed", map.len())));
    }
    let arches = |value: &Value| -> Option<String> {
        // The hub takes one text: a list would break it.
        let words: Vec<&str> = match value {
            Value::String(text) => text.split_whitespace().collect(),
            Value::Array(list) => list.iter().map(Value::as_str).collect::<Option<_>>()?,
            _ => return None,
        };
        let text = words.join(" ");
        (!words.is_empty() && words.into_iter().all(is_name) && text.len() <= ARCHES_BYTES_MAX).then_some(text)
    };
    let one = |(name, value): (&String, &Value)| {
        let package = PackageName::parse(name).map_err(|why| wrong(format!("{} {why}", quoted(name))))?;
        let arches = arches(value)
            .ok_or_else(|| wrong(format!("{package}: no text of architectures: {}", quoted(&value.to_string()))))?;
        Ok((package, arches))
    };
    map.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(more: &Value) -> Result<Config, Failure> {
        let mut words = json!({
            "hub": "https://koji.example.org/kojihub",
            "packages": {"yaml": "/x/packages.yaml"},
            "tags": {"rawhide": "f45"},
        });
        let map = words.as_object_mut().unwrap();
        for (word, value) in more.as_object().unwrap() {
            map.insert(word.clone(), value.clone());
        }
        map.retain(|_, value| !value.is_null());
        Config::read(map)
    }

    #[test]
    fn three_words_are_enough_to_plan() {
        let config = read(&json!({})).unwrap();
        assert_eq!(config.place.login, None);
        assert_eq!(config.place.timeout, Duration::from_secs(TIMEOUT_SECONDS));
        assert_eq!((config.namespace.as_str(), config.ways.orphan.as_str()), ("rpms", "orphan"));
        assert!(config.ways.hold_block && config.ways.hold_orphan && config.ways.no_account.is_none());
    }

    #[test]
    fn all_words_are_read() {
        let config = read(&json!({
            "login": {"certificate": "koji", "key": "koji_key"}, "ca": "/ca.pem", "timeout": "1m",
            "extra_arches": {"kernel": " i386  noarch", "glibc": ["i386", "i586"]},
            "orphan": "nobody", "no_account": {"owner": "releng"}, "hold": ["orphan"],
        }))
        .unwrap();
        let certificate = Login::Certificate { certificate: "koji".into(), key: Some("koji_key".into()) };
        assert_eq!(config.place.login, Some(certificate));
        assert_eq!(config.ways.extra_arches.into_values().collect::<Vec<_>>(), ["i386 i586", "i386 noarch"]);
        assert_eq!(config.ways.no_account.unwrap().as_str(), "releng");
        assert!(config.ways.hold_orphan && !config.ways.hold_block);
        let login = |block: Value| read(&json!({"login": block})).unwrap().place.login.unwrap();
        assert_eq!(login(json!({"keytab": "koji"})), Login::Keytab("koji".into()));
        assert_eq!(login(json!({"kerberos": "environment"})), Login::Environment);
        assert!(!read(&json!({"hold": []})).unwrap().ways.hold_orphan);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_to_write() {
        for (wrong, said) in [
            (json!({"hub": null}), "write hub: https"),
            (json!({"hub": "http://koji.example.org/kojihub"}), "`hub` is http://"),
            (json!({"hubb": "x"}), "did you mean `hub`"),
            (json!({"packages": null}), "`packages` is missing"),
            (json!({"tags": null}), "`tags` is missing"),
            (json!({"login": {}}), "login: {certificate: SECRET}"),
            (json!({"login": {"certificate": "a", "keytab": "b"}}), "two ways"),
            (json!({"login": {"key": "a"}}), "it is not said how"),
            (json!({"login": {"certificate": "/etc/koji.pem"}}), "is not the name of a secret"),
            (json!({"login": {"kerberos": "yes"}}), "is not `environment`"),
            (json!({"ca": "ca.pem"}), "absolute path"),
            (json!({"timeout": "2 weeks"}), "`timeout`"),
            (json!({"orphan": "no body"}), "`orphan` is no name"),
            (json!({"no_account": {}}), "`owner` is missing"),
            (json!({"no_account": "releng"}), "is not a map"),
            (json!({"hold": ["blok"]}), "write hold: [block, orphan]"),
            (json!({"hold": "block"}), "`hold`"),
            (json!({"extra_arches": {"kernel": 5}}), "kernel: no text of architectures"),
            (json!({"extra_arches": {"kernel": ["i386", 5]}}), "kernel: no text"),
            (json!({"extra_arches": {"kernel": ""}}), "kernel: no text"),
            (json!({"extra_arches": {"<x>": "i386"}}), "\"<x>\" is no name"),
            (json!({"extra_arches": []}), "is not a map"),
        ] {
            let failure = read(&wrong).unwrap_err();
            let all = format!("{failure} {}", failure.hint().unwrap_or_default());
            assert!(all.contains(said), "{wrong}: {all}");
            assert_eq!(failure.exit_code(), handler_api::exit::PERMANENT);
        }
    }
}
