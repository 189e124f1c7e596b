//! What one process keeps in mind between requests. None of it must be right: without it things take longer, or are done
//! twice.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::DOWN_SECONDS;
use crate::fleet::{Trouble, TroubleKind};

/// Users whose last read of the truth is remembered; over it, every earlier plan counts as made from an older truth.
pub(super) const READS_KEPT_MAX: usize = 100_000;

/// The hosts that could not be reached a moment ago.
#[derive(Debug, Default)]
pub(super) struct Down(Mutex<HashMap<String, (Instant, Trouble)>>);

impl Down {
    /// The trouble of a host that others need not wait for now.
    pub fn known(&self, host: &str) -> Option<Trouble> {
        let down = lock(&self.0);
        let (since, trouble) = down.get(host)?;
        (since.elapsed() < Duration::from_secs(DOWN_SECONDS)).then(|| trouble.clone())
    }

    pub fn remember(&self, host: &str, trouble: Option<&Trouble>) {
        let mut down = lock(&self.0);
        match trouble.filter(|trouble| trouble.kind == TroubleKind::MayPass) {
            Some(trouble) => drop(down.insert(host.to_owned(), (Instant::now(), trouble.clone()))),
            None => drop(down.remove(host)),
        }
    }

    /// A host that has not answered when all others had: taken for down until it does.
    pub fn late(&self, host: &str) -> Trouble {
        let message = "no answer yet; the others, which have answered, do not wait for it".to_owned();
        let trouble = Trouble { message, hint: None, kind: TroubleKind::MayPass };
        self.remember(host, Some(&trouble));
        trouble
    }
}

/// When the truth was read for whom, as numbers that grow. A plan that was made from an older truth than somebody has read
/// since is made again: else a reconcile could write a key that was withdrawn while it was on its way.
#[derive(Debug, Default)]
pub(super) struct Reads(Mutex<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    last: u64,
    /// What is before it is old for everyone: more was read than is remembered.
    floor: u64,
    of: HashMap<String, u64>,
}

impl Reads {
    /// The truth is about to be read, for these users or (`None`) for everyone. The number of this read.
    ///
    /// A read of everyone makes no plan old: where it finds another truth for one person, a message about that person is on
    /// its way too; and several of them at once must not send each other back for ever.
    pub fn begin(&self, users: Option<&BTreeSet<String>>) -> u64 {
        let mut numbers = lock(&self.0);
        numbers.last += 1;
        let number = numbers.last;
        if numbers.of.len() + users.map_or(0, BTreeSet::len) > READS_KEPT_MAX {
            numbers.floor = number;
            numbers.of.clear();
        }
        numbers.of.extend(users.into_iter().flatten().map(|user| (user.clone(), number)));
        number
    }

    /// Whether somebody asked about this user after the read with this number.
    pub fn again_since(&self, number: u64, user: &str) -> bool {
        let numbers = lock(&self.0);
        numbers.floor.max(numbers.of.get(user).copied().unwrap_or(0)) > number
    }
}

/// The data behind a lock, whoever panicked with it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
