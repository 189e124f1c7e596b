//! The source `ldap`.

/// The source, as configured.
#[derive(Debug)]
pub struct Ldap {}
