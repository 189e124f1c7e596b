//! The source `yaml`: a file with the repositories (its shape: `handlers/gitolite/example/repos.yaml`).
//!
//! It is read at each request, and parsed only when it is another one than before: its bytes are compared (by SHA-256), since a
//! time stamp can be the same for two versions.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use accounts::yaml::file_text;
use handler_api::Failure;
use handler_api::words::Words;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::document::Document;
use super::{All, Repo};
use crate::names::RepoName;

/// How long reading and parsing it may take (a file on a network that hangs), in seconds.
pub const YAML_SECONDS_MAX: u64 = 60;

/// The source, as configured.
#[derive(Debug)]
pub struct Yaml {
    path: PathBuf,
    parsed: Arc<Mutex<Option<Parsed>>>,
}

/// What was parsed last.
#[derive(Debug)]
struct Parsed {
    sha256: Vec<u8>,
    document: Arc<Document>,
}

impl Yaml {
    /// Reads `{yaml: PATH}`.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word.
    pub fn open(config: &Value) -> Result<Self, Failure> {
        let words = Words::read(config, "repos: yaml", &["yaml"])?;
        let path = words.text("yaml")?.unwrap_or_default();
        if !path.starts_with('/') {
            let value = words.get("yaml").unwrap_or(&Value::Null);
            let failure = words.wrong("yaml", "is not the absolute path of a file", value);
            return Err(failure.hinting("write /PATH, or ./PATH for a file beside the rules file"));
        }
        Ok(Self { path: path.into(), parsed: Arc::default() })
    }

    /// See [`super::Truth::repo`].
    ///
    /// # Errors
    /// When the file can't be read or is no such file; permanent for a bad name in this repository.
    pub async fn repo(&self, name: &RepoName) -> Result<Option<Repo>, Failure> {
        self.document().await?.repo(name)
    }

    /// See [`super::Truth::all`].
    ///
    /// # Errors
    /// When the file can't be read or is no such file.
    pub async fn all(&self) -> Result<All, Failure> {
        Ok(self.document().await?.all())
    }

    async fn document(&self) -> Result<Arc<Document>, Failure> {
        let (path, parsed) = (self.path.clone(), Arc::clone(&self.parsed));
        let read = tokio::task::spawn_blocking(move || {
            let text = file_text("repos", &path)?;
            let shown = path.display().to_string();
            // Cut short, YAML is often YAML still, with fewer people in its last list.
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
            let document = Arc::new(Document::from_yaml(&text, &shown)?);
            *parsed = Some(Parsed { sha256, document: Arc::clone(&document) });
            Ok(document)
        });
        match tokio::time::timeout(Duration::from_secs(YAML_SECONDS_MAX), read).await {
            Ok(Ok(document)) => document,
            Ok(Err(error)) => Err(Failure::retry(format!("{}: {error}", self.path.display()))),
            Err(_) => {
                let message = format!("{} could not be read within {YAML_SECONDS_MAX}s", self.path.display());
                Err(Failure::retry(message).hinting(format!("time head -c1 {}", self.path.display())))
            }
        }
    }
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
