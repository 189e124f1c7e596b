//! The handler at 20,000 repositories with `membership: asked`: from the signed message until the next access is another one,
//! through the daemon; and what a plan costs, in time and memory, beside a site of 1,000.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use handler_api::Change;
use jiff::Timestamp;
use reactor::trust::demo_pki::DEMO_SIGNER;
use reactor::trust::sign::{Outgoing, Signer};
use reactor_tests::gitolite::{Gitolite, REACTOR};
use serde_json::{Map, Value, json};

use super::conf::{list, repo};
use super::site::{self, Rc, Server};
use super::truth::Truth;
use super::{BENCH, COMPILES, TIMES};
use crate::Env;
use crate::daemon::Daemon;
use crate::load::Pki;
use crate::process::memory;
use crate::publisher::Publisher;
use crate::ssh_keys::ours::{Handler, Site};
use crate::table::{Row, percentile};

/// How long anything may take, in seconds: all of 20,000 repositories compiled on a machine with much to do.
const SECONDS_MAX: u64 = 300;
/// Reactions at the same time, where the site says so: as many as the daemon has for all handlers.
const AT_ONCE: usize = 16;
/// Messages in a burst.
const BURST: usize = 100;
const ADDED: &str = "org.fedoraproject.prod.pagure.project.user.added";
const REMOVED: &str = "org.fedoraproject.prod.pagure.project.user.removed";
const EDITED: &str = "org.fedoraproject.prod.pagure.project.edit";
const SPONSORED: &str = "org.fedoraproject.prod.fas.group.member.sponsor";
const LEFT: &str = "org.fedoraproject.prod.fas.group.member.remove";

/// Runs it.
///
/// # Errors
/// When something does not work at all.
pub fn run(env: &Env) -> Result<Vec<Row>> {
    if !super::there_is_gitolite()? {
        return Ok(Vec::new());
    }
    let (small, large) = (env.size(1_000, 10), env.size(20_000, 20));
    let beside = Place::new(small)?.costs(env)?;
    let mut place = Place::new(large)?;
    let costs = place.costs(env)?;
    let mut rows = costs.rows(large, small, &beside);
    rows.extend(place.through_the_daemon(env)?);
    Ok(rows)
}

/// A gitolite, its truth, and the handler's block.
struct Place {
    repos: usize,
    gitolite: Server,
    truth: Truth,
    dir: PathBuf,
    config: Map<String, Value>,
}

/// What the handler costs, asked over its stdin as the daemon asks it: seconds and MiB.
struct Costs {
    fill: f64,
    cold: f64,
    plan: f64,
    change: f64,
    resident: f64,
    reconcile: f64,
    reconcile_peak: f64,
}

impl Place {
    fn new(repos: usize) -> Result<Self> {
        eprintln!("  the handler at {repos} repositories …");
        let gitolite = site::start(repos, false)?;
        site::write_rc(&gitolite, Rc { asks: Some("reactor-groups"), default_triggers: false })?;
        let dir = gitolite.dir.join("reactor");
        fs::create_dir_all(dir.join("secrets"))?;
        fs::copy(&gitolite.keys[REACTOR].path, dir.join("secrets/ssh_key"))?;
        let truth = Truth::new(dir.join("truth"), repos)?;
        let [repos_of, accounts_of] = truth.programs();
        let config = json!({
            "admin": gitolite.url(), "ssh": {"known_hosts": gitolite.known_hosts()}, "membership": "asked",
            "repos": {"command": [repos_of]}, "accounts": {"command": [accounts_of]}, "groups": ["provenpackager"],
        });
        let config = config.as_object().cloned().context("a block")?;
        Ok(Self { repos, gitolite, truth, dir, config })
    }

    fn costs(&mut self, env: &Env) -> Result<Costs> {
        let site = Site::of("gitolite", &self.dir, self.config.clone());
        let everything = json!({});
        let began = Instant::now();
        let mut handler = Handler::start(&env.programs.reactor, &site)?;
        make_true(&mut handler, &everything)?;
        let fill = began.elapsed().as_secs_f64();
        ensure!(self.gitolite.access(&repo(0), "one", "W", "refs/heads/rawhide"), "the first reconcile lets nobody in");
        drop(handler);

        let with = json!({ "repo": repo(7) });
        let (mut handler, cold) = timed(|| {
            let mut handler = Handler::start(&env.programs.reactor, &site)?;
            handler.ask("plan", &with, None)?;
            Ok(handler)
        })?;
        let (mut plans, mut changes) = (Vec::new(), Vec::new());
        for n in 0..env.size(TIMES, 4) {
            self.truth.commit(&repo(7), "alice", n.is_multiple_of(2))?;
            let (planned, plan) = timed(|| handler.ask("plan", &with, None))?;
            ensure!(!planned.is_empty(), "nothing planned for {with}");
            let (_, apply) = timed(|| handler.ask("apply", &with, Some(planned)))?;
            plans.push(plan);
            changes.push(plan + apply);
        }
        let resident = memory(handler.pid())?.peak_mib;
        self.truth.write_all()?;
        let (found, reconcile) = timed(|| handler.ask("plan", &everything, None))?;
        ensure!(found.is_empty(), "reconcile finds {found:?}");
        let reconcile_peak = memory(handler.pid())?.peak_mib;
        let [plan, change] = [plans, changes].map(|mut all| percentile(&mut all, 0.5));
        Ok(Costs { fill, cold, plan, change, resident, reconcile, reconcile_peak })
    }
}

impl Costs {
    fn rows(&self, repos: usize, small: usize, beside: &Self) -> Vec<Row> {
        let row = |what: &str, ours: f64, theirs: f64, unit| {
            Row::new(BENCH, format!("{repos} repositories: {what}"), ours, unit)
                .beside(format!("the same at {small}"), theirs)
        };
        vec![
            row("the plan of one changed list", self.plan, beside.plan, "s"),
            row("plan and apply of one changed list", self.change, beside.change, "s"),
            row("the handler's memory at most, until then", self.resident, beside.resident, "MiB"),
            row("the first plan of a handler that was just started", self.cold, beside.cold, "s"),
            row("reconcile that finds nothing to do", self.reconcile, beside.reconcile, "s"),
            row("the handler's memory at most, reconcile in it", self.reconcile_peak, beside.reconcile_peak, "MiB"),
            row("the first reconcile, from nothing, compiled", self.fill, beside.fill, "s"),
        ]
    }
}

/// Plan and apply.
fn make_true(handler: &mut Handler<'_>, with: &Value) -> Result<Vec<Change>> {
    let planned = handler.ask("plan", with, None)?;
    ensure!(!planned.is_empty(), "nothing planned for {with}");
    handler.ask("apply", with, Some(planned))
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let began = Instant::now();
    let result = work()?;
    Ok((result, began.elapsed().as_secs_f64()))
}

/// A daemon on such a place, and its bus.
struct Bus<'a> {
    gitolite: &'a Gitolite,
    publisher: Publisher,
    signer: Signer,
    daemon: Daemon,
    sent: u64,
}

impl Place {
    fn through_the_daemon(&mut self, env: &Env) -> Result<Vec<Row>> {
        let pki = Pki::new()?;
        let publisher = Publisher::bind()?;
        let daemon = Daemon::start(&env.programs.reactor, &self.rules(&publisher.address, &pki, None))?;
        publisher.wait_for_subscriber()?;
        let mut bus = Bus { gitolite: &self.gitolite, publisher, signer: pki.signer()?, daemon, sent: 0 };
        let (times, compiles) = (env.size(TIMES, 4), env.size(COMPILES, 1));
        let what = |what: &str| format!("{} repositories: {what}", self.repos);

        // The first makes its copy of the admin repository.
        let (mut members, mut packages, mut rules) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..=times {
            let is = n.is_multiple_of(2);
            self.truth.member("sig05", "alice", is)?;
            let msg = json!({"agent": "bench", "user": "alice", "group": "sig05"});
            let took = bus.until_other_members(if is { SPONSORED } else { LEFT }, &msg)?;
            bus.may_push(&repo(5), is)?;
            members.push(took);
        }
        let first = members.remove(0);
        self.truth.member("sig05", "alice", false)?;
        for n in 0..times {
            let is = n.is_multiple_of(2);
            self.truth.commit(&repo(7), "alice", is)?;
            let msg = project(&repo(7), if is { "new_user" } else { "removed_user" });
            packages.push(bus.until_other_members(if is { ADDED } else { REMOVED }, &msg)?);
            bus.may_push(&repo(7), is)?;
        }
        for n in 1..=compiles {
            self.truth.branch(&repo(n), true)?;
            rules.push(bus.until_compiled(EDITED, &repo(n), "f43")?);
            bus.until_quiet()?;
        }
        let mut rows = vec![
            row(what("publish → a group's membership counts"), &mut members),
            row(what("publish → who may commit to a package counts"), &mut packages),
            row(what("publish → a new branch's rules are compiled"), &mut rules),
            Row::new(BENCH, what("publish → membership, the first after the start"), first, "s"),
        ];
        let many = env.size(BURST, 10);
        let burst = format!("{} repositories: {many} packages at once, until all counts", self.repos);
        let (took, note) = bus.burst(&mut self.truth, many, self.repos, true)?;
        drop(bus);

        let publisher = Publisher::bind()?;
        let daemon = Daemon::start(&env.programs.reactor, &self.rules(&publisher.address, &pki, Some(AT_ONCE)))?;
        publisher.wait_for_subscriber()?;
        let mut bus = Bus { gitolite: &self.gitolite, publisher, signer: pki.signer()?, daemon, sent: 0 };
        bus.until_other_members(LEFT, &json!({"agent": "bench", "user": "alice", "group": "sig05"}))?;
        let (took_16, note_16) = bus.burst(&mut self.truth, many, self.repos, false)?;
        let (burst, beside) = (Row::new(BENCH, burst, took, "s"), format!("`at_once: {AT_ONCE}`"));
        rows.push(burst.beside(beside, took_16).note(format!("{note}; beside it {note_16}")));
        Ok(rows)
    }

    fn rules(&self, address: &str, pki: &Pki, at_once: Option<usize>) -> String {
        let mut handler = self.config.clone();
        handler.insert("use".into(), "gitolite".into());
        if let Some(at_once) = at_once {
            handler.insert("at_once".into(), at_once.into());
        }
        let key = self.dir.join("secrets/ssh_key");
        handler.insert("secrets".into(), json!({"ssh_key": {"file": key, "plan": true}}));
        let dir = pki.dir();
        let trust = json!({
            "x509": {"ca": dir.join("ca.crt"), "crl": dir.join("crl.pem")},
            "policy": {"org.fedoraproject.prod.**": [DEMO_SIGNER]},
        });
        let name = "{{msg.project.fullname}}";
        json!({
            "version": 1,
            "bus": {"bench": {"fedmsg": [address], "topics": ["org.fedoraproject.prod"], "trust": trust}},
            "handlers": {"git": handler},
            "defaults": {"timeout": "5m", "guard": {"changes": 2000, "deletes": 500}},
            "rules": [
                {"name": "project", "on": [ADDED, REMOVED, EDITED], "key": name,
                 "coalesce": {"quiet": "300ms", "at_most": "3s"}, "do": "git", "with": {"repo": name}},
                {"name": "member", "on": [SPONSORED, LEFT], "key": "{{msg.user}}", "do": "git",
                 "with": {"group": "{{msg.group}}", "user": "{{msg.user}}"}},
            ],
        })
        .to_string()
    }
}

/// As pagure says it.
fn project(name: &str, who: &str) -> Value {
    let (namespace, short) = name.split_once('/').unwrap_or(("", name));
    json!({"agent": "bench", who: "alice", "project": {"name": short, "namespace": namespace, "fullname": name}})
}

impl Bus<'_> {
    fn body(&mut self, topic: &str, msg: &Value) -> Result<Vec<u8>> {
        self.sent += 1;
        let msg_id = format!("2026-{:08x}-0ed6-4621-a5f2-5dddfa14d792", self.sent);
        let timestamp_s = Timestamp::now().as_second();
        let out = Outgoing { topic, msg, i: self.sent, msg_id: &msg_id, timestamp_s, username: "bench" };
        self.signer.envelope(&out).map_err(anyhow::Error::msg)
    }

    fn say(&mut self, topic: &str, msg: &Value) -> Result<Instant> {
        let body = self.body(topic, msg)?;
        let began = Instant::now();
        self.publisher.burst(topic, &[body], 1)?;
        Ok(began)
    }

    /// Seconds until the branch `members` is another one: the next access reads it.
    fn until_other_members(&mut self, topic: &str, msg: &Value) -> Result<f64> {
        let file = self.gitolite.repository("gitolite-admin").join("refs/heads/members");
        let before = fs::read(&file)?;
        let began = self.say(topic, msg)?;
        self.until(topic, began, Duration::from_millis(2), || fs::read(&file).is_ok_and(|now| now != before))
    }

    /// Seconds until gitolite has compiled a repository with this word in its rules.
    fn until_compiled(&mut self, topic: &str, name: &str, word: &str) -> Result<f64> {
        let file = self.gitolite.repository(name).join("gl-conf");
        let began = self.say(topic, &project(name, "edited"))?;
        let there = || fs::read_to_string(&file).is_ok_and(|text| text.contains(word));
        self.until(topic, began, Duration::from_millis(20), there)
    }

    /// Waits until gitolite has compiled everything else too, and the handler knows: the next would wait for that.
    fn until_quiet(&self) -> Result<f64> {
        let refs = self.gitolite.repository("gitolite-admin").join("refs");
        let same = || fs::read(refs.join("heads/master")).ok() == fs::read(refs.join("reactor/compiled")).ok();
        self.until("the mark of a compile", Instant::now(), Duration::from_millis(20), same)
    }

    fn until(&self, what: &str, began: Instant, look: Duration, done: impl Fn() -> bool) -> Result<f64> {
        while !done() {
            ensure!(
                began.elapsed().as_secs() < SECONDS_MAX,
                "{what}: not within {SECONDS_MAX} s\n{:#}\n{}",
                self.daemon.journal()?,
                self.daemon.log()
            );
            std::thread::sleep(look);
        }
        Ok(began.elapsed().as_secs_f64())
    }

    /// A real push of alice's is taken, or refused.
    fn may_push(&self, name: &str, may: bool) -> Result<()> {
        let told = self.gitolite.push_as("alice", name, "alice");
        let denied = told.as_ref().is_err_and(|told| told.contains("DENIED by"));
        ensure!(if may { told.is_ok() } else { denied }, "alice to {name}: {told:?}");
        Ok(())
    }

    /// Many packages at once: until all of it counts, and how many pushes that were.
    fn burst(&mut self, truth: &mut Truth, many: usize, repos: usize, may: bool) -> Result<(f64, String)> {
        let (names, lists): (Vec<_>, Vec<_>) = (repos - many..repos).map(|n| (repo(n), list(n))).unzip();
        names.iter().try_for_each(|name| truth.commit(name, "alice", may))?;
        let (topic, who) = if may { (ADDED, "new_user") } else { (REMOVED, "removed_user") };
        let bodies = names.iter().map(|name| self.body(topic, &project(name, who)));
        let bodies = bodies.collect::<Result<Vec<_>>>()?;
        let (commits, pushes) = (self.gitolite.admin_log("members").len(), self.pushes()?);
        let began = Instant::now();
        self.publisher.burst(topic, &bodies, many)?;
        let all = || {
            let inside = self.gitolite.admin_file("members", "in/al/alice").unwrap_or_default();
            lists.iter().all(|list| inside.lines().any(|line| line == list) == may)
        };
        let took = self.until("a burst", began, Duration::from_millis(50), all)?;
        let commits = self.gitolite.admin_log("members").len() - commits;
        let pushes = self.pushes()? - pushes;
        self.may_push(&names[many - 1], may)?;
        Ok((took, format!("{pushes} pushes, {commits} commits")))
    }

    /// Pushes to `members` that gitolite took so far, as its log has them.
    fn pushes(&self) -> Result<usize> {
        let logs = fs::read_dir(self.gitolite.home().join(".gitolite/logs"))?;
        let count = |log: std::io::Result<fs::DirEntry>| -> Result<usize> {
            let text = fs::read_to_string(log?.path())?;
            let is_push =
                |line: &&str| line.contains("\tupdate\tgitolite-admin\t") && line.contains("refs/heads/members");
            Ok(text.lines().filter(is_push).count())
        };
        logs.map(count).sum()
    }
}

fn row(what: String, seconds: &mut [f64]) -> Row {
    let (p90, max) = (percentile(seconds, 0.9), percentile(seconds, 1.0));
    let note = format!("median of {}, p90 {p90:.2} s, max {max:.2} s", seconds.len());
    Row::new(BENCH, what, percentile(seconds, 0.5), "s").note(note)
}
