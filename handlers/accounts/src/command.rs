//! The source `command`: a program of the site's, which prints the people and groups as JSON.
//!
//! It is run as `PROGRAM args… user NAME GROUP…` or `PROGRAM args… members GROUP…`, without a shell.

use std::collections::BTreeSet;
use std::time::Duration;

use handler_api::Failure;
use serde_json::Value;

use crate::program::{self, Run};
use crate::roster::Roster;
use crate::{Account, Members};
use handler_api::words::Words;

/// Most that the program may print, in bytes.
pub const COMMAND_STDOUT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long it may take unless `timeout` says otherwise, in seconds.
pub const COMMAND_SECONDS: u64 = 30;
/// Longest `timeout`, in seconds.
pub const COMMAND_SECONDS_MAX: u64 = 3_600;
/// Most words in `command`.
pub const COMMAND_WORDS_MAX: usize = 100;

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
        let words = Words::read(config, "accounts: command", &["command", "timeout"])?;
        let value = words.get("command").unwrap_or(&Value::Null);
        let as_text = |word: &Value| word.as_str().filter(|word| !word.contains('\0')).map(str::to_owned);
        let list: Option<Vec<String>> = value.as_array().and_then(|list| list.iter().map(as_text).collect());
        let list =
            list.filter(|list| list.len() <= COMMAND_WORDS_MAX && list.first().is_some_and(|word| !word.is_empty()));
        let Some((program, args)) = list.as_deref().and_then(<[String]>::split_first) else {
            let why = format!("is not a list of texts, program first, at most {COMMAND_WORDS_MAX}");
            let hint = "write command: [/usr/local/bin/accounts, --option]; no shell reads it";
            return Err(words.wrong("command", &why, value).hinting(hint));
        };
        let max = Duration::from_secs(COMMAND_SECONDS_MAX);
        let timeout = words.duration("timeout", Duration::from_secs(COMMAND_SECONDS), max)?;
        Ok(Self { program: program.clone(), args: args.to_vec(), timeout })
    }

    /// See [`crate::Accounts::user`].
    ///
    /// # Errors
    /// When the program fails in any way, or prints anything but a whole answer.
    pub async fn user(&self, name: &str, groups: &BTreeSet<String>) -> Result<Option<Account>, Failure> {
        let asked = ["user", name].into_iter().chain(groups.iter().map(String::as_str));
        self.ask(asked.map(str::to_owned).collect()).await?.user(name, groups)
    }

    /// See [`crate::Accounts::members`].
    ///
    /// # Errors
    /// As for one user, and for a member of whom `users` knows nothing.
    pub async fn members(&self, groups: &BTreeSet<String>) -> Result<Members, Failure> {
        let asked = ["members"].into_iter().chain(groups.iter().map(String::as_str));
        self.ask(asked.map(str::to_owned).collect()).await?.members(groups)
    }

    async fn ask(&self, asked: Vec<String>) -> Result<Roster, Failure> {
        let place = format!("the accounts command `{} … {}`", self.program, asked[0]);
        let words: Vec<&str> =
            [&self.program].into_iter().chain(&self.args).chain(&asked).map(String::as_str).collect();
        let hint = format!("run it by hand: {}", words.join(" "));
        let failed = |why: String| Failure::retry(format!("{place} {why}")).hinting(shorten(&hint));
        let run = Run {
            program: self.program.clone(),
            args: self.args.iter().cloned().chain(asked).collect(),
            env: Vec::new(),
            stdin: Vec::new(),
            stdout_bytes_max: COMMAND_STDOUT_BYTES_MAX,
            timeout: self.timeout,
        };
        let ended = program::run(run).await.map_err(|trouble| failed(trouble.to_string()))?;
        if !ended.status.success() {
            return Err(failed(format!("failed ({}): {}", ended.status, said(&ended.stderr))));
        }
        if ended.stdout.iter().all(u8::is_ascii_whitespace) {
            return Err(failed(format!("printed nothing: {}", said(&ended.stderr))));
        }
        // Up to 32 MiB: not on a thread that others wait for.
        let parsed = tokio::task::spawn_blocking(move || Roster::from_json(&ended.stdout, &place)).await;
        parsed.map_err(|error| Failure::retry(format!("reading what the accounts command printed: {error}")))?
    }
}

fn said(stderr: &str) -> &str {
    if stderr.is_empty() { "it said nothing on stderr" } else { stderr }
}

/// Hundreds of groups make no readable hint.
fn shorten(text: &str) -> String {
    let mut shown: String = text.chars().take(300).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::json;

    use super::*;

    fn sh(script: &str, timeout: &str) -> Command {
        Command::open(&json!({"command": ["/bin/sh", "-c", script, "accounts"], "timeout": timeout})).unwrap()
    }

    fn web() -> BTreeSet<String> {
        BTreeSet::from(["web".to_owned()])
    }

    #[tokio::test]
    async fn it_gets_what_is_asked_as_arguments_and_answers_in_json() {
        let script = r#"printf '{"users":{"ralph":{"keys":["%s"]}},"groups":{"web":["ralph"]}}' "$*""#;
        let ralph = sh(script, "30s").user("ralph", &web()).await.unwrap().unwrap();
        assert_eq!((ralph.keys, ralph.groups), (vec!["user ralph web".to_owned()], web()));
        let all = sh(script, "30s").members(&web()).await.unwrap();
        assert_eq!(all.accounts["ralph"].keys, ["members web"]);
    }

    #[tokio::test]
    async fn its_environment_is_clean() {
        let script =
            r#"printf '{"users":{"a":{"keys":["%s"]}},"groups":{}}' "$(env | cut -d= -f1 | sort | tr '\n' ' ')""#;
        let seen = sh(script, "30s").user("a", &BTreeSet::new()).await.unwrap().unwrap().keys.remove(0);
        for name in seen.split_whitespace() {
            let allowed = ["PATH", "LANG", "HOME", "TMPDIR", "REACTOR_SECRETS", "REACTOR_STATE"];
            // The shell makes some of its own.
            assert!(allowed.contains(&name) || ["PWD", "_", "SHLVL", "OLDPWD"].contains(&name), "{seen}");
        }
        assert!(seen.contains("PATH") && std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    }

    #[tokio::test]
    async fn whatever_is_not_an_answer_is_a_failure_that_says_why() {
        let whole = r#"{"users":{"a":{"keys":[]}},"groups":{"web":["a"]}}"#;
        for (script, part) in [
            ("echo 'no route to host' >&2; exit 3".to_owned(), "no route to host"),
            (format!("echo '{whole}'; exit 1"), "exit status: 1"),
            (format!("echo '{whole}'; kill -9 $$"), "signal: 9"),
            ("true".to_owned(), "printed nothing"),
            ("echo '<html>'".to_owned(), "not the JSON"),
            ("echo '[]'".to_owned(), "not the JSON"),
            (r#"echo '{"users":{},"groups":{"web":[]}}'"#.to_owned(), "no users at all"),
            (r#"echo '{"users":{"a":{"keys":[]}},"groups":{}}'"#.to_owned(), "no group `web`"),
            ("yes".to_owned(), "more than 33554432 bytes"),
        ] {
            let failure = sh(&script, "30s").members(&web()).await.unwrap_err();
            assert!(failure.message().contains(part), "{script}: {failure}");
            assert!(failure.hint().is_some(), "{script}");
        }
        let missing = Command::open(&json!({"command": ["/nonexistent/x"]})).unwrap();
        assert!(missing.members(&web()).await.unwrap_err().message().contains("/nonexistent/x"));
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let script = format!("echo waiting >&2; sleep 1000 & echo $! > {}; wait", pid_file.display());
        let begun = Instant::now();
        let failure = sh(&script, "1s").members(&web()).await.unwrap_err();
        assert!(failure.message().contains("longer than 1s") && failure.message().contains("waiting"), "{failure}");
        assert!(begun.elapsed() < Duration::from_secs(20));
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        gone(pid.trim()).await;
    }

    #[tokio::test]
    async fn what_it_leaves_behind_holds_nothing_up_and_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let answer = r#"{"users":{"a":{"keys":[]}},"groups":{"web":["a"]}}"#;
        let script = format!("sleep 1000 & echo $! > {}; echo '{answer}'", pid_file.display());
        assert_eq!(sh(&script, "30s").members(&web()).await.unwrap().accounts.len(), 1);
        gone(std::fs::read_to_string(&pid_file).unwrap().trim()).await;
    }

    async fn gone(pid: &str) {
        for _ in 0..1_000 {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("process {pid} still runs");
    }

    #[test]
    fn a_command_is_a_list_of_texts() {
        for wrong in [json!("a b"), json!([]), json!([""]), json!(["a", 5]), json!(["a\u{0}"]), json!(null)] {
            assert!(Command::open(&json!({"command": wrong})).is_err(), "{wrong}");
        }
        assert!(Command::open(&json!({"command": ["a"], "timeout": "2h"})).is_err());
        let failure = Command::open(&json!({"command": ["a"], "page_size": 5})).unwrap_err();
        assert!(failure.hint().unwrap().contains("allowed are command, timeout"), "{failure:?}");
    }
}
