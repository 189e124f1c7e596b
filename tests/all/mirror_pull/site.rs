//! A master and its mirrors in a scratch directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use reactor::trust::demo_pki::{DemoCa, DemoPki};
use reactor_tests::daemon::{Daemon, reactor_output};
use reactor_tests::peers::{Peer, PythonPeers};
use reactor_tests::pki::now;
use reactor_tests::rsyncd::{OWN, Rsyncd};
use reactor_tests::{Scratch, free_port};
use serde_json::{Value, json};

/// Longest wait for what is sure to come.
pub const SOON: Duration = reactor_tests::PATIENCE;
/// Between two looks: each may be a process.
const LOOK: Duration = Duration::from_millis(50);

pub const MASTER: &str = "master.example.org";
pub const T1A: &str = "t1a.example.org";
pub const T1B: &str = "t1b.example.org";
/// Says that it is the master, with a certificate that another CA gave it.
pub const STRANGER: &str = "stranger";
/// The rules of the example files.
pub const CHANGES: &str = "the master changes";
pub const DONE: &str = "the master is done";
pub const UPSTREAM_PULLS: &str = "our upstream pulls";
pub const UPSTREAM_DONE: &str = "our upstream is done";
pub const ALL_OF_IT: &str = "all of it";

/// What all tests share: a relay, and certificates. It goes with the last test that has it.
pub struct Hub {
    scratch: Scratch,
    /// It only has to live.
    _relay: Mutex<Peer>,
    inbound: u16,
    outbound: u16,
}

impl Hub {
    pub fn get() -> Arc<Self> {
        static HUB: Mutex<Weak<Hub>> = Mutex::new(Weak::new());
        // A test that failed while it made one leaves none behind.
        let mut hub = HUB.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        hub.upgrade().unwrap_or_else(|| {
            let made = Arc::new(Self::new());
            *hub = Arc::downgrade(&made);
            made
        })
    }

    fn new() -> Self {
        let (scratch, inbound, outbound) = (Scratch::new("mirror-hub"), free_port(), free_port());
        let relay = Mutex::new(PythonPeers::find().relay(scratch.path(), inbound, outbound));
        let hub = Self { scratch, _relay: relay, inbound, outbound };
        fs::create_dir(hub.pki()).expect("a directory");
        certificates().iter().for_each(|(file, pki)| hub.certificate(file, pki));
        hub
    }

    /// Writes the files of one of them.
    fn certificate(&self, file: &str, pki: &DemoPki) {
        let put = |file: &str, text: &str| fs::write(self.pki().join(file), text).expect("a file");
        put(&format!("{file}.crt"), &pki.cert_pem);
        put(&format!("{file}.key"), &pki.key_pem);
        fs::set_permissions(self.pki().join(format!("{file}.key")), fs::Permissions::from_mode(0o600)).expect("a mode");
        if file != STRANGER {
            put("ca.crt", &pki.ca_pem);
            put("crl.pem", &pki.crl_pem);
        }
    }

    fn pki(&self) -> PathBuf {
        self.scratch.path().join("pki")
    }
}

/// Who can sign, by the names of their files. All tests of a run share the keys: making them takes seconds.
fn certificates() -> &'static [(&'static str, DemoPki)] {
    static SHARED: OnceLock<Vec<(&str, DemoPki)>> = OnceLock::new();
    SHARED.get_or_init(|| {
        let (mut ca, mut other) = (DemoCa::new(now()).expect("a CA"), DemoCa::new(now()).expect("another CA"));
        let ours = [MASTER, T1A, T1B].map(|name| (name, ca.issue(name).expect("a certificate")));
        ours.into_iter().chain([(STRANGER, other.issue(MASTER).expect("a certificate"))]).collect()
    })
}

/// What a test wants otherwise than the example has it.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub every: &'static str,
    pub hold: &'static str,
    pub deletes: u32,
}

impl Default for Wish {
    fn default() -> Self {
        Self { every: "6h", hold: "2h", deletes: 5 }
    }
}

/// A master with its hooks, on topics of its own.
pub struct Net {
    pub hub: Arc<Hub>,
    pub master: Rsyncd,
    pub scratch: Scratch,
    prefix: String,
    meetings: std::cell::Cell<u32>,
}

impl Net {
    /// A master with a little of two parts. `name` is one word.
    pub fn new(name: &str) -> Self {
        let (hub, scratch) = (Hub::get(), Scratch::new(&format!("mirror-{name}")));
        let master = Rsyncd::start(&scratch.path().join("master"));
        let net =
            Self { hub, master, scratch, prefix: format!("org.example.{name}"), meetings: std::cell::Cell::new(0) };
        net.put("fedora/updates/foo-1.0.rpm", b"foo 1.0");
        net.put("fedora/updates/repodata/repomd.xml", b"<repomd>1</repomd>");
        net.put("fedora/updates/repodata/1-primary.xml.gz", b"primary 1");
        net.put("epel/9/bar-2.0.rpm", b"bar 2.0");
        net
    }

    /// Writes a file on the master.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.master.tree.join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, bytes).expect("a file on the master");
    }

    /// Removes a file on the master.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.master.tree.join(name)).expect("a file on the master");
    }

    /// What a hook does: `reactor publish`, signed with the files of `who`.
    pub fn publish(&self, who: &str, topic: &str, msg: &Value) {
        let file = |end: &str| self.hub.pki().join(format!("{who}.{end}")).display().to_string();
        let relay = format!("tcp://127.0.0.1:{}", self.hub.inbound);
        let (topic, body) = (format!("{}.{topic}", self.prefix), msg.to_string());
        let args = ["publish", "--connect", &relay, "--cert", &file("crt"), "--key", &file("key"), &topic, &body];
        let output = reactor_output(self.scratch.path(), &args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The master begins to change these directories.
    pub fn unsynced(&self, directories: &[&str], serial: u32) {
        self.publish(MASTER, "mirror.master.unsynced", &json!({"directories": directories, "serial": serial}));
    }

    /// The master is done with these directories.
    pub fn synced(&self, directories: &[&str], serial: u32) {
        self.publish(MASTER, "mirror.master.synced", &json!({"directories": directories, "serial": serial}));
    }

    /// A mirror of the master that runs, has pulled, and listens.
    pub fn tier1(&self, name: &'static str, wish: Wish) -> Mirror {
        let mut mirror = self.mirror(name, 1);
        self.write_rules(&mirror, &self.master.url(), MASTER, wish);
        mirror.run();
        mirror.until_pulled();
        self.meet(&[&mirror]);
        mirror
    }

    /// A mirror of a mirror that runs, has pulled, and listens.
    pub fn tier2(&self, name: &'static str, upstream: &Mirror) -> Mirror {
        let mirror = self.tier2_that_runs(name, upstream);
        mirror.until_pulled();
        self.meet(&[&mirror]);
        mirror
    }

    /// A mirror of a mirror that was just started.
    pub fn tier2_that_runs(&self, name: &'static str, upstream: &Mirror) -> Mirror {
        let mut mirror = self.mirror(name, 2);
        self.write_rules(&mirror, &upstream.rsyncd.url(), upstream.name, Wish::default());
        mirror.run();
        mirror
    }

    /// A mirror that does not run yet.
    pub fn mirror(&self, name: &'static str, tier: u32) -> Mirror {
        let dir = self.scratch.path().join(name);
        Mirror { name, tier, rsyncd: Rsyncd::start(&dir), dir, daemon: None }
    }

    /// The example file of its tier, with the addresses of this test.
    pub fn write_rules(&self, mirror: &Mirror, from: &str, upstream: &str, wish: Wish) {
        let path = format!("{}/../handlers/mirror-pull/example/tier{}.yaml", env!("CARGO_MANIFEST_DIR"), mirror.tier);
        let mut text = fs::read_to_string(&path).expect("the example");
        let mut replace = |old: &str, new: &str| {
            assert!(text.contains(old), "{old} is not in {path}");
            text = text.replace(old, new);
        };
        let meet = format!("{}.meet", self.prefix);
        replace("tcp://relay.example.org:4001", &format!("tcp://127.0.0.1:{}", self.hub.outbound));
        replace("/etc/reactor/pki", &self.hub.pki().display().to_string());
        replace("[org.example.prod.mirror]", "[org.example.prod]");
        replace("      policy:\n", &format!("      policy:\n        {meet}: [{MASTER}]\n"));
        replace("handlers:\n", "handlers:\n  met: { exec: ./met }\n");
        replace("\nrules:\n", &format!("\nrules:\n  - {{ name: met, on: {meet}, do: met }}\n"));
        replace("/srv/mirror/pub", &mirror.rsyncd.tree.display().to_string());
        replace("/var/lib/reactor/mirror", &mirror.dir.join("pull").display().to_string());
        replace("times: 60, wait: 30s, up_to: 10m", "times: 500, wait: 200ms, up_to: 500ms");
        replace("deletes: 500", &format!("deletes: {}", wish.deletes));
        replace("every: 6h", &format!("every: {}", wish.every));
        if mirror.tier == 1 {
            replace("tcp://relay.example.org:2001", &format!("tcp://127.0.0.1:{}", self.hub.inbound));
            replace("rsync://master.example.org/pub", from);
            replace("hold: 2h", &format!("hold: {}", wish.hold));
            replace(T1A, mirror.name);
        } else {
            replace("rsync://t1a.example.org/pub", from);
            replace("signers: [t1a.example.org]", &format!("signers: [{upstream}]"));
            replace("{ mirror: t1a.example.org }", &format!("{{ mirror: {upstream} }}"));
            replace("t2a.example.org", mirror.name);
        }
        replace("org.example.prod", &self.prefix);
        fs::write(mirror.dir.join("rules.yaml"), text).expect("its rules");
        let met = mirror.dir.join("met");
        fs::write(
            &met,
            "#!/bin/sh\n[ \"$1\" != describe ] || echo '{\"describe\":{\"reactor\":1,\"name\":\"met\"}}'\n",
        )
        .expect("a handler");
        fs::set_permissions(met, fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    /// What is published before a daemon has subscribed is lost: says something until all of them have heard it.
    pub fn meet(&self, mirrors: &[&Mirror]) {
        let began = Instant::now();
        let before: Vec<usize> = mirrors.iter().map(|mirror| mirror.times_met()).collect();
        while mirrors.iter().zip(&before).any(|(mirror, before)| mirror.times_met() == *before) {
            let stories = || mirrors.iter().map(|mirror| mirror.story()).collect::<String>();
            assert!(began.elapsed() < SOON, "the daemons hear nothing: {}", stories());
            self.meetings.set(self.meetings.get() + 1);
            self.publish(MASTER, "meet", &json!({"try": self.meetings.get()}));
        }
    }
}

/// One mirror.
pub struct Mirror {
    pub name: &'static str,
    pub dir: PathBuf,
    pub rsyncd: Rsyncd,
    daemon: Option<Daemon>,
    tier: u32,
}

impl Mirror {
    /// Starts its daemon. Who wants to know that it listens calls [`Net::meet`].
    pub fn run(&mut self) {
        self.daemon = Some(Daemon::start(&self.dir, &["run", "rules.yaml"]));
    }

    /// Ends its daemon in good order.
    pub fn stop(&mut self) {
        let daemon = self.daemon.take().expect("a running daemon");
        daemon.terminate();
        assert!(daemon.wait(SOON).is_some_and(|status| status.success()), "{}", self.story());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.rsyncd.tree.join(name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// What stands in its tree while it is in the middle of an update, as a pattern.
    pub fn mark(&self) -> PathBuf {
        self.path(OWN).join("*in-progress")
    }

    /// Whether it says of itself that it is in the middle of an update.
    pub fn mark_is_there(&self) -> bool {
        let own = fs::read_dir(self.path(OWN)).into_iter().flatten().flatten();
        own.into_iter().any(|entry| entry.file_name().as_bytes().ends_with(b"in-progress"))
    }

    /// Its reactions, the newest first; without those that only said that it listens.
    pub fn rows(&self) -> Vec<Value> {
        self.list(&["--at-most", "0"]).into_iter().filter(|row| row["rule"] != "met").collect()
    }

    fn list(&self, more: &[&str]) -> Vec<Value> {
        let output = reactor_output(&self.dir, &[&["list", "--format", "json"], more].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn times_met(&self) -> usize {
        self.list(&["--at-most", "0", "--rule", "met"]).len()
    }

    /// The messages that it refused.
    pub fn refused(&self) -> Vec<Value> {
        self.list(&["--refused"])
    }

    /// How many reactions of this rule are in this state.
    pub fn count(&self, rule: &str, state: &str) -> usize {
        self.rows().iter().filter(|row| row["rule"] == rule && row["state"] == state).count()
    }

    /// Waits until this holds.
    pub fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < SOON, "{}: in vain: {what}\n{}", self.name, self.story());
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until so many reactions of a rule are in this state.
    pub fn until_count(&self, rule: &str, state: &str, n: usize) {
        self.until(&format!("{n} of `{rule}` are {state}"), || self.count(rule, state) == n);
    }

    /// Waits until all that it was told is over, and that was well.
    pub fn until_all_done(&self) {
        self.until("all is done", || self.rows().iter().all(|row| row["state"] == "done"));
    }

    /// Waits until the pull at its start is over.
    pub fn until_pulled(&self) {
        self.until("the first pull", || self.count(ALL_OF_IT, "done") > 0);
    }

    /// Waits until a reaction says this in its reason, in any case of the letters.
    pub fn until_reason(&self, words: &[&str]) {
        self.until(&format!("a reason with one of {words:?}"), || {
            let reasons = self.rows().into_iter().filter_map(|row| row["reason"].as_str().map(str::to_lowercase));
            reasons.into_iter().any(|reason| words.iter().any(|word| reason.contains(word)))
        });
    }

    /// Makes the schedule come due, and waits for its end; the exit code and all it says.
    pub fn schedule(&self) -> (i32, String) {
        self.reactor(&["reconcile", "mirror", "--apply"])
    }

    /// `reactor ARGS…` with its state.
    pub fn reactor(&self, args: &[&str]) -> (i32, String) {
        let output = reactor_output(&self.dir, args);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
    }

    /// The newest reaction of a rule, as people read it.
    pub fn shown(&self, rule: &str) -> String {
        let row = self.rows().into_iter().find(|row| row["rule"] == rule);
        let row = row.unwrap_or_else(|| panic!("no reaction of `{rule}`: {}", self.story()));
        self.reactor(&["show", row["id"].as_str().expect("an id")]).1
    }

    /// All that may tell why something did not happen.
    pub fn story(&self) -> String {
        let rows: String = self.rows().iter().map(|row| format!("{row}\n")).collect();
        let log = fs::read_to_string(self.dir.join(reactor_tests::daemon::LOG)).unwrap_or_default();
        format!("{}:\n{rows}{log}\n", self.name)
    }

    /// Waits until it has what this daemon has.
    pub fn until_same_as(&self, upstream: &Rsyncd) {
        let began = Instant::now();
        while files(&self.rsyncd.tree) != files(&upstream.tree) {
            let (ours, theirs) = (names(&self.rsyncd.tree), names(&upstream.tree));
            assert!(began.elapsed() < SOON, "{ours:?}\nis not\n{theirs:?}\n{}", self.story());
            std::thread::sleep(LOOK);
        }
    }
}

/// What is below a directory, by name; of a file its bytes, of a link where it leads. Without what mirrors keep of themselves.
pub fn files(tree: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![tree.to_owned()];
    while let Some(dir) = todo.pop() {
        // What is being changed may go away between two looks.
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(tree).expect("below it").as_os_str().as_bytes().to_vec();
            if name == OWN.as_bytes() {
                continue;
            }
            let kind = entry.file_type().ok();
            if kind.is_some_and(|kind| kind.is_dir()) {
                todo.push(path);
                found.insert(name, b"/".to_vec());
            } else if kind.is_some_and(|kind| kind.is_symlink()) {
                let to = fs::read_link(&path).unwrap_or_default();
                found.insert(name, to.as_os_str().as_bytes().to_vec());
            } else {
                found.insert(name, fs::read(&path).unwrap_or_default());
            }
        }
    }
    found
}

fn names(tree: &Path) -> BTreeSet<String> {
    files(tree).keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}
