//! The source `command`: a program of the site's, which prints the repositories as JSON.
//!
//! It is run as `PROGRAM args… repo NAME` or `PROGRAM args… all`, without a shell. It prints `{"repo": {…}}` (null = there is
//! none of that name) or `{"repos": {NAME: {…}}}`, with the words of the YAML file.

use std::time::Duration;

use accounts::command::{COMMAND_SECONDS, COMMAND_SECONDS_MAX, COMMAND_WORDS_MAX};
use accounts::program::{self, Run};
use handler_api::Failure;
use handler_api::words::Words;
use serde_json::Value;

use super::document::{Document, one_from_json};
use super::{All, Repo};
use crate::names::RepoName;

/// Most that the program may print, in bytes.
pub const COMMAND_STDOUT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The source, as configured.
#[derive(Debug)]
pub struct Command {
    program: String,
    args: Vec<String>,
    timeout: Duration,
}

impl Command {
    /// Reads `{command: [PROGRAM, args…], timeout: 30s?}`.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word.
    pub fn open(config: &Value) -> Result<Self, Failure> {
        let words = Words::read(config, "repos: command", &["command", "timeout"])?;
        let value = words.get("command").unwrap_or(&Value::Null);
        let as_text = |word: &Value| word.as_str().filter(|word| !word.contains('\0')).map(str::to_owned);
        let list: Option<Vec<String>> = value.as_array().and_then(|list| list.iter().map(as_text).collect());
        let list =
            list.filter(|list| list.len() <= COMMAND_WORDS_MAX && list.first().is_some_and(|word| !word.is_empty()));
        let Some((program, args)) = list.as_deref().and_then(<[String]>::split_first) else {
            let why = format!("is not a list of texts, program first, at most {COMMAND_WORDS_MAX}");
            let hint = "write command: [/usr/local/bin/repos, --option]; no shell reads it";
            return Err(words.wrong("command", &why, value).hinting(hint));
        };
        let max = Duration::from_secs(COMMAND_SECONDS_MAX);
        let timeout = words.duration("timeout", Duration::from_secs(COMMAND_SECONDS), max)?;
        Ok(Self { program: program.clone(), args: args.to_vec(), timeout })
    }

    /// See [`super::Truth::repo`].
    ///
    /// # Errors
    /// When the program fails in any way, or prints anything but a whole answer; permanent for a bad name in it.
    pub async fn repo(&self, name: &RepoName) -> Result<Option<Repo>, Failure> {
        let name = name.clone();
        let asked = vec!["repo".to_owned(), name.as_str().to_owned()];
        self.ask(asked, move |bytes, source| one_from_json(bytes, &name, source)).await
    }

    /// See [`super::Truth::all`].
    ///
    /// # Errors
    /// When the program fails in any way, or prints anything but a whole answer.
    pub async fn all(&self) -> Result<All, Failure> {
        let read = |bytes: &[u8], source: &str| Document::from_json(bytes, source).map(|document| document.all());
        self.ask(vec!["all".to_owned()], read).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        asked: Vec<String>,
        read: impl FnOnce(&[u8], &str) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let source = format!("the repos command `{} … {}`", self.program, asked[0]);
        let words: Vec<&str> =
            [&self.program].into_iter().chain(&self.args).chain(&asked).map(String::as_str).collect();
        let hint = format!("run it by hand: {}", words.join(" "));
        let failed = |why: String| Failure::retry(format!("{source} {why}")).hinting(hint.clone());
        let run = Run {
            program: self.program.clone(),
            args: self.args.iter().cloned().chain(asked).collect(),
            env: Vec::new(),
            stdin: Vec::new(),
            stdout_bytes_max: COMMAND_STDOUT_BYTES_MAX,
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
        parsed.map_err(|error| Failure::retry(format!("reading what the repos command printed: {error}")))?
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
