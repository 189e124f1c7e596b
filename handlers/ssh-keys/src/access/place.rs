//! Where the keys stand: the patterns of sshd_config's `AuthorizedKeysFile`, as far as they are safe to write to.

use super::Place;
use crate::config::words::cut;

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1_024;
const FORMS: &str = "write DIR/%u (a directory of root's) or %h/.ssh/authorized_keys";

/// Reads a pattern.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the word.
pub(super) fn read(pattern: &str) -> Result<Place, String> {
    let wrong = |why: &str| Err(format!("is `{}`: {why}", cut(pattern)));
    if pattern.len() > PATTERN_BYTES_MAX {
        return wrong("it is too long");
    }
    let Some(rest) = pattern.strip_prefix("%h/").or_else(|| pattern.strip_prefix('/')) else {
        return wrong(&format!("it must begin with `/` or `%h/`; {FORMS}"));
    };
    if let Some(odd) = pattern.chars().find(|c| !(c.is_alphanumeric() || "/._-+@:,=% ".contains(*c))) {
        return wrong(&format!("{odd:?} can't stand in it; sshd_config and shells would take it for something else"));
    }
    if rest.split('/').any(|part| matches!(part, "" | "." | "..") || part.starts_with('-')) {
        return wrong("no part of it may be empty, `.`, `..` or begin with a dash");
    }
    let mut tokens = rest.split('%').skip(1);
    while let Some(behind) = tokens.next() {
        match behind.chars().next() {
            Some('u') => {}
            None if tokens.next().is_some() => {}
            Some('h') => return wrong("%h may only stand at the beginning"),
            _ => return wrong("after a % only u, h or % may stand"),
        }
    }
    let (parents, last) = rest.rsplit_once('/').unwrap_or(("", rest));
    let has_user = |part: &str| part.replace("%%", "").contains("%u");
    if pattern.starts_with("%h/") || has_user(parents) {
        return Ok(Place::Own(pattern.to_owned()));
    }
    if last == "%u" && !parents.is_empty() {
        return Ok(Place::Directory(pattern.to_owned()));
    }
    wrong(&format!("each user needs a file of that name, or a directory; {FORMS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_roots_or_a_file_of_the_users() {
        for directory in ["/etc/ssh/authorized_keys.d/%u", "/srv/100%%/%u", "/srv/%%u/%u", "/home/josé/my site/%u"] {
            assert_eq!(read(directory), Ok(Place::Directory(directory.into())));
        }
        for own in ["%h/.ssh/authorized_keys", "/srv/h1/home/%u/.ssh/authorized_keys", "%h/keys-%u", "/k/a%u/%u"] {
            assert_eq!(read(own), Ok(Place::Own(own.into())));
        }
    }

    #[test]
    fn what_is_not_safe_or_not_for_each_user_is_refused() {
        for (pattern, said) in [
            ("", "must begin with"),
            ("keys/%u", "must begin with"),
            ("~/.ssh/authorized_keys", "must begin with"),
            ("%u/x", "must begin with"),
            ("%hx/y", "must begin with"),
            ("/etc/../%u", "no part of it"),
            ("/etc//%u", "no part of it"),
            ("/etc/./%u", "no part of it"),
            ("/etc/-x/%u", "no part of it"),
            ("/etc/ssh/%u/", "no part of it"),
            ("/etc/a\tb/%u", "can't stand in it"),
            ("/etc/\u{202e}/%u", "can't stand in it"),
            (" /etc/%u", "must begin with"),
            ("/etc/%u ", "each user needs a file"),
            ("/etc/\n/%u", "can't stand in it"),
            ("/etc/$HOME/%u", "'$' can't stand in it"),
            ("/etc/\"/%u", "can't stand in it"),
            ("/etc/%U/%u", "only u, h or %"),
            ("/etc/%", "only u, h or %"),
            ("/etc/%%%/x", "only u, h or %"),
            ("/home/%h/%u", "only stand at the beginning"),
            ("/etc/ssh/keys", "each user needs a file"),
            ("/etc/ssh/%u.pub", "each user needs a file"),
            ("/etc/ssh/%%u", "each user needs a file"),
            ("/%u", "each user needs a file"),
        ] {
            let why = read(pattern).unwrap_err();
            assert!(why.contains(said), "{pattern}: {why}");
        }
        assert!(read(&format!("/{}/%u", "a".repeat(2_000))).is_err());
    }
}
