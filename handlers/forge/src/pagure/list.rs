//! The list of projects, page by page, believed only when it is whole.

use std::collections::BTreeMap;

use accounts::curl::{Answer, encode};
use handler_api::Failure;
use handler_api::words::quoted;
use serde::Deserialize;

use super::{Pagure, Project};
use crate::server::found;

/// Most projects of one list.
pub const PROJECTS_MAX: u64 = 200_000;
/// Projects of one page: pagure's own maximum. Pagure sorts by a name that forks share, so such a list can lose some where two
/// pages meet; then all is read again in pages that meet elsewhere.
pub const PAGE_PROJECTS: [u64; 3] = [100, 97, 89];
/// Pages in one run of curl; a page has up to some hundred kilobytes.
const PAGES_PER_RUN: usize = 10;

/// Which list.
#[derive(Clone, Copy, Debug)]
pub struct Listing<'a> {
    /// Of this namespace; `None` = of all.
    pub namespace: Option<&'a str>,
    /// The forks, or those that are none.
    pub fork: bool,
}

#[derive(Deserialize)]
struct Page {
    projects: Vec<Project>,
    total_projects: u64,
    pagination: Pagination,
}

#[derive(Deserialize)]
struct Pagination {
    page: u64,
    pages: u64,
    per_page: u64,
}

impl Pagure {
    /// All projects of a list, by their full name. That there are none is believed of forks only.
    ///
    /// # Errors
    /// Whatever is not a certain and whole answer of pagure's own.
    pub async fn list(&self, listing: Listing<'_>) -> Result<BTreeMap<String, Project>, Failure> {
        let mut projects = BTreeMap::new();
        let mut total = None;
        for size in self.page_sizes {
            let page = |number: u64| format!("{}&per_page={size}&page={number}", listing.path());
            let first = page(1);
            let mut reader = Reader { listing, size, total: &mut total, projects: &mut projects };
            for answer in self.server.get(std::slice::from_ref(&first)).await? {
                reader.take(1, &answer).map_err(|why| self.server.odd(&first, &why))?;
            }
            let rest: Vec<String> = (2..=reader.pages()).map(page).collect();
            let taken = self.server.each(&rest, PAGES_PER_RUN, |at, answer| {
                reader.take(at as u64 + 2, answer).map_err(|why| self.server.odd(&rest[at], &why))
            });
            taken.await?;
            let (came, total) = (projects.len() as u64, total.unwrap_or_default());
            if came == 0 && !listing.fork {
                let namespace = listing.namespace.map(|name| format!(" in the namespace {name}")).unwrap_or_default();
                let failure = self.server.odd(&first, &format!("it has no projects{namespace}: that is not believed"));
                return Err(failure.hinting("is the namespace spelled as pagure does?"));
            }
            if came == total {
                return Ok(projects);
            }
            if came > total {
                return Err(self.server.odd(&first, "projects came and went while the list was read"));
            }
        }
        let (came, total) = (projects.len(), total.unwrap_or_default());
        Err(self.server.odd(&listing.path(), &format!("{came} projects came, and {total} should have")))
    }
}

impl Listing<'_> {
    fn path(&self) -> String {
        let namespace = self.namespace.map(|name| format!("namespace={}&", encode(name))).unwrap_or_default();
        format!("/api/0/projects?{namespace}fork={}", self.fork)
    }

    /// Whether a project of this name was asked for; a server that does not read the question answers with all it has.
    fn has(&self, fullname: &str) -> bool {
        let own = if self.fork { fullname.splitn(3, '/').nth(2).unwrap_or_default() } else { fullname };
        fullname.starts_with("forks/") == self.fork
            && self.namespace.is_none_or(|name| own.strip_prefix(name).is_some_and(|rest| rest.starts_with('/')))
    }
}

/// Takes the pages of one list.
struct Reader<'a> {
    listing: Listing<'a>,
    size: u64,
    total: &'a mut Option<u64>,
    projects: &'a mut BTreeMap<String, Project>,
}

impl Reader<'_> {
    /// Takes page `number`, from 1 on; the first one first. The error is the end of a sentence.
    fn take(&mut self, number: u64, answer: &Answer) -> Result<(), String> {
        let Page { projects, total_projects, pagination } = found(answer)?;
        let total = *self.total.get_or_insert(total_projects);
        if total_projects != total {
            return Err(format!("page {number} counts {total_projects} projects in all, the first counted {total}"));
        }
        if total > PROJECTS_MAX {
            return Err(format!("it has {total} projects, at most {PROJECTS_MAX} are taken"));
        }
        let (size, pages) = (self.size, self.pages());
        let Pagination { page, pages: says_pages, per_page } = pagination;
        if (page, says_pages, per_page) != (number, pages, size) {
            return Err(format!(
                "asked for page {number} of {pages} with {size} projects each, it answers with page {page} of {says_pages} with {per_page}"
            ));
        }
        let expected = (total - ((number - 1) * size).min(total)).min(size);
        if projects.len() as u64 != expected {
            return Err(format!("page {number} has {} projects, and should have {expected}", projects.len()));
        }
        for project in projects {
            if !self.listing.has(&project.fullname) {
                return Err(format!("page {number} has {}, which was not asked for", quoted(&project.fullname)));
            }
            self.projects.insert(project.fullname.clone(), project);
        }
        Ok(())
    }

    fn pages(&self) -> u64 {
        self.total.unwrap_or_default().div_ceil(self.size)
    }
}
