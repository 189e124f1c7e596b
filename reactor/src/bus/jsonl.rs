//! Messages from a file or stdin, one JSON object a line: for trying things, and for tests. It never parses a line.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use super::{BoxFuture, BusError, Counters, Source};
use crate::message::{BODY_BYTES_MAX, Form, RawMessage};

/// Read from the file at once, in bytes: many lines, so that they are journaled together.
const READ_BYTES: usize = 256 * 1024;

/// A file of messages. It ends, or (stdin) ends when whoever writes it does.
pub struct JsonlSource {
    name: Arc<str>,
    reader: Box<dyn AsyncBufRead + Send + Unpin>,
    line: Vec<u8>,
    is_too_long: bool,
    line_number: u64,
    counters: Arc<Counters>,
}

impl JsonlSource {
    /// Opens a file; `-` is stdin.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(path: &Path) -> Result<Self, BusError> {
        let name: Arc<str> = if path.as_os_str() == "-" { "stdin".into() } else { path.display().to_string().into() };
        let reader: Box<dyn AsyncBufRead + Send + Unpin> = if path.as_os_str() == "-" {
            Box::new(BufReader::with_capacity(READ_BYTES, tokio::io::stdin()))
        } else {
            let file = std::fs::File::open(path).map_err(|error| BusError::Config {
                bus: name.to_string(),
                why: format!("can't be opened: {error}"),
                hint: "--from takes a file with one message a line, or - for stdin".into(),
            })?;
            Box::new(BufReader::with_capacity(READ_BYTES, tokio::fs::File::from_std(file)))
        };
        Ok(Self { name, reader, line: Vec::new(), is_too_long: false, line_number: 0, counters: Arc::default() })
    }

    /// The next line that is not empty and no `#` comment, into `line`; false at the end of the file. What a cancelled call had
    /// read of a line is still there.
    async fn read_line(&mut self) -> std::io::Result<bool> {
        loop {
            let is_whole = self.read_part().await?;
            if !is_whole && self.line.is_empty() && !self.is_too_long {
                return Ok(false);
            }
            self.line_number += 1;
            let is_too_long = std::mem::take(&mut self.is_too_long);
            let text = self.line.trim_ascii();
            if is_too_long {
                Counters::add(&self.counters.malformed, 1);
                tracing::warn!("{}:{}: longer than {BODY_BYTES_MAX} bytes, skipped", self.name, self.line_number);
            } else if !text.is_empty() && !text.starts_with(b"#") {
                return Ok(true);
            }
            self.line.clear();
        }
    }

    /// Reads up to the end of the line; false at the end of the file. Of a line that is too long nothing is kept.
    async fn read_part(&mut self) -> std::io::Result<bool> {
        loop {
            let bytes = self.reader.fill_buf().await?;
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = &bytes[..end.unwrap_or(bytes.len())];
            // One more for the \r of a DOS line.
            self.is_too_long |= self.line.len() + part.len() > BODY_BYTES_MAX + 1;
            if self.is_too_long {
                self.line.clear();
            } else {
                self.line.extend_from_slice(part);
            }
            let (is_whole, read) = (end.is_some(), part.len() + usize::from(end.is_some()));
            self.reader.consume(read);
            if is_whole || read == 0 {
                return Ok(is_whole);
            }
        }
    }

    async fn batch(&mut self, at_most: usize) -> Result<Vec<RawMessage>, BusError> {
        let mut batch = Vec::new();
        while batch.len() < at_most {
            // Only what is there already may follow the first line: a pipe must not hold up what it has given.
            if !batch.is_empty() && !self.has_line().await {
                break;
            }
            let more = self.read_line().await;
            let broken = |error| BusError::Broken {
                bus: self.name.to_string(),
                why: format!("line {}: {error}", self.line_number),
            };
            if !more.map_err(broken)? {
                break;
            }
            Counters::add(&self.counters.received, 1);
            batch.push(RawMessage {
                bus: self.name.clone(),
                topic: String::new(),
                body: self.line.trim_ascii().to_vec(),
                received: super::clock(),
                token: self.line_number,
                form: Form::Envelope,
            });
            self.line.clear();
        }
        Ok(batch)
    }

    /// Whether a whole line is in the buffer already.
    async fn has_line(&mut self) -> bool {
        let buffered = std::future::poll_fn(|context| {
            use std::task::Poll;
            let reader = std::pin::Pin::new(&mut self.reader);
            Poll::Ready(match reader.poll_fill_buf(context) {
                Poll::Ready(Ok(bytes)) => bytes.contains(&b'\n'),
                _ => false,
            })
        });
        buffered.await
    }
}

impl Source for JsonlSource {
    fn next(&mut self, at_most: usize) -> BoxFuture<'_, Result<Vec<RawMessage>, BusError>> {
        Box::pin(self.batch(at_most))
    }

    /// The file stays: what was read is known by its id.
    fn ack<'a>(&'a mut self, _tokens: &'a [u64]) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async { Ok(()) })
    }

    fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }
}

/// The id of a line that brings none: the same for the same line of the same file, so that reading it again changes nothing.
#[must_use]
pub fn fallback_id(name: &str, line_number: u64, line: &[u8]) -> String {
    let mut hash = Sha256::new();
    for part in [name.as_bytes(), b"\0", &line_number.to_be_bytes(), line] {
        hash.update(part);
    }
    let hex: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("file-{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    async fn all(text: &[u8]) -> Vec<(u64, String)> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text).expect("written");
        let mut source = JsonlSource::open(file.path()).expect("opened");
        let mut lines = Vec::new();
        loop {
            let batch = source.next(2).await.expect("read");
            assert!(batch.len() <= 2);
            if batch.is_empty() {
                return lines;
            }
            lines.extend(batch.into_iter().map(|raw| (raw.token, String::from_utf8(raw.body).expect("text"))));
        }
    }

    #[tokio::test]
    async fn each_line_is_a_message_and_the_last_needs_no_end() {
        let lines = all(b"{\"a\":1}\r\n\n# a comment\n{\"b\":2}\n{\"c\":3}").await;
        assert_eq!(lines, [(1, "{\"a\":1}".into()), (4, "{\"b\":2}".into()), (5, "{\"c\":3}".into())]);
    }

    #[tokio::test]
    async fn too_long_a_line_is_skipped_and_the_rest_is_read() {
        let text = [&vec![b'x'; 3 * BODY_BYTES_MAX], &b"\n{}\n"[..]].concat();
        assert_eq!(all(&text).await, [(2, "{}".into())]);
        assert!(all(&vec![b'x'; 2 * BODY_BYTES_MAX]).await.is_empty(), "also when it is the last and has no end");
        let longest = vec![b'x'; BODY_BYTES_MAX];
        assert_eq!(all(&[&longest, &b"\r\n"[..]].concat()).await[0].1.len(), BODY_BYTES_MAX);
    }

    #[test]
    fn a_line_has_the_same_id_every_time_and_another_line_another() {
        assert_eq!(fallback_id("f", 1, b"{}"), fallback_id("f", 1, b"{}"));
        assert_ne!(fallback_id("f", 1, b"{}"), fallback_id("f", 2, b"{}"));
    }
}
