//! The source `pagure`: pagure's API, version 0, as dist-git has it.
//!
//! * The owner is the main admin, `access_users.owner`; on every branch the same.
//! * Retired is what has a file `dead.package` at the top of the branch. Of one package this is asked for certain, one request for
//!   each branch that has tags. With `retired: false` it is not asked, and nothing is blocked or unblocked.
//! * Of all packages it would be 100,000 requests. `retired_in` names the lists that some sites make of it, one file for each branch:
//!   `{"BRANCH": ["PACKAGE", …]}` (the shape and where they stand: `retired_in_BRANCH.json`, made by a cron job of Fedora's
//!   dist-git servers). Such a list is hours old: what is in it is retired, of what is not in it *nothing is known*, so what was
//!   retired after it was made is not unblocked. For a branch without a list (404) nothing is known either.
//! * All packages are a request for each, for its branches: minutes, and felt by the server (see `forge::pagure`).

use std::collections::{BTreeMap, BTreeSet};

use accounts::curl::check_url;
use forge::document::{List, Name, Pairs};
use forge::pagure::{Listing, Pagure as Site, Project};
use forge::server::{Server, found};
use handler_api::Failure;
use handler_api::notes::Notes;
use handler_api::words::{Words, is_name, quoted};
use serde_json::Value;

use super::entry::{Place, Row, checked, package_name};
use super::{All, PACKAGES_MAX, Package, Wanted};
use crate::names::{BranchName, PackageName};

/// What stands for the branch in `retired_in`.
const BRANCH: &str = "{branch}";
/// Lists in one run of curl.
const LISTS_PER_RUN: usize = 10;
/// The file that says that a package is retired.
const DEAD: &str = "dead.package";

/// The source, as configured.
#[derive(Debug)]
pub struct Pagure {
    site: Site,
    namespace: String,
    /// Whether `dead.package` means anything there.
    retired: bool,
    lists: Option<Lists>,
}

/// The lists of retired packages.
#[derive(Debug)]
struct Lists {
    server: Server,
    /// What stands before the branch's name in the path, and after it.
    around: (String, String),
}

/// The names in the list of a branch; `None` = it has no list.
type Retired<'a> = BTreeMap<&'a BranchName, Option<BTreeSet<String>>>;

impl Pagure {
    /// Reads `{pagure: URL, namespace: rpms?, retired: true?, retired_in: URL?, ca: PATH?, timeout: 30s?}`.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word.
    pub fn open(config: &Value) -> Result<Self, Failure> {
        let allowed = ["pagure", "namespace", "retired", "retired_in", "ca", "timeout"];
        let words = Words::read(config, "packages: pagure", &allowed)?;
        let site = Site::read(&words)?;
        let namespace = words.text("namespace")?.unwrap_or("rpms");
        if !is_name(namespace) || namespace == "forks" {
            return Err(words.wrong("namespace", "is no namespace", &namespace.into()));
        }
        let retired = match words.get("retired") {
            None => true,
            Some(Value::Bool(retired)) => *retired,
            Some(other) => return Err(words.wrong("retired", "is neither true nor false", other)),
        };
        let lists = words.text("retired_in")?.map(|url| Lists::read(&words, url, &site.server)).transpose()?;
        if lists.is_some() && !retired {
            let failure = words.wrong("retired_in", "is of no use with `retired: false`", &Value::Null);
            return Err(failure.hinting("leave out one of them"));
        }
        Ok(Self { site, namespace: namespace.to_owned(), retired, lists })
    }

    /// See [`super::Truth::package`].
    ///
    /// # Errors
    /// Whatever is not a certain answer of pagure's own; permanent for a bad name in the project.
    pub async fn package(&self, name: &PackageName, wanted: &Wanted) -> Result<Option<Package>, Failure> {
        let fullname = format!("{}/{name}", self.namespace);
        let Some((project, branches)) = self.site.project(&fullname).await? else { return Ok(None) };
        let branches = of_interest(&branches?, wanted);
        let retired = if self.retired {
            let names: Vec<&str> = branches.iter().map(|branch| branch.as_str()).collect();
            let dead = self.site.has_file(&fullname, &names, DEAD).await?;
            dead.into_iter().map(Some).collect()
        } else {
            vec![None; branches.len()]
        };
        let place = self.place(name.as_str());
        let rows = rows(&project, branches.into_iter().zip(retired), place).and_then(|rows| checked(&rows, place));
        rows.map(Some).map_err(|sentence| place.failure(sentence))
    }

    /// See [`super::Truth::all`].
    ///
    /// # Errors
    /// Whatever is not a certain and whole answer.
    pub async fn all(&self, wanted: &Wanted) -> Result<All, Failure> {
        let mut all = All::default();
        let mut notes = Notes::default();
        let retired = self.retired_in(wanted, &mut notes).await?;
        let listing = Listing { namespace: Some(&self.namespace), fork: false };
        let mut projects = BTreeMap::new();
        for (fullname, project) in self.site.list(listing).await? {
            let own = fullname.strip_prefix(&self.namespace).and_then(|rest| rest.strip_prefix('/'));
            let own = own.unwrap_or(&fullname).to_owned();
            match package_name(&Name::from(own), &self.site.server.base) {
                Ok(name) => drop(projects.insert(name, project)),
                Err(sentence) => notes.add(|| sentence),
            }
        }
        let asked: Vec<&str> = projects.values().map(|project| project.fullname.as_str()).collect();
        let read = self.site.branches(&asked).await?;
        for ((name, project), branches) in projects.iter().zip(read) {
            let place = self.place(name.as_str());
            let package = branches.and_then(|branches| {
                let known = of_interest(&branches, wanted).into_iter().map(|branch| {
                    let listed = retired.get(branch).and_then(Option::as_ref);
                    (branch, listed.filter(|names| names.contains(name.as_str())).map(|_| true))
                });
                checked(&rows(project, known, place)?, place)
            });
            match package {
                Ok(package) => drop(all.packages.insert(name.clone(), package)),
                Err(sentence) => drop(all.left_alone.insert(name.as_str().to_owned(), sentence)),
            }
        }
        all.notes = notes.into_sentences();
        Ok(all)
    }

    fn place<'a>(&'a self, package: &'a str) -> Place<'a> {
        Place { source: &self.site.server.base, package }
    }

    /// The list of each of these branches.
    async fn retired_in<'a>(&self, wanted: &'a Wanted, notes: &mut Notes) -> Result<Retired<'a>, Failure> {
        let Some(Lists { server, around: (before, after) }) = &self.lists else { return Ok(Retired::new()) };
        let branches: Vec<&BranchName> = wanted.iter().collect();
        let paths: Vec<String> = branches.iter().map(|branch| format!("{before}{branch}{after}")).collect();
        let mut retired = Retired::new();
        let taken = server.each(&paths, LISTS_PER_RUN, |at, answer| {
            let branch = branches[at];
            if answer.status == 404 {
                notes.add(|| {
                    format!("{}{}: not found, so who is retired on {branch} is not known", server.base, paths[at])
                });
                retired.insert(branch, None);
                return Ok(());
            }
            let listed: Pairs<String, List<String, PACKAGES_MAX>, 1> =
                found(answer).map_err(|why| server.odd(&paths[at], &why))?;
            let mine = listed.0.into_iter().find(|(name, _)| name == branch.as_str());
            let (_, names) = mine.ok_or_else(|| server.odd(&paths[at], &format!("it is not the list of {branch}")))?;
            retired.insert(branch, Some(names.0.into_iter().collect()));
            Ok(())
        });
        taken.await?;
        Ok(retired)
    }
}

impl Lists {
    /// Reads a URL with `{branch}` in its path.
    fn read(words: &Words<'_>, url: &str, site: &Server) -> Result<Self, Failure> {
        let hint = "write https://HOST/lookaside/retired_in_{branch}.json";
        let wrong = |why: &str| words.wrong("retired_in", why, &url.into()).hinting(hint);
        let (before, after) = url.split_once(BRANCH).ok_or_else(|| wrong("has no {branch} in it"))?;
        // What is checked must be of the form of a base URL, but the end of a path may be anything that such may hold.
        check_url(&format!("{before}BRANCH{after}")).map_err(wrong)?;
        let from = before.find("://").map_or(0, |at| at + 3);
        let slash = before[from..].find('/').ok_or_else(|| wrong("has {branch} before its path"))?;
        let (base, before) = before.split_at(from + slash);
        Ok(Self { server: site.elsewhere(base), around: (before.to_owned(), after.to_owned()) })
    }
}

/// Those of the branches that are wanted; the others may have any name.
fn of_interest<'a>(branches: &[String], wanted: &'a Wanted) -> Vec<&'a BranchName> {
    let there: BTreeSet<&str> = branches.iter().map(String::as_str).collect();
    wanted.iter().filter(|branch| there.contains(branch.as_str())).collect()
}

fn rows<'a>(
    project: &Project,
    branches: impl Iterator<Item = (&'a BranchName, Option<bool>)>,
    place: Place<'_>,
) -> Result<Vec<Row>, String> {
    let [owner] = &project.access_users.owner[..] else {
        let names: Vec<String> = project.access_users.owner.iter().take(3).map(|name| quoted(name)).collect();
        return Err(format!("{}: {} has more than one owner: {}", place.source, place.package, names.join(", ")));
    };
    let row = |(branch, retired): (&BranchName, _)| Row {
        branch: branch.as_str().to_owned().into(),
        owner: owner.clone().into(),
        retired,
    };
    Ok(branches.map(row).collect())
}

#[cfg(test)]
#[path = "pagure_tests.rs"]
mod tests;
