//! The built-in handler `mirror-pull`: a mirror holds while its upstream changes, and pulls what changed when it is done.
//!
//! * [`config`], [`check`]: the block of the rules file
//! * [`paths`]: pure: what may be asked for, and in which part it lies
//! * [`hold`]: what is held, by whom, until when
//! * [`trace`]: what a mirror says of itself to those that pull from it: marker and trace; and what was pulled before
//! * [`rsync`]: the edge: its arguments, its answers, its exit codes
//! * [`plan`], [`pull`]: what would be pulled; the two stages
//! * [`announce`]: `mirror.pull.started` and `.finished`
//! * [`handler`]: joins them

pub mod announce;
pub mod check;
pub mod config;
pub mod handler;
pub mod hold;
pub mod paths;
pub mod plan;
pub mod pull;
pub mod rsync;
pub mod trace;

pub use check::{check_config, check_files};
pub use handler::MirrorPull;
