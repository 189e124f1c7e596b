//! Start-up until the control socket answers, and memory when nothing happens.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Env;
use crate::daemon::Daemon;
use crate::publisher::Publisher;
use crate::table::{Row, percentile};

const BENCH: &str = "start";

/// Runs it.
///
/// # Errors
/// When something does not work at all.
pub fn run(env: &Env) -> Result<Vec<Row>> {
    let version = exec(env)?;
    let mut rows = Vec::new();
    for n in [1, 1_000] {
        rows.extend(one(env, n, version)?);
    }
    Ok(rows)
}

/// The program started only to say its version, in milliseconds.
fn exec(env: &Env) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..env.size(50, 5) {
        let started = Instant::now();
        Command::new(&env.programs.reactor).arg("--version").stdout(Stdio::null()).status()?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(percentile(&mut times, 0.5))
}

fn one(env: &Env, rules: usize, version: f64) -> Result<Vec<Row>> {
    let publisher = Publisher::bind()?;
    let site = site(env, rules, &publisher.address)?;
    let mut times = Vec::new();
    let mut memory = None;
    let rounds = env.size(11, 2);
    for round in 1..=rounds {
        let daemon = Daemon::start(&env.programs.reactor, &site)?;
        times.push(daemon.start_up.as_secs_f64() * 1e3);
        if round == rounds {
            std::thread::sleep(Duration::from_millis(env.size(5_000, 200) as u64));
            memory = Some(daemon.memory()?);
        }
    }
    let start_up = percentile(&mut times, 0.5);
    let rows = [Row::new(BENCH, format!("start until it answers, {rules} rules, p50 of {rounds}"), start_up, "ms")
        .beside("`reactor --version`", version)
        .sane(0.0..=5_000.0)];
    let idle = memory.map(|memory| {
        Row::new(BENCH, format!("resident when idle, {rules} rules"), memory.resident_mib, "MiB")
            .note("peers: fedmsg-hub 77, fedora-messaging 60, ansible-rulebook 121, webhook 9 (quoted, facts)")
    });
    Ok(rows.into_iter().chain(idle).collect())
}

/// Rules as people write them: a topic, `where`, every third a CEL condition, a key, two parameters.
fn site(env: &Env, rules: usize, address: &str) -> Result<String> {
    let mut text = format!(
        "version: 1\nbus:\n  bench:\n    fedmsg: [\"{address}\"]\n    trust: {{ unsigned: accept, unlisted: accept }}\n\
         handlers:\n  stamp: {{ exec: {} }}\nrules:\n",
        env.programs.stamp.display()
    );
    for n in 0..rules {
        write!(
            text,
            "  - name: rule {n}\n    why: rule {n} is there to be loaded\n    on: org.fedoraproject.prod.app{n}.thing.change\n"
        )?;
        text.push_str("    where: { fields: ssh_key }\n");
        if n % 3 == 0 {
            text.push_str("    when: msg.bytes > 0 && msg.path.startsWith(\"pub/\")\n");
        }
        text.push_str("    key: \"{{msg.user}}\"\n    do: stamp\n    with: { n: \"{{msg.n}}\" }\n");
    }
    Ok(text)
}
