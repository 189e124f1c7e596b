//! Writes files into a directory of key files: one command for many users, checked there before and after it arrived.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::edge::{Answer, Ask, END, Edge, Program};
use super::trouble::{clean, login, of_answer, of_text};
use super::{FILE_BYTES_MAX, Trouble, Write, names};
use crate::access::Host;

/// Most files that one command writes.
const FILES_A_COMMAND_MAX: usize = 4_096;
/// Most that one command is sent, in bytes of file contents.
const BYTES_A_COMMAND_MAX: usize = 32 * 1024 * 1024;
/// Mode of a file in a directory for all: sshd reads it with the user's rights.
const MODE: u32 = 0o644;

pub(super) const WRITE: Program = Program {
    name: "write_directory.sh",
    parts: &[
        include_str!("scripts/prelude.sh"),
        include_str!("scripts/directory.sh"),
        include_str!("scripts/write_directory.sh"),
    ],
};

/// What each user got.
pub(super) type Done = BTreeMap<String, Result<(), Trouble>>;

/// sha256 in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is to be written; and the answers for what is not: bad names, too large, twice the same user, nothing to do.
pub(super) fn sort_out<'a>(host: &Host, writes: &'a [Write]) -> (Vec<&'a Write>, Done) {
    let mut done = Done::new();
    let mut good: BTreeMap<&str, &Write> = BTreeMap::new();
    for write in writes {
        let user = &write.user;
        let too_large = write.after.as_ref().is_some_and(|after| after.len() > FILE_BYTES_MAX);
        if !names::is_user(user) {
            done.insert(user.clone(), Err(names::bad_user(host, user)));
        } else if too_large {
            let what = format!("the new file of {user} would be larger than {FILE_BYTES_MAX} bytes");
            done.insert(user.clone(), Err(Trouble::lasting(host, what)));
        } else if good.insert(user, write).is_some_and(|other| other != write) {
            done.insert(user.clone(), Err(Trouble::lasting(host, format!("two different files for {user}"))));
        } else if write.before.is_none() && write.after.is_none() {
            done.insert(user.clone(), Ok(()));
        }
    }
    let rest = good.into_values().filter(|write| !done.contains_key(&write.user)).collect();
    (rest, done)
}

/// Cuts into commands.
pub(super) fn chunks<'a>(writes: &[&'a Write], files_max: usize) -> Vec<Vec<&'a Write>> {
    let mut chunks: Vec<Vec<&Write>> = Vec::new();
    let mut bytes = 0;
    for write in writes {
        let size = write.after.as_ref().map_or(0, Vec::len);
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < files_max && bytes + size <= BYTES_A_COMMAND_MAX => chunk.push(write),
            _ => {
                chunks.push(vec![write]);
                bytes = 0;
            }
        }
        bytes += size;
    }
    chunks
}

/// Joins what the commands of one call came to: an error only if nothing at all was written.
pub(super) fn joined(done: &mut Done, chunk: &[&Write], result: Result<Done, Trouble>) -> Result<(), Trouble> {
    match result {
        Ok(more) => done.extend(more),
        Err(trouble) if done.is_empty() => return Err(trouble),
        Err(trouble) => done.extend(chunk.iter().map(|write| (write.user.clone(), Err(trouble.clone())))),
    }
    Ok(())
}

pub(super) async fn directory(edge: &Edge, host: &Host, dir: &str, writes: &[&Write]) -> Result<Done, Trouble> {
    let dir = names::directory(host, dir)?;
    let mut done = Done::new();
    for chunk in chunks(writes, FILES_A_COMMAND_MAX) {
        let args = vec![dir.clone(), edge.lock_seconds().to_string()];
        let input = archive(&chunk).map_err(|error| Trouble::may_pass(host, format!("a tar stream: {error}")))?;
        let answer = edge.ask(host, &Ask { program: WRITE, args, input, about: dir.clone() }).await;
        let result = answer.and_then(|answer| read_answer(host, &dir, &chunk, &answer));
        joined(&mut done, &chunk, result)?;
    }
    Ok(done)
}

/// The stream that write_directory.sh reads.
pub(super) fn archive(writes: &[&Write]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(MODE);
        header.set_entry_type(tar::EntryType::Regular);
        archive.append_data(&mut header, format!(".reactor-new/{path}"), bytes)
    };
    let [mut absent, mut present, mut gone, mut sums] = [const { String::new() }; 4];
    for Write { user, before, after } in writes {
        match before {
            Some(bytes) => {
                present.push_str(&format!("{user}\n"));
                sums.push_str(&format!("{}  ./{user}\n", sha256(bytes)));
            }
            None => absent.push_str(&format!("{user}\n")),
        }
        match after {
            Some(bytes) => {
                add(&format!("new/{user}"), bytes)?;
                sums.push_str(&format!("{}  .reactor-new/new/{user}\n", sha256(bytes)));
            }
            None => gone.push_str(&format!("{user}\n")),
        }
    }
    add("absent", absent.as_bytes())?;
    add("present", present.as_bytes())?;
    add("gone", gone.as_bytes())?;
    add("sums", sums.as_bytes())?;
    archive.into_inner()
}

fn read_answer(host: &Host, dir: &str, writes: &[&Write], answer: &Answer) -> Result<Done, Trouble> {
    let said = String::from_utf8_lossy(&answer.stdout);
    match answer.code {
        0 if answer.stdout.ends_with(END) => {
            let left: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("left ")).collect();
            let of = |user: &str| match left.contains(&user) {
                true => Err(left_behind(host, dir, user, &answer.stderr)),
                false => Ok(()),
            };
            Ok(writes.iter().map(|write| (write.user.clone(), of(&write.user))).collect())
        }
        0 => Err(Trouble::may_pass(host, format!("{dir}: the answer was cut short; it may have been written"))),
        113 if said.contains(".reactor-new/") => {
            let what =
                format!("{dir}: what arrived is not what was sent; nothing was written: {}", clean(&answer.stderr));
            Err(Trouble::may_pass(host, what))
        }
        113 => {
            let moved: Vec<&str> = said
                .lines()
                .filter_map(|line| line.strip_prefix("moved ").or_else(|| line.strip_prefix("./")?.split(':').next()))
                .collect();
            let what = format!("{dir}: changed since the plan, nothing was written: {}", moved.join(", "));
            Err(Trouble::moved(host, what))
        }
        _ => Err(of_answer(host, dir, answer)),
    }
}

fn left_behind(host: &Host, dir: &str, user: &str, stderr: &[u8]) -> Trouble {
    let all = String::from_utf8_lossy(stderr);
    let its_own: Vec<&str> =
        all.lines().filter(|line| line.contains(&format!("/{user}'")) || line.contains(&format!("'{user}'"))).collect();
    let said = if its_own.is_empty() { all.into_owned() } else { its_own.join("\n") };
    of_text(host, &format!("{dir}/{user} could not be replaced"), said.as_bytes())
        .hinting(format!("{}lsattr -d {dir} {dir}/{user}", login(host)))
}
