//! gitolite: how soon a change of access counts at 20,000 repositories, in each of the ways that gitolite has.
//!
//! Debian's gitolite3 behind a real sshd on loopback, with real pushes (`tests/src/gitolite.rs`); both ends share this
//! machine's cores. A change costs from the start of `git push` until it returns: what was pushed counts then. Processor
//! seconds are those of both ends.

mod admin;
mod conf;
mod keys;
pub mod ours;
mod site;
mod truth;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::Env;
use crate::ssh_keys::work::{Cost, median};
use crate::table::{Row, percentile};
use admin::Admin;
use conf::{File, WHO, Way, group_file, index_file, list, repo, rules_file, section};
use site::{Rc, Server};

const BENCH: &str = "gitolite";
/// Times that something short is done.
const TIMES: usize = 20;
/// Times that gitolite compiles all of it.
const COMPILES: usize = 3;
/// A push that compiles nothing must be this many times quicker than one that compiles 20,000 repositories, at least.
const COMPILE_TIMES: f64 = 5.0;

/// Asks as a site might whose rules name a pattern and one list: whether the user is in the list of the repository that
/// gitolite was asked for.
const BY_REPOSITORY: &str = "#!/bin/sh\nword=$(printf %s \"${GL_REPO-}\" | tr / @)\n\"${0%/*}/reactor-groups\" \"$1\" | awk -v word=\"@$word\" \
                             '{ at = index($0, \"@\") } at == 0 { print } at && substr($0, at) == word { print substr($0, 1, at - 1) }'\n";

/// Runs the ways, without the handler.
///
/// # Errors
/// When something does not work at all.
pub fn run_ways(env: &Env) -> Result<Vec<Row>> {
    if !there_is_gitolite()? {
        return Ok(Vec::new());
    }
    let mut rows = ways(env)?;
    rows.extend(keys::run(env)?);
    Ok(rows)
}

/// Whether it can be run here.
fn there_is_gitolite() -> Result<bool> {
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/gitolite").exists() {
        eprintln!("  left out: it needs root and gitolite3 (scripts/install-test-deps)");
        return Ok(false);
    }
    // What leaves its parent becomes ours, so that its processor time is counted: what sshd started, when the client is gone.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(true)
}

/// A site of many repositories, and what is pushed there.
struct Bench<'a> {
    env: &'a Env,
    gitolite: Server,
    admin: Admin,
    repos: usize,
}

fn ways(env: &Env) -> Result<Vec<Row>> {
    let repos = env.size(20_000, 20);
    eprintln!("  {repos} repositories …");
    let gitolite = site::start(repos, false)?;
    let admin = Admin::new(&gitolite)?;
    let mut bench = Bench { env, gitolite, admin, repos };
    let compiled = bench.compiled()?;
    let asked = bench.asked()?;
    let pattern = bench.pattern()?;
    let wild = bench.wild()?;
    Ok(rows(&bench, &compiled, &asked, pattern, wild))
}

/// What was measured where all of it is compiled.
struct Compiled {
    changes: Vec<(&'static str, Vec<Cost>)>,
    pushes: Vec<Cost>,
    access: Vec<Cost>,
}

/// What was measured where membership is asked for.
struct Asked {
    cold: Vec<Cost>,
    warm: Vec<Cost>,
    rules: Vec<Cost>,
    effective: Vec<Cost>,
    pushes: Vec<Cost>,
    access: Vec<(usize, Vec<Cost>)>,
}

impl Bench<'_> {
    fn rc(&self, asks: Option<&'static str>, default_triggers: bool) -> Result<()> {
        site::write_rc(&self.gitolite, Rc { asks, default_triggers })
    }

    /// All of `master` in another way, and the branch compiled.
    fn lay_out(&mut self, way: Way) -> Result<()> {
        eprintln!("  {way:?} …");
        self.admin.commit("master", &["conf"], &conf::site(self.repos, way))?;
        self.admin.push("master").map(drop)
    }

    /// The same change again and again: what `file` makes of the number of the time.
    fn change(&mut self, branch: &str, times: usize, file: impl Fn(usize) -> File) -> Result<Vec<Cost>> {
        let once = |n| {
            self.admin.commit(branch, &[], &[file(n)])?;
            self.admin.push(branch)
        };
        (0..times).map(once).collect()
    }

    /// What a compile costs, however the rules are cut; and an access check.
    fn compiled(&mut self) -> Result<Compiled> {
        let times = self.env.size(COMPILES, 1);
        self.rc(None, false)?;
        self.lay_out(Way::Flat)?;
        let mut whole = conf::site(self.repos, Way::Flat);
        let (path, text) = whole.pop().unwrap_or_default();
        let flat =
            self.change("master", times, |n| (path.clone(), text.replacen("f41$ = ", &format!("f41$ = new{n} "), 1)))?;
        self.lay_out(Way::Files)?;
        let files = self.change("master", times, |n| (rules_file(n), section(n, Way::Files, &format!(" new{n}"))))?;
        let group = self.change("master", times, |n| group_file(1, &[format!("new{n}")]))?;
        let (access, pushes) = (self.access(WHO[0].0)?, self.pushes("rawhide")?);
        self.rc(None, true)?;
        eprintln!("  default triggers …");
        let triggers = self.change("master", 1, |n| group_file(2, &[format!("new{n}")]))?;
        let changes = vec![
            ("one flat file, compiled", flat),
            ("a file for each repository, compiled", files),
            ("a group's file, compiled", group),
            ("a group's file, compiled, gitolite's default triggers", triggers),
        ];
        Ok(Compiled { changes, pushes, access })
    }

    fn asked(&mut self) -> Result<Asked> {
        self.rc(Some("reactor-groups"), false)?;
        self.lay_out(Way::Asked)?;
        self.admin.commit("members", &[], &conf::members_branch(self.repos))?;
        self.admin.push("members")?;
        let (times, compiles) = (self.env.size(TIMES, 3), self.env.size(COMPILES, 1));
        let change = |n| index_file("bob", &[list(n)]);
        let cold = self.change("members", times, change)?;
        self.admin.keep_connection(true)?;
        let warm = self.change("members", times + 1, change)?;
        self.admin.keep_connection(false)?;
        let effective = self.effective(times)?;
        let rules = self.change("master", compiles, |n| (rules_file(n), section(n, Way::Asked, " new")))?;
        let access = WHO.iter().map(|(who, lists)| Ok((*lists.min(&self.repos), self.access(who)?)));
        let access = access.collect::<Result<_>>()?;
        let pushes = self.pushes("rawhide")?;
        Ok(Asked { cold, warm: warm[1..].to_vec(), rules, effective, pushes, access })
    }

    /// alice is let in, and is in with her next push; then she is not any more.
    fn effective(&mut self, times: usize) -> Result<Vec<Cost>> {
        let once = |n: usize| {
            let may = n.is_multiple_of(2);
            self.admin.commit("members", &[], &[index_file("alice", &[list(usize::from(!may))])])?;
            let (told, cost) = self.admin.cost(|| {
                self.admin.push("members")?;
                Ok(self.gitolite.push_as("alice", &repo(0), "alice"))
            })?;
            ensure!(told.is_ok() == may, "alice: {told:?}");
            Ok(cost)
        };
        (0..times).map(once).collect()
    }

    /// Real pushes of somebody in thousands of lists.
    fn pushes(&self, branch: &str) -> Result<Vec<Cost>> {
        let once = |_| {
            let (told, cost) = self.admin.cost(|| Ok(self.gitolite.push_as(WHO[2].0, &repo(0), branch)))?;
            told.map_err(anyhow::Error::msg)?;
            Ok(cost)
        };
        (0..self.env.size(TIMES, 3)).map(once).collect()
    }

    fn access(&self, who: &str) -> Result<Vec<Cost>> {
        let words = ["gitolite", "access", "-q", &repo(0), who, "R", "any"];
        let once = |_| {
            let (said, cost) = self.admin.cost(|| Ok(self.gitolite.as_git(&words)))?;
            ensure!(said.status.success(), "{words:?}: {}", String::from_utf8_lossy(&said.stderr));
            Ok(cost)
        };
        (0..self.env.size(TIMES, 3)).map(once).collect()
    }

    /// One section for all repositories, whoever is in a repository's list: gitolite compiles it in no time.
    fn pattern(&mut self) -> Result<Vec<Cost>> {
        let program = site::libexec(&self.gitolite).join("by-repository");
        fs::write(&program, BY_REPOSITORY)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        self.rc(Some("by-repository"), false)?;
        self.lay_out(Way::Pattern)?;
        ensure!(self.gitolite.push_as(WHO[0].0, &repo(0), "f41").is_ok(), "the pattern lets nobody in");
        ensure!(self.gitolite.push_as(WHO[0].0, &repo(1), "f41").is_err(), "the pattern lets everybody in");
        let (path, text) = conf::site(self.repos, Way::Pattern).pop().unwrap_or_default();
        self.change("master", self.env.size(COMPILES, 1), |n| (path.clone(), format!("{text}# {n}\n")))
    }

    /// A role of a wild repository, changed by its creator's `perms`.
    fn wild(&self) -> Result<Vec<Cost>> {
        let ssh = |what: &str| {
            let mut ssh = std::process::Command::new("ssh");
            ssh.arg("-F").arg(self.gitolite.dir.join("ssh_config")).args(["-n", "as-admin", what]);
            let (output, cost) = self.admin.cost(|| Ok(ssh.output()?))?;
            ensure!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
            anyhow::Ok(cost)
        };
        let made = self.gitolite.push_as("admin", "wild/foo", "rawhide").err().unwrap_or_default();
        ensure!(made.is_empty() || made.contains("DENIED"), "no wild repository: {made}");
        (0..self.env.size(TIMES, 3))
            .map(|n| ssh(&format!("perms wild/foo {} WRITERS alice", ["+", "-"][n % 2])))
            .collect()
    }
}

fn rows(bench: &Bench<'_>, compiled: &Compiled, asked: &Asked, pattern: Vec<Cost>, wild: Vec<Cost>) -> Vec<Row> {
    let what = |what: &str| format!("{} repositories: {what}", bench.repos);
    let quicker = if bench.env.short { 0.0..=10.0 } else { 0.0..=1.0 / COMPILE_TIMES };
    let list = what("a list or group changed, pushed to `members`");
    let wall = |costs: &[Cost]| median(costs.to_vec()).wall;
    let beside = |(name, costs): &(&str, Vec<Cost>)| {
        let note = format!("processor time {:.2} s beside {:.2} s", cpu(&asked.cold), cpu(costs));
        row(list.clone(), &asked.cold).beside(*name, wall(costs)).note(note).sane(quicker.clone())
    };
    let mut rows: Vec<Row> = compiled.changes.iter().map(beside).collect();
    rows.extend([
        row(list.clone(), &asked.cold).beside("a wild repository's `perms`, by ssh", wall(&wild)),
        row(what("the same over a connection that is there (ControlPersist)"), &asked.warm)
            .beside("a connection for each push", wall(&asked.cold)),
        row(what("the same until somebody's next push has been taken or refused"), &asked.effective),
        row(what("the rules of a repository changed, compiled"), &asked.rules)
            .beside("one section for all, by a pattern, compiled", wall(&pattern)),
        row(what("a push of somebody in thousands of lists, asked"), &asked.pushes)
            .beside("nobody asked", wall(&compiled.pushes)),
    ]);
    rows.extend(asked.access.iter().map(|(lists, costs)| {
        row(what(&format!("an access check of somebody in {lists} lists, asked")), costs)
            .beside("nobody asked", wall(&compiled.access))
    }));
    rows
}

/// The median, with the 90th percentile and the processor time in its note.
fn row(what: String, costs: &[Cost]) -> Row {
    let mut walls: Vec<f64> = costs.iter().map(|cost| cost.wall).collect();
    let p90 = percentile(&mut walls, 0.9);
    let note = format!("median of {}, p90 {p90:.2} s; processor time {:.2} s", costs.len(), cpu(costs));
    Row::new(BENCH, what, median(costs.to_vec()).wall, "s").note(note)
}

/// Processor seconds of both ends: the mean, since the kernel counts in ticks of 10 ms.
fn cpu(costs: &[Cost]) -> f64 {
    costs.iter().map(|cost| cost.cpu()).sum::<f64>() / costs.len().max(1) as f64
}
