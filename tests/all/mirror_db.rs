//! The handler `mirror-db` in the built daemon, with a real tree and SQLite: messages, half of a mount, lists, reconcile.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, UNIX_EPOCH};

use reactor_tests::daemon::{Daemon, reactor_output};
use reactor_tests::{Scratch, free_port, reactor_json, wait_until};
use rusqlite::Connection;
use serde_json::{Value, json};

const SOON: Duration = reactor_tests::PATIENCE;
const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/mirror-db/example/schema.sql");
/// What people put into the database before the first look.
const SEED: &str = "
    INSERT INTO arch (id, name, publiclist, primary_arch) VALUES (1, 'source', false, false), (2, 'x86_64', true, true), (3, 'aarch64', true, true);
    INSERT INTO product (id, name, publiclist) VALUES (1, 'EPEL', true);
    INSERT INTO directory (id, name, readable) VALUES (1, 'pub/epel', true);
    INSERT INTO category (id, name, canonicalhost, publiclist, admin_only, product_id, topdir_id)
        VALUES (1, 'Fedora EPEL', 'http://mirror.example.org', true, false, 1, 1);
    INSERT INTO category_directory (category_id, directory_id) VALUES (1, 1);";
/// A message from long ago: every list is newer.
const LONG_AGO: i64 = 1_500_000_000;

/// A mirror, its database, a bus, and perhaps a daemon.
struct Site {
    scratch: Scratch,
    bus: zmq::Socket,
    daemon: Option<Daemon>,
    sent: u64,
}

impl Site {
    /// With more words in the category's block and in the handler's. Nothing is started.
    fn new(name: &str, category: &Value, handler: &Value) -> Self {
        let scratch = Scratch::new(name);
        let (dir, port) = (scratch.path(), free_port());
        let mut epel = json!({"path": "pub/epel"});
        merge(&mut epel, category);
        let mut mirrors = json!({
            "use": "mirror-db", "database": {"sqlite": "./mirrors.db"}, "root": "./mirror",
            "categories": {"Fedora EPEL": epel},
            "prefixes": [{"path": "^pub/epel/", "prefix": "epel-{kind}{version}"}],
            "directories": [{"repo": "epel", "directories": ["pub/epel/{release}"]}],
            "list_takes": "1s",
        });
        merge(&mut mirrors, handler);
        // The guard lets everything pass: what is held is held by the handler itself.
        let rules = json!({
            "version": 1,
            "bus": {"b": {"fedmsg": [format!("tcp://127.0.0.1:{port}")], "trust": {"unsigned": "accept", "unlisted": "accept"}}},
            "handlers": {"mirrors": mirrors},
            "defaults": {
                "timeout": "60s", "retry": {"times": 2, "wait": "200ms", "up_to": "300ms"},
                "guard": {"changes": 100_000, "deletes": 100_000},
            },
            "rules": [
                {"name": "synced", "on": "org.example.sync", "key": "{{msg.repo}} {{msg.release}}", "do": "mirrors",
                    "with": {"repo": "{{msg.repo}}", "release": "{{msg.release}}"}},
                {"name": "named", "on": "org.example.tree", "key": "named", "do": "mirrors", "with": {"directories": "{{msg.directories}}"}},
                {"name": "all of it", "on": {"every": "1d"}, "do": "mirrors"},
            ],
        });
        fs::write(dir.join("rules.yaml"), format!("{rules:#}\n")).expect("the site");
        let database = Connection::open(dir.join("mirrors.db")).expect("a database");
        let schema = fs::read_to_string(SCHEMA).expect("handlers/mirror-db/example/schema.sql");
        database.execute_batch(&format!("{schema}\n{SEED}")).expect("the schema and the seed");
        let bus = zmq::Context::new().socket(zmq::XPUB).expect("a socket");
        bus.set_xpub_verbose(true).expect("an option");
        bus.set_rcvtimeo(20_000).expect("an option");
        bus.bind(&format!("tcp://127.0.0.1:{port}")).expect("bound");
        let site = Self { scratch, bus, daemon: None, sent: 0 };
        site.make_tree();
        site
    }

    /// EPEL in small: 3 versions, 2 arches, 6 repositories.
    fn make_tree(&self) {
        for version in ["8", "9", "10.0"] {
            for arch in ["x86_64", "aarch64"] {
                let base = format!("pub/epel/{version}/Everything/{arch}");
                for letter in ["a", "b", "k"] {
                    self.put(&format!("{base}/Packages/{letter}/{letter}pkg-1-1.el.{arch}.rpm"), "rpm");
                }
                self.put(&format!("{base}/repodata/repomd.xml"), &repomd(1_700_000_000));
            }
        }
    }

    fn dir(&self) -> &Path {
        self.scratch.path()
    }

    fn mirror(&self) -> PathBuf {
        self.dir().join("mirror")
    }

    /// Writes a file of the mirror, with the directories above it.
    fn put(&self, name: &str, text: &str) {
        let path = self.mirror().join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory of the mirror");
        fs::write(path, text).expect("a file of the mirror");
    }

    fn start(&mut self) {
        self.daemon = Some(Daemon::start(self.dir(), &["run", "rules.yaml"]));
        loop {
            let told =
                self.bus.recv_bytes(0).unwrap_or_else(|_| panic!("it does not subscribe: {}", self.scratch.log()));
            if told.first() == Some(&1) {
                return;
            }
        }
    }

    /// Starts it, and waits for the first look at the whole tree.
    fn fill(&mut self) {
        self.start();
        self.until("all of it", "done", 1);
        assert_eq!(self.names(), self.on_disk());
    }

    fn say(&mut self, topic: &str, sent: i64, msg: &Value) {
        self.sent += 1;
        let id = format!("2026-{}", self.sent);
        let body = json!({"topic": topic, "msg": msg, "msg_id": id, "timestamp": sent, "i": self.sent});
        self.bus.send_multipart([topic.as_bytes(), body.to_string().as_bytes()], 0).expect("sent");
    }

    fn synced(&mut self, release: &str) {
        self.say("org.example.sync", now(), &json!({"repo": "epel", "release": release}));
    }

    /// Reactions of a rule in a state.
    fn rows(&self, rule: &str, state: &str) -> Vec<Value> {
        let all = reactor_json(self.dir(), &["list"]);
        all.into_iter().filter(|row| row["rule"] == rule && row["state"] == state).collect()
    }

    fn until(&self, rule: &str, state: &str, n: usize) {
        wait_until(&format!("{n} of `{rule}` {state}\n{}", self.scratch.log()), SOON, || {
            self.rows(rule, state).len() == n
        });
    }

    fn reconcile(&self, apply: bool) -> (Option<i32>, String) {
        let output = match apply {
            true => reactor_output(self.dir(), &["reconcile", "mirrors", "--apply"]),
            false => reactor_output(self.dir(), &["reconcile", "mirrors", "rules.yaml"]),
        };
        (output.status.code(), said(&output))
    }

    fn database(&self) -> Connection {
        Connection::open(self.dir().join("mirrors.db")).expect("the database")
    }

    fn column(&self, sql: &str) -> Vec<String> {
        let database = self.database();
        let mut statement = database.prepare(sql).expect("a query");
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<Result<_, _>>().expect("texts")
    }

    /// Names of all directories in the database.
    fn names(&self) -> Vec<String> {
        self.column("SELECT name FROM directory ORDER BY CAST(name AS BLOB)")
    }

    /// All that the handler writes, as text.
    fn everything(&self) -> Vec<String> {
        [
            "SELECT id || name || readable || coalesce(ctime, '') || coalesce(CAST(files AS TEXT), '') FROM directory ORDER BY id",
            "SELECT category_id || '/' || directory_id FROM category_directory ORDER BY 1",
            "SELECT id || name || coalesce(prefix, '') || coalesce(directory_id, '') FROM repository ORDER BY id",
            "SELECT id || filename || coalesce(sha256, '') || directory_id FROM file_detail ORDER BY id",
        ]
        .iter()
        .flat_map(|sql| self.column(sql))
        .collect()
    }

    /// Names of all directories of the mirror.
    fn on_disk(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut open = vec!["pub/epel".to_owned()];
        while let Some(name) = open.pop() {
            for entry in
                fs::read_dir(self.mirror().join(&name)).expect("a directory").map(|entry| entry.expect("an entry"))
            {
                if entry.file_type().expect("its type").is_dir() {
                    open.push(format!("{name}/{}", entry.file_name().to_str().expect("a plain name")));
                }
            }
            names.push(name);
        }
        names.sort();
        names
    }

    /// Writes the list as the master's program does; it was made this many seconds ago.
    fn write_list(&self, age: u64, is_whole: bool) {
        let mut text = "[Version]\n2\n\n[Files]\n".to_owned();
        for name in self.on_disk() {
            let below = name.strip_prefix("pub/epel").expect("in the category").trim_start_matches('/');
            let at = self.mirror().join(&name);
            let time = |about: &fs::Metadata| about.mtime().max(about.ctime());
            if !below.is_empty() {
                let about = fs::metadata(&at).expect("a directory");
                text.push_str(&format!("{}\td\t{}\t{below}\n", time(&about), about.len()));
            }
            let mut files: Vec<_> =
                fs::read_dir(&at).expect("a directory").map(|entry| entry.expect("an entry")).collect();
            files.retain(|entry| entry.file_type().expect("its type").is_file());
            for file in files {
                let about = file.metadata().expect("a file");
                let path = format!("{below}/{}", file.file_name().to_str().expect("a plain name"));
                text.push_str(&format!("{}\tf\t{}\t{}\n", time(&about), about.len(), path.trim_start_matches('/')));
            }
        }
        text.push_str(if is_whole { "\n[End]\n" } else { "" });
        let file = self.dir().join("list");
        fs::write(self.dir().join("list.new"), text).expect("the list");
        let made = fs::File::options().write(true).open(self.dir().join("list.new")).expect("the list");
        let before = u64::try_from(now()).expect("after 1970") - age;
        made.set_modified(UNIX_EPOCH + Duration::from_secs(before)).expect("its time");
        fs::rename(self.dir().join("list.new"), file).expect("the list");
    }
}

/// In seconds since 1970.
#[allow(clippy::disallowed_methods, reason = "a test's own clock: when a message was sent")]
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn repomd(time: u64) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<repomd xmlns=\"http://linux.duke.edu/metadata/repo\"><revision>{time}</revision>\
         <data type=\"primary\"><timestamp>{time}</timestamp></data></repomd>\n"
    )
}

fn merge(into: &mut Value, more: &Value) {
    let into = into.as_object_mut().expect("a map");
    for (word, value) in more.as_object().expect("a map") {
        into.insert(word.clone(), value.clone());
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_message_brings_its_part_of_the_tree_and_reconcile_the_rest() {
    let mut site = Site::new("mirror-db", &json!({}), &json!({}));
    site.fill();
    let prefixes = site.column("SELECT DISTINCT prefix FROM repository ORDER BY 1");
    assert_eq!(prefixes, ["epel-10.0", "epel-8", "epel-9"], "all versions in one run");
    assert_eq!(site.column("SELECT filename FROM file_detail").len(), 6);

    site.put("pub/epel/9/Everything/x86_64/Packages/z/zpkg-1-1.el.x86_64.rpm", "rpm");
    site.put("pub/epel/9/Everything/x86_64/repodata/repomd.xml", &repomd(1_800_000_000));
    site.put("pub/epel/8/silent/README", "nobody said so");
    site.synced("9");
    site.until("synced", "done", 1);
    let new = "pub/epel/9/Everything/x86_64/Packages/z".to_owned();
    assert!(
        site.names().contains(&new) && !site.names().contains(&"pub/epel/8/silent".to_owned()),
        "only where it was said"
    );
    let files = site.column(&format!("SELECT CAST(files AS TEXT) FROM directory WHERE name = '{new}'"));
    assert!(files[0].starts_with("[{\"name\": \"zpkg-1-1.el.x86_64.rpm\", \"size\": 3, \"timestamp\": "), "{files:?}");
    let times = "SELECT CAST(timestamp AS TEXT) FROM file_detail WHERE timestamp > 1750000000";
    assert_eq!(site.column(times), ["1800000000"], "the new repomd.xml; the old one is still there for slow mirrors");
    assert_eq!(site.column("SELECT filename FROM file_detail").len(), 7);

    let (code, shown) = site.reconcile(false);
    assert!(code == Some(1) && shown.contains("pub/epel/8/silent"), "{shown}");
    assert!(!site.names().contains(&"pub/epel/8/silent".to_owned()), "looking writes nothing");
    let (code, shown) = site.reconcile(true);
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(site.names(), site.on_disk());
    let (code, shown) = site.reconcile(false);
    assert!(code == Some(0) && shown.contains("nothing to do"), "{shown}");
}

#[test]
fn a_new_directory_deep_below_comes_with_those_above_it() {
    let mut site = Site::new("mirror-db-deep", &json!({}), &json!({}));
    site.fill();
    site.put("pub/epel/10.1/Everything/x86_64/Packages/a/apkg-1-1.el.x86_64.rpm", "rpm");
    let directories = json!({"directories": ["pub/epel/10.1/Everything/x86_64/Packages/a"]});
    site.say("org.example.tree", now(), &directories);
    site.until("named", "done", 1);
    assert_eq!(site.names(), site.on_disk());

    for (n, hostile) in ["srv/www", "pub/epel/../../etc", "pub/epel//9"].into_iter().enumerate() {
        site.say("org.example.tree", LONG_AGO, &json!({"directories": [hostile]}));
        site.until("named", "failed", n + 1);
    }
    site.say("org.example.sync", LONG_AGO, &json!({"repo": "epel", "release": "../../etc"}));
    site.until("synced", "failed", 1);
    assert_eq!(site.names(), site.on_disk());
}

#[test]
fn half_of_a_mount_deletes_nothing() {
    let mut site = Site::new("mirror-db-mount", &json!({}), &json!({}));
    site.fill();
    let before = site.everything();
    let (epel, away) = (site.mirror().join("pub/epel"), site.mirror().join("away"));
    fs::rename(&epel, &away).expect("the mount is gone");
    fs::create_dir(&epel).expect("its empty directory");
    site.synced("9");
    site.until("synced", "failed", 1);
    let (code, shown) = site.reconcile(true);
    assert_eq!(code, Some(1), "{shown}");
    site.until("all of it", "failed", 1);
    assert_eq!(site.everything(), before);

    fs::create_dir(epel.join("9")).expect("one directory of all of them");
    let (code, shown) = site.reconcile(true);
    assert!(code == Some(1) && shown.contains("would go"), "{shown}");
    site.until("all of it", "held", 1);
    assert_eq!(site.everything(), before, "it waits for a person, whatever the guard's limits are");
}

#[test]
fn what_is_really_gone_goes_and_only_that() {
    let mut site = Site::new("mirror-db-gone", &json!({}), &json!({}));
    site.fill();
    fs::remove_dir_all(site.mirror().join("pub/epel/8/Everything/aarch64/Packages/k")).expect("gone");
    site.synced("8");
    site.until("synced", "done", 1);
    assert_eq!(site.names(), site.on_disk());
}

#[test]
fn a_list_without_its_end_is_no_list() {
    let mut site = Site::new("mirror-db-list", &json!({"list": "./list"}), &json!({"old_list": "wait"}));
    let before = site.everything();
    site.write_list(0, false);
    site.start();
    site.until("all of it", "failed", 1);
    assert_eq!(site.everything(), before, "unknown is not empty");

    site.write_list(0, true);
    let (code, shown) = site.reconcile(true);
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(site.names(), site.on_disk());
    site.write_list(0, false);
    let (code, shown) = site.reconcile(false);
    assert!(code == Some(1) && shown.contains("End"), "{shown}");
}

#[test]
fn the_list_comes_after_the_message_and_an_old_one_undoes_nothing() {
    let mut site = Site::new("mirror-db-old", &json!({"list": "./list"}), &json!({}));
    // Made before everything in it changed: so what the database has of it counts as newer.
    site.write_list(3_600, true);
    site.fill();
    site.put("pub/epel/9/Everything/x86_64/Packages/z/zpkg-1-1.el.x86_64.rpm", "rpm");
    site.synced("9");
    site.until("synced", "done", 1);
    assert_eq!(site.names(), site.on_disk(), "walked: the list does not have it yet");
    let (code, shown) = site.reconcile(true);
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(site.names(), site.on_disk(), "the old list does not take it away again");
}
