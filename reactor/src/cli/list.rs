//! `reactor list` and `reactor show`: read from the journal, whether a daemon runs or not.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use super::print::{ago, change, clean, colour, cut, summary, time, value};
use super::{Common, Format, NO, now, out};
use crate::journal::nodes::{NodeRow, slot_of};
use crate::journal::place::open_read_only;
use crate::journal::{Answer, Filter, Journal, JournalError, Question, ReactionRow, RefusedRow, State, Story};

/// What a line of `list` shows of the parameters that an apply left for later, in characters.
const PART_CHARS_SHOWN: usize = 60;

/// Arguments of `list`.
#[derive(Debug, Args)]
#[command(after_help = "Example: reactor list failed
         reactor list --rule 'ssh key changed' --format json
         reactor list --refused")]
pub struct ListArgs {
    /// Only these: waiting, applying, held, done, planned, failed, dropped [default: all]
    #[arg(value_parser = state, value_name = "STATE")]
    pub states: Vec<State>,
    /// Only of this rule
    #[arg(long)]
    pub rule: Option<String>,
    /// At most this many, the newest first; 0: all
    #[arg(short = 'n', long, default_value_t = 50)]
    pub at_most: usize,
    /// The refused messages instead of reactions
    #[arg(long)]
    pub refused: bool,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
#[command(after_help = "Example: reactor show 01J9ZK3")]
pub struct ShowArgs {
    /// The reaction's id, or a unique beginning of it
    #[arg(value_name = "ID")]
    pub id: String,
}

fn state(word: &str) -> Result<State, String> {
    let words = State::ALL.map(State::word).join(", ");
    State::ALL.into_iter().find(|state| state.word() == word).ok_or_else(|| format!("the states are {words}"))
}

/// Prints the reactions, one a line.
///
/// # Errors
/// When there is no journal, or it can't be read.
pub fn list(args: ListArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let journal = open_read_only(&common.state_dir())?;
    if args.refused {
        return refused(&*journal, args.at_most, common);
    }
    let filter = Filter { states: args.states, rule: args.rule, id_prefix: None, at_most: args.at_most };
    let Answer::Reactions(rows) = journal.ask(&Question::List(filter))? else { return Ok(ExitCode::SUCCESS) };
    let (now, nodes) = (now(), nodes(&*journal)?);
    for row in &rows {
        let node = node_of(row, &nodes);
        out(&if common.format == Format::Json { with_node(row, node)? } else { line(row, node, now) });
    }
    if rows.is_empty() && common.format == Format::Human && !common.quiet {
        eprintln!("no reactions");
    }
    Ok(ExitCode::SUCCESS)
}

/// Who shares this journal; nobody where it is one daemon's alone.
fn nodes(journal: &dyn Journal) -> Result<Vec<NodeRow>, JournalError> {
    match journal.ask(&Question::Nodes)? {
        Answer::Nodes(nodes) => Ok(nodes),
        _ => Ok(Vec::new()),
    }
}

/// The node that has the lane of what is not over.
fn node_of<'a>(row: &ReactionRow, nodes: &'a [NodeRow]) -> Option<&'a str> {
    if row.state.is_final() || nodes.is_empty() {
        return None;
    }
    let slot = slot_of(&row.key);
    Some(nodes.iter().find(|node| node.slots.contains(&slot)).map_or("no node", |node| &node.name))
}

/// As JSON, with the word `node` where there is one to name.
fn with_node<T: serde::Serialize>(what: &T, node: Option<&str>) -> serde_json::Result<String> {
    let mut json = serde_json::to_value(what)?;
    if let Some(node) = node {
        json["node"] = node.into();
    }
    serde_json::to_string(&json)
}

fn line(row: &ReactionRow, node: Option<&str>, now: Timestamp) -> String {
    let node = node.map(|node| format!("  on {}", clean(node))).unwrap_or_default();
    let reason = row.reason.as_deref().map(|reason| format!("  {}", cut(&clean(reason), 100))).unwrap_or_default();
    let part = match (&row.parent, &row.part) {
        (Some(parent), Some(part)) => format!("  left over from {parent}: {}", cut(&value(part), PART_CHARS_SHOWN)),
        _ => String::new(),
    };
    format!(
        "{}  {:<8}  {:>4} ago  {}  [{}]{node}{part}{reason}",
        row.id,
        row.state.word(),
        ago(now, row.updated),
        clean(&row.rule),
        clean(&row.key)
    )
}

fn refused(journal: &dyn Journal, at_most: usize, common: &Common) -> anyhow::Result<ExitCode> {
    let Answer::Refused(rows) = journal.ask(&Question::Refused(at_most))? else { return Ok(ExitCode::SUCCESS) };
    for RefusedRow { at, bus, topic, reason, times, .. } in &rows {
        let row = rows.iter().find(|row| row.at == *at && row.reason == *reason);
        out(&match (common.format, row) {
            (Format::Json, Some(row)) => serde_json::to_string(row)?,
            _ => format!("{}  {}× {bus}  {}: {}", time(*at), times, clean(topic), clean(reason)),
        });
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints everything about one reaction.
///
/// # Errors
/// When there is no journal, or it can't be read.
pub fn show(args: &ShowArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let journal = open_read_only(&common.state_dir())?;
    let filter = Filter { id_prefix: Some(args.id.clone()), at_most: 2, ..Filter::default() };
    let Answer::Stories(stories) = journal.ask(&Question::Stories(filter))? else { return Ok(ExitCode::SUCCESS) };
    match stories.as_slice() {
        [story] => {
            let nodes = nodes(&*journal)?;
            let node = node_of(&story.reaction, &nodes);
            out(&if common.format == Format::Json { with_node(story, node)? } else { tell(story, node) });
        }
        [] => {
            eprintln!("error: no reaction begins with {}\nhint: `reactor list` shows them", clean(&args.id));
            return Ok(ExitCode::from(NO));
        }
        _ => {
            eprintln!(
                "error: several reactions begin with {}\nhint: type more of the id; `reactor list` shows them whole",
                clean(&args.id)
            );
            return Ok(ExitCode::from(NO));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(story: &Story, node: Option<&str>) -> String {
    let row = &story.reaction;
    let colour = colour();
    let mut text = format!("reaction {}  {}\n", row.id, row.state.word());
    let mut say = |name: &str, what: &str| text.push_str(&format!("  {name:<10}{what}\n"));
    say("rule", &clean(&row.rule));
    say("lane", &format!("{} [{}]", row.handler, clean(&row.key)));
    if let Some(node) = node {
        say("node", &clean(node));
    }
    say("made", &time(row.created));
    say("tries", &row.attempts.to_string());
    if let Some(parent) = &row.parent {
        say("left over", &format!("from reaction {}", clean(parent)));
    }
    if let Some(part) = &row.part {
        say("part", &value(part));
    }
    if let Some(with) = row.with.as_ref().filter(|with| row.part.as_ref() != Some(with)) {
        say("with", &value(with));
    }
    for (name, what) in [("reason", &row.reason), ("hint", &row.hint), ("decided by", &row.decided_by)] {
        if let Some(what) = what {
            say(name, &clean(what));
        }
    }
    text.push_str("\nmessages\n");
    for message in &story.messages {
        text.push_str(&format!(
            "  {}  {}  {}\n      signed by {}, from {}: {}\n",
            time(message.sent),
            message.topic,
            clean(&message.id),
            clean(&message.signer),
            clean(&message.bus),
            value(&message.body)
        ));
    }
    for (title, changes) in [("plan", &row.plan), ("done", &row.done)] {
        if !changes.is_empty() {
            text.push_str(&format!("\n{title}: {}\n", summary(changes)));
            for one in changes {
                text.push_str(&format!("  {}\n", change(one, colour)));
            }
        }
    }
    text.push_str("\nstory\n");
    for line in &story.lines {
        let times = if line.times > 1 {
            format!("  ({}×, the last {})", line.times, time(line.last_at))
        } else {
            String::new()
        };
        text.push_str(&format!("  {}  {:<9} {}{times}\n", time(line.at), line.what, clean(&line.detail)));
    }
    text.trim_end().to_owned()
}
