//! What the engine holds: a journal on a thread of its own, asked and answered over a bounded queue.
//!
//! Requests are served in order. Writes that wait together are committed together (group commit): one write to the
//! disk for all of them; each still gets its own answer. A sweep goes on between the others, a step at a time. It never
//! drops a request: one whose caller went away is carried out all the same.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use jiff::Timestamp;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::nodes::Seat;
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
    /// Our place, where several nodes may share it.
    pub seat: Option<Seat>,
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

impl Counters {
    fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }
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
        let seat = journal.seat();
        let server = Server { journal, queue, next: None, sweeps: VecDeque::new(), counters: Arc::clone(&counters) };
        let thread = std::thread::Builder::new().name("journal".into()).spawn(|| server.run()).map_err(|error| {
            JournalError {
                place: "thread".into(),
                why: format!("can't be started: {error}"),
                hint: "raise the limit of tasks: systemctl show -p TasksMax, ulimit -u".into(),
                is_lasting: true,
            }
        })?;
        Ok(Self { seat, requests: Some(requests), thread: Some(thread), counters })
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
        is_lasting: true,
    }
}

/// A sweep that is asked for.
struct Sweep {
    before: Timestamp,
    messages_max: u64,
    went: u64,
    reply: Reply<u64>,
}

/// What the thread does next.
enum Turn {
    Serve(Request),
    /// Nothing waits, but a sweep is under way.
    Sweep,
    /// The handle was dropped and nothing waits.
    End,
}

/// The thread's side.
struct Server {
    journal: Box<dyn Journal>,
    queue: mpsc::Receiver<Request>,
    /// Taken from the queue while a group was gathered, but not part of it.
    next: Option<Request>,
    /// The first is under way, the others wait for it.
    sweeps: VecDeque<Sweep>,
    counters: Arc<Counters>,
}

impl Server {
    /// One request or group of writes, one step of a sweep, and so on: neither can hold up the other for ever. A sweep
    /// that is under way when the handle is dropped is given up; the next one goes on with it.
    fn run(mut self) {
        loop {
            match self.turn() {
                Turn::Serve(request) => self.serve(request),
                Turn::Sweep => {}
                Turn::End => return,
            }
            self.sweep_step();
        }
    }

    fn turn(&mut self) -> Turn {
        if let Some(request) = self.next.take() {
            return Turn::Serve(request);
        }
        if self.sweeps.is_empty() {
            return self.queue.blocking_recv().map_or(Turn::End, Turn::Serve);
        }
        match self.queue.try_recv() {
            Ok(request) => Turn::Serve(request),
            Err(TryRecvError::Empty) => Turn::Sweep,
            Err(TryRecvError::Disconnected) => Turn::End,
        }
    }

    /// A caller that went away gets no answer; all else is the same.
    fn serve(&mut self, request: Request) {
        match request {
            Request::Write(batch, reply) => self.write_group(batch, reply),
            Request::Seen(ids, reply) => {
                let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                let _ = reply.send(self.journal.seen(&ids));
            }
            Request::Ask(question, reply) => drop(reply.send(self.journal.ask(&question))),
            Request::Sweep { before, messages_max, reply } => {
                self.sweeps.push_back(Sweep { before, messages_max, went: 0, reply });
            }
        }
    }

    /// Commits a batch with all that wait behind it, up to the first request that is no write.
    fn write_group(&mut self, mut entries: Vec<Entry>, reply: Reply<()>) {
        let mut batches = vec![(entries.len(), reply)];
        while entries.len() < GROUP_ENTRIES_MAX {
            match self.queue.try_recv() {
                Ok(Request::Write(batch, reply)) => {
                    batches.push((batch.len(), reply));
                    entries.extend(batch);
                }
                Ok(other) => {
                    self.next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        match self.journal.write(&entries) {
            Ok(()) => {
                self.count_commit(batches.len(), entries.len());
                for (_, reply) in batches {
                    let _ = reply.send(Ok(()));
                }
            }
            Err(error) => self.after_failure(error, &entries, batches),
        }
    }

    /// A group failed: each batch for itself, so that a bad one does not take its neighbours with it.
    fn after_failure(&mut self, error: JournalError, mut entries: &[Entry], mut batches: Vec<(usize, Reply<()>)>) {
        if batches.len() == 1
            && let Some((_, reply)) = batches.pop()
        {
            Counters::add(&self.counters.failures, 1);
            let _ = reply.send(Err(error));
            return;
        }
        for (len, reply) in batches {
            let (batch, rest) = entries.split_at(len);
            entries = rest;
            let result = self.journal.write(batch);
            match &result {
                Ok(()) => self.count_commit(1, len),
                Err(_) => Counters::add(&self.counters.failures, 1),
            }
            let _ = reply.send(result);
        }
    }

    fn count_commit(&self, batches: usize, entries: usize) {
        Counters::add(&self.counters.commits, 1);
        Counters::add(&self.counters.writes, batches);
        Counters::add(&self.counters.entries, entries);
    }

    fn sweep_step(&mut self) {
        let Some(sweep) = self.sweeps.front_mut() else { return };
        let step = self.journal.sweep(sweep.before, sweep.messages_max);
        let result = match step {
            Ok(swept) => {
                sweep.went += swept.messages;
                if swept.more {
                    return;
                }
                Ok(sweep.went)
            }
            Err(error) => Err(error),
        };
        if let Some(sweep) = self.sweeps.pop_front() {
            let _ = sweep.reply.send(result);
        }
    }
}

#[cfg(test)]
mod tests;
