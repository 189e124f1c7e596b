//! How soon: from publish to a real login on each of fifty hosts. And kill -9 in the middle of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reactor_tests::peers::{Publisher, PythonPeers};
use reactor_tests::pki::{Pki, SIGNER};
use reactor_tests::sshd::{Farm, KeyPair, Layout};
use reactor_tests::wait_until;
use serde_json::json;

use super::site::{ADMINS, PREFIX, SOON, Site, Truth, Wish};

const HOSTS: usize = 50;
/// Logins tried at the same time while the clock runs: more would measure the clients.
const LOGINS_AT_ONCE: usize = 2;
/// What a user relies on: "log in again in half a minute". On an idle machine it is a second.
const LAST_LOGIN_MAX: Duration = Duration::from_secs(30);

/// Milliseconds from `began` until a real login with `key` works, for every host: p50 and the last.
fn until_logins(farm: &Farm, began: Instant, user: &str, key: &KeyPair) -> (u128, u128) {
    let next = AtomicUsize::new(0);
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let one = || {
            let mut times = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::SeqCst);
                if n >= farm.hosts.len() {
                    return times;
                }
                // Looking at the file is cheap; the login that counts is made when it is there.
                wait_until("the key is there", SOON, || farm.keys(n, user).contains(key.material()));
                assert!(farm.can_log_in(n, user, key), "{}: the key is there, but does not open", farm.hosts[n].name);
                times.push(began.elapsed());
            }
        };
        let all: Vec<_> = (0..LOGINS_AT_ONCE).map(|_| scope.spawn(one)).collect();
        all.into_iter().flat_map(|times| times.join().expect("the logins")).collect()
    });
    times.sort();
    (times[times.len() / 2].as_millis(), times[times.len() - 1].as_millis())
}

/// Milliseconds from `began` until the key is in the last host's file.
fn until_last_file(farm: &Farm, began: Instant, user: &str, key: &KeyPair) -> u128 {
    let mut missing: Vec<usize> = (0..farm.hosts.len()).collect();
    wait_until("the key is on all hosts", SOON, || {
        missing.retain(|n| !farm.keys(*n, user).contains(key.material()));
        missing.is_empty()
    });
    began.elapsed().as_millis()
}

/// What is published before the daemon listens is lost: says something until it is heard.
fn meet(site: &Site, publisher: &mut Publisher, user: &str) {
    wait_until("publisher and daemon meet", SOON, || {
        publisher.publish("fas.user.update", &json!({"agent": user, "user": user, "fields": ["ssh_key"]}));
        site.count(user, "done") > 0
    });
    wait_until("all is done", SOON, || site.rows().iter().all(|row| row["state"] == "done"));
}

#[test]
fn a_changed_key_opens_fifty_hosts_within_seconds_and_the_old_one_none() {
    let farm = Farm::start(HOSTS, 2, Layout::Directory);
    let (ralph, toshio) = (farm.users[0].clone(), farm.users[1].clone());
    let [old, new, by_hand, toshios] = ["old", "new", "by-hand", "toshio"].map(|name| KeyPair::new(&farm.dir, name));
    let mut truth = Truth::of(&farm.users);
    truth.keys(&ralph, &[]);
    truth.keys(&toshio, &[&toshios.public]);
    let pki = Pki::new(&farm.dir);
    let policy = json!({format!("{PREFIX}.fas.**"): [SIGNER]});
    let trust = json!({"x509": {"ca": pki.file("ca.crt"), "crl": pki.file("crl.pem")}, "policy": policy});
    let mut site = Site::new("ssh-keys", &farm, &Wish { trust, ..Wish::default() });
    truth.write(&site);
    let mut publisher = PythonPeers::find().publisher(&farm.dir, site.port, Some(&pki));
    site.run();
    meet(&site, &mut publisher, &toshio);
    farm.put_keys(0, &ralph, &format!("{}\n", by_hand.public));
    let mut publish = |topic: &str, user: &str| {
        publisher.publish(topic, &json!({"agent": user, "user": user, "fields": ["ssh_key"], "group": ADMINS}));
        Instant::now()
    };

    // Connections are warm: the hosts have been talked to. The pure way of a key, nobody logs in meanwhile.
    truth.keys(&ralph, &[&old.public]);
    truth.write(&site);
    let last_file = until_last_file(&farm, publish("fas.user.update", &ralph), &ralph, &old);

    truth.keys(&ralph, &[&new.public]);
    truth.write(&site);
    let (p50, last) = until_logins(&farm, publish("fas.user.update", &ralph), &ralph, &new);
    println!(
        "{HOSTS} hosts: publish → key in the last file {last_file} ms; → real login p50 {p50} ms, the last {last} ms"
    );
    assert!(Duration::from_millis(u64::try_from(last).expect("a time")) < LAST_LOGIN_MAX, "{last} ms");
    for n in 0..HOSTS {
        assert!(!farm.can_log_in(n, &ralph, &old), "{}: the withdrawn key still opens", farm.hosts[n].name);
    }
    assert!(farm.can_log_in(0, &ralph, &by_hand), "a key placed by hand stays");

    // A member is removed: gone everywhere; what was placed by hand stays.
    farm.put_keys(1, &toshio, &format!("{}\n{}", by_hand.public, farm.keys(1, &toshio)));
    truth.leave(&toshio, ADMINS);
    truth.write(&site);
    let began = publish("fas.group.member.remove", &toshio);
    wait_until("toshio's key is gone", SOON, || {
        (0..HOSTS).all(|n| !farm.keys(n, &toshio).contains(toshios.material()))
    });
    println!("{HOSTS} hosts: publish → a removed member's key gone from the last {} ms", began.elapsed().as_millis());
    for n in [0, 1, 7, HOSTS - 1] {
        assert!(!farm.can_log_in(n, &toshio, &toshios), "{}", farm.hosts[n].name);
    }
    assert!(farm.can_log_in(1, &toshio, &by_hand));
    assert!(farm.can_log_in(1, &ralph, &new), "the other's key stays");
    site.stop();
    site.until_no_helpers();
}

#[test]
fn kill_9_in_the_middle_of_fifty_hosts_leaves_nothing_half_done() {
    let farm = Farm::start(HOSTS, 1, Layout::Directory);
    let user = farm.users[0].clone();
    let mut truth = Truth::of(&farm.users);
    let mut site = Site::start("ssh-kill", &farm, &truth, &Wish::default());
    let mut killed_half_way = 0;
    for round in 0..3 {
        let key = KeyPair::new(&farm.dir, &format!("key{round}"));
        truth.keys(&user, &[&key.public]);
        truth.write(&site);
        site.changed(&user);
        let there = || (0..HOSTS).filter(|n| farm.keys(*n, &user).contains(key.material())).count();
        wait_until("the first hosts have the key", SOON, || there() > 0);
        let helpers = site.helpers();
        site.kill_9();
        killed_half_way += usize::from(there() < HOSTS);
        site.run();
        wait_until("all hosts have the key", SOON, || there() == HOSTS);
        site.until(&user, "done", round + 1);
        let left: Vec<_> = site.helpers().into_iter().filter(|pid| helpers.contains(pid)).collect();
        assert!(left.is_empty(), "of the killed daemon's handlers and masters {left:?} still run");
        for n in 0..HOSTS {
            assert_eq!(farm.names_beside(n, &user), [user.as_str()], "{}", farm.hosts[n].name);
            let begins = farm.keys(n, &user).matches("# reactor begin").count();
            assert_eq!(begins, 1, "{}: {}", farm.hosts[n].name, farm.keys(n, &user));
        }
        assert!(farm.can_log_in(HOSTS / 2, &user, &key));
    }
    println!("{killed_half_way} of 3 kills hit an apply half-way");
    site.stop();
    site.until_no_helpers();
    wait_until("no session is left on any host", SOON, || (0..HOSTS).all(|n| farm.sessions(n) == 0));
}
