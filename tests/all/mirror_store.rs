//! The mirror database on a real PostgreSQL: the store's contract, and what only a server can do wrong.

#[path = "../../handlers/mirror-db/tests/contract/mod.rs"]
mod contract;
mod trouble;

use std::path::Path;
use std::time::Duration;

use contract::{Peer, SEED};
use mirror_db::store::{self, Place};
use reactor_tests::Scratch;
use reactor_tests::postgres::Postgres;

/// The tables that the handler touches, as its own example has them.
const SCHEMA: &str = include_str!("../../handlers/mirror-db/example/schema.sql");
/// The schema as the real MirrorManager2 makes it; not in the repository.
const REAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden/mirror-db/mm2_schema_postgresql.sql");

/// A database of one sentence.
struct Database<'a> {
    server: &'a Postgres,
    name: String,
}

impl<'a> Database<'a> {
    /// One with a schema and the seed. Its texts are ordered as `collation` says.
    fn new(server: &'a Postgres, name: &str, schema: &str, collation: &str) -> Self {
        let name: String = name.chars().take(60).collect();
        server.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0 {collation}"));
        server.sql(&name, schema);
        let me = Self { server, name };
        me.sql(SEED);
        me
    }
}

impl Peer for Database<'_> {
    fn place(&self) -> Place {
        Place::Postgres(Box::new(store::Postgres {
            host: self.server.socket().to_str().expect("a path in UTF-8").into(),
            port: self.server.port(),
            name: self.name.clone(),
            user: "postgres".into(),
            password: None,
            tls: false,
            ca: None,
            timeout: Duration::from_secs(30),
        }))
    }

    fn sql(&self, text: &str) {
        // What is put beside the tables of the handler refers to rows that no test needs.
        self.server.sql(&self.name, &format!("SET session_replication_role = replica;\n{text}"));
    }

    fn column(&self, query: &str) -> Vec<String> {
        self.server.column(&self.name, query)
    }
}

/// The example's schema in PostgreSQL's words, as its head says.
fn schema() -> String {
    SCHEMA.replace("id integer PRIMARY KEY", "id serial PRIMARY KEY").replace(" blob", " bytea")
}

async fn contract_of(server: &Postgres, kind: &str, schema: &str, collation: &str) {
    macro_rules! sentence {
        ($sentence:ident) => {
            let name = format!("{kind}_{}", stringify!($sentence));
            eprintln!("{name}");
            contract::$sentence(&Database::new(server, &name, schema, collation)).await;
        };
    }
    contract::sentences!(sentence);
}

#[tokio::test]
async fn postgresql_keeps_the_contract_of_the_store() {
    let scratch = Scratch::new("mirror-store");
    let server = Postgres::start(scratch.path(), "");
    // An order of texts that passes over punctuation at first: `pub/epel/9-a` stands among the names below `pub/epel/9`.
    contract_of(&server, "example", &schema(), "LOCALE_PROVIDER icu ICU_LOCALE 'en-US-u-ka-shifted'").await;
}

#[tokio::test]
async fn the_schema_of_mirrormanager_keeps_the_contract_of_the_store() {
    if !Path::new(REAL).exists() {
        eprintln!("{REAL} is not here: the contract ran on our own schema alone");
        return;
    }
    let dump = std::fs::read_to_string(REAL).expect("the real schema");
    // Newer programs of PostgreSQL write these for newer programs alone.
    let dump: Vec<&str> = dump.lines().filter(|line| !line.starts_with('\\')).collect();
    let scratch = Scratch::new("mirror-store-real");
    let server = Postgres::start(scratch.path(), "");
    contract_of(&server, "real", &dump.join("\n"), "").await;
}
