//! Everything that is tested against real servers, real peers and the built binary: one module a subject.

mod fedmsg;
mod fedmsg_sockets;
mod journal;
mod kill;
mod publish_tail;
mod running;
mod vectors;
