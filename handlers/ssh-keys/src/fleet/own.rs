//! Files that are the user's own, such as `%h/.ssh/authorized_keys`: read and written with that user's rights.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::edge::{Ask, END, Edge, Program};
use super::trouble::{clean, login, of_answer, of_text};
use super::write::{Done, chunks, joined, sha256};
use super::{FILE_BYTES_MAX, Found, Trouble, Write, names};
use crate::access::Host;

/// How many users' files are looked at or written in a second, at the least: with the time limit of a command, this says how
/// many one command is given. Measured: 20 to 50 on a quiet machine.
const USERS_A_SECOND: usize = 5;

const LOOK: Program = Program {
    name: "look_own.sh",
    parts: &[include_str!("scripts/prelude.sh"), include_str!("scripts/own.sh"), include_str!("scripts/look_own.sh")],
};
const WRITE: Program = Program {
    name: "write_own.sh",
    parts: &[include_str!("scripts/prelude.sh"), include_str!("scripts/own.sh"), include_str!("scripts/write_own.sh")],
};
const LIST: Program = Program {
    name: "list_own.sh",
    parts: &[include_str!("scripts/prelude.sh"), include_str!("scripts/own.sh"), include_str!("scripts/list_own.sh")],
};
/// Run for each user, as an argument of the two above.
const LOOK_INNER: Program = Program { name: "look_inner.sh", parts: &[include_str!("scripts/look_inner.sh")] };
const WRITE_INNER: Program = Program { name: "write_inner.sh", parts: &[include_str!("scripts/write_inner.sh")] };

/// What stands there for these users, and for all others whose file holds the marker.
pub(super) async fn look(
    edge: &Edge,
    host: &Host,
    pattern: &str,
    users: &BTreeSet<String>,
    marker: Option<&str>,
) -> Result<BTreeMap<String, Found>, Trouble> {
    let pieces = names::pieces(host, pattern)?;
    let files = Files { edge, host, pattern, pieces: &pieces };
    let mut found = BTreeMap::new();
    files.look(users, "", &mut found).await?;
    if let Some(marker) = marker {
        let ask = Ask { program: LIST, args: pieces.clone(), input: Vec::new(), about: pattern.to_owned() };
        let said = edge.ask_to_the_end(host, &ask).await?;
        let names = String::from_utf8_lossy(&said).into_owned();
        let others = names.lines().filter(|name| names::is_user(name) && !users.contains(*name)).map(String::from);
        files.look(&others.collect(), marker, &mut found).await?;
    }
    Ok(found)
}

struct Files<'a> {
    edge: &'a Edge,
    host: &'a Host,
    pattern: &'a str,
    pieces: &'a [String],
}

impl Files<'_> {
    /// With a marker, only those whose file holds it are said.
    async fn look(
        &self,
        users: &BTreeSet<String>,
        marker: &str,
        found: &mut BTreeMap<String, Found>,
    ) -> Result<(), Trouble> {
        let users: Vec<&String> = users.iter().collect();
        for users in users.chunks(users_a_command(self.edge)) {
            let mut args = vec![LOOK_INNER.text(), marker.to_owned(), self.edge.user_seconds().to_string()];
            args.push((FILE_BYTES_MAX + 1).to_string());
            args.extend_from_slice(self.pieces);
            let input = users.iter().flat_map(|user| format!("{user}\n").into_bytes()).collect();
            let (records, all) = self.ask(Ask { program: LOOK, args, input, about: self.pattern.to_owned() }).await?;
            for user in users {
                let what = match records.get(*user) {
                    Some(words) => read_found(self.host, self.pattern, user, words),
                    None if !all => Some(Found::Odd(unwritten(self.host, self.pattern, user, b""))),
                    None if marker.is_empty() => Some(Found::NoUser),
                    None => None,
                };
                found.extend(what.map(|what| ((*user).clone(), what)));
            }
        }
        Ok(())
    }

    /// What was said for each user, and whether it came to its end. Where a few hang so long that the time was up, the others
    /// were served all the same.
    async fn ask(&self, ask: Ask) -> Result<(BTreeMap<String, Vec<u8>>, bool), Trouble> {
        let answer = self.edge.ask(self.host, &ask).await?;
        let all = answer.code == 0 && answer.stdout.ends_with(END);
        if !all && !matches!(answer.code, 124 | 137) {
            return Err(of_answer(self.host, self.pattern, &answer));
        }
        let whole = answer.stdout.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let said = &answer.stdout[..whole];
        Ok((records(self.host, said.strip_suffix(END).unwrap_or(said))?, all))
    }
}

/// How many users one command looks at or writes for.
fn users_a_command(edge: &Edge) -> usize {
    edge.limit_seconds() as usize * USERS_A_SECOND
}

/// Lines of a name and base64.
fn records(host: &Host, said: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, Trouble> {
    let read = |line: &str| {
        let (name, words) = line.split_once(' ')?;
        Some((name.to_owned(), STANDARD.decode(words).ok()?))
    };
    let records: Option<_> = String::from_utf8_lossy(said).lines().map(read).collect();
    records.ok_or_else(|| Trouble::may_pass(host, "the answer can't be read"))
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

/// Writes what is to be written.
pub(super) async fn write(edge: &Edge, host: &Host, pattern: &str, writes: &[&Write]) -> Result<Done, Trouble> {
    let pieces = names::pieces(host, pattern)?;
    let files = Files { edge, host, pattern, pieces: &pieces };
    let mut done = Done::new();
    for chunk in chunks(writes, users_a_command(edge)) {
        let mut args = vec![WRITE_INNER.text(), edge.user_seconds().to_string(), edge.user_lock_seconds().to_string()];
        args.extend_from_slice(&pieces);
        let ask = Ask { program: WRITE, args, input: lines(&chunk), about: pattern.to_owned() };
        let result = files.ask(ask).await.map(|(records, _)| read_done(host, pattern, &chunk, &records));
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

fn read_done(host: &Host, pattern: &str, writes: &[&Write], records: &BTreeMap<String, Vec<u8>>) -> Done {
    let of = |write: &&Write| {
        let words = records.get(&write.user).map(Vec::as_slice).unwrap_or_default();
        let last = words.strip_suffix(b"\n").unwrap_or_default().rsplit(|byte| *byte == b'\n').next();
        let result = if last == Some(b"done") { Ok(()) } else { Err(unwritten(host, pattern, &write.user, words)) };
        (write.user.clone(), result)
    };
    writes.iter().map(of).collect()
}
