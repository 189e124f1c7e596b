//! What can be known of the handler's block of the rules file without asking anybody: for `reactor check`.

use handler_api::Failure;
use serde_json::{Map, Value};

/// Whether the block can be used; nothing is read or connected.
///
/// # Errors
/// What is wrong with it.
pub fn check_config(words: &Map<String, Value>) -> Result<(), Failure> {
    let _ = words;
    todo!()
}

/// What is wrong with the files that a good block names: the template, the truths in YAML files.
#[must_use]
pub fn check_files(words: &Map<String, Value>) -> Vec<Failure> {
    let _ = words;
    todo!()
}
