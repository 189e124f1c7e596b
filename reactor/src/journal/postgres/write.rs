//! Entries into statements, which the caller sends all at once inside a transaction. Pure.
//!
//! A statement is one for each entry (a few more for a reaction with messages), so that a batch is one round trip however many
//! entries it has. What must be there is checked by how many rows a statement finds.

use std::collections::HashSet;

use handler_api::Change;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::fault::Fault;
use super::read::numbers_of;
use super::session::Param;
use super::text::{plain, short, time};
use crate::journal::nodes::{Slots, What, slot_of};
use crate::journal::text::{cut, json};
use crate::journal::{
    Entry, REFUSED_BODY_BYTES_MAX, REFUSED_KEPT_MAX, ReactionRow, STORY_LINES_MAX, State, TEXT_BYTES_MAX,
};
use crate::message::{Message, TOPIC_BYTES_MAX};

/// Messages that one statement posts.
const POSTS_MAX: usize = 512;

/// What a statement must find.
#[derive(Debug)]
pub(super) enum Must {
    /// Nothing.
    Nothing,
    /// This reaction.
    Reaction(String),
    /// This reaction, and this message.
    Both(String, String),
}

/// One statement.
pub(super) struct Step {
    pub sql: &'static str,
    pub params: Vec<Param>,
    pub must: Must,
}

impl Must {
    /// What is wrong where a statement found nothing.
    pub fn missed(&self) -> Option<Fault> {
        match self {
            Self::Nothing => None,
            Self::Reaction(id) => Some(Fault::Contradiction(format!("reaction {id} is not in the journal"))),
            Self::Both(reaction, message) => Some(Fault::Contradiction(format!(
                "reaction {reaction} or its message {message} is not in the journal"
            ))),
        }
    }
}

/// Every id is looked for in lower case, so that people may type it in any.
pub(super) fn lower(id: &str) -> String {
    plain(&id.to_ascii_lowercase())
}

/// The statements of a batch of the node `node`, in order; `channel` is where nodes tell each other.
pub(super) fn steps(batch: &[Entry], node: &str, channel: &str) -> Result<Vec<Step>, Fault> {
    let mut steps = Steps(Vec::with_capacity(batch.len() + 2));
    let mut refused_some = false;
    let mut told = Note::default();
    for posts in posts_of(batch).chunks(POSTS_MAX) {
        steps.post(posts)?;
    }
    for entry in batch {
        match entry {
            Entry::Message(message) => steps.message(message)?,
            Entry::Envelope { message, fields } => steps.envelope(message, fields),
            Entry::Reaction(row, messages) => steps.reaction(row, messages)?,
            Entry::Joined { reaction, message, not_before } => steps.link(reaction, message, Some(*not_before)),
            Entry::Update(row) => steps.update(row)?,
            Entry::ChangeDone { reaction, change, at } => steps.done(reaction, change, *at)?,
            Entry::Story { reaction, at, what, detail } => steps.tell(reaction, *at, what, detail),
            Entry::Refused { at, bus, topic, reason, body } => {
                steps.refuse(*at, bus, topic, reason, body);
                refused_some = true;
            }
            Entry::Setting { name, value } => steps.set(name, value.as_deref()),
            Entry::Copied(row) => steps.put(row)?,
            Entry::Post(..) => {}
            Entry::Hand(slot, what) => steps.hand(*slot, what)?,
            Entry::Taken(rows) => {
                let rows: Vec<i64> = rows.clone();
                steps.add("DELETE FROM inbox WHERE n = ANY($1)", vec![Box::new(rows)], Must::Nothing);
            }
            Entry::Free(slots) => steps.add(
                "UPDATE slot SET node = NULL WHERE node = $1 AND n = ANY($2)",
                vec![Box::new(plain(node)), Box::new(numbers_of(*slots))],
                Must::Nothing,
            ),
        }
        told.tell(entry);
    }
    if let Some(note) = told.text() {
        let params: Vec<Param> = vec![Box::new(channel.to_owned()), Box::new(note)];
        steps.add("SELECT pg_notify($1, $2)", params, Must::Nothing);
    }
    if refused_some {
        let kept = i64::try_from(REFUSED_KEPT_MAX).unwrap_or(i64::MAX);
        steps.add(
            "DELETE FROM refused WHERE n <= (SELECT n FROM refused ORDER BY n DESC LIMIT 1 OFFSET $1)",
            vec![Box::new(kept)],
            Must::Nothing,
        );
    }
    Ok(steps.0)
}

/// What the other nodes are to hear of a batch.
#[derive(Default)]
struct Note {
    inbox: Slots,
    settings: bool,
    free: bool,
}

impl Note {
    fn tell(&mut self, entry: &Entry) {
        match entry {
            Entry::Post(_, asked) => self.inbox = self.inbox.and(asked.iter().filter_map(What::slot).collect()),
            Entry::Hand(slot, _) => self.inbox = self.inbox.and(Slots::one(*slot)),
            Entry::Setting { name, .. } => self.settings |= name.starts_with("paused/"),
            Entry::Free(_) => self.free = true,
            _ => {}
        }
    }

    /// As [`super::lease`] reads it: `settings`, `free`, and the slots with something in their inbox, in hexadecimal digits.
    fn text(&self) -> Option<String> {
        let words = [self.settings.then_some("settings"), self.free.then_some("free")];
        let inbox = (!self.inbox.is_empty()).then(|| format!("{:x}", self.inbox.0));
        let words: Vec<String> = words.into_iter().flatten().map(str::to_owned).chain(inbox).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }
}

/// What is posted in a batch. A message that is there twice asks once.
fn posts_of(batch: &[Entry]) -> Vec<(&Message, &[What])> {
    let mut known = HashSet::new();
    let mut posts = Vec::new();
    for entry in batch {
        if let Entry::Post(message, asked) = entry
            && known.insert(message.id.as_str())
        {
            posts.push((message, asked.as_slice()));
        }
    }
    posts
}

pub(super) struct Steps(Vec<Step>);

impl Steps {
    pub(super) fn add(&mut self, sql: &'static str, params: Vec<Param>, must: Must) {
        self.0.push(Step { sql, params, must });
    }

    pub(super) fn message(&mut self, message: &Message) -> Result<(), Fault> {
        let headers = if message.headers.is_empty() { None } else { Some(json(&message.headers)?) };
        self.add(
            "INSERT INTO message (id, topic, sent, bus, signer, headers, body)
             VALUES ($1, $2, $3, $4, $5, $6::text::json, $7::text::json) ON CONFLICT (id) DO NOTHING",
            vec![
                Box::new(plain(&message.id)),
                Box::new(plain(message.topic.as_str())),
                Box::new(time(message.sent)),
                Box::new(plain(&message.bus)),
                Box::new(plain(&message.signer)),
                Box::new(headers),
                Box::new(json(&message.body)?),
            ],
            Must::Nothing,
        );
        Ok(())
    }

    /// Messages with what they ask for; nothing of either where a message is known. One statement for many: they go in sorted
    /// by id, so that nodes which write the same ones at the same time wait for each other and never both, and are
    /// numbered as they came.
    fn post(&mut self, posts: &[(&Message, &[What])]) -> Result<(), Fault> {
        let column = |of: fn(&Message) -> &str| posts.iter().map(|(m, _)| plain(of(m))).collect::<Vec<String>>();
        let sent: Vec<Timestamp> = posts.iter().map(|(m, _)| time(m.sent)).collect();
        let headers = |m: &Message| if m.headers.is_empty() { Ok(None) } else { json(&m.headers).map(Some) };
        let headers = posts.iter().map(|(m, _)| headers(m)).collect::<Result<Vec<Option<String>>, _>>()?;
        let bodies = posts.iter().map(|(m, _)| json(&m.body)).collect::<Result<Vec<String>, _>>()?;
        let asked = || posts.iter().flat_map(|(m, asked)| asked.iter().map(move |what| (*m, what)));
        let of: Vec<String> = asked().map(|(m, _)| plain(&m.id)).collect();
        let slots: Vec<i16> = asked().map(|(_, what)| i16::from(what.slot().unwrap_or_default())).collect();
        let texts = asked().map(|(_, what)| json(what)).collect::<Result<Vec<String>, _>>()?;
        self.add(
            "WITH given AS MATERIALIZED (
                 SELECT nextval(pg_get_serial_sequence('message', 'n')) AS n, message.*
                 FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[])
                     AS message (id, topic, sent, bus, signer, headers, body)),
             new AS (
                 INSERT INTO message (n, id, topic, sent, bus, signer, headers, body)
                 SELECT n, id, topic, sent, bus, signer, headers::json, body::json FROM given ORDER BY id COLLATE \"C\"
                 ON CONFLICT (id) DO NOTHING RETURNING n, id)
             INSERT INTO inbox (slot, message, what)
             SELECT slot, new.n, what::json
             FROM unnest($8::text[], $9::smallint[], $10::text[]) WITH ORDINALITY AS asked (id, slot, what, position)
                 JOIN new ON new.id = asked.id
             ORDER BY position",
            vec![
                Box::new(column(|m| &m.id)),
                Box::new(column(|m| m.topic.as_str())),
                Box::new(sent),
                Box::new(column(|m| &m.bus)),
                Box::new(column(|m| &m.signer)),
                Box::new(headers),
                Box::new(bodies),
                Box::new(of),
                Box::new(slots),
                Box::new(texts),
            ],
            Must::Nothing,
        );
        Ok(())
    }

    fn hand(&mut self, slot: u8, what: &What) -> Result<(), Fault> {
        self.add(
            "INSERT INTO inbox (slot, what) VALUES ($1, $2::text::json)",
            vec![Box::new(i16::from(slot)), Box::new(json(what)?)],
            Must::Nothing,
        );
        Ok(())
    }

    pub(super) fn envelope(&mut self, message: &str, fields: &str) {
        self.add(
            "UPDATE message SET envelope = $2::text::json WHERE id = $1 AND envelope IS NULL",
            vec![Box::new(plain(message)), Box::new(fields.to_owned())],
            Must::Nothing,
        );
    }

    pub(super) fn reaction(&mut self, row: &ReactionRow, messages: &[String]) -> Result<(), Fault> {
        let mut params = state_of(row)?;
        params.push(Box::new(plain(&row.id)));
        params.push(Box::new(time(row.created)));
        params.push(Box::new(row.part.as_ref().map(json).transpose()?));
        params.push(Box::new(row.parent.as_deref().map(plain)));
        params.push(Box::new(i16::from(slot_of(&row.key))));
        self.add(
            "INSERT INTO reaction (rule, handler, key, state, attempts, updated, not_before, at_most, repeated, reason,
                 hint, decided_by, params, plan, approved, id, created, part, parent, slot, messages)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::text::json, $14::text::json,
                 $15::text::json, $16, $17, $18::text::json, $19, $20, 0)",
            params,
            Must::Nothing,
        );
        for message in messages {
            self.link(&row.id, message, None);
        }
        row.done.iter().try_for_each(|change| self.done(&row.id, change, row.updated))
    }

    /// Hangs a message on a reaction and counts it. One that hangs there already changes nothing.
    fn link(&mut self, reaction: &str, message: &str, not_before: Option<Timestamp>) {
        self.add(
            "WITH r AS (SELECT n, messages FROM reaction WHERE lower(id) = $1),
                 m AS (SELECT n FROM message WHERE id = $2),
                 linked AS (
                     INSERT INTO reaction_message (reaction, position, message)
                     SELECT r.n, r.messages + 1, m.n FROM r, m
                     ON CONFLICT (message, reaction) DO NOTHING RETURNING reaction),
                 counted AS (
                     UPDATE reaction SET messages = messages + 1, not_before = coalesce($3, not_before)
                     WHERE n IN (SELECT reaction FROM linked))
             SELECT 1 FROM r, m",
            vec![Box::new(lower(reaction)), Box::new(plain(message)), Box::new(not_before.map(time))],
            Must::Both(reaction.to_owned(), message.to_owned()),
        );
    }

    fn update(&mut self, row: &ReactionRow) -> Result<(), Fault> {
        let mut params = state_of(row)?;
        params.push(Box::new(lower(&row.id)));
        self.add(
            "UPDATE reaction SET rule = $1, handler = $2, key = $3, state = $4, attempts = $5, updated = $6,
                 not_before = $7, at_most = $8, repeated = $9, reason = $10, hint = $11, decided_by = $12,
                 params = $13::text::json, plan = $14::text::json, approved = $15::text::json
             WHERE lower(id) = $16",
            params,
            Must::Reaction(row.id.clone()),
        );
        if !row.done.is_empty() || row.state == State::Applying {
            self.add(
                "DELETE FROM change_done WHERE reaction = (SELECT n FROM reaction WHERE lower(id) = $1)",
                vec![Box::new(lower(&row.id))],
                Must::Nothing,
            );
        }
        row.done.iter().try_for_each(|change| self.done(&row.id, change, row.updated))
    }

    pub(super) fn done(&mut self, reaction: &str, change: &Change, at: Timestamp) -> Result<(), Fault> {
        self.add(
            "INSERT INTO change_done (reaction, position, at, change)
             SELECT n, (SELECT coalesce(max(position), 0) + 1 FROM change_done WHERE reaction = n), $2::timestamptz,
                 $3::text::json
             FROM reaction WHERE lower(id) = $1",
            vec![Box::new(lower(reaction)), Box::new(time(at)), Box::new(json(change)?)],
            Must::Reaction(reaction.to_owned()),
        );
        Ok(())
    }

    /// One more line, folded into the last one if that says the same. A full story keeps how it began and how it ended.
    fn tell(&mut self, reaction: &str, at: Timestamp, what: &str, detail: &str) {
        self.add(
            "WITH r AS (SELECT n FROM reaction WHERE lower(id) = $1),
                 last AS (
                     SELECT reaction, position, what = $3 AND detail = $4 AS is_same FROM story JOIN r ON reaction = r.n
                     ORDER BY position DESC LIMIT 1),
                 folded AS (
                     UPDATE story SET times = times + 1, last_at = $2 FROM last
                     WHERE is_same AND story.reaction = last.reaction AND story.position = last.position),
                 dropped AS (
                     DELETE FROM story USING last
                     WHERE NOT is_same AND last.position >= $5 AND story.reaction = last.reaction AND story.position =
                         (SELECT max(position) FROM story WHERE reaction = last.reaction AND position < last.position)),
                 added AS (
                     INSERT INTO story (reaction, position, at, last_at, what, detail, times)
                     SELECT n, coalesce(position, 0) + 1, $2, $2, $3, $4, 1 FROM r LEFT JOIN last ON true
                     WHERE is_same IS NOT TRUE)
             SELECT 1 FROM r",
            vec![
                Box::new(lower(reaction)),
                Box::new(time(at)),
                Box::new(plain(&cut(what, TEXT_BYTES_MAX))),
                Box::new(plain(&cut(detail, TEXT_BYTES_MAX))),
                Box::new(i64::try_from(STORY_LINES_MAX).unwrap_or(i64::MAX)),
            ],
            Must::Reaction(reaction.to_owned()),
        );
    }

    /// Folded into the one with the same bus, topic and reason, which thereby becomes the newest.
    fn refuse(&mut self, at: Timestamp, bus: &str, topic: &str, reason: &str, body: &str) {
        let (topic, reason) = (cut(topic, TOPIC_BYTES_MAX), cut(reason, TEXT_BYTES_MAX));
        self.add(
            "INSERT INTO refused (fold, at, bus, topic, reason, body, times) VALUES ($1, $2, $3, $4, $5, $6, 1)
             ON CONFLICT (fold) DO UPDATE
             SET n = excluded.n, at = excluded.at, body = excluded.body, times = refused.times + 1",
            vec![
                Box::new(fold(bus, &topic, &reason)),
                Box::new(time(at)),
                Box::new(plain(bus)),
                Box::new(plain(&topic)),
                Box::new(plain(&reason)),
                Box::new(plain(&cut(body, REFUSED_BODY_BYTES_MAX))),
            ],
            Must::Nothing,
        );
    }

    fn set(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.add(
                "INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2",
                vec![Box::new(plain(name)), Box::new(plain(value))],
                Must::Nothing,
            ),
            None => {
                self.add("DELETE FROM setting WHERE name = $1", vec![Box::new(plain(name))], Must::Nothing);
            }
        }
    }
}

/// By what refused messages are folded into one: too long to be a key as it is.
pub(super) fn fold(bus: &str, topic: &str, reason: &str) -> Vec<u8> {
    let mut fold = Sha256::new();
    for text in [bus, topic, reason] {
        fold.update((text.len() as u64).to_be_bytes());
        fold.update(text);
    }
    fold.finalize().to_vec()
}

/// What changes in a reaction, as the first fifteen parameters.
fn state_of(row: &ReactionRow) -> Result<Vec<Param>, Fault> {
    Ok(vec![
        Box::new(plain(&row.rule)),
        Box::new(plain(&row.handler)),
        Box::new(plain(&row.key)),
        Box::new(row.state.word()),
        Box::new(i64::from(row.attempts)),
        Box::new(time(row.updated)),
        Box::new(time(row.not_before)),
        Box::new(row.at_most.map(time)),
        Box::new(i64::from(row.repeated)),
        Box::new(short(row.reason.as_deref(), TEXT_BYTES_MAX)),
        Box::new(short(row.hint.as_deref(), TEXT_BYTES_MAX)),
        Box::new(short(row.decided_by.as_deref(), TEXT_BYTES_MAX)),
        Box::new(row.with.as_ref().map(json).transpose()?),
        Box::new(json(&row.plan)?),
        Box::new(row.approved.as_ref().map(json).transpose()?),
    ])
}
