//! `reactor demo`: embedded everything. A bus, keys, a scratch copy of the example site, signed messages, hostile ones, a plan
//! that waits for a person, and `kill -9` in the middle. Needs nothing installed; ends by itself with a summary.

mod git;
mod keys;
mod koji;
mod mirrors;
mod pull;
mod site;
mod stage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::{Value, json};

use self::stage::Stage;
use super::print::summary;
use super::{Common, NO, out};
use crate::engine::control::Asked;
use crate::journal::{ReactionRow, State};

/// Users whose address changes while the daemon is killed.
const CROWD: usize = 120;
/// How many of them are done when it is killed.
const DONE_BEFORE_KILL: usize = 20;
/// Longest wait for any step, in seconds.
const STEP_SECONDS_MAX: u64 = 60;
const PREFIX: &str = "org.fedoraproject.prod";

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = "Example: reactor demo --keep")]
pub struct DemoArgs {
    /// Leave it running at the end, to play with; Ctrl-C ends it
    #[arg(long)]
    pub keep: bool,
    /// Use this new directory instead of one under /tmp, and leave it there
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Shows everything once.
///
/// # Errors
/// What could not be shown.
pub fn run(args: &DemoArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let scratch = tempfile::Builder::new().prefix("reactor-demo-").tempdir().context("no scratch directory")?;
    let dir = match &args.dir {
        Some(dir) => std::path::absolute(dir)?,
        None => scratch.path().to_owned(),
    };
    out(&format!("reactor demo: all of it happens in {}\n", dir.display()));
    // What others may write to is no place for keys, whatever the umask is here.
    crate::runner::init();
    let mut stage = Stage::set(&dir, common.verbose > 0)?;
    out("A certificate authority, a signer and a revocation list were made, a fedmsg bus was opened at");
    out(&format!("{}, and `reactor run rules.yaml` was started: the repository's example site.\n", stage.address()));
    let python = has("python3");
    if !python {
        out("(python3 is not here: the handler written in Python, host-access, is left out)\n");
    }
    changes(&mut stage, python)?;
    keys::keys(&mut stage)?;
    let here = Here { git: has("git"), rsync: has("rsync"), curl: has("curl") };
    if here.git {
        git::git(&mut stage)?;
    } else {
        out("(git is not here: the handler gitolite is left out)\n");
    }
    mirrors::mirrors(&mut stage)?;
    if here.rsync {
        pull::pull(&mut stage)?;
    } else {
        out("(rsync is not here: the handler mirror-pull is left out)\n");
    }
    if here.curl {
        koji::koji(&mut stage)?;
    } else {
        out("(curl is not here: the handler koji-owners is left out)\n");
    }
    lies(&mut stage)?;
    if python {
        held(&mut stage)?;
    }
    killed(&mut stage)?;
    stage.until("the last reaction", |rows| rows.iter().all(|row| row.state.is_final() || !counts(row, here)))?;
    let right = tell(&stage, here)?;
    if args.keep {
        play(&dir);
        stage.wait_for_the_end();
    }
    stage.end()?;
    if args.dir.is_some() || args.keep {
        let _ = scratch.keep();
    }
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

fn changes(stage: &mut Stage, python: bool) -> anyhow::Result<()> {
    out("1. Signed messages become changes");
    for _ in 0..3 {
        stage.say("fas.user.update", json!({"agent": "ralph", "user": "ralph", "fields": ["email"]}))?;
    }
    stage.say("fas.user.update", json!({"agent": "ada", "user": "ada", "fields": ["timezone"]}))?;
    if python {
        stage.say("fas.group.member.sponsor", json!({"agent": "toshio", "user": "ralph", "group": "sysadmin-web"}))?;
    }
    out("   sent: three times «ralph changed his address», once «ada changed her time zone»");
    if python {
        out("         and once «toshio let ralph into sysadmin-web»");
    }
    stage.until("the first changes", |rows| count(rows, State::Done) == 1 + usize::from(python))?;
    let rows = stage.rows()?;
    show(&rows.into_iter().filter(is_plain).collect::<Vec<_>>());
    out("   The three became one reaction (coalesce); the time zone is nobody's business.\n");
    Ok(())
}

fn lies(stage: &mut Stage) -> anyhow::Result<()> {
    out("7. What is not proven is not believed");
    stage.lie()?;
    for (reason, topic) in stage.until_refused(4)? {
        out(&format!("   refused  {topic}: {reason}"));
    }
    out("");
    Ok(())
}

fn held(stage: &mut Stage) -> anyhow::Result<()> {
    out("8. Too large a plan waits for a person");
    stage.say("fas.group.member.remove", json!({"agent": "eve", "user": "toshio", "group": "root-keepers"}))?;
    stage.until("the held reaction", |rows| count(rows, State::Held) == 1)?;
    let rows = stage.rows()?;
    let held: Vec<ReactionRow> = rows.into_iter().filter(|row| row.state == State::Held).collect();
    show(&held);
    let id = held[0].id.clone();
    out(&format!("   {}", held[0].reason.as_deref().unwrap_or("")));
    out(&format!("   $ reactor approve {id}"));
    for said in stage.ask(&Asked::Approve { ids: vec![id.clone()] })? {
        out(&format!("   {said}"));
    }
    stage.until("the approved reaction", |rows| rows.iter().any(|row| row.id == id && row.state == State::Done))?;
    out("");
    Ok(())
}

fn killed(stage: &mut Stage) -> anyhow::Result<()> {
    out(&format!("9. kill -9 in the middle of {CROWD} reactions"));
    let before = count(&stage.rows()?, State::Done);
    for n in 0..CROWD {
        let user = site::crowd_user(n);
        stage.say("fas.user.update", json!({"agent": user, "user": user, "fields": ["email"]}))?;
    }
    stage.until("the crowd to begin", |rows| count(rows, State::Done) >= before + DONE_BEFORE_KILL)?;
    stage.kill_9()?;
    let rows = stage.rows()?;
    let done = count(&rows, State::Done) - before;
    let applying = count(&rows, State::Applying);
    let waiting = count(&rows, State::Waiting);
    out(&format!(
        "   killed: {done} done, {applying} in the middle of being applied, {waiting} waiting in the journal"
    ));
    stage.start()?;
    stage.until("the rest", |rows| count(rows, State::Done) >= before + CROWD)?;
    out("   started again: the rest was done from the journal, nothing was sent again\n");
    Ok(())
}

/// The summary; false if anything is not as it should be.
fn tell(stage: &Stage, here: Here) -> anyhow::Result<bool> {
    let rows: Vec<_> = stage.rows()?.into_iter().filter(|row| counts(row, here)).collect();
    let aliases = std::fs::read_to_string(stage.dir().join(site::ALIASES))?;
    let exact = (0..CROWD).filter(|n| {
        let line = format!("{}: {}", site::crowd_user(*n), site::crowd_address(*n));
        aliases.lines().filter(|at| **at == line).count() == 1
    });
    let exact = exact.count();
    let pending = rows.iter().filter(|row| !row.state.is_final()).count();
    let failed = rows.iter().filter(|row| row.state == State::Failed && row.handler != "notice").count();
    out("Summary");
    out(&format!("   {} messages sent and signed, 4 that lied", stage.sent()));
    out(&format!("   {} reactions done, {failed} failed, {pending} pending", count(&rows, State::Done)));
    out(&format!("   {exact} of {CROWD} effects of the killed crowd are there, each exactly once"));
    let right = exact == CROWD && failed == 0 && pending == 0;
    out(if right {
        "   nothing was lost, nothing was done twice"
    } else {
        "   THIS IS NOT AS IT SHOULD BE; look with --keep"
    });
    Ok(right)
}

fn show(rows: &[ReactionRow]) {
    for row in rows.iter().rev().filter(|row| row.handler != "notice") {
        let messages = if row.messages > 1 { format!(" ({} messages)", row.messages) } else { String::new() };
        out(&format!("   {:<5} {} [{}]{messages}: {}", row.state.word(), row.rule, row.key, summary(&row.plan)));
        for change in &row.plan {
            let text = super::print::change(change, super::print::colour());
            out(&format!("         {}", text.replace('\n', "\n     ")));
        }
    }
}

fn play(dir: &Path) {
    let state = dir.join("state");
    out("\nIt is still running. In another terminal:");
    for line in ["status", "list", "show ID", "list --refused"] {
        out(&format!("   reactor --state {} {line}", state.display()));
    }
    out(&format!("   $EDITOR {}     (it is read again when it changes)", dir.join("rules.yaml").display()));
    out("Ctrl-C ends it.");
}

fn count(rows: &[ReactionRow], state: State) -> usize {
    rows.iter().filter(|row| row.state == state && is_plain(row)).count()
}

/// Not one of those that come beside the others: what is told to people, the ssh keys, git access, the mirrors, and Koji.
fn is_plain(row: &ReactionRow) -> bool {
    !["notice", "hosts", "git", "mirrors", pull::HANDLER, koji::HANDLER].contains(&&*row.handler)
}

/// Programs that some handlers need.
#[derive(Clone, Copy)]
struct Here {
    git: bool,
    rsync: bool,
    curl: bool,
}

/// Not one that waits for a program that is not there.
fn counts(row: &ReactionRow, here: Here) -> bool {
    match &*row.handler {
        "git" => here.git,
        pull::HANDLER => here.rsync,
        koji::HANDLER => here.curl,
        _ => true,
    }
}

fn has(program: &str) -> bool {
    std::env::split_paths(crate::runner::PATH).any(|dir| dir.join(program).is_file())
}

/// One step's limit.
fn step() -> Duration {
    Duration::from_secs(STEP_SECONDS_MAX)
}

fn body(value: Value) -> anyhow::Result<Value> {
    ensure!(value.is_object(), "a message's body is an object");
    Ok(value)
}
