//! Entries into tables, inside the transaction that the caller commits or rolls back. Never commits.

use handler_api::Change;
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Transaction, named_params, params};

use super::copy;
use super::fault::Fault;
use crate::journal::text::{cut, json, time};
use crate::journal::{
    Entry, REFUSED_BODY_BYTES_MAX, REFUSED_KEPT_MAX, ReactionRow, STORY_LINES_MAX, State, TEXT_BYTES_MAX,
};
use crate::message::{Message, TOPIC_BYTES_MAX};

/// Writes all entries; returns how many messages are new. After an error the transaction must be rolled back.
pub(super) fn batch(tx: &Transaction<'_>, batch: &[Entry]) -> Result<u64, Fault> {
    let mut new_messages = 0;
    let mut refused_some = false;
    for entry in batch {
        match entry {
            Entry::Message(message) => new_messages += u64::from(add_message(tx, message)?),
            Entry::Envelope { message, fields } => add_envelope(tx, message, fields)?,
            Entry::Reaction(row, messages) => add_reaction(tx, row, messages)?,
            Entry::Joined { reaction, message, not_before } => join(tx, reaction, message, *not_before)?,
            Entry::Update(row) => update(tx, row)?,
            Entry::ChangeDone { reaction, change, at } => add_done(tx, number(tx, reaction)?, change, *at)?,
            Entry::Story { reaction, at, what, detail } => tell(tx, number(tx, reaction)?, *at, what, detail)?,
            Entry::Refused { at, bus, topic, reason, body } => {
                refuse(tx, *at, bus, topic, reason, body)?;
                refused_some = true;
            }
            Entry::Setting { name, value } => set(tx, name, value.as_deref())?,
            Entry::Copied(row) => new_messages += copy::put(tx, row)?,
            Entry::Post(..) | Entry::Hand(..) | Entry::Taken(_) | Entry::Free(_) => {
                return Err(Fault::Contradiction("nobody shares this journal".to_owned()));
            }
        }
    }
    if refused_some {
        forget_old_refused(tx)?;
    }
    Ok(new_messages)
}

/// Whether it was new.
pub(super) fn add_message(tx: &Transaction<'_>, message: &Message) -> Result<bool, Fault> {
    let headers = if message.headers.is_empty() { None } else { Some(json(&message.headers)?) };
    let added = tx
        .prepare_cached(
            "INSERT INTO message (id, topic, sent, bus, signer, headers, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            message.id,
            message.topic.as_str(),
            time(message.sent),
            &*message.bus,
            message.signer,
            headers,
            json(&message.body)?
        ])?;
    Ok(added > 0)
}

pub(super) fn add_envelope(tx: &Transaction<'_>, message: &str, fields: &str) -> Result<(), Fault> {
    tx.prepare_cached("UPDATE message SET envelope = ?2 WHERE id = ?1 AND envelope IS NULL")?
        .execute([message, fields])?;
    Ok(())
}

/// The reaction's number in the file.
pub(super) fn number(tx: &Transaction<'_>, reaction: &str) -> Result<i64, Fault> {
    tx.prepare_cached("SELECT n FROM reaction WHERE id = ?1")?
        .query_row([reaction], |row| row.get(0))
        .optional()?
        .ok_or_else(|| Fault::Contradiction(format!("reaction {reaction} is not in the journal")))
}

pub(super) fn add_reaction(tx: &Transaction<'_>, row: &ReactionRow, messages: &[String]) -> Result<(), Fault> {
    tx.prepare_cached(
        "INSERT INTO reaction (id, created, messages, rule, handler, key, state, attempts, updated, not_before, at_most,
             repeated, reason, hint, decided_by, params, plan, approved, part, parent)
         VALUES (:id, :created, 0, :rule, :handler, :key, :state, :attempts, :updated, :not_before, :at_most,
             :repeated, :reason, :hint, :decided_by, :params, :plan, :approved, :part, :parent)",
    )?
    .execute(named_params! {
        ":id": row.id,
        ":created": time(row.created),
        ":rule": row.rule,
        ":handler": row.handler,
        ":key": row.key,
        ":state": row.state.word(),
        ":attempts": row.attempts,
        ":updated": time(row.updated),
        ":not_before": time(row.not_before),
        ":at_most": row.at_most.map(time),
        ":repeated": row.repeated,
        ":reason": short(row.reason.as_deref()),
        ":hint": short(row.hint.as_deref()),
        ":decided_by": short(row.decided_by.as_deref()),
        ":params": row.with.as_ref().map(json).transpose()?,
        ":plan": json(&row.plan)?,
        ":approved": row.approved.as_ref().map(json).transpose()?,
        ":part": row.part.as_ref().map(json).transpose()?,
        ":parent": row.parent,
    })?;
    let reaction = tx.last_insert_rowid();
    for message in messages {
        link(tx, reaction, &row.id, message)?;
    }
    for change in &row.done {
        add_done(tx, reaction, change, row.updated)?;
    }
    Ok(())
}

/// Hangs a message on a reaction and counts it; whether it was new there.
fn link(tx: &Transaction<'_>, reaction: i64, reaction_id: &str, message: &str) -> Result<bool, Fault> {
    let found: Option<i64> =
        tx.prepare_cached("SELECT n FROM message WHERE id = ?1")?.query_row([message], |row| row.get(0)).optional()?;
    let Some(found) = found else {
        return Err(Fault::Contradiction(format!("message {message} of reaction {reaction_id} is not in the journal")));
    };
    let added = tx
        .prepare_cached(
            "INSERT INTO reaction_message (reaction, position, message)
             SELECT n, messages + 1, ?2 FROM reaction WHERE n = ?1
             ON CONFLICT (message, reaction) DO NOTHING",
        )?
        .execute([reaction, found])?;
    if added > 0 {
        tx.prepare_cached("UPDATE reaction SET messages = messages + 1 WHERE n = ?1")?.execute([reaction])?;
    }
    Ok(added > 0)
}

fn join(tx: &Transaction<'_>, reaction: &str, message: &str, not_before: Timestamp) -> Result<(), Fault> {
    let n = number(tx, reaction)?;
    if link(tx, n, reaction, message)? {
        tx.prepare_cached("UPDATE reaction SET not_before = ?2 WHERE n = ?1")?.execute(params![n, time(not_before)])?;
    }
    Ok(())
}

fn update(tx: &Transaction<'_>, row: &ReactionRow) -> Result<(), Fault> {
    let n = number(tx, &row.id)?;
    tx.prepare_cached(
        "UPDATE reaction SET rule = :rule, handler = :handler, key = :key, state = :state, attempts = :attempts,
             updated = :updated, not_before = :not_before, at_most = :at_most, repeated = :repeated, reason = :reason,
             hint = :hint, decided_by = :decided_by, params = :params, plan = :plan, approved = :approved
         WHERE n = :n",
    )?
    .execute(named_params! {
        ":n": n,
        ":rule": row.rule,
        ":handler": row.handler,
        ":key": row.key,
        ":state": row.state.word(),
        ":attempts": row.attempts,
        ":updated": time(row.updated),
        ":not_before": time(row.not_before),
        ":at_most": row.at_most.map(time),
        ":repeated": row.repeated,
        ":reason": short(row.reason.as_deref()),
        ":hint": short(row.hint.as_deref()),
        ":decided_by": short(row.decided_by.as_deref()),
        ":params": row.with.as_ref().map(json).transpose()?,
        ":plan": json(&row.plan)?,
        ":approved": row.approved.as_ref().map(json).transpose()?,
    })?;
    if !row.done.is_empty() || row.state == State::Applying {
        tx.prepare_cached("DELETE FROM change_done WHERE reaction = ?1")?.execute([n])?;
    }
    row.done.iter().try_for_each(|change| add_done(tx, n, change, row.updated))
}

fn short(text: Option<&str>) -> Option<std::borrow::Cow<'_, str>> {
    text.map(|text| cut(text, TEXT_BYTES_MAX))
}

pub(super) fn add_done(tx: &Transaction<'_>, reaction: i64, change: &Change, at: Timestamp) -> Result<(), Fault> {
    tx.prepare_cached(
        "INSERT INTO change_done (reaction, position, at, change)
         VALUES (?1, (SELECT coalesce(max(position), 0) + 1 FROM change_done WHERE reaction = ?1), ?2, ?3)",
    )?
    .execute(params![reaction, time(at), json(change)?])?;
    Ok(())
}

/// One more line, folded into the last one if that says the same. A full story keeps how it began and how it ended.
fn tell(tx: &Transaction<'_>, reaction: i64, at: Timestamp, what: &str, detail: &str) -> Result<(), Fault> {
    let (at, what, detail) = (time(at), cut(what, TEXT_BYTES_MAX), cut(detail, TEXT_BYTES_MAX));
    let last: Option<(i64, bool)> = tx
        .prepare_cached(
            "SELECT position, what = ?2 AND detail = ?3 FROM story WHERE reaction = ?1 ORDER BY position DESC LIMIT 1",
        )?
        .query_row(params![reaction, what, detail], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let position = match last {
        Some((position, true)) => {
            tx.prepare_cached(
                "UPDATE story SET times = times + 1, last_at = ?3 WHERE reaction = ?1 AND position = ?2",
            )?
            .execute(params![reaction, position, at])?;
            return Ok(());
        }
        Some((position, false)) => position,
        None => 0,
    };
    if position >= i64::try_from(STORY_LINES_MAX).unwrap_or(i64::MAX) {
        tx.prepare_cached(
            "DELETE FROM story WHERE reaction = ?1 AND position =
                 (SELECT max(position) FROM story WHERE reaction = ?1 AND position < ?2)",
        )?
        .execute([reaction, position])?;
    }
    tx.prepare_cached(
        "INSERT INTO story (reaction, position, at, last_at, what, detail, times) VALUES (?1, ?2, ?3, ?3, ?4, ?5, 1)",
    )?
    .execute(params![reaction, position + 1, at, what, detail])?;
    Ok(())
}

/// Folded into the one with the same bus, topic and reason, which thereby becomes the newest.
fn refuse(tx: &Transaction<'_>, at: Timestamp, bus: &str, topic: &str, reason: &str, body: &str) -> Result<(), Fault> {
    tx.prepare_cached(
        "INSERT INTO refused (at, bus, topic, reason, body, times) VALUES (?1, ?2, ?3, ?4, ?5, 1)
         ON CONFLICT (bus, topic, reason) DO UPDATE
         SET n = (SELECT max(n) + 1 FROM refused), at = excluded.at, body = excluded.body, times = times + 1",
    )?
    .execute(params![
        time(at),
        bus,
        cut(topic, TOPIC_BYTES_MAX),
        cut(reason, TEXT_BYTES_MAX),
        cut(body, REFUSED_BODY_BYTES_MAX)
    ])?;
    Ok(())
}

fn forget_old_refused(tx: &Transaction<'_>) -> Result<(), Fault> {
    tx.prepare_cached("DELETE FROM refused WHERE n <= (SELECT n FROM refused ORDER BY n DESC LIMIT 1 OFFSET ?1)")?
        .execute([i64::try_from(REFUSED_KEPT_MAX).unwrap_or(i64::MAX)])?;
    Ok(())
}

fn set(tx: &Transaction<'_>, name: &str, value: Option<&str>) -> Result<(), Fault> {
    match value {
        Some(value) => tx
            .prepare_cached(
                "INSERT INTO setting (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
            )?
            .execute([name, value])?,
        None => tx.prepare_cached("DELETE FROM setting WHERE name = ?1")?.execute([name])?,
    };
    Ok(())
}
