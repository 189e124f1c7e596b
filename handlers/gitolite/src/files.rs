//! Which file holds what, and how it is written. Pure.
//!
//! | branch | path | holds |
//! |---|---|---|
//! | `master` | `conf/reactor/repos/3f/rpms@foo.conf` | the rules of one repository |
//! | `master` | `conf/reactor/groups/perl-sig.conf` | one group, a member a line (`membership: compiled`) |
//! | `master` | `keydir/reactor/al/alice/FINGERPRINT/alice.pub` | one key (`keys` with `membership: compiled`) |
//! | `members` | `groups/perl-sig` | the members of one group, a name a line |
//! | `members` | `lists/3f/rpms@foo` | the lists of one repository, `commit alice`, `commit.f41 @perl-sig` a line |
//! | `members` | `in/al/alice`, `in/@p/@perl-sig` | the index: what the name is directly in, a group (`perl-sig`) or list (`commit@rpms@foo`) a line |
//! | `members` | `people/al/alice` | the keys of one user, a key a line |
//! | `members` | `keys/uN/FINGERPRINT` | the index: `alice ssh-ed25519 AAAA…`, a line for each user who has that key |
//!
//! No directory is large, since each has shards:
//!
//! * of repositories (`repos/`, `lists/`): the first two hex digits of the SHA-256 of the name (`rpms/foo`)
//! * of everything that a server's shell script must find (`in/`, `people/`, `keys/`, `keydir/`): **the first two characters
//!   of the file's own name**, the `@` of a group included; of a name that is one character long, that character
//!   (`in/a/a`). In POSIX sh: `rest=${name#??}; shard=${name%"$rest"}; [ "$shard" ] || shard=$name` (a name of two
//!   characters leaves `rest` empty, which cuts nothing).
//!
//! FINGERPRINT is what `%f` is to sshd, without `SHA256:`, with `_` for `/`, so that it is one word that gitolite takes:
//! `printf %s "${f#SHA256:}" | tr / _`. It may begin with `+` or `_`. Where several users have a key, the first line counts.
//!
//! Lines end in a newline and are sorted by their bytes, so a change is a small diff and the same truth makes the same bytes. A
//! group without members is a file all the same (on `members` an empty one); a list, a user or an index without lines is no
//! file. gitolite takes the user's name from the name of the key's file alone.

mod lines;

use std::collections::BTreeMap;
use std::fmt;

use accounts::keys::Key;
use sha2::{Digest, Sha256};

use crate::names::{GroupName, RepoName, UserName};

pub use lines::{
    Entry, Read, group_conf, group_lines, index_lines, key_file, key_index_line, keys_lines, list_lines, read_entries,
    read_group, read_group_conf, read_index, read_keys,
};

/// The rules, on `master`.
pub const REPOS: &str = "conf/reactor/repos";
/// The groups, on `master`.
pub const CONF_GROUPS: &str = "conf/reactor/groups";
/// All that is ours below gitolite's `conf`, on `master`.
pub const CONF: &str = "conf/reactor";
/// The keys, on `master`.
pub const KEYDIR: &str = "keydir/reactor";
/// The groups, on `members`.
pub const GROUPS: &str = "groups";
/// The lists, on `members`.
pub const LISTS: &str = "lists";
/// Who is in what, on `members`.
pub const IN: &str = "in";
/// The keys of users, on `members`.
pub const PEOPLE: &str = "people";
/// Whose key it is, on `members`.
pub const KEYS: &str = "keys";

/// Characters in a fingerprint: the base64 of 32 bytes.
const PRINT_CHARS: usize = 43;

/// Which branch of the admin repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Branch {
    /// What gitolite compiles.
    Master,
    /// What is asked at access.
    Members,
}

impl Branch {
    /// The directories in which we write, and nobody else.
    #[must_use]
    pub const fn dirs(self) -> &'static [&'static str] {
        match self {
            Self::Master => &[CONF, KEYDIR],
            Self::Members => &[GROUPS, LISTS, IN, PEOPLE, KEYS],
        }
    }

    /// Whether a file is in one of [`Self::dirs`].
    #[must_use]
    pub fn has(self, path: &str) -> bool {
        self.dirs().iter().any(|dir| path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/')))
    }
}

/// What must stand in which file; `None` = no file.
pub type Edits = BTreeMap<(Branch, String), Option<Vec<u8>>>;

/// Who can be in a list: written `alice`, `@perl-sig`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    /// One.
    User(UserName),
    /// All members of it.
    Group(GroupName),
}

impl Member {
    /// Reads `alice` or `@perl-sig`.
    ///
    /// # Errors
    /// What is wrong with the name: the end of a sentence that begins with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix('@') {
            Some(group) => GroupName::parse(group).map(Self::Group),
            None => UserName::parse(text).map(Self::User),
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => f.write_str(name.as_str()),
            Self::Group(name) => write!(f, "@{}", name.as_str()),
        }
    }
}

/// The fingerprint of a key as the name of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Print(String);

impl Print {
    /// Of a key; `None` if its fingerprint is no SHA-256.
    #[must_use]
    pub fn of(key: &Key) -> Option<Self> {
        Self::parse(&key.fingerprint().strip_prefix("SHA256:")?.replace('/', "_"))
    }

    /// Reads the name of a file.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_ok = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'+';
        (text.len() == PRINT_CHARS && text.bytes().all(is_ok)).then(|| Self(text.to_owned()))
    }

    /// The name of the file.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a file of ours is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// On `master`: the rules of a repository.
    Rules(RepoName),
    /// On `master`: a group.
    ConfGroup(GroupName),
    /// On `master`: a key.
    KeyFile(UserName, Print),
    /// On `members`: a group.
    Group(GroupName),
    /// On `members`: the lists of a repository.
    Lists(RepoName),
    /// On `members`: what somebody is in.
    In(Member),
    /// On `members`: the keys of a user.
    People(UserName),
    /// On `members`: whose key it is.
    KeyIndex(Print),
}

impl Place {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> (Branch, String) {
        match self {
            Self::Rules(repo) => (Branch::Master, conf_repo(repo)),
            Self::ConfGroup(group) => (Branch::Master, conf_group(group)),
            Self::KeyFile(user, print) => (Branch::Master, keydir_key(user, print)),
            Self::Group(group) => (Branch::Members, asked_group(group)),
            Self::Lists(repo) => (Branch::Members, asked_list(repo)),
            Self::In(who) => (Branch::Members, asked_in(who)),
            Self::People(user) => (Branch::Members, asked_people(user)),
            Self::KeyIndex(print) => (Branch::Members, asked_key(print)),
        }
    }

    /// What the file at this path is; `None` = we write no such path.
    #[must_use]
    pub fn at(branch: Branch, path: &str) -> Option<Self> {
        let (dir, name) = path.rsplit_once('/')?;
        let top = |dir: &str| path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
        let place = match branch {
            Branch::Master if top(REPOS) => Self::Rules(RepoName::parse_word(name.strip_suffix(".conf")?).ok()?),
            Branch::Master if top(CONF_GROUPS) => Self::ConfGroup(GroupName::parse(name.strip_suffix(".conf")?).ok()?),
            Branch::Master if top(KEYDIR) => {
                let print = Print::parse(dir.rsplit_once('/')?.1)?;
                Self::KeyFile(UserName::parse(name.strip_suffix(".pub")?).ok()?, print)
            }
            Branch::Master => return None,
            Branch::Members if top(GROUPS) => Self::Group(GroupName::parse(name).ok()?),
            Branch::Members if top(LISTS) => Self::Lists(RepoName::parse_word(name).ok()?),
            Branch::Members if top(IN) => Self::In(Member::parse(name).ok()?),
            Branch::Members if top(PEOPLE) => Self::People(UserName::parse(name).ok()?),
            Branch::Members if top(KEYS) => Self::KeyIndex(Print::parse(name)?),
            Branch::Members => return None,
        };
        // The right name in the wrong shard is no file of ours: nobody would find it.
        (place.path().1 == path).then_some(place)
    }
}

/// The shard of a repository.
#[must_use]
pub fn repo_shard(repo: &RepoName) -> String {
    format!("{:02x}", Sha256::digest(repo.as_str().as_bytes())[0])
}

/// The shard of a name: its first two characters, or the only one. Names are ASCII.
fn shard(name: &str) -> &str {
    name.get(..2).unwrap_or(name)
}

/// The rules of a repository, on `master`.
#[must_use]
pub fn conf_repo(repo: &RepoName) -> String {
    format!("{REPOS}/{}/{}.conf", repo_shard(repo), repo.word())
}

/// A group, on `master`.
#[must_use]
pub fn conf_group(group: &GroupName) -> String {
    format!("{CONF_GROUPS}/{}.conf", group.as_str())
}

/// Where the keys of a user are, on `master`.
#[must_use]
pub fn keydir_of(user: &UserName) -> String {
    format!("{KEYDIR}/{}/{}", shard(user.as_str()), user.as_str())
}

/// A key, on `master`.
#[must_use]
pub fn keydir_key(user: &UserName, print: &Print) -> String {
    format!("{}/{}/{}.pub", keydir_of(user), print.as_str(), user.as_str())
}

/// A group, on `members`.
#[must_use]
pub fn asked_group(group: &GroupName) -> String {
    format!("{GROUPS}/{}", group.as_str())
}

/// The lists of a repository, on `members`.
#[must_use]
pub fn asked_list(repo: &RepoName) -> String {
    format!("{LISTS}/{}/{}", repo_shard(repo), repo.word())
}

/// What somebody is in, on `members`.
#[must_use]
pub fn asked_in(who: &Member) -> String {
    let name = who.to_string();
    format!("{IN}/{}/{name}", shard(&name))
}

/// The keys of a user, on `members`.
#[must_use]
pub fn asked_people(user: &UserName) -> String {
    format!("{PEOPLE}/{}/{}", shard(user.as_str()), user.as_str())
}

/// Whose key it is, on `members`.
#[must_use]
pub fn asked_key(print: &Print) -> String {
    format!("{KEYS}/{}/{}", shard(print.as_str()), print.as_str())
}

#[cfg(test)]
mod tests;
