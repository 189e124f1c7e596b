//! `database`: where it is. Pure, but for one look at the environment: where secrets are.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use handler_api::Failure;
use handler_api::words::{Words, is_name};
use serde_json::Value;

use super::words::{about, absolute};
use crate::store::{Place, Postgres};

/// PostgreSQL's own port.
const PORT: u16 = 5432;
/// How long one statement may take where nothing is said, in seconds.
const TIMEOUT_SECONDS: u64 = 60;
/// Longest `timeout`, in seconds.
const TIMEOUT_SECONDS_MAX: u64 = 3_600;

const WORDS: [&str; 8] = ["host", "port", "name", "user", "password", "tls", "ca", "timeout"];
const HINT: &str = "write database: { postgresql: { host: db.example.org, name: mirrormanager2, user: reactor, password: mirror_db } }, \
                    or database: { sqlite: ./mirrors.db }";

/// Reads it.
pub(super) fn read(value: Option<&Value>) -> Result<Place, Failure> {
    let Some(value) = value else { return Err(Failure::permanent("mirror-db: `database` is missing").hinting(HINT)) };
    let words = Words::read(value, "mirror-db: database", &["sqlite", "postgresql"])?;
    match (absolute(&words, "sqlite")?, words.get("postgresql")) {
        (Some(file), None) => Ok(Place::Sqlite(file)),
        (None, Some(block)) => postgres(block).map(|postgres| Place::Postgres(Box::new(postgres))),
        _ => {
            Err(Failure::permanent("mirror-db: `database` names neither sqlite nor postgresql, or both").hinting(HINT))
        }
    }
}

fn postgres(block: &Value) -> Result<Postgres, Failure> {
    let words = Words::read(block, "mirror-db: database: postgresql", &WORDS)?;
    let needed = |word: &'static str, what: &str| {
        let missing = || {
            Failure::permanent(format!("mirror-db: database: postgresql: `{word}` is missing: {what}")).hinting(HINT)
        };
        words.text(word)?.map(str::to_owned).ok_or_else(missing)
    };
    let host = needed("host", "a name, an address, or the directory of a socket (/run/postgresql)")?;
    let is_near = is_near(&host);
    let tls = match words.get("tls") {
        None => !is_near,
        Some(Value::Bool(tls)) => *tls,
        Some(other) => return Err(words.wrong("tls", "is neither true nor false", other)),
    };
    let ca = absolute(&words, "ca")?;
    if ca.is_some() && !tls {
        return Err(Failure::permanent("mirror-db: database: postgresql: `ca` counts only with `tls: true`")
            .hinting("without `tls` only a socket and the loopback go without it"));
    }
    let port = words.number("port", u64::from(PORT), 1, u64::from(u16::MAX))?;
    let longest = Duration::from_secs(TIMEOUT_SECONDS_MAX);
    Ok(Postgres {
        host,
        port: u16::try_from(port).unwrap_or(PORT),
        name: needed("name", "the database")?,
        user: needed("user", "a role that may read all of it and write what the README lists")?,
        password: password(&words).map_err(|failure| about("database", failure))?,
        tls,
        ca,
        timeout: words.duration("timeout", Duration::from_secs(TIMEOUT_SECONDS), longest)?,
    })
}

/// Whether nobody else can listen on the way there.
fn is_near(host: &str) -> bool {
    host.starts_with('/') || host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The file of the secret. The process that only checks the block has no secrets: there it is the bare name.
fn password(words: &Words<'_>) -> Result<Option<PathBuf>, Failure> {
    let Some(name) = words.text("password")? else { return Ok(None) };
    if !is_name(name) {
        return Err(Failure::permanent("mirror-db: postgresql: `password` is not the name of a secret")
            .hinting("write password: mirror_db, and secrets: { mirror_db: secrets/mirror_db } beside `use:`"));
    }
    let secrets = std::env::var_os("REACTOR_SECRETS").map(PathBuf::from);
    Ok(Some(secrets.unwrap_or_default().join(name)))
}
