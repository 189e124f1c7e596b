//! koji-owners: package lists and owners in Koji, beside the old way: the real Python client with a call for each package.
//!
//! The hub is the stand-in of the tests (a hub is in no registry), which is as quick as Python is; so what is told is what reactor
//! itself uses: the handler process, asked over its stdin as the daemon asks it, and the curls that it starts. The client's
//! processor time is what its process says of itself, its start left out.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use reactor_tests::koji::{ADMIN, Hub, REACTOR};
use serde_json::{Map, Value, json};

use crate::Env;
use crate::process::{cpu_with_children_seconds, memory};
use crate::ssh_keys::ours::{Handler, Site};
use crate::table::Row;

const BENCH: &str = "koji-owners";
/// Changes in one go.
const CHANGES: usize = 500;
/// Single changes; the one in the middle is told.
const SINGLE: usize = 9;

/// Runs it.
///
/// # Errors
/// When something does not work at all.
pub fn run(env: &Env) -> Result<Vec<Row>> {
    let (packages, tags, old) = if env.short { (1_000, 2, 200) } else { (24_000, 10, 2_400) };
    let dir = tempfile::tempdir()?;
    let hub = Hub::start(dir.path());
    hub.user(REACTOR, &["tag"]);
    hub.user("orphan", &[]);
    let rows: Vec<Value> = (0..packages).map(|n| json!([package(n), owner(n), false, null])).collect();
    for n in 0..tags {
        hub.tag(&tag(n), None);
        hub.wish(&json!({"do": "seed", "packages": {tag(n): rows}}));
    }
    let site = site(dir.path(), &hub, tags)?;
    truth(dir.path(), packages, tags, owner)?;
    let mut handler = Handler::start(&env.programs.reactor, &site)?;

    eprintln!("  {packages} packages in {tags} tags …");
    let (same, calls) = used(&hub, &mut handler, |handler| {
        let planned = handler.ask("plan", &json!({}), None)?;
        ensure!(planned.is_empty(), "{} changes planned, not none", planned.len());
        Ok(())
    })?;
    let peak = memory(handler.pid())?.peak_mib;
    let what = |what: &str| format!("{packages} packages × {tags} tags: {what}");
    let each = |seconds: f64, n: usize| seconds * 1e6 / n as f64;
    eprintln!("  the old way, {old} packages …");
    let theirs = old_look(&hub, old)?;
    let mut found = vec![
        Row::new(BENCH, what("nothing changed: processor time"), same.cpu, "s").note(format!("{calls} calls")),
        Row::new(BENCH, what("nothing changed"), same.wall, "s").note("the hub's time in it"),
        Row::new(BENCH, what("nothing changed: processor time a row"), each(same.cpu, packages * tags), "µs")
            .beside("Python client, a call a package", each(theirs.cpu, old))
            .sane(0.0..=5.0),
        Row::new(BENCH, what("memory at most"), peak, "MiB"),
    ];

    let changes = CHANGES.min(packages / 2);
    truth(dir.path(), packages, tags, |n| if n < changes { "user299".into() } else { owner(n) })?;
    let differ = (0..changes).filter(|&n| owner(n) != "user299").count();
    let only = json!({"tags": ["t0"]});
    let (many, calls) = used(&hub, &mut handler, |handler| handler.make_true(&only, differ))?;
    let theirs = old_changes(&hub, differ)?;
    found.extend([
        Row::new(BENCH, format!("{differ} owners: processor time"), many.cpu, "s")
            .beside("Python client, a call a package", theirs.cpu)
            .note(format!("{calls} calls")),
        Row::new(BENCH, format!("{differ} owners"), many.wall, "s")
            .beside("Python client, a call a package", theirs.wall)
            .sane(0.0..=5.0),
    ]);
    found.extend(single(env, &hub, &site, dir.path(), (packages, tags))?);
    Ok(found)
}

/// One package changes hands in all tags, the handler warm.
fn single(env: &Env, hub: &Hub, site: &Site, dir: &Path, (packages, tags): (usize, usize)) -> Result<Vec<Row>> {
    let mut handler = Handler::start(&env.programs.reactor, site)?;
    let with = json!({"package": package(packages - 1)});
    let (mut walls, mut most) = (Vec::new(), 0);
    for n in 0..=SINGLE {
        truth(dir, packages, tags, |at| if at + 1 == packages { format!("user{:03}", n % 2) } else { owner(at) })?;
        let expected = if n == 0 && owner(packages - 1) == "user000" { 0 } else { tags };
        let (used, calls) = used(hub, &mut handler, |handler| handler.make_true(&with, expected))?;
        // The first logs in.
        if n > 0 {
            walls.push(used.wall);
            most = most.max(calls);
        }
    }
    walls.sort_by(f64::total_cmp);
    let began = Instant::now();
    let (old, login) =
        (package(packages - 1), format!("s.ssl_login({:?}, None, {:?})", hub.certificate(ADMIN), hub.ca()));
    let script = format!(
        "[(s.listPackages(tagID=t, pkgID='{old}', inherited=True), s.getUser('user005'), s.packageListSetOwner(t, '{old}', 'user005')) \
         for t in ['t%d' % n for n in range({tags})]]"
    );
    ensure!(hub.python_command(&login, &script).output()?.status.success(), "the real client failed");
    let theirs = began.elapsed().as_secs_f64();
    let what = format!("one package in {tags} tags changes hands, session warm, of {packages}");
    let ours = walls.get(walls.len() / 2).copied().context("no single change")? * 1e3;
    Ok(vec![
        Row::new(BENCH, what, ours, "ms")
            .beside("Python client from its start", theirs * 1e3)
            .note(format!("{most} calls; the truth is a YAML file of all packages, read anew")),
    ])
}

#[derive(Clone, Copy, Debug)]
struct Used {
    cpu: f64,
    wall: f64,
}

/// What it uses, and how many calls the hub read meanwhile.
fn used(
    hub: &Hub,
    handler: &mut Handler<'_>,
    work: impl FnOnce(&mut Handler<'_>) -> Result<()>,
) -> Result<(Used, usize)> {
    let (pid, calls) = (handler.pid(), hub.calls().len());
    let (before, began) = (cpu_with_children_seconds(pid)?, Instant::now());
    work(handler)?;
    let wall = began.elapsed().as_secs_f64();
    let cpu = cpu_with_children_seconds(pid)? - before;
    Ok((Used { cpu, wall }, hub.calls().len() - calls))
}

/// What the script of old asked in a pass without changes: the list, and each owner.
fn old_look(hub: &Hub, packages: usize) -> Result<Used> {
    timed(
        hub,
        None,
        &format!("[s.getUser(p['owner_name']) for p in s.listPackages(tagID='t1', inherited=True)[:{packages}]]"),
    )
}

/// What it did to change owners: each by itself.
fn old_changes(hub: &Hub, packages: usize) -> Result<Used> {
    let changes = format!(
        "[(s.getUser('user298'), s.packageListSetOwner('t1', 'package-%05d' % n, 'user298')) for n in range({packages})]"
    );
    timed(hub, Some(ADMIN), &changes)
}

/// An expression over the real client's session; the interpreter's start is not in it.
fn timed(hub: &Hub, user: Option<&str>, expression: &str) -> Result<Used> {
    let clocks = "__import__('time').process_time(), __import__('time').time()";
    let said = hub.ask(user, &format!("[[{clocks}], ({expression}) and [{clocks}]]"));
    let at = |when: usize, which: usize| said[when][which].as_f64().context("the real client told no time");
    Ok(Used { cpu: at(1, 0)? - at(0, 0)?, wall: at(1, 1)? - at(0, 1)? })
}

fn site(dir: &Path, hub: &Hub, tags: usize) -> Result<Site> {
    let secrets = dir.join("secrets");
    fs::create_dir(&secrets)?;
    fs::copy(hub.certificate(REACTOR), secrets.join("koji"))?;
    fs::set_permissions(secrets.join("koji"), fs::Permissions::from_mode(0o600))?;
    let of_branches: Map<String, Value> = (0..tags).map(|n| (branch(n), tag(n).into())).collect();
    let config = json!({
        "hub": hub.url(), "ca": hub.ca(), "timeout": "5m", "login": {"certificate": "koji"},
        "packages": {"yaml": dir.join("packages.yaml")}, "tags": of_branches,
    });
    Ok(Site::of("koji-owners", dir, config.as_object().cloned().unwrap_or_default()))
}

/// The truth from now on.
fn truth(dir: &Path, packages: usize, tags: usize, owner: impl Fn(usize) -> String) -> Result<()> {
    let branches: Vec<String> = (0..tags).map(branch).collect();
    let all: Map<String, Value> =
        (0..packages).map(|n| (package(n), json!({"owner": owner(n), "branches": branches}))).collect();
    Ok(fs::write(dir.join("packages.yaml"), json!({"packages": all}).to_string())?)
}

fn package(n: usize) -> String {
    format!("package-{n:05}")
}

fn owner(n: usize) -> String {
    format!("user{:03}", n % 300)
}

fn tag(n: usize) -> String {
    format!("t{n}")
}

fn branch(n: usize) -> String {
    format!("b{n}")
}
