//! YAML files → [`super::site::Site`], with every error at its line and column.

use std::path::Path;

use super::diagnostics::Diagnostics;
use super::site::Site;
use crate::trust::TrustConfig;

/// Loads a site: one file, or a directory whose `*.yaml` files are merged.
///
/// # Errors
/// Everything that is wrong with it, not only the first.
pub fn load(_paths: &[std::path::PathBuf]) -> Result<Site, Diagnostics> {
    Err(Diagnostics::default())
}

/// Loads a `trust:` block that stands alone in a file (for `reactor verify --trust FILE`).
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_trust(_path: &Path) -> Result<TrustConfig, Diagnostics> {
    Err(Diagnostics::default())
}
/// x
pub fn stamps(_p: &[std::path::PathBuf]) -> Vec<u64> { vec![] }
/// x
pub fn load_str(_n: &str, _t: &str, _d: &Path) -> Result<Site, Diagnostics> { Err(Diagnostics::default()) }
