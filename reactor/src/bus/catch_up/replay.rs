//! A publisher's `fedmsg.replay` (fedmsg `replay/__init__.py`): one JSON question on a ZeroMQ REQ socket, `{"time": [FROM, TO]}`,
//! answered with one frame a message, or one frame `error: '…'`. It knows no topics, no pages and no order; so it is asked for an
//! hour at a time, and what comes is sorted here.
//!
//! The few frames of ZMTP 3.0 (rfc.zeromq.org/spec/23) that this takes are read here and not by libzmq, which hands over an
//! answer only when all of it is in memory, however large.

use std::collections::HashSet;
use std::time::Duration;

use handler_api::Failure;
use jiff::Timestamp;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::kept::{Kept, kept};
use super::{MESSAGES_MAX, QUESTION_SECONDS_MAX, Window};
use crate::message::BODY_BYTES_MAX;
use crate::trust::canonical::parse;

/// How much time one question is about, in seconds.
pub const SLICE_SECONDS: i64 = 3_600;
/// Largest frame of an answer, in bytes: a message and what the store adds.
const FRAME_BYTES_MAX: usize = BODY_BYTES_MAX + 1_024;
/// Largest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// What of an error is shown, in characters.
const SHOWN_CHARS_MAX: usize = 200;
/// What a store answers where it has nothing (fedmsg `replay/sqlstore.py`).
const NOTHING: &str = "no match for the given query";

/// Signature, version 3.0, mechanism NULL, as a client.
const GREETING_BYTES: usize = 64;
const READY: &[u8] = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03REQ";
const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// The hours of a window.
pub struct Slices {
    address: String,
    from: Timestamp,
    next: Timestamp,
    to: Timestamp,
    /// Both ends of an hour belong to it, so some come twice.
    came: HashSet<String>,
    broken: u64,
}

impl Slices {
    /// Prepares to ask.
    #[must_use]
    pub fn new(address: &str, window: Window) -> Self {
        Self {
            address: address.to_owned(),
            from: window.from,
            next: window.from,
            to: window.to,
            came: HashSet::new(),
            broken: 0,
        }
    }

    /// What came and was no message.
    #[must_use]
    pub const fn missing(&self) -> u64 {
        self.broken
    }

    /// Up to when all has come.
    #[must_use]
    pub fn reached(&self) -> Option<Timestamp> {
        (self.next > self.from).then(|| self.next.min(self.to))
    }

    /// Whether that was all.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.next > self.to
    }

    /// The messages of the next hour; `None` when that was all.
    ///
    /// # Errors
    /// No answer, or an error in place of one.
    pub async fn next(&mut self) -> Result<Option<Vec<Kept>>, Failure> {
        if self.is_over() {
            return Ok(None);
        }
        let end = self.next + Duration::from_secs(SLICE_SECONDS.unsigned_abs());
        // Its clock has whole seconds, and both ends belong to it.
        let (from, to) = (self.next.as_second(), end.min(self.to).as_second() + 1);
        let question = json!({"time": [from, to]}).to_string();
        let limit = Duration::from_secs(QUESTION_SECONDS_MAX);
        let frames = match tokio::time::timeout(limit, ask(&self.address, question.as_bytes())).await {
            Ok(answer) => answer.map_err(|why| self.failure(&why))?,
            Err(_) => return Err(self.failure(&format!("no whole answer within {QUESTION_SECONDS_MAX} s"))),
        };
        let messages = self.read(&frames)?;
        self.next = end;
        Ok(Some(messages))
    }

    fn failure(&self, why: &str) -> Failure {
        let hint = format!("does fedmsg.replay listen there? try: nc -vz {}", self.address.replace(':', " "));
        Failure::retry(format!("tcp://{}: {why}", self.address)).hinting(hint)
    }

    fn read(&mut self, frames: &[Vec<u8>]) -> Result<Vec<Kept>, Failure> {
        if let [frame] = frames
            && frame.starts_with(b"error:")
        {
            let said: String = String::from_utf8_lossy(frame).chars().take(SHOWN_CHARS_MAX).collect();
            if said.contains(NOTHING) {
                return Ok(Vec::new());
            }
            return Err(Failure::permanent(format!("tcp://{} says: {}", self.address, said.escape_debug()))
                .hinting("its store must know the field `time`: fedmsg.replay.sqlstore does"));
        }
        let mut messages: Vec<Kept> = Vec::with_capacity(frames.len());
        for frame in frames {
            match parse(frame).map_err(|error| error.to_string()).and_then(kept) {
                Ok(kept) => messages.push(kept),
                Err(_) => self.broken += 1,
            }
        }
        messages.retain(|kept| kept.id.as_ref().is_none_or(|id| self.came.insert(id.clone())));
        messages.sort_by_key(|kept| kept.sent);
        Ok(messages)
    }
}

/// Asks one question and reads the frames of the answer. Each step waits for theirs: libzmq takes a greeting and what
/// follows it, in one piece, for a breach of protocol.
async fn ask(address: &str, question: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let said = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(address).await.map_err(said)?;
    stream.write_all(&greeting()).await.map_err(said)?;
    let mut theirs = [0; GREETING_BYTES];
    stream.read_exact(&mut theirs).await.map_err(said)?;
    if theirs[0] != 0xff || theirs[9] != 0x7f || theirs[10] < 3 || !theirs[12..].starts_with(b"NULL\0") {
        return Err("that is no ZeroMQ socket (ZMTP 3, NULL)".into());
    }
    stream.write_all(READY).await.map_err(said)?;
    let (flags, ready) = frame(&mut stream).await?;
    if flags & COMMAND == 0 || !ready.starts_with(b"\x05READY") {
        return Err("it refuses a REQ socket".into());
    }
    // An empty frame stands between the way back and the question.
    let mut message = vec![MORE, 0, LONG];
    message.extend_from_slice(&(question.len() as u64).to_be_bytes());
    message.extend_from_slice(question);
    stream.write_all(&message).await.map_err(said)?;
    answer(&mut stream).await
}

fn greeting() -> [u8; GREETING_BYTES] {
    let mut bytes = [0; GREETING_BYTES];
    (bytes[0], bytes[8], bytes[9], bytes[10]) = (0xff, 1, 0x7f, 3);
    bytes[12..16].copy_from_slice(b"NULL");
    bytes
}

/// All frames up to the last of the message, but the empty one before it.
async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<Vec<u8>>, String> {
    let (mut frames, mut bytes, mut is_begun) = (Vec::new(), 0_u64, false);
    loop {
        let (flags, frame) = frame(stream).await?;
        bytes += frame.len() as u64 + 1;
        if bytes > ANSWER_BYTES_MAX || frames.len() >= MESSAGES_MAX {
            return Err(too_large());
        }
        if flags & COMMAND != 0 {
            continue;
        }
        if is_begun {
            frames.push(frame);
        } else if !frame.is_empty() || flags & MORE == 0 {
            return Err("the answer is not that of a REP socket".into());
        }
        is_begun = true;
        if flags & MORE == 0 {
            return Ok(frames);
        }
    }
}

/// One frame: its flags and what is in it.
async fn frame(stream: &mut (impl AsyncRead + Unpin)) -> Result<(u8, Vec<u8>), String> {
    let said = |error: std::io::Error| format!("the answer is not whole: {error}");
    let flags = stream.read_u8().await.map_err(said)?;
    let size = match flags & LONG {
        0 => u64::from(stream.read_u8().await.map_err(said)?),
        _ => stream.read_u64().await.map_err(said)?,
    };
    let size = usize::try_from(size).ok().filter(|size| *size <= FRAME_BYTES_MAX).ok_or_else(too_large)?;
    let mut frame = vec![0; size];
    stream.read_exact(&mut frame).await.map_err(said)?;
    Ok((flags, frame))
}

fn too_large() -> String {
    format!(
        "the answer is too large: at most {MESSAGES_MAX} frames of {FRAME_BYTES_MAX} bytes, and {ANSWER_BYTES_MAX} together"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        answer(&mut &*bytes).await
    }

    fn slices() -> Slices {
        let window = Window { from: Timestamp::UNIX_EPOCH, to: Timestamp::UNIX_EPOCH };
        Slices::new("127.0.0.1:1", window)
    }

    #[tokio::test]
    async fn an_answer_is_its_frames_and_commands_between_them_are_passed_over() {
        let bytes = b"\x04\x06\x05READY\x01\x00\x01\x02{}\x04\x05\x04PING\x02\0\0\0\0\0\0\0\x03[1]";
        assert_eq!(answered(bytes).await, Ok(vec![b"{}".to_vec(), b"[1]".to_vec()]));
    }

    #[tokio::test]
    async fn what_is_cut_or_too_large_or_of_another_socket_is_an_error() {
        for bytes in
            [&b""[..], b"\x01\x00", b"\x01\x00\x00\x05ab", b"\x01\x00\x02\0\0\0\0\0\0\0", b"\x00\x02{}", b"\x00\x00"]
        {
            assert!(answered(bytes).await.is_err(), "{bytes:?}");
        }
        let huge = answered(b"\x01\x00\x02\xff\xff\xff\xff\xff\xff\xff\xff").await;
        assert!(huge.expect_err("too large").contains("too large"));
    }

    #[test]
    fn nothing_found_is_no_error_and_other_errors_are_told() {
        let frame = |text: &str| vec![text.as_bytes().to_vec()];
        assert_eq!(slices().read(&frame("error: 'There was no match for the given query'")), Ok(Vec::new()));
        let failure = slices().read(&frame("error: 'Unsupported field: \"key\"'")).expect_err("told");
        assert!(failure.message().contains("Unsupported field"), "{failure}");
    }

    #[test]
    fn what_comes_is_sorted_by_time_and_what_is_no_message_counted() {
        let frame = |id: &str, at: u64| {
            json!({"topic": "a", "msg": {}, "msg_id": id, "timestamp": at, "seq_id": 1}).to_string().into_bytes()
        };
        let mut slices = slices();
        let read = slices.read(&[frame("b", 2), b"?".to_vec(), frame("a", 1)]).expect("messages");
        let ids: Vec<_> = read.iter().filter_map(|kept| kept.id.as_deref()).collect();
        assert_eq!((ids, slices.missing()), (vec!["a", "b"], 1));
        assert!(!String::from_utf8_lossy(&read[0].body).contains("seq_id"), "the store's number was never signed");
    }
}
