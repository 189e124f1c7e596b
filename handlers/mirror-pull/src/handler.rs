//! Joins the parts.

use handler_api::{Describe, Done, Failure, Handler, Plan, Request};

/// The handler. What it planned it keeps in mind until apply, which plans again if it does not know.
#[derive(Debug, Default)]
pub struct MirrorPull {}

impl MirrorPull {
    /// Asks nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Handler for MirrorPull {
    fn describe(&self) -> Describe {
        todo!()
    }

    async fn plan(&self, request: &Request) -> Result<Plan, Failure> {
        let _ = request;
        todo!()
    }

    async fn apply(&self, request: &Request, done: &mut Done) -> Result<(), Failure> {
        let _ = (request, done);
        todo!()
    }
}
