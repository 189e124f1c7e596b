//! Joins the parts: one request = hints → what the database has → what is on the mirror → rows → one transaction a category.

mod memory;
mod scope;
mod source;
mod stale;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use handler_api::notes::few;
use handler_api::{Change, Describe, Done, Failure, Handler, Plan, Request};
use serde_json::{Map, Value};

use self::memory::{Memory, Planned};
use self::scope::Scope;
use crate::config::Config;
use crate::details;
use crate::plan;
use crate::rows::{Known, Part};
use crate::store::Store;

/// Notes of one plan; further ones are counted.
pub const NOTES_MAX: usize = 50;

/// The handler. What it planned it keeps in mind until apply, which plans again if it does not know.
#[derive(Debug, Default)]
pub struct MirrorDb {
    site: Mutex<Option<Arc<Site>>>,
    memory: Mutex<Memory>,
}

/// All that hangs on the configuration.
#[derive(Debug)]
struct Site {
    /// As it came, to see when it changes.
    words: Map<String, Value>,
    config: Arc<Config>,
    store: Arc<Store>,
}

/// What is asked of one category.
struct Asked<'a> {
    category: &'a str,
    part: &'a Part,
    /// When the newest message was sent, in seconds since 1970; none for a reconcile.
    sent: Option<i64>,
    now: i64,
}

impl MirrorDb {
    /// Asks nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The site of these words. The file of prefixes is read each time, for it may have changed; the connection stays.
    async fn site(&self, words: &Map<String, Value>) -> Result<Arc<Site>, Failure> {
        let known = lock(&self.site).as_ref().filter(|site| site.words == *words).map(Arc::clone);
        if let Some(site) = known.filter(|site| site.config.prefixes_file.is_none()) {
            return Ok(site);
        }
        let own = words.clone();
        let config = blocking(move || Config::load(&own)).await?;
        let place = config.database.clone();
        let mut held = lock(&self.site);
        let before = held.as_ref().filter(|site| site.config.database == place).map(|site| Arc::clone(&site.store));
        let store = before.unwrap_or_else(|| Arc::new(Store::new(place)));
        let site = Arc::new(Site { words: words.clone(), config: Arc::new(config), store });
        *held = Some(Arc::clone(&site));
        Ok(site)
    }
}

impl Handler for MirrorDb {
    fn describe(&self) -> Describe {
        let params = [("directories", "[path]?"), ("repo", "text?"), ("release", "text?"), ("category", "text?")];
        let about = "The mirror database, as the master's tree is; without parameters all categories";
        Describe::served("mirror-db", env!("CARGO_PKG_VERSION"), about, &params)
    }

    async fn plan(&self, request: &Request) -> Result<Plan, Failure> {
        let site = self.site(&request.config).await?;
        let (planned, notes) = site.compute(request).await?;
        let changes = planned.iter().flat_map(|one| one.changes.iter().cloned()).collect();
        lock(&self.memory).keep(&request.reaction, planned);
        Ok(Plan { changes, notes: few(notes, NOTES_MAX) })
    }

    async fn apply(&self, request: &Request, done: &mut Done) -> Result<(), Failure> {
        let site = self.site(&request.config).await?;
        let wanted = request.changes.as_deref().unwrap_or_default();
        let kept = lock(&self.memory).take(&request.reaction).filter(|planned| is_plan(planned, wanted));
        let planned = match kept {
            Some(planned) => planned,
            None => site.compute(request).await?.0,
        };
        if !is_plan(&planned, wanted) {
            return Err(world_moved());
        }
        for one in &planned {
            site.store.write(&one.known, &one.rows).await?;
            one.changes.iter().for_each(|change| done.change(change));
        }
        Ok(())
    }
}

impl Site {
    /// What must be written in each category that the request is about, those with nothing to do left out; and notes.
    async fn compute(&self, request: &Request) -> Result<(Vec<Planned>, Vec<String>), Failure> {
        let scope = Scope::read(&self.config, &request.with)?;
        let sent = source::newest(&request.messages)?;
        let (mut all, mut notes) = (Vec::new(), scope.notes);
        for (category, part) in &scope.parts {
            let asked = Asked { category, part, sent, now: now() };
            let (planned, said) = self.category(&asked).await?;
            let several = scope.parts.len() > 1;
            notes.extend(said.into_iter().map(|note| if several { format!("{category}: {note}") } else { note }));
            all.extend((!planned.changes.is_empty()).then_some(planned));
        }
        Ok((all, notes))
    }

    async fn category(&self, asked: &Asked<'_>) -> Result<(Planned, Vec<String>), Failure> {
        let (part, mut known) = self.known(asked).await?;
        let (config, name, sent) = (Arc::clone(&self.config), asked.category.to_owned(), asked.sent);
        let looked_at = part.clone();
        let (known, tree, read, mut notes) = blocking(move || {
            let tree = source::look(&config, &name, &looked_at, &known, sent)?;
            plan::leave_out(&mut known, &tree, &config.category(&name)?.1.excludes);
            let (read, notes) = details::read(&config.root, &tree, &known.details)?;
            Ok((Arc::new(known), tree, read, notes))
        })
        .await?;
        if let Part::Below(hinted) = asked.part {
            let is_nowhere =
                |name: &&String| !tree.directories.contains_key(*name) && !known.directories.contains_key(*name);
            notes.extend(
                hinted
                    .iter()
                    .filter(is_nowhere)
                    .map(|name| format!("{name} is neither on the mirror nor in the database")),
            );
        }
        let files = match plan::changed(&known, &tree) {
            none if none.is_empty() => BTreeMap::new(),
            ids => self.store.files(&ids).await?,
        };
        let (config, seen, now) = (Arc::clone(&self.config), Arc::clone(&known), asked.now);
        let (rows, told, digest) = blocking(move || {
            let rows = plan::rows(&seen, &part, &tree, &read, &files, &config.reading, now)?;
            let (told, digest) = (plan::told(&seen, &rows), plan::digest(&seen, &rows));
            Ok((rows, told, digest))
        })
        .await?;
        notes.extend(told.notes);
        let is_whole = *asked.part == Part::Whole;
        Ok((Planned { known, rows, digest, changes: told.changes, is_whole }, notes))
    }

    /// What the database has of the part. A directory that it does not know is looked at together with the directories above
    /// it that it does not know either: else it would stand there without its parents. What is above those is known.
    async fn known(&self, asked: &Asked<'_>) -> Result<(Part, Known), Failure> {
        let config = self.config.category(asked.category)?.1;
        let known = self.store.known(asked.category, asked.part).await?;
        if known.category.top != config.top {
            let message = format!(
                "category {}: the database says that its top directory is {}, the block of the handler says {}",
                asked.category, known.category.top, config.top
            );
            return Err(Failure::permanent(message).hinting("correct `path` of the category"));
        }
        let Part::Below(tops) = asked.part else { return Ok((Part::Whole, known)) };
        let mut met: BTreeMap<String, bool> = BTreeMap::new();
        let mut wider = BTreeSet::new();
        for top in tops {
            let mut name = top.clone();
            while !known.directories.contains_key(&name) {
                let Some((parent, _)) = name.rsplit_once('/').filter(|(parent, _)| *parent != config.top) else {
                    break;
                };
                let parent = parent.to_owned();
                let is_known = match met.get(&parent) {
                    Some(is_known) => *is_known,
                    None => {
                        let one = Part::Below(BTreeSet::from([parent.clone()]));
                        let is_known = self.store.known(asked.category, &one).await?.directories.contains_key(&parent);
                        met.insert(parent.clone(), is_known);
                        is_known
                    }
                };
                if is_known {
                    break;
                }
                name = parent;
            }
            wider.insert(name);
        }
        let part = Part::Below(scope::topmost(wider));
        if part == *asked.part {
            return Ok((part, known));
        }
        let known = self.store.known(asked.category, &part).await?;
        Ok((part, known))
    }
}

/// Whether these plans are exactly the one whose changes were seen.
fn is_plan(planned: &[Planned], seen: &[Change]) -> bool {
    let digests = |change| plan::digest_of(std::slice::from_ref(change));
    let seen: Option<BTreeSet<&str>> = seen.iter().map(digests).collect();
    let planned: BTreeSet<&str> = planned.iter().map(|one| one.digest.as_str()).collect();
    seen.is_some_and(|seen| seen == planned)
}

fn world_moved() -> Failure {
    Failure::Retry {
        message: "the tree or the database changed since the plan; it is planned again".into(),
        hint: None,
        after: Some(Duration::from_secs(1)),
    }
}

/// Off the threads that answer others: disks and network file systems take their time.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| Failure::retry(format!("looking at the mirror: {error}")))?
}

/// In seconds since 1970.
#[allow(clippy::disallowed_methods, reason = "this is the edge; what is below takes the time as an argument")]
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
