//! How an outcome goes out on each kind of bus.

use serde_json::Value;

use super::{Kept, Waiting};
use crate::bus::amqp;
use crate::bus::amqp::config::AmqpBus;
use crate::bus::amqp::publish::{AmqpPublisher, Sent};
use crate::trust::sign::{Outgoing, Signer, unsigned_envelope};

/// Publishes one after the other; `confirmed` has those that the broker took, also when it did not take all.
pub(super) async fn tell_broker(
    name: &str,
    bus: &AmqpBus,
    waiting: Waiting,
    confirmed: &mut Vec<(String, Kept, String)>,
) -> Result<(), String> {
    // A connection for each time: one that idles would need to be kept alive, and files with passwords change.
    let amqp = amqp::resolve(name, bus).map_err(|error| error.to_string())?;
    if amqp.topic_prefix.is_empty() {
        return Err("it has no `topic_prefix`, and a topic that begins with reactor. is believed by no reactor".into());
    }
    let broken = |broken: amqp::connection::Broken| format!("what became of messages can't be published: {broken}");
    let mut publisher = AmqpPublisher::open(&amqp).await.map_err(broken)?;
    for (setting, one) in waiting {
        let body = one.body.get().as_bytes();
        let sent = publisher.publish(&one.topic, &one.id, one.at, body).await.map_err(broken)?;
        let topic = publisher.whole_topic(&one.topic);
        let whom = match sent {
            Sent::Queued => "the broker has it",
            Sent::Unwanted => "no queue wanted it",
        };
        let said = format!("published on bus {name} as {topic} {}; {whom}", one.id);
        confirmed.push((setting, one, said));
    }
    publisher.close().await;
    Ok(())
}

/// The message as fedmsg has it.
pub(super) fn envelope(signer: Option<&Signer>, topic: &str, one: &Kept, i: u64) -> Result<Vec<u8>, String> {
    let username = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "reactor".into());
    let msg: Value = serde_json::from_str(one.body.get()).map_err(|error| error.to_string())?;
    let outgoing =
        Outgoing { topic, msg: &msg, i, msg_id: &one.id, timestamp_s: one.at.as_second(), username: &username };
    match signer {
        Some(signer) => signer.envelope(&outgoing),
        None => Ok(unsigned_envelope(&outgoing)),
    }
}
