//! Joins the parts: one request = truth and tags → one look at the hub → plan → read again, write in batches, judge each answer.

mod lists;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handler_api::notes::few;
use handler_api::spelling::did_you_mean;
use handler_api::{Change, Describe, Done, Failure, Finding, Handler, Params, Plan, Request};
use serde_json::{Map, Value};

use self::lists::Lists;
use self::write::Work;
use crate::config::Config;
use crate::hub::{Hub, What};
use crate::names::{BranchName, PackageName, TagName};
use crate::plan::tell::{self, Line};
use crate::plan::{self, Case, Draft, List, Stand, Step};
use crate::request::{Packages, Scope};
use crate::tags::Tags;
use crate::truth::{All, Package, Truth, Wanted};

/// Notes of one plan; further ones are counted.
pub const NOTES_MAX: usize = 50;

/// The handler. The session with the hub stays open from one request to the next.
#[derive(Debug, Default)]
pub struct KojiOwners {
    site: Mutex<Option<Arc<Site<Hub>>>>,
}

/// All that hangs on the configuration.
#[derive(Debug)]
struct Site<H> {
    /// As it came, to see when it changes.
    words: Map<String, Value>,
    config: Config,
    truth: Truth,
    tags: Tags,
    hub: Arc<H>,
}

/// The tags that are looked after, and those that a request is about.
struct Tagged {
    all: BTreeMap<TagName, BranchName>,
    only: Option<BTreeSet<TagName>>,
}

impl KojiOwners {
    /// Asks nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The site of these words. The hub, and with it the session, stays when only other words change.
    fn site(&self, words: &Map<String, Value>) -> Result<Arc<Site<Hub>>, Failure> {
        let mut held = lock(&self.site);
        if let Some(site) = held.as_ref().filter(|site| site.words == *words) {
            return Ok(Arc::clone(site));
        }
        let config = Config::read(words)?;
        let before = held.as_ref().filter(|site| site.config.place == config.place).map(|site| Arc::clone(&site.hub));
        let hub = before.unwrap_or_else(|| Arc::new(Hub::new(config.place.clone())));
        let site = Arc::new(Site::new(words, config, hub)?);
        *held = Some(Arc::clone(&site));
        Ok(site)
    }
}

impl Handler for KojiOwners {
    fn describe(&self) -> Describe {
        let params = [("package", "text?"), ("request", "text?"), ("tags", "[name]?")];
        let about = "Koji's package lists and owners, as the truth has them; without parameters all packages";
        Describe::served("koji-owners", env!("CARGO_PKG_VERSION"), about, &params)
    }

    async fn plan(&self, request: &Request) -> Result<Plan, Failure> {
        self.site(&request.config)?.plan(request).await
    }

    async fn apply(&self, request: &Request, done: &mut Done) -> Result<(), Failure> {
        self.site(&request.config)?.apply(request, done).await
    }

    async fn doctor(&self, request: &Request) -> Vec<Finding> {
        crate::check::doctor(&request.config).await
    }
}

impl<H: Lists> Site<H> {
    fn new(words: &Map<String, Value>, config: Config, hub: Arc<H>) -> Result<Self, Failure> {
        let (truth, tags) = (Truth::open(&config.packages)?, Tags::open(&config.tags)?);
        Ok(Self { words: words.clone(), config, truth, tags, hub })
    }

    async fn plan(&self, request: &Request) -> Result<Plan, Failure> {
        let (lines, notes) = self.lines(&request.with).await?;
        Ok(Plan { changes: lines.into_iter().map(|line| line.change).collect(), notes: few(notes, NOTES_MAX) })
    }

    async fn apply(&self, request: &Request, done: &mut Done) -> Result<(), Failure> {
        let changes = request.changes.as_deref().unwrap_or_default();
        if changes.is_empty() {
            return Ok(());
        }
        if self.config.place.login.is_none() {
            let hint = "write login: {certificate: SECRET}, {keytab: SECRET} or {kerberos: environment} into the handler's block, then: reactor retry ID";
            let message = "koji-owners: nothing can be written without `login`: only planned";
            return Err(Failure::permanent(message).hinting(hint));
        }
        let work = if tell::are_sums(changes) {
            self.again(&request.with, changes).await?
        } else {
            self.still_open(changes).await?
        };
        write::write(&*self.hub, &work, done).await
    }

    /// What must change, as it is told, and what a person should know.
    async fn lines(&self, with: &Params) -> Result<(Vec<Line>, Vec<String>), Failure> {
        let scope = Scope::read(with, &self.config.namespace)?;
        let (steps, notes) = match &scope.packages {
            Packages::None(why) => (Vec::new(), vec![why.clone()]),
            Packages::One(name) => {
                let tags = self.tagged(&scope).await?;
                let package = self.truth.package(name, &tags.branches()).await?;
                self.one(name, package, &tags).await?
            }
            Packages::All => {
                let tags = self.tagged(&scope).await?;
                let all = self.truth.all(&tags.branches()).await?;
                self.all(&all, &tags).await?
            }
        };
        Ok((tell::lines(steps), notes))
    }

    async fn tagged(&self, scope: &Scope) -> Result<Tagged, Failure> {
        let all = plan::by_tag(self.tags.read().await?)?;
        if let Some(unknown) = scope.tags.iter().flatten().find(|tag| !all.contains_key(*tag)) {
            let near = did_you_mean(unknown.as_str(), all.keys().map(TagName::as_str));
            let near = near.map(|near| format!("did you mean {near}? ")).unwrap_or_default();
            return Err(Failure::permanent(format!("the tag {unknown} is not one of those that are looked after"))
                .hinting(format!("{near}see `tags` of the handler's block")));
        }
        Ok(Tagged { all, only: scope.tags.clone() })
    }

    /// One package: one call of the hub.
    async fn one(
        &self,
        name: &PackageName,
        package: Option<Package>,
        tags: &Tagged,
    ) -> Result<(Vec<Step>, Vec<String>), Failure> {
        let Some(package) = package else {
            return Ok((Vec::new(), vec![format!("the truth has no package {name}; in Koji it stays as it is")]));
        };
        let cases: Vec<_> =
            tags.asked().filter_map(|(tag, branch)| Some((tag, package.branches.get(branch)?))).collect();
        if cases.is_empty() {
            return Ok((Vec::new(), vec![format!("{name} lives on no branch that one of these tags stands for")]));
        }
        let asked: Vec<_> = cases.iter().map(|(tag, _)| ((*tag).clone(), name.clone())).collect();
        let ways = &self.config.ways;
        let users = cases.iter().map(|(_, truth)| &truth.owner).chain(&ways.no_account).cloned().collect();
        let look = self.hub.look(&asked, &users).await?;
        lists::same_number(asked.len(), look.entries.len())?;
        let mut draft = Draft::default();
        for ((tag, truth), entry) in cases.into_iter().zip(&look.entries) {
            let case = Case { tag, package: name, truth, entry: entry.as_ref() };
            draft.judge(case, ways, |tag| tags.looks_after(tag));
        }
        let (steps, notes) = draft.settle(&look.without_account, ways, true)?;
        Ok((steps, notes.sentences()))
    }

    /// All packages, tag by tag: one call of the hub each, and one more if somebody new comes in.
    async fn all(&self, all: &All, tags: &Tagged) -> Result<(Vec<Step>, Vec<String>), Failure> {
        let ways = &self.config.ways;
        let mut draft = Draft::default();
        for (tag, branch) in tags.asked() {
            let entries = self.hub.list(tag).await?;
            draft.judge_list(List { tag, branch, entries: &entries }, all, ways, |tag| tags.looks_after(tag));
        }
        let mut users = draft.new_owners();
        let missing = if users.is_empty() {
            BTreeSet::new()
        } else {
            users.extend(ways.no_account.clone());
            self.hub.look(&[], &users).await?.without_account
        };
        let (steps, notes) = draft.settle(&missing, ways, false)?;
        let said = notes.sentences().into_iter().chain(all.notes.iter().chain(all.left_alone.values()).cloned());
        Ok((steps, said.collect()))
    }

    /// The steps of changes that say all that is to be done: read again what they are about.
    async fn still_open<'a>(&self, changes: &'a [Change]) -> Result<Vec<Work<'a>>, Failure> {
        let steps = changes.iter().map(tell::step).collect::<Result<Vec<_>, _>>()?;
        let of = |step: &Step| (step.write.tag.clone(), step.write.package.clone());
        let asked: Vec<_> = steps.iter().map(of).collect();
        let now = self.hub.look(&asked, &BTreeSet::new()).await?.entries;
        lists::same_number(asked.len(), now.len())?;
        let unblocks = |step: &&Step| step.write.what == What::Unblock;
        let unblocked: BTreeSet<_> = steps.iter().filter(unblocks).map(of).collect();
        let mut work = Vec::with_capacity(changes.len());
        for ((change, step), (entry, at)) in changes.iter().zip(steps).zip(now.iter().zip(&asked)) {
            let writes = match step.stand(entry.as_ref(), unblocked.contains(at)) {
                Stand::Open => vec![step.write],
                Stand::Done => Vec::new(),
                Stand::Moved => return Err(world_moved()),
            };
            work.push(Work { change, writes });
        }
        Ok(work)
    }

    /// The steps of changes that stand for many: planned again, and exactly the same.
    async fn again<'a>(&self, with: &Params, changes: &'a [Change]) -> Result<Vec<Work<'a>>, Failure> {
        let (lines, _) = self.lines(with).await?;
        if lines.len() != changes.len() {
            return Err(world_moved());
        }
        let pair = |(line, change): (Line, &'a Change)| {
            let is_same = line.change.same_as(change) && line.change.after == change.after;
            let writes = line.steps.into_iter().map(|step| step.write).collect();
            if is_same { Ok(Work { change, writes }) } else { Err(world_moved()) }
        };
        lines.into_iter().zip(changes).map(pair).collect()
    }
}

impl Tagged {
    fn asked(&self) -> impl Iterator<Item = (&TagName, &BranchName)> {
        let is_asked = |tag: &TagName| self.only.as_ref().is_none_or(|only| only.contains(tag));
        self.all.iter().filter(move |(tag, _)| is_asked(tag))
    }

    /// The branches that the request is about.
    fn branches(&self) -> Wanted {
        self.asked().map(|(_, branch)| branch.clone()).collect()
    }

    fn looks_after(&self, tag: &str) -> bool {
        TagName::parse(tag).is_ok_and(|tag| self.all.contains_key(&tag))
    }
}

fn world_moved() -> Failure {
    Failure::Retry {
        message: "Koji's package list, or the truth, changed since the plan; it is planned again".into(),
        hint: None,
        after: Some(Duration::from_secs(1)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
