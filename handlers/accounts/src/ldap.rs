//! The source `ldap`.

use std::collections::BTreeSet;

use handler_api::Failure;
use serde_json::Value;

use crate::{Account, Members};

/// The source, as configured.
#[derive(Debug)]
pub struct Ldap {}

impl Ldap {
    /// Reads the block; the words common to all sources are not in it any more.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word.
    pub fn open(config: &Value) -> Result<Self, Failure> {
        let _ = config;
        Err(Failure::permanent("not built yet"))
    }

    /// See [`crate::Accounts::user`].
    ///
    /// # Errors
    /// Whatever is not a certain answer.
    pub async fn user(&self, name: &str, groups: &BTreeSet<String>) -> Result<Option<Account>, Failure> {
        let _ = (name, groups);
        Err(Failure::permanent("not built yet"))
    }

    /// See [`crate::Accounts::members`].
    ///
    /// # Errors
    /// Whatever is not a certain and whole answer.
    pub async fn members(&self, groups: &BTreeSet<String>) -> Result<Members, Failure> {
        let _ = groups;
        Err(Failure::permanent("not built yet"))
    }
}
