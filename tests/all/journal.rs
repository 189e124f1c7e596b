//! The journal against `kill -9`: what it acknowledged is there afterwards, and no batch is there by half.
//!
//! This does not pull the plug: the kernel lives on. That the disk has a commit before it is acknowledged is SQLite's
//! `synchronous=FULL`, which no test of ours can see.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers may panic as the test may")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use handler_api::{Action, Change};
use jiff::Timestamp;
use reactor::journal::sqlite::SqliteJournal;
use reactor::journal::{Answer, Entry, Journal, Question, ReactionRow, State};
use reactor::message::{Message, Topic};
use serde_json::{Map, json};

/// Where the child writes; without it the child's test has nothing to do.
const WRITER_DIRECTORY: &str = "REACTOR_TEST_JOURNAL_WRITER";
/// How often the writer is killed.
const KILLS: u64 = 25;
/// The latest moment of a kill after the writer's first acknowledgement, in microseconds.
const KILL_AFTER_US_MAX: u64 = 30_000;
/// Reactions in a batch, each with its message and two lines more.
const BATCH_REACTIONS: u64 = 40;

fn entries(batch: u64) -> Vec<Entry> {
    (0..BATCH_REACTIONS).flat_map(|n| reaction(&format!("{batch:08}-{n:02}"))).collect()
}

fn reaction(id: &str) -> [Entry; 4] {
    let at = Timestamp::UNIX_EPOCH;
    let message = Message {
        id: format!("m-{id}"),
        topic: Topic::new("org.example.test").unwrap(),
        sent: at,
        bus: "test".into(),
        signer: "test".into(),
        body: json!({"text": "x".repeat(700)}),
        headers: Map::new(),
    };
    let row = ReactionRow {
        id: id.into(),
        rule: "r".into(),
        handler: "h".into(),
        key: id.into(),
        state: State::Applying,
        attempts: 1,
        created: at,
        updated: at,
        not_before: at,
        at_most: None,
        with: None,
        reason: None,
        hint: None,
        repeated: 0,
        plan: Vec::new(),
        done: Vec::new(),
        approved: None,
        decided_by: None,
        messages: 1,
        part: None,
        parent: None,
    };
    let change = Change {
        action: Action::Run,
        target: id.into(),
        before: None,
        after: None,
        secret: false,
        hold: None,
        count: None,
        more: Map::new(),
    };
    let lead = vec![message.id.clone()];
    let (what, detail) = ("applying".into(), String::new());
    [
        Entry::Message(message),
        Entry::Reaction(Box::new(row), lead),
        Entry::ChangeDone { reaction: id.into(), change, at },
        Entry::Story { reaction: id.into(), at, what, detail },
    ]
}

/// The child's part: batch after batch, saying each one's number on stdout once it was acknowledged.
#[test]
fn a_writer_that_waits_to_be_killed() {
    let Some(directory) = std::env::var_os(WRITER_DIRECTORY) else { return };
    let mut journal = SqliteJournal::open(Path::new(&directory)).unwrap();
    let first = whole_batches(&journal).len() as u64;
    let mut out = std::io::stdout();
    for batch in first.. {
        journal.write(&entries(batch)).unwrap();
        // One small write: a pipe takes it whole or not at all.
        out.write_all(format!("\nacknowledged {batch}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
    }
}

#[allow(clippy::disallowed_methods, reason = "the test runs itself as the process that is killed")]
fn start_writer(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "journal::a_writer_that_waits_to_be_killed", "--nocapture"])
        .env(WRITER_DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Starts a writer, kills it `after` its first acknowledgement, and returns the last batch that it acknowledged.
fn write_and_kill(directory: &Path, after: Duration) -> u64 {
    let mut writer = start_writer(directory);
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let (send, acknowledged) = mpsc::channel::<u64>();
    let reader = std::thread::spawn(move || {
        let numbers = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok());
        for number in numbers {
            if send.send(number).is_err() {
                return;
            }
        }
    });
    let mut last = acknowledged.recv().expect("the writer writes");
    let deadline = Instant::now() + after;
    loop {
        match acknowledged.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(number) => last = number,
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => panic!("the writer ended by itself"),
        }
    }
    writer.kill().unwrap();
    writer.wait().unwrap();
    // What it still said before it died.
    last = acknowledged.iter().last().unwrap_or(last);
    reader.join().unwrap();
    last
}

/// The batches in the journal. Panics if one of them, or a reaction in it, is not whole.
fn whole_batches(journal: &SqliteJournal) -> Vec<u64> {
    let Answer::Stories(pending) = journal.ask(&Question::Pending).unwrap() else { panic!("no stories") };
    let mut batches: BTreeMap<u64, u64> = BTreeMap::new();
    for story in pending {
        let id = &story.reaction.id;
        let messages: Vec<&str> = story.messages.iter().map(|message| message.id.as_str()).collect();
        assert_eq!(messages, [format!("m-{id}")]);
        assert_eq!((story.reaction.messages, story.reaction.done.len()), (1, 1));
        *batches.entry(id[..8].parse().unwrap()).or_default() += 1;
    }
    for (batch, reactions) in &batches {
        assert_eq!(*reactions, BATCH_REACTIONS, "batch {batch} is there by half");
    }
    batches.into_keys().collect()
}

#[test]
fn after_kill_9_every_acknowledged_batch_is_there_and_none_by_half() {
    let directory = tempfile::TempDir::new().unwrap();
    let mut random: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut unacknowledged = 0;
    for kill in 0..KILLS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let after = Duration::from_micros((random >> 33) % KILL_AFTER_US_MAX);
        let last = write_and_kill(directory.path(), after);
        let journal = SqliteJournal::open(directory.path()).unwrap();
        let found = whole_batches(&journal);
        let number = found.len() as u64;
        assert_eq!(found, (0..number).collect::<Vec<_>>(), "after kill {kill}");
        assert!(number > last, "after kill {kill}: batch {last} was acknowledged, {number} are there");
        assert!(number <= last + 2, "after kill {kill}: more than the one batch under way");
        unacknowledged += number - (last + 1);
    }
    println!("{KILLS} kills; {unacknowledged} batches were written but not yet acknowledged");
}
