//! Secrets that people write where they do not belong, made unreadable before a line of a file, or a word of it, is shown:
//! the password of a URL, and a text behind `password:`. Pure. The length in bytes stays, so carets stay where they are.

use std::borrow::Cow;
use std::ops::Range;

/// Schemes of ZeroMQ, which has no passwords: what looks like one is a port and a comment.
const WITHOUT_PASSWORDS: [&str; 2] = ["tcp", "ipc"];

/// What people call a password where it should be `password`.
const PASSWORD_WORDS: [&str; 3] = ["password", "passwd", "pass"];

/// `text` with stars in place of each secret.
#[must_use]
pub fn masked(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let (mut done, mut at) = (0, 0);
    // The column of a word whose value stands on the lines below it, as far as they are indented more.
    let mut above = None;
    for line in text.split_inclusive('\n') {
        let content = line.trim();
        let indent = line.len() - line.trim_start().len();
        above = above.filter(|column| content.is_empty() || indent > *column);
        let found = match above {
            Some(_) if is_file(content) => None,
            Some(_) => Some(indent..indent + content.len()),
            None => secret(line.trim_end()),
        };
        above = above.or_else(|| continues_below(line.trim_end()));
        if let Some(secret) = found.filter(|range| !range.is_empty()) {
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
    let found = in_url(line).into_iter().chain(behind_amqp_url(line)).chain(behind_passwords(line));
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
    let (from, value) = behind(line, "amqp_url").next()?;
    let (colon, host) = (value.find(':')?, value.rfind('@')?);
    (!value.contains("://") && colon < host).then_some(from + colon + 1..from + host)
}

/// `password: TEXT`, where `password: { file: FILE }` belongs.
fn behind_passwords(line: &str) -> impl Iterator<Item = Range<usize>> {
    let all = PASSWORD_WORDS.into_iter().flat_map(move |word| behind(line, word));
    all.filter_map(|(from, value)| {
        let Some(inside) = value.strip_prefix('{') else {
            let value = value.trim_end_matches(['}', ',', ' ']);
            return (!value.starts_with(['|', '>', '#', '`'])).then_some(from..from + value.len());
        };
        let inside = &inside[..inside.find('}').unwrap_or(inside.len())];
        // The name of the file may be seen, but nothing beside it.
        let seen = if is_file(inside.trim_start()) { inside.find(',').unwrap_or(inside.len()) } else { 0 };
        Some(from + 1 + seen..from + 1 + inside.len())
    })
}

/// The column of `password:` where the rest of the line is empty, or says that the text stands below.
fn continues_below(line: &str) -> Option<usize> {
    let of =
        |word| behind(line, word).find(|(_, value)| value.is_empty() || value.starts_with(['|', '>'])).map(|_| word);
    let word = PASSWORD_WORDS.into_iter().find_map(of)?;
    line.find(word)
}

/// Whether this begins with the word that a password's block may have.
fn is_file(text: &str) -> bool {
    text.trim_start_matches(['"', '\'']).starts_with("file")
}

/// The values of a word in a line, and where they begin.
fn behind<'a>(line: &'a str, word: &'static str) -> impl Iterator<Item = (usize, &'a str)> {
    line.match_indices(word).filter_map(move |(at, _)| {
        if line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-`".contains(c)) {
            return None;
        }
        let rest = line[at + word.len()..].trim_start_matches(['"', '\'']).trim_start();
        let value = rest.strip_prefix(':')?.trim_start();
        Some((line.len() - value.len(), value))
    })
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
            "password : hunter2",
            "amqp: { client_properties: { app: a-password-tool }, password: hunter2 }",
            "password: { text: hunter2 }",
            "password: { file: f, text: hunter2 }, tls: {}",
            "password: { hunter2 }",
            "passwd: hunter2",
            "- pass: hunter2",
            "a:\n  password:\n    hunter2\n  b: 1",
            "a:\n  password: |\n\n    x\n    hunter2\n",
            "password:\n  text: hunter2",
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
            "password: { file: a }, tls: { ca_cert: b }",
            "password:",
            "password:\n  file: /etc/reactor/secrets/broker\ntopic_prefix: org",
            "passive_declares: true",
            "hint: `password` is a block: its words are file",
            "datagrepper: https://apps.example.org/datagrepper/raw  # whom: me@x",
            "key: \"{{msg.user}}\"",
        ] {
            assert_eq!(masked(line), line);
        }
    }
}
