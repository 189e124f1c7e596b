//! The handler `ssh-keys` on real sshd, each host one on the loopback: 200 hosts × 1 key, and 1 host × 2,000 users; plan and
//! apply through the handler's own process, as the daemon drives it. Beside it Ansible's authorized_key doing the same, and
//! bare ssh: a warm master a host, 16 at once, one command that writes a file and moves it into place.
//!
//! Hosts, clients and handler share the same cores here. The processor time is that of all of them (but for Ansible's ssh
//! masters, which leave its process tree); where other programs run on the machine it says more than the time on the clock.
//! Needs root, because sshd does.

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
use crate::process::cpu_seconds_of_all;
use crate::table::Row;
use handler::Handler;

const BENCH: &str = "ssh-keys";
/// Whose key is changed on all hosts.
const USER: &str = "bench";
/// The account group that may log in.
const GROUP: &str = "sysadmin-main";
/// Hosts worked on at the same time, here and by bare ssh.
const AT_ONCE: usize = 16;
/// Ansible as a message starts it must be slower by this factor.
const ANSIBLE_RATIO_MIN: f64 = 20.0;
/// And by this one where it is tuned to the last.
const ANSIBLE_TUNED_RATIO_MIN: f64 = 5.0;
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

/// What something took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// On the clock, in seconds.
    clock: f64,
    /// Processor seconds of clients and "hosts" together.
    cpu: f64,
}

impl Cost {
    fn scaled(self, by: f64) -> Self {
        Self { clock: self.clock * by, cpu: self.cpu * by }
    }

    /// The one in the middle, by the clock.
    fn median(costs: &mut [Self]) -> Self {
        costs.sort_by(|a, b| a.clock.total_cmp(&b.clock));
        costs[costs.len() / 2]
    }

    /// Two lines of the table. `ratio`: the most that the clock's may be on any machine.
    fn rows(self, what: &str, beside: &str, other: Self, ratio: f64, note: &str) -> [Row; 2] {
        let row =
            |what: String, ours: f64, theirs: f64| Row::new(BENCH, what, ours, "s").beside(beside, theirs).note(note);
        let clock = row(what.to_owned(), self.clock, other.clock).sane(0.0..=ratio);
        [clock, row(format!("{what}: processor time"), self.cpu, other.cpu)]
    }

    fn row(self, what: &str) -> Row {
        Row::new(BENCH, what, self.clock, "s").note(format!("{:.2} s of processor time", self.cpu))
    }
}

/// What `work` takes, and its result.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(Cost, T)> {
    let (began, cpu) = (Instant::now(), cpu_seconds_of_all());
    let done = work()?;
    Ok((Cost { clock: began.elapsed().as_secs_f64(), cpu: cpu_seconds_of_all() - cpu }, done))
}

/// Plan and apply; exactly so many changes must be made.
fn pass(handler: &mut Handler, with: &Value, changes: usize) -> Result<Cost> {
    let (cost, made) = timed(|| handler.make_true(with))?;
    ensure!(made == changes, "{made} changes were made, {changes} were due");
    Ok(cost)
}

fn many_hosts(env: &Env) -> Result<Vec<Row>> {
    let hosts = env.size(200, 10);
    let bench = Bench::new(hosts)?;
    let users = [USER.to_owned()];
    let with = json!({"user": USER});
    let mut handler = bench.handler(env)?;
    bench.truth(&users)?;
    let cold = pass(&mut handler, &with, hosts)?;
    bench.check(&users)?;
    let (mut warm, mut unchanged) = (Vec::new(), Vec::new());
    for _ in 0..env.size(5, 2) {
        bench.truth(&users)?;
        warm.push(pass(&mut handler, &with, hosts)?);
        unchanged.push(pass(&mut handler, &json!({}), 0)?);
    }
    bench.check(&users)?;
    drop(handler);
    let (warm, unchanged) = (Cost::median(&mut warm), Cost::median(&mut unchanged));
    let (bare_cold, bare_warm) = bare::many_hosts(&bench.farm, bench.dir.path(), env.size(5, 2))?;

    let what = |how: &str| format!("a key changed on {hosts} hosts, plan and apply, {how}");
    let mut rows = Vec::new();
    rows.extend(warm.rows(&what("warm"), "bare ssh -S, 16 at once: cat and mv", bare_warm, BARE_RATIO_MAX, ""));
    // The processor time of short-lived processes is too coarse for this one: they are new on both sides.
    rows.extend(
        cold.rows(&what("cold"), "bare ssh -M, then the same", bare_cold, BARE_RATIO_MAX, "").into_iter().take(1),
    );
    rows.push(unchanged.row(&format!("reconcile of {hosts} hosts, nothing to do, warm")));
    if env.short {
        return Ok(rows);
    }
    for (forks, asked) in [(50, hosts), (16, 50)] {
        let (started, tuned) = ansible::many_hosts(&bench.farm, bench.dir.path(), USER, asked, forks)?;
        let note = if asked == hosts { String::new() } else { format!("Ansible on {asked} hosts, scaled") };
        for (cost, how, ratio) in [
            (started, "as a message starts it", ANSIBLE_RATIO_MIN),
            (tuned, "no facts, connections just made", ANSIBLE_TUNED_RATIO_MIN),
        ] {
            let beside = format!("Ansible authorized_key, forks {forks}, pipelining, {how}");
            let all = cost.scaled(hosts as f64 / asked as f64);
            rows.extend(warm.rows(&what("warm"), &beside, all, 1.0 / ratio, &note));
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
    let cold = pass(&mut handler, &everyone, users.len())?;
    let mut warm = Vec::new();
    for _ in 0..3 {
        bench.truth(&users)?;
        warm.push(pass(&mut handler, &everyone, users.len())?);
    }
    let warm = Cost::median(&mut warm);
    let unchanged = pass(&mut handler, &everyone, 0)?;
    bench.check(&users)?;
    drop(handler);
    let (farm, dir, sample) = (&bench.farm, bench.dir.path(), env.size(200, 20));
    let scale = |sample: usize| users.len() as f64 / sample as f64;
    let singly = bare::many_users(farm, dir, &users[..sample])?.scaled(scale(sample));
    let whole = bare::all_users_at_once(farm, dir, &users)?;

    let what = |how: &str| format!("{} users' keys on 1 host, reconcile, {how}", users.len());
    let changed = what("all changed, warm");
    let mut rows = Vec::new();
    let note = format!("bare ssh with {sample} users, scaled");
    rows.extend(warm.rows(&changed, "bare ssh -S, a command each, 16 at once", singly, 1.0, &note));
    let beside = "bare: one tar over one ssh -S, nothing compared, nothing flushed";
    rows.extend(warm.rows(&changed, beside, whole, f64::MAX, ""));
    rows.push(cold.row(&what("all new, cold")));
    rows.push(unchanged.row(&what("nothing to do, warm")));
    if !env.short {
        let sample = 100;
        let scaled = ansible::many_users(farm, dir, &users[..sample])?.scaled(scale(sample));
        let note = format!("Ansible with {sample} users, scaled");
        let beside = "Ansible authorized_key in a loop, pipelining";
        rows.extend(warm.rows(&changed, beside, scaled, 1.0 / ANSIBLE_RATIO_MIN, &note));
    }
    Ok(rows)
}

/// A file's text with a user's key, for those beside.
fn key_file(path: &Path, user: &str) -> Result<String> {
    let key = random_key(user)?;
    fs::write(path, format!("{key}\n"))?;
    Ok(key)
}
