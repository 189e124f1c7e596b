//! One line of a handler's stdout, and reading such lines without ever holding more than is allowed. Strict about size
//! and about what a known key holds; tolerant of unknown keys: that is how the protocol grows.

use std::io;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use crate::doctor::Finding;
use crate::limits::{HOLD_BYTES_MAX, LATER_KEY_BYTES_MAX, NOTE_BYTES_MAX};
use crate::protocol::{Change, Describe, Failure, Later};

/// What one line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// `{"describe":{…}}`: what the handler is.
    Describe(Describe),
    /// `{"change":{…}}`: what would be (plan), or is done (apply).
    Change(Change),
    /// `{"note":"…"}`: something a person should know that is no change and no failure.
    Note(String),
    /// `{"finding":{"good":…,"what":…,"hint":…}}`: in doctor, one thing that was looked at.
    Finding(Finding),
    /// `{"later":{…}}`: in apply, what is left to a reaction of its own.
    Later(Later),
    /// `{"error":{"message":…,"hint":…,"retry_after":…}}`: why it is going to fail. The exit code decides what follows.
    Error {
        /// What failed, on what, why.
        message: String,
        /// The next command to type, or where to look.
        hint: Option<String>,
        /// When to try again, as people write durations (`30s`, `5m`).
        retry_after: Option<String>,
    },
    /// `{"id":N,"end":CODE}`: a long-lived handler's answer ends here, with this exit code.
    End {
        /// The exit code.
        code: i32,
    },
    /// An object without a key that version 1 knows: ignored.
    Unknown,
}

/// A line, and the request it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The request's `id`; long-lived handlers only.
    pub id: Option<u64>,
    /// What it says.
    pub line: Line,
}

const KNOWN: [&str; 7] = ["describe", "change", "note", "finding", "later", "error", "end"];

impl Answer {
    /// Reads one line (without its newline).
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with "line N of its stdout".
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let Ok(Value::Object(mut object)) = serde_json::from_slice::<Value>(line) else {
            return Err(format!("is not a JSON object: {}", excerpt(line)));
        };
        let id = match object.get("id") {
            None | Some(Value::Null) => None,
            Some(id) => Some(id.as_u64().ok_or_else(|| format!("has an `id` that is not a number: {id}"))?),
        };
        let known: Vec<&str> = KNOWN.into_iter().filter(|key| object.contains_key(*key)).collect();
        let line = match known[..] {
            [] => Line::Unknown,
            [key] => Self::one(key, object.remove(key).unwrap_or_default())?,
            _ => return Err(format!("says {} at once; one line says one thing", known.join(" and "))),
        };
        Ok(Self { id, line })
    }

    fn one(key: &str, value: Value) -> Result<Line, String> {
        let wrong = |why: serde_json::Error| format!("has a `{key}` that version 1 can't read: {why}");
        match key {
            "describe" => serde_json::from_value(value).map(Line::Describe).map_err(wrong),
            "change" => serde_json::from_value(value).map(|change| Line::Change(bounded(change))).map_err(wrong),
            "note" => {
                serde_json::from_value(value).map(|note: String| Line::Note(cut(&note, NOTE_BYTES_MAX))).map_err(wrong)
            }
            "finding" => serde_json::from_value(value).map(Line::Finding).map_err(wrong),
            "later" => Self::later(serde_json::from_value(value).map_err(wrong)?),
            "end" => serde_json::from_value(value).map(|code| Line::End { code }).map_err(wrong),
            _ => Self::error(&value),
        }
    }

    fn error(value: &Value) -> Result<Line, String> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let message = text("message").or_else(|| value.as_str().map(str::to_owned));
        let message = message.ok_or("has an `error` without a `message`")?;
        Ok(Line::Error { message, hint: text("hint"), retry_after: text("retry_after") })
    }

    fn later(later: Later) -> Result<Line, String> {
        if later.key.is_empty() || later.key.len() > LATER_KEY_BYTES_MAX || later.key.contains(char::is_control) {
            return Err(format!(
                "has a `later` whose `key` is empty, has a control character, or more than {LATER_KEY_BYTES_MAX} bytes"
            ));
        }
        Ok(Line::Later(later))
    }

    /// The line as it is written, with its newline.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut object = Map::new();
        if let Some(id) = self.id {
            object.insert("id".into(), id.into());
        }
        match &self.line {
            Line::Describe(describe) => drop(object.insert("describe".into(), json!(describe))),
            Line::Change(change) => drop(object.insert("change".into(), json!(change))),
            Line::Note(note) => drop(object.insert("note".into(), json!(cut(note, NOTE_BYTES_MAX)))),
            Line::Finding(finding) => drop(object.insert("finding".into(), json!(finding))),
            Line::Later(later) => drop(object.insert("later".into(), json!(later))),
            Line::End { code } => drop(object.insert("end".into(), json!(code))),
            Line::Error { message, hint, retry_after } => {
                let error = json!({"message": message, "hint": hint, "retry_after": retry_after});
                object.insert("error".into(), error);
            }
            Line::Unknown => {}
        }
        let mut line = Value::Object(object).to_string().into_bytes();
        line.push(b'\n');
        line
    }
}

impl From<&Failure> for Line {
    fn from(failure: &Failure) -> Self {
        let after = match failure {
            Failure::Retry { after, .. } => *after,
            Failure::Permanent { .. } => None,
        };
        Self::Error {
            message: failure.message().to_owned(),
            hint: failure.hint().map(str::to_owned),
            retry_after: after.map(|after| format!("{}ms", after.as_millis())),
        }
    }
}

/// As much of a text as fits into so many bytes, in whole characters; `…` stands for the rest.
#[must_use]
pub fn cut(text: &str, bytes_max: usize) -> String {
    const DOTS: &str = "…";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    format!("{}{DOTS}", &text[..text.floor_char_boundary(bytes_max.saturating_sub(DOTS.len()))])
}

/// Its `hold` within [`HOLD_BYTES_MAX`].
fn bounded(mut change: Change) -> Change {
    change.hold = change.hold.map(|why| cut(&why, HOLD_BYTES_MAX));
    change
}

fn excerpt(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(80)]);
    format!("{text:?}{}", if line.len() > 80 { "…" } else { "" })
}

/// Why there is no next line.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The line is longer than allowed; nothing more can be read.
    #[error("a line is longer than {0} bytes")]
    TooLong(usize),
    /// The pipe broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the next line into `line` (cleared first; without its newline). `false` at the end. A last line without a newline
/// counts. Never holds more than `bytes_max` and one buffer. What is in `line` is lost when the future is dropped.
///
/// # Errors
/// A line longer than `bytes_max`, or a broken pipe.
pub async fn next_line<R>(reader: &mut R, line: &mut Vec<u8>, bytes_max: usize) -> Result<bool, ReadError>
where
    R: AsyncBufRead + Unpin + Send,
{
    line.clear();
    loop {
        let buffer = reader.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(!line.is_empty());
        }
        let newline = buffer.iter().position(|byte| *byte == b'\n');
        let take = newline.unwrap_or(buffer.len());
        if line.len() + take > bytes_max {
            return Err(ReadError::TooLong(bytes_max));
        }
        line.extend_from_slice(&buffer[..take]);
        reader.consume(take + usize::from(newline.is_some()));
        if newline.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Answer, String> {
        Answer::parse(line.as_bytes())
    }

    #[test]
    fn a_line_says_one_thing_and_unknown_keys_are_ignored() {
        let change = parse(r#"{"change":{"action":"update","target":"alias ralph","row":7},"hue":1}"#).unwrap();
        assert!(matches!(&change.line, Line::Change(c) if c.target == "alias ralph" && c.more["row"] == 7));
        assert_eq!(parse(r#"{"progress":50}"#).unwrap().line, Line::Unknown);
        assert_eq!(parse(r#"{"id":7,"end":75}"#).unwrap(), Answer { id: Some(7), line: Line::End { code: 75 } });
        assert!(matches!(parse(r#"{"error":{"message":"m","retry_after":"1m"}}"#).unwrap().line,
            Line::Error { retry_after: Some(after), .. } if after == "1m"));
    }

    #[test]
    fn a_line_that_can_not_be_read_is_an_error_and_not_silence() {
        for bad in [
            "hello",
            "[1]",
            "",
            r#"{"change":{"action":"explode","target":"x"}}"#,
            r#"{"change":{"action":"create"}}"#,
            r#"{"change":{"action":"create","target":"x"},"end":0}"#,
            r#"{"error":{}}"#,
            r#"{"note":1}"#,
            r#"{"note":"n","change":{"action":"create","target":"x"}}"#,
            r#"{"later":{"key":"k","with":{}}}"#,
            r#"{"later":{"key":"","why":"w"}}"#,
            r#"{"later":{"key":"a\u001bb","why":"w"}}"#,
            r#"{"later":{"key":"k","why":"w","with":[]}}"#,
            r#"{"id":"x","end":0}"#,
            r#"{"end":"0"}"#,
            &"[".repeat(60_000),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let failure =
            Failure::Retry { message: "a\nb".into(), hint: None, after: Some(std::time::Duration::from_secs(2)) };
        let later = json!({"key": "host h7", "with": {"hosts": ["h7"]}, "why": "h7: refused", "target": "h7"});
        let later = Line::Later(serde_json::from_value(later).unwrap());
        let finding = Line::Finding(Finding::bad("the hub does not answer", "koji hello"));
        for line in
            [Line::from(&failure), finding, Line::End { code: 0 }, Line::Note("n\nü".into()), later, Line::Unknown]
        {
            let answer = Answer { id: Some(1), line };
            let written = answer.to_line();
            assert_eq!(written.iter().filter(|b| **b == b'\n').count(), 1);
            assert_eq!(Answer::parse(&written[..written.len() - 1]).unwrap(), answer);
        }
    }

    #[test]
    fn a_long_note_is_cut_at_a_character() {
        let note = Line::Note("ü".repeat(NOTE_BYTES_MAX));
        let written = Answer { id: None, line: note.clone() }.to_line();
        assert!(written.len() < NOTE_BYTES_MAX + 20);
        let Line::Note(read) = Answer::parse(&written[..written.len() - 1]).unwrap().line else { panic!("no note") };
        assert!(read.len() <= NOTE_BYTES_MAX && read.ends_with("ü…"), "{read}");
    }

    #[test]
    fn a_later_may_leave_out_its_parameters_and_its_target() {
        let line = parse(r#"{"later":{"key":"k","why":"w"}}"#).unwrap().line;
        assert!(matches!(&line, Line::Later(later) if later.with.is_empty() && later.target.is_none()));
        let long = json!({"later": {"key": "k".repeat(LATER_KEY_BYTES_MAX + 1), "why": "w"}}).to_string();
        assert!(parse(&long).unwrap_err().contains("256 bytes"));
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_never_held() {
        let mut reader = tokio::io::BufReader::new(&b"ab\n\nabcd\nlast"[..]);
        let mut line = Vec::new();
        let mut seen = Vec::new();
        while next_line(&mut reader, &mut line, 4).await.unwrap() {
            seen.push(String::from_utf8(line.clone()).unwrap());
        }
        assert_eq!(seen, ["ab", "", "abcd", "last"]);
        let mut reader = tokio::io::BufReader::with_capacity(2, &b"abcde\n"[..]);
        assert!(matches!(next_line(&mut reader, &mut line, 4).await, Err(ReadError::TooLong(4))));
    }
}
