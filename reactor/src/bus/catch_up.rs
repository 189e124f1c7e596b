//! Asking for what was missed: a datagrepper (HTTP, paged) or a publisher's `fedmsg.replay` (ZeroMQ REQ/REP). It hands over
//! messages as they were on the bus, the oldest first, and believes none of them: that is for the judge of the bus.
//!
//! * [`datagrepper`], [`replay`]: the two servers
//! * [`kept`]: a message as a server keeps it → as it was on the bus (pure)
//! * [`filter`]: what to ask for, by what the rules want (pure)

pub mod datagrepper;
pub mod filter;
pub mod kept;
pub mod replay;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use handler_api::Failure;
use handler_api::units::show_duration;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use self::filter::Filter;
use self::kept::Kept;
use super::{Wants, clock};
use crate::message::{Form, RawMessage};

/// A server that has not answered for so long is given up, in seconds: live messages wait meanwhile.
pub const CATCH_UP_SECONDS_MAX: u64 = 60;
/// The server may take so long for all pages together, in seconds.
pub const CATCH_UP_TOTAL_SECONDS_MAX: u64 = 600;
/// One question may take so long, in seconds.
pub const QUESTION_SECONDS_MAX: u64 = 30;
/// Most messages that one catch-up reads.
pub const MESSAGES_MAX: usize = 100_000;
/// Most bytes of messages that one catch-up reads.
pub const BYTES_MAX: usize = 1024 * 1024 * 1024;
/// First and longest wait before a server is asked again, in seconds.
const AGAIN_SECONDS: (u64, u64) = (1, 16);
/// How much earlier and later than the gap is asked for, where the site does not say.
pub const OVERLAP_DEFAULT: Duration = Duration::from_secs(300);
/// Least that can be said for it, in seconds: clocks differ, and messages take their time to the server.
pub const OVERLAP_SECONDS_MIN: u64 = 10;
/// How far back is asked for, where the site does not say.
pub const AT_MOST_DEFAULT: Duration = Duration::from_secs(3 * 86_400);

/// `bus.NAME.catch_up`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatchUp {
    /// Whom to ask.
    pub server: Server,
    /// Whether messages are believed that carry no signature, because this server says so (`believe: all`).
    pub believe_all: bool,
    /// How much earlier and later than the gap to ask for.
    pub overlap: Duration,
    /// How far back to ask for at most.
    pub at_most: Duration,
    /// A server that has not answered for so long is given up ([`CATCH_UP_SECONDS_MAX`]).
    pub patience: Duration,
}

/// Who keeps the messages of a bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// datagrepper's `/raw` or `/v2/search`, or a reactor's own `/raw`.
    Datagrepper {
        /// The URL, without a query.
        url: String,
        /// The CA that its certificate must come from (PEM); `None` = the system's.
        ca: Option<PathBuf>,
        /// A file with the token to show (`Authorization: Bearer`).
        token: Option<PathBuf>,
    },
    /// A publisher's `fedmsg.replay`.
    Replay {
        /// `HOST:PORT`.
        address: String,
    },
}

impl Server {
    /// The signer of messages that are believed only because this server says so.
    #[must_use]
    pub const fn signer(&self) -> &'static str {
        match self {
            Self::Datagrepper { .. } => "datagrepper",
            Self::Replay { .. } => "replay",
        }
    }

    /// Its name for people.
    #[must_use]
    pub fn place(&self) -> &str {
        match self {
            Self::Datagrepper { url, .. } => url,
            Self::Replay { address } => address,
        }
    }
}

/// From when to when, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The beginning.
    pub from: Timestamp,
    /// The end.
    pub to: Timestamp,
}

/// One catch-up that is under way.
pub struct Asking {
    bus: Arc<str>,
    place: String,
    believed_as: Option<&'static str>,
    wants: Wants,
    from: From,
    patience: Duration,
    /// How long the server took for it all.
    spent: Duration,
    messages: usize,
    bytes: usize,
    is_over: bool,
}

enum From {
    Pages(Box<datagrepper::Pages>),
    Slices(replay::Slices),
}

impl From {
    fn is_over(&self) -> bool {
        match self {
            Self::Pages(pages) => pages.is_over(),
            Self::Slices(slices) => slices.is_over(),
        }
    }
}

impl Asking {
    /// Prepares to ask for what `wants` wants.
    #[must_use]
    pub fn new(bus: &Arc<str>, config: &CatchUp, filter: &Filter, wants: Wants, window: Window) -> Self {
        let from = match &config.server {
            Server::Datagrepper { url, ca, token } => {
                From::Pages(Box::new(datagrepper::Pages::new(url, ca.clone(), token.clone(), filter, window)))
            }
            Server::Replay { address } => From::Slices(replay::Slices::new(address, window)),
        };
        Self {
            bus: bus.clone(),
            place: config.server.place().to_owned(),
            believed_as: config.believe_all.then(|| config.server.signer()),
            wants,
            from,
            patience: config.patience,
            spent: Duration::ZERO,
            messages: 0,
            bytes: 0,
            // Where no rule wants anything, nothing can be missing.
            is_over: filter.is_nothing(),
        }
    }

    /// The next messages, maybe none of a page; `None` when that was all. Asks again where a server fails for a while.
    ///
    /// # Errors
    /// Why nothing more comes, and what to do about it.
    pub async fn next(&mut self) -> Result<Option<Vec<RawMessage>>, Failure> {
        if self.is_over || self.from.is_over() {
            return Ok(None);
        }
        self.check_limits()?;
        let began = Instant::now();
        let answer = self.patiently().await;
        // Only what the server takes: a journal that can't be written, or a lot that is pending, is not its fault.
        self.spent += began.elapsed();
        let Some(kept) = answer? else {
            self.is_over = true;
            return Ok(None);
        };
        self.messages += kept.len();
        self.bytes += kept.iter().map(|one| one.body.len()).sum::<usize>();
        Ok(Some(kept.into_iter().filter(|one| (self.wants)(&one.topic)).map(|one| self.raw(one)).collect()))
    }

    /// Up to when all has come, as far as that can be told by the server's order.
    #[must_use]
    pub fn reached(&self) -> Option<Timestamp> {
        match &self.from {
            From::Pages(pages) => pages.reached(),
            From::Slices(slices) => slices.reached(),
        }
    }

    /// What the server says it has and did not hand over.
    #[must_use]
    pub fn missing(&self) -> u64 {
        match &self.from {
            From::Pages(pages) => pages.missing(),
            From::Slices(slices) => slices.missing(),
        }
    }

    fn raw(&self, kept: Kept) -> RawMessage {
        RawMessage {
            bus: self.bus.clone(),
            topic: kept.topic,
            body: kept.body,
            received: clock(),
            token: 0,
            form: Form::Kept { believed_as: self.believed_as },
        }
    }

    fn check_limits(&self) -> Result<(), Failure> {
        let hint = "ask for the rest in shorter pieces: reactor replay --bus BUS --from … --to …";
        let limit = |what: String| Err(Failure::permanent(format!("{}: {what}", self.place)).hinting(hint));
        if self.messages >= MESSAGES_MAX {
            return limit(format!("one catch-up reads at most {MESSAGES_MAX} messages"));
        }
        if self.bytes >= BYTES_MAX {
            return limit(format!("one catch-up reads at most {BYTES_MAX} bytes"));
        }
        if self.spent.as_secs() >= CATCH_UP_TOTAL_SECONDS_MAX {
            return limit(format!("one catch-up takes at most {CATCH_UP_TOTAL_SECONDS_MAX} s"));
        }
        Ok(())
    }

    async fn patiently(&mut self) -> Result<Option<Vec<Kept>>, Failure> {
        let until = Instant::now() + self.patience;
        let mut wait = AGAIN_SECONDS.0;
        loop {
            let asked = async {
                match &mut self.from {
                    From::Pages(pages) => pages.next().await,
                    From::Slices(slices) => slices.next().await,
                }
            };
            let answer = match tokio::time::timeout_at(until, asked).await {
                Ok(answer) => answer,
                Err(_) => Err(Failure::retry(format!("{}: no answer", self.place))),
            };
            match answer {
                Err(Failure::Retry { message, hint, .. }) => {
                    if Instant::now() + Duration::from_secs(wait) >= until {
                        let message = format!("{message} (asked again for {})", show_duration(self.patience));
                        return Err(Failure::Retry { message, hint, after: None });
                    }
                    tracing::debug!(bus = %self.bus, "{message}; asked again in {wait} s");
                }
                other => return other,
            }
            sleep(Duration::from_secs(wait)).await;
            wait = (wait * 2).min(AGAIN_SECONDS.1);
        }
    }
}

/// Asks once, for the last minute: whether the server answers as it should. What it answers is thrown away.
///
/// # Errors
/// Why not, and what to do about it.
pub async fn look(config: &CatchUp) -> Result<(), Failure> {
    let now = clock();
    let window = Window { from: now.checked_sub(Duration::from_secs(60)).unwrap_or(now), to: now };
    match &config.server {
        Server::Datagrepper { url, ca, token } => {
            datagrepper::Pages::new(url, ca.clone(), token.clone(), &Filter::All, window).next().await.map(drop)
        }
        Server::Replay { address } => replay::Slices::new(address, window).next().await.map(drop),
    }
}
