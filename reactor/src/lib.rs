//! reactor: turns signed messages on a bus into planned, guarded, journaled changes.
//!
//! The pipeline, in the order a message travels it:
//!
//! ```text
//! bus ──► trust ──► rules ──► journal ──► (ack) ──► lanes ──► plan ──► guard ──► apply ──► journal ──► bus
//! ```
//!
//! * [`message`]: what travels: [`message::RawMessage`] before trust, [`message::Message`] after it
//! * [`bus`]: where messages come from and go to (fedmsg over ZeroMQ, AMQP, webhooks, JSON Lines)
//! * [`http`]: what is posted to us, and the history of messages for who asks
//! * [`trust`]: signature and policy; only it makes a [`trust::Verified`] message
//! * [`rules`]: the site's YAML: which messages, which reaction
//! * [`journal`]: the durable record; nothing is acknowledged before it is in there
//! * [`lanes`]: pure: order, coalescing, retry times
//! * [`guard`]: pure: may this plan run without a person?
//! * [`runner`]: runs handlers, the only place that starts programs
//! * [`engine`]: the one loop that joins them, and the only place that reads the clock
//! * [`cli`]: one file a verb
//! * [`built_in`]: the table of built-in handlers
//! * [`rehearsal`]: rule tests in virtual time, with the engine's own deciding half

pub mod built_in;
pub mod bus;
pub mod cli;
pub mod engine;
pub mod guard;
pub mod http;
pub mod journal;
pub mod lanes;
pub mod message;
pub mod rehearsal;
pub mod rules;
pub mod runner;
pub mod trust;
