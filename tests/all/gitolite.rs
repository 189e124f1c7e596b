//! The handler `gitolite` against the real gitolite behind a real sshd: pushes that are refused, and accepted after the message.

mod access;
mod drift;
mod hostile;
mod races;
mod server;
mod site;
