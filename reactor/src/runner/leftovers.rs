//! What a killed daemon left running. A handler must not race with its own repetition, so a daemon that starts ends what
//! an earlier one on the same state directory had started, before it touches any lane.
//!
//! Nothing lets an exec handler die with a daemon that got SIGKILL (that needs code between fork and exec, which is
//! `unsafe`); a long-lived one sees the end of its stdin. So they are found: by `REACTOR_STATE` in their environment, by
//! a working directory below ours, by such a process above them, or by sharing the process group of one of these.
//!
//! It must be called by whoever holds the journal's lock: it can't tell an earlier daemon's children from those of another
//! live one on the same directory. What a handler handed to another service (systemd, at, docker) is not found.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, pidfd_send_signal};

use super::process::Exit;
use super::surroundings::{STATE_VARIABLE, secrets_dir};

/// How often it is looked again for what was forked meanwhile.
const PASSES_MAX: usize = 20;
/// How long one pass waits for what it killed, in milliseconds.
const GONE_WAIT_MS: u64 = 2_000;

/// A process that was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its process id.
    pub pid: u32,
    /// The beginning of its command line.
    pub command: String,
    /// Whether it is gone; otherwise (another user's, or stuck in the kernel) it may still be doing something.
    pub gone: bool,
}

/// One process as /proc has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    parent: u32,
    group: u32,
    ours: bool,
}

/// Ends every process that an earlier daemon on `state_dir` left behind, waits until they are gone, and removes their
/// directories. Never this process or one above it.
///
/// # Errors
/// When /proc can't be read.
pub async fn end_leftovers(state_dir: &Path) -> io::Result<Vec<Ended>> {
    let Ok(state) = state_dir.canonicalize() else { return Ok(Vec::new()) };
    let mut ended: Vec<Ended> = Vec::new();
    for _ in 0..PASSES_MAX {
        let left = find(&state)?;
        if left.is_empty() {
            break;
        }
        let mut waiting = Vec::new();
        for (pid, group) in left {
            let (Some(process), command) = (pid_of(pid), command_of(pid)) else { continue };
            let exit = Exit::open(process);
            if let Ok(exit) = &exit {
                let _ = pidfd_send_signal(exit, Signal::KILL);
            }
            if let Some(group) = group.and_then(pid_of) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            waiting.push((pid, command, exit));
        }
        let mut all_gone = true;
        for (pid, command, exit) in waiting {
            let gone = match exit {
                Ok(exit) => is_gone(exit).await,
                Err(error) => error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()),
            };
            all_gone &= gone;
            ended.retain(|known| known.pid != pid);
            ended.push(Ended { pid, command, gone });
        }
        if !all_gone {
            break;
        }
    }
    remove_surroundings(&state);
    Ok(ended)
}

async fn is_gone(exit: OwnedFd) -> bool {
    let Ok(exit) = Exit::of(exit) else { return false };
    tokio::time::timeout(Duration::from_millis(GONE_WAIT_MS), exit.ended()).await.is_ok()
}

/// The processes to end, and for each the group to end with it, if none of our own is in that.
fn find(state: &Path) -> io::Result<Vec<(u32, Option<u32>)>> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        // A process that ended meanwhile is no longer anybody's.
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok())
            && let Some(seen) = look(pid, state)
        {
            all.insert(pid, seen);
        }
    }
    Ok(choose(&all, std::process::id()))
}

/// Which of `all` to end, seen from process `own`. Pure.
fn choose(all: &HashMap<u32, Seen>, own: u32) -> Vec<(u32, Option<u32>)> {
    let mut spared = HashSet::new();
    let mut at = own;
    while spared.insert(at) {
        at = all.get(&at).map_or(0, |seen| seen.parent);
    }
    let mut found: HashSet<u32> =
        all.iter().filter(|(pid, seen)| seen.ours && !spared.contains(*pid)).map(|(pid, _)| *pid).collect();
    let spared_groups: HashSet<u32> = spared.iter().filter_map(|pid| all.get(pid)).map(|seen| seen.group).collect();
    loop {
        let groups: HashSet<u32> = found.iter().filter_map(|pid| all.get(pid)).map(|seen| seen.group).collect();
        let more: Vec<u32> = all
            .iter()
            .filter(|(pid, seen)| {
                !found.contains(*pid)
                    && !spared.contains(*pid)
                    && (found.contains(&seen.parent)
                        || groups.contains(&seen.group) && !spared_groups.contains(&seen.group))
            })
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    let group_of = |pid: &u32| all.get(pid).map(|seen| seen.group).filter(|group| !spared_groups.contains(group));
    let mut chosen: Vec<_> = found.iter().map(|pid| (*pid, group_of(pid))).collect();
    chosen.sort_unstable();
    chosen
}

fn look(pid: u32, state: &Path) -> Option<Seen> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let (parent, group, alive) = parse_stat(&fs::read_to_string(proc.join("stat")).ok()?)?;
    let marker = [STATE_VARIABLE.as_bytes(), b"=", state.as_os_str().as_encoded_bytes()].concat();
    let environment = fs::read(proc.join("environ")).unwrap_or_default();
    let marked = environment.split(|byte| *byte == 0).any(|variable| variable == marker);
    let at_work = fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd.starts_with(state.join("work")));
    alive.then_some(Seen { parent, group, ours: marked || at_work })
}

/// Parent, process group, and whether it still runs: fields 4, 5 and 3 of /proc/PID/stat (proc(5)). The name in field 2 may
/// hold anything, so what follows is counted from its last parenthesis.
fn parse_stat(stat: &str) -> Option<(u32, u32, bool)> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let alive = !matches!(fields.next()?, "Z" | "X");
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?, alive))
}

fn pid_of(pid: u32) -> Option<Pid> {
    // 0 and 1 are never ours: a kernel thread's parent, and init.
    Pid::from_raw(i32::try_from(pid).ok()?).filter(|pid| pid.as_raw_nonzero().get() > 1)
}

fn command_of(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    super::hearing::clean(&words.join(" ")).chars().take(100).collect()
}

fn remove_surroundings(state: &Path) {
    let secrets = secrets_dir(state).ok();
    for dir in [Some(state.join("work")), secrets.clone()].into_iter().flatten() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if let Err(error) = fs::remove_dir_all(entry.path()) {
                tracing::warn!(dir = %entry.path().display(), %error, "a handler's directory could not be removed");
            }
        }
    }
    let _ = secrets.map(fs::remove_dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(parent: u32, group: u32, ours: bool) -> Seen {
        Seen { parent, group, ours }
    }

    #[test]
    fn whatever_hangs_on_a_marked_process_goes_with_it_and_nothing_else() {
        let all = HashMap::from([
            (10, seen(1, 10, true)),   // a handler whose daemon is gone
            (11, seen(10, 10, false)), // its child with a cleaned environment
            (12, seen(11, 12, false)), // a grandchild in a session of its own
            (13, seen(1, 10, false)),  // an orphan in its group
            (20, seen(1, 20, false)),  // a stranger
            (30, seen(2, 30, false)),  // ourselves
        ]);
        assert_eq!(choose(&all, 30), [(10, Some(10)), (11, Some(10)), (12, Some(12)), (13, Some(10))]);
    }

    #[test]
    fn a_daemon_that_a_handler_started_spares_itself_and_what_is_above_it() {
        let all = HashMap::from([
            (10, seen(1, 10, true)),  // a handler…
            (11, seen(10, 10, true)), // …that starts a daemon: us
            (12, seen(10, 10, true)), // and something beside us, in our group
        ]);
        assert_eq!(choose(&all, 11), [(12, None)]);
    }

    #[test]
    fn a_process_may_call_itself_anything() {
        assert_eq!(parse_stat("7 (a) S 1 2 3) R 40 41 42 0"), Some((40, 41, true)));
        assert_eq!(parse_stat("7 (x) Z 1 7 7"), Some((1, 7, false)));
        assert_eq!(parse_stat("nonsense"), None);
    }
}
