//! What may be a user, a directory, a pattern of a path: checked before anything of it reaches a host.

use std::collections::{BTreeMap, BTreeSet};

use handler_api::ParamType;

use super::{Found, Trouble};
use crate::access::Host;
use crate::block;

/// Longest directory or pattern, in bytes.
const PATH_BYTES_MAX: usize = 1024;

/// Whether this may be a user's name: it becomes a file name and a word for getent. Digits alone are a uid to getent.
pub(super) fn is_user(name: &str) -> bool {
    ParamType::Name.check(&name.into()).is_ok() && !name.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn bad_user(host: &Host, name: &str) -> Trouble {
    Trouble::lasting(host, format!("{name:?} can't be the name of a user; nothing is looked at or written for it"))
        .hinting("look at this account in the account system")
}

/// The users that may be asked for, each once; and the answers for the others.
pub(super) fn sort_out(host: &Host, users: &[String]) -> (BTreeSet<String>, BTreeMap<String, Found>) {
    let (good, bad): (BTreeSet<_>, BTreeSet<_>) = users.iter().cloned().partition(|name| is_user(name));
    let bad = bad.into_iter().map(|name| (name.clone(), Found::Odd(bad_user(host, &name)))).collect();
    (good, bad)
}

/// What the first line of our block begins with.
pub(super) fn marker(host: &Host, block: &str) -> Result<String, Trouble> {
    if block::is_name(block) {
        return Ok(block::marker(block));
    }
    Err(Trouble::lasting(host, format!("{block:?} can't be the name of a block")))
}

fn is_path(path: &str) -> bool {
    path.len() <= PATH_BYTES_MAX && !path.chars().any(char::is_control) && path.split('/').all(|part| part != "..")
}

/// The directory of `DIR/%u`, or of `DIR` alone.
pub(super) fn directory(host: &Host, dir: &str) -> Result<String, Trouble> {
    let bare = dir.strip_suffix("/%u").unwrap_or(dir);
    let plain = bare.replace("%%", "%");
    if !bare.starts_with('/') || !is_path(bare) || bare.replace("%%", "").contains('%') {
        return Err(Trouble::lasting(host, format!("{dir:?} can't be a directory of key files")).hinting(
            "`keys:` in the inventory is as AuthorizedKeysFile in sshd_config: /etc/ssh/authorized_keys.d/%u",
        ));
    }
    Ok(plain)
}

/// The pieces of a pattern, for `path_of` in own.sh: `u`, `h`, or `=` and what stands there.
pub(super) fn pieces(host: &Host, pattern: &str) -> Result<Vec<String>, Trouble> {
    let bad = || {
        Trouble::lasting(host, format!("{pattern:?} can't be the path of a user's keys"))
            .hinting("`keys:` in the inventory is as AuthorizedKeysFile in sshd_config: %h/.ssh/authorized_keys")
    };
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut chars = pattern.chars();
    while let Some(next) = chars.next() {
        if next != '%' {
            text.push(next);
            continue;
        }
        match chars.next() {
            Some('%') => text.push('%'),
            Some(token @ ('u' | 'h')) => {
                if !text.is_empty() {
                    pieces.push(format!("={}", std::mem::take(&mut text)));
                }
                pieces.push(token.to_string());
            }
            _ => return Err(bad()),
        }
    }
    if !text.is_empty() {
        pieces.push(format!("={text}"));
    }
    let personal = pieces.iter().any(|piece| !piece.starts_with('='));
    let absolute = pattern.starts_with('/') || pattern.starts_with("%h/");
    if absolute && personal && is_path(pattern) && !pattern.ends_with('/') { Ok(pieces) } else { Err(bad()) }
}
