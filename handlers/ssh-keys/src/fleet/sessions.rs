//! Ends login sessions of users who lost access.

use super::edge::{Ask, Edge, Program};
use super::{Trouble, names};
use crate::access::Host;

const END_SESSIONS: Program = Program {
    name: "end_sessions.sh",
    parts: &[include_str!("scripts/prelude.sh"), include_str!("scripts/end_sessions.sh")],
};

pub(super) async fn end(edge: &Edge, host: &Host, users: &[String]) -> Result<(), Trouble> {
    let input: Vec<u8> =
        users.iter().filter(|user| names::is_user(user)).flat_map(|user| format!("{user}\n").into_bytes()).collect();
    if input.is_empty() {
        return Ok(());
    }
    let ask = Ask { program: END_SESSIONS, args: Vec::new(), input, about: "ending sessions".into() };
    let said = edge.ask_to_the_end(host, &ask).await?;
    let said = String::from_utf8_lossy(&said);
    let about = |word: &str| said.lines().filter_map(|line| line.strip_prefix(word)).collect::<Vec<_>>().join(", ");
    let (spared, left) = (about("spared "), about("left "));
    if !spared.is_empty() {
        eprintln!("host {}: the sessions of {spared} are not ended: root, or who we log in as", host.name);
    }
    let unknown = about("unknown ");
    if !unknown.is_empty() {
        eprintln!("host {}: {unknown}: not known there, so sessions that are still open go on", host.name);
    }
    if left.is_empty() {
        return Ok(());
    }
    Err(Trouble::lasting(host, format!("the sessions of {left} could not be ended"))
        .hinting("log in as root, or set `sudo: true` for this host in the inventory"))
}
