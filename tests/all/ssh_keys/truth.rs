//! The whole source of truth: reconcile, a truth that can't be read, restricted groups.

use reactor_tests::sshd::{Farm, KeyPair, Layout};
use reactor_tests::wait_until;
use serde_json::json;

use super::site::{ADMINS, SOON, Site, Truth, Wish};

/// A farm of three hosts where everybody has a key, as the truth has it.
struct Settled {
    farm: Farm,
    site: Site,
    truth: Truth,
    keys: Vec<KeyPair>,
}

impl Settled {
    fn new(name: &str, users: usize, wish: &Wish) -> Self {
        let farm = Farm::start(3, users, Layout::Directory);
        let mut truth = Truth::of(&farm.users);
        let keys: Vec<KeyPair> =
            farm.users.iter().map(|user| KeyPair::new(&farm.dir, &format!("key-{user}"))).collect();
        farm.users.iter().zip(&keys).for_each(|(user, key)| truth.keys(user, &[&key.public]));
        let mut site = Site::start(name, &farm, &truth, wish);
        for user in &farm.users {
            site.change_and_wait(user);
        }
        let settled = Self { farm, site, truth, keys };
        settled.assert_all_in("at the beginning");
        settled
    }

    fn has(&self, n: usize, user: usize) -> bool {
        self.farm.keys(n, &self.farm.users[user]).contains(self.keys[user].material())
    }

    fn assert_all_in(&self, when: &str) {
        for (n, user) in (0..3).flat_map(|n| (0..self.farm.users.len()).map(move |user| (n, user))) {
            assert!(self.has(n, user), "{when}: user {user} has lost the key at h{}", n + 1);
        }
    }
}

#[test]
fn a_truth_that_can_not_be_read_takes_nobodys_key() {
    let mut all = Settled::new("ssh-unknown", 3, &Wish { every: true, ..Wish::default() });
    let (user, good) =
        (all.farm.users[0].clone(), std::fs::read_to_string(all.site.file("accounts.yaml")).expect("it"));
    let nobody = json!({"users": {}, "groups": {ADMINS: []}}).to_string();
    let no_group = json!({"users": {&user: {"keys": []}}, "groups": {}}).to_string();
    let half = good[..good.len() / 2].to_owned();
    for (what, text) in
        [("damaged", half.as_str()), ("empty file", ""), ("empty group", &nobody), ("no group", &no_group)]
    {
        all.site.put_truth(text);
        let (before, done) = (all.site.rows().len(), all.site.count(&user, "done"));
        all.site.changed(&user);
        wait_until("a try has failed", SOON, || {
            let rows = all.site.rows();
            rows.len() > before
                && rows
                    .iter()
                    .any(|row| row["state"] == "waiting" && row["reason"].is_string() || row["state"] == "failed")
        });
        let (code, said) = all.site.reactor(&["reconcile", "hosts"]);
        assert_eq!(code, 1, "{what}: {said}");
        all.assert_all_in(what);
        all.site.put_truth(&good);
        wait_until("it goes on when the truth is back", SOON, || {
            for row in all.site.rows().iter().filter(|row| row["state"] == "failed") {
                let _ = all.site.reactor(&["retry", row["id"].as_str().expect("an id")]);
            }
            all.site.count(&user, "done") == done + 1
        });
        all.assert_all_in(what);
    }
}

#[test]
fn reconcile_shows_and_mends_what_nobody_told_and_a_second_one_is_empty() {
    let guard = json!({"changes": 100, "deletes": 2});
    let mut all = Settled::new("ssh-reconcile", 3, &Wish { every: true, guard, ..Wish::default() });
    wait_until("the first reconcile is done", SOON, || all.site.rows().iter().all(|row| row["state"] == "done"));
    let (code, said) = all.site.reactor(&["reconcile", "hosts"]);
    assert_eq!(code, 0, "nothing to do yet: {said}");

    // By hand: a key inside the block, a file that is gone. At the truth: somebody has left, and nobody told.
    let (edited, lost, left) = (all.farm.users[0].clone(), all.farm.users[1].clone(), all.farm.users[2].clone());
    let stranger = KeyPair::new(&all.farm.dir, "stranger");
    let text = all.farm.keys(0, &edited);
    let mine = all.keys[0].public.clone();
    all.farm.put_keys(0, &edited, &text.replace(&mine, &format!("{mine}\n{}", stranger.public)));
    assert!(all.farm.can_log_in(0, &edited, &stranger), "the stranger is in");
    std::fs::remove_file(all.farm.key_file(1, &lost)).expect("the file");
    all.truth.leave(&left, ADMINS);
    all.truth.write(&all.site);

    let (code, said) = all.site.reactor(&["reconcile", "hosts"]);
    assert_eq!(code, 1, "{said}");
    for wanted in
        [format!("h1: {edited}"), format!("h2: {lost}"), format!("h1: {left}"), format!("h3: {left}"), "SHA256:".into()]
    {
        assert!(said.contains(&wanted), "{wanted} is not in\n{said}");
    }
    assert!(!said.contains("AAAAC3NzaC1lZDI1NTE5"), "a plan shows no whole key:\n{said}");
    assert!(all.farm.can_log_in(0, &edited, &stranger), "shown, not done");

    // Three deletes are over the guard: held until a person approves.
    let (code, said) = all.site.reactor(&["reconcile", "hosts", "--apply"]);
    assert!(code == 1 && said.contains("held"), "{said}");
    assert!(all.has(0, 2) && all.farm.can_log_in(0, &edited, &stranger), "{said}");
    let held = all.site.rows().into_iter().find(|row| row["state"] == "held").expect("a held one");
    let (code, said) = all.site.reactor(&["approve", held["id"].as_str().expect("an id")]);
    assert_eq!(code, 0, "{said}");
    wait_until("all is mended", SOON, || {
        (0..3).all(|n| !all.has(n, 2) && all.has(n, 0) && all.has(n, 1))
            && !all.farm.keys(0, &edited).contains(stranger.material())
    });
    assert!(!all.farm.can_log_in(0, &edited, &stranger) && all.farm.can_log_in(1, &lost, &all.keys[1]));
    assert!(!all.farm.can_log_in(2, &left, &all.keys[2]));
    wait_until("all is done", SOON, || all.site.rows().iter().all(|row| row["state"] == "done"));
    let (code, said) = all.site.reactor(&["reconcile", "hosts"]);
    assert_eq!(code, 0, "the second plan is empty: {said}");
    let (code, said) = all.site.reactor(&["reconcile", "hosts", "--apply"]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_restricted_group_gets_its_forced_command_and_the_most_privileged_wins() {
    let access = json!([ADMINS, {"deployers": ["restrict", "command=\"echo forced for %u\""]}]);
    let farm = Farm::start(1, 2, Layout::Directory);
    let (ralph, toshio) = (farm.users[0].clone(), farm.users[1].clone());
    let key = KeyPair::new(&farm.dir, "key");
    let mut truth = Truth::of(std::slice::from_ref(&ralph));
    truth.keys(&ralph, &[&key.public]);
    truth.keys(&toshio, &[&key.public]);
    truth.groups.insert("deployers".into(), farm.users.clone());
    let mut site = Site::start("ssh-forced", &farm, &truth, &Wish { access, ..Wish::default() });
    site.change_and_wait(&ralph);
    site.change_and_wait(&toshio);
    let said = |user: &str| farm.log_in(0, user, &key, "echo free").expect("a login");
    assert_eq!((said(&toshio).trim(), said(&ralph).trim()), (&*format!("forced for {toshio}"), "free"));
    // No longer an administrator, still a deployer: the key stays, restricted.
    truth.groups.insert(ADMINS.to_owned(), vec![toshio.clone()]);
    truth.write(&site);
    site.change_and_wait(&ralph);
    site.change_and_wait(&toshio);
    assert_eq!((said(&toshio).trim(), said(&ralph).trim()), ("free", &*format!("forced for {ralph}")));
}
