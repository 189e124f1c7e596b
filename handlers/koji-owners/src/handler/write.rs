//! Writes what is still to be done, batch by batch, and judges each answer by itself.

use handler_api::line::cut;
use handler_api::{Change, Done, Failure};

use super::lists::{Lists, same_number};
use crate::hub::{WRITES_PER_CALL, Write};

/// Failures that a message names; the rest is counted.
const FAILURES_SHOWN_MAX: usize = 3;
/// Longest text of one of several failures, in bytes; the rest is cut off.
const FAILURE_BYTES_MAX: usize = 400;

/// A change, and what of it is still to be written; nothing = it is done already.
#[derive(Debug)]
pub(super) struct Work<'a> {
    pub(super) change: &'a Change,
    pub(super) writes: Vec<Write>,
}

/// Writes all of it, and reports each change when all of it is done.
///
/// # Errors
/// One failure for all that could not be done: temporary if one of them is.
pub(super) async fn write<H: Lists>(hub: &H, work: &[Work<'_>], done: &mut Done) -> Result<(), Failure> {
    let mut open: Vec<usize> = work.iter().map(|one| one.writes.len()).collect();
    work.iter().filter(|one| one.writes.is_empty()).for_each(|one| done.change(one.change));
    let all: Vec<(usize, &Write)> =
        work.iter().enumerate().flat_map(|(at, one)| one.writes.iter().map(move |write| (at, write))).collect();
    let mut failures = Vec::new();
    for batch in all.chunks(WRITES_PER_CALL) {
        let writes: Vec<Write> = batch.iter().map(|(_, write)| (*write).clone()).collect();
        let answered = hub.write(&writes).await;
        let verdicts = answered.and_then(|verdicts| same_number(batch.len(), verdicts.len()).map(|()| verdicts));
        let verdicts = match verdicts {
            Ok(verdicts) => verdicts,
            Err(failure) => {
                failures.push(failure);
                break;
            }
        };
        for ((at, _), verdict) in batch.iter().zip(verdicts) {
            match verdict {
                Ok(()) => {
                    open[*at] -= 1;
                    if open[*at] == 0 {
                        done.change(work[*at].change);
                    }
                }
                Err(failure) => failures.push(failure),
            }
        }
    }
    together(failures)
}

/// One failure for all of them.
fn together(mut failures: Vec<Failure>) -> Result<(), Failure> {
    if failures.len() <= 1 {
        return failures.pop().map_or(Ok(()), Err);
    }
    let count = failures.len();
    let shown: Vec<String> =
        failures.iter().take(FAILURES_SHOWN_MAX).map(|failure| cut(failure.message(), FAILURE_BYTES_MAX)).collect();
    let mut message = format!("{count} failures: {}", shown.join("; "));
    if count > shown.len() {
        message.push_str(&format!("; and {} more", count - shown.len()));
    }
    let is_retry = |failure: &&Failure| matches!(failure, Failure::Retry { .. });
    let temporary: Vec<&Failure> = failures.iter().filter(is_retry).collect();
    let first_hint = |failures: &[&Failure]| failures.iter().find_map(|failure| failure.hint().map(str::to_owned));
    if temporary.is_empty() {
        return Err(Failure::Permanent { message, hint: first_hint(&failures.iter().collect::<Vec<_>>()) });
    }
    let after = |failure: &&Failure| match failure {
        Failure::Retry { after, .. } => *after,
        Failure::Permanent { .. } => None,
    };
    Err(Failure::Retry { message, hint: first_hint(&temporary), after: temporary.iter().filter_map(after).max() })
}
