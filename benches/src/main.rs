//! `reactor-benches [--short] [--json] [NAME…]`: measures what PERFORMANCE.md quotes.
//!
//! The daemon is a black box here: the built binary with a scratch site, on loopback, in a directory that is removed; its
//! counters come from its control socket, its processor time and memory from /proc. Each figure has something beside it
//! that was run on the same machine in the same minute, because an absolute figure says nothing about another machine.
//!
//! `--short` is for CI: tiny sizes, seconds instead of minutes; it asserts that every bench runs and that the ratios are
//! not absurd. Its figures mean nothing.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program that measures starts programs, reads the clock and prints; none of it is part of the daemon"
)]

mod amqp;
mod daemon;
mod gitolite;
mod journal;
mod koji;
mod latency;
mod load;
mod matching;
mod mirror_db;
mod nodes;
mod peers;
mod process;
mod publisher;
mod ssh_keys;
mod start;
mod table;
mod verify;
mod zmq_rate;

use std::process::ExitCode;

use anyhow::{Result, bail};
use table::Row;

/// What every bench is given.
#[derive(Debug)]
pub struct Env {
    /// Tiny sizes.
    pub short: bool,
    /// What is measured.
    pub programs: process::Programs,
}

impl Env {
    /// The size for the long form, or the one for the short form.
    #[must_use]
    pub const fn size(&self, long: usize, short: usize) -> usize {
        if self.short { short } else { long }
    }
}

type Bench = fn(&Env) -> Result<Vec<Row>>;

const BENCHES: [(&str, Bench, &str); 13] = [
    ("matching", matching::run, "topic patterns and rules, in-process"),
    ("verify", verify::run, "signatures, in-process, one thread"),
    ("zmq", zmq_rate::run, "messages over ZeroMQ into the daemon, and its memory under load"),
    ("amqp", amqp::run, "messages from a queue of RabbitMQ, beside fedora-messaging consume"),
    ("journal", journal::run, "reactions made durable, and reactions run"),
    ("nodes", nodes::run, "reactions run with 1, 2 and 3 nodes on PostgreSQL, and what a node costs at idle"),
    ("latency", latency::run, "from publish to the handler's first line"),
    ("ssh-keys", ssh_keys::run, "keys to many hosts, and of many users, beside Ansible and bare ssh"),
    ("gitolite", gitolite::ours::run, "access given or taken at 20,000 repositories, from the message on"),
    ("gitolite-ways", gitolite::run_ways, "the same in each of gitolite's own ways, without the handler"),
    ("mirror-db", mirror_db::run, "a master mirror of 200,000 files into the mirror database, beside umdl and find"),
    ("koji-owners", koji::run, "package owners in Koji, beside the real Python client with a call a package"),
    ("start", start::run, "start-up and idle memory"),
];

/// Only where they are named: their short form alone takes longer than all the others' together.
const NOT_SHORT: [&str; 2] = ["gitolite", "gitolite-ways"];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.first().map(String::as_str) {
        Some("receive") => peers::receive(&args[1..]).map(|()| true),
        Some("--help" | "-h") => {
            println!("reactor-benches [--short] [--json] [NAME…]\n\nThe benches:");
            BENCHES.iter().for_each(|(name, _, about)| println!("  {name:<14} {about}"));
            Ok(true)
        }
        _ => measure(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// False when a ratio is absurd.
fn measure(args: &[String]) -> Result<bool> {
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let names: Vec<&str> = args.iter().map(String::as_str).filter(|arg| !["--short", "--json"].contains(arg)).collect();
    if let Some(unknown) = names.iter().find(|name| BENCHES.iter().all(|(known, ..)| known != *name)) {
        bail!("there is no bench `{unknown}`\nhint: reactor-benches --help lists them");
    }
    let env = Env { short: flag("--short"), programs: process::programs()? };
    let json = flag("--json");
    if !json {
        println!("{}\n\n{}", machine(&env), table::HEAD);
    }
    let mut sane = true;
    let is_asked = |name: &&str| {
        if names.is_empty() { !(env.short && NOT_SHORT.contains(name)) } else { names.contains(name) }
    };
    for (name, bench, _) in BENCHES.iter().filter(|(name, ..)| is_asked(name)) {
        eprintln!("{name} …");
        for row in bench(&env)? {
            println!("{}", if json { row.json().to_string() } else { row.markdown() });
            if let Some(wrong) = row.wrong() {
                eprintln!("error: {wrong}");
                sane = false;
            }
        }
    }
    eprintln!("load average at the end: {}", load_average());
    Ok(sane)
}

fn machine(env: &Env) -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("").trim_start_matches(['\t', ' ', ':']);
    format!(
        "Machine: {} × {model}, Linux {}; {}; load average {}; profile {}{}.",
        std::thread::available_parallelism().map_or(0, usize::from),
        read("/proc/sys/kernel/osrelease").trim(),
        jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"),
        load_average(),
        env.programs.profile,
        if env.short { ", short form: the figures mean nothing" } else { "" }
    )
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
