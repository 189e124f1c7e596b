//! One page of the messages that came by a bus.

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, params_from_iter};

use super::fault::Fault;
use super::read::message;
use crate::journal::text::time;
use crate::journal::{Kept, Page, Wanted};

/// What is asked, as SQL: terms joined by AND, and their values.
struct Terms {
    sql: String,
    values: Vec<SqlValue>,
}

impl Terms {
    /// A term with one value for each `?`.
    fn add(&mut self, term: &str, values: impl IntoIterator<Item = String>) {
        self.sql.push_str(" AND ");
        self.sql.push_str(term);
        self.values.extend(values.into_iter().map(SqlValue::Text));
    }

    /// `what` is one of these, if there are any.
    fn among(&mut self, what: &str, texts: &[String]) {
        if let Some(others) = texts.len().checked_sub(1) {
            self.add(&format!("{what} (?{})", ", ?".repeat(others)), texts.iter().cloned());
        }
    }
}

/// All that is asked but the id.
fn others(terms: &mut Terms, wanted: &Wanted) {
    if let Some(since) = wanted.since {
        terms.add("sent >= ?", [time(since)]);
    }
    if let Some(until) = wanted.until {
        terms.add("sent <= ?", [time(until)]);
    }
    terms.among("topic IN", &wanted.topics);
    terms.among("category(topic) IN", &wanted.categories);
    terms.among("topic NOT IN", &wanted.not_topics);
    terms.among("category(topic) NOT IN", &wanted.not_categories);
}

/// The page, and how many messages fit in all.
pub(super) fn page(tx: &Connection, wanted: &Wanted) -> Result<Page, Fault> {
    // '/' is the character after '.': reactor's own topics are all between the two.
    let mut terms = Terms { sql: "(topic < 'reactor.' OR topic >= 'reactor/')".into(), values: Vec::new() };
    match &wanted.id {
        Some(id) => terms.add("id = ?", [id.clone()]),
        None => others(&mut terms, wanted),
    }
    let Terms { sql, mut values } = terms;
    let count = format!("SELECT count(*) FROM message WHERE {sql}");
    let total: i64 = tx.prepare_cached(&count)?.query_row(params_from_iter(&values), |row| row.get(0))?;
    let number = |n: u64| SqlValue::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    values.extend([number(wanted.at_most as u64), number(wanted.skip)]);
    let way = if wanted.newest_first { "DESC" } else { "ASC" };
    // Which they are is known by the index alone, so that pages far behind cost no look at the messages before them.
    let rows = format!(
        "SELECT m.id, m.topic, m.sent, m.bus, m.signer, m.headers, m.body, m.envelope
         FROM (SELECT n FROM message WHERE {sql} ORDER BY sent {way}, n {way} LIMIT ? OFFSET ?) AS page
         JOIN message AS m ON m.n = page.n ORDER BY m.sent {way}, m.n {way}"
    );
    let mut statement = tx.prepare_cached(&rows)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut messages = Vec::new();
    while let Some(row) = rows.next()? {
        messages.push(Kept { message: message(row)?, envelope: row.get(7)? });
    }
    Ok(Page { total: u64::try_from(total).unwrap_or_default(), messages })
}
