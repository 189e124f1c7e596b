//! The edge: rsync, without a shell, in a clean environment, in a group of its own that is ended when it takes too long.

pub mod args;
pub mod exit;
pub mod itemize;
pub mod progress;

use std::ffi::OsString;
use std::time::Duration;

use accounts::program::{Run, Trouble, run_streamed};
use handler_api::Failure;

use crate::config::Config;

/// What to type where there is none.
pub const INSTALL: &str = "dnf install rsync (or apt-get install rsync)";
/// How much longer than its own limit an rsync gets to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(30);
/// Shortest limit that rsync can be told of, which counts in minutes; a shorter one ends it from outside.
const STOP_AFTER_MIN: Duration = Duration::from_secs(60);

/// An rsync that has ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; `None` = a signal.
    pub code: Option<i32>,
    /// What it said on stderr, its end.
    pub said: String,
}

/// Whether there is one.
#[must_use]
pub fn is_there() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join("rsync").is_file())
}

/// Runs one: `args` after those that each gets, `names` as its `--files-from`. `hear` gets every piece of stdout.
///
/// # Errors
/// It could not be started, or took too long. What its exit code says is up to the caller: [`exit::failure`].
pub async fn run(
    config: &Config,
    args: Vec<String>,
    names: Vec<u8>,
    hear: impl FnMut(&[u8]) + Send,
) -> Result<Ran, Failure> {
    let by_itself = config.time >= STOP_AFTER_MIN;
    let mut all = args::each(config);
    if by_itself {
        all.push(format!("--stop-after={}", config.time.as_secs().div_ceil(60)));
    }
    all.extend(args);
    let run = Run {
        program: "rsync".into(),
        args: all,
        // No ~/.popt with aliases in it.
        env: vec![(OsString::from("HOME"), OsString::from("/nonexistent"))],
        stdin: names,
        stdout_bytes_max: 0,
        timeout: if by_itself { config.time + GRACE } else { config.time },
    };
    match run_streamed(run, hear).await {
        Ok(ended) => Ok(Ran { code: ended.status.code(), said: ended.stderr }),
        Err(Trouble::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Failure::retry("rsync: there is none on this machine").hinting(INSTALL))
        }
        Err(trouble) => Err(Failure::retry(format!("rsync from {}: it {trouble}", config.from))
            .hinting("more `time` in the handler's block, or less at once; what has arrived is kept")),
    }
}

/// Cuts what comes in pieces into lines.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
}

/// Longest line that is looked at, in bytes; of a longer one only the beginning. A path has 4,096, escaped five times that.
const LINE_BYTES_MAX: usize = 32 * 1024;

impl Lines {
    /// Hands over each line that ends in `some`, at a newline or a carriage return.
    pub fn take(&mut self, some: &[u8], mut line: impl FnMut(&[u8])) {
        for piece in some.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let ends = piece.ends_with(b"\n") || piece.ends_with(b"\r");
            let text = if ends { &piece[..piece.len() - 1] } else { piece };
            let room = LINE_BYTES_MAX.saturating_sub(self.rest.len());
            self.rest.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                line(&self.rest);
                self.rest.clear();
            }
        }
    }
}
