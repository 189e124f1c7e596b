//! One connection: how it is made, and statements over it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io::Read;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::mpsc::Sender;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Row, Socket, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fault::Fault;
use crate::journal::place::Postgres;

/// Longest time to make a connection, in seconds.
const CONNECT_SECONDS_MAX: u64 = 10;
/// Longest time that the server may take for one statement, in seconds; then it gives up and says so.
const STATEMENT_SECONDS_MAX: u64 = 50;
/// Longest wait for the answers to one batch, question or step, in seconds: then the server, or the way there, is dead.
pub(super) const ANSWER_SECONDS_MAX: u64 = 60;
/// Most that the password's file may hold, in bytes.
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;
/// Most that the file of certificates may hold, in bytes.
const CA_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A value that goes to the server.
pub(super) type Param = Box<dyn ToSql + Sync + Send>;

/// Where a connection brings what it is notified of.
pub(super) struct Ear {
    pub notes: Sender<String>,
    /// Becomes true when there was no room for one.
    pub missed: Arc<AtomicBool>,
}

/// A connection that is set up.
pub(super) struct Session {
    client: Client,
    prepared: RefCell<HashMap<&'static str, Statement>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// Connects, to read only or also to write.
    pub async fn connect(server: &Postgres, to_write: bool) -> Result<Self, Fault> {
        Self::connect_and_hear(server, to_write, None).await
    }

    /// As [`Session::connect`]; what it is notified of goes to `heard`, as far as there is room.
    pub async fn connect_and_hear(server: &Postgres, to_write: bool, heard: Option<Ear>) -> Result<Self, Fault> {
        let limit = Duration::from_secs(CONNECT_SECONDS_MAX);
        let mut config = Config::new();
        config.host(&server.host).port(server.port).dbname(&server.name).user(&server.user);
        config.application_name("reactor journal").connect_timeout(limit);
        config.ssl_mode(if server.tls { SslMode::Require } else { SslMode::Disable });
        if let Some(file) = &server.password {
            config.password(password(file)?);
        }
        let making = async {
            let client = if server.tls {
                connected(&config, MakeRustlsConnect::new(tls(server.ca.as_deref())?), heard).await?
            } else {
                connected(&config, NoTls, heard).await?
            };
            let me = Self { client, prepared: RefCell::default() };
            me.set_up(server, to_write).await?;
            Ok(me)
        };
        tokio::time::timeout(limit, making).await.map_err(|_| Fault::Silent(CONNECT_SECONDS_MAX))?
    }

    /// A server that loses its clients finds out within a minute, and then gives the lock to another daemon. What the server
    /// is told to keep even safer (`remote_apply`) stays so.
    async fn set_up(&self, server: &Postgres, to_write: bool) -> Result<(), Fault> {
        let timeout = Duration::from_secs(STATEMENT_SECONDS_MAX).as_millis();
        let read_only = if to_write { "off" } else { "on" };
        self.run(&format!(
            "SET search_path = \"{}\"; SET statement_timeout = {timeout}; SET lock_timeout = 0; SET TimeZone = 'UTC';
             SET idle_in_transaction_session_timeout = {timeout}; SET standard_conforming_strings = on;
             SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = {read_only};
             SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 4;
             SELECT set_config('synchronous_commit', 'on', false)
             WHERE current_setting('synchronous_commit') IN ('off', 'local')",
            server.schema
        ))
        .await?;
        let rows = self.rows("SELECT current_setting('server_encoding') AS encoding", &[]).await?;
        let encoding: String = rows.first().map(|row| row.try_get("encoding")).transpose()?.unwrap_or_default();
        if encoding == "UTF8" {
            return Ok(());
        }
        let Postgres { name, user, .. } = server;
        Err(Fault::refused(
            format!("the database is encoded in {encoding}, which can't hold every text"),
            format!("make one in UTF-8: createdb -E UTF8 -T template0 -O '{user}' '{name}'"),
        ))
    }

    /// Whether it ended, as far as is known.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Some SQL of our own, without values.
    pub async fn run(&self, sql: &str) -> Result<(), Fault> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// What a statement finds.
    pub async fn rows(&self, sql: &'static str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Fault> {
        Ok(self.client.query(&self.statement(sql).await?, params).await?)
    }

    /// How many rows a statement changed.
    pub async fn changed(&self, sql: &'static str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, Fault> {
        Ok(self.client.execute(&self.statement(sql).await?, params).await?)
    }

    async fn statement(&self, sql: &'static str) -> Result<Statement, Fault> {
        let known = self.prepared.borrow().get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        self.prepared.borrow_mut().insert(sql, statement.clone());
        Ok(statement)
    }

    /// Sends all statements, in their order, before it waits for the first answer. The answers, in the same order: how many
    /// rows each one found or changed.
    pub async fn pipelined(&self, steps: &[(&'static str, &[Param])]) -> Result<Vec<Result<u64, Fault>>, Fault> {
        let mut calls = Vec::with_capacity(steps.len());
        for (sql, params) in steps {
            let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|param| &**param as &(dyn ToSql + Sync)).collect();
            calls.push((self.statement(sql).await?, params));
        }
        type Asked<'a> = Pin<Box<dyn Future<Output = Result<u64, tokio_postgres::Error>> + 'a>>;
        let asked = calls.iter().map(|(statement, params)| {
            let asked: Asked<'_> = Box::pin(self.client.execute(statement, params));
            (asked, None)
        });
        let mut asked: Vec<(Asked<'_>, Option<Result<u64, tokio_postgres::Error>>)> = asked.collect();
        // A statement goes out when it is polled for the first time.
        poll_fn(|context| {
            for (call, answer) in &mut asked {
                if let Poll::Ready(at_once) = call.as_mut().poll(context) {
                    *answer = Some(at_once);
                }
            }
            Poll::Ready(())
        })
        .await;
        let mut answers = Vec::with_capacity(asked.len());
        for (call, answer) in asked {
            let answer = match answer {
                Some(answer) => answer,
                None => call.await,
            };
            answers.push(answer.map_err(Fault::from));
        }
        Ok(answers)
    }
}

async fn connected<T>(config: &Config, tls: T, heard: Option<Ear>) -> Result<Client, Fault>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, mut connection) = config.connect(tls).await?;
    // It ends with the client; what goes wrong in it, each statement says too.
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let (AsyncMessage::Notification(note), Some(heard)) = (message, &heard)
                && heard.notes.try_send(note.payload().to_owned()).is_err()
            {
                heard.missed.store(true, Ordering::SeqCst);
            }
        }
    });
    Ok(client)
}

/// Read anew for each connection, so that a changed one counts. Never shown.
fn password(file: &Path) -> Result<Vec<u8>, Fault> {
    let shown = file.display();
    let wrong = |why: &dyn std::fmt::Display| {
        Fault::refused(
            format!("its password can't be read: {shown}: {why}"),
            format!("a file with one line, readable by the daemon's user: ls -l {shown}"),
        )
    };
    let mut password = bounded(file, PASSWORD_BYTES_MAX).map_err(|error| wrong(&error))?;
    while password.last().is_some_and(|byte| b"\r\n".contains(byte)) {
        password.pop();
    }
    if password.is_empty() { Err(wrong(&"it is empty")) } else { Ok(password) }
}

fn bounded(file: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut read = Vec::new();
    std::fs::File::open(file)?.take(bytes_max + 1).read_to_end(&mut read)?;
    if read.len() as u64 > bytes_max {
        return Err(std::io::Error::other(format!("it is larger than {bytes_max} bytes")));
    }
    Ok(read)
}

/// TLS that believes the system's certificates, or those of a file and no others; the server's name must fit.
fn tls(ca: Option<&Path>) -> Result<ClientConfig, Fault> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = ca {
        let shown = file.display();
        let wrong = |why: &dyn std::fmt::Display| {
            Fault::refused(format!("its `ca`: {shown}: {why}"), format!("openssl x509 -in {shown} -noout -subject"))
        };
        let pem = bounded(file, CA_BYTES_MAX).map_err(|error| wrong(&error))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| wrong(&error))?;
            roots.add(certificate).map_err(|error| wrong(&error))?;
        }
        if roots.is_empty() {
            return Err(wrong(&"no certificate is in it"));
        }
    } else {
        // Some of a system's certificates may be too old to be read: then those are not believed.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(Fault::refused(
                "this system has no certificates to check the server's with",
                "install ca-certificates, or name a file with `ca`",
            ));
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::refused(format!("TLS: {error}"), "please report it: this is a bug in reactor"))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
