//! What goes wrong with transfers: killed half-way, a full disk, a master that sends everybody away, one that lost its files.

use std::fs;
use std::path::{Path, PathBuf};

use reactor_tests::process::command;
use reactor_tests::rsyncd::kill_clients_of;

use super::site::{ALL_OF_IT, DONE, MASTER, Mirror, Net, T1A, Wish};

const BIG: &str = "fedora/updates/big-1.0.rpm";
/// Large enough for a transfer to be seen under way.
const BIG_BYTES: usize = 3 << 20;
/// How fast a slow master sends: it takes several seconds.
const SLOW_KIB: u32 = 600;
/// Of the big file, what has arrived when the transfer counts as under way.
const UNDER_WAY_BYTES: u64 = 200 << 10;

/// Bytes that no compression makes fewer.
fn big() -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..BIG_BYTES).map(|_| next()).collect()
}

/// Waits until a good piece of something has arrived, under whatever name.
fn until_under_way(mirror: &Mirror) {
    mirror.until("a transfer is under way", || largest(&mirror.rsyncd.tree) > UNDER_WAY_BYTES);
}

fn largest(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => largest(&entry.path()),
        _ => entry.metadata().map_or(0, |data| data.len()),
    };
    entries.map(size).max().unwrap_or(0)
}

#[test]
fn an_rsync_that_is_killed_half_way_is_started_again_and_ends_what_it_began() {
    for kill_the_client in [false, true] {
        let mut net = Net::new(if kill_the_client { "client" } else { "server" });
        let t1a = net.tier1(T1A, Wish::default());
        net.master.limit(Some(SLOW_KIB));
        net.put(BIG, &big());
        net.put("fedora/updates/repodata/repomd.xml", b"<repomd>the second</repomd>");
        net.synced(&["fedora/updates"], 1);
        until_under_way(&t1a);
        let metadata = fs::read(t1a.path("fedora/updates/repodata/repomd.xml")).expect("the metadata");
        assert_eq!(metadata, b"<repomd>1</repomd>", "what names the new package is not there before it");
        let killed = if kill_the_client { kill_clients_of(&net.master.url()) } else { net.master.cut() };
        assert!(killed > 0, "{}", t1a.story());
        net.master.limit(None);
        t1a.until_same_as(&net.master);
        t1a.until_all_done();
        assert!(t1a.shown(DONE).contains("rsync"), "the story tells of the failed try: {}", t1a.shown(DONE));
        assert!(!t1a.mark_is_there(), "{}", t1a.story());
    }
}

#[test]
fn a_master_that_sends_everybody_away_or_is_down_is_asked_again() {
    let mut net = Net::new("refuse");
    let t1a = net.tier1(T1A, Wish::default());
    net.put("epel/9/bar-2.1.rpm", b"bar 2.1");
    net.master.refuse();
    net.synced(&["epel"], 1);
    t1a.until_reason(&["rsync"]);
    net.master.stop();
    net.master.accept();
    assert!(!t1a.has("epel/9/bar-2.1.rpm") && t1a.has("epel/9/bar-2.0.rpm"), "{}", t1a.story());
    net.master.start_again();
    t1a.until_same_as(&net.master);
    t1a.until_all_done();
}

/// A small disk over a directory; it goes with this.
struct Disk(PathBuf);

impl Disk {
    fn over(dir: &Path, size: &str) -> Self {
        let disk = Self(dir.to_owned());
        let options = format!("size={size},mode=755");
        let mounted = command("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir).status();
        let hint = "hint: run the tests as root, as CI does, or under: unshare --map-root-user --mount";
        assert!(mounted.is_ok_and(|status| status.success()), "no small disk on {}\n{hint}", dir.display());
        disk
    }

    fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        let grown = command("mount").args(["-o", &options]).arg(&self.0).status();
        assert!(grown.is_ok_and(|status| status.success()), "a larger disk");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever stands in it still goes on without it.
        let _ = command("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_fills_is_told_and_when_there_is_room_it_goes_on() {
    let net = Net::new("full");
    net.put(BIG, &big());
    let mut t1a = net.mirror(T1A, 1);
    let disk = Disk::over(&t1a.rsyncd.tree, "1m");
    net.write_rules(&t1a, &net.master.url(), MASTER, Wish::default());
    t1a.run();
    t1a.until_reason(&["no space", "full"]);
    assert!(!t1a.has(BIG), "half a file has no name that anybody asks for");
    disk.grow("16m");
    t1a.until_same_as(&net.master);
    t1a.until_all_done();
    t1a.stop();
    drop(t1a);
    drop(disk);
}

#[test]
fn many_deletions_wait_for_a_person_and_go_when_approved() {
    let net = Net::new("many");
    let old: Vec<String> = (0..20).map(|n| format!("fedora/updates/old-{n}.rpm")).collect();
    old.iter().for_each(|name| net.put(name, name.as_bytes()));
    let t1a = net.tier1(T1A, Wish::default());
    old.iter().for_each(|name| net.remove(name));
    net.put("fedora/updates/foo-1.1.rpm", b"foo 1.1");
    net.synced(&["fedora/updates"], 1);
    t1a.until_count(DONE, "held", 1);
    assert!(old.iter().all(|name| t1a.has(name)), "nothing is gone: {}", t1a.story());
    let row = t1a.rows().into_iter().find(|row| row["state"] == "held").expect("the held one");
    assert!(row["reason"].as_str().is_some_and(|reason| reason.contains("20 deletes")), "{row}");
    let (code, said) = t1a.reactor(&["approve", row["id"].as_str().expect("an id")]);
    assert_eq!(code, 0, "{said}");
    t1a.until_same_as(&net.master);
    t1a.until_count(DONE, "done", 1);
}

#[test]
fn a_master_whose_disk_is_not_mounted_empties_no_mirror() {
    let net = Net::new("unmounted");
    // More than the guard lets go.
    (0..6).for_each(|n| net.put(&format!("fedora/updates/old-{n}.rpm"), b"old"));
    let t1a = net.tier1(T1A, Wish::default());
    let aside = net.master.tree.with_extension("aside");
    fs::rename(&net.master.tree, &aside).expect("moved away");
    fs::create_dir(&net.master.tree).expect("an empty mount");
    net.synced(&["fedora/updates"], 1);
    net.synced(&[], 2);
    let (code, said) = t1a.reactor(&["reconcile", "mirror", "rules.yaml"]);
    assert_eq!(code, 1, "it differs, or that can't be known: {said}");
    let settled =
        |row: &serde_json::Value| row["state"] == "held" || row["state"] == "failed" || !row["reason"].is_null();
    t1a.until("both wait for a person, or for the master", || {
        let rows: Vec<_> = t1a.rows().into_iter().filter(|row| row["rule"] == DONE).collect();
        rows.len() == 2 && rows.iter().all(settled)
    });
    assert!(t1a.has("fedora/updates/foo-1.0.rpm") && t1a.has("epel/9/bar-2.0.rpm"), "{}", t1a.story());
    assert_eq!(t1a.count(ALL_OF_IT, "done"), 1, "the one at its start");
}
