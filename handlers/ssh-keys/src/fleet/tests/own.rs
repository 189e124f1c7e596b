//! Files that are the user's own.

use super::*;

/// Homes of users below a directory of ours; as root those of two users that every system has, else our own.
struct Homes {
    fleet: Fleet,
    host: Host,
    dir: TempDir,
    users: Vec<(String, u32, u32)>,
}

fn passwd() -> Vec<(String, u32, u32)> {
    let text = fs::read_to_string("/etc/passwd").unwrap();
    let users = text.lines().filter_map(|line| match line.split(':').collect::<Vec<_>>()[..] {
        [name, _, uid, gid, ..] => Some((name.to_owned(), uid.parse().ok()?, gid.parse().ok()?)),
        _ => None,
    });
    users.collect()
}

impl Homes {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let own = fs::metadata("/proc/self").unwrap().uid();
        let wanted = |(name, uid, _): &(String, u32, u32)| match is_root() {
            true => name == "daemon" || name == "nobody",
            false => *uid == own,
        };
        let users: Vec<_> = passwd().into_iter().filter(wanted).collect();
        for (name, uid, gid) in &users {
            fs::create_dir(dir.path().join(name)).unwrap();
            std::os::unix::fs::chown(dir.path().join(name), Some(*uid), Some(*gid)).unwrap();
        }
        let pattern = format!("{}/%u/.ssh/authorized_keys", dir.path().display());
        Self { fleet: Fleet::new(ssh()), host: host(Place::Own(pattern)), dir, users }
    }

    fn first(&self) -> &str {
        &self.users[0].0
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join(self.first()).join(inside)
    }

    /// Makes it the first user's, links as they are.
    fn hand_over(&self, inside: &str) {
        std::os::unix::fs::lchown(self.path(inside), Some(self.users[0].1), Some(self.users[0].2)).unwrap();
    }

    /// An authorized_keys that the user made.
    fn put(&self, text: &str) {
        if !self.path(".ssh").is_dir() {
            fs::create_dir(self.path(".ssh")).unwrap();
            self.hand_over(".ssh");
        }
        fs::write(self.path(".ssh/authorized_keys"), text).unwrap();
        self.hand_over(".ssh/authorized_keys");
    }

    fn read(&self) -> String {
        fs::read_to_string(self.path(".ssh/authorized_keys")).unwrap()
    }

    fn names(&self, inside: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(inside)).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    async fn look(&self, user: &str) -> Found {
        let found = self.fleet.look(&self.host, &Who::Only(strings(&[user])), "reactor").await.unwrap();
        found[user].clone()
    }

    async fn write(&self, before: Option<&str>, after: Option<&str>) -> Result<(), Trouble> {
        let done = self.fleet.write(&self.host, &[write(self.first(), before, after)]).await.unwrap();
        done[self.first()].clone()
    }
}

#[tokio::test]
async fn it_is_made_changed_and_removed_with_the_users_rights() {
    let homes = Homes::new();
    assert_eq!(homes.look(homes.first()).await, Found::Absent);
    homes.write(None, Some("a\0\n")).await.unwrap();
    for (inside, mode) in [(".ssh", 0o700), (".ssh/authorized_keys", 0o600)] {
        let meta = fs::metadata(homes.path(inside)).unwrap();
        assert_eq!(
            (meta.uid(), meta.gid(), meta.mode() & 0o7777),
            (homes.users[0].1, homes.users[0].2, mode),
            "{inside}"
        );
    }
    assert_eq!(homes.look(homes.first()).await, file("a\0\n"));
    let long = "x".repeat(FILE_BYTES_MAX);
    homes.write(Some("a\0\n"), Some(&long)).await.unwrap();
    assert_eq!(homes.look(homes.first()).await, file(&long));
    homes.write(Some(&long), Some(".\n")).await.unwrap();
    assert_eq!(homes.look(homes.first()).await, file(".\n"));
    homes.write(Some(".\n"), None).await.unwrap();
    assert_eq!(homes.look(homes.first()).await, Found::Absent);
    assert!(homes.names(".ssh").is_empty(), "nothing is left");
    assert_eq!(homes.look("no-such-user").await, Found::NoUser);
    let done = homes.fleet.write(&homes.host, &[write("no-such-user", None, Some("x"))]).await.unwrap();
    assert_eq!(done["no-such-user"].clone().unwrap_err().kind, TroubleKind::Lasting);
}

#[tokio::test]
async fn links_and_what_else_a_user_may_put_there_are_not_followed() {
    let homes = Homes::new();
    let outside = homes.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("authorized_keys"), "# reactor begin reactor: x\nsecret").unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o777)).unwrap();

    let refused = async |what: &str| {
        let Found::Odd(trouble) = homes.look(homes.first()).await else { panic!("{what} was not seen") };
        assert_eq!(trouble.kind, TroubleKind::Lasting, "{what}: {trouble:?}");
        let mut kinds = Vec::new();
        for before in [None, Some("# reactor begin reactor: x\nsecret")] {
            for after in [None, Some("new")] {
                if before.is_some() || after.is_some() {
                    kinds.push(homes.write(before, after).await.unwrap_err().kind);
                }
            }
        }
        assert!(kinds.iter().all(|kind| *kind != TroubleKind::MayPass), "{what}: {kinds:?}");
        trouble.message
    };

    symlink(&outside, homes.path(".ssh")).unwrap();
    homes.hand_over(".ssh");
    assert!(refused(".ssh is a link").await.contains(".ssh is a link"));
    fs::remove_file(homes.path(".ssh")).unwrap();

    fs::write(homes.path(".ssh"), "a file").unwrap();
    refused(".ssh is a file").await;
    fs::remove_file(homes.path(".ssh")).unwrap();

    fs::create_dir(homes.path(".ssh")).unwrap();
    homes.hand_over(".ssh");
    let keys = homes.path(".ssh/authorized_keys");
    symlink(outside.join("authorized_keys"), &keys).unwrap();
    refused("the file is a link").await;
    // A user whose file is a link to one with our block has our keys in force: said even if nobody asks for that user.
    let all = homes.fleet.look(&homes.host, &Who::Everyone(Vec::new()), "reactor").await.unwrap();
    assert!(matches!(all[homes.first()], Found::Odd(_)), "{all:?}");
    fs::remove_file(&keys).unwrap();

    fs::create_dir(&keys).unwrap();
    refused("the file is a directory").await;
    fs::remove_dir(&keys).unwrap();

    run(&["mkfifo", keys.to_str().unwrap()]);
    refused("the file is a pipe").await;
    fs::remove_file(&keys).unwrap();

    homes.put("# reactor begin reactor: x\nsecret");
    fs::hard_link(&keys, homes.path("second")).unwrap();
    refused("the file has a second name").await;
    assert_eq!(fs::read_to_string(outside.join("authorized_keys")).unwrap(), "# reactor begin reactor: x\nsecret");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    if is_root() {
        fs::remove_file(homes.path("second")).unwrap();
        std::os::unix::fs::chown(homes.path(".ssh"), Some(0), Some(0)).unwrap();
        refused("the directory is somebody else's").await;
        fs::set_permissions(homes.path(".ssh"), fs::Permissions::from_mode(0o700)).unwrap();
        refused("the user can't look into it").await;
    }
}

#[tokio::test]
async fn what_the_user_changed_since_the_plan_stays() {
    let homes = Homes::new();
    homes.put("by hand");
    for (before, after) in [(None, Some("n")), (Some("planned"), Some("n")), (Some("planned"), None)] {
        assert_eq!(homes.write(before, after).await.unwrap_err().kind, TroubleKind::Moved);
    }
    assert_eq!((homes.read().as_str(), homes.names(".ssh")), ("by hand", strings(&["authorized_keys"])));
    fs::remove_file(homes.path(".ssh/authorized_keys")).unwrap();
    assert_eq!(homes.write(Some("by hand"), Some("n")).await.unwrap_err().kind, TroubleKind::Moved);
    assert!(homes.names(".ssh").is_empty());
}

#[tokio::test]
async fn everyone_is_found_by_our_block_and_others_are_left_out() {
    let homes = Homes::new();
    homes.put("mine\n# reactor begin reactor: x\n");
    let all = homes.fleet.look(&homes.host, &Who::Everyone(Vec::new()), "reactor").await.unwrap();
    assert_eq!(all, BTreeMap::from([(homes.first().to_owned(), file("mine\n# reactor begin reactor: x\n"))]));
    homes.put("# reactor begin other: x\n");
    let all = homes.fleet.look(&homes.host, &Who::Everyone(Vec::new()), "reactor").await.unwrap();
    assert!(all.is_empty(), "{all:?}");
    if !is_root() {
        let Found::Odd(trouble) = homes.look("root").await else { panic!("another user's file") };
        assert!(trouble.message.contains("only root"), "{trouble:?}");
    }
}

#[tokio::test]
async fn one_user_with_a_trick_does_not_hold_up_the_next() {
    let homes = Homes::new();
    homes.put("x");
    // A holder of the lock of its own directory.
    let lock = fs::File::open(homes.path(".ssh")).unwrap();
    lock.lock().unwrap();
    let quick = Fleet::new(SshConfig { command_timeout: Duration::from_secs(10), ..ssh() });
    let mut writes = vec![write(homes.first(), Some("x"), Some("y"))];
    writes.extend(homes.users.get(1).map(|(name, ..)| write(name, None, Some("z"))));
    let done = quick.write(&homes.host, &writes).await.unwrap();
    assert_eq!(done[homes.first()].clone().unwrap_err().kind, TroubleKind::MayPass);
    if let Some((second, ..)) = homes.users.get(1) {
        assert_eq!(done[second], Ok(()));
    }
    assert_eq!(homes.read(), "x");
}

#[tokio::test]
async fn a_pattern_is_checked() {
    let fleet = Fleet::new(ssh());
    for bad in
        ["authorized_keys", "/etc/keys", "%h/../%u/keys", "%x/keys", "%h", "/a%", "/a/%u/b\n", "~/.ssh/authorized_keys"]
    {
        let looked = fleet.look(&host(Place::Own(bad.into())), &Who::Only(strings(&["root"])), "reactor").await;
        assert_eq!(looked.unwrap_err().kind, TroubleKind::Lasting, "{bad}");
    }
}

#[tokio::test]
async fn many_users_are_served_by_one_command() {
    let mut homes = Homes::new();
    if is_root() {
        // Everybody that every system of this kind knows; accounts for people may come and go.
        homes.users = passwd().into_iter().filter(|(_, uid, _)| *uid < 1_000).collect();
        for (name, uid, gid) in &homes.users {
            let _ = fs::create_dir(homes.dir.path().join(name));
            std::os::unix::fs::chown(homes.dir.path().join(name), Some(*uid), Some(*gid)).unwrap();
        }
    }
    let text = "# reactor begin reactor: x\n";
    let writes: Vec<Write> = homes.users.iter().map(|(name, ..)| write(name, None, Some(text))).collect();
    let started = Instant::now();
    let done = homes.fleet.write(&homes.host, &writes).await.unwrap();
    let written = started.elapsed();
    let failed: Vec<_> = done.values().filter(|result| result.is_err()).collect();
    assert!(done.len() == homes.users.len() && failed.is_empty(), "{failed:?}");
    let found = homes.fleet.look(&homes.host, &Who::Everyone(Vec::new()), "reactor").await.unwrap();
    let looked = started.elapsed() - written;
    assert!(found.len() == homes.users.len() && found.values().all(|found| *found == file(text)), "{found:?}");
    println!("{} users' own files, no ssh: written in {written:?}, found in {looked:?}", homes.users.len());
    for (name, uid, gid) in &homes.users {
        let meta = fs::metadata(homes.dir.path().join(name).join(".ssh/authorized_keys")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (*uid, *gid), "{name}");
    }
}
