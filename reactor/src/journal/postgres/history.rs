//! One page of the messages that came by a bus.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::fault::Fault;
use super::read::{message, number};
use super::session::Session;
use super::text::plain;
use crate::journal::{Kept, Page, Wanted};

/// The columns of a message as it is kept.
macro_rules! columns {
    () => {
        "SELECT id, topic, sent, bus, signer, headers::text AS headers, body::text AS body, envelope::text AS envelope"
    };
}

/// Which messages: eight values, each NULL or empty where it asks for nothing. '/' is the character after '.': reactor's own
/// topics are all between the two. [`crate::journal::category`] has the same rule for categories.
macro_rules! of_wanted {
    ($before:literal, $after:expr) => {
        concat!(
            $before,
            " FROM (SELECT *, CASE WHEN position('VirtualTopic' in topic) > 0 THEN split_part(topic, '.', 3)
                 ELSE split_part(topic, '.', 4) END AS category FROM message) AS m
             WHERE (topic < 'reactor.' OR topic >= 'reactor/') AND ($1::timestamptz IS NULL OR sent >= $1)
             AND ($2::timestamptz IS NULL OR sent <= $2) AND ($3::text[] IS NULL OR topic = ANY($3))
             AND ($4::text[] IS NULL OR category = ANY($4)) AND ($5::text[] IS NULL OR topic <> ALL($5))
             AND ($6::text[] IS NULL OR category <> ALL($6)) ",
            $after
        )
    };
}

macro_rules! page_of {
    ($way:literal) => {
        concat!(
            columns!(),
            " FROM message WHERE n IN (",
            of_wanted!("SELECT n", concat!("ORDER BY sent ", $way, ", n ", $way, " LIMIT $7 OFFSET $8")),
            ") ORDER BY sent ",
            $way,
            ", n ",
            $way
        )
    };
}

fn kept(row: &Row) -> Result<Kept, Fault> {
    Ok(Kept { message: message(row)?, envelope: row.try_get("envelope")? })
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The page, and how many messages fit in all.
pub(super) async fn page(session: &Session, wanted: &Wanted) -> Result<Page, Fault> {
    if let Some(id) = &wanted.id {
        let sql = concat!(columns!(), " FROM message WHERE id = $1 AND (topic < 'reactor.' OR topic >= 'reactor/')");
        let rows = session.rows(sql, &[&plain(id)]).await?;
        let messages = rows.iter().map(kept).collect::<Result<Vec<_>, Fault>>()?;
        return Ok(Page { total: messages.len() as u64, messages });
    }
    let texts =
        |texts: &[String]| (!texts.is_empty()).then(|| texts.iter().map(|text| plain(text)).collect::<Vec<_>>());
    let (topics, categories) = (texts(&wanted.topics), texts(&wanted.categories));
    let (not_topics, not_categories) = (texts(&wanted.not_topics), texts(&wanted.not_categories));
    let (at_most, skip) = (signed(wanted.at_most as u64), signed(wanted.skip));
    let of: [&(dyn ToSql + Sync); 8] =
        [&wanted.since, &wanted.until, &topics, &categories, &not_topics, &not_categories, &at_most, &skip];
    let counted = session.rows(of_wanted!("SELECT count(*) AS n", ""), &of[..6]).await?;
    let total = counted.first().map_or(Ok(0), |row| number(row, "n"))?;
    // Which they are is known by the index alone, so that pages far behind cost no look at the messages before them.
    let rows = match wanted.newest_first {
        true => session.rows(page_of!("DESC"), &of).await?,
        false => session.rows(page_of!("ASC"), &of).await?,
    };
    Ok(Page { total, messages: rows.iter().map(kept).collect::<Result<_, Fault>>()? })
}
