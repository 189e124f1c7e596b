//! A broker that says what a test makes it say; a stand-in, for what a real one says hardly ever.

#![allow(clippy::expect_used, reason = "this is test code: what is not there ends the test")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use serde_json::Map;

use super::config::Amqp;
use super::url::Url;
use super::wire::{Frame, Kind, Writer};

/// The largest frame that it takes, in bytes.
const FRAME_BYTES: u32 = 4_096;

/// A connection of a client, and what was read of it.
pub struct Broker {
    pub stream: TcpStream,
    read: Vec<u8>,
    /// What it asks for a sign of life at least twice in, in seconds.
    heartbeat_s: u16,
}

/// A broker that does this with each of its clients, one after the other, on a thread of its own, and how to reach it.
pub fn serving(
    heartbeat_s: u16,
    clients: usize,
    mut with: impl FnMut(&mut Broker) + Send + 'static,
) -> (Amqp, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("amqp://{}", listener.local_addr().expect("its address"));
    let serving = std::thread::spawn(move || {
        for _ in 0..clients {
            let (stream, _) = listener.accept().expect("a client");
            with(&mut Broker { stream, read: Vec::new(), heartbeat_s });
        }
    });
    (Amqp::at(Url::parse(&url).expect("a URL")), serving)
}

impl Broker {
    /// Says a method.
    pub fn say(&mut self, channel: u16, method: Writer) {
        self.send(&Frame { kind: Kind::Method, channel, payload: method.0 });
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.stream.write_all(&bytes).expect("a client that listens");
    }

    /// The client's next frame that is no sign of life.
    pub fn frame(&mut self) -> Frame {
        loop {
            let frame = self.next();
            if frame.kind != Kind::Heartbeat {
                return frame;
            }
        }
    }

    /// The client's next frame.
    pub fn next(&mut self) -> Frame {
        loop {
            if let Some((frame, bytes)) = Frame::decode(&self.read).expect("frames") {
                self.read.drain(..bytes);
                assert!(bytes <= FRAME_BYTES as usize, "a frame of {bytes} bytes");
                return frame;
            }
            let mut chunk = [0; 4_096];
            let n = self.stream.read(&mut chunk).expect("a client that speaks");
            assert!(n > 0, "the client has gone");
            self.read.extend_from_slice(&chunk[..n]);
        }
    }

    /// Lets the client in up to an open channel, if it knows how.
    pub fn let_in(&mut self, mechanisms: &str) {
        let mut header = [0; 8];
        self.stream.read_exact(&mut header).expect("a header");
        let start = Writer::method(10, 10).u8(0).u8(9).table(&Map::new()).long(mechanisms.as_bytes()).long(b"en_US");
        self.say(0, start);
        if !mechanisms.contains("PLAIN") {
            return;
        }
        self.frame();
        self.say(0, Writer::method(10, 30).u16(0).u32(FRAME_BYTES).u16(self.heartbeat_s));
        (0..2).for_each(|_| drop(self.frame()));
        self.say(0, Writer::method(10, 41).short(""));
        self.frame();
        self.say(0, Writer::method(99, 1).long(b"of a later version"));
        self.say(1, Writer::method(20, 11).long(b""));
    }

    /// Answers a consumer without `queues` up to its wish to consume, which it does not answer.
    pub fn declare(&mut self) {
        self.let_in("PLAIN");
        for answer in
            [Writer::method(60, 11), Writer::method(50, 11).short("amq.gen-1").u32(0).u32(0), Writer::method(50, 21)]
        {
            self.frame();
            self.say(1, answer);
        }
        self.frame();
    }
}
