//! `reactor plan` (alias `dry-run`): which rules match and why not, and what each handler would change. Writes nothing: apply
//! is never called.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use handler_api::{Failure, Plan};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::print::{change, clean, colour, summary, value};
use super::{Common, Format, NO, now, out, site_paths};
use crate::bus::jsonl::fallback_id;
use crate::engine::core::Run;
use crate::engine::redact::redacted;
use crate::engine::runs::request;
use crate::guard::{self, Verdict};
use crate::message::{BODY_BYTES_MAX, Message};
use crate::rules::explain::explain;
use crate::rules::file;
use crate::rules::matcher::{Decision, Rules};
use crate::rules::site::{HandlerConfig, Rule, Site};
use crate::runner::{self, Runner};
use crate::trust;

/// Arguments of `plan`.
#[derive(Debug, Args)]
#[command(after_help = "Example: reactor plan --message handlers/examples/messages/email-changed.json
         reactor tail --bus fedora -n 1 --format json | reactor plan --message -
Exit code: 0 fine; 1 a rule broke on a message, or a handler could not plan.")]
pub struct PlanArgs {
    /// The site's files or directories [default: /etc/reactor, else ./rules.yaml]
    #[arg(value_name = "FILE|DIR")]
    pub site: Vec<PathBuf>,
    /// A message: an envelope, or {"topic": …, "msg": …}; `-` is stdin. Its signature is not checked (see `reactor verify`)
    #[arg(long, value_name = "FILE", required = true)]
    pub message: Vec<PathBuf>,
}

/// One reaction as it would be.
pub(super) struct Would {
    pub rule: Arc<Rule>,
    pub key: String,
    pub messages: Vec<Message>,
}

/// What came of planning it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All is true already.
    Nothing,
    /// Something would change.
    Changes,
    /// That could not be found out.
    Unknown,
}

/// Explains, plans, prints.
///
/// # Errors
/// When the site or a message can't be read.
pub fn run(args: &PlanArgs, common: &Common) -> anyhow::Result<ExitCode> {
    super::log(&Common { quiet: common.verbose == 0, ..common.clone() });
    let site = file::load(&site_paths(&args.site))?;
    let rules = Rules::new(site.rules.clone());
    let messages = args.message.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut fine = true;
    let mut reactions: Vec<Would> = Vec::new();
    for message in &messages {
        fine &= matched(&rules, message, common, &mut reactions);
    }
    fine &= plan_all(reactions, &site, &rules, common)?;
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

/// Plans reactions, one after the other, and prints them. False if one could not be planned.
///
/// # Errors
/// When handlers can't be run at all.
pub(super) fn plan_all(reactions: Vec<Would>, site: &Site, rules: &Rules, common: &Common) -> anyhow::Result<bool> {
    runner::init();
    let state = tempfile::tempdir().context("no scratch directory")?;
    let runner = Runner::new(state.path(), runner::Options::default())?;
    let runtime = super::runtime()?;
    let mut fine = true;
    for reaction in reactions {
        fine &= runtime.block_on(plan(&runner, site, rules, reaction, common)) != Outcome::Unknown;
    }
    runtime.block_on(runner.close());
    Ok(fine)
}

fn read(path: &Path) -> anyhow::Result<Message> {
    use std::io::Read;
    let name = path.display().to_string();
    let mut body = Vec::new();
    let most = BODY_BYTES_MAX as u64 + 1;
    if name == "-" {
        std::io::stdin().take(most).read_to_end(&mut body)?;
    } else {
        let file = std::fs::File::open(path).with_context(|| {
            format!(
                "{name} can't be read\nhint: write a message to it: {{\"topic\": \"org.example.x\", \"msg\": {{}}}}"
            )
        })?;
        file.take(most).read_to_end(&mut body).with_context(|| format!("{name} can't be read"))?;
    }
    let message = trust::local(&body, &name, &fallback_id(&name, 1, &body), now()).map_err(anyhow::Error::msg)?;
    Ok(message.into_inner())
}

/// Prints what each rule says of a message, and collects the reactions of those that match. False if a rule broke.
fn matched(rules: &Rules, message: &Message, common: &Common, reactions: &mut Vec<Would>) -> bool {
    if common.format == Format::Human {
        out(&format!("message {}\n  {}", clean(&message.id), message.topic));
    }
    let explanations = explain(rules, message);
    for explanation in &explanations {
        match common.format {
            Format::Human => out(&format!("  rule `{}`: {}", explanation.rule, clean(&explanation.text))),
            Format::Json => {
                out(&json!({"message": message.id, "rule": explanation.rule, "says": explanation.text}).to_string())
            }
        }
    }
    if explanations.is_empty() && common.format == Format::Human {
        out("  no rule comes near this topic");
    }
    collect(rules.decide(message), message, reactions)
}

/// Collects the reactions that a message leads to; what is coalesced is one. False if a rule broke.
pub(super) fn collect(decisions: Vec<Decision>, message: &Message, reactions: &mut Vec<Would>) -> bool {
    let mut fine = true;
    for decision in decisions {
        let Ok(key) = decision.what else {
            fine = false;
            continue;
        };
        let joins = reactions.iter_mut().find(|would| {
            would.rule.name == decision.rule.name && would.key == key && decision.rule.coalesce.is_some()
        });
        match joins {
            Some(would) => would.messages.push(message.clone()),
            None => reactions.push(Would { rule: decision.rule, key, messages: vec![message.clone()] }),
        }
    }
    fine
}

/// Plans one reaction and prints it.
pub(super) async fn plan(runner: &Runner, site: &Site, rules: &Rules, would: Would, common: &Common) -> Outcome {
    let messages: Vec<&Message> = would.messages.iter().collect();
    let result = match (rules.params(&would.rule, &messages), site.handlers.get(&*would.rule.handler)) {
        (Err(error), _) => Err((None, Failure::Permanent { message: error.message, hint: error.hint })),
        (_, None) => Err((None, Failure::permanent(format!("there is no handler `{}`", would.rule.handler)))),
        (Ok(with), Some(handler)) => ask(runner, handler, &would, with.clone())
            .await
            .map_err(|failure| (Some(with.clone()), failure))
            .map(|plan| (with, plan)),
    };
    let outcome = match &result {
        Ok((_, plan)) if plan.changes.is_empty() => Outcome::Nothing,
        Ok(_) => Outcome::Changes,
        Err(_) => Outcome::Unknown,
    };
    match (common.format, result) {
        (Format::Human, Ok((with, plan))) => {
            tell_head(&would, Some(&with.into()));
            tell(&would.rule, &plan);
        }
        (Format::Human, Err((with, failure))) => {
            tell_head(&would, with.map(Value::from).as_ref());
            let hint = failure.hint().map(|hint| format!("\n  hint: {}", clean(hint))).unwrap_or_default();
            out(&format!("  can't be planned: {}{hint}", clean(failure.message())));
        }
        (Format::Json, result) => out(&as_json(&would, result).to_string()),
    }
    outcome
}

async fn ask(
    runner: &Runner,
    handler: &HandlerConfig,
    would: &Would,
    with: handler_api::Params,
) -> Result<Plan, Failure> {
    let run = Run {
        id: "00000000000000000000000000".into(),
        rule: would.rule.clone(),
        handler: Arc::new(handler.clone()),
        key: would.key.clone(),
        attempt: 1,
        with,
        messages: would.messages.clone(),
    };
    let (_never, cancel) = watch::channel(false);
    let plan = runner.plan(handler, request(&run), would.rule.timeout, cancel).await?;
    Ok(Plan { changes: plan.changes.iter().map(redacted).collect(), notes: plan.notes })
}

fn tell_head(would: &Would, with: Option<&Value>) {
    let messages =
        if would.messages.len() > 1 { format!(", {} messages", would.messages.len()) } else { String::new() };
    out(&format!("\nreaction `{}` → {} [{}]{messages}", would.rule.name, would.rule.handler, clean(&would.key)));
    if let Some(with) = with {
        out(&format!("  with {}", value(with)));
    }
}

fn tell(rule: &Rule, plan: &Plan) {
    let Plan { changes: plan, notes } = plan;
    let tell_notes = || notes.iter().for_each(|note| out(&format!("  note: {}", clean(note))));
    if plan.is_empty() {
        tell_notes();
        return out("  nothing to do: it is true already");
    }
    let colour = colour();
    plan.iter().for_each(|one| out(&format!("  {}", change(one, colour))));
    tell_notes();
    let then = match (guard::check(plan, rule.guard, None), rule.mode) {
        (_, crate::rules::site::Mode::Plan) => "mode: plan, so nothing would be changed".to_owned(),
        (Verdict::Pass, _) => "it would be applied".to_owned(),
        (Verdict::Hold { reason }, _) => format!("it would be held: {reason}"),
    };
    out(&format!("  {}; {then}", summary(plan)));
}

fn as_json(
    would: &Would,
    result: Result<(handler_api::Params, Plan), (Option<handler_api::Params>, Failure)>,
) -> Value {
    let mut object: BTreeMap<&str, Value> = BTreeMap::from([
        ("rule", would.rule.name.as_ref().into()),
        ("handler", would.rule.handler.as_ref().into()),
        ("key", would.key.clone().into()),
        ("messages", would.messages.iter().map(|m| m.id.clone()).collect()),
    ]);
    match result {
        Ok((with, plan)) => {
            let held = matches!(guard::check(&plan.changes, would.rule.guard, None), Verdict::Hold { .. });
            object.extend([
                ("with", with.into()),
                ("plan", json!(plan.changes)),
                ("notes", json!(plan.notes)),
                ("held", held.into()),
            ]);
        }
        Err((with, failure)) => {
            object.extend([
                ("with", json!(with)),
                ("error", failure.message().into()),
                ("hint", json!(failure.hint())),
            ]);
        }
    }
    json!(object)
}
