//! The built-in handler `koji-owners`: a package that changed hands has its owner in Koji at once.
//!
//! A message is only a hint where to look. The way of one request ([`handler`] joins the parts):
//!
//! 1. [`config`]: the handler's block of the rules file; [`request`]: which package a message means
//! 2. [`truth`]: who owns the package, on which branches it lives, on which it is retired ([`truth::Package`])
//! 3. [`tags`]: which tags stand for those branches
//! 4. [`hub`]: what Koji has ([`hub::Entry`]), read without logging in
//! 5. [`plan`], pure: what must change, tag by tag
//! 6. apply: [`hub`] writes it, at most [`hub::WRITES_PER_CALL`] changes in one `multiCall`, and judges each answer
//!
//! Unknown is not empty: an error of the truth never reads as "no branches" or as some other owner, and what is skipped is
//! said. A package list is never shortened: what the truth does not know is left alone.

pub mod check;
pub mod config;
pub mod handler;
pub mod hub;
pub mod names;
pub mod plan;
pub mod request;
pub mod tags;
pub mod truth;

pub use check::{check_config, check_files, doctor};
pub use handler::KojiOwners;
