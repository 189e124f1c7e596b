//! Which tags stand for a branch: written down, or from bodhi's releases.
//!
//! ```yaml
//! tags: {rawhide: f45, f44: [f44, f44-extra]}
//! tags: {bodhi: "https://bodhi.example.org", prefixes: [FEDORA, FEDORA-EPEL]}
//! ```
//!
//! A tag stands for one branch: with two, each reaction would give the package to the other's owner. That there are none, or not
//! all, is not believed: **unknown is not empty**.
//!
//! Bodhi: `GET /releases/?exclude_archived=true&rows_per_page=100&page=N`, `{"page", "pages", "rows_per_page", "total", "releases":
//! [{"name", "id_prefix", "branch", "dist_tag", …}]}` (`bodhi-server/bodhi/server/services/releases.py` of fedora-infra/bodhi, 26.4.0). A
//! release's `dist_tag` is its tag. Others than packages have releases too (containers, flatpaks), told by `id_prefix`.

use std::collections::{BTreeMap, BTreeSet};

use accounts::curl::Answer;
use forge::server::{Server, found};
use handler_api::Failure;
use handler_api::words::{Words, quoted};
use serde::Deserialize;
use serde_json::Value;

use crate::names::{BranchName, TagName};

/// Most branches with tags.
pub const TAGGED_BRANCHES_MAX: usize = 1_000;
/// Most tags of one branch.
pub const TAGS_PER_BRANCH_MAX: usize = 100;
/// Most names under `prefixes`.
pub const PREFIXES_MAX: usize = 100;
/// Releases of one page; some 30 are not archived at a time, and bodhi gives at most 1,000.
const PAGE_RELEASES: u64 = 100;
/// What `prefixes` is unless it is said.
const PREFIXES: [&str; 2] = ["FEDORA", "FEDORA-EPEL"];

/// The tags of each branch.
pub type ByBranch = BTreeMap<BranchName, BTreeSet<TagName>>;

/// Where it is known which tags stand for a branch.
#[derive(Debug)]
pub struct Tags {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Written(ByBranch),
    Bodhi(Box<Bodhi>),
}

#[derive(Debug)]
struct Bodhi {
    server: Server,
    prefixes: BTreeSet<String>,
    page_releases: u64,
}

#[derive(Deserialize)]
struct Page {
    releases: Vec<Release>,
    page: u64,
    pages: u64,
    rows_per_page: u64,
    total: u64,
}

#[derive(Deserialize)]
struct Release {
    name: String,
    id_prefix: String,
    branch: String,
    dist_tag: String,
}

impl Tags {
    /// Reads the `tags` block: a map of branches, or `{bodhi: URL, prefixes: [FEDORA, FEDORA-EPEL]?, ca: PATH?, timeout: 30s?}`.
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// A permanent failure that names what is wrong.
    pub fn open(config: &Value) -> Result<Self, Failure> {
        let hint = "write tags: {rawhide: f45, f44: [f44, f44-extra]}, or tags: {bodhi: https://HOST}";
        let Some(map) = config.as_object().filter(|map| !map.is_empty()) else {
            let message = format!("`tags` is not a map of branches and their tags: {}", quoted(&config.to_string()));
            return Err(Failure::permanent(message).hinting(hint));
        };
        if map.contains_key("bodhi") {
            return Ok(Self { source: Source::Bodhi(Box::new(Bodhi::open(config)?)) });
        }
        let wrong = |why: String| Failure::permanent(format!("tags: {why}")).hinting(hint);
        if map.len() > TAGGED_BRANCHES_MAX {
            return Err(wrong(format!("{} branches; at most {TAGGED_BRANCHES_MAX} are allowed", map.len())));
        }
        let mut tags = ByBranch::new();
        for (branch, value) in map {
            let name =
                BranchName::parse(branch).map_err(|why| wrong(format!("the branch {} {why}", quoted(branch))))?;
            tags.insert(name, written(value).map_err(|why| wrong(format!("{branch}: {why}")))?);
        }
        one_branch_each(&tags).map_err(wrong)?;
        Ok(Self { source: Source::Written(tags) })
    }

    /// The tags of each branch, as they are now; never none.
    ///
    /// # Errors
    /// Whatever is not a certain and whole answer.
    pub async fn read(&self) -> Result<ByBranch, Failure> {
        match &self.source {
            Source::Written(tags) => Ok(tags.clone()),
            Source::Bodhi(bodhi) => bodhi.read().await,
        }
    }
}

/// A tag, or a list of tags. The error is the end of a sentence.
fn written(value: &Value) -> Result<BTreeSet<TagName>, String> {
    let one = std::slice::from_ref(value);
    let items = value.as_array().map_or(one, Vec::as_slice);
    if items.is_empty() || items.len() > TAGS_PER_BRANCH_MAX {
        return Err(format!("it has {} tags; 1 to {TAGS_PER_BRANCH_MAX} are allowed", items.len()));
    }
    let mut tags = BTreeSet::new();
    for item in items {
        let text = item.as_str().ok_or_else(|| format!("{} is no text", quoted(&item.to_string())))?;
        tags.insert(TagName::parse(text).map_err(|why| format!("the tag {} {why}", quoted(text)))?);
    }
    Ok(tags)
}

/// The error is a sentence.
fn one_branch_each(tags: &ByBranch) -> Result<(), String> {
    let mut seen: BTreeMap<&TagName, &BranchName> = BTreeMap::new();
    for (branch, tag) in tags.iter().flat_map(|(branch, tags)| tags.iter().map(move |tag| (branch, tag))) {
        if let Some(other) = seen.insert(tag, branch) {
            return Err(format!("the tag {tag} stands for two branches, {other} and {branch}"));
        }
    }
    Ok(())
}

impl Bodhi {
    fn open(config: &Value) -> Result<Self, Failure> {
        let words = Words::read(config, "tags: bodhi", &["bodhi", "prefixes", "ca", "timeout"])?;
        let server = Server::read(&words, "bodhi", "write https://HOST, without /releases")?;
        let prefixes = match words.get("prefixes") {
            None => PREFIXES.map(str::to_owned).into(),
            Some(value) => prefixes(value).ok_or_else(|| {
                let why = format!("is not a list of 1 to {PREFIXES_MAX} texts");
                words.wrong("prefixes", &why, value).hinting("write prefixes: [FEDORA, FEDORA-EPEL]")
            })?,
        };
        Ok(Self { server, prefixes, page_releases: PAGE_RELEASES })
    }

    async fn read(&self) -> Result<ByBranch, Failure> {
        let size = self.page_releases;
        let path = |page: u64| format!("/releases/?exclude_archived=true&rows_per_page={size}&page={page}");
        let mut releases = BTreeMap::new();
        let (mut number, mut pages, mut total) = (1, 1, 0);
        while number <= pages {
            let path = path(number);
            let mut answers = self.server.get(std::slice::from_ref(&path)).await?;
            let answer = answers.pop().ok_or_else(|| self.server.odd(&path, "it was not answered"))?;
            let page = self.page(number, &answer).map_err(|why| self.server.odd(&path, &why))?;
            if number > 1 && (page.pages, page.total) != (pages, total) {
                return Err(self.server.odd(&path, "releases came and went while the list was read"));
            }
            (pages, total) = (page.pages, page.total);
            releases.extend(page.releases.into_iter().map(|release| (release.name.clone(), release)));
            number += 1;
        }
        let odd = |why: String| self.server.odd(&path(1), &why);
        if releases.len() as u64 != total {
            return Err(odd(format!("{} releases came, and {total} should have", releases.len())));
        }
        self.tags(releases.into_values()).map_err(odd)
    }

    /// One page. The error is the end of a sentence.
    fn page(&self, number: u64, answer: &Answer) -> Result<Page, String> {
        let read: Page = found(answer)?;
        let Page { page, pages, rows_per_page, total, .. } = read;
        if total == 0 || total > TAGGED_BRANCHES_MAX as u64 {
            return Err(format!("it has {total} releases; 1 to {TAGGED_BRANCHES_MAX} are believed"));
        }
        let size = self.page_releases;
        if (page, pages, rows_per_page) != (number, total.div_ceil(size), size) {
            return Err(format!(
                "asked for page {number} with {size} releases of {total}, it answers with page {page} of {pages} with {rows_per_page}"
            ));
        }
        Ok(read)
    }

    /// What the releases say. The error is the end of a sentence.
    fn tags(&self, releases: impl Iterator<Item = Release>) -> Result<ByBranch, String> {
        let mut tags = ByBranch::new();
        let mut without: BTreeSet<&str> = self.prefixes.iter().map(String::as_str).collect();
        for Release { name, id_prefix, branch, dist_tag } in releases {
            let Some(prefix) = self.prefixes.get(&id_prefix) else { continue };
            let wrong = |what: &str, text: &str, why: String| {
                format!("the {what} {} of the release {} {why}", quoted(text), quoted(&name))
            };
            let tag = TagName::parse(&dist_tag).map_err(|why| wrong("dist_tag", &dist_tag, why))?;
            let branch = BranchName::parse(&branch).map_err(|why| wrong("branch", &branch, why))?;
            tags.entry(branch).or_default().insert(tag);
            without.remove(prefix.as_str());
        }
        if let Some(prefix) = without.first() {
            return Err(format!("it has no release with the id_prefix {}; see `prefixes`", quoted(prefix)));
        }
        one_branch_each(&tags)?;
        Ok(tags)
    }
}

fn prefixes(value: &Value) -> Option<BTreeSet<String>> {
    let items = value.as_array().filter(|items| (1..=PREFIXES_MAX).contains(&items.len()))?;
    items.iter().map(|item| item.as_str().filter(|text| !text.is_empty()).map(str::to_owned)).collect()
}

#[cfg(test)]
#[path = "tags_tests.rs"]
mod tests;
