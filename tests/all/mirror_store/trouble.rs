//! Lost connections, locks, passwords, certificates.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use handler_api::Failure;
use mirror_db::rows::{Part, Rows};
use mirror_db::store::{self, Place, Store};
use reactor_tests::process::command;
use reactor_tests::{Scratch, postgres::Postgres};

use super::contract::{EPEL, Peer as _, counts, directory, filled, first_fill, is_retry, whole};
use super::{Database, schema};

/// What is other about a place.
type Change<'a> = &'a dyn Fn(&mut store::Postgres);

/// The place of a database, changed.
fn place(database: &Database<'_>, change: impl Fn(&mut store::Postgres)) -> Store {
    let Place::Postgres(mut place) = database.place() else { panic!("another place") };
    change(&mut place);
    Store::new(Place::Postgres(place))
}

async fn refused(store: &Store) -> Failure {
    let failure = store.known(EPEL, &Part::Whole).await.unwrap_err();
    assert!(is_retry(&failure), "{failure:?}");
    failure
}

#[tokio::test]
async fn a_connection_that_was_lost_is_made_again() {
    let scratch = Scratch::new("mirror-lost");
    let mut server = Postgres::start(scratch.path(), "");
    let store = {
        let database = Database::new(&server, "lost", &schema(), "");
        let store = filled(&database).await;
        assert_eq!(server.cut_off("lost"), 1, "one connection was kept");
        assert_eq!(whole(&store).await.directories.len(), 4, "after it was cut off between two calls");
        store
    };
    server.stop();
    let failure = refused(&store).await;
    assert!(failure.message().contains("can't be reached"), "{failure:?}");
    assert!(failure.hint().is_some_and(|hint| hint.starts_with("psql -h /")), "{failure:?}");
    server.resume();
    assert_eq!(whole(&store).await.directories.len(), 4, "after the server was started again");
}

#[tokio::test]
async fn a_write_that_is_cut_off_half_way_leaves_nothing() {
    let scratch = Scratch::new("mirror-cut");
    let server = Postgres::start(scratch.path(), "");
    let database = Database::new(&server, "cut", &schema(), "");
    let store = Store::new(database.place());
    let (known, rows, before) = (whole(&store).await, first_fill(), counts(&database));
    // Its last statement waits for a lock; all the others are done.
    let held = server.hold("cut", "LOCK TABLE file_detail IN SHARE MODE");
    let cut_off = async {
        server.until_blocked("cut").await;
        assert_eq!(server.cut_off("cut"), 2, "the writer and the holder");
    };
    let (written, ()) = tokio::join!(store.write(&known, &rows), cut_off);
    let failure = written.unwrap_err();
    assert!(is_retry(&failure), "{failure:?}");
    drop(held);
    assert_eq!(counts(&database), before);
    // Nobody waits for the answer any more: the same.
    let held = server.hold("cut", "LOCK TABLE file_detail IN SHARE MODE");
    tokio::select! {
        written = store.write(&known, &rows) => panic!("it did not wait: {written:?}"),
        () = server.until_blocked("cut") => {}
    }
    drop(held);
    let busy = "SELECT pid FROM pg_stat_activity WHERE datname = 'cut' AND application_name LIKE 'reactor%'";
    reactor_tests::wait_until_async("the writer is gone", Duration::from_secs(30), || {
        server.column("postgres", busy).is_empty()
    })
    .await;
    assert_eq!(counts(&database), before);
    store.write(&known, &rows).await.unwrap();
    assert_eq!(whole(&store).await.directories.len(), 4);
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let scratch = Scratch::new("mirror-slow");
    let server = Postgres::start(scratch.path(), "");
    let database = Database::new(&server, "slow", &schema(), "");
    let store = place(&database, |place| place.timeout = Duration::from_secs(1));
    let known = whole(&store).await;
    let rows = Rows { new_directories: vec![directory("pub/epel/9", 1)], ..Rows::default() };
    let held = server.hold("slow", "UPDATE category SET name = name WHERE id = 1");
    let failure = store.write(&known, &rows).await.unwrap_err();
    assert!(is_retry(&failure) && failure.message().contains("statement timeout"), "{failure:?}");
    assert!(failure.hint().is_some_and(|hint| hint.contains("`timeout`")), "{failure:?}");
    drop(held);
    whole(&store).await;
    server.freeze("slow");
    let began = Instant::now();
    assert_eq!(whole(&store).await.directories.len(), 1, "over a new connection");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// A certificate for 127.0.0.1 that nobody signed, and its key, as PostgreSQL wants them.
fn certificate(scratch: &Scratch, name: &str) -> [PathBuf; 2] {
    let dir = scratch.path().join(name);
    std::fs::create_dir(&dir).unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|file| dir.join(file));
    let mut openssl = command("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=db", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"]);
    let out = openssl.arg("-keyout").arg(&key).arg("-out").arg(&cert).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    // A key that root owns may be read by its group; the server is neither.
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let owner = command("/usr/bin/chown").arg("postgres").arg(&key).status();
    assert!(!rustix::process::geteuid().is_root() || owner.is_ok_and(|status| status.success()));
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o711)).unwrap();
    [cert, key]
}

#[tokio::test]
async fn passwords_and_certificates_are_looked_at() {
    let scratch = Scratch::new("mirror-tls");
    let [cert, key] = certificate(&scratch, "server");
    let [other, _] = certificate(&scratch, "other");
    let conf = format!("ssl=on\nssl_cert_file={}\nssl_key_file={}", cert.display(), key.display());
    let server = Postgres::start(scratch.path(), &conf);
    let database = Database::new(&server, "tls", &schema(), "");
    server.sql(
        "tls",
        "CREATE ROLE reader LOGIN PASSWORD 'correct-horse'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
    );
    let [right, wrong, empty] =
        [("right", "correct-horse\n"), ("wrong", "battery-staple"), ("empty", "\n")].map(|(name, text)| {
            let file = scratch.path().join(name);
            std::fs::write(&file, text).unwrap();
            file
        });
    let reader = |change: &dyn Fn(&mut store::Postgres)| {
        place(&database, |place| {
            (place.host, place.user) = ("127.0.0.1".into(), "reader".into());
            (place.password, place.tls, place.ca) = (Some(right.clone()), true, Some(cert.clone()));
            change(place);
        })
    };
    let store = reader(&|_| ());
    let known = whole(&store).await;
    let failure = store.write(&known, &first_fill()).await.unwrap_err();
    assert!(!is_retry(&failure) && failure.message().contains("permission denied"), "{failure:?}");
    let plain = reader(&|place| place.tls = false);
    assert_eq!(whole(&plain).await.directories.len(), 1, "without TLS, the password is asked for as well");
    let cases: [(Change<'_>, &str); 9] = [
        (&|place: &mut store::Postgres| place.password = Some(wrong.clone()), "password authentication failed"),
        (&|place: &mut store::Postgres| place.password = None, "password"),
        (&|place: &mut store::Postgres| place.password = Some(empty.clone()), "is empty"),
        (&|place: &mut store::Postgres| place.password = Some("/nowhere".into()), "/nowhere` can't be read"),
        (&|place: &mut store::Postgres| place.ca = Some(other.clone()), "certificate"),
        (&|place: &mut store::Postgres| place.ca = None, "certificate"),
        (&|place: &mut store::Postgres| place.ca = Some(right.clone()), "no certificate in it"),
        (&|place: &mut store::Postgres| place.host = "localhost".into(), "certificate"),
        (&|place: &mut store::Postgres| place.name = "nothing".into(), "database \"nothing\" does not exist"),
    ];
    for (change, expected) in cases {
        let store = reader(change);
        let failure = refused(&store).await;
        let said = format!("{failure:?} {store:?}");
        assert!(failure.message().contains(expected), "{expected}: {said}");
        assert!(!said.contains("correct-horse") && !said.contains("battery-staple"), "{said}");
    }
}
