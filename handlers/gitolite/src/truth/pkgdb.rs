//! The source `pkgdb`: `/api/vcs` of pkgdb 1 and 2, and of whatever answers in its shape.
//!
//! pkgdb has one answer for everything. Requests that come while one is being fetched wait for it to end and then share the
//! next: an answer that was begun before a request came could be older than the message, and is never taken for it.
//!
//! * People and groups of the branch `master` may commit to the repository as a whole; with no such branch nobody may. Other
//!   branches have people of their own where these differ.
//! * The group that `everyone_group` names (Fedora's was `packager`) stands for whoever has an account.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use forge::document::Name;
use forge::server::{Server, found, is_json, said};
use handler_api::Failure;
use handler_api::notes::Notes;
use handler_api::words::{Words, is_name, quoted};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use tokio::sync::Mutex;

use super::entry::{Entry, Names, Place, repo_name};
use super::{All, REPOS_MAX, Repo};
use crate::names::RepoName;

/// Where the answer is.
const PATH: &str = "/api/vcs?format=json";
/// The branch whose people may commit to the repository as a whole.
const MAIN_BRANCH: &str = "master";
/// The word of pkgdb 1 for its only namespace.
const OLD_KEY: &str = "packageAcls";

/// The source, as configured.
#[derive(Debug)]
pub struct Pkgdb {
    server: Server,
    /// What the packages under `packageAcls` are in.
    namespace: String,
    everyone_group: Option<String>,
    shared: Shared,
}

/// The last answer, kept only while somebody waits for one.
#[derive(Debug, Default)]
struct Shared {
    waiting: AtomicUsize,
    last: Mutex<Option<Last>>,
}

#[derive(Debug)]
struct Last {
    begun: Instant,
    answer: Result<Arc<Vec<u8>>, Failure>,
}

/// One more waits, until dropped.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Deserialize)]
struct Branch {
    commit: Acl,
}

#[derive(Deserialize)]
struct Acl {
    people: Vec<String>,
    groups: Vec<String>,
}

type Package = BTreeMap<String, Branch>;

impl Pkgdb {
    /// Reads `{pkgdb: URL, namespace: rpms?, everyone_group: packager?, ca: PATH?, timeout: 30s?}`.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word.
    pub fn open(config: &Value) -> Result<Self, Failure> {
        let allowed = ["pkgdb", "namespace", "everyone_group", "ca", "timeout"];
        let words = Words::read(config, "repos: pkgdb", &allowed)?;
        let server = Server::read(&words, "pkgdb", "write https://HOST/pkgdb, without /api")?;
        let name = |word: &str| match words.text(word)? {
            Some(name) if !is_name(name) => Err(words.wrong(word, "is no name", &name.into())),
            name => Ok(name.map(str::to_owned)),
        };
        let namespace = name("namespace")?.unwrap_or_else(|| "rpms".to_owned());
        Ok(Self { server, namespace, everyone_group: name("everyone_group")?, shared: Shared::default() })
    }

    /// See [`super::Truth::repo`].
    ///
    /// # Errors
    /// Whatever is not a certain and whole answer; permanent for a bad name in this package.
    pub async fn repo(&self, name: &RepoName) -> Result<Option<Repo>, Failure> {
        let wanted = name.as_str().to_owned();
        let mut read = self.read(Some(wanted)).await?;
        let Some(package) = read.packages.remove(name.as_str()) else {
            let namespace = name.namespace();
            if read.namespaces.contains(namespace) {
                return Ok(None);
            }
            let why = format!("it has no namespace {}, so it does not say whether there is {name}", quoted(namespace));
            return Err(self.server.odd(PATH, &why));
        };
        let place = self.place(name.as_str());
        self.checked(package, &place).map(Some).map_err(|sentence| place.failure(sentence))
    }

    /// See [`super::Truth::all`].
    ///
    /// # Errors
    /// Whatever is not a certain and whole answer.
    pub async fn all(&self) -> Result<All, Failure> {
        let read = self.read(None).await?;
        let mut all = All::default();
        let mut notes = Notes::default();
        for (text, package) in read.packages {
            let name = match repo_name(&Name::from(text), &self.server.base) {
                Ok(name) => name,
                Err(sentence) => {
                    notes.add(|| sentence);
                    continue;
                }
            };
            match self.checked(package, &self.place(name.as_str())) {
                Ok(repo) => drop(all.repos.insert(name, repo)),
                Err(sentence) => drop(all.left_alone.insert(name, sentence)),
            }
        }
        all.notes = notes.into_sentences();
        Ok(all)
    }

    fn place<'a>(&'a self, repo: &'a str) -> Place<'a> {
        Place { source: &self.server.base, repo, by_hand: false }
    }

    fn checked(&self, package: Package, place: &Place<'_>) -> Result<Repo, String> {
        let mut entry = Entry { explicit: true, ..Entry::default() };
        for (branch, Branch { commit: acl }) in package {
            if branch == MAIN_BRANCH {
                entry.commit = self.names(&acl);
            }
            entry.branches.push((branch.into(), Some(self.names(&acl))));
        }
        entry.checked(place)
    }

    fn names(&self, acl: &Acl) -> Names {
        let is_everyone = |group: &&String| self.everyone_group.as_ref() == Some(*group);
        Names {
            users: acl.people.iter().cloned().map(Name::from).collect(),
            groups: acl.groups.iter().filter(|group| !is_everyone(group)).cloned().map(Name::from).collect(),
            everyone: acl.groups.iter().any(|group| is_everyone(&group)),
        }
    }

    /// What the answer has of one package, or of all.
    async fn read(&self, wanted: Option<String>) -> Result<Read, Failure> {
        let body = self.answer().await?;
        let namespace = self.namespace.clone();
        // Up to 64 MiB: not on a thread that others wait for.
        let parsed = tokio::task::spawn_blocking(move || {
            let mut read = Read { namespace, wanted, ..Read::default() };
            let mut json = serde_json::Deserializer::from_slice(&body);
            Top(&mut read).deserialize(&mut json).and_then(|()| json.end()).map(|()| read)
        });
        let parsed = parsed.await.map_err(|error| self.server.odd(PATH, &error.to_string()))?;
        let read = parsed.map_err(|error| self.server.odd(PATH, &format!("the answer is not pkgdb's: {error}")))?;
        if read.count == 0 {
            return Err(self.server.odd(PATH, "it has no packages at all: that is not believed"));
        }
        Ok(read)
    }

    /// An answer that was begun after this was called.
    async fn answer(&self) -> Result<Arc<Vec<u8>>, Failure> {
        let came = Instant::now();
        let waiting = &self.shared.waiting;
        waiting.fetch_add(1, Ordering::SeqCst);
        let waits = Waits(waiting);
        let mut last = self.shared.last.lock().await;
        let answer = match last.take() {
            Some(fresh) if fresh.begun > came => fresh,
            _ => Last { begun: Instant::now(), answer: self.fetch().await },
        };
        let body = answer.answer.clone();
        drop(waits);
        if waiting.load(Ordering::SeqCst) > 0 {
            *last = Some(answer);
        }
        body
    }

    async fn fetch(&self) -> Result<Arc<Vec<u8>>, Failure> {
        let mut answers = self.server.get(&[PATH.to_owned()]).await?;
        let answer = answers.pop().ok_or_else(|| self.server.odd(PATH, "it was not answered"))?;
        if answer.status == 200 && is_json(&answer) {
            return Ok(Arc::new(answer.body));
        }
        let why = found::<IgnoredAny>(&answer).err().unwrap_or_else(|| said(&answer));
        Err(self.server.odd(PATH, &why))
    }
}

/// What is taken out of the answer while it is parsed; 20,000 packages need not all be kept to look at one.
#[derive(Default)]
struct Read {
    namespace: String,
    /// `None` = all.
    wanted: Option<String>,
    packages: BTreeMap<String, Package>,
    namespaces: BTreeSet<String>,
    count: usize,
}

/// The whole answer: namespaces, and a title.
struct Top<'a>(&'a mut Read);

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of namespaces")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        while let Some(key) = access.next_key::<String>()? {
            if key == "title" {
                access.next_value::<String>()?;
                continue;
            }
            let namespace = if key == OLD_KEY { self.0.namespace.clone() } else { key };
            if !self.0.namespaces.insert(namespace.clone()) {
                return Err(A::Error::custom(format!("the namespace {} is there twice", quoted(&namespace))));
            }
            access.next_value_seed(Packages { read: self.0, namespace })?;
        }
        Ok(())
    }
}

/// The packages of one namespace.
struct Packages<'a> {
    read: &'a mut Read,
    namespace: String,
}

impl<'de> DeserializeSeed<'de> for Packages<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Packages<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of packages")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Self { read, namespace } = self;
        while let Some(package) = access.next_key::<String>()? {
            read.count += 1;
            if read.count > REPOS_MAX {
                return Err(A::Error::custom(format!("more than {REPOS_MAX} packages")));
            }
            let name = format!("{namespace}/{package}");
            if read.wanted.as_ref().is_some_and(|wanted| *wanted != name) {
                access.next_value::<IgnoredAny>()?;
                continue;
            }
            let shown = quoted(&name);
            if read.packages.insert(name, access.next_value()?).is_some() {
                return Err(A::Error::custom(format!("{shown} is there twice")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "pkgdb/tests.rs"]
mod tests;
