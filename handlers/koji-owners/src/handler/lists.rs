//! What the handler asks of a hub: the real one, and the tests' own.

use std::collections::BTreeSet;
use std::future::Future;

use handler_api::Failure;

use crate::hub::{Entry, Hub, Look, Verdict, Write};
use crate::names::{PackageName, TagName, UserName};

/// Package lists, as [`Hub`] has them; see there for what each answers.
pub trait Lists: Send + Sync + 'static {
    /// The whole list of a tag.
    ///
    /// # Errors
    /// Whatever is not a whole and certain answer.
    fn list(&self, tag: &TagName) -> impl Future<Output = Result<Vec<Entry>, Failure>> + Send;

    /// What each of these is, and who of these has no account.
    ///
    /// # Errors
    /// Whatever is not a whole and certain answer.
    fn look(
        &self,
        asked: &[(TagName, PackageName)],
        users: &BTreeSet<UserName>,
    ) -> impl Future<Output = Result<Look, Failure>> + Send;

    /// Writes at most [`crate::hub::WRITES_PER_CALL`], and says of each how it ended.
    ///
    /// # Errors
    /// Nothing certain is known of any.
    fn write(&self, writes: &[Write]) -> impl Future<Output = Result<Vec<Verdict>, Failure>> + Send;
}

impl Lists for Hub {
    async fn list(&self, tag: &TagName) -> Result<Vec<Entry>, Failure> {
        Self::list(self, tag).await
    }

    async fn look(&self, asked: &[(TagName, PackageName)], users: &BTreeSet<UserName>) -> Result<Look, Failure> {
        Self::look(self, asked, users).await
    }

    async fn write(&self, writes: &[Write]) -> Result<Vec<Verdict>, Failure> {
        Self::write(self, writes).await
    }
}

/// An answer for each that was asked: one more or less, and it would be about another.
pub fn same_number(asked: usize, answered: usize) -> Result<(), Failure> {
    if asked == answered {
        return Ok(());
    }
    Err(Failure::retry(format!("the hub was asked {asked} things, and answered {answered}: that is not believed")))
}
