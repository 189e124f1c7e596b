//! The whole way: a master, two tier-1 mirrors, a tier-2 mirror of each.

use std::time::Instant;

use super::site::{Net, T1A, T1B, UPSTREAM_DONE, UPSTREAM_PULLS, Wish};

const T2A: &str = "t2a.example.org";
const T2B: &str = "t2b.example.org";

#[test]
fn a_change_on_the_master_arrives_at_both_tier_2_mirrors_and_nothing_is_pulled_twice() {
    let net = Net::new("chain");
    let (t1a, t1b) = (net.tier1(T1A, Wish::default()), net.tier1(T1B, Wish::default()));
    let (t2a, t2b) = (net.tier2(T2A, &t1a), net.tier2(T2B, &t1b));
    let all = [&t1a, &t1b, &t2a, &t2b];
    all.iter().for_each(|mirror| mirror.until_same_as(&net.master));
    net.meet(&all);

    net.unsynced(&["fedora/updates"], 1);
    net.put("fedora/updates/foo-1.1.rpm", b"foo 1.1");
    net.put("fedora/updates/repodata/2-primary.xml.gz", b"primary 2");
    net.put("fedora/updates/repodata/repomd.xml", b"<repomd>the second</repomd>");
    net.remove("fedora/updates/foo-1.0.rpm");
    net.synced(&["fedora/updates"], 1);
    let began = Instant::now();
    [&t2a, &t2b].iter().for_each(|mirror| mirror.until_same_as(&net.master));
    eprintln!("mirror-pull: from the master's message to both tier-2 mirrors: {:.1} s", began.elapsed().as_secs_f64());
    [&t2a, &t2b].iter().for_each(|mirror| {
        mirror.until("the pull that it was told of", || mirror.count(UPSTREAM_DONE, "done") > 0);
        assert!(mirror.count(UPSTREAM_PULLS, "done") > 0, "it held before: {}", mirror.story());
    });
    all.iter().for_each(|mirror| mirror.until_all_done());

    // From the daemons' own logs: each file left the master once for each tier-1 mirror, and those once for their own.
    for (daemon, clients) in [(&net.master, 2), (&t1a.rsyncd, 1), (&t1b.rsyncd, 1)] {
        for file in ["foo-1.0.rpm", "foo-1.1.rpm", "repodata/1-primary.xml.gz", "repodata/2-primary.xml.gz"] {
            assert_eq!(daemon.times_sent(&format!("fedora/updates/{file}")), clients, "{file}: {}", daemon.log());
        }
        assert_eq!(daemon.times_sent("fedora/updates/repodata/repomd.xml"), 2 * clients, "{}", daemon.log());
        assert_eq!(daemon.times_sent("epel/9/bar-2.0.rpm"), clients, "{}", daemon.log());
    }
    // What names the packages came after them, everywhere.
    for daemon in [&t1a.rsyncd, &t1b.rsyncd] {
        let sent = daemon.sent();
        let last = |end: &str| sent.iter().rposition(|file| file.ends_with(end));
        assert!(last("foo-1.1.rpm") < last("repomd.xml"), "{sent:?}");
        assert!(last("2-primary.xml.gz") < last("repomd.xml"), "{sent:?}");
    }
    // The schedule finds nothing to do, and pulls nothing.
    let sent = || [&net.master, &t1a.rsyncd, &t1b.rsyncd].map(|daemon| daemon.sent().len());
    let before = sent();
    for mirror in all {
        let (code, said) = mirror.schedule();
        assert_eq!(code, 0, "{}: {said}", mirror.name);
    }
    assert_eq!(sent(), before);
}

#[test]
fn a_mirror_never_pulls_from_one_that_is_in_the_middle_of_an_update() {
    let net = Net::new("midway");
    let t1a = net.tier1(T1A, Wish::default());
    let told = net.tier2(T2A, &t1a);
    // From here on t1a stops in the middle of its update: what it asks the master for waits.
    net.master.shut_while(&t1a.mark());
    net.put("fedora/updates/foo-1.1.rpm", b"foo 1.1");
    net.put("fedora/updates/repodata/repomd.xml", b"<repomd>the second</repomd>");
    net.synced(&["fedora/updates"], 1);
    net.master.until_one_waits();
    let before = t1a.rsyncd.sent();
    // One was told of it and holds, also when its schedule comes due.
    told.until_count(UPSTREAM_PULLS, "done", 1);
    let (_, said) = told.schedule();
    // One that has only just started, and was told nothing, sees it for itself.
    let untold = net.tier2_that_runs(T2B, &t1a);
    untold.until_reason(&["mid-update"]);
    assert_eq!(t1a.rsyncd.sent(), before, "nobody got a file from it: {said}{}", told.story());
    assert!(!told.has("fedora/updates/foo-1.1.rpm") && !untold.has("fedora"), "{}", untold.story());

    net.master.open();
    [&told, &untold].iter().for_each(|mirror| mirror.until_same_as(&net.master));
    [&t1a, &told, &untold].iter().for_each(|mirror| mirror.until_all_done());
    assert_eq!(t1a.rsyncd.times_sent("fedora/updates/foo-1.1.rpm"), 2, "once for each: {}", t1a.rsyncd.log());
}

#[test]
fn a_mirror_that_was_down_catches_up_at_its_start_and_pulls_once() {
    let net = Net::new("down");
    let mut t1a = net.tier1(T1A, Wish { every: "2s", ..Wish::default() });
    t1a.stop();
    for (version, serial) in [("1.1", 1), ("1.2", 2)] {
        net.unsynced(&["fedora/updates"], serial);
        net.put(&format!("fedora/updates/foo-{version}.rpm"), version.as_bytes());
        net.put("fedora/updates/repodata/repomd.xml", format!("<repomd>{version}</repomd>").as_bytes());
        // Nobody keeps it for a mirror that does not listen.
        net.synced(&["fedora/updates"], serial);
    }
    assert!(!t1a.has("fedora/updates/foo-1.1.rpm"));
    t1a.run();
    t1a.until_same_as(&net.master);
    t1a.until_all_done();
    for (file, times) in [("foo-1.1.rpm", 1), ("foo-1.2.rpm", 1), ("foo-1.0.rpm", 1), ("repodata/repomd.xml", 2)] {
        assert_eq!(net.master.times_sent(&format!("fedora/updates/{file}")), times, "{file}: {}", net.master.log());
    }
}
