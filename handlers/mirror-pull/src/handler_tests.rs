//! All parts together: a real rsync between two directories, a pretended clock, no daemon.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex};

use handler_api::{Line, exit};
use serde_json::json;

use super::*;

/// The pretended time: tests say what it is by the message or the file.
const NOW: &str = "2026-11-21T12:00:00Z";
const MASTER: &str = "master.example.org";

fn noon() -> Timestamp {
    NOW.parse().unwrap()
}

fn three_hours_later() -> Timestamp {
    "2026-11-21T15:00:00Z".parse().unwrap()
}

/// What an apply said.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, some: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(some);
        Ok(some.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Said {
    fn lines(&self) -> Vec<Line> {
        let bytes = self.0.lock().unwrap().clone();
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let read = |line: &[u8]| {
            let said: Value = serde_json::from_slice(line).unwrap();
            match said.get("note") {
                Some(note) => Line::Note(note.as_str().unwrap().to_owned()),
                None => Line::Change(serde_json::from_value(said["change"].clone()).unwrap()),
            }
        };
        lines.map(read).collect()
    }

    fn notes(&self) -> String {
        let note = |line| match line {
            Line::Note(note) => Some(note),
            _ => None,
        };
        self.lines().into_iter().filter_map(note).collect::<Vec<_>>().join("\n")
    }
}

/// A master, a mirror, and the handler between them.
struct Site {
    dir: tempfile::TempDir,
    handler: MirrorPull,
    more: Value,
}

impl Site {
    fn new(more: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["master", "mirror"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let site = Self { dir, handler: MirrorPull { clock: noon, publisher: None }, more };
        site.put("fedora/29/repodata/repomd.xml", "<one/>");
        site.put("fedora/29/a.rpm", "a");
        site.put("epel/9/e.rpm", "e");
        site
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join(path)
    }

    /// Writes below the master.
    fn put(&self, path: &str, text: &str) {
        let path = self.at("master").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn mirrored(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at("mirror").join(path)).ok()
    }

    fn config(&self) -> Config {
        Config::read(&self.words()).unwrap()
    }

    fn words(&self) -> serde_json::Map<String, Value> {
        let mut words = json!({
            "name": "t1a.example.org", "from": self.at("master"), "to": self.at("mirror"), "state": self.at("state"),
            "signers": [MASTER],
        });
        words.as_object_mut().unwrap().extend(self.more.as_object().unwrap().clone());
        words.as_object().unwrap().clone()
    }

    fn request(&self, with: Value, messages: &[(&str, &str, &str)]) -> Request {
        let message = |(topic, sent, signer): &(&str, &str, &str)| {
            json!({"id": format!("id-{sent}"), "topic": format!("org.example.prod.mirror.{topic}"), "sent": sent,
                   "signer": signer, "body": {}})
        };
        serde_json::from_value(json!({
            "reactor": 1, "reaction": "R", "rule": "r", "key": "k", "attempt": 1, "with": with,
            "messages": messages.iter().map(message).collect::<Vec<_>>(), "config": self.words(),
        }))
        .unwrap()
    }

    async fn plan(&self, request: &Request) -> Result<Plan, Failure> {
        self.handler.plan(request).await
    }

    async fn apply(&self, request: &Request, changes: Vec<Change>) -> (Result<(), Failure>, Said) {
        let said = Said::default();
        let mut request = request.clone();
        request.changes = Some(changes);
        let outcome = self.handler.apply(&request, &mut Done::to(said.clone())).await;
        (outcome, said)
    }

    /// Plan and apply; answers with the changes, and what apply noted.
    async fn react(&self, with: Value, messages: &[(&str, &str, &str)]) -> (Vec<String>, String) {
        let request = self.request(with, messages);
        let plan = self.plan(&request).await.unwrap();
        let (outcome, said) = self.apply(&request, plan.changes.clone()).await;
        outcome.unwrap();
        let done: Vec<Line> = said.lines().into_iter().filter(|line| matches!(line, Line::Change(_))).collect();
        assert_eq!(done, plan.changes.iter().cloned().map(Line::Change).collect::<Vec<_>>(), "it did what it planned");
        (shown(&plan), said.notes())
    }

    fn marker(&self, name: &str) -> std::path::PathBuf {
        self.at("mirror/.reactor-mirror").join(name)
    }
}

fn shown(plan: &Plan) -> Vec<String> {
    let action = |change: &Change| serde_json::to_value(change.action).unwrap().as_str().unwrap().to_owned();
    let count = |change: &Change| change.count.map(|count| format!(" x{count}")).unwrap_or_default();
    plan.changes.iter().map(|change| format!("{} {}{}", action(change), change.target, count(change))).collect()
}

const SYNCED: (&str, &str, &str) = ("master.synced", "2026-11-21T11:59:00Z", MASTER);
const UNSYNCED: (&str, &str, &str) = ("master.unsynced", "2026-11-21T11:50:00Z", MASTER);

#[tokio::test]
async fn the_named_directories_come_and_only_they_and_then_nothing_is_to_do() {
    let site = Site::new(json!({"parts": ["fedora", "epel"]}));
    let with = json!({"do": "pull", "directories": ["fedora/29"], "serial": 7});
    let (changes, notes) = site.react(with.clone(), &[SYNCED]).await;
    assert!(changes.contains(&"create fedora/29/a.rpm".to_owned()), "{changes:?}");
    assert!(notes.contains("fedora: 2 files"), "{notes}");
    assert_eq!(site.mirrored("fedora/29/a.rpm").as_deref(), Some("a"));
    assert_eq!(site.mirrored("epel/9/e.rpm"), None);
    assert!(!site.marker("fedora.in-progress").exists(), "the marker is away");
    let trace: Value = serde_json::from_str(&site.mirrored(".reactor-mirror/trace.json").unwrap()).unwrap();
    assert_eq!((&trace["parts"]["fedora"]["serial"], &trace["mirror"]), (&json!(7), &json!("t1a.example.org")));
    let readable = fs::metadata(site.marker("trace.json")).unwrap().permissions().mode() & 0o777;
    assert_eq!(readable, 0o644, "those that pull from here can read it");
    assert_eq!(site.plan(&site.request(with, &[SYNCED])).await.unwrap(), Plan::default());
    let (rest, _) = site.react(json!({}), &[]).await;
    assert!(rest.iter().all(|change| change.contains("epel")), "{rest:?}");
    assert_eq!(site.mirrored("epel/9/e.rpm").as_deref(), Some("e"));
    assert_eq!(site.plan(&site.request(json!({}), &[])).await.unwrap(), Plan::default());
}

#[tokio::test]
async fn a_stranger_a_wrong_path_and_a_link_are_refused_and_nothing_is_touched() {
    let site = Site::new(json!({}));
    let refused = async |with: Value, message: (&str, &str, &str), said: &str| {
        let failure = site.plan(&site.request(with, &[message])).await.unwrap_err();
        assert!(failure.message().contains(said), "{failure}");
        assert_eq!(failure.exit_code(), exit::PERMANENT);
        assert!(failure.hint().is_some());
    };
    let stranger = ("master.synced", NOW, "mallory.example.org");
    refused(json!({"do": "pull"}), stranger, "mallory.example.org (org.example.prod.mirror.master.synced) is not")
        .await;
    refused(json!({"do": "hold"}), stranger, "is not a signer").await;
    refused(json!({"directories": ["../../etc"]}), SYNCED, "../../etc").await;
    refused(json!({"directories": ["/etc"]}), SYNCED, "is absolute").await;
    refused(json!({"directories": ["fedora/*"]}), SYNCED, "patterns").await;
    refused(json!({"do": "delete"}), SYNCED, "neither pull nor hold").await;
    std::os::unix::fs::symlink("/etc", site.at("mirror/fedora")).unwrap();
    refused(json!({"directories": ["fedora/29"]}), SYNCED, "is a link here").await;
    assert!(!site.at("state").exists() && fs::read_dir(site.at("mirror")).unwrap().count() == 1);
}

#[tokio::test]
async fn held_means_no_pull_until_the_update_is_over_or_the_hold_lapses() {
    let mut site = Site::new(json!({"parts": ["fedora", "epel"]}));
    let hold = json!({"do": "hold", "directories": ["fedora/29"]});
    assert_eq!(site.react(hold.clone(), &[UNSYNCED]).await.0, ["create hold fedora"]);
    let file = fs::read_to_string(site.at("state/hold/fedora.json")).unwrap();
    assert!(file.contains(MASTER) && file.contains("id-2026-11-21T11:50:00Z"), "{file}");
    assert!(site.react(hold.clone(), &[UNSYNCED]).await.0.is_empty(), "it is held already");
    let plan = site.plan(&site.request(json!({}), &[])).await.unwrap();
    assert!(plan.notes[0].contains("fedora: held since 2026-11-21T11:50:00Z by message id-"), "{:?}", plan.notes);
    assert!(shown(&plan).iter().all(|change| change.contains("epel")), "{plan:?}");
    let older = ("master.synced", "2026-11-21T11:40:00Z", MASTER);
    let plan = site.plan(&site.request(json!({"directories": ["fedora"]}), &[older])).await.unwrap();
    assert!(plan.changes.is_empty() && plan.notes[0].contains("not pulled"), "an older message does not end it");
    let (changes, _) = site.react(json!({"directories": ["fedora"]}), &[SYNCED]).await;
    assert!(changes.contains(&"run release fedora".to_owned()), "{changes:?}");
    assert_eq!(site.mirrored("fedora/29/a.rpm").as_deref(), Some("a"));
    assert!(!site.at("state/hold/fedora.json").exists());
    let late = site.plan(&site.request(hold.clone(), &[UNSYNCED])).await.unwrap();
    assert!(late.changes.is_empty() && late.notes[0].contains("is over already"), "{late:?}");
    // Nobody ends this one.
    site.react(hold, &[("master.unsynced", "2026-11-21T11:59:30Z", MASTER)]).await;
    site.put("fedora/29/b.rpm", "b");
    assert!(!shown(&site.plan(&site.request(json!({}), &[])).await.unwrap()).join(" ").contains("b.rpm"));
    site.handler.clock = three_hours_later;
    let request = site.request(json!({}), &[]);
    let plan = site.plan(&request).await.unwrap();
    assert!(plan.notes.iter().any(|note| note.contains("lapsed") && note.contains("id-")), "{plan:?}");
    site.apply(&request, plan.changes).await.0.unwrap();
    assert_eq!(site.mirrored("fedora/29/b.rpm").as_deref(), Some("b"));
}

#[tokio::test]
async fn what_names_others_and_deletions_come_last() {
    let site = Site::new(json!({}));
    site.react(json!({}), &[]).await;
    site.put("fedora/29/b.rpm", "b");
    site.put("fedora/29/repodata/repomd.xml", "<two and more/>");
    fs::remove_file(site.at("master/fedora/29/a.rpm")).unwrap();
    let (config, piece) = (site.config(), Piece::whole(""));
    let names = crate::rsync::args::names(&piece.directories);
    let one = crate::rsync::args::stage_one(&config, 1);
    assert_eq!(crate::rsync::run(&config, one, names, |_| ()).await.unwrap().code, Some(0));
    assert_eq!(site.mirrored("fedora/29/b.rpm").as_deref(), Some("b"));
    assert_eq!(site.mirrored("fedora/29/a.rpm").as_deref(), Some("a"), "stage 1 deletes nothing");
    assert_eq!(site.mirrored("fedora/29/repodata/repomd.xml").as_deref(), Some("<one/>"));
    let (changes, _) = site.react(json!({}), &[]).await;
    assert_eq!(changes, ["delete fedora/29/a.rpm", "update fedora/29/repodata/repomd.xml"]);
    assert_eq!(site.mirrored("fedora/29/a.rpm"), None);
    assert_eq!(site.mirrored("fedora/29/repodata/repomd.xml").as_deref(), Some("<two and more/>"));
}

#[tokio::test]
async fn more_deletions_than_were_planned_are_not_done() {
    let site = Site::new(json!({}));
    for number in 0..9 {
        site.put(&format!("fedora/29/{number}.rpm"), "x");
    }
    site.react(json!({}), &[]).await;
    fs::remove_file(site.at("master/fedora/29/0.rpm")).unwrap();
    let request = site.request(json!({}), &[]);
    let plan = site.plan(&request).await.unwrap();
    assert_eq!(shown(&plan), ["delete fedora/29/0.rpm"]);
    for number in 1..9 {
        fs::remove_file(site.at(&format!("master/fedora/29/{number}.rpm"))).unwrap();
    }
    let (outcome, _) = site.apply(&request, plan.changes).await;
    let failure = outcome.unwrap_err();
    assert!(failure.message().contains("more to delete than was planned"), "{failure}");
    assert_eq!(failure.exit_code(), exit::TRY_LATER);
    let left = (0..9).filter(|number| site.mirrored(&format!("fedora/29/{number}.rpm")).is_some()).count();
    assert_eq!(left, 8);
    assert!(!site.marker("in-progress").exists(), "all that is named is there");
}

#[tokio::test]
async fn many_changes_are_summed_up_with_their_number() {
    let site = Site::new(json!({}));
    site.react(json!({}), &[]).await;
    for number in 0..60 {
        site.put(&format!("fedora/29/{number}.rpm"), "x");
    }
    fs::remove_file(site.at("master/fedora/29/a.rpm")).unwrap();
    let (changes, _) = site.react(json!({"directories": ["fedora/29"]}), &[SYNCED]).await;
    assert_eq!(changes, ["create files below fedora/29 x60", "delete files below fedora/29 x1"]);
}

#[tokio::test]
async fn a_directory_that_is_gone_is_deleted_alone_and_a_part_that_is_gone_is_not_believed() {
    let site = Site::new(json!({"parts": ["fedora", "epel"]}));
    site.put("fedora/28/x/y/old.rpm", "o");
    site.react(json!({}), &[]).await;
    fs::remove_dir_all(site.at("master/fedora/28")).unwrap();
    fs::remove_file(site.at("master/fedora/29/a.rpm")).unwrap();
    let (changes, _) = site.react(json!({"directories": ["fedora/28/x/y"]}), &[SYNCED]).await;
    assert!(changes.iter().all(|change| change.starts_with("delete fedora/28")), "{changes:?}");
    assert!(!site.at("mirror/fedora/28").exists(), "the topmost that is gone went");
    assert_eq!(site.mirrored("fedora/29/a.rpm").as_deref(), Some("a"), "its neighbours stayed as they were");
    for gone in ["fedora", "fedora/29"] {
        fs::remove_dir_all(site.at("master").join(gone)).unwrap_or_default();
        for with in [json!({}), json!({"directories": ["fedora/29/repodata"]})] {
            let outcome = site.plan(&site.request(with.clone(), &[SYNCED])).await;
            let failure = outcome.expect_err("a part that is not there");
            assert!(failure.message().contains("not believed"), "{failure}");
            assert_eq!(failure.exit_code(), exit::TRY_LATER);
        }
    }
    fs::create_dir(site.at("master/fedora")).unwrap();
    let failure = site.plan(&site.request(json!({}), &[])).await.unwrap_err();
    assert!(failure.message().contains("has nothing of fedora"), "an empty mount: {failure}");
    fs::remove_dir_all(site.at("master")).unwrap();
    let failure = site.plan(&site.request(json!({}), &[])).await.unwrap_err();
    assert_eq!(failure.exit_code(), exit::TRY_LATER, "{failure}");
    assert_eq!(site.mirrored("fedora/29/a.rpm").as_deref(), Some("a"));
}

#[tokio::test]
async fn nobody_pulls_from_a_mirror_that_is_mid_update_nor_twice_what_it_has() {
    let site = Site::new(json!({"parts": ["fedora", "epel"]}));
    site.put(".reactor-mirror/fedora.in-progress", r#"{"since": "2026-11-21T11:00:00Z"}"#);
    let failure = site.plan(&site.request(json!({"directories": ["fedora/29"]}), &[SYNCED])).await.unwrap_err();
    assert!(failure.message().contains("is mid-update") && failure.message().contains("2026-11-21T11:00:00Z"));
    assert_eq!(failure.exit_code(), exit::TRY_LATER);
    assert!(site.plan(&site.request(json!({"directories": ["epel"]}), &[SYNCED])).await.is_ok(), "not the other part");
    fs::rename(site.at("master/.reactor-mirror/fedora.in-progress"), site.at("master/.reactor-mirror/in-progress"))
        .unwrap();
    assert!(site.plan(&site.request(json!({"directories": ["epel"]}), &[SYNCED])).await.is_err(), "all of it");
    fs::remove_file(site.at("master/.reactor-mirror/in-progress")).unwrap();
    let trace =
        |finished: &str| format!(r#"{{"mirror": "m", "parts": {{".": {{"finished": "{finished}", "serial": 5}}}}}}"#);
    site.put(".reactor-mirror/trace.json", &trace("1"));
    site.react(json!({}), &[SYNCED]).await;
    let ours: Value = serde_json::from_str(&site.mirrored(".reactor-mirror/trace.json").unwrap()).unwrap();
    assert_eq!(ours["parts"]["fedora"]["serial"], 5, "our own trace, with the upstream's serial");
    // It says that nothing is new, and is believed.
    site.put("fedora/29/b.rpm", "b");
    assert_eq!(site.plan(&site.request(json!({}), &[])).await.unwrap(), Plan::default());
    assert_eq!(site.plan(&site.request(json!({}), &[SYNCED])).await.unwrap(), Plan::default());
    let newer = ("master.synced", NOW, MASTER);
    assert_eq!(shown(&site.plan(&site.request(json!({}), &[newer])).await.unwrap()), ["create fedora/29/b.rpm"]);
    site.put(".reactor-mirror/trace.json", &trace("2"));
    assert_eq!(site.react(json!({}), &[]).await.0, ["create fedora/29/b.rpm"]);
}

#[tokio::test]
async fn names_of_any_bytes_arrive_as_they_are() {
    let site = Site::new(json!({}));
    let long = "l".repeat(255);
    let names: [&[u8]; 6] = [b"new\nline", b"\xff\xfe.rpm", long.as_bytes(), b"-rf", b"#x \\#012*?[]", b"\x1b[31m"];
    for name in names {
        fs::write(site.at("master/fedora/29").join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    let (changes, _) = site.react(json!({}), &[]).await;
    assert!(changes.iter().all(|change| !change.contains(char::is_control)), "{changes:?}");
    for name in names {
        let copy = site.at("mirror/fedora/29").join(std::ffi::OsStr::from_bytes(name));
        assert_eq!(fs::read(copy).unwrap(), name);
    }
    assert_eq!(site.plan(&site.request(json!({}), &[])).await.unwrap(), Plan::default());
}

#[tokio::test]
async fn two_pulls_of_one_part_at_once_are_one() {
    let site = Site::new(json!({}));
    let request = site.request(json!({}), &[]);
    let plan = site.plan(&request).await.unwrap();
    let lock = Lock::take(&site.config(), "").unwrap();
    for failure in
        [site.plan(&request).await.unwrap_err(), site.apply(&request, plan.changes.clone()).await.0.unwrap_err()]
    {
        assert!(failure.message().contains("is under way already"), "{failure}");
        assert_eq!(failure.exit_code(), exit::TRY_LATER);
    }
    assert_eq!(fs::read_dir(site.at("mirror")).unwrap().count(), 0);
    drop(lock);
    site.apply(&request, plan.changes).await.0.unwrap();
}

#[path = "handler_tests/broken.rs"]
mod broken;
