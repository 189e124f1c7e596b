//! From one journal into another: everything, in the order in which it was written, page by page. Used by `reactor journal copy`.
//!
//! A page is one transaction, and how far it came is written with it (the setting [`MARK`]), so a copy that was cut off goes on
//! where it was. At the end both are read once more and compared, value by value; only then is the target marked as whole, and
//! a daemon starts on nothing less ([`is_whole`]).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::nodes::Slots;
use super::{Answer, Counts, Entry, Journal, JournalError, Kept, Question, ReactionRow, RefusedRow, StoryLine};

/// The setting of a journal that is, or was, copied into; JSON, a [`Progress`].
pub const MARK: &str = "copied";
/// Rows that are copied in one transaction. With the largest messages that is some 100 MiB.
pub const PAGE_ROWS: usize = 100;

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Messages.
    Messages,
    /// Reactions with their stories.
    Reactions,
    /// Refused messages.
    Refused,
}

impl Kind {
    /// In the order in which they are copied: a reaction needs its messages.
    pub const ALL: [Self; 3] = [Self::Messages, Self::Reactions, Self::Refused];
}

/// Some of the rows of one kind, in the order in which they were written.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Which rows.
    pub of: Kind,
    /// Those behind this number of the journal's own.
    pub after: u64,
    /// At most so many.
    pub at_most: usize,
}

/// A row with all that hangs on it.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// A message.
    Message {
        /// The message, and what stood beside its body.
        kept: Kept,
        /// When it was stored, by the journal's clock.
        stored: Timestamp,
    },
    /// A reaction.
    Reaction {
        /// The row.
        row: Box<ReactionRow>,
        /// The ids of the messages that led to it, oldest first.
        messages: Vec<String>,
        /// When each change of the row's `done` was reported.
        done_at: Vec<Timestamp>,
        /// Its story.
        lines: Vec<StoryLine>,
    },
    /// A refused message.
    Refused(RefusedRow),
}

/// How far a copy has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The journal that is copied, as people know it.
    pub from: String,
    /// What is copied now, and the number of its last row that is; `None` when all of it was copied and compared.
    pub at: Option<(Kind, u64)>,
}

/// What was copied.
#[derive(Clone, Debug)]
pub struct Summary {
    /// What the target holds.
    pub counts: Counts,
    /// How many of its reactions are not over.
    pub pending: usize,
    /// Whether a copy that was cut off was gone on with.
    pub resumed: bool,
}

/// Whether a journal that was copied into has all of it; one that was not is whole too.
///
/// # Errors
/// When it can't be read.
pub fn is_whole(journal: &dyn Journal) -> Result<bool, JournalError> {
    Ok(progress(journal)?.is_none_or(|progress| progress.at.is_none()))
}

/// Copies all of `from` into `to`, and compares them. `name`: what `from` is called.
///
/// # Errors
/// When `to` holds anything else, one of them can't be read or written, or they differ at the end.
pub fn copy(from: &dyn Journal, name: &str, to: &mut dyn Journal) -> Result<Summary, JournalError> {
    is_at_rest(from)?;
    is_at_rest(to)?;
    let (mut progress, resumed) = match progress(to)? {
        Some(progress) if progress.from == name => (progress, true),
        Some(other) => return Err(refused(format!("it holds a copy of another journal: {}", other.from))),
        None if is_empty(to)? => (Progress { from: name.to_owned(), at: Some((Kind::Messages, 0)) }, false),
        None => return Err(refused("it holds messages, reactions or settings already".to_owned())),
    };
    if let Some((kind, after)) = progress.at {
        for of in Kind::ALL.into_iter().filter(|of| *of >= kind) {
            let mut after = if of == kind { after } else { 0 };
            loop {
                let rows = page(from, Page { of, after, at_most: PAGE_ROWS })?;
                let Some((last, _)) = rows.last() else { break };
                after = *last;
                progress.at = Some((of, after));
                let mut batch: Vec<Entry> = rows.into_iter().map(|(_, row)| Entry::Copied(Box::new(row))).collect();
                batch.push(mark(&progress)?);
                to.write(&batch)?;
            }
        }
        let set = |(name, value)| Entry::Setting { name, value: Some(value) };
        to.write(&settings(from)?.into_iter().map(set).collect::<Vec<_>>())?;
    }
    // Also one that was whole before: a daemon may have gone on with either of them since.
    compare(from, to)?;
    if progress.at.take().is_some() {
        to.write(&[mark(&progress)?])?;
    }
    let Answer::Counts(counts) = to.ask(&Question::Counts)? else { return Err(differs("its numbers")) };
    Ok(Summary { counts, pending: pending(to)?.len(), resumed })
}

/// Where several nodes share a journal: none of them is there, and nothing waits in an inbox, which is not copied.
fn is_at_rest(journal: &dyn Journal) -> Result<(), JournalError> {
    let wrong = |why: String, hint: &str| {
        Err(JournalError { place: "copying".into(), why, hint: hint.into(), is_lasting: true })
    };
    if let Answer::Nodes(nodes) = journal.ask(&Question::Nodes)?
        && let Some(node) = nodes.iter().find(|node| node.is_alive)
    {
        return wrong(format!("node {} uses it: {}", node.name, node.shown), "stop the daemons of all nodes first");
    }
    match journal.ask(&Question::Inbox(Slots::ALL, 1))? {
        Answer::Inbox(handed) if !handed.is_empty() => {
            let hint = "start a daemon on it, and stop it again when `reactor status` shows no more in an inbox";
            wrong("something waits in the inbox of a node".to_owned(), hint)
        }
        _ => Ok(()),
    }
}

fn progress(journal: &dyn Journal) -> Result<Option<Progress>, JournalError> {
    let Answer::Settings(settings) = journal.ask(&Question::Settings(MARK.to_owned()))? else { return Ok(None) };
    let Some((_, text)) = settings.into_iter().find(|(name, _)| name == MARK) else { return Ok(None) };
    let wrong = |error| refused(format!("its setting `{MARK}` can't be read: {error}"));
    serde_json::from_str(&text).map(Some).map_err(wrong)
}

fn mark(progress: &Progress) -> Result<Entry, JournalError> {
    let text = serde_json::to_string(progress).map_err(|error| refused(error.to_string()))?;
    Ok(Entry::Setting { name: MARK.to_owned(), value: Some(text) })
}

fn is_empty(journal: &dyn Journal) -> Result<bool, JournalError> {
    let counts = match journal.ask(&Question::Counts)? {
        Answer::Counts(counts) => counts,
        _ => Counts::default(),
    };
    let is_bare = counts.messages == 0 && counts.refused == 0 && counts.by_state.iter().all(|(_, n)| *n == 0);
    Ok(is_bare && settings(journal)?.is_empty())
}

/// All of them but our own mark.
fn settings(journal: &dyn Journal) -> Result<Vec<(String, String)>, JournalError> {
    match journal.ask(&Question::Settings(String::new()))? {
        Answer::Settings(settings) => Ok(settings.into_iter().filter(|(name, _)| name != MARK).collect()),
        _ => Ok(Vec::new()),
    }
}

fn page(journal: &dyn Journal, page: Page) -> Result<Vec<(u64, Row)>, JournalError> {
    match journal.ask(&Question::Page(page))? {
        Answer::Page(rows) => Ok(rows),
        _ => Ok(Vec::new()),
    }
}

/// The ids of what is not over, in the order in which a daemon goes on with it.
fn pending(journal: &dyn Journal) -> Result<Vec<String>, JournalError> {
    match journal.ask(&Question::Pending)? {
        Answer::Stories(stories) => Ok(stories.into_iter().map(|story| story.reaction.id).collect()),
        _ => Ok(Vec::new()),
    }
}

/// Reads both to their end. A source that a daemon went on with in the meantime is found out here.
fn compare(from: &dyn Journal, to: &dyn Journal) -> Result<(), JournalError> {
    for of in Kind::ALL {
        let (mut here, mut there) = (0, 0);
        loop {
            let ours = page(from, Page { of, after: here, at_most: PAGE_ROWS })?;
            let theirs = page(to, Page { of, after: there, at_most: PAGE_ROWS })?;
            if let Some((one, _)) = ours.iter().zip(&theirs).find(|((_, one), (_, other))| one != other) {
                return Err(differs(&one.1.shown()));
            }
            if ours.len() != theirs.len() {
                return Err(differs("how much there is"));
            }
            let (Some((last, _)), Some((other, _))) = (ours.last(), theirs.last()) else { break };
            (here, there) = (*last, *other);
        }
    }
    if settings(from)? != settings(to)? {
        return Err(differs("the settings"));
    }
    if pending(from)? != pending(to)? {
        return Err(differs("what is pending"));
    }
    Ok(())
}

impl Row {
    fn shown(&self) -> String {
        match self {
            Self::Message { kept, .. } => format!("message {}", kept.message.id),
            Self::Reaction { row, .. } => format!("reaction {}", row.id),
            Self::Refused(row) => format!("a refused message of bus {}", row.bus),
        }
    }
}

fn differs(what: &str) -> JournalError {
    refused(format!("it does not hold what it was copied from: {what} differs. Was a daemon started in between?"))
}

fn refused(why: String) -> JournalError {
    JournalError {
        place: "to copy into".into(),
        why,
        hint: "only an empty journal is copied into: name another `schema`, or move the state directory's journal.db* away".into(),
        is_lasting: true,
    }
}
