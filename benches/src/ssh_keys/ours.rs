//! The handler as the daemon starts it: `reactor handler ssh-keys serve`, asked on its stdin, in a clean environment.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use handler_api::{Answer, Change, Line, Params, Request, protocol};
use reactor_tests::sshd::Farm;
use serde_json::{Map, Value, json};

use super::work::{Cost, cost};

/// The group of the account system that may log in everywhere.
const GROUP: &str = "sysadmin-main";

/// The handler's site: who has which keys, the hosts, its secret.
#[derive(Debug)]
pub struct Site {
    handler: &'static str,
    dir: PathBuf,
    config: Map<String, Value>,
}

impl Site {
    /// Writes all but the truth into `dir`.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn new(dir: &Path, farm: &Farm) -> Result<Self> {
        let secrets = dir.join("secrets");
        fs::create_dir(&secrets)?;
        fs::copy(&farm.management.path, secrets.join("ssh_key"))?;
        fs::set_permissions(secrets.join("ssh_key"), fs::Permissions::from_mode(0o600))?;
        let mut hosts = Map::new();
        for (n, host) in farm.hosts.iter().enumerate() {
            let (ip, port) = (host.address.ip().to_string(), host.address.port());
            let host_words = json!({"address": ip, "port": port, "user": "root", "keys": farm.pattern(n)});
            hosts.insert(host.name.clone(), host_words);
        }
        let inventory = json!({"groups": {"all": {"hosts": hosts, "access": [GROUP]}}});
        fs::write(dir.join("hosts.yaml"), inventory.to_string())?;
        let config = [
            ("accounts", json!({"yaml": dir.join("accounts.yaml")})),
            ("hosts", json!(dir.join("hosts.yaml"))),
            ("ssh", json!({"known_hosts": farm.known_hosts(), "connect_timeout": "60s", "command_timeout": "60s"})),
        ];
        let config = config.map(|(word, value)| (word.to_owned(), value)).into_iter().collect();
        Ok(Self::of("ssh-keys", dir, config))
    }

    /// Of another handler; its secrets are in `dir/secrets`.
    pub fn of(handler: &'static str, dir: &Path, config: Map<String, Value>) -> Self {
        Self { handler, dir: dir.to_owned(), config }
    }

    /// The truth from now on: each user has one key.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn truth(&self, users: &[String], keys: &[String]) -> Result<()> {
        let people: Map<String, Value> =
            users.iter().zip(keys).map(|(user, key)| (user.clone(), json!({"keys": [key]}))).collect();
        let text = json!({"users": people, "groups": {GROUP: users}}).to_string();
        Ok(fs::write(self.dir.join("accounts.yaml"), text)?)
    }
}

/// The running handler.
#[derive(Debug)]
pub struct Handler<'a> {
    site: &'a Site,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    asked: u64,
}

/// What a change came to: plan and apply, and the plan after it, which must be empty.
#[derive(Clone, Copy, Debug)]
pub struct Changed {
    /// Plan and apply.
    pub change: Cost,
    /// Of these, the plan.
    pub plan: Cost,
    /// The plan that finds nothing to do.
    pub empty_plan: Cost,
}

impl<'a> Handler<'a> {
    /// Starts it; nothing is connected yet.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(reactor: &Path, site: &'a Site) -> Result<Self> {
        let mut command = Command::new(reactor);
        command.args(["handler", site.handler, "serve"]).current_dir(&site.dir).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", &site.dir);
        command.env("TMPDIR", &site.dir).env("REACTOR_SECRETS", site.dir.join("secrets"));
        let log = File::options().create(true).append(true).open(site.dir.join("log"))?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().context("no stdout")?);
        Ok(Self { site, child, stdin, stdout: BufReader::new(stdout), asked: 0 })
    }

    /// Makes the truth true: `n` changes. `with` are the rule's parameters. Then plans again.
    ///
    /// # Errors
    /// As [`Handler::make_true`]; and when the next plan is not empty.
    pub fn change(&mut self, farm: &Farm, with: &Value, n: usize) -> Result<Changed> {
        let (planned, plan) = cost(farm, || self.plan(with, n))?;
        let ((), apply) = cost(farm, || self.apply(with, planned))?;
        let (_, empty_plan) = cost(farm, || self.plan(with, 0))?;
        Ok(Changed { change: plan.and(apply), plan, empty_plan })
    }

    /// Plan and apply.
    ///
    /// # Errors
    /// When it is not `n` changes, or one of them is not done.
    pub fn make_true(&mut self, with: &Value, n: usize) -> Result<()> {
        let planned = self.plan(with, n)?;
        self.apply(with, planned)
    }

    fn plan(&mut self, with: &Value, n: usize) -> Result<Vec<Change>> {
        let planned = self.ask("plan", with, None)?;
        ensure!(planned.len() == n, "{} changes planned, not {n}; the first: {:?}", planned.len(), planned.first());
        Ok(planned)
    }

    fn apply(&mut self, with: &Value, planned: Vec<Change>) -> Result<()> {
        let n = planned.len();
        let done = self.ask("apply", with, Some(planned))?;
        ensure!(done.len() == n, "{} changes of {n} done", done.len());
        Ok(())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks for a plan, or to apply one; what it says is planned or done.
    ///
    /// # Errors
    /// When it fails, or leaves something for later.
    pub fn ask(&mut self, verb: &str, with: &Value, changes: Option<Vec<Change>>) -> Result<Vec<Change>> {
        self.asked += 1;
        let with: Params = serde_json::from_value(with.clone())?;
        let request = Request {
            reactor: protocol::VERSION,
            id: Some(self.asked),
            verb: Some(verb.to_owned()),
            reaction: "r1".into(),
            rule: "bench".into(),
            key: "bench".into(),
            attempt: 1,
            with,
            config: self.site.config.clone(),
            messages: Vec::new(),
            changes,
        };
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        self.stdin.as_mut().context("no stdin")?.write_all(&line)?;
        self.hear(verb)
    }

    fn hear(&mut self, verb: &str) -> Result<Vec<Change>> {
        let (mut said, mut line) = (Vec::new(), Vec::new());
        loop {
            line.clear();
            if self.stdout.read_until(b'\n', &mut line)? == 0 {
                let log = fs::read_to_string(self.site.dir.join("log")).unwrap_or_default();
                bail!("the handler ended during {verb}\n{log}");
            }
            match Answer::parse(&line).map_err(anyhow::Error::msg)?.line {
                Line::Change(change) => said.push(change),
                Line::End { code: 0 } => return Ok(said),
                Line::End { code } => bail!("{verb} ended with {code}"),
                Line::Error { message, .. } => bail!("{verb}: {message}"),
                Line::Later(later) => bail!("{verb} left something for later: {}", later.why),
                Line::Note(_) | Line::Finding(_) | Line::Describe(_) | Line::Unknown => {}
            }
        }
    }
}

impl Drop for Handler<'_> {
    fn drop(&mut self) {
        // At the end of its stdin it closes its connections and ends.
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}
