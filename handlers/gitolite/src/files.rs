//! Which file holds what, and how it is written. Pure.
//!
//! | branch | path | holds |
//! |---|---|---|
//! | `master` | `conf/reactor/repos/3f/rpms@foo.conf` | the rules of one repository |
//! | `master` | `conf/reactor/groups/perl-sig.conf` | one group, a member a line (`membership: compiled`) |
//! | `master` | `keydir/reactor/SHARD/FINGERPRINT/alice.pub` | one key (`keys` with `membership: compiled`) |
//! | `members` | `groups/perl-sig` | the members of one group, a name a line |
//! | `members` | `lists/3f/rpms@foo` | the lists of one repository, `commit alice`, `commit @perl-sig` a line |
//! | `members` | `in/al/alice`, `in/@p/@perl-sig` | the index: what the name is directly in, a group or list a line |
//! | `members` | `people/al/alice` | the keys of one user, a key a line |
//! | `members` | `keys/3f/FINGERPRINT` | the index: `alice ssh-ed25519 AAAA…` |
//!
//! A shard of repositories and keys is the first two hex digits of the SHA-256 of the name, so that no directory is large; of
//! names in `in/` and `people/` it is their first two characters, which a shell can cut (`server/reactor-groups`). Lines
//! are sorted, so a change is a small diff and the same truth makes the same bytes.

use std::collections::BTreeMap;

/// Which branch of the admin repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Branch {
    /// What gitolite compiles.
    Master,
    /// What is asked at access.
    Members,
}

/// What must stand in which file; `None` = no file.
pub type Edits = BTreeMap<(Branch, String), Option<Vec<u8>>>;
