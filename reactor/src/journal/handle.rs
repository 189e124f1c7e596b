//! What the engine holds: a journal on a thread of its own, asked and answered over a bounded queue.
//!
//! Requests are served in order. Writes that wait together are committed together (group commit): one write to the
//! disk for all of them; each still gets its own answer. A sweep goes on between the others, a step at a time. It never
//! drops a request: one whose caller went away is carried out all the same.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use jiff::Timestamp;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::{Answer, Entry, Journal, JournalError, Question};

/// Requests that wait for the journal; a further caller waits until there is room.
pub const QUEUE_REQUESTS_MAX: usize = 1_024;
/// No further batch joins a commit that has this many entries.
pub const GROUP_ENTRIES_MAX: usize = 4_096;

type Reply<T> = oneshot::Sender<Result<T, JournalError>>;

enum Request {
    Write(Vec<Entry>, Reply<()>),
    Seen(Vec<String>, Reply<HashSet<String>>),
    Ask(Question, Reply<Answer>),
    Sweep { before: Timestamp, messages_max: u64, reply: Reply<u64> },
}

/// A journal on a thread of its own. Share it in an `Arc`. Dropping it finishes what is queued, then closes the journal.
#[derive(Debug)]
pub struct JournalHandle {
    /// `None` only while it is dropped.
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    writes: AtomicU64,
    entries: AtomicU64,
    commits: AtomicU64,
    failures: AtomicU64,
}

/// What a journal did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Batches that are durable.
    pub writes: u64,
    /// Entries in them.
    pub entries: u64,
    /// Transactions that it took; fewer than `writes` when there was much to do.
    pub commits: u64,
    /// Batches of which nothing was written.
    pub failures: u64,
    /// Requests that wait in the queue now.
    pub queued: u64,
}

impl JournalHandle {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn open(journal: Box<dyn Journal>) -> Result<Self, JournalError> {
        let (requests, queue) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let counters = Arc::new(Counters::default());
        let server = Server { journal, queue, counters: Arc::clone(&counters), sweeps: None };
        let thread = std::thread::Builder::new().name("journal".into()).spawn(|| server.serve()).map_err(|error| {
            JournalError {
                place: "thread".into(),
                why: format!("can't be started: {error}"),
                hint: "raise the limit of tasks: systemctl show -p TasksMax, ulimit -u".into(),
            }
        })?;
        Ok(Self { requests: Some(requests), thread: Some(thread), counters })
    }

    /// Writes all of `batch` durably, or nothing of it.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub async fn write(&self, batch: Vec<Entry>) -> Result<(), JournalError> {
        self.request(|reply| Request::Write(batch, reply)).await
    }

    /// Which of these message ids are stored.
    ///
    /// # Errors
    /// As [`Journal::seen`].
    pub async fn seen(&self, ids: Vec<String>) -> Result<HashSet<String>, JournalError> {
        self.request(|reply| Request::Seen(ids, reply)).await
    }

    /// Answers a question; sees all that was written before.
    ///
    /// # Errors
    /// As [`Journal::ask`].
    pub async fn ask(&self, question: Question) -> Result<Answer, JournalError> {
        self.request(|reply| Request::Ask(question, reply)).await
    }

    /// Forgets what is final and older than `before`, then the oldest over `messages_max` messages; returns how many
    /// messages went. Other requests are served meanwhile. One at a time: a second one begins when the first is through.
    ///
    /// # Errors
    /// As [`Journal::sweep`]; what went before the error stays forgotten.
    pub async fn sweep(&self, before: Timestamp, messages_max: u64) -> Result<u64, JournalError> {
        self.request(|reply| Request::Sweep { before, messages_max, reply }).await
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            writes: get(&self.counters.writes),
            entries: get(&self.counters.entries),
            commits: get(&self.counters.commits),
            failures: get(&self.counters.failures),
            queued: self.requests.as_ref().map_or(0, |queue| (queue.max_capacity() - queue.capacity()) as u64),
        }
    }

    async fn request<T>(&self, make: impl FnOnce(Reply<T>) -> Request) -> Result<T, JournalError> {
        let (reply, answer) = oneshot::channel();
        let queue = self.requests.as_ref().ok_or_else(ended)?;
        queue.send(make(reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

impl Drop for JournalHandle {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // It panicked, if at all, with a message of its own; nothing more can be done about it here.
            let _ = thread.join();
        }
    }
}

fn ended() -> JournalError {
    JournalError {
        place: "thread".into(),
        why: "has ended, so nothing can be recorded".into(),
        hint: "look for a panic in the log, report it, and restart the daemon: what was acknowledged is safe".into(),
    }
}

/// A sweep under way, and those that wait for it to end.
struct Sweep {
    before: Timestamp,
    messages_max: u64,
    went: u64,
    reply: Reply<u64>,
}

/// The thread's side.
struct Server {
    journal: Box<dyn Journal>,
    queue: mpsc::Receiver<Request>,
    counters: Arc<Counters>,
    sweeps: Option<Sweep>,
}

impl Server {
    /// Until the handle is dropped and the queue is empty. A sweep under way is then given up: the next one goes on.
    fn serve(mut self) {
        while let Some(mut request) = self.next() {
            while let Some(found) = request.take() {
                request = self.handle(found);
            }
            self.sweep_step();
        }
    }
}
