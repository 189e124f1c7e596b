//! Makes messages and rules for the tests in this folder.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::message::{Message, Topic};

pub(crate) fn message(topic: &str, body: Value) -> Message {
    Message {
        id: "2026-1".into(),
        topic: Topic::new(topic).unwrap(),
        sent: Timestamp::from_second(1_700_000_000).unwrap(),
        bus: Arc::from("test"),
        signer: "unsigned".into(),
        body,
        headers: Map::new(),
    }
}
