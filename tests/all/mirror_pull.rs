//! Mirrors as processes: a master, tier 1, tier 2, each with a real rsync daemon over its tree; the mirrors with a reactor of their
//! own, whose rules are the examples that people copy; all of them on one real fedmsg-relay, signed.

mod chain;
mod examples;
mod hold;
mod hostile;
mod site;
mod trouble;
