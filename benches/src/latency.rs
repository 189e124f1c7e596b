//! From publish to the first line of the handler's program, at 100 messages a second, signed, everything durable. Beside
//! starting the same program with nothing around it, and beside a fedmsg-hub that validates and starts it.

use std::collections::HashMap;
use std::io::Write;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver as Stamps, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::Env;
use crate::daemon::Daemon;
use crate::load::{Pki, WANTED};
use crate::peers::Receiver;
use crate::publisher::{Publisher, now_seconds};
use crate::table::{Row, percentile};

const BENCH: &str = "latency";
const PER_SECOND: u32 = 100;
/// How long the last stamps may take, in seconds.
const STAMPS_SECONDS_MAX: u64 = 60;

/// What a started program said: its verb, its number, when it started (seconds since 1970).
type Stamp = (String, usize, f64);

/// Runs it.
///
/// # Errors
/// When something does not work at all.
pub fn run(env: &Env) -> Result<Vec<Row>> {
    let pki = Pki::new()?;
    let bodies = pki.signed(env.size(2_000, 50))?;
    let (to, stamps) = listen()?;
    let mut bare = bare(env, &to, &stamps)?;
    let (mut plans, mut applies, cpu) = through_reactor(env, &pki, &bodies, &to, &stamps)?;
    let hub = through_hub(env, &pki, &bodies, &to, &stamps)?;
    let mut rows = Vec::new();
    for (part, name, most) in [(0.5, "p50", 200.0), (0.99, "p99", 2_000.0), (1.0, "max", 20_000.0)] {
        let alone = percentile(&mut bare, part);
        rows.push(
            Row::new(BENCH, format!("publish → plan started, {name}"), percentile(&mut plans, part), "ms")
                .beside("starting the program alone", alone)
                .sane(0.0..=most),
        );
        rows.push(
            Row::new(BENCH, format!("publish → apply started, {name}"), percentile(&mut applies, part), "ms")
                .beside("starting the program alone", alone),
        );
    }
    if let Some(mut hub) = hub {
        for (part, name) in [(0.5, "p50"), (0.99, "p99")] {
            let figure = percentile(&mut plans, part);
            rows.push(
                Row::new(BENCH, format!("publish → plan started, {name}, beside the hub"), figure, "ms")
                    .beside("fedmsg-hub, validating → subprocess (nothing durable)", percentile(&mut hub, part)),
            );
        }
    }
    rows.push(Row::new(BENCH, "processor time of the daemon", cpu * 1e3, "ms/msg").note("without its handlers"));
    Ok(rows)
}

fn listen() -> Result<(String, Stamps<Stamp>)> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let to = socket.local_addr()?.to_string();
    let (send, stamps) = channel();
    std::thread::spawn(move || {
        let mut datagram = [0; 200];
        while let Ok((bytes, _)) = socket.recv_from(&mut datagram) {
            let text = String::from_utf8_lossy(&datagram[..bytes]);
            let words: Vec<&str> = text.split(' ').collect();
            let [verb, n, at] = words[..] else { continue };
            let (Ok(n), Ok(at)) = (n.parse(), at.parse::<f64>()) else { continue };
            if send.send((verb.to_owned(), n, at / 1e9)).is_err() {
                return;
            }
        }
    });
    Ok((to, stamps))
}

/// Waits for this many stamps; gives for each verb and number when it started.
fn collect(stamps: &Stamps<Stamp>, count: usize) -> Result<HashMap<(String, usize), f64>> {
    let mut all = HashMap::new();
    while all.len() < count {
        let next = stamps.recv_timeout(Duration::from_secs(STAMPS_SECONDS_MAX));
        let (verb, n, at) = next.with_context(|| format!("{} of {count} programs were started", all.len()))?;
        all.entry((verb, n)).or_insert(at);
    }
    Ok(all)
}

/// Milliseconds from `sent[n]` to the stamp of `verb` and `n`.
fn after(sent: &[f64], stamps: &HashMap<(String, usize), f64>, verb: &str) -> Vec<f64> {
    let one = |(n, sent): (usize, &f64)| stamps.get(&(verb.to_owned(), n)).map(|at| (at - sent) * 1e3);
    sent.iter().enumerate().filter_map(one).collect()
}

fn bare(env: &Env, to: &str, stamps: &Stamps<Stamp>) -> Result<Vec<f64>> {
    let count = env.size(500, 20);
    let mut started = Vec::new();
    let begin = Instant::now();
    for n in 0..count {
        let due = begin + Duration::from_secs(1) / PER_SECOND * n as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        started.push(now_seconds());
        let mut child = Command::new(&env.programs.stamp)
            .arg("plan")
            .env_clear()
            .env("STAMP_TO", to)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(json!({"with": {"n": n}}).to_string().as_bytes())?;
        }
        child.wait()?;
    }
    Ok(after(&started, &collect(stamps, count)?, "plan"))
}

/// The delays of plan and apply, and the daemon's processor seconds a message.
fn through_reactor(
    env: &Env,
    pki: &Pki,
    bodies: &[Vec<u8>],
    to: &str,
    stamps: &Stamps<Stamp>,
) -> Result<(Vec<f64>, Vec<f64>, f64)> {
    let publisher = Publisher::bind()?;
    let rules = format!(
        "version: 1\nbus:\n  bench:\n    fedmsg: [\"{}\"]\n    topics: [org.fedoraproject.prod]\n    trust: {}\n\
         handlers:\n  stamp: {{ exec: {}, env: {{ STAMP_TO: \"{to}\" }} }}\nrules:\n  - name: stamp\n    on: {WANTED}\n    \
         where: {{ fields: ssh_key }}\n    key: \"{{{{msg.user}}}}\"\n    do: stamp\n    with: {{ n: \"{{{{msg.n}}}}\" }}\n",
        publisher.address,
        pki.trust(),
        env.programs.stamp.display()
    );
    let daemon = Daemon::start(&env.programs.reactor, &rules)?;
    publisher.wait_for_subscriber()?;
    let before = daemon.cpu_seconds()?;
    let sent = publisher.paced(WANTED, bodies, PER_SECOND)?;
    let all = collect(stamps, bodies.len() * 2).with_context(|| daemon.log())?;
    let cpu = (daemon.cpu_seconds()? - before) / bodies.len() as f64;
    Ok((after(&sent, &all, "plan"), after(&sent, &all, "apply"), cpu))
}

fn through_hub(env: &Env, pki: &Pki, bodies: &[Vec<u8>], to: &str, stamps: &Stamps<Stamp>) -> Result<Option<Vec<f64>>> {
    let publisher = Publisher::bind()?;
    let bodies = &bodies[..bodies.len().min(env.size(1_000, 20))];
    let program = json!(["/usr/bin/env", "-i", format!("STAMP_TO={to}"), env.programs.stamp, "plan"]);
    let config =
        json!({"validate": true, "ca": pki.dir().join("ca.crt"), "crl": pki.dir().join("crl.pem"), "exec": program});
    let Some(_hub) = Receiver::hub(env, &publisher.address, bodies.len(), config)? else { return Ok(None) };
    publisher.wait_for_subscriber()?;
    let sent = publisher.paced(WANTED, bodies, PER_SECOND)?;
    Ok(Some(after(&sent, &collect(stamps, bodies.len())?, "plan")))
}
