//! `reactor status`: what is running, waiting, held, failed; and what a kill would lose now.

use std::process::ExitCode;

use serde_json::Value;

use super::print::{ago, clean};
use super::{Common, Format, now, out};
use crate::engine::control::{Asked, ask};
use crate::journal::sqlite::SqliteJournal;
use crate::journal::{Answer, Journal, Question};

/// Asks the daemon; without one, says so and counts what the journal holds.
///
/// # Errors
/// When neither a daemon nor a journal is there.
pub fn run(common: &Common) -> anyhow::Result<ExitCode> {
    let state = common.state_dir();
    match super::runtime()?.block_on(ask(&state, &Asked::Status)) {
        Ok(answered) => {
            for wrong in &answered.wrong {
                eprintln!("error: {wrong}");
            }
            if let Some(status) = answered.status {
                out(&if common.format == Format::Json { status.to_string() } else { tell(&status) });
            }
            Ok(if answered.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(super::NO) })
        }
        Err(no_daemon) => {
            let journal = SqliteJournal::open_read_only(&state).map_err(|_| no_daemon)?;
            let Answer::Counts(counts) = journal.ask(&Question::Counts)? else { return Ok(ExitCode::SUCCESS) };
            if common.format == Format::Json {
                out(&serde_json::json!({"running": null, "journal": counts}).to_string());
            } else {
                out(&format!("no daemon runs here; the journal in {} holds", state.display()));
                counts.by_state.iter().for_each(|(state, n)| out(&format!("  {:<9} {n}", state.word())));
                out(&format!("  {:<9} {}", "messages", counts.messages));
            }
            Ok(ExitCode::from(super::NO))
        }
    }
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
        "  {} running, {} waiting, {} held, {} failed\n",
        n("running"),
        n("waiting"),
        status["held"].as_array().map_or(0, Vec::len),
        n("failed")
    ));
    text.push_str(&format!(
        "  {} messages received and not yet in the journal: a kill now would lose them\n",
        n("lost_if_killed_now")
    ));
    status["buses"].as_array().into_iter().flatten().for_each(|bus| text.push_str(&tell_bus(bus)));
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
    let journal = &status["journal"];
    text.push_str(&format!(
        "  journal: {} messages, {} KiB\n  {}",
        journal["messages"].as_u64().unwrap_or(0),
        journal["bytes"].as_u64().unwrap_or(0) / 1024,
        match status["plan_sandbox"].as_str() {
            Some("none") =>
                "plans: this kernel has no Landlock, so nothing but the handler itself keeps a plan from writing",
            _ => "plans: held to reading by Landlock",
        }
    ));
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
    for problem in bus["problems"].as_array().into_iter().flatten() {
        text.push_str(&format!("    problem: {}\n", problem.as_str().unwrap_or("")));
    }
    text
}
