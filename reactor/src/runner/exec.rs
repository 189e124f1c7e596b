//! One verb of one handler, as one process: `PROGRAM [ARGS] VERB`, from its start to its certain end.

use std::io;
use std::time::Duration;

use handler_api::limits::{STDERR_KEPT_BYTES_MAX, STDOUT_LINE_BYTES_MAX};
use handler_api::line::{ReadError, next_line};
use handler_api::{Change, Failure};
use std::os::unix::process::ExitStatusExt;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::hearing::{Exit, Hearing, clean};
use super::process::{self, Pipes, Process};
use super::surroundings::{Ground, Surroundings};
use super::{Cancel, Verb, cancelled, sandbox};
use crate::rules::site::{HandlerConfig, Program};

/// Once the leader has ended: how long what is still in its pipes may take to arrive, in milliseconds. Longer only if a
/// process that left the group holds them open.
pub(super) const DRAIN_MS: u64 = 1_000;
/// Lines of stderr that go into a failure's message.
const LOG_LINES_SHOWN: usize = 5;
/// A long-lived handler may say [`STDERR_KEPT_BYTES_MAX`] anew after this many seconds.
const LOG_WINDOW_SECONDS: u64 = 3_600;
/// Longest line of stderr that is kept in one piece, in bytes.
const LOG_LINE_BYTES_MAX: usize = 1_024;

/// What is run.
pub(super) struct Run<'a> {
    pub handler: &'a HandlerConfig,
    pub verb: Verb,
    pub stdin: Vec<u8>,
    pub timeout: Duration,
    pub grace: Duration,
    pub cancel: Cancel,
}

/// Each change, as soon as it is reported.
pub type OnChange<'a> = &'a mut (dyn FnMut(&Change) + Send);

/// Starts the program and makes what it finds around it.
pub(super) async fn start(
    ground: &Ground,
    handler: &HandlerConfig,
    verb: Verb,
) -> Result<(Process, Pipes, Surroundings), Failure> {
    let (surroundings, command) = ground.command(handler, verb)?;
    let read_only = verb.is_read_only() && sandbox::is_there();
    let started = process::start(command, read_only.then(|| surroundings.work.clone())).await;
    let (process, pipes) = started.map_err(|error| cannot_start(handler, &ground.reactor, &error))?;
    Ok((process, pipes, surroundings))
}

fn cannot_start(handler: &HandlerConfig, reactor: &std::path::Path, error: &io::Error) -> Failure {
    let path = match &handler.program {
        Program::Exec(path) => path.as_path(),
        Program::BuiltIn(_) => reactor,
    };
    let message = format!("can't start {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::permanent(message).hinting(format!("chmod +x {}", path.display())),
        io::ErrorKind::NotFound if path.exists() => Failure::permanent(message)
            .hinting(format!("the interpreter in its first line is missing: head -1 {}", path.display())),
        // It may just be replaced (a package is upgraded): the rule's tries outlive that, and a wrong path still ends.
        io::ErrorKind::NotFound => Failure::retry(message).hinting("the path in the rules file must name a program"),
        // ENOEXEC: a script without `#!`, or a program for another machine.
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            Failure::permanent(message).hinting("a script begins with #!/bin/bash, #!/usr/bin/python3, …")
        }
        _ => Failure::retry(message),
    }
}

/// Runs it and hears it out: how it ended, and the last lines of its log. An error = it could not be started, or was
/// stopped at a limit.
pub(super) async fn run(
    ground: &Ground,
    run: Run<'_>,
    hearing: &mut Hearing,
    on_change: OnChange<'_>,
) -> Result<(Exit, String), Failure> {
    let deadline = Instant::now() + run.timeout;
    let (process, pipes, surroundings) = start(ground, run.handler, run.verb).await?;
    let mut log = Log::new(run.handler);
    let ended = hear_out(process, pipes, &run, deadline, hearing, &mut log, on_change).await;
    // Removing a directory blocks; whoever waits for the result finds it removed.
    let _ = tokio::task::spawn_blocking(move || drop(surroundings)).await;
    Ok((ended?, log.finish()))
}

/// Why we stopped listening.
enum Stop {
    Ended,
    Timeout,
    Cancelled,
    Over(Failure),
}

async fn hear_out(
    process: Process,
    pipes: Pipes,
    run: &Run<'_>,
    deadline: Instant,
    hearing: &mut Hearing,
    log: &mut Log<'_>,
    on_change: OnChange<'_>,
) -> Result<Exit, Failure> {
    let mut cancel = run.cancel.clone();
    let listen = listen(pipes, &run.stdin, hearing, log, on_change);
    tokio::pin!(listen);
    let mut heard_all = false;
    let stop = loop {
        tokio::select! {
            () = process.ended() => break Stop::Ended,
            heard = &mut listen, if !heard_all => match heard {
                Ok(()) => heard_all = true,
                Err(over) => break Stop::Over(over),
            },
            () = sleep_until(deadline) => break Stop::Timeout,
            () = cancelled(&mut cancel) => break Stop::Cancelled,
        }
    };
    let mut over = None;
    if !matches!(stop, Stop::Ended) {
        process.terminate();
        let grace = sleep(run.grace);
        tokio::pin!(grace);
        heard_all |= matches!(stop, Stop::Over(_));
        while over.is_none() {
            tokio::select! {
                () = process.ended() => break,
                () = &mut grace => break,
                // What it does meanwhile is heard: the journal is to know it.
                heard = &mut listen, if !heard_all => { heard_all = true; over = heard.err(); }
            }
        }
    }
    let status = process.finish().await.map_err(|error| Failure::retry(format!("waiting for its end: {error}")))?;
    if !heard_all && over.is_none() {
        over = timeout(Duration::from_millis(DRAIN_MS), listen).await.unwrap_or(Ok(())).err();
    }
    match (stop, over) {
        (Stop::Over(failure), _) | (_, Some(failure)) => Err(failure),
        (Stop::Timeout, None) => Ok(Exit::Timeout(run.timeout)),
        (Stop::Cancelled, None) => Ok(Exit::Cancelled),
        (Stop::Ended, None) => Ok(exit_of(status)),
    }
}

pub(super) fn exit_of(status: std::process::ExitStatus) -> Exit {
    status.code().map_or_else(|| Exit::Signal(status.signal().unwrap_or_default()), Exit::Code)
}

/// All three pipes at once, so that no program can block us by not reading or by writing too much on one of them.
async fn listen(
    pipes: Pipes,
    stdin: &[u8],
    hearing: &mut Hearing,
    log: &mut Log<'_>,
    on_change: OnChange<'_>,
) -> Result<(), Failure> {
    let hear = hear(pipes.stdout, hearing, on_change);
    tokio::try_join!(write(pipes.stdin, stdin), hear, log.read(pipes.stderr)).map(drop)
}

/// A program that does not read its stdin is fine: it may not need it.
async fn write(stdin: Option<ChildStdin>, bytes: &[u8]) -> Result<(), Failure> {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(bytes).await;
    }
    Ok(())
}

async fn hear(stdout: ChildStdout, hearing: &mut Hearing, on_change: OnChange<'_>) -> Result<(), Failure> {
    let mut stdout = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        match next_line(&mut stdout, &mut line, STDOUT_LINE_BYTES_MAX).await {
            Ok(true) => {
                if let Some(change) = hearing.take(&line)? {
                    on_change(change);
                }
            }
            Ok(false) => return Ok(()),
            Err(error) => return Err(unreadable(&error)),
        }
    }
}

pub(super) fn unreadable(error: &ReadError) -> Failure {
    match error {
        ReadError::TooLong(max) => Failure::permanent(format!("it printed a line of more than {max} bytes on stdout"))
            .hinting("one line says one change; large contents belong elsewhere, with their hash in the change"),
        ReadError::Io(error) => Failure::retry(format!("reading its stdout: {error}")),
    }
}

/// A handler's stderr: each line goes to our log, its end into the message of a failure.
pub(super) struct Log<'a> {
    handler: &'a str,
    /// Since `since`.
    bytes: usize,
    since: Instant,
    last: std::collections::VecDeque<String>,
}

impl<'a> Log<'a> {
    pub fn new(handler: &'a HandlerConfig) -> Self {
        Self { handler: &handler.name, bytes: 0, since: Instant::now(), last: std::collections::VecDeque::new() }
    }

    /// Reads to the end. More than [`STDERR_KEPT_BYTES_MAX`] is read and thrown away.
    pub async fn read(&mut self, stderr: ChildStderr) -> Result<(), Failure> {
        let mut stderr = BufReader::new(stderr);
        let mut line = Vec::new();
        while self.piece(&mut stderr, &mut line).await? {
            self.take(&line);
        }
        Ok(())
    }

    /// The next line, or as much of it as is kept in one piece.
    async fn piece<R: AsyncBufRead + Unpin>(&self, stderr: &mut R, line: &mut Vec<u8>) -> Result<bool, Failure> {
        line.clear();
        loop {
            let broken = |error: io::Error| Failure::retry(format!("reading its stderr: {error}"));
            let buffer = stderr.fill_buf().await.map_err(broken)?;
            if buffer.is_empty() {
                return Ok(!line.is_empty());
            }
            let newline = buffer.iter().position(|byte| *byte == b'\n');
            let room = LOG_LINE_BYTES_MAX - line.len();
            let take = newline.map_or(buffer.len(), |at| at + 1).min(room);
            line.extend_from_slice(&buffer[..take]);
            stderr.consume(take);
            if line.ends_with(b"\n") || line.len() >= LOG_LINE_BYTES_MAX {
                return Ok(true);
            }
        }
    }

    fn take(&mut self, line: &[u8]) {
        if self.since.elapsed() > Duration::from_secs(LOG_WINDOW_SECONDS) {
            self.say_dropped();
            (self.bytes, self.since) = (0, Instant::now());
        }
        self.bytes += line.len();
        let line = clean(&String::from_utf8_lossy(line));
        if self.bytes <= STDERR_KEPT_BYTES_MAX {
            tracing::debug!(handler = self.handler, "{line}");
        }
        if self.last.len() == LOG_LINES_SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    fn say_dropped(&self) {
        if let Some(dropped @ 1..) = self.bytes.checked_sub(STDERR_KEPT_BYTES_MAX) {
            tracing::warn!(handler = self.handler, dropped, "bytes of its stderr over the limit were thrown away");
        }
    }

    /// Its last lines, in one.
    pub fn finish(self) -> String {
        self.say_dropped();
        self.last.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" / ")
    }
}
