//! The methods of AMQP 0-9-1 that a consumer and a publisher need (the specification's `amqp0-9-1.xml`, and RabbitMQ's
//! extensions `confirm.select`, `basic.nack`, `connection.blocked`). Pure.

use serde_json::{Map, Value};

use super::wire::{Frame, Kind, Reader, Writer};

/// The only channel that we open on a connection.
pub const CHANNEL: u16 = 1;

/// What a broker says, as far as we ask for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// `connection.start`: how one may log in, the names apart by spaces.
    Start {
        /// `PLAIN AMQPLAIN EXTERNAL`.
        mechanisms: String,
    },
    /// `connection.tune`.
    Tune {
        /// Largest frame, in bytes; 0 = any.
        frame_bytes_max: u32,
        /// A sign of life at least twice in so many seconds; 0 = none.
        heartbeat_s: u16,
    },
    /// `queue.declare-ok`.
    QueueDeclared {
        /// Its name, which the broker may have made up.
        queue: String,
        /// Messages that wait in it.
        messages: u32,
        /// Who reads it.
        consumers: u32,
    },
    /// `basic.consume-ok`.
    Consuming,
    /// Any other `…-ok`, by class and number.
    Done(u16, u16),
    /// `basic.deliver`: header and body follow.
    Deliver {
        /// Which delivery on this channel, from 1.
        tag: u64,
        /// In any encoding.
        routing_key: Vec<u8>,
    },
    /// `basic.cancel`: our consumer is ended, as when its queue was deleted.
    Cancelled,
    /// `basic.ack`: these messages of ours are safe.
    Confirmed,
    /// `basic.return`, before its [`Said::Confirmed`]: no queue wants a message of ours.
    Returned,
    /// `basic.nack`: the broker could not take a message of ours.
    NotTaken,
    /// `channel.close` or `connection.close`.
    Closed {
        /// Whether it is the connection that is closed.
        connection: bool,
        /// 403 and the like.
        code: u16,
        /// Why.
        text: String,
    },
    /// `connection.blocked`: it takes no messages now, as when its disk is full.
    Blocked {
        /// Why.
        reason: String,
    },
    /// `connection.unblocked`.
    Unblocked,
    /// `channel.flow`: whether we may send.
    Flow(bool),
    /// Something we have no use for.
    Other,
}

impl Said {
    /// Reads a method's payload.
    ///
    /// # Errors
    /// That it ends too early.
    pub fn decode(payload: &[u8]) -> Result<Self, String> {
        let mut from = Reader(payload);
        let (class, number) = (from.u16()?, from.u16()?);
        Ok(match (class, number) {
            (10, 10) => {
                from.u16()?;
                // The server's properties: a table that nobody needs.
                from.long()?;
                Self::Start { mechanisms: lossy(from.long()?) }
            }
            (10, 30) => {
                from.u16()?;
                Self::Tune { frame_bytes_max: from.u32()?, heartbeat_s: from.u16()? }
            }
            (50, 11) => {
                Self::QueueDeclared { queue: lossy(from.short()?), messages: from.u32()?, consumers: from.u32()? }
            }
            (60, 21) => Self::Consuming,
            (60, 60) => {
                from.short()?;
                let tag = from.u64()?;
                from.u8()?;
                from.short()?;
                Self::Deliver { tag, routing_key: from.short()?.to_vec() }
            }
            (60, 30) => Self::Cancelled,
            (60, 50) => Self::Returned,
            (60, 80) => Self::Confirmed,
            (60, 120) => Self::NotTaken,
            (10, 50) | (20, 40) => {
                Self::Closed { connection: class == 10, code: from.u16()?, text: lossy(from.short()?) }
            }
            (10, 60) => Self::Blocked { reason: lossy(from.short()?) },
            (10, 61) => Self::Unblocked,
            (20, 20) => Self::Flow(from.u8()? != 0),
            (10, 41 | 51) | (20, 11 | 41) | (40, 11) | (50, 21) | (60, 11) | (85, 11) => Self::Done(class, number),
            _ => Self::Other,
        })
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The answers that are waited for.
pub const OPEN_OK: (u16, u16) = (10, 41);
/// `channel.open-ok`
pub const CHANNEL_OPEN_OK: (u16, u16) = (20, 11);
/// `exchange.declare-ok`
pub const EXCHANGE_DECLARE_OK: (u16, u16) = (40, 11);
/// `queue.bind-ok`
pub const QUEUE_BIND_OK: (u16, u16) = (50, 21);
/// `basic.qos-ok`
pub const QOS_OK: (u16, u16) = (60, 11);
/// `confirm.select-ok`
pub const CONFIRM_SELECT_OK: (u16, u16) = (85, 11);

fn on(channel: u16, method: Writer) -> Frame {
    Frame { kind: Kind::Method, channel, payload: method.0 }
}

/// A sign of life.
#[must_use]
pub const fn heartbeat() -> Frame {
    Frame { kind: Kind::Heartbeat, channel: 0, payload: Vec::new() }
}

/// `connection.start-ok`
#[must_use]
pub fn start_ok(client: &Map<String, Value>, mechanism: &str, response: &[u8]) -> Frame {
    on(0, Writer::method(10, 11).table(client).short(mechanism).long(response).short("en_US"))
}

/// `connection.tune-ok`: one channel, frames of at most so many bytes, a sign of life every so many seconds.
#[must_use]
pub fn tune_ok(frame_bytes_max: u32, heartbeat_s: u16) -> Frame {
    on(0, Writer::method(10, 31).u16(CHANNEL).u32(frame_bytes_max).u16(heartbeat_s))
}

/// `connection.open`
#[must_use]
pub fn open(vhost: &str) -> Frame {
    on(0, Writer::method(10, 40).short(vhost).short("").bits(&[false]))
}

/// `connection.close`: goodbye.
#[must_use]
pub fn close() -> Frame {
    on(0, Writer::method(10, 50).u16(200).short("goodbye").u16(0).u16(0))
}

/// `connection.close-ok` or `channel.close-ok`
#[must_use]
pub fn close_ok(connection: bool) -> Frame {
    if connection { on(0, Writer::method(10, 51)) } else { on(CHANNEL, Writer::method(20, 41)) }
}

/// `channel.open`
#[must_use]
pub fn channel_open() -> Frame {
    on(CHANNEL, Writer::method(20, 10).short(""))
}

/// `channel.flow-ok`
#[must_use]
pub fn flow_ok(active: bool) -> Frame {
    on(CHANNEL, Writer::method(20, 21).bits(&[active]))
}

/// `exchange.declare`
#[must_use]
pub fn exchange_declare(name: &str, exchange: &super::config::Exchange, passive: bool) -> Frame {
    let bits = [passive, exchange.durable, exchange.auto_delete, false, false];
    let method = Writer::method(40, 10).u16(0).short(name).short(&exchange.kind).bits(&bits);
    on(CHANNEL, method.table(&exchange.arguments))
}

/// `queue.declare`
#[must_use]
pub fn queue_declare(name: &str, queue: &super::config::Queue, passive: bool) -> Frame {
    let bits = [passive, queue.durable, queue.exclusive, queue.auto_delete, false];
    on(CHANNEL, Writer::method(50, 10).u16(0).short(name).bits(&bits).table(&queue.arguments))
}

/// `queue.bind`
#[must_use]
pub fn queue_bind(queue: &str, exchange: &str, routing_key: &str) -> Frame {
    let method = Writer::method(50, 20).u16(0).short(queue).short(exchange).short(routing_key);
    on(CHANNEL, method.bits(&[false]).table(&Map::new()))
}

/// `basic.qos`: so many messages may be on their way or unacknowledged, for each consumer.
#[must_use]
pub fn qos(prefetch_messages: u16) -> Frame {
    on(CHANNEL, Writer::method(60, 10).u32(0).u16(prefetch_messages).bits(&[false]))
}

/// `basic.consume`, with acknowledgements; the broker makes up the consumer's name.
#[must_use]
pub fn consume(queue: &str) -> Frame {
    on(CHANNEL, Writer::method(60, 20).u16(0).short(queue).short("").bits(&[false; 4]).table(&Map::new()))
}

/// `basic.ack` of this delivery and all before it.
#[must_use]
pub fn ack_up_to(tag: u64) -> Frame {
    on(CHANNEL, Writer::method(60, 80).u64(tag).bits(&[true]))
}

/// `confirm.select`: the broker says of each message when it is safe.
#[must_use]
pub fn confirm_select() -> Frame {
    on(CHANNEL, Writer::method(85, 10).bits(&[false]))
}

/// `basic.publish`, with the frames of properties and body. The broker is asked to say where no queue wants it
/// (`mandatory`): then it is thrown away and confirmed all the same.
#[must_use]
pub fn publish(
    exchange: &str,
    routing_key: &str,
    properties: Vec<u8>,
    body: &[u8],
    frame_bytes_max: usize,
) -> Vec<Frame> {
    let method = Writer::method(60, 40).u16(0).short(exchange).short(routing_key).bits(&[true, false]);
    let mut header = Writer::default().u16(60).u16(0).u64(body.len() as u64);
    header.0.extend(properties);
    let mut frames = vec![on(CHANNEL, method), Frame { kind: Kind::Header, channel: CHANNEL, payload: header.0 }];
    let part = frame_bytes_max.saturating_sub(super::wire::FRAME_EXTRA_BYTES).max(1);
    let parts = body.chunks(part).map(|part| Frame { kind: Kind::Body, channel: CHANNEL, payload: part.to_vec() });
    frames.extend(parts);
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_says_is_read() {
        let start = Writer::method(10, 10).u8(0).u8(9).table(&Map::new()).long(b"PLAIN EXTERNAL").long(b"en_US");
        assert_eq!(Said::decode(&start.0), Ok(Said::Start { mechanisms: "PLAIN EXTERNAL".into() }));
        let tune = Writer::method(10, 30).u16(2047).u32(131_072).u16(60);
        assert_eq!(Said::decode(&tune.0), Ok(Said::Tune { frame_bytes_max: 131_072, heartbeat_s: 60 }));
        let closed = Writer::method(20, 40).u16(403).short("ACCESS_REFUSED").u16(50).u16(10);
        let text = "ACCESS_REFUSED".to_owned();
        assert_eq!(Said::decode(&closed.0), Ok(Said::Closed { connection: false, code: 403, text }));
        assert_eq!(Said::decode(&Writer::method(10, 41).short("").0), Ok(Said::Done(10, 41)));
        assert_eq!(Said::decode(&Writer::method(99, 1).0), Ok(Said::Other));
        assert!(Said::decode(&[0, 60, 0, 60]).is_err());
    }

    #[test]
    fn a_routing_key_may_be_any_bytes() {
        let mut method = Writer::method(60, 60).short("tag").u64(7).u8(1).short("amq.topic");
        method.0.extend([2, 0xff, b'x']);
        assert_eq!(Said::decode(&method.0), Ok(Said::Deliver { tag: 7, routing_key: vec![0xff, b'x'] }));
    }

    #[test]
    fn a_long_body_is_several_frames() {
        let frames = publish("amq.topic", "a.b", vec![0, 0], &[b'x'; 25], 18);
        let parts: Vec<usize> = frames[2..].iter().map(|frame| frame.payload.len()).collect();
        assert_eq!(parts, [10, 10, 5]);
        assert_eq!(frames[1].payload[4..12], 25_u64.to_be_bytes());
        assert_eq!(publish("x", "a", vec![0, 0], b"", 4096).len(), 2, "an empty body has no frame");
    }
}
