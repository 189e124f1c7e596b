//! From publish to the first line of the handler's program, at 100 messages a second, signed, everything durable. Beside
//! starting the same program with nothing around it, and beside a fedmsg-hub that validates and starts it.

use std::collections::HashMap;
use std::io::Write;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver as Channel, channel};
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
/// A directory in memory (tmpfs), on nearly every Linux.
const MEMORY: &str = "/dev/shm";
/// How long the last stamps may take, in seconds.
const STAMPS_SECONDS_MAX: u64 = 30;

/// What a started program said: its verb, its number, when it started (seconds since 1970).
type Stamp = (String, usize, f64);
/// What started programs say, as it comes.
pub type Stamps = Channel<Stamp>;

/// What the daemon did: milliseconds from publish to plan and to apply, and its processor milliseconds a message.
struct Delays {
    plan: Vec<f64>,
    apply: Vec<f64>,
    cpu_ms: f64,
}

/// A scratch place for what all passes of this bench share.
struct Bench<'a> {
    env: &'a Env,
    pki: Pki,
    bodies: Vec<Vec<u8>>,
    to: String,
    stamps: Stamps,
}

/// Runs it.
///
/// # Errors
/// When something does not work at all.
pub fn run(env: &Env) -> Result<Vec<Row>> {
    let pki = Pki::new()?;
    let bodies = pki.signed(env.size(2_000, 50))?;
    let (to, stamps) = listen()?;
    let bench = Bench { env, pki, bodies, to, stamps };
    let mut alone = bench.alone()?;
    let mut durable = bench.through_reactor(&std::env::temp_dir())?;
    let mut rows = Vec::new();
    for (part, name, most) in [(0.5, "p50", 500.0), (0.99, "p99", 5_000.0), (1.0, "max", 50_000.0)] {
        let alone = percentile(&mut alone, part);
        let beside = |what: &str, delays: &mut Vec<f64>| {
            Row::new(BENCH, format!("publish → {what}, {name}"), percentile(delays, part), "ms")
                .beside("starting the program alone", alone)
                .sane(0.0..=most)
        };
        rows.push(beside("plan started", &mut durable.plan));
        rows.push(beside("apply started", &mut durable.apply));
    }
    rows.extend(bench.beside_hub(&mut durable.plan)?);
    rows.extend(bench.beside_memory(&mut durable.plan)?);
    let what = "processor time of the daemon, plan and apply";
    rows.push(Row::new(BENCH, what, durable.cpu_ms, "ms/msg").note("without its handlers"));
    Ok(rows)
}

/// Where stamps are sent to, and where they come in.
///
/// # Errors
/// When there is no socket.
pub fn listen() -> Result<(String, Stamps)> {
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
///
/// # Errors
/// When they do not come.
pub fn collect(stamps: &Stamps, count: usize) -> Result<HashMap<(String, usize), f64>> {
    let mut all = HashMap::new();
    while all.len() < count {
        let next = stamps.recv_timeout(Duration::from_secs(STAMPS_SECONDS_MAX));
        let (verb, n, at) = next.with_context(|| format!("{} of {count} programs were started", all.len()))?;
        all.entry((verb, n)).or_insert(at);
    }
    Ok(all)
}

/// Milliseconds from `sent[n]` to the stamp of `verb` and `n`.
#[must_use]
pub fn after(sent: &[f64], stamps: &HashMap<(String, usize), f64>, verb: &str) -> Vec<f64> {
    let one = |(n, sent): (usize, &f64)| stamps.get(&(verb.to_owned(), n)).map(|at| (at - sent) * 1e3);
    sent.iter().enumerate().filter_map(one).collect()
}

impl Bench<'_> {
    /// The program and nothing else, at the same pace.
    fn alone(&self) -> Result<Vec<f64>> {
        let count = self.env.size(500, 20);
        let mut started = Vec::new();
        let begin = Instant::now();
        for n in 0..count {
            let due = begin + Duration::from_secs(1) / PER_SECOND * n as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            started.push(now_seconds());
            let mut child = Command::new(&self.env.programs.stamp)
                .arg("plan")
                .env_clear()
                .env("STAMP_TO", &self.to)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(json!({"with": {"n": n}}).to_string().as_bytes())?;
            }
            child.wait()?;
        }
        Ok(after(&started, &collect(&self.stamps, count)?, "plan"))
    }

    fn rules(&self, address: &str) -> String {
        format!(
            "version: 1\nbus:\n  bench:\n    fedmsg: [\"{address}\"]\n    topics: [org.fedoraproject.prod]\n    trust: {}\n\
             handlers:\n  stamp: {{ exec: {}, env: {{ STAMP_TO: \"{}\" }} }}\nrules:\n  - name: stamp\n    on: {WANTED}\n    \
             where: {{ fields: ssh_key }}\n    key: \"{{{{msg.user}}}}\"\n    do: stamp\n    with: {{ n: \"{{{{msg.n}}}}\" }}\n",
            self.pki.trust(),
            self.env.programs.stamp.display(),
            self.to,
        )
    }

    /// Through the daemon, with its journal on the disk that `base` is on.
    fn through_reactor(&self, base: &Path) -> Result<Delays> {
        let publisher = Publisher::bind()?;
        let mut daemon = Daemon::start_in(&self.env.programs.reactor, &self.rules(&publisher.address), base)?;
        publisher.wait_for_subscriber()?;
        let before = daemon.cpu_seconds()?;
        let sent = publisher.paced(WANTED, &self.bodies, PER_SECOND)?;
        let all = collect(&self.stamps, self.bodies.len() * 2).with_context(|| daemon.said_last())?;
        let cpu_ms = (daemon.cpu_seconds()? - before) * 1e3 / self.bodies.len() as f64;
        Ok(Delays { plan: after(&sent, &all, "plan"), apply: after(&sent, &all, "apply"), cpu_ms })
    }

    fn beside_hub(&self, plan: &mut [f64]) -> Result<Vec<Row>> {
        let Some(mut hub) = self.through_hub()? else { return Ok(Vec::new()) };
        let what = "fedmsg-hub, validating → subprocess (nothing durable)";
        let row = |(part, name)| {
            Row::new(BENCH, format!("publish → plan started, {name}, beside the hub"), percentile(plan, part), "ms")
                .beside(what, percentile(&mut hub, part))
        };
        Ok([(0.5, "p50"), (0.99, "p99")].map(row).into())
    }

    fn through_hub(&self) -> Result<Option<Vec<f64>>> {
        let publisher = Publisher::bind()?;
        let bodies = &self.bodies[..self.bodies.len().min(self.env.size(1_000, 20))];
        let stamp_to = format!("STAMP_TO={}", self.to);
        let program = json!(["/usr/bin/env", "-i", stamp_to, self.env.programs.stamp, "plan"]);
        let dir = self.pki.dir();
        let config = json!({"validate": true, "ca": dir.join("ca.crt"), "crl": dir.join("crl.pem"), "exec": program});
        let Some(_hub) = Receiver::hub(self.env, &publisher.address, bodies.len(), config)? else { return Ok(None) };
        publisher.wait_for_subscriber()?;
        let sent = publisher.paced(WANTED, bodies, PER_SECOND)?;
        Ok(Some(after(&sent, &collect(&self.stamps, bodies.len())?, "plan")))
    }

    /// The same with a journal that no power cut would leave: the difference is what the disk costs.
    fn beside_memory(&self, plan: &mut [f64]) -> Result<Vec<Row>> {
        let memory = Path::new(MEMORY);
        if !memory.is_dir() {
            return Ok(Vec::new());
        }
        let mut delays = self.through_reactor(memory)?;
        let row = |(part, name)| {
            Row::new(
                BENCH,
                format!("publish → plan started, {name}, what the disk costs"),
                percentile(plan, part),
                "ms",
            )
            .beside("the same, journal in memory (not durable)", percentile(&mut delays.plan, part))
        };
        Ok([(0.5, "p50"), (0.99, "p99")].map(row).into())
    }
}
