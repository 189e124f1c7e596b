//! The real Python fedora-messaging 3.9.1 on a [`RabbitMq`], each program in a process of its own: publisher, consumer, and a bare
//! AMQP client (pika) for what is on the wire. They speak TLS and prove who they are with a certificate. They end with the test,
//! even when that is killed, because they end with their stdin.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::peers::{Peer, directory};
use crate::process::command;
use crate::rabbitmq::RabbitMq;
use crate::test_deps;

/// What the topics of the publishers begin with.
pub const PREFIX: &str = "org.fedoraproject.test";
/// The priority of what they publish.
pub const PRIORITY: u8 = 3;
/// The schema that they know beside the base: `user` and `group`, and perhaps `package`.
pub const SCHEMA: &str = "peer.group.changeV1";

/// The virtual environment with the real fedora-messaging.
#[derive(Clone, Debug)]
pub struct AmqpPeers {
    python: PathBuf,
    prefix: String,
}

impl AmqpPeers {
    /// Where `scripts/install-test-deps` put it.
    ///
    /// # Panics
    /// When it is not there: the real peers are not optional.
    #[must_use]
    pub fn find() -> Self {
        Self::about(PREFIX)
    }

    /// [`Self::find`], with topics that begin with `prefix`: what they publish, and what they listen to. Tests that share a
    /// broker do not hear each other then.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn about(prefix: &str) -> Self {
        let python = test_deps().join("fedora-messaging/bin/python");
        assert!(python.exists(), "there is no {}\nhint: run scripts/install-test-deps", python.display());
        Self { python, prefix: prefix.to_owned() }
    }

    /// A publisher, as this user of the broker.
    #[must_use]
    pub fn publisher(&self, dir: &Path, broker: &RabbitMq, user: &str) -> Publisher {
        Publisher(self.start(dir, "amqp_publisher", &[], &configuration(broker, user, None, &self.prefix)))
    }

    /// `fedora-messaging consume`, as this user, of all topics: from this durable queue, or from one that the broker names and
    /// that goes with the connection. Each line that it prints is a message, as JSON: `id`, `topic`, `body`, `severity`, `class`,
    /// `queue`, `priority`, `headers`.
    #[must_use]
    pub fn consumer(&self, dir: &Path, broker: &RabbitMq, user: &str, queue: Option<&str>) -> Peer {
        self.start(dir, "amqp_consumer", &[], &configuration(broker, user, queue, &self.prefix))
    }

    /// Listens to everything. Each line that it prints is a delivery, as JSON; `tests/peers/amqp_raw.py` says what is in it. The
    /// first line is `ready`, or what refused it.
    #[must_use]
    pub fn listener(&self, dir: &Path, broker: &RabbitMq, user: &str) -> Peer {
        self.start(
            dir,
            "amqp_raw",
            &["listen", &format!("{}.#", self.prefix)],
            &configuration(broker, user, None, &self.prefix),
        )
    }

    /// Publishes whatever it is told with [`Peer::ask`]; `tests/peers/amqp_raw.py` says how. The first line is `ready`, or what
    /// refused it.
    #[must_use]
    pub fn bare_publisher(&self, dir: &Path, broker: &RabbitMq, user: &str) -> Peer {
        self.start(dir, "amqp_raw", &["publish"], &configuration(broker, user, None, &self.prefix))
    }

    /// Runs a Python program in `dir`, which sees fedora-messaging and the peers' schemas.
    ///
    /// # Panics
    /// When it fails.
    pub fn python(&self, program: &str, dir: &Path) {
        let mut python = command(&self.python);
        python.args(["-W", "ignore", "-c", program]).env("PYTHONPATH", schemas()).current_dir(dir);
        let out = python.env("PYTHONDONTWRITEBYTECODE", "1").output().expect("Python");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    fn start(&self, dir: &Path, script: &str, args: &[&str], configuration: &str) -> Peer {
        let cwd = directory(dir, script);
        std::fs::write(cwd.join("config.toml"), configuration).expect("its configuration");
        let mut python = command(&self.python);
        python.args(["-W", "ignore"]).env("PYTHONDONTWRITEBYTECODE", "1");
        python.env("PYTHONPATH", schemas());
        Peer::start(python.env("FEDORA_MESSAGING_CONF", cwd.join("config.toml")), script, args, &cwd)
    }
}

/// Where the package of their schemas is.
fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/schema")
}

/// A `config.toml` of fedora-messaging: all topics that begin with `prefix`, as this user, from this durable queue or from one
/// that the broker names.
#[must_use]
pub fn configuration(broker: &RabbitMq, user: &str, queue: Option<&str>, prefix: &str) -> String {
    let (ca, key, certificate) = (broker.ca(), broker.key(user), broker.certificate(user));
    let mut text = format!(
        "amqp_url = \"amqps://{user}:@localhost:{}/%2Fpubsub?connection_attempts=1\"\n\
         topic_prefix = \"{prefix}\"\npublish_priority = {PRIORITY}\n\n\
         [tls]\nca_cert = {ca:?}\nkeyfile = {key:?}\ncertfile = {certificate:?}\n",
        broker.amqps()
    );
    if let Some(queue) = queue {
        text += &format!(
            "\n[queues.\"{queue}\"]\ndurable = true\nauto_delete = false\nexclusive = false\narguments = {{}}\n"
        );
    }
    text += &format!("\n[[bindings]]\nexchange = \"amq.topic\"\nrouting_keys = [\"{prefix}.#\"]\n");
    if let Some(queue) = queue {
        text += &format!("queue = \"{queue}\"\n");
    }
    text
}

/// A real fedora-messaging publisher.
#[derive(Debug)]
pub struct Publisher(Peer);

impl Publisher {
    /// Publishes `body` on [`PREFIX`]`.TOPIC`, and waits for the confirm. Returns the message's id.
    ///
    /// # Panics
    /// When the publisher does not do it.
    pub fn publish(&mut self, topic: &str, body: &Value) -> String {
        let answer = self.ask(&json!({"topic": topic, "body": body}));
        answer["id"].as_str().unwrap_or_else(|| panic!("{answer}: {}", self.0.log())).to_owned()
    }

    /// [`Self::publish`] with all that `tests/peers/amqp_publisher.py` can be asked. Returns its answer.
    ///
    /// # Panics
    /// When there is none.
    pub fn ask(&mut self, asked: &Value) -> Value {
        let answer = self.0.ask(asked);
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error} in {answer}"))
    }
}
