//! A real RabbitMQ of the test's own: a node with its own directory, ports, cookie and epmd, on the loopback only. AMQP in the
//! clear (users with a password) and over TLS (users with a certificate or a password).
//!
//! There is one virtual host, [`VHOST`]. [`ADMIN`], [`REACTOR`] and [`PEER`] may do everything in it; [`FEDORA`] what Fedora's
//! public broker lets everybody do: have queues named with a UUID or by the broker, and read.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::{Child, command, mortal};
use crate::tls::{Ca, DAYS};
use crate::{Scratch, free_port, wait_until};

/// Its virtual host. In a URL it is `%2Fpubsub`.
pub const VHOST: &str = "/pubsub";
/// Has [`PASSWORD`] and no certificate.
pub const ADMIN: &str = "admin";
/// The user of the daemon under test: has [`PASSWORD`] and a certificate.
pub const REACTOR: &str = "reactor";
/// The user of the Python peers: has a certificate and no password.
pub const PEER: &str = "peer";
/// May do what Fedora's public broker allows: has a certificate and no password.
pub const FEDORA: &str = "fedora";
/// Another certificate of [`REACTOR`]'s, which has ended.
pub const EXPIRED: &str = "expired";
/// A certificate in the name of [`REACTOR`] by a CA that the broker does not know.
pub const STRANGER: &str = "stranger";
/// A server's certificate by its CA that has ended; it does not use it.
pub const ENDED: &str = "ended";
/// The password of those who have one.
pub const PASSWORD: &str = "correct-horse";

/// Longest start, longest stop, and longest wish to it. It takes some seconds of CPU time.
const START_MAX: Duration = Duration::from_secs(90);
/// Where Debian has the programs that do not change their user.
const BIN: &str = "/usr/lib/rabbitmq/bin";
const HINT: &str = "hint: run scripts/install-test-deps";
/// What it says when it serves.
const READY: &str = "Server startup complete";
/// How long a client may take to log in, in milliseconds. By default it hangs up after 5 s of TLS, without a word: a Python client
/// on a busy machine may take longer.
const HANDSHAKE_MS_MAX: u32 = 120_000;
/// The free space that it wants when nothing is wrong, in bytes.
const DISK_BYTES: &str = "1000000";
/// The free space that no disk has, in bytes.
const DISK_BYTES_MUCH: &str = "1000000000000000000";

/// A broker. It ends with this.
#[derive(Debug)]
pub struct RabbitMq {
    server: Option<Child>,
    _epmd: Child,
    dir: PathBuf,
    ca: Ca,
    others: Ca,
    amqp: u16,
    amqps: u16,
    /// Where its programs meet it, and where they ask for that.
    nodes: u16,
    epmd: u16,
}

/// What a queue has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Messages that wait to be delivered.
    pub ready: u64,
    /// Messages that are delivered and not acknowledged.
    pub unacked: u64,
    /// Who consumes from it.
    pub consumers: u64,
}

/// A broker of several tests: see [`RabbitMq::shared`].
#[derive(Debug)]
pub struct Shared {
    broker: RabbitMq,
    /// The kernel ends a [`mortal`] program with the thread that started it: that thread waits for the end of this.
    _keeper: Sender<()>,
    _scratch: Scratch,
}

impl Shared {
    fn new() -> Self {
        let scratch = Scratch::new("rabbitmq");
        let dir = scratch.path().to_owned();
        let (made, broker) = channel();
        let (keeper, over) = channel();
        std::thread::spawn(move || {
            // Whoever asked for it may have given up.
            let _ = made.send(RabbitMq::start(&dir));
            let _ = over.recv();
        });
        Self { broker: broker.recv().expect("a broker"), _keeper: keeper, _scratch: scratch }
    }
}

impl std::ops::Deref for Shared {
    type Target = RabbitMq;
    fn deref(&self) -> &RabbitMq {
        &self.broker
    }
}

impl RabbitMq {
    /// One that all tests share which do it no harm: a start takes seconds. It goes with the last of them that has it.
    ///
    /// # Panics
    /// When it does not start, or is not installed.
    #[must_use]
    pub fn shared() -> Arc<Shared> {
        static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());
        // A test that failed while it made one leaves none behind.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let made = Arc::new(Shared::new());
            *shared = Arc::downgrade(&made);
            made
        })
    }

    /// Starts one below `dir`.
    ///
    /// # Panics
    /// When it does not start, or is not installed.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        assert!(Path::new(BIN).join("rabbitmq-server").exists(), "there is no RabbitMQ in {BIN}\n{HINT}");
        let dir = dir.join("rabbitmq");
        std::fs::create_dir(&dir).expect("a directory for the broker");
        let (ca, others) = (Ca::new(&dir.join("pki")), Ca::new(&dir.join("others")));
        ca.server("server", DAYS);
        ca.server(ENDED, "-1");
        for user in [REACTOR, PEER, FEDORA] {
            ca.user(user, user, DAYS);
        }
        ca.user(EXPIRED, REACTOR, "-1");
        others.user(STRANGER, REACTOR, DAYS);
        let (amqp, amqps, nodes, epmd) = (free_port(), free_port(), free_port(), free_port());
        let epmd_child = start_epmd(epmd);
        let mut me = Self { server: None, _epmd: epmd_child, dir, ca, others, amqp, amqps, nodes, epmd };
        let write = |name: &str, text: String| std::fs::write(me.dir.join(name), text).expect("a file of the broker");
        write("rabbitmq.conf", me.configuration());
        write("definitions.json", definitions().to_string());
        write("enabled_plugins", "[rabbitmq_auth_mechanism_ssl].\n".to_owned());
        me.resume();
        me
    }

    fn configuration(&self) -> String {
        let (dir, pki) = (self.dir.display(), self.ca.file(""));
        format!(
            "listeners.tcp.1 = 127.0.0.1:{}\nlisteners.ssl.1 = 127.0.0.1:{}\n\
             ssl_options.cacertfile = {pki}ca.crt\nssl_options.certfile = {pki}server.crt\n\
             ssl_options.keyfile = {pki}server.key\nssl_options.verify = verify_peer\n\
             ssl_options.fail_if_no_peer_cert = false\nssl_cert_login_from = common_name\n\
             auth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\nload_definitions = {dir}/definitions.json\n\
             disk_free_limit.absolute = {DISK_BYTES}\n\
             ssl_handshake_timeout = {HANDSHAKE_MS_MAX}\nhandshake_timeout = {HANDSHAKE_MS_MAX}\n",
            self.amqp,
            self.amqps,
            pki = pki.display(),
        )
    }

    /// What its programs need in their environment to be of this broker, and to find nothing of this machine's.
    fn environment(&self, program: &mut Command) {
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let path = |name: &str| text(&self.dir.join(name));
        let loopback = || "-kernel inet_dist_use_interface {127,0,0,1}".to_owned();
        let environment = [
            ("HOME", text(&self.dir)),
            ("PATH", "/usr/bin:/bin".to_owned()),
            ("LC_ALL", "C.UTF-8".to_owned()),
            ("ERL_EPMD_PORT", self.epmd.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_NODENAME", "reactor@localhost".to_owned()),
            ("RABBITMQ_DIST_PORT", self.nodes.to_string()),
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
            ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins")),
            ("RABBITMQ_MNESIA_BASE", path("mnesia")),
            ("RABBITMQ_LOG_BASE", text(&self.dir)),
            // Its stdout.
            ("RABBITMQ_LOGS", "-".to_owned()),
            // One scheduler: with as many as there are processors it takes a quarter more to start.
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", loopback() + " +S 1:1"),
            ("RABBITMQ_CTL_ERL_ARGS", loopback()),
            // Any free port, so that many of them run side by side.
            ("RABBITMQ_CTL_DIST_PORT_MIN", "0".to_owned()),
            ("RABBITMQ_CTL_DIST_PORT_MAX", "0".to_owned()),
            // The script becomes the server, and does not wait for it: what is killed is the server.
            ("RUNNING_UNDER_SYSTEMD", "1".to_owned()),
        ];
        program.env_clear().envs(environment).current_dir(&self.dir).stdin(Stdio::null());
    }

    /// Starts it again, with what it held.
    ///
    /// # Panics
    /// When it does not start.
    pub fn resume(&mut self) {
        let log = std::fs::File::create(self.dir.join("log")).expect("its log");
        let mut server = mortal(Path::new(BIN).join("rabbitmq-server"));
        self.environment(&mut server);
        server.stdout(log.try_clone().expect("its log")).stderr(log);
        let mut child = Child::start(&mut server);
        wait_until("RabbitMQ serves", START_MAX, || {
            assert!(!child.has_ended(), "RabbitMQ has ended: {}", self.log());
            self.log().contains(READY)
        });
        self.server = Some(child);
    }

    /// Stops it: it tells its clients, and keeps what is durable.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.signal(Signal::TERM);
            assert!(server.wait(START_MAX).is_some(), "RabbitMQ does not stop: {}", self.log());
        }
    }

    /// SIGKILL: what is durable and was confirmed stays.
    pub fn kill_9(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill_9();
        }
    }

    /// What it said since it was started last.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// The port of AMQP in the clear.
    #[must_use]
    pub fn amqp(&self) -> u16 {
        self.amqp
    }

    /// The port of AMQP over TLS, where its name is `localhost`.
    #[must_use]
    pub fn amqps(&self) -> u16 {
        self.amqps
    }

    /// The CA of its certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.ca.file("ca.crt")
    }

    /// The certificate of [`REACTOR`], [`PEER`] or [`FEDORA`], or [`EXPIRED`], [`STRANGER`] or [`ENDED`].
    #[must_use]
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.ca_of(name).file(&format!("{name}.crt"))
    }

    /// Its private key.
    #[must_use]
    pub fn key(&self, name: &str) -> PathBuf {
        self.ca_of(name).file(&format!("{name}.key"))
    }

    fn ca_of(&self, name: &str) -> &Ca {
        if name == STRANGER { &self.others } else { &self.ca }
    }

    /// What the real `rabbitmqctl` says.
    ///
    /// # Panics
    /// When it fails.
    pub fn ctl(&self, args: &[&str]) -> String {
        let mut ctl = command(Path::new(BIN).join("rabbitmqctl"));
        self.environment(&mut ctl);
        let out = ctl.arg("--quiet").args(args).output().expect("rabbitmqctl");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(out.status.success(), "rabbitmqctl {args:?}: {}{}", text(&out.stdout), text(&out.stderr));
        text(&out.stdout)
    }

    /// Closes all connections by force.
    pub fn close_connections(&self) {
        self.ctl(&["close_all_connections", "--vhost", VHOST, "the test says so"]);
    }

    /// Deletes a queue, whoever consumes from it.
    pub fn delete_queue(&self, name: &str) {
        self.ctl(&["delete_queue", "--vhost", VHOST, name]);
    }

    /// Whether the disk is too full: then it takes no messages, and makes publishers wait.
    pub fn disk_alarm(&self, full: bool) {
        self.ctl(&["set_disk_free_limit", if full { DISK_BYTES_MUCH } else { DISK_BYTES }]);
    }

    /// From now on a delivery that is not acknowledged within `ms` milliseconds costs its consumer the channel; for
    /// connections made from now on.
    pub fn consumer_timeout(&self, ms: u32) {
        let set = |what: &str| format!("application:set_env(rabbit, {what}, {ms})");
        self.ctl(&["eval", &format!("{}, {}.", set("consumer_timeout"), set("channel_tick_interval"))]);
    }

    /// What a queue has; none if there is no such queue.
    ///
    /// # Panics
    /// When it does not say.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<Queue> {
        let columns = ["name", "messages_ready", "messages_unacknowledged", "consumers"];
        let list = self.ctl(&[&["list_queues", "--vhost", VHOST, "--formatter", "json"], &columns[..]].concat());
        let list: Value = serde_json::from_str(&list).unwrap_or_else(|error| panic!("{error} in {list}"));
        let row = list.as_array()?.iter().find(|row| row["name"] == name)?;
        let number = |column: &str| row[column].as_u64().expect("a number");
        let (ready, unacked) = (number("messages_ready"), number("messages_unacknowledged"));
        Some(Queue { ready, unacked, consumers: number("consumers") })
    }
}

/// The daemon that tells Erlang's programs where the nodes of this broker listen. Otherwise the first broker would start one that
/// stays.
fn start_epmd(port: u16) -> Child {
    let mut epmd = mortal("/usr/bin/epmd");
    epmd.args(["-port", &port.to_string(), "-address", "127.0.0.1"]).stdin(Stdio::null());
    let mut child = Child::start(epmd.stdout(Stdio::null()).stderr(Stdio::null()));
    wait_until("epmd listens", START_MAX, || {
        assert!(!child.has_ended(), "epmd has ended\n{HINT}");
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    child
}

/// The virtual host and who may what, as the broker's own export has it.
fn definitions() -> Value {
    let queues = r"^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|amq\.gen-.*)$";
    let reads = r"^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|amq\.gen-.*|amq\.topic)$";
    let user = |name: &str, tags: &str, password: bool| {
        // An empty hash fits no password.
        let secret = if password { ("password", PASSWORD) } else { ("password_hash", "") };
        json!({"name": name, "tags": tags, secret.0: secret.1})
    };
    let may = |name: &str, configure: &str, write: &str, read: &str| json!({"user": name, "vhost": VHOST, "configure": configure, "write": write, "read": read});
    let all = |name: &str| may(name, ".*", ".*", ".*");
    json!({
        "vhosts": [{"name": VHOST}],
        "users": [user(ADMIN, "administrator", true), user(REACTOR, "", true), user(PEER, "", false), user(FEDORA, "", false)],
        "permissions": [all(ADMIN), all(REACTOR), all(PEER), may(FEDORA, queues, queues, reads)],
    })
}
