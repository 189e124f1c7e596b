//! Apply on one host, and what follows from how it went on all of them.

use std::collections::{BTreeMap, BTreeSet};

use handler_api::{Change, Failure, Later, Params};
use serde_json::json;

use super::{HostSteps, world_moved};
use crate::access::Host;
use crate::fleet::{Fleet, Trouble, TroubleKind, Write};
use crate::plan::{self, Step, What};

/// How it went on one host.
#[derive(Debug, Default)]
pub(super) struct HostOutcome {
    /// What is done.
    pub done: Vec<Change>,
    /// Whether anything was asked of the host.
    pub tried: bool,
    /// What is wrong with the whole host.
    pub whole: Option<Trouble>,
    /// What is wrong with single users there.
    pub troubles: Vec<Trouble>,
    /// More is to be done than the plan had room for.
    pub rest: bool,
}

impl HostOutcome {
    /// Until something else is known.
    pub fn panicked() -> Self {
        Self { whole: Some(panicked()), ..Self::default() }
    }
}

/// Writes what is planned for one host; `is_old` is asked right before.
pub(super) async fn write_host(
    fleet: &Fleet,
    block: &str,
    steps: &HostSteps,
    is_old: impl Fn() -> bool + Send,
) -> HostOutcome {
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
    if is_old() {
        let message = "the accounts were asked again about somebody in this plan".to_owned();
        outcome.troubles.push(Trouble { message, hint: None, kind: TroubleKind::Moved });
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
pub(super) fn conclude(hosts: &[HostSteps], outcomes: &[HostOutcome], key: &str) -> Result<Vec<Later>, Failure> {
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
pub(super) fn lane(host: &Host) -> String {
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
pub(super) fn failure(host: &Host, troubles: &[Trouble]) -> Failure {
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

fn panicked() -> Trouble {
    Trouble { message: "the handler failed on it, see its log".into(), hint: None, kind: TroubleKind::MayPass }
}
