//! The parts of the glue that need no host.

use serde_json::json;

use handler_api::Later;

use super::outcome::failure;
use super::*;
use crate::access::{Place, Reach};
use crate::fleet::{TroubleKind, Write};

fn host(name: &str) -> Arc<Host> {
    let place = Place::Directory("/k/%u".into());
    Arc::new(Host { name: name.into(), reach: Reach::Local, place, access: Vec::new() })
}

fn trouble(kind: TroubleKind, message: &str) -> Trouble {
    Trouble { message: message.into(), hint: Some(format!("mend {message}")), kind }
}

fn steps(host: &Arc<Host>, users: usize, sha256: &str) -> HostSteps {
    let step = |n: usize| {
        let change = json!({"action": "create", "target": format!("{}: user{n}", host.name), "after": "ED25519 SHA256:x\n",
            "host": host.name, "user": format!("user{n}"), "sha256": sha256});
        let write = Write { user: format!("user{n}"), before: None, after: Some(b"x".to_vec()) };
        Step { change: serde_json::from_value(change).unwrap(), what: What::File(write) }
    };
    HostSteps { host: Arc::clone(host), steps: (0..users).map(step).collect() }
}

fn changes(hosts: &[HostSteps]) -> Vec<Change> {
    hosts.iter().flat_map(|host| host.steps.iter().map(|step| step.change.clone())).collect()
}

fn scope(with: Value) -> Scope {
    Scope::read(with.as_object().unwrap())
}

#[test]
fn an_empty_list_of_users_is_nobody_and_no_list_is_everyone() {
    assert_eq!(scope(json!({})).users, None);
    assert_eq!(scope(json!({"user": null, "users": null})).users, None);
    assert_eq!(scope(json!({"users": []})).users, Some(BTreeSet::new()));
    let both = scope(json!({"user": "ralph", "users": ["ada", "ralph"], "hosts": ["web01"]}));
    assert_eq!(both.users, Some(BTreeSet::from(["ada".into(), "ralph".into()])));
    assert_eq!(both.hosts, Some(BTreeSet::from(["web01".into()])));
}

#[test]
fn apply_does_what_was_planned_and_nothing_else() {
    let web = host("web01");
    let planned = [steps(&web, 2, "a")];
    assert!(is_plan(&planned, &changes(&planned)));
    assert!(!is_plan(&planned, &changes(&[steps(&web, 2, "b")])), "another content");
    assert!(!is_plan(&planned, &changes(&[steps(&web, 1, "a")])), "one more than was planned");
    assert!(!is_plan(&planned, &changes(&[steps(&web, 3, "a")])), "one fewer than was planned");
    // What could not be done then may have another reason now.
    let mut seen = changes(&planned);
    seen.push(plan::host_trouble(&host("web02"), trouble(TroubleKind::MayPass, "refused")).change);
    assert!(is_plan(&planned, &seen));
}

#[test]
fn a_plan_has_bounds_and_says_what_it_has_no_room_for() {
    let (one, two) = (host("h1"), host("h2"));
    let cut = in_bounds(vec![steps(&one, PLAN_CHANGES_MAX + 10, "a"), steps(&two, 5, "a")]);
    let all = changes(&cut);
    assert!(all.len() <= PLAN_CHANGES_MAX + 2);
    assert!(
        all.iter().map(|change| serde_json::to_string(change).unwrap().len()).sum::<usize>() < PLAN_BYTES_MAX + 1_000
    );
    assert!(matches!(cut[0].steps.last().unwrap().what, What::Rest));
    assert!(matches!(cut[1].steps[..], [Step { what: What::Rest, .. }]), "{:?}", cut[1].steps);
    assert_eq!(cut[1].steps[0].change.after, Some("5 more changes, in a reaction of their own".into()));
}

#[test]
fn a_failed_host_is_tried_again_if_any_of_its_troubles_may_pass_and_names_what_will_not() {
    let (down, link) = (trouble(TroubleKind::MayPass, "disk full"), trouble(TroubleKind::Lasting, ".ssh is a link"));
    let web = host("web01");
    let both = failure(&web, &[down.clone(), link.clone()]);
    assert!(matches!(both, Failure::Retry { .. }));
    assert_eq!(both.message(), "web01: .ssh is a link (and 1 more)");
    assert!(matches!(failure(&web, &[link]), Failure::Permanent { .. }));
    assert_eq!(failure(&web, &[down]).hint(), Some("mend disk full"));
}

fn keys_of(left: &[Later]) -> Vec<&str> {
    left.iter().map(|left| left.key.as_str()).collect()
}

#[test]
fn a_link_in_the_place_of_one_file_does_not_end_what_one_plan_had_no_room_for() {
    let hosts = [steps(&host("web01"), 2, "a")];
    let link = trouble(TroubleKind::Lasting, "ada is a link");
    let mut outcome = HostOutcome { troubles: vec![link], rest: true, ..HostOutcome::default() };
    assert!(matches!(conclude(&hosts, &[outcome], "host web01"), Err(Failure::Permanent { .. })), "nothing was done");
    outcome = HostOutcome {
        done: changes(&hosts),
        rest: true,
        troubles: vec![trouble(TroubleKind::Lasting, "ada is a link")],
        ..HostOutcome::default()
    };
    assert_eq!(keys_of(&conclude(&hosts, &[outcome], "host web01").unwrap()), ["host web01"]);
}

#[test]
fn whoever_rewrites_a_file_all_the_time_does_not_cost_a_host_that_is_down_its_turn() {
    let hosts = [steps(&host("web01"), 1, "a"), steps(&host("web02"), 1, "a")];
    let moved = || HostOutcome { troubles: vec![trouble(TroubleKind::Moved, "changed")], ..HostOutcome::default() };
    let down = HostOutcome { whole: Some(trouble(TroubleKind::MayPass, "refused")), ..HostOutcome::default() };
    assert_eq!(keys_of(&conclude(&hosts, &[moved(), down], "eve").unwrap()), ["host web01", "host web02"]);
    // Nobody else waits: it is planned again at once.
    let again = conclude(&hosts, &[moved(), HostOutcome::default()], "eve");
    assert!(matches!(again, Err(Failure::Retry { after: Some(_), .. })), "{again:?}");
    let both = [trouble(TroubleKind::Moved, "changed"), trouble(TroubleKind::Lasting, "a link")];
    assert!(matches!(failure(&host("web01"), &both), Failure::Retry { .. }));
}

#[test]
fn a_host_that_is_down_is_not_waited_for_until_it_answers() {
    let down = Down::default();
    down.remember("web01", Some(&trouble(TroubleKind::Lasting, "another host key")));
    assert_eq!(down.known("web01"), None, "who mends that should not have to wait");
    down.remember("web01", Some(&trouble(TroubleKind::MayPass, "refused")));
    assert_eq!(down.known("web01").unwrap().message, "refused");
    down.remember("web01", None);
    assert_eq!(down.known("web01"), None);
    down.late("web02");
    assert!(down.known("web02").unwrap().message.contains("no answer"));
}

#[test]
fn a_plan_is_old_once_somebody_asked_about_one_of_its_users() {
    let reads = Reads::default();
    let web = host("web01");
    let planned = Planned { read: reads.begin(None), hosts: vec![steps(&web, 2, "a")] };
    assert!(!planned.is_old(&reads));
    reads.begin(Some(&BTreeSet::from(["somebody-else".to_owned()])));
    reads.begin(None);
    assert!(!planned.is_old(&reads), "reconciles do not send each other back");
    reads.begin(Some(&BTreeSet::from(["user1".to_owned()])));
    assert!(planned.is_old(&reads), "user1 may have lost the key that is about to be written");
    let again = Planned { read: reads.begin(None), hosts: vec![steps(&web, 2, "a")] };
    assert!(!again.is_old(&reads));
    let crowd = (0..=memory::READS_KEPT_MAX).map(|n| n.to_string()).collect();
    reads.begin(Some(&crowd));
    assert!(again.is_old(&reads), "what is not remembered counts as asked");
}

#[tokio::test]
async fn nobody_becomes_root_by_an_account_of_that_name() {
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    let dir = tempfile::tempdir().unwrap();
    let accounts = dir.path().join("accounts.yaml");
    let people =
        format!("users: {{root: {{keys: [{KEY}]}}, ralph: {{keys: [{KEY}]}}}}\ngroups: {{ops: [root, ralph]}}\n");
    std::fs::write(&accounts, people).unwrap();
    let keys = dir.path().join("keys");
    std::fs::create_dir(&keys).unwrap();
    let hosts = json!({"groups": {"here": {"hosts": ["web01"], "local": true, "access": ["ops"],
        "keys": format!("{}/%u", keys.display())}}});
    let handler = SshKeys::new();
    for with in [json!({"users": ["root", "ralph"]}), json!({})] {
        let request = json!({"reactor": 1, "reaction": "r", "rule": "x", "key": "k", "attempt": 1, "messages": [],
            "with": with, "config": {"accounts": {"yaml": accounts}, "hosts": hosts}});
        let plan = handler.plan(&serde_json::from_value(request).unwrap()).await.unwrap();
        let targets: Vec<&str> = plan.changes.iter().map(|change| change.target.as_str()).collect();
        assert_eq!(targets, ["web01: ralph"]);
        assert!(plan.notes.iter().any(|note| note.starts_with("root: ")), "{:?}", plan.notes);
    }
}
