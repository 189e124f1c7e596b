//! What was missed on a bus: the two servers that keep it, and the daemon that asks them. datagrepper is a stand-in here
//! (`tests/src/datagrepper.rs`), `fedmsg.replay` is the real one.

mod client;
mod daemon;
mod trouble;
