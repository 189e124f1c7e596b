//! Forgetting: one small step of it, inside the transaction that the caller commits. Never touches what is pending.
//!
//! A message goes with the last reaction it led to. One that led to none goes by the time it was stored.

use jiff::Timestamp;
use rusqlite::Transaction;

use super::fault::Fault;
use super::schema::{finals, pending};
use crate::journal::Swept;
use crate::journal::text::time;

/// Reactions, or messages without one, that one step forgets at most.
pub(super) const STEP_ROWS_MAX: usize = 200;

/// One step: what is older than `before`, then the oldest messages of the `over` that are too many.
pub(super) fn step(tx: &Transaction<'_>, before: Timestamp, over: u64) -> Result<Swept, Fault> {
    let before = time(before);
    let mut messages = 0;
    let old = old_reactions(tx, &before)?;
    for reaction in &old {
        messages += forget_reaction(tx, *reaction)?;
    }
    if old.len() == STEP_ROWS_MAX {
        return Ok(Swept { messages, more: true });
    }
    let alone = old_messages_alone(tx, &before)?;
    for message in &alone {
        messages += forget_message_alone(tx, *message)?;
    }
    if alone.len() == STEP_ROWS_MAX {
        return Ok(Swept { messages, more: true });
    }
    let too_many = over.saturating_sub(messages);
    let went = forget_oldest(tx, too_many)?;
    Ok(Swept { messages: messages + went, more: went > 0 && went < too_many })
}

fn old_reactions(tx: &Transaction<'_>, before: &str) -> Result<Vec<i64>, Fault> {
    let sql = concat!("SELECT n FROM reaction WHERE state IN (", finals!(), ") AND updated < ?1 LIMIT ?2");
    let mut statement = tx.prepare_cached(sql)?;
    let rows = statement.query_map((before, STEP_ROWS_MAX as i64), |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// From the oldest on, up to the first that is too young.
fn old_messages_alone(tx: &Transaction<'_>, before: &str) -> Result<Vec<i64>, Fault> {
    let mut statement = tx.prepare_cached(
        "SELECT n, stored < ?1, EXISTS (SELECT 1 FROM reaction_message WHERE message = message.n)
         FROM message ORDER BY n",
    )?;
    let mut rows = statement.query([before])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (is_old, has_reaction): (bool, bool) = (row.get(1)?, row.get(2)?);
        if !is_old || found.len() == STEP_ROWS_MAX {
            break;
        }
        if !has_reaction {
            found.push(row.get(0)?);
        }
    }
    Ok(found)
}

/// The oldest messages that nothing pending has, with all their reactions, until about `too_many` went.
fn forget_oldest(tx: &Transaction<'_>, too_many: u64) -> Result<u64, Fault> {
    if too_many == 0 {
        return Ok(0);
    }
    let sql = concat!(
        "SELECT n FROM message WHERE NOT EXISTS (
             SELECT 1 FROM reaction_message JOIN reaction ON reaction.n = reaction_message.reaction
             WHERE reaction_message.message = message.n AND state IN (",
        pending!(),
        ")) ORDER BY n LIMIT ?1"
    );
    let most = i64::try_from(too_many).unwrap_or(i64::MAX).min(STEP_ROWS_MAX as i64);
    let oldest: Vec<i64> = tx.prepare_cached(sql)?.query_map([most], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut went = 0;
    for message in oldest {
        if went >= too_many {
            break;
        }
        for reaction in reactions_of(tx, message)? {
            went += forget_reaction(tx, reaction)?;
        }
        went += forget_message_alone(tx, message)?;
    }
    Ok(went)
}

fn reactions_of(tx: &Transaction<'_>, message: i64) -> Result<Vec<i64>, Fault> {
    let mut statement = tx.prepare_cached("SELECT reaction FROM reaction_message WHERE message = ?1")?;
    let rows = statement.query_map([message], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A reaction with its story, and those of its messages that no other reaction has; returns how many messages went.
fn forget_reaction(tx: &Transaction<'_>, reaction: i64) -> Result<u64, Fault> {
    let messages: Vec<i64> = tx
        .prepare_cached("SELECT message FROM reaction_message WHERE reaction = ?1")?
        .query_map([reaction], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    tx.prepare_cached("DELETE FROM reaction WHERE n = ?1")?.execute([reaction])?;
    let mut went = 0;
    for message in messages {
        went += forget_message_alone(tx, message)?;
    }
    Ok(went)
}

/// A message, unless a reaction still has it; returns how many went.
fn forget_message_alone(tx: &Transaction<'_>, message: i64) -> Result<u64, Fault> {
    let went = tx
        .prepare_cached(
            "DELETE FROM message WHERE n = ?1 AND NOT EXISTS (SELECT 1 FROM reaction_message WHERE message = ?1)",
        )?
        .execute([message])?;
    Ok(went as u64)
}
