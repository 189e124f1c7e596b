//! The source `yaml`.

/// The source, as configured.
#[derive(Debug)]
pub struct Yaml {}
