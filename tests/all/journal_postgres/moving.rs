//! A site that moves its journal from a file to a server and back, and the way to a server over TLS.

use reactor::journal::place::Postgres as Place;
use reactor::journal::postgres::PostgresJournal;
use reactor_tests::Scratch;
use reactor_tests::postgres::Postgres;
use reactor_tests::tls::{Ca, DAYS};

use crate::running::{SOON, Stage, applied, plain};

/// Stops the daemon in an orderly way.
fn stop(stage: &mut Stage) {
    let daemon = stage.daemon.take().expect("a daemon");
    daemon.terminate();
    assert!(daemon.wait(SOON).is_some_and(|status| status.success()), "{}", stage.scratch.log());
}

/// The site's rules file, with another end.
fn site(stage: &Stage, journal: &str) {
    let path = stage.dir().join("rules.yaml");
    let text = std::fs::read_to_string(&path).expect("the site");
    let before = text.split("\njournal:").next().expect("what stands before");
    std::fs::write(path, format!("{before}\n{journal}\n")).expect("written");
}

#[test]
fn a_site_moves_to_a_server_and_back_with_what_is_held_and_no_daemon_starts_in_between() {
    let scratch = Scratch::new("journal-moving-server");
    let server = Postgres::start(scratch.path(), "");
    let mut stage = Stage::new("journal-moving", plain, "guard: { deletes: 0 }");
    for user in ["ralph", "kevin"] {
        stage.user(user);
    }
    stage.until("held", 2);
    let port = server.port();
    let on_server =
        format!("journal: {{ postgresql: {{ host: 127.0.0.1, port: {port}, name: postgres, user: postgres }} }}");
    site(&stage, &on_server);
    let (fine, text) = stage.say_to_daemon(&["journal", "copy", "rules.yaml"]);
    assert!(!fine && text.contains("has it open") && text.contains("hint: "), "while the daemon runs: {text}");
    stop(&mut stage);

    let (fine, text) = stage.say_to_daemon(&["run", "rules.yaml"]);
    assert!(!fine && text.contains("2 reactions wait in it") && text.contains("reactor journal copy"), "{text}");
    let (fine, text) = stage.say_to_daemon(&["journal", "copy", "rules.yaml"]);
    assert!(fine && text.contains("2 of them not over") && text.contains("next: start the daemon"), "{text}");
    assert!(stage.dir().join("state/journal.db.copied").exists() && !stage.dir().join("state/journal.db").exists());
    assert_eq!(server.column("postgres", "SELECT state FROM reactor.reaction"), ["held", "held"]);
    stage.start();
    let ids: Vec<String> = stage.rows().iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect();
    let (fine, text) = stage.say_to_daemon(&["approve", &ids[0]]);
    assert!(fine, "{text}");
    stage.until("done", 1);
    stop(&mut stage);

    let (fine, text) = stage.say_to_daemon(&["journal", "copy", "rules.yaml"]);
    assert!(!fine && text.contains("what the site names"), "there is nowhere to go: {text}");
    site(&stage, "journal: { keep: 30d }");
    let (fine, text) = stage.say_to_daemon(&["run", "rules.yaml"]);
    assert!(!fine && text.contains("1 reactions wait in it"), "{text}");
    let (fine, text) = stage.say_to_daemon(&["journal", "copy", "rules.yaml"]);
    assert!(fine && text.contains("1 of them not over"), "{text}");
    stage.start();
    let (fine, text) = stage.say_to_daemon(&["approve", &ids[1]]);
    assert!(fine, "{text}");
    stage.until("done", 2);
    let mut both = applied(stage.dir());
    both.sort_unstable();
    assert_eq!(both, ["kevin", "ralph"]);
    stop(&mut stage);

    site(&stage, &on_server);
    let (fine, text) = stage.say_to_daemon(&["journal", "copy", "rules.yaml"]);
    assert!(!fine && text.contains("differs. Was a daemon started in between?"), "it is not what it was: {text}");
}

#[test]
fn over_tls_only_the_right_server_with_the_right_name_is_believed() {
    let scratch = Scratch::new("journal-tls");
    let (ca, others) = (Ca::new(&scratch.path().join("ca")), Ca::new(&scratch.path().join("others")));
    ca.server("server", DAYS);
    let server = Postgres::start_tls(scratch.path(), &ca, "server");
    let place = |host: &str, ca: &Ca| Place {
        host: host.into(),
        port: server.port(),
        name: "postgres".into(),
        user: "postgres".into(),
        password: None,
        tls: true,
        ca: Some(ca.file("ca.crt")),
        schema: "tls".into(),
        node: "here".into(),
    };
    let directory = |name: &str| scratch.path().join(name);
    let journal = PostgresJournal::open(&directory("right"), &place("127.0.0.1", &ca)).expect("the right one");
    let sql =
        "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'reactor journal'";
    assert_eq!(server.column("postgres", sql), ["t"]);
    drop(journal);
    let wrong_ca =
        PostgresJournal::open(&directory("ca"), &place("127.0.0.1", &others)).expect_err("a wrong CA").to_string();
    assert!(wrong_ca.contains("certificate") && wrong_ca.contains("hint: "), "{wrong_ca}");
    let wrong_name =
        PostgresJournal::open(&directory("name"), &place("127.0.0.2", &ca)).expect_err("a wrong name").to_string();
    assert!(wrong_name.contains("certificate") && wrong_name.contains("127.0.0.2"), "{wrong_name}");
}
