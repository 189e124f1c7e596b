//! The real datagrepper 1.1.0 over the real datanommer.models, on a [`Postgres`] of the test's own.

use std::path::Path;

use crate::peers::{Peer, directory};
use crate::postgres::Postgres;
use crate::process::command;
use crate::{free_port, test_deps};

/// A running one.
#[derive(Debug)]
pub struct RealDatagrepper {
    peer: Peer,
    port: u16,
    _database: Postgres,
}

impl RealDatagrepper {
    /// Starts one below `dir`, with nothing in it.
    ///
    /// # Panics
    /// When it does not start, or is not installed: the real one is not optional.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        let deps = test_deps();
        let python = deps.join("datagrepper/bin/python");
        assert!(python.exists(), "datagrepper is not in {}\nhint: run scripts/install-test-deps", deps.display());
        let (database, port) = (Postgres::start(dir, ""), free_port());
        let socket = database.socket().display().to_string();
        let args = [port.to_string(), socket, database.port().to_string()];
        let cwd = directory(dir, "datagrepper_app");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut peer = Peer::start(command(python).args(["-W", "ignore"]), "datagrepper_app", &args, &cwd);
        assert_eq!(peer.line(), "ready", "{}", peer.log());
        Self { peer, port, _database: database }
    }

    /// Stores an envelope.
    ///
    /// # Panics
    /// When it does not.
    pub fn keep(&mut self, envelope: &str) {
        let said = self.peer.ask(&serde_json::from_str(envelope).expect("JSON"));
        assert_eq!(said, "kept", "{}", self.peer.log());
    }

    /// Where its API is.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }
}
