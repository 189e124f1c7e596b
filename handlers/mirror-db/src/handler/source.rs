//! A walk, or the master's file list? The message comes before the list, so who trusts the list at once finds nothing changed.

use std::collections::BTreeMap;

use handler_api::{Failure, MessageView};
use jiff::Timestamp;

use super::stale;
use crate::config::{Config, OldList};
use crate::rows::{Known, Part, Tree};
use crate::tree::{self, Ask, List};

/// When the newest message was sent, in seconds since 1970; `None` = there is none.
///
/// # Errors
/// Permanent: one has no time that can be read.
pub(super) fn newest(messages: &[MessageView]) -> Result<Option<i64>, Failure> {
    let sent = |message: &MessageView| {
        let time = message.sent.parse::<Timestamp>().map(Timestamp::as_second);
        time.map_err(|error| {
            Failure::permanent(format!("message {}: when it was sent can't be read: {error}", message.id))
        })
    };
    messages.iter().map(sent).collect::<Result<Vec<_>, _>>().map(|times| times.into_iter().max())
}

/// What is on the mirror. Blocks.
///
/// # Errors
/// Whatever is uncertain: see [`tree::walk`] and [`tree::read`].
pub(super) fn look(
    config: &Config,
    name: &str,
    part: &Part,
    known: &Known,
    sent: Option<i64>,
) -> Result<Tree, Failure> {
    let category = config.category(name)?.1;
    let times: BTreeMap<&str, i64> =
        known.directories.iter().filter_map(|(name, row)| Some((name.as_str(), row.time?))).collect();
    let ask = Ask { root: &config.root, top: &category.top, part, times: &times, excludes: &category.excludes };
    // A hinted directory without a message: somebody asked for it by hand, or it was left for later. Looking is certain.
    let Some(list) = category.list.as_ref().filter(|_| *part == Part::Whole || sent.is_some()) else {
        return tree::walk(&ask);
    };
    match by_list(config, list, &ask, known, sent) {
        Ok(tree) => Ok(tree),
        Err(failure) if config.old_list == OldList::Wait => Err(failure),
        Err(failure) => {
            let mut tree = tree::walk(&ask)?;
            // For a hint it is what always happens: the message comes first.
            let is_usual = *part != Part::Whole && is_too_old(config, list, sent);
            tree.notes.extend((!is_usual).then(|| format!("walked, for the list says nothing: {}", failure.message())));
            Ok(tree)
        }
    }
}

fn by_list(config: &Config, list: &List, ask: &Ask<'_>, known: &Known, sent: Option<i64>) -> Result<Tree, Failure> {
    // Before it is read: if it is replaced in between, the older time is the careful one.
    let begun = begun(config, list)?;
    if let Some(sent) = sent.filter(|sent| begun <= *sent) {
        let shown = list.path.display();
        let message = format!("the list {shown} may have been begun {} s before the message was sent", sent - begun);
        return Err(Failure::retry(message)
            .hinting(format!("ls -l {shown}; `list_takes` says how long the master needs to make it")));
    }
    let mut tree = tree::read(list, ask)?;
    stale::keep_what_is_newer(&mut tree, known, begun);
    Ok(tree)
}

fn is_too_old(config: &Config, list: &List, sent: Option<i64>) -> bool {
    begun(config, list).is_ok_and(|begun| sent.is_some_and(|sent| begun <= sent))
}

/// When the making of the list began, at the earliest: what changed later may be in it or not.
fn begun(config: &Config, list: &List) -> Result<i64, Failure> {
    let takes = i64::try_from(config.list_takes.as_secs()).unwrap_or(i64::MAX);
    tree::made(list).map(|made| made.saturating_sub(takes))
}
