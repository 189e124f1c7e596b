//! A scratch site for the handler `ssh-keys` on a farm: the truth as a file, the inventory, rules, a bus, a daemon.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reactor_tests::daemon::{Daemon, count_of_key, reactions, reactor_said, until_count_of_key};
use reactor_tests::sshd::Farm;
use reactor_tests::{Scratch, free_port, wait_until};
use serde_json::{Map, Value, json};

/// Longest wait for what is sure to come.
pub const SOON: Duration = reactor_tests::PATIENCE;
/// The topics of the site's bus begin so.
pub const PREFIX: &str = "org.fedoraproject.dev.peer";
/// The account group that gives a full login.
pub const ADMINS: &str = "sysadmin-main";

/// The account system: who has which keys, who is in which groups.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub users: BTreeMap<String, Vec<String>>,
    pub groups: BTreeMap<String, Vec<String>>,
}

impl Truth {
    /// Everybody in [`ADMINS`], nobody with a key.
    pub fn of(users: &[String]) -> Self {
        let people = users.iter().map(|user| (user.clone(), Vec::new())).collect();
        Self { users: people, groups: BTreeMap::from([(ADMINS.to_owned(), users.to_vec())]) }
    }

    pub fn keys(&mut self, user: &str, keys: &[&str]) {
        self.users.insert(user.to_owned(), keys.iter().map(ToString::to_string).collect());
    }

    pub fn leave(&mut self, user: &str, group: &str) {
        self.groups.entry(group.to_owned()).or_default().retain(|member| member != user);
    }

    /// Writes it whole: a reader never sees half of it.
    pub fn write(&self, site: &Site) {
        let users: Map<String, Value> =
            self.users.iter().map(|(n, keys)| (n.clone(), json!({ "keys": keys }))).collect();
        site.put_truth(&json!({"users": users, "groups": self.groups}).to_string());
    }
}

/// What a test may want otherwise.
#[derive(Clone, Debug)]
pub struct Wish {
    /// More words of the handler's block.
    pub handler: Value,
    /// `access` of all hosts.
    pub access: Value,
    /// The guard of all rules.
    pub guard: Value,
    /// Whether there is an `every` rule. It comes due at the first start.
    pub every: bool,
    /// Another address for some hosts.
    pub addresses: BTreeMap<usize, SocketAddrV4>,
    /// The `trust` block of the bus; everything is believed without it.
    pub trust: Value,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            handler: json!({}),
            access: json!([ADMINS]),
            guard: json!({"changes": 1000, "deletes": 1000}),
            every: false,
            addresses: BTreeMap::new(),
            trust: json!({"unsigned": "accept", "unlisted": "accept"}),
        }
    }
}

/// A site in a scratch directory, with its daemon.
pub struct Site {
    pub scratch: Scratch,
    pub daemon: Option<Daemon>,
    /// Where the daemon listens for messages.
    pub port: u16,
    socket: Option<zmq::Socket>,
    sent: u64,
}

impl Site {
    /// Writes the site; nothing is started.
    pub fn new(name: &str, farm: &Farm, wish: &Wish) -> Self {
        let scratch = Scratch::new(name);
        let site = Self { scratch, daemon: None, port: free_port(), socket: None, sent: 0 };
        let mut handler = json!({
            "use": "ssh-keys", "accounts": {"yaml": "./accounts.yaml"}, "hosts": "./hosts.yaml",
            "ssh": {"known_hosts": farm.known_hosts(), "connect_timeout": "3s", "command_timeout": "5s"},
            "secrets": {"ssh_key": {"file": farm.management.path, "plan": true}},
        });
        merge(&mut handler, wish.handler.clone());
        let endpoint = format!("tcp://127.0.0.1:{}", site.port);
        let rules = json!({
            "version": 1,
            "bus": {"b": {"fedmsg": [endpoint], "trust": wish.trust}},
            "handlers": {"hosts": handler},
            "defaults": {
                "timeout": "60s", "retry": {"times": 200, "wait": "300ms", "up_to": "1s"}, "guard": wish.guard,
            },
            "rules": rules(wish.every),
        });
        let write = |file: &str, value: &Value| {
            fs::write(site.dir().join(file), format!("{value:#}\n")).expect("a file of the site");
        };
        write("rules.yaml", &rules);
        write("hosts.yaml", &inventory(farm, wish));
        site
    }

    /// [`Site::new`] with its truth, its own publisher, and a running daemon that listens to it.
    pub fn start(name: &str, farm: &Farm, truth: &Truth, wish: &Wish) -> Self {
        let mut site = Self::new(name, farm, wish);
        truth.write(&site);
        let socket = zmq::Context::new().socket(zmq::XPUB).expect("a socket");
        socket.set_xpub_verbose(true).expect("an option");
        socket.set_rcvtimeo(60_000).expect("an option");
        socket.bind(&format!("tcp://127.0.0.1:{}", site.port)).expect("bound");
        site.socket = Some(socket);
        site.run();
        site
    }

    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    pub fn put_truth(&self, text: &str) {
        let (new, file) = (self.dir().join("accounts.new"), self.dir().join("accounts.yaml"));
        fs::write(&new, text).expect("the truth");
        fs::rename(new, file).expect("the truth");
    }

    /// Starts the daemon; with a publisher of our own, waits until it listens.
    pub fn run(&mut self) {
        self.daemon = Some(Daemon::start(self.dir(), &["run", "rules.yaml"]));
        while let Some(socket) = &self.socket {
            let told = socket.recv_bytes(0);
            let told = told.unwrap_or_else(|_| panic!("the daemon does not subscribe: {}", self.scratch.log()));
            if told.first() == Some(&1) {
                return;
            }
        }
    }

    pub fn kill_9(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill_9();
        }
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        let daemon = self.daemon.take().expect("a daemon");
        daemon.terminate();
        let status = daemon.wait(SOON);
        assert!(status.is_some_and(|status| status.success()), "{status:?} {}", self.scratch.log());
    }

    /// Says on the bus that something of this user has changed.
    pub fn say(&mut self, topic: &str, msg: &Value) {
        self.sent += 1;
        let topic = format!("{PREFIX}.{topic}");
        let body = json!({"topic": topic, "msg": msg, "msg_id": format!("2026-{}", self.sent), "timestamp": 1_795_227_187, "i": self.sent});
        let socket = self.socket.as_ref().expect("a publisher of our own");
        socket.send_multipart([topic.as_bytes(), body.to_string().as_bytes()], 0).expect("sent");
    }

    /// Says that this user's keys have changed.
    pub fn changed(&mut self, user: &str) {
        self.say("fas.user.update", &json!({"agent": user, "user": user, "fields": ["ssh_key"]}));
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
        until_count_of_key(self.dir(), key, state, n, || self.scratch.log());
    }

    /// Publishes that the user's keys have changed, and waits until one reaction more with that key is done.
    pub fn change_and_wait(&mut self, user: &str) {
        let done = self.count(user, "done");
        self.changed(user);
        self.until(user, "done", done + 1);
    }

    /// The id of the newest reaction with this key.
    pub fn newest(&self, key: &str) -> String {
        let rows = self.rows();
        let row = rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("no reaction {key}: {rows:?}"));
        row["id"].as_str().expect("an id").to_owned()
    }

    /// The newest story of a key, as people read it.
    pub fn story(&self, key: &str) -> String {
        self.reactor(&["show", &self.newest(key)]).1
    }

    /// Processes that carry this site's state directory in their environment, other than the daemon: handlers, ssh masters.
    pub fn helpers(&self) -> Vec<u32> {
        let state = self.dir().join("state");
        let mark = format!("REACTOR_STATE={}", state.display());
        let numbers = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let ours = |pid: &u32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())
        };
        pids.filter(ours).collect()
    }

    /// Waits until no handler and no ssh master of this site is left.
    pub fn until_no_helpers(&self) {
        wait_until("no handler and no ssh master is left", SOON, || self.helpers().is_empty());
    }

    /// A file of the site.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }
}

fn rules(every: bool) -> Value {
    let user = "{{msg.user}}";
    let rule =
        |name: &str, on: Value| json!({"name": name, "on": on, "key": user, "do": "hosts", "with": {"user": user}});
    let topic = |topic: &str| format!("{PREFIX}.{topic}");
    let members = ["sponsor", "remove", "removed"].map(|word| topic(&format!("fas.group.member.{word}")));
    let mut rules =
        vec![rule("ssh key changed", json!([topic("fas.user.update")])), rule("member changed", json!(members))];
    if every {
        rules.push(json!({"name": "everyone everywhere", "every": "6h", "do": "hosts"}));
    }
    Value::Array(rules)
}

fn inventory(farm: &Farm, wish: &Wish) -> Value {
    let host = |n: usize| {
        let address = wish.addresses.get(&n).unwrap_or(&farm.hosts[n].address);
        json!({"address": address.ip().to_string(), "port": address.port(), "user": "root", "keys": farm.pattern(n)})
    };
    let hosts: Map<String, Value> = farm.hosts.iter().enumerate().map(|(n, at)| (at.name.clone(), host(n))).collect();
    json!({"groups": {"all": {"hosts": hosts, "access": wish.access}}})
}

/// Objects are joined at every depth; all else is replaced.
fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            more.into_iter().for_each(|(word, value)| merge(into.entry(word).or_insert(Value::Null), value));
        }
        (into, more) => *into = more,
    }
}
