//! Rows as they are, out of the tables and into them.

use rusqlite::{Connection, Transaction, params};

use super::fault::Fault;
use super::read::{REACTION, lines, message, reactions};
use super::write::{add_done, add_envelope, add_message, add_reaction, number};
use crate::journal::copy::{Kind, Page, Row};
use crate::journal::text::{read_time, time};
use crate::journal::{Kept, ReactionRow, RefusedRow};

/// The rows of a page, each with its number.
pub(super) fn page(tx: &Connection, page: &Page) -> Result<Vec<(u64, Row)>, Fault> {
    let after = i64::try_from(page.after).unwrap_or(i64::MAX);
    let at_most = i64::try_from(page.at_most).unwrap_or(i64::MAX);
    let found = match page.of {
        Kind::Messages => messages(tx, after, at_most)?,
        Kind::Reactions => {
            let sql = format!("{REACTION} WHERE n > ? ORDER BY n LIMIT ?");
            let rows = reactions(tx, &sql, vec![after.into(), at_most.into()])?;
            rows.into_iter().map(|(n, row)| Ok((n, reaction(tx, n, row)?))).collect::<Result<_, Fault>>()?
        }
        Kind::Refused => refused(tx, after, at_most)?,
    };
    Ok(found.into_iter().map(|(n, row)| (u64::try_from(n).unwrap_or_default(), row)).collect())
}

fn messages(tx: &Connection, after: i64, at_most: i64) -> Result<Vec<(i64, Row)>, Fault> {
    let mut statement = tx.prepare_cached(
        "SELECT id, topic, sent, bus, signer, headers, body, n, stored, envelope FROM message WHERE n > ?1 ORDER BY n LIMIT ?2",
    )?;
    let mut rows = statement.query([after, at_most])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let stored = read_time(&row.get::<_, String>(8)?)?;
        let kept = Kept { message: message(row)?, envelope: row.get(9)? };
        found.push((row.get(7)?, Row::Message { kept, stored }));
    }
    Ok(found)
}

fn reaction(tx: &Connection, n: i64, row: ReactionRow) -> Result<Row, Fault> {
    let texts = |sql: &str| -> Result<Vec<String>, Fault> {
        let mut statement = tx.prepare_cached(sql)?;
        let rows = statement.query_map([n], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    let messages = texts(
        "SELECT m.id FROM reaction_message JOIN message AS m ON m.n = reaction_message.message
         WHERE reaction = ?1 ORDER BY position",
    )?;
    let done_at = texts("SELECT at FROM change_done WHERE reaction = ?1 ORDER BY position")?;
    let done_at = done_at.iter().map(|at| Ok(read_time(at)?)).collect::<Result<_, Fault>>()?;
    Ok(Row::Reaction { row: Box::new(row), messages, done_at, lines: lines(tx, n)? })
}

fn refused(tx: &Connection, after: i64, at_most: i64) -> Result<Vec<(i64, Row)>, Fault> {
    let mut statement = tx.prepare_cached(
        "SELECT n, at, bus, topic, reason, body, times FROM refused WHERE n > ?1 ORDER BY n LIMIT ?2",
    )?;
    let mut rows = statement.query([after, at_most])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let times: i64 = row.get(6)?;
        let refused = RefusedRow {
            at: read_time(&row.get::<_, String>(1)?)?,
            bus: row.get(2)?,
            topic: row.get(3)?,
            reason: row.get(4)?,
            body: row.get(5)?,
            times: u64::try_from(times).unwrap_or_default(),
        };
        found.push((row.get(0)?, Row::Refused(refused)));
    }
    Ok(found)
}

/// Puts a row in; how many messages that are new.
pub(super) fn put(tx: &Transaction<'_>, row: &Row) -> Result<u64, Fault> {
    match row {
        Row::Message { kept: Kept { message, envelope }, stored } => {
            let is_new = add_message(tx, message)?;
            envelope.iter().try_for_each(|fields| add_envelope(tx, &message.id, fields))?;
            tx.prepare_cached("UPDATE message SET stored = ?2 WHERE id = ?1")?
                .execute(params![message.id, time(*stored)])?;
            Ok(u64::from(is_new))
        }
        Row::Reaction { row, messages, done_at, lines } => {
            let bare = ReactionRow { done: Vec::new(), ..ReactionRow::clone(row) };
            add_reaction(tx, &bare, messages)?;
            let n = number(tx, &row.id)?;
            row.done.iter().zip(done_at).try_for_each(|(change, at)| add_done(tx, n, change, *at))?;
            for (position, line) in (1_i64..).zip(lines) {
                tx.prepare_cached(
                    "INSERT INTO story (reaction, position, at, last_at, what, detail, times)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    n,
                    position,
                    time(line.at),
                    time(line.last_at),
                    line.what,
                    line.detail,
                    line.times
                ])?;
            }
            Ok(0)
        }
        Row::Refused(row) => {
            let times = i64::try_from(row.times).unwrap_or(i64::MAX);
            tx.prepare_cached(
                "INSERT INTO refused (at, bus, topic, reason, body, times) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![time(row.at), row.bus, row.topic, row.reason, row.body, times])?;
            Ok(0)
        }
    }
}
