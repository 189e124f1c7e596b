//! The contract test of a handler: it speaks version 1, plan writes nothing and says the same twice, apply does what the plan
//! said, a second plan is empty. It really applies: give it a copy of the target.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use handler_api::protocol::VERSION;
use handler_api::{Change, Describe, Failure, MessageView, Params, Request};
use serde_json::Map;

use super::{Runner, Verdict, compare, never};
use crate::rules::site::HandlerConfig;

/// Most files that are looked at below a watched directory.
pub const WATCHED_FILES_MAX: usize = 100_000;

/// What is tested, and with what.
#[derive(Clone, Debug)]
pub struct Contract {
    /// The handler.
    pub handler: HandlerConfig,
    /// Parameters that make it change something.
    pub with: Params,
    /// Messages that it gets to see.
    pub messages: Vec<MessageView>,
    /// A directory in which plan must not write; without it only Landlock keeps it from writing.
    pub watch: Option<PathBuf>,
    /// How long each plan and apply may take.
    pub timeout: Duration,
}

/// One step, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was tested, as a sentence.
    pub name: &'static str,
    /// What was found, or why it is wrong.
    pub result: Result<String, Wrong>,
}

/// Why a step is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What failed, on what, why.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl<T: Into<String>> From<T> for Wrong {
    fn from(message: T) -> Self {
        Self { message: message.into(), hint: None }
    }
}

/// Whether every step is right.
#[must_use]
pub fn holds(steps: &[Step]) -> bool {
    steps.iter().all(|step| step.result.is_ok())
}

/// Runs the test, up to the first step that makes the following ones pointless.
pub async fn contract(runner: &Runner, contract: &Contract) -> Vec<Step> {
    let mut test = Test { runner, contract, steps: Vec::new() };
    // The steps are all that is of interest; `None` only says that the next ones make no sense.
    let _ = test.run().await;
    test.steps
}

struct Test<'a> {
    runner: &'a Runner,
    contract: &'a Contract,
    steps: Vec<Step>,
}

impl Test<'_> {
    async fn run(&mut self) -> Option<()> {
        let describe = self.describe().await?;
        if !describe.plan {
            return self
                .step("plan says what would change", Err("it says `plan: false`: it can't keep this contract".into()));
        }
        let before = self.snapshot();
        let plan = self.plan("plan says what would change", show).await?;
        let again = self.plan("a second plan says the same", |_| String::new()).await?;
        if again != plan {
            self.unsay();
            self.step(
                "a second plan says the same",
                Err(format!("first {}; then {}", show(&plan), show(&again)).into()),
            )?;
        }
        let wrote_nothing = self.wrote_nothing(describe.serve, before);
        self.step("plan wrote nothing", wrote_nothing)?;
        if plan.is_empty() {
            let why = "the plan is empty, so nothing was tried; choose parameters that change something";
            return self.step("apply does what the plan said", Err(why.into()));
        }
        let applied = self.apply(&plan).await;
        self.step("apply does what the plan said", applied)?;
        let last = self.plan("after apply, the plan is empty", |_| String::new()).await?;
        if !last.is_empty() {
            self.unsay();
            self.step("after apply, the plan is empty", Err(format!("it still says {}", show(&last)).into()))?;
        }
        Some(())
    }

    /// Records a step; `None` if it is wrong.
    fn step(&mut self, name: &'static str, result: Result<String, Wrong>) -> Option<()> {
        let right = result.is_ok().then_some(());
        self.steps.push(Step { name, result });
        right
    }

    fn unsay(&mut self) {
        self.steps.pop();
    }

    async fn describe(&mut self) -> Option<Arc<Describe>> {
        let described = self.runner.describe(&self.contract.handler).await;
        let result = match &described {
            Ok(describe) => Ok(format!("{} {}: {}", describe.name, describe.version, describe.about)),
            Err(failure) => Err(with_hint(failure)),
        };
        self.step("describe speaks version 1", result)?;
        described.ok()
    }

    async fn plan(&mut self, name: &'static str, show: fn(&[Change]) -> String) -> Option<Vec<Change>> {
        let Contract { handler, timeout, .. } = self.contract;
        let planned = self.runner.plan(handler, self.request(), *timeout, never()).await;
        let result = planned.as_ref().map(|plan| show(&plan.changes)).map_err(with_hint);
        self.step(name, result)?;
        planned.ok().map(|plan| plan.changes)
    }

    async fn apply(&self, plan: &[Change]) -> Result<String, Wrong> {
        let Contract { handler, timeout, .. } = self.contract;
        let applied = self.runner.apply(handler, self.request(), plan, *timeout, never(), &mut |_| {}).await;
        if let Some(left) = applied.left.first() {
            let n = applied.left.len();
            let why = left.wrong.as_ref().map_or_else(|| left.later.why.clone(), |wrong| format!("wrong: {wrong}"));
            return Err(Wrong {
                message: format!("it left {n} for later, the first: [{}] {why}", left.later.key),
                hint: Some("test it where all of its targets can be reached".into()),
            });
        }
        match (applied.verdict, applied.warning) {
            (Verdict::Done, None) => Ok(format!("{} done", applied.done.len())),
            (Verdict::Done, Some(warning)) => Err(warning.into()),
            (Verdict::Replan(failure) | Verdict::Failed(failure), _) => Err(with_hint(&failure)),
        }
    }

    fn request(&self) -> Request {
        Request {
            reactor: VERSION,
            id: None,
            verb: None,
            reaction: "00000000000000000000000000".into(),
            rule: "contract test".into(),
            key: "contract test".into(),
            attempt: 1,
            with: self.contract.with.clone(),
            config: Map::new(),
            messages: self.contract.messages.clone(),
            changes: None,
        }
    }

    fn snapshot(&self) -> Option<io::Result<Snapshot>> {
        self.contract.watch.as_deref().map(snapshot)
    }

    fn wrote_nothing(&self, serve: bool, before: Option<io::Result<Snapshot>>) -> Result<String, Wrong> {
        match (before, self.snapshot()) {
            (Some(Ok(before)), Some(Ok(after))) => match changed(&before, &after) {
                None => Ok(format!("{} files are as they were", before.len())),
                Some(path) => Err(format!("{} is not as it was", path.display()).into()),
            },
            (Some(Err(error)), _) | (_, Some(Err(error))) => Err(format!("the watched directory: {error}").into()),
            _ if serve => {
                Ok("not tested: it serves, and so can write while it plans; give a directory to watch".into())
            }
            _ if self.runner.sandbox() == "landlock" => Ok("it could not have, Landlock held it".into()),
            _ => Ok("not tested: no Landlock in this kernel, and no directory to watch".into()),
        }
    }
}

fn with_hint(failure: &Failure) -> Wrong {
    Wrong { message: failure.message().to_owned(), hint: failure.hint().map(str::to_owned) }
}

fn show(plan: &[Change]) -> String {
    let changes: Vec<String> = plan.iter().map(|c| format!("{} {}", compare::word(c.action), c.target)).collect();
    if changes.is_empty() { "nothing".into() } else { super::hearing::clean(&compare::list(&changes)) }
}

/// Every file below a directory, with what shows that it was touched: inode, size, time of the last change of content or
/// of the inode itself, mode.
type Snapshot = BTreeMap<PathBuf, (u64, u64, i64, i64, i64, i64, u32)>;

fn snapshot(dir: &Path) -> io::Result<Snapshot> {
    let mut seen = Snapshot::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path)?;
        if meta.is_dir() {
            for entry in fs::read_dir(&path)? {
                left.push(entry?.path());
            }
        }
        let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        seen.insert(path, (meta.ino(), meta.size(), times.0, times.1, times.2, times.3, meta.mode()));
        if seen.len() + left.len() > WATCHED_FILES_MAX {
            return Err(io::Error::other(format!("has more than {WATCHED_FILES_MAX} files; watch a smaller one")));
        }
    }
    Ok(seen)
}

fn changed<'a>(before: &'a Snapshot, after: &'a Snapshot) -> Option<&'a Path> {
    let differs = |path: &&PathBuf| before.get(*path) != after.get(*path);
    before.keys().chain(after.keys()).find(differs).map(PathBuf::as_path)
}
