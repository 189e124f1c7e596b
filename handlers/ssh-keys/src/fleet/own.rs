//! Files that are the user's own, such as `%h/.ssh/authorized_keys`: read and written with that user's rights.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::edge::{Ask, Edge, Program};
use super::trouble::{clean, login, of_text};
use super::write::{Done, chunks, joined, sha256};
use super::{FILE_BYTES_MAX, Found, Trouble, Write, names};
use crate::access::Host;

/// Most users that one command looks at or writes for. (A command has a time limit.)
const USERS_A_COMMAND_MAX: usize = 500;

const LOOK: Program = Program {
    name: "look_own.sh",
    parts: &[include_str!("scripts/prelude.sh"), include_str!("scripts/own.sh"), include_str!("scripts/look_own.sh")],
};
const WRITE: Program = Program {
    name: "write_own.sh",
    parts: &[include_str!("scripts/prelude.sh"), include_str!("scripts/own.sh"), include_str!("scripts/write_own.sh")],
};
/// Run for each user, as an argument of the two above.
const LOOK_INNER: Program = Program { name: "look_inner.sh", parts: &[include_str!("scripts/look_inner.sh")] };
const WRITE_INNER: Program = Program { name: "write_inner.sh", parts: &[include_str!("scripts/write_inner.sh")] };

pub(super) async fn look(
    edge: &Edge,
    host: &Host,
    pattern: &str,
    users: &BTreeSet<String>,
    marker: Option<&str>,
) -> Result<BTreeMap<String, Found>, Trouble> {
    let pieces = names::pieces(host, pattern)?;
    let users: Vec<&String> = users.iter().collect();
    let mut found = BTreeMap::new();
    // Of the one that looks through everybody, all who are asked for must be known: so it is the last, and alone if need be.
    let mut commands: Vec<(&[&String], &str)> = users.chunks(USERS_A_COMMAND_MAX).map(|users| (users, "")).collect();
    if let Some(marker) = marker {
        commands.push((&[], marker));
    }
    for (users, marker) in commands {
        let mut args = vec![LOOK_INNER.text(), marker.to_owned(), edge.user_seconds().to_string()];
        args.push((FILE_BYTES_MAX + 1).to_string());
        args.extend(pieces.iter().cloned());
        let input = users.iter().flat_map(|user| format!("{user}\n").into_bytes()).collect();
        let ask = Ask { program: LOOK, args, input, about: pattern.to_owned() };
        let said = edge.ask_to_the_end(host, &ask).await?;
        for (user, words) in records(host, &said)? {
            if let Some(what) = read_found(host, pattern, &user, &words) {
                found.entry(user).or_insert(what);
            }
        }
        for user in users {
            found.entry((*user).clone()).or_insert(Found::NoUser);
        }
    }
    Ok(found)
}

/// Lines of a name and base64. A name that can't be a user's is left out.
fn records(host: &Host, said: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Trouble> {
    let read = |line: &str| {
        let (name, words) = line.split_once(' ')?;
        Some((name.to_owned(), STANDARD.decode(words).ok()?))
    };
    let lines = String::from_utf8_lossy(said);
    let records: Option<Vec<_>> = lines.lines().map(read).collect();
    let mut records = records.ok_or_else(|| Trouble::may_pass(host, "the answer can't be read"))?;
    records.retain(|(name, _)| names::is_user(name));
    Ok(records)
}

/// What the user's process said about the file; `None` = nothing of ours is in it.
fn read_found(host: &Host, pattern: &str, user: &str, words: &[u8]) -> Option<Found> {
    let odd = |trouble: Trouble| Some(Found::Odd(trouble.hinting(format!("{}ls -la ~{user}/.ssh", login(host)))));
    if let Some(rest) = words.strip_prefix(b"file\n") {
        return match rest.strip_suffix(b".\n") {
            Some(file) if file.len() > FILE_BYTES_MAX => {
                odd(Trouble::lasting(host, format!("{user}: {pattern} is larger than {FILE_BYTES_MAX} bytes")))
            }
            Some(file) => Some(Found::File(file.to_vec())),
            None => odd(Trouble::may_pass(host, format!("{user}: {pattern} could not be read to its end"))),
        };
    }
    match words {
        b"nothing\n" => None,
        b"absent\n" => Some(Found::Absent),
        _ => odd(unwritten(host, pattern, user, words)),
    }
}

/// What is wrong when neither a file nor an answer came.
fn unwritten(host: &Host, pattern: &str, user: &str, words: &[u8]) -> Trouble {
    let text = clean(words);
    let about = format!("{user}: {pattern}");
    match text.rsplit("; ").next().unwrap_or_default() {
        "" => {
            Trouble::may_pass(host, format!("{about}: what was done with the user's rights took too long or was ended"))
                .hinting("is the user's home on a file system that hangs?")
        }
        "notus" => Trouble::lasting(host, format!("{about}: only root can touch the files of other users"))
            .hinting("log in as root, or set `sudo: true` for this host in the inventory"),
        "locked" => {
            Trouble::may_pass(host, format!("{about}: somebody else has held the lock of its directory for too long"))
        }
        "corrupt" => {
            Trouble::may_pass(host, format!("{about}: what arrived is not what was sent; nothing was written"))
        }
        "moved" => Trouble::moved(host, format!("{about}: changed since the plan, nothing was written")),
        "nouser" => Trouble::lasting(host, format!("{about}: there is no such user there"))
            .hinting(format!("{}getent passwd {user}", login(host))),
        last => match last.strip_prefix("odd ") {
            Some(why) => Trouble::lasting(host, format!("{user}: {why}; it is not touched")),
            None => of_text(host, &about, words),
        },
    }
}

pub(super) async fn write(edge: &Edge, host: &Host, pattern: &str, writes: &[&Write]) -> Result<Done, Trouble> {
    let pieces = names::pieces(host, pattern)?;
    let mut done = Done::new();
    for chunk in chunks(writes, USERS_A_COMMAND_MAX) {
        let mut args = vec![WRITE_INNER.text(), edge.user_seconds().to_string(), edge.lock_seconds().to_string()];
        args.extend(pieces.iter().cloned());
        let ask = Ask { program: WRITE, args, input: lines(&chunk), about: pattern.to_owned() };
        let result = edge.ask_to_the_end(host, &ask).await.and_then(|said| read_done(host, pattern, &chunk, &said));
        joined(&mut done, &chunk, result)?;
    }
    Ok(done)
}

/// What write_own.sh reads.
fn lines(writes: &[&Write]) -> Vec<u8> {
    let mut lines = String::new();
    for Write { user, before, after } in writes {
        let sum = |bytes: &Option<Vec<u8>>| bytes.as_deref().map_or_else(|| "-".into(), sha256);
        let content = after.as_ref().map_or_else(|| "-".into(), |bytes| STANDARD.encode(bytes));
        lines.push_str(&format!("{user} {} {} {content}\n", sum(before), sum(after)));
    }
    lines.push_str("end\n");
    lines.into_bytes()
}

fn read_done(host: &Host, pattern: &str, writes: &[&Write], said: &[u8]) -> Result<Done, Trouble> {
    let records: BTreeMap<String, Vec<u8>> = records(host, said)?.into_iter().collect();
    let of = |write: &&Write| {
        let words = records.get(&write.user).map(Vec::as_slice).unwrap_or_default();
        let last = words.strip_suffix(b"\n").unwrap_or_default().rsplit(|byte| *byte == b'\n').next();
        let result = if last == Some(b"done") { Ok(()) } else { Err(unwritten(host, pattern, &write.user, words)) };
        (write.user.clone(), result)
    };
    Ok(writes.iter().map(of).collect())
}
