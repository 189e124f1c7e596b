//! Tables into answers. Never writes; each answer is read in one transaction, so it fits together.

use std::collections::HashSet;

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, Row, params_from_iter};
use serde_json::Map;

use super::copy;
use super::fault::Fault;
use super::history;
use super::schema::pending;
use crate::journal::text::{end_of_prefix, read_json, read_time, state};
use crate::journal::{Answer, Counts, Filter, Question, ReactionRow, RefusedRow, State, Story, StoryLine};
use crate::message::{Message, Topic};

pub(super) const REACTION: &str =
    "SELECT n, id, rule, handler, key, state, attempts, created, updated, not_before, at_most,
    params, reason, hint, repeated, plan, approved, decided_by, messages, part, parent
    FROM reaction";

/// Which of these message ids are stored.
pub(super) fn seen(connection: &Connection, ids: &[&str]) -> Result<HashSet<String>, Fault> {
    let tx = connection.unchecked_transaction()?;
    let mut statement = tx.prepare_cached("SELECT 1 FROM message WHERE id = ?1")?;
    let mut known = HashSet::new();
    for id in ids {
        if statement.exists([id])? {
            known.insert((*id).to_owned());
        }
    }
    Ok(known)
}

/// The answer; `bytes` is the size on disk.
pub(super) fn answer(connection: &Connection, question: &Question, bytes: u64) -> Result<Answer, Fault> {
    let tx = connection.unchecked_transaction()?;
    match question {
        Question::Pending => stories(&tx, pending_reactions(&tx)?, false).map(Answer::Stories),
        Question::List(filter) => {
            Ok(Answer::Reactions(fitting(&tx, filter)?.into_iter().map(|numbered| numbered.1).collect()))
        }
        Question::Stories(filter) => stories(&tx, fitting(&tx, filter)?, true).map(Answer::Stories),
        Question::Counts => counts(&tx, bytes).map(Answer::Counts),
        Question::Settings(prefix) => settings(&tx, prefix).map(Answer::Settings),
        Question::Refused(at_most) => refused(&tx, *at_most).map(Answer::Refused),
        Question::Page(page) => copy::page(&tx, page).map(Answer::Page),
        // Nobody shares this journal.
        Question::PendingOf(_) => Ok(Answer::Stories(Vec::new())),
        Question::Inbox(..) => Ok(Answer::Inbox(Vec::new())),
        Question::Nodes => Ok(Answer::Nodes(Vec::new())),
        Question::Messages(wanted) => history::page(&tx, wanted).map(Answer::Messages),
    }
}

/// A reaction with its number in the file.
pub(super) type Numbered = (i64, ReactionRow);

fn pending_reactions(tx: &Connection) -> Result<Vec<Numbered>, Fault> {
    reactions(tx, &format!("{REACTION} WHERE state IN ({}) ORDER BY n", pending!()), Vec::new())
}

fn fitting(tx: &Connection, filter: &Filter) -> Result<Vec<Numbered>, Fault> {
    let mut terms = vec!["1".to_owned()];
    let mut values: Vec<SqlValue> = Vec::new();
    if !filter.states.is_empty() {
        terms.push(format!("state IN (?{})", ", ?".repeat(filter.states.len() - 1)));
        values.extend(filter.states.iter().map(|state| SqlValue::Text(state.word().into())));
    }
    if let Some(rule) = &filter.rule {
        terms.push("rule = ?".into());
        values.push(SqlValue::Text(rule.clone()));
    }
    if let Some(prefix) = &filter.id_prefix {
        terms.push("id BETWEEN ? AND ?".into());
        values.extend([SqlValue::Text(prefix.clone()), SqlValue::Text(end_of_prefix(prefix))]);
    }
    values.push(SqlValue::Integer(limit(filter.at_most)));
    reactions(tx, &format!("{REACTION} WHERE {} ORDER BY n DESC LIMIT ?", terms.join(" AND ")), values)
}

/// SQLite's LIMIT: negative = all.
fn limit(at_most: usize) -> i64 {
    if at_most == 0 { -1 } else { i64::try_from(at_most).unwrap_or(i64::MAX) }
}

pub(super) fn reactions(tx: &Connection, sql: &str, values: Vec<SqlValue>) -> Result<Vec<Numbered>, Fault> {
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((row.get(0)?, reaction(row)?));
    }
    for (n, reaction) in &mut found {
        reaction.done = done(tx, *n)?;
    }
    Ok(found)
}

fn reaction(row: &Row<'_>) -> Result<ReactionRow, Fault> {
    let text = |column: &str| Ok::<String, Fault>(row.get(column)?);
    let maybe = |column: &str| Ok::<Option<String>, Fault>(row.get(column)?);
    Ok(ReactionRow {
        id: text("id")?,
        rule: text("rule")?,
        handler: text("handler")?,
        key: text("key")?,
        state: state(&text("state")?)?,
        attempts: row.get("attempts")?,
        created: read_time(&text("created")?)?,
        updated: read_time(&text("updated")?)?,
        not_before: read_time(&text("not_before")?)?,
        at_most: maybe("at_most")?.map(|at| read_time(&at)).transpose()?,
        with: maybe("params")?.map(|json| read_json(&json, "reaction.params")).transpose()?,
        reason: maybe("reason")?,
        hint: maybe("hint")?,
        repeated: row.get("repeated")?,
        plan: read_json(&text("plan")?, "reaction.plan")?,
        done: Vec::new(),
        approved: maybe("approved")?.map(|json| read_json(&json, "reaction.approved")).transpose()?,
        decided_by: maybe("decided_by")?,
        messages: row.get("messages")?,
        part: maybe("part")?.map(|json| read_json(&json, "reaction.part")).transpose()?,
        parent: maybe("parent")?,
    })
}

fn done(tx: &Connection, reaction: i64) -> Result<Vec<handler_api::Change>, Fault> {
    let mut statement = tx.prepare_cached("SELECT change FROM change_done WHERE reaction = ?1 ORDER BY position")?;
    let mut rows = statement.query([reaction])?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        changes.push(read_json(&row.get::<_, String>(0)?, "change_done.change")?);
    }
    Ok(changes)
}

fn stories(tx: &Connection, reactions: Vec<Numbered>, with_lines: bool) -> Result<Vec<Story>, Fault> {
    let story = |(n, reaction): Numbered| {
        let lines = if with_lines { lines(tx, n)? } else { Vec::new() };
        Ok(Story { messages: messages(tx, n)?, lines, reaction })
    };
    reactions.into_iter().map(story).collect()
}

fn messages(tx: &Connection, reaction: i64) -> Result<Vec<Message>, Fault> {
    let mut statement = tx.prepare_cached(
        "SELECT m.id, m.topic, m.sent, m.bus, m.signer, m.headers, m.body
         FROM reaction_message JOIN message AS m ON m.n = reaction_message.message
         WHERE reaction = ?1 ORDER BY position",
    )?;
    let mut rows = statement.query([reaction])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(message(row)?);
    }
    Ok(found)
}

pub(super) fn message(row: &Row<'_>) -> Result<Message, Fault> {
    let headers: Option<String> = row.get(5)?;
    Ok(Message {
        id: row.get(0)?,
        topic: Topic::new(&row.get::<_, String>(1)?).map_err(Fault::Damaged)?,
        sent: read_time(&row.get::<_, String>(2)?)?,
        bus: row.get::<_, String>(3)?.into(),
        signer: row.get(4)?,
        headers: headers.map_or_else(|| Ok(Map::new()), |json| read_json(&json, "message.headers"))?,
        body: read_json(&row.get::<_, String>(6)?, "message.body")?,
    })
}

pub(super) fn lines(tx: &Connection, reaction: i64) -> Result<Vec<StoryLine>, Fault> {
    let mut statement =
        tx.prepare_cached("SELECT at, last_at, what, detail, times FROM story WHERE reaction = ?1 ORDER BY position")?;
    let mut rows = statement.query([reaction])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(StoryLine {
            at: read_time(&row.get::<_, String>(0)?)?,
            last_at: read_time(&row.get::<_, String>(1)?)?,
            what: row.get(2)?,
            detail: row.get(3)?,
            times: row.get(4)?,
        });
    }
    Ok(found)
}

/// A number that SQLite counted.
pub(super) fn count(tx: &Connection, sql: &str) -> Result<u64, Fault> {
    let number: i64 = tx.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(u64::try_from(number).unwrap_or_default())
}

fn counts(tx: &Connection, bytes: u64) -> Result<Counts, Fault> {
    let mut by_state = Vec::new();
    for state in State::ALL {
        let word = state.word();
        let number = count(tx, &format!("SELECT count(*) FROM reaction WHERE state = '{word}'"))?;
        if number > 0 {
            by_state.push((state, number));
        }
    }
    let messages = count(tx, "SELECT count(*) FROM message")?;
    let refused = count(tx, "SELECT count(*) FROM refused")?;
    Ok(Counts { by_state, messages, refused, bytes })
}

fn settings(tx: &Connection, prefix: &str) -> Result<Vec<(String, String)>, Fault> {
    let mut statement =
        tx.prepare_cached("SELECT name, value FROM setting WHERE name BETWEEN ?1 AND ?2 ORDER BY name")?;
    let rows = statement.query_map([prefix, &end_of_prefix(prefix)], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn refused(tx: &Connection, at_most: usize) -> Result<Vec<RefusedRow>, Fault> {
    let mut statement =
        tx.prepare_cached("SELECT at, bus, topic, reason, body, times FROM refused ORDER BY n DESC LIMIT ?1")?;
    let mut rows = statement.query([limit(at_most)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let times: i64 = row.get(5)?;
        found.push(RefusedRow {
            at: read_time(&row.get::<_, String>(0)?)?,
            bus: row.get(1)?,
            topic: row.get(2)?,
            reason: row.get(3)?,
            body: row.get(4)?,
            times: u64::try_from(times).unwrap_or_default(),
        });
    }
    Ok(found)
}
