//! A scratch site for the handler `koji-owners`: the truth as a file, rules, a bus, a daemon, a hub.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use reactor_tests::daemon::{Daemon, count_of_key, reactions, reactor_said, until_count_of_key};
use reactor_tests::koji::{Call, Hub, REACTOR};
use reactor_tests::{Scratch, free_port, wait_until};
use serde_json::{Value, json};

/// Longest wait for what is sure to come.
pub const SOON: Duration = reactor_tests::PATIENCE;
/// The topics of the site's bus begin so.
const PREFIX: &str = "org.fedoraproject.dev";

/// A site, its hub and its daemon.
pub struct Site {
    pub hub: Hub,
    pub daemon: Option<Daemon>,
    truth: BTreeMap<String, Value>,
    rules: Value,
    socket: zmq::Socket,
    sent: u64,
    /// Last: it goes when all that runs in it has ended.
    pub scratch: Scratch,
}

impl Site {
    /// Three tags for three branches, and one more below `f44` that nobody looks after; `bash` and `zsh` in all three. The daemon
    /// does not run yet. `start` makes the hub in the site's directory, and says more words of the handler's block.
    pub fn new(name: &str, start: impl FnOnce(&Path) -> (Hub, Value)) -> Self {
        let scratch = Scratch::new(name);
        let (hub, words) = start(scratch.path());
        hub.user(REACTOR, &["tag"]);
        hub.user("orphan", &[]);
        for tag in ["f43", "f44", "f45"] {
            hub.tag(tag, None);
            hub.packages(tag, &[("bash", "ralph"), ("zsh", "kevin")]);
        }
        hub.tag("f44-candidate", Some("f44"));
        let port = free_port();
        let mut handler = json!({
            "use": "koji-owners", "hub": hub.url(), "ca": hub.ca(), "timeout": "20s", "login": {"certificate": "koji"},
            "packages": {"yaml": "./packages.yaml"}, "tags": {"f43": "f43", "f44": "f44", "rawhide": "f45"},
            "secrets": {"koji": {"file": hub.certificate(REACTOR)}},
        });
        let block = handler.as_object_mut().expect("a block");
        block.extend(words.as_object().cloned().unwrap_or_default());
        let rules = json!({
            "version": 1,
            "bus": {"b": {"fedmsg": [format!("tcp://127.0.0.1:{port}")], "trust": {"unsigned": "accept", "unlisted": "accept"}}},
            "handlers": {"koji": handler},
            "defaults": {
                "timeout": "60s", "retry": {"times": 200, "wait": "200ms", "up_to": "500ms"},
                "guard": {"changes": 1_000_000, "deletes": 1_000_000},
            },
            "rules": rules(),
        });
        let socket = zmq::Context::new().socket(zmq::XPUB).expect("a socket");
        socket.set_xpub_verbose(true).expect("an option");
        socket.set_rcvtimeo(60_000).expect("an option");
        socket.bind(&format!("tcp://127.0.0.1:{port}")).expect("bound");
        let mut site = Self { hub, daemon: None, truth: BTreeMap::new(), rules, socket, sent: 0, scratch };
        site.put("rules.yaml", &site.rules);
        site.owns("ralph", "bash");
        site.owns("kevin", "zsh");
        site
    }

    /// [`Site::new`] with a hub for certificates and nothing else to say, and a running daemon.
    pub fn start(name: &str) -> Self {
        let mut site = Self::new(name, |dir| (Hub::start(dir), json!({})));
        site.run();
        site
    }

    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    fn put(&self, name: &str, value: &Value) {
        let (new, file) = (self.dir().join("new"), self.dir().join(name));
        fs::write(&new, format!("{value}\n")).expect("a file of the site");
        fs::rename(new, file).expect("a file of the site");
    }

    /// The truth has this of a package.
    pub fn is(&mut self, package: &str, truth: Value) {
        self.truth.insert(package.to_owned(), truth);
        self.put("packages.yaml", &json!({"packages": self.truth}));
    }

    /// Somebody owns a package, in all three branches.
    pub fn owns(&mut self, owner: &str, package: &str) {
        self.is(package, json!({"owner": owner, "branches": ["f43", "f44", "rawhide"]}));
    }

    /// The truth is this of these packages, and has no others.
    pub fn are(&mut self, truth: BTreeMap<String, Value>) {
        self.truth = truth;
        self.put("packages.yaml", &json!({"packages": self.truth}));
    }

    /// And a rule for all packages. It comes due at the first start.
    pub fn every(&mut self) {
        let rules = self.rules["rules"].as_array_mut().expect("rules");
        rules.push(json!({"name": "all of it", "every": "6h", "key": "all of it", "do": "koji", "timeout": "5m"}));
        self.put("rules.yaml", &self.rules);
    }

    /// Starts the daemon, and waits until it listens.
    pub fn run(&mut self) {
        self.daemon = Some(Daemon::start(self.dir(), &["run", "rules.yaml"]));
        loop {
            let told = self.socket.recv_bytes(0);
            let told = told.unwrap_or_else(|_| panic!("the daemon does not subscribe: {}", self.scratch.log()));
            if told.first() == Some(&1) {
                return;
            }
        }
    }

    /// Says something on the bus.
    pub fn say(&mut self, topic: &str, msg: &Value) {
        self.sent += 1;
        let topic = format!("{PREFIX}.{topic}");
        let id = format!("2026-{}", self.sent);
        let body = json!({"topic": topic, "msg": msg, "msg_id": id, "timestamp": 1_795_227_187, "i": self.sent});
        self.socket.send_multipart([topic.as_bytes(), body.to_string().as_bytes()], 0).expect("sent");
    }

    /// Says, as pkgdb did, that a package has changed hands.
    pub fn changed_hands(&mut self, package: &str) {
        let listing =
            json!({"owner": "somebody", "package": {"name": package}, "collection": {"branchname": "master"}});
        self.say("pkgdb.owner.update", &json!({"agent": "somebody", "package_listing": listing}));
    }

    /// [`Site::changed_hands`], and waits until that reaction is done.
    pub fn changed_hands_done(&mut self, package: &str) {
        let done = self.count(package, "done");
        self.changed_hands(package);
        self.until(package, "done", done + 1);
    }

    /// Runs `reactor ARGS…`; its exit code and all it says.
    pub fn reactor(&self, args: &[&str]) -> (i32, String) {
        reactor_said(self.dir(), args)
    }

    /// All reactions, the newest first.
    pub fn rows(&self) -> Vec<Value> {
        reactions(self.dir())
    }

    /// How many reactions with this key are in this state.
    pub fn count(&self, key: &str, state: &str) -> usize {
        count_of_key(self.dir(), key, state)
    }

    /// Waits until `n` reactions with this key are in this state.
    pub fn until(&self, key: &str, state: &str, n: usize) {
        until_count_of_key(self.dir(), key, state, n, || self.scratch.log() + &self.hub.log());
    }

    /// Waits until a reaction with this key waits for its next try, and says why with these words. Returns all it says.
    pub fn until_waits_for(&self, key: &str, why: &str) -> String {
        let mut found = String::new();
        wait_until(&format!("{key} waits for {why:?}: {:?}", self.rows()), SOON, || {
            let rows = self.rows();
            let mut reasons = rows.iter().filter(|row| row["key"] == key).filter_map(|row| row["reason"].as_str());
            found = reasons.find(|reason| reason.contains(why)).unwrap_or_default().to_owned();
            !found.is_empty()
        });
        found
    }

    /// The id of the newest reaction with this key.
    pub fn id(&self, key: &str) -> String {
        let rows = self.rows();
        let row = rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("no reaction {key}: {rows:?}"));
        row["id"].as_str().expect("an id").to_owned()
    }

    /// The newest story of a key, as people read it.
    pub fn story(&self, key: &str) -> String {
        self.reactor(&["show", &self.id(key)]).1
    }

    /// The owners of a package in `f43`, `f44` and `f45`, as the real client sees them.
    pub fn owners(&self, package: &str) -> [String; 3] {
        let ask = |tag| format!("(s.getPackageConfig('{tag}', '{package}') or {{}}).get('owner_name')");
        let all = self.hub.ask(None, &format!("[{}, {}, {}]", ask("f43"), ask("f44"), ask("f45")));
        [0, 1, 2].map(|n| all[n].as_str().unwrap_or_default().to_owned())
    }

    /// The calls that `doing` leads to.
    pub fn calls_of(&mut self, doing: impl FnOnce(&mut Self)) -> Vec<Call> {
        let before = self.hub.calls().len();
        doing(self);
        self.hub.calls().split_off(before)
    }
}

/// All that these calls asked to be written.
pub fn writes(calls: &[Call]) -> Vec<&str> {
    calls.iter().flat_map(Call::writes).collect()
}

fn rules() -> Value {
    let topic = |topic: &str| format!("{PREFIX}.{topic}");
    let package = "{{msg.package_listing.package.name}}";
    json!([
        {"name": "changed hands", "on": topic("pkgdb.owner.update"), "key": package, "do": "koji", "with": {"package": package}},
        {"name": "request", "on": topic("pagure.issue.edit"), "key": "request", "do": "koji",
            "with": {"request": "{{msg.issue.content}}"}},
    ])
}
