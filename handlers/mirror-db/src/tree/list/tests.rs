use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::tree::tests::{Asked, file_names, found, is_retry, names};

const LIST: &str = "[Version]\n2\n\n[Files]\n\
    10\tf\t7\t9/x86_64/Packages/a.rpm\n\
    11\td\t4096\t9\n12\td\t4096\t9/x86_64\n13\td\t4096\t9/x86_64/Packages\n14\td\t4096\t9/x86_64/repodata\n\
    15\tf\t9\t9/x86_64/repodata/repomd.xml\n16\tl\t9\tlatest\n17\tf\t3\tRPM-GPG-KEY\n\
    18\td-\t4096\tstage\n19\td*\t4096\tstage/hidden\n-20\tf*\t1\tstage/hidden/x\n\
    \n[Checksums SHA1]\n0123456789abcdef0123456789ABCDEF01234567\t9/x86_64/repodata/repomd.xml\n\
    \n[Something new]\nwhatever it says\n\n[End]\n";

fn of(text: &[u8], base: &str) -> (TempDir, List) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("fullfiletimelist-epel");
    fs::write(&path, text).unwrap();
    (place, List { path, base: base.to_owned() })
}

fn told(text: &str, asked: &Asked) -> Result<Tree, Failure> {
    let (_place, list) = of(text.as_bytes(), "pub/epel");
    read(&list, &asked.ask(Path::new("/nowhere")))
}

fn refused(text: &str) -> String {
    let failure = told(text, &Asked::whole()).unwrap_err();
    assert!(is_retry(&failure) && failure.hint().is_some(), "{failure}");
    failure.message().to_owned()
}

#[test]
fn everything_is_found_in_any_order() {
    let tree = told(LIST, &Asked::whole()).unwrap();
    assert_eq!(
        names(&tree),
        [
            "pub/epel",
            "pub/epel/9",
            "pub/epel/9/x86_64",
            "pub/epel/9/x86_64/Packages",
            "pub/epel/9/x86_64/repodata",
            "pub/epel/stage",
            "pub/epel/stage/hidden"
        ]
    );
    let top = found(&tree, "pub/epel");
    assert_eq!((top.time, top.readable, file_names(top)), (0, true, vec!["RPM-GPG-KEY"]));
    let packages = found(&tree, "pub/epel/9/x86_64/Packages");
    assert_eq!(packages.files, Files::All(vec![File { name: "a.rpm".to_owned(), size: 7, time: 10 }]));
    assert_eq!(packages.time, 13);
    assert!(found(&tree, "pub/epel/9/x86_64").has_repodata);
    assert_eq!(found(&tree, "pub/epel/9/x86_64/repodata").read, ["repomd.xml"]);
    assert!(!found(&tree, "pub/epel/stage").readable && !found(&tree, "pub/epel/stage/hidden").readable);
    let Files::All(old) = &found(&tree, "pub/epel/stage/hidden").files else { panic!("not looked at") };
    assert_eq!(old.first().unwrap().time, -20);
    let sums = tree.sums.get("pub/epel/9/x86_64/repodata/repomd.xml").unwrap();
    assert_eq!(sums.sha1.as_deref(), Some("0123456789abcdef0123456789abcdef01234567"));
    assert!(tree.notes.is_empty(), "{:?}", tree.notes);
}

#[test]
fn files_of_unchanged_directories_are_not_kept() {
    let mut asked = Asked::whole();
    asked.times.extend([("pub/epel", 0), ("pub/epel/9/x86_64/repodata", 14), ("pub/epel/9/x86_64/Packages", 12)]);
    let tree = told(LIST, &asked).unwrap();
    assert_eq!(found(&tree, "pub/epel").files, Files::Unchanged);
    let repodata = found(&tree, "pub/epel/9/x86_64/repodata");
    assert_eq!((&repodata.files, &repodata.read), (&Files::Unchanged, &vec!["repomd.xml".to_owned()]));
    assert_eq!(file_names(found(&tree, "pub/epel/9/x86_64/Packages")), ["a.rpm"]);
}

#[test]
fn only_the_part_that_was_asked_about_is_in_it() {
    let tree = told(LIST, &Asked::below(&["pub/epel/9/x86_64", "pub/epel/7"])).unwrap();
    assert_eq!(names(&tree), ["pub/epel/9/x86_64", "pub/epel/9/x86_64/Packages", "pub/epel/9/x86_64/repodata"]);
    assert_eq!(tree.sums.len(), 1);
    let tree = told(LIST, &Asked::below(&["pub/epel/stage/hidden"])).unwrap();
    assert!(!found(&tree, "pub/epel/stage/hidden").readable, "as what is above it says");
    assert!(tree.sums.is_empty());
}

#[test]
fn readable_is_inherited_though_the_list_says_nothing() {
    let text = LIST.replace("11\td\t", "11\td-\t");
    let tree = told(&text, &Asked::below(&["pub/epel/9/x86_64/Packages"])).unwrap();
    assert!(!found(&tree, "pub/epel/9/x86_64/Packages").readable);
}

#[test]
fn a_list_made_above_the_top_has_a_line_for_it() {
    let text = "[Version]\n2\n[Files]\n5\td-\t1\tlinux\n6\td\t1\tlinux/41\n7\tf\t1\tlinux/41/x\n8\td\t1\textras\n\
        9\tf\t1\textras/y\n9\tf\t1\tlinux-old\n[End]\n";
    let (_place, list) = of(text.as_bytes(), "pub/fedora");
    let mut asked = Asked::whole();
    asked.top = "pub/fedora/linux";
    let tree = read(&list, &asked.ask(Path::new("/"))).unwrap();
    assert_eq!(names(&tree), ["pub/fedora/linux", "pub/fedora/linux/41"]);
    assert_eq!((found(&tree, "pub/fedora/linux").time, found(&tree, "pub/fedora/linux/41").readable), (5, false));
    assert!(tree.notes.is_empty(), "{:?}", tree.notes);
    // Without that line, nothing is known of it.
    let (_place, list) = of(text.replace("5\td-\t1\tlinux\n", "").as_bytes(), "pub/fedora");
    assert!(is_retry(&read(&list, &asked.ask(Path::new("/"))).unwrap_err()));
    let (_place, list) = of(text.as_bytes(), "pub/fedora/linux/41");
    assert!(!is_retry(&read(&list, &asked.ask(Path::new("/"))).unwrap_err()), "it is a list of something else");
}

#[test]
fn excluded_and_homeless_are_left_out() {
    let text = LIST.replace(
        "[Files]\n",
        "[Files]\n1\td\t1\t.snapshot\n2\td\t1\t.snapshot/in\n3\tf\t1\t.snapshot/in/x\n4\tf\t1\tsecret/y\n5\tf\t1\tsecret/z\n",
    );
    let tree = told(&text, &Asked::whole()).unwrap();
    assert!(names(&tree).iter().all(|name| !name.contains("snapshot")));
    assert_eq!(tree.notes, ["passed over, the list has files in pub/epel/secret, but no line for itself"]);
}

#[test]
fn names_that_are_no_text_are_left_out_and_said() {
    let mut text = LIST.as_bytes().to_vec();
    let at = LIST.find("10\tf").unwrap();
    text.splice(at..at, b"1\td\t1\tb\xffd\n2\tf\t1\tb\xffd/x\n3\tf\t1\tn\xffme\n".to_owned());
    let (_place, list) = of(&text, "pub/epel");
    let tree = read(&list, &Asked::whole().ask(Path::new("/"))).unwrap();
    assert_eq!(file_names(found(&tree, "pub/epel")), ["RPM-GPG-KEY"]);
    assert_eq!(tree.notes.len(), 2, "{:?}", tree.notes);
    assert!(tree.notes.iter().any(|note| note.ends_with("b\\xffd")), "{:?}", tree.notes);
}

#[test]
fn what_is_no_list_is_refused_with_its_line() {
    for (from, to, line) in [
        ("[Version]\n2", "[Version]\n3", "line 2: version 3"),
        ("[Version]\n2\n", "", "line 2: no [Version]"),
        ("11\td", "x\td", "line 6: `x` is no time"),
        ("11\td\t4096", "11\td\tbig", "line 6"),
        ("11\td\t", "11\tdx\t", "line 6: `dx` is no type"),
        ("11\td\t4096\t9\n", "11\td\t4096\n", "line 6"),
        ("4096\t9\n", "4096\t9/../../etc\n", "line 6: `.` or `..`"),
        ("4096\t9\n", "4096\t9//x\n", "line 6: an empty part"),
        ("4096\t9\n", "4096\t/9\n", "line 6: an empty part"),
        ("4096\t9\n", "4096\t9\r\n", "line 6: a control character"),
        ("4096\t9\n", "4096\t9\tx\n", "line 6: a control character"),
        ("0123456789abcdef0", "123456789abcdef0", "a checksum is 40"),
        ("[End]\n", "[End]\nmore\n", "more after [End]"),
        ("[End]\n", "", "without [End]"),
        ("[Files]", "[Other]", "no [Files]"),
        ("12\td\t4096\t9/x86_64\n", "12\td\t4096\t9/x86_64\n12\td\t4096\t9/x86_64\n", "has two lines"),
        ("17\tf", "17\tf\t3\tRPM-GPG-KEY\n17\tf", "has two lines"),
    ] {
        assert!(LIST.contains(from), "{from}");
        // What stands before [Version] goes with it; the first match is the one that counts.
        let said = refused(&LIST.replacen(from, to, 1));
        assert!(said.contains(line), "{to:?}: {said}");
    }
    refused("");
    refused("\n");
    refused("[Version]\n2\n[Files]\n[End]\n");
    refused(&format!("[Version]\n2\n[Files]\n1\tf\t1\t{}\n[End]\n", "x".repeat(20_000)));
    let failure = read(
        &List { path: PathBuf::from("/nowhere"), base: "pub/epel".to_owned() },
        &Asked::whole().ask(Path::new("/")),
    );
    assert!(is_retry(&failure.unwrap_err()));
}

#[test]
fn cut_short_anywhere_it_is_refused() {
    for end in 0..LIST.len() - 1 {
        assert!(told(&LIST[..end], &Asked::whole()).is_err(), "{end}");
    }
}

/// A file of the golden set, if that is here.
fn golden(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/mirror-db").join(name);
    if !path.exists() {
        eprintln!("{} is not here: not looked at", path.display());
        return None;
    }
    Some(path)
}

/// The list of the golden tree: 139 directories, 604 files.
#[test]
fn the_golden_list_is_whole() {
    let Some(path) = golden("fullfiletimelist-epel") else { return };
    let list = List { path, base: "pub/epel".to_owned() };
    let tree = read(&list, &Asked::whole().ask(Path::new("/nowhere"))).unwrap();
    let files = tree.directories.values().map(|found| file_names(found).len()).sum::<usize>();
    assert_eq!((tree.directories.len(), files), (139, 604));
    assert_eq!(tree.directories.values().filter(|found| found.has_repodata).count(), 20);
    assert_eq!(tree.sums.len(), 20);
    assert!(tree.sums.values().all(|sums| sums.md5.is_some() && sums.sha512.is_some()));
    assert_eq!(found(&tree, "pub/epel/9/Everything/x86_64/iso").read, ["Fedora-EPEL-9-x86_64-CHECKSUM"]);
    assert_eq!(file_names(found(&tree, "pub/epel/größe")), ["naïve file.txt"]);
    assert!(tree.notes.is_empty(), "{:?}", tree.notes);
}

/// Names, times and `readable` are umdl's, but for what is inside an unreadable directory.
#[test]
fn the_golden_list_says_what_umdl_wrote() {
    let (Some(path), Some(dump)) = (golden("fullfiletimelist-epel"), golden("umdl_python_run2.tsv")) else { return };
    let list = List { path, base: "pub/epel".to_owned() };
    let tree = read(&list, &Asked::whole().ask(Path::new("/nowhere"))).unwrap();
    let line = |name: &str, readable: bool, time: i64| format!("{name} {readable} {time}");
    let ours: Vec<String> =
        tree.directories.iter().map(|(name, found)| line(name, found.readable, found.time)).collect();
    let dump = fs::read_to_string(dump).unwrap();
    let mut theirs = Vec::new();
    for row in dump.lines().filter_map(|row| row.strip_prefix("directory\t")) {
        let columns: Vec<&str> = row.split('\t').collect();
        let readable = columns[1] == "t" && columns[0] != "pub/epel/stage/hidden";
        theirs.push(line(columns[0], readable, columns[2].parse().unwrap()));
    }
    theirs.sort_by(|one, other| one.split(' ').next().cmp(&other.split(' ').next()));
    assert_eq!(ours, theirs);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever stands in a list: no panic, and no name that leads out of the category.
    #[test]
    fn any_lines_are_refused_or_stay_inside(
        lines in proptest::collection::vec((any::<i32>(), "[fdlx][-*]?", "[0-9]{1,4}", "[a-z./\\xff\t]{0,12}"), 0..12),
        noise in proptest::collection::vec(any::<u8>(), 0..8),
        at in any::<prop::sample::Index>(),
    ) {
        let mut text = b"[Version]\n2\n[Files]\n1\td\t1\ta\n".to_vec();
        for (time, kind, size, path) in lines {
            text.extend_from_slice(format!("{time}\t{kind}\t{size}\t{path}\n").as_bytes());
        }
        text.extend_from_slice(b"[End]\n");
        let at = at.index(text.len());
        text.splice(at..at, noise);
        let (_place, list) = of(&text, "pub/epel");
        if let Ok(tree) = read(&list, &Asked::whole().ask(Path::new("/"))) {
            for name in tree.directories.keys() {
                prop_assert!(name == "pub/epel" || name.starts_with("pub/epel/"));
                prop_assert!(!name.split('/').any(|part| matches!(part, "" | "." | "..")));
                prop_assert!(!name.chars().any(char::is_control));
            }
        }
    }

    /// Cut anywhere before its end, a list is refused.
    #[test]
    fn any_cut_is_refused(names in proptest::collection::btree_set("[a-z]{1,9}", 1..30), at in any::<prop::sample::Index>()) {
        let lines: String = names.iter().map(|name| format!("1\td\t1\t{name}\n2\tf\t1\t{name}/x\n")).collect();
        let text = format!("[Version]\n2\n\n[Files]\n{lines}\n[End]\n");
        prop_assert!(told(&text, &Asked::whole()).is_ok());
        let cut = &text[..at.index(text.len() - 1)];
        prop_assert!(told(cut, &Asked::whole()).is_err());
    }
}
