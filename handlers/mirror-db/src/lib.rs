//! The built-in handler `mirror-db`: new content on the master mirror is in the mirror database (MirrorManager2's) at once.
//!
//! A message is only a hint where to look. The way of one request ([`handler`] joins the parts):
//!
//! 1. [`config`]: the handler's block of the rules file; which directories a message means ([`config::Hints`])
//! 2. [`store`]: what the database has of them ([`rows::Known`])
//! 3. [`tree`]: what is on the mirror: a walk of the hinted directories, or the master's own file list
//! 4. [`details`]: checksums of repomd.xml and of what checksum files name
//! 5. [`plan`], pure: which rows must change ([`rows::Rows`]), and how a person reads that
//! 6. apply: [`store`] writes them in one transaction a category
//!
//! Unknown is not empty: a list without its end, an unreadable mount, a directory that vanished while it was read fail the
//! reaction, and nothing is written.

pub mod check;
pub mod config;
pub mod details;
pub mod handler;
pub mod plan;
pub mod rows;
pub mod store;
pub mod tree;

pub use check::{check_config, check_files};
pub use handler::MirrorDb;
