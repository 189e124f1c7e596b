//! `reactor replay`: ask a bus's server for a stretch of time by hand. First what would come and what it would lead to; then, with
//! `--yes`, the daemon gets it, in order, and what it knows already leads to nothing.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use handler_api::units::parse_duration;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::plan::{Would, collect, plan_all};
use super::print::{clean, time};
use super::{Common, Format, NO, now, out, site_paths};
use crate::bus::catch_up::filter::Filter;
use crate::bus::catch_up::{Asking, CATCH_UP_SECONDS_MAX, CATCH_UP_TOTAL_SECONDS_MAX, Window};
use crate::engine::catch_up::heard::{AskedFor, command};
use crate::engine::catch_up::opening;
use crate::engine::control::{Asked, ask};
use crate::journal::place::open_read_only;
use crate::message::Message;
use crate::rules::file;
use crate::rules::matcher::{Rules, patterns};
use crate::rules::site::BusConfig;
use crate::trust::Verified;

/// Most messages that are shown before somebody says yes.
pub const SHOWN_MESSAGES_MAX: usize = 10_000;
/// Most reactions that are planned for that.
pub const SHOWN_PLANS_MAX: usize = 50;
/// How long the daemon is waited for, in seconds: the longest that a catch-up may take.
const ANSWER_SECONDS_MAX: u64 = CATCH_UP_TOTAL_SECONDS_MAX + CATCH_UP_SECONDS_MAX;
/// Between two looks at how far the daemon is, in milliseconds.
const LOOK_MS: u64 = 200;

/// Arguments of `replay`.
#[derive(Debug, Args)]
#[command(after_help = "Example: reactor replay --bus fedora --from '2h ago'
         reactor replay --bus fedora --from 2026-11-21T02:00:00Z --to 2026-11-21T03:30:00Z --yes
Without --yes it only shows what would come, and what each handler would change.
Exit code: 0 fine; 1 not all could be had, a rule broke on a message, or a handler could not plan.")]
pub struct ReplayArgs {
    /// The site's files or directories [default: /etc/reactor, else ./rules.yaml]
    #[arg(value_name = "FILE|DIR")]
    pub site: Vec<PathBuf>,
    /// The bus, by its name in the rules file; it needs `catch_up` there
    #[arg(long, value_name = "NAME")]
    pub bus: String,
    /// From when: 2026-11-21T02:00:00Z, or '2h ago'
    #[arg(long, value_name = "TIME")]
    pub from: String,
    /// To when
    #[arg(long, value_name = "TIME", default_value = "now")]
    pub to: String,
    /// Do it: the running daemon gets these messages
    #[arg(long)]
    pub yes: bool,
}

/// What a server has of a time.
struct Found {
    /// In its order: believed, or refused: topic and reason.
    messages: Vec<Result<Message, (String, String)>>,
    /// Why there is no more.
    trouble: Option<String>,
}

/// Shows, or tells the daemon.
///
/// # Errors
/// When the site can't be read, nobody can be asked, or no daemon answers.
pub fn run(args: &ReplayArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let window = window(args, now())?;
    if args.yes {
        return super::runtime()?.block_on(tell_daemon(&args.bus, window, common));
    }
    super::log(&Common { quiet: common.verbose == 0, ..common.clone() });
    let site = file::load(&site_paths(&args.site))?;
    let Some(bus) = site.buses.get(&args.bus) else {
        let names: Vec<&str> = site.buses.keys().map(String::as_str).collect();
        anyhow::bail!("the site has no bus `{}`; its buses are {}", args.bus, names.join(", "));
    };
    let rules = Arc::new(Rules::new(site.rules.clone()));
    let found = super::runtime()?.block_on(find(bus, &rules, site.journal.history_all, window))?;
    let mut reactions = Vec::new();
    let mut fine = show(&found, &rules, common, &mut reactions)?;
    let more = reactions.len().saturating_sub(SHOWN_PLANS_MAX);
    reactions.truncate(SHOWN_PLANS_MAX);
    fine &= plan_all(reactions, &site, &rules, common)?;
    if common.format == Format::Human {
        if more > 0 {
            out(&format!("\n{more} reactions more, which are not planned here"));
        }
        out(&format!("\nnothing was done; to do it: {} --yes", command(&args.bus, window)));
    }
    if let Some(trouble) = &found.trouble {
        eprintln!("error: {trouble}");
        fine = false;
    }
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

fn window(args: &ReplayArgs, now: Timestamp) -> anyhow::Result<Window> {
    let (from, to) = (moment(&args.from, now)?, moment(&args.to, now)?);
    anyhow::ensure!(from <= to, "--from {from} is after --to {to}");
    Ok(Window { from, to })
}

/// `now`, `2h ago`, or RFC 3339.
fn moment(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    if text == "now" {
        return Ok(now);
    }
    let ago = text.strip_suffix("ago").and_then(|duration| parse_duration(duration).ok());
    match ago {
        Some(ago) => Ok(now.checked_sub(ago)?),
        None => text.parse().map_err(|_| {
            anyhow::anyhow!("`{text}` is not a time\nhint: write 2026-11-21T02:00:00Z, or '2h ago', or now")
        }),
    }
}

/// Asks the server, and judges what it has as the daemon would.
async fn find(bus: &BusConfig, rules: &Arc<Rules>, takes_all: bool, window: Window) -> anyhow::Result<Found> {
    let config = bus.catch_up.as_ref().with_context(|| {
        format!("bus {} names nobody to ask\nhint: `catch_up: {{ datagrepper: URL }}` in its block", bus.name)
    })?;
    let filter = Filter::of(rules.all().iter().flat_map(|rule| patterns(rule)));
    let (filter, of) = (if takes_all { Filter::All } else { filter }, rules.clone());
    let wants = opening::bound(bus, Arc::new(move |topic| takes_all || of.wants(topic)));
    let wants = opening::wants(bus.topics.clone(), wants);
    let mut asking = Asking::new(&bus.name, config, &filter, wants, window);
    let verifier = bus.verifier();
    let mut found = Found { messages: Vec::new(), trouble: None };
    while found.messages.len() < SHOWN_MESSAGES_MAX {
        match asking.next().await {
            Ok(Some(raws)) => found.messages.extend(raws.into_iter().map(|raw| {
                let judged = verifier.verify(&raw, now()).map(Verified::into_inner);
                judged.map_err(|refusal| (raw.topic, refusal.reason))
            })),
            Ok(None) if asking.missing() == 0 => return Ok(found),
            Ok(None) => {
                let missing = asking.missing();
                found.trouble =
                    Some(format!("the server has {missing} messages more that it does not hand over whole"));
                return Ok(found);
            }
            Err(failure) => {
                let hint = failure.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
                found.trouble = Some(format!("{}{hint}", failure.message()));
                return Ok(found);
            }
        }
    }
    found.trouble = Some(format!("only the first {SHOWN_MESSAGES_MAX} messages are shown; name a shorter time"));
    Ok(found)
}

/// A line for each message that is not known yet; collects the reactions of those. False if a rule broke.
fn show(found: &Found, rules: &Rules, common: &Common, reactions: &mut Vec<Would>) -> anyhow::Result<bool> {
    let ids: Vec<&str> = found.messages.iter().flatten().map(|message| message.id.as_str()).collect();
    // Where no daemon ever ran there is no journal, and nothing is known.
    let known = open_read_only(&common.state_dir()).ok().map(|journal| journal.seen(&ids)).transpose()?;
    let known = known.unwrap_or_default();
    let (mut fine, mut new, mut refused) = (true, 0, 0);
    for message in &found.messages {
        let (head, says) = match message {
            Ok(message) if known.contains(&message.id) => continue,
            Ok(message) => {
                new += 1;
                let decisions = rules.decide(message);
                let names: Vec<String> = decisions.iter().map(|one| format!("rule `{}`", one.rule.name)).collect();
                fine &= collect(decisions, message, reactions);
                let says = if names.is_empty() { "no rule matches".to_owned() } else { names.join(", ") };
                (format!("{}  {}  {}", time(message.sent), message.id, message.topic), says)
            }
            Err((topic, why)) => {
                refused += 1;
                (topic.clone(), format!("refused: {why}"))
            }
        };
        match common.format {
            Format::Human => out(&format!("{}: {}", clean(&head), clean(&says))),
            Format::Json => {
                let id = message.as_ref().ok().map(|message| &message.id);
                let topic = message.as_ref().map_or_else(|(topic, _)| topic.as_str(), |message| message.topic.as_str());
                out(&json!({"message": id, "topic": topic, "says": says}).to_string());
            }
        }
    }
    if common.format == Format::Human {
        let all = found.messages.len();
        out(&format!(
            "{all} messages that this bus could bring: {new} new, {} known already, {refused} refused",
            all - new - refused
        ));
    }
    Ok(fine)
}

/// Asks the daemon for it, and waits for what came of it.
async fn tell_daemon(bus: &str, Window { from, to }: Window, common: &Common) -> anyhow::Result<ExitCode> {
    let state = common.state_dir();
    let asked = ask(&state, &Asked::Replay(AskedFor { bus: bus.to_owned(), from, to })).await?;
    if let Some(wrong) = asked.wrong.first() {
        anyhow::bail!("{wrong}");
    }
    let number = asked.status.as_ref().and_then(|status| status["replay"].as_u64()).unwrap_or(0);
    let answer = tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS_MAX), answer(&state, bus, number)).await;
    let Ok(answer) = answer else {
        anyhow::bail!("the daemon is at it for {ANSWER_SECONDS_MAX} s, and goes on\nhint: reactor status");
    };
    let answer = answer?;
    if common.format == Format::Json {
        out(&answer.to_string());
    } else {
        let n = |name: &str| answer[name].as_u64().unwrap_or(0);
        out(&format!("{} messages came, {} of them are new: reactor list", n("came"), n("new")));
        let text = |name: &str| answer[name].as_str();
        if let Some(lacking) = text("lacking") {
            let hint = text("hint").map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            eprintln!("error: {}{hint}", clean(lacking));
        }
    }
    Ok(if answer["recovered"] == true { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

/// What came of the question with that number.
async fn answer(state: &Path, bus: &str, number: u64) -> anyhow::Result<Value> {
    loop {
        let status = ask(state, &Asked::Status).await?.status.unwrap_or_default();
        let buses = status["buses"].as_array().cloned().unwrap_or_default();
        let asked = buses.into_iter().find(|one| one["name"] == *bus).map(|mut one| one["catch_up"]["asked"].take());
        match asked {
            Some(asked) if asked["answered"].as_u64() >= Some(number) => return Ok(asked["last"].clone()),
            _ => tokio::time::sleep(Duration::from_millis(LOOK_MS)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_as_people_and_as_programs_say_it() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        for (text, time) in [
            ("now", "2026-11-21T12:00:00Z"),
            ("2h ago", "2026-11-21T10:00:00Z"),
            ("1d12h ago", "2026-11-20T00:00:00Z"),
            ("2026-11-21T03:00:00+01:00", "2026-11-21T02:00:00Z"),
        ] {
            assert_eq!(moment(text, now).unwrap(), time.parse().unwrap(), "{text}");
        }
        for wrong in ["", "ago", "yesterday", "2h", "2026-11-21", "-1h ago"] {
            assert!(moment(wrong, now).unwrap_err().to_string().contains("hint: "), "{wrong}");
        }
    }
}
