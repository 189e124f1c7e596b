//! Reactions a second with one, two and three nodes on one PostgreSQL, beside one daemon with SQLite; and what a node costs
//! while nothing happens.
//!
//! All share this machine, its two cores and one disk: more nodes are for when one of them dies, and where the handlers wait
//! for others. So there are two loads: a handler that only computes, and one that waits like one that asks a server.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use reactor_tests::postgres::Postgres;
use serde_json::Value;

use crate::Env;
use crate::daemon::{Daemon, number};
use crate::load::{WANTED, unsigned};
use crate::process;
use crate::publisher::Publisher;
use crate::table::Row;

const BENCH: &str = "nodes";
/// How long one pass may take, in seconds.
const SECONDS_MAX: u64 = 180;
/// Most nodes.
const NODES_MAX: usize = 3;
/// Slots of all lanes.
const SLOTS: usize = 64;
/// Handlers of one node that run at the same time.
const AT_ONCE: usize = 4;
/// How long a handler waits for the server that it pretends to ask, in seconds.
const WAIT: &str = "0.2";

/// Runs it.
///
/// # Errors
/// When something does not work at all.
pub fn run(env: &Env) -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    // As durable as a real one.
    let server = Postgres::start(dir.path(), "fsync=on");
    let waits = dir.path().join("waits");
    std::fs::write(&waits, format!("#!/bin/sh\nsleep {WAIT}\nexec {} \"$1\"\n", env.programs.stamp.display()))?;
    std::fs::set_permissions(&waits, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let computes = env.programs.stamp.display().to_string();
    let waits = waits.display().to_string();
    let mut rows = Vec::new();
    for (what, handler, count) in [
        ("reactions run, the handler computes", &computes, env.size(1_500, 12)),
        ("reactions run, the handler waits 2 x 0.2 s", &waits, env.size(400, 12)),
    ] {
        let alone = rate(env, handler, count, 1, None)?;
        for nodes in 1..=NODES_MAX {
            // Tables of its own for each pass.
            let schema = format!("pass{}", rows.len());
            let figure = rate(env, handler, count, nodes, Some((server.port(), &schema)))?;
            let row = Row::new(BENCH, format!("{what}; nodes: {nodes}"), figure, "/s");
            rows.push(row.beside("one daemon with SQLite", alone).sane(0.01..=20.0));
        }
    }
    rows.extend(idle(env, server.port())?);
    Ok(rows)
}

fn rules(bus: &str, handler: &str, journal: &str) -> String {
    format!(
        "version: 1\nbus:\n  bench: {{ fedmsg: ['{bus}'], trust: {{ unsigned: accept, unlisted: accept }} }}\n{journal}\
         handlers:\n  stamp: {{ exec: {handler}, at_once: {AT_ONCE} }}\nrules:\n  - name: stamp\n    on: {WANTED}\n    \
         key: \"{{{{msg.user}}}}\"\n    do: stamp\n    with: {{ n: \"{{{{msg.n}}}}\" }}\n"
    )
}

/// Daemons that have their share of the slots, and hear the publisher.
fn start(env: &Env, bus: &Publisher, handler: &str, nodes: usize, journal: Option<(u16, &str)>) -> Result<Vec<Daemon>> {
    let mut daemons = Vec::new();
    for node in 0..nodes {
        let journal = journal.map_or_else(String::new, |(port, schema)| {
            format!(
                "journal: {{ postgresql: {{ host: 127.0.0.1, port: {port}, name: postgres, user: postgres, schema: {schema}, \
                 node: node{node} }} }}\n"
            )
        });
        daemons.push(Daemon::start(&env.programs.reactor, &rules(&bus.address, handler, &journal))?);
        if node == 0 {
            bus.wait_for_subscriber()?;
        }
    }
    if journal.is_some() {
        until("each node has its share", &daemons, |status| {
            let all = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
            let served = |node: &Value| node["slots"].as_array().map_or(0, Vec::len);
            let (sum, least) = (all.iter().map(served).sum::<usize>(), all.iter().map(served).min().unwrap_or(0));
            all.len() == nodes && sum == SLOTS && least >= SLOTS.div_ceil(nodes) - nodes
        })?;
    }
    Ok(daemons)
}

fn rate(env: &Env, handler: &str, count: usize, nodes: usize, journal: Option<(u16, &str)>) -> Result<f64> {
    let bus = Publisher::bind()?;
    let daemons = start(env, &bus, handler, nodes, journal)?;
    let bodies: Vec<_> = (0..count).map(|n| unsigned(WANTED, n)).collect();
    let started = Instant::now();
    bus.burst(WANTED, &bodies, count)?;
    until("all are done", &daemons, |status| done(status) == count as u64)?;
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

fn done(status: &Value) -> u64 {
    let states = status["journal"]["by_state"].as_array().map(Vec::as_slice).unwrap_or_default();
    states.iter().filter(|state| state[0] == "done").map(|state| number(state, "1")).sum()
}

/// Asks the first daemon until its status is as wanted.
fn until(what: &str, daemons: &[Daemon], wanted: impl Fn(&Value) -> bool) -> Result<()> {
    let started = Instant::now();
    loop {
        let status = daemons[0].whole_status()?;
        if wanted(&status) {
            return Ok(());
        }
        if started.elapsed().as_secs() >= SECONDS_MAX {
            let logs: String = daemons.iter().map(Daemon::log).collect();
            bail!("{what}: not within {SECONDS_MAX} s\n{status:#}\n{logs}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Processor time of a node that has nothing to do, beside that of a daemon with SQLite.
fn idle(env: &Env, port: u16) -> Result<Vec<Row>> {
    // One each: a publisher is told of a prefix only by the first who subscribes to it.
    let buses = (Publisher::bind()?, Publisher::bind()?);
    let stamp = env.programs.stamp.display().to_string();
    let shared = start(env, &buses.0, &stamp, 2, Some((port, "idle")))?;
    let alone = start(env, &buses.1, &stamp, 1, None)?;
    let seconds = if env.short { 1 } else { 30 };
    let cpu = |daemon: &Daemon| -> Result<f64> {
        let warden = children(daemon.pid())?.into_iter().map(process::cpu_seconds).sum::<Result<f64>>()?;
        Ok(daemon.cpu_seconds()? + warden)
    };
    let before = (cpu(&shared[0])?, cpu(&alone[0])?);
    std::thread::sleep(Duration::from_secs(seconds));
    let per_second = |before: f64, now: f64| (now - before) * 1_000.0 / seconds as f64;
    let (node, single) = (per_second(before.0, cpu(&shared[0])?), per_second(before.1, cpu(&alone[0])?));
    ensure!(node >= 0.0 && single >= 0.0, "processor time runs backwards");
    let memory = (shared[0].memory()?, alone[0].memory()?);
    Ok(vec![
        Row::new(BENCH, "idle: processor time of a node with its warden", node, "ms in a second")
            .beside("one daemon with SQLite", single),
        Row::new(BENCH, "idle: memory of a node", memory.0.peak_mib, "MiB")
            .beside("one daemon with SQLite", memory.1.peak_mib),
    ])
}

/// The processes that a process has started and that still run.
fn children(pid: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let list = std::fs::read_to_string(task?.path().join("children"))?;
        found.extend(list.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    Ok(found)
}
