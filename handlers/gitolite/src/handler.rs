//! The glue: a request's parameters → truth, admin repository, plan; and apply.

use handler_api::{Describe, Done, Failure, Handler, Plan, Request};

/// The handler. One process serves many requests; the copy of the admin repository stays warm in it.
#[derive(Debug, Default)]
pub struct Gitolite {}

impl Gitolite {
    /// Nothing is read or connected yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Handler for Gitolite {
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
