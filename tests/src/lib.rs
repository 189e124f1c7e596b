//! Starts and stops what the tests need. Each server is private to the test run: own port, own directory, loopback only.
//!
//! * [`Scratch`]: a directory that goes with the test, unless the test failed
//! * [`process`]: child processes that never outlive the test
//! * [`daemon`]: the built `reactor`
//! * [`peers`]: the real Python fedmsg: publisher, consumer, relay
//! * [`slapd`], [`kdc`], [`fasjson`]: the real servers that know people: OpenLDAP, MIT Kerberos, FASJSON
//! * [`koji`]: a stand-in for a Koji hub, and the real client
//! * [`datagrepper`]: a stand-in for datagrepper that fails where it is told to; [`datagrepper_real`]: the real one
//! * [`relay`]: a line that breaks on purpose
//! * [`rabbitmq`]: a real RabbitMQ; [`amqp_peers`]: the real Python fedora-messaging, and a bare AMQP client
//! * [`pki`]: certificates in fedmsg's layout; [`tls`]: a CA for servers and users
//! * [`postgres`]: a real PostgreSQL
//! * [`gitolite`]: the real gitolite behind a real sshd
//! * [`rsyncd`]: the real rsync daemon over a tree, with a gate
//! * [`sshd`]: a farm of real sshd "hosts", with faults
//! * [`wait_until`]: instead of sleeping and hoping
//!
//! Nothing in here skips: what a test needs and does not find is a failure that says what to type.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "this is test code: what is not there ends the test")]

pub mod amqp_peers;
pub mod daemon;
pub mod datagrepper;
pub mod datagrepper_real;
pub mod fasjson;
pub mod gitolite;
pub mod kdc;
pub mod koji;
pub mod peers;
pub mod pki;
pub mod postgres;
pub mod process;
pub mod rabbitmq;
pub mod relay;
pub mod rsyncd;
pub mod slapd;
pub mod sshd;
pub mod tls;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};

pub use daemon::{Daemon, reactor_json};

/// Between two looks of [`wait_until`], in milliseconds.
const LOOK_MS: u64 = 5;

/// A directory of one test. It stays (and its path is printed) when the test fails.
#[derive(Debug)]
pub struct Scratch {
    dir: Option<tempfile::TempDir>,
    path: PathBuf,
}

impl Scratch {
    /// A new, empty one. `name` is for people who look into `/tmp`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let dir = tempfile::Builder::new().prefix(&format!("reactor-{name}-")).tempdir().expect("a directory in /tmp");
        let path = dir.path().to_owned();
        Self { dir: Some(dir), path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the daemons in it said on stderr so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path.join(daemon::LOG)).unwrap_or_default()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("the test's files stay in {}", dir.keep().display());
        }
    }
}

/// Longest wait for something that is sure to come: so long that only what never comes reaches it, also on a machine that is
/// slow and busy. No test waits so long unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Looks until `holds` does.
///
/// # Panics
/// With `what`, when it does not hold within `limit`.
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < limit, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(LOOK_MS));
    }
}

/// [`wait_until`] for async tests: others run meanwhile.
///
/// # Panics
/// With `what`, when it does not hold within `limit`.
pub async fn wait_until_async(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < limit, "waited {limit:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
}

/// A number from 0 to `n` - 1.
///
/// # Panics
/// When `n` is 0 or the system has no random numbers.
#[must_use]
pub fn random_below(n: u64) -> u64 {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).expect("random numbers");
    u64::from_le_bytes(bytes) % n
}

/// Where `scripts/install-test-deps` puts what it does not install as Debian's packages.
pub(crate) fn test_deps() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/reactor-test");
    std::env::var_os("REACTOR_TEST_DEPS").map_or_else(home, PathBuf::from)
}

/// Where [`free_port`] looks: below the ports that the kernel gives to connections of its own choice (32768 and up on Linux), so that
/// nobody's connection can have one meanwhile.
const PORTS: Range<u16> = 10_000..32_000;

/// A TCP port on the loopback that nobody listens on now; no test of this process gets it again soon.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicUsize> = OnceLock::new();
    // Elsewhere than another test run on this machine, most likely.
    let next =
        NEXT.get_or_init(|| AtomicUsize::new(usize::try_from(random_below(PORTS.len() as u64)).expect("a number")));
    let mut ports = PORTS.filter_map(|_| PORTS.clone().nth(next.fetch_add(1, Ordering::Relaxed) % PORTS.len()));
    ports.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}
