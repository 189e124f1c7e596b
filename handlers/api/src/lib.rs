//! The contract between reactor and a handler: what goes over stdin and stdout, and the types both sides use.
//!
//! Nothing in here does IO except [`serve`]. The words are those of DESIGN.md; the wire format is protocol version 1
//! (`handlers/PROTOCOL.md` in this repository).
//!
//! * [`protocol`]: the JSON lines: [`Describe`], [`Request`], [`Change`], [`Line`]
//! * [`params`]: typed parameters, checked before a handler sees them
//! * [`limits`]: every maximum, with its name and unit

pub mod limits;
pub mod params;
pub mod protocol;

pub use params::{ParamType, Params};
pub use protocol::{Action, Change, Describe, Failure, Line, MessageView, Request, exit};
