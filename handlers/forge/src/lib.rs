//! The sites that know projects, asked over HTTP. For every handler that asks about projects; it knows none of them.
//!
//! * [`server`]: a site, and what an answer must look like to be read at all
//! * [`pagure`]: pagure's API: one project, all of them, their branches, the files at the top of a branch
//! * `stub` (feature `testkit`): a small server on loopback for tests of faults
//!
//! **Unknown is not empty**: an error, a partial page, another shape is a [`Failure`](handler_api::Failure), never "none".

pub mod pagure;
pub mod server;
#[cfg(feature = "testkit")]
pub mod stub;
