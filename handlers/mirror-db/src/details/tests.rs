use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use regex::RegexSet;
use tempfile::TempDir;

use super::*;
use crate::rows::Part;
use crate::tree::tests::{file, is_retry};
use crate::tree::{Ask, walk};

const REPOMD: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>9999999999</revision>
<data type="primary"><checksum type="sha256">00</checksum><timestamp>1700000100.75</timestamp></data>
<data type="other"><timestamp> 1700000102 </timestamp></data><data type="x"><timestamp>1700000101</timestamp></data></repomd>
"#;
const SHA256: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn mirror() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    file(root.path(), "pub/epel/9/repodata/repomd.xml", REPOMD.as_bytes());
    file(root.path(), "pub/epel/9/iso/a.iso", b"iso");
    file(root.path(), "pub/epel/9/iso/A-CHECKSUM", format!("# x\nSHA256 (a.iso) = {SHA256}\n").as_bytes());
    root
}

fn tree(root: &TempDir, times: &BTreeMap<&str, i64>) -> Tree {
    let excludes = RegexSet::empty();
    walk(&Ask { root: root.path(), top: "pub/epel", part: &Part::Whole, times, excludes: &excludes }).unwrap()
}

fn first(root: &TempDir) -> (Vec<Detail>, Vec<String>) {
    read(root.path(), &tree(root, &BTreeMap::new()), &[]).unwrap()
}

fn rows(details: &[Detail]) -> Vec<(i32, Detail)> {
    (1..).zip(details.iter().cloned()).collect()
}

#[test]
fn both_kinds_are_read() {
    let root = mirror();
    let (details, notes) = first(&root);
    assert!(notes.is_empty(), "{notes:?}");
    let [iso, repomd] = details.as_slice() else { panic!("{details:?}") };
    assert_eq!((iso.filename.as_str(), iso.size), ("a.iso", Some(3)));
    assert_eq!(iso.sums, Sums { sha256: Some(SHA256.to_owned()), ..Sums::default() });
    assert_eq!((repomd.timestamp, repomd.size), (Some(1_700_000_102), Some(REPOMD.len() as i64)));
    assert_eq!(repomd.sums, sums::of(REPOMD.as_bytes()));
}

#[test]
fn sums_are_the_known_ones() {
    let sums = sums::of(b"abc");
    assert_eq!(sums.md5.as_deref(), Some("900150983cd24fb0d6963f7d28e17f72"));
    assert_eq!(sums.sha1.as_deref(), Some("a9993e364706816aba3e25717850c26c9cd0d89d"));
    assert_eq!(sums.sha256.as_deref(), Some("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
    assert!(sums.sha512.unwrap().starts_with("ddaf35a193617abacc417349ae20413112e6fa4e89a97ea2"));
}

/// Run again, the same rows come out: also where the first time came from a file list.
#[test]
fn a_second_look_makes_no_second_row() {
    let root = mirror();
    file(root.path(), "pub/epel/atomic/summary", b"s");
    let first_tree = tree(&root, &BTreeMap::new());
    let (mut details, _) = read(root.path(), &first_tree, &[]).unwrap();
    assert_eq!(details.len(), 3);
    for detail in details.iter_mut().filter(|detail| detail.filename != "repomd.xml") {
        detail.timestamp = Some(5);
    }
    let times = first_tree.directories.iter().map(|(name, found)| (name.as_str(), found.time)).collect();
    let unchanged = tree(&root, &times);
    assert!(unchanged.directories.values().all(|found| found.files == Files::Unchanged));
    let (again, _) = read(root.path(), &unchanged, &rows(&details)).unwrap();
    assert_eq!(again, details);
    // Without those rows the disk is asked.
    let (anew, _) = read(root.path(), &unchanged, &[]).unwrap();
    assert_eq!(anew.len(), 3);
    assert!(anew.iter().all(|detail| detail.timestamp > Some(5)));
}

#[test]
fn a_changed_directory_gets_the_time_of_the_tree() {
    let root = mirror();
    let mut tree = tree(&root, &BTreeMap::new());
    let found = tree.directories.get_mut("pub/epel/9/iso").unwrap();
    found.files = Files::All(vec![File { name: "a.iso".to_owned(), size: 77, time: 1234 }]);
    let (details, _) = read(root.path(), &tree, &[]).unwrap();
    assert_eq!((details[0].size, details[0].timestamp), (Some(77), Some(1234)));
}

#[test]
fn a_repomd_that_the_list_and_the_database_know_is_not_read() {
    let root = mirror();
    let mut tree = tree(&root, &BTreeMap::new());
    let (details, _) = read(root.path(), &tree, &[]).unwrap();
    let repomd = details[1].clone();
    fs::remove_file(root.path().join("pub/epel/9/repodata/repomd.xml")).unwrap();
    let failure = read(root.path(), &tree, &rows(&details)).unwrap_err();
    assert!(is_retry(&failure) && failure.message().contains("pub/epel/9/repodata/repomd.xml"), "{failure}");
    let listed = Sums { md5: None, ..repomd.sums.clone() };
    tree.sums.insert("pub/epel/9/repodata/repomd.xml".to_owned(), listed.clone());
    assert!(read(root.path(), &tree, &rows(&details)).unwrap().0.contains(&repomd));
    let other = Sums { sha256: Some(SHA256.to_owned()), ..listed };
    tree.sums.insert("pub/epel/9/repodata/repomd.xml".to_owned(), other);
    assert!(read(root.path(), &tree, &rows(&details)).is_err(), "other sums: it must be read");
}

#[test]
fn what_cannot_be_understood_is_passed_over_with_a_sentence() {
    let root = mirror();
    for (content, why) in [
        ("<html></html>", "no repomd.xml"),
        ("404 not found", "no XML"),
        ("", "no XML"),
        ("<repomd/>", "no repomd.xml"),
        (&REPOMD[..300], "no XML"),
        (&REPOMD.replace("</repomd>", ""), "cut short"),
        ("<repomd><revision>1</revision></repomd>", "no timestamp"),
        ("<repomd><data><timestamp>soon</timestamp></data></repomd>", "is no number"),
        ("<repomd><data><timestamp>&x;1</timestamp></data></repomd>", "an entity"),
        ("<repomd><timestamp>7</timestamp></repomd>", "no timestamp"),
    ] {
        file(root.path(), "pub/epel/9/repodata/repomd.xml", content.as_bytes());
        let (details, notes) = first(&root);
        assert_eq!(details.len(), 1, "{content}: the checksum file is read all the same");
        assert!(notes.len() == 1 && notes[0].contains(why) && notes[0].contains("9/repodata/repomd.xml"), "{notes:?}");
    }
    let large = fs::File::create(root.path().join("pub/epel/9/repodata/repomd.xml")).unwrap();
    large.set_len(CONTENT_BYTES_MAX + 1).unwrap();
    assert!(first(&root).1[0].contains("larger than"));
}

#[test]
fn entities_are_not_expanded() {
    let bomb = format!(
        "<!DOCTYPE r [<!ENTITY a \"{}\"><!ENTITY b \"&a;&a;&a;\"><!ENTITY x SYSTEM \"file:///etc/passwd\">]>\
        <repomd><revision>&b;&x;</revision><data><timestamp>5</timestamp></data></repomd>",
        "x".repeat(1000)
    );
    assert_eq!(repomd::timestamp(bomb.as_bytes()), Ok(5));
}

#[test]
fn no_link_is_followed() {
    let root = mirror();
    let tree = tree(&root, &BTreeMap::new());
    let repodata = root.path().join("pub/epel/9/repodata");
    fs::remove_file(repodata.join("repomd.xml")).unwrap();
    symlink("/etc/passwd", repodata.join("repomd.xml")).unwrap();
    assert!(is_retry(&read(root.path(), &tree, &[]).unwrap_err()));
    fs::remove_file(repodata.join("repomd.xml")).unwrap();
    fs::rename(&repodata, root.path().join("elsewhere")).unwrap();
    file(root.path(), "elsewhere/repomd.xml", REPOMD.as_bytes());
    symlink(root.path().join("elsewhere"), &repodata).unwrap();
    assert!(is_retry(&read(root.path(), &tree, &[]).unwrap_err()));
}

#[test]
fn checksum_files_are_those_of_umdl() {
    use named::Algorithm::{Md5, Sha1, Sha256, Sha512};
    for (name, algorithm) in [
        ("Fedora-41-x86_64-CHECKSUM", Some(Sha256)),
        ("Fedora-CHECKSUM.asc", Some(Sha256)),
        ("sha256sum.txt", Some(Sha256)),
        ("sha256sum_txt.gpg", Some(Sha256)),
        ("SHA256SUM", None),
        ("a.iso.sha1sum", Some(Sha1)),
        ("SHA1SUM", Some(Sha1)),
        ("xSHA1SUM", None),
        ("sha1sum.txt", Some(Sha1)),
        ("a.md5sum", Some(Md5)),
        ("MD5SUM.txt", Some(Md5)),
        ("a.sha512sum", Some(Sha512)),
        ("SHA512SUM", Some(Sha512)),
        ("CHECKSUM", None),
        ("md5sum", None),
    ] {
        assert_eq!(named::algorithm(name), algorithm, "{name}");
        assert_eq!(is_read(name), algorithm.is_some(), "{name}");
    }
    assert!(is_read("repomd.xml") && is_read("summary") && !is_read("summary.sig") && !is_read("primary.xml"));
}

#[test]
fn both_styles_of_line_and_nothing_else() {
    let text = format!(
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# a.iso: 3 bytes\nSHA256 (a.iso) = {SHA256}\n\
        {upper}  *b.iso\r\n{SHA256} pxeboot/vmlinuz\nSHA256 (../x) = {SHA256}\nSHA512 (c) = {SHA256}\nMD5 (d) = 00\n\
        {SHA256}  ..\n{SHA256}0  e\nSHA256 f = {SHA256}\n",
        upper = SHA256.to_uppercase()
    );
    let mut sums = BTreeMap::new();
    named::read(text.as_bytes(), named::Algorithm::Sha256, &mut sums);
    assert_eq!(sums.keys().collect::<Vec<_>>(), ["a.iso", "b.iso"]);
    assert!(sums.values().all(|sums| sums.sha256.as_deref() == Some(SHA256) && sums.md5.is_none()));
}

#[test]
fn sums_of_one_file_from_many_checksum_files_are_one_row() {
    let root = mirror();
    let md5 = "d41d8cd98f00b204e9800998ecf8427e";
    file(root.path(), "pub/epel/9/iso/MD5SUM", format!("{md5} a.iso\n{md5} not-there.iso\n{md5} sub\n").as_bytes());
    fs::create_dir(root.path().join("pub/epel/9/iso/sub")).unwrap();
    let (details, _) = first(&root);
    let iso: Vec<_> = details.iter().filter(|detail| detail.directory == "pub/epel/9/iso").collect();
    assert_eq!(iso.len(), 1, "{iso:?}");
    assert_eq!(iso[0].sums, Sums { md5: Some(md5.to_owned()), sha256: Some(SHA256.to_owned()), ..Sums::default() });
}
