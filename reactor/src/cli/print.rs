//! How plans, reactions and times look to a person. Readable without colour; nothing from a message reaches the terminal
//! as a control character.

use std::io::IsTerminal;
use std::process::ExitCode;

use handler_api::{Action, Change};
use jiff::Timestamp;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use crate::guard;
use crate::rules::diagnostics::Diagnostics;

/// Longest value shown on one line, in characters; longer ones are cut with `…`.
const VALUE_CHARS_MAX: usize = 200;
/// Longest hint of a change, in characters: half a command is worse than none.
const HINT_CHARS_MAX: usize = 500;
/// Most lines shown of one change's text diff.
const DIFF_LINES_MAX: usize = 60;

/// Whether stdout takes colours: a terminal, and `NO_COLOR` (<https://no-color.org>) is not set.
#[must_use]
pub fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Tells on stderr what could not be done at all, hints last; the exit code to end with. A reader of stdout that went away
/// (`reactor schema | head`) is no failure.
#[must_use]
pub fn failure(error: &anyhow::Error) -> ExitCode {
    if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    match error.downcast_ref::<Diagnostics>() {
        // They say `error:` themselves.
        Some(found) => eprint!("{found}"),
        None => eprintln!("{}", sentence(error)),
    }
    ExitCode::from(super::NO)
}

/// `error: what: why`, and below it the hints that stood anywhere in the chain.
fn sentence(error: &anyhow::Error) -> String {
    let (mut said, mut hints) = (Vec::new(), String::new());
    for cause in error.chain() {
        let cause = cause.to_string();
        let (what, hint) = cause.split_once("\nhint: ").map_or((&*cause, None), |(what, hint)| (what, Some(hint)));
        said.push(what.to_owned());
        hint.into_iter().for_each(|hint| hints.push_str(&format!("\nhint: {hint}")));
    }
    format!("error: {}{hints}", said.join(": "))
}

/// `text` with every control character made visible, and what turns the direction of writing (Unicode's bidirectional
/// marks): one in a name could make a line read as another.
#[must_use]
pub fn clean(text: &str) -> String {
    let turns =
        |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().flat_map(|c| if c.is_control() || turns(c) { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Cut to `most` characters.
#[must_use]
pub fn cut(text: &str, most: usize) -> String {
    let mut shown: String = text.chars().take(most).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// A JSON value on one line; a string without its quotes.
#[must_use]
pub fn value(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    cut(&clean(&text), VALUE_CHARS_MAX)
}

/// One change: `+ target (how many): after`, `~ target: before → after`, `- target: before`, `! target`; texts of several lines as a
/// line diff below it. Then why it waits for a person, and the field `hint` of the change, if it is a text: a handler says so what to type next.
#[must_use]
pub fn change(change: &Change, colour: bool) -> String {
    let (mark, code) = match change.action {
        Action::Create => ("+", "32"),
        Action::Update => ("~", "33"),
        Action::Delete => ("-", "31"),
        Action::Run => ("!", "36"),
    };
    let mut text = format!("{mark} {}", clean(&change.target));
    if let Some(count) = change.count {
        text.push_str(&format!(" ({count})"));
    }
    let lines = [&change.before, &change.after]
        .iter()
        .any(|v| v.as_ref().and_then(Value::as_str).is_some_and(|t| t.contains('\n')));
    if lines {
        text.push_str(&line_diff(change));
    } else {
        match (&change.before, &change.after) {
            (Some(before), Some(after)) => text.push_str(&format!(": {} → {}", value(before), value(after))),
            (None, Some(one)) | (Some(one), None) => text.push_str(&format!(": {}", value(one))),
            (None, None) => {}
        }
    }
    if let Some(why) = &change.hold {
        text.push_str(&format!("\n    hold: {}", clean(why)));
    }
    if let Some(hint) = change.more.get("hint").and_then(Value::as_str) {
        text.push_str(&format!("\n    hint: {}", cut(&clean(hint), HINT_CHARS_MAX)));
    }
    if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text }
}

fn line_diff(change: &Change) -> String {
    let text = |value: &Option<Value>| {
        value.as_ref().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).unwrap_or_default()
    };
    let (before, after) = (text(&change.before), text(&change.after));
    let diff = TextDiff::from_lines(before.as_str(), after.as_str());
    let changed: Vec<_> = diff.iter_all_changes().filter(|line| line.tag() != ChangeTag::Equal).collect();
    let mut shown: String = changed
        .iter()
        .take(DIFF_LINES_MAX)
        .map(|line| {
            let sign = if line.tag() == ChangeTag::Insert { '+' } else { '-' };
            format!("\n    {sign} {}", cut(&clean(line.value().trim_end_matches('\n')), VALUE_CHARS_MAX))
        })
        .collect();
    if changed.len() > DIFF_LINES_MAX {
        shown.push_str(&format!("\n    … {} more lines", changed.len() - DIFF_LINES_MAX));
    }
    shown
}

/// `3 changes: 1 to create, 2 to delete`.
#[must_use]
pub fn summary(plan: &[Change]) -> String {
    let n = |action| plan.iter().filter(|change| change.action == action).count();
    let parts =
        [(Action::Create, "create"), (Action::Update, "update"), (Action::Delete, "delete"), (Action::Run, "run")];
    let parts: Vec<String> =
        parts.iter().filter(|(a, _)| n(*a) > 0).map(|(a, word)| format!("{} to {word}", n(*a))).collect();
    let total = guard::size(plan).changes;
    format!("{total} change{}: {}", if total == 1 { "" } else { "s" }, parts.join(", "))
}

/// How long ago, roughly: `12s`, `5m`, `3h`, `2d`.
#[must_use]
pub fn ago(now: Timestamp, at: Timestamp) -> String {
    let seconds = now.duration_since(at).as_secs().max(0);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A time to the second, in UTC: `2026-11-21 04:40:35Z`.
#[must_use]
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(value: Value) -> Change {
        serde_json::from_value(value).expect("a change")
    }

    #[test]
    fn a_plan_reads_as_a_diff_without_colour() {
        let plan = [
            of(json!({"action": "create", "target": "alias ada", "after": "ada@example.org"})),
            of(json!({"action": "update", "target": "alias ralph", "before": "old@x", "after": "new@x"})),
            of(json!({"action": "delete", "target": "alias bob", "before": "bob@x"})),
            of(json!({"action": "run", "target": "newaliases"})),
        ];
        let shown: Vec<String> = plan.iter().map(|c| change(c, false)).collect();
        assert_eq!(
            shown,
            ["+ alias ada: ada@example.org", "~ alias ralph: old@x → new@x", "- alias bob: bob@x", "! newaliases"]
        );
        assert_eq!(summary(&plan), "4 changes: 1 to create, 1 to update, 1 to delete, 1 to run");
    }

    #[test]
    fn texts_of_several_lines_are_shown_by_what_differs() {
        let shown =
            change(&of(json!({"action": "update", "target": "f", "before": "a\nb\n", "after": "a\nc\n"})), false);
        assert_eq!(shown, "~ f\n    - b\n    + c");
    }

    #[test]
    fn a_change_says_what_to_type_next() {
        let shown =
            change(&of(json!({"action": "run", "target": "web01", "after": "is down", "hint": "ping\nweb01"})), false);
        assert_eq!(shown.lines().count(), 2, "{shown}");
        assert!(shown.starts_with("! web01: is down\n    hint: ping"), "{shown}");
    }

    #[test]
    fn a_change_says_why_a_person_must_look_at_it() {
        let json = json!({"action": "update", "target": "rpms/foo", "before": "ada", "after": "@all", "hold": "everyone may write"});
        assert_eq!(change(&of(json), false), "~ rpms/foo: ada → @all\n    hold: everyone may write");
    }

    #[test]
    fn a_hint_stands_below_all_of_the_error() {
        let error = anyhow::anyhow!("it is empty").context("a.json can't be read\nhint: ls -l a.json");
        assert_eq!(sentence(&error), "error: a.json can't be read: it is empty\nhint: ls -l a.json");
    }

    #[test]
    fn nothing_from_a_message_can_steer_the_terminal() {
        let shown =
            change(&of(json!({"action": "create", "target": "x\u{1b}[2J", "after": "\r\u{7}\u{202e}evil"})), false);
        assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202e}'), "{shown:?}");
    }
}
