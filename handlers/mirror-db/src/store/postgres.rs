//! The edge to a PostgreSQL server. Statements carry their types with them: one round trip each, nothing prepared on the
//! server, so a pooler in between is fine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use handler_api::Failure;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Postgres;
use super::edge::{Each, For, Kind, Row, Value};
use super::verdict::{Trouble, another_schema};

/// How much longer than its own limit a statement is waited for: then the server, or the way there, is dead.
const SILENCE: Duration = Duration::from_secs(5);
/// Most that a password's file may hold, in bytes.
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;
/// Most that the file of certificates may hold, in bytes.
const CA_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A connection.
pub(super) struct Server {
    place: Postgres,
    client: Client,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("place", &self.place).finish_non_exhaustive()
    }
}

type Param<'a> = (Box<dyn ToSql + Sync + Send + 'a>, Type);

impl Server {
    pub async fn connect(place: &Postgres) -> Result<Self, Failure> {
        let mut config = Config::new();
        config.host(&place.host).port(place.port).dbname(&place.name).user(&place.user);
        config.application_name("reactor mirror-db").connect_timeout(place.timeout);
        config.ssl_mode(if place.tls { SslMode::Require } else { SslMode::Disable });
        if let Some(name) = &place.password {
            config.password(password(name)?);
        }
        let client = if place.tls {
            Self::connected(place, &config, MakeRustlsConnect::new(tls(place.ca.as_deref())?)).await?
        } else {
            Self::connected(place, &config, NoTls).await?
        };
        Ok(Self { place: place.clone(), client })
    }

    async fn connected<T>(place: &Postgres, config: &Config, tls: T) -> Result<Client, Failure>
    where
        T: MakeTlsConnect<Socket> + Send,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as tokio_postgres::tls::TlsConnect<Socket>>::Future: Send,
    {
        // The time of the configuration is that of the connection alone; a server that never greets must not hold us.
        let connecting = tokio::time::timeout(place.timeout + SILENCE, config.connect(tls));
        let connected = connecting.await.map_err(|_| place.silent().failure)?;
        let (client, connection) = connected.map_err(|error| place.trouble(&error).failure)?;
        // It ends with the client; what goes wrong in it, each statement says too.
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    pub fn is_alive(&self) -> bool {
        !self.client.is_closed()
    }

    /// Waits for an answer, but not for ever.
    async fn answer<T>(&self, asked: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Trouble> {
        match tokio::time::timeout(self.place.timeout + SILENCE, asked).await {
            Ok(answer) => answer.map_err(|error| self.place.trouble(&error)),
            Err(_) => Err(self.place.silent()),
        }
    }

    /// All that is set is set for this transaction: the next one may be on another connection of a pooler.
    pub async fn begin(&self, what_for: For) -> Result<(), Trouble> {
        let how = match what_for {
            For::Reading => "ISOLATION LEVEL REPEATABLE READ READ ONLY",
            For::Writing => "ISOLATION LEVEL READ COMMITTED READ WRITE",
        };
        let timeout = self.place.timeout.as_millis();
        let idle = (self.place.timeout + SILENCE).as_millis();
        let sql = format!(
            "BEGIN {how}; SET LOCAL statement_timeout = {timeout}; \
             SET LOCAL idle_in_transaction_session_timeout = {idle}; SET LOCAL standard_conforming_strings = on"
        );
        self.answer(self.client.batch_execute(&sql)).await
    }

    pub async fn commit(&self) -> Result<(), Trouble> {
        self.answer(self.client.batch_execute("COMMIT")).await
    }

    pub async fn query(&self, sql: &str, args: &[Value]) -> Result<Vec<Row>, Trouble> {
        let params: Vec<Param<'_>> = args.iter().map(one).collect();
        self.rows(sql, &params).await
    }

    pub async fn query_each(&self, each: &Each, rows: &[Vec<Value>]) -> Result<Vec<Row>, Trouble> {
        let (sql, params) = unnested(each, rows);
        self.rows(&sql, &params).await
    }

    pub async fn execute_each(&self, each: &Each, rows: &[Vec<Value>]) -> Result<u64, Trouble> {
        let (sql, params) = unnested(each, rows);
        self.answer(self.client.execute_typed(&sql, &borrowed(&params))).await
    }

    async fn rows(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Trouble> {
        let found = self.answer(self.client.query_typed(sql, &borrowed(params))).await?;
        found.iter().map(|row| self.read(row)).collect()
    }

    fn read(&self, row: &tokio_postgres::Row) -> Result<Row, Trouble> {
        let values = row.columns().iter().enumerate().map(|(at, column)| {
            let value = match *column.type_() {
                Type::INT4 => row.try_get::<_, Option<i32>>(at).map(Value::from),
                Type::INT8 => row.try_get::<_, Option<i64>>(at).map(Value::from),
                Type::BOOL => row.try_get::<_, Option<bool>>(at).map(Value::from),
                Type::TEXT | Type::VARCHAR => row.try_get::<_, Option<&str>>(at).map(Value::from),
                Type::BYTEA => {
                    row.try_get::<_, Option<Vec<u8>>>(at).map(|bytes| bytes.map_or(Value::Null, Value::Bytes))
                }
                ref other => {
                    let message =
                        format!("{} has the type {other} in the column {}", self.place.shown(), column.name());
                    return Err(Trouble::from(another_schema(message)));
                }
            };
            value.map_err(|error| self.place.trouble(&error))
        });
        values.collect::<Result<Vec<Value>, Trouble>>().map(Row::new)
    }
}

fn borrowed<'a>(params: &'a [Param<'_>]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    params.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone())).collect()
}

fn one(value: &Value) -> Param<'_> {
    match value {
        Value::Null => (Box::new(None::<i32>), Type::INT4),
        Value::Int(number) => (Box::new(*number), Type::INT4),
        Value::Long(number) => (Box::new(*number), Type::INT8),
        Value::Bool(yes) => (Box::new(*yes), Type::BOOL),
        Value::Text(text) => (Box::new(text.as_str()), Type::TEXT),
        Value::Bytes(bytes) => (Box::new(bytes.as_slice()), Type::BYTEA),
    }
}

/// `{n}` is a function that makes rows of arrays, one a column.
fn unnested<'a>(each: &Each, rows: &'a [Vec<Value>]) -> (String, Vec<Param<'a>>) {
    let marks: Vec<String> = (1..=each.columns.len()).map(|number| format!("${number}")).collect();
    let names: Vec<&str> = each.columns.iter().map(|(name, _)| *name).collect();
    let source = format!("unnest({}) AS n({})", marks.join(", "), names.join(", "));
    let arrays = each.columns.iter().enumerate().map(|(at, (_, kind))| array(*kind, rows, at)).collect();
    (each.sql.replace("{n}", &source), arrays)
}

fn array(kind: Kind, rows: &[Vec<Value>], at: usize) -> Param<'_> {
    // A value of another kind than its column's can't be: both stand side by side in write.rs. It would be a NULL, refused.
    fn column<'a, T: 'a>(rows: &'a [Vec<Value>], at: usize, read: impl Fn(&'a Value) -> Option<T>) -> Vec<Option<T>> {
        rows.iter().map(|row| row.get(at).and_then(&read)).collect()
    }
    match kind {
        Kind::Int => {
            let read = |value: &Value| if let Value::Int(number) = value { Some(*number) } else { None };
            (Box::new(column(rows, at, read)), Type::INT4_ARRAY)
        }
        Kind::Long => {
            let read = |value: &Value| if let Value::Long(number) = value { Some(*number) } else { None };
            (Box::new(column(rows, at, read)), Type::INT8_ARRAY)
        }
        Kind::Bool => {
            let read = |value: &Value| if let Value::Bool(yes) = value { Some(*yes) } else { None };
            (Box::new(column(rows, at, read)), Type::BOOL_ARRAY)
        }
        Kind::Text => (Box::new(column(rows, at, text)), Type::TEXT_ARRAY),
        Kind::Bytes => (Box::new(column(rows, at, bytes)), Type::BYTEA_ARRAY),
    }
}

fn text(value: &Value) -> Option<&str> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    if let Value::Bytes(bytes) = value { Some(bytes) } else { None }
}

/// Reads the secret of that name; the file of an absolute one. Never shown.
fn password(name: &Path) -> Result<Vec<u8>, Failure> {
    let shown = name.display();
    let hint = || format!("list the secret `{shown}` under `secrets:` of the handler, for plan too");
    let file = match std::env::var_os("REACTOR_SECRETS") {
        Some(dir) => PathBuf::from(dir).join(name),
        None if name.is_absolute() => name.to_owned(),
        None => {
            let message = format!("the secret `{shown}` is not there: no secrets were handed over");
            return Err(Failure::retry(message).hinting(hint()));
        }
    };
    let read = bounded(&file, PASSWORD_BYTES_MAX);
    let mut password =
        read.map_err(|error| Failure::retry(format!("the secret `{shown}` can't be read: {error}")).hinting(hint()))?;
    while password.last().is_some_and(|byte| b"\r\n".contains(byte)) {
        password.pop();
    }
    if password.is_empty() {
        return Err(Failure::retry(format!("the secret `{shown}` is empty")).hinting(hint()));
    }
    Ok(password)
}

fn bounded(file: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut read = Vec::new();
    fs::File::open(file)?.take(bytes_max + 1).read_to_end(&mut read)?;
    if read.len() as u64 > bytes_max {
        return Err(std::io::Error::other(format!("it is larger than {bytes_max} bytes")));
    }
    Ok(read)
}

/// TLS that believes the system's certificates, or those of a file, and no others; the server's name must fit.
fn tls(ca: Option<&Path>) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => {
            let wrong = |why: &dyn std::fmt::Display| {
                Failure::retry(format!("`ca` of the mirror database: {}: {why}", file.display())).hinting(format!(
                    "openssl x509 -in {} -noout -subject",
                    super::verdict::shell_word(&file.to_string_lossy())
                ))
            };
            let pem = bounded(file, CA_BYTES_MAX).map_err(|error| wrong(&error))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|error| wrong(&error))?;
                roots.add(certificate).map_err(|error| wrong(&error))?;
            }
            if roots.is_empty() {
                return Err(wrong(&"no certificate in it"));
            }
        }
        None => {
            // Some of a system's certificates may be too old to be read: then those are not believed.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(Failure::retry("this system has no certificates to check the mirror database's with")
                    .hinting("install ca-certificates, or name a file with `ca`"));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Failure::permanent(format!("TLS: {error}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
