//! What several nodes make of one schema on a real server, without daemons: the inbox, leases, slots, and tables of other versions.

use reactor::journal::nodes::{Handed, LANE_SLOTS, Slots, What, slot_of};
use reactor::journal::postgres::lease::{Members, Standing};
use reactor_tests::wait_until;
use tokio::runtime::Runtime;

use jiff::Timestamp;

use super::contract::parts::message;
use super::*;
use crate::running::SOON;

/// A node of the schema `a`, with its journal open and its lease kept by the test.
struct Node {
    journal: PostgresJournal,
    members: Members,
    runtime: Runtime,
}

impl Node {
    fn begin(scratch: &Scratch, server: &Postgres, name: &str) -> Self {
        let place = Place { node: name.into(), ..schema(server, "a") };
        let journal = PostgresJournal::open(&scratch.path().join(name), &place).unwrap();
        let members = Members::new(journal.seat().expect("a seat"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut me = Self { journal, members, runtime };
        assert!(me.beats());
        me
    }

    fn beats(&mut self) -> bool {
        self.runtime.block_on(self.members.beat(false)).unwrap()
    }

    fn looks(&mut self) -> Standing {
        self.runtime.block_on(self.members.look(true, false)).unwrap()
    }

    fn inbox(&self) -> Vec<Handed> {
        match self.journal.ask(&Question::Inbox(Slots::ALL, 100)).unwrap() {
            Answer::Inbox(handed) => handed,
            other => panic!("{other:?}"),
        }
    }
}

fn asked(key: &str) -> What {
    What::Asked { rule: "r".into(), key: key.into() }
}

#[test]
fn what_two_nodes_post_asks_once_and_in_one_order() {
    let scratch = Scratch::new("nodes-post");
    let server = Postgres::start(scratch.path(), "");
    let (mut a, mut b) = (Node::begin(&scratch, &server, "a"), Node::begin(&scratch, &server, "b"));
    let post = |n: u32| Entry::Post(message(&format!("m{n}")), vec![asked("x"), asked(&format!("\u{0}{n}"))]);
    a.journal.write(&[post(1), post(2)]).unwrap();
    b.journal.write(&[post(1), post(2), post(10)]).unwrap();
    // What is kept for its own sake asks for nothing.
    a.journal.write(&[post(10), post(3), post(3), Entry::Post(message("m0"), Vec::new())]).unwrap();
    assert_eq!(counts(&b.journal).messages, 5);
    let there = b.inbox();
    let ids: Vec<&str> = there.iter().map(|row| row.message.as_ref().unwrap().id.as_str()).collect();
    assert_eq!(ids, ["m1", "m1", "m2", "m2", "m10", "m10", "m3", "m3"]);
    assert_eq!((&there[0].what, &there[3].what), (&asked("x"), &asked("\u{0}2")));
    assert_eq!(there[0].message, Some(message("m1")));
    // What waits in the inbox is not forgotten, however old.
    assert_eq!(sweep_all(&mut a.journal), 1, "only what asked for nothing");
    let mut batch = reacted("R1", "m1", State::Done, start()).to_vec();
    batch.push(Entry::Taken(there.iter().map(|row| row.n).collect()));
    b.journal.write(&batch).unwrap();
    assert!(a.inbox().is_empty());
    assert_eq!(sweep_all(&mut a.journal), 4);
}

fn sweep_all(journal: &mut PostgresJournal) -> u64 {
    super::contract::parts::sweep(journal, Timestamp::MAX, 0)
}

#[test]
fn slots_are_shared_given_back_and_taken_from_the_dead() {
    let scratch = Scratch::new("nodes-slots");
    let server = Postgres::start(scratch.path(), "");
    let mut a = Node::begin(&scratch, &server, "a");
    assert_eq!(a.looks().mine, Slots::ALL);
    let mut b = Node::begin(&scratch, &server, "b");
    let first = Standing { share: 32, missed_notes: true, ..Standing::default() };
    assert_eq!(b.looks(), first, "all are still with the first");
    assert_eq!(a.looks().share, 32);
    let half: Slots = (0..32).collect();
    a.journal.write(&[Entry::Free(half)]).unwrap();
    assert_eq!(b.looks().mine, half);
    assert_eq!(a.looks().mine, Slots::ALL.but(half));
    // Who leaves has no share.
    assert!(b.runtime.block_on(b.members.beat(true)).unwrap());
    assert_eq!((a.looks().share, b.runtime.block_on(b.members.look(true, true)).unwrap().share), (64, 0));
    assert!(b.beats());
    // Nobody takes from the living.
    assert!(b.looks().dead.is_empty());
    server.sql("postgres", "UPDATE a.lease SET until = now() - interval '1 s' WHERE node = 'a'");
    let standing = b.looks();
    assert_eq!(
        (standing.dead, standing.mine, standing.share),
        (vec!["a".to_owned()], Slots::ALL, usize::from(LANE_SLOTS))
    );
    // The dead one wakes up.
    let error = a.journal.write(&waiting(1)).unwrap_err();
    assert!(error.is_lasting && error.why.contains("its place"), "{error}");
    assert!(!a.beats(), "its lease is gone");
    assert!(pending(&b.journal).is_empty());
    b.journal.write(&waiting(2)).unwrap();
    b.runtime.block_on(b.members.leave()).unwrap();
    let free = server.column("postgres", "SELECT n FROM a.slot WHERE node IS NULL");
    assert_eq!(free.len(), usize::from(LANE_SLOTS));
}

#[test]
fn a_first_beat_that_was_not_answered_is_nobodys_doing() {
    let scratch = Scratch::new("nodes-first-beat");
    let server = Postgres::start(scratch.path(), "");
    let journal = PostgresJournal::open(scratch.path(), &schema(&server, "a")).unwrap();
    let mut members = Members::new(journal.seat().expect("a seat"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let holder = server.hold("postgres", "LOCK TABLE a.lease");
    runtime.block_on(async {
        tokio::select! {
            beaten = members.beat(false) => panic!("{beaten:?}"),
            () = server.until_blocked("postgres") => {}
        }
    });
    members.give_up_connection();
    let end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    assert_eq!(server.column("postgres", end).len(), 1, "only the beat waits");
    drop(holder);
    assert!(server.column("postgres", "SELECT node FROM a.lease").is_empty(), "the test ends it before it is written");
    assert!(runtime.block_on(members.beat(false)).unwrap(), "nobody has its place");
}

#[test]
fn whoever_may_have_missed_a_note_is_told_so_once() {
    let scratch = Scratch::new("nodes-missed");
    let server = Postgres::start(scratch.path(), "");
    let (mut a, mut b) = (Node::begin(&scratch, &server, "a"), Node::begin(&scratch, &server, "b"));
    assert!(b.looks().missed_notes && !b.looks().missed_notes);
    b.members.give_up_connection();
    a.journal.write(&[Entry::Setting { name: "paused/r".into(), value: Some("x".into()) }]).unwrap();
    assert!(b.beats() && b.looks().missed_notes && !b.looks().missed_notes);
    // More than it can keep in mind.
    for n in 0..1_100 {
        a.journal.write(&[Entry::Hand(u8::try_from(n % 64).unwrap(), asked("x"))]).unwrap();
    }
    assert!(b.beats());
    wait_until("what was dropped is noticed", SOON, || b.beats() && b.looks().missed_notes);
}

#[test]
fn what_is_pending_is_asked_for_by_slot_and_nodes_are_told_of_posts() {
    let scratch = Scratch::new("nodes-pending");
    let server = Postgres::start(scratch.path(), "");
    let (mut a, mut b) = (Node::begin(&scratch, &server, "a"), Node::begin(&scratch, &server, "b"));
    // Its key is `ralph`.
    a.journal.write(&waiting(1)).unwrap();
    let of = |slots| match b.journal.ask(&Question::PendingOf(slots)).unwrap() {
        Answer::Stories(stories) => stories.len(),
        other => panic!("{other:?}"),
    };
    let ralph = Slots::one(slot_of("ralph"));
    assert_eq!((of(ralph), of(Slots::ALL.but(ralph))), (1, 0));
    let told = What::Reaction { id: "R1".into() };
    a.journal.write(&[Entry::Hand(slot_of("ralph"), told.clone())]).unwrap();
    let note = b.runtime.block_on(async { tokio::time::timeout(SOON, b.members.heard()).await }).expect("a note");
    assert_eq!(note.inbox, ralph);
    let row = b.inbox().remove(0);
    assert_eq!((row.what, row.story.expect("the reaction").messages), (told, vec![message("m1")]));
    let Answer::Nodes(nodes) = b.journal.ask(&Question::Nodes).unwrap() else { panic!("no nodes") };
    assert_eq!(nodes.iter().map(|node| (&*node.name, node.is_alive)).collect::<Vec<_>>(), [("a", true), ("b", true)]);
}

#[test]
fn a_journal_of_the_first_version_is_brought_up_to_date() {
    let scratch = Scratch::new("nodes-version1");
    let server = Postgres::start(scratch.path(), "");
    server.sql("postgres", include_str!("version1.sql"));
    let place = schema(&server, "a");
    let error = PostgresJournal::open_read_only(&place).unwrap_err();
    assert!(error.why.contains("older schema version 1"), "{error}");
    let journal = PostgresJournal::open(scratch.path(), &place).unwrap();
    let in_slot = |key: &str| match journal.ask(&Question::PendingOf(Slots::one(slot_of(key)))).unwrap() {
        Answer::Stories(stories) => stories.into_iter().map(|story| story.reaction.id).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!((in_slot("ralph"), in_slot("ü")), (vec!["R1".to_owned()], vec!["R2".to_owned()]));
    assert_eq!(ids(&journal, all()), ["R3", "R2", "R1"]);
    let old = "UPDATE a.writer SET batch = 10 WHERE generation = 7 RETURNING 1";
    assert!(server.column("postgres", old).is_empty(), "a daemon of then can't write any more");
}

#[test]
fn a_node_goes_on_and_begins_again_on_a_newer_schema_that_says_it_may() {
    let scratch = Scratch::new("nodes-newer");
    let server = Postgres::start(scratch.path(), "");
    let mut old = Node::begin(&scratch, &server, "a");
    old.journal.write(&waiting(1)).unwrap();
    // What a reactor of the future does while we are at work.
    server.sql(
        "postgres",
        "ALTER TABLE a.reaction ADD COLUMN mood text; CREATE TABLE a.more (n int);
                            INSERT INTO a.schema_version VALUES (4, 3)",
    );
    old.journal.write(&waiting(2)).unwrap();
    assert!(old.beats() && old.looks().mine == Slots::ALL);
    server.sql("postgres", r#"INSERT INTO a.inbox (slot, what) VALUES (1, '{"sing": {"song": "x"}}')"#);
    server.sql("postgres", r#"INSERT INTO a.inbox (slot, what) SELECT 1, '{"sing": {}}' FROM generate_series(1, 200)"#);
    old.journal.write(&[Entry::Hand(1, What::Reaction { id: "R1".into() })]).unwrap();
    assert_eq!(old.inbox().len(), 1, "what it does not understand waits for one that does, and is in nobody's way");
    drop(old);
    let mut again = Node::begin(&scratch, &server, "a");
    again.journal.write(&waiting(3)).unwrap();
    assert_eq!(pending(&PostgresJournal::open_read_only(&schema(&server, "a")).unwrap()).len(), 3);
    drop(again);
    server.sql("postgres", "INSERT INTO a.schema_version VALUES (5, 4)");
    let error = PostgresJournal::open(&scratch.path().join("a"), &schema(&server, "a")).unwrap_err();
    assert!(error.why.contains("schema version 5"), "{error}");
}
