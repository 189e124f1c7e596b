//! HTTP POST: one request in one run of `curl`.
//!
//! A POST may change something, so "no answer" is never one thing: [`NoAnswer`] tells a request that was certainly not sent from
//! one that the server may have acted on. Nothing is sent again from here.
//!
//! The body goes through a file that only this user can read, in the process's own directory (`TMPDIR`), gone when the answer is
//! there; all else goes over stdin.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handler_api::Failure;

use super::{
    ANSWERS_BYTES_MAX, Answer, Curl, META_BYTES_MAX, START_SECONDS, find, in_quotes, random, reason, server_of, split,
    url_in_quotes,
};
use crate::program::{self, Run, Trouble};

/// One request.
#[derive(Clone, Debug)]
pub struct Post {
    /// The URL; as [`super::Get::url`].
    pub url: String,
    /// Header lines without line ends, `Name: value`. May be secret.
    pub headers: Vec<String>,
    /// The `Content-Type` of the body.
    pub content_type: &'static str,
    /// The body. May be secret.
    pub body: Vec<u8>,
    /// Who we are, for a server that asks for a certificate.
    pub certificate: Option<ClientCertificate>,
}

/// A certificate to log in with: files in PEM, see [`super::secret_file`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, and perhaps its key too.
    pub certificate: PathBuf,
    /// The key, when it is not in the same file.
    pub key: Option<PathBuf>,
}

/// Why a POST has no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum NoAnswer {
    /// The server has not seen it: no connection, TLS refused, something missing here.
    NotSent(Failure),
    /// The server may have seen it and acted: the answer did not come, or not whole.
    Lost(Failure),
}

impl NoAnswer {
    /// The failure, for whom it makes no difference.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        let (Self::NotSent(failure) | Self::Lost(failure)) = self;
        failure
    }
}

impl Curl {
    /// Sends it once over HTTP/1.1 (a server that asks for a certificate after it knows the path can't do so in HTTP/2). An
    /// HTTP status that says "error" is an answer like any other.
    ///
    /// # Errors
    /// There is no whole answer; whether the server may have acted.
    pub async fn post(&self, post: &Post) -> Result<Answer, NoAnswer> {
        let server = server_of(&post.url);
        let (run, mark, body) = self.prepare(post).map_err(NoAnswer::NotSent)?;
        let ended = program::run(run).await.map_err(|trouble| {
            let failure = Failure::retry(format!("{server}: the program curl {trouble}"));
            match trouble {
                Trouble::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                    NoAnswer::NotSent(failure.hinting("is curl installed? try: curl --version"))
                }
                _ => NoAnswer::Lost(failure.hinting(format!("try: curl --head {server}"))),
            }
        })?;
        drop(body);
        let failure = |why: &str| {
            Failure::retry(format!("{server}: {why}{}", reason(&ended)))
                .hinting(format!("try: curl --verbose {server}"))
        };
        if !ended.status.success() {
            let failure = failure("");
            return Err(match bytes_sent(&ended.stdout, &mark) {
                Some(0) => NoAnswer::NotSent(failure),
                _ => NoAnswer::Lost(failure),
            });
        }
        let one = split(&ended.stdout, &mark, 1).and_then(|mut answers| answers.pop());
        one.ok_or_else(|| NoAnswer::Lost(failure("curl's answer is not whole: ")))
    }

    /// What to run, the mark in its output, and the body's file, which must live as long as it runs.
    fn prepare(&self, post: &Post) -> Result<(Run, String, BodyFile), Failure> {
        let mark = random().map_err(|error| Failure::retry(format!("/dev/urandom: {error}")))?;
        let path = std::env::temp_dir().join(format!("reactor-post-{mark}"));
        let body = BodyFile::write(path, &post.body)
            .map_err(|error| Failure::retry(format!("{}: {error}", std::env::temp_dir().display())))?;
        let run = Run {
            program: "curl".into(),
            args: ["--disable", "--config", "-"].map(str::to_owned).to_vec(),
            env: self.environment()?,
            stdin: self.post_config(post, &body.0, &mark)?.into_bytes(),
            stdout_bytes_max: ANSWERS_BYTES_MAX + META_BYTES_MAX,
            timeout: self.timeout + Duration::from_secs(START_SECONDS),
        };
        Ok((run, mark, body))
    }

    fn post_config(&self, post: &Post, body: &Path, mark: &str) -> Result<String, Failure> {
        let mut config =
            format!("silent\nshow-error\nhttp1.1\nurl = {}\n{}", url_in_quotes(&post.url)?, self.common()?,);
        // Without `Expect:` a large body waits a second for servers that do not know it.
        let own = [format!("Content-Type: {}", post.content_type), "Expect:".to_owned()];
        for header in own.iter().chain(&post.headers) {
            config.push_str(&format!("header = {}\n", in_quotes(header)?));
        }
        if let Some(who) = &post.certificate {
            config.push_str(&format!("cert = {}\n", certificate_in_quotes(&who.certificate)?));
            if let Some(key) = &who.key {
                config.push_str(&format!("key = {}\n", in_quotes(&key.to_string_lossy())?));
            }
        }
        let file = in_quotes(&format!("@{}", body.to_string_lossy()))?;
        config.push_str(&format!("data-binary = {file}\n"));
        // The last line is for a run that failed: how much of the request was on its way.
        let meta = "%{http_code} %{exitcode} %{content_type}";
        config.push_str(&format!("write-out = \"\\n{mark} {meta}\\n%{{onerror}}{mark} sent %{{size_request}}\\n\"\n"));
        Ok(config)
    }
}

/// `--cert` takes `FILE:PASSWORD`, so a colon of the file's own is marked.
fn certificate_in_quotes(file: &Path) -> Result<String, Failure> {
    Ok(in_quotes(&file.to_string_lossy())?.replace(':', "\\\\:"))
}

/// How many bytes of the request a failed run had sent; `None` when it does not say.
fn bytes_sent(stdout: &[u8], mark: &str) -> Option<u64> {
    let needle = format!("\n{mark} sent ").into_bytes();
    let at = find(stdout, &needle)?;
    std::str::from_utf8(&stdout[at + needle.len()..]).ok()?.trim_end().parse().ok()
}

/// A request's body on disk, gone when it is dropped.
struct BodyFile(PathBuf);

impl BodyFile {
    fn write(path: PathBuf, bytes: &[u8]) -> io::Result<Self> {
        // Fails if it is there already, a link too.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let body = Self(path);
        file.write_all(bytes)?;
        Ok(body)
    }
}

impl Drop for BodyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests;
