//! One host in trouble: the others are done, it goes on alone, and is done when it is back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reactor_tests::sshd::{Farm, KeyPair, Layout};
use reactor_tests::wait_until;

use super::site::{SOON, Site, Truth, Wish};

/// Hosts that work, beside those in trouble.
const HOSTS: usize = 50;
/// What the others may take when one host hangs: its `connect_timeout` and `command_timeout` in this site, and the work.
const OTHERS_MAX: Duration = Duration::from_secs(30);

/// The hosts in trouble, by what is wrong with them.
const REFUSES: usize = 0;
const HANGS: usize = 1;
const FULL: usize = 2;
const IMMUTABLE: usize = 3;
const READ_ONLY: usize = 4;
const OTHER_KEY: usize = 5;
const TROUBLED: [usize; 6] = [REFUSES, HANGS, FULL, IMMUTABLE, READ_ONLY, OTHER_KEY];

fn has(farm: &Farm, n: usize, key: &KeyPair) -> bool {
    farm.keys(n, &farm.users[0]).contains(key.material())
}

/// Waits until all hosts without trouble have the key; how long that took.
fn others_have(farm: &Farm, key: &KeyPair) -> Duration {
    let began = Instant::now();
    wait_until("the others have the key", SOON, || (TROUBLED.len()..HOSTS).all(|n| has(farm, n, key)));
    began.elapsed()
}

#[test]
fn hosts_in_trouble_hold_nobody_up_and_are_done_when_they_are_back() {
    let mut farm = Farm::start(HOSTS, 1, Layout::Directory);
    let user = farm.users[0].clone();
    let [first, second, third] = ["first", "second", "third"].map(|name| KeyPair::new(&farm.dir, name));
    let mut truth = Truth::of(&farm.users);
    truth.keys(&user, &[&first.public]);
    let mut site = Site::start("ssh-trouble", &farm, &truth, &Wish::default());
    site.change_and_wait(&user);
    assert!((0..HOSTS).all(|n| has(&farm, n, &first)));

    farm.stop(REFUSES);
    farm.hang(HANGS);
    farm.fill_disk(FULL);
    farm.make_immutable(IMMUTABLE);
    farm.make_read_only(READ_ONLY);
    farm.change_host_key(OTHER_KEY);
    truth.keys(&user, &[&second.public]);
    truth.write(&site);
    site.changed(&user);
    let took = others_have(&farm, &second);
    site.until(&user, "done", 2);
    let done = site.story(&user);
    for (n, why) in [
        (REFUSES, "refused"),
        (HANGS, "no answer"),
        (FULL, "No space left"),
        (READ_ONLY, "ead-only"),
        (OTHER_KEY, "host key"),
    ] {
        let host = &farm.hosts[n].name;
        let told = done.lines().any(|line| line.contains(host) && line.to_lowercase().contains(&why.to_lowercase()));
        assert!(told, "the story does not say of {host}: {why}\n{done}");
    }
    for n in TROUBLED {
        assert!(done.contains(&format!("{}:", farm.hosts[n].name)), "{} is not in\n{done}", farm.hosts[n].name);
        assert!(has(&farm, n, &first) && !has(&farm, n, &second), "{}: the old file is whole", farm.hosts[n].name);
        assert!(site.rows().iter().any(|row| row["key"] == format!("host {}", farm.hosts[n].name)), "{done}");
    }
    println!("6 of {HOSTS} hosts in trouble: the others have the key after {took:?}");
    assert!(took < OTHERS_MAX, "{took:?}");

    // The next change of the same user does not wait for them.
    truth.keys(&user, &[&third.public]);
    truth.write(&site);
    site.changed(&user);
    let took = others_have(&farm, &third);
    site.until(&user, "done", 3);
    println!("the next change: the others have the key after {took:?}");
    assert!(took < OTHERS_MAX, "{took:?}");

    farm.start_again(REFUSES);
    farm.go_on(HANGS);
    farm.make_room(FULL);
    farm.make_mutable(IMMUTABLE);
    farm.make_writable(READ_ONLY);
    farm.restore_host_key(OTHER_KEY);
    // What may pass goes on by itself. What only a person can mend has failed; the person who did says so.
    wait_until("the hosts that are back have the key", SOON, || {
        [REFUSES, HANGS, FULL].iter().all(|n| has(&farm, *n, &third))
    });
    for n in TROUBLED {
        let key = format!("host {}", farm.hosts[n].name);
        wait_until(&format!("{key} is done"), SOON, || {
            let failed: Vec<_> =
                site.rows().into_iter().filter(|row| row["key"] == key && row["state"] == "failed").collect();
            failed.iter().for_each(|row| drop(site.reactor(&["retry", row["id"].as_str().expect("an id")])));
            failed.is_empty() && has(&farm, n, &third)
        });
        assert!(farm.can_log_in(n, &user, &third) && !farm.can_log_in(n, &user, &first), "{key}");
        assert_eq!(farm.names_beside(n, &user), [user.as_str()], "{key}: nothing is left over");
    }
    site.stop();
    site.until_no_helpers();
}

#[test]
fn a_link_that_is_cut_anywhere_leaves_the_old_file_or_the_new_one() {
    let farm = Farm::start(2, 1, Layout::Directory);
    let user = farm.users[0].clone();
    let proxy = farm.cut_proxy(0);
    let mut truth = Truth::of(&farm.users);
    let wish = Wish { addresses: BTreeMap::from([(0, proxy.address)]), ..Wish::default() };
    let mut site = Site::start("ssh-cut", &farm, &truth, &wish);
    let many: Vec<KeyPair> = (0..40).map(|n| KeyPair::new(&farm.dir, &format!("many{n}"))).collect();
    let mut texts: Vec<&str> = many.iter().map(|key| key.public.as_str()).collect();
    let mut whole = vec![String::new()];
    // Each round writes some 4 KiB, so the cuts lie in the look, in the middle of the write, and after it.
    for (round, bytes) in [100, 1_500, 3_000, 4_500, 6_000, 7_500, 9_000, 12_000].into_iter().enumerate() {
        texts.rotate_left(1);
        truth.keys(&user, &texts[..texts.len() - 1 - round % 2]);
        truth.write(&site);
        proxy.cut_after(bytes);
        site.changed(&user);
        wait_until("both hosts have the same", SOON, || {
            let (cut, other) = (farm.keys(0, &user), farm.keys(1, &user));
            assert!(
                whole.contains(&cut) || cut == other || farm.keys(1, &user) == farm.keys(0, &user),
                "half a file:\n{cut}"
            );
            cut == other && !whole.contains(&cut)
        });
        whole.push(farm.keys(0, &user));
        wait_until("all is done", SOON, || site.rows().iter().all(|row| row["state"] == "done"));
        assert_eq!(farm.names_beside(0, &user), [user.as_str()], "after {bytes} bytes: something is left over");
    }
    println!("{} of 8 cuts happened", proxy.cuts());
    assert!(proxy.cuts() >= 5, "only {} of the cuts happened", proxy.cuts());
}
