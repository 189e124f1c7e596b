//! The daemon on a journal of PostgreSQL.

use reactor_tests::postgres::Postgres;
use reactor_tests::{Scratch, wait_until};

use crate::running::{SOON, Stage, applied, plain};

/// A site whose journal is on this server. Over TCP: the daemon may run as another user than the test's server.
fn stage(name: &str, server: &Postgres, rule: &str) -> Stage {
    let port = server.port();
    let journal =
        format!("journal: {{ postgresql: {{ host: 127.0.0.1, port: {port}, name: postgres, user: postgres }} }}");
    Stage::new(name, plain, &format!("{rule}\n{journal}"))
}

#[test]
fn what_is_held_is_held_over_a_kill_and_a_restart() {
    let scratch = Scratch::new("journal-daemon-server");
    let server = Postgres::start(scratch.path(), "");
    let mut stage = stage("journal-daemon", &server, "guard: { deletes: 0 }");
    stage.user("ralph");
    stage.until("held", 1);
    assert!(!stage.dir().join("state/journal.db").exists());
    assert_eq!(server.column("postgres", "SELECT state FROM reactor.reaction"), ["held"]);
    stage.kill_9();
    stage.start();
    wait_until("the daemon answers", SOON, || stage.say_to_daemon(&["status"]).0);
    let id = stage.rows()[0]["id"].as_str().expect("an id").to_owned();
    let (fine, text) = stage.say_to_daemon(&["approve", &id]);
    assert!(fine && text.contains("approved"), "{text}");
    stage.until("done", 1);
    assert_eq!(applied(stage.dir()), ["ralph"]);
    let (fine, text) = stage.say_to_daemon(&["show", &id]);
    assert!(fine && text.contains("signed by unsigned") && text.contains("approved"), "{text}");
}

#[test]
fn while_the_server_is_away_nothing_starts_and_then_it_goes_on_by_itself() {
    let scratch = Scratch::new("journal-away-server");
    let mut server = Postgres::start(scratch.path(), "");
    let mut stage = stage("journal-away", &server, "mode: apply");
    stage.user("ralph");
    stage.until("done", 1);
    server.stop();
    stage.user("kevin");
    wait_until("the log says so", SOON, || stage.scratch.log().contains("nothing is acknowledged"));
    let (fine, text) = stage.say_to_daemon(&["status"]);
    assert!(!fine && text.contains("nothing is started") && text.contains("is the server up"), "{text}");
    assert_eq!(applied(stage.dir()), ["ralph"]);
    server.resume();
    stage.until("done", 2);
    assert_eq!(applied(stage.dir()), ["ralph", "kevin"]);
    assert!(stage.scratch.log().contains("can be written again"), "{}", stage.scratch.log());
}

#[test]
fn while_the_servers_disk_is_full_the_daemon_says_so_and_waits() {
    let scratch = Scratch::new("journal-full-server");
    let server = Postgres::start(scratch.path(), "");
    let mut stage = stage("journal-full", &server, "mode: apply");
    // What it answers then.
    server.sql(
        "postgres",
        "CREATE FUNCTION reactor.full() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN RAISE 'could not extend file' USING ERRCODE = '53100'; END$$;
         CREATE TRIGGER disk BEFORE INSERT ON reactor.message FOR EACH ROW EXECUTE FUNCTION reactor.full()",
    );
    stage.user("ralph");
    wait_until("the log says so", SOON, || stage.scratch.log().contains("nothing is acknowledged"));
    let (fine, text) = stage.say_to_daemon(&["status"]);
    assert!(!fine && text.contains("could not extend file") && text.contains("make room"), "{text}");
    assert!(text.contains("journal: 0 messages") && !text.contains("no daemon runs"), "it runs: {text}");
    server.sql("postgres", "DROP TRIGGER disk ON reactor.message");
    stage.until("done", 1);
    assert_eq!(applied(stage.dir()), ["ralph"]);
}

#[test]
fn a_daemon_that_waits_for_its_server_can_be_told_to_stop() {
    let scratch = Scratch::new("journal-stop-server");
    let mut server = Postgres::start(scratch.path(), "");
    let mut stage = stage("journal-stop", &server, "mode: apply");
    server.stop();
    stage.user("ralph");
    wait_until("the log says so", SOON, || stage.scratch.log().contains("nothing is acknowledged"));
    let daemon = stage.daemon.take().expect("a daemon");
    daemon.terminate();
    let status = daemon.wait(SOON).expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", stage.scratch.log());
    server.resume();
    assert!(server.column("postgres", "SELECT id FROM reactor.message").is_empty());
}
