//! The journal on a real PostgreSQL: the contract of journals, and what only a server can do wrong.

#[path = "../../reactor/src/journal/contract.rs"]
mod contract;
mod daemon;
mod moving;
mod nodes;
mod proxy;

use contract::Open;
use contract::parts::{all, counts, ids, line, pending, reacted, start};
use proxy::{Cut, Proxy};
use reactor::journal::place::{self, Postgres as Place};
use reactor::journal::postgres::PostgresJournal;
use reactor::journal::*;
use reactor::message::{Message, Topic};
use reactor_tests::Scratch;
use reactor_tests::postgres::Postgres;

/// A schema on this server, over its socket.
fn schema(server: &Postgres, schema: &str) -> Place {
    Place {
        host: server.socket().to_str().expect("a path in UTF-8").into(),
        port: server.port(),
        name: "postgres".into(),
        user: "postgres".into(),
        password: None,
        tls: false,
        ca: None,
        schema: schema.chars().take(60).collect(),
        node: "a".into(),
    }
}

/// The same, through a proxy.
fn behind(proxy: &Proxy, schema: &str) -> Place {
    Place {
        host: "127.0.0.1".into(),
        port: proxy.port(),
        name: "postgres".into(),
        user: "postgres".into(),
        password: None,
        tls: false,
        ca: None,
        schema: schema.into(),
        node: "a".into(),
    }
}

fn waiting(n: u32) -> Vec<Entry> {
    reacted(&format!("R{n}"), &format!("m{n}"), State::Waiting, start()).to_vec()
}

#[test]
fn postgresql_keeps_the_contract_of_journals() {
    let scratch = Scratch::new("journal-contract");
    let server = Postgres::start(scratch.path(), "");
    macro_rules! sentences_of {
        ($($sentence:ident)*) => {
            [$((stringify!($sentence), contract::$sentence as fn(&Open))),*]
        };
    }
    for (name, sentence) in contract::sentences!(sentences_of!) {
        eprintln!("{name}");
        let (state, place) = (tempfile::TempDir::new().unwrap(), schema(&server, name));
        let open = move || -> Box<dyn Journal> { Box::new(PostgresJournal::open(state.path(), &place).unwrap()) };
        sentence(&open);
    }
}

#[test]
fn a_second_daemon_is_told_who_has_the_schema() {
    let scratch = Scratch::new("journal-second");
    let server = Postgres::start(scratch.path(), "");
    let (one, other) = (scratch.path().join("one"), scratch.path().join("other"));
    let mut first = PostgresJournal::open(&one, &schema(&server, "a")).unwrap();
    let error = PostgresJournal::open(&other, &schema(&server, "a")).unwrap_err();
    let who = format!("process {} on ", std::process::id());
    assert!(error.why.contains(&who) && error.why.contains("has it open"), "{error}");
    assert!(error.hint.contains("another `node`") && error.hint.contains("another `schema`"), "{error}");
    let error = PostgresJournal::open(&one, &schema(&server, "b")).unwrap_err();
    assert!(error.why.contains("only one daemon may write to") && error.hint.contains("--state"), "{error}");
    PostgresJournal::open(&other, &schema(&server, "b")).unwrap();
    first.write(&waiting(1)).unwrap();
    drop(first);
    let again = PostgresJournal::open(&other, &schema(&server, "a")).unwrap();
    assert_eq!(pending(&again).len(), 1);
}

#[test]
fn a_reader_sees_what_the_daemon_has_just_written_and_can_not_write() {
    let scratch = Scratch::new("journal-reader");
    let server = Postgres::start(scratch.path(), "");
    let place = schema(&server, "a");
    let error = PostgresJournal::open_read_only(&place).unwrap_err();
    assert!(error.why.contains("no journal yet") && error.hint.contains("reactor run"), "{error}");
    let mut journal = place::open(scratch.path(), Some(&place)).unwrap();
    journal.write(&waiting(1)).unwrap();
    let mut reader = place::open_read_only(scratch.path()).unwrap();
    assert_eq!(pending(&*reader).len(), 1);
    journal.write(&waiting(2)).unwrap();
    assert_eq!((pending(&*reader).len(), counts(&*reader).messages), (2, 2));
    let error = reader.write(&waiting(3)).unwrap_err();
    assert!(error.why.contains("read only"), "{error}");
    drop(journal);
    assert_eq!(pending(&*place::open_read_only(scratch.path()).unwrap()).len(), 2);
    let error = place::open(scratch.path(), None).err().expect("what waits there is not left behind");
    assert!(error.why.contains("2 reactions wait in it") && error.hint.contains("reactor journal copy"), "{error}");
    server.sql("postgres", "UPDATE a.reaction SET state = 'done'");
    drop(place::open(scratch.path(), None).unwrap());
    assert!(pending(&*place::open_read_only(scratch.path()).unwrap()).is_empty(), "SQLite is the journal again");
}

#[test]
fn a_journal_of_a_newer_reactor_is_left_alone() {
    let scratch = Scratch::new("journal-newer");
    let server = Postgres::start(scratch.path(), "");
    let place = schema(&server, "a");
    drop(PostgresJournal::open(scratch.path(), &place).unwrap());
    server.sql("postgres", "INSERT INTO a.schema_version VALUES (1000)");
    for error in [PostgresJournal::open(scratch.path(), &place), PostgresJournal::open_read_only(&place)] {
        let error = error.unwrap_err();
        assert!(error.why.contains("schema version 1000") && error.hint.contains("newer reactor"), "{error}");
    }
}

#[test]
fn a_lost_connection_is_made_again_and_loses_nothing() {
    let scratch = Scratch::new("journal-lost");
    let mut server = Postgres::start(scratch.path(), "");
    server.sql("postgres", "CREATE DATABASE j TEMPLATE template0");
    let place = Place { name: "j".into(), ..schema(&server, "a") };
    let mut journal = PostgresJournal::open(&scratch.path().join("state"), &place).unwrap();
    journal.write(&waiting(1)).unwrap();
    assert_eq!(server.cut_off("j"), 1, "nobody else is there");
    journal.write(&waiting(2)).unwrap();
    server.stop();
    let error = journal.write(&waiting(3)).unwrap_err();
    assert!(!error.is_lasting && error.hint.contains("is the server up"), "{error}");
    journal.ask(&Question::Pending).unwrap_err();
    server.resume();
    journal.write(&waiting(3)).unwrap();
    assert_eq!(ids(&journal, all()), ["R3", "R2", "R1"]);
}

#[test]
fn a_batch_whose_commit_was_not_answered_is_written_once() {
    let scratch = Scratch::new("journal-doubt");
    let server = Postgres::start(scratch.path(), "");
    let proxy = Proxy::start(server.port());
    let mut journal = PostgresJournal::open(&scratch.path().join("state"), &behind(&proxy, "a")).unwrap();
    let written = |n: u32| server.column("postgres", &format!("SELECT n FROM a.reaction WHERE id = 'R{n}'")).len();
    // The server has it, and we can ask at once.
    proxy.at_commit(Cut::AfterIt);
    journal.write(&waiting(1)).unwrap();
    // The server never got it.
    proxy.at_commit(Cut::BeforeIt);
    journal.write(&waiting(2)).unwrap();
    // The server has it, and can't be asked for a while.
    proxy.at_commit(Cut::AfterItForLong);
    let error = journal.write(&[waiting(3), waiting(4)].concat()).unwrap_err();
    assert!(!error.is_lasting, "{error}");
    journal.write(&[waiting(3), waiting(4)].concat()).unwrap_err();
    assert_eq!((written(3), written(4)), (1, 1), "the test cuts after the commit");
    proxy.mend();
    journal.write(&waiting(3)).unwrap();
    journal.write(&waiting(4)).unwrap();
    journal.write(&[line("R4", 1, "started", "")]).unwrap();
    assert_eq!(ids(&journal, all()), ["R4", "R3", "R2", "R1"]);
    let error = journal.write(&waiting(4)).unwrap_err();
    assert!(error.is_lasting, "twice on purpose is a contradiction: {error}");
}

#[test]
fn whoever_was_replaced_while_away_writes_nothing_more() {
    let scratch = Scratch::new("journal-replaced");
    let server = Postgres::start(scratch.path(), "");
    let proxy = Proxy::start(server.port());
    let mut first = PostgresJournal::open(&scratch.path().join("one"), &behind(&proxy, "a")).unwrap();
    first.write(&waiting(1)).unwrap();
    proxy.at_commit(Cut::AfterItForLong);
    first.write(&waiting(2)).unwrap_err();
    let mut second = PostgresJournal::open(&scratch.path().join("two"), &schema(&server, "a")).unwrap();
    second.write(&waiting(3)).unwrap();
    proxy.mend();
    let error = first.write(&waiting(4)).unwrap_err();
    assert!(error.is_lasting && error.why.contains("another daemon"), "{error}");
    drop(second);
    let error = first.write(&waiting(4)).unwrap_err();
    assert!(error.is_lasting && error.why.contains("another daemon"), "{error}");
    let reader = PostgresJournal::open_read_only(&schema(&server, "a")).unwrap();
    assert_eq!(ids(&reader, all()), ["R3", "R2", "R1"]);
}

#[test]
fn a_server_that_lost_what_it_had_committed_is_found_out() {
    let scratch = Scratch::new("journal-behind");
    let server = Postgres::start(scratch.path(), "");
    let mut journal = PostgresJournal::open(&scratch.path().join("state"), &schema(&server, "a")).unwrap();
    journal.write(&waiting(1)).unwrap();
    journal.write(&waiting(2)).unwrap();
    // As a standby that was behind when it took over.
    server.sql(
        "postgres",
        "UPDATE a.node SET batch = 1; DELETE FROM a.reaction WHERE id = 'R2';
         SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'reactor journal'",
    );
    let error = journal.write(&waiting(3)).unwrap_err();
    assert!(error.is_lasting && error.why.contains("lost what it had committed"), "{error}");
    drop(journal);
    let mut again = PostgresJournal::open(&scratch.path().join("state"), &schema(&server, "a")).unwrap();
    again.write(&waiting(3)).unwrap();
    assert_eq!(ids(&again, all()), ["R3", "R1"]);
}

#[test]
fn a_server_with_no_connection_left_says_what_to_raise() {
    let scratch = Scratch::new("journal-full");
    let server =
        Postgres::start(scratch.path(), "max_connections=4\nsuperuser_reserved_connections=0\nmax_wal_senders=0");
    let place = schema(&server, "a");
    let mut journal = PostgresJournal::open(scratch.path(), &place).unwrap();
    let mut readers = Vec::new();
    let error = loop {
        match PostgresJournal::open_read_only(&place) {
            Ok(reader) => readers.push(reader),
            Err(error) => break error,
        }
        assert!(readers.len() < 10, "more than there can be");
    };
    assert!(!error.is_lasting && error.hint.contains("max_connections"), "{error}");
    journal.write(&waiting(1)).unwrap();
    drop(readers);
    assert_eq!(counts(&journal).messages, 1);
}

#[test]
fn an_old_session_that_the_server_still_holds_is_ended() {
    let scratch = Scratch::new("journal-ghost");
    let server = Postgres::start(scratch.path(), "");
    let proxy = Proxy::start(server.port());
    let mut journal = PostgresJournal::open(&scratch.path().join("state"), &behind(&proxy, "a")).unwrap();
    journal.write(&waiting(1)).unwrap();
    // Only our side of the connection ends: the server does not notice.
    proxy.at_commit(Cut::OursOnly);
    journal.write(&waiting(2)).unwrap();
    assert_eq!(ids(&journal, all()), ["R2", "R1"]);
}

#[test]
fn a_database_that_can_not_hold_every_text_is_refused() {
    let scratch = Scratch::new("journal-latin1");
    let server = Postgres::start(scratch.path(), "");
    server.sql("postgres", "CREATE DATABASE old TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
    let place = Place { name: "old".into(), ..schema(&server, "a") };
    let error = PostgresJournal::open(scratch.path(), &place).unwrap_err();
    assert!(error.why.contains("LATIN1") && error.hint.contains("createdb -E UTF8"), "{error}");
}

#[test]
fn a_role_without_rights_or_with_a_wrong_password_is_told_what_to_do() {
    let scratch = Scratch::new("journal-role");
    let server = Postgres::start(scratch.path(), "");
    server.sql("postgres", "CREATE ROLE ralph LOGIN PASSWORD 'right'");
    let secret = scratch.path().join("password");
    let place = Place {
        host: "127.0.0.1".into(),
        user: "ralph".into(),
        password: Some(secret.clone()),
        ..schema(&server, "a")
    };
    let refused = |password: &str| {
        std::fs::write(&secret, password).unwrap();
        PostgresJournal::open(scratch.path(), &place).unwrap_err()
    };
    let error = refused("wrong-and-secret\n");
    assert!(error.why.contains("password") && error.hint.contains("log in"), "{error}");
    assert!(!error.to_string().contains("wrong-and-secret"), "{error}");
    let error = refused("");
    assert!(error.why.contains("is empty"), "{error}");
    let error = refused("right\n");
    assert!(error.why.contains("permission denied") && error.hint.contains("CREATE SCHEMA a AUTHORIZATION"), "{error}");
    server.sql("postgres", "CREATE SCHEMA a AUTHORIZATION ralph");
    let mut journal = PostgresJournal::open(scratch.path(), &place).unwrap();
    journal.write(&waiting(1)).unwrap();
}
