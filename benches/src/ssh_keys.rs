//! The handler `ssh-keys` on real sshd, each host one on the loopback: 200 hosts × 1 key, and 1 host × 2,000 users; plan and
//! apply through the handler's own process, as the daemon drives it. Beside it Ansible's authorized_key doing the same (with
//! pipelining and connections that are warm), and bare ssh: a warm master a host, 16 at once, one command that writes a file
//! and moves it into place.
//!
//! Hosts, clients and handler share the same cores here, so the figure is mostly what sshd and the shells on the "hosts"
//! cost. Needs root, because sshd does.

mod ansible;
mod bare;
mod handler;

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reactor_tests::sshd::{Farm, Layout};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Map, Value, json};

use crate::Env;
use crate::table::{Row, percentile};
use handler::Handler;

const BENCH: &str = "ssh-keys";
/// Whose key is changed on all hosts.
const USER: &str = "bench";
/// The account group that may log in.
const GROUP: &str = "sysadmin-main";
/// Hosts worked on at the same time, here and by bare ssh.
const AT_ONCE: usize = 16;
/// Ansible must be slower by this factor.
const ANSIBLE_RATIO_MIN: f64 = 20.0;
/// Bare ssh may be faster by this factor: it looks at nothing, checks nothing and flushes nothing to the disk.
const BARE_RATIO_MAX: f64 = 10.0;

/// Runs it.
///
/// # Errors
/// When something does not work at all.
pub fn run(env: &Env) -> Result<Vec<Row>> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("ssh-keys is left out: sshd needs root");
        return Ok(Vec::new());
    }
    let mut rows = many_hosts(env)?;
    rows.extend(many_users(env)?);
    Ok(rows)
}

/// A farm with a truth, an inventory, and the handler's configuration.
struct Bench {
    farm: Farm,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(hosts: usize) -> Result<Self> {
        let bench = Self { farm: Farm::start(hosts, 0, Layout::Directory), dir: tempfile::tempdir()? };
        let host = |n: usize| {
            let address = bench.farm.hosts[n].address;
            let (ip, port) = (address.ip().to_string(), address.port());
            json!({"address": ip, "port": port, "user": "root", "keys": bench.farm.pattern(n)})
        };
        let hosts: Map<String, Value> = (0..hosts).map(|n| (bench.farm.hosts[n].name.clone(), host(n))).collect();
        let inventory = json!({"groups": {"all": {"hosts": hosts, "access": [GROUP]}}});
        fs::write(bench.dir.path().join("hosts.yaml"), inventory.to_string())?;
        Ok(bench)
    }

    /// These users, each with a new key.
    fn truth(&self, users: &[String]) -> Result<()> {
        let keys: Map<String, Value> =
            users.iter().map(|user| Ok((user.clone(), json!({"keys": [random_key(user)?]})))).collect::<Result<_>>()?;
        let truth = json!({"users": keys, "groups": {GROUP: users}});
        Ok(fs::write(self.dir.path().join("accounts.yaml"), truth.to_string())?)
    }

    fn handler(&self, env: &Env) -> Result<Handler> {
        let config = json!({
            "accounts": {"yaml": self.dir.path().join("accounts.yaml")},
            "hosts": self.dir.path().join("hosts.yaml"),
            "ssh": {"known_hosts": self.farm.known_hosts(), "at_once": AT_ONCE, "connect_timeout": "30s", "command_timeout": "60s"},
        });
        Handler::start(&env.programs.reactor, self.dir.path(), &self.farm.management.path, config)
    }

    /// All hosts have what the truth says of these users.
    fn check(&self, users: &[String]) -> Result<()> {
        let truth: Value = serde_json::from_slice(&fs::read(self.dir.path().join("accounts.yaml"))?)?;
        for (n, user) in (0..self.farm.hosts.len()).flat_map(|n| users.iter().map(move |user| (n, user))) {
            let key = truth["users"][user]["keys"][0].as_str().context("a key")?;
            ensure!(self.farm.keys(n, user).contains(key), "{user} has no key at {}", self.farm.hosts[n].name);
        }
        Ok(())
    }
}

/// An ed25519 key that nobody has the private half of.
fn random_key(comment: &str) -> Result<String> {
    let mut point = [0; 32];
    SystemRandom::new().fill(&mut point).ok().context("random numbers")?;
    let blob = [&11_u32.to_be_bytes(), b"ssh-ed25519".as_slice(), &32_u32.to_be_bytes(), &point].concat();
    Ok(format!("ssh-ed25519 {} {comment}", STANDARD.encode(blob)))
}

/// Seconds that `work` takes.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let began = Instant::now();
    let done = work()?;
    Ok((began.elapsed().as_secs_f64(), done))
}

fn many_hosts(env: &Env) -> Result<Vec<Row>> {
    let hosts = env.size(200, 10);
    let bench = Bench::new(hosts)?;
    let users = [USER.to_owned()];
    let with = json!({"user": USER});
    let mut handler = bench.handler(env)?;
    bench.truth(&users)?;
    let (cold, done) = timed(|| handler.make_true(&with))?;
    ensure!(done == hosts, "{done} of {hosts} changes were made");
    bench.check(&users)?;
    let (mut warm, mut unchanged) = (Vec::new(), Vec::new());
    for _ in 0..env.size(5, 2) {
        bench.truth(&users)?;
        let (took, done) = timed(|| handler.make_true(&with))?;
        ensure!(done == hosts, "{done} of {hosts} changes were made");
        warm.push(took);
        let (took, done) = timed(|| handler.make_true(&json!({})))?;
        ensure!(done == 0, "the second plan is not empty: {done}");
        unchanged.push(took);
    }
    bench.check(&users)?;
    drop(handler);
    let (warm, unchanged) = (percentile(&mut warm, 0.5), percentile(&mut unchanged, 0.5));
    let (bare_cold, bare_warm) = bare::many_hosts(&bench.farm, bench.dir.path(), env.size(5, 2))?;

    let what = |how: &str| format!("a key changed on {hosts} hosts, plan and apply, {how}");
    let mut rows = vec![
        Row::new(BENCH, what("warm"), warm, "s")
            .beside("bare ssh -S, 16 at once: cat and mv", bare_warm)
            .sane(0.0..=BARE_RATIO_MAX),
        Row::new(BENCH, what("cold"), cold, "s")
            .beside("bare ssh -M and then the same", bare_cold)
            .sane(0.0..=BARE_RATIO_MAX),
        Row::new(BENCH, format!("reconcile of {hosts} hosts, nothing to do, warm"), unchanged, "s"),
    ];
    if !env.short {
        for (forks, hosts_asked) in [(50, hosts), (16, 50)] {
            let took = ansible::many_hosts(&bench.farm, bench.dir.path(), USER, hosts_asked, forks)?;
            let scaled = took * hosts as f64 / hosts_asked as f64;
            let note =
                if hosts_asked == hosts { String::new() } else { format!("Ansible on {hosts_asked} hosts, scaled") };
            let beside = format!("Ansible authorized_key, forks {forks}, pipelining, warm");
            rows.push(
                Row::new(BENCH, what("warm"), warm, "s")
                    .beside(beside, scaled)
                    .note(note)
                    .sane(0.0..=1.0 / ANSIBLE_RATIO_MIN),
            );
        }
    }
    Ok(rows)
}

fn many_users(env: &Env) -> Result<Vec<Row>> {
    let users: Vec<String> = (0..env.size(2_000, 50)).map(|n| format!("user{n}")).collect();
    let bench = Bench::new(1)?;
    let mut handler = bench.handler(env)?;
    let everyone = json!({});
    bench.truth(&users)?;
    let (cold, done) = timed(|| handler.make_true(&everyone))?;
    ensure!(done == users.len(), "{done} changes of {}", users.len());
    bench.truth(&users)?;
    let (warm, done) = timed(|| handler.make_true(&everyone))?;
    ensure!(done == users.len(), "{done} changes of {}", users.len());
    let (unchanged, done) = timed(|| handler.make_true(&everyone))?;
    ensure!(done == 0, "the second plan is not empty: {done}");
    bench.check(&users)?;
    drop(handler);
    let sample = env.size(200, 20);
    let singly =
        bare::many_users(&bench.farm, bench.dir.path(), &users[..sample])? * users.len() as f64 / sample as f64;
    let whole = bare::all_users_at_once(&bench.farm, bench.dir.path(), &users)?;

    let n = users.len();
    let what = |how: &str| format!("{n} users' keys on 1 host, reconcile, {how}");
    let mut rows = vec![
        Row::new(BENCH, what("all changed, warm"), warm, "s")
            .beside("bare ssh -S, a command each, 16 at once", singly)
            .note(format!("bare ssh with {sample} users, scaled"))
            .sane(0.0..=1.0),
        Row::new(BENCH, what("all changed, warm"), warm, "s")
            .beside("bare: one tar over one ssh -S, nothing compared", whole),
        Row::new(BENCH, what("all new, cold"), cold, "s"),
        Row::new(BENCH, what("nothing to do, warm"), unchanged, "s"),
    ];
    if !env.short {
        let sample = 100;
        let scaled = ansible::many_users(&bench.farm, bench.dir.path(), &users[..sample])? * n as f64 / sample as f64;
        rows.push(
            Row::new(BENCH, what("all changed, warm"), warm, "s")
                .beside("Ansible authorized_key in a loop, pipelining, warm", scaled)
                .note(format!("Ansible with {sample} users, scaled"))
                .sane(0.0..=1.0 / ANSIBLE_RATIO_MIN),
        );
    }
    Ok(rows)
}

/// A file's text with a user's key, for those beside.
fn key_file(path: &Path, user: &str) -> Result<String> {
    let key = random_key(user)?;
    fs::write(path, format!("{key}\n"))?;
    Ok(key)
}
