//! The contract between reactor and a handler: what goes over stdin and stdout, and the types both sides use.
//!
//! Nothing in here does IO except [`serve`]. The words are those of DESIGN.md; the wire format is protocol version 1
//! (`handlers/PROTOCOL.md` in this repository).
//!
//! * [`protocol`]: the JSON lines: [`Describe`], [`Request`], [`Plan`], [`Change`], [`Later`],
//!   [`Failure`]
//! * [`line`]: one line of a handler's stdout: [`Answer`], [`Line`]; reading lines of bounded length
//! * [`serve`]: the main loop of a handler written in Rust: [`Handler`], [`serve()`]
//! * [`params`]: typed parameters, checked before a handler sees them
//! * [`doctor`]: what `reactor doctor` asks of a handler: [`Finding`]
//! * [`limits`]: every maximum, with its name and unit
//! * [`units`]: durations as people write them; [`spelling`]: "did you mean". The daemon and its handlers read the same
//!   rules file, so they read it alike
//! * [`notes`]: sentences for a person, bounded
//! * [`words`]: reading a handler's block of the rules file, with errors that name the wrong word
//! * [`ssh_config`]: for handlers that use ssh: what it may do for us, and what never

pub mod doctor;
pub mod limits;
pub mod line;
pub mod notes;
pub mod params;
pub mod protocol;
pub mod serve;
pub mod spelling;
pub mod ssh_config;
pub mod units;
pub mod words;

pub use doctor::Finding;
pub use line::{Answer, Line};
pub use params::{ParamType, Params};
pub use protocol::{Action, Change, Describe, Failure, Later, MessageView, Plan, Request, exit};
pub use serve::{Done, Handler, serve};
