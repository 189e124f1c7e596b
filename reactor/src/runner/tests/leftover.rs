//! What a daemon that got SIGKILL left running.

use std::process::{Command, Stdio};

use super::*;

/// Starts a script as a handler of a daemon that is gone: nobody holds its pipes or waits for it but this test.
#[allow(clippy::disallowed_methods, reason = "stands for a daemon that was killed")]
fn abandoned(site: &Site, script: &str, marked: bool) -> std::process::Child {
    let mut command = Command::new("/bin/bash");
    command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
    if marked {
        command.env(STATE_VARIABLE, site.path("state").canonicalize().unwrap());
    }
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().unwrap()
}

/// Reads the ids that the script prints, so many of them.
fn pids(child: &mut std::process::Child, number: usize) -> Vec<String> {
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    lines.map(Result::unwrap).take(number).collect()
}

#[tokio::test]
async fn a_whole_tree_is_ended_also_what_left_the_group_or_its_environment() {
    let site = Site::new();
    let mut tree = abandoned(
        &site,
        "echo $$; sleep 600 & echo $!; env -i sleep 600 & echo $!
         setsid bash -c 'echo $$; env -i /bin/sleep 600 & echo $!; wait' &
         trap '' TERM; wait",
        true,
    );
    let mut stranger = abandoned(&site, "echo $$; exec sleep 600", false);
    let (tree_pids, stranger_pid) = (pids(&mut tree, 5), pids(&mut stranger, 1));
    assert_eq!(tree_pids.len(), 5, "{tree_pids:?}");
    assert!(tree_pids.iter().all(|pid| is_running(pid)));
    let ended = end_leftovers(&site.path("state")).await.unwrap();
    assert!(ended.iter().all(|one| one.gone), "{ended:?}");
    for pid in &tree_pids {
        assert!(!is_running(pid) && ended.iter().any(|one| one.pid.to_string() == *pid), "{pid} of {ended:?}");
    }
    assert!(is_running(&stranger_pid[0]), "it is not ours");
    assert_eq!(end_leftovers(&site.path("state")).await.unwrap(), []);
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    tree.wait().unwrap();
}

#[tokio::test]
async fn its_directories_are_removed() {
    let site = Site::new();
    fs::create_dir_all(site.path("state/work/toy-1-1/x")).unwrap();
    let secrets = crate::runner::surroundings::secrets_dir(&site.path("state").canonicalize().unwrap()).unwrap();
    fs::create_dir(secrets.join("toy-1-1")).unwrap();
    assert_eq!(end_leftovers(&site.path("state")).await.unwrap(), []);
    assert_eq!(fs::read_dir(site.path("state/work")).unwrap().count(), 0);
    assert!(!secrets.exists());
}

#[tokio::test]
async fn a_state_directory_that_is_not_there_has_nothing_left() {
    let site = Site::new();
    assert_eq!(end_leftovers(&site.path("none")).await.unwrap(), []);
}
