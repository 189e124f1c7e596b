//! One page of the messages that came by a bus.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::fault::Fault;
use super::read::{message, number};
use super::session::Session;
use super::text::plain;
use crate::journal::{Kept, Page, Wanted};

/// Which messages: nine values, each NULL or empty where it asks for nothing. '/' is the character after '.': reactor's own
/// topics are all between the two. [`crate::journal::category`] has the same rule for categories.
macro_rules! of_wanted {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " FROM (SELECT *, CASE WHEN position('VirtualTopic' in topic) > 0 THEN split_part(topic, '.', 3)
                 ELSE split_part(topic, '.', 4) END AS category FROM message) AS m
             WHERE (topic < 'reactor.' OR topic >= 'reactor/') AND ($1::text IS NULL OR id = $1)
             AND ($2::timestamptz IS NULL OR sent >= $2) AND ($3::timestamptz IS NULL OR sent <= $3)
             AND ($4::text[] IS NULL OR topic = ANY($4)) AND ($5::text[] IS NULL OR category = ANY($5))
             AND ($6::text[] IS NULL OR topic <> ALL($6)) AND ($7::text[] IS NULL OR category <> ALL($7)) ",
            $after
        )
    };
}

macro_rules! page_of_wanted {
    ($after:literal) => {
        of_wanted!(
            "SELECT id, topic, sent, bus, signer, headers::text AS headers, body::text AS body,
                 envelope::text AS envelope",
            $after
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
    let texts =
        |texts: &[String]| (!texts.is_empty()).then(|| texts.iter().map(|text| plain(text)).collect::<Vec<_>>());
    let (topics, categories) = (texts(&wanted.topics), texts(&wanted.categories));
    let (not_topics, not_categories) = (texts(&wanted.not_topics), texts(&wanted.not_categories));
    let id = wanted.id.as_deref().map(plain);
    let of: [&(dyn ToSql + Sync); 9] = [
        &id,
        &wanted.since,
        &wanted.until,
        &topics,
        &categories,
        &not_topics,
        &not_categories,
        &signed(wanted.at_most as u64),
        &signed(wanted.skip),
    ];
    let counted = session.rows(of_wanted!("SELECT count(*) AS n", ""), &of[..7]).await?;
    let total = counted.first().map_or(Ok(0), |row| number(row, "n"))?;
    let rows = match wanted.newest_first {
        true => session.rows(page_of_wanted!("ORDER BY sent DESC, n DESC LIMIT $8 OFFSET $9"), &of).await?,
        false => session.rows(page_of_wanted!("ORDER BY sent, n LIMIT $8 OFFSET $9"), &of).await?,
    };
    Ok(Page { total, messages: rows.iter().map(kept).collect::<Result<_, Fault>>()? })
}
