//! What is asked and told over HTTP: messages that are posted (`hook`), and the history of messages (`history`).
//!
//! HTTP/1.1, one request a connection, no TLS: a reverse proxy in front speaks that (docs/webhook.md). Whoever is slow or says too
//! much loses its connection; whoever comes when all are taken waits in the kernel's queue.
//!
//! * `answer`: what is answered: JSON, with a hint where something is wrong
//! * `hook`: one POST → one message, answered when it is durable
//! * `history`: `GET /raw` and `/id`

mod answer;
mod history;
pub mod hook;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use self::answer::Answer;
use self::history::History;
use self::hook::Hook;

/// Connections at once; more wait.
pub const CONNECTIONS_AT_ONCE_MAX: usize = 128;
/// How long a request's line and headers may take, in seconds.
pub const HEADERS_SECONDS_MAX: u64 = 5;
/// Most bytes of a request's line and headers.
pub const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// Most headers of a request.
pub const HEADERS_MAX: usize = 100;
/// How long a body may take, in seconds.
pub const BODY_SECONDS_MAX: u64 = 10;
/// How long one connection may last in all, in seconds.
pub const CONNECTION_SECONDS_MAX: u64 = 60;
/// Between two tries to take a connection, in milliseconds.
const ACCEPT_AGAIN_MS: u64 = 1_000;

/// `http` of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether the history is told, and to whom.
    pub history: Option<HistoryAccess>,
}

/// Who may ask for the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryAccess {
    /// Whoever can connect; only where that is this machine alone.
    Anyone,
    /// Whoever has the token in this file.
    Token(PathBuf),
}

/// Where to listen if the site does not say.
pub const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Paths of ours, which no webhook can have.
pub const OWN_PATHS: [&str; 2] = ["/raw", "/id"];

/// The address of a site, taken; nobody answers there yet.
#[derive(Debug)]
pub struct Door(Option<(TcpListener, HttpConfig)>);

impl Door {
    /// Takes the address, if the site has one.
    ///
    /// # Errors
    /// When it can't be had, with what to do about it.
    pub async fn open(config: Option<&HttpConfig>) -> anyhow::Result<Self> {
        let Some(config) = config else { return Ok(Self(None)) };
        let listener = TcpListener::bind(config.listen).await;
        Ok(Self(Some((listener.map_err(|error| taken(config.listen, &error))?, config.clone()))))
    }

    /// Answers there until the task is ended; the journal must be open.
    ///
    /// # Errors
    /// When the journal can't be opened to tell its history.
    pub async fn serve(self, hooks: Vec<Arc<Hook>>, state: &Path) -> anyhow::Result<Option<JoinHandle<()>>> {
        let Some((listener, config)) = self.0 else { return Ok(None) };
        let history = match config.history {
            Some(access) => Some(History::open(state, access).await?),
            None => None,
        };
        let hooks = hooks.into_iter().map(|hook| (hook.path().to_owned(), hook)).collect();
        tracing::info!("http: listening on {}", config.listen);
        Ok(Some(tokio::spawn(accept(listener, Arc::new(Site { hooks, history })))))
    }
}

/// Why an address can't be had.
fn taken(at: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    use std::io::ErrorKind;
    let hint = match error.kind() {
        ErrorKind::AddrInUse => format!(
            "who has it: ss -ltnp 'sport = :{}'; or write another port under `http: {{ listen: … }}`",
            at.port()
        ),
        ErrorKind::PermissionDenied => {
            "ports below 1024 are root's: take one above, and let a reverse proxy have 443".to_owned()
        }
        ErrorKind::AddrNotAvailable => format!("no interface of this machine has the address {}: ip addr", at.ip()),
        _ => "docs/webhook.md has what to write under `http`".to_owned(),
    };
    anyhow::anyhow!("http: {at} can't be listened on: {error}\nhint: {hint}")
}

/// What is served.
struct Site {
    hooks: HashMap<String, Arc<Hook>>,
    history: Option<History>,
}

async fn accept(listener: TcpListener, site: Arc<Site>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_AT_ONCE_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let site = site.clone();
                tokio::spawn(async move {
                    connection(stream, site).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!("http: a connection can't be taken: {error}");
                tokio::time::sleep(Duration::from_millis(ACCEPT_AGAIN_MS)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, site: Arc<Site>) {
    let service = service_fn(move |request| {
        let site = site.clone();
        async move { Ok::<_, std::convert::Infallible>(answer(&site, request).await.into_response()) }
    });
    let mut server = http1::Builder::new();
    server
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEADERS_SECONDS_MAX))
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADERS_BYTES_MAX);
    let served = server.serve_connection(TokioIo::new(stream), service);
    // What breaks off is the other end's matter: whoever got no answer asks again.
    if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(CONNECTION_SECONDS_MAX), served).await {
        tracing::debug!("http: {error}");
    }
}

async fn answer(site: &Site, request: Request<Incoming>) -> Answer {
    let path = request.uri().path();
    if let Some(hook) = site.hooks.get(path) {
        return hook.posted(request).await;
    }
    match (&site.history, path.trim_end_matches('/')) {
        (Some(_), "/raw" | "/id") if !matches!(*request.method(), Method::GET | Method::HEAD) => {
            Answer::only("GET", "the history is only read")
        }
        (Some(history), "/raw") => history.raw(&request).await,
        (Some(history), "/id") => history.id(&request).await,
        (None, "/raw" | "/id") => Answer::wrong(
            404,
            "no history is told here",
            "write `http: { history: true }` and `journal: { history: all }`",
        ),
        _ => Answer::wrong(
            404,
            "nothing is here",
            "the history is at /raw and /id; the path of a webhook is the one under `bus: { NAME: { webhook: { path: … } } }`",
        ),
    }
}
