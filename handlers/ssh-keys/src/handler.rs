//! The glue: a request's parameters → truth, hosts, plan; and apply, host by host.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use accounts::Accounts;
use handler_api::{Change, Describe, Done, Failure, Handler, Later, Params, Plan, Request, protocol};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use crate::access::{Host, Inventory};
use crate::config::Config;
use crate::fleet::{Fleet, Found, Trouble, TroubleKind, Who, Write};
use crate::plan::{self, HostPlan, Person, Step, What};

/// Most changes in one plan; the hosts after that go on in reactions of their own.
pub const PLAN_CHANGES_MAX: usize = 4_000;
/// Most bytes of one plan's changes: they come back to apply on one stdin, beside the messages.
pub const PLAN_BYTES_MAX: usize = 640 * 1024;
/// Plans kept in memory between plan and apply. One that is not there any more is made again.
pub const PLANS_KEPT_MAX: usize = 16;
/// How long a host that could not be reached is not waited for again, in seconds: the others must not be late because of
/// it. A request for that host alone tries it all the same.
pub const DOWN_SECONDS: u64 = 60;
/// Of many hosts, so few (in per cent, but at least one) are not waited for when all others have answered: they go on by
/// themselves. A withdrawn key must not stay everywhere because one host hangs.
pub const STRAGGLERS_PER_CENT: usize = 10;
/// How much longer than twice the time of the others such a host gets, in seconds.
pub const STRAGGLER_SECONDS: u64 = 3;
/// Accounts asked for at the same time.
pub const ACCOUNTS_AT_ONCE: usize = 8;
/// Notes of one plan; further ones are counted.
const NOTES_MAX: usize = 50;

/// The handler. One process serves many requests; connections and what was planned stay warm in it.
#[derive(Debug, Default)]
pub struct SshKeys {
    site: Mutex<Option<Arc<Site>>>,
}

/// All that hangs on the configuration.
#[derive(Debug)]
struct Site {
    /// As it came, to see when it changes.
    words: Map<String, Value>,
    config: Config,
    accounts: Arc<Accounts>,
    fleet: Arc<Fleet>,
    down: Arc<Down>,
    planned: Mutex<VecDeque<(String, Arc<Vec<HostSteps>>)>>,
}

/// What is to be done on one host.
#[derive(Debug)]
struct HostSteps {
    host: Arc<Host>,
    steps: Vec<Step>,
}

/// Whose keys, on which hosts.
#[derive(Debug, PartialEq, Eq)]
struct Scope {
    /// `None` = everyone.
    users: Option<BTreeSet<String>>,
    /// `None` = all.
    hosts: Option<BTreeSet<String>>,
}

impl SshKeys {
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
            accounts: Arc::new(Accounts::open(&config.accounts)?),
            fleet: Arc::new(Fleet::new(config.ssh.clone())),
            config,
            down: Arc::default(),
            planned: Mutex::default(),
        });
        *held = Some(Arc::clone(&site));
        Ok(site)
    }
}

impl Handler for SshKeys {
    fn describe(&self) -> Describe {
        let params = [("user", "name?"), ("users", "[name]?"), ("hosts", "[name]?")];
        Describe {
            reactor: protocol::VERSION,
            name: "ssh-keys".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            about: "The hosts' authorized_keys, as the account system has it; without parameters everyone on all hosts"
                .into(),
            params: params
                .into_iter()
                .filter_map(|(name, kind)| Some((name.to_owned(), handler_api::ParamType::parse(kind).ok()?)))
                .collect(),
            plan: true,
            serve: true,
            secrets: Vec::new(),
        }
    }

    async fn plan(&self, request: &Request) -> Result<Plan, Failure> {
        let site = self.site(&request.config)?;
        let (hosts, notes) = site.compute(&Scope::read(&request.with)).await?;
        let hosts = in_bounds(hosts);
        let changes = hosts.iter().flat_map(|host| host.steps.iter().map(|step| step.change.clone())).collect();
        site.keep(&request.reaction, Arc::new(hosts));
        Ok(Plan { changes, notes: few(notes) })
    }

    async fn apply(&self, request: &Request, done: &mut Done) -> Result<(), Failure> {
        let site = self.site(&request.config)?;
        let wanted = request.changes.as_deref().unwrap_or_default();
        let hosts = match site.kept(&request.reaction).filter(|hosts| is_plan(hosts, wanted)) {
            Some(hosts) => hosts,
            None => {
                let (hosts, _) = site.compute(&Scope::read(&request.with)).await?;
                Arc::new(in_bounds(hosts))
            }
        };
        if !is_plan(&hosts, wanted) {
            return Err(world_moved("what is to be done is no longer what was planned"));
        }
        site.apply(&hosts, &request.key, done).await
    }
}

fn world_moved(why: &str) -> Failure {
    Failure::Retry { message: format!("{why}; it is planned again"), hint: None, after: Some(Duration::from_secs(1)) }
}

/// Whether `hosts` leads to exactly these changes. What can't be done now may have another reason by now.
fn is_plan(hosts: &[HostSteps], wanted: &[Change]) -> bool {
    let hopeless = |change: &Change| change.more.contains_key("trouble");
    let all = || hosts.iter().flat_map(|host| &host.steps);
    let same = |a: &Change, b: &Change| a.same_as(b) && a.more.get("sha256") == b.more.get("sha256");
    let planned: Vec<&Change> = all().map(|step| &step.change).filter(|change| !hopeless(change)).collect();
    let wanted: Vec<&Change> = wanted.iter().filter(|change| !hopeless(change)).collect();
    planned.len() == wanted.len() && planned.iter().zip(wanted).all(|(a, b)| same(a, b))
}

impl Scope {
    fn read(with: &Params) -> Self {
        let names = |word: &str| match with.get(word) {
            Some(Value::String(one)) => Some(vec![one.clone()]),
            Some(Value::Array(list)) => Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
            _ => None,
        };
        // An empty list is nobody, not everyone.
        let users = match (names("user"), names("users")) {
            (None, None) => None,
            (one, many) => Some(one.into_iter().chain(many).flatten().collect()),
        };
        Self { users, hosts: names("hosts").map(|names| names.into_iter().collect()) }
    }
}

impl Site {
    /// What has to be done on each host of the scope, hosts without anything to do left out; and notes.
    async fn compute(&self, scope: &Scope) -> Result<(Vec<HostSteps>, Vec<String>), Failure> {
        let inventory = Inventory::load(&self.config.hosts).await?;
        let mut notes = Vec::new();
        let hosts = scope_hosts(scope, &inventory, &mut notes);
        if hosts.is_empty() || scope.users.as_ref().is_some_and(BTreeSet::is_empty) {
            return Ok((Vec::new(), notes));
        }
        let people = Arc::new(self.people(scope, &inventory.groups(), &mut notes).await?);
        let found = self.look(&hosts, scope, &people).await;
        let mut all = Vec::new();
        for host in hosts {
            let steps = match found.get(&host.name) {
                Some(Ok(found)) => {
                    let end_sessions = self.config.end_sessions;
                    let HostPlan { steps, notes: said } =
                        plan::host_plan(&host, &self.config.block, end_sessions, &people, found);
                    notes.extend(said);
                    steps
                }
                Some(Err(trouble)) => vec![plan::host_trouble(&host, trouble.clone())],
                None => continue,
            };
            if !steps.is_empty() {
                all.push(HostSteps { host, steps });
            }
        }
        Ok((all, notes))
    }

    /// The truth: everyone in scope who has an account.
    async fn people(
        &self,
        scope: &Scope,
        groups: &BTreeSet<String>,
        notes: &mut Vec<String>,
    ) -> Result<BTreeMap<String, Person>, Failure> {
        let policy = &self.config.policy;
        let Some(users) = &scope.users else {
            let members = self.accounts.members(groups).await?;
            notes.extend(members.notes);
            let person = |(name, account): (&String, _)| (name.clone(), plan::person(name, account, policy, notes));
            return Ok(members.accounts.iter().map(person).collect());
        };
        let mut people = BTreeMap::new();
        let mut asked = users.iter();
        let mut asking = JoinSet::new();
        let ask = |asking: &mut JoinSet<_>, user: &String| {
            let (accounts, user, groups) = (Arc::clone(&self.accounts), user.clone(), groups.clone());
            asking.spawn(async move {
                let account = accounts.user(&user, &groups).await;
                (user, account)
            });
        };
        asked.by_ref().take(ACCOUNTS_AT_ONCE).for_each(|user| ask(&mut asking, user));
        while let Some(answered) = asking.join_next().await {
            let (user, account) = answered.map_err(|error| Failure::retry(format!("an account lookup: {error}")))?;
            if let Some(account) = account? {
                let person = plan::person(&user, &account, policy, notes);
                people.insert(user, person);
            }
            asked.by_ref().take(1).for_each(|user| ask(&mut asking, user));
        }
        Ok(people)
    }

    /// Looks at all hosts at once.
    async fn look(
        &self,
        hosts: &[Arc<Host>],
        scope: &Scope,
        people: &Arc<BTreeMap<String, Person>>,
    ) -> HashMap<String, Result<BTreeMap<String, Found>, Trouble>> {
        let mut found = HashMap::new();
        let mut looking = JoinSet::new();
        for host in hosts {
            if let Some(trouble) = self.down.known(&host.name).filter(|_| hosts.len() > 1) {
                found.insert(host.name.clone(), Err(trouble));
                continue;
            }
            let who = match &scope.users {
                Some(users) => Who::Only(users.iter().cloned().collect()),
                None => Who::Everyone(on_host(host, people)),
            };
            let (fleet, host, block) = (Arc::clone(&self.fleet), Arc::clone(host), self.config.block.clone());
            let down = Arc::clone(&self.down);
            looking.spawn(async move {
                let found = fleet.look(&host, &who, &block).await;
                down.remember(&host.name, found.as_ref().err());
                (host.name.clone(), found)
            });
        }
        let began = Instant::now();
        // What one host may take is what all may take together: the rule's own `timeout` would end it for all of them.
        let most = self.config.ssh.connect_timeout + self.config.ssh.command_timeout;
        let few = (hosts.len() * STRAGGLERS_PER_CENT / 100).max(1);
        let mut last_answer = None;
        loop {
            let deadline = last_answer.map(|after: Duration| {
                let soon = after * 2 + Duration::from_secs(STRAGGLER_SECONDS);
                let patience = if looking.len() <= few { soon.min(most) } else { most };
                tokio::time::Instant::from_std(began + patience)
            });
            let looked = match deadline {
                None => looking.join_next().await,
                Some(deadline) => match tokio::time::timeout_at(deadline, looking.join_next()).await {
                    Ok(looked) => looked,
                    Err(_) => break,
                },
            };
            match looked {
                None => break,
                // One that panicked has said nothing; see below.
                Some(Err(_)) => {}
                Some(Ok((host, result))) => {
                    found.insert(host, result);
                    last_answer = Some(began.elapsed());
                }
            }
        }
        // They end by themselves, within their own timeouts, and tell whether the host is down.
        looking.detach_all();
        for host in hosts {
            found.entry(host.name.clone()).or_insert_with(|| Err(self.down.late(&host.name)));
        }
        found
    }

    fn keep(&self, reaction: &str, hosts: Arc<Vec<HostSteps>>) {
        let mut planned = lock(&self.planned);
        planned.retain(|(id, _)| id != reaction);
        planned.push_back((reaction.to_owned(), hosts));
        if planned.len() > PLANS_KEPT_MAX {
            planned.pop_front();
        }
    }

    fn kept(&self, reaction: &str) -> Option<Arc<Vec<HostSteps>>> {
        let mut planned = lock(&self.planned);
        let at = planned.iter().position(|(id, _)| id == reaction)?;
        planned.remove(at).map(|(_, hosts)| hosts)
    }

    /// Writes, all hosts at once; what can't be done now goes on by itself, or fails this try if there is nothing else.
    async fn apply(&self, hosts: &Arc<Vec<HostSteps>>, key: &str, done: &mut Done) -> Result<(), Failure> {
        let mut writing = JoinSet::new();
        for at in 0..hosts.len() {
            let (fleet, hosts) = (Arc::clone(&self.fleet), Arc::clone(hosts));
            let block = self.config.block.clone();
            writing.spawn(async move { (at, write_host(&fleet, &block, &hosts[at]).await) });
        }
        let mut outcomes: Vec<HostOutcome> = hosts.iter().map(|_| HostOutcome::default()).collect();
        while let Some(written) = writing.join_next().await {
            let Ok((at, outcome)) = written else { continue };
            for change in &outcome.done {
                done.change(change);
            }
            // What the plan knew is no news: a host that many ask about would be taken for down for ever.
            if outcome.tried {
                self.down.remember(&hosts[at].host.name, outcome.whole.as_ref());
            }
            outcomes[at] = outcome;
        }
        conclude(hosts, &outcomes, key)?.into_iter().for_each(|left| done.later(left));
        Ok(())
    }
}

/// The hosts that could not be reached a moment ago.
#[derive(Debug, Default)]
struct Down(Mutex<HashMap<String, (Instant, Trouble)>>);

impl Down {
    /// The trouble of a host that others need not wait for now.
    fn known(&self, host: &str) -> Option<Trouble> {
        let down = lock(&self.0);
        let (since, trouble) = down.get(host)?;
        (since.elapsed() < Duration::from_secs(DOWN_SECONDS)).then(|| trouble.clone())
    }

    fn remember(&self, host: &str, trouble: Option<&Trouble>) {
        let mut down = lock(&self.0);
        match trouble.filter(|trouble| trouble.kind == TroubleKind::MayPass) {
            Some(trouble) => drop(down.insert(host.to_owned(), (Instant::now(), trouble.clone()))),
            None => drop(down.remove(host)),
        }
    }

    /// A host that has not answered when all others had: taken for down until it does.
    fn late(&self, host: &str) -> Trouble {
        let message = "no answer yet; the others, which have answered, do not wait for it".to_owned();
        let trouble = Trouble { message, hint: None, kind: TroubleKind::MayPass };
        self.remember(host, Some(&trouble));
        trouble
    }
}

fn panicked() -> Trouble {
    Trouble { message: "the handler failed on it, see its log".into(), hint: None, kind: TroubleKind::MayPass }
}

fn scope_hosts(scope: &Scope, inventory: &Inventory, notes: &mut Vec<String>) -> Vec<Arc<Host>> {
    let Some(names) = &scope.hosts else { return inventory.hosts.values().cloned().collect() };
    let gone = names.iter().filter(|name| !inventory.hosts.contains_key(*name));
    notes.extend(gone.map(|name| format!("{name} is not among the hosts any more")));
    names.iter().filter_map(|name| inventory.hosts.get(name).cloned()).collect()
}

/// Who may log in on a host.
fn on_host(host: &Host, people: &BTreeMap<String, Person>) -> Vec<String> {
    let may = |(name, person): &(&String, &Person)| host.options(name, &person.groups).is_some();
    people.iter().filter(may).map(|(name, _)| name.clone()).collect()
}

/// At most what fits into one plan. What does not is one step that says how much it is.
fn in_bounds(hosts: Vec<HostSteps>) -> Vec<HostSteps> {
    let (mut changes, mut bytes) = (0, 0);
    let mut fits = move |step: &Step| {
        changes += 1;
        bytes += serde_json::to_string(&step.change).map_or(0, |text| text.len());
        changes <= PLAN_CHANGES_MAX && bytes <= PLAN_BYTES_MAX
    };
    let cut = |HostSteps { host, mut steps }: HostSteps| {
        let n = steps.iter().position(|step| !fits(step)).unwrap_or(steps.len());
        let left = steps.len() - n;
        if left > 0 {
            steps.truncate(n);
            steps.push(plan::rest(&host, left));
        }
        HostSteps { host, steps }
    };
    hosts.into_iter().map(cut).collect()
}

fn few(mut notes: Vec<String>) -> Vec<String> {
    notes.dedup();
    let more = notes.len().saturating_sub(NOTES_MAX);
    notes.truncate(NOTES_MAX);
    if more > 0 {
        notes.push(format!("and {more} more of this kind"));
    }
    notes
}

/// How it went on one host.
#[derive(Debug, Default)]
struct HostOutcome {
    done: Vec<Change>,
    /// Whether anything was asked of the host.
    tried: bool,
    /// What is wrong with the whole host.
    whole: Option<Trouble>,
    /// What is wrong with single users there.
    troubles: Vec<Trouble>,
    /// More is to be done than the plan had room for.
    rest: bool,
}

async fn write_host(fleet: &Fleet, block: &str, steps: &HostSteps) -> HostOutcome {
    let mut outcome = HostOutcome::default();
    let mut writes: Vec<Write> = Vec::new();
    let mut leaving: BTreeSet<&str> = BTreeSet::new();
    for step in &steps.steps {
        match &step.what {
            What::File(write) => writes.push(write.clone()),
            What::EndSessions(user) => drop(leaving.insert(user)),
            What::Trouble(trouble) if step.change.more.contains_key("user") => outcome.troubles.push(trouble.clone()),
            What::Trouble(trouble) => outcome.whole = Some(trouble.clone()),
            What::Rest => outcome.rest = true,
        }
    }
    if writes.is_empty() {
        return outcome;
    }
    outcome.tried = true;
    let last = plan::in_two_steps(block, &mut writes, &leaving);
    let mut written = match fleet.write(&steps.host, &writes).await {
        Ok(written) => written,
        Err(trouble) => {
            outcome.whole = Some(trouble);
            return outcome;
        }
    };
    end_sessions(fleet, steps, last, &mut written, &mut outcome).await;
    for step in &steps.steps {
        if let What::File(write) = &step.what {
            match written.remove(&write.user) {
                Some(Ok(())) => outcome.done.push(step.change.clone()),
                Some(Err(trouble)) => outcome.troubles.push(trouble),
                None => outcome.troubles.push(panicked()),
            }
        }
    }
    outcome
}

/// Only of those whose keys are gone: else they would be back at once. `last` is written when they have ended.
async fn end_sessions(
    fleet: &Fleet,
    steps: &HostSteps,
    mut last: Vec<Write>,
    written: &mut BTreeMap<String, Result<(), Trouble>>,
    outcome: &mut HostOutcome,
) {
    last.retain(|write| matches!(written.get(&write.user), Some(Ok(()))));
    if last.is_empty() {
        return;
    }
    let users: Vec<String> = last.iter().map(|write| write.user.clone()).collect();
    let ended = match fleet.end_sessions(&steps.host, &users).await {
        Ok(()) => {
            let ended = |step: &&Step| matches!(&step.what, What::EndSessions(user) if users.contains(user));
            outcome.done.extend(steps.steps.iter().filter(ended).map(|step| step.change.clone()));
            fleet.write(&steps.host, &last).await
        }
        Err(trouble) => Err(trouble),
    };
    match ended {
        Ok(more) => written.extend(more),
        Err(trouble) => written.extend(users.into_iter().map(|user| (user, Err(trouble.clone())))),
    }
}

/// What follows: done, and the hosts in trouble go on alone; planned again; or, where nothing else is there, a failed try.
fn conclude(hosts: &[HostSteps], outcomes: &[HostOutcome], key: &str) -> Result<Vec<Later>, Failure> {
    let troubles =
        |outcome: &HostOutcome| -> Vec<Trouble> { outcome.whole.iter().chain(&outcome.troubles).cloned().collect() };
    let all: Vec<(&HostSteps, &HostOutcome, Vec<Trouble>)> =
        hosts.iter().zip(outcomes).map(|(host, outcome)| (host, outcome, troubles(outcome))).collect();
    let is_moved = |trouble: &&Trouble| trouble.kind == TroubleKind::Moved;
    // A failed try leaves nothing for later: whoever rewrites a file all the time must not cost a host that is down its turn.
    let is_left = all.iter().any(|(_, outcome, troubles)| outcome.rest || !troubles.iter().all(|t| is_moved(&t)));
    let moved = all.iter().find_map(|(host, _, troubles)| Some((host, troubles.iter().find(is_moved)?)));
    if let Some((host, trouble)) = moved.filter(|_| !is_left) {
        return Err(world_moved(&format!("{}: {}", host.host.name, plan::bare(&host.host, &trouble.message))));
    }
    let own = |host: &Host| lane(host) == key;
    let mut left = Vec::new();
    for (host, outcome, troubles) in &all {
        let first = troubles.first().filter(|_| !own(&host.host));
        left.extend(outcome.rest.then(|| later(&host.host, "more is to be done there than one plan has room for")));
        left.extend(first.map(|first| later(&host.host, &first.message)));
    }
    match all.iter().find(|(host, _, troubles)| own(&host.host) && !troubles.is_empty()) {
        // One link in the place of a file must not keep the rest from being done; it is met again at the end.
        Some((_, outcome, _)) if outcome.rest && !outcome.done.is_empty() => Ok(left),
        Some((host, _, troubles)) => Err(failure(&host.host, troubles)),
        None => Ok(left),
    }
}

/// The lane of what is left over of a host.
fn lane(host: &Host) -> String {
    format!("host {}", host.name)
}

/// Everyone on that host: what else was missed there meanwhile is made true too.
fn later(host: &Host, why: &str) -> Later {
    let with = Params::from_iter([("hosts".to_owned(), json!([host.name]))]);
    Later {
        key: lane(host),
        with,
        why: format!("{}: {}", host.name, plan::bare(host, why)),
        target: Some(host.name.clone()),
    }
}

/// One host's troubles as a failed try: temporary unless all of them last.
fn failure(host: &Host, troubles: &[Trouble]) -> Failure {
    let first = troubles.iter().find(|trouble| trouble.kind == TroubleKind::Lasting).or(troubles.first());
    let more = match troubles.len() {
        0 | 1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    let why = first.map_or("", |trouble| plan::bare(host, &trouble.message));
    let message = format!("{}: {why}{more}", host.name);
    let hint = first.and_then(|trouble| trouble.hint.clone());
    if troubles.iter().any(|trouble| trouble.kind != TroubleKind::Lasting) {
        Failure::Retry { message, hint, after: None }
    } else {
        Failure::Permanent { message, hint }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "handler_tests.rs"]
mod tests;
