//! Which publishers we are connected to, told from the events of the socket's monitor. Pure: time comes in as an argument.
//!
//! Why it is here: libzmq connects again by itself when a connection is lost, but not after what it takes for a breach of
//! protocol: a frame larger than its limit, or a port where (for a while) ZeroMQ is spoken wrongly. Then it gives that
//! address up without a word, and the subscriber is deaf to it until a restart (`session_base.cpp`, `engine_error`, in
//! libzmq 4.3.4). A connection that is lost and not tried again is therefore opened anew by us.
//!
//! The events name an address as it was given only until the first loss; after that as numbers (`tcp://10.0.0.7:3000`). The
//! name behind them is found by the port, among those that were lost and not heard of since.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// After a loss libzmq says within milliseconds that it tries again. If it has not within this, it never will.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(2);
/// Longest wait before an address that is given up again and again is opened anew.
const REOPEN_AFTER_MAX: Duration = Duration::from_secs(64);
/// A connection that held for so long starts again with the shortest wait.
const HELD_FOR: Duration = Duration::from_secs(60);

/// What the monitor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Connected, and both sides speak ZeroMQ.
    Connected,
    /// A connection ended, perhaps before it was usable.
    Lost,
    /// It will be tried again.
    Retried,
}

/// What an event means to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new connection.
    Connected,
    /// A connection that had been usable is gone.
    Lost,
}

/// A connection that was lost, and of which libzmq has not said yet that it tries again.
#[derive(Debug)]
struct Silent {
    /// The addresses, as configured, of which it is one: one, unless that could not be told.
    endpoints: Vec<String>,
    since: Instant,
}

/// The connections of one socket.
#[derive(Debug, Default)]
pub struct Connections {
    endpoints: Vec<String>,
    /// Event address → since when.
    connected: HashMap<String, Instant>,
    silent: Vec<Silent>,
    /// Numeric addresses heard of since somebody is silent, that can't be told apart yet.
    heard: Vec<String>,
    /// Numeric address → the configured addresses of which it is one.
    behind: HashMap<String, Vec<String>>,
    /// How often in a row an address was given up.
    given_up: HashMap<String, u32>,
}

impl Connections {
    /// For these addresses, as they were given to the socket.
    #[must_use]
    pub fn new(endpoints: Vec<String>) -> Self {
        Self { endpoints, ..Self::default() }
    }

    /// One more address.
    pub fn add(&mut self, endpoint: &str) {
        self.endpoints.push(endpoint.to_owned());
    }

    /// One address less, which we have left ourselves; how many connections that were usable ended with it.
    pub fn forget(&mut self, endpoint: &str) -> u64 {
        let is_its = |names: &[String]| names.iter().all(|name| name == endpoint);
        let numeric: Vec<String> =
            self.behind.iter().filter(|(_, names)| is_its(names)).map(|(address, _)| address.clone()).collect();
        let before = self.connected.len();
        self.connected.retain(|address, _| address != endpoint && !numeric.contains(address));
        self.endpoints.retain(|one| one != endpoint);
        self.behind.retain(|_, names| !is_its(names));
        self.silent.retain(|silent| !is_its(&silent.endpoints));
        self.given_up.remove(endpoint);
        (before - self.connected.len()) as u64
    }

    /// How many are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.connected.len()
    }

    /// Takes an event of `address` in.
    pub fn note(&mut self, event: Event, address: &str, now: Instant) -> Option<Change> {
        match event {
            Event::Connected => {
                self.heard_of(address);
                self.connected.insert(address.to_owned(), now);
                Some(Change::Connected)
            }
            Event::Retried => {
                self.heard_of(address);
                None
            }
            Event::Lost => {
                let endpoints = self.known_as(address);
                let since = self.connected.remove(address);
                if since.is_some_and(|since| now.saturating_duration_since(since) >= HELD_FOR) {
                    self.given_up.retain(|endpoint, _| !endpoints.contains(endpoint));
                }
                if !endpoints.is_empty() {
                    self.silent.push(Silent { endpoints, since: now });
                }
                since.map(|_| Change::Lost)
            }
        }
    }

    /// The configured addresses behind an event's address.
    fn known_as(&self, address: &str) -> Vec<String> {
        if self.endpoints.iter().any(|endpoint| endpoint == address) {
            return vec![address.to_owned()];
        }
        self.behind.get(address).cloned().unwrap_or_default()
    }

    /// `address` is being tried again, so what it stands for is not given up.
    fn heard_of(&mut self, address: &str) {
        let known = self.known_as(address);
        if !known.is_empty() {
            if let Some(at) = self.silent.iter().position(|silent| silent.endpoints == known) {
                self.silent.remove(at);
            }
            return;
        }
        if !self.heard.iter().any(|heard| heard == address) {
            self.heard.push(address.to_owned());
        }
        self.tell_apart(port(address).to_owned());
    }

    /// Once as many numeric addresses with this port were heard of as named ones are silent, all of those are alive.
    fn tell_apart(&mut self, of_port: String) {
        let is_named = |silent: &Silent| silent.endpoints.iter().all(|name| port(name) == of_port && !is_numeric(name));
        let silent = self.silent.iter().filter(|silent| is_named(silent)).count();
        let heard = self.heard.iter().filter(|address| port(address) == of_port).count();
        if heard < silent {
            return;
        }
        let (alive, silent): (Vec<_>, Vec<_>) = std::mem::take(&mut self.silent).into_iter().partition(is_named);
        self.silent = silent;
        let mut names: Vec<String> = alive.into_iter().flat_map(|silent| silent.endpoints).collect();
        names.dedup();
        for address in self.heard.extract_if(.., |address| port(address) == of_port) {
            if !names.is_empty() {
                self.behind.insert(address, names.clone());
            }
        }
    }

    /// When [`Connections::take_given_up`] will have something, if nothing happens before.
    #[must_use]
    pub fn wake_in(&self, now: Instant) -> Option<Duration> {
        let due = self.silent.iter().map(|silent| silent.since + self.wait(silent));
        due.min().map(|due| due.saturating_duration_since(now))
    }

    /// The addresses that libzmq has given up: disconnect and connect each of them.
    pub fn take_given_up(&mut self, now: Instant) -> Vec<String> {
        let waits: Vec<Duration> = self.silent.iter().map(|silent| self.wait(silent)).collect();
        let mut waits = waits.into_iter();
        let given_up = |silent: &mut Silent| waits.next().is_some_and(|wait| now >= silent.since + wait);
        let mut endpoints: Vec<String> =
            self.silent.extract_if(.., given_up).flat_map(|silent| silent.endpoints).collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        for endpoint in &endpoints {
            *self.given_up.entry(endpoint.clone()).or_default() += 1;
        }
        // From now on they are named as they were given again.
        self.behind.retain(|_, names| !names.iter().any(|name| endpoints.contains(name)));
        if self.silent.is_empty() {
            self.heard.clear();
        }
        endpoints
    }

    fn wait(&self, silent: &Silent) -> Duration {
        let times = silent.endpoints.iter().filter_map(|endpoint| self.given_up.get(endpoint)).max();
        GIVEN_UP_AFTER.saturating_mul(1 << times.copied().unwrap_or(0).min(10)).min(REOPEN_AFTER_MAX)
    }
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap_or_default()
}

/// Whether libzmq always names it the same: an IP address, or not TCP at all.
fn is_numeric(address: &str) -> bool {
    let Some(host) = address.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':')).map(|(host, _)| host) else {
        return true;
    };
    host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
