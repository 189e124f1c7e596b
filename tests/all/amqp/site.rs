//! A scratch site on a broker: its rules, a handler that notes what it applied, and a daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use reactor_tests::amqp_peers::AmqpPeers;
use reactor_tests::daemon::{Daemon, reactor_json, reactor_output};
use reactor_tests::rabbitmq::{PASSWORD, PEER, REACTOR, RabbitMq};
use reactor_tests::{Scratch, wait_until};
use serde_json::Value;

use crate::running::{applied, plain};

/// Longest wait for what is sure to come.
pub const LONG: Duration = reactor_tests::PATIENCE;

/// Its topics begin with `org.test.NAME`, and its queue is called `NAME`.
pub struct Site {
    pub scratch: Scratch,
    name: String,
    pub daemon: Option<Daemon>,
}

impl Site {
    /// A site that reads a durable queue over TCP in the clear at this port, with a password. `more` are words of the bus, as in
    /// `silence: 1s`. No daemon runs yet.
    pub fn new(name: &str, port: u16, more: &str) -> Self {
        Self::of_url(name, &format!("amqp://{REACTOR}@127.0.0.1:{port}/%2Fpubsub"), more)
    }

    /// [`Self::new`], with another URL.
    pub fn of_url(name: &str, url: &str, more: &str) -> Self {
        Self::at(name, &format!("amqp_url: '{url}', password: {{ file: password }}, {}", queue(name)), more)
    }

    /// A site whose block `amqp` has these words.
    pub fn at(name: &str, amqp: &str, more: &str) -> Self {
        let site = Self { scratch: Scratch::new(&format!("amqp-{name}")), name: name.to_owned(), daemon: None };
        site.file("password", PASSWORD);
        site.handler(&plain(site.dir()));
        site.file(
            "rules.yaml",
            &format!(
                "version: 1
bus:
  ours: {{ amqp: {{ {amqp} }}, trust: {{ broker: accept, unlisted: accept }}, {more} }}
handlers:
  h: {{ exec: ./h }}
rules:
  - name: access taken
    on: {}
    key: '{{{{msg.user}}}}'
    do: h
    with: {{ user: '{{{{msg.user}}}}' }}
",
                site.topic("user")
            ),
        );
        site
    }

    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    pub fn file(&self, name: &str, text: &str) {
        fs::write(self.dir().join(name), text).expect("a file of the site");
    }

    /// Takes another handler, in place of the one that notes what it applied.
    pub fn handler(&self, text: &str) {
        self.file("h", text);
        fs::set_permissions(self.dir().join("h"), PermissionsExt::from_mode(0o755)).expect("executable");
    }

    /// What its topics begin with.
    pub fn prefix(&self) -> String {
        prefix(&self.name)
    }

    pub fn topic(&self, word: &str) -> String {
        format!("{}.{word}", self.prefix())
    }

    pub fn peers(&self) -> AmqpPeers {
        AmqpPeers::about(&self.prefix())
    }

    /// A real publisher of its topics.
    pub fn publisher(&self, broker: &RabbitMq) -> reactor_tests::amqp_peers::Publisher {
        self.peers().publisher(self.dir(), broker, PEER)
    }

    /// Starts a daemon; its queue is read when this returns.
    pub fn start(&mut self) {
        self.daemon = Some(Daemon::start(self.dir(), &["run", "rules.yaml"]));
        self.until_read();
    }

    /// Waits until its queue is read.
    pub fn until_read(&self) {
        self.until("its queue is read", |bus| bus["connects"].as_u64() > bus["disconnects"].as_u64());
    }

    /// Waits until what `status` says of its bus is so.
    pub fn until(&self, what: &str, mut holds: impl FnMut(&Value) -> bool) {
        let look = || {
            let status = reactor_output(self.dir(), &["status", "--format", "json"]).stdout;
            let status = serde_json::from_slice::<Value>(&status).unwrap_or_default();
            holds(&status["buses"][0])
        };
        wait_until(&format!("{what}: {}", self.dir().display()), LONG, look);
    }

    /// Waits until these are done, in any order, and nothing more is.
    pub fn until_applied(&self, users: &[&str]) {
        let mut wanted = users.to_vec();
        wanted.sort_unstable();
        wait_until(&format!("{users:?} in {}", self.dir().display()), LONG, || self.applied() == wanted);
    }

    /// Whom the handler applied, in the order of their names.
    pub fn applied(&self) -> Vec<String> {
        let mut users = applied(self.dir());
        users.sort_unstable();
        users
    }

    pub fn say(&self, args: &[&str]) -> (bool, String) {
        let output = reactor_output(self.dir(), args);
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    pub fn list(&self, args: &[&str]) -> Vec<Value> {
        reactor_json(self.dir(), &[&["list"], args].concat())
    }

    pub fn kill_9(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill_9();
        }
    }

    /// Ends the daemon as a service manager does.
    pub fn stop(&mut self) {
        let daemon = self.daemon.take().expect("a daemon");
        daemon.terminate();
        assert!(daemon.wait(LONG).is_some_and(|status| status.success()), "{}", self.scratch.log());
    }
}

/// Waits until nothing is in a queue any more, acknowledged all of it.
pub fn until_empty(broker: &RabbitMq, queue: &str) {
    wait_until("everything is acknowledged", LONG, || {
        broker.queue(queue).is_some_and(|queue| (queue.ready, queue.unacked) == (0, 0))
    });
}

fn prefix(name: &str) -> String {
    format!("org.test.{name}")
}

/// The words of a durable queue of this name, with all topics of the site of this name.
pub fn queue(name: &str) -> String {
    let (of_queue, prefix) = ("durable: true, auto_delete: false, exclusive: false", prefix(name));
    format!(
        "queues: {{ {name}: {{ {of_queue} }} }}, bindings: [ {{ exchange: amq.topic, routing_keys: '{prefix}.#' }} ], topic_prefix: {prefix}"
    )
}
