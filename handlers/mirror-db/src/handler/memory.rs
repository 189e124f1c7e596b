//! What was planned, until it is applied. Bounded: what is forgotten is planned again.

use std::collections::VecDeque;
use std::sync::Arc;

use handler_api::Change;

use crate::rows::{Known, Rows};

/// Reactions whose plans are kept between plan and apply.
pub const PLANS_KEPT_MAX: usize = 16;

/// What must be written in one category.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) known: Arc<Known>,
    pub(super) rows: Rows,
    /// Of the rows: each of the changes carries it.
    pub(super) digest: String,
    pub(super) changes: Vec<Change>,
    /// Whether it is about all of the category.
    pub(super) is_whole: bool,
}

/// By reaction, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Memory(VecDeque<(String, Vec<Planned>)>);

impl Memory {
    /// Keeps a plan in place of the reaction's last one; one that is empty is never asked for.
    pub(super) fn keep(&mut self, reaction: &str, planned: Vec<Planned>) {
        // All of a large category is 100 MB: only the latest such is kept, since many may be held or planned only.
        let is_whole = |all: &[Planned]| all.iter().any(|one| one.is_whole);
        let whole = is_whole(&planned);
        self.0.retain(|(id, other)| id != reaction && !(whole && is_whole(other)));
        if !planned.is_empty() {
            self.0.push_back((reaction.to_owned(), planned));
        }
        if self.0.len() > PLANS_KEPT_MAX {
            self.0.pop_front();
        }
    }

    /// The reaction's plan, which is then forgotten.
    pub(super) fn take(&mut self, reaction: &str) -> Option<Vec<Planned>> {
        let at = self.0.iter().position(|(id, _)| id == reaction)?;
        self.0.remove(at).map(|(_, planned)| planned)
    }
}
