//! The handler's process, driven as the daemon drives it: `reactor handler ssh-keys serve`, a request a line.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// The process. It ends with its stdin.
#[derive(Debug)]
pub struct Handler {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
    config: Value,
    id: u64,
}

/// What one request was answered.
#[derive(Debug, Default)]
struct Answer {
    changes: Vec<Value>,
    later: Vec<Value>,
}

impl Handler {
    /// Starts it with this private key as its secret and this block of the rules file.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(reactor: &Path, dir: &Path, key: &Path, config: Value) -> Result<Self> {
        let [secrets, work] = ["secrets", "work"].map(|name| dir.join(name));
        fs::create_dir_all(&secrets)?;
        fs::create_dir_all(&work)?;
        fs::copy(key, secrets.join("ssh_key"))?;
        fs::set_permissions(secrets.join("ssh_key"), PermissionsExt::from_mode(0o600))?;
        let mut child = Command::new(reactor)
            .args(["handler", "ssh-keys", "serve"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", dir)
            .env("LANG", "C.UTF-8")
            .env("REACTOR_SECRETS", &secrets)
            .env("TMPDIR", &work)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} can't be started", reactor.display()))?;
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().context("its stdout")?);
        Ok(Self { child, stdin, lines, config, id: 0 })
    }

    /// Plan and apply, and what an apply leaves for later, until nothing is left. How many changes were made.
    ///
    /// # Errors
    /// When anything could not be done.
    pub fn make_true(&mut self, with: &Value) -> Result<usize> {
        let mut left = vec![("bench".to_owned(), with.clone())];
        let mut made = 0;
        while let Some((key, with)) = left.pop() {
            let reaction = format!("bench-{}", self.id);
            let planned = self.ask("plan", &reaction, &key, &with, None)?.changes;
            if planned.is_empty() {
                continue;
            }
            let done = self.ask("apply", &reaction, &key, &with, Some(&planned))?;
            ensure!(!done.changes.is_empty(), "of {} changes none was made: {}", planned.len(), json!(done.later));
            made += done.changes.len();
            for later in done.later {
                let key = later["key"].as_str().context("the key of what is left")?;
                left.push((key.to_owned(), later["with"].clone()));
            }
        }
        Ok(made)
    }

    fn ask(
        &mut self,
        verb: &str,
        reaction: &str,
        key: &str,
        with: &Value,
        changes: Option<&[Value]>,
    ) -> Result<Answer> {
        self.id += 1;
        let mut request = json!({"reactor": 1, "id": self.id, "verb": verb, "reaction": reaction, "rule": "bench", "key": key,
            "attempt": 1, "with": with, "config": self.config, "messages": []});
        if let Some(changes) = changes {
            request["changes"] = json!(changes);
        }
        let stdin = self.stdin.as_mut().context("its stdin")?;
        writeln!(stdin, "{request}").and_then(|()| stdin.flush()).context("the handler is gone")?;
        let mut answer = Answer::default();
        let mut line = String::new();
        loop {
            line.clear();
            ensure!(self.lines.read_line(&mut line)? > 0, "the handler has ended");
            let mut said: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            ensure!(said["id"] == self.id, "an answer to another request: {line}");
            if said["change"].is_object() {
                answer.changes.push(said["change"].take());
            } else if said["later"].is_object() {
                answer.later.push(said["later"].take());
            } else if said["error"].is_object() {
                bail!("{verb}: {}", said["error"]);
            } else if said["end"] == 0 {
                return Ok(answer);
            } else if said["end"].is_number() {
                bail!("{verb} ended with {}", said["end"]);
            }
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        // The end of its stdin is its end; it closes its connections first.
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}
