//! The source `ldap`: a directory with FreeIPA's tree, or with keys as openssh-lpk has them and POSIX groups.
//!
//! A directory leaves out what the asker may not read, and says nothing. So an answer that takes something away (no such
//! person, no keys, no groups) counts only after a look at whether keys and memberships can be seen at all
//! (`Session::look`).

mod config;
mod dn;
mod session;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;

use handler_api::Failure;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::{Account, Members};
use config::Config;
pub use config::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, SERVERS_MAX, TIMEOUT_SECONDS_DEFAULT, TIMEOUT_SECONDS_MAX};
use session::Session;
pub use wire::{ANSWER_BYTES_MAX, CA_BYTES_MAX, ENTRIES_MAX, PAGES_MAX};
use wire::{Trouble, Wire};

/// The source, as configured, and its connection.
#[derive(Debug)]
pub struct Ldap {
    config: Arc<Config>,
    /// One warm connection, which all questions share.
    live: Mutex<Option<Wire>>,
}

impl Ldap {
    /// Reads the block; the words common to all sources are not in it any more.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word.
    pub fn open(config: &Value) -> Result<Self, Failure> {
        Ok(Self { config: Arc::new(Config::read(config)?), live: Mutex::new(None) })
    }

    /// See [`crate::Accounts::user`].
    ///
    /// # Errors
    /// Whatever is not a certain answer.
    pub async fn user(&self, name: &str, groups: &BTreeSet<String>) -> Result<Option<Account>, Failure> {
        let (session, warm) = self.session().await?;
        match session.user(name, groups).await {
            Err(Trouble::Lost(_)) if warm => {
                let session = self.anew().await?;
                self.said(&session, session.user(name, groups).await).await
            }
            answer => self.said(&session, answer).await,
        }
    }

    /// See [`crate::Accounts::members`].
    ///
    /// # Errors
    /// Whatever is not a certain and whole answer.
    pub async fn members(&self, groups: &BTreeSet<String>) -> Result<Members, Failure> {
        let (session, warm) = self.session().await?;
        match session.members(groups).await {
            Err(Trouble::Lost(_)) if warm => {
                let session = self.anew().await?;
                self.said(&session, session.members(groups).await).await
            }
            answer => self.said(&session, answer).await,
        }
    }

    /// The connection, opened where there is none; and whether it was there before: then it may have been lost unnoticed.
    async fn session(&self) -> Result<(Session, bool), Failure> {
        let mut live = self.live.lock().await;
        if let Some(wire) = live.as_ref().filter(|wire| !wire.is_gone()) {
            return Ok((Session::new(wire.clone(), &self.config), true));
        }
        let wire = self.connect().await?;
        *live = Some(wire.clone());
        Ok((Session::new(wire, &self.config), false))
    }

    /// A new connection in place of the one that was lost.
    async fn anew(&self) -> Result<Session, Failure> {
        let mut live = self.live.lock().await;
        *live = None;
        let wire = self.connect().await?;
        *live = Some(wire.clone());
        Ok(Session::new(wire, &self.config))
    }

    /// Connects to the first server that takes us.
    async fn connect(&self) -> Result<Wire, Failure> {
        let mut failures = Vec::new();
        for server in &self.config.servers {
            match Wire::open(&self.config, server).await {
                Ok(wire) => return Ok(wire),
                Err(failure) => failures.push(failure),
            }
        }
        let said: Vec<&str> = failures.iter().map(Failure::message).collect();
        let failure = Failure::retry(said.join("; "));
        Err(match failures.iter().find_map(Failure::hint) {
            Some(hint) => failure.hinting(hint),
            None => failure,
        })
    }

    /// The end of a question.
    async fn said<T>(&self, session: &Session, answer: Result<T, Trouble>) -> Result<T, Failure> {
        match answer {
            Ok(answer) => Ok(answer),
            Err(Trouble::Failed(failure)) => Err(failure),
            Err(Trouble::Lost(why)) => {
                *self.live.lock().await = None;
                let server = session.server();
                let failure = Failure::retry(format!("{server} did not answer to the end: {why}"));
                Err(failure.hinting(wire::look_there(server)))
            }
        }
    }
}
