//! Messages that lead astray, names that are hard, words of people who may not say them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use serde_json::json;

use super::site::{DONE, MASTER, Net, STRANGER, T1A, T1B, UPSTREAM_DONE, Wish, files};

const T2A: &str = "t2a.example.org";
const NEW: &str = "fedora/updates/foo-1.1.rpm";

#[test]
fn a_signed_message_that_leads_out_of_the_tree_fails_and_touches_nothing() {
    let net = Net::new("astray");
    let t1a = net.tier1(T1A, Wish::default());
    // It is there to be taken, if anybody followed the path.
    fs::create_dir(net.scratch.path().join("master/etc")).expect("a directory");
    fs::write(net.scratch.path().join("master/etc/shadow"), "root:*:").expect("a file");
    let (before, around) = (files(&t1a.rsyncd.tree), names_in(&t1a.dir));
    let (asked, sent) = (net.master.connections(), net.master.sent().len());
    let astray = [
        "../../etc",
        "../etc",
        "/etc",
        "fedora/../../etc",
        "fedora/..",
        "--delete",
        "fedora/-rf",
        "fedora/*",
        "fedora/[u]pdates",
        "fedora\\updates",
        "fedora\nupdates",
        ".reactor-mirror",
    ];
    for (n, path) in astray.iter().enumerate() {
        // Also behind a good one.
        net.publish(MASTER, "mirror.master.synced", &json!({"directories": ["fedora/updates", path], "serial": n}));
        net.publish(MASTER, "mirror.master.unsynced", &json!({"directories": [path], "serial": n}));
    }
    t1a.until("all of them fail", || {
        t1a.rows().iter().filter(|row| row["state"] == "failed").count() == 2 * astray.len()
    });
    assert_eq!((net.master.connections(), net.master.sent().len()), (asked, sent), "the master was not even asked");
    assert_eq!(files(&t1a.rsyncd.tree), before);
    assert_eq!(names_in(&t1a.dir), around);

    net.put(NEW, b"foo 1.1");
    net.synced(&["fedora/updates"], 100);
    t1a.until_same_as(&net.master);
}

fn names_in(dir: &std::path::Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = fs::read_dir(dir).expect("a directory").flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

#[test]
fn hard_names_arrive_byte_for_byte_at_tier_2_and_go_again() {
    let net = Net::new("names");
    let long = "n".repeat(255);
    let hard: [&[u8]; 12] = [
        b"new\nline",
        b"\n",
        b"not-utf8-\xff\xfe\x80",
        long.as_bytes(),
        b"-rf",
        b" leading and trailing ",
        b"star*?[a-z]",
        b"\\#012 is no newline",
        b"tab\tand\rreturn",
        "gr\u{fc}\u{df}e-\u{1f600}".as_bytes(),
        b"'quote\"$(touch x)`;&",
        b"repomd.xml\n",
    ];
    let put = |name: &[u8], bytes: &[u8]| {
        let path = net.master.tree.join("fedora/updates").join(OsStr::from_bytes(name));
        fs::write(path, bytes).expect("a hard name");
    };
    let t1a = net.tier1(T1A, Wish { deletes: 20, ..Wish::default() });
    let t2a = net.tier2(T2A, &t1a);
    hard.iter().for_each(|name| put(name, name));
    let deep = net.master.tree.join("fedora/updates").join(OsStr::from_bytes(b"dir\n\xff")).join("-x");
    fs::create_dir_all(&deep).expect("a directory");
    fs::write(deep.join("in it"), "x").expect("a file");
    net.synced(&["fedora/updates"], 1);
    [&t1a, &t2a].iter().for_each(|mirror| mirror.until_same_as(&net.master));
    assert!(files(&t2a.rsyncd.tree).contains_key(&b"fedora/updates/new\nline"[..]));

    // One changes, some go.
    put(hard[0], b"changed");
    hard[2..5].iter().for_each(|name| {
        fs::remove_file(net.master.tree.join("fedora/updates").join(OsStr::from_bytes(name))).expect("there");
    });
    net.synced(&["fedora/updates"], 2);
    [&t1a, &t2a].iter().for_each(|mirror| mirror.until_same_as(&net.master));
    [&t1a, &t2a].iter().for_each(|mirror| mirror.until_all_done());
}

#[test]
fn links_that_lead_out_of_the_tree_are_not_taken_over() {
    let net = Net::new("links");
    let t1a = net.tier1(T1A, Wish::default());
    for (name, to) in [("out", "../../../../etc/passwd"), ("absolute", "/etc/passwd"), ("in", "foo-1.0.rpm")] {
        std::os::unix::fs::symlink(to, net.master.tree.join("fedora/updates").join(name)).expect("a link");
    }
    net.synced(&["fedora/updates"], 1);
    t1a.until("the good link", || t1a.path("fedora/updates/in").is_symlink());
    t1a.until_all_done();
    assert!(!t1a.path("fedora/updates/out").is_symlink() && !t1a.path("fedora/updates/absolute").is_symlink());
    // And that is no difference that is found again and again.
    let sent = net.master.sent().len();
    assert_eq!(t1a.schedule().0, 0, "{}", t1a.story());
    assert_eq!(net.master.sent().len(), sent);
}

#[test]
fn a_stranger_and_another_mirror_are_not_believed() {
    let net = Net::new("strangers");
    let t1a = net.tier1(T1A, Wish::default());
    let t2a = net.tier2(T2A, &t1a);
    net.put(NEW, b"foo 1.1");
    let about = json!({"directories": ["fedora/updates"], "serial": 9});
    // The master's name, but another CA; a certificate of ours, but not the master's.
    net.publish(STRANGER, "mirror.master.synced", &about);
    net.publish(T1B, "mirror.master.synced", &about);
    // This one may speak on the topic, but not about another mirror.
    let about_t1a = json!({"mirror": T1A, "from": "x", "directories": ["fedora/updates"], "serial": 9});
    net.publish(T1B, "mirror.pull.finished", &about_t1a);
    net.publish(STRANGER, "mirror.pull.finished", &about_t1a);
    net.publish(T1B, "mirror.pull.started", &about_t1a);

    t1a.until("two are refused", || t1a.refused().len() == 2);
    t2a.until_reason(&["not a signer"]);
    t2a.until("two have failed", || t2a.rows().iter().filter(|row| row["state"] == "failed").count() == 2);
    assert_eq!((t1a.count(DONE, "done"), t2a.count(UPSTREAM_DONE, "done")), (0, 0));
    assert!(!t1a.has(NEW) && net.master.times_sent(NEW) == 0, "{}", net.master.log());

    net.publish(MASTER, "mirror.master.synced", &about);
    [&t1a, &t2a].iter().for_each(|mirror| mirror.until_same_as(&net.master));
}
