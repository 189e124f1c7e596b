//! The source `command`: a program of the site's, which prints the packages as JSON.
//!
//! It is run as `PROGRAM args… package NAME` or `PROGRAM args… all`, without a shell. It prints `{"package": {…}}` (null = there
//! is none of that name) or `{"packages": {NAME: {…}}}`, with the words of the YAML file.

use forge::program::Program;
use handler_api::Failure;
use serde_json::Value;

use super::document::{Document, one_from_json};
use super::{All, Package};
use crate::names::PackageName;

/// The source, as configured.
#[derive(Debug)]
pub struct Command {
    program: Program,
}

impl Command {
    /// Reads `{command: [PROGRAM, args…], timeout: 30s?}`.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word.
    pub fn open(config: &Value) -> Result<Self, Failure> {
        Ok(Self { program: Program::open(config, "packages")? })
    }

    /// See [`super::Truth::package`].
    ///
    /// # Errors
    /// When the program fails in any way, or prints anything but a whole answer; permanent for a bad name in it.
    pub async fn package(&self, name: &PackageName) -> Result<Option<Package>, Failure> {
        let name = name.clone();
        let asked = vec!["package".to_owned(), name.as_str().to_owned()];
        self.program.ask(asked, move |bytes, source| one_from_json(bytes, &name, source)).await
    }

    /// See [`super::Truth::all`].
    ///
    /// # Errors
    /// When the program fails in any way, or prints anything but a whole answer.
    pub async fn all(&self) -> Result<All, Failure> {
        let read = |bytes: &[u8], source: &str| Document::from_json(bytes, source).map(|document| document.all());
        self.program.ask(vec!["all".to_owned()], read).await
    }
}
