//! Rows as they are, out of the tables and into them.

use std::collections::HashMap;

use jiff::Timestamp;

use super::fault::Fault;
use super::read::{get, line, message, number, reaction_where, reactions, refused_row, text};
use super::session::Session;
use super::text::{plain, time};
use super::write::{Must, Steps, fold, lower};
use crate::journal::copy::{Kind, Page, Row};
use crate::journal::{Kept, ReactionRow, StoryLine};

/// The rows of a page, each with its number.
pub(super) async fn page(session: &Session, page: &Page) -> Result<Vec<(u64, Row)>, Fault> {
    let after = i64::try_from(page.after).unwrap_or(i64::MAX);
    let at_most = i64::try_from(page.at_most).unwrap_or(i64::MAX);
    match page.of {
        Kind::Messages => {
            let sql = "SELECT n, stored, id, topic, sent, bus, signer, headers::text AS headers, body::text AS body,
                           envelope::text AS envelope
                       FROM message WHERE n > $1 ORDER BY n LIMIT $2";
            let rows = session.rows(sql, &[&after, &at_most]).await?;
            let one = |row| {
                let kept = Kept { message: message(row)?, envelope: get(row, "envelope")? };
                Ok((number(row, "n")?, Row::Message { kept, stored: get(row, "stored")? }))
            };
            rows.iter().map(one).collect()
        }
        Kind::Reactions => {
            let rows = session.rows(reaction_where!("n > $1 ORDER BY n LIMIT $2"), &[&after, &at_most]).await?;
            whole(session, reactions(session, &rows).await?).await
        }
        Kind::Refused => {
            let sql = "SELECT n, at, bus, topic, reason, body, times FROM refused WHERE n > $1 ORDER BY n LIMIT $2";
            let rows = session.rows(sql, &[&after, &at_most]).await?;
            rows.iter().map(|row| Ok((number(row, "n")?, Row::Refused(refused_row(row)?)))).collect()
        }
    }
}

/// Reactions with all that hangs on them.
async fn whole(session: &Session, rows: Vec<(i64, ReactionRow)>) -> Result<Vec<(u64, Row)>, Fault> {
    let numbers: Vec<i64> = rows.iter().map(|numbered| numbered.0).collect();
    let mut messages: HashMap<i64, Vec<String>> = HashMap::new();
    let sql = "SELECT reaction, m.id FROM reaction_message JOIN message AS m ON m.n = reaction_message.message
               WHERE reaction = ANY($1) ORDER BY reaction, position";
    for row in &session.rows(sql, &[&numbers]).await? {
        messages.entry(get(row, "reaction")?).or_default().push(text(row, "id")?);
    }
    let mut done_at: HashMap<i64, Vec<Timestamp>> = HashMap::new();
    let sql = "SELECT reaction, at FROM change_done WHERE reaction = ANY($1) ORDER BY reaction, position";
    for row in &session.rows(sql, &[&numbers]).await? {
        done_at.entry(get(row, "reaction")?).or_default().push(get(row, "at")?);
    }
    let mut lines: HashMap<i64, Vec<StoryLine>> = HashMap::new();
    let sql = "SELECT reaction, at, last_at, what, detail, times FROM story WHERE reaction = ANY($1)
               ORDER BY reaction, position";
    for row in &session.rows(sql, &[&numbers]).await? {
        lines.entry(get(row, "reaction")?).or_default().push(line(row)?);
    }
    let one = |(n, row): (i64, ReactionRow)| {
        let found = Row::Reaction {
            row: Box::new(row),
            messages: messages.remove(&n).unwrap_or_default(),
            done_at: done_at.remove(&n).unwrap_or_default(),
            lines: lines.remove(&n).unwrap_or_default(),
        };
        (u64::try_from(n).unwrap_or_default(), found)
    };
    Ok(rows.into_iter().map(one).collect())
}

impl Steps {
    /// Puts a row in.
    pub(super) fn put(&mut self, row: &Row) -> Result<(), Fault> {
        match row {
            Row::Message { kept: Kept { message, envelope }, stored } => {
                self.message(message)?;
                envelope.iter().for_each(|fields| self.envelope(&message.id, fields));
                self.add(
                    "UPDATE message SET stored = $2 WHERE id = $1",
                    vec![Box::new(plain(&message.id)), Box::new(time(*stored))],
                    Must::Nothing,
                );
            }
            Row::Reaction { row, messages, done_at, lines } => {
                let bare = ReactionRow { done: Vec::new(), ..ReactionRow::clone(row) };
                self.reaction(&bare, messages)?;
                row.done.iter().zip(done_at).try_for_each(|(change, at)| self.done(&row.id, change, *at))?;
                for (position, line) in (1_i64..).zip(lines) {
                    self.add(
                        "INSERT INTO story (reaction, position, at, last_at, what, detail, times)
                         SELECT n, $2, $3, $4, $5, $6, $7 FROM reaction WHERE lower(id) = $1",
                        vec![
                            Box::new(lower(&row.id)),
                            Box::new(position),
                            Box::new(time(line.at)),
                            Box::new(time(line.last_at)),
                            Box::new(plain(&line.what)),
                            Box::new(plain(&line.detail)),
                            Box::new(i64::from(line.times)),
                        ],
                        Must::Reaction(row.id.clone()),
                    );
                }
            }
            Row::Refused(row) => self.add(
                "INSERT INTO refused (fold, at, bus, topic, reason, body, times) VALUES ($1, $2, $3, $4, $5, $6, $7)",
                vec![
                    Box::new(fold(&row.bus, &row.topic, &row.reason)),
                    Box::new(time(row.at)),
                    Box::new(plain(&row.bus)),
                    Box::new(plain(&row.topic)),
                    Box::new(plain(&row.reason)),
                    Box::new(plain(&row.body)),
                    Box::new(i64::try_from(row.times).unwrap_or(i64::MAX)),
                ],
                Must::Nothing,
            ),
        }
        Ok(())
    }
}
