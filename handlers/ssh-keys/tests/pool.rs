//! The hosts over real ssh: a private sshd on loopback for each test. Needs openssh-server and openssh-client
//! (`scripts/install-test-deps`).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ssh_keys::access::{Host, Place, Reach};
use ssh_keys::config::SshConfig;
use ssh_keys::fleet::{Fleet, Found, Trouble, TroubleKind, Who, Write};
use tempfile::TempDir;

/// How long anything that is waited for may take.
const LIMIT: Duration = Duration::from_secs(20);

#[allow(clippy::disallowed_methods, reason = "tests set up what they need")]
fn command(program: &str) -> Command {
    Command::new(program)
}

fn run(words: &[&str]) -> String {
    let output = command(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LIMIT, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A real sshd with its own host key, that lets one key of ours in. With SHLVL set bash does not read ~/.bashrc, which takes
/// longer than all else on some machines.
struct Sshd {
    dir: TempDir,
    port: u16,
    server: Child,
}

impl Sshd {
    fn start(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        for name in ["hostkey", "key", "strange"] {
            run(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &path(name)]);
        }
        fs::create_dir(path("keys")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             AuthorizedKeysFile {}\nMaxStartups 100\nSetEnv SHLVL=2\n{more}\n",
            path("hostkey"),
            path("key.pub")
        );
        fs::write(path("sshd_config"), config).unwrap();
        fs::write(path("ssh_config"), format!("IdentityFile {}\nIdentitiesOnly yes\n", path("key"))).unwrap();
        let public = fs::read_to_string(path("hostkey.pub")).unwrap();
        fs::write(path("known_hosts"), format!("[127.0.0.1]:{port} {public}")).unwrap();
        let server = Self::serve(dir.path(), port);
        Self { dir, port, server }
    }

    fn serve(dir: &Path, port: u16) -> Child {
        // Debian's sshd wants it when it runs as root.
        let _ = fs::create_dir_all("/run/sshd");
        let log = fs::File::create(dir.join("log")).unwrap();
        let mut sshd = command("/usr/sbin/sshd");
        let server = sshd.arg("-D").arg("-e").arg("-f").arg(dir.join("sshd_config")).stderr(log).spawn();
        let server = server.expect("openssh-server is needed: scripts/install-test-deps");
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < LIMIT, "{}", fs::read_to_string(dir.join("log")).unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ssh(&self) -> SshConfig {
        SshConfig {
            key: "no_such_secret".into(),
            known_hosts: Some(self.path("known_hosts")),
            config: Some(self.path("ssh_config")),
            at_once: 8,
            connect_timeout: Duration::from_secs(5),
            command_timeout: Duration::from_secs(10),
            keep: Duration::from_secs(60),
            connections_max: 8,
        }
    }

    fn host(&self) -> Host {
        self.host_called("127.0.0.1")
    }

    fn host_called(&self, address: &str) -> Host {
        Host {
            name: "web01".into(),
            reach: Reach::Ssh {
                address: address.into(),
                port: Some(self.port),
                user: Some(run(&["id", "-un"])),
                sudo: false,
            },
            place: Place::Directory(format!("{}/%u", self.path("keys").display())),
            access: Vec::new(),
        }
    }

    /// The same server under so many names.
    fn aliases(&self, count: usize) -> Vec<String> {
        let public = fs::read_to_string(self.path("hostkey.pub")).unwrap();
        let names: Vec<String> = (0..count).map(|n| format!("alias{n}")).collect();
        let mut config = fs::read_to_string(self.path("ssh_config")).unwrap();
        let mut known = fs::read_to_string(self.path("known_hosts")).unwrap();
        for name in &names {
            config.push_str(&format!("Host {name}\n HostName 127.0.0.1\n HostKeyAlias {name}\n"));
            known.push_str(&format!("{name} {public}"));
        }
        fs::write(self.path("ssh_config"), config).unwrap();
        fs::write(self.path("known_hosts"), known).unwrap();
        names
    }

    /// Our masters to this server that run now.
    fn masters(&self) -> Vec<u32> {
        let port = format!("\0-p\0{}\0", self.port);
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.starts_with("ssh\0") && line.contains(&port)
        })
        .collect()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn kill(pid: u32) {
    run(&["kill", "-KILL", &pid.to_string()]);
}

async fn look(fleet: &Fleet, host: &Host) -> Result<BTreeMap<String, Found>, Trouble> {
    fleet.look(host, &Who::Only(vec!["ralph".into()]), "reactor").await
}

fn write(user: &str, before: Option<&str>, after: &str) -> Write {
    Write {
        user: user.into(),
        before: before.map(|text| text.as_bytes().to_vec()),
        after: Some(after.as_bytes().to_vec()),
    }
}

#[tokio::test]
async fn one_warm_connection_carries_all_commands_and_goes_with_the_fleet() {
    let sshd = Sshd::start("");
    let (fleet, host) = (Fleet::new(sshd.ssh()), sshd.host());
    let started = Instant::now();
    assert_eq!(look(&fleet, &host).await.unwrap()["ralph"], Found::Absent);
    let cold = started.elapsed();
    const ROUNDS: u32 = 30;
    let mut before: Option<String> = None;
    let started = Instant::now();
    for round in 0..ROUNDS {
        let after = format!("{round}\n");
        let done = fleet.write(&host, &[write("ralph", before.as_deref(), &after)]).await.unwrap();
        assert_eq!(done["ralph"], Ok(()));
        assert_eq!(look(&fleet, &host).await.unwrap()["ralph"], Found::File(after.clone().into_bytes()));
        before = Some(after);
    }
    println!("over ssh: cold look {cold:?}, warm write + look {:?}", started.elapsed() / ROUNDS);
    let masters = sshd.masters();
    assert_eq!(masters.len(), 1, "one connection for all of it");
    // So the daemon finds it after a kill -9: it carries our environment and is in our process group.
    let own = fs::read("/proc/self/environ").unwrap();
    let its = fs::read(format!("/proc/{}/environ", masters[0])).unwrap();
    assert!(own.split(|byte| *byte == 0).all(|variable| its.split(|byte| *byte == 0).any(|other| other == variable)));
    let group = |pid: &str| run(&["ps", "-o", "pgid=", "-p", pid]);
    assert_eq!(group(&masters[0].to_string()), group(&std::process::id().to_string()));
    drop(fleet);
    until("the master ends", || sshd.masters().is_empty()).await;
}

#[tokio::test]
async fn a_connection_that_broke_is_made_anew() {
    let mut sshd = Sshd::start("");
    let (fleet, host) = (Fleet::new(sshd.ssh()), sshd.host());
    look(&fleet, &host).await.unwrap();
    kill(sshd.masters()[0]);
    look(&fleet, &host).await.unwrap();

    // The server is started anew: its sessions are gone, and for a moment nobody listens.
    let mut sessions = Vec::new();
    let mut above = vec![sshd.server.id().to_string()];
    while let Some(pid) = above.pop() {
        let output = command("pgrep").args(["-P", &pid]).output().unwrap();
        let below: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect();
        sessions.extend(below.clone());
        above.extend(below);
    }
    sshd.server.kill().unwrap();
    sshd.server.wait().unwrap();
    for pid in sessions {
        // Some end with the one above them.
        let _ = command("kill").args(["-KILL", &pid]).stderr(Stdio::null()).status();
    }
    until("the master notices", || sshd.masters().is_empty()).await;
    let refused = look(&fleet, &host).await.unwrap_err();
    assert!(refused.kind == TroubleKind::MayPass && refused.message.contains("Connection refused"), "{refused:?}");
    sshd.server = Sshd::serve(sshd.dir.path(), sshd.port);
    look(&fleet, &host).await.unwrap();
}

#[tokio::test]
async fn what_ssh_refuses_is_said_with_its_reason_and_a_way_out() {
    let sshd = Sshd::start("");
    let refused = async |ssh: SshConfig, host: Host| look(&Fleet::new(ssh), &host).await.unwrap_err();
    let unknown = sshd.path("none");
    fs::write(&unknown, "").unwrap();
    let trouble = refused(SshConfig { known_hosts: Some(unknown), ..sshd.ssh() }, sshd.host()).await;
    assert!(
        trouble.kind == TroubleKind::Lasting && trouble.hint.unwrap().contains("ssh-keyscan -p"),
        "{}",
        trouble.message
    );
    assert!(trouble.message.contains("Host key verification failed"), "{}", trouble.message);

    let changed = sshd.path("changed");
    let strange = fs::read_to_string(sshd.path("strange.pub")).unwrap();
    fs::write(&changed, format!("[127.0.0.1]:{} {strange}", sshd.port)).unwrap();
    let trouble = refused(SshConfig { known_hosts: Some(changed), ..sshd.ssh() }, sshd.host()).await;
    assert!(trouble.kind == TroubleKind::Lasting && trouble.message.contains("not the one we know"), "{trouble:?}");

    let stranger = sshd.path("stranger");
    fs::write(&stranger, format!("IdentityFile {}\nIdentitiesOnly yes\n", sshd.path("strange").display())).unwrap();
    let trouble = refused(SshConfig { config: Some(stranger), ..sshd.ssh() }, sshd.host()).await;
    assert!(
        trouble.kind == TroubleKind::Lasting && trouble.message.contains("Permission denied (publickey)"),
        "{trouble:?}"
    );

    let bad = sshd.path("bad");
    fs::write(&bad, "NoSuchWord yes\n").unwrap();
    let trouble = refused(SshConfig { config: Some(bad), ..sshd.ssh() }, sshd.host()).await;
    assert!(
        trouble.kind == TroubleKind::Lasting && trouble.message.contains("Bad configuration option"),
        "{trouble:?}"
    );
    let trouble = refused(SshConfig { config: Some("/nowhere".into()), ..sshd.ssh() }, sshd.host()).await;
    assert!(trouble.kind == TroubleKind::Lasting && trouble.hint.unwrap().contains("/nowhere"));

    let trouble = refused(sshd.ssh(), sshd.host_called("no-such-host.invalid")).await;
    assert!(trouble.message.contains("no-such-host.invalid"), "{trouble:?}");
    let trouble = refused(sshd.ssh(), sshd.host_called("-oProxyCommand=touch /tmp/pwned")).await;
    assert!(!Path::new("/tmp/pwned").exists(), "{trouble:?}");
    let message = &trouble.message;
    assert!(!message.contains(char::is_control) && message.starts_with("host web01: "), "{message:?}");
}

#[tokio::test]
async fn a_host_that_hangs_costs_no_more_than_its_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let sshd = Sshd::start("ForceCommand sleep 60");
    let short =
        SshConfig { connect_timeout: Duration::from_secs(1), command_timeout: Duration::from_secs(1), ..sshd.ssh() };
    let fleet = Fleet::new(short);
    let mut host = sshd.host();
    if let Reach::Ssh { port, .. } = &mut host.reach {
        *port = Some(silent.local_addr().unwrap().port());
    }
    let started = Instant::now();
    let trouble = look(&fleet, &host).await.unwrap_err();
    assert!(trouble.kind == TroubleKind::MayPass && started.elapsed() < LIMIT, "{trouble:?}");

    let started = Instant::now();
    let trouble = look(&fleet, &sshd.host()).await.unwrap_err();
    assert!(trouble.kind == TroubleKind::MayPass && started.elapsed() < LIMIT, "{trouble:?}");
    until("the connection is closed", || sshd.masters().is_empty()).await;
}

#[tokio::test]
async fn hosts_that_are_down_keep_no_places_from_those_that_are_not() {
    let silent: Vec<TcpListener> = (0..12).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let sshd = Sshd::start("");
    let few = SshConfig { at_once: 2, connect_timeout: Duration::from_secs(20), ..sshd.ssh() };
    let fleet = Arc::new(Fleet::new(few));
    let mut waiting = tokio::task::JoinSet::new();
    for listener in &silent {
        let (fleet, mut host) = (Arc::clone(&fleet), sshd.host());
        if let Reach::Ssh { port, .. } = &mut host.reach {
            *port = Some(listener.local_addr().unwrap().port());
        }
        waiting.spawn(async move { look(&fleet, &host).await });
    }
    tokio::task::yield_now().await;
    let started = Instant::now();
    look(&fleet, &sshd.host()).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(15), "it waited {:?} for those that are down", started.elapsed());
}

#[tokio::test]
async fn a_login_shell_that_talks_is_a_lasting_trouble_that_says_so() {
    let sshd = Sshd::start("ForceCommand echo Welcome; eval \"$SSH_ORIGINAL_COMMAND\"");
    let trouble = look(&Fleet::new(sshd.ssh()), &sshd.host()).await.unwrap_err();
    assert!(trouble.kind == TroubleKind::Lasting && trouble.message.contains("Welcome"), "{trouble:?}");
    let grumbling = Sshd::start("ForceCommand echo 'sh: warning' >&2; eval \"$SSH_ORIGINAL_COMMAND\"");
    let _ = look(&Fleet::new(grumbling.ssh()), &grumbling.host()).await;
    let polite = Sshd::start("ForceCommand echo 'locale: warning' >&2; eval \"$SSH_ORIGINAL_COMMAND\"");
    assert_eq!(look(&Fleet::new(polite.ssh()), &polite.host()).await.unwrap()["ralph"], Found::Absent);
    let none = Sshd::start("ForceCommand exit 127");
    let trouble = look(&Fleet::new(none.ssh()), &none.host()).await.unwrap_err();
    assert!(trouble.kind == TroubleKind::Lasting && trouble.message.contains("missing"), "{trouble:?}");
}

#[tokio::test]
async fn a_link_that_dies_in_the_middle_of_a_write_leaves_the_old_files() {
    let sshd = Sshd::start("");
    let (fleet, host) = (Fleet::new(sshd.ssh()), sshd.host());
    let keys = sshd.path("keys");
    fs::write(keys.join("user0"), "old").unwrap();
    let large = "x".repeat(900 * 1024);
    let mut writes = vec![write("user0", Some("old"), &large)];
    writes.extend((1..5).map(|n| write(&format!("user{n}"), None, &large)));
    look(&fleet, &host).await.unwrap();
    // The writer there stands before the lock, with most of its input still on our side.
    let lock = fs::File::open(&keys).unwrap();
    lock.lock().unwrap();
    let (result, ()) = tokio::join!(fleet.write(&host, &writes), async {
        until("it waits for the lock", || {
            command("pgrep").args(["-f", "^flock -w"]).output().is_ok_and(|output| output.status.success())
        })
        .await;
        kill(sshd.masters()[0]);
    });
    assert_eq!(result.unwrap_err().kind, TroubleKind::MayPass);
    drop(lock);
    // Whoever has the lock next meets nothing but the old file.
    let done = fleet.write(&host, &[write("anna", None, "new")]).await.unwrap();
    assert_eq!(done["anna"], Ok(()));
    let mut names: Vec<_> = fs::read_dir(&keys).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["anna", "user0"]);
    assert_eq!(fs::read_to_string(keys.join("user0")).unwrap(), "old");
}

#[tokio::test]
async fn idle_connections_are_closed_and_never_more_are_kept_than_allowed() {
    let sshd = Sshd::start("");
    let names = sshd.aliases(4);
    let fleet = Fleet::new(SshConfig { connections_max: 2, keep: Duration::from_secs(2), ..sshd.ssh() });
    for name in &names {
        look(&fleet, &sshd.host_called(name)).await.unwrap();
        // One that was closed may not have been reaped yet.
        until("at most two connections", || sshd.masters().len() <= 2).await;
    }
    assert_eq!(sshd.masters().len(), 2);
    until("the idle ones are closed", || sshd.masters().is_empty()).await;
    look(&fleet, &sshd.host()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_given_up_leaves_no_answer_for_the_next() {
    let sshd = Sshd::start("");
    let (fleet, host) = (Fleet::new(sshd.ssh()), sshd.host());
    fs::write(sshd.path("keys/ralph"), "here").unwrap();
    for millis in 0..30 {
        let _ = tokio::time::timeout(Duration::from_millis(millis), look(&fleet, &host)).await;
    }
    assert_eq!(look(&fleet, &host).await.unwrap()["ralph"], Found::File(b"here".to_vec()));
    let many: Vec<String> = (0..20).map(|n| format!("user{n}")).collect();
    let looks = many.iter().map(async |user| {
        let who = Who::Only(vec![user.clone()]);
        assert!(fleet.look(&host, &who, "reactor").await.unwrap().contains_key(user));
    });
    for look in looks {
        look.await;
    }
    assert!(sshd.masters().len() <= 1);
}

#[tokio::test]
async fn with_sudo_it_is_sudo_that_says_what_is_wrong() {
    let sshd = Sshd::start("");
    let mut host = sshd.host();
    if let Reach::Ssh { sudo, .. } = &mut host.reach {
        *sudo = true;
    }
    let there = command("sudo").arg("-V").stdout(Stdio::null()).status().is_ok();
    let looked = look(&Fleet::new(sshd.ssh()), &host).await;
    if there && run(&["id", "-u"]) == "0" {
        assert_eq!(looked.unwrap()["ralph"], Found::Absent);
    } else if let Err(trouble) = looked {
        let word = if there { "sudo: " } else { "missing: " };
        assert!(trouble.kind == TroubleKind::Lasting && trouble.message.contains(word), "{trouble:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_hosts_are_worked_on_at_once() {
    let sshd = Sshd::start("");
    let names = sshd.aliases(30);
    let fleet = Arc::new(Fleet::new(SshConfig { at_once: 16, connections_max: 100, ..sshd.ssh() }));
    for round in ["cold", "warm"] {
        let started = Instant::now();
        let mut all = tokio::task::JoinSet::new();
        for name in &names {
            let (fleet, host) = (Arc::clone(&fleet), sshd.host_called(name));
            all.spawn(async move { look(&fleet, &host).await });
        }
        let found = all.join_all().await;
        assert!(found.len() == 30 && found.iter().all(Result::is_ok), "{found:?}");
        println!("30 hosts, {round}: looked at in {:?}", started.elapsed());
    }
    assert_eq!(sshd.masters().len(), 30);
    drop(fleet);
    until("all masters end", || sshd.masters().is_empty()).await;
}
