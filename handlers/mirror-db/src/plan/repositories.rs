//! What yum asks for: repositories, and the versions that they are of.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use handler_api::Failure;

use super::names::{Names, is_test, version_in};
use super::{Reading, prefix};
use crate::rows::{Known, KnownRepository, NewRepository, Rows, Tree};

/// The arch of sources.
const SOURCE: &str = "source";
/// What ostree repositories are of: nothing in them says it, and umdl knows no other.
const OSTREE_ARCH: &str = "x86_64";

/// A directory that ought to have a repository, and has none.
struct Candidate<'a> {
    directory: &'a str,
    /// Below the category's top.
    path: &'a str,
    is_ostree: bool,
    arch: (i32, &'a str),
}

/// Repositories and versions. The directories that go must be in `rows` already.
pub(super) fn all(known: &Known, tree: &Tree, reading: &Reading, rows: &mut Rows) -> Result<(), Failure> {
    let candidates = candidates(known, tree, reading, &mut rows.notes);
    let versions = Versions::gather(known, &candidates, &mut rows.new_versions);
    let mut places = Places::new(known, rows);
    let mut claims: BTreeMap<(String, i32), &str> = BTreeMap::new();
    for candidate in &candidates {
        let Some(version) = versions.of(candidate) else {
            rows.notes.push(format!("no repository for {}: no version is in its name", candidate.directory));
            continue;
        };
        let prefix = prefix::of(&reading.prefixes, candidate.directory, candidate.path, version)?;
        let new = candidate.row(version, prefix);
        let place = places.place(&new);
        if let Some(key) = new.prefix.clone().map(|prefix| (prefix, new.arch_id)) {
            if let Some(other) = claims.get(&key) {
                return Err(twice(other, candidate, &key.0));
            }
            if !matches!(place, Place::Taken(_)) {
                claims.insert(key, candidate.directory);
            }
        }
        match place {
            Place::New => rows.new_repositories.push(new),
            Place::Moves(id) => rows.repositories.push((id, new)),
            Place::Taken(why) => rows.notes.push(format!("no repository for {}: {why}", candidate.directory)),
        }
    }
    go(known, rows);
    Ok(())
}

/// Repositories whose directory goes, but for those that move.
fn go(known: &Known, rows: &mut Rows) {
    let moved: HashSet<i32> = rows.repositories.iter().map(|(id, _)| *id).collect();
    let gone: HashSet<&str> = rows.gone_directories.iter().map(|(_, name)| name.as_str()).collect();
    for repository in &known.repositories {
        let goes = repository.directory.as_deref().is_some_and(|directory| gone.contains(directory));
        if goes && !moved.contains(&repository.id) {
            rows.gone_repositories.push((repository.id, repository.name.clone()));
        }
    }
}

impl Candidate<'_> {
    fn row(&self, version: &str, prefix: Option<String>) -> NewRepository {
        NewRepository {
            name: self.directory.to_owned(),
            prefix,
            version: version.to_owned(),
            arch_id: self.arch.0,
            directory: Some(self.directory.to_owned()),
        }
    }
}

fn twice(other: &str, candidate: &Candidate<'_>, prefix: &str) -> Failure {
    let Candidate { directory, arch: (_, arch), .. } = candidate;
    Failure::permanent(format!(
        "{other} and {directory} both would be the repository {prefix} {arch}, and neither is it yet"
    ))
    .hinting(format!(
        "give one of them another prefix in `prefixes`, or name it in `no_repositories` ({directory}); then: reactor check"
    ))
}

fn candidates<'a>(known: &'a Known, tree: &'a Tree, reading: &Reading, notes: &mut Vec<String>) -> Vec<Candidate<'a>> {
    let have: HashSet<&str> = known.repositories.iter().filter_map(|one| one.directory.as_deref()).collect();
    let arches = Names::new(known.arches.iter().map(|(_, name)| name.as_str()));
    let mut candidates = Vec::new();
    for (directory, found) in &tree.directories {
        if !(found.has_repodata || found.is_ostree) || have.contains(directory.as_str()) {
            continue;
        }
        let path = below(directory, &known.category.top).unwrap_or(directory);
        let without = reading.no_repositories.iter().any(|word| path.contains(word.as_str()))
            || reading.no_versions.iter().any(|above| below(directory, above.trim_end_matches('/')).is_some());
        if without {
            continue;
        }
        let is_ostree = !found.has_repodata;
        let place = if is_ostree {
            arches.place(OSTREE_ARCH)
        } else if path.contains("SRPMS") {
            arches.place(SOURCE)
        } else {
            arches.first_in(path)
        };
        match place.and_then(|place| known.arches.get(place)) {
            Some((id, arch)) => candidates.push(Candidate { directory, path, is_ostree, arch: (*id, arch) }),
            None => notes.push(format!("no repository for {directory}: no arch of the database is in its name")),
        }
    }
    candidates
}

/// What `name` is below `above`; nothing for that directory itself.
fn below<'a>(name: &'a str, above: &str) -> Option<&'a str> {
    let rest = name.strip_prefix(above)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// The versions of the category's product, the new ones behind those that the database has.
struct Versions {
    all: Vec<String>,
    names: Names,
}

impl Versions {
    /// Looks through all candidates before any of them gets its version, so that none depends on which comes first.
    fn gather(known: &Known, candidates: &[Candidate<'_>], new: &mut Vec<(String, bool)>) -> Self {
        let all: Vec<String> = known.versions.iter().map(|(_, name)| name.clone()).collect();
        let mut versions = Self { names: Names::new(all.iter().map(String::as_str)), all };
        let mut fresh: Vec<(&str, bool)> = Vec::new();
        for candidate in candidates.iter().filter(|candidate| versions.place(candidate).is_none()) {
            let Some(name) = version_in(candidate.path, candidate.is_ostree) else { continue };
            let test = is_test(candidate.path);
            if versions.names.place(name).is_some() {
                continue;
            }
            match fresh.iter_mut().find(|(there, _)| *there == name) {
                // A version is a test as long as all that is there of it is one.
                Some((_, all_tests)) => *all_tests &= test,
                None => fresh.push((name, test)),
            }
        }
        for (name, test) in fresh {
            versions.names.push(name);
            versions.all.push(name.to_owned());
            new.push((name.to_owned(), test));
        }
        versions
    }

    fn place(&self, candidate: &Candidate<'_>) -> Option<usize> {
        if candidate.is_ostree {
            return self.names.place(candidate.path.rsplit('/').next().unwrap_or_default());
        }
        self.names.first_in(candidate.path)
    }

    fn of(&self, candidate: &Candidate<'_>) -> Option<&str> {
        let from_path = || version_in(candidate.path, candidate.is_ostree).and_then(|name| self.names.place(name));
        let place = self.place(candidate).or_else(from_path)?;
        self.all.get(place).map(String::as_str)
    }
}

/// Where a repository's row is to be.
enum Place {
    /// It is new.
    New,
    /// This row is it; its directory is gone.
    Moves(i32),
    /// Another directory is it: why.
    Taken(String),
}

/// Prefix and arch are unique among all repositories, and so is the name.
struct Places<'a> {
    category: i32,
    by_prefix: HashMap<(&'a str, i32), &'a KnownRepository>,
    by_name: HashMap<&'a str, &'a KnownRepository>,
    gone: BTreeSet<String>,
    used: HashSet<i32>,
}

impl<'a> Places<'a> {
    fn new(known: &'a Known, rows: &Rows) -> Self {
        let keyed = known.repositories.iter().filter_map(|one| Some(((one.prefix.as_deref()?, one.arch_id?), one)));
        let gone = rows.gone_directories.iter().chain(&rows.unlinks).map(|(_, name)| name.clone());
        Self {
            category: known.category.id,
            by_prefix: keyed.collect(),
            by_name: known.repositories.iter().map(|one| (one.name.as_str(), one)).collect(),
            gone: gone.collect(),
            used: HashSet::new(),
        }
    }

    fn place(&mut self, new: &NewRepository) -> Place {
        let same = new.prefix.as_deref().and_then(|prefix| self.by_prefix.get(&(prefix, new.arch_id)).copied());
        let namesake = self.by_name.get(new.name.as_str()).copied();
        let stands = match (same, namesake) {
            (Some(same), Some(namesake)) if same.id != namesake.id => {
                return Place::Taken(format!("repository {} has that name, another its prefix and arch", namesake.id));
            }
            (None, None) => return Place::New,
            (Some(stands), _) | (None, Some(stands)) => stands,
        };
        let ours = stands.category_id.is_none_or(|id| id == self.category);
        let free = stands.directory.as_ref().is_none_or(|directory| self.gone.contains(directory));
        if ours && free && self.used.insert(stands.id) {
            return Place::Moves(stands.id);
        }
        let at = stands.directory.as_deref().unwrap_or(&stands.name);
        Place::Taken(format!("{at} is {} already", stands.prefix.as_deref().unwrap_or(&stands.name)))
    }
}
