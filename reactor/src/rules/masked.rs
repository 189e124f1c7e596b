//! Secrets that people write where they do not belong, made unreadable before a line of a file, or a word of it, is shown:
//! the password of a URL, and a text behind `password:`. Pure. The length in bytes stays, so carets stay where they are.

use std::borrow::Cow;
use std::ops::Range;

/// Schemes of ZeroMQ, which has no passwords: what looks like one is a port and a comment.
const WITHOUT_PASSWORDS: [&str; 2] = ["tcp", "ipc"];

/// `text` with stars in place of each secret.
#[must_use]
pub fn masked(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let (mut done, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if let Some(secret) = secret(line.trim_end()) {
            out.push_str(&text[done..at + secret.start]);
            out.extend(std::iter::repeat_n('*', secret.len()));
            done = at + secret.end;
        }
        at += line.len();
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// Where in a line a secret stands; of several all that is between them.
fn secret(line: &str) -> Option<Range<usize>> {
    let found = in_url(line).into_iter().chain(behind_amqp_url(line)).chain(behind_password(line));
    found.filter(|range| !range.is_empty()).reduce(|one, other| one.start.min(other.start)..one.end.max(other.end))
}

/// `SCHEME://USER:PASSWORD@HOST`. A password of AMQP may have anything in it, and its URL may be cut off.
fn in_url(line: &str) -> Option<Range<usize>> {
    let mut from = 0;
    while let Some(at) = line[from..].find("://").map(|at| from + at) {
        from = at + 3;
        let scheme = line[..at].rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        let is_amqp = scheme.to_ascii_lowercase().starts_with("amqp");
        let rest = &line[from..];
        let end = if is_amqp { rest.len() } else { rest.find(['/', ' ', '"', '\'', '?', '#']).unwrap_or(rest.len()) };
        let secret = match (rest[..end].find(':'), rest[..end].rfind('@')) {
            (Some(colon), Some(host)) if colon < host => Some(colon + 1..host),
            (Some(colon), None) if is_amqp && !rest[..colon].contains([' ', '[']) && !is_port(&rest[colon + 1..]) => {
                Some(colon + 1..rest.len())
            }
            _ => None,
        };
        if let Some(secret) = secret.filter(|_| !WITHOUT_PASSWORDS.contains(&scheme)) {
            return Some(from + secret.start..from + secret.end);
        }
    }
    None
}

fn is_port(text: &str) -> bool {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    digits > 0 && !text[digits..].starts_with(|c: char| c.is_alphanumeric())
}

/// `amqp_url: USER:PASSWORD@HOST`, where the scheme was forgotten.
fn behind_amqp_url(line: &str) -> Option<Range<usize>> {
    let (from, value) = behind(line, "amqp_url")?;
    let (colon, host) = (value.find(':')?, value.rfind('@')?);
    (!value.contains("://") && colon < host).then_some(from + colon + 1..from + host)
}

/// `password: TEXT`, where `password: { file: FILE }` belongs.
fn behind_password(line: &str) -> Option<Range<usize>> {
    let (from, value) = behind(line, "password")?;
    let value = value.trim_end_matches(['}', ',', ' ']);
    (!value.starts_with(['{', '|', '>', '#', '`'])).then_some(from..from + value.len())
}

/// The value of a word in a line, and where it begins.
fn behind<'a>(line: &'a str, word: &str) -> Option<(usize, &'a str)> {
    let at = line.find(word)?;
    if line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-`".contains(c)) {
        return None;
    }
    let rest = line[at + word.len()..].trim_start_matches(['"', '\'']);
    let value = rest.strip_prefix(':')?.trim_start();
    (!value.is_empty()).then_some((line.len() - value.len(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_left_however_it_was_written() {
        for line in [
            "amqp_url: amqp://reactor:hunter2@broker/%2F",
            "    amqp_url: 'amqps://reactor:hunter2@broker:5671/v?x=1'  # ask ralph@example.org",
            "bus: { b: { amqp: { amqp_url: amqp://reactor:hunter2@broker } } }",
            "amqp_url: amqp://reactor:a/hunter2 with a space@broker",
            "amqp_url: reactor:hunter2@broker",
            "`amqp://reactor:hunter2-and-then-it-is-cut…`",
            "AMQP://reactor:hunter2@broker",
            "postgresql://reactor:hunter2@db/name",
            "url: https://me:hunter2@example.org/x",
            "unknown field `amqp://u:hunter2@h`, expected one of `tls`",
            "      password: hunter2",
            "amqp: { amqp_url: amqp://u@h, password: hunter2 }",
            "- \"password\": \"hunter2\"",
            "x: 1\nü: amqp://ü:hunter2ü@h\ny: 2",
        ] {
            let shown = masked(line);
            assert!(!shown.contains("hunter2"), "{shown}");
            assert_eq!(shown.len(), line.len(), "{shown}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for line in [
            "fedmsg: [tcp://127.0.0.1:9940]  # ask ralph@example.org",
            "amqp_url: amqps://reactor@broker.example.org:5671/%2Fpubsub",
            "amqp_url: amqp://broker:5672",
            "amqp_url: amqp://[::1]:5672/",
            "it begins neither with amqp:// nor with amqps://",
            "password: { file: /etc/reactor/secrets/broker }",
            "password:",
            "hint: `password` is a block: its words are file",
            "datagrepper: https://apps.example.org/datagrepper/raw  # whom: me@x",
            "key: \"{{msg.user}}\"",
        ] {
            assert_eq!(masked(line), line);
        }
    }
}
