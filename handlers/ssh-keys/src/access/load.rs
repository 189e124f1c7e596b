//! Where the inventory comes from: a file, a program, or the rules file itself.

use std::path::Path;
use std::time::Duration;

use accounts::program::{self, Run};
use handler_api::Failure;
use serde::Deserialize;
use tokio::io::AsyncReadExt;

use super::{Inventory, read};
use crate::config::HostsFrom;
use crate::config::node::{self, Node};
use crate::config::words::Problems;

/// Largest inventory, in bytes.
pub const INVENTORY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long the program may take that prints the inventory, in seconds.
pub const INVENTORY_SECONDS_MAX: u64 = 30;

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
    let (program, args) = words.split_first().map_or(("", &[][..]), |(program, args)| (program, args));
    let hint = format!("try it by hand: {}", words.join(" "));
    let failed =
        |why: String| Failure::retry(format!("the inventory's program {program}: {why}")).hinting(hint.clone());
    let run = Run {
        program: program.to_owned(),
        args: args.to_vec(),
        env: Vec::new(),
        stdin: Vec::new(),
        stdout_bytes_max: INVENTORY_BYTES_MAX,
        timeout: Duration::from_secs(INVENTORY_SECONDS_MAX),
    };
    let ended = program::run(run).await.map_err(|trouble| failed(format!("it {trouble}")))?;
    let said = if ended.stderr.is_empty() { "it says nothing on stderr" } else { &ended.stderr };
    if !ended.status.success() {
        return Err(failed(format!("{}: {said}", ended.status)));
    }
    let tree: Node = serde_json::from_slice(&ended.stdout)
        .map_err(|error| failed(format!("what it printed is not one JSON value: {error}; {said}")))?;
    let mut problems = Problems::default();
    let inventory = read::inventory(&tree, None, &mut problems);
    if problems.any() { Err(failed(problems.told("what it printed"))) } else { Ok(inventory) }
}

#[cfg(test)]
mod tests;
