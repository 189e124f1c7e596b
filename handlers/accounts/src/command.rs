//! The source `command`.

/// The source, as configured.
#[derive(Debug)]
pub struct Command {}
