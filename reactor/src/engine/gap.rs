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
        let message = Verified::internal(Message {
            id: format!("reactor-gap-{}-{}", gap.bus, now.as_microsecond()),
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
