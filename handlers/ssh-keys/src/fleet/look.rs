//! What stands in a directory of key files: one command for any number of users, which answers with a tar stream.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use tar::EntryType;

use super::edge::{Ask, Edge, Program};
use super::trouble::{clean, login, of_answer, of_text};
use super::{FILE_BYTES_MAX, Found, Trouble, names};
use crate::access::Host;

const LOOK: Program = Program {
    name: "look_directory.sh",
    parts: &[
        include_str!("scripts/prelude.sh"),
        include_str!("scripts/directory.sh"),
        include_str!("scripts/look_directory.sh"),
    ],
};

/// What stands there for these users, and for all others whose file holds the marker.
pub(super) async fn directory(
    edge: &Edge,
    host: &Host,
    dir: &str,
    users: &BTreeSet<String>,
    marker: Option<&str>,
) -> Result<BTreeMap<String, Found>, Trouble> {
    let dir = names::directory(host, dir)?;
    let input = users.iter().flat_map(|user| format!("./{user}\0").into_bytes()).collect();
    let args = vec![dir.clone(), marker.unwrap_or_default().to_owned()];
    let answer = edge.ask(host, &Ask { program: LOOK, args, input, about: dir.clone() }).await?;
    // 2 of tar: something was not there. It is looked at below whether that was all.
    if !matches!(answer.code, 0 | 2) {
        return Err(of_answer(host, &dir, &answer));
    }
    let mut found = read_stderr(host, &dir, &answer.stderr)?;
    let unreadable =
        |error: std::io::Error| Trouble::may_pass(host, format!("{dir}: the answer can't be read: {error}"));
    let files = read_archive(host, &dir, users, marker.is_some(), &answer.stdout);
    found.extend(files.map_err(unreadable)?);
    match users.iter().find(|user| !found.contains_key(*user)) {
        Some(user) => Err(Trouble::may_pass(host, format!("{dir}: no word about {user}: {}", clean(&answer.stderr)))),
        None => Ok(found),
    }
}

/// The files in an answer. A name that nobody can have is nobody's file. Others than those asked for count only where others
/// were searched for: a host that says more could hold up the plan of one person for all hosts.
fn read_archive(
    host: &Host,
    dir: &str,
    users: &BTreeSet<String>,
    searched: bool,
    stdout: &[u8],
) -> std::io::Result<BTreeMap<String, Found>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(stdout).entries()? {
        let mut entry = entry?;
        let path = entry.path_bytes().into_owned();
        let name = String::from_utf8_lossy(path.strip_prefix(b"./").unwrap_or(&path)).trim_end_matches('/').to_owned();
        if users.contains(&name) || (searched && names::is_user(&name)) {
            let what = read_entry(host, dir, &name, &mut entry)?;
            found.insert(name, what);
        }
    }
    Ok(found)
}

/// Who has no file, by what tar says. Whatever else it says is a failure: unknown is not empty.
fn read_stderr(host: &Host, dir: &str, stderr: &[u8]) -> Result<BTreeMap<String, Found>, Trouble> {
    let mut found = BTreeMap::new();
    for line in String::from_utf8_lossy(stderr).lines() {
        // A login shell or sudo may grumble too.
        let ours = ["tar: ", "find: ", "grep: ", "sort: ", "sh: "].iter().any(|begin| line.starts_with(begin));
        let name = line.strip_prefix("tar: ./");
        if let Some(name) = name.and_then(|rest| rest.strip_suffix(": Cannot stat: No such file or directory")) {
            found.insert(name.to_owned(), Found::Absent);
        } else if let Some(name) = name.and_then(|rest| rest.strip_suffix(": socket ignored")) {
            found.insert(name.to_owned(), odd(host, dir, name, "a socket"));
        } else if ours && !line.starts_with("tar: Exiting with failure status") {
            return Err(of_text(host, dir, stderr));
        }
    }
    // What the search asks for when it failed; its reason is in the same text.
    if found.keys().any(|name| name.contains('/')) {
        return Err(of_text(host, &format!("{dir}: looking through all files failed"), stderr));
    }
    Ok(found)
}

fn odd(host: &Host, dir: &str, name: &str, what: &str) -> Found {
    let trouble = Trouble::lasting(host, format!("{dir}/{name} is {what}; it is not touched"));
    Found::Odd(trouble.hinting(format!("{}ls -l {dir}/{name}", login(host))))
}

fn read_entry(host: &Host, dir: &str, name: &str, entry: &mut tar::Entry<'_, &[u8]>) -> std::io::Result<Found> {
    Ok(match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => {
            let size = entry.size();
            if size > FILE_BYTES_MAX as u64 {
                return Ok(odd(host, dir, name, &format!("larger than {FILE_BYTES_MAX} bytes")));
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            if bytes.len() as u64 != size {
                return Err(std::io::Error::other("it was cut short"));
            }
            Found::File(bytes)
        }
        EntryType::Directory => odd(host, dir, name, "a directory"),
        EntryType::Symlink => odd(host, dir, name, "a link"),
        _ => odd(host, dir, name, "not a regular file"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Place, Reach};

    #[test]
    fn a_host_says_nothing_of_people_who_were_not_asked_for() {
        let place = Place::Directory("/k/%u".into());
        let host = Host { name: "h".into(), reach: Reach::Local, place, access: Vec::new() };
        let mut archive = tar::Builder::new(Vec::new());
        for name in ["./ralph", "./eve", "../etc/x", "./new\nline"] {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(1);
            header.set_entry_type(EntryType::Regular);
            header.set_cksum();
            archive.append(&header, &b"x"[..]).unwrap();
        }
        let answer = archive.into_inner().unwrap();
        let ralph = BTreeSet::from(["ralph".to_owned()]);
        let names =
            |searched| read_archive(&host, "/k", &ralph, searched, &answer).unwrap().into_keys().collect::<Vec<_>>();
        assert_eq!(names(false), ["ralph"]);
        assert_eq!(names(true), ["eve", "ralph"]);
    }
}
