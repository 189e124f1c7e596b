//! A Koji hub of the test's own: a stand-in (`tests/peers/koji_hub.py` says why, and what it speaks), and the real `koji` client
//! from PyPI for a look from outside.
//!
//! Users prove who they are with certificates of the test's own CA, or over Kerberos. What was committed, and the list of all HTTP
//! calls, outlive a kill.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kdc::Kdc;
use crate::process::{Child, command};
use crate::tls::{Ca, DAYS};
use crate::{free_port, peers, test_deps, wait_until};

/// Has the permission `admin`, and a certificate.
pub const ADMIN: &str = "kojiadmin";
/// The user of the daemon under test: has a certificate, and no permission before [`Hub::user`] gives it one.
pub const REACTOR: &str = "reactor";
/// Has a certificate and nothing else.
pub const PLAIN: &str = "plainuser";
/// The principal of the service; a [`Kdc`] for it needs this one, and those of the users.
pub const PRINCIPAL: &str = "HTTP/localhost";
/// Another certificate of [`REACTOR`]'s, which ends within [`EXPIRING_DAYS`].
pub const EXPIRING: &str = "expiring";
/// And one that ended yesterday.
pub const EXPIRED: &str = "expired";
/// How long [`EXPIRING`] is still good, in days.
pub const EXPIRING_DAYS: u32 = 3;

/// Longest start, and longest wait for an answer to a wish. Seeding 240,000 rows takes seconds.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// The environment with python3-gssapi.
const PYTHON: &str = "/usr/bin/python3";
const HINT: &str = "hint: run scripts/install-test-deps";

/// A running hub.
#[derive(Debug)]
pub struct Hub {
    dir: PathBuf,
    port: u16,
    env: Vec<(String, PathBuf)>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

/// A row of a tag's own list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The owner's name.
    pub owner: String,
    /// Whether builds are refused.
    pub blocked: bool,
    /// Parted by spaces.
    pub extra_arches: Option<String>,
}

/// One HTTP call that the hub read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who, in a session that is good.
    pub user: Option<String>,
    /// Such as `multiCall`.
    pub method: String,
    /// The call, or the elements of a `multiCall`: `METHOD ARGUMENT…`, as JSON where an argument is no text.
    pub elements: Vec<String>,
    /// Whether each element failed, if the call was a `multiCall` that did not fail as a whole.
    pub faults: Vec<bool>,
    /// The number in its headers.
    pub callnum: Option<i64>,
    /// `CODE: TEXT`, when all of it failed.
    pub fault: Option<String>,
    /// The trouble that it met, if it was one that keeps the answer back.
    pub trouble: Option<String>,
}

impl Call {
    fn read(line: &str) -> Self {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        let words = |method: &Value, params: &Value| {
            let words = params.as_array().into_iter().flatten().map(|word| match word {
                Value::String(word) => word.clone(),
                other => other.to_string(),
            });
            [method.as_str().unwrap_or_default().to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
        };
        let method = text("method").unwrap_or_default();
        let elements = if method == "multiCall" {
            let calls = value["params"][0].as_array().into_iter().flatten();
            calls.map(|call| words(&call["methodName"], &call["params"])).collect()
        } else {
            vec![words(&value["method"], &value["params"])]
        };
        let faults = value["faults"].as_array().into_iter().flatten().filter_map(Value::as_bool).collect();
        let (user, fault, trouble) = (text("user"), text("fault"), text("trouble"));
        Self { user, method, elements, faults, callnum: value["callnum"].as_i64(), fault, trouble }
    }

    /// Its elements that write a package list.
    pub fn writes(&self) -> impl Iterator<Item = &str> {
        self.elements.iter().map(String::as_str).filter(|element| element.starts_with("packageList"))
    }
}

impl Hub {
    /// Starts one below `dir`, where users log in with certificates.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, Vec::new())
    }

    /// Starts one below `dir`, where users log in with certificates or over Kerberos.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn with_kerberos(dir: &Path, kdc: &Kdc) -> Self {
        let mut env = kdc.env();
        env.push(("KRB5_KTNAME".to_owned(), kdc.keytab(PRINCIPAL)));
        Self::start_with(dir, env)
    }

    fn start_with(dir: &Path, env: Vec<(String, PathBuf)>) -> Self {
        let dir = dir.join("koji");
        std::fs::create_dir(&dir).expect("a directory for the hub");
        certificates(&dir.join("pki"));
        let me = Self { dir, port: free_port(), env, running: Mutex::new(None) };
        let config = format!("[koji]\nserver = {}\nserverca = {}\n", me.url(), me.ca().display());
        std::fs::write(me.dir.join("koji.conf"), config).expect("the client's configuration");
        me.resume();
        me.user(ADMIN, &["admin"]);
        me
    }

    /// Starts it again, on the same port, with what was committed.
    ///
    /// # Panics
    /// When it does not start, or runs already.
    pub fn resume(&self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).expect("its log");
        let mut python = command(PYTHON);
        python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/koji_hub.py"));
        python.arg(self.port.to_string()).arg(&self.dir);
        python.envs(self.env.clone()).env("PYTHONDONTWRITEBYTECODE", "1");
        let mut child = Child::start(python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log));
        let stdin = child.inner.stdin.take().expect("its stdin");
        let lines = peers::lines(child.inner.stdout.take().expect("its stdout"));
        let first = lines.recv_timeout(ANSWER_MAX);
        assert_eq!(first.as_deref(), Ok("ready"), "the hub does not start: {}", self.log());
        let before = self.running.lock().expect("the hub").replace(Running { child, stdin, lines });
        assert!(before.is_none(), "it runs already");
    }

    /// SIGKILL: what is not committed is lost, and nobody gets an answer.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill_9(&self) {
        self.running.lock().expect("the hub").take().expect("a hub that runs").child.kill_9();
    }

    /// Where it answers.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}/kojihub", self.port)
    }

    /// The CA of its certificate, and of the users'.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.dir.join("pki/ca.crt")
    }

    /// The private key and then the certificate of [`ADMIN`], [`REACTOR`] or [`PLAIN`], or [`EXPIRING`] or [`EXPIRED`]: one file.
    #[must_use]
    pub fn certificate(&self, user: &str) -> PathBuf {
        self.dir.join("pki").join(format!("{user}.pem"))
    }

    /// What it said on stderr.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Tells it a wish; `koji_hub.py` says which there are. Returns the answer.
    ///
    /// # Panics
    /// When it does not run, or does not do it.
    pub fn wish(&self, wish: &Value) -> Value {
        let mut running = self.running.lock().expect("the hub");
        let running = running.as_mut().expect("a hub that runs");
        writeln!(running.stdin, "{wish}").and_then(|()| running.stdin.flush()).expect("it reads its stdin");
        let line = running.lines.recv_timeout(ANSWER_MAX);
        let line = line.unwrap_or_else(|error| panic!("the hub does not {wish:.200}: {error}: {}", self.log()));
        serde_json::from_str(&line).expect("JSON")
    }

    /// And this user, with these permissions beside those it has.
    pub fn user(&self, name: &str, permissions: &[&str]) {
        self.wish(&json!({"do": "seed", "users": {name: permissions}}));
    }

    /// And this tag, which inherits from `parent`.
    pub fn tag(&self, name: &str, parent: Option<&str>) {
        self.wish(&json!({"do": "seed", "tags": [[name, parent]]}));
    }

    /// And these packages in a tag: name and owner. Who is no user yet becomes one.
    pub fn packages(&self, tag: &str, packages: &[(&str, &str)]) {
        let rows: Vec<Value> = packages.iter().map(|(name, owner)| json!([name, owner, false, null])).collect();
        self.wish(&json!({"do": "seed", "packages": {tag: rows}}));
    }

    /// And this package, blocked.
    pub fn blocked(&self, tag: &str, package: &str, owner: &str) {
        self.wish(&json!({"do": "seed", "packages": {tag: [[package, owner, true, null]]}}));
    }

    /// The rows of each tag by package, without what is inherited.
    ///
    /// # Panics
    /// When it does not run. Waits while a call is held.
    #[must_use]
    pub fn entries(&self) -> BTreeMap<String, BTreeMap<String, Row>> {
        let answer = self.wish(&json!({"do": "entries"}));
        let text = |row: &Value, key: &str| row[key].as_str().map(str::to_owned);
        let row = |row: &Value| {
            let (owner, extra_arches) = (text(row, "owner_name")?, text(row, "extra_arches"));
            Some((text(row, "package_name")?, Row { owner, blocked: row["blocked"] == true, extra_arches }))
        };
        let tags = answer.as_object().into_iter().flatten();
        let rows = |rows: &Value| rows.as_array().into_iter().flatten().filter_map(row).collect();
        tags.map(|(tag, list)| (tag.clone(), rows(list))).collect()
    }

    /// The owner of a package in a tag's own list.
    #[must_use]
    pub fn owner(&self, tag: &str, package: &str) -> Option<String> {
        Some(self.entries().get(tag)?.get(package)?.owner.clone())
    }

    /// All calls so far, in their order. One that the hub was killed in is not there.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        std::fs::read_to_string(self.dir.join("calls")).unwrap_or_default().lines().map(Call::read).collect()
    }

    /// The next call `of` this kind (`any`, `login`, `read`, `write`, or a method) meets a trouble; `koji_hub.py` says which there are.
    pub fn trouble(&self, kind: &str, of: &str, more: Value) {
        let mut wish = json!({"do": "trouble", "kind": kind, "of": of});
        if let (Value::Object(wish), Value::Object(more)) = (&mut wish, more) {
            wish.extend(more);
        }
        self.wish(&wish);
    }

    /// No more trouble.
    pub fn well(&self) {
        self.wish(&json!({"do": "well"}));
    }

    /// Waits until a call is held in the trouble `hold`.
    ///
    /// # Panics
    /// When none is.
    pub fn until_held(&self) {
        wait_until("a call is held", ANSWER_MAX, || self.wish(&json!({"do": "held"}))["held"] != 0);
    }

    /// What is held goes on.
    pub fn release(&self) {
        self.wish(&json!({"do": "release"}));
    }

    /// A line for the real client, as this user; without one it does not log in.
    ///
    /// # Panics
    /// When it is not installed.
    #[must_use]
    pub fn client(&self, user: Option<&str>, args: &[&str]) -> Command {
        let mut koji = self.real("koji");
        koji.arg(format!("--config={}", self.dir.join("koji.conf").display()));
        match user {
            Some(user) => koji.arg("--authtype=ssl").arg(format!("--cert={}", self.certificate(user).display())),
            None => koji.arg("--noauth"),
        };
        koji.args(args);
        koji
    }

    /// What a Python expression over the real client's session `s` is, as this user.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn ask(&self, user: Option<&str>, expression: &str) -> Value {
        let login = user.map(|user| format!("s.ssl_login({:?}, None, {:?})", self.certificate(user), self.ca()));
        self.python(&login.unwrap_or_default(), expression)
    }

    /// [`Self::ask`] with a login of one's own, such as `s.gssapi_login(…)`.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn python(&self, login: &str, expression: &str) -> Value {
        let out = self.python_command(login, expression).output().expect("python runs");
        assert!(out.status.success(), "{expression}: {}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).expect("JSON")
    }

    /// The line of [`Self::python`].
    ///
    /// # Panics
    /// When the client is not installed.
    #[must_use]
    pub fn python_command(&self, login: &str, expression: &str) -> Command {
        let options = format!("{{'serverca': {:?}, 'max_retries': 3, 'retry_interval': 0.1}}", self.ca());
        let program = format!(
            "import json, koji, sys\ns = koji.ClientSession({:?}, {options})\n{login}\nprint(json.dumps({expression}))\n",
            self.url()
        );
        let mut python = self.real("python");
        python.args(["-W", "ignore", "-c", &program]);
        python
    }

    /// A program of the environment with the real client, which finds no configuration of this machine's.
    fn real(&self, program: &str) -> Command {
        let deps = test_deps();
        let path = deps.join("koji/bin").join(program);
        assert!(path.exists(), "the real koji client is not in {}\n{HINT}", deps.display());
        let mut line = command(path);
        line.env("HOME", &self.dir).envs(self.env.clone()).stdin(Stdio::null());
        line
    }

    /// Sends what was recorded at a real hub, in `recorded`, and compares the answers. Returns how many are the same, and what is not.
    ///
    /// # Panics
    /// When it can't.
    #[must_use]
    pub fn replay(&self, recorded: &Path) -> (usize, Vec<String>) {
        let mut python = command(PYTHON);
        python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/koji_replay.py"));
        python.arg(recorded).arg(self.url()).arg(self.dir.join("pki")).env("PYTHONDONTWRITEBYTECODE", "1");
        let mut child = Child::start(python.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let mut stdin = child.inner.stdin.take().expect("its stdin");
        let (mut same, mut other) = (0, Vec::new());
        for line in peers::lines(child.inner.stdout.take().expect("its stdout")) {
            match line.split_once(' ') {
                Some(("same", _)) => same += 1,
                Some(("do", wish)) => {
                    let (wish, user) = wish.split_once(' ').unwrap_or((wish, ""));
                    self.wish(&json!({"do": wish, "user": user}));
                    writeln!(stdin).expect("it reads its stdin");
                }
                _ => other.push(line),
            }
        }
        assert!(child.wait(ANSWER_MAX).is_some_and(|status| status.success()), "the replay ends: {other:?}");
        (same, other)
    }
}

/// A CA, the hub's certificate and those of the users.
fn certificates(dir: &Path) {
    let ca = Ca::new(dir);
    ca.server("server", DAYS);
    for user in [ADMIN, REACTOR, PLAIN] {
        ca.user(user, user, DAYS);
    }
    ca.user(EXPIRING, REACTOR, &EXPIRING_DAYS.to_string());
    ca.user(EXPIRED, REACTOR, "-1");
}
