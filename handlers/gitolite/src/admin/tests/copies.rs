//! When the copy breaks, or the server hangs.

use super::*;

#[tokio::test]
async fn a_copy_of_which_somebody_took_a_part_is_made_anew() {
    let site = Site::new();
    let admin = site.admin();
    for part in ["git/objects", "git", ""] {
        let now = admin.look().await.unwrap();
        fs::remove_dir_all(now.place.copy.dir().join(part)).unwrap();
        if part == "git/objects" {
            assert!(now.read(Branch::Master, "conf/gitolite.conf").is_err(), "unknown is not empty");
        }
        let read = admin.look().await.and_then(|now| now.read(Branch::Master, "conf/gitolite.conf"));
        let read = match read {
            // The first who meets it may fail; nobody after.
            Err(_) => admin.look().await.and_then(|now| now.read(Branch::Master, "conf/gitolite.conf")),
            read => read,
        };
        assert!(read.unwrap().unwrap().starts_with(b"repo gitolite-admin"), "{part:?}");
    }
}

#[tokio::test]
async fn who_waits_for_a_fetch_that_fails_is_told_by_it_and_does_not_wait_for_one_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let (config, tries) = (dir.path().join("config"), dir.path().join("tries"));
    fs::write(&config, format!("Host *\n    ProxyCommand sh -c 'echo x >> {}; exit 1'\n", tries.display())).unwrap();
    let remote = Remote { url: "git@localhost:x".into(), ssh_config: Some(config), ..remote(dir.path()) };
    let admin = Arc::new(Admin::new(remote));
    let looks: Vec<_> = (0..20)
        .map(|_| {
            let admin = Arc::clone(&admin);
            tokio::spawn(async move { admin.look().await.map(drop) })
        })
        .collect();
    for look in looks {
        assert!(matches!(look.await.unwrap(), Err(Failure::Retry { .. } | Failure::Permanent { .. })));
    }
    let tries = fs::read_to_string(tries).unwrap().lines().count();
    assert!(tries <= 2, "{tries} connections");
    assert!(admin.look().await.is_err(), "the next is asked for anew");
}
