//! What goes wrong in the middle.

use super::*;

/// Enough that a slow rsync is under way for long.
const LARGE: usize = 3_000_000;

async fn until(what: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if what() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it did not come true within 10 s");
}

#[tokio::test]
async fn one_that_is_ended_half_way_leaves_no_lock_and_the_next_comes_through() {
    let site = Site::new(json!({"bandwidth": "500KB/s"}));
    site.put("fedora/29/large.rpm", &"x".repeat(LARGE));
    let request = site.request(json!({}), &[]);
    let plan = site.plan(&request).await.unwrap();
    let marker = site.marker("in-progress");
    let came = || fs::read_dir(site.at("mirror/fedora/29")).is_ok_and(|list| list.count() > 1);
    tokio::select! {
        _ = site.apply(&request, plan.changes) => panic!("it was to be ended"),
        () = until(|| marker.exists() && came()) => {}
    }
    assert!(!marker.exists(), "in stage 1 nothing was half new");
    assert_eq!(site.mirrored("fedora/29/repodata/repomd.xml"), None);
    let quick = Site { more: json!({}), ..site };
    // A process that another test of this program starts just now holds all our files until it has become its own program.
    let free = async {
        while quick.plan(&request).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), free).await.expect("the lock is free");
    quick.react(json!({}), &[]).await;
    assert_eq!(quick.mirrored("fedora/29/large.rpm").map(|text| text.len()), Some(LARGE));
    let left = fs::read_dir(quick.at("mirror/fedora/29")).unwrap().count();
    assert_eq!(left, 3, "nothing of the first is left over");
}

#[tokio::test]
async fn an_upstream_that_changes_meanwhile_is_pulled_once_more_and_one_that_begins_to_change_is_left() {
    let trace = |finished: &str| format!(r#"{{"mirror": "m", "parts": {{".": {{"finished": "{finished}"}}}}}}"#);
    for begins in [false, true] {
        let site = Site::new(json!({"bandwidth": "1MB/s"}));
        site.put("fedora/29/large.rpm", &"x".repeat(LARGE / 2));
        site.put(".reactor-mirror/trace.json", &trace("1"));
        let request = site.request(json!({}), &[]);
        let plan = site.plan(&request).await.unwrap();
        let meanwhile = async {
            until(|| fs::read_dir(site.at("mirror/fedora/29")).is_ok_and(|list| list.count() > 1)).await;
            site.put("fedora/30/b.rpm", "b");
            let (name, text) = if begins { ("in-progress", "{}".to_owned()) } else { ("trace.json", trace("2")) };
            site.put(&format!(".reactor-mirror/{name}"), &text);
        };
        let ((outcome, said), ()) = tokio::join!(site.apply(&request, plan.changes), meanwhile);
        assert!(!site.marker("in-progress").exists());
        if begins {
            assert!(outcome.unwrap_err().message().contains("mid-update"));
            assert_eq!(site.mirrored("fedora/29/repodata/repomd.xml"), None, "stage 2 did not begin");
        } else {
            outcome.unwrap();
            assert!(said.notes().contains("once more") && said.notes().contains(" %"), "{}", said.notes());
            assert_eq!(site.mirrored("fedora/30/b.rpm").as_deref(), Some("b"));
            assert_eq!(site.plan(&request).await.unwrap(), Plan::default());
        }
    }
}

#[tokio::test]
async fn one_that_was_killed_in_stage_two_is_mid_update_until_a_pull_comes_through() {
    let site = Site::new(json!({}));
    site.react(json!({}), &[]).await;
    let mut marker = Marker::begin(&site.config(), &Piece::whole(""), noon()).unwrap();
    marker.half_new().unwrap();
    // A killed process drops nothing.
    std::mem::forget(marker);
    site.put("fedora/29/b.rpm", "b");
    fs::set_permissions(site.at("mirror/fedora/29"), fs::Permissions::from_mode(0o755)).unwrap();
    let (changes, _) = site.react(json!({"directories": ["epel"]}), &[SYNCED]).await;
    assert_eq!(
        changes,
        ["create fedora/29/b.rpm", "run marker of all that a pull left behind"],
        "all that it had begun"
    );
    assert!(!site.marker("in-progress").exists());
}

#[tokio::test]
async fn a_limit_of_time_ends_it_and_what_came_counts() {
    let mut site = Site::new(json!({"bandwidth": "200KB/s"}));
    site.put("fedora/29/large.rpm", &"x".repeat(LARGE));
    let plan = site.plan(&site.request(json!({}), &[])).await.unwrap();
    // rsync itself ends where nothing comes for so long; a busy machine gets some time.
    site.more["time"] = "4s".into();
    let (outcome, _) = site.apply(&site.request(json!({}), &[]), plan.changes).await;
    let failure = outcome.unwrap_err();
    assert!(failure.message().contains("took longer than 4s"), "{failure}");
    assert_eq!(failure.exit_code(), exit::TRY_LATER);
    assert!(!site.marker("in-progress").exists());
}

#[tokio::test]
async fn a_full_disk_is_said_and_the_next_pull_comes_through() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: a file system of its own needs root; CI has it");
        return;
    }
    let mut site = Site::new(json!({}));
    site.put("fedora/29/large.rpm", &"x".repeat(LARGE));
    let small = site.at("small");
    fs::create_dir(&small).unwrap();
    assert!(mount(&["-t", "tmpfs", "-o", "size=1m", "none", small.to_str().unwrap()]), "mount");
    let _away = Away(small.clone());
    site.more = json!({"to": small});
    let request = site.request(json!({}), &[]);
    let plan = site.plan(&request).await.unwrap();
    let failure = site.apply(&request, plan.changes).await.0.unwrap_err();
    assert!(failure.message().contains("the disk is full"), "{failure}");
    assert!(failure.hint().unwrap().starts_with("df -h"), "{failure:?}");
    assert_eq!(failure.exit_code(), exit::TRY_LATER);
    assert!(!small.join("fedora/29/repodata").exists(), "what names others did not come before them");
    assert!(mount(&["-o", "remount,size=10m", small.to_str().unwrap()]), "remount");
    site.react(json!({}), &[]).await;
    assert_eq!(fs::metadata(small.join("fedora/29/large.rpm")).unwrap().size(), LARGE as u64);
}

struct Away(std::path::PathBuf);

impl Drop for Away {
    fn drop(&mut self) {
        program("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

fn mount(args: &[&str]) -> bool {
    program("mount", args)
}

#[allow(clippy::disallowed_methods, reason = "a test's own tools")]
fn program(name: &str, args: &[&str]) -> bool {
    std::process::Command::new(name).args(args).status().unwrap().success()
}

/// A program that stands for `reactor publish`, and writes down what it is asked.
fn publisher(site: &Site, ends_with: u8) -> std::path::PathBuf {
    let (path, log) = (site.at("publisher"), site.at("published"));
    let text = format!("#!/bin/sh\nbody=$(cat)\necho \"$* $body\" >> {}\nexit {ends_with}\n", log.display());
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn announcing(site: &Site) -> Value {
    let cert = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let _ = site;
    json!({"announce": {"connect": "tcp://relay:2001", "cert": cert, "key": "bus_key", "topics": "org.example.prod"}})
}

#[tokio::test]
async fn it_announces_what_it_begins_and_ends_and_pulls_also_if_it_can_not() {
    let mut site = Site::new(json!({}));
    site.more = announcing(&site);
    site.handler.publisher = Some(publisher(&site, 0));
    let (_, notes) = site.react(json!({"directories": ["fedora/29"], "serial": 9}), &[SYNCED]).await;
    assert!(!notes.contains("published"), "{notes}");
    let published = fs::read_to_string(site.at("published")).unwrap();
    let lines: Vec<&str> = published.lines().collect();
    assert_eq!(lines.len(), 2, "{published}");
    assert!(lines[0].contains("--listener 5s org.example.prod.mirror.pull.started - {"), "{published}");
    assert!(lines[1].contains(r#""directories":["fedora/29"]"#) && lines[1].contains(r#""serial":9"#), "{published}");
    assert!(lines[1].contains("mirror.pull.finished"), "{published}");
    site.handler.publisher = Some(publisher(&site, 1));
    let (_, notes) = site.react(json!({}), &[]).await;
    assert!(notes.contains("mirror.pull.finished could not be published, 3 times"), "{notes}");
    assert_eq!(site.mirrored("epel/9/e.rpm").as_deref(), Some("e"));
}
