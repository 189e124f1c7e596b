//! Repositories as the YAML file has them and as a command prints them in JSON. Pure.
//!
//! ```yaml
//! repos:
//!   rpms/foo:
//!     commit: [alice, "@perl-sig"]      # who may commit; `[]` is nobody
//!     branches: [rawhide, f41]          # or with people of their own: {rawhide: , f41: [bob]}
//!     deploy_keys: {deploykey_rpms_foo_12: write}   # or read
//!   playground:
//!     everyone: true                    # whoever has an account may commit
//!   rpms/shim: {commit: [alice], pull_requests_only: true}
//!   forks/bob/rpms/foo: {commit: [bob], fork: true}
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use forge::document::{List, Name, Pairs, Placed, from_json, from_yaml, list, pairs};
use handler_api::Failure;
use handler_api::notes::Notes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::entry::{Entry, Names, Place, repo_name};
use super::{All, BRANCHES_MAX, PEOPLE_MAX, REPOS_MAX, Repo};
use crate::names::RepoName;

/// What is read of one repository: good, or a sentence that says what is wrong with it.
type Read = Result<Repo, String>;

/// All repositories of a file or command.
#[derive(Debug)]
pub(super) struct Document {
    repos: BTreeMap<RepoName, Read>,
    notes: Vec<String>,
    /// The file or command, for messages.
    source: String,
}

impl Document {
    /// Reads YAML. `source` is the file's path.
    pub fn from_yaml(text: &str, source: &str) -> Result<Self, Failure> {
        let hint = "`repos:` is a map of NAME: {commit: [alice, \"@group\"], …}, groups in quotes";
        Self::checked(from_yaml::<RawAll<Spanned<String>>>(text, source, hint)?, source)
    }

    /// Reads the JSON of all repositories. `source` says whose it is.
    pub fn from_json(bytes: &[u8], source: &str) -> Result<Self, Failure> {
        let shape = r#"{"repos": {"NAME": {"commit": ["alice", "@group"]}}}"#;
        Self::checked(from_json::<RawAll<String>>(bytes, source, shape)?, source)
    }

    fn checked<N: Placed>(raw: RawAll<N>, source: &str) -> Result<Self, Failure> {
        let mut repos = BTreeMap::new();
        let mut notes = Notes::default();
        for (name, repo) in raw.repos.0 {
            let name = name.name();
            match repo_name(&name, source) {
                Ok(checked) => drop(repos.insert(checked, read(repo, &name, source)?)),
                Err(sentence) => notes.add(|| sentence),
            }
        }
        Ok(Self { repos, notes: notes.into_sentences(), source: source.to_owned() })
    }

    /// See [`super::Truth::repo`].
    pub fn repo(&self, name: &RepoName) -> Result<Option<Repo>, Failure> {
        match self.repos.get(name) {
            None if self.repos.is_empty() => {
                let message = format!("{} has no repositories at all: that is not believed", self.source);
                Err(Failure::retry(message).hinting("see `repos` of the handler's block"))
            }
            None => Ok(None),
            Some(Ok(repo)) => Ok(Some(repo.clone())),
            Some(Err(sentence)) => Err(place(&self.source, name.as_str()).failure(sentence.clone())),
        }
    }

    /// See [`super::Truth::all`].
    pub fn all(&self) -> All {
        let mut all = All { notes: self.notes.clone(), ..All::default() };
        for (name, read) in &self.repos {
            match read {
                Ok(repo) => drop(all.repos.insert(name.clone(), repo.clone())),
                Err(sentence) => drop(all.left_alone.insert(name.clone(), sentence.clone())),
            }
        }
        all
    }
}

/// Reads the JSON of one repository: `{"repo": {…}}`, or null where there is none.
pub(super) fn one_from_json(bytes: &[u8], name: &RepoName, source: &str) -> Result<Option<Repo>, Failure> {
    let shape = r#"{"repo": {"commit": ["alice", "@group"]}}, or {"repo": null} for "there is none","#;
    let Some(raw) = from_json::<RawOne>(bytes, source, shape)?.repo else { return Ok(None) };
    let read = read(raw, &name.as_str().to_owned().into(), source)?;
    read.map(Some).map_err(|sentence| place(source, name.as_str()).failure(sentence))
}

/// What it says of one repository. What is no name is only this repository's trouble; what is forgotten is the file's.
fn read<N: Placed>(raw: RawRepo<N>, name: &Name, source: &str) -> Result<Read, Failure> {
    if raw.commit.is_none() && !raw.everyone && !raw.pull_requests_only {
        let at = name.line.map(|line| format!(":{line}")).unwrap_or_default();
        let message = format!("{source}{at}: {} has no `commit`", name.text);
        return Err(Failure::retry(message).hinting("write `commit: []` if nobody may commit there"));
    }
    Ok(raw.into_entry().checked(&place(source, &name.text)))
}

fn place<'a>(source: &'a str, repo: &'a str) -> Place<'a> {
    Place { source, repo, by_hand: true }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, bound = "N: Placed")]
struct RawAll<N> {
    repos: Pairs<N, RawRepo<N>, REPOS_MAX>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOne {
    // Without this serde would take a missing word for null.
    #[serde(deserialize_with = "Option::deserialize")]
    repo: Option<RawRepo<String>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, bound = "N: Placed")]
struct RawRepo<N> {
    commit: Option<List<N, PEOPLE_MAX>>,
    #[serde(default = "Branches::none")]
    branches: Branches<N>,
    #[serde(default)]
    everyone: bool,
    #[serde(default)]
    pull_requests_only: bool,
    #[serde(default)]
    fork: bool,
    #[serde(default = "Pairs::none")]
    deploy_keys: Pairs<N, Right, PEOPLE_MAX>,
}

/// What a deploy key may.
#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Right {
    Read,
    Write,
}

/// The people of one branch.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, bound = "N: Placed")]
struct RawPeople<N> {
    commit: Option<List<N, PEOPLE_MAX>>,
    #[serde(default)]
    everyone: bool,
}

impl<N: Placed> RawRepo<N> {
    fn into_entry(self) -> Entry {
        Entry {
            commit: names(self.commit, self.everyone),
            branches: self.branches.0.into_iter().map(|(name, people)| (name.name(), people.map(|p| p.0))).collect(),
            pull_requests_only: self.pull_requests_only,
            fork: self.fork,
            explicit: false,
            deploy_keys: self
                .deploy_keys
                .0
                .into_iter()
                .map(|(n, right)| (n.name(), matches!(right, Right::Write)))
                .collect(),
        }
    }
}

fn names<N: Placed>(list: Option<List<N, PEOPLE_MAX>>, everyone: bool) -> Names {
    let mut names = Names { everyone, ..Names::default() };
    for name in list.map(|list| list.0).unwrap_or_default() {
        let mut name = name.name();
        // `@all` stays whole: it is told as it was written.
        let group = name.text.strip_prefix('@').filter(|group| !group.eq_ignore_ascii_case("all")).map(str::to_owned);
        if let Some(group) = group {
            name.text = group;
            names.groups.push(name);
        } else {
            names.users.push(name);
        }
    }
    names
}

/// Branches: a list, or a map of those with people of their own.
struct Branches<N>(Vec<(N, Option<Own>)>);

impl<N> Branches<N> {
    fn none() -> Self {
        Self(Vec::new())
    }
}

impl<'de, N: Placed> Deserialize<'de> for Branches<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading<N>(PhantomData<N>);
        impl<'de, N: Placed> Visitor<'de> for Reading<N> {
            type Value = Branches<N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of branches, or a map of branches and who may commit to them")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<Branches<N>, A::Error> {
                let names: Vec<N> = list(access, BRANCHES_MAX)?;
                Ok(Branches(names.into_iter().map(|name| (name, None)).collect()))
            }
            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Branches<N>, A::Error> {
                let pairs = pairs::<N, OwnOf<N>, A>(access, BRANCHES_MAX)?;
                Ok(Branches(pairs.into_iter().map(|(name, own)| (name, own.0)).collect()))
            }
        }
        deserializer.deserialize_any(Reading(PhantomData))
    }
}

/// People that only this branch has.
struct Own(Names);

struct OwnOf<N>(Option<Own>, PhantomData<N>);

impl<'de, N: Placed> Deserialize<'de> for OwnOf<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading<N>(PhantomData<N>);
        impl<'de, N: Placed> Visitor<'de> for Reading<N> {
            type Value = OwnOf<N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("nothing (as for the whole repository), a list of names, or {commit: […], everyone: true}")
            }
            fn visit_unit<E: serde::de::Error>(self) -> Result<OwnOf<N>, E> {
                Ok(OwnOf(None, PhantomData))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<OwnOf<N>, A::Error> {
                let list: Vec<N> = list(access, PEOPLE_MAX)?;
                Ok(OwnOf(Some(Own(names(Some(List(list)), false))), PhantomData))
            }
            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<OwnOf<N>, A::Error> {
                let people = RawPeople::<N>::deserialize(MapAccessDeserializer::new(access))?;
                if people.commit.is_none() && !people.everyone {
                    return Err(A::Error::custom("`commit` is missing; write `commit: []` for nobody"));
                }
                Ok(OwnOf(Some(Own(names(people.commit, people.everyone))), PhantomData))
            }
        }
        deserializer.deserialize_any(Reading(PhantomData))
    }
}

#[cfg(test)]
#[path = "document/tests.rs"]
mod tests;
