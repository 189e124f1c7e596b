//! The built-in handler `mirror-pull`: a mirror holds while its upstream changes, and pulls what changed when it is done.

pub mod check;
pub mod handler;

pub use check::{check_config, check_files};
pub use handler::MirrorPull;
