//! The handler's block of the rules file. Pure.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use accounts::Accounts;
use handler_api::Failure;
use handler_api::words::{Words, is_name};
use serde_json::{Map, Value};

use crate::layout::Membership;
use crate::names::GroupName;
use crate::truth::Truth;

/// Longest `timeout`, in seconds: a compile of a very large site, and then some.
pub const TIMEOUT_SECONDS_MAX: u64 = 3_600;
/// The `timeout` where none is said, in seconds.
pub const TIMEOUT_SECONDS: u64 = 300;
/// Most groups in `groups`, and in `keys: { groups }`.
pub const GROUPS_MAX: usize = accounts::GROUPS_MAX;
/// Most words of `made_by: { command }`.
pub const COMMAND_WORDS_MAX: usize = 100;

/// The words of the block.
const WORDS: [&str; 10] =
    ["admin", "ssh", "author", "timeout", "membership", "template", "repos", "accounts", "groups", "keys"];
/// And one more: who makes repositories.
const MADE_BY: &str = "made_by";

/// All of it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The admin repository (`admin`, `ssh`, `author`, `timeout`).
    pub admin: Remote,
    /// `membership: asked` or `compiled` (default).
    pub membership: Membership,
    /// `template`: a file; absent = Fedora's layout.
    pub template: Option<PathBuf>,
    /// `repos`: see [`crate::truth::Truth::open`].
    pub repos: Value,
    /// `accounts`: see [`accounts::Accounts::open`].
    pub accounts: Value,
    /// `groups`: kept in any case, also if no repository names them.
    pub groups: BTreeSet<GroupName>,
    /// `keys: { groups: […] }`: whose ssh keys are kept; absent = none, keydir is somebody else's.
    pub keys: Option<BTreeSet<GroupName>>,
    /// `made_by`: who makes a repository. Absent = gitolite, when it compiles the first rules.
    pub made_by: MadeBy,
}

/// Who makes a repository, and so how it is known that it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MadeBy {
    /// gitolite does, when it compiles.
    Gitolite,
    /// Somebody else, in this directory (`made_by: { path: /srv/git/repositories }`): no rules before `NAME.git` is there.
    Path(PathBuf),
    /// Somebody else; this program is asked (`made_by: { command: […] }`): the name is its last argument, exit 0 = there,
    /// exit 1 = not there, any other = it does not know.
    Command(Vec<String>),
}

/// How to reach the admin repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// `admin`: `git@host:gitolite-admin`, `ssh://…`, or the absolute path of a bare repository.
    pub url: String,
    /// `ssh: { key: NAME }`: the secret with the private key, default `ssh_key`; no such secret = ssh's own ways.
    pub key: String,
    /// `ssh: { known_hosts: PATH }`; absent = ssh's own.
    pub known_hosts: Option<PathBuf>,
    /// `ssh: { config: PATH }`; absent = ssh's own.
    pub ssh_config: Option<PathBuf>,
    /// `author: "reactor <reactor@example.org>"`: name, address.
    pub author: (String, String),
    /// `timeout`: how long one fetch or push may take, gitolite's compile in it.
    pub timeout: Duration,
}

impl Config {
    /// Reads the block.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word and says what is expected.
    pub fn read(words: &Map<String, Value>) -> Result<Self, Failure> {
        let block = Value::Object(words.clone());
        let allowed: Vec<&str> = WORDS.into_iter().chain([MADE_BY]).collect();
        let words = Words::read(&block, "gitolite", &allowed)?;
        let source = |word: &'static str, example: &str| {
            let missing = || Failure::permanent(format!("gitolite: `{word}` is missing")).hinting(example.to_owned());
            words.get(word).cloned().ok_or_else(missing)
        };
        let config = Self {
            admin: remote(&words)?,
            membership: membership(&words)?,
            template: path(&words, "template")?,
            repos: source("repos", "write repos: {yaml: ./repos.yaml} (or command, pagure, pkgdb)")?,
            accounts: source("accounts", "write accounts: {yaml: ./accounts.yaml} (or command, fasjson, ldap)")?,
            groups: words
                .get("groups")
                .map_or_else(|| Ok(BTreeSet::new()), |list| groups("gitolite: `groups`", list))?,
            keys: words.get("keys").map(keys).transpose()?,
            made_by: words.get(MADE_BY).map_or(Ok(MadeBy::Gitolite), made_by)?,
        };
        Truth::open(&config.repos)?;
        Accounts::open(&config.accounts)?;
        Ok(config)
    }
}

fn remote(words: &Words<'_>) -> Result<Remote, Failure> {
    let Some(url) = words.text("admin")? else {
        return Err(Failure::permanent("gitolite: `admin` is missing: the admin repository")
            .hinting("write admin: git@HOST:gitolite-admin, or the path of a bare repository: admin: ./admin.git"));
    };
    if !is_remote(url) {
        let failure = words.wrong("admin", "is neither USER@HOST:NAME, ssh://…, nor an absolute path", &url.into());
        return Err(
            failure.hinting("write admin: git@HOST:gitolite-admin, or ./admin.git for one beside the rules file")
        );
    }
    let empty = Value::Object(Map::new());
    let ssh = Words::read(words.get("ssh").unwrap_or(&empty), "gitolite: ssh", &["key", "known_hosts", "config"])?;
    let key = ssh.text("key")?.unwrap_or("ssh_key");
    if !is_name(key) {
        return Err(ssh.wrong("key", "is not the name of a secret", &key.into()));
    }
    Ok(Remote {
        url: url.to_owned(),
        key: key.to_owned(),
        known_hosts: path(&ssh, "known_hosts")?,
        ssh_config: path(&ssh, "config")?,
        author: author(words)?,
        timeout: words.duration(
            "timeout",
            Duration::from_secs(TIMEOUT_SECONDS),
            Duration::from_secs(TIMEOUT_SECONDS_MAX),
        )?,
    })
}

/// Whether git takes this as ssh or as a path, and as nothing else: no option, no `ext::`, no `http`.
fn is_remote(url: &str) -> bool {
    let plain =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"@._-+[]:/~".contains(&b));
    if url.starts_with('/') {
        return true;
    }
    if let Some(rest) = url.strip_prefix("ssh://") {
        return plain(rest) && !rest.starts_with('-') && !rest.contains("@-");
    }
    let Some((host, name)) = url.split_once(':') else { return false };
    let host_is_plain = plain(host) && !host.starts_with('-') && !host.contains('/') && !host.contains("@-");
    host_is_plain && plain(name) && !name.starts_with([':', '-']) && !name.starts_with("//")
}

fn membership(words: &Words<'_>) -> Result<Membership, Failure> {
    match words.text("membership")? {
        None | Some("compiled") => Ok(Membership::Compiled),
        Some("asked") => Ok(Membership::Asked),
        Some(other) => {
            let hint = "asked: who is in a list is asked at each access (handlers/gitolite/server/README.md); \
                        compiled: nothing to install, and slow on a large site";
            Err(words.wrong("membership", "is neither asked nor compiled", &other.into()).hinting(hint))
        }
    }
}

fn path(words: &Words<'_>, word: &str) -> Result<Option<PathBuf>, Failure> {
    match words.text(word)? {
        None => Ok(None),
        Some(text) if text.starts_with('/') => Ok(Some(text.into())),
        Some(text) => {
            let failure = words.wrong(word, "is not the absolute path of a file", &text.into());
            Err(failure.hinting("write /PATH, or ./PATH for a file beside the rules file"))
        }
    }
}

fn author(words: &Words<'_>) -> Result<(String, String), Failure> {
    let Some(text) = words.text("author")? else { return Ok(("reactor".into(), "reactor@localhost".into())) };
    let read = text.strip_suffix('>').and_then(|text| text.split_once(" <"));
    let plain = |text: &str| !text.trim().is_empty() && !text.contains(['<', '>']);
    match read {
        Some((name, address)) if plain(name) && plain(address) => {
            Ok((name.trim().to_owned(), address.trim().to_owned()))
        }
        _ => Err(words
            .wrong("author", "is not a name and an address", &text.into())
            .hinting("write author: \"reactor <reactor@example.org>\"")),
    }
}

fn groups(place: &str, list: &Value) -> Result<BTreeSet<GroupName>, Failure> {
    let wrong = |why: String| {
        Failure::permanent(format!("{place}: {why}")).hinting("write a list of group names without @: [provenpackager]")
    };
    let Some(list) = list.as_array() else { return Err(wrong("is not a list".into())) };
    if list.len() > GROUPS_MAX {
        return Err(wrong(format!("has {} groups, at most {GROUPS_MAX} are allowed", list.len())));
    }
    let name = |item: &Value| {
        let text = item.as_str().ok_or_else(|| wrong("has something in it that is no text".into()))?;
        GroupName::parse(text).map_err(|why| wrong(format!("{} {why}", handler_api::words::quoted(text))))
    };
    list.iter().map(name).collect()
}

fn keys(value: &Value) -> Result<BTreeSet<GroupName>, Failure> {
    let words = Words::read(value, "gitolite: keys", &["groups"])?;
    match words.get("groups") {
        Some(list) => groups("gitolite: keys: `groups`", list),
        None => Err(Failure::permanent("gitolite: keys: `groups` is missing: whose keys")
            .hinting("write keys: {groups: [packager]}")),
    }
}

fn made_by(value: &Value) -> Result<MadeBy, Failure> {
    let words = Words::read(value, "gitolite: made_by", &["path", "command"])?;
    let hint = "write made_by: {path: /srv/git/repositories}, or {command: [PROGRAM, …]}, or leave it out: gitolite makes them";
    match (path(&words, "path")?, words.get("command")) {
        (Some(path), None) => Ok(MadeBy::Path(path)),
        (None, Some(command)) => {
            let list = command.as_array().filter(|list| !list.is_empty() && list.len() <= COMMAND_WORDS_MAX);
            let read = |list: &Vec<Value>| list.iter().map(|word| word.as_str().map(str::to_owned)).collect();
            let list: Option<Vec<String>> = list.and_then(read);
            list.filter(|list| list[0].starts_with('/')).map(MadeBy::Command).ok_or_else(|| {
                words.wrong("command", "is not a list that begins with the path of a program", command).hinting(hint)
            })
        }
        _ => Err(Failure::permanent("gitolite: made_by names neither a path nor a command, or both").hinting(hint)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(more: &Value) -> Result<Config, Failure> {
        let mut words = json!({
            "admin": "git@pkgs.example.org:gitolite-admin",
            "repos": {"yaml": "/x/repos.yaml"},
            "accounts": {"yaml": "/x/accounts.yaml"},
        });
        let map = words.as_object_mut().unwrap();
        for (word, value) in more.as_object().unwrap() {
            map.insert(word.clone(), value.clone());
        }
        map.retain(|_, value| !value.is_null());
        Config::read(map)
    }

    #[test]
    fn a_block_of_three_words_is_enough() {
        let config = read(&json!({})).unwrap();
        assert_eq!(config.membership, Membership::Compiled);
        assert_eq!((config.made_by, config.keys, config.admin.key.as_str()), (MadeBy::Gitolite, None, "ssh_key"));
        assert_eq!(config.admin.timeout, Duration::from_secs(TIMEOUT_SECONDS));
    }

    #[test]
    fn all_words_are_read() {
        let config = read(&json!({
            "admin": "/srv/git/admin.git", "ssh": {"key": "git", "known_hosts": "/k", "config": "/c"},
            "author": "Re Actor <re@example.org>", "timeout": "10m", "membership": "asked", "template": "/t.hbs",
            "groups": ["provenpackager"], "keys": {"groups": ["packager"]}, "made_by": {"path": "/srv/git"},
        }))
        .unwrap();
        assert_eq!(config.admin.author, ("Re Actor".to_owned(), "re@example.org".to_owned()));
        assert_eq!((config.membership, config.groups.len()), (Membership::Asked, 1));
        assert_eq!(config.made_by, MadeBy::Path("/srv/git".into()));
        let asked = read(&json!({"made_by": {"command": ["/bin/is-there", "-q"]}})).unwrap();
        assert_eq!(asked.made_by, MadeBy::Command(vec!["/bin/is-there".into(), "-q".into()]));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_to_write() {
        for (wrong, said) in [
            (json!({"admin": null}), "`admin` is missing"),
            (json!({"repos": null}), "`repos` is missing"),
            (json!({"admn": "x"}), "`admn`"),
            (json!({"admin": "--upload-pack=x"}), "`admin` is neither"),
            (json!({"admin": "ext::sh -c x"}), "`admin` is neither"),
            (json!({"admin": "-oProxyCommand=x:y"}), "`admin` is neither"),
            (json!({"admin": "git@-oProxyCommand=x:y"}), "`admin` is neither"),
            (json!({"admin": "https://x/y"}), "`admin` is neither"),
            (json!({"membership": "fast"}), "neither asked nor compiled"),
            (json!({"author": "reactor"}), "`author`"),
            (json!({"template": "mine.hbs"}), "absolute path"),
            (json!({"groups": ["@all"]}), "`groups`: \"@all\" means everyone"),
            (json!({"admin": "file:///x/y"}), "`admin` is neither"),
            (json!({"groups": "x"}), "is not a list"),
            (json!({"keys": {}}), "`groups` is missing"),
            (json!({"made_by": {}}), "made_by"),
            (json!({"made_by": {"command": ["ls"]}}), "`command`"),
            (json!({"ssh": {"key": "a/b"}}), "`key`"),
            (json!({"ssh": {"kee": "a"}}), "did you mean"),
            (json!({"timeout": "2 weeks"}), "`timeout`"),
        ] {
            let failure = read(&wrong).unwrap_err();
            let all = format!("{failure} {}", failure.hint().unwrap_or_default());
            assert!(all.contains(said), "{wrong}: {all}");
            assert_eq!(failure.exit_code(), handler_api::exit::PERMANENT);
        }
    }
}
