//! The handler mirror-db against what the real tools wrote: the golden tables of umdl and scan-primary-mirror, row by row, through
//! the built daemon. They are no part of the repository: without `../shared/golden/mirror-db` the tests say so and end.

mod tables;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use reactor_tests::daemon::{Daemon, reactor_json, reactor_output};
use reactor_tests::postgres::Postgres;
use reactor_tests::process::command;
use reactor_tests::{Scratch, wait_until};
use rusqlite::Connection;
use serde_json::Value;

use tables::{counts, dump, dump_postgres, without};

const LONG: Duration = reactor_tests::PATIENCE;
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden/mirror-db");
/// The list's name, where the real tools look for it.
const LIST: &str = "mirror/pub/epel/fullfiletimelist-epel";
/// The repository that changes, in the list's words.
const CHANGED: &str = "9/Everything/x86_64";

/// Where the rows must differ from umdl's, and why: the row's beginning, umdl's column, ours. They are the table in the
/// handler's README. Where scan-primary-mirror has the row too, ours is as its.
const DIFFERENCES: [(&str, usize, Option<&str>, &str); 2] = [
    // A directory that nobody gets to is not readable.
    ("directory\tpub/epel/stage/hidden\t", 2, Some("t"), "f"),
    // The list's time, as of all other files; umdl asks the disk (the time at which this copy of the tree was made).
    ("file_detail\tpub/epel/9/Everything/x86_64/iso\tFedora-EPEL-9.iso\t", 3, None, "1700071590"),
];

/// A tree, its list, a database and the rules for them.
struct Site {
    /// Else it is a file of SQLite.
    server: Option<Postgres>,
    scratch: Scratch,
}

fn golden(file: &str) -> Option<String> {
    let path = Path::new(GOLDEN).join(file);
    let text = fs::read_to_string(&path);
    if text.is_err() {
        eprintln!("{} is not here: nothing is compared", path.display());
    }
    text.ok()
}

fn rows(file: &str) -> Option<Vec<String>> {
    Some(golden(file)?.lines().map(str::to_owned).collect())
}

/// `None` where the golden files are not here. On SQLite.
fn site(name: &str, list: bool) -> Option<Site> {
    let (schema, seed) = (golden("mm2_schema_sqlite.sql")?, golden("seed.sql")?);
    let site = Site { server: None, scratch: tree(name, list)? };
    let database = Connection::open(site.dir().join("mirrors.db")).expect("a database");
    database.execute_batch(&schema).expect("the schema");
    // What an empty list of files looks like in the column, as umdl left it before the golden runs.
    database.execute_batch(&seed.replace("FILESNULL", "X'5B5D'")).expect("the first rows");
    site.write_rules(list, 1000, 20);
    Some(site)
}

/// The same on PostgreSQL, with the list.
fn site_on_postgres(name: &str) -> Option<Site> {
    let (schema, seed) = (golden("mm2_schema_postgresql.sql")?, golden("seed.sql")?);
    let scratch = tree(name, true)?;
    let server = Postgres::start(scratch.path(), "");
    server.sql("postgres", "create database mm");
    server.sql("mm", &schema);
    server.sql("mm", &seed.replace("FILESNULL", "'\\x5b5d'"));
    // The seed says its ids itself.
    for table in ["arch", "product", "directory", "category", "version"] {
        server.sql("mm", &format!("select setval(pg_get_serial_sequence('public.{table}', 'id'), 100)"));
    }
    let site = Site { server: Some(server), scratch };
    site.write_rules(true, 1000, 20);
    Some(site)
}

/// The golden tree.
fn tree(name: &str, list: bool) -> Option<Scratch> {
    let text = golden("fullfiletimelist-epel")?;
    let scratch = Scratch::new(name);
    let dir = scratch.path();
    let made =
        command("python3").arg(Path::new(GOLDEN).join("mktree.py")).arg(dir.join("mirror")).arg("small").output();
    let made = made.expect("python3");
    assert!(made.status.success(), "mktree.py: {}", String::from_utf8_lossy(&made.stderr));
    if list {
        fs::write(dir.join(LIST), text).expect("the list");
    }
    Some(scratch)
}

impl Site {
    fn dir(&self) -> &Path {
        self.scratch.path()
    }

    fn write_rules(&self, list: bool, changes: usize, deletes: usize) {
        let list = if list { format!(", list: ./{LIST}") } else { String::new() };
        let database = self.server.as_ref().map_or_else(
            || "{ sqlite: ./mirrors.db }".to_owned(),
            |server| {
                let host = server.socket().display();
                format!("{{ postgresql: {{ host: {host}, port: {}, name: mm, user: postgres }} }}", server.port())
            },
        );
        let rules = format!(
            "version: 1
bus: {{ b: {{ fedmsg: ['tcp://127.0.0.1:9'] }} }}
handlers:
  mirrors:
    use: mirror-db
    database: {database}
    root: ./mirror
    categories: {{ Fedora EPEL: {{ path: pub/epel{list} }} }}
    prefixes:
      - {{ path: /testing/, prefix: 'testing-{{kind}}epel{{version}}' }}
      - {{ path: ^pub/epel/, prefix: 'epel-{{kind}}{{version}}' }}
    keep_details: 4d
rules:
  - {{ name: all of it, on: {{ every: 1d }}, do: mirrors, guard: {{ changes: {changes}, deletes: {deletes} }}, retry: {{ wait: 1s, times: 2 }} }}
"
        );
        fs::write(self.dir().join("rules.yaml"), rules).expect("the rules");
    }

    fn start(&self) -> Daemon {
        Daemon::start(self.dir(), &["run", "rules.yaml"])
    }

    /// The first fill is done, by the daemon.
    fn filled(&self) -> Daemon {
        let mut daemon = self.start();
        wait_until("the first fill", LONG, || {
            assert!(!daemon.has_ended(), "{}", self.scratch.log());
            let states = self.states();
            assert!(states.iter().all(|state| state != "failed" && state != "held"), "{}", self.scratch.log());
            states == ["done"]
        });
        daemon
    }

    /// All reactions, the newest first.
    fn states(&self) -> Vec<String> {
        if reactor_output(self.dir(), &["status"]).status.code() != Some(0) {
            return Vec::new();
        }
        let text = |row: Value| row["state"].as_str().expect("a state").to_owned();
        reactor_json(self.dir(), &["list"]).into_iter().map(text).collect()
    }

    fn rows(&self) -> Vec<String> {
        match &self.server {
            Some(server) => dump_postgres(server, "mm"),
            None => dump(&self.dir().join("mirrors.db")),
        }
    }

    fn mend(&self) -> Output {
        reactor_output(self.dir(), &["reconcile", "mirrors", "--apply"])
    }

    fn top(&self) -> PathBuf {
        self.dir().join("mirror/pub/epel")
    }

    /// What happens on a master: one package, new metadata, one directory; and the list of it. When that was.
    fn change(&self) -> i64 {
        let repository = self.top().join(CHANGED);
        fs::write(repository.join("Packages/a/anew-1-1.el.x86_64.rpm"), "new").expect("a package");
        fs::create_dir(repository.join("images")).expect("a directory");
        let now = fs::metadata(repository.join("images")).expect("the directory").mtime();
        let repomd = repository.join("repodata/repomd.xml");
        let old = fs::read_to_string(&repomd).expect("repomd.xml");
        fs::write(&repomd, old.replace("<timestamp>1700000002<", &format!("<timestamp>{now}<"))).expect("repomd.xml");
        assert_ne!(fs::read_to_string(&repomd).expect("repomd.xml"), old);
        let list = self.dir().join(LIST);
        fs::write(&list, changed_list(&fs::read_to_string(&list).expect("the list"), &repomd, now)).expect("the list");
        now
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The list after [`Site::change`].
fn changed_list(list: &str, repomd: &Path, now: i64) -> String {
    let size = fs::metadata(repomd).expect("repomd.xml").len();
    let mut changed = String::new();
    let mut section = "";
    for line in list.lines() {
        section = if line.starts_with('[') { line } else { section };
        let words: Vec<&str> = line.split('\t').collect();
        let path = words.last().and_then(|path| path.strip_prefix(CHANGED)).unwrap_or("none of ours");
        let line = match (section, path) {
            ("[Files]", "/repodata/repomd.xml") => format!("{now}\tf\t{size}\t{CHANGED}{path}"),
            ("[Files]", "" | "/repodata" | "/Packages/a") => format!("{now}\td\t4096\t{CHANGED}{path}"),
            (_, "/repodata/repomd.xml") => format!("{}\t{CHANGED}{path}", sum(section, repomd)),
            _ => line.to_owned(),
        };
        changed.push_str(&line);
        changed.push('\n');
        if line == "[Files]" {
            let new =
                format!("{now}\tf\t3\t{CHANGED}/Packages/a/anew-1-1.el.x86_64.rpm\n{now}\td\t4096\t{CHANGED}/images\n");
            changed.push_str(&new);
        }
    }
    changed
}

/// As the section names it.
fn sum(section: &str, file: &Path) -> String {
    let program = match section {
        "[Checksums MD5]" => "md5sum",
        "[Checksums SHA1]" => "sha1sum",
        "[Checksums SHA256]" => "sha256sum",
        _ => "sha512sum",
    };
    let output = command(program).arg(file).output().expect(program);
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().expect("a sum").to_owned()
}

/// umdl's rows, with [`DIFFERENCES`].
fn expected(umdl: &[String]) -> Vec<String> {
    let mut met = 0;
    let mut rows = umdl.to_vec();
    for row in &mut rows {
        let Some((_, column, theirs, ours)) = DIFFERENCES.into_iter().find(|(begins, ..)| row.starts_with(begins))
        else {
            continue;
        };
        let mut words: Vec<&str> = row.split('\t').collect();
        assert!(theirs.is_none_or(|theirs| theirs == words[column]), "umdl's row is another one: {row}");
        words[column] = ours;
        *row = words.join("\t");
        met += 1;
    }
    assert_eq!(met, DIFFERENCES.len(), "a row that should differ is not there");
    rows
}

#[test]
fn the_first_run_writes_what_umdl_writes_in_two() {
    let (Some(umdl), Some(site)) = (rows("umdl_python_run2.tsv"), site("mirror-golden", true)) else { return };
    writes_what_umdl_writes(&site, &umdl);
}

#[test]
fn the_first_run_on_postgresql_writes_what_umdl_writes_in_two() {
    let Some(umdl) = rows("umdl_python_run2.tsv") else { return };
    let Some(site) = site_on_postgres("mirror-golden-postgres") else { return };
    writes_what_umdl_writes(&site, &umdl);
}

fn writes_what_umdl_writes(site: &Site, umdl: &[String]) {
    let daemon = site.filled();
    let (ours, expected) = (site.rows(), expected(umdl));
    assert_eq!(without(&ours, &expected), [""; 0], "rows that umdl has not");
    assert_eq!(without(&expected, &ours), [""; 0], "rows that only umdl has");
    assert_eq!(ours.len(), expected.len());
    // Where it differs, it is as the other real tool.
    let scan = rows("scan_primary_mirror_run1.tsv").expect("the other one");
    for (begins, column, ..) in DIFFERENCES {
        let word = |rows: &[String]| {
            let row = rows.iter().find(|row| row.starts_with(begins)).expect(begins);
            row.split('\t').nth(column).map(str::to_owned)
        };
        assert_eq!(word(&ours), word(&scan), "{begins}");
    }
    let again = site.mend();
    assert!(again.status.success() && said(&again).contains("nothing to do"), "{}", said(&again));
    assert_eq!(site.rows(), ours);
    drop(daemon);
}

#[allow(clippy::disallowed_methods, reason = "a test's own clock: what a change on a master is stamped with")]
#[test]
fn one_new_package_new_metadata_and_one_new_directory_are_six_rows() {
    let Some(site) = site("mirror-golden-change", true) else { return };
    let _daemon = site.filled();
    let before = site.rows();
    assert_eq!(counts(&before), [139, 139, 3, 20, 21]);
    let now = site.change();
    let output = site.mend();
    assert!(output.status.success(), "{}{}", said(&output), site.scratch.log());
    let after = site.rows();
    assert_eq!(counts(&after), [140, 140, 3, 20, 22]);
    let gone = without(&before, &after);
    let begins = |rows: &[String]| {
        rows.iter().map(|row| row.split('\t').take(2).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let changed = ["", "/Packages/a", "/repodata"].map(|name| format!("directory pub/epel/{CHANGED}{name}"));
    assert_eq!(begins(&gone), changed);
    let new = without(&after, &before);
    let mut expected = changed.to_vec();
    expected.insert(2, format!("directory pub/epel/{CHANGED}/images"));
    expected.push("category_directory Fedora EPEL".into());
    expected.push(format!("file_detail pub/epel/{CHANGED}/repodata"));
    assert_eq!(begins(&new), expected);
    assert!(
        new[1].contains(&format!("{{\"name\": \"anew-1-1.el.x86_64.rpm\", \"size\": 3, \"timestamp\": {now}}}")),
        "{}",
        new[1]
    );
    assert!(new[2].ends_with(&format!("images\tt\t{now}\t\\N")), "{}", new[2]);
    assert!(new[5].contains(&format!("repomd.xml\t{now}\t")), "{}", new[5]);
    let again = site.mend();
    assert!(again.status.success() && said(&again).contains("nothing to do"), "{}", said(&again));
}

#[test]
fn a_half_empty_mount_is_held_and_an_empty_one_is_no_answer() {
    let Some(site) = site("mirror-golden-mount", false) else { return };
    let _daemon = site.filled();
    let before = site.rows();
    assert_eq!(counts(&before), [139, 139, 3, 20, 21]);
    // One directory of 139 is still there.
    fs::rename(site.top(), site.dir().join("away")).expect("the mount is gone");
    fs::create_dir_all(site.top().join("empty")).expect("a directory");
    let output = site.mend();
    assert!(output.status.code() == Some(1) && said(&output).contains("held"), "{}", said(&output));
    assert_eq!(site.states()[0], "held");
    assert_eq!(site.rows(), before);
    fs::remove_dir(site.top().join("empty")).expect("nothing is there");
    let output = reactor_output(site.dir(), &["reconcile", "mirrors", "rules.yaml"]);
    assert!(output.status.code() == Some(1) && !said(&output).contains("would be"), "{}", said(&output));
    assert_eq!(site.rows(), before);
}

#[test]
fn a_list_that_lost_most_of_its_lines_is_held() {
    let Some(site) = site("mirror-golden-half", true) else { return };
    let _daemon = site.filled();
    let before = site.rows();
    let list = fs::read_to_string(site.dir().join(LIST)).expect("the list");
    let some = &list[..list[..list.len() / 4].rfind('\n').expect("a line") + 1];
    fs::write(site.dir().join(LIST), format!("{some}\n[End]\n")).expect("the list");
    let output = site.mend();
    assert!(output.status.code() == Some(1) && said(&output).contains("held"), "{}", said(&output));
    assert_eq!(site.rows(), before);
}
