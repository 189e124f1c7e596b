//! The handler `ssh-keys` against real sshd: real logins that work and stop working.

use reactor_tests::sshd::{Farm, KeyPair, Layout};

/// What the farm itself must do, or no test on it means anything.
#[test]
fn a_farm_lets_in_who_has_a_key_there_and_nobody_else() {
    for layout in [Layout::Directory, Layout::Own] {
        let mut farm = Farm::start(3, 2, layout);
        let (key, other) = (KeyPair::new(&farm.dir, "key"), KeyPair::new(&farm.dir, "other"));
        let (ralph, toshio) = (farm.users[0].clone(), farm.users[1].clone());
        farm.put_keys(1, &ralph, &format!("{}\n", key.public));
        assert!(farm.can_log_in(1, &ralph, &key));
        assert!(!farm.can_log_in(0, &ralph, &key) && !farm.can_log_in(2, &ralph, &key), "one host only");
        assert!(!farm.can_log_in(1, &toshio, &key) && !farm.can_log_in(1, &ralph, &other));
        let at = farm.log_in(1, "root", &farm.management, "echo $FARM_HOST").expect("root's login");
        assert_eq!(at.trim(), "h2");

        farm.stop(1);
        let refused = farm.log_in(1, &ralph, &key, "true").expect_err("it is down");
        assert!(refused.contains("refused"), "{refused}");
        farm.start_again(1);
        assert!(farm.can_log_in(1, &ralph, &key));
        farm.change_host_key(1);
        let refused = farm.log_in(1, &ralph, &key, "true").expect_err("it is somebody else");
        assert!(refused.contains("Host key verification failed"), "{refused}");
        farm.restore_host_key(1);
        assert!(farm.can_log_in(1, &ralph, &key));
    }
}
