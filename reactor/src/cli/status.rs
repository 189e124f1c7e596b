//! `reactor status`: what is running, waiting, held, failed; and what a kill would lose now.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::confirms;
use super::print::{ago, clean};
use super::{Common, Format, NO, now, out};
use crate::engine::control::{Asked, ask};
use crate::journal::nodes::{LANE_SLOTS, NodeRow};
use crate::journal::place::open_read_only;
use crate::journal::{Answer, Counts, Question};

/// Gaps of a bus that are shown, the newest first.
const GAPS_SHOWN_MAX: usize = 3;

/// Asks the daemon for what only it knows, and counts what the journal holds; without a daemon, says so.
///
/// # Errors
/// When neither a daemon nor a journal is there.
pub fn run(common: &Common) -> anyhow::Result<ExitCode> {
    let state = common.state_dir();
    let asked = super::runtime()?.block_on(ask(&state, &Asked::Status));
    let read = open_read_only(&state).and_then(|journal| {
        let nodes = match journal.ask(&Question::Nodes)? {
            Answer::Nodes(nodes) => nodes,
            _ => Vec::new(),
        };
        Ok((journal.ask(&Question::Counts)?, nodes))
    });
    let (counted, nodes) = match read {
        Ok((counted, nodes)) => (Ok(counted), nodes),
        Err(unread) => (Err(unread), Vec::new()),
    };
    // One that can't write its journal may have no more to say than that.
    let runs = asked.is_ok();
    let (status, mut wrong) = match (asked, &counted) {
        (Ok(answered), _) => (answered.status, answered.wrong),
        (Err(_), Ok(_)) => (None, Vec::new()),
        (Err(no_daemon), Err(_)) => return Err(no_daemon),
    };
    let counts = match counted {
        Ok(Answer::Counts(counts)) => Some(counts),
        Ok(_) => None,
        // What the daemon says of itself counts without the journal, and more than before.
        Err(unread) => {
            wrong.push(unread.to_string());
            None
        }
    };
    wrong.iter().for_each(|wrong| eprintln!("error: {wrong}"));
    if common.format == Format::Json {
        let mut whole = status.unwrap_or_else(|| json!({"running": null}));
        whole["journal"] = json!(counts);
        if !nodes.is_empty() {
            whole["nodes"] = json!(nodes);
        }
        out(&whole.to_string());
    } else {
        status.iter().for_each(|status| out(&tell(status)));
        let this = status.as_ref().and_then(|status| status["node"].as_str());
        nodes.iter().for_each(|node| out(&tell_node(node, this)));
        counts.iter().for_each(|counts| out(&tell_journal(counts, runs, &state)));
    }
    Ok(if runs && wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

fn tell_journal(counts: &Counts, runs: bool, state: &Path) -> String {
    let by_state: Vec<String> = counts.by_state.iter().map(|(state, n)| format!("{n} {}", state.word())).collect();
    let head =
        if runs { "  journal".to_owned() } else { format!("no daemon runs here; the journal in {}", state.display()) };
    format!("{head}: {} messages, {} KiB; reactions: {}", counts.messages, counts.bytes / 1024, by_state.join(", "))
}

fn tell_node(node: &NodeRow, this: Option<&str>) -> String {
    let this = if this == Some(&*node.name) { " (this one)" } else { "" };
    let began = ago(now(), node.since);
    if !node.is_alive && node.slots.is_empty() {
        return format!("  node {}{this}: not there; it was {}, begun {began} ago", node.name, node.shown);
    }
    let lives = if node.is_alive { "alive" } else { "its lease has run out" };
    format!(
        "  node {}{this}: {lives}; serves {} of {LANE_SLOTS} slots, {} reactions pending, {} in its inbox; {}, reactor {}, begun {began} ago",
        node.name,
        node.slots.len(),
        node.pending,
        node.inbox,
        node.shown,
        node.version
    )
}

fn tell(status: &Value) -> String {
    let n = |name: &str| status[name].as_u64().unwrap_or(0);
    let since = status["started"].as_str().and_then(|at| at.parse().ok()).map(|at| ago(now(), at)).unwrap_or_default();
    let mut text = format!(
        "reactor {} runs for {since} (pid {}), {} rules\n",
        status["version"].as_str().unwrap_or(""),
        n("pid"),
        n("rules")
    );
    text.push_str(&format!(
        "  {} running, {} waiting, {} held\n",
        n("running"),
        n("waiting"),
        status["held"].as_array().map_or(0, Vec::len),
    ));
    text.push_str(&format!(
        "  {} messages received and not yet in the journal: a kill now would lose them\n",
        n("lost_if_killed_now")
    ));
    if status["intake_waits"] == true {
        text.push_str(
            "  so much is pending that nothing more is taken from the buses: look at what is held, paused or waits\n",
        );
    }
    status["buses"].as_array().into_iter().flatten().for_each(|bus| text.push_str(&tell_bus(bus)));
    text.push_str(&confirms::tell(&status["confirms"]));
    if n("refused") > 0 {
        text.push_str(&format!("  {} messages refused since the start: reactor list --refused\n", n("refused")));
    }
    for paused in status["paused"].as_array().into_iter().flatten() {
        let rule = paused[0].as_str().unwrap_or("");
        text.push_str(&format!("  paused: `{rule}`; to go on: reactor resume '{rule}'\n"));
    }
    for held in status["held"].as_array().into_iter().flatten() {
        let of = |name: &str| clean(held[name].as_str().unwrap_or(""));
        text.push_str(&format!(
            "  held: {} {} [{}]: {}; {} wait behind it; reactor show {}\n",
            of("id"),
            of("rule"),
            of("key"),
            of("reason"),
            held["behind"].as_u64().unwrap_or(0),
            of("id")
        ));
    }
    text.push_str(match status["plan_sandbox"].as_str() {
        Some("none") => {
            "  plans: this kernel has no Landlock, so nothing but the handler itself keeps a plan from writing"
        }
        _ => "  plans: held to reading by Landlock",
    });
    text
}

fn tell_bus(bus: &Value) -> String {
    let mut text = String::new();
    let n = |name: &str| bus[name].as_u64().unwrap_or(0);
    text.push_str(&format!(
        "  bus {}: {} received, {} unwanted, {} queued; connected {}×, lost {}×",
        bus["name"].as_str().unwrap_or(""),
        n("received"),
        n("unwanted"),
        n("queued"),
        n("connects"),
        n("disconnects")
    ));
    if n("silences") > 0 {
        text.push_str(&format!(", silent for too long {}×", n("silences")));
    }
    if n("malformed") > 0 {
        text.push_str(&format!(", {} malformed", n("malformed")));
    }
    if n("stalls") > 0 {
        text.push_str(&format!(
            ", its queue was full {}× for {} ms: publishers may have dropped messages then",
            n("stalls"),
            n("stalled_ms")
        ));
    }
    text.push('\n');
    for from in bus["addresses"].as_array().into_iter().flatten() {
        text.push_str(&format!("    addresses: {}\n", clean(from.as_str().unwrap_or(""))));
    }
    for problem in bus["problems"].as_array().into_iter().flatten() {
        text.push_str(&format!("    problem: {}\n", problem.as_str().unwrap_or("")));
    }
    tell_catch_up(&bus["catch_up"], &mut text);
    text
}

/// What is being asked for now, and what may be missing.
fn tell_catch_up(catch_up: &Value, text: &mut String) {
    let of = |part: &Value, name: &str| clean(part[name].as_str().unwrap_or(""));
    let running = &catch_up["running"];
    if running.is_object() {
        text.push_str(&format!(
            "    catching up from {} to {} ({}): {} messages so far\n",
            of(running, "from"),
            of(running, "to"),
            of(running, "why"),
            running["came"]
        ));
    }
    let open = catch_up["open"].as_array().map_or(&[][..], Vec::as_slice);
    for gap in open.iter().rev().take(GAPS_SHOWN_MAX) {
        text.push_str(&format!(
            "    gap: what was sent from {} to {} may be missing ({}): {}\n      to ask for it: {}\n",
            of(gap, "from"),
            of(gap, "to"),
            of(gap, "why"),
            of(gap, "lacking"),
            of(gap, "command")
        ));
    }
    if let Some(older) = open.len().checked_sub(GAPS_SHOWN_MAX + 1) {
        text.push_str(&format!("    and {} older gaps: reactor status --format json\n", older + 1));
    }
}
