//! The real Python fedmsg, each program in a process of its own: publisher, validating consumer, relay. They end with the test,
//! even when that is killed, because they end with their stdin.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::pki::{Pki, SIGNER};
use crate::process::{Child, command};
use crate::test_deps;

/// Longest wait for an answer of a Python program. Importing fedmsg takes a second on an idle machine, and over a minute has
/// been seen on a busy one.
const ANSWER_MAX: Duration = Duration::from_secs(180);
/// The name of the peers' service in fedmsg's configuration.
const SERVICE: &str = "peer.test";
/// What the peers' topics begin with.
pub const PREFIX: &str = "org.fedoraproject.dev.peer";

/// The virtual environment with the real fedmsg.
#[derive(Clone, Debug)]
pub struct PythonPeers {
    python: PathBuf,
}

impl PythonPeers {
    /// Where `scripts/install-test-deps` put it.
    ///
    /// # Panics
    /// When it is not there: the real peers are not optional.
    #[must_use]
    pub fn find() -> Self {
        let deps = test_deps();
        let python = deps.join("venv/bin/python");
        assert!(python.exists(), "the real fedmsg is not in {}\nhint: run scripts/install-test-deps", deps.display());
        Self { python }
    }

    /// A program of `tests/peers`, in a directory of its own under `dir`, with this fedmsg configuration.
    fn start(&self, dir: &Path, script: &str, args: &[&str], config: &Value) -> Peer {
        let cwd = directory(dir, script);
        std::fs::create_dir(cwd.join("fedmsg.d")).expect("a directory");
        let text = format!("import json\nconfig = json.loads(r'''{config}''')\n");
        std::fs::write(cwd.join("fedmsg.d/test.py"), text).expect("its configuration");
        Peer::start(command(&self.python).args(["-W", "ignore"]), script, args, &cwd)
    }

    /// A publisher that binds `port`. Signs with `pki`, if given.
    #[must_use]
    pub fn publisher(&self, dir: &Path, port: u16, pki: Option<&Pki>) -> Publisher {
        let config = json!({"endpoints": {SERVICE: [endpoint(port)]}});
        Publisher::ready(self.start(dir, "publisher", &[SERVICE], &with_signing(config, pki)))
    }

    /// A publisher that connects to a relay's inbound port (`active=True`), and signs.
    #[must_use]
    pub fn active_publisher(&self, dir: &Path, relay_inbound: u16, pki: &Pki) -> Publisher {
        let config =
            json!({"endpoints": {}, "active": true, "relay_inbound": [endpoint(relay_inbound)], "cert_prefix": "peer"});
        Publisher::ready(self.start(dir, "publisher", &["relay_inbound"], &with_signing(config, Some(pki))))
    }

    /// A publisher with a store, whose `fedmsg.replay` answers on the second port.
    #[must_use]
    pub fn publisher_with_replay(&self, dir: &Path, port: u16, replay: u16, pki: Option<&Pki>) -> Publisher {
        let config = json!({"endpoints": {SERVICE: [endpoint(port)]}, "replay_endpoints": {SERVICE: endpoint(replay)}});
        Publisher::ready(self.start(dir, "fedmsg_replay", &[SERVICE], &with_signing(config, pki)))
    }

    /// A hub with a consumer that validates what it gets from `port`.
    #[must_use]
    pub fn consumer(&self, dir: &Path, port: u16, pki: &Pki) -> Peer {
        let config = json!({"endpoints": {SERVICE: [endpoint(port)]}, "reactor.test.consumer": true, "validate_signatures": true});
        self.start(dir, "consumer", &[], &with_signing(config, Some(pki)))
    }

    /// A DNS server that says what it is asked to say (`tests/peers/dns_server.py`); ready when this returns.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn dns(&self, dir: &Path, port: u16) -> Peer {
        let cwd = directory(dir, "dns");
        let mut dns = Peer::start(&mut command(&self.python), "dns_server", &[&port.to_string()], &cwd);
        assert_eq!(dns.line(), "ready", "{}", dns.log());
        dns
    }

    /// What the real `fedmsg-config` prints where these are the endpoints.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn printed_config(&self, dir: &Path, endpoints: &Value) -> String {
        let cwd = directory(dir, "config");
        std::fs::create_dir(cwd.join("fedmsg.d")).expect("a directory");
        let config = json!({"endpoints": endpoints, "environment": "dev", "relay_inbound": ["tcp://127.0.0.1:2003"]});
        let text = format!("import json\nconfig = json.loads(r'''{config}''')\n");
        std::fs::write(cwd.join("fedmsg.d/test.py"), text).expect("its configuration");
        let program = self.python.with_file_name("fedmsg-config");
        let output =
            command(&self.python).arg("-W").arg("ignore").arg(program).current_dir(&cwd).env("HOME", &cwd).output();
        let output = output.expect("fedmsg-config");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// A hub that catches up from `url`, as datagrepper's; `status` has the last message that it handled. With `pki` it validates.
    #[must_use]
    pub fn backlog(&self, dir: &Path, url: &str, status: &Value, pki: Option<&Pki>) -> Peer {
        let config = json!({"endpoints": {}, "reactor.test.consumer": true, "status_directory": "status", "datagrepper_url": url, "validate_signatures": pki.is_some()});
        self.start(dir, "backlog", &[&status.to_string()], &with_signing(config, pki))
    }

    /// `fedmsg-relay` from one port to the other.
    #[must_use]
    pub fn relay(&self, dir: &Path, inbound: u16, outbound: u16) -> Peer {
        let outbound = format!("tcp://*:{outbound}");
        let config = json!({"endpoints": {"relay_outbound": [outbound]}, "relay_inbound": [format!("tcp://127.0.0.1:{inbound}")]});
        self.start(dir, "relay", &[], &with_signing(config, None))
    }
}

/// A new directory for a program of `tests/peers`.
pub(crate) fn directory(dir: &Path, script: &str) -> PathBuf {
    tempfile::Builder::new().prefix(script).tempdir_in(dir).expect("a directory").keep()
}

fn endpoint(port: u16) -> String {
    format!("tcp://127.0.0.1:{port}")
}

fn with_signing(mut config: Value, pki: Option<&Pki>) -> Value {
    let common = json!({
        "topic_prefix": "org.fedoraproject", "environment": "dev", "post_init_sleep": 0.0, "zmq_linger": 2000,
        "sign_messages": pki.is_some(), "zmq_tcp_keepalive": 1, "zmq_tcp_keepalive_cnt": 3, "zmq_tcp_keepalive_idle": 60, "zmq_tcp_keepalive_intvl": 5, "zmq_reconnect_ivl": 50, "zmq_reconnect_ivl_max": 200,
        "crypto_backend": "x509", "zmq_enabled": true, "zmq_strict": false, "routing_policy": {}, "routing_nitpicky": false,
    });
    merge(&mut config, common);
    if config.get("validate_signatures").is_none() {
        merge(&mut config, json!({"validate_signatures": false}));
    }
    if let Some(pki) = pki {
        // fedmsg looks an active publisher's certificate up by the machine's name.
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("the machine's name");
        let host = host.trim().split('.').next().unwrap_or_default();
        let certificates = json!({SERVICE: SIGNER, format!("peer.{host}"): SIGNER});
        let locations = json!({"ssldir": pki.dir, "ca_cert_location": pki.file("ca.crt"), "crl_location": pki.file("crl.pem"), "certnames": certificates});
        merge(&mut config, locations);
    }
    config
}

fn merge(config: &mut Value, more: Value) {
    if let (Value::Object(config), Value::Object(more)) = (config, more) {
        config.extend(more);
    }
}

/// A running Python program, killed when this goes.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Peer {
    /// Starts a program of `tests/peers` with this Python, in this directory.
    pub(crate) fn start(python: &mut Command, script: &str, args: &[&str], cwd: &Path) -> Self {
        let log = std::fs::File::create(cwd.join("log")).expect("its log");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(format!("{script}.py"));
        python.arg(script).args(args).current_dir(cwd).env("HOME", cwd).env_remove("VIRTUAL_ENV");
        python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = Child::start(python);
        let stdin = child.inner.stdin.take();
        let lines = lines(child.inner.stdout.take().expect("its stdout"));
        Self { child, stdin, lines, log: cwd.join("log") }
    }

    /// Tells it a line, and returns the next one that it prints.
    ///
    /// # Panics
    /// With its log, when it does not answer.
    pub fn ask(&mut self, line: &Value) -> String {
        let stdin = self.stdin.as_mut().expect("its stdin");
        let told = writeln!(stdin, "{line}").and_then(|()| stdin.flush());
        told.unwrap_or_else(|error| panic!("{error}: {}", self.log()));
        self.line()
    }

    /// How it ended.
    ///
    /// # Panics
    /// With its log, when it does not end.
    pub fn end(&mut self) -> ExitStatus {
        self.child.wait(ANSWER_MAX).unwrap_or_else(|| panic!("the peer does not end: {}", self.log()))
    }

    /// The next line that it prints; none if it prints none within `limit`.
    ///
    /// # Panics
    /// With its log, when it has ended.
    #[must_use]
    pub fn line_within(&mut self, limit: Duration) -> Option<String> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the peer has ended: {}", self.log()),
        }
    }

    /// The next line that it prints.
    ///
    /// # Panics
    /// With its log, when there is none.
    #[must_use]
    pub fn line(&mut self) -> String {
        self.line_within(ANSWER_MAX).unwrap_or_else(|| panic!("the peer says nothing: {}", self.log()))
    }

    /// What it said on stderr.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill_9(&mut self) {
        self.child.kill_9();
    }
}

/// A real fedmsg publisher.
#[derive(Debug)]
pub struct Publisher(Peer);

impl Publisher {
    fn ready(mut peer: Peer) -> Self {
        assert_eq!(peer.line(), "ready", "{}", peer.log());
        Self(peer)
    }

    /// Publishes `msg` on `org.fedoraproject.dev.peer.TOPIC`; returns the exact body that went out.
    ///
    /// # Panics
    /// When the publisher does not do it.
    pub fn publish(&mut self, topic: &str, msg: &Value) -> String {
        self.0.ask(&json!({"topic": topic, "msg": msg}))
    }

    /// SIGKILL.
    pub fn kill_9(&mut self) {
        self.0.kill_9();
    }
}

/// The lines that a program prints, as they come.
pub(crate) fn lines(stdout: ChildStdout) -> Receiver<String> {
    let (to, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if to.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
