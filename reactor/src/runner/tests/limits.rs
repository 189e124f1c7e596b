//! Time, size and number: a handler over a limit is ended, and the limit is named.

use super::*;

#[tokio::test]
async fn a_handler_that_hangs_gets_sigterm_and_may_still_report() {
    let site = Site::new();
    // `wait` is interrupted by the signal; what it reports afterwards counts.
    let body = format!("trap '{}; exit 0' TERM; sleep 600 & wait", CREATE_A.replace('\'', "'\\''"));
    let handler = site.handler(&json!({}), &body);
    site.runner.describe(&handler).await.unwrap();
    let applied = site.apply(&handler, &[change("a")], SHORT).await;
    assert_eq!(retry(failed(&applied)), "handler toy, apply: it took longer than 300ms");
    assert_eq!(applied.done.len(), 1);
}

#[tokio::test]
async fn a_handler_that_ignores_sigterm_is_killed_with_its_whole_group() {
    let site = Site::with_grace(SHORT);
    let pids = site.path("pids");
    let body = format!(
        "trap '' TERM; sleep 600 & echo $! $$ > {}; wait; wait; while :; do wait; sleep 600; done",
        pids.display()
    );
    let handler = site.handler(&json!({}), &body);
    let applied = site.apply(&handler, &[], SHORT).await;
    assert!(retry(failed(&applied)).contains("took longer"), "{applied:?}");
    let pids = site.read("pids");
    assert_eq!(pids.split_whitespace().count(), 2);
    assert!(!pids.split_whitespace().any(is_running), "{pids}");
}

#[tokio::test]
async fn a_background_child_does_not_outlive_its_handler_nor_hold_it_up() {
    let site = Site::new();
    let body = format!("sleep 600 & echo $! > {}; {CREATE_A}", site.path("pid").display());
    let handler = site.handler(&json!({}), &body);
    let began = Instant::now();
    let applied = site.apply(&handler, &[change("a")], LONG).await;
    assert_eq!(applied.verdict, Verdict::Done);
    assert!(!is_running(&site.read("pid")));
    assert!(began.elapsed() < LONG);
}

#[tokio::test]
async fn a_process_that_left_the_group_does_not_hold_the_result_up() {
    let site = Site::new();
    let body = format!("setsid sleep 600 & echo $! > {}; {CREATE_A}", site.path("pid").display());
    let handler = site.handler(&json!({}), &body);
    let applied = site.apply(&handler, &[change("a")], LONG).await;
    assert_eq!(applied.verdict, Verdict::Done, "its stdout is still open, but its leader has ended");
    let pid = site.read("pid");
    let ended = end_leftovers(&site.path("state")).await.unwrap();
    assert!(ended.iter().all(|one| one.gone), "{ended:?}");
    assert!(!is_running(&pid), "a restarted daemon finds it");
}

#[tokio::test]
async fn output_over_a_limit_is_a_permanent_failure_that_names_it() {
    let site = Site::new();
    for (body, says) in [
        ("head -c 70000 /dev/zero | tr '\\0' x; echo", "a line of more than 65536 bytes"),
        ("exec yes", "line 1 of its stdout is not a JSON object"),
        ("yes \"$(printf %60000s)\"", "more than 16777216 bytes"),
        ("exec cat /dev/zero", "a line of more than 65536 bytes"),
        ("yes '{\"change\":{\"action\":\"run\",\"target\":\"x\"}}'", "more than 10000 changes"),
    ] {
        let failure = site.plan(&site.handler(&json!({}), body), LONG).await.unwrap_err();
        assert!(permanent(&failure).contains(says), "{body}: {failure}");
    }
}

#[tokio::test]
async fn a_flood_on_stderr_is_drained_and_its_end_is_told() {
    let site = Site::new();
    let body = "head -c 3000000 /dev/zero >&2; echo >&2; exit 9";
    let failure = site.plan(&site.handler(&json!({}), body), LONG).await.unwrap_err();
    assert!(retry(&failure).ends_with("(exit code 9)"));
    assert!(failure.message().len() < 16 * 1024, "{}", failure.message().len());
    let body = "for n in 1 2 3 4 5 6 7; do echo line $n >&2; done; printf '\\033[2Jend' >&2; exit 9";
    let failure = site.plan(&site.handler(&json!({}), body), LONG).await.unwrap_err();
    assert_eq!(failure.message(), "handler toy, plan: line 4 / line 5 / line 6 / line 7 /  [2Jend (exit code 9)");
}

#[tokio::test]
async fn a_request_over_the_limit_starts_nothing() {
    let site = Site::new();
    let handler = site.handler(&json!({}), &format!("touch {}", site.path("started").display()));
    let mut big = request(json!({}));
    big.messages[0].body = json!("x".repeat(STDIN_BYTES_MAX));
    let applied = site.runner.apply(&handler, big, &[], LONG, never(), &mut |_| {}).await;
    assert!(permanent(failed(&applied)).contains("1048576"), "{applied:?}");
    assert!(!site.path("started").exists());
}

#[tokio::test]
async fn a_handler_need_not_read_its_stdin() {
    let site = Site::new();
    let mut big = request(json!({}));
    big.messages[0].body = json!("x".repeat(STDIN_BYTES_MAX / 2));
    for body in ["exec <&-; exit 0", "exit 0", "head -c 10 >/dev/null"] {
        let handler = site.handler(&json!({}), body);
        assert_eq!(site.runner.plan(&handler, big.clone(), LONG, never()).await, Ok(Plan::default()), "{body}");
    }
}

#[tokio::test]
async fn a_dropped_run_leaves_nothing_running() {
    let site = Site::new();
    let pid = site.path("pid");
    let body = format!("{CREATE_A}; echo $$ > {}; exec sleep 600", pid.display());
    let handler = site.handler(&json!({}), &body.replace("echo $$", "sleep 600 & echo $! $$"));
    site.runner.describe(&handler).await.unwrap();
    let (seen, waits) = tokio::sync::oneshot::channel();
    let mut seen = Some(seen);
    let mut on_change = |_: &Change| {
        let _ = seen.take().map(|seen| seen.send(()));
    };
    let plan = [change("a")];
    let run = site.runner.apply(&handler, request(json!({})), &plan, LONG, never(), &mut on_change);
    tokio::select! { _ = run => panic!("it hangs"), _ = waits => {} }
    // Dropped here: the group was killed. A process that is on its way out runs none of its code any more, but is still
    // listed for a moment.
    let began = Instant::now();
    while site.read("pid").split_whitespace().any(is_running) {
        assert!(began.elapsed() < LONG, "{}", site.read("pid"));
        tokio::task::yield_now().await;
    }
}
