//! What was missed on a bus is a message of our own, `reactor.bus.gap`, that rules may match. Part of the core: pure.

use jiff::Timestamp;

use super::super::catch_up::heard::Gap;
use super::{Core, Turn};
use crate::message::{Message, Topic};
use crate::trust::Verified;

/// The topic.
pub const GAP_TOPIC: &str = "reactor.bus.gap";

impl Core {
    /// Tells of a gap whoever has a rule for it.
    pub fn gap(&mut self, now: Timestamp, gap: &Gap, turn: &mut Turn) {
        let Ok(topic) = Topic::new(GAP_TOPIC) else { return };
        if !self.rules.wants(topic.as_str()) {
            return;
        }
        let mut body = serde_json::json!(gap);
        body["replay"] = gap.command().into();
        // Two gaps of one bus may be told in one turn: what is too old to be asked for, and the rest.
        let [from, to, now_us] = [gap.from, gap.to, now].map(Timestamp::as_microsecond);
        let message = Verified::internal(Message {
            id: format!("reactor-gap-{}-{now_us}-{from}-{to}", gap.bus),
            topic,
            sent: now,
            bus: "reactor".into(),
            signer: "reactor".into(),
            body,
            headers: serde_json::Map::new(),
        });
        let decisions = self.rules.decide(message.get());
        if !decisions.is_empty() {
            self.message(now, message.get(), decisions, turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, core_of, rows};
    use super::*;

    #[test]
    fn two_gaps_of_one_turn_are_two_messages_and_two_reactions() {
        let mut core = core_of(
            "version: 1\nhandlers: { tell: { exec: /bin/true } }\nrules:\n  - { name: gap, on: reactor.bus.gap, key: '{{msg.from}}', do: tell }\n",
        );
        let gap = |from, to| Gap {
            bus: "b".into(),
            from: at(from),
            to: at(to),
            why: "reactor was not there".into(),
            is_asked: false,
            recovered: false,
            came: 0,
            new: 0,
            lacking: Some("it is too old".into()),
            hint: None,
        };
        let mut turn = Turn::default();
        [gap(0, 10), gap(10, 20)].iter().for_each(|gap| core.gap(at(30), gap, &mut turn));
        let ids: std::collections::BTreeSet<_> = turn
            .entries
            .iter()
            .filter_map(|entry| match entry {
                crate::journal::Entry::Message(message) => Some(&message.id),
                _ => None,
            })
            .collect();
        assert_eq!((ids.len(), rows(&turn).len()), (2, 2), "{ids:?}");
    }
}
