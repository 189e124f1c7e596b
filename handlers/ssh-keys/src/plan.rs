//! What must stand on a host against what stands there. Pure.

use std::collections::{BTreeMap, BTreeSet};

use accounts::Account;
use handler_api::{Action, Change};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::access::Host;
use crate::block;
use crate::fleet::{Found, Trouble, TroubleKind, Write};
use accounts::keys::{self, Key, Policy};

/// Most lines of a block that a change shows; of the others it says how many there are.
pub const LINES_SHOWN_MAX: usize = keys::KEYS_MAX;

/// What the account system has of one person, ready to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// Those that may be written.
    pub keys: Vec<Key>,
    /// The groups that the person is in.
    pub groups: BTreeSet<String>,
}

/// One difference: what people see, and what is written for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The change.
    pub change: Change,
    /// What is done on the host.
    pub what: What,
}

/// What is done for a [`Step`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A file is written.
    File(Write),
    /// The sessions of this user end.
    EndSessions(String),
    /// It can't be done: a change without a hand that makes it, so that it is seen in the plan.
    Trouble(Trouble),
    /// More than fits into one plan: the rest of the host goes on in a reaction of its own.
    Rest,
}

/// The differences of one host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostPlan {
    /// In the order of the users' names.
    pub steps: Vec<Step>,
    /// What a person should know that is no change.
    pub notes: Vec<String>,
}

/// Makes a person of an account; a sentence for each key that was left out goes to `notes`.
#[must_use]
pub fn person(name: &str, account: &Account, policy: &Policy, notes: &mut Vec<String>) -> Person {
    let (keys, left_out) = keys::read(&account.keys, policy);
    notes.extend(left_out.into_iter().map(|why| format!("{name}: {why}")));
    Person { keys, groups: account.groups.clone() }
}

/// What of `people` must change on `host`, where `found` stands. Whoever is in `found` and not in `people` has no account.
#[must_use]
pub fn host_plan(
    host: &Host,
    block: &str,
    end_sessions: bool,
    people: &BTreeMap<String, Person>,
    found: &BTreeMap<String, Found>,
) -> HostPlan {
    let mut plan = HostPlan::default();
    for (user, found) in found {
        let wanted = people.get(user).map(|person| lines(host, user, person)).unwrap_or_default();
        user_plan(&mut plan, host, block, user, &wanted, found);
        let lost = plan
            .steps
            .last()
            .is_some_and(|step| step.change.action == Action::Delete && step.change.target == target(host, user));
        if lost && end_sessions && !people.get(user).is_some_and(|person| has_access(host, user, person)) {
            plan.steps.push(sessions(host, user));
        }
    }
    plan
}

fn has_access(host: &Host, user: &str, person: &Person) -> bool {
    host.options(user, &person.groups).is_some()
}

/// The lines of our block: options before each key.
fn lines(host: &Host, user: &str, person: &Person) -> Vec<String> {
    let Some(options) = host.options(user, &person.groups) else { return Vec::new() };
    let options = if options.is_empty() { options } else { format!("{options} ") };
    person.keys.iter().map(|key| format!("{options}{}", key.line)).collect()
}

fn user_plan(plan: &mut HostPlan, host: &Host, block: &str, user: &str, wanted: &[String], found: &Found) {
    let before = match found {
        Found::Absent => None,
        Found::File(bytes) => Some(bytes.as_slice()),
        Found::NoUser if wanted.is_empty() => return,
        Found::NoUser => return plan.notes.push(format!("{}: there is no user {user}", host.name)),
        Found::Odd(trouble) => return plan.steps.push(user_trouble(host, user, trouble.clone())),
    };
    let old = before.unwrap_or_default();
    let stands = match block::find(old, block) {
        Ok(lines) => lines,
        Err(damaged) => return plan.steps.push(user_trouble(host, user, damaged_trouble(user, &damaged.why))),
    };
    let action = match (&stands, wanted.is_empty()) {
        (None, true) => return,
        (Some(lines), false) if lines == wanted => return,
        (None, false) => Action::Create,
        (Some(_), false) => Action::Update,
        (Some(_), true) => Action::Delete,
    };
    let after = match block::replace(old, block, wanted) {
        Ok(after) => after,
        Err(damaged) => return plan.steps.push(user_trouble(host, user, damaged_trouble(user, &damaged.why))),
    };
    let change = Change {
        action,
        target: target(host, user),
        before: stands.as_deref().map(told),
        after: (!wanted.is_empty()).then(|| told(wanted)),
        secret: false,
        hold: None,
        count: None,
        more: more(host, Some(user), json!({"sha256": after.as_deref().map(hex_sha256)})),
    };
    let write = Write { user: user.to_owned(), before: before.map(<[u8]>::to_vec), after };
    plan.steps.push(Step { change, what: What::File(write) });
}

/// The lines of a block for people. Between our markers in a file of the user's own anything may stand, and a change that
/// is too large for any plan would hold up all that come after it.
fn told(lines: &[String]) -> Value {
    let mut text: String = lines.iter().take(LINES_SHOWN_MAX).map(|line| format!("{}\n", shown(line))).collect();
    if lines.len() > LINES_SHOWN_MAX {
        text.push_str(&format!("and {} more lines\n", lines.len() - LINES_SHOWN_MAX));
    }
    text.into()
}

/// For who is to lose the sessions too: makes of each write one that leaves the empty block, and returns those that take it
/// away. They are done when the sessions have ended: if that fails, or somebody is killed in between, the empty block is
/// still there, and the next plan ends them.
#[must_use]
pub fn in_two_steps(block: &str, writes: &mut [Write], leaving: &BTreeSet<&str>) -> Vec<Write> {
    let mut last = Vec::new();
    for write in writes.iter_mut().filter(|write| leaving.contains(write.user.as_str())) {
        // Damaged markers never get as far as a write.
        let Ok(Some(empty)) = block::emptied(write.before.as_deref().unwrap_or_default(), block) else { continue };
        let after = write.after.replace(empty.clone());
        last.push(Write { user: write.user.clone(), before: Some(empty), after });
    }
    last
}

fn damaged_trouble(user: &str, why: &str) -> Trouble {
    Trouble {
        message: format!("the authorized_keys of {user}: {why}"),
        hint: Some("mend the marker lines by hand, or take the whole block out; it is then written anew".into()),
        kind: TroubleKind::Lasting,
    }
}

/// `web01: ralph`.
fn target(host: &Host, user: &str) -> String {
    format!("{}: {user}", host.name)
}

fn more(host: &Host, user: Option<&str>, rest: Value) -> Map<String, Value> {
    let mut more = Map::from_iter([("host".to_owned(), Value::from(host.name.as_str()))]);
    more.extend(user.map(|user| ("user".to_owned(), Value::from(user))));
    if let Value::Object(rest) = rest {
        more.extend(rest);
    }
    more
}

fn sessions(host: &Host, user: &str) -> Step {
    let change = run(format!("{}: end the sessions of {user}", host.name), None, more(host, Some(user), Value::Null));
    Step { change, what: What::EndSessions(user.to_owned()) }
}

fn run(target: String, after: Option<Value>, more: Map<String, Value>) -> Change {
    Change { action: Action::Run, target, before: None, after, secret: false, hold: None, count: None, more }
}

fn user_trouble(host: &Host, user: &str, trouble: Trouble) -> Step {
    let change = run(target(host, user), Some(said(host, &trouble)), more(host, Some(user), marks(&trouble)));
    Step { change, what: What::Trouble(trouble) }
}

/// A whole host that can't be made true now.
#[must_use]
pub fn host_trouble(host: &Host, trouble: Trouble) -> Step {
    let change = run(host.name.clone(), Some(said(host, &trouble)), more(host, None, marks(&trouble)));
    Step { change, what: What::Trouble(trouble) }
}

fn said(host: &Host, trouble: &Trouble) -> Value {
    format!("can't be done now: {}", bare(host, &trouble.message)).into()
}

/// What is wrong with a host, without its name: where it stands, the name stands before it.
#[must_use]
pub fn bare<'a>(host: &Host, message: &'a str) -> &'a str {
    let rest = message.strip_prefix("host ").and_then(|rest| rest.strip_prefix(host.name.as_str()));
    rest.and_then(|rest| rest.strip_prefix(": ")).unwrap_or(message)
}

/// By which apply knows it again, and what a person is told to type.
fn marks(trouble: &Trouble) -> Value {
    let mut marks = json!({"trouble": true});
    if let Some(hint) = &trouble.hint {
        marks["hint"] = hint.as_str().into();
    }
    marks
}

/// The rest of a host's changes, which one plan has no room for.
#[must_use]
pub fn rest(host: &Host, changes: usize) -> Step {
    let after = format!("{changes} more changes, in a reaction of their own");
    Step { change: run(host.name.clone(), Some(after.into()), more(host, None, Value::Null)), what: What::Rest }
}

/// SHA-256 in hexadecimal.
#[must_use]
pub fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A line of a block for people: options, kind, fingerprint and comment, never the key itself.
fn shown(line: &str) -> String {
    keys::shown(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Access, Place, Reach};

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ralph";

    fn host() -> Host {
        let access = |group: &str, options: &[&str]| Access {
            group: group.into(),
            options: options.iter().map(ToString::to_string).collect(),
        };
        Host {
            name: "web01".into(),
            reach: Reach::Local,
            place: Place::Directory("/k".into()),
            access: vec![access("admins", &[]), access("deployers", &["restrict"])],
        }
    }

    fn people(user: &str, groups: &[&str]) -> BTreeMap<String, Person> {
        let key = Key { line: KEY.into(), shown: "ED25519 SHA256:x ralph".into() };
        let groups = groups.iter().map(ToString::to_string).collect();
        BTreeMap::from([(user.to_owned(), Person { keys: vec![key], groups })])
    }

    fn plan(people: &BTreeMap<String, Person>, found: Found) -> HostPlan {
        host_plan(&host(), "reactor", true, people, &BTreeMap::from([("ralph".to_owned(), found)]))
    }

    fn written(plan: &HostPlan) -> Option<Vec<u8>> {
        match &plan.steps[0].what {
            What::File(write) => write.after.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_new_key_is_created_and_the_next_plan_is_empty() {
        let people = people("ralph", &["admins"]);
        let first = plan(&people, Found::File(b"by-hand\n".to_vec()));
        assert_eq!(first.steps.len(), 1);
        assert_eq!(first.steps[0].change.action, Action::Create);
        assert_eq!(first.steps[0].change.target, "web01: ralph");
        let after = written(&first).unwrap();
        assert!(after.starts_with(b"by-hand\n"), "what stands outside of the block stays");
        assert_eq!(plan(&people, Found::File(after)).steps, []);
    }

    #[test]
    fn a_plan_never_shows_a_key() {
        let people = people("ralph", &["deployers"]);
        let plan = plan(&people, Found::Absent);
        let text = serde_json::to_string(&plan.steps[0].change).unwrap();
        assert!(!text.contains("AAAAC3Nza"), "{text}");
        assert!(text.contains("SHA256:") && text.contains("restrict"), "{text}");
        assert!(String::from_utf8(written(&plan).unwrap()).unwrap().contains(&format!("\nrestrict {KEY}\n")));
    }

    #[test]
    fn who_lost_access_loses_the_key_and_the_sessions() {
        let stood = written(&plan(&people("ralph", &["admins"]), Found::Absent)).unwrap();
        let gone = plan(&BTreeMap::new(), Found::File(stood.clone()));
        let actions: Vec<Action> = gone.steps.iter().map(|step| step.change.action).collect();
        assert_eq!(actions, [Action::Delete, Action::Run]);
        assert_eq!(written(&gone), None, "nothing is left in the file, so it goes");
        // In another group only: the same.
        assert_eq!(plan(&people("ralph", &["cla"]), Found::File(stood.clone())).steps.len(), 2);
        // Without a key, but still with access: the sessions stay.
        let mut keyless = people("ralph", &["admins"]);
        keyless.values_mut().for_each(|person| person.keys.clear());
        assert_eq!(plan(&keyless, Found::File(stood)).steps.len(), 1);
    }

    #[test]
    fn what_cannot_be_touched_is_seen_in_the_plan() {
        let trouble = Trouble { message: ".ssh is a link".into(), hint: None, kind: TroubleKind::Lasting };
        let seen = plan(&people("ralph", &["admins"]), Found::Odd(trouble));
        assert_eq!(seen.steps[0].change.action, Action::Run);
        assert!(matches!(seen.steps[0].what, What::Trouble(_)));
        let unknown = plan(&people("ralph", &["admins"]), Found::NoUser);
        assert_eq!((unknown.steps.len(), unknown.notes.len()), (0, 1));
        assert_eq!(plan(&BTreeMap::new(), Found::NoUser), HostPlan::default());
    }

    #[test]
    fn a_block_stuffed_by_its_user_is_a_change_like_any_other() {
        let mut stuffed = b"# reactor begin reactor:\n".to_vec();
        stuffed.extend(b"\n".repeat(100_000));
        stuffed.extend(b"# reactor end reactor\n");
        let plan = plan(&BTreeMap::new(), Found::File(stuffed));
        let change = serde_json::to_string(&plan.steps[0].change).unwrap();
        assert!(change.len() < 10_000, "{} bytes would fit into no plan", change.len());
        assert!(change.contains("and 99900 more lines"), "{change}");
    }

    #[test]
    fn who_loses_the_sessions_keeps_an_empty_block_until_they_have_ended() {
        let hand = b"ssh-ed25519 by-hand\n".to_vec();
        let keyed = plan(&people("ralph", &["admins"]), Found::File(hand.clone()));
        let gone = plan(&BTreeMap::new(), Found::File(written(&keyed).unwrap()));
        let What::File(write) = &gone.steps[0].what else { panic!() };
        let mut first = [write.clone()];
        let last = in_two_steps("reactor", &mut first, &BTreeSet::from(["ralph"]));
        let between = first[0].after.clone().unwrap();
        assert!(!String::from_utf8_lossy(&between).contains("AAAAC3Nza"));
        assert_eq!((last[0].before.as_ref(), last[0].after.as_ref()), (Some(&between), Some(&hand)));
        // Killed in between: the next plan ends them.
        let again = plan(&BTreeMap::new(), Found::File(between));
        let actions: Vec<Action> = again.steps.iter().map(|step| step.change.action).collect();
        assert_eq!(actions, [Action::Delete, Action::Run]);
        assert_eq!(written(&again), Some(hand));
        assert_eq!(in_two_steps("reactor", &mut first, &BTreeSet::new()), []);
    }
}
