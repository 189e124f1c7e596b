//! A handler that does nothing but say when it started: a datagram `plan N NANOSECONDS` (or `apply …`) to the address in
//! `STAMP_TO`. The clock is read in the first line of `main`, so what is measured is "the program runs", and nothing later.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a handler of its own, not a part of the daemon")]

use std::io::Read;
use std::net::UdpSocket;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

fn main() -> std::io::Result<()> {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let verb = std::env::args().nth(1).unwrap_or_default();
    if verb == "describe" {
        let describe = json!({"reactor": 1, "name": "stamp", "version": "1", "about": "says when it started",
            "params": {"n": "int"}, "plan": true, "secrets": []});
        println!("{}", json!({ "describe": describe }));
        return Ok(());
    }
    let mut asked = Vec::new();
    std::io::stdin().read_to_end(&mut asked)?;
    let asked: Value = serde_json::from_slice(&asked).unwrap_or_default();
    let n = asked["with"]["n"].as_u64().unwrap_or_default();
    if let Ok(to) = std::env::var("STAMP_TO") {
        UdpSocket::bind("127.0.0.1:0")?.send_to(format!("{verb} {n} {started}").as_bytes(), to)?;
    }
    println!("{}", json!({"change": {"action": "run", "target": format!("stamp {n}")}}));
    Ok(())
}
