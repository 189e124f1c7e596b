//! `key` and `with`: Handlebars, strict, typed.

use serde_json::Value;

use super::ExprError;

/// A parsed template that gives text.
#[derive(Debug)]
pub struct Template {
    source: String,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// What is wrong and where in `source`.
    pub fn parse(source: &str) -> Result<Self, ExprError> {
        Ok(Self { source: source.into() })
    }

    /// The template as written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// The parameters of a rule: JSON whose strings are templates. A string that is one whole expression keeps its JSON type.
#[derive(Debug, Default)]
pub struct WithTemplate {
    source: Value,
}

impl WithTemplate {
    /// Parses every string in `source`.
    ///
    /// # Errors
    /// The path to the first bad string (keys and indexes) and what is wrong there.
    pub fn parse(source: Value) -> Result<Self, (Vec<String>, ExprError)> {
        Ok(Self { source })
    }

    /// The parameters as written.
    #[must_use]
    pub const fn source(&self) -> &Value {
        &self.source
    }
}
