//! Against real files on this machine: what ssh would run on a host is started directly. As root, or as whoever runs them.

mod own;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::edge::Ask;
use super::write::{WRITE, archive};
use super::*;
use crate::access::Reach;

fn ssh() -> SshConfig {
    SshConfig {
        key: "ssh_key".into(),
        known_hosts: None,
        config: None,
        at_once: 8,
        connect_timeout: Duration::from_secs(5),
        command_timeout: Duration::from_secs(20),
        keep: Duration::from_secs(60),
        connections_max: 8,
    }
}

fn host(place: Place) -> Host {
    Host { name: "here".into(), reach: Reach::Local, place, access: Vec::new() }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A directory of key files.
struct Keys {
    fleet: Fleet,
    host: Host,
    dir: TempDir,
}

impl Keys {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { fleet: Fleet::new(ssh()), host: host(Place::Directory(format!("{}/%u", dir.path().display()))), dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// All that stands in the directory, hidden files too.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    async fn look(&self, who: &[&str]) -> Result<BTreeMap<String, Found>, Trouble> {
        self.fleet.look(&self.host, &Who::Only(strings(who)), "reactor").await
    }

    async fn write(&self, writes: &[Write]) -> Result<BTreeMap<String, Result<(), Trouble>>, Trouble> {
        self.fleet.write(&self.host, writes).await
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn write(user: &str, before: Option<&str>, after: Option<&str>) -> Write {
    let bytes = |text: &str| text.as_bytes().to_vec();
    Write { user: user.into(), before: before.map(bytes), after: after.map(bytes) }
}

fn file(text: &str) -> Found {
    Found::File(text.as_bytes().to_vec())
}

/// Runs a program that must succeed.
fn run(words: &[&str]) {
    #[allow(clippy::disallowed_methods, reason = "tests set up what they need")]
    let output = std::process::Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn what_was_written_is_what_is_found() {
    let keys = Keys::new();
    keys.put("old", "a\n");
    keys.put("gone", "b");
    let long = "n".repeat(120);
    let binary = String::from_utf8_lossy(b"\0\r\n\x7f no newline").into_owned();
    let writes = [
        write("old", Some("a\n"), Some("c\n")),
        write("gone", Some("b"), None),
        write("new", None, Some(&binary)),
        write(&long, None, Some("")),
        write("never", None, None),
    ];
    let done = keys.write(&writes).await.unwrap();
    assert!(done.len() == 5 && done.values().all(Result::is_ok), "{done:?}");
    let found = keys.look(&["old", "gone", "new", &long, "never"]).await.unwrap();
    let wanted = [
        ("old", file("c\n")),
        ("gone", Found::Absent),
        ("new", file(&binary)),
        (&long, file("")),
        ("never", Found::Absent),
    ];
    assert_eq!(found, wanted.into_iter().map(|(name, what)| (name.to_owned(), what)).collect());
    assert_eq!(keys.names(), ["new", &long, "old"], "and nothing is left beside them");
    let meta = fs::metadata(keys.path("new")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o644, fs::metadata("/proc/self").unwrap().uid()));
}

#[tokio::test]
async fn everyone_is_whoever_is_asked_for_and_whoever_has_our_block() {
    let keys = Keys::new();
    keys.put("ralph", "x");
    keys.put("left", "ssh-rsa A\n# reactor begin reactor: do not edit\n");
    keys.put("other", "# reactor begin reactor2: do not edit\n");
    keys.put("foreign", "by hand\n");
    keys.put(".reactor-new", "# reactor begin reactor: a leftover\n");
    keys.put("new\nline", "# reactor begin reactor: nobody's name\n");
    keys.put("..elsewhere", "# reactor begin reactor: sshd follows the link to it\n");
    symlink("..elsewhere", keys.path("linked")).unwrap();
    symlink("nowhere", keys.path("dangling")).unwrap();
    let who = Who::Everyone(strings(&["ralph", "absent"]));
    let found = keys.fleet.look(&keys.host, &who, "reactor").await.unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["absent", "left", "linked", "ralph"]);
    assert!(matches!(found["linked"], Found::Odd(_)), "{:?}", found["linked"]);
    let nobody = keys.fleet.look(&keys.host, &Who::Everyone(Vec::new()), "reactor").await.unwrap();
    assert_eq!(nobody.keys().collect::<Vec<_>>(), ["left", "linked"]);
    let none = keys.fleet.look(&keys.host, &Who::Everyone(Vec::new()), "nowhere").await.unwrap();
    assert!(none.is_empty());
    let bad = keys.fleet.look(&keys.host, &Who::Everyone(Vec::new()), "a'b").await.unwrap_err();
    assert_eq!(bad.kind, TroubleKind::Lasting);
}

#[tokio::test]
async fn what_is_no_file_is_said_and_never_followed_or_replaced() {
    let keys = Keys::new();
    let secret = keys.path("..secret");
    fs::write(&secret, "secret").unwrap();
    symlink(&secret, keys.path("link")).unwrap();
    symlink("nowhere", keys.path("dangling")).unwrap();
    fs::create_dir(keys.path("dir")).unwrap();
    run(&["mkfifo", keys.path("fifo").to_str().unwrap()]);
    let _socket = std::os::unix::net::UnixListener::bind(keys.path("socket")).unwrap();
    fs::write(keys.path("large"), vec![b'x'; FILE_BYTES_MAX + 1]).unwrap();
    fs::hard_link(&secret, keys.path("twice")).unwrap();
    fs::hard_link(&secret, keys.path("twice2")).unwrap();
    let odd = ["link", "dangling", "dir", "fifo", "socket", "large"];
    let found = keys.look(&[&odd[..], &["twice", "twice2"]].concat()).await.unwrap();
    for name in odd {
        let Found::Odd(trouble) = &found[name] else { panic!("{name}: {:?}", found[name]) };
        assert!(trouble.kind == TroubleKind::Lasting && trouble.message.contains(name) && trouble.hint.is_some());
        for before in [None, Some("secret")] {
            let refused = keys.write(&[write(name, before, Some("new"))]).await.unwrap_err();
            assert_eq!(refused.kind, TroubleKind::Moved, "{name}: {refused:?}");
        }
    }
    assert_eq!((&found["twice"], &found["twice2"]), (&file("secret"), &file("secret")));
    assert_eq!(fs::read_to_string(secret).unwrap(), "secret");
    assert!(keys.path("link").is_symlink() && keys.path("dir").is_dir());
}

#[tokio::test]
async fn a_name_that_climbs_goes_nowhere() {
    let keys = Keys::new();
    for name in ["../../etc/x", "..", ".ssh", "-rf", "a/b", "a b", "a\nb", "", "1000", "a'b", "$(id)"] {
        let found = keys.look(&[name, "ralph"]).await.unwrap();
        assert!(matches!(&found[name], Found::Odd(t) if t.kind == TroubleKind::Lasting), "{name:?}");
        assert_eq!(found["ralph"], Found::Absent, "the others go on");
        let done = keys.write(&[write(name, None, Some("x"))]).await.unwrap();
        assert!(done[name].is_err(), "{name:?}");
    }
    assert!(keys.names().is_empty());
}

#[tokio::test]
async fn if_one_file_moved_since_the_plan_none_is_written() {
    let keys = Keys::new();
    keys.put("ralph", "by hand");
    keys.put("appeared", "x");
    for moved in [
        write("ralph", Some("planned"), Some("n")),
        write("ralph", Some("planned"), None),
        write("appeared", None, Some("n")),
        write("vanished", Some("x"), Some("n")),
        write("vanished", Some("x"), None),
    ] {
        let trouble = keys.write(&[write("other", None, Some("n")), moved.clone()]).await.unwrap_err();
        assert_eq!(trouble.kind, TroubleKind::Moved, "{moved:?}: {trouble:?}");
        assert!(trouble.message.contains(&moved.user), "{trouble:?}");
    }
    assert_eq!((keys.names(), keys.read("ralph").as_str()), (strings(&["appeared", "ralph"]), "by hand"));
}

#[tokio::test]
async fn a_directory_that_is_missing_or_open_to_others_is_a_lasting_trouble_with_the_way_out() {
    let keys = Keys::new();
    let inside = |name: &str| host(Place::Directory(format!("{}/{name}/%u", keys.dir.path().display())));
    keys.put("file", "");
    fs::create_dir_all(keys.path("open/below")).unwrap();
    fs::create_dir(keys.path("sticky")).unwrap();
    fs::set_permissions(keys.path("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(keys.path("open"), fs::Permissions::from_mode(0o775)).unwrap();
    let cases = [
        ("none", "install -d"),
        ("file", "ls -ld"),
        ("open", "chmod go-w"),
        ("open/below", "chmod go-w"),
        ("sticky", "chmod go-w"),
    ];
    for (name, hint) in cases {
        let looked = keys.fleet.look(&inside(name), &Who::Only(strings(&["ralph"])), "reactor").await.unwrap_err();
        let written = keys.fleet.write(&inside(name), &[write("ralph", None, Some("x"))]).await.unwrap_err();
        assert_eq!(looked, written);
        assert!(looked.kind == TroubleKind::Lasting && looked.hint.as_ref().unwrap().contains(hint), "{looked:?}");
    }
    if is_root() {
        fs::create_dir(keys.path("theirs")).unwrap();
        std::os::unix::fs::chown(keys.path("theirs"), Some(1), Some(1)).unwrap();
        let looked = keys.fleet.look(&inside("theirs"), &Who::Only(strings(&["ralph"])), "reactor").await.unwrap_err();
        assert!(looked.hint.unwrap().contains("chown root:root"));
    } else {
        keys.put("secret", "x");
        fs::set_permissions(keys.path("secret"), fs::Permissions::from_mode(0o000)).unwrap();
        let looked = keys.look(&["secret"]).await.unwrap_err();
        assert_eq!(looked.kind, TroubleKind::Lasting, "unreadable is not absent: {looked:?}");
    }
    for bad in ["relative/%u", "/a/../b/%u", "/a/%h/%u", "/a\nb/%u"] {
        let looked =
            keys.fleet.look(&host(Place::Directory(bad.into())), &Who::Only(strings(&["ralph"])), "reactor").await;
        assert_eq!(looked.unwrap_err().kind, TroubleKind::Lasting, "{bad}");
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_or_damaged_writes_nothing() {
    let keys = Keys::new();
    keys.put("ralph", "old");
    let writes = [write("ralph", Some("old"), Some(&"new".repeat(500))), write("anna", None, Some("x"))];
    let whole = archive(&writes.iter().collect::<Vec<_>>()).unwrap();
    let dir = keys.dir.path().to_str().unwrap().to_owned();
    let send = async |input: Vec<u8>| {
        let ask = Ask { program: WRITE, args: vec![dir.clone(), "5".into()], input, about: dir.clone() };
        keys.fleet.edge.ask(&keys.host, &ask).await.unwrap().code
    };
    for cut in [0, 100, 512, 600, 2_048, 3_072, 5_000, whole.len() - 2_048] {
        assert_ne!(send(whole[..cut].to_vec()).await, 0, "cut at {cut}");
        assert_eq!((keys.names(), keys.read("ralph").as_str()), (strings(&["ralph"]), "old"), "cut at {cut}");
    }
    let mut damaged = whole.clone();
    damaged[700] ^= 1;
    assert_eq!(send(damaged).await, 113);
    assert_eq!((keys.names(), keys.read("ralph").as_str()), (strings(&["ralph"]), "old"));
    assert_eq!(send(whole).await, 0);
    assert_eq!(keys.names(), ["anna", "ralph"]);
}

#[tokio::test]
async fn a_full_a_read_only_and_an_immutable_place_keep_the_old_file() {
    if !is_root() {
        // Only root can make such places. What others meet is a directory that they can't write to.
        let keys = Keys::new();
        keys.put("ralph", "old");
        fs::set_permissions(keys.dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
        let refused = keys.write(&[write("ralph", Some("old"), Some("new"))]).await.unwrap_err();
        assert_eq!((refused.kind, keys.read("ralph").as_str()), (TroubleKind::Lasting, "old"));
        return;
    }
    let keys = Keys::new();
    let at = keys.dir.path().to_str().unwrap();
    run(&["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", at]);
    let _umount = Umount(keys.dir.path().to_owned());
    keys.put("ralph", "old");
    let full = keys.write(&[write("ralph", Some("old"), Some(&"x".repeat(100_000)))]).await.unwrap_err();
    assert!(full.kind == TroubleKind::MayPass && full.message.contains("no space left"), "{full:?}");
    assert_eq!((keys.names(), keys.read("ralph").as_str()), (strings(&["ralph"]), "old"));

    run(&["mount", "-o", "remount,ro", at]);
    let refused = keys.write(&[write("ralph", Some("old"), Some("new"))]).await.unwrap_err();
    assert!(refused.kind == TroubleKind::Lasting && refused.message.contains("Read-only"), "{refused:?}");
    assert_eq!((keys.names(), keys.read("ralph").as_str()), (strings(&["ralph"]), "old"));
}

struct Umount(PathBuf);

impl Drop for Umount {
    fn drop(&mut self) {
        run(&["umount", self.0.to_str().unwrap()]);
    }
}

/// Whether this file system and this user know the immutable flag.
fn chattr(flag: &str, path: &Path) -> bool {
    #[allow(clippy::disallowed_methods, reason = "tests set up what they need")]
    let status = std::process::Command::new("chattr").arg(flag).arg(path).output();
    status.is_ok_and(|output| output.status.success())
}

#[tokio::test]
async fn one_immutable_file_does_not_keep_the_others_from_being_written() {
    let keys = Keys::new();
    keys.put("ralph", "old");
    keys.put("gone", "old");
    let fixed = chattr("+i", &keys.path("ralph")) && chattr("+i", &keys.path("gone"));
    let writes =
        [write("ralph", Some("old"), Some("new")), write("gone", Some("old"), None), write("anna", None, Some("n"))];
    let done = keys.write(&writes).await;
    let left = (fs::read_to_string(keys.path("ralph")).unwrap(), keys.names());
    chattr("-i", &keys.path("ralph"));
    chattr("-i", &keys.path("gone"));
    let done = done.unwrap();
    if fixed {
        for user in ["ralph", "gone"] {
            let trouble = done[user].clone().unwrap_err();
            assert!(
                trouble.kind == TroubleKind::Lasting && trouble.hint.unwrap().contains("lsattr"),
                "{}",
                trouble.message
            );
        }
        assert_eq!(left, ("old".to_owned(), strings(&["anna", "gone", "ralph"])));
    } else {
        assert!(done.values().all(Result::is_ok), "{done:?}");
    }
    assert!(done["anna"].is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_at_once_one_wins_and_the_other_is_told() {
    let keys = Keys::new();
    let mut stands: Option<String> = None;
    for round in 0..100 {
        let texts = [format!("a{round}"), format!("b{round}")];
        let writes = texts.clone().map(|text| [write("ralph", stands.as_deref(), Some(&text))]);
        let (a, b) = tokio::join!(keys.write(&writes[0]), keys.write(&writes[1]));
        let won = [a, b].map(|result| match result {
            Ok(done) => done["ralph"].is_ok(),
            Err(trouble) => {
                assert_eq!(trouble.kind, TroubleKind::Moved, "{trouble:?}");
                false
            }
        });
        assert!(won[0] != won[1], "round {round}: {won:?}");
        assert_eq!(keys.read("ralph"), texts[usize::from(won[1])]);
        stands = Some(keys.read("ralph"));
    }
    assert_eq!(keys.names(), ["ralph"]);
}

#[tokio::test]
async fn two_thousand_files_are_one_command() {
    let keys = Keys::new();
    let users: Vec<String> = (0..2_000).map(|n| format!("user{n}")).collect();
    let text = format!("ssh-ed25519 {} someone@example.org\n", "A".repeat(68));
    let writes: Vec<Write> = users.iter().map(|user| write(user, None, Some(&text))).collect();
    let started = Instant::now();
    assert!(keys.write(&writes).await.unwrap().values().all(Result::is_ok));
    let written = started.elapsed();
    let found = keys.fleet.look(&keys.host, &Who::Everyone(users), "reactor").await.unwrap();
    assert!(found.len() == 2_000 && found.values().all(|found| *found == file(&text)));
    println!("2,000 files: written in {written:?}, looked at in {:?}", started.elapsed() - written);
    assert!(written < Duration::from_secs(20));
}

#[tokio::test]
async fn one_user_takes_few_milliseconds() {
    let keys = Keys::new();
    const ROUNDS: u32 = 50;
    let started = Instant::now();
    for _ in 0..ROUNDS {
        keys.look(&["ralph"]).await.unwrap();
    }
    let looked = started.elapsed() / ROUNDS;
    for round in 0..ROUNDS {
        let before = (round > 0).then(|| round.to_string());
        keys.write(&[write("ralph", before.as_deref(), Some(&(round + 1).to_string()))]).await.unwrap();
    }
    println!("one user, no ssh: look {looked:?}, write {:?}", started.elapsed() / ROUNDS - looked);
}

#[tokio::test]
async fn what_a_killed_writer_left_is_cleared_away_and_a_held_lock_is_waited_for_only_so_long() {
    let keys = Keys::new();
    fs::create_dir_all(keys.path(".reactor-new/new")).unwrap();
    keys.put(".reactor-new/new/evil", "x");
    keys.write(&[write("ralph", None, Some("x"))]).await.unwrap();
    assert_eq!(keys.names(), ["ralph"]);

    let lock = fs::File::open(keys.dir.path()).unwrap();
    lock.lock().unwrap();
    let quick = Fleet::new(SshConfig { command_timeout: Duration::from_secs(2), ..ssh() });
    let held = quick.write(&keys.host, &[write("ralph", Some("x"), Some("y"))]).await.unwrap_err();
    assert!(held.kind == TroubleKind::MayPass && held.message.contains("lock"), "{held:?}");
    drop(lock);
    quick.write(&keys.host, &[write("ralph", Some("x"), Some("y"))]).await.unwrap();
    assert_eq!(keys.read("ralph"), "y");
}

#[tokio::test]
async fn a_writer_that_is_cut_off_at_any_moment_leaves_whole_files() {
    let keys = Keys::new();
    let text = |letter: u8| char::from(letter).to_string().repeat(50_000);
    keys.put("ralph", &text(b'a'));
    for round in 0..40_u8 {
        let (before, after) = (keys.read("ralph"), text(b'a' + round % 26));
        let writes = [write("ralph", Some(&before), Some(&after))];
        let _ = tokio::time::timeout(Duration::from_millis(u64::from(round)), keys.write(&writes)).await;
        let stands = keys.read("ralph");
        assert!(stands.len() == 50_000 && stands.bytes().all(|b| b == stands.as_bytes()[0]), "round {round}");
    }
    // What still runs holds the lock; then nothing of it is left.
    let started = Instant::now();
    loop {
        let last = write("ralph", Some(&keys.read("ralph")), Some("last"));
        match keys.write(&[last]).await {
            Ok(done) => break assert_eq!(done["ralph"], Ok(())),
            Err(trouble) => {
                assert!(trouble.kind == TroubleKind::Moved && started.elapsed().as_secs() < 20, "{trouble:?}")
            }
        }
    }
    assert_eq!((keys.names(), keys.read("ralph").as_str()), (strings(&["ralph"]), "last"));
}
