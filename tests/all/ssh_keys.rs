//! The handler `ssh-keys` against real sshd: real logins that work and stop working. Each test has a farm of its own.

mod faults;
mod hostile;
mod site;
mod speed;
mod truth;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reactor_tests::sshd::{Farm, KeyPair, Layout};
use reactor_tests::{PATIENCE, wait_until};

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

#[test]
fn a_farms_faults_are_what_they_are_called() {
    let began = Instant::now();
    let farm = Farm::start(50, 1, Layout::Directory);
    println!("a farm of 50 is up after {:?}", began.elapsed());
    let (user, key) = (farm.users[0].clone(), KeyPair::new(&farm.dir, "key"));
    (0..50).for_each(|n| farm.put_keys(n, &user, &format!("{}\n", key.public)));
    let write = |n: usize| fs::write(farm.keys_dir(n).join("new"), [b'x'; 4096]).map_err(|error| error.kind());

    farm.fill_disk(0);
    assert_eq!(write(0), Err(ErrorKind::StorageFull));
    fs::remove_file(farm.keys_dir(0).join("new")).expect("what came of it");
    assert!(farm.can_log_in(0, &user, &key), "what was there stays there");
    farm.make_room(0);
    assert_eq!(write(0), Ok(()));
    farm.make_immutable(1);
    assert_eq!(write(1), Err(ErrorKind::PermissionDenied));
    farm.make_mutable(1);
    assert_eq!(write(1), Ok(()));
    farm.make_read_only(2);
    assert_eq!(write(2), Err(ErrorKind::ReadOnlyFilesystem));
    farm.make_writable(2);
    assert_eq!(write(2), Ok(()));
    farm.make_immutable(3);
    farm.make_read_only(4);

    let logged_in = std::thread::scope(|scope| {
        farm.hang(5);
        let login = scope.spawn(|| farm.can_log_in(5, &user, &key));
        // Nothing can be waited for here: that nothing happens is what is tested.
        std::thread::sleep(Duration::from_millis(500));
        assert!(!login.is_finished(), "a host that hangs answers nobody");
        farm.go_on(5);
        login.join().expect("a login")
    });
    assert!(logged_in);

    let proxy = farm.cut_proxy(6);
    proxy.cut_after(1_000);
    let mut stream = TcpStream::connect(proxy.address).expect("connected");
    let (mut greeting, mut sent) = ([0; 4], 0);
    stream.read_exact(&mut greeting).expect("the host's greeting comes through");
    // How much the kernel takes before the proxy has looked is its own affair.
    let began = Instant::now();
    while stream.write_all(&[b'x'; 100]).is_ok() && began.elapsed() < PATIENCE {
        sent += 100;
    }
    assert!(sent >= 1_000, "cut after {sent} bytes");
    wait_until("the cut is counted", PATIENCE, || proxy.cuts() == 1);
    let (dir, user) = (farm.dir.clone(), farm.users[0].clone());
    drop(proxy);
    drop(farm);
    assert!(!dir.exists(), "{} is still there", dir.display());
    assert!(!fs::read_to_string("/etc/passwd").expect("passwd").contains(&user), "{user} is still there");
    assert!(!fs::read_to_string("/proc/mounts").expect("mounts").contains(&dir.display().to_string()));
}
