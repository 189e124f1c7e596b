//! Users who lay traps in their own directories, names that are paths, and two reactors on one host.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use reactor_tests::sshd::{Farm, KeyPair, Layout, ids};
use reactor_tests::wait_until;
use serde_json::json;

use super::site::{ADMINS, SOON, Site, Truth, Wish};

/// How long two daemons write at once.
const RACE: Duration = Duration::from_secs(6);
const HAND: &str = "# placed by hand";

fn has(farm: &Farm, n: usize, user: &str, key: &KeyPair) -> bool {
    farm.keys(n, user).contains(key.material())
}

fn give(path: &Path, user: &str) {
    let (uid, gid) = ids(user);
    chown(path, Some(uid.as_raw()), Some(gid.as_raw())).expect("its owner");
}

/// Puts a trap of `user`'s on each of the first five hosts. What must not change is in `victim` and in toshio's directories.
fn lay_traps(farm: &Farm, user: &str, other: &str, victim: &Path) {
    let dir = |n: usize| farm.key_file(n, user).parent().expect(".ssh").to_owned();
    let file = |n: usize| farm.key_file(n, user);
    fs::remove_dir(dir(0)).expect("an empty .ssh");
    symlink(farm.key_file(0, other).parent().expect(".ssh"), dir(0)).expect("a link as .ssh");
    symlink(victim, file(1)).expect("a link as authorized_keys");
    fs::create_dir(file(2)).expect("a directory as authorized_keys");
    fs::hard_link(victim, file(3)).expect("a second name of a file of root's");
    fs::remove_dir(dir(4)).expect("an empty .ssh");
    fs::write(dir(4), "no directory").expect("a file as .ssh");
    give(&dir(4), user);
    give(&file(2), user);
}

#[test]
fn traps_in_a_users_directory_change_nothing_outside_and_hold_nobody_up() {
    const TRAPS: usize = 5;
    let farm = Farm::start(TRAPS + 1, 2, Layout::Own);
    let (ralph, toshio) = (farm.users[0].clone(), farm.users[1].clone());
    let [ralphs, toshios] = ["ralphs", "toshios"].map(|name| KeyPair::new(&farm.dir, name));
    let victim = farm.dir.join("victim");
    fs::write(&victim, "of root\n").expect("the victim");
    lay_traps(&farm, &ralph, &toshio, &victim);
    let before = fs::metadata(&victim).expect("the victim");
    let mut truth = Truth::of(&farm.users);
    truth.keys(&ralph, &[&ralphs.public]);
    truth.keys(&toshio, &[&toshios.public]);
    let mut site = Site::start("ssh-traps", &farm, &truth, &Wish::default());
    site.change_and_wait(&ralph);
    site.change_and_wait(&toshio);
    assert!(has(&farm, TRAPS, &ralph, &ralphs) && farm.can_log_in(TRAPS, &ralph, &ralphs));
    for n in 0..=TRAPS {
        assert!(farm.can_log_in(n, &toshio, &toshios), "toshio at {}", farm.hosts[n].name);
        assert!(!has(&farm, n, &toshio, &ralphs), "ralph's key in toshio's file at {}", farm.hosts[n].name);
        assert_eq!(farm.names_beside(n, &toshio), ["authorized_keys"]);
    }
    let after = fs::metadata(&victim).expect("the victim");
    assert_eq!(fs::read_to_string(&victim).expect("the victim"), "of root\n");
    assert_eq!((before.uid(), before.mode(), before.mtime()), (after.uid(), after.mode(), after.mtime()));
    // A person is told, host by host, what is there and what to do.
    for host in farm.hosts.iter().take(TRAPS) {
        let key = format!("host {}", host.name);
        wait_until(&format!("{key} waits for a person"), SOON, || site.count(&key, "failed") > 0);
        let story = site.story(&key);
        assert!(story.contains(&ralph) || story.contains(".ssh"), "{story}");
        println!("{key}: {}", site.rows().iter().find(|row| row["key"] == key).expect("it")["reason"]);
    }
    // New files are the user's own, and nobody else can write to them.
    let made = fs::metadata(farm.key_file(TRAPS, &ralph)).expect("the file");
    assert_eq!((made.uid(), made.mode() & 0o7777), (ids(&ralph).0.as_raw(), 0o600));
}

#[test]
fn a_user_called_like_a_path_reaches_no_file() {
    const PATH_NAME: &str = "../../etc/x";
    for layout in [Layout::Directory, Layout::Own] {
        let farm = Farm::start(2, 1, layout);
        let user = farm.users[0].clone();
        let key = KeyPair::new(&farm.dir, "key");
        let mut truth = Truth::of(&farm.users);
        truth.keys(&user, &[&key.public]);
        for name in [PATH_NAME, "..", "-rf", "a b", "x\ny"] {
            truth.keys(name, &[&key.public]);
            truth.groups.entry(ADMINS.to_owned()).or_default().push(name.to_owned());
        }
        let mut site = Site::start("ssh-path", &farm, &truth, &Wish { every: true, ..Wish::default() });
        wait_until("the others go on", SOON, || (0..2).all(|n| has(&farm, n, &user, &key)));
        site.say("fas.user.update", &json!({"agent": "x", "user": PATH_NAME, "fields": ["ssh_key"]}));
        wait_until("a person is told", SOON, || site.rows().iter().any(|row| row["state"] == "failed"));
        let rows = site.rows();
        let failed = rows.iter().find(|row| row["state"] == "failed").expect("one");
        assert!(failed.to_string().contains("user"), "{failed}");
        let every = rows.iter().find(|row| row["rule"] == "everyone everywhere").expect("the reconcile");
        let (_, story) = site.reactor(&["show", every["id"].as_str().expect("an id")]);
        assert!(story.contains("etc/x"), "the story says who was left out:\n{story}");
        let outside = ["etc", "x", "home/etc", "authorized_keys.d/etc"].map(|path| farm.hosts[0].dir.join(path));
        assert!(outside.iter().all(|path| !path.exists()), "{outside:?}");
        assert!(!Path::new("/etc/x").exists());
        assert_eq!(farm.names_beside(0, &user).len(), 1, "{:?}", farm.names_beside(0, &user));
    }
}

/// Every file is whole at every moment: the line placed by hand first, every block with its end, a newline at the end.
fn assert_whole(text: &str) {
    assert!(text.starts_with(HAND) && text.ends_with('\n'), "{text}");
    let begins = text.matches("# reactor begin").count();
    assert_eq!(begins, text.matches("# reactor end").count(), "{text}");
}

#[test]
fn two_reactors_on_one_host_at_once_leave_whole_files() {
    let farm = Farm::start(2, 2, Layout::Directory);
    let user = farm.users[0].clone();
    let keys: Vec<KeyPair> = (0..6).map(|n| KeyPair::new(&farm.dir, &format!("key{n}"))).collect();
    for n in 0..2 {
        farm.put_keys(n, &user, &format!("{HAND}\n"));
    }
    let mut truth = Truth::of(&farm.users);
    truth.keys(&user, &[&keys[0].public]);
    let named = |block: &str| Wish { handler: json!({"block": block}), ..Wish::default() };
    let mut sites: Vec<Site> =
        ["one", "one", "two"].iter().map(|block| Site::start("ssh-two", &farm, &truth, &named(block))).collect();
    let (began, mut rounds) = (Instant::now(), 0);
    while began.elapsed() < RACE {
        rounds += 1;
        truth.keys(&user, &[&keys[rounds % keys.len()].public]);
        for site in &mut sites {
            truth.write(site);
            site.changed(&user);
        }
        for _ in 0..20 {
            (0..2).for_each(|n| assert_whole(&farm.keys(n, &user)));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    for site in &sites {
        wait_until("all is done", SOON, || site.rows().iter().all(|row| row["state"] == "done"));
    }
    println!("{rounds} changes in each of three daemons");
    let last = &keys[rounds % keys.len()];
    for n in 0..2 {
        let text = farm.keys(n, &user);
        assert_whole(&text);
        assert_eq!(text.matches("# reactor begin").count(), 2, "a block for each name: {text}");
        assert_eq!(text.matches(last.material()).count(), 2, "{text}");
        assert!(farm.can_log_in(n, &user, last));
        assert_eq!(farm.names_beside(n, &user), [user.as_str()]);
    }
}
