//! What is answered: always JSON; where something is wrong, `{"error": …, "hint": …}`.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// When whoever could not be served may come again, in seconds.
pub const RETRY_AFTER_SECONDS: u64 = 10;

/// One answer.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    body: Value,
    header: Option<Header>,
}

/// A header that belongs to an answer.
#[derive(Clone, Copy, Debug)]
enum Header {
    /// The method that is meant.
    Allow(&'static str),
    /// Say who you are.
    Authenticate,
    /// Come again.
    RetryAfter,
}

impl Answer {
    pub(super) const fn new(status: u16, body: Value) -> Self {
        Self { status, body, header: None }
    }

    pub(super) fn wrong(status: u16, error: impl Into<String>, hint: &str) -> Self {
        Self::new(status, json!({"error": error.into(), "hint": hint}))
    }

    /// Another method is meant.
    pub(super) fn only(method: &'static str, why: &str) -> Self {
        let wrong = Self::wrong(405, why, &format!("send {method}"));
        Self { header: Some(Header::Allow(method)), ..wrong }
    }

    /// Who asks has to say who it is.
    pub(super) fn stranger(error: impl Into<String>, hint: &str) -> Self {
        let wrong = Self::wrong(401, error, hint);
        Self { header: Some(Header::Authenticate), ..wrong }
    }

    /// Not now.
    pub(super) fn later(error: impl Into<String>) -> Self {
        let wrong = Self::wrong(503, error, "send it again later, with the same id: it is reacted to once");
        Self { header: Some(Header::RetryAfter), ..wrong }
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut text = self.body.to_string();
        text.push('\n');
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self.header {
            Some(Header::Allow(method)) => drop(headers.insert(ALLOW, HeaderValue::from_static(method))),
            Some(Header::Authenticate) => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            Some(Header::RetryAfter) => drop(headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS))),
            None => {}
        }
        response
    }
}
