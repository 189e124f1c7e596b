//! Runs handlers: the one place that starts programs. It knows the protocol (`handlers/PROTOCOL.md`), not the pipeline:
//! lanes, retries, the guard and the journal are the engine's.
//!
//! * `process`, `exec`, `hearing`: one verb as one process, and what follows from what it said
//! * `serving`: long-lived handlers
//! * `surroundings`, `sandbox`: what a handler finds around it, and what it may not touch
//! * `compare`: what was planned against what was done
//! * [`leftovers`]: what a killed daemon left running
//! * [`warden`]: what ends a daemon that is stopped, with its handlers
//! * [`contract`]: the contract test of a handler
//!
//! No shell, no search in `PATH`, nothing of the daemon's environment. What a message said reaches a handler only as JSON
//! on stdin, after its parameters were checked.

mod compare;
pub mod contract;
mod exec;
mod hearing;
pub mod leftovers;
mod process;
mod sandbox;
mod serving;
mod surroundings;
#[cfg(test)]
mod tests;
pub mod warden;

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handler_api::limits::{DESCRIBE_SECONDS_MAX, HANDLERS_AT_ONCE_MAX, STDIN_BYTES_MAX, TERM_TO_KILL_SECONDS};
use handler_api::protocol::VERSION;
use handler_api::{Action, Change, Describe, Failure, Finding, Later, Plan, Request, exit, params};
use serde_json::Map;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::built_in;
use crate::rules::site::{HandlerConfig, Program, Secret};
pub use exec::OnChange;
use hearing::{Exit, Hearing};
pub use leftovers::end_leftovers;
use surroundings::Ground;
pub use surroundings::{PATH, SECRETS_VARIABLE, STATE_VARIABLE};

/// Becomes true when the work is not wanted any more; the handler is then ended as after a timeout.
pub type Cancel = watch::Receiver<bool>;

/// A run that nobody cancels.
#[must_use]
pub fn never() -> Cancel {
    watch::channel(false).1
}

/// Sets what children inherit: umask 077. Once, at the start of the process.
pub fn init() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// What tests shorten.
#[derive(Clone, Debug)]
pub struct Options {
    /// This program; built-in handlers run as its children.
    pub reactor: PathBuf,
    /// How long `describe` may take.
    pub describe_max: Duration,
    /// Between SIGTERM and SIGKILL.
    pub term_to_kill: Duration,
    /// Before a long-lived handler that died is started again; doubled each time, up to [`RESTART_WAIT_SECONDS_MAX`].
    pub restart_wait: Duration,
}

/// Longest wait before a long-lived handler that died is started again, in seconds.
pub const RESTART_WAIT_SECONDS_MAX: u64 = 60;

impl Default for Options {
    fn default() -> Self {
        Self {
            reactor: std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into()),
            describe_max: Duration::from_secs(DESCRIBE_SECONDS_MAX),
            term_to_kill: Duration::from_secs(TERM_TO_KILL_SECONDS),
            restart_wait: Duration::from_millis(500),
        }
    }
}

/// What a handler is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Describe,
    Plan,
    Apply,
    Doctor,
    Serve,
}

impl Verb {
    const fn word(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Plan => "plan",
            Self::Apply => "apply",
            Self::Doctor => "doctor",
            Self::Serve => "serve",
        }
    }

    /// One long-lived process does plan and apply, so it can't be held to reading.
    const fn is_read_only(self) -> bool {
        matches!(self, Self::Describe | Self::Plan | Self::Doctor)
    }

    const fn sees(self, secret: &Secret) -> bool {
        match self {
            Self::Describe => false,
            Self::Plan => secret.in_plan,
            Self::Apply | Self::Doctor | Self::Serve => true,
        }
    }
}

/// What came of an apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// How it ended.
    pub verdict: Verdict,
    /// What it reported as done, in that order; also when it failed.
    pub done: Vec<Change>,
    /// For people: planned changes that were not done although it said success.
    pub warning: Option<String>,
    /// What a person should know that is no change and no failure.
    pub notes: Vec<String>,
    /// What it leaves to reactions of their own. None if it did not end well.
    pub left: Vec<Left>,
}

/// What an apply leaves for later.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// What it said.
    pub later: Later,
    /// Why its parameters are none that the handler takes: such a reaction could only fail.
    pub wrong: Option<String>,
}

impl Applied {
    fn failed(failure: Failure) -> Self {
        Self { verdict: Verdict::Failed(failure), done: Vec::new(), warning: None, notes: Vec::new(), left: Vec::new() }
    }
}

/// How an apply ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The plan is true now.
    Done,
    /// The world moved between plan and apply (exit code 75): plan again. Always [`Failure::Retry`].
    Replan(Failure),
    /// It failed.
    Failed(Failure),
}

/// Why a run did not succeed.
enum Ended {
    /// An apply exited with 75.
    Moved(Failure),
    /// Everything else.
    Failed(Failure),
}

/// A file as it was when it was looked at; another one = it changed.
type Stamp = (u64, u64, u64, i64, i64);

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

struct Described {
    handler: HandlerConfig,
    stamp: Option<Stamp>,
    describe: Arc<Describe>,
}

/// Runs handlers. Cheap to share in an `Arc`; needs a tokio runtime.
pub struct Runner {
    ground: Ground,
    options: Options,
    at_once: Semaphore,
    described: Mutex<HashMap<Arc<str>, Described>>,
    serving: serving::Pool,
}

impl Runner {
    /// A runner whose handlers work below `state_dir`. Ends nothing that is running: see [`end_leftovers`].
    ///
    /// # Errors
    /// When the directories can't be made.
    pub fn new(state_dir: &Path, options: Options) -> io::Result<Self> {
        Ok(Self {
            ground: Ground::new(state_dir, options.reactor.clone())?,
            options,
            at_once: Semaphore::new(HANDLERS_AT_ONCE_MAX),
            described: Mutex::default(),
            serving: serving::Pool::default(),
        })
    }

    /// What keeps a plan from writing: `landlock`, or `none` where this kernel has no Landlock.
    #[must_use]
    pub fn sandbox(&self) -> &'static str {
        if sandbox::is_there() { "landlock" } else { "none" }
    }

    /// What the handler says of itself; asked again when its file, or its entry in the rules file, changed.
    ///
    /// # Errors
    /// [`Failure::Permanent`] when it does not speak version 1, can't be started at all, or (a built-in one) has wrong settings.
    pub async fn describe(&self, handler: &HandlerConfig) -> Result<Arc<Describe>, Failure> {
        let now = stamp(self.program(handler));
        if let Some(known) = self.described.lock().unwrap_or_else(PoisonError::into_inner).get(&handler.name)
            && known.stamp == now
            && now.is_some()
            && known.handler == *handler
        {
            return Ok(Arc::clone(&known.describe));
        }
        if let Program::BuiltIn(name) = &handler.program {
            let wrong = |failure: Failure| {
                about(handler, "settings", failure.hinting(format!("handlers/{name}/README.md has its words")))
            };
            built_in::check(name, &handler.config).map_err(wrong)?;
        }
        let describe =
            Arc::new(self.ask_describe(handler).await.map_err(|failure| about(handler, "describe", failure))?);
        let known = Described { handler: handler.clone(), stamp: now, describe: Arc::clone(&describe) };
        self.described.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(&handler.name), known);
        Ok(describe)
    }

    /// What the handler would change. Parameters are checked before any program starts. `request.changes`, `config`, `id`
    /// and `verb` are filled in here.
    ///
    /// # Errors
    /// What the handler said, or what is wrong with it; an unfinished plan is no plan.
    pub async fn plan(
        &self,
        handler: &HandlerConfig,
        mut request: Request,
        timeout: Duration,
        cancel: Cancel,
    ) -> Result<Plan, Failure> {
        let describe = self.ready(handler, &request).await?;
        if !describe.plan {
            return Ok(vec![run_change(handler, &request)].into());
        }
        request.changes = None;
        let (mut hearing, ended) =
            self.one(handler, &describe, Verb::Plan, request, timeout, cancel, &mut |_| {}).await;
        ended.map_err(|(Ended::Moved(failure) | Ended::Failed(failure))| about(handler, "plan", failure))?;
        Ok(Plan { notes: hearing.take_notes(), changes: hearing.changes })
    }

    /// Makes `plan` true. `on_change` hears of each change as soon as the handler reports it as done.
    pub async fn apply(
        &self,
        handler: &HandlerConfig,
        mut request: Request,
        plan: &[Change],
        timeout: Duration,
        cancel: Cancel,
        on_change: OnChange<'_>,
    ) -> Applied {
        let describe = match self.ready(handler, &request).await {
            Ok(describe) => describe,
            Err(failure) => return Applied::failed(failure),
        };
        request.changes = Some(plan.to_vec());
        let (mut hearing, ended) =
            self.one(handler, &describe, Verb::Apply, request, timeout, cancel, &mut *on_change).await;
        if !describe.plan && ended.is_ok() && hearing.changes.is_empty() && hearing.later.is_empty() {
            // It can't plan, so its plan was one `run`; that is what it did now.
            plan.iter().for_each(&mut *on_change);
            hearing.changes = plan.to_vec();
        }
        judge(handler, &describe, plan, hearing, ended)
    }

    /// What a built-in handler finds when it looks at its truth and its target, with all its secrets. A program of the site's
    /// own is not asked: it has no such verb.
    ///
    /// # Errors
    /// When it could not look at all.
    pub async fn doctor(&self, handler: &HandlerConfig, timeout: Duration) -> Result<Vec<Finding>, Failure> {
        let (verb, cancel) = (Verb::Doctor, never());
        if !matches!(handler.program, Program::BuiltIn(_)) {
            return Ok(Vec::new());
        }
        let _permit = self.permit().await;
        let request = Request {
            reactor: VERSION,
            id: None,
            verb: None,
            reaction: String::new(),
            rule: String::new(),
            key: String::new(),
            attempt: 1,
            with: params::Params::new(),
            config: handler.config.clone(),
            messages: Vec::new(),
            changes: None,
        };
        let stdin = request_line(&request)?;
        let run = exec::Run { handler, verb, stdin, timeout, grace: self.options.term_to_kill, cancel };
        let mut hearing = Hearing::default();
        let (exit, log) = exec::run(&self.ground, run, &mut hearing, &mut |_| {}).await?;
        hearing.verdict(verb, &exit, &log).map_err(|failure| about(handler, "doctor", failure))?;
        Ok(hearing.findings)
    }

    /// Lets the long-lived handlers go, after what is under way in them, and waits until they have ended. At the end of the
    /// daemon; a later request would start them again.
    pub async fn close(&self) {
        self.serving.close().await;
    }

    /// Describe, secrets and parameters: everything that is known before a program starts.
    async fn ready(&self, handler: &HandlerConfig, request: &Request) -> Result<Arc<Describe>, Failure> {
        let describe = self.describe(handler).await?;
        let wrong = |why: String| Failure::permanent(format!("handler {}: {why}", handler.name));
        let missing: Vec<&str> =
            describe.secrets.iter().filter(|name| !handler.secrets.contains_key(*name)).map(String::as_str).collect();
        if !missing.is_empty() {
            return Err(wrong(format!("it needs the secret {}", missing.join(", ")))
                .hinting(format!("secrets: {{ {}: {{ file: … }} }} at the handler", missing[0])));
        }
        params::check(&describe.params, &request.with)
            .map_err(|all| wrong(all.join("; ")).hinting("look at `with` of the rule, and at what the message said"))?;
        Ok(describe)
    }

    /// One plan or apply, in whichever way the handler runs.
    #[allow(clippy::too_many_arguments, reason = "one call, from two places above")]
    async fn one(
        &self,
        handler: &HandlerConfig,
        describe: &Describe,
        verb: Verb,
        mut request: Request,
        timeout: Duration,
        mut cancel: Cancel,
        on_change: OnChange<'_>,
    ) -> (Hearing, Result<(), Ended>) {
        let _permit = tokio::select! {
            permit = self.permit() => permit,
            () = cancelled(&mut cancel) => return (Hearing::default(), Err(Ended::Failed(Failure::retry("it was cancelled")))),
        };
        request.config = handler.config.clone();
        (request.reactor, request.id, request.verb) = (VERSION, None, None);
        let run = |stdin| exec::Run { handler, verb, stdin, timeout, grace: self.options.term_to_kill, cancel };
        let mut hearing = Hearing::default();
        let heard = if describe.serve {
            self.serving.ask(&self.ground, &self.options, request, run(Vec::new()), &mut hearing, on_change).await
        } else {
            match request_line(&request) {
                Ok(stdin) => exec::run(&self.ground, run(stdin), &mut hearing, on_change).await,
                Err(failure) => Err(failure),
            }
        };
        // 75 from an apply is the world having moved; a failure of our own to start or hear it is not.
        let moved = verb == Verb::Apply && matches!(heard, Ok((Exit::Code(exit::TRY_LATER), _)));
        let ended = heard.and_then(|(exit, log)| hearing.verdict(verb, &exit, &log));
        (hearing, ended.map_err(|failure| if moved { Ended::Moved(failure) } else { Ended::Failed(failure) }))
    }

    async fn ask_describe(&self, handler: &HandlerConfig) -> Result<Describe, Failure> {
        let _permit = self.permit().await;
        let timeout = self.options.describe_max;
        let (verb, cancel) = (Verb::Describe, never());
        let run = exec::Run { handler, verb, stdin: Vec::new(), timeout, grace: self.options.term_to_kill, cancel };
        let mut hearing = Hearing::default();
        let (exit, log) = exec::run(&self.ground, run, &mut hearing, &mut |_| {}).await?;
        hearing.verdict(verb, &exit, &log)?;
        match hearing.describe {
            Some(describe) if describe.reactor == VERSION => Ok(describe),
            Some(describe) => {
                Err(Failure::permanent(format!("it speaks version {} of the protocol", describe.reactor))
                    .hinting(format!("this reactor speaks version {VERSION}")))
            }
            None => Err(Failure::permanent("it exited with 0 but printed no `describe` line")
                .hinting("reactor handler new NAME shows a handler that does")),
        }
    }

    /// The engine keeps to the limit itself; this is the backstop.
    async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        self.at_once.acquire().await.ok()
    }

    fn program<'a>(&'a self, handler: &'a HandlerConfig) -> &'a Path {
        match &handler.program {
            Program::Exec(path) => path,
            Program::BuiltIn(_) => &self.ground.reactor,
        }
    }
}

/// Waits until the work is not wanted any more; for ever if nobody can say so.
async fn cancelled(cancel: &mut Cancel) {
    if cancel.wait_for(|cancelled| *cancelled).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The request as one line. Its order is part of the protocol: `with` stands before everything that a message wrote.
fn request_line(request: &Request) -> Result<Vec<u8>, Failure> {
    let line = serde_json::to_vec(request);
    let mut line = line.map_err(|error| Failure::permanent(format!("the request can't be written: {error}")))?;
    line.push(b'\n');
    if line.len() > STDIN_BYTES_MAX {
        let size = line.len();
        let why = format!("the request has {size} bytes, at most {STDIN_BYTES_MAX} fit on a handler's stdin");
        return Err(Failure::permanent(why).hinting("coalesce fewer messages, or split the rule's key"));
    }
    Ok(line)
}

/// The plan of a handler that can't plan.
fn run_change(handler: &HandlerConfig, request: &Request) -> Change {
    let note = "this handler can't plan: what it would change is not known".into();
    Change {
        action: Action::Run,
        target: format!("{} {}", handler.name, request.key),
        before: None,
        after: None,
        secret: false,
        hold: None,
        count: None,
        more: Map::from_iter([("note".to_owned(), note)]),
    }
}

/// Says which handler and which verb.
fn about(handler: &HandlerConfig, verb: &str, failure: Failure) -> Failure {
    let say = |message: String| format!("handler {}, {verb}: {message}", handler.name);
    match failure {
        Failure::Retry { message, hint, after } => Failure::Retry { message: say(message), hint, after },
        Failure::Permanent { message, hint } => Failure::Permanent { message: say(message), hint },
    }
}

/// Compares what was planned and what was done. More than planned is a failure whatever the handler said of itself: the
/// guard never saw it, and trying again would do it again.
fn judge(
    handler: &HandlerConfig,
    describe: &Describe,
    plan: &[Change],
    mut hearing: Hearing,
    ended: Result<(), Ended>,
) -> Applied {
    let (notes, done, later) = (hearing.take_notes(), hearing.changes, hearing.later);
    let difference = if describe.plan { compare::compare(plan, &done, &later) } else { compare::Difference::default() };
    if !difference.unplanned.is_empty() {
        let why = format!("did more than planned: {}", compare::list(&difference.unplanned));
        let failure = Failure::permanent(why).hinting(format!("reactor handler test {}", handler.name));
        return Applied { done, notes, ..Applied::failed(about(handler, "apply", failure)) };
    }
    let verdict = match ended {
        Ok(()) => Verdict::Done,
        Err(Ended::Moved(failure)) => Verdict::Replan(about(handler, "apply", failure)),
        Err(Ended::Failed(failure)) => Verdict::Failed(about(handler, "apply", failure)),
    };
    if verdict != Verdict::Done {
        return Applied { verdict, done, warning: None, notes, left: Vec::new() };
    }
    let warning = (!difference.undone.is_empty()).then(|| {
        format!(
            "handler {} exited with 0, but did not do all of its plan: {}",
            handler.name,
            compare::list(&difference.undone)
        )
    });
    let wrong = |later: &Later| params::check(&describe.params, &later.with).err().map(|all| all.join("; "));
    let left = later.into_iter().map(|later| Left { wrong: wrong(&later), later }).collect();
    Applied { verdict, done, warning, notes, left }
}
