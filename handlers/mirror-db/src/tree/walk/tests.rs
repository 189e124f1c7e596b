use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::*;
use crate::tree::tests::{Asked, file, file_names, found, is_retry, names};

fn mirror() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    file(root.path(), "pub/epel/RPM-GPG-KEY", b"key");
    file(root.path(), "pub/epel/9/x86_64/Packages/a.rpm", b"1234567");
    file(root.path(), "pub/epel/9/x86_64/repodata/repomd.xml", b"<repomd/>");
    file(root.path(), "pub/epel/9/iso/Fedora-CHECKSUM", b"");
    root
}

fn mode(root: &Path, name: &str, mode: u32) {
    fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
}

fn walked(root: &TempDir, asked: &Asked) -> Result<Tree, Failure> {
    walk(&asked.ask(root.path()))
}

#[test]
fn everything_is_found_with_size_and_time() {
    let root = mirror();
    let tree = walked(&root, &Asked::whole()).unwrap();
    assert_eq!(
        names(&tree),
        [
            "pub/epel",
            "pub/epel/9",
            "pub/epel/9/iso",
            "pub/epel/9/x86_64",
            "pub/epel/9/x86_64/Packages",
            "pub/epel/9/x86_64/repodata"
        ]
    );
    assert!(found(&tree, "pub/epel/9/x86_64").has_repodata && !found(&tree, "pub/epel/9").has_repodata);
    assert_eq!(found(&tree, "pub/epel/9/x86_64/repodata").read, ["repomd.xml"]);
    assert_eq!(found(&tree, "pub/epel/9/iso").read, ["Fedora-CHECKSUM"]);
    let Files::All(files) = &found(&tree, "pub/epel/9/x86_64/Packages").files else { panic!("not looked at") };
    let stat = rustix::fs::stat(root.path().join("pub/epel/9/x86_64/Packages/a.rpm")).unwrap();
    assert_eq!(*files, [File { name: "a.rpm".to_owned(), size: 7, time: stat.st_mtime.max(stat.st_ctime) }]);
    assert!(tree.notes.is_empty());
}

#[test]
fn an_unchanged_directory_is_not_looked_at_but_says_what_is_read_in_it() {
    let root = mirror();
    let first = walked(&root, &Asked::whole()).unwrap();
    let mut asked = Asked::whole();
    asked.times.insert("pub/epel/9/x86_64/repodata", found(&first, "pub/epel/9/x86_64/repodata").time);
    asked.times.insert("pub/epel/9/iso", found(&first, "pub/epel/9/iso").time - 1);
    let tree = walked(&root, &asked).unwrap();
    let repodata = found(&tree, "pub/epel/9/x86_64/repodata");
    assert_eq!(repodata.files, Files::Unchanged);
    assert_eq!(repodata.read, ["repomd.xml"]);
    assert!(found(&tree, "pub/epel/9/x86_64").has_repodata);
    assert_eq!(file_names(found(&tree, "pub/epel/9/iso")), ["Fedora-CHECKSUM"]);
}

#[test]
fn the_later_of_mtime_and_ctime_counts_and_old_times_are_times() {
    let root = mirror();
    let path = root.path().join("pub/epel/RPM-GPG-KEY");
    let long_ago = std::time::UNIX_EPOCH - std::time::Duration::from_secs(86_400);
    let far_ahead = std::time::UNIX_EPOCH + std::time::Duration::from_secs(4_000_000_000);
    for (set, wanted) in [(long_ago, None), (far_ahead, Some(4_000_000_000))] {
        fs::File::open(&path).unwrap().set_modified(set).unwrap();
        let stat = rustix::fs::stat(&path).unwrap();
        let tree = walked(&root, &Asked::whole()).unwrap();
        let Files::All(files) = &found(&tree, "pub/epel").files else { panic!("not looked at") };
        assert_eq!(files.first().unwrap().time, wanted.unwrap_or(stat.st_ctime));
    }
}

#[test]
fn readable_is_inherited_from_above() {
    let root = mirror();
    mode(root.path(), "pub/epel/9", 0o750);
    let tree = walked(&root, &Asked::whole()).unwrap();
    assert!(found(&tree, "pub/epel").readable);
    assert!(!found(&tree, "pub/epel/9").readable && !found(&tree, "pub/epel/9/x86_64/Packages").readable);
    let tree = walked(&root, &Asked::below(&["pub/epel/9/x86_64"])).unwrap();
    assert!(!found(&tree, "pub/epel/9/x86_64").readable, "a hint below it knows it too");
    mode(root.path(), "pub/epel/9", 0o751);
    assert!(
        found(&walked(&root, &Asked::whole()).unwrap(), "pub/epel/9/iso").readable,
        "entering is enough, as for umdl"
    );
}

#[test]
fn only_the_hinted_part_is_walked() {
    let root = mirror();
    file(root.path(), "pub/epel/10/x86_64/b.rpm", b"");
    let tree = walked(&root, &Asked::below(&["pub/epel/9/x86_64"])).unwrap();
    assert_eq!(names(&tree), ["pub/epel/9/x86_64", "pub/epel/9/x86_64/Packages", "pub/epel/9/x86_64/repodata"]);
    for bad in ["pub/epel/../../etc", "pub/other", "pub/epel//9", "pub/epel"] {
        let failure = walked(&root, &Asked::below(&[bad])).unwrap_err();
        assert!(!is_retry(&failure), "{bad}: {failure}");
    }
}

#[test]
fn a_missing_hint_is_absent_only_where_something_else_is() {
    let root = mirror();
    let tree = walked(&root, &Asked::below(&["pub/epel/7/x86_64"])).unwrap();
    assert!(tree.directories.is_empty());
    fs::create_dir_all(root.path().join("pub/epel/8")).unwrap();
    let failure = walked(&root, &Asked::below(&["pub/epel/8/x86_64"])).unwrap_err();
    assert!(is_retry(&failure) && failure.message().contains("is it mounted?"), "{failure}");
}

#[test]
fn a_mount_that_failed_is_unknown_not_empty() {
    let root = tempfile::tempdir().unwrap();
    let asked = Asked::whole();
    let failed = |failure: Failure| assert!(is_retry(&failure) && failure.hint().is_some(), "{failure}");
    failed(walk(&asked.ask(&root.path().join("nowhere"))).unwrap_err());
    failed(walked(&root, &asked).unwrap_err());
    fs::create_dir_all(root.path().join("pub/epel")).unwrap();
    failed(walked(&root, &asked).unwrap_err());
    failed(walked(&root, &Asked::below(&["pub/epel/9"])).unwrap_err());
    // Of a hinted directory: the database knows better.
    fs::create_dir_all(root.path().join("pub/epel/9")).unwrap();
    let mut asked = Asked::below(&["pub/epel/9"]);
    assert_eq!(names(&walked(&root, &asked).unwrap()), ["pub/epel/9"]);
    asked.times.insert("pub/epel/9/x86_64", 1);
    failed(walked(&root, &asked).unwrap_err());
}

#[test]
fn links_and_devices_are_neither_walked_nor_files() {
    let root = mirror();
    let epel = root.path().join("pub/epel");
    symlink("9", epel.join("latest")).unwrap();
    symlink("RPM-GPG-KEY", epel.join("key")).unwrap();
    symlink("/etc", epel.join("9/x86_64/objects")).unwrap();
    file(root.path(), "pub/epel/9/x86_64/summary", b"");
    rustix::fs::mknodat(rustix::fs::CWD, epel.join("fifo"), FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let tree = walked(&root, &Asked::whole()).unwrap();
    assert!(!tree.directories.contains_key("pub/epel/latest"));
    assert_eq!(file_names(found(&tree, "pub/epel")), ["RPM-GPG-KEY"]);
    assert!(!found(&tree, "pub/epel/9/x86_64").is_ostree);
    let tree = walked(&root, &Asked::below(&["pub/epel/latest"])).unwrap();
    assert!(tree.directories.is_empty());
    assert_eq!(tree.notes, ["pub/epel/latest is a file or a link, no directory: not walked"]);
}

#[test]
fn the_top_is_no_link_but_the_root_may_be_one() {
    let root = mirror();
    let other = tempfile::tempdir().unwrap();
    symlink(root.path(), other.path().join("root")).unwrap();
    let asked = Asked::whole();
    assert!(walk(&asked.ask(&other.path().join("root"))).is_ok());
    symlink(root.path().join("pub"), other.path().join("pub")).unwrap();
    let failure = walk(&asked.ask(other.path())).unwrap_err();
    assert!(is_retry(&failure) && failure.message().contains("a link"), "{failure}");
}

#[test]
fn an_ostree_repository_has_a_summary_and_objects() {
    let root = mirror();
    file(root.path(), "pub/epel/atomic/summary", b"");
    fs::create_dir(root.path().join("pub/epel/atomic/objects")).unwrap();
    let tree = walked(&root, &Asked::whole()).unwrap();
    assert!(found(&tree, "pub/epel/atomic").is_ostree);
    assert_eq!(found(&tree, "pub/epel/atomic").read, ["summary"]);
}

#[test]
fn what_is_excluded_is_not_looked_at() {
    let root = mirror();
    file(root.path(), "pub/epel/.snapshot/hourly/a.rpm", b"");
    file(root.path(), "pub/epel/9/.~tmp~/a.rpm", b"");
    let tree = walked(&root, &Asked::whole()).unwrap();
    assert!(names(&tree).iter().all(|name| !name.contains("snapshot") && !name.contains("tmp")));
    let tree = walked(&root, &Asked::below(&["pub/epel/.snapshot/hourly"])).unwrap();
    assert!(tree.directories.is_empty());
    let mut asked = Asked::whole();
    asked.excludes = regex::RegexSet::new(["pub/"]).unwrap();
    assert!(!is_retry(&walked(&root, &asked).unwrap_err()));
}

#[test]
fn names_that_cannot_be_written_are_left_out_and_said() {
    let root = mirror();
    let epel = root.path().join("pub/epel");
    fs::create_dir_all(epel.join("bad\nname/below")).unwrap();
    fs::write(epel.join(OsStr::from_bytes(b"\xff.rpm")), b"").unwrap();
    let long = "l".repeat(255);
    fs::write(epel.join(&long), b"").unwrap();
    fs::write(epel.join("größe; $(id) 'x'"), b"").unwrap();
    let tree = walked(&root, &Asked::whole()).unwrap();
    assert_eq!(file_names(found(&tree, "pub/epel")), ["RPM-GPG-KEY", "größe; $(id) 'x'", &long]);
    assert!(names(&tree).iter().all(|name| !name.contains("bad")));
    let mut notes = tree.notes.clone();
    notes.sort_unstable();
    assert_eq!(notes.len(), 2);
    assert!(notes.iter().any(|note| note.ends_with("pub/epel/\\xff.rpm")), "{notes:?}");
    assert!(notes.iter().any(|note| note.ends_with("pub/epel/bad\\nname")), "{notes:?}");
}

#[test]
fn a_directory_that_we_may_not_read_is_unknown() {
    // Root may read everything: this needs another user's rights, which only a test as that user has.
    if rustix::process::geteuid().is_root() {
        eprintln!("run as root: only the words of the failure are looked at");
    }
    let root = mirror();
    mode(root.path(), "pub/epel/9/iso", 0o000);
    let asked = Asked::whole();
    let ask = asked.ask(root.path());
    let walk_of = Walk::new(&ask).unwrap();
    let mut failures = vec![walk_of.errno("pub/epel/9/iso", Errno::ACCESS)];
    failures.extend(if rustix::process::geteuid().is_root() { None } else { walk(&ask).err() });
    for failure in failures {
        assert!(is_retry(&failure) && failure.message().contains("pub/epel/9/iso"), "{failure}");
        assert!(failure.hint().unwrap().starts_with("ls -ld "), "{failure}");
    }
    mode(root.path(), "pub/epel/9/iso", 0o755);
}

#[test]
fn a_directory_removed_under_our_feet_is_an_error() {
    let root = mirror();
    let gone = root.path().join("pub/epel/gone");
    fs::create_dir(&gone).unwrap();
    let at = folder::root(&gone).unwrap();
    fs::remove_dir(&gone).unwrap();
    let asked = Asked::whole();
    let ask = asked.ask(root.path());
    let mut walk = Walk::new(&ask).unwrap();
    let failure = walk.look(at.as_fd(), "pub/epel/gone").map(|_| ()).unwrap_err();
    assert!(is_retry(&failure) && failure.message().contains("vanished"), "{failure}");
}

/// While another thread renames files in and out, a walk says all the files or that it can't: never half of them.
#[test]
fn a_walk_amid_changes_sees_all_or_fails() {
    let root = mirror();
    let packages = root.path().join("pub/epel/9/x86_64/Packages");
    for number in 0..200 {
        fs::write(packages.join(format!("{number}.rpm")), b"").unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                let (one, other) = (packages.join(format!("{number}.rpm")), packages.join(format!("{number}.rpm.new")));
                fs::rename(&one, &other).unwrap();
                fs::rename(&other, &one).unwrap();
                number = (number + 1) % 200;
            }
        });
        for _ in 0..4 {
            match walked(&root, &Asked::whole()) {
                Ok(tree) => assert_eq!(file_names(found(&tree, "pub/epel/9/x86_64/Packages")).len(), 201),
                Err(failure) => assert!(is_retry(&failure), "{failure}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// The database keeps seconds: what changes in the second in which it was read must not be recorded as read.
#[test]
fn a_second_is_over_before_its_directories_count_as_read() {
    let root = mirror();
    let tree = walked(&root, &Asked::whole()).unwrap();
    let newest = tree.directories.values().map(|found| found.time).max().unwrap();
    assert!(settle::seconds(settle::now()) > newest);
    // One that changed since it was read.
    let asked = Asked::whole();
    let ask = asked.ask(root.path());
    let mut walk = Walk::new(&ask).unwrap();
    walk.began = 0;
    let at = folder::root(&root.path().join("pub/epel/9/iso")).unwrap();
    walk.look(at.as_fd(), "pub/epel/9/iso").unwrap();
    walk.settle().unwrap();
    file(root.path(), "pub/epel/9/iso/late.iso", b"");
    let failure = walk.settle().unwrap_err();
    assert!(is_retry(&failure) && failure.message().contains("pub/epel/9/iso"), "{failure}");
}
