//! The journal on a PostgreSQL server: a schema in a database that is encoded in UTF-8.
//!
//! A batch is one transaction, committed with `synchronous_commit`: when [`Journal::write`] returns, the server's disk has it.
//! Each node is one daemon that writes ([`PostgresJournal::open`] takes the node's lock), any number may read meanwhile
//! ([`PostgresJournal::open_read_only`], or a person's `psql`). It never deletes but in [`Journal::sweep`].
//!
//! A lost connection fails the call and is made again by the next one. Where the answer to a commit was lost, the next
//! connection finds out what became of it: a batch that is durable already is not written again when it is given again.
//!
//! * `session`: a connection, statements over it
//! * `schema`: tables and versions
//! * `writer`: who may write
//! * [`lease`]: how nodes share the work
//! * `write`, `read`, `history`, `sweep`: entries into statements, tables into answers, pages of messages, forgetting
//! * `text`: texts that PostgreSQL can't hold
//! * `copy`: rows as they are, from one journal into another
//! * `fault`: errors and what to do about them

mod copy;
mod fault;
mod history;
pub mod lease;
mod read;
mod schema;
mod session;
mod sweep;
mod text;
mod write;
mod writer;

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::{Builder, Runtime};

use self::fault::Fault;
use self::session::{ANSWER_SECONDS_MAX, Param, Session};
use self::write::Step;
use self::writer::{LOCK_MS_MAX, LOCK_TRY_MS, Owner};
use super::nodes::Seat;
use super::place::Postgres;
use super::sqlite::Held;
use super::{Answer, Entry, Journal, JournalError, Question, Swept};
pub(super) use text::plain;

/// How often a batch is written again at once because it collided with another node's.
const COLLISIONS_MAX: u32 = 10;

/// A journal in a schema. Blocking: not to be used from within an async task.
#[derive(Debug)]
pub struct PostgresJournal {
    server: Postgres,
    runtime: Runtime,
    link: RefCell<Link>,
    /// Keeps other daemons out of our state directory; `None` when we only read.
    _lock: Option<Held>,
}

/// The way to the server, and what is known about the other end.
#[derive(Debug, Default)]
struct Link {
    session: Option<Session>,
    /// `None` when we only read.
    owner: Option<Owner>,
    /// How many messages are stored, as the first step of a sweep has counted them.
    messages: Option<u64>,
    /// A batch whose commit was not answered: its number, and its entries as hashes.
    doubt: Option<(i64, VecDeque<u64>)>,
    /// The entries of such a batch, once it is known to be durable, as far as they were not given again.
    durable: VecDeque<u64>,
}

impl PostgresJournal {
    /// Opens the journal for the daemon on the state directory `directory`, and makes its tables if need be.
    ///
    /// # Errors
    /// When another daemon has the directory or the schema (the error says which), the server can't be reached or does not
    /// let us in, or a newer reactor wrote it.
    pub fn open(directory: &Path, server: &Postgres) -> Result<Self, JournalError> {
        let lock = hold(directory)?;
        let owner = Owner::new(server, directory);
        let me = Self::new(server, Some(owner), Some(lock)).map_err(|fault| fault.at(server))?;
        me.call(async |_| Ok(())).map_err(|fault| fault.at(server))?;
        Ok(me)
    }

    /// Opens the journal to read it, also while a daemon writes. Every write fails.
    ///
    /// # Errors
    /// When there is none yet, it can't be reached or read, or another version of reactor wrote it.
    pub fn open_read_only(server: &Postgres) -> Result<Self, JournalError> {
        let me = Self::new(server, None, None).map_err(|fault| fault.at(server))?;
        let version = me.call(async |session| schema::version(session).await).map_err(|fault| fault.at(server))?;
        let wrong = match version {
            0 => Fault::refused("there is no journal yet", "start the daemon once: reactor run"),
            version if version < schema::MIGRATIONS.len() => Fault::refused(
                format!("it has the older schema version {version}"),
                "restart the daemon with this reactor: it brings the journal up to date",
            ),
            _ => return Ok(me),
        };
        Err(wrong.at(server))
    }

    fn new(server: &Postgres, owner: Option<Owner>, lock: Option<Held>) -> Result<Self, Fault> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
            Fault::refused(format!("no event loop: {error}"), "raise the limit of open files: ulimit -n")
        })?;
        let link = RefCell::new(Link { owner, ..Link::default() });
        Ok(Self { server: server.clone(), runtime, link, _lock: lock })
    }

    /// Asks something that can be asked again where the connection was lost.
    fn call<T>(&self, ask: impl AsyncFn(&Session) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut link = self.link.borrow_mut();
        self.runtime.block_on(async {
            match link.call(&self.server, &ask).await {
                Err(fault) if fault.is_loss() => link.call(&self.server, &ask).await,
                answer => answer,
            }
        })
    }

    fn at(&self) -> impl Fn(Fault) -> JournalError {
        |fault| fault.at(&self.server)
    }
}

impl Journal for PostgresJournal {
    fn write(&mut self, batch: &[Entry]) -> Result<(), JournalError> {
        let link = self.link.get_mut();
        let written = self.runtime.block_on(async {
            let mut collisions = 0;
            loop {
                match link.write(&self.server, batch).await {
                    // Two nodes have met in the middle of what they write: nothing of ours is there.
                    Err(fault) if fault.is_collision() && collisions < COLLISIONS_MAX => collisions += 1,
                    // Nothing of it was committed, or it is known by now.
                    Err(fault) if fault.is_loss() => return link.write(&self.server, batch).await,
                    written => return written,
                }
            }
        });
        written.map_err(self.at())
    }

    fn seen(&self, ids: &[&str]) -> Result<HashSet<String>, JournalError> {
        self.call(async |session| read::seen(session, ids).await).map_err(self.at())
    }

    fn ask(&self, question: &Question) -> Result<Answer, JournalError> {
        self.call(async |session| read::answer(session, question).await).map_err(self.at())
    }

    fn sweep(&mut self, before: Timestamp, messages_max: u64) -> Result<Swept, JournalError> {
        let link = self.link.get_mut();
        self.runtime.block_on(link.sweep(&self.server, before, messages_max)).map_err(self.at())
    }

    fn seat(&self) -> Option<Seat> {
        let link = self.link.borrow();
        let owner = link.owner.as_ref()?;
        Some(Seat { server: self.server.clone(), node: owner.node.clone(), generation: owner.generation() })
    }
}

/// The state directory's lock. What looks after the handlers of a daemon that died has it for a moment.
fn hold(directory: &Path) -> Result<Held, JournalError> {
    for _ in 0..LOCK_MS_MAX / LOCK_TRY_MS {
        if let Ok(lock) = super::sqlite::hold(directory) {
            return Ok(lock);
        }
        std::thread::sleep(Duration::from_millis(LOCK_TRY_MS));
    }
    super::sqlite::hold(directory)
}

/// Waits for the other end, but not for ever.
async fn in_time<T>(asked: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
    tokio::time::timeout(limit, asked).await.unwrap_or(Err(Fault::Silent(ANSWER_SECONDS_MAX)))
}

impl Link {
    /// The connection; a new one where there is none. The writer's has the lock, and no doubt is left about what is durable.
    async fn ready(&mut self, server: &Postgres) -> Result<(), Fault> {
        if self.session.as_ref().is_some_and(|session| !session.is_closed()) {
            return Ok(());
        }
        self.session = None;
        let session = Session::connect(server, self.owner.is_some()).await?;
        if let Some(owner) = &mut self.owner {
            let batch = in_time(owner.take(&session, server)).await?;
            self.messages = None;
            if let Some((number, entries)) = self.doubt.take()
                && number == batch
            {
                self.durable = entries;
            }
        }
        self.session = Some(session);
        Ok(())
    }

    /// One exchange. A connection that is of no use any more is let go.
    async fn call<T>(
        &mut self,
        server: &Postgres,
        ask: &impl AsyncFn(&Session) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.ready(server).await?;
        let Some(session) = &self.session else { return Err(gone()) };
        let answer = in_time(ask(session)).await;
        self.after(&answer);
        answer
    }

    fn after<T>(&mut self, answer: &Result<T, Fault>) {
        if answer.as_ref().is_err_and(Fault::is_loss) {
            self.session = None;
        }
    }

    async fn write(&mut self, server: &Postgres, batch: &[Entry]) -> Result<(), Fault> {
        let node = self.owner.as_ref().map_or("", |owner| &owner.node);
        let steps = write::steps(batch, node, &lease::channel_of(&server.schema))?;
        self.ready(server).await?;
        if self.is_durable(batch) {
            return Ok(());
        }
        let Some(session) = &self.session else { return Err(gone()) };
        let Some(owner) = &mut self.owner else { return Err(reads_only()) };
        owner.batch += 1;
        let number = owner.batch;
        let written = in_time(transaction(session, owner, &steps)).await;
        self.after(&written);
        written?;
        let committed = self.commit(number).await;
        if matches!(committed, Err(Fault::InDoubt(_))) {
            self.doubt = Some((number, batch.iter().map(hash).collect()));
        }
        committed
    }

    /// Whether these entries were durable before they were given again.
    fn is_durable(&mut self, batch: &[Entry]) -> bool {
        let again = !self.durable.is_empty() && batch.len() <= self.durable.len();
        if again && batch.iter().zip(&self.durable).all(|(entry, durable)| hash(entry) == *durable) {
            self.durable.drain(..batch.len());
            return true;
        }
        self.durable.clear();
        false
    }

    async fn commit(&mut self, number: i64) -> Result<(), Fault> {
        let Some(session) = &self.session else { return Err(gone()) };
        let committed = in_time(session.run("COMMIT")).await;
        self.after(&committed);
        match committed {
            Err(fault) if fault.is_loss() => {
                tracing::warn!(batch = number, "the answer to a commit of the journal was lost");
                Err(Fault::InDoubt(Box::new(fault)))
            }
            committed => {
                if let (Ok(()), Some(owner)) = (&committed, &mut self.owner) {
                    owner.durable = number;
                }
                committed
            }
        }
    }

    async fn sweep(&mut self, server: &Postgres, before: Timestamp, messages_max: u64) -> Result<Swept, Fault> {
        self.ready(server).await?;
        let Some(session) = &self.session else { return Err(gone()) };
        let Some(owner) = &self.owner else { return Err(reads_only()) };
        let number = owner.batch;
        let known = self.messages;
        let step = in_time(async {
            let messages = match known {
                Some(messages) => messages,
                None => read::count_messages(session).await?,
            };
            transaction(session, owner, &[]).await?;
            let swept =
                sweep::step(session, writer::lock_key(&server.schema), before, messages.saturating_sub(messages_max))
                    .await;
            if swept.as_ref().is_err_and(|fault| !fault.is_loss()) {
                session.run("ROLLBACK").await?;
            }
            Ok((messages, swept?))
        })
        .await;
        self.after(&step);
        let (messages, swept) = step?;
        // What was not forgotten is forgotten by the next step.
        self.commit(number).await?;
        // Other nodes write, too: the next sweep counts anew.
        self.messages = swept.more.then(|| messages.saturating_sub(swept.messages));
        Ok(swept)
    }
}

/// Everything of a batch but its commit. After an error it is rolled back.
async fn transaction(session: &Session, owner: &Owner, steps: &[Step]) -> Result<(), Fault> {
    let mine: [Param; 3] = [Box::new(owner.batch), Box::new(plain(&owner.node)), Box::new(owner.generation())];
    let mut sent: Vec<(&'static str, &[Param])> = vec![("BEGIN", &[]), (Owner::STILL_MINE, &mine)];
    sent.extend(steps.iter().map(|step| (step.sql, &*step.params)));
    let answers = session.pipelined(&sent).await?;
    let answer = checked(answers, steps);
    if answer.as_ref().is_err_and(|fault| !fault.is_loss()) {
        session.run("ROLLBACK").await?;
    }
    answer
}

/// The first thing that is wrong.
fn checked(answers: Vec<Result<u64, Fault>>, steps: &[Step]) -> Result<(), Fault> {
    let mut answers = answers.into_iter();
    answers.next().transpose()?;
    if answers.next().transpose()? != Some(1) {
        return Err(writer::replaced("another daemon has its place"));
    }
    for (answer, step) in answers.zip(steps) {
        if answer? == 0 {
            step.must.missed().map_or(Ok(()), Err)?;
        }
    }
    Ok(())
}

fn hash(entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{entry:?}").hash(&mut hasher);
    hasher.finish()
}

fn gone() -> Fault {
    Fault::Silent(0)
}

fn reads_only() -> Fault {
    Fault::refused("it was opened to be read only (readonly)", "only the daemon writes the journal")
}
