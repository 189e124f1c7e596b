//! The source `pkgdb`: pkgdb 2's API (`pkgdb2/api/packages.py` of fedora-infra/pkgdb2), and whatever answers in its shape.
//!
//! * One package: `/api/package/?namespace=…&pkgname=…`, `{"output": "ok", "packages": [{"collection": {"branchname": …},
//!   "point_of_contact": …, "status": …}]}`. That there is none is a 404 with `"output": "notok"` and pkgdb's own words.
//! * All: `/api/packages/?acls=1&page=N`, `{"output": "ok", "page": …, "page_total": …, "packages": [{"name": …, "acls": [as above]}]}`.
//!   They are counted first (`count=1`); what comes must be as many.
//! * The owner is the point of contact, branch by branch. A group (`group::perl-sig`) is no name of an account: such a package is
//!   left alone.
//! * `Approved` is not retired, `Retired` is, `Orphaned` belongs to `orphan`; of a branch from which it was `Removed` nothing is said.

use std::collections::BTreeMap;

use accounts::curl::{Answer, encode};
use forge::document::Name;
use forge::server::{Server, found, is_json};
use handler_api::Failure;
use handler_api::notes::Notes;
use handler_api::words::{Words, is_name, quoted};
use serde::Deserialize;
use serde_json::Value;

use super::entry::{Place, Row, checked, package_name};
use super::{All, PACKAGES_MAX, Package};
use crate::names::PackageName;

/// Packages of one page; pkgdb gives at most 500.
const PAGE_PACKAGES: u64 = 250;
/// Pages in one run of curl; one has up to some megabytes.
const PAGES_PER_RUN: usize = 5;
/// Who owns what is orphaned.
const ORPHAN: &str = "orphan";

/// The source, as configured.
#[derive(Debug)]
pub struct Pkgdb {
    server: Server,
    namespace: String,
    page_packages: u64,
}

/// A package on a branch.
#[derive(Deserialize)]
struct Listing {
    collection: Collection,
    point_of_contact: String,
    status: String,
}

#[derive(Deserialize)]
struct Collection {
    branchname: String,
}

/// A package with all of its branches.
#[derive(Deserialize)]
struct Listed {
    name: String,
    acls: Vec<Listing>,
}

#[derive(Deserialize)]
struct One {
    output: String,
    packages: Vec<Listing>,
}

#[derive(Deserialize)]
struct Count {
    output: String,
    packages: u64,
}

#[derive(Deserialize)]
struct Page {
    output: String,
    page: u64,
    page_total: u64,
    packages: Vec<Listed>,
}

/// What pkgdb says when something is not there.
#[derive(Deserialize)]
struct Refusal {
    output: String,
    error: String,
}

impl Pkgdb {
    /// Reads `{pkgdb: URL, namespace: rpms?, ca: PATH?, timeout: 30s?}`.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word.
    pub fn open(config: &Value) -> Result<Self, Failure> {
        let words = Words::read(config, "packages: pkgdb", &["pkgdb", "namespace", "ca", "timeout"])?;
        let server = Server::read(&words, "pkgdb", "write https://HOST/pkgdb, without /api")?;
        let namespace = words.text("namespace")?.unwrap_or("rpms");
        if !is_name(namespace) {
            return Err(words.wrong("namespace", "is no name", &namespace.into()));
        }
        Ok(Self { server, namespace: namespace.to_owned(), page_packages: PAGE_PACKAGES })
    }

    /// See [`super::Truth::package`].
    ///
    /// # Errors
    /// Whatever is not a certain answer of pkgdb's own; permanent for a bad name in this package.
    pub async fn package(&self, name: &PackageName) -> Result<Option<Package>, Failure> {
        let (namespace, encoded) = (encode(&self.namespace), encode(name.as_str()));
        let path = format!("/api/package/?namespace={namespace}&pkgname={encoded}&eol=1&acls=0");
        let answer = self.one(&path).await?;
        if self.is_no_package(&answer, name) {
            return Ok(None);
        }
        let odd = |why: String| self.server.odd(&path, &why);
        let One { output, packages } = found(&answer).map_err(odd)?;
        if output != "ok" || packages.is_empty() {
            return Err(odd(format!("it says {} and has {} branches", quoted(&output), packages.len())));
        }
        let place = self.place(name.as_str());
        let package = rows(packages, place).and_then(|rows| checked(&rows, place));
        package.map(Some).map_err(|sentence| place.failure(sentence))
    }

    /// See [`super::Truth::all`].
    ///
    /// # Errors
    /// Whatever is not a certain and whole answer.
    pub async fn all(&self) -> Result<All, Failure> {
        let mut all = All::default();
        let mut notes = Notes::default();
        for (name, listings) in self.list().await? {
            let name = match package_name(&Name::from(name), &self.server.base) {
                Ok(name) => name,
                Err(sentence) => {
                    notes.add(|| sentence);
                    continue;
                }
            };
            let place = self.place(name.as_str());
            // So it would also be if the server had not read `acls=1`.
            let known = if listings.is_empty() {
                Err(format!("{}: {name} has no branches at all: that is not believed", place.source))
            } else {
                rows(listings, place).and_then(|rows| checked(&rows, place))
            };
            match known {
                Ok(package) => drop(all.packages.insert(name, package)),
                Err(sentence) => drop(all.left_alone.insert(name.as_str().to_owned(), sentence)),
            }
        }
        all.notes = notes.into_sentences();
        Ok(all)
    }

    fn place<'a>(&'a self, package: &'a str) -> Place<'a> {
        Place { source: &self.server.base, package }
    }

    async fn one(&self, path: &str) -> Result<Answer, Failure> {
        let mut answers = self.server.get(&[path.to_owned()]).await?;
        answers.pop().ok_or_else(|| self.server.odd(path, "it was not answered"))
    }

    /// Pkgdb's own word that there is no such package. (The older one has no namespaces, and does not name it.)
    fn is_no_package(&self, answer: &Answer, name: &PackageName) -> bool {
        let refusal = serde_json::from_slice::<Refusal>(&answer.body);
        let words = [format!("Package: {}/{name} not found", self.namespace), format!("Package: {name} not found")];
        answer.status == 404
            && is_json(answer)
            && refusal.is_ok_and(|refusal| refusal.output == "notok" && words.contains(&refusal.error))
    }

    /// All packages and their branches, by name.
    async fn list(&self) -> Result<BTreeMap<String, Vec<Listing>>, Failure> {
        let base = format!("/api/packages/?namespace={}&eol=1", encode(&self.namespace));
        let counted = format!("{base}&count=1");
        let count: Count = found(&self.one(&counted).await?).map_err(|why| self.server.odd(&counted, &why))?;
        let Count { output, packages: total } = count;
        if output != "ok" || total == 0 || total > PACKAGES_MAX as u64 {
            let why =
                format!("it says {} and counts {total} packages; 1 to {PACKAGES_MAX} are believed", quoted(&output));
            return Err(self.server.odd(&counted, &why));
        }
        let (size, pages) = (self.page_packages, total.div_ceil(self.page_packages));
        let paths: Vec<String> = (1..=pages).map(|page| format!("{base}&acls=1&limit={size}&page={page}")).collect();
        let mut packages = BTreeMap::new();
        let taken = self.server.each(&paths, PAGES_PER_RUN, |at, answer| {
            let odd = |why: String| self.server.odd(&paths[at], &why);
            let read: Page = found(answer).map_err(odd)?;
            if (read.output.as_str(), read.page, read.page_total) != ("ok", at as u64 + 1, pages) {
                let (output, page, of) = (quoted(&read.output), read.page, read.page_total);
                let why = format!("asked for page {} of {pages}, it says {output} with page {page} of {of}", at + 1);
                return Err(odd(why));
            }
            for Listed { name, acls } in read.packages {
                packages.insert(name, acls);
            }
            Ok(())
        });
        taken.await?;
        if packages.len() as u64 != total {
            let why = format!("{} packages came, and {total} were counted", packages.len());
            return Err(self.server.odd(&base, &why));
        }
        Ok(packages)
    }
}

/// The branches of a package; the error is a sentence.
fn rows(listings: Vec<Listing>, place: Place<'_>) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for Listing { collection, point_of_contact, status } in listings {
        let (owner, retired) = match status.as_str() {
            "Approved" => (point_of_contact, false),
            "Retired" => (point_of_contact, true),
            "Orphaned" => (ORPHAN.to_owned(), false),
            "Removed" => continue,
            _ => {
                let branch = Name::from(collection.branchname);
                return Err(place.wrong(&branch, "branch", &format!("has the status {}", quoted(&status))));
            }
        };
        rows.push(Row { branch: collection.branchname.into(), owner: owner.into(), retired: Some(retired) });
    }
    Ok(rows)
}

#[cfg(test)]
#[path = "pkgdb_tests.rs"]
mod tests;
