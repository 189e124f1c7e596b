//! A template makes gitolite rules of what the truth has of a repository. Pure.
//!
//! The built-in template ([`FEDORA`]) is Fedora's layout; a site names another with `template: ./mine.hbs`. Handlebars in
//! strict mode: a value that is not there is an error; nothing is escaped, since every value is a checked name.

use std::collections::BTreeMap;

use handler_api::Failure;

use crate::names::{List, RepoName};
use crate::truth::{People, Repo};

/// The built-in template.
pub const FEDORA: &str = include_str!("fedora.hbs");

/// Where it stands who is in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// In the rules themselves; effective when gitolite has compiled them.
    Compiled,
    /// On the branch `members`, asked at each access (`server/reactor-groups`); the rules hold the names of lists.
    Asked,
}

/// A template that was read.
#[derive(Debug)]
pub struct Layout {}

/// What a template made of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The file, whole, as it goes to `conf/reactor/repos/`; every line was read by [`crate::grammar`]. Empty = nobody may do
    /// anything there, and no file stands there.
    pub text: String,
    /// With [`Membership::Asked`]: the lists that the rules name, and who is in them.
    pub lists: BTreeMap<List, People>,
}

impl Layout {
    /// Reads a template; `name` is its path, for errors.
    ///
    /// # Errors
    /// A permanent failure with the line of the template.
    pub fn read(name: &str, source: &str) -> Result<Self, Failure> {
        let _ = (name, source);
        todo!()
    }

    /// The file of one repository.
    ///
    /// # Errors
    /// A permanent failure: the template names a value that is not there, or made a line that gitolite would not take;
    /// the line is named and shown.
    pub fn render(&self, name: &RepoName, repo: &Repo, membership: Membership) -> Result<Rendered, Failure> {
        let _ = (name, repo, membership);
        todo!()
    }
}
