//! The source `fasjson`.

/// The source, as configured.
#[derive(Debug)]
pub struct Fasjson {}
