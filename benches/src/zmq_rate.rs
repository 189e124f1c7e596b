//! Messages a second over ZeroMQ into the daemon, beside bare libzmq and the real fedmsg-hub on the same messages.

use anyhow::Result;
use serde_json::{Value, json};

use crate::Env;
use crate::daemon::{Daemon, number};
use crate::load::{self, Pki, UNWANTED, WANTED};
use crate::peers::{self, Received};
use crate::publisher::{Publisher, now_seconds};
use crate::table::Row;

const BENCH: &str = "zmq";
/// How long the daemon may take for one burst, in seconds.
const BURST_SECONDS_MAX: u64 = 120;
const OPEN: &str = "{ unsigned: accept, unlisted: accept }";

/// A burst into the daemon, and what it took.
struct Burst<'a> {
    what: &'a str,
    trust: &'a str,
    history: bool,
    topic: &'a str,
    bodies: &'a [Vec<u8>],
    count: usize,
}

/// Runs it.
///
/// # Errors
/// When something does not work at all.
pub fn run(env: &Env) -> Result<Vec<Row>> {
    let pki = Pki::new()?;
    let trust = pki.trust();
    let signed = pki.signed(env.size(20_000, 100))?;
    let open: Vec<_> = (0..env.size(100_000, 1_000)).map(|n| load::unsigned(WANTED, n)).collect();
    let unwanted: Vec<_> = (0..env.size(10_000, 1_000)).map(|n| load::unsigned(UNWANTED, n)).collect();
    let bursts = [
        Burst {
            what: "unwanted topic, unsigned",
            trust: OPEN,
            history: false,
            topic: UNWANTED,
            bodies: &unwanted,
            count: env.size(600_000, 5_000),
        },
        Burst {
            what: "wanted, unsigned, `where` is false",
            trust: OPEN,
            history: false,
            topic: WANTED,
            bodies: &open,
            count: env.size(200_000, 2_000),
        },
        Burst {
            what: "wanted, signed, `where` is false",
            trust: &trust,
            history: false,
            topic: WANTED,
            bodies: &signed,
            count: env.size(60_000, 300),
        },
        Burst {
            what: "unsigned, all stored",
            trust: OPEN,
            history: true,
            topic: WANTED,
            bodies: &open,
            count: open.len(),
        },
        Burst {
            what: "signed, all stored",
            trust: &trust,
            history: true,
            topic: WANTED,
            bodies: &signed,
            count: signed.len(),
        },
    ];
    let mut rows = Vec::new();
    for burst in &bursts {
        rows.extend(one(env, burst)?);
    }
    rows.extend(beside_hub(env, &pki, &bursts, &rows)?);
    Ok(rows)
}

fn rules(burst: &Burst<'_>, address: &str, env: &Env) -> String {
    let history = if burst.history { "journal: { history: all }\n" } else { "" };
    format!(
        "version: 1\nbus:\n  bench:\n    fedmsg: [\"{address}\"]\n    topics: [org.fedoraproject.prod]\n    trust: {}\n{history}\
         handlers:\n  stamp: {{ exec: {} }}\nrules:\n  - name: never\n    on: org.fedoraproject.prod.fas.user.update\n    \
         where: {{ fields: gpg_key }}\n    do: stamp\n    with: {{ n: \"{{{{msg.n}}}}\" }}\n",
        burst.trust,
        env.programs.stamp.display()
    )
}

/// One burst: the rate beside bare libzmq, the processor time a message, the memory at its largest.
fn one(env: &Env, burst: &Burst<'_>) -> Result<Vec<Row>> {
    let raw = peers::raw_rate(env, burst.topic, burst.bodies, burst.count)?;
    let publisher = Publisher::bind()?;
    let daemon = Daemon::start(&env.programs.reactor, &rules(burst, &publisher.address, env))?;
    publisher.wait_for_subscriber()?;
    let before = daemon.cpu_seconds()?;
    let started = publisher.burst(burst.topic, burst.bodies, burst.count)?;
    let status = daemon.wait_until(burst.what, BURST_SECONDS_MAX, |status| all_taken(status, burst.count))?;
    let seconds = now_seconds() - started;
    let cpu_us = (daemon.cpu_seconds()? - before) * 1e6 / burst.count as f64;
    check(burst, &status, &daemon.journal()?)?;
    let memory = daemon.memory()?;
    let per_second = burst.count as f64 / seconds;
    Ok(vec![
        Row::new(BENCH, burst.what, per_second, "msg/s")
            .beside("bare libzmq SUB", raw.per_second)
            .note(format!("{} messages; {:.0} MiB at most", burst.count, memory.peak_mib))
            .sane(0.0005..=20.0),
        Row::new(BENCH, format!("{}: processor time", burst.what), cpu_us, "µs/msg")
            .beside("bare libzmq SUB", raw.cpu_us)
            .note(if env.short { String::new() } else { format!("one core would do {:.0}/s", 1e6 / cpu_us) }),
    ])
}

/// All received, and nothing between the socket and the journal any more.
fn all_taken(status: &Value, count: usize) -> bool {
    number(status, "buses/0/received") >= count as u64 && number(status, "lost_if_killed_now") == 0
}

/// A figure for something else than what was meant is worse than none.
fn check(burst: &Burst<'_>, status: &Value, journal: &Value) -> Result<()> {
    let count = burst.count as u64;
    let unwanted = if burst.topic == UNWANTED { count } else { 0 };
    let stored = if burst.history { count } else { 0 };
    let is = (number(status, "buses/0/unwanted"), number(status, "refused"), number(journal, "messages"));
    anyhow::ensure!(is == (unwanted, 0, stored), "{}: not what was meant: {status:#}\n{journal:#}", burst.what);
    Ok(())
}

/// The same messages into fedmsg-hub: fewer of them, it is slower.
fn beside_hub(env: &Env, pki: &Pki, bursts: &[Burst<'_>], rows: &[Row]) -> Result<Vec<Row>> {
    let mut out = Vec::new();
    let hubs = [
        (1, "fedmsg-hub, not validating", env.size(20_000, 300), json!({"validate": false})),
        (
            2,
            "fedmsg-hub, validating",
            env.size(2_000, 60),
            json!({"validate": true, "ca": pki.dir().join("ca.crt"), "crl": pki.dir().join("crl.pem")}),
        ),
    ];
    for (at, what, count, config) in hubs {
        let burst = &bursts[at];
        let Some(Received { per_second, cpu_us }) = peers::hub_rate(env, burst.topic, burst.bodies, count, config)?
        else {
            continue;
        };
        let ours = |row: usize| rows[at * 2 + row].figure();
        let name = format!("{}, beside the hub", burst.what);
        out.push(Row::new(BENCH, &name, ours(0), "msg/s").beside(what, per_second).sane(0.3..=100_000.0));
        out.push(Row::new(BENCH, format!("{name}: processor time"), ours(1), "µs/msg").beside(what, cpu_us));
    }
    Ok(out)
}
