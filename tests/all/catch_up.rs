//! What was missed on a bus: the servers that keep it (the real datagrepper, the real `fedmsg.replay`), and the daemon that
//! asks. Where a server has to fail or to wait, it is a stand-in for datagrepper (`tests/src/datagrepper.rs`).

mod client;
mod daemon;
mod others;
mod trouble;
