//! From a request's parameters to what must be true: asks the truths, and looks at the admin repository meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use accounts::keys::{self, Key, Policy};
use accounts::program::{self, Run};
use accounts::{Account, Members};
use handler_api::{Failure, Params};
use serde_json::Value;
use tokio::task::JoinSet;

use super::Site;
use crate::admin::Snapshot;
use crate::check::read_template;
use crate::config::MadeBy;
use crate::files;
use crate::layout::{Layout, Membership, Rendered};
use crate::names::{GroupName, RepoName, UserName};
use crate::plan::{Group, Look, Wanted};
use crate::truth::{All, People, Repo};

/// How long the program of `made_by` may take for one repository, in seconds.
pub const MADE_BY_SECONDS_MAX: u64 = 30;
/// How many repositories it is asked about at the same time.
pub const MADE_BY_AT_ONCE: usize = 8;

/// Of how many repositories that a reconcile does not find any more it is asked once more; further ones stay as they are.
pub const GONE_ASKED_MAX: usize = 500;

/// How many of these questions may fail until no more are asked: each can take as long as the source's `timeout`.
const GONE_FAILURES_MAX: usize = 5;

/// What a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    repo: Option<RepoName>,
    group: Option<GroupName>,
    user: Option<UserName>,
}

/// What was asked, and what stood there then.
#[derive(Debug)]
pub(super) struct Known {
    pub wanted: Wanted,
    pub now: Arc<Snapshot>,
    /// Every name that the messages speak of.
    pub told: BTreeSet<String>,
    pub notes: Vec<String>,
    /// Whether rules are in it, and so whether gitolite must have compiled.
    pub about_rules: bool,
    /// Where the count of writings was before anybody was asked ([`super::written`]).
    pub began: u64,
}

impl Scope {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A permanent failure for a name that can't stand in gitolite's files.
    pub fn read(with: &Params) -> Result<Self, Failure> {
        let text = |word: &str| with.get(word).and_then(Value::as_str);
        let wrong = |word: &'static str, name: &str, why: String| {
            let shown = handler_api::words::quoted(name);
            Failure::permanent(format!("`{word}` {shown}: {why}")).hinting("reactor show REACTION, for the message")
        };
        let repo = text("repo").map(|name| RepoName::parse(name).map_err(|why| wrong("repo", name, why)));
        let group = text("group").map(|name| GroupName::parse(name).map_err(|why| wrong("group", name, why)));
        let user = text("user").map(|name| UserName::parse(name).map_err(|why| wrong("user", name, why)));
        Ok(Self { repo: repo.transpose()?, group: group.transpose()?, user: user.transpose()? })
    }

    fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

impl Site {
    /// Asks for all that a request is about. `told` and `began` are left empty.
    ///
    /// # Errors
    /// Whatever is not a certain answer.
    pub(super) async fn known(&self, scope: &Scope) -> Result<Known, Failure> {
        if scope.is_everything() {
            return self.everything().await;
        }
        let account = async { Ok(self.account(scope.user.as_ref(), scope.group.as_ref()).await) };
        let (now, repo, account) = tokio::try_join!(self.admin.look(), self.repo(scope.repo.as_ref()), account)?;
        let is_ours = scope.group.as_ref().map_or(Ok(true), |group| self.is_ours(&*now, group))?;
        let account = match account {
            // Of a group that is nobody's business here the accounts need not know anything.
            Err(_) if !is_ours => self.account(scope.user.as_ref(), None).await?,
            answer => answer?,
        };
        let mut known = Known {
            wanted: Wanted::default(),
            now,
            told: BTreeSet::new(),
            notes: Vec::new(),
            about_rules: scope.repo.is_some(),
            began: 0,
        };
        if let Some(group) = &scope.group {
            self.group(group, scope.user.as_ref().map(|user| (user, account.as_ref())), &mut known).await?;
        }
        if let (Some(user), Some(_)) = (&scope.user, &self.config.keys) {
            let keys =
                account.as_ref().map(|account| self.keys_of(user, account, &mut known.notes)).unwrap_or_default();
            known.wanted.keys.insert(user.clone(), keys);
        }
        if let Some((name, repo)) = repo {
            let rendered = repo.as_ref().map(|repo| self.render_one(&name, repo)).transpose()?;
            if rendered.as_ref().is_some_and(|rendered| !rendered.text.is_empty())
                && !stands(&*known.now, &name)?
                && !self.is_made(&name).await?
            {
                return Err(Failure::retry(format!(
                    "the repository {name} is not there yet: gitolite would make an empty one in its place"
                ))
                .hinting("it is tried again; whoever makes repositories (`made_by`) comes first"));
            }
            let groups = repo.iter().flat_map(groups_of).cloned().collect();
            self.new_groups(groups, &mut known).await?;
            known.wanted.repos.insert(name, rendered);
        }
        Ok(known)
    }

    async fn repo(&self, name: Option<&RepoName>) -> Result<Option<(RepoName, Option<Repo>)>, Failure> {
        let Some(name) = name else { return Ok(None) };
        Ok(Some((name.clone(), self.truth.repo(name).await?)))
    }

    /// The account of a user: in this group or not, in a group whose keys are kept or not. Where neither counts nobody is asked.
    async fn account(&self, user: Option<&UserName>, group: Option<&GroupName>) -> Result<Option<Account>, Failure> {
        let Some(user) = user else { return Ok(None) };
        let groups = group.into_iter().chain(self.config.keys.iter().flatten());
        let groups: BTreeSet<String> = groups.map(|group| group.as_str().to_owned()).collect();
        if groups.is_empty() {
            return Ok(None);
        }
        self.accounts.user(user.as_str(), &groups).await
    }

    /// Whether a group counts here: rules or the configuration name it.
    fn is_ours(&self, now: &dyn Look, group: &GroupName) -> Result<bool, Failure> {
        Ok(self.config.groups.contains(group) || self.group_stands(now, group)?)
    }

    /// A group that rules or the configuration name: one member of it where the message says whom, or the whole.
    async fn group(
        &self,
        group: &GroupName,
        user: Option<(&UserName, Option<&Account>)>,
        known: &mut Known,
    ) -> Result<(), Failure> {
        if !self.is_ours(&*known.now, group)? {
            known.notes.push(format!("group {group}: no repository's rules name it"));
            return Ok(());
        }
        let stands = self.group_stands(&*known.now, group)?;
        let wanted = match user {
            Some((user, account)) if stands => {
                let is_in = account.is_some_and(|account| account.groups.contains(group.as_str()));
                Group::One(user.clone(), is_in)
            }
            _ => {
                let asked = BTreeSet::from([group.clone()]);
                let mut members = self.members(&asked, &mut known.notes).await?;
                Group::Whole(members.remove(group).unwrap_or_default())
            }
        };
        known.wanted.groups.insert(group.clone(), wanted);
        Ok(())
    }

    /// Groups that a repository's rules name and that do not stand there yet.
    async fn new_groups(&self, groups: BTreeSet<GroupName>, known: &mut Known) -> Result<(), Failure> {
        let mut asked = BTreeSet::new();
        for group in groups {
            if !known.wanted.groups.contains_key(&group) && !self.group_stands(&*known.now, &group)? {
                asked.insert(group);
            }
        }
        let members = self.members(&asked, &mut known.notes).await?;
        known.wanted.groups.extend(members.into_iter().map(|(group, members)| (group, Group::Whole(members))));
        Ok(())
    }

    fn group_stands(&self, now: &dyn Look, group: &GroupName) -> Result<bool, Failure> {
        let (branch, path) = match self.config.membership {
            Membership::Compiled => (files::Branch::Master, files::conf_group(group)),
            Membership::Asked => (files::Branch::Members, files::asked_group(group)),
        };
        Ok(now.read(branch, &path)?.is_some())
    }

    /// The members of each group, whole.
    async fn members(
        &self,
        groups: &BTreeSet<GroupName>,
        notes: &mut Vec<String>,
    ) -> Result<BTreeMap<GroupName, BTreeSet<UserName>>, Failure> {
        let mut members: BTreeMap<GroupName, BTreeSet<UserName>> =
            groups.iter().map(|group| (group.clone(), BTreeSet::new())).collect();
        let groups: Vec<String> = groups.iter().map(|group| group.as_str().to_owned()).collect();
        for some in groups.chunks(accounts::GROUPS_MAX) {
            let Members { accounts, notes: said } = self.accounts.members(&some.iter().cloned().collect()).await?;
            notes.extend(said);
            for (name, account) in &accounts {
                match UserName::parse(name) {
                    Ok(user) => {
                        // Its groups, not all groups: a large site has many of both.
                        for group in account.groups.iter().filter(|group| some.binary_search(group).is_ok()) {
                            let members = GroupName::parse(group).ok().and_then(|group| members.get_mut(&group));
                            members.into_iter().for_each(|members| _ = members.insert(user.clone()));
                        }
                    }
                    Err(why) => notes.push(format!("{}: {why}; left out", handler_api::words::quoted(name))),
                }
            }
        }
        Ok(members)
    }

    fn keys_of(&self, user: &UserName, account: &Account, notes: &mut Vec<String>) -> Vec<Key> {
        let groups = self.config.keys.iter().flatten();
        if !groups.into_iter().any(|group| account.groups.contains(group.as_str())) {
            return Vec::new();
        }
        let (keys, said) = keys::read(&account.keys, &Policy::default());
        notes.extend(said.into_iter().map(|note| format!("{user}: {note}")));
        keys
    }

    fn render_one(&self, name: &RepoName, repo: &Repo) -> Result<Rendered, Failure> {
        read_template(self.config.template.as_deref())?.render(name, repo, self.config.membership)
    }

    /// All of the site.
    async fn everything(&self) -> Result<Known, Failure> {
        let (now, all, people) = tokio::try_join!(self.admin.look(), self.truth.all(), self.key_holders())?;
        let All { repos, left_alone, notes } = all;
        let mut known =
            Known { wanted: Wanted::default(), now, told: BTreeSet::new(), notes, about_rules: true, began: 0 };
        known.notes.extend(left_alone.iter().map(|(name, why)| format!("{name}: left as it is: {why}")));
        let mut left_alone: BTreeSet<RepoName> = left_alone.into_keys().collect();
        let layout = Arc::new(read_template(self.config.template.as_deref())?);
        let mut groups = self.config.groups.clone();
        let mut new = Vec::new();
        for (name, repo, rendered) in render_all(Arc::clone(&layout), repos, self.config.membership).await? {
            match rendered {
                Ok(rendered) => {
                    groups.extend(groups_of(&repo).cloned());
                    if self.config.made_by != MadeBy::Gitolite
                        && !rendered.text.is_empty()
                        && !stands(&*known.now, &name)?
                    {
                        new.push(name.clone());
                    }
                    known.wanted.repos.insert(name, Some(rendered));
                }
                Err(failure) => {
                    known.notes.push(format!("{name}: left as it is: {failure}"));
                    left_alone.insert(name);
                }
            }
        }
        self.gone(&repos_standing(&*known.now)?, &layout, &mut groups, &mut left_alone, &mut known).await;
        for name in self.not_made(new).await? {
            known.notes.push(format!("{name}: the repository is not there yet; its rules come when it is"));
            known.wanted.repos.remove(&name);
            left_alone.insert(name);
        }
        self.all_groups(groups, &mut known).await?;
        for (name, account) in people {
            match UserName::parse(&name) {
                Ok(user) => {
                    let keys = self.keys_of(&user, &account, &mut known.notes);
                    known.wanted.keys.insert(user, keys);
                }
                Err(why) => known.notes.push(format!("{}: {why}; left out", handler_api::words::quoted(&name))),
            }
        }
        known.wanted.everything = Some(left_alone);
        Ok(known)
    }

    /// Repositories whose rules stand here and that the list of all does not have. Each is asked about once more: a list is read
    /// page by page, and what comes and goes meanwhile can hide one. Only of what is certainly not there the rules go.
    async fn gone(
        &self,
        standing: &[RepoName],
        layout: &Layout,
        groups: &mut BTreeSet<GroupName>,
        left_alone: &mut BTreeSet<RepoName>,
        known: &mut Known,
    ) {
        let missing = |name: &&RepoName| !known.wanted.repos.contains_key(*name) && !left_alone.contains(*name);
        let missing: Vec<RepoName> = standing.iter().filter(missing).cloned().collect();
        let mut failures = 0;
        for (at, name) in missing.into_iter().enumerate() {
            let asked = if failures >= GONE_FAILURES_MAX {
                Err(Failure::retry("not listed any more, and the source did not answer about others: not asked about"))
            } else if at < GONE_ASKED_MAX {
                self.truth.repo(&name).await
            } else {
                Err(Failure::retry(format!(
                    "not listed any more, as {GONE_ASKED_MAX} others: too many to ask about each"
                )))
            };
            let wanted = match asked {
                Ok(None) => Ok(None),
                Ok(Some(repo)) => layout.render(&name, &repo, self.config.membership).map(|rendered| {
                    groups.extend(groups_of(&repo).cloned());
                    Some(rendered)
                }),
                Err(failure) => Err(failure),
            };
            match wanted {
                Ok(wanted) => drop(known.wanted.repos.insert(name, wanted)),
                Err(failure) => {
                    failures += usize::from(matches!(failure, Failure::Retry { .. }));
                    known.notes.push(format!("{name}: left as it is: {failure}"));
                    left_alone.insert(name);
                }
            }
        }
    }

    async fn key_holders(&self) -> Result<BTreeMap<String, Account>, Failure> {
        let Some(groups) = &self.config.keys else { return Ok(BTreeMap::new()) };
        let asked = groups.iter().map(|group| group.as_str().to_owned()).collect();
        Ok(self.accounts.members(&asked).await?.accounts)
    }

    /// All groups at once; where that fails, those of the configuration must be there, and of the others each that can't be
    /// asked about stays as it is: one group that somebody misspelt in one repository must not hold up the site.
    async fn all_groups(&self, groups: BTreeSet<GroupName>, known: &mut Known) -> Result<(), Failure> {
        let mut members = BTreeMap::new();
        match self.members(&groups, &mut known.notes).await {
            Ok(all) => members = all,
            Err(_) => {
                members.extend(self.members(&self.config.groups, &mut known.notes).await?);
                for group in groups.difference(&self.config.groups) {
                    match self.members(&BTreeSet::from([group.clone()]), &mut known.notes).await {
                        Ok(one) => members.extend(one),
                        Err(failure) => {
                            known.notes.push(format!("group {group}: left as it is: {failure}"));
                            known.wanted.groups_left_alone.insert(group.clone());
                        }
                    }
                }
            }
        }
        known.wanted.groups.extend(members.into_iter().map(|(group, members)| (group, Group::Whole(members))));
        Ok(())
    }

    /// Which of these repositories nobody has made yet.
    async fn not_made(&self, names: Vec<RepoName>) -> Result<Vec<RepoName>, Failure> {
        let mut missing = Vec::new();
        let mut asking = JoinSet::new();
        let mut names = names.into_iter();
        loop {
            while asking.len() < MADE_BY_AT_ONCE
                && let Some(name) = names.next()
            {
                let made_by = self.config.made_by.clone();
                asking.spawn(async move { is_made(&made_by, &name).await.map(|made| (name, made)) });
            }
            let Some(answer) = asking.join_next().await else { return Ok(missing) };
            let (name, made) = answer.map_err(|error| Failure::retry(format!("asking `made_by`: {error}")))??;
            if !made {
                missing.push(name);
            }
        }
    }

    async fn is_made(&self, name: &RepoName) -> Result<bool, Failure> {
        is_made(&self.config.made_by, name).await
    }
}

/// Whether whoever makes repositories has made this one.
async fn is_made(made_by: &MadeBy, name: &RepoName) -> Result<bool, Failure> {
    match made_by {
        MadeBy::Gitolite => Ok(true),
        MadeBy::Path(base) => is_in(base, name).await,
        MadeBy::Command(command) => {
            let (program, args) = command.split_first().ok_or_else(|| Failure::permanent("made_by: no program"))?;
            let run = Run {
                program: program.into(),
                args: args.iter().cloned().chain([name.as_str().to_owned()]).collect(),
                env: Vec::new(),
                stdin: Vec::new(),
                stdout_bytes_max: 64 * 1024,
                timeout: Duration::from_secs(MADE_BY_SECONDS_MAX),
            };
            let hint = format!("run it by hand: {} {name}", command.join(" "));
            let ended = program::run(run).await;
            let ended =
                ended.map_err(|why| Failure::retry(format!("made_by: {program} {why}")).hinting(hint.clone()))?;
            match ended.status.code() {
                Some(0) => Ok(true),
                Some(1) => Ok(false),
                _ => Err(Failure::retry(format!("made_by: {program} does not know ({})", ended.status)).hinting(hint)),
            }
        }
    }
}

/// Whether the directory of repositories has this one. The directory itself must be there: a mount that is gone is not "no
/// repositories".
async fn is_in(base: &Path, name: &RepoName) -> Result<bool, Failure> {
    let failed = |path: &Path, error: std::io::Error| {
        let shown = path.display();
        Failure::retry(format!("made_by: {shown}: {error}")).hinting(format!("ls -ld {shown}"))
    };
    drop(tokio::fs::read_dir(base).await.map_err(|error| failed(base, error))?);
    let path = base.join(format!("{name}.git"));
    match tokio::fs::metadata(&path).await {
        Ok(about) => Ok(about.is_dir()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(&path, error)),
    }
}

fn stands(now: &dyn Look, name: &RepoName) -> Result<bool, Failure> {
    Ok(now.read(files::Branch::Master, &files::conf_repo(name))?.is_some())
}

/// The rules of many repositories, on a thread of its own: 20,000 take a second or more, and others wait for this one.
async fn render_all(
    layout: Arc<Layout>,
    repos: BTreeMap<RepoName, Repo>,
    membership: Membership,
) -> Result<Vec<(RepoName, Repo, Result<Rendered, Failure>)>, Failure> {
    let render = move |(name, repo): (RepoName, Repo)| {
        let rendered = layout.render(&name, &repo, membership);
        (name, repo, rendered)
    };
    let all = tokio::task::spawn_blocking(move || repos.into_iter().map(render).collect()).await;
    all.map_err(|error| Failure::retry(format!("making the rules: {error}")))
}

/// All repositories whose rules or lists stand there.
fn repos_standing(now: &dyn Look) -> Result<Vec<RepoName>, Failure> {
    let mut standing = BTreeSet::new();
    for (branch, dir) in [(files::Branch::Master, files::REPOS), (files::Branch::Members, files::LISTS)] {
        for path in now.below(branch, dir)? {
            if let Some(files::Place::Rules(name) | files::Place::Lists(name)) = files::Place::at(branch, &path) {
                standing.insert(name);
            }
        }
    }
    Ok(standing.into_iter().collect())
}

pub(crate) fn groups_of(repo: &Repo) -> impl Iterator<Item = &GroupName> {
    let people: Vec<&People> = std::iter::once(&repo.commit).chain(repo.branches.values().flatten()).collect();
    people.into_iter().flat_map(|people| &people.groups)
}
