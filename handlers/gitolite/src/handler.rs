//! The glue: a request's parameters → truth, admin repository, plan; and apply.

mod story;
mod want;
mod written;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use accounts::Accounts;
use handler_api::notes::few;
use handler_api::{Action, Change, Describe, Done, Failure, Handler, Plan, Request};
use serde_json::{Map, Value};

pub(crate) use self::want::groups_of;
use self::want::{Known, Scope};
use self::written::Written;
use crate::admin::{Admin, Job};
use crate::config::Config;
use crate::layout::Membership;
use crate::plan;
use crate::truth::Truth;

/// Plans kept in memory between plan and apply. One that is not there any more is made again.
pub const PLANS_KEPT_MAX: usize = 64;
/// Notes of one plan; further ones are counted.
pub const NOTES_MAX: usize = 50;
/// The target of the change that lets gitolite compile again.
const COMPILE: &str = "gitolite: compile again";

/// The handler. One process serves many requests; the copy of the admin repository stays warm in it.
#[derive(Debug, Default)]
pub struct Gitolite {
    site: Mutex<Option<Arc<Site>>>,
}

/// All that hangs on the configuration.
#[derive(Debug)]
struct Site {
    /// As it came, to see when it changes.
    words: Map<String, Value>,
    config: Config,
    truth: Truth,
    accounts: Accounts,
    admin: Admin,
    /// What was asked for a plan, by reaction, the oldest first.
    kept: Mutex<VecDeque<(String, Arc<Known>)>>,
    written: Arc<Mutex<Written>>,
}

impl Gitolite {
    /// Nothing is read or connected yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn site(&self, words: &Map<String, Value>) -> Result<Arc<Site>, Failure> {
        let mut held = lock(&self.site);
        if let Some(site) = held.as_ref().filter(|site| site.words == *words) {
            return Ok(Arc::clone(site));
        }
        let config = Config::read(words)?;
        let site = Arc::new(Site {
            words: words.clone(),
            truth: Truth::open(&config.repos)?,
            accounts: Accounts::open(&config.accounts)?,
            admin: Admin::new(config.admin.clone()),
            config,
            kept: Mutex::default(),
            written: Arc::default(),
        });
        *held = Some(Arc::clone(&site));
        Ok(site)
    }
}

impl Handler for Gitolite {
    fn describe(&self) -> Describe {
        let params = [("repo", "path?"), ("group", "name?"), ("user", "name?")];
        let about = "gitolite's rules, groups and keys, as the truth has them; without parameters all of them";
        Describe::served("gitolite", env!("CARGO_PKG_VERSION"), about, &params)
    }

    async fn plan(&self, request: &Request) -> Result<Plan, Failure> {
        let site = self.site(&request.config)?;
        let known = site.ask(request).await?;
        let (mut changes, mut notes) = site.compare(&known).await?;
        notes.extend(known.notes.iter().cloned());
        if known.about_rules && !site.admin.is_compiled(&known.now)? {
            changes.push(compile_again());
        }
        site.keep(&request.reaction, (!changes.is_empty()).then_some(known));
        Ok(Plan { changes, notes: few(notes, NOTES_MAX) })
    }

    async fn apply(&self, request: &Request, done: &mut Done) -> Result<(), Failure> {
        let site = self.site(&request.config)?;
        let known = match site.kept(&request.reaction) {
            Some(known) => known,
            None => site.ask(request).await?,
        };
        let changes = request.changes.clone().unwrap_or_default();
        let (again, changes): (Vec<Change>, Vec<Change>) =
            changes.into_iter().partition(|change| change.target == COMPILE);
        let compiled_by_us = !changes.is_empty();
        if compiled_by_us {
            site.push(request, &known, &changes).await?;
            changes.iter().for_each(|change| done.change(change));
            let not_asked = site.admin.unknown_group().filter(|_| site.config.membership == Membership::Asked);
            not_asked.iter().for_each(|group| done.note(&nobody_asks(group)));
        }
        let Some(again) = again.first() else { return Ok(()) };
        if !(compiled_by_us && site.admin.is_compiled(&*site.admin.look().await?)?) {
            site.admin.compile(story::message(request, std::slice::from_ref(again))).await?;
        }
        done.change(again);
        Ok(())
    }
}

impl Site {
    /// What is to be done about what is known; on a thread of its own, since a whole site takes seconds.
    async fn compare(&self, known: &Arc<Known>) -> Result<(Vec<Change>, Vec<String>), Failure> {
        let (known, membership) = (Arc::clone(known), self.config.membership);
        let planned = tokio::task::spawn_blocking(move || {
            plan::plan(&known.wanted, &*known.now, membership, &known.told)
                .map(|planned| (planned.changes, planned.notes))
        });
        planned.await.map_err(|error| Failure::retry(format!("making the plan: {error}")))?
    }

    /// Commits and pushes exactly `expected`, or says that the world moved.
    async fn push(&self, request: &Request, known: &Arc<Known>, expected: &[Change]) -> Result<(), Failure> {
        let message = story::message(request, expected);
        let (known, expected, membership) = (Arc::clone(known), expected.to_vec(), self.config.membership);
        let (written, reaction) = (Arc::clone(&self.written), request.reaction.clone());
        let edits = move |now: &crate::admin::Snapshot| {
            let planned = plan::plan(&known.wanted, now, membership, &known.told)?;
            let is_right = are_the_same(&planned.changes, &expected)
                && lock(&written).may_write(&reaction, known.began, &planned.subjects);
            if is_right { Ok(planned.edits) } else { Err(world_moved()) }
        };
        self.admin.push(Job { edits: Box::new(edits), message }).await
    }

    /// Keeps what an apply will want; `None` = there is nothing to apply.
    fn keep(&self, reaction: &str, known: Option<Arc<Known>>) {
        let mut kept = lock(&self.kept);
        // All of a large site is 100 MB: only the latest such is kept, since many may be held or planned only.
        let is_all = known.as_ref().is_some_and(|known| known.wanted.everything.is_some());
        kept.retain(|(id, other)| id != reaction && !(is_all && other.wanted.everything.is_some()));
        kept.extend(known.map(|known| (reaction.to_owned(), known)));
        if kept.len() > PLANS_KEPT_MAX {
            kept.pop_front();
        }
    }

    fn kept(&self, reaction: &str) -> Option<Arc<Known>> {
        let mut kept = lock(&self.kept);
        let at = kept.iter().position(|(id, _)| id == reaction)?;
        kept.remove(at).map(|(_, known)| known)
    }

    async fn ask(&self, request: &Request) -> Result<Arc<Known>, Failure> {
        let scope = Scope::read(&request.with)?;
        let began = lock(&self.written).now();
        let mut known = self.known(&scope).await?;
        known.began = began;
        known.wanted.groups_meant = self.config.groups.clone();
        known.told = story::told(request);
        Ok(Arc::new(known))
    }
}

/// Nobody saw the compile after our last commit end: it may have been cut off in the middle.
fn compile_again() -> Change {
    Change {
        action: Action::Run,
        target: COMPILE.into(),
        before: None,
        after: Some(Value::String("nobody saw the compile after our last commit end".into())),
        secret: false,
        hold: None,
        count: None,
        more: Map::new(),
    }
}

/// Whether a plan on what stands there now is the one that was seen.
fn are_the_same(now: &[Change], expected: &[Change]) -> bool {
    let same = |a: &Change, b: &Change| a.same_as(b) && a.after == b.after && a.hold == b.hold;
    now.len() == expected.len() && now.iter().zip(expected).all(|(a, b)| same(a, b))
}

/// What a person should know who wrote `membership: asked` and has not been on the server.
fn nobody_asks(group: &str) -> String {
    format!(
        "gitolite does not know {group}: nobody is let in by it before gitolite asks for groups. Install \
         handlers/gitolite/server/reactor-groups there (GROUPLIST_PGM in .gitolite.rc), or write `membership: compiled`"
    )
}

fn world_moved() -> Failure {
    Failure::Retry {
        message: "what is to be done is no longer what was planned; it is planned again".into(),
        hint: None,
        after: Some(Duration::from_secs(1)),
    }
}

#[cfg(test)]
mod tests;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
