//! The glue: a request's parameters → truth, hosts, plan; and apply, host by host.

mod memory;
mod outcome;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use accounts::Accounts;
use handler_api::notes::few;
use handler_api::{Change, Describe, Done, Failure, Handler, Params, Plan, Request};
use serde_json::{Map, Value};
use tokio::task::JoinSet;

use self::memory::{Down, Reads, lock};
use self::outcome::{HostOutcome, conclude, write_host};
use crate::access::{Host, Inventory};
use crate::config::Config;
use crate::fleet::{Fleet, Found, Trouble, Who};
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
/// Whoever calls an account so must not become this user on every host.
const ROOT: &str = "root";
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
    reads: Arc<Reads>,
    planned: Mutex<VecDeque<(String, Arc<Planned>)>>,
}

/// A plan, and the number of the read of the truth that it was made from.
#[derive(Debug)]
struct Planned {
    read: u64,
    hosts: Vec<HostSteps>,
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
            reads: Arc::default(),
            planned: Mutex::default(),
        });
        *held = Some(Arc::clone(&site));
        Ok(site)
    }
}

impl Handler for SshKeys {
    fn describe(&self) -> Describe {
        let params = [("user", "name?"), ("users", "[name]?"), ("hosts", "[name]?")];
        let about =
            "The hosts' authorized_keys, as the account system has it; without parameters everyone on all hosts";
        Describe::served("ssh-keys", env!("CARGO_PKG_VERSION"), about, &params)
    }

    async fn plan(&self, request: &Request) -> Result<Plan, Failure> {
        let site = self.site(&request.config)?;
        let (planned, notes) = site.compute(&Scope::read(&request.with)).await?;
        let changes = planned.hosts.iter().flat_map(|host| host.steps.iter().map(|step| step.change.clone())).collect();
        site.keep(&request.reaction, Arc::new(planned));
        Ok(Plan { changes, notes: few(notes, NOTES_MAX) })
    }

    async fn apply(&self, request: &Request, done: &mut Done) -> Result<(), Failure> {
        let site = self.site(&request.config)?;
        let wanted = request.changes.as_deref().unwrap_or_default();
        let fresh = |planned: &Arc<Planned>| is_plan(&planned.hosts, wanted) && !planned.is_old(&site.reads);
        let planned = match site.kept(&request.reaction).filter(fresh) {
            Some(planned) => planned,
            None => Arc::new(site.compute(&Scope::read(&request.with)).await?.0),
        };
        if !is_plan(&planned.hosts, wanted) {
            return Err(world_moved("what is to be done is no longer what was planned"));
        }
        site.apply(&planned, &request.key, done).await
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

impl Planned {
    /// Whether the truth about somebody in it was read again since.
    fn is_old(&self, reads: &Reads) -> bool {
        self.hosts.iter().any(|host| host.is_old(self.read, reads))
    }
}

impl HostSteps {
    fn is_old(&self, read: u64, reads: &Reads) -> bool {
        let of_file = |step: &Step| matches!(&step.what, What::File(write) if reads.again_since(read, &write.user));
        self.steps.iter().any(of_file)
    }
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
    async fn compute(&self, scope: &Scope) -> Result<(Planned, Vec<String>), Failure> {
        let inventory = Inventory::load(&self.config.hosts).await?;
        let mut notes = Vec::new();
        let hosts = scope_hosts(scope, &inventory, &mut notes);
        if hosts.is_empty() || scope.users.as_ref().is_some_and(BTreeSet::is_empty) {
            return Ok((Planned { read: 0, hosts: Vec::new() }, notes));
        }
        let read = self.reads.begin(scope.users.as_ref());
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
        Ok((Planned { read, hosts: in_bounds(all) }, notes))
    }

    /// The truth: everyone in scope who has an account and may have a key.
    async fn people(
        &self,
        scope: &Scope,
        groups: &BTreeSet<String>,
        notes: &mut Vec<String>,
    ) -> Result<BTreeMap<String, Person>, Failure> {
        let mut people = self.accounts_of(scope, groups, notes).await?;
        if people.remove(ROOT).is_some() {
            notes.push(format!("{ROOT}: an account of that name gets no key; root's are put there by hand"));
        }
        Ok(people)
    }

    /// Everyone in scope who has an account.
    async fn accounts_of(
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

    fn keep(&self, reaction: &str, planned: Arc<Planned>) {
        let mut kept = lock(&self.planned);
        kept.retain(|(id, _)| id != reaction);
        kept.push_back((reaction.to_owned(), planned));
        if kept.len() > PLANS_KEPT_MAX {
            kept.pop_front();
        }
    }

    fn kept(&self, reaction: &str) -> Option<Arc<Planned>> {
        let mut planned = lock(&self.planned);
        let at = planned.iter().position(|(id, _)| id == reaction)?;
        planned.remove(at).map(|(_, planned)| planned)
    }

    /// Writes, all hosts at once; what can't be done now goes on by itself, or fails this try if there is nothing else.
    async fn apply(&self, planned: &Arc<Planned>, key: &str, done: &mut Done) -> Result<(), Failure> {
        let hosts = &planned.hosts;
        let mut writing = JoinSet::new();
        for at in 0..hosts.len() {
            let (fleet, planned, reads) = (Arc::clone(&self.fleet), Arc::clone(planned), Arc::clone(&self.reads));
            let block = self.config.block.clone();
            writing.spawn(async move {
                let steps = &planned.hosts[at];
                let is_old = || steps.is_old(planned.read, &reads);
                (at, write_host(&fleet, &block, steps, is_old).await)
            });
        }
        // Of a write that panicked nothing is heard.
        let mut outcomes: Vec<HostOutcome> = hosts.iter().map(|_| HostOutcome::panicked()).collect();
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

#[cfg(test)]
#[path = "handler_tests.rs"]
mod tests;
