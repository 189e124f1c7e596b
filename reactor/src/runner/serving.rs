//! Long-lived handlers: one process `PROGRAM serve` a handler; requests and answers carry an `id`, several are under way.
//!
//! The process is started by the first request that needs it, and again after its program, its secrets or its entry in the
//! rules file changed. It gets its secrets at its start and is not held to reading while it plans: one process does both.
//! When it dies, what was under way is a temporary failure, and it is started again with a growing wait in between.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handler_api::limits::{HANDLERS_AT_ONCE_MAX, STDOUT_BYTES_MAX, STDOUT_LINE_BYTES_MAX};
use handler_api::line::next_line;
use handler_api::{Answer, Failure, Line, Request};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::exec::{self, Log, OnChange, Run};
use super::hearing::{Exit, Hearing};
use super::process::{Pipes, Process};
use super::surroundings::{Ground, Surroundings};
use super::{Options, RESTART_WAIT_SECONDS_MAX, Stamp, Verb, cancelled, request_line, stamp};
use crate::rules::site::{HandlerConfig, Program};

/// Lines to one process that wait for it to read.
const LINES_WAITING_MAX: usize = 2 * HANDLERS_AT_ONCE_MAX;

/// The long-lived handlers, by name.
#[derive(Default)]
pub(super) struct Pool {
    slots: tokio::sync::Mutex<HashMap<Arc<str>, Slot>>,
    next_id: AtomicU64,
}

#[derive(Default)]
struct Slot {
    live: Option<(HandlerConfig, Vec<Option<Stamp>>, Arc<Live>)>,
    deaths: u32,
}

/// One process. Dropped by all = its stdin is closed, and it ends.
struct Live {
    to: mpsc::Sender<Vec<u8>>,
    shared: Arc<Shared>,
}

/// What the requests and the task that reads the process share.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    kill: Notify,
    ended: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    routes: HashMap<u64, Route>,
    /// Why and when it ended.
    dead: Option<(String, Instant)>,
    /// It is about to be killed: it gets nothing new.
    doomed: bool,
    /// Whether it ever finished an answer: then its death is not a death at the start.
    worked: bool,
}

/// The way to one request. What is in the channel is bounded by [`STDOUT_BYTES_MAX`].
struct Route {
    to: mpsc::UnboundedSender<Said>,
    bytes: usize,
}

/// What one request hears.
enum Said {
    Line { line: Box<Line>, bytes: usize },
    Died(String),
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill(&self) {
        self.state().doomed = true;
        self.kill.notify_one();
    }
}

impl Pool {
    /// Asks one thing and hears the answer out.
    pub async fn ask(
        &self,
        ground: &Ground,
        options: &Options,
        mut request: Request,
        run: Run<'_>,
        hearing: &mut Hearing,
        on_change: OnChange<'_>,
    ) -> Result<(Exit, String), Failure> {
        let deadline = Instant::now() + run.timeout;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed) + 1;
        (request.id, request.verb) = (Some(id), Some(run.verb.word().to_owned()));
        let line = request_line(&request)?;
        let live = self.live(ground, options, run.handler).await?;
        let Some(mut asked) = Asked::new(id, live) else {
            return Err(Failure::Retry {
                message: "its process is just ending".into(),
                hint: None,
                after: Some(options.restart_wait),
            });
        };
        let exit = asked.hear_out(line, &run, deadline, hearing, on_change).await?;
        Ok((exit, String::new()))
    }

    /// Closes the stdin of every process that nothing is under way in, and waits until it has ended.
    pub async fn close(&self) {
        let slots = std::mem::take(&mut *self.slots.lock().await);
        let ended: Vec<_> = slots
            .into_values()
            .filter_map(|slot| slot.live)
            .map(|(_, _, live)| live.shared.ended.subscribe())
            .collect();
        for mut ended in ended {
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }

    /// The handler's process, started if need be.
    async fn live(&self, ground: &Ground, options: &Options, handler: &HandlerConfig) -> Result<Arc<Live>, Failure> {
        let stamps = stamps(ground, handler);
        let mut slots = self.slots.lock().await;
        let slot = slots.entry(Arc::clone(&handler.name)).or_default();
        if let Some((was, at, live)) = &slot.live {
            let state = live.shared.state();
            match &state.dead {
                None if was == handler && *at == stamps => return Ok(Arc::clone(live)),
                None => slot.deaths = 0,
                Some((why, when)) => {
                    let deaths = if state.worked { 0 } else { slot.deaths };
                    let wait = restart_wait(options.restart_wait, deaths);
                    let left = (*when + wait).saturating_duration_since(Instant::now());
                    if !left.is_zero() {
                        let message = format!("it ended and is started again in a moment: {why}");
                        return Err(Failure::Retry { message, hint: None, after: Some(left) });
                    }
                    slot.deaths = deaths + 1;
                }
            }
        }
        slot.live = None;
        let (process, pipes, surroundings) = exec::start(ground, handler, Verb::Serve).await?;
        let live = Arc::new(attend(process, pipes, surroundings, handler.clone(), options.term_to_kill));
        slot.live = Some((handler.clone(), stamps, Arc::clone(&live)));
        Ok(live)
    }
}

fn restart_wait(first: Duration, deaths: u32) -> Duration {
    first.saturating_mul(1 << deaths.min(16)).min(Duration::from_secs(RESTART_WAIT_SECONDS_MAX))
}

/// The program and the secrets as they are now.
fn stamps(ground: &Ground, handler: &HandlerConfig) -> Vec<Option<Stamp>> {
    let program: &Path = match &handler.program {
        Program::Exec(path) => path,
        Program::BuiltIn(_) => &ground.reactor,
    };
    std::iter::once(stamp(program)).chain(handler.secrets.values().map(|secret| stamp(&secret.file))).collect()
}

/// One request under way. Dropped = it is cancelled.
struct Asked {
    id: u64,
    live: Arc<Live>,
    said: mpsc::UnboundedReceiver<Said>,
    over: bool,
}

impl Asked {
    fn new(id: u64, live: Arc<Live>) -> Option<Self> {
        let (sender, said) = mpsc::unbounded_channel();
        let mut state = live.shared.state();
        if state.doomed || state.dead.is_some() {
            return None;
        }
        state.routes.insert(id, Route { to: sender, bytes: 0 });
        drop(state);
        Some(Self { id, live, said, over: false })
    }

    async fn hear_out(
        &mut self,
        line: Vec<u8>,
        run: &Run<'_>,
        deadline: Instant,
        hearing: &mut Hearing,
        on_change: OnChange<'_>,
    ) -> Result<Exit, Failure> {
        let mut cancel = run.cancel.clone();
        let to = self.live.to.clone();
        let exit = tokio::select! {
            exit = async { drop(to.send(line).await); self.hear(hearing, &mut *on_change).await } => exit,
            () = sleep_until(deadline) => Ok(Exit::Timeout(run.timeout)),
            () = cancelled(&mut cancel) => Ok(Exit::Cancelled),
        };
        if !matches!(exit, Ok(Exit::Code(_) | Exit::Died(_))) {
            self.cancel();
            tokio::select! {
                () = self.hear_end(hearing, on_change) => {}
                () = sleep(run.grace) => self.live.shared.kill(),
            }
        }
        self.over = true;
        exit
    }

    /// What it does after it was cancelled is heard too: the journal is to know it.
    async fn hear_end(&mut self, hearing: &mut Hearing, on_change: OnChange<'_>) {
        while let Some(Said::Line { line, .. }) = self.said.recv().await {
            if matches!(*line, Line::End { .. }) {
                return;
            }
            if let Ok(Some(change)) = hearing.take_line(*line) {
                on_change(change);
            }
        }
    }

    async fn hear(&mut self, hearing: &mut Hearing, on_change: OnChange<'_>) -> Result<Exit, Failure> {
        loop {
            match self.said.recv().await {
                Some(Said::Line { line, bytes }) => {
                    if let Line::End { code } = *line {
                        return Ok(Exit::Code(code));
                    }
                    hearing.count(bytes)?;
                    if let Some(change) = hearing.take_line(*line)? {
                        on_change(change);
                    }
                }
                Some(Said::Died(why)) => return Ok(Exit::Died(why)),
                None => return Ok(Exit::Died("its process is gone".into())),
            }
        }
    }

    /// Tells the process. If it does not even read, the grace that follows ends it.
    fn cancel(&self) {
        let _ = self.live.to.try_send(format!("{{\"cancel\":{}}}\n", self.id).into_bytes());
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.over {
            self.cancel();
        }
        self.live.shared.state().routes.remove(&self.id);
    }
}

/// Attends to one process until its end: writes what is asked, hands out what it answers, ends it for certain.
fn attend(process: Process, pipes: Pipes, surroundings: Surroundings, handler: HandlerConfig, grace: Duration) -> Live {
    let (to, lines) = mpsc::channel(LINES_WAITING_MAX);
    let shared = Arc::new(Shared::default());
    let for_task = Arc::clone(&shared);
    tokio::spawn(async move {
        let mut log = Log::new(&handler);
        let why = to_its_end(process, pipes, lines, &for_task, &mut log, grace).await;
        let log = log.finish();
        let why = if log.is_empty() { why } else { format!("{why}: {log}") };
        tracing::info!(handler = &*handler.name, why, "a long-lived handler ended");
        let _ = tokio::task::spawn_blocking(move || drop(surroundings)).await;
        let mut state = for_task.state();
        for (_, route) in state.routes.drain() {
            let _ = route.to.send(Said::Died(why.clone()));
        }
        state.dead = Some((why, Instant::now()));
        for_task.ended.send_replace(true);
    });
    Live { to, shared }
}

/// Hears it out; says why it ended.
async fn to_its_end(
    process: Process,
    pipes: Pipes,
    lines: mpsc::Receiver<Vec<u8>>,
    shared: &Shared,
    log: &mut Log<'_>,
    grace: Duration,
) -> String {
    let hear = async { tokio::try_join!(hand_out(pipes.stdout, shared), log.read(pipes.stderr)) };
    tokio::pin!(hear);
    let mut heard_all = false;
    let why = tokio::select! {
        // A limit, or all of its pipes closed.
        heard = &mut hear => { heard_all = true; heard.err() }
        () = process.ended() => None,
        () = shared.kill.notified() => Some(Failure::retry("it did not end a request that was cancelled")),
        // Nobody needs it any more and its stdin is closed: it has a grace to end by itself.
        () = async { write_all(pipes.stdin, lines).await; sleep(grace).await } => {
            Some(Failure::retry("it did not end when its stdin was closed"))
        }
    };
    let status = process.finish().await;
    if !heard_all {
        // Its last answers and its last words may still be in the pipes.
        let _ = tokio::time::timeout(Duration::from_millis(exec::DRAIN_MS), hear).await;
    }
    match (why, status) {
        (Some(why), _) => why.message().to_owned(),
        (None, Ok(status)) => status.to_string(),
        (None, Err(error)) => error.to_string(),
    }
}

/// Ends when nobody can ask any more, or when the process does not listen any more. Closes its stdin.
async fn write_all(stdin: Option<ChildStdin>, mut lines: mpsc::Receiver<Vec<u8>>) {
    let Some(mut stdin) = stdin else { return };
    while let Some(line) = lines.recv().await {
        if stdin.write_all(&line).await.is_err() {
            return;
        }
    }
}

async fn hand_out(stdout: ChildStdout, shared: &Shared) -> Result<(), Failure> {
    let mut stdout = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        match next_line(&mut stdout, &mut line, STDOUT_LINE_BYTES_MAX).await {
            Ok(true) => route(&line, shared)?,
            Ok(false) => return Ok(()),
            Err(error) => return Err(exec::unreadable(&error)),
        }
    }
}

fn route(line: &[u8], shared: &Shared) -> Result<(), Failure> {
    // Whose line it is can't be told, so all that is under way has to be looked at again.
    let wrong = |why| Failure::permanent(format!("a line of its stdout {why}"));
    let answer = Answer::parse(line).map_err(wrong)?;
    let Some(id) = answer.id else { return Err(wrong("has no `id`".into())) };
    let mut state = shared.state();
    let ends = matches!(answer.line, Line::End { .. });
    state.worked |= ends;
    // No route: a late answer to what was cancelled. Over the limit: the line that crossed it was the last to be passed on.
    if let Some(route) = state.routes.get_mut(&id)
        && (ends || route.bytes <= STDOUT_BYTES_MAX)
    {
        route.bytes += line.len() + 1;
        let _ = route.to.send(Said::Line { line: Box::new(answer.line), bytes: line.len() });
    }
    if ends {
        state.routes.remove(&id);
    }
    Ok(())
}
