//! The edge: runs a fixed program on a host with data on stdin, and hears its answer, bounded in time and bytes.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Trouble;
use super::pool::Pool;
use super::trouble::{of_answer, of_text};
use crate::access::{Host, Reach};
use crate::config::SshConfig;

/// Largest stdout of one command, in bytes.
pub(super) const STDOUT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest stderr of one command, in bytes: tar says a line for each file that is not there.
const STDERR_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Between SIGTERM and SIGKILL to a program on the host, in seconds.
const KILL_AFTER_SECONDS: u64 = 3;
/// How much longer we wait than the program may take, in seconds: its own end comes first, so that it never writes after
/// we gave it up.
const GRACE_SECONDS: u64 = 5;
/// What each answer begins with. A login shell that prints something comes before it.
const ANSWER: &[u8] = b"reactor-answer\n";

/// A shell program. Its text is constant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    /// For messages.
    pub name: &'static str,
    /// Its parts, one after the other.
    pub parts: &'static [&'static str],
}

impl Program {
    /// What is sent: without the lines of comment.
    pub fn text(&self) -> String {
        let lines = self.parts.iter().flat_map(|part| part.lines());
        lines.filter(|line| !line.trim_start().starts_with('#')).flat_map(|line| [line, "\n"]).collect()
    }
}

/// What a program is asked.
#[derive(Debug)]
pub(super) struct Ask {
    pub program: Program,
    /// Checked values.
    pub args: Vec<String>,
    pub input: Vec<u8>,
    /// What it is about, for messages.
    pub about: String,
}

/// What it answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its exit code.
    pub code: i32,
    /// What came after the line that each answer begins with.
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// All ways to hosts.
#[derive(Debug)]
pub(super) struct Edge {
    pool: Pool,
    limit: Duration,
}

impl Edge {
    pub fn new(ssh: SshConfig) -> Self {
        Self { limit: ssh.command_timeout.max(Duration::from_secs(1)), pool: Pool::new(ssh) }
    }

    /// How long a program may wait for a lock, in seconds.
    pub fn lock_seconds(&self) -> u64 {
        (self.limit.as_secs() / 2).clamp(1, 10)
    }

    /// How long a command may take, in seconds.
    pub fn limit_seconds(&self) -> u64 {
        self.limit.as_secs()
    }

    /// How long what is done with one user's rights may take, in seconds: some users hang on purpose, the others go on. A
    /// disk that is written to heavily may hold up a flush for seconds.
    pub fn user_seconds(&self) -> u64 {
        (self.limit.as_secs() / 2).clamp(2, 15)
    }

    /// How long it is waited for the lock on one user's own directory, in seconds.
    pub fn user_lock_seconds(&self) -> u64 {
        (self.user_seconds() / 5).max(1)
    }

    /// Runs it and hears it out, whatever its exit code is.
    pub async fn ask(&self, host: &Host, ask: &Ask) -> Result<Answer, Trouble> {
        let mut words = ["timeout", "-k"].map(String::from).to_vec();
        words.extend([KILL_AFTER_SECONDS.to_string(), self.limit.as_secs().to_string()]);
        words.extend(["sh", "-c"].map(String::from));
        words.extend([ask.program.text(), "sh".into()]);
        words.extend(ask.args.iter().cloned());
        let patience = self.limit + Duration::from_secs(GRACE_SECONDS);
        let heard = match &host.reach {
            Reach::Local => {
                let _turn = self.pool.turn().await;
                local(host, &words, &ask.input, patience).await
            }
            Reach::Ssh { sudo, .. } => {
                if *sudo {
                    words.splice(0..0, ["sudo", "-n"].map(String::from));
                }
                self.pool.ask(host, &line(&words), &ask.input, patience).await
            }
        };
        let (code, mut stdout, stderr) = heard?;
        if let Some(rest) = stdout.strip_prefix(ANSWER) {
            stdout = rest.to_vec();
        } else if code == 0 || !stdout.is_empty() {
            let said = String::from_utf8_lossy(&stdout[..stdout.len().min(100)]).into_owned();
            let what = format!("{} did not answer as it should; what came began with {said:?}", ask.program.name);
            return Err(Trouble::lasting(host, what).hinting(
                "a login shell must print nothing when it is not used by a person: look at its ~/.bashrc there",
            ));
        }
        Ok(Answer { code, stdout, stderr })
    }

    /// Runs it; its stdout if it ended well and said its last line.
    pub async fn ask_to_the_end(&self, host: &Host, ask: &Ask) -> Result<Vec<u8>, Trouble> {
        let answer = self.ask(host, ask).await?;
        match answer.stdout.strip_suffix(END) {
            Some(said) if answer.code == 0 => Ok(said.to_vec()),
            None if answer.code == 0 => {
                Err(Trouble::may_pass(host, format!("{}: the answer was cut short", ask.about)))
            }
            _ => Err(of_answer(host, &ask.about, &answer)),
        }
    }
}

/// What an answer ends with where its length can't be told otherwise.
pub(super) const END: &[u8] = b"reactor-end\n";

/// Code, stdout, stderr.
pub(super) type Heard = (i32, Vec<u8>, Vec<u8>);

/// The words as a line for a POSIX shell: sshd hands one line to the login shell.
fn line(words: &[String]) -> String {
    let plain =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./=:%+,".contains(&b));
    let quoted = words.iter().map(|word| match plain(word) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

async fn local(host: &Host, words: &[String], input: &[u8], patience: Duration) -> Result<Heard, Trouble> {
    let failed = |error: std::io::Error| of_text(host, "a program on this machine", error.to_string().as_bytes());
    #[allow(clippy::disallowed_methods, reason = "the one place that starts programs on this machine")]
    let mut command = tokio::process::Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("BASH_ENV").env_remove("ENV").kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(failed(std::io::Error::other("it has no pipes")));
    };
    let work = async {
        let (stdout, stderr) = converse(stdin, stdout, stderr, input).await?;
        let status = child.wait().await?;
        Ok((status.code().unwrap_or(137), stdout, stderr))
    };
    match tokio::time::timeout(patience, work).await {
        Ok(heard) => heard.map_err(failed),
        Err(_) => Err(too_slow(host, patience)),
    }
}

pub(super) fn too_slow(host: &Host, patience: Duration) -> Trouble {
    Trouble::may_pass(host, format!("no answer to a command within {} s; the connection is closed", patience.as_secs()))
        .hinting("is it, or a file system there, hanging? `ssh: {command_timeout: …}` in the handler's block")
}

/// Writes all of the input while it reads both outputs to their ends.
pub(super) async fn converse(
    mut stdin: impl AsyncWrite + Unpin,
    stdout: impl AsyncRead + Unpin,
    stderr: impl AsyncRead + Unpin,
    input: &[u8],
) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let write = async {
        // One that ends early closes its stdin; its exit code says why.
        let _ = stdin.write_all(input).await;
        let _ = stdin.shutdown().await;
        drop(stdin);
        Ok(())
    };
    let (stdout, stderr, ()) = tokio::try_join!(read(stdout, STDOUT_BYTES_MAX), read(stderr, STDERR_BYTES_MAX), write)?;
    Ok((stdout, stderr))
}

async fn read(from: impl AsyncRead + Unpin, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(bytes_max as u64 + 1).read_to_end(&mut bytes).await?;
    if bytes.len() > bytes_max {
        return Err(std::io::Error::other(format!("it said more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_can_leave_its_quotes() {
        let words = ["sh", "", "a b", "it's", "$(id)", "new\nline", "'; id #"].map(String::from);
        let line = line(&words);
        #[allow(clippy::disallowed_methods, reason = "a test of the quoting")]
        let mut command = std::process::Command::new("sh");
        let said = command.args(["-c", &format!("set -- {line}; printf '%s\\0' \"$@\"")]).output().unwrap();
        let wanted: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
        assert_eq!(said.stdout, wanted);
    }

    #[test]
    fn comments_are_not_sent() {
        let program = Program { name: "x", parts: &["# why\nset -u\n", "    # more\necho '#'\n"] };
        assert_eq!(program.text(), "set -u\necho '#'\n");
    }
}
