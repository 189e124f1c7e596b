//! Reads a managed file as gitolite would (`Conf.pm`, `Explode.pm`, `Store.pm` of 3.6), and more strictly: what gitolite
//! ignores with a warning is an error here. Pure.

/// One rule of one user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// The repository (or pattern) that the rule is about.
    pub repo: String,
    /// `R`, `RW`, `RW+C`, `-`, …
    pub permission: String,
    /// As it stands there; empty = all refs.
    pub refex: String,
    /// A user, or a group with its `@`.
    pub who: String,
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// The rules in their order, which counts: the first that matches decides. One for each name on a line.
    pub rules: Vec<Rule>,
    /// `config` and `option` lines, as they stand there, in their order, with the repository in front.
    pub options: Vec<String>,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Where, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
    /// Why, and what is expected.
    pub why: String,
}

/// Reads a file of ours.
///
/// # Errors
/// The first line that gitolite would refuse, ignore or understand otherwise than a reader: a word it does not know, a bad
/// name, a rule before any `repo`, a group definition, `include` or `subconf`, a continuation.
pub fn read(text: &str) -> Result<Section, Wrong> {
    let _ = text;
    todo!()
}
