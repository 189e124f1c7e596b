//! A scratch site for the handler `gitolite`: both truths as files, rules, a bus, a daemon.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use reactor_tests::daemon::{Daemon, count_of_key, reactions, reactor_said, until_count_of_key};
use reactor_tests::gitolite::{Gitolite, REACTOR};
use reactor_tests::process::command;
use reactor_tests::{Scratch, free_port, wait_until};
use serde_json::{Map, Value, json};

/// Longest wait for what is sure to come.
pub const SOON: Duration = reactor_tests::PATIENCE;
/// The topics of the site's bus begin so.
pub const PREFIX: &str = "org.fedoraproject.dev.peer";
/// The group whose members' keys are kept, where keys are.
pub const PACKAGERS: &str = "packager";

/// What is true: who may commit where, who is in which group, who has which keys.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub repos: BTreeMap<String, Value>,
    pub groups: BTreeMap<String, Vec<String>>,
    pub keys: BTreeMap<String, Vec<String>>,
}

impl Truth {
    /// `rpms/foo` with two branches, which bob may commit to; the groups that the layout and the tests name.
    pub fn foo() -> Self {
        let mut truth = Self::default();
        for group in ["provenpackager", "perl-sig", PACKAGERS] {
            truth.group(group, &[]);
        }
        truth.repo("rpms/foo", &["bob"]);
        truth
    }

    /// A repository with the branches `rawhide` and `f41`.
    pub fn repo(&mut self, name: &str, commit: &[&str]) {
        self.repos.insert(name.to_owned(), json!({"commit": commit, "branches": ["rawhide", "f41"]}));
    }

    /// A group. carol, who pushes nowhere, is in every one: a group of nobody would not be believed.
    pub fn group(&mut self, name: &str, members: &[&str]) {
        self.groups.insert(name.to_owned(), members.iter().chain(&["carol"]).map(ToString::to_string).collect());
    }

    pub fn key(&mut self, user: &str, keys: &[&str]) {
        self.keys.insert(user.to_owned(), keys.iter().map(ToString::to_string).collect());
    }

    /// Writes both files; each is whole at any moment.
    pub fn write(&self, site: &Site) {
        // Whoever is in no group still has an account: accounts without anybody would be no answer.
        let people = ["alice", "bob"].map(ToOwned::to_owned);
        let everybody = self.groups.values().flatten().chain(self.keys.keys()).chain(&people);
        let none = Vec::new();
        let users: Map<String, Value> =
            everybody.map(|n| (n.clone(), json!({"keys": self.keys.get(n).unwrap_or(&none)}))).collect();
        site.put("accounts.yaml", &json!({"users": users, "groups": self.groups}));
        site.put("repos.yaml", &json!({"repos": self.repos}));
    }
}

/// What a test may want otherwise.
#[derive(Clone, Debug)]
pub struct Wish {
    /// `asked` or `compiled`.
    pub membership: &'static str,
    /// More words of the handler's block.
    pub handler: Value,
    /// The guard of all rules.
    pub guard: Value,
    /// Whether there is an `every` rule. It comes due at the first start.
    pub every: bool,
    /// Tries before it is a dead letter.
    pub tries: u32,
}

impl Wish {
    pub fn of(membership: &'static str) -> Self {
        Self {
            membership,
            handler: json!({}),
            guard: json!({"changes": 1000, "deletes": 1000}),
            every: false,
            tries: 200,
        }
    }
}

/// A site in a scratch directory, with its daemon.
pub struct Site {
    pub scratch: Scratch,
    pub daemon: Option<Daemon>,
    port: u16,
    socket: Option<zmq::Socket>,
    sent: u64,
}

impl Site {
    /// A site with its truth, its own publisher, and a running daemon that listens to it.
    pub fn start(name: &str, server: &Gitolite, truth: &Truth, wish: &Wish) -> Self {
        let mut site = Self { scratch: Scratch::new(name), daemon: None, port: free_port(), socket: None, sent: 0 };
        let mut handler = json!({
            "use": "gitolite", "admin": server.url(), "membership": wish.membership,
            "ssh": {"known_hosts": server.known_hosts()}, "author": "Re Actor <reactor@example.org>", "timeout": "60s",
            "repos": {"yaml": "./repos.yaml"}, "accounts": {"yaml": "./accounts.yaml"}, "groups": ["provenpackager"],
            "secrets": {"ssh_key": {"file": server.keys[REACTOR].path, "plan": true}},
        });
        let (words, more) = (handler.as_object_mut().expect("a block"), wish.handler.as_object().expect("words"));
        more.iter().for_each(|(word, value)| drop(words.insert(word.clone(), value.clone())));
        let endpoint = format!("tcp://127.0.0.1:{}", site.port);
        let trust = json!({"unsigned": "accept", "unlisted": "accept"});
        let rules = json!({
            "version": 1,
            "bus": {"b": {"fedmsg": [endpoint], "trust": trust}},
            "handlers": {"git": handler},
            "defaults": {
                "timeout": "60s", "retry": {"times": wish.tries, "wait": "300ms", "up_to": "1s"}, "guard": wish.guard,
            },
            "rules": rules(wish.every),
        });
        site.put("rules.yaml", &rules);
        truth.write(&site);
        let socket = zmq::Context::new().socket(zmq::XPUB).expect("a socket");
        socket.set_xpub_verbose(true).expect("an option");
        socket.set_rcvtimeo(60_000).expect("an option");
        socket.bind(&endpoint).expect("bound");
        site.socket = Some(socket);
        site.run();
        site
    }

    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    fn put(&self, name: &str, value: &Value) {
        let (new, file) = (self.dir().join("new"), self.dir().join(name));
        fs::write(&new, format!("{value:#}\n")).expect("a file of the site");
        fs::rename(new, file).expect("a file of the site");
    }

    /// Starts the daemon, and waits until it listens.
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

    /// SIGKILL to the daemon alone.
    pub fn kill_9(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill_9();
        }
    }

    /// SIGKILL to the daemon, its handlers, and every git and ssh that they have started.
    pub fn kill_9_all(&mut self) {
        self.kill_9();
        wait_until("nothing of the site runs", SOON, || {
            let left = self.helpers();
            for pid in &left {
                let _ = command("kill").args(["-KILL", &pid.to_string()]).output();
            }
            left.is_empty()
        });
    }

    /// Tells the daemon to end, and looks at what it left: no process, no connection, no copy of anything.
    pub fn ends_and_leaves_nothing(&mut self) {
        let daemon = self.daemon.take().expect("a running daemon");
        daemon.terminate();
        let ended = daemon.wait(SOON).unwrap_or_else(|| panic!("it does not end: {}", self.scratch.log()));
        assert!(ended.success(), "{ended}: {}", self.scratch.log());
        let words = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let left: Vec<String> = self.helpers().iter().map(words).collect();
        assert!(left.is_empty(), "processes: {left:?}");
        let mut dirs = vec![self.dir().join("state")];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).expect("a directory").flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                assert!(!name.starts_with("gitolite-") && name != "ssh_key", "{}", entry.path().display());
                dirs.extend(entry.file_type().is_ok_and(|kind| kind.is_dir()).then(|| entry.path()));
            }
        }
    }

    /// Processes that carry this site's state directory in their environment, or work on its files.
    fn helpers(&self) -> Vec<u32> {
        let mark = self.dir().join("state").into_os_string().into_encoded_bytes();
        let holds = |text: &[u8]| text.windows(mark.len()).any(|part| part == mark);
        let numbers = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let ours = |pid: &u32| {
            let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            holds(&read("environ")) || holds(&read("cmdline"))
        };
        pids.filter(ours).collect()
    }

    /// Says something on the bus.
    pub fn say(&mut self, topic: &str, msg: &Value) {
        self.sent += 1;
        let topic = format!("{PREFIX}.{topic}");
        let id = format!("2026-{}", self.sent);
        let body = json!({"topic": topic, "msg": msg, "msg_id": id, "timestamp": 1_795_227_187, "i": self.sent});
        let socket = self.socket.as_ref().expect("a publisher of our own");
        socket.send_multipart([topic.as_bytes(), body.to_string().as_bytes()], 0).expect("sent");
    }

    /// Says that somebody was let in or taken out of a repository, or that it is new.
    pub fn project(&mut self, repo: &str, what: &str, user: &str) {
        let word = if what == "user.removed" { "removed_user" } else { "new_user" };
        self.say(
            &format!("pagure.project.{what}"),
            &json!({"agent": "carol", "project": {"fullname": repo}, word: user}),
        );
    }

    /// Says that somebody came into a group (`sponsor`) or left it (`remove`).
    pub fn member(&mut self, group: &str, what: &str, user: &str) {
        self.say(&format!("fas.group.member.{what}"), &json!({"agent": "carol", "group": group, "user": user}));
    }

    /// [`Site::project`], and waits until that reaction is done.
    pub fn project_done(&mut self, repo: &str, what: &str, user: &str) {
        let done = self.count(repo, "done");
        self.project(repo, what, user);
        self.until(repo, "done", done + 1);
    }

    /// [`Site::member`], and waits until that reaction is done.
    pub fn member_done(&mut self, group: &str, what: &str, user: &str) {
        let done = self.count(user, "done");
        self.member(group, what, user);
        self.until(user, "done", done + 1);
    }

    /// Says that somebody's ssh keys have changed, and waits until that reaction is done.
    pub fn key_done(&mut self, user: &str) {
        let done = self.count(user, "done");
        self.say("fas.user.update", &json!({"agent": user, "user": user, "fields": ["ssh_key"]}));
        self.until(user, "done", done + 1);
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

    /// Waits until there are `n` reactions, and all of them are done.
    pub fn until_all_done(&self, n: usize) {
        wait_until(&format!("{n} reactions, all done"), SOON, || {
            let rows = self.rows();
            rows.len() == n && rows.iter().all(|row| row["state"] == "done")
        });
    }

    /// Waits until the newest reaction with this key waits for its next try, and says why with these words.
    pub fn until_waits_for(&self, key: &str, why: &str) {
        let says = |row: &Value| row["key"] == key && row["reason"].as_str().is_some_and(|text| text.contains(why));
        wait_until(&format!("{key} waits for {why:?}"), SOON, || self.rows().iter().any(says));
    }

    /// The newest story of a key, as people read it.
    pub fn story(&self, key: &str) -> String {
        let rows = self.rows();
        let row = rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("no reaction {key}: {rows:?}"));
        self.reactor(&["show", row["id"].as_str().expect("an id")]).1
    }
}

fn rules(every: bool) -> Value {
    let topic = |topic: &str| format!("{PREFIX}.{topic}");
    let (repo, user) = ("{{msg.project.fullname}}", "{{msg.user}}");
    let members = ["sponsor", "remove"].map(|word| topic(&format!("fas.group.member.{word}")));
    let group = json!({"group": "{{msg.group}}", "user": user});
    let mut rules = vec![
        json!({"name": "project changed", "on": topic("pagure.project.**"), "key": repo, "do": "git", "with": {"repo": repo}}),
        json!({"name": "member changed", "on": members, "key": user, "do": "git", "with": group}),
        json!({"name": "ssh key changed", "on": topic("fas.user.update"), "key": user, "do": "git", "with": {"user": user}}),
    ];
    if every {
        rules.push(json!({"name": "all of it", "every": "6h", "do": "git"}));
    }
    Value::Array(rules)
}
