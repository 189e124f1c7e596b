//! What people write in YAML and programs print in JSON: names that know their line, maps without double names, bounded lists. Pure.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use handler_api::Failure;
use handler_api::words::quoted;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Most values in a YAML file; an alias counts in full.
const NODES_MAX: usize = 8_000_000;

/// A name that may know where it stands. Hostile text.
#[derive(Clone, Debug)]
pub struct Name {
    /// As it is written.
    pub text: String,
    /// The line, from 1, where that is known.
    pub line: Option<u64>,
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self { text, line: None }
    }
}

impl Name {
    /// Where it stands: `repos.yaml:7`.
    #[must_use]
    pub fn place(&self, source: &str) -> String {
        self.line.map_or_else(|| source.to_owned(), |line| format!("{source}:{line}"))
    }
}

/// What a [`Name`] is read from: with [`Spanned<String>`] it knows its line, with [`String`] it does not.
pub trait Placed: DeserializeOwned {
    /// The name.
    fn name(self) -> Name;
    /// Its text.
    fn text(&self) -> &str;
}

impl Placed for String {
    fn name(self) -> Name {
        self.into()
    }

    fn text(&self) -> &str {
        self
    }
}

impl Placed for Spanned<String> {
    fn name(self) -> Name {
        let line = self.referenced.line();
        Name { text: self.value, line: (line > 0).then_some(line) }
    }

    fn text(&self) -> &str {
        &self.value
    }
}

/// Reads YAML. `source` is the file's path, `hint` says what it should look like.
///
/// # Errors
/// A failure to try again, with the file's line: it is no YAML, of another shape, or has a word twice.
pub fn from_yaml<T: DeserializeOwned>(text: &str, source: &str, hint: &str) -> Result<T, Failure> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        merge_keys: serde_saphyr::MergeKeyPolicy::Error,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        reject_unsupported_tags: true,
        budget: serde_saphyr::budget! { max_nodes: NODES_MAX, max_events: 2 * NODES_MAX, max_documents: 1 },
    };
    serde_saphyr::from_str_with_options::<T>(text, options).map_err(|error| {
        let at = error.location().map_or_else(|| source.to_owned(), |at| format!("{source}:{}", at.line()));
        Failure::retry(format!("{at}: {}", one_line(&without_place(&error))))
            .hinting(format!("correct {source}: {hint}"))
    })
}

/// Reads the JSON that a program printed. `source` says whose it is, `shape` what it must print.
///
/// # Errors
/// A failure to try again: it is no JSON, or of another shape.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8], source: &str, shape: &str) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        let why = one_line(&error.to_string());
        Failure::retry(format!("{source} printed what is not the JSON that was asked for: {why}"))
            .hinting(format!("it must print {shape} and nothing else"))
    })
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

/// A map in its order, without double names; `serde_json` would silently take the last. At most `MAX` entries.
pub struct Pairs<N, V, const MAX: usize>(pub Vec<(N, V)>);

impl<N, V, const MAX: usize> Pairs<N, V, MAX> {
    /// What stands for a word that is not there.
    #[must_use]
    pub fn none() -> Self {
        Self(Vec::new())
    }
}

impl<'de, N: Placed, V: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Pairs<N, V, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading<N, V, const MAX: usize>(PhantomData<(N, V)>);
        impl<'de, N: Placed, V: Deserialize<'de>, const MAX: usize> Visitor<'de> for Reading<N, V, MAX> {
            type Value = Pairs<N, V, MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of names")
            }
            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Pairs<N, V, MAX>, A::Error> {
                pairs(access, MAX).map(Pairs)
            }
        }
        // Not `deserialize_map`: for that the YAML reader would take nothing at all for an empty one.
        deserializer.deserialize_any(Reading(PhantomData))
    }
}

/// Takes a map, for a visitor of its own that takes more than maps.
///
/// # Errors
/// A name stands there twice; more than `max` entries.
pub fn pairs<'de, N: Placed, V: Deserialize<'de>, A: MapAccess<'de>>(
    mut access: A,
    max: usize,
) -> Result<Vec<(N, V)>, A::Error> {
    let mut pairs: Vec<(N, V)> = Vec::new();
    let mut seen = HashSet::new();
    while let Some((name, value)) = access.next_entry::<N, V>()? {
        if pairs.len() >= max {
            return Err(A::Error::custom(format!("more than {max} entries in one map")));
        }
        if !seen.insert(name.text().to_owned()) {
            return Err(A::Error::custom(format!("{} is given twice", quoted(name.text()))));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// A list of at most `MAX`; the YAML reader would take nothing at all for an empty one.
pub struct List<N, const MAX: usize>(pub Vec<N>);

impl<N, const MAX: usize> List<N, MAX> {
    /// What stands for a word that is not there.
    #[must_use]
    pub fn none() -> Self {
        Self(Vec::new())
    }
}

impl<'de, N: Placed, const MAX: usize> Deserialize<'de> for List<N, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading<N, const MAX: usize>(PhantomData<N>);
        impl<'de, N: Placed, const MAX: usize> Visitor<'de> for Reading<N, MAX> {
            type Value = List<N, MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names (`[]` for none)")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<List<N, MAX>, A::Error> {
                list(access, MAX).map(List)
            }
        }
        deserializer.deserialize_any(Reading(PhantomData))
    }
}

/// Takes a list, for a visitor of its own that takes more than lists.
///
/// # Errors
/// More than `max`.
pub fn list<'de, N: Deserialize<'de>, A: SeqAccess<'de>>(mut access: A, max: usize) -> Result<Vec<N>, A::Error> {
    let mut names = Vec::new();
    while let Some(name) = access.next_element::<N>()? {
        if names.len() >= max {
            return Err(A::Error::custom(format!("more than {max} names in one list")));
        }
        names.push(name);
    }
    Ok(names)
}
