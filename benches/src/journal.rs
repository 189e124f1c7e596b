//! Reactions a second that are made durable, and that are run to their end; beside what the disk and the kernel can do.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::Env;
use crate::daemon::{Daemon, number};
use crate::load::{WANTED, payload};
use crate::table::Row;

const BENCH: &str = "journal";
/// How long the daemon may take, in seconds.
const SECONDS_MAX: u64 = 120;
const RECORD_BYTES: usize = 1024;
/// Handlers of the site that run at the same time; programs that are started at the same time beside it.
const AT_ONCE: usize = 4;

/// Runs it.
///
/// # Errors
/// When something does not work at all.
pub fn run(env: &Env) -> Result<Vec<Row>> {
    let mut rows = stored(env)?;
    rows.push(ran(env)?);
    Ok(rows)
}

fn rules(env: &Env, more: &str) -> String {
    format!(
        "version: 1\nhandlers:\n  stamp: {{ exec: {}, at_once: {AT_ONCE} }}\nrules:\n  - name: stamp\n    on: {WANTED}\n    \
         where: {{ fields: ssh_key }}\n    key: \"{{{{msg.user}}}}\"\n{more}    do: stamp\n    with: {{ n: \"{{{{msg.n}}}}\" }}\n",
        env.programs.stamp.display()
    )
}

fn lines(count: usize) -> Vec<u8> {
    let line = |n| json!({"topic": WANTED, "msg_id": format!("bench-{n}"), "msg": payload(n)}).to_string() + "\n";
    (0..count).map(line).collect::<String>().into_bytes()
}

/// A message and its reaction (a key of its own, waiting for more of the same) in one durable transaction.
fn stored(env: &Env) -> Result<Vec<Row>> {
    let count = env.size(40_000, 500);
    let mut daemon =
        Daemon::start_fed(&env.programs.reactor, &rules(env, "    coalesce: { quiet: 1h, at_most: 2h }\n"))?;
    let lines = lines(count);
    let started = Instant::now();
    daemon.feed(&lines)?;
    daemon.wait_until("all stored", SECONDS_MAX, |status| number(status, "waiting") >= count as u64)?;
    let figure = count as f64 / started.elapsed().as_secs_f64();
    let journal = daemon.journal()?;
    anyhow::ensure!(number(&journal, "messages") == count as u64, "not what was meant: {journal:#}");
    let single = synced(env, daemon.dir(), 1)?;
    let batched = synced(env, daemon.dir(), 64)?;
    let what = "reactions stored with their messages";
    let note = format!("{count} at once; {:.0} MiB at most", daemon.memory()?.peak_mib);
    Ok(vec![
        Row::new(BENCH, what, figure, "/s").beside("1 KiB append + fdatasync each", single).note(note).sane(0.01..=1e6),
        Row::new(BENCH, what, figure, "/s").beside("1 KiB records, fdatasync every 64", batched).sane(0.000_1..=100.0),
    ])
}

/// Records a second that the disk takes, `group` of them with each fdatasync.
fn synced(env: &Env, dir: &Path, group: usize) -> Result<f64> {
    let mut file = File::create(dir.join("synced"))?;
    let record = vec![0x5a; RECORD_BYTES * group];
    let long_enough = Duration::from_millis(if env.short { 200 } else { 3_000 });
    let started = Instant::now();
    let mut records = 0;
    while started.elapsed() < long_enough {
        file.write_all(&record)?;
        file.sync_data()?;
        records += group;
    }
    Ok(records as f64 / started.elapsed().as_secs_f64())
}

/// Whole reactions: plan and apply are a process each, and every step is durable.
fn ran(env: &Env) -> Result<Row> {
    let count = env.size(2_000, 20);
    let mut daemon = Daemon::start_fed(&env.programs.reactor, &rules(env, ""))?;
    let lines = lines(count);
    let started = Instant::now();
    daemon.feed(&lines)?;
    daemon.wait_until_ended(SECONDS_MAX)?;
    let figure = count as f64 / started.elapsed().as_secs_f64();
    let journal = daemon.journal()?;
    anyhow::ensure!(
        journal["by_state"] == json!([["done", count]]),
        "not what was meant: {journal:#}\n{}",
        daemon.log()
    );
    Ok(Row::new(BENCH, "reactions run (plan and apply), durable", figure, "/s")
        .beside(format!("starting the program twice each, {AT_ONCE} at once"), bare(env)?)
        .note("peers: fedora-messaging + shell 136/s, Salt 19/s, ansible-rulebook 0.17/s (quoted)")
        .sane(0.01..=2.0))
}

/// The same program started as often, and nothing else.
fn bare(env: &Env) -> Result<f64> {
    let reactions = env.size(250, 5);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let each = |_| scope.spawn(|| (0..reactions * 2).try_for_each(|_| start_stamp(env)));
        let threads: Vec<_> = (0..AT_ONCE).map(each).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread died"))?)
    })?;
    Ok((reactions * AT_ONCE) as f64 / started.elapsed().as_secs_f64())
}

fn start_stamp(env: &Env) -> Result<()> {
    let mut child = Command::new(&env.programs.stamp)
        .arg("plan")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(br#"{"with":{"n":1}}"#)?;
    }
    child.wait_with_output()?;
    Ok(())
}
