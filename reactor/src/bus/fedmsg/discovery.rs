//! Where a fedmsg bus finds its publishers: listed by the site, by DNS, and in a file with what `fedmsg-config` prints. The latter two are
//! asked again while the daemon runs, on a thread of its own; what they say is connected to, what they say no more is left. So it is
//! when the site itself names others.
//!
//! Unknown is not empty: where no answer comes, or none that names anybody, the addresses from before stay.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Order, Orders, dns};
use crate::bus::Counters;

/// Most addresses that are taken from one place. Each costs a file descriptor.
pub const ADDRESSES_MAX: usize = 1_000;
/// Shortest and longest time after which DNS is asked again, in seconds, whatever the TTL says.
pub const DNS_SECONDS: (u64, u64) = (1, 300);
/// First and longest wait after a question that failed, in seconds.
pub const RETRY_SECONDS: (u64, u64) = (1, 60);
/// How often the file is looked at, in seconds.
pub const FILE_LOOK_SECONDS: u64 = 1;
/// Largest file, in bytes.
pub const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Longest name of a host, in bytes.
const HOST_BYTES_MAX: usize = 255;
/// What the file is called where a site names it.
pub const FILE_WHAT: &str = "what fedmsg-config prints";

/// Where to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// Domains whose publishers DNS names.
    pub domains: Vec<String>,
    /// The server to ask; those of the system where it is not given.
    pub server: Option<SocketAddr>,
    /// A file with the output of `fedmsg-config`.
    pub config: Option<PathBuf>,
}

impl Discovery {
    /// Whether there is nowhere to ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.config.is_none()
    }

    fn places(&self) -> Vec<Place> {
        let domains = self.domains.iter().map(|domain| Place::Dns(domain.clone(), self.server));
        domains.chain(self.config.iter().map(|path| Place::File(path.clone()))).collect()
    }

    /// Asks everywhere once: what each place is called, and its addresses, or why there are none. Blocking.
    #[must_use]
    pub fn ask(&self) -> Vec<(String, Result<Vec<String>, String>)> {
        self.places().iter().map(|place| (place.shown(), place.ask().map(|answer| answer.addresses))).collect()
    }
}

/// What a site says of the addresses of a bus.
#[derive(Debug)]
pub(super) struct Named {
    /// Those that it lists.
    pub fixed: Vec<String>,
    /// Where it has more looked for.
    pub discovery: Discovery,
}

#[derive(PartialEq)]
enum Place {
    Dns(String, Option<SocketAddr>),
    File(PathBuf),
}

impl Place {
    fn shown(&self) -> String {
        match self {
            Self::Dns(domain, _) => format!("DNS of {domain}"),
            Self::File(path) => path.display().to_string(),
        }
    }

    fn ask(&self) -> Result<dns::Answer, String> {
        match self {
            Self::Dns(domain, server) => dns::publishers(domain, *server),
            Self::File(path) => Ok(dns::Answer { addresses: of_file(path)?, ttl_s: 0 }),
        }
    }
}

/// The addresses in a file with what `fedmsg-config` prints: all of `endpoints`, each entry a list of addresses. What nobody can
/// connect to (`tcp://*:3000`) is left out.
///
/// # Errors
/// That it can't be read, is no such output, or names nobody.
pub fn of_file(path: &Path) -> Result<Vec<String>, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| format!("it can't be read: {error}"))?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| format!("it can't be read: {error}"))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    let config: Value = serde_json::from_str(&text).map_err(|error| format!("it is not JSON: {error}"))?;
    let endpoints = config["endpoints"].as_object().ok_or("it has no map `endpoints`")?;
    let all: BTreeSet<&str> =
        endpoints.values().flat_map(|list| list.as_array().into_iter().flatten()).filter_map(Value::as_str).collect();
    let addresses: Vec<String> = all.into_iter().filter(|text| is_address(text)).map(str::to_owned).collect();
    match addresses.len() {
        0 => Err("its `endpoints` name no address that can be connected to".to_owned()),
        n if n > ADDRESSES_MAX => Err(format!("it names {n} addresses; at most {ADDRESSES_MAX} are taken")),
        _ => Ok(addresses),
    }
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':')) else { return false };
    // `;` would begin libzmq's form with an address of ours.
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    let is_host = (1..=HOST_BYTES_MAX).contains(&host.len()) && host.chars().all(is_part);
    is_host && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// Which version of a file was read.
type Stamp = (u64, i64, i64, u64);

/// One place, and what it last said.
struct Followed {
    place: Place,
    known: Vec<String>,
    wrong: Option<String>,
    stamp: Option<Stamp>,
    due: Instant,
    failed: u32,
}

/// The thread. It ends when the source that it was made for goes.
struct Follower {
    bus: Arc<str>,
    fixed: Vec<String>,
    places: Vec<Followed>,
    orders: Weak<Mutex<zmq::Socket>>,
    counters: Arc<Counters>,
    changes: Receiver<Named>,
    /// What the source is connected to.
    told: BTreeSet<String>,
}

/// Begins to ask. The thread ends once what is returned is dropped.
///
/// # Errors
/// When the system gives no more threads.
pub(super) fn follow(
    bus: &Arc<str>,
    named: Named,
    orders: &Orders,
    counters: &Arc<Counters>,
) -> std::io::Result<Sender<Named>> {
    let (sender, changes) = channel();
    let mut follower = Follower {
        bus: bus.clone(),
        told: named.fixed.iter().cloned().collect(),
        fixed: Vec::new(),
        places: Vec::new(),
        orders: Arc::downgrade(&orders.0),
        counters: counters.clone(),
        changes,
    };
    follower.change(named);
    std::thread::Builder::new().name(format!("addresses {bus}")).spawn(move || follower.run())?;
    Ok(sender)
}

impl Follower {
    #[allow(clippy::disallowed_methods, reason = "the time of the next question is measured")]
    fn run(mut self) {
        loop {
            let now = Instant::now();
            let bus = &self.bus;
            self.places.iter_mut().filter(|followed| followed.due <= now).for_each(|followed| followed.look(bus, now));
            if !self.tell() {
                return;
            }
            let changed = match self.places.iter().map(|followed| followed.due).min() {
                Some(due) => self.changes.recv_timeout(due.saturating_duration_since(Instant::now())),
                // Nowhere to ask: until the site names others.
                None => self.changes.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match changed {
                Ok(named) => self.change(named),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// What the site says now. A place that it named before keeps what is known of it.
    #[allow(clippy::disallowed_methods, reason = "the time of the next question is measured")]
    fn change(&mut self, named: Named) {
        let (mut before, now) = (std::mem::take(&mut self.places), Instant::now());
        let followed = |place| match before.iter().position(|followed| followed.place == place) {
            Some(at) => before.swap_remove(at),
            None => Followed { place, known: Vec::new(), wrong: None, stamp: None, due: now, failed: 0 },
        };
        self.places = named.discovery.places().into_iter().map(followed).collect();
        self.fixed = named.fixed;
    }

    /// Passes on what is known now. False when the source is gone.
    fn tell(&mut self) -> bool {
        let Some(orders) = self.orders.upgrade() else { return false };
        let known = self.places.iter().flat_map(|followed| &followed.known);
        let mut wanted: BTreeSet<String> = self.fixed.iter().chain(known).cloned().collect();
        // Whom a place that has not answered yet would name is not known: until then nobody is left.
        if self.places.iter().any(|followed| followed.known.is_empty()) {
            wanted.extend(self.told.iter().cloned());
        }
        if wanted != self.told {
            Orders(orders).order(Order::Connect(wanted.iter().cloned().collect()));
            self.told = wanted;
        }
        let wrong: Vec<String> = self.places.iter().filter_map(Followed::problem).collect();
        self.counters.set_trouble((!wrong.is_empty()).then(|| wrong.join("; ")));
        self.counters.set_addresses(self.places.iter().map(Followed::shown).collect());
        true
    }
}

impl Followed {
    fn look(&mut self, bus: &str, now: Instant) {
        if let Place::File(path) = &self.place {
            self.due = now + Duration::from_secs(FILE_LOOK_SECONDS);
            let stamp =
                std::fs::metadata(path).ok().map(|file| (file.ino(), file.mtime(), file.mtime_nsec(), file.len()));
            if stamp.is_some() && stamp == self.stamp {
                return;
            }
            self.stamp = stamp;
        }
        match self.place.ask() {
            Ok(answer) => self.answered(bus, answer, now),
            Err(why) => self.missed(bus, why, now),
        }
    }

    fn answered(&mut self, bus: &str, answer: dns::Answer, now: Instant) {
        if self.known != answer.addresses || self.wrong.is_some() {
            tracing::info!(bus, "{}: {} addresses", self.place.shown(), answer.addresses.len());
        }
        if matches!(self.place, Place::Dns(..)) {
            self.due = now + Duration::from_secs(u64::from(answer.ttl_s).clamp(DNS_SECONDS.0, DNS_SECONDS.1));
        }
        self.known = answer.addresses;
        (self.wrong, self.failed) = (None, 0);
    }

    fn missed(&mut self, bus: &str, why: String, now: Instant) {
        self.stamp = None;
        if matches!(self.place, Place::Dns(..)) {
            let wait = (RETRY_SECONDS.0 << self.failed.min(10)).min(RETRY_SECONDS.1);
            self.due = now + Duration::from_secs(wait);
            self.failed += 1;
        }
        if self.wrong.as_ref() != Some(&why) {
            tracing::warn!(bus, "{}: {why}; {}", self.place.shown(), self.stays());
        }
        self.wrong = Some(why);
    }

    fn stays(&self) -> String {
        match self.known.len() {
            0 => "no address of it is known yet, it is asked again".to_owned(),
            n => format!("the {n} addresses from before stay"),
        }
    }

    fn problem(&self) -> Option<String> {
        self.wrong.as_ref().map(|why| format!("{}: {why}; {}", self.place.shown(), self.stays()))
    }

    fn shown(&self) -> String {
        format!("{} from {}", self.known.len(), self.place.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_fedmsg_config_prints() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            of_file(file.path())
        };
        let text = r#"{"endpoints": {"a.host": ["tcp://a:3000", "tcp://*:3001", "tcp://a:0"], "b.host": ["tcp://b:3000", "tcp://a:3000", 7],
            "relay_outbound": ["tcp://r:4001"], "odd": "tcp://c:1"}, "relay_inbound": ["tcp://r:2003"], "environment": "dev"}"#;
        assert_eq!(read(text).unwrap(), ["tcp://a:3000", "tcp://b:3000", "tcp://r:4001"]);
        for (text, why) in [
            ("{", "not JSON"),
            ("[]", "no map `endpoints`"),
            (r#"{"endpoints": {"a": ["tcp://*:1"]}}"#, "name no address"),
            (
                r#"{"endpoints": {"a": ["tcp://10.0.0.1;b:1", "ipc:///run/x", "tcp://a b:1", "tcp://:1"]}}"#,
                "name no address",
            ),
            (&format!(r#"{{"endpoints": {{"a": ["tcp://{}:1"]}}}}"#, "a".repeat(300)), "name no address"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        assert!(of_file(Path::new("/nonexistent")).unwrap_err().contains("can't be read"));
    }
}
