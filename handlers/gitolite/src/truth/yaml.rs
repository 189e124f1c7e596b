//! The source `yaml`: a file with the repositories (its shape: `handlers/gitolite/example/repos.yaml`).

use forge::file::File;
use handler_api::Failure;
use serde_json::Value;

use super::document::Document;
use super::{All, Repo};
use crate::names::RepoName;

/// The source, as configured.
#[derive(Debug)]
pub struct Yaml {
    file: File<Document>,
}

impl Yaml {
    /// Reads `{yaml: PATH}`.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word.
    pub fn open(config: &Value) -> Result<Self, Failure> {
        Ok(Self { file: File::open(config, "repos", Document::from_yaml)? })
    }

    /// See [`super::Truth::repo`].
    ///
    /// # Errors
    /// When the file can't be read or is no such file; permanent for a bad name in this repository.
    pub async fn repo(&self, name: &RepoName) -> Result<Option<Repo>, Failure> {
        self.file.read().await?.repo(name)
    }

    /// See [`super::Truth::all`].
    ///
    /// # Errors
    /// When the file can't be read or is no such file.
    pub async fn all(&self) -> Result<All, Failure> {
        Ok(self.file.read().await?.all())
    }
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
