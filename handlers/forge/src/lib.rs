//! How handlers ask about projects: sites over HTTP, files that people write, programs. It knows none of the handlers.
//!
//! * [`server`]: a site, and what an answer must look like to be read at all
//! * [`pagure`]: pagure's API: one project, all of them, their branches, the files at the top of a branch
//! * [`file`], [`program`]: a YAML file, a program that prints JSON; [`document`]: what both are made of
//! * `stub` (feature `testkit`): a small server on loopback for tests of faults
//!
//! **Unknown is not empty**: an error, a partial page, another shape is a [`Failure`](handler_api::Failure), never "none".

pub mod document;
pub mod file;
pub mod pagure;
pub mod program;
pub mod server;
#[cfg(feature = "testkit")]
pub mod stub;
