//! What one run of a handler said, and what follows from it. No IO.

use std::time::Duration;

use handler_api::limits::{CHANGES_MAX, LATER_MAX, NOTES_MAX, STDOUT_BYTES_MAX};
use handler_api::{Answer, Change, Describe, Failure, Finding, Later, Line, exit};

use super::Verb;
use handler_api::units::{parse_duration, show_duration};

/// Lines that are not protocol before a handler is stopped.
const GARBAGE_LINES_MAX: usize = 1_000;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// With this exit code (for a long-lived handler, the code of its `end` line).
    Code(i32),
    /// By this signal, which we did not send.
    Signal(i32),
    /// It took longer than this.
    Timeout(Duration),
    /// The engine does not want it any more.
    Cancelled,
    /// A long-lived handler's process ended while this was under way.
    Died(String),
}

/// What it said on stdout so far.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    pub changes: Vec<Change>,
    pub describe: Option<Describe>,
    /// What it leaves to reactions of their own.
    pub later: Vec<Later>,
    /// What it found, at most [`NOTES_MAX`].
    pub findings: Vec<Finding>,
    notes: Vec<String>,
    /// Notes over [`NOTES_MAX`].
    notes_over: usize,
    error: Option<(String, Option<String>, Option<String>)>,
    /// The first line that could not be read.
    garbage: Option<String>,
    garbage_lines: usize,
    lines: usize,
    bytes: usize,
}

impl Hearing {
    /// Takes one line of an exec handler.
    pub fn take(&mut self, line: &[u8]) -> Result<Option<&Change>, Failure> {
        self.count(line.len())?;
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        match Answer::parse(line) {
            Ok(answer) => self.take_line(answer.line),
            Err(why) => {
                // It goes on: cutting an apply off in the middle helps nobody. It fails at its end.
                self.garbage.get_or_insert_with(|| format!("line {} of its stdout {why}", self.lines));
                self.garbage_lines += 1;
                if self.garbage_lines <= GARBAGE_LINES_MAX { Ok(None) } else { Err(self.garbage()) }
            }
        }
    }

    /// Counts what came in. An error = it must be stopped.
    pub fn count(&mut self, bytes: usize) -> Result<(), Failure> {
        self.lines += 1;
        self.bytes += bytes + 1;
        if self.bytes > STDOUT_BYTES_MAX {
            return Err(Failure::permanent(format!("it printed more than {STDOUT_BYTES_MAX} bytes on stdout"))
                .hinting("a log belongs on stderr"));
        }
        Ok(())
    }

    /// Takes what one line says; a change is handed back for whoever wants to know it at once.
    pub fn take_line(&mut self, line: Line) -> Result<Option<&Change>, Failure> {
        match line {
            Line::Change(_) if self.changes.len() >= CHANGES_MAX => {
                Err(Failure::permanent(format!("it named more than {CHANGES_MAX} changes"))
                    .hinting("split the rule's key, so that each reaction looks at less"))
            }
            Line::Change(mut change) => {
                change.hold = change.hold.as_deref().map(why_held);
                self.changes.push(change);
                Ok(self.changes.last())
            }
            Line::Describe(describe) => {
                self.describe = Some(describe);
                Ok(None)
            }
            Line::Error { message, hint, retry_after } => {
                self.error = Some((message, hint, retry_after));
                Ok(None)
            }
            Line::Later(_) if self.later.len() >= LATER_MAX => {
                Err(Failure::permanent(format!("it left more than {LATER_MAX} things for later"))
                    .hinting("split the rule's key, so that each reaction looks at less"))
            }
            Line::Later(later) => {
                self.later.push(Later { why: clean(&later.why), ..later });
                Ok(None)
            }
            Line::Note(note) => {
                self.note(&note);
                Ok(None)
            }
            Line::Finding(finding) => {
                if self.findings.len() < NOTES_MAX {
                    self.findings.push(finding);
                }
                Ok(None)
            }
            Line::End { .. } | Line::Unknown => Ok(None),
        }
    }

    fn note(&mut self, note: &str) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(clean(note));
        } else {
            self.notes_over += 1;
        }
    }

    /// Its notes; the last one tells how many more there were, if there were.
    pub fn take_notes(&mut self) -> Vec<String> {
        let mut notes = std::mem::take(&mut self.notes);
        if let over @ 1.. = std::mem::take(&mut self.notes_over) {
            notes.push(format!("{over} more notes are left out"));
        }
        notes
    }

    /// What follows from the way it ended; `log` is the end of its stderr.
    pub fn verdict(&self, verb: Verb, exit: &Exit, log: &str) -> Result<(), Failure> {
        if matches!(exit, Exit::Code(_)) && self.garbage.is_some() {
            return Err(self.garbage());
        }
        if verb != Verb::Apply && !self.later.is_empty() {
            let why = format!("it left something for `later` in its {}", verb.word());
            return Err(Failure::permanent(why).hinting("only an apply can leave something for later"));
        }
        match (exit, &self.error) {
            (Exit::Code(exit::OK), None) => Ok(()),
            (Exit::Code(code), error) => Err(self.failed(verb, *code, error.is_some(), log)),
            (Exit::Signal(signal), _) => {
                Err(self.temporary(format!("it was ended by signal {signal}{}", after_colon(log)), None))
            }
            (Exit::Timeout(limit), _) => Err(self.temporary(
                format!("it took longer than {}{}", show_duration(*limit), after_colon(log)),
                Some(match verb {
                    Verb::Describe => "`describe` only prints what the handler is; it waits for nothing".into(),
                    _ => "a longer `timeout:` in the rule, if that is how long it takes".into(),
                }),
            )),
            (Exit::Cancelled, _) => Err(self.temporary("it was cancelled".into(), None)),
            (Exit::Died(why), _) => Err(self.temporary(format!("its process ended: {why}"), None)),
        }
    }

    fn garbage(&self) -> Failure {
        Failure::permanent(self.garbage.clone().unwrap_or_default())
            .hinting("stdout is for protocol lines only; a log belongs on stderr")
    }

    fn failed(&self, verb: Verb, code: i32, has_error: bool, log: &str) -> Failure {
        let said = match (&self.error, log) {
            (Some((message, ..)), _) => clean(message),
            (None, "") => "it said nothing about it".into(),
            (None, log) => log.to_owned(),
        };
        let message = match code {
            exit::OK if has_error => format!("{said} (it reported this error, but exited with 0)"),
            _ => format!("{said} (exit code {code})"),
        };
        let hint = self.error.as_ref().and_then(|(_, hint, _)| hint.as_deref().map(clean));
        if code == exit::PERMANENT {
            return Failure::Permanent { message, hint };
        }
        let how = match verb {
            Verb::Describe => Some("it must answer `describe` without stdin and without secrets".into()),
            _ => None,
        };
        self.temporary(message, hint.or(how))
    }

    fn temporary(&self, message: String, hint: Option<String>) -> Failure {
        let after = self.error.as_ref().and_then(|(.., after)| parse_duration(after.as_deref()?).ok());
        Failure::Retry { message, hint, after }
    }
}

fn after_colon(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!(": {log}") }
}

/// A change that is to be held is held, also if the handler says `"hold": ""`.
fn why_held(hold: &str) -> String {
    let why = clean(hold);
    if why.is_empty() { "the handler does not say why".into() } else { why }
}

/// Text of a handler for people: one line, without what would move a terminal's cursor.
pub(super) fn clean(text: &str) -> String {
    text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use handler_api::limits::HOLD_BYTES_MAX;
    use serde_json::json;

    fn verdict(lines: &[&str], exit: Exit) -> Result<(), Failure> {
        let mut hearing = Hearing::default();
        for line in lines {
            hearing.take(line.as_bytes())?;
        }
        hearing.verdict(Verb::Apply, &exit, "last words")
    }

    #[test]
    fn the_exit_code_decides_and_the_error_line_explains() {
        let error = r#"{"error":{"message":"VPN\u001b[2J down","hint":"wg up","retry_after":"1m"}}"#;
        assert_eq!(verdict(&[], Exit::Code(0)), Ok(()));
        assert_eq!(
            verdict(&[error], Exit::Code(75)),
            Err(Failure::Retry {
                message: "VPN [2J down (exit code 75)".into(),
                hint: Some("wg up".into()),
                after: Some(Duration::from_secs(60))
            })
        );
        assert!(matches!(verdict(&[error], Exit::Code(65)), Err(Failure::Permanent { .. })));
        assert!(matches!(verdict(&[error], Exit::Code(0)), Err(Failure::Retry { .. })), "an error is never success");
        for exit in [Exit::Code(1), Exit::Code(22), Exit::Signal(9), Exit::Timeout(Duration::from_secs(1))] {
            let failure = verdict(&[], exit.clone()).unwrap_err();
            assert!(matches!(failure, Failure::Retry { .. }), "{exit:?}");
            assert!(failure.message().contains("last words"), "{failure}");
        }
    }

    #[test]
    fn a_line_that_is_not_protocol_fails_the_run_at_its_end() {
        let failure = verdict(&["", "  ", r#"{"x":1}"#, "debug: here"], Exit::Code(0)).unwrap_err();
        assert_eq!(failure.message(), "line 4 of its stdout is not a JSON object: \"debug: here\"");
        assert!(matches!(failure, Failure::Permanent { .. }));
        assert!(matches!(verdict(&["{\"cha"], Exit::Signal(9)), Err(Failure::Retry { .. })), "cut off, not wrong");
    }

    #[test]
    fn notes_are_kept_up_to_their_limit_and_the_rest_is_counted() {
        let mut hearing = Hearing::default();
        for n in 0..NOTES_MAX + 3 {
            hearing.take(format!(r#"{{"note":"note\u001b {n}"}}"#).as_bytes()).unwrap();
        }
        let notes = hearing.take_notes();
        assert_eq!((notes.len(), notes[1].as_str()), (NOTES_MAX + 1, "note  1"));
        assert_eq!(notes.last().map(String::as_str), Some("3 more notes are left out"));
        assert_eq!(hearing.verdict(Verb::Plan, &Exit::Code(0), ""), Ok(()));
    }

    #[test]
    fn a_change_can_not_lose_its_hold_by_saying_it_badly() {
        let mut hearing = Hearing::default();
        let long = "é".repeat(HOLD_BYTES_MAX);
        for hold in ["", "  \n", "two\nlines", &long] {
            let line = json!({"change": {"action": "run", "target": "x", "hold": hold}}).to_string();
            hearing.take(line.as_bytes()).unwrap();
        }
        let held: Vec<&str> = hearing.changes.iter().filter_map(|change| change.hold.as_deref()).collect();
        assert_eq!(held[..3], ["the handler does not say why", "the handler does not say why", "two lines"]);
        assert!(held[3].len() <= HOLD_BYTES_MAX && held[3].ends_with('…'), "{}", held[3].len());
        for wrong in ["true", "1", "[\"why\"]"] {
            let line = format!(r#"{{"change":{{"action":"run","target":"x","hold":{wrong}}}}}"#);
            assert!(matches!(verdict(&[&line], Exit::Code(0)), Err(Failure::Permanent { .. })), "{wrong}");
        }
    }

    #[test]
    fn only_an_apply_leaves_something_for_later_and_not_without_end() {
        let later = r#"{"later":{"key":"k","why":"down"}}"#;
        assert_eq!(verdict(&[later], Exit::Code(0)), Ok(()));
        let mut hearing = Hearing::default();
        hearing.take(later.as_bytes()).unwrap();
        let failure = hearing.verdict(Verb::Plan, &Exit::Code(0), "").unwrap_err();
        assert!(
            matches!(&failure, Failure::Permanent { message, .. } if message.contains("in its plan")),
            "{failure:?}"
        );
        assert!(verdict(&vec![later; LATER_MAX + 1], Exit::Code(0)).unwrap_err().message().contains("more than 1000"));
    }

    #[test]
    fn too_many_changes_and_too_much_output_name_their_limit() {
        let change = r#"{"change":{"action":"run","target":"x"}}"#;
        let many = vec![change; CHANGES_MAX + 1];
        assert!(verdict(&many, Exit::Code(0)).unwrap_err().message().contains("10000 changes"));
        let blank = " ".repeat(60_000);
        let much = vec![blank.as_str(); STDOUT_BYTES_MAX / 60_000 + 1];
        assert!(verdict(&much, Exit::Code(0)).unwrap_err().message().contains("16777216 bytes"));
    }
}
