//! Where the inventory comes from: a file, a program, or the rules file itself.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use handler_api::Failure;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::{Inventory, read};
use crate::config::HostsFrom;
use crate::config::node::{self, Node};
use crate::config::words::Problems;
use crate::keys::clean;

/// Largest inventory, in bytes.
pub const INVENTORY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long the program may take that prints the inventory, in seconds.
pub const INVENTORY_SECONDS_MAX: u64 = 30;
/// How much of its stderr is kept, in bytes, and told, in characters.
const STDERR_BYTES_MAX: usize = 64 * 1024;
const STDERR_CHARS_MAX: usize = 300;
/// What the program gets of our environment. `REACTOR_STATE` is how the daemon finds what was left running.
const ENVIRONMENT: [&str; 6] = ["PATH", "LANG", "HOME", "TMPDIR", "REACTOR_SECRETS", "REACTOR_STATE"];

pub(super) async fn load(from: &HostsFrom) -> Result<Inventory, Failure> {
    match from {
        HostsFrom::File(path) => file(path).await,
        HostsFrom::Command(words) => command(words).await,
        HostsFrom::Inline(value) => {
            let what = "`hosts` of ssh-keys";
            let tree = Node::deserialize(value).map_err(|error| Failure::permanent(format!("{what}: {error}")))?;
            let mut problems = Problems::default();
            let inventory = read::inventory(&tree, None, &mut problems);
            if problems.any() { Err(problems.permanent(what)) } else { Ok(inventory) }
        }
    }
}

async fn file(path: &Path) -> Result<Inventory, Failure> {
    let shown = path.display();
    let failed = |why: &str| Failure::retry(format!("the inventory {shown}: {why}")).hinting(format!("ls -lL {shown}"));
    let failed_io = |error: std::io::Error| failed(&error.to_string());
    // Opening a FIFO would wait for its other end.
    if !tokio::fs::metadata(path).await.map_err(failed_io)?.is_file() {
        return Err(failed("it is not a file"));
    }
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(failed_io)?;
    file.take(INVENTORY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).await.map_err(failed_io)?;
    if bytes.len() > INVENTORY_BYTES_MAX {
        return Err(failed(&format!("it is larger than {INVENTORY_BYTES_MAX} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8"))?;
    // Cut short, YAML is often YAML still, with fewer people in its last list.
    if !text.is_empty() && !text.ends_with(['\n', '}']) {
        return Err(failed("its last line has no end; is it still being written? Otherwise end it with a newline"));
    }
    from_yaml(&text, path)
}

fn from_yaml(text: &str, path: &Path) -> Result<Inventory, Failure> {
    let mut problems = Problems::of_file(path.display().to_string());
    let tree = node::yaml(text, &mut problems);
    let inventory = tree.map(|tree| read::inventory(&tree, path.parent(), &mut problems)).unwrap_or_default();
    if problems.any() {
        let failure = Failure::retry(problems.told("the inventory"));
        return Err(failure.hinting(format!("mend {}", path.display())));
    }
    Ok(inventory)
}

async fn command(words: &[String]) -> Result<Inventory, Failure> {
    let program = words.first().map_or("", String::as_str);
    let hint = format!("try it by hand: {}", words.join(" "));
    let failed =
        |why: String| Failure::retry(format!("the inventory's program {program}: {why}")).hinting(hint.clone());
    let (status, stdout, stderr) = run(words, Duration::from_secs(INVENTORY_SECONDS_MAX)).await.map_err(&failed)?;
    if !status.success() {
        return Err(failed(format!("{status}: {}", tail(&stderr))));
    }
    let tree: Node = serde_json::from_slice(&stdout)
        .map_err(|error| failed(format!("what it printed is not one JSON value: {error}; {}", tail(&stderr))))?;
    let mut problems = Problems::default();
    let inventory = read::inventory(&tree, None, &mut problems);
    if problems.any() { Err(failed(problems.told("what it printed"))) } else { Ok(inventory) }
}

/// The end of what a program said on stderr, on one line.
fn tail(stderr: &[u8]) -> String {
    let text = clean(&String::from_utf8_lossy(stderr));
    if text.is_empty() {
        return "it says nothing on stderr".into();
    }
    let skip = text.chars().count().saturating_sub(STDERR_CHARS_MAX);
    text.chars().skip(skip).collect()
}

/// Ends the program and what it started, unless it has ended by itself.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

async fn run(words: &[String], limit: Duration) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), String> {
    let (mut child, mut group) = start(words)?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("it has no output".into());
    };
    let work = async {
        let (out, err) = tokio::join!(first(stdout, INVENTORY_BYTES_MAX + 1), last(stderr, STDERR_BYTES_MAX));
        let out = out.map_err(|error| error.to_string())?;
        if out.len() > INVENTORY_BYTES_MAX {
            return Err(format!("it printed more than {INVENTORY_BYTES_MAX} bytes"));
        }
        let status = child.wait().await.map_err(|error| error.to_string())?;
        Ok((status, out, err))
    };
    let done = tokio::time::timeout(limit, work).await;
    let done = done.map_err(|_| format!("it took longer than {} seconds", limit.as_secs()))??;
    group.0 = None;
    Ok(done)
}

#[allow(clippy::disallowed_methods, reason = "the site's own program, without a shell, in a process group of its own")]
fn start(words: &[String]) -> Result<(Child, Group), String> {
    let (program, arguments) = words.split_first().ok_or("it has no name")?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().process_group(0).kill_on_drop(true);
    command.envs(ENVIRONMENT.iter().filter_map(|name| std::env::var_os(name).map(|value| (name, value))));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| error.to_string())?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    Ok((child, Group(pid)))
}

/// Up to so many bytes.
async fn first(from: impl AsyncRead + Unpin, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(bytes_max as u64).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// The last bytes, about so many. All is read, so that nobody dies of a closed pipe.
async fn last(mut from: impl AsyncRead + Unpin, bytes_max: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while from.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
        if bytes.len() > bytes_max * 2 {
            bytes.drain(..bytes.len() - bytes_max);
        }
    }
    bytes
}

#[cfg(test)]
mod tests;
