//! The durable record of messages, reactions, plans and outcomes. Nothing is acknowledged before it is in here.
//!
//! A journal is written in [`Entry`] batches, each batch one durable transaction: after [`Journal::write`] returns,
//! a power cut loses nothing of it. Reading goes through [`Question::Pending`] (what a restarted daemon must go
//! on with), [`Journal::seen`] (dedupe) and [`Journal::ask`] (people's questions).
//!
//! Times are kept to the microsecond; what is finer is cut off.
//!
//! Secrets never get here: before and after of a change marked `secret` are hashed by the engine.
//!
//! * [`sqlite`]: the journal of one node, a file
//! * [`postgres`]: the journal on a server
//! * [`place`]: which of the two, and where; [`moving`]: when that changes
//! * [`copy`]: from one journal into another
//! * [`nodes`]: what several nodes on one server share
//! * [`handle`]: what the engine holds: a journal on a thread of its own, group commit
//! * `contract`: what every journal must do, as tests

#[cfg(test)]
pub(crate) mod contract;
pub mod copy;
pub mod handle;
pub mod moving;
pub mod nodes;
pub mod place;
pub mod postgres;
pub mod sqlite;
mod text;

use std::collections::HashSet;

use handler_api::Change;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::nodes::{Handed, NodeRow, Seat, Slots, What};
use crate::message::Message;
#[cfg(test)]
use crate::message::Topic;

/// A reaction's id: 26 characters, sorts by time of creation (ULID).
pub type ReactionId = String;

/// Where a reaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// In its lane: for its turn, for more of the same, or for the next try.
    Waiting,
    /// Its apply has begun; a restarted daemon plans it again.
    Applying,
    /// The guard holds it until a person approves or drops it.
    Held,
    /// Made true, or nothing was to do.
    Done,
    /// Planned only (`mode: plan`).
    Planned,
    /// Out of tries, or bad data: a dead letter until a person retries or drops it.
    Failed,
    /// A person dropped it.
    Dropped,
}

impl State {
    /// All of them, in the order of a reaction's life.
    pub const ALL: [Self; 7] =
        [Self::Waiting, Self::Applying, Self::Held, Self::Done, Self::Planned, Self::Failed, Self::Dropped];

    /// Whether nothing more happens to it by itself.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Planned | Self::Failed | Self::Dropped)
    }
}

/// One reaction as the journal holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReactionRow {
    /// Its id.
    pub id: ReactionId,
    /// The rule's name.
    pub rule: String,
    /// The handler's name; with the key it names the lane.
    pub handler: String,
    /// The key; with the handler it names the lane.
    pub key: String,
    /// Where it stands.
    pub state: State,
    /// Tries so far.
    pub attempts: u32,
    /// When it was made.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// Not before then (coalescing, backoff); for a coalescing one also moved by each message that joins.
    pub not_before: Timestamp,
    /// A coalescing reaction starts at the latest then.
    pub at_most: Option<Timestamp>,
    /// Rendered parameters of the last try.
    pub with: Option<Value>,
    /// Why it failed, is held, or will be tried again.
    pub reason: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// How often the same reason came in a row (folded).
    pub repeated: u32,
    /// The last plan.
    pub plan: Vec<Change>,
    /// The changes done so far by the last apply.
    pub done: Vec<Change>,
    /// The plan that a person approved; a later plan may do this much and no more.
    pub approved: Option<Vec<Change>>,
    /// Who approved, retried or dropped it last.
    pub decided_by: Option<String>,
    /// How many messages led to it.
    pub messages: u32,
    /// Where it was left over from an apply: its parameters, a JSON object, instead of the rule's `with`.
    pub part: Option<Value>,
    /// The reaction whose apply it was left over from; that one may be forgotten earlier.
    pub parent: Option<ReactionId>,
}

/// One thing to record. A batch of them is one durable transaction.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A trusted message. The second message with the same id changes nothing.
    Message(Message),
    /// What stood beside the body of a signed message, for those who want to check its signature too. Of a message that was written
    /// earlier, or earlier in the batch; it stays with the first.
    Envelope {
        /// The message's id.
        message: String,
        /// A JSON object: the envelope without `msg`.
        fields: String,
    },
    /// A new reaction (the whole row), and the ids of the messages that led to it, oldest first. They must be in the
    /// journal, or earlier in the batch; `messages` is counted from them.
    Reaction(Box<ReactionRow>, Vec<String>),
    /// A message joined a waiting reaction. One that joined it before changes nothing.
    Joined {
        /// The reaction.
        reaction: ReactionId,
        /// The message's id.
        message: String,
        /// Its new start.
        not_before: Timestamp,
    },
    /// The row as it is now (state, attempts, plan, reason…). Replaces all but `id`, `created`, `messages`, `part`, `parent`.
    /// `done` is replaced by what the row has; where that is empty, what was recorded by [`Entry::ChangeDone`] stays, except that
    /// [`State::Applying`] begins a new apply, with nothing done.
    Update(Box<ReactionRow>),
    /// One change was done. Appended to the row's `done`.
    ChangeDone {
        /// The reaction.
        reaction: ReactionId,
        /// The change.
        change: Change,
        /// When it was reported.
        at: Timestamp,
    },
    /// One line of the reaction's story. The same `what` and `detail` as the line before it is folded into that one.
    Story {
        /// The reaction.
        reaction: ReactionId,
        /// When.
        at: Timestamp,
        /// One of the pipeline's words: `received`, `joined`, `started`, `planned`, `note`, `held`, `approved`, `applying`,
        /// `later`, `done`, `retry`, `failed`, `dropped`, `recovered`, `confirmed`.
        what: String,
        /// The rest, for people.
        detail: String,
    },
    /// A refused message, kept for a look. The same bus, topic and reason are folded into one. Only the newest [`REFUSED_KEPT_MAX`] are kept.
    Refused {
        /// When.
        at: Timestamp,
        /// The bus.
        bus: String,
        /// The topic as the transport gave it.
        topic: String,
        /// Why.
        reason: String,
        /// The beginning of the body, lossy UTF-8, at most [`REFUSED_BODY_BYTES_MAX`] bytes.
        body: String,
    },
    /// A setting of the daemon that outlives it (a paused rule, the last time of an `every`). `None` removes it.
    Setting {
        /// Its name, such as `paused/RULE`.
        name: String,
        /// Its value.
        value: Option<String>,
    },
    /// A row of another journal, as it is there. It must not be in this one; only a message may be, and is not changed then.
    Copied(Box<copy::Row>),
    /// A trusted message, and what it asks for of the nodes that have the slots. The second message with the same id changes
    /// nothing: it asks for nothing again. Only where several nodes share the journal, as all that follows.
    Post(Message, Vec<What>),
    /// Something for the node that has this slot, that has nothing to do with a new message.
    Hand(u8, What),
    /// These rows of the inbox are taken: what came of them is in this batch.
    Taken(Vec<i64>),
    /// This node has nothing more to do with these slots: another may take them.
    Free(Slots),
}

/// The settings that hold what is to be published still (`confirm`) begin with this.
pub const OUTBOX: &str = "confirm/";
/// Refused messages that are kept for a look.
pub const REFUSED_KEPT_MAX: u64 = 1_000;
/// What is kept of a refused message's body, in bytes.
pub const REFUSED_BODY_BYTES_MAX: usize = 4_096;
/// Lines of one reaction's story; further ones replace the line before the last.
pub const STORY_LINES_MAX: usize = 200;
/// Longest reason, hint, detail or name of a person, in bytes. The rest is cut off and `…` put in its place.
pub const TEXT_BYTES_MAX: usize = 4_096;

/// A reaction with everything that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// The row.
    pub reaction: ReactionRow,
    /// The messages that led to it, oldest first.
    pub messages: Vec<Message>,
    /// What happened to it, oldest first.
    pub lines: Vec<StoryLine>,
}

/// One line of a story.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoryLine {
    /// When (the first time, if folded).
    pub at: Timestamp,
    /// When the last of the folded ones was.
    pub last_at: Timestamp,
    /// The pipeline's word.
    pub what: String,
    /// The rest.
    pub detail: String,
    /// How many lines are folded into this one.
    pub times: u32,
}

/// Which reactions.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In one of these states; empty = any.
    pub states: Vec<State>,
    /// Of this rule.
    pub rule: Option<String>,
    /// Whose id begins with this, in any case.
    pub id_prefix: Option<String>,
    /// At most this many, the newest first; 0 = all.
    pub at_most: usize,
}

/// Numbers for `status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Reactions by state.
    pub by_state: Vec<(State, u64)>,
    /// Messages stored.
    pub messages: u64,
    /// Refused messages kept.
    pub refused: u64,
    /// Size on disk, in bytes.
    pub bytes: u64,
}

/// What went wrong with the journal. Nothing of the batch was written, or it is not written twice when it is given again.
#[derive(Debug, thiserror::Error)]
#[error("journal {place}: {why}\nhint: {hint}")]
pub struct JournalError {
    /// The file or server.
    pub place: String,
    /// What failed, and why.
    pub why: String,
    /// What to do.
    pub hint: String,
    /// Whether trying again can't help: whoever holds the journal has to begin anew with what it holds.
    pub is_lasting: bool,
}

/// The durable record. Blocking; the engine gives it a thread of its own.
pub trait Journal: Send {
    /// Writes all of `batch` in one durable transaction, or nothing of it. Where the answer of a server was lost, nobody knows
    /// which: whoever still wants it written gives it again, before anything else, and it is written once.
    ///
    /// # Errors
    /// When it is not known to be durable: disk full, file damaged, another daemon's lock, a lost connection.
    fn write(&mut self, batch: &[Entry]) -> Result<(), JournalError>;

    /// Which of these message ids it knows already.
    ///
    /// # Errors
    /// When it can't be read.
    fn seen(&self, ids: &[&str]) -> Result<HashSet<String>, JournalError>;

    /// Answers a question.
    ///
    /// # Errors
    /// When it can't be read.
    fn ask(&self, question: &Question) -> Result<Answer, JournalError>;

    /// One small step of forgetting what is final and older than `before`, then the oldest messages over
    /// `messages_max` with their reactions. Never touches what is pending, nor a message that something pending has.
    /// One short transaction, so that writers do not wait: call it again while [`Swept::more`].
    ///
    /// # Errors
    /// When it can't be written.
    fn sweep(&mut self, before: Timestamp, messages_max: u64) -> Result<Swept, JournalError>;

    /// Our place, if several nodes may share this journal; `None`: it is ours alone.
    fn seat(&self) -> Option<Seat> {
        None
    }
}

/// What one step of [`Journal::sweep`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Messages that went.
    pub messages: u64,
    /// Whether there is more to forget.
    pub more: bool,
}

/// What can be asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// Every reaction that is not final, with its messages but without the lines of its story, in order of creation
    /// (the order they were written).
    Pending,
    /// The reactions that fit.
    List(Filter),
    /// Everything about the reactions that fit.
    Stories(Filter),
    /// Numbers.
    Counts,
    /// Settings whose name begins with this.
    Settings(String),
    /// The newest refused messages, at most this many: `(at, bus, topic, reason, body)`.
    Refused(usize),
    /// Some of all rows of a kind.
    Page(copy::Page),
    /// As `Pending`, but only what is in these slots. This and the following two are empty where the journal is ours alone.
    PendingOf(Slots),
    /// What waits in the inbox for these slots, in the order in which it was written, at most this many.
    Inbox(Slots, usize),
    /// The nodes that were ever there, by name.
    Nodes,
    /// One page of the messages that came by a bus.
    Messages(Box<Wanted>),
}

/// Which messages; reactor's own are never among them. Where a list is empty, any.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The one with this id; what else is asked does not count then.
    pub id: Option<String>,
    /// Sent then or later.
    pub since: Option<Timestamp>,
    /// Sent then or earlier.
    pub until: Option<Timestamp>,
    /// On one of these topics.
    pub topics: Vec<String>,
    /// In one of these categories: see [`category`].
    pub categories: Vec<String>,
    /// On none of these topics.
    pub not_topics: Vec<String>,
    /// In none of these categories.
    pub not_categories: Vec<String>,
    /// By the time they were sent, then in the order of writing; or all of it the other way round.
    pub newest_first: bool,
    /// Leave out so many at the beginning.
    pub skip: u64,
    /// At most this many.
    pub at_most: usize,
}

/// The category of a topic as datanommer has it: the fourth word, or the third where `VirtualTopic` is in it. Empty where there
/// is none.
#[must_use]
pub fn category(topic: &str) -> &str {
    let at = if topic.contains("VirtualTopic") { 2 } else { 3 };
    topic.split('.').nth(at).unwrap_or_default()
}

/// One page of messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// How many fit, on all pages.
    pub total: u64,
    /// Those of this page.
    pub messages: Vec<Kept>,
}

/// A message as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The message.
    pub message: Message,
    /// What stood beside its body, where that is kept: see [`Entry::Envelope`].
    pub envelope: Option<String>,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// To `Pending`, `PendingOf` and `Stories`.
    Stories(Vec<Story>),
    /// To `List`.
    Reactions(Vec<ReactionRow>),
    /// To `Counts`.
    Counts(Counts),
    /// To `Settings`.
    Settings(Vec<(String, String)>),
    /// To `Refused`.
    Refused(Vec<RefusedRow>),
    /// To `Page`: each with its number, in order.
    Page(Vec<(u64, copy::Row)>),
    /// To `Inbox`.
    Inbox(Vec<Handed>),
    /// To `Nodes`.
    Nodes(Vec<NodeRow>),
    /// To `Messages`.
    Messages(Page),
}

/// A refused message, kept for a look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusedRow {
    /// When (the last time, if folded).
    pub at: Timestamp,
    /// The bus.
    pub bus: String,
    /// The topic.
    pub topic: String,
    /// Why.
    pub reason: String,
    /// The beginning of the body (of the last one, if folded).
    pub body: String,
    /// How many with the same bus, topic and reason are folded into this one.
    pub times: u64,
}
