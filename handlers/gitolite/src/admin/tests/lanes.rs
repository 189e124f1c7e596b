//! Jobs that wait: batches, cancelled callers, the lane of `members`, a process that is killed.

use super::*;

/// Waits until so many jobs wait for the next push with `master` in it.
async fn queued(admin: &Admin, count: usize) {
    until("the queue", || queue::waiting(&admin.inner, Lane::Compiled) == count).await;
}

type Tasks = Vec<tokio::task::JoinHandle<Result<(), Failure>>>;

/// A push that is under way and held up, and these jobs that wait behind it.
pub(super) async fn behind_a_held_push(site: &Site, admin: &Arc<Admin>, jobs: Vec<Job>) -> Tasks {
    site.touch("hold");
    let mut tasks = Tasks::new();
    let give = |job: Job| {
        let admin = Arc::clone(admin);
        tokio::spawn(async move { admin.push(job).await })
    };
    tasks.push(give(conf("first", "repo first\n")));
    site.comes("held").await;
    for (number, job) in jobs.into_iter().enumerate() {
        tasks.push(give(job));
        queued(admin, number + 1).await;
    }
    tasks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_wait_go_out_in_one_push_with_a_commit_each_in_their_order() {
    let site = Site::new();
    let admin = Arc::new(site.admin());
    let mut jobs: Vec<Job> = (0..5).map(|number| adds("conf/reactor/list", number.to_string())).collect();
    jobs.push(Job { edits: Box::new(|_| Err(Failure::permanent("no such thing"))), message: "fails".into() });
    // Fails only in the batch: it sees what the jobs before it did.
    let sees = |now: &Snapshot| match now.read(Branch::Master, "conf/reactor/list")? {
        None => Ok(Edits::from([((Branch::Master, "x".into()), Some(b"x".to_vec()))])),
        Some(list) => Err(Failure::permanent(format!("{} lines", list.split(|b| *b == b'\n').count() - 1))),
    };
    jobs.insert(5, Job { edits: Box::new(sees), message: "sees".into() });
    let fails = jobs.pop().unwrap();
    let tasks = behind_a_held_push(&site, &admin, jobs).await;
    assert_eq!(admin.push(fails).await.unwrap_err().message(), "no such thing");
    site.touch("go");
    let mut ends = Vec::new();
    for task in tasks {
        ends.push(task.await.unwrap());
    }
    assert_eq!(ends.pop().unwrap().unwrap_err().message(), "5 lines");
    assert!(ends.iter().all(Result::is_ok), "{ends:?}");
    assert_eq!(site.count("pushes"), 2, "the first, and one for all others");
    assert_eq!(site.count("compiles"), 2);
    let wanted = ["add 4", "add 3", "add 2", "add 1", "add 0", "write conf/reactor/repos/first.conf", "by hand"];
    assert_eq!(site.subjects("master"), wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_wait_any_more_is_left_out_and_the_others_go_on() {
    let site = Site::new();
    let admin = Arc::new(site.admin());
    let jobs = vec![conf("a", "repo a\n"), conf("gone", "repo gone\n"), conf("b", "repo b\n")];
    let mut tasks = behind_a_held_push(&site, &admin, jobs).await;
    let gone = tasks.remove(2);
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    // Also whoever leaves while its own push is under way does not take it back.
    tasks.remove(0).abort();
    site.touch("go");
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(site.file("master", "conf/reactor/repos/gone.conf"), None);
    for name in ["first", "a", "b"] {
        assert!(site.file("master", &format!("conf/reactor/repos/{name}.conf")).is_some(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_changes_members_does_not_wait_for_a_compile() {
    let site = Site::new();
    let admin = Arc::new(site.admin());
    site.touch("slow");
    let both = |_: &Snapshot| {
        Ok(Edits::from([
            ((Branch::Master, "conf/reactor/repos/n.conf".into()), Some(b"repo n\n".to_vec())),
            ((Branch::Members, "lists/n".into()), Some(b"commit alice\n".to_vec())),
        ]))
    };
    let slow = Arc::clone(&admin);
    let job = Job { edits: Box::new(both), message: "n".into() };
    let slow = tokio::spawn(async move { slow.push(job).await });
    site.comes("compiling").await;
    assert!(admin.is_compiled(&admin.look().await.unwrap()).unwrap(), "somebody waits for it already");
    admin.push(writes(Branch::Members, "groups/a", "alice\n")).await.unwrap();
    assert!(!slow.is_finished());
    assert_eq!(site.file("members", "groups/a").unwrap(), "alice\n");
    site.touch("go");
    slow.await.unwrap().unwrap();
    assert_eq!(site.subjects("members"), ["write groups/a", "n"]);
    admin.push(writes(Branch::Members, "groups/b", "bob\n")).await.unwrap();
    assert_eq!(site.file("members", "lists/n").unwrap(), "commit alice\n");
}

#[test]
fn killed_between_commit_and_push_it_leaves_nothing_and_the_next_goes_on() {
    let site = Site::new();
    let before = site.tip("refs/heads/master");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let admin = Arc::new(site.admin());
    runtime.block_on(async { drop(behind_a_held_push(&site, &admin, vec![conf("a", "repo a\n")]).await) });
    runtime.shutdown_timeout(Duration::from_secs(10));
    drop(admin);
    assert_eq!(site.tip("refs/heads/master"), before);
    site.touch("go");
    let next = tokio::runtime::Runtime::new().unwrap();
    next.block_on(async {
        let admin = site.admin();
        admin.push(conf("a", "repo a\n")).await.unwrap();
        assert_eq!(site.subjects("master"), ["write conf/reactor/repos/a.conf", "by hand"]);
    });
}
