//! All packages in all tags: few calls, and what differs is mended in large pieces.

use std::collections::BTreeMap;
use std::time::Instant;

use reactor_tests::koji::{ADMIN, Hub};
use serde_json::{Value, json};

use super::site::Site;

/// As many as Fedora has (issue 6).
const PACKAGES: usize = 24_000;
const TAGS: usize = 10;
/// Most HTTP calls of a pass that finds nothing to do (issue 6).
const CALLS_MAX: usize = 30;
/// How many packages have changed hands since, in one tag.
const CHANGED: usize = 1_000;

fn package(n: usize) -> String {
    format!("package-{n:05}")
}

fn owner(n: usize) -> String {
    format!("user{:03}", n % 300)
}

#[test]
fn a_pass_over_all_packages_takes_few_calls_and_mends_in_large_pieces() {
    let mut site = Site::new("koji-reconcile", |dir| {
        let hub = Hub::start(dir);
        let rows: Vec<Value> = (0..PACKAGES).map(|n| json!([package(n), owner(n), false, null])).collect();
        let mut tags = BTreeMap::new();
        for n in 0..TAGS {
            let tag = format!("t{n}");
            hub.tag(&tag, None);
            hub.wish(&json!({"do": "seed", "packages": {&tag: rows}}));
            tags.insert(format!("b{n}"), tag);
        }
        (hub, json!({"tags": tags, "timeout": "5m"}))
    });
    let branches: Vec<String> = (0..TAGS).map(|n| format!("b{n}")).collect();
    site.are((0..PACKAGES).map(|n| (package(n), json!({"owner": owner(n), "branches": branches}))).collect());
    site.every();
    let calls = site.calls_of(|site| {
        let began = Instant::now();
        let (code, said) = site.reactor(&["reconcile", "koji", "rules.yaml"]);
        println!("{PACKAGES} packages in {TAGS} tags, nothing to do: {:?}", began.elapsed());
        assert!(code == 0 && said.contains("nothing to do"), "{said:.2000}");
    });
    assert!(calls.len() <= CALLS_MAX, "{} calls", calls.len());

    let drift = "(setattr(s, 'multicall', True), [s.packageListSetOwner('t3', 'package-%05d' % n, 'user299')
        for n in range(1000)], len(s.multiCall()))[-1]";
    assert_eq!(site.hub.ask(Some(ADMIN), drift), json!(CHANGED));
    let differ = (0..CHANGED).filter(|&n| owner(n) != "user299").count();
    let (code, said) = site.reactor(&["reconcile", "koji", "rules.yaml"]);
    assert!(code == 1 && said.contains("t3: owner of package-00000"), "{said:.2000}");

    // A thousand faults in the first try; in the second all of it.
    site.hub.trouble("elements", "write", json!({"code": 1000, "text": "deadlock detected", "first": 500, "times": 2}));
    let calls = site.calls_of(|site| {
        site.run();
        site.until("all of it", "done", 1);
    });
    let sent: Vec<_> = calls.iter().map(|call| call.writes().count()).filter(|&writes| writes > 0).collect();
    assert_eq!(sent, [500, differ - 500, 500, differ - 500], "{}", site.story("all of it"));
    let rows = &site.hub.entries()["t3"];
    assert!((0..CHANGED).all(|n| rows[&package(n)].owner == owner(n)));
    let (code, said) = site.reactor(&["reconcile", "koji", "rules.yaml"]);
    assert!(code == 0 && said.contains("nothing to do"), "{said:.2000}");
}
