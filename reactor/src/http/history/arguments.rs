//! The parameters of datagrepper's `/raw` (its documentation, and `datagrepper/app.py` for what happens without them). What it has
//! and we can't answer truly is refused: an answer that left a filter out would be wrong without saying so.

use handler_api::spelling::did_you_mean;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::seconds;
use crate::journal::Wanted;

/// Rows of a page where it is not said.
pub(super) const ROWS_DEFAULT: usize = 25;
/// Most rows of a page.
pub(super) const ROWS_MAX: usize = 100;
/// Most values of one parameter.
const VALUES_MAX: usize = 100;

const KNOWN: [&str; 11] = [
    "start",
    "end",
    "delta",
    "topic",
    "category",
    "not_topic",
    "not_category",
    "page",
    "rows_per_page",
    "order",
    "meta",
];
/// Only the journal's topics and times are indexed; who or what a message is about is not known here.
const NOT_HERE: [&str; 9] =
    ["user", "package", "agent", "contains", "not_user", "not_package", "not_agent", "callback", "grouped"];
/// For pages that people look at; the answer is the same without them.
const OF_PAGES: [&str; 2] = ["chrome", "size"];

/// What is wrong, and what to do.
pub(super) type Wrong = (String, String);

/// What is asked of `/raw`.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Arguments {
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    delta: Option<SignedDuration>,
    topics: Vec<String>,
    categories: Vec<String>,
    not_topics: Vec<String>,
    not_categories: Vec<String>,
    page: u64,
    /// From 1 to [`ROWS_MAX`].
    pub rows_per_page: usize,
    is_ascending: bool,
}

impl Arguments {
    /// Reads a query.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(super) fn read(query: &str, now: Timestamp) -> Result<Self, Wrong> {
        let mut read = Self { page: 1, rows_per_page: ROWS_DEFAULT, ..Self::default() };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match &*name {
                "start" => read.start = Some(time("start", &value)?),
                "end" => read.end = Some(time("end", &value)?),
                "delta" => read.delta = Some(delta(&value)?),
                "topic" => more(&mut read.topics, "topic", value)?,
                "category" => more(&mut read.categories, "category", value)?,
                "not_topic" => more(&mut read.not_topics, "not_topic", value)?,
                "not_category" => more(&mut read.not_categories, "not_category", value)?,
                "page" => read.page = number("page", &value, 1, u64::from(u32::MAX))?,
                "rows_per_page" => read.rows_per_page = number("rows_per_page", &value, 1, ROWS_MAX as u64)? as usize,
                "order" => {
                    read.is_ascending = match &*value {
                        "asc" => true,
                        "desc" => false,
                        _ => return Err((format!("order is `{}`", shown(&value)), "write asc or desc".into())),
                    }
                }
                "meta" if value.is_empty() => {}
                name if OF_PAGES.contains(&name) => {}
                name if name == "meta" || NOT_HERE.contains(&name) => {
                    return Err((
                        format!("`{name}` can't be answered here"),
                        "leave it out, and look through the answer: topic, category, start, end and delta narrow it down".into(),
                    ));
                }
                name => return Err(unknown(name)),
            }
        }
        read.bound(now);
        Ok(read)
    }

    /// From when to when, as datagrepper takes it where not all is said.
    fn bound(&mut self, now: Timestamp) {
        match (self.start, self.delta, self.end) {
            (Some(start), Some(delta), None) => self.end = Some(start.checked_add(delta).unwrap_or(Timestamp::MAX)),
            (Some(_), None, None) => self.end = Some(now),
            (None, Some(delta), end) => {
                let end = end.unwrap_or(now);
                self.end = Some(end);
                self.start = Some(end.checked_sub(delta).unwrap_or(Timestamp::MIN));
            }
            (None, None, Some(_)) => self.start = Some(Timestamp::UNIX_EPOCH),
            (None, None, None) | (Some(_), _, Some(_)) => {}
        }
    }

    /// The same for the journal.
    pub(super) fn wanted(&self) -> Wanted {
        Wanted {
            id: None,
            since: self.start,
            until: self.end,
            topics: self.topics.clone(),
            categories: self.categories.clone(),
            not_topics: self.not_topics.clone(),
            not_categories: self.not_categories.clone(),
            newest_first: !self.is_ascending,
            skip: (self.page - 1).saturating_mul(self.rows_per_page as u64),
            at_most: self.rows_per_page,
        }
    }

    /// The same for the answer.
    pub(super) fn shown(&self) -> Value {
        json!({
            "start": self.start.map(seconds), "end": self.end.map(seconds),
            "delta": self.delta.map(|delta| delta.as_secs_f64()),
            "users": [], "packages": [], "categories": self.categories, "topics": self.topics, "contains": [],
            "not_users": [], "not_packages": [], "not_categories": self.not_categories, "not_topics": self.not_topics,
            "page": self.page, "rows_per_page": self.rows_per_page,
            "order": if self.is_ascending { "asc" } else { "desc" }, "meta": [],
        })
    }
}

/// The one parameter of `/id`.
///
/// # Errors
/// When it is not there.
pub(super) fn id(query: &str) -> Result<String, Wrong> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let id = pairs.find(|(name, value)| name == "id" && !value.is_empty()).map(|(_, value)| value.into_owned());
    id.ok_or_else(|| ("`id` is missing".into(), "ask /id?id=THE-MSG-ID".into()))
}

fn unknown(name: &str) -> Wrong {
    let hint = match did_you_mean(name, KNOWN) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", KNOWN.join(", ")),
    };
    (format!("`{}` is not a parameter here", shown(name)), hint)
}

fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

fn more(values: &mut Vec<String>, name: &str, value: String) -> Result<(), Wrong> {
    if value.is_empty() {
        return Ok(());
    }
    if values.len() >= VALUES_MAX {
        return Err((format!("`{name}` is given more than {VALUES_MAX} times"), "ask in several questions".into()));
    }
    values.push(value);
    Ok(())
}

fn number(name: &str, value: &str, least: u64, most: u64) -> Result<u64, Wrong> {
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| (format!("{name} is `{}`", shown(value)), format!("write a number from {least} to {most}")))
}

fn delta(value: &str) -> Result<SignedDuration, Wrong> {
    let seconds = value.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
    let delta = seconds.and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok());
    delta.ok_or_else(|| (format!("delta is `{}`", shown(value)), "write a number of seconds".into()))
}

/// Seconds since 1970, or a date with or without its time; UTC where it does not say.
fn time(name: &str, value: &str) -> Result<Timestamp, Wrong> {
    let seconds = || {
        let seconds = value.parse::<f64>().ok().filter(|seconds| seconds.is_finite())?;
        Timestamp::from_duration(SignedDuration::try_from_secs_f64(seconds).ok()?).ok()
    };
    let utc = |at: DateTime| at.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp());
    let at = seconds()
        .or_else(|| value.parse::<Timestamp>().ok())
        .or_else(|| value.parse::<DateTime>().ok().and_then(utc))
        .or_else(|| value.parse::<Date>().ok().and_then(|date| utc(date.at(0, 0, 0, 0))));
    at.ok_or_else(|| {
        (
            format!("{name} is `{}`, which is no time", shown(value)),
            "write seconds since 1970, or 2026-11-21T02:35:17Z".into(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn bounds(query: &str) -> (Option<Timestamp>, Option<Timestamp>) {
        let read = Arguments::read(query, at(1_000)).unwrap_or_else(|why| panic!("{query}: {why:?}"));
        (read.start, read.end)
    }

    #[test]
    fn times_that_are_left_out_are_datagreppers() {
        assert_eq!(bounds(""), (None, None));
        assert_eq!(bounds("start=10"), (Some(at(10)), Some(at(1_000))));
        assert_eq!(bounds("start=10&delta=5"), (Some(at(10)), Some(at(15))));
        assert_eq!(bounds("delta=5"), (Some(at(995)), Some(at(1_000))));
        assert_eq!(bounds("end=20"), (Some(at(0)), Some(at(20))));
        assert_eq!(bounds("end=20&delta=5"), (Some(at(15)), Some(at(20))));
        assert_eq!(bounds("start=1970-01-01T00:00:10Z&end=20.0"), (Some(at(10)), Some(at(20))));
        assert_eq!(bounds("start=1970-01-02&end=1970-01-02T00:00:01"), (Some(at(86_400)), Some(at(86_401))));
    }

    #[test]
    fn pages_and_filters_go_to_the_journal() {
        let query = "topic=a.b&topic=a.c&category=git&not_topic=x&order=asc&page=3&rows_per_page=100&chrome=false";
        let wanted = Arguments::read(query, at(0)).unwrap().wanted();
        assert_eq!((wanted.topics.len(), wanted.skip, wanted.at_most, wanted.newest_first), (2, 200, 100, false));
        assert_eq!((wanted.categories[0].as_str(), wanted.not_topics[0].as_str()), ("git", "x"));
        let default = Arguments::read("", at(0)).unwrap().wanted();
        assert_eq!((default.skip, default.at_most, default.newest_first), (0, 25, true));
    }

    #[test]
    fn what_would_be_answered_wrongly_is_refused() {
        for (query, said) in [
            ("start=nonsense", "no time"),
            ("user=ralph", "`user` can't be answered"),
            ("contains=x", "`contains`"),
            ("meta=subtitle", "`meta`"),
            ("rows_per_page=101", "rows_per_page"),
            ("page=0", "page"),
            ("order=up", "order"),
            ("delta=-1", "delta"),
            ("start=1e300", "no time"),
            ("start=NaN", "no time"),
            ("topics=a", "not a parameter"),
        ] {
            let (error, hint) = Arguments::read(query, at(0)).unwrap_err();
            assert!(error.contains(said) && !hint.is_empty(), "{query}: {error}, {hint}");
        }
        assert_eq!(unknown("topics").1, "did you mean `topic`?");
    }
}
