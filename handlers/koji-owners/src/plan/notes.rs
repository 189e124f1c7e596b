//! What is left alone, and why: told tag by tag, for a sentence a package would be too many to read. Pure.

use std::collections::BTreeMap;

use handler_api::words::quoted;

use crate::names::{TagName, UserName};

/// Packages that one note names; the rest is counted.
const NAMES_SHOWN_MAX: usize = 3;

/// Why something is left alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Its owner stands in another tag, which nobody looks after.
    OwnerInherited {
        /// That tag; what the hub said.
        from: String,
    },
    /// Its owner has no account, and nobody gets it instead.
    NoAccount,
    /// Its owner has no account, and somebody else has it instead.
    OwnedInstead {
        /// Who has it instead.
        instead: UserName,
    },
    /// The truth has no such package on that branch.
    NotInTruth,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Notes(BTreeMap<(TagName, Kind), Which>);

#[derive(Debug, Default)]
struct Which {
    count: usize,
    first: Vec<String>,
}

impl Notes {
    /// One more package of this kind in this tag; `owner` if it matters.
    pub fn add(&mut self, tag: &TagName, kind: Kind, package: &str, owner: Option<&UserName>) {
        let which = self.0.entry((tag.clone(), kind)).or_default();
        which.count += 1;
        if which.first.len() < NAMES_SHOWN_MAX {
            let of = owner.map(|owner| format!(" of {owner}")).unwrap_or_default();
            which.first.push(format!("{}{of}", shown(package)));
        }
    }

    /// A sentence for each tag and kind.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        self.0.iter().map(|((tag, kind), which)| sentence(tag, kind, which)).collect()
    }
}

fn sentence(tag: &TagName, kind: &Kind, which: &Which) -> String {
    let one = which.count == 1;
    let what = which.words();
    match kind {
        Kind::OwnerInherited { from } => {
            let (has, it) = if one { ("has", "its row is") } else { ("have", "their rows are") };
            let from = shown(from);
            format!(
                "{tag}: {what} {has} another owner than the truth says, and {it} inherited from {from}: change them there (`tags` of the handler's block names the tags that are looked after)"
            )
        }
        Kind::NoAccount => {
            let (is, owner) = if one { ("is", "its owner has") } else { ("are", "their owners have") };
            format!(
                "{tag}: {what} {is} left alone: {owner} no account in Koji, and must log in there once (koji hello)"
            )
        }
        Kind::OwnedInstead { instead } => {
            let owner = if one { "its owner has" } else { "their owners have" };
            format!("{tag}: {what}: {instead} instead, for {owner} no account in Koji")
        }
        Kind::NotInTruth => {
            let is = if one { "is" } else { "are" };
            format!("{tag}: {what} {is} in the list and not in the truth; left alone")
        }
    }
}

impl Which {
    /// `bash`, `bash and zsh`, `4,000 packages (bash, zsh, fish, …)`.
    fn words(&self) -> String {
        match (&self.first[..], self.count) {
            ([one], 1) => one.clone(),
            ([one, two], 2) => format!("{one} and {two}"),
            (first, count) => {
                let more = if count > first.len() { ", …" } else { "" };
                format!("{count} packages ({}{more})", first.join(", "))
            }
        }
    }
}

/// A name that the hub said: as it is if it is one, else in quotes.
fn shown(name: &str) -> String {
    if handler_api::words::is_name(name) { name.to_owned() } else { quoted(name) }
}
