//! Asking a server for JSON, one request or thousands, and what an answer must look like to be read at all.

use std::future::Future;
use std::time::Duration;

use accounts::curl::{Answer, Curl, Get, Kerberos, check_url};
use handler_api::Failure;
use handler_api::words::{Words, quoted};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinSet;

/// How long one request may take unless `timeout` says otherwise, in seconds.
pub const HTTP_SECONDS: u64 = 30;
/// Longest `timeout`, in seconds.
const HTTP_SECONDS_MAX: u64 = 600;
/// Runs of curl at the same time.
const RUNS_AT_ONCE: usize = 4;

/// A server.
#[derive(Debug)]
pub struct Server {
    /// As people call it: `pagure`.
    what: &'static str,
    /// Its URL, without a slash at the end.
    pub base: String,
    /// How it is asked.
    pub curl: Curl,
}

impl Server {
    /// Reads the URL under `word`, `ca: PATH?` and `timeout: 30s?`. `hint` says what to write where the URL is none.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word.
    pub fn read(words: &Words<'_>, word: &'static str, hint: &str) -> Result<Self, Failure> {
        let url = words.get(word).unwrap_or(&Value::Null);
        let base = url.as_str().ok_or("is not a URL that begins with https://").and_then(check_url);
        let base = base.map_err(|why| words.wrong(word, why, url).hinting(hint))?;
        let ca = words.text("ca")?;
        if let Some(relative) = ca.filter(|path| !path.starts_with('/')) {
            return Err(words.wrong("ca", "is not the absolute path of a file", &relative.into()));
        }
        let max = Duration::from_secs(HTTP_SECONDS_MAX);
        let timeout = words.duration("timeout", Duration::from_secs(HTTP_SECONDS), max)?;
        Ok(Self { what: word, base, curl: Curl { ca: ca.map(Into::into), timeout, kerberos: Kerberos::No } })
    }

    /// The same way of asking, at another URL (one that [`check_url`] has passed).
    #[must_use]
    pub fn elsewhere(&self, base: &str) -> Self {
        Self { what: self.what, base: base.to_owned(), curl: self.curl.clone() }
    }

    /// Asks for all of `paths` (each from its slash on, percent-encoded; at most [`accounts::curl::REQUESTS_MAX`]) in one run, and
    /// answers in their order.
    ///
    /// # Errors
    /// When not all of them were answered whole.
    pub fn get(&self, paths: &[String]) -> impl Future<Output = Result<Vec<Answer>, Failure>> + Send + 'static {
        let get = |path: &String| Get {
            url: format!("{}{path}", self.base),
            // A cache on the way may have what stood there before the message.
            headers: vec!["Accept: application/json".into(), "Cache-Control: no-cache".into()],
        };
        let (curl, gets): (Curl, Vec<Get>) = (self.curl.clone(), paths.iter().map(get).collect());
        async move { curl.get(&gets).await }
    }

    /// Asks for all of `paths`, `per_run` in one run of curl and several runs at once. Each answer goes to `take` as it comes,
    /// with its place in `paths`; nothing of it is kept here.
    ///
    /// # Errors
    /// When not all of them were answered whole; whatever `take` says.
    pub async fn each(
        &self,
        paths: &[String],
        per_run: usize,
        mut take: impl FnMut(usize, &Answer) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut chunks = paths.chunks(per_run).enumerate();
        let mut running = JoinSet::new();
        loop {
            while running.len() < RUNS_AT_ONCE
                && let Some((at, chunk)) = chunks.next()
            {
                let run = self.get(chunk);
                running.spawn(async move { run.await.map(|answers| (at, answers)) });
            }
            let Some(ended) = running.join_next().await else { return Ok(()) };
            let (at, answers) = ended.map_err(|error| Failure::retry(format!("{}: {error}", self.base)))??;
            for (n, answer) in answers.iter().enumerate() {
                take(at * per_run + n, answer)?;
            }
        }
    }

    /// The failure for an answer that is not believed. `why` is the end of a sentence.
    #[must_use]
    pub fn odd(&self, path: &str, why: &str) -> Failure {
        Failure::retry(format!("{} {}{path}: {why}", self.what, self.base))
            .hinting(format!("look for yourself: curl -i '{}{path}'", self.base))
    }
}

/// The JSON of a 200.
///
/// # Errors
/// The end of a sentence: another status, another type, another shape.
pub fn found<T: DeserializeOwned>(answer: &Answer) -> Result<T, String> {
    if answer.status != 200 {
        return Err(format!("HTTP status {}: {}", answer.status, said(answer)));
    }
    if !is_json(answer) {
        return Err(format!("the answer is not JSON ({}): {}", quoted(&answer.content_type), said(answer)));
    }
    serde_json::from_slice(&answer.body).map_err(|error| format!("the answer has another shape: {error}"))
}

/// Whether it says that it is JSON.
#[must_use]
pub fn is_json(answer: &Answer) -> bool {
    answer.content_type.split(';').next().is_some_and(|kind| kind.trim() == "application/json")
}

/// The beginning of what an answer says, for people.
#[must_use]
pub fn said(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body[..answer.body.len().min(1_000)]);
    if text.trim().is_empty() { "it says nothing".into() } else { quoted(text.trim()) }
}
