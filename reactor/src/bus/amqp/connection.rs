//! One connection to a broker: frames in and out, log in, one channel. What goes wrong ends it; it never connects again by
//! itself, and declares nothing by itself.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

use super::config::Amqp;
use super::methods::{self, CHANNEL, CHANNEL_OPEN_OK, OPEN_OK, Said};
use super::tls;
use super::wire::{FRAME_BYTES_MAX, Frame, Kind, PROTOCOL_HEADER};

/// Longest time from the first packet to a declared queue, in seconds.
pub const SETUP_SECONDS_MAX: u64 = 30;
/// Longest time that one of a host's addresses may take to answer, in seconds: where it has several, one behind a wall must
/// not use up the time of the others.
const ADDRESS_SECONDS_MAX: u64 = 8;
/// Longest time that a write may take, in seconds: a broker in need does not read.
const WRITE_SECONDS_MAX: u64 = 30;
/// How long to look for the reason when a write failed, in seconds.
const LAST_WORDS_SECONDS_MAX: u64 = 1;
/// A sign of life is sent at least twice in so many seconds, and after twice that without any the connection is given up.
const HEARTBEAT_SECONDS: u16 = 20;
/// What to do about a log-in that failed without a word.
const HINT_LOGIN: &str = "is it the right port (5671 with TLS), user and password? the broker's log says more";
/// Read from the socket at once, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// What is told when the broker hangs up without a reason.
const CLOSED: &str = "the broker closed the connection and did not say why";
/// A time that never comes: for a broker that wants no signs of life.
pub(super) const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// What a socket can do, with TLS or without.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Why a connection ended, or did not come about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What happened.
    pub why: String,
    /// What to do, where we know.
    pub hint: Option<&'static str>,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)?;
        self.hint.map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

impl std::convert::From<String> for Broken {
    fn from(why: String) -> Self {
        Self { why, hint: None }
    }
}

impl Broken {
    fn new(why: impl Into<String>, hint: &'static str) -> Self {
        Self { why: why.into(), hint: Some(hint) }
    }

    /// The broker closed the connection or the channel.
    pub(super) fn closed(code: u16, text: &str) -> Self {
        let why = format!("the broker says {code} {}", shown(text));
        Self {
            why,
            hint: match code {
                403 => Some(
                    "may this user do that? rabbitmqctl list_user_permissions USER; public queues are named by a UUID",
                ),
                404 => Some("it is not there; with `passive_declares: true` queues and exchanges must be made before"),
                405 => Some("somebody else has that queue for himself (`exclusive`)"),
                406 if text.contains("timed out") => Some(
                    "a delivery was not acknowledged within the broker's consumer_timeout, because it could not be journaled: reactor status",
                ),
                406 => Some(
                    "it is there with other settings: make `queues` and `exchanges` say the same, or `passive_declares: true`",
                ),
                530 => Some("is there such a vhost? rabbitmqctl list_vhosts"),
                _ => None,
            },
        }
    }
}

/// A connection on which channel 1 is open.
pub struct Connection {
    stream: Box<dyn Stream>,
    /// What was read of the next frames.
    buffer: Vec<u8>,
    used: usize,
    /// Largest frame that the broker takes, in bytes.
    pub frame_bytes_max: usize,
    /// As agreed; zero = none.
    pub heartbeat: Duration,
    /// Why the broker takes no messages now (`connection.blocked`), if it does not.
    pub blocked: Option<String>,
}

impl Connection {
    /// Connects and logs in, within [`SETUP_SECONDS_MAX`].
    ///
    /// # Errors
    /// Why not.
    pub async fn connect(amqp: &Amqp) -> Result<Self, Broken> {
        within(SETUP_SECONDS_MAX, Self::connect_without_limit(amqp)).await
    }

    async fn connect_without_limit(amqp: &Amqp) -> Result<Self, Broken> {
        let url = &amqp.url;
        let tcp = reach(&url.host, url.port).await.map_err(|why| {
            let why = format!("{}:{} can't be connected to: {why}", url.host, url.port);
            Broken::new(why, "is the broker up, and the way to it open?")
        })?;
        // Without it a late acknowledgement costs time, no more.
        let _ = tcp.set_nodelay(true);
        let stream: Box<dyn Stream> =
            if url.tls { Box::new(tls::over(tcp, &url.host, &amqp.tls).await?) } else { Box::new(tcp) };
        let mut connection = Self::over(stream);
        let logged_in = connection.log_in(amqp).await;
        // A broker that lets somebody not in often only hangs up.
        let hint = if is_external(amqp) { tls::HINT_OURS } else { HINT_LOGIN };
        logged_in.map_err(|broken| Broken { hint: broken.hint.or(Some(hint)), ..broken })?;
        Ok(connection)
    }

    /// On which nothing was said yet.
    pub(super) fn over(stream: Box<dyn Stream>) -> Self {
        let (buffer, heartbeat) = (Vec::new(), Duration::ZERO);
        Self { stream, buffer, used: 0, frame_bytes_max: 4_096, heartbeat, blocked: None }
    }

    /// The handshake of section 2.2.4 of the specification.
    async fn log_in(&mut self, amqp: &Amqp) -> Result<(), Broken> {
        self.write_bytes(PROTOCOL_HEADER).await?;
        let Said::Start { mechanisms } = self.said().await? else { return Err(unexpected()) };
        let url = &amqp.url;
        let (mechanism, response) = match is_external(amqp) {
            true => ("EXTERNAL", String::new()),
            false => ("PLAIN", format!("\0{}\0{}", url.user, url.password)),
        };
        if !mechanisms.split(' ').any(|one| one == mechanism) {
            return Err(Broken::new(
                format!("the broker lets nobody in by {mechanism}, only by {}", shown(&mechanisms)),
                "with certfile and keyfile it is EXTERNAL (rabbitmq-plugins enable rabbitmq_auth_mechanism_ssl), else PLAIN",
            ));
        }
        self.send(&methods::start_ok(&client(amqp), mechanism, response.as_bytes())).await?;
        let Said::Tune { frame_bytes_max, heartbeat_s } = self.said().await? else { return Err(unexpected()) };
        let ours = url.heartbeat_s.unwrap_or(HEARTBEAT_SECONDS);
        let heartbeat_s = if heartbeat_s == 0 || ours == 0 { ours.max(heartbeat_s) } else { ours.min(heartbeat_s) };
        let most = FRAME_BYTES_MAX as u32;
        let frame_bytes_max = if frame_bytes_max == 0 { most } else { frame_bytes_max.min(most) };
        self.send(&methods::tune_ok(frame_bytes_max, heartbeat_s)).await?;
        self.frame_bytes_max = frame_bytes_max as usize;
        self.heartbeat = Duration::from_secs(heartbeat_s.into());
        self.send(&methods::open(&url.vhost)).await?;
        self.expect(OPEN_OK).await?;
        self.call(&methods::channel_open(), CHANNEL_OPEN_OK).await
    }

    /// Sends a method and waits for its answer.
    ///
    /// # Errors
    /// What the broker said instead.
    pub async fn call(&mut self, frame: &Frame, answer: (u16, u16)) -> Result<(), Broken> {
        self.send(frame).await?;
        self.expect(answer).await
    }

    async fn expect(&mut self, answer: (u16, u16)) -> Result<(), Broken> {
        match self.said().await? {
            Said::Done(class, number) if (class, number) == answer => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// The next method that concerns us, while nothing is consumed yet. Signs of life are sent meanwhile: a broker may need long
    /// to say that it has a message.
    ///
    /// # Errors
    /// That the connection ended, or the broker closed connection or channel.
    pub async fn said(&mut self) -> Result<Said, Broken> {
        let beat_every = if self.heartbeat.is_zero() { NEVER } else { self.heartbeat / 2 };
        let mut beat = Instant::now() + beat_every;
        loop {
            let Ok(frame) = timeout_at(beat, self.frame()).await else {
                beat = Instant::now() + beat_every;
                self.send(&methods::heartbeat()).await?;
                continue;
            };
            let frame = frame?;
            if frame.kind != Kind::Method {
                continue;
            }
            match Said::decode(&frame.payload)? {
                Said::Closed { connection, code, text } => {
                    // It is closed either way; this is only good manners.
                    let _ = self.send(&methods::close_ok(connection)).await;
                    return Err(Broken::closed(code, &text));
                }
                Said::Flow(active) => self.send(&methods::flow_ok(active)).await?,
                Said::Other => {}
                Said::Unblocked => self.blocked = None,
                Said::Blocked { reason } => {
                    tracing::warn!("the broker takes no messages now: {}; waiting for it", shown(&reason));
                    self.blocked = Some(reason);
                }
                said => return Ok(said),
            }
        }
    }

    /// The next frame. Safe to cancel.
    ///
    /// # Errors
    /// That the connection ended, or is no AMQP.
    pub async fn frame(&mut self) -> Result<Frame, Broken> {
        loop {
            if let Some((frame, bytes)) = Frame::decode(&self.buffer[self.used..])? {
                self.used += bytes;
                if frame.channel > CHANNEL {
                    return Err("a frame on a channel that was never opened".to_owned().into());
                }
                return Ok(frame);
            }
            self.buffer.drain(..self.used);
            self.used = 0;
            self.buffer.reserve(READ_BYTES);
            let read = self.stream.read_buf(&mut self.buffer).await.map_err(|error| reading_failed(&error))?;
            if read == 0 {
                return Err(CLOSED.to_owned().into());
            }
        }
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// That the connection ended, or the broker did not read for too long.
    pub async fn send(&mut self, frame: &Frame) -> Result<(), Broken> {
        self.send_all(std::slice::from_ref(frame)).await
    }

    /// Sends frames.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub async fn send_all(&mut self, frames: &[Frame]) -> Result<(), Broken> {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        self.write_bytes(&bytes).await
    }

    async fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let limit = Duration::from_secs(WRITE_SECONDS_MAX);
        match timeout(limit, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.last_words().await.unwrap_or_else(|| format!("writing failed: {error}").into())),
            Err(_) => Err(Broken::new(
                format!("the broker has read nothing for {WRITE_SECONDS_MAX} s"),
                "is it in need? rabbitmqctl status says its alarms",
            )),
        }
    }

    /// Why the broker ended the connection, if it said so before it did: that came in, and nobody has read it yet.
    async fn last_words(&mut self) -> Option<Broken> {
        let look = async {
            loop {
                match self.frame().await {
                    Ok(frame) if frame.kind == Kind::Method => {
                        if let Ok(Said::Closed { code, text, .. }) = Said::decode(&frame.payload) {
                            return Some(Broken::closed(code, &text));
                        }
                    }
                    Ok(_) => {}
                    // A hint is there where TLS says why.
                    Err(broken) => return Some(broken).filter(|broken| broken.hint.is_some()),
                }
            }
        };
        timeout(Duration::from_secs(LAST_WORDS_SECONDS_MAX), look).await.ok().flatten()
    }

    /// Says goodbye, and does not wait for an answer.
    pub async fn close(mut self) {
        // Who does not hear it sees the connection end.
        let _ = self.send(&methods::close()).await;
        let _ = timeout(Duration::from_secs(WRITE_SECONDS_MAX), self.stream.shutdown()).await;
    }
}

/// A connection to one of the addresses of a host.
async fn reach(host: &str, port: u16) -> Result<TcpStream, String> {
    let mut why = "its name has no address".to_owned();
    for address in lookup_host((host, port)).await.map_err(|error| error.to_string())? {
        match timeout(Duration::from_secs(ADDRESS_SECONDS_MAX), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => why = format!("no answer within {ADDRESS_SECONDS_MAX} s"),
        }
    }
    Err(why)
}

/// `work`, or after `seconds` that it took too long.
pub(super) async fn within<T>(seconds: u64, work: impl Future<Output = Result<T, Broken>>) -> Result<T, Broken> {
    let limit = Duration::from_secs(seconds);
    timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Broken::new(
            format!("no answer within {seconds} s"),
            "is the broker in need? rabbitmqctl status says its alarms",
        ))
    })
}

/// Whether one logs in by a certificate.
fn is_external(amqp: &Amqp) -> bool {
    amqp.url.tls && amqp.tls.certfile.is_some() && amqp.tls.keyfile.is_some()
}

/// With TLS 1.3 a broker that refuses our certificate says so only now.
fn reading_failed(error: &std::io::Error) -> Broken {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return CLOSED.to_owned().into();
    }
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    if is_tls { tls::refused(error) } else { format!("reading failed: {error}").into() }
}

/// What a broker said, safe to print, in one line.
pub(super) fn shown(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] }).collect()
}

fn unexpected() -> Broken {
    "the broker's answer is not the one that was asked for".to_owned().into()
}

/// What the broker's operator sees of us. `product`, `information` and `version` are ours; a site adds to them.
fn client(amqp: &Amqp) -> Map<String, Value> {
    let mut client: Map<String, Value> =
        amqp.client_properties.iter().map(|(name, text)| (name.clone(), text.as_str().into())).collect();
    let ours = json!({
        "product": "reactor", "version": env!("CARGO_PKG_VERSION"), "information": env!("CARGO_PKG_REPOSITORY"),
        "capabilities": {
            "authentication_failure_close": true, "basic.nack": true, "connection.blocked": true,
            "consumer_cancel_notify": true, "publisher_confirms": true,
        },
    });
    client.extend(ours.as_object().cloned().unwrap_or_default());
    client
}
