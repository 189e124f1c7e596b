//! The source `yaml`: a file with the packages (its shape: `handlers/koji-owners/example/packages.yaml`).

use forge::file::File;
use handler_api::Failure;
use serde_json::Value;

use super::document::Document;
use super::{All, Package};
use crate::names::PackageName;

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
        Ok(Self { file: File::open(config, "packages", Document::from_yaml)? })
    }

    /// See [`super::Truth::package`].
    ///
    /// # Errors
    /// When the file can't be read or is no such file; permanent for a bad name in this package.
    pub async fn package(&self, name: &PackageName) -> Result<Option<Package>, Failure> {
        self.file.read().await?.package(name)
    }

    /// See [`super::Truth::all`].
    ///
    /// # Errors
    /// When the file can't be read or is no such file.
    pub async fn all(&self) -> Result<All, Failure> {
        Ok(self.file.read().await?.all())
    }
}
