//! Holds: who waits, for what, how long.

use super::site::{ALL_OF_IT, CHANGES, DONE, Net, T1A, Wish};

const NEW: &str = "fedora/updates/foo-1.1.rpm";

#[test]
fn what_the_master_changes_is_not_pulled_until_it_is_done_and_the_other_part_is() {
    let net = Net::new("hold");
    let t1a = net.tier1(T1A, Wish::default());
    net.unsynced(&["fedora/updates"], 1);
    t1a.until_count(CHANGES, "done", 1);
    net.put(NEW, b"half of it");
    net.put("epel/9/bar-2.1.rpm", b"bar 2.1");
    let (code, said) = t1a.schedule();
    assert_eq!(code, 0, "{said}{}", t1a.story());
    assert!(t1a.has("epel/9/bar-2.1.rpm"), "nobody holds epel: {said}");
    assert!(!t1a.has(NEW) && net.master.times_sent(NEW) == 0, "{said}{}", net.master.log());
    assert!(t1a.shown(ALL_OF_IT).contains("fedora"), "the story says what was left out: {}", t1a.shown(ALL_OF_IT));

    net.put(NEW, b"foo 1.1");
    net.synced(&["fedora/updates"], 1);
    t1a.until_same_as(&net.master);
    t1a.until_all_done();
    assert_eq!(net.master.times_sent(NEW), 1, "{}", net.master.log());
    // It is over: what is new is found by the schedule again.
    net.put("fedora/updates/foo-1.2.rpm", b"foo 1.2");
    assert_eq!(t1a.schedule().0, 0);
    assert!(t1a.has("fedora/updates/foo-1.2.rpm"), "{}", t1a.story());
}

#[test]
fn an_older_end_does_not_end_a_newer_hold() {
    let net = Net::new("older");
    let t1a = net.tier1(T1A, Wish::default());
    net.unsynced(&["fedora/updates"], 5);
    net.put(NEW, b"half of it");
    net.synced(&["fedora/updates"], 4);
    t1a.until_count(DONE, "done", 1);
    assert_eq!(t1a.schedule().0, 0, "{}", t1a.story());
    assert!(!t1a.has(NEW), "{}", t1a.story());
    net.put(NEW, b"foo 1.1");
    net.synced(&["fedora/updates"], 5);
    t1a.until_same_as(&net.master);
    // And a beginning that comes late, after its end, holds nobody.
    net.unsynced(&["fedora/updates"], 3);
    t1a.until_count(CHANGES, "done", 2);
    net.put("fedora/updates/foo-1.2.rpm", b"foo 1.2");
    assert_eq!(t1a.schedule().0, 0, "{}", t1a.story());
    assert!(t1a.has("fedora/updates/foo-1.2.rpm"), "{}", t1a.story());
}

#[test]
fn a_hold_whose_end_never_comes_lapses_with_a_warning() {
    let net = Net::new("lapse");
    let t1a = net.tier1(T1A, Wish { hold: "3s", ..Wish::default() });
    net.unsynced(&["fedora/updates"], 1);
    t1a.until_count(CHANGES, "done", 1);
    net.put(NEW, b"foo 1.1");
    t1a.until("the hold lapses, and the schedule pulls", || {
        let (code, said) = t1a.schedule();
        assert_eq!(code, 0, "{said}");
        t1a.has(NEW)
    });
    let story = t1a.shown(ALL_OF_IT);
    assert!(story.contains("lapse") && story.contains("fedora"), "{story}");
    t1a.until_same_as(&net.master);
}

#[test]
fn a_message_during_a_run_means_another_run() {
    let net = Net::new("again");
    let t1a = net.tier1(T1A, Wish::default());
    // The run stops when its first stage is over: what comes now is too late for it.
    net.master.shut_while(&t1a.path(NEW));
    net.put(NEW, b"foo 1.1");
    net.put("fedora/updates/repodata/repomd.xml", b"<repomd>the second</repomd>");
    net.synced(&["fedora/updates"], 1);
    net.master.until_one_waits();
    net.put("fedora/updates/foo-1.2.rpm", b"foo 1.2");
    net.synced(&["fedora/updates"], 2);
    t1a.until("the second is in the journal", || t1a.rows().iter().filter(|row| row["rule"] == DONE).count() == 2);
    assert_eq!(t1a.count(DONE, "done"), 0, "the second waits for the first: {}", t1a.story());
    net.master.open();
    t1a.until_same_as(&net.master);
    t1a.until_count(DONE, "done", 2);
    let sent = ["foo-1.1.rpm", "foo-1.2.rpm"].map(|file| net.master.times_sent(&format!("fedora/updates/{file}")));
    assert_eq!(sent, [1, 1], "{}", net.master.log());
}

#[test]
fn a_hold_during_a_run_lets_it_end_and_no_other_begin() {
    let net = Net::new("finish");
    let t1a = net.tier1(T1A, Wish::default());
    net.master.shut_while(&t1a.mark());
    net.put(NEW, b"foo 1.1");
    net.synced(&["fedora/updates"], 1);
    net.master.until_one_waits();
    net.unsynced(&["fedora/updates"], 2);
    t1a.until("the hold is in the journal", || t1a.rows().iter().any(|row| row["rule"] == CHANGES));
    net.master.open();
    t1a.until_count(DONE, "done", 1);
    assert!(t1a.has(NEW), "the run that was under way has ended well: {}", t1a.story());
    t1a.until_count(CHANGES, "done", 1);
    net.put("fedora/updates/foo-1.2.rpm", b"half of it");
    assert_eq!(t1a.schedule().0, 0, "{}", t1a.story());
    assert!(!t1a.has("fedora/updates/foo-1.2.rpm"), "{}", t1a.story());
}
