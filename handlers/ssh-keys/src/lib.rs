//! The built-in handler `ssh-keys`: the hosts' authorized_keys, as the account system has it.
//!
//! A message is only a hint where to look. The way of one request ([`handler`] joins the parts):
//!
//! 1. [`config`]: the handler's block of the rules file, and who may log in where ([`access`])
//! 2. the crate `accounts`: who has which keys, who is in which groups; its `keys` makes lines of that hostile text
//! 3. [`fleet`]: what stands on each host now; hosts in parallel, over warm ssh connections or on this machine
//! 4. [`plan`]: pure: what must stand there, what differs; [`block`] is the part of a file that is ours
//! 5. apply: [`fleet`] writes each file whole or not at all, and only over what the plan saw

pub mod access;
pub mod block;
pub mod check;
pub mod config;
pub mod fleet;
pub mod handler;
pub mod plan;

pub use check::{check_config, check_files};
pub use handler::SshKeys;
