//! Tables into answers. Never writes; each answer is read in one transaction, so it fits together.

use std::collections::{HashMap, HashSet};

use handler_api::Change;
use serde_json::Map;
use tokio_postgres::Row;
use tokio_postgres::types::FromSqlOwned;

use super::copy;
use super::fault::Fault;
use super::history;
use super::session::Session;
use super::text::{meant, plain};
use super::write::lower;
use crate::journal::nodes::{Handed, NodeRow, Slots, What};
use crate::journal::text::{end_of_prefix, read_json, state};
use crate::journal::{Answer, Counts, Filter, Question, ReactionRow, RefusedRow, State, Story, StoryLine};
use crate::message::{Message, Topic};

/// The columns of a reaction.
macro_rules! reaction_where {
    ($rest:literal) => {
        concat!(
            "SELECT n, id, rule, handler, key, state, attempts, created, updated, not_before, at_most,
                 params::text AS params, reason, hint, repeated, plan::text AS plan, approved::text AS approved,
                 decided_by, messages, part::text AS part, parent FROM reaction WHERE ",
            $rest
        )
    };
}
pub(super) use reaction_where;

/// Which of these message ids are stored.
pub(super) async fn seen(session: &Session, ids: &[&str]) -> Result<HashSet<String>, Fault> {
    let asked: Vec<String> = ids.iter().map(|id| plain(id)).collect();
    let rows = session.rows("SELECT id FROM message WHERE id = ANY($1)", &[&asked]).await?;
    rows.iter().map(|row| text(row, "id")).collect()
}

/// The answer.
pub(super) async fn answer(session: &Session, question: &Question) -> Result<Answer, Fault> {
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let answer = answer_within(session, question).await;
    session.run("ROLLBACK").await?;
    answer
}

async fn answer_within(session: &Session, question: &Question) -> Result<Answer, Fault> {
    match question {
        Question::Pending => {
            let rows = session.rows(reaction_where!("state IN ('waiting','applying','held') ORDER BY n"), &[]).await?;
            stories(session, reactions(session, &rows).await?, false).await.map(Answer::Stories)
        }
        Question::List(filter) => {
            let found = fitting(session, filter).await?;
            Ok(Answer::Reactions(found.into_iter().map(|numbered| numbered.1).collect()))
        }
        Question::Stories(filter) => stories(session, fitting(session, filter).await?, true).await.map(Answer::Stories),
        Question::Counts => counts(session).await.map(Answer::Counts),
        Question::Settings(prefix) => settings(session, prefix).await.map(Answer::Settings),
        Question::Refused(at_most) => refused(session, *at_most).await.map(Answer::Refused),
        Question::Page(page) => copy::page(session, page).await.map(Answer::Page),
        Question::PendingOf(slots) => {
            let sql = reaction_where!("slot = ANY($1) AND state IN ('waiting','applying','held') ORDER BY n");
            let rows = session.rows(sql, &[&numbers_of(*slots)]).await?;
            stories(session, reactions(session, &rows).await?, false).await.map(Answer::Stories)
        }
        Question::Inbox(slots, at_most) => inbox(session, *slots, *at_most).await.map(Answer::Inbox),
        Question::Nodes => nodes(session).await.map(Answer::Nodes),
        Question::Messages(wanted) => history::page(session, wanted).await.map(Answer::Messages),
    }
}

/// A reaction with its number.
type Numbered = (i64, ReactionRow);

async fn fitting(session: &Session, filter: &Filter) -> Result<Vec<Numbered>, Fault> {
    let states: Vec<&str> = filter.states.iter().map(|state| state.word()).collect();
    let states = if states.is_empty() { None } else { Some(states) };
    let rule = filter.rule.as_deref().map(plain);
    let first = filter.id_prefix.as_deref().map(lower);
    let last = first.as_deref().map(end_of_prefix);
    let rows = session
        .rows(
            reaction_where!(
                "($1::text[] IS NULL OR state = ANY($1)) AND ($2::text IS NULL OR rule = $2)
                 AND ($3::text IS NULL OR lower(id) BETWEEN $3 AND $4::text) ORDER BY n DESC LIMIT $5"
            ),
            &[&states, &rule, &first, &last, &limit(filter.at_most)],
        )
        .await?;
    reactions(session, &rows).await
}

/// The server's LIMIT: NULL = all.
fn limit(at_most: usize) -> Option<i64> {
    if at_most == 0 { None } else { Some(i64::try_from(at_most).unwrap_or(i64::MAX)) }
}

pub(super) async fn reactions(session: &Session, rows: &[Row]) -> Result<Vec<Numbered>, Fault> {
    let mut found = rows.iter().map(reaction).collect::<Result<Vec<Numbered>, Fault>>()?;
    let numbers: Vec<i64> = found.iter().map(|numbered| numbered.0).collect();
    let rows = session
        .rows(
            "SELECT reaction, change::text AS change FROM change_done WHERE reaction = ANY($1)
             ORDER BY reaction, position",
            &[&numbers],
        )
        .await?;
    let mut done: HashMap<i64, Vec<Change>> = HashMap::new();
    for row in &rows {
        let change = read_json(&get::<String>(row, "change")?, "change_done.change")?;
        done.entry(get(row, "reaction")?).or_default().push(change);
    }
    for (n, reaction) in &mut found {
        reaction.done = done.remove(n).unwrap_or_default();
    }
    Ok(found)
}

pub(super) fn get<T: FromSqlOwned>(row: &Row, column: &str) -> Result<T, Fault> {
    Ok(row.try_get(column)?)
}

pub(super) fn text(row: &Row, column: &str) -> Result<String, Fault> {
    get(row, column).map(meant)
}

fn maybe(row: &Row, column: &str) -> Result<Option<String>, Fault> {
    Ok(get::<Option<String>>(row, column)?.map(meant))
}

/// A number that we once wrote.
pub(super) fn number<T: TryFrom<i64>>(row: &Row, column: &str) -> Result<T, Fault> {
    let number: i64 = get(row, column)?;
    T::try_from(number).map_err(|_| Fault::Damaged(format!("{number} can't be in the column {column}")))
}

fn maybe_json<T: serde::de::DeserializeOwned>(row: &Row, column: &str) -> Result<Option<T>, Fault> {
    let json: Option<String> = get(row, column)?;
    Ok(json.map(|json| read_json(&json, &format!("reaction.{column}"))).transpose()?)
}

fn reaction(row: &Row) -> Result<Numbered, Fault> {
    let found = ReactionRow {
        id: text(row, "id")?,
        rule: text(row, "rule")?,
        handler: text(row, "handler")?,
        key: text(row, "key")?,
        state: state(&text(row, "state")?)?,
        attempts: number(row, "attempts")?,
        created: get(row, "created")?,
        updated: get(row, "updated")?,
        not_before: get(row, "not_before")?,
        at_most: get(row, "at_most")?,
        with: maybe_json(row, "params")?,
        reason: maybe(row, "reason")?,
        hint: maybe(row, "hint")?,
        repeated: number(row, "repeated")?,
        plan: maybe_json(row, "plan")?.unwrap_or_default(),
        done: Vec::new(),
        approved: maybe_json(row, "approved")?,
        decided_by: maybe(row, "decided_by")?,
        messages: number(row, "messages")?,
        part: maybe_json(row, "part")?,
        parent: maybe(row, "parent")?,
    };
    Ok((get(row, "n")?, found))
}

async fn stories(session: &Session, reactions: Vec<Numbered>, with_lines: bool) -> Result<Vec<Story>, Fault> {
    let numbers: Vec<i64> = reactions.iter().map(|numbered| numbered.0).collect();
    let mut messages: HashMap<i64, Vec<Message>> = HashMap::new();
    let rows = session
        .rows(
            "SELECT reaction, m.id, m.topic, m.sent, m.bus, m.signer, m.headers::text AS headers, m.body::text AS body
             FROM reaction_message JOIN message AS m ON m.n = reaction_message.message
             WHERE reaction = ANY($1) ORDER BY reaction, position",
            &[&numbers],
        )
        .await?;
    for row in &rows {
        messages.entry(get(row, "reaction")?).or_default().push(message(row)?);
    }
    let mut lines: HashMap<i64, Vec<StoryLine>> = HashMap::new();
    if with_lines {
        let rows = session
            .rows(
                "SELECT reaction, at, last_at, what, detail, times FROM story WHERE reaction = ANY($1)
                 ORDER BY reaction, position",
                &[&numbers],
            )
            .await?;
        for row in &rows {
            lines.entry(get(row, "reaction")?).or_default().push(line(row)?);
        }
    }
    let story = |(n, reaction): Numbered| Story {
        messages: messages.remove(&n).unwrap_or_default(),
        lines: lines.remove(&n).unwrap_or_default(),
        reaction,
    };
    Ok(reactions.into_iter().map(story).collect())
}

pub(super) fn message(row: &Row) -> Result<Message, Fault> {
    let headers: Option<String> = get(row, "headers")?;
    Ok(Message {
        id: text(row, "id")?,
        topic: Topic::new(&text(row, "topic")?).map_err(Fault::Damaged)?,
        sent: get(row, "sent")?,
        bus: text(row, "bus")?.into(),
        signer: text(row, "signer")?,
        headers: headers.map_or_else(|| Ok(Map::new()), |json| read_json(&json, "message.headers"))?,
        body: read_json(&get::<String>(row, "body")?, "message.body")?,
    })
}

pub(super) fn line(row: &Row) -> Result<StoryLine, Fault> {
    Ok(StoryLine {
        at: get(row, "at")?,
        last_at: get(row, "last_at")?,
        what: text(row, "what")?,
        detail: text(row, "detail")?,
        times: number(row, "times")?,
    })
}

/// How many messages are stored.
pub(super) async fn count_messages(session: &Session) -> Result<u64, Fault> {
    let rows = session.rows("SELECT count(*) AS n FROM message", &[]).await?;
    rows.first().map_or(Ok(0), |row| number(row, "n"))
}

async fn counts(session: &Session) -> Result<Counts, Fault> {
    let mut by_state: Vec<(State, u64)> = Vec::new();
    for row in session.rows("SELECT state, count(*) AS n FROM reaction GROUP BY state", &[]).await? {
        by_state.push((state(&text(&row, "state")?)?, number(&row, "n")?));
    }
    by_state.sort();
    let rows = session
        .rows(
            "SELECT (SELECT count(*) FROM refused) AS refused, (
                 SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
                 WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace) AS bytes",
            &[],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok(Counts::default()) };
    let messages = count_messages(session).await?;
    Ok(Counts { by_state, messages, refused: number(row, "refused")?, bytes: number(row, "bytes")? })
}

async fn settings(session: &Session, prefix: &str) -> Result<Vec<(String, String)>, Fault> {
    let prefix = plain(prefix);
    let rows = session
        .rows(
            "SELECT name, value FROM setting WHERE name BETWEEN $1 AND $2 ORDER BY name",
            &[&prefix, &end_of_prefix(&prefix)],
        )
        .await?;
    rows.iter().map(|row| Ok((text(row, "name")?, text(row, "value")?))).collect()
}

async fn refused(session: &Session, at_most: usize) -> Result<Vec<RefusedRow>, Fault> {
    let rows = session
        .rows("SELECT at, bus, topic, reason, body, times FROM refused ORDER BY n DESC LIMIT $1", &[&limit(at_most)])
        .await?;
    rows.iter().map(refused_row).collect()
}

pub(super) fn refused_row(row: &Row) -> Result<RefusedRow, Fault> {
    Ok(RefusedRow {
        at: get(row, "at")?,
        bus: text(row, "bus")?,
        topic: text(row, "topic")?,
        reason: text(row, "reason")?,
        body: text(row, "body")?,
        times: number(row, "times")?,
    })
}

/// As the columns `slot` and `slot.n` have them.
pub(super) fn numbers_of(slots: Slots) -> Vec<i16> {
    slots.iter().map(i16::from).collect()
}

/// What begins with a word that we don't know is not even read: it must not keep what comes behind it from being taken.
async fn inbox(session: &Session, slots: Slots, at_most: usize) -> Result<Vec<Handed>, Fault> {
    let rows = session
        .rows(
            "SELECT inbox.n AS row, what::text AS what, m.id, m.topic, m.sent, m.bus, m.signer, m.headers::text AS headers,
                 m.body::text AS body
             FROM inbox LEFT JOIN message AS m ON m.n = inbox.message
             WHERE slot = ANY($1) AND split_part(what::text, '\"', 2) = ANY($3) ORDER BY inbox.n LIMIT $2",
            &[&numbers_of(slots), &limit(at_most), &What::WORDS.as_slice()],
        )
        .await?;
    let mut handed = Vec::with_capacity(rows.len());
    for row in &rows {
        let text: String = get(row, "what")?;
        let Ok(what) = serde_json::from_str::<What>(&text) else {
            // A newer node has put it there: it waits until one that understands it has the slot.
            tracing::warn!(what = text, "this reactor does not understand what is in its inbox; upgrade it");
            continue;
        };
        let has_message = get::<Option<String>>(row, "id")?.is_some();
        let message = if has_message { Some(message(row)?) } else { None };
        handed.push(Handed { n: get(row, "row")?, what, message, story: None });
    }
    let ids: Vec<String> = handed.iter().filter_map(|handed| handed.what.reaction()).map(lower).collect();
    if !ids.is_empty() {
        let rows = session.rows(reaction_where!("lower(id) = ANY($1)"), &[&ids]).await?;
        let found = stories(session, reactions(session, &rows).await?, false).await?;
        for handed in &mut handed {
            let story = found.iter().find(|story| handed.what.reaction() == Some(&story.reaction.id));
            handed.story = story.cloned().map(Box::new);
        }
    }
    Ok(handed)
}

async fn nodes(session: &Session) -> Result<Vec<NodeRow>, Fault> {
    let rows = session
        .rows(
            "SELECT name, shown, version, since, coalesce(until > clock_timestamp(), false) AS is_alive,
                 ARRAY(SELECT n FROM slot WHERE slot.node = name ORDER BY n) AS slots,
                 (SELECT count(*) FROM reaction JOIN slot ON slot.n = reaction.slot
                  WHERE slot.node = name AND state IN ('waiting','applying','held')) AS pending,
                 (SELECT count(*) FROM inbox JOIN slot ON slot.n = inbox.slot WHERE slot.node = name) AS inbox
             FROM node LEFT JOIN lease ON lease.node = name ORDER BY name",
            &[],
        )
        .await?;
    let row = |row: &Row| {
        let slots: Vec<i16> = get(row, "slots")?;
        Ok(NodeRow {
            name: text(row, "name")?,
            shown: text(row, "shown")?,
            version: text(row, "version")?,
            since: get(row, "since")?,
            is_alive: get(row, "is_alive")?,
            slots: slots.into_iter().filter_map(|slot| u8::try_from(slot).ok()).collect(),
            pending: number(row, "pending")?,
            inbox: number(row, "inbox")?,
        })
    };
    rows.iter().map(row).collect()
}
