//! `reactor reconcile`: all that a handler keeps, against the whole source of truth. Without `--apply` it is a plan in this
//! process; with it, the running daemon does what its own `every` rule would do later: journaled, in its lane, guarded.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use handler_api::ParamType;
use handler_api::limits::LATER_MAX;
use serde_json::json;

use super::plan::{Outcome, Would, plan};
use super::print::{change, clean, colour, summary};
use super::{Common, Format, NO, out, site_paths};
use crate::engine::control::{Asked, ask};
use crate::engine::core::{Reconciling, every_rule_for};
use crate::journal::place::open_read_only;
use crate::journal::{Answer, Filter, Journal, Question, ReactionRow, State};
use crate::rules::file;
use crate::rules::matcher::Rules;
use crate::rules::site::{GuardLimits, HandlerConfig, Mode, On, Retry, Rule, Site, TIMEOUT_DEFAULT};
use crate::rules::template::WithTemplate;
use crate::runner::{self, Runner};

/// How often the journal is looked at, in milliseconds.
const LOOK_MS: u64 = 100;
/// Beside twice the rule's `timeout` (plan and apply), how long to wait for the outcome, in seconds.
const SLACK_SECONDS: u64 = 5;
/// How often a rule without `every` would come due: never, it is only planned.
const NEVER: Duration = Duration::MAX;

/// Arguments of `reconcile`.
#[derive(Debug, Args)]
#[command(after_help = "Example: reactor reconcile ssh-keys
         reactor reconcile ssh-keys --apply
Without --apply it takes the `with` and the guard of the site's `every:` rule for that handler, and changes nothing.
Exit code: 0 nothing differs (with --apply: it is mended); 1 something differs, or that can't be found out (with
--apply: it is held or has failed, or it or a part of it, such as a host that is down, is not over yet).")]
pub struct ReconcileArgs {
    /// The handler: its name in the site, or the name of a built-in one
    #[arg(value_name = "HANDLER")]
    pub handler: String,
    /// Have the running daemon mend what differs, and wait for it: twice the rule's `timeout` at most, then it goes on alone
    #[arg(long)]
    pub apply: bool,
    /// The site's files or directories [default: /etc/reactor, else ./rules.yaml]. A daemon has its own
    #[arg(value_name = "FILE|DIR", conflicts_with = "apply")]
    pub site: Vec<PathBuf>,
}

/// Compares, or has it mended.
///
/// # Errors
/// When the site can't be read, no daemon answers, or there is nothing that says what to compare.
pub fn run(args: &ReconcileArgs, common: &Common) -> anyhow::Result<ExitCode> {
    if args.apply { mend(&args.handler, common) } else { compare(args, common) }
}

fn compare(args: &ReconcileArgs, common: &Common) -> anyhow::Result<ExitCode> {
    super::log(&Common { quiet: common.verbose == 0, ..common.clone() });
    let site = file::load(&site_paths(&args.site))?;
    let handler = site.handler(&args.handler).map_err(anyhow::Error::msg)?;
    runner::init();
    let state = tempfile::tempdir().context("no scratch directory")?;
    let runner = Runner::new(state.path(), runner::Options::default())?;
    let runtime = super::runtime()?;
    let rules = Rules::new(site.rules.clone());
    let mut agrees = true;
    for rule in runtime.block_on(every_rules(&runner, &site, handler))? {
        let would = Would { key: rule.name.to_string(), rule, messages: Vec::new() };
        agrees &= runtime.block_on(plan(&runner, &site, &rules, would, common)) == Outcome::Nothing;
    }
    runtime.block_on(runner.close());
    Ok(if agrees { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

/// The site's `every` rules for a handler; else one that is made up, where the handler needs no parameters.
async fn every_rules(runner: &Runner, site: &Site, handler: &HandlerConfig) -> anyhow::Result<Vec<Arc<Rule>>> {
    let is_its = |rule: &&Arc<Rule>| rule.handler == handler.name && matches!(rule.on, On::Every(_));
    let rules: Vec<_> = site.rules.iter().filter(is_its).cloned().collect();
    if !rules.is_empty() {
        return Ok(rules);
    }
    let missing = format!("no rule with `every:` has `do: {}`", handler.name);
    let hint = every_rule_for(&handler.name);
    let describe = runner.describe(handler).await.map_err(|failure| {
        let hint = failure.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        anyhow::anyhow!("{failure}{hint}")
    })?;
    let needs = describe.params.iter().find(|(_, kind)| !matches!(kind, ParamType::Optional(_)));
    if let Some((name, _)) = needs {
        anyhow::bail!(
            "{missing}, and `{name}` must be given to {}\nhint: {hint}\n    with: {{ {name}: … }}",
            handler.name
        );
    }
    eprintln!("note: {missing}; it is compared without parameters. To have it done, {hint}");
    Ok(vec![Arc::new(made_up(handler))])
}

fn made_up(handler: &HandlerConfig) -> Rule {
    Rule {
        name: "reconcile".into(),
        why: None,
        on: On::Every(NEVER),
        where_all: Vec::new(),
        unless_any: Vec::new(),
        when: None,
        key: None,
        coalesce: None,
        handler: handler.name.clone(),
        with: WithTemplate::default(),
        timeout: TIMEOUT_DEFAULT,
        retry: Retry::default(),
        guard: GuardLimits::default(),
        mode: Mode::Plan,
        confirm: None,
        place: handler.place.clone(),
    }
}

fn mend(handler: &str, common: &Common) -> anyhow::Result<ExitCode> {
    let asked = Asked::Reconcile { handler: handler.to_owned() };
    let answered = super::runtime()?.block_on(ask(&common.state_dir(), &asked))?;
    if let Some(wrong) = answered.wrong.first() {
        anyhow::bail!(wrong.clone());
    }
    let journal = open_read_only(&common.state_dir())?;
    let mut mended = true;
    for reaction in &answered.reactions {
        if common.format == Format::Human {
            let (id, said) = (&reaction.id, clean(&reaction.said));
            out(&format!("reaction {id} of `{}` {said}   (its story: reactor show {id})", reaction.rule));
        }
        mended &= follow(&*journal, reaction, common)?;
    }
    Ok(if mended { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

/// Waits until it is over or held, and says what became of it. True if all is mended.
fn follow(journal: &dyn Journal, reaction: &Reconciling, common: &Common) -> anyhow::Result<bool> {
    let until = Instant::now() + Duration::from_secs(reaction.timeout_seconds.saturating_mul(2) + SLACK_SECONDS);
    let row = loop {
        let row = row(journal, &reaction.id)?;
        let is_settled = row.as_ref().is_some_and(|row| row.state.is_final() || row.state == State::Held);
        if is_settled || Instant::now() >= until {
            break row;
        }
        std::thread::sleep(Duration::from_millis(LOOK_MS));
    };
    let Some(row) = row else { anyhow::bail!("reaction {} is not in the journal any more", reaction.id) };
    let left = left_over(journal, &row)?;
    match common.format {
        Format::Json => out(&serde_json::to_string(&json!({"reaction": row, "left": left}))?),
        Format::Human => tell(&row, &left),
    }
    Ok(row.state == State::Done && left.is_empty())
}

/// What its apply left for later (a host that is down) and is not done. A part that waits already since an earlier one is
/// joined and keeps that one as its parent, so every pending part of the rule counts.
fn left_over(journal: &dyn Journal, of: &ReactionRow) -> anyhow::Result<Vec<ReactionRow>> {
    let filter = Filter { rule: Some(of.rule.clone()), at_most: LATER_MAX, ..Filter::default() };
    let Answer::Reactions(rows) = journal.ask(&Question::List(filter))? else { return Ok(Vec::new()) };
    let is_own = |row: &ReactionRow| row.parent.as_ref() == Some(&of.id) && row.state != State::Done;
    let is_left = |row: &ReactionRow| is_own(row) || row.parent.is_some() && !row.state.is_final();
    Ok(rows.into_iter().filter(is_left).collect())
}

fn row(journal: &dyn Journal, id: &str) -> anyhow::Result<Option<ReactionRow>> {
    let filter = Filter { id_prefix: Some(id.to_owned()), at_most: 1, ..Filter::default() };
    match journal.ask(&Question::List(filter))? {
        Answer::Reactions(rows) => Ok(rows.into_iter().next()),
        _ => Ok(None),
    }
}

fn tell(row: &ReactionRow, left: &[ReactionRow]) {
    let shown = if row.state == State::Held || row.state == State::Planned { &row.plan } else { &row.done };
    shown.iter().for_each(|one| out(&format!("  {}", change(one, colour()))));
    let reason = row.reason.as_deref().map(|reason| format!(": {}", clean(reason))).unwrap_or_default();
    let word = if row.state.is_final() || row.state == State::Held { row.state.word() } else { "it goes on" };
    let size = if shown.is_empty() { String::new() } else { format!(" ({})", summary(shown)) };
    out(&format!("  {word}{size}{reason}"));
    if let Some(hint) = row.hint.as_deref().filter(|_| row.state != State::Done) {
        out(&format!("  hint: {}", clean(hint)));
    }
    for one in left {
        let why = one.reason.as_deref().map(|reason| format!(": {}", clean(reason))).unwrap_or_default();
        out(&format!("  not done yet: [{}] is {}{why}   (reactor show {})", clean(&one.key), one.state.word(), one.id));
    }
}
