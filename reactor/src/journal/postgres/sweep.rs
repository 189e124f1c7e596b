//! Forgetting: one small step of it, inside the transaction that the caller commits. Never touches what is pending, nor what
//! waits in the inbox.
//!
//! A message goes with the last reaction it led to. One that led to none goes by the time it was stored.

use jiff::Timestamp;
use tokio_postgres::Row;

use super::fault::Fault;
use super::session::Session;
use super::text::time;
use crate::journal::Swept;

/// Reactions, or messages without one, that one step forgets at most.
const STEP_ROWS_MAX: usize = 200;

/// The first half of the key of the lock of who sweeps: "reas"; the second is the schema's.
const SWEEP_LOCK: i32 = 0x7265_6173;

/// One step: what is older than `before`, then the oldest messages of the `over` that are too many.
pub(super) async fn step(session: &Session, lock: i32, before: Timestamp, over: u64) -> Result<Swept, Fault> {
    let before = time(before);
    let most = STEP_ROWS_MAX as i64;
    // One node at a time is enough, and two would only be in each other's way.
    let rows = session.rows("SELECT pg_try_advisory_xact_lock($1, $2) AS mine", &[&SWEEP_LOCK, &lock]).await?;
    if !rows.first().map(|row| row.try_get("mine")).transpose()?.unwrap_or(false) {
        return Ok(Swept::default());
    }
    let old = session
        .rows(
            "SELECT n FROM reaction WHERE state IN ('done','planned','failed','dropped') AND updated < $1 LIMIT $2",
            &[&before, &most],
        )
        .await?;
    let mut messages = forget_reactions(session, &numbers(&old)?).await?;
    if old.len() == STEP_ROWS_MAX {
        return Ok(Swept { messages, more: true });
    }
    let alone = session
        .rows(
            "SELECT n FROM message WHERE stored < $1
                 AND NOT EXISTS (SELECT 1 FROM reaction_message WHERE message = message.n)
                 AND NOT EXISTS (SELECT 1 FROM inbox WHERE inbox.message = message.n)
             ORDER BY stored LIMIT $2",
            &[&before, &most],
        )
        .await?;
    messages += forget_messages_alone(session, &numbers(&alone)?).await?;
    if alone.len() == STEP_ROWS_MAX {
        return Ok(Swept { messages, more: true });
    }
    let too_many = over.saturating_sub(messages);
    let went = forget_oldest(session, too_many).await?;
    Ok(Swept { messages: messages + went, more: went > 0 && went < too_many })
}

fn numbers(rows: &[Row]) -> Result<Vec<i64>, Fault> {
    Ok(rows.iter().map(|row| row.try_get("n")).collect::<Result<_, _>>()?)
}

/// The oldest messages that nothing pending has, with all their reactions, until about `too_many` went.
async fn forget_oldest(session: &Session, too_many: u64) -> Result<u64, Fault> {
    if too_many == 0 {
        return Ok(0);
    }
    let most = i64::try_from(too_many).unwrap_or(i64::MAX).min(STEP_ROWS_MAX as i64);
    let oldest = session
        .rows(
            "SELECT n, (
                 SELECT coalesce(sum(messages), 1)::bigint FROM reaction_message JOIN reaction ON reaction.n = reaction
                 WHERE message = message.n) AS with_it
             FROM message WHERE NOT EXISTS (
                 SELECT 1 FROM reaction_message JOIN reaction ON reaction.n = reaction_message.reaction
                 WHERE reaction_message.message = message.n AND state IN ('waiting','applying','held'))
                 AND NOT EXISTS (SELECT 1 FROM inbox WHERE inbox.message = message.n)
             ORDER BY n LIMIT $1",
            &[&most],
        )
        .await?;
    // A reaction of many messages takes them all along: so few messages, that no more go than must.
    let (mut chosen, mut going) = (Vec::new(), 0);
    for row in &oldest {
        if going >= too_many {
            break;
        }
        chosen.push(row.try_get::<_, i64>("n")?);
        going += u64::try_from(row.try_get::<_, i64>("with_it")?).unwrap_or(1).max(1);
    }
    let reactions =
        session.rows("SELECT DISTINCT reaction AS n FROM reaction_message WHERE message = ANY($1)", &[&chosen]).await?;
    let went = forget_reactions(session, &numbers(&reactions)?).await?;
    Ok(went + forget_messages_alone(session, &chosen).await?)
}

/// Reactions with their stories, and those of their messages that no other reaction has; returns how many messages went.
async fn forget_reactions(session: &Session, reactions: &[i64]) -> Result<u64, Fault> {
    if reactions.is_empty() {
        return Ok(0);
    }
    let theirs = session
        .rows("SELECT DISTINCT message AS n FROM reaction_message WHERE reaction = ANY($1)", &[&reactions])
        .await?;
    session.changed("DELETE FROM reaction WHERE n = ANY($1)", &[&reactions]).await?;
    forget_messages_alone(session, &numbers(&theirs)?).await
}

/// Messages, unless a reaction still has them; returns how many went.
async fn forget_messages_alone(session: &Session, messages: &[i64]) -> Result<u64, Fault> {
    if messages.is_empty() {
        return Ok(0);
    }
    session
        .changed(
            "DELETE FROM message WHERE n = ANY($1)
                 AND NOT EXISTS (SELECT 1 FROM reaction_message WHERE message = message.n)
                 AND NOT EXISTS (SELECT 1 FROM inbox WHERE inbox.message = message.n)",
            &[&messages],
        )
        .await
}
