//! A source that is a file which people write: `{yaml: PATH}`.
//!
//! It is read at each request, and parsed only when it is another one than before: its bytes are compared (by SHA-256), since a
//! time stamp can be the same for two versions.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use accounts::yaml::file_text;
use handler_api::Failure;
use handler_api::words::Words;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// How long reading and parsing it may take (a file on a network that hangs), in seconds.
pub const FILE_SECONDS_MAX: u64 = 60;

/// Makes of the text of a file, and its path for messages, what is in it.
pub type Parse<D> = fn(&str, &str) -> Result<D, Failure>;

/// The file, as configured.
pub struct File<D> {
    what: &'static str,
    path: PathBuf,
    parse: Parse<D>,
    parsed: Arc<Mutex<Option<Parsed<D>>>>,
}

/// What was parsed last.
struct Parsed<D> {
    sha256: Vec<u8>,
    document: Arc<D>,
}

impl<D> fmt::Debug for File<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<D: Send + Sync + 'static> File<D> {
    /// Reads `{yaml: PATH}`, the value of the word `what` (`repos`).
    ///
    /// # Errors
    /// A permanent failure that names the wrong word.
    pub fn open(config: &Value, what: &'static str, parse: Parse<D>) -> Result<Self, Failure> {
        let words = Words::read(config, what, &["yaml"])?;
        let path = words.text("yaml")?.unwrap_or_default();
        if !path.starts_with('/') {
            let value = words.get("yaml").unwrap_or(&Value::Null);
            let failure = words.wrong("yaml", "is not the absolute path of a file", value);
            return Err(failure.hinting("write /PATH, or ./PATH for a file beside the rules file"));
        }
        Ok(Self { what, path: path.into(), parse, parsed: Arc::default() })
    }

    /// What is in it now.
    ///
    /// # Errors
    /// When it can't be read, is cut short, or is no such file.
    pub async fn read(&self) -> Result<Arc<D>, Failure> {
        let (what, path, parse, parsed) = (self.what, self.path.clone(), self.parse, Arc::clone(&self.parsed));
        let read = tokio::task::spawn_blocking(move || {
            let text = file_text(what, &path)?;
            let shown = path.display().to_string();
            // Cut short, YAML is often YAML still, with fewer names in its last list.
            if !text.is_empty() && !text.ends_with(['\n', '}']) {
                let message = format!("{shown}: its last line has no end; is it still being written?");
                return Err(
                    Failure::retry(message).hinting(format!("otherwise end it with a newline: echo >> {shown}"))
                );
            }
            let sha256 = Sha256::digest(text.as_bytes()).to_vec();
            // Held while parsing: a burst of requests parses once.
            let mut parsed = parsed.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(parsed) = parsed.as_ref().filter(|parsed| parsed.sha256 == sha256) {
                return Ok(Arc::clone(&parsed.document));
            }
            let document = Arc::new(parse(&text, &shown)?);
            *parsed = Some(Parsed { sha256, document: Arc::clone(&document) });
            Ok(document)
        });
        match tokio::time::timeout(Duration::from_secs(FILE_SECONDS_MAX), read).await {
            Ok(Ok(document)) => document,
            Ok(Err(error)) => Err(Failure::retry(format!("{}: {error}", self.path.display()))),
            Err(_) => {
                let message = format!("{} could not be read within {FILE_SECONDS_MAX}s", self.path.display());
                Err(Failure::retry(message).hinting(format!("time head -c1 {}", self.path.display())))
            }
        }
    }
}
