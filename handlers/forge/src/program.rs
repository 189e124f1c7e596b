//! A source that is a program of the site's: `{command: [PROGRAM, args…]}`. It is run without a shell, with what is asked after its
//! own arguments, and prints JSON.

use std::time::Duration;

use accounts::command::{COMMAND_SECONDS, COMMAND_SECONDS_MAX, COMMAND_WORDS_MAX};
use accounts::program::{self, Run};
use handler_api::Failure;
use handler_api::words::Words;
use serde_json::Value;

/// Most that the program may print, in bytes.
pub const PROGRAM_STDOUT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The program, as configured.
#[derive(Debug)]
pub struct Program {
    what: &'static str,
    program: String,
    args: Vec<String>,
    timeout: Duration,
}

impl Program {
    /// Reads `{command: [PROGRAM, args…], timeout: 30s?}`, the value of the word `what` (`repos`).
    ///
    /// # Errors
    /// A permanent failure that names the wrong word.
    pub fn open(config: &Value, what: &'static str) -> Result<Self, Failure> {
        let words = Words::read(config, what, &["command", "timeout"])?;
        let value = words.get("command").unwrap_or(&Value::Null);
        let as_text = |word: &Value| word.as_str().filter(|word| !word.contains('\0')).map(str::to_owned);
        let list: Option<Vec<String>> = value.as_array().and_then(|list| list.iter().map(as_text).collect());
        let list =
            list.filter(|list| list.len() <= COMMAND_WORDS_MAX && list.first().is_some_and(|word| !word.is_empty()));
        let Some((program, args)) = list.as_deref().and_then(<[String]>::split_first) else {
            let why = format!("is not a list of texts, program first, at most {COMMAND_WORDS_MAX}");
            let hint = format!("write command: [/usr/local/bin/{what}, --option]; no shell reads it");
            return Err(words.wrong("command", &why, value).hinting(hint));
        };
        let max = Duration::from_secs(COMMAND_SECONDS_MAX);
        let timeout = words.duration("timeout", Duration::from_secs(COMMAND_SECONDS), max)?;
        Ok(Self { what, program: program.clone(), args: args.to_vec(), timeout })
    }

    /// Runs it with `asked` (never empty) after its own arguments. `read` gets what it printed and, for messages, who printed it.
    ///
    /// # Errors
    /// When it fails in any way or prints nothing; what `read` says.
    pub async fn ask<T: Send + 'static>(
        &self,
        asked: Vec<String>,
        read: impl FnOnce(&[u8], &str) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let first = asked.first().map(String::as_str).unwrap_or_default();
        let source = format!("the {} command `{} … {first}`", self.what, self.program);
        let words: Vec<&str> =
            [&self.program].into_iter().chain(&self.args).chain(&asked).map(String::as_str).collect();
        let hint = format!("run it by hand: {}", words.join(" "));
        let failed = |why: String| Failure::retry(format!("{source} {why}")).hinting(hint.clone());
        let run = Run {
            program: self.program.clone(),
            args: self.args.iter().cloned().chain(asked).collect(),
            env: Vec::new(),
            stdin: Vec::new(),
            stdout_bytes_max: PROGRAM_STDOUT_BYTES_MAX,
            timeout: self.timeout,
        };
        let ended = program::run(run).await.map_err(|trouble| failed(trouble.to_string()))?;
        let said = if ended.stderr.is_empty() { "it said nothing on stderr" } else { &ended.stderr };
        if !ended.status.success() {
            return Err(failed(format!("failed ({}): {said}", ended.status)));
        }
        if ended.stdout.iter().all(u8::is_ascii_whitespace) {
            return Err(failed(format!("printed nothing: {said}")));
        }
        // Up to 64 MiB: not on a thread that others wait for.
        let parsed = tokio::task::spawn_blocking(move || read(&ended.stdout, &source)).await;
        parsed.map_err(|error| Failure::retry(format!("reading what the {} command printed: {error}", self.what)))?
    }
}
