use std::sync::Mutex;
use std::sync::mpsc as blocking;

use super::*;
use crate::journal::contract::parts::{message, reacted, row, start};
use crate::journal::{State, Swept};

/// What happened in a [`Scripted`] journal: a commit of so many entries (or its refusal), a question, a sweep's step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Did {
    Commit(usize),
    Refuse(usize),
    Seen,
    Step,
    Closed,
}

/// Refuses what holds the setting `bad`, waits for the gate at the setting `wait`, and notes all it does.
struct Scripted {
    did: Arc<Mutex<Vec<Did>>>,
    entered: blocking::Sender<()>,
    gate: blocking::Receiver<()>,
    steps: u32,
}

impl Scripted {
    fn note(&self, did: Did) {
        self.did.lock().unwrap().push(did);
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.note(Did::Closed);
    }
}

fn setting(name: &str) -> Vec<Entry> {
    vec![Entry::Setting { name: name.into(), value: None }]
}

fn holds(batch: &[Entry], wanted: &str) -> bool {
    batch.iter().any(|entry| matches!(entry, Entry::Setting { name, .. } if name == wanted))
}

impl Journal for Scripted {
    fn write(&mut self, batch: &[Entry]) -> Result<(), JournalError> {
        if holds(batch, "wait") {
            self.entered.send(()).unwrap();
            self.gate.recv().unwrap();
        }
        if holds(batch, "bad") {
            self.note(Did::Refuse(batch.len()));
            return Err(JournalError {
                place: "here".into(),
                why: "bad".into(),
                hint: "none".into(),
                is_lasting: false,
            });
        }
        self.note(Did::Commit(batch.len()));
        Ok(())
    }

    fn seen(&self, ids: &[&str]) -> Result<HashSet<String>, JournalError> {
        self.note(Did::Seen);
        Ok(ids.iter().map(|id| (*id).to_owned()).collect())
    }

    fn ask(&self, _: &Question) -> Result<Answer, JournalError> {
        panic!("as asked for")
    }

    fn sweep(&mut self, _: Timestamp, _: u64) -> Result<Swept, JournalError> {
        self.note(Did::Step);
        self.steps = self.steps.saturating_sub(1);
        Ok(Swept { messages: 10, more: self.steps > 0 })
    }
}

struct Stage {
    handle: JournalHandle,
    did: Arc<Mutex<Vec<Did>>>,
    entered: blocking::Receiver<()>,
    open_gate: blocking::Sender<()>,
}

impl Stage {
    fn new(steps: u32) -> Self {
        let did = Arc::new(Mutex::new(Vec::new()));
        let (entered_tx, entered) = blocking::channel();
        let (open_gate, gate) = blocking::channel();
        let journal = Scripted { did: Arc::clone(&did), entered: entered_tx, gate, steps };
        Self { handle: JournalHandle::open(Box::new(journal)).unwrap(), did, entered, open_gate }
    }

    fn did(&self) -> Vec<Did> {
        self.did.lock().unwrap().clone()
    }

    /// Runs `requests` in such a way that all of them wait in the queue, in order, behind one write.
    async fn queued<T>(&self, requests: impl Future<Output = T>) -> T {
        let behind = async {
            self.entered.recv().unwrap();
            let release = async { self.open_gate.send(()).unwrap() };
            tokio::join!(biased; requests, release).0
        };
        let (first, answer) = tokio::join!(biased; self.handle.write(setting("wait")), behind);
        first.unwrap();
        answer
    }
}

#[tokio::test]
async fn writes_that_wait_together_are_committed_together() {
    let stage = Stage::new(0);
    let (a, b) = stage
        .queued(async { tokio::join!(biased; stage.handle.write(setting("a")), stage.handle.write(setting("b"))) })
        .await;
    a.and(b).unwrap();
    assert_eq!(stage.did(), [Did::Commit(1), Did::Commit(2)]);
    let stats = stage.handle.stats();
    assert_eq!(stats, Stats { writes: 3, entries: 3, commits: 2, failures: 0, queued: 0 });
}

#[tokio::test]
async fn a_bad_batch_does_not_take_its_neighbours_with_it() {
    let stage = Stage::new(0);
    let (a, bad, c) = stage
        .queued(async {
            tokio::join!(biased; stage.handle.write(setting("a")), stage.handle.write(setting("bad")), stage.handle.write(setting("c")))
        })
        .await;
    assert!(a.is_ok() && bad.is_err() && c.is_ok());
    assert_eq!(stage.did(), [Did::Commit(1), Did::Refuse(3), Did::Commit(1), Did::Refuse(1), Did::Commit(1)]);
    assert_eq!(stage.handle.stats().failures, 1);
}

#[tokio::test]
async fn a_question_sees_what_was_written_before_it_and_nothing_after() {
    let stage = Stage::new(0);
    stage
        .queued(async {
            let (a, seen, b) = tokio::join!(biased;
                stage.handle.write(setting("a")), stage.handle.seen(vec!["x".into()]), stage.handle.write(setting("b")));
            assert_eq!(seen.unwrap(), HashSet::from(["x".to_owned()]));
            a.and(b).unwrap();
        })
        .await;
    assert_eq!(stage.did(), [Did::Commit(1), Did::Commit(1), Did::Seen, Did::Commit(1)]);
}

#[tokio::test]
async fn a_sweep_gives_way_to_writes_after_every_step() {
    let stage = Stage::new(4);
    let swept = stage
        .queued(async {
            let (swept, a, seen, b) = tokio::join!(biased;
                stage.handle.sweep(start(), 0), stage.handle.write(setting("a")), stage.handle.seen(vec![]),
                stage.handle.write(setting("b")));
            a.and(b).unwrap();
            seen.unwrap();
            swept.unwrap()
        })
        .await;
    assert_eq!(swept, 40);
    let (step, one) = (Did::Step, Did::Commit(1));
    assert_eq!(stage.did(), [one, step, one, step, Did::Seen, step, one, step]);
}

#[tokio::test]
async fn a_dropped_handle_finishes_what_is_queued_and_closes_the_journal() {
    let Stage { handle, did, entered, open_gate } = Stage::new(0);
    // Each is polled once, so that it is in the queue; nobody waits for the answers.
    let mut first = Box::pin(handle.write(setting("wait")));
    tokio::select! { biased; _ = &mut first => {}, () = async {} => {} }
    entered.recv().unwrap();
    let mut second = Box::pin(handle.write(setting("a")));
    tokio::select! { biased; _ = &mut second => {}, () = async {} => {} }
    drop((first, second));
    open_gate.send(()).unwrap();
    drop(handle);
    assert_eq!(*did.lock().unwrap(), [Did::Commit(1), Did::Commit(1), Did::Closed]);
}

#[tokio::test]
async fn after_a_panic_in_the_journal_every_request_is_an_error() {
    let stage = Stage::new(0);
    let error = stage.handle.ask(Question::Pending).await.unwrap_err();
    assert!(error.why.contains("has ended"), "{error}");
    let error = stage.handle.write(setting("a")).await.unwrap_err();
    assert!(error.hint.contains("restart"), "{error}");
}

#[tokio::test]
async fn it_carries_a_real_journal() {
    let directory = tempfile::TempDir::new().unwrap();
    let open = || Box::new(crate::journal::sqlite::SqliteJournal::open(directory.path()).unwrap());
    let handle = JournalHandle::open(open()).unwrap();
    handle.write(reacted("R1", "m1", State::Waiting, start()).to_vec()).await.unwrap();
    let bad = handle.write(vec![Entry::Update(Box::new(row("R9")))]);
    let good = handle.write(vec![Entry::Message(message("m2"))]);
    let (bad, good) = tokio::join!(bad, good);
    assert!(bad.is_err() && good.is_ok());
    assert_eq!(handle.seen(vec!["m1".into(), "m2".into(), "m3".into()]).await.unwrap().len(), 2);
    drop(handle);
    assert_eq!(crate::journal::contract::parts::pending(&*open()).len(), 1);
}
