//! What several nodes on one journal share: slots, the inbox, and who is there. Pure words; only a journal on a server has them.
//!
//! Every key falls into one of [`LANE_SLOTS`] slots, so all lanes of a key are in one slot, and a slot belongs to one node at a
//! time. Whoever receives a message only writes what the rules ask for into the inbox of the slot ([`Entry::Post`]); the node that
//! has the slot takes it from there, in the order in which it was written, and decides as a single node would.
//!
//! [`Entry::Post`]: super::Entry::Post

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ReactionId, Story};
use crate::message::Message;

/// Slots that the lanes of a site are spread over. A power of two, and as many as a `u64` has bits.
pub const LANE_SLOTS: u8 = 64;
/// Rows that are taken from the inbox in one turn.
pub const TAKEN_ROWS_MAX: usize = 512;
/// Rows that may wait in the inbox of all nodes together. Over it no node takes more from its buses until some are taken.
pub const INBOX_ROWS_MAX: u32 = 100_000;

/// The slot of all lanes with this key. The same on every node, for ever: it stands in the journal.
#[must_use]
pub fn slot_of(key: &str) -> u8 {
    let hash = Sha256::digest(super::postgres::plain(key));
    hash.first().copied().unwrap_or_default() % LANE_SLOTS
}

/// Some of the slots, a bit each.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Slots(pub u64);

impl Slots {
    /// No slot.
    pub const NONE: Self = Self(0);
    /// Every slot.
    pub const ALL: Self = Self(u64::MAX);

    /// Only this one.
    #[must_use]
    pub const fn one(slot: u8) -> Self {
        Self(1 << (slot % LANE_SLOTS))
    }

    /// Whether it is among them.
    #[must_use]
    pub const fn has(self, slot: u8) -> bool {
        self.0 & Self::one(slot).0 != 0
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// These, but none of those.
    #[must_use]
    pub const fn but(self, less: Self) -> Self {
        Self(self.0 & !less.0)
    }

    /// Those that are in both.
    #[must_use]
    pub const fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// How many.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether it is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their numbers, the smallest first.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..LANE_SLOTS).filter(move |slot| self.has(*slot))
    }
}

impl FromIterator<u8> for Slots {
    fn from_iter<T: IntoIterator<Item = u8>>(slots: T) -> Self {
        slots.into_iter().fold(Self::NONE, |all, slot| all.and(Self::one(slot)))
    }
}

impl std::fmt::Debug for Slots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A row of the inbox, as JSON in its column `what`: what the node that has the slot is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A rule asks for a reaction to the row's message.
    Asked {
        /// The rule's name.
        rule: String,
        /// The key.
        key: String,
    },
    /// A rule could not be asked about the row's message: its reaction fails at once.
    Broken {
        /// The rule's name; it is the key, too.
        rule: String,
        /// Why.
        why: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A reaction of this slot was made by another node, which has written it already: it goes on here.
    Reaction {
        /// Its id.
        id: ReactionId,
    },
    /// A person has decided about a reaction of this slot, at another node.
    Decided {
        /// What.
        decision: Decision,
        /// The reaction's id.
        id: ReactionId,
        /// Who.
        by: String,
    },
    /// A person wants this rule's reconcile now, and has said so at another node.
    Due {
        /// The rule's name.
        rule: String,
        /// Who.
        by: String,
    },
}

/// What a person may decide about one reaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It may go on.
    Approve,
    /// It is to be tried again, or now.
    Retry,
    /// It will not happen.
    Drop,
}

impl What {
    /// The words that rows of the inbox begin with. Those of a newer reactor wait for a node that understands them.
    pub const WORDS: [&str; 5] = ["asked", "broken", "reaction", "decided", "due"];

    /// The slot it is for, where its own words say it; the caller knows it for what is only named by an id.
    #[must_use]
    pub fn slot(&self) -> Option<u8> {
        match self {
            Self::Asked { key, .. } => Some(slot_of(key)),
            Self::Broken { rule, .. } | Self::Due { rule, .. } => Some(slot_of(rule)),
            Self::Reaction { .. } | Self::Decided { .. } => None,
        }
    }

    /// The reaction it is about.
    pub(super) fn reaction(&self) -> Option<&str> {
        match self {
            Self::Asked { .. } | Self::Broken { .. } | Self::Due { .. } => None,
            Self::Reaction { id } | Self::Decided { id, .. } => Some(id),
        }
    }
}

/// A row of the inbox with all that it speaks of.
#[derive(Clone, Debug)]
pub struct Handed {
    /// The row's number: who takes it writes [`Entry::Taken`](super::Entry::Taken).
    pub n: i64,
    /// What is to be done.
    pub what: What,
    /// The message that led to it.
    pub message: Option<Message>,
    /// The reaction it is about, with its messages but without the lines of its story.
    pub story: Option<Box<Story>>,
}

/// A node, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// Its process and host.
    pub shown: String,
    /// The version of its reactor.
    pub version: String,
    /// When it began.
    pub since: Timestamp,
    /// Whether its lease has not run out.
    pub is_alive: bool,
    /// The slots it has, by number.
    pub slots: Vec<u8>,
    /// Reactions in them that are not over.
    pub pending: u64,
    /// Rows of the inbox that wait for it.
    pub inbox: u64,
}

/// A node's place at a journal that several share. Whoever has it must keep a lease, or loses it.
#[derive(Clone, Debug)]
pub struct Seat {
    /// The journal.
    pub server: super::place::Postgres,
    /// The node's name.
    pub node: String,
    /// How often a daemon has begun under that name, or lost it. Another one than this: we were replaced.
    pub generation: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_slot_for_ever() {
        // They stand in journals: a change here would tear lanes apart.
        assert_eq!(["", "ralph", "org/repo", "ü\u{0}"].map(slot_of), [35, 63, 23, 58]);
        let used: Slots = (0..1_000).map(|n| slot_of(&format!("key{n}"))).collect();
        assert_eq!(used, Slots::ALL);
    }

    #[test]
    fn slots_are_sets() {
        let some: Slots = [0, 5, 63].into_iter().collect();
        assert_eq!((some.len(), some.has(5), some.has(6)), (3, true, false));
        assert_eq!(some.but(Slots::one(5)).iter().collect::<Vec<_>>(), [0, 63]);
        assert!(some.both(Slots::one(6)).is_empty() && some.and(Slots::ALL) == Slots::ALL);
    }
}
