//! Errors and warnings in a site's files, as people read them: file, line, column, the source line, a caret, one hint.

/// Everything that was found; `Display` shows all of it, in the order of the files.
#[derive(Debug, Default)]
pub struct Diagnostics {}

impl std::fmt::Display for Diagnostics {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
