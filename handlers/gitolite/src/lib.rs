//! The built-in handler `gitolite`: who may commit where, as the truth has it.
//!
//! A message is only a hint where to look. The way of one request ([`handler`] joins the parts):
//!
//! 1. [`config`]: the handler's block of the rules file
//! 2. [`truth`]: who may do what in a repository; the crate `accounts`: who is in a group, who has which keys
//! 3. [`layout`]: a template makes gitolite rules of that; [`grammar`] reads every line of it before gitolite does
//! 4. [`plan`], pure: which of our files ([`files`]) must stand how, what differs, what waits for a person
//! 5. apply: [`admin`] makes one commit a reaction and pushes them, many at once where many wait
//!
//! Two branches of the admin repository are ours to write. On `master`, which gitolite compiles (20 s at 20,000 repositories,
//! however small the change): `conf/reactor/`, `keydir/reactor/`. On `members`, which gitolite does not compile: who is in
//! which list, asked by `server/reactor-groups` at each access; so a push there is effective when it ends. With
//! `membership: compiled` all of it stands on `master`, and nothing need be installed on the server.

pub mod admin;
pub mod check;
pub mod config;
pub mod files;
pub mod grammar;
pub mod handler;
pub mod layout;
pub mod names;
pub mod plan;
pub mod truth;

pub use check::{check_config, check_files};
pub use handler::Gitolite;
