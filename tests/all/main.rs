//! Everything that is tested against real servers, real peers and the built binary: one module a subject.

mod journal;
mod kill;
mod running;
mod vectors;
