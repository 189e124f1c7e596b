//! People and groups as the YAML file has them and as a command prints them, and the answers in it. Pure.
//!
//! ```yaml
//! users:
//!   ralph: {keys: ["ssh-ed25519 AAAA… ralph@laptop"]}
//!   toshio: {locked: true}
//! groups:
//!   sysadmin-web: [ralph, toshio]
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use handler_api::Failure;
use handler_api::notes::Notes;
use handler_api::spelling::did_you_mean;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::{Account, Members};
use handler_api::words::{is_name, quoted};

/// Most people, most groups, most members of one group.
pub(crate) const ENTRIES_MAX: usize = 200_000;
/// Most keys of one person.
const KEYS_MAX: usize = 1_000;
/// Most values in the YAML file; an alias counts in full.
const NODES_MAX: usize = 4_000_000;

/// People and groups, whole.
#[derive(Debug)]
pub(crate) struct Roster {
    users: BTreeMap<String, Person>,
    groups: BTreeMap<String, Vec<Member>>,
    /// The file or command, for messages.
    place: String,
}

#[derive(Debug)]
struct Person {
    keys: Vec<String>,
    locked: bool,
}

#[derive(Debug)]
struct Member {
    name: String,
    /// The line where it stands, where that is known.
    line: Option<u64>,
}

impl Roster {
    /// Reads YAML. `place` is the file's path.
    pub fn from_yaml(text: &str, place: &str) -> Result<Self, Failure> {
        let options = serde_saphyr::options! {
            with_snippet: false,
            strict_booleans: true,
            merge_keys: serde_saphyr::MergeKeyPolicy::Error,
            duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
            reject_unsupported_tags: true,
            budget: serde_saphyr::budget! { max_nodes: NODES_MAX, max_events: 2 * NODES_MAX, max_documents: 1 },
        };
        let raw = serde_saphyr::from_str_with_options::<Raw<Spanned<String>>>(text, options).map_err(|error| {
            let at = error.location().map_or_else(|| place.to_owned(), |at| format!("{place}:{}", at.line()));
            Failure::retry(format!("{at}: {}", one_line(&without_place(&error)))).hinting(format!(
                "correct {place}: `users:` is a map of {{keys: [...]}}, `groups:` a map of lists of names"
            ))
        })?;
        Self::checked(raw, place)
    }

    /// Reads JSON. `place` says whose it is.
    pub fn from_json(bytes: &[u8], place: &str) -> Result<Self, Failure> {
        let raw = serde_json::from_slice::<Raw<String>>(bytes).map_err(|error| {
            Failure::retry(format!("{place} printed what is not the JSON that was asked for: {}", one_line(&error.to_string())))
                .hinting(r#"it must print {"users": {"NAME": {"keys": ["..."]}}, "groups": {"GROUP": ["NAME"]}} and nothing else"#)
        })?;
        Self::checked(raw, place)
    }

    fn checked<N: Placed>(raw: Raw<N>, place: &str) -> Result<Self, Failure> {
        let mut users = BTreeMap::new();
        for (name, RawPerson { keys, locked }) in raw.users.0 {
            let Some(keys) = keys.map(|Texts(keys)| keys).or_else(|| locked.then(Vec::new)) else {
                let message = format!("{place}: user {} has no `keys`", quoted(&name));
                return Err(Failure::retry(message).hinting("write `keys: []` for somebody without keys"));
            };
            users.insert(name, Person { keys, locked });
        }
        if users.is_empty() {
            let message = format!("{place} has no users at all: an empty answer is not taken for \"nobody\"");
            let hint = "somebody who is not there, or not any more, is {\"locked\": true}";
            return Err(Failure::retry(message).hinting(hint));
        }
        let groups = raw.groups.0.into_iter();
        let groups =
            groups.map(|(name, members)| (name, members.0.into_iter().map(Placed::member).collect())).collect();
        Ok(Self { users, groups, place: place.to_owned() })
    }

    /// One person; see [`crate::Accounts::user`].
    pub fn user(&self, name: &str, groups: &BTreeSet<String>) -> Result<Option<Account>, Failure> {
        let mut found = BTreeSet::new();
        for group in groups {
            if let Some(member) = self.group(group)?.iter().find(|member| member.name == name) {
                self.person(group, member)?;
                found.insert(group.clone());
            }
        }
        let person = self.users.get(name).filter(|person| !person.locked);
        Ok(person.map(|person| Account { keys: person.keys.clone(), groups: found }))
    }

    /// Everyone; see [`crate::Accounts::members`].
    pub fn members(&self, groups: &BTreeSet<String>) -> Result<Members, Failure> {
        let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
        let mut notes = Notes::default();
        for group in groups {
            for member in self.group(group)? {
                if !is_name(&member.name) {
                    notes.add(|| {
                        format!("{}: group {group}: {} is not a user name", self.at(member), quoted(&member.name))
                    });
                    continue;
                }
                let person = self.person(group, member)?;
                if person.locked {
                    continue;
                }
                if let Some(account) = accounts.get_mut(&member.name) {
                    account.groups.insert(group.clone());
                } else {
                    let groups = BTreeSet::from([group.clone()]);
                    accounts.insert(member.name.clone(), Account { keys: person.keys.clone(), groups });
                }
            }
        }
        Ok(Members { accounts, notes: notes.into_sentences() })
    }

    fn group(&self, group: &str) -> Result<&[Member], Failure> {
        self.groups.get(group).map(Vec::as_slice).ok_or_else(|| {
            let near = did_you_mean(group, self.groups.keys().map(String::as_str));
            let near = near.map(|near| format!("; there is `{near}`")).unwrap_or_default();
            Failure::retry(format!("{} has no group `{group}`{near}", self.place))
                .hinting(format!("write `{group}: []` there if the group is meant to have no members"))
        })
    }

    fn person(&self, group: &str, member: &Member) -> Result<&Person, Failure> {
        self.users.get(&member.name).ok_or_else(|| {
            let name = quoted(&member.name);
            let message =
                format!("{}: group {group} has the member {name}, but `users` has no such person", self.at(member));
            Failure::retry(message).hinting("add the person to `users`, or take the name out of the group")
        })
    }

    fn at(&self, member: &Member) -> String {
        member.line.map_or_else(|| self.place.clone(), |line| format!("{}:{line}", self.place))
    }
}

/// What the YAML reader says to people, without the place, which stands before it.
fn without_place(error: &serde_saphyr::Error) -> String {
    let text = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

/// What a parser says, on one line and without what a terminal would act on.
fn one_line(text: &str) -> String {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    first.chars().filter(|c| !c.is_control()).take(400).collect()
}

/// The name of a member, which may know where it stands.
trait Placed: DeserializeOwned {
    fn member(self) -> Member;
}

impl Placed for String {
    fn member(self) -> Member {
        Member { name: self, line: None }
    }
}

impl Placed for Spanned<String> {
    fn member(self) -> Member {
        let line = self.referenced.line();
        Member { name: self.value, line: (line > 0).then_some(line) }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, bound = "N: Placed")]
struct Raw<N> {
    users: Unique<RawPerson>,
    groups: Unique<List<N>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPerson {
    keys: Option<Texts>,
    #[serde(default)]
    locked: bool,
}

/// A map without double keys; `serde_json` would silently take the last.
struct Unique<V>(BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Reading<V> {
            type Value = Unique<V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Unique<V>, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((name, value)) = access.next_entry::<String, V>()? {
                    if map.len() >= ENTRIES_MAX {
                        return Err(A::Error::custom(format!("more than {ENTRIES_MAX} entries in one map")));
                    }
                    let shown = quoted(&name);
                    if map.insert(name, value).is_some() {
                        return Err(A::Error::custom(format!("{shown} is given twice")));
                    }
                }
                Ok(Unique(map))
            }
        }
        deserializer.deserialize_map(Reading(PhantomData))
    }
}

/// A list; the YAML reader would take nothing at all for an empty one.
struct List<N>(Vec<N>);

impl<'de, N: Placed> Deserialize<'de> for List<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading<N>(PhantomData<N>);
        impl<'de, N: Placed> Visitor<'de> for Reading<N> {
            type Value = List<N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names (`[]` for none)")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<List<N>, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = access.next_element::<N>()? {
                    if names.len() >= ENTRIES_MAX {
                        return Err(A::Error::custom(format!("more than {ENTRIES_MAX} members of one group")));
                    }
                    names.push(name);
                }
                Ok(List(names))
            }
        }
        deserializer.deserialize_any(Reading(PhantomData))
    }
}

/// One text, or a list of texts.
struct Texts(Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = Texts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of keys, or a text with one key a line")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = access.next_element::<String>()? {
                    if texts.len() >= KEYS_MAX {
                        return Err(A::Error::custom(format!("more than {KEYS_MAX} keys of one person")));
                    }
                    texts.push(text);
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_any(Reading)
    }
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
