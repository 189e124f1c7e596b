//! ssh-keys: one key onto 200 hosts, and the keys of 2,000 users onto one host, beside Ansible and bare multiplexed ssh doing
//! the same.
//!
//! The hosts are real sshd on loopback addresses of this machine (`tests/src/sshd.rs`), so both ends share its cores. Ours is
//! what a user waits for: the handler process, asked over its stdin as the daemon asks it, plans (looks at every host) and
//! applies; then it plans again, and that plan must be empty. Cold = the process is started and every connection made;
//! warm = the connections are there. Both ends' processor seconds are taken too: on a loaded machine they are the better figure.

mod ansible;
mod bare;
pub(crate) mod ours;
pub(crate) mod work;

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reactor_tests::sshd::{Farm, Layout};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;
use tempfile::TempDir;

use crate::Env;
use crate::table::Row;
use ansible::{Ansible, How};
use bare::{Bare, Order};
use ours::{Changed, Handler, Site};
use work::{Cost, cost, in_a_row, median};

const BENCH: &str = "ssh-keys";
/// Planning and applying must be this many times quicker than Ansible's, at least.
const ANSIBLE_TIMES: f64 = 20.0;
/// The same beside one run of Ansible, which has no plan that anybody sees. Here the hosts are this very machine, and what they
/// do for one ssh command each is 1/25 of what Ansible costs: that is the limit.
const ANSIBLE_ONE_RUN_TIMES: f64 = 8.0;
/// Bare ssh may be this many times quicker, at most: it looks at nothing before, checks nothing, and flushes nothing.
const BARE_TIMES: usize = 4;
/// The same in the short form: a flush of a disk that others write to takes longer than all the rest of ten hosts.
const BARE_TIMES_SHORT: usize = 40;
/// Changes in a row by which the processor time of one is known.
const CPU_ROUNDS: usize = 10;
/// Commands of bare ssh at the same time over one connection: sshd's own MaxSessions is 10.
const SESSIONS: usize = 8;

/// Runs it.
///
/// # Errors
/// When something does not work at all.
pub fn run(env: &Env) -> Result<Vec<Row>> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("  left out: a farm of sshd needs root");
        return Ok(Vec::new());
    }
    // What leaves its parent becomes ours, so that its processor time is counted: Ansible's ssh masters do.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    if !env.short && env.programs.ansible.is_none() {
        eprintln!("  Ansible is not installed (scripts/install-bench-deps): it is left out");
    }
    let mut rows = many_hosts(env)?;
    rows.extend(many_users(env)?);
    Ok(rows)
}

/// One user's key onto many hosts.
fn many_hosts(env: &Env) -> Result<Vec<Row>> {
    let hosts = env.size(200, 10);
    let farm = Farm::start(hosts, 1, Layout::Directory);
    let (scratch, users) = (Scratch::new()?, farm.users.clone());
    let site = Site::new(&scratch.dir("ours")?, &farm)?;
    let with = json!({ "user": users[0] });
    let change = |handler: &mut Handler<'_>| -> Result<Changed> {
        let keys = new_keys(1)?;
        site.truth(&users, &keys)?;
        let changed = handler.change(&farm, &with, hosts)?;
        (0..hosts).try_for_each(|n| has(&farm, n, &users[0], &keys[0]))?;
        Ok(changed)
    };
    let (mut handler, cold) = cold(env, &farm, &site, change)?;

    let bare_cold = Bare::cold(&scratch.dir("cold")?, &farm)?;
    let (orders, key) = orders(&farm, hosts, &users)?;
    let ((), bare_cold) = cost(&farm, || bare_cold.run(&farm, &orders, 16))?;
    (0..hosts).try_for_each(|n| is(&bare::directory(&farm, n).join(&users[0]), &key))?;

    let bare = Bare::warm(&scratch.dir("warm")?, &farm)?;
    let (mut warm, mut bare_16, mut bare_32) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..env.size(5, 2) {
        warm.push(change(&mut handler)?);
        for (times, at_once) in [(&mut bare_16, 16), (&mut bare_32, 32)] {
            let orders = self::orders(&farm, hosts, &users)?.0;
            times.push(cost(&farm, || bare.run(&farm, &orders, at_once))?.1);
        }
    }
    let rounds = env.size(CPU_ROUNDS, 1);
    let cpu_of_bare = in_a_row(&farm, 2 * rounds, || bare.run(&farm, &orders, 16))?;
    drop(bare);
    let cpu_of_ours = in_a_row(&farm, rounds, || {
        site.truth(&users, &new_keys(1)?)?;
        handler.make_true(&with, hosts)
    })?;
    drop(handler);
    let of = |what: fn(&Changed) -> Cost| median(warm.iter().map(what).collect());
    let (empty, plan, warm) =
        (of(|one| one.empty_plan), of(|one| one.plan), of(|one| one.change).with_cpu_of(cpu_of_ours));
    let (bare_16, bare_32, near) = (median(bare_16).with_cpu_of(cpu_of_bare), median(bare_32), near(env));

    let what = |how: &str| format!("{hosts} hosts × 1 key, {how}: plan and apply");
    let mut rows = vec![
        wall(what("cold"), cold, "s").beside("bare ssh, 16 at once", bare_cold.wall).sane(near.clone()),
        wall(what("warm"), warm, "s").beside("bare ssh, 16 at once", bare_16.wall).sane(near.clone()),
        wall(what("warm"), warm, "s").beside("bare ssh, 32 at once", bare_32.wall).sane(near),
        cpu(what("warm"), warm, "bare ssh, 16 at once", bare_16, "s"),
        wall(format!("{hosts} hosts × 1 key, warm: of it the plan"), plan, "s"),
        wall(format!("{hosts} hosts × 1 key, warm: a plan that finds nothing to do"), empty, "s"),
    ];
    if let Some(program) = env.programs.ansible.as_ref().filter(|_| !env.short) {
        let ansible = Ansible::new(program, &scratch.dir("ansible")?, &farm)?;
        rows.extend(hosts_beside_ansible(&ansible, &farm, &users, warm)?);
    }
    Ok(rows)
}

/// Ansible doing the same: as a message or cron would start it (it connects, and gathers facts as it does unless told not to);
/// with warm connections and without facts, `--check` and then the run, because whoever wants to see the plan before it is
/// applied, as ours is seen, runs it twice; and of that the run alone, which looks and writes in one go.
fn hosts_beside_ansible(ansible: &Ansible, farm: &Farm, users: &[String], warm: Cost) -> Result<Vec<Row>> {
    let hosts = farm.hosts.len();
    let run = |how: How, keys: &[String]| {
        eprintln!("  Ansible on {hosts} hosts, {} forks …", how.forks);
        let ((), took) = cost(farm, || ansible.run(users, keys, how))?;
        let is_new = |n| has(farm, n, &users[0], &keys[0]);
        anyhow::Ok(if how.check { took } else { (0..hosts).try_for_each(is_new).map(|()| took)? })
    };
    let tuned = How { forks: 16, facts: false, check: false };
    let started = run(How { facts: true, ..tuned }, &new_keys(1)?)?;
    let keys = new_keys(1)?;
    let checked = run(How { check: true, ..tuned }, &keys)?;
    let ran = run(tuned, &keys)?;
    let both = checked.and(ran);
    let ran_50 = run(How { forks: 50, ..tuned }, &new_keys(1)?)?;

    let what = format!("{hosts} hosts × 1 key, warm: plan and apply");
    let (far, rather_far) = (0.0..=1.0 / ANSIBLE_TIMES, 0.0..=1.0 / ANSIBLE_ONE_RUN_TIMES);
    let mut rows = Vec::new();
    for (name, theirs, sane) in [
        ("Ansible as a message starts it (connects, gathers facts), 16 forks", started, far.clone()),
        ("Ansible, warm, no facts: --check and then a run, 16 forks", both, far.clone()),
        ("Ansible, warm, no facts: one run, 16 forks", ran, rather_far.clone()),
        ("Ansible, warm, no facts: one run, 50 forks", ran_50, rather_far),
    ] {
        rows.push(wall(what.clone(), warm, "s").beside(name, theirs.wall).sane(sane.clone()));
        rows.push(cpu(what.clone(), warm, name, theirs, "s").sane(sane));
    }
    let this_side = format!("{what}: processor time of this side, without the hosts");
    let one = "Ansible, warm, no facts: one run, 16 forks";
    rows.push(Row::new(BENCH, this_side, warm.ours, "s").beside(one, ran.ours).sane(far));
    Ok(rows)
}

/// Many users' keys onto one host.
fn many_users(env: &Env) -> Result<Vec<Row>> {
    let (all, sample) = (env.size(2_000, 100), env.size(50, 0));
    // Only Ansible asks for accounts that exist.
    let farm = Farm::start(1, sample, Layout::Directory);
    let named = (sample..all).map(|n| format!("rb{n:04}"));
    let users: Vec<String> = farm.users.iter().cloned().chain(named).collect();
    let scratch = Scratch::new()?;
    let site = Site::new(&scratch.dir("ours")?, &farm)?;
    let change = |handler: &mut Handler<'_>| -> Result<Changed> {
        let keys = new_keys(all)?;
        site.truth(&users, &keys)?;
        let changed = handler.change(&farm, &json!({}), all)?;
        users.iter().zip(&keys).try_for_each(|(user, key)| has(&farm, 0, user, key))?;
        Ok(changed)
    };
    let (mut handler, cold) = cold(env, &farm, &site, change)?;
    let bare = Bare::warm(&scratch.dir("warm")?, &farm)?;
    let few = &users[..env.size(200, 20)];
    let (mut warm, mut singly, mut at_once) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..env.size(5, 2) {
        warm.push(change(&mut handler)?);
        let keys = new_keys(all)?;
        let write = |(user, key): (&String, &String)| Order::write(&farm, 0, user, &format!("{key}\n"));
        let orders: Vec<Order> = few.iter().zip(&keys).map(write).collect();
        singly.push(cost(&farm, || bare.run(&farm, &orders, SESSIONS))?.1.each(few.len()));
        let order = archive(&farm, &scratch, &users, &keys)?;
        at_once.push(cost(&farm, || bare.run(&farm, &[order], 1))?.1.each(all));
        users.iter().zip(&keys).try_for_each(|(user, key)| is(&bare::directory(&farm, 0).join(user), key))?;
    }
    drop(bare);
    let each = |costs: &[Changed], of: fn(&Changed) -> Cost| median(costs.iter().map(of).collect()).each(all);
    let (cold, plan, empty) = (cold.each(all), each(&warm, |one| one.plan), each(&warm, |one| one.empty_plan));
    let warm = each(&warm, |one| one.change);
    let (singly, at_once) = (median(singly), median(at_once));

    let unit = "ms/user";
    let what = |how: &str| format!("1 host × {all} users, {how}: plan and apply");
    let mut rows = vec![
        wall(what("cold"), cold, unit),
        wall(what("warm"), warm, unit).beside("bare ssh, a command each, 8 at once", singly.wall * 1e3).sane(near(env)),
        cpu(what("warm"), warm, "bare ssh, a command each, 8 at once", singly, unit),
        wall(what("warm"), warm, unit).beside("bare ssh, one tar stream, then mv", at_once.wall * 1e3),
        cpu(what("warm"), warm, "bare ssh, one tar stream, then mv", at_once, unit),
        wall(format!("1 host × {all} users, warm: of it the plan"), plan, unit),
        wall(format!("1 host × {all} users, warm: a plan that finds nothing to do"), empty, unit),
    ];
    let Some(program) = env.programs.ansible.as_ref().filter(|_| !env.short) else { return Ok(rows) };
    let ansible = Ansible::new(program, &scratch.dir("ansible")?, &farm)?;
    let how = How { forks: 16, facts: false, check: false };
    let mut theirs = Cost::default();
    // The second time is warm.
    for _ in 0..2 {
        eprintln!("  Ansible for {sample} users …");
        let keys = new_keys(sample)?;
        theirs = cost(&farm, || ansible.run(&users[..sample], &keys, how))?.1.each(sample);
        users.iter().zip(&keys).try_for_each(|(user, key)| has(&farm, 0, user, key))?;
    }
    let beside = format!("Ansible, {sample} users in one loop");
    let far = 0.0..=1.0 / ANSIBLE_TIMES;
    rows.push(wall(what("warm"), warm, unit).beside(beside.clone(), theirs.wall * 1e3).sane(far.clone()));
    rows.push(cpu(what("warm"), warm, &beside, theirs, unit).sane(far));
    Ok(rows)
}

/// The handler started anew, with all its connections: what the first change cost, and the handler, warm now.
fn cold<'a>(
    env: &Env,
    farm: &Farm,
    site: &'a Site,
    change: impl Fn(&mut Handler<'_>) -> Result<Changed>,
) -> Result<(Handler<'a>, Cost)> {
    let mut costs = Vec::new();
    loop {
        let (mut handler, start) = cost(farm, || Handler::start(&env.programs.reactor, site))?;
        costs.push(start.and(change(&mut handler)?.change));
        if costs.len() == env.size(3, 1) {
            return Ok((handler, median(costs)));
        }
    }
}

fn wall(what: String, cost: Cost, unit: &'static str) -> Row {
    Row::new(BENCH, what, in_unit(cost.wall, unit), unit)
}

/// How the ratio to bare ssh may be.
fn near(env: &Env) -> RangeInclusive<f64> {
    0.0..=env.size(BARE_TIMES, BARE_TIMES_SHORT) as f64
}

/// Both ends' processor time.
fn cpu(what: String, mine: Cost, name: &str, theirs: Cost, unit: &'static str) -> Row {
    let [hosts, their_hosts] = [mine.hosts, theirs.hosts].map(|seconds| in_unit(seconds, unit));
    Row::new(BENCH, format!("{what}: processor time"), in_unit(mine.cpu(), unit), unit)
        .beside(name, in_unit(theirs.cpu(), unit))
        .note(format!("of it the hosts {hosts:.2}, theirs {their_hosts:.2}"))
}

fn in_unit(seconds: f64, unit: &str) -> f64 {
    if unit.starts_with("ms") { seconds * 1e3 } else { seconds }
}

/// A directory with a short path, for control sockets.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::Builder::new().prefix("rb-").tempdir_in("/tmp")?))
    }

    fn dir(&self, name: &str) -> Result<std::path::PathBuf> {
        let dir = self.0.path().join(name);
        fs::create_dir(&dir)?;
        Ok(dir)
    }
}

/// New public keys.
pub(crate) fn new_keys(n: usize) -> Result<Vec<String>> {
    let one = |n: usize| {
        let random = SystemRandom::new();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| anyhow!("no random numbers"))?;
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|_| anyhow!("no key"))?;
        let words = [b"ssh-ed25519", pair.public_key().as_ref()];
        let blob: Vec<u8> =
            words.iter().flat_map(|word| [&(word.len() as u32).to_be_bytes()[..], word].concat()).collect();
        Ok(format!("ssh-ed25519 {} key {n}", STANDARD.encode(blob)))
    };
    (0..n).map(one).collect()
}

/// A command of bare ssh for each host, and the key that they write.
fn orders(farm: &Farm, hosts: usize, users: &[String]) -> Result<(Vec<Order>, String)> {
    let key = new_keys(1)?.remove(0);
    Ok(((0..hosts).map(|n| Order::write(farm, n, &users[0], &format!("{key}\n"))).collect(), key))
}

/// One command of bare ssh that writes all files: a tar stream into a directory beside them, then mv.
fn archive(farm: &Farm, scratch: &Scratch, users: &[String], keys: &[String]) -> Result<Order> {
    let dir = tempfile::tempdir_in(scratch.0.path())?;
    users.iter().zip(keys).try_for_each(|(user, key)| fs::write(dir.path().join(user), format!("{key}\n")))?;
    let tar = Command::new("tar").args(["-c", "-C"]).arg(dir.path()).arg(".").output()?;
    ensure!(tar.status.success(), "tar: {}", tar.status);
    let there = bare::directory(farm, 0);
    let line = format!("cd {} && mkdir .n && tar -xC .n && mv .n/* . && rmdir .n", there.display());
    Ok(Order { host: 0, line, input: tar.stdout })
}

/// That this is the one key that a user has there.
fn has(farm: &Farm, host: usize, user: &str, key: &str) -> Result<()> {
    is(&farm.key_file(host, user), key)
}

/// That a file has this key, and no other.
fn is(file: &Path, key: &str) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let material = key.split(' ').nth(1).context("a key")?;
    let one = text.contains(material) && text.matches("ssh-ed25519").count() == 1;
    ensure!(one, "{}: not the one key that was meant: {text}", file.display());
    Ok(())
}
