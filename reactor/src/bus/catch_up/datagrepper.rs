//! datagrepper's HTTP API: pages of messages between two times, the oldest first. It orders by time alone and times are whole
//! seconds, so that of the messages of one second a page may have some twice and others not at all: what came is counted
//! against the `total` that the server says, and the pages are read again where some are missing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use accounts::curl::{Curl, Get, Kerberos};
use handler_api::Failure;
use jiff::Timestamp;

use super::filter::Filter;
use super::kept::{Kept, kept};
use super::{QUESTION_SECONDS_MAX, Window};
use crate::trust::canonical::{Json, parse};

/// Messages on a page; datagrepper's own limit.
pub const PAGE_MESSAGES: u64 = 100;
/// How often the pages are read where messages are missing.
const PASSES_MAX: u32 = 3;
/// Most values in one answer, counted by its commas: each costs memory, however short it is.
const ANSWER_VALUES_MAX: usize = 4_000_000;
/// Longest token, in bytes.
const TOKEN_BYTES_MAX: u64 = 4_096;
/// What of an answer that is no page is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 200;

/// The pages of one question.
pub struct Pages {
    curl: Curl,
    url: String,
    query: String,
    token: Option<PathBuf>,
    page: u64,
    pass: u32,
    came: HashSet<String>,
    /// Messages without an id, of this pass.
    nameless: u64,
    /// What is no message, of this pass.
    broken: u64,
    /// The most that it has said it has.
    total: u64,
    /// The latest time of a message so far, and the end of the window.
    latest: Option<Timestamp>,
    to: Timestamp,
    /// Whether the oldest came first, and nothing went that had been there.
    is_in_order: bool,
    is_over: bool,
}

/// One page as it came.
#[derive(Debug, Default)]
struct Page {
    messages: Vec<Kept>,
    /// Items that are no message.
    broken: u64,
    pages: u64,
    total: u64,
}

impl Pages {
    /// Prepares to ask.
    #[must_use]
    pub fn new(
        url: &str,
        ca: Option<PathBuf>,
        token: Option<PathBuf>,
        filter: &Filter,
        Window { from, to }: Window,
    ) -> Self {
        // Whole seconds, the window rounded outwards.
        let (start, end) = (from.as_second(), to.as_second() + 1);
        let filter = filter.query();
        Self {
            curl: Curl { ca, timeout: Duration::from_secs(QUESTION_SECONDS_MAX), kerberos: Kerberos::No },
            url: url.to_owned(),
            query: format!("start={start}&end={end}&order=asc&rows_per_page={PAGE_MESSAGES}{filter}"),
            token,
            page: 1,
            pass: 1,
            came: HashSet::new(),
            nameless: 0,
            broken: 0,
            total: 0,
            latest: None,
            to,
            is_in_order: true,
            is_over: false,
        }
    }

    /// What the server says it has and did not hand over.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.total.saturating_sub(self.came.len() as u64 + self.nameless)
    }

    /// Up to when all has come: not known where a page skipped some, which only another reading of them all tells.
    #[must_use]
    pub fn reached(&self) -> Option<Timestamp> {
        // Whatever time a publisher gave a message, nothing later than the window was asked for.
        self.latest.filter(|_| self.is_in_order && self.pass == 1).map(|latest| latest.min(self.to))
    }

    /// Whether that was all.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// The new messages of the next page; `None` when that was all.
    ///
    /// # Errors
    /// No answer, or one that is no page.
    pub async fn next(&mut self) -> Result<Option<Vec<Kept>>, Failure> {
        if self.is_over {
            return Ok(None);
        }
        let page = self.ask().await?;
        Ok(Some(self.take(page)))
    }

    async fn ask(&self) -> Result<Page, Failure> {
        let mut headers = vec!["Accept: application/json".to_owned()];
        if let Some(file) = &self.token {
            headers.push(format!("Authorization: Bearer {}", token(file)?));
        }
        let get = Get { url: format!("{}?{}&page={}", self.url, self.query, self.page), headers };
        let answers = self.curl.get(&[get]).await?;
        let Some(answer) = answers.first() else {
            return Err(Failure::retry(format!("{}: no answer", self.url)));
        };
        if answer.status != 200 {
            return Err(refused(&self.url, answer.status, &answer.body));
        }
        read(&answer.body).map_err(|why| {
            let hint = format!("is that datagrepper's /raw? try: curl '{}?{}'", self.url, self.query);
            Failure::permanent(format!("{}: the answer is no page of messages: {why}", self.url)).hinting(hint)
        })
    }

    /// What of a page is new, and where to go on.
    fn take(&mut self, page: Page) -> Vec<Kept> {
        let on_page = page.messages.len() as u64 + page.broken;
        let is_last = on_page == 0 || self.page >= page.pages;
        // Where some went while we read, those that moved up by it were skipped.
        self.is_in_order &= page.total >= self.total;
        self.total = self.total.max(page.total);
        for sent in page.messages.iter().filter_map(|kept| kept.sent) {
            self.is_in_order &= self.latest.is_none_or(|latest| sent >= latest);
            self.latest = self.latest.max(Some(sent));
        }
        self.broken += page.broken;
        self.nameless += page.messages.iter().filter(|kept| kept.id.is_none()).count() as u64;
        let mut new: Vec<Kept> = page.messages;
        new.retain(|kept| kept.id.as_ref().is_none_or(|id| self.came.insert(id.clone())));
        new.sort_by_key(|kept| kept.sent);
        self.page += 1;
        if is_last {
            let is_empty = on_page == 0 && self.page == 2;
            self.is_over = self.missing() <= self.broken || self.pass >= PASSES_MAX || is_empty;
            self.page = 1;
            self.pass += 1;
            if !self.is_over {
                (self.nameless, self.broken) = (0, 0);
            }
        }
        new
    }
}

fn token(file: &Path) -> Result<String, Failure> {
    use std::io::Read;
    let fail = |why: String| {
        Failure::retry(format!("the token in {} can't be used: {why}", file.display()))
            .hinting(format!("ls -l {}", file.display()))
    };
    let opened = std::fs::File::open(file).map_err(|error| fail(error.to_string()))?;
    let mut text = String::new();
    opened.take(TOKEN_BYTES_MAX).read_to_string(&mut text).map_err(|error| fail(error.to_string()))?;
    match text.trim() {
        "" => Err(fail("it is empty".into())),
        text if text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(text.to_owned()),
        _ => Err(fail("it is not one word of ASCII".into())),
    }
}

/// An answer with another status. What a server can't do now it may do later; what it will not do it says with 4xx.
fn refused(url: &str, status: u16, body: &[u8]) -> Failure {
    let said = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES_MAX)]);
    let message = format!("{url}: HTTP {status}: {}", said.split_whitespace().collect::<Vec<_>>().join(" "));
    match status {
        401 | 403 => Failure::permanent(message).hinting("`token: FILE` under `catch_up` is shown to the server"),
        408 | 425 | 429 | 500..=599 => Failure::retry(message).hinting(format!("try: curl --verbose {url}")),
        _ => Failure::permanent(message).hinting("`datagrepper` under `catch_up` is the whole URL, with its /raw"),
    }
}

fn read(body: &[u8]) -> Result<Page, String> {
    if body.iter().filter(|byte| **byte == b',').count() >= ANSWER_VALUES_MAX {
        return Err(format!("it has more than {ANSWER_VALUES_MAX} values"));
    }
    let json = parse(body).map_err(|error| format!("it is {error}"))?;
    let number = |name: &str| match json.get(name) {
        Some(Json::Int(digits)) => digits.parse::<u64>().map_err(|_| format!("`{name}` is no number of messages")),
        _ => Err(format!("it has no `{name}`")),
    };
    let (pages, total) = (number("pages")?, number("total")?);
    let Json::Object(fields) = json else { return Err("it is no object".into()) };
    let items = fields.into_iter().find(|(key, _)| key.as_ref() == b"raw_messages").map(|(_, value)| value);
    let Some(Json::List(items)) = items else { return Err("it has no list `raw_messages`".into()) };
    let mut page = Page { pages, total, ..Page::default() };
    for item in items {
        match kept(item) {
            Ok(kept) => page.messages.push(kept),
            Err(_) => page.broken += 1,
        }
    }
    Ok(page)
}

#[cfg(test)]
#[path = "datagrepper_tests.rs"]
mod tests;
