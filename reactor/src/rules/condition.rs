//! `where`, `unless` (field tests) and `when` (CEL).

use super::ExprError;

/// A parsed `when`.
#[derive(Debug)]
pub struct Condition {
    source: String,
}

impl Condition {
    /// Parses a CEL expression.
    ///
    /// # Errors
    /// What is wrong and where in `source`.
    pub fn parse(source: &str) -> Result<Self, ExprError> {
        Ok(Self { source: source.into() })
    }

    /// The expression as written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}
