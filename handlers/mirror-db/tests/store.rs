//! The store on SQLite: its contract, and what only a file can do wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers may panic as the test may")]

mod contract;

use std::path::PathBuf;

use contract::{EPEL, Peer, SEED, counts, filled, first_fill, is_retry, whole};
use mirror_db::rows::Part;
use mirror_db::store::{Place, Store};
use rusqlite::Connection;
use rusqlite::types::Value;

struct Sqlite {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Sqlite {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mirrors.db");
        let me = Self { _dir: dir, path };
        me.sql(concat!(include_str!("../example/schema.sql"), "PRAGMA synchronous = OFF;"));
        me.sql(SEED);
        me
    }
}

impl Peer for Sqlite {
    fn place(&self) -> Place {
        Place::Sqlite(self.path.clone())
    }

    fn sql(&self, text: &str) {
        let connection = Connection::open(&self.path).unwrap();
        connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        connection.execute_batch(text).unwrap();
    }

    fn column(&self, query: &str) -> Vec<String> {
        let connection = Connection::open(&self.path).unwrap();
        let mut statement = connection.prepare(query).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, Value>(0)).unwrap();
        let text = |value| match value {
            Value::Integer(number) => number.to_string(),
            Value::Text(text) => text,
            other => format!("{other:?}"),
        };
        rows.map(|row| text(row.unwrap())).collect()
    }
}

macro_rules! on_sqlite {
    ($sentence:ident) => {
        #[tokio::test]
        async fn $sentence() {
            contract::$sentence(&Sqlite::new()).await;
        }
    };
}
contract::sentences!(on_sqlite);

#[tokio::test]
async fn a_file_that_is_not_there_is_not_made() {
    let peer = Sqlite::new();
    std::fs::remove_file(&peer.path).unwrap();
    let failure = Store::new(peer.place()).known(EPEL, &Part::Whole).await.unwrap_err();
    assert!(is_retry(&failure) && failure.message().contains("mirrors.db can't be opened"), "{failure:?}");
    assert!(!peer.path.exists());
    std::fs::write(
        &peer.path,
        "something else, of more than a hundred bytes, so that it can't be an empty database\n".repeat(9),
    )
    .unwrap();
    let failure = Store::new(peer.place()).known(EPEL, &Part::Whole).await.unwrap_err();
    assert!(!is_retry(&failure) && failure.message().contains("not a database"), "{failure:?}");
    std::fs::write(&peer.path, "").unwrap();
    let failure = Store::new(peer.place()).known(EPEL, &Part::Whole).await.unwrap_err();
    assert!(!is_retry(&failure) && failure.message().contains("no such table: category"), "{failure:?}");
}

#[tokio::test]
async fn a_write_that_is_dropped_half_way_leaves_nothing() {
    let peer = Sqlite::new();
    let store = Store::new(peer.place());
    let known = whole(&store).await;
    let before = counts(&peer);
    // After each of its steps in turn, until it gets through.
    for steps in 1.. {
        let rows = first_fill();
        let mut write = Box::pin(store.write(&known, &rows));
        let mut left = steps;
        let ended = std::future::poll_fn(|context| match write.as_mut().poll(context) {
            std::task::Poll::Ready(done) => std::task::Poll::Ready(Some(done)),
            std::task::Poll::Pending if left == 0 => std::task::Poll::Ready(None),
            std::task::Poll::Pending => {
                left -= 1;
                std::task::Poll::Pending
            }
        });
        let ended = ended.await;
        drop(write);
        if let Some(done) = ended {
            done.unwrap();
            assert!(steps > 1, "it was never dropped");
            break;
        }
        // The step that was under way ends by itself, and the transaction with it; a write that was dropped while it was
        // being ended may be whole.
        if counts(&peer) != before {
            assert_eq!(whole(&store).await.details.len(), 1, "all of it or nothing");
            break;
        }
    }
}

#[tokio::test]
async fn it_reads_while_another_one_only_reads() {
    let peer = Sqlite::new();
    let store = filled(&peer).await;
    let reader = Connection::open(&peer.path).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let directories: i64 = reader.query_row("SELECT count(*) FROM directory", [], |row| row.get(0)).unwrap();
    assert_eq!(whole(&store).await.directories.len() as i64, directories - 1);
}
