//! What is published in which order, what is left to others, and what one bus that does not answer holds up.

use std::net::TcpListener;
use std::time::Instant;

use super::*;
use crate::engine::core::Core;
use crate::journal::place;
use crate::rules::file;
use crate::rules::matcher::Rules;

const LONG: Duration = Duration::from_secs(60);

/// A journal, and a site with a broker `a` and a fedmsg bus `f`.
struct Stage {
    _dir: tempfile::TempDir,
    broker: TcpListener,
    journal: Arc<JournalHandle>,
    site: Site,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let broker = TcpListener::bind("127.0.0.1:0").unwrap();
        std::fs::write(dir.path().join("password"), "guest").unwrap();
        let yaml = format!(
            "version: 1\nbus:\n  a:\n    amqp: {{ amqp_url: 'amqp://guest@127.0.0.1:{}/', password: {{ file: ./password }}, topic_prefix: org.example }}\n    \
             confirm: true\n  f:\n    fedmsg: ['tcp://127.0.0.1:1']\n    trust: {{ unsigned: accept, unlisted: accept }}\n    \
             publish: {{ bind: 'ipc://{}/f', prefix: org.example }}\n    confirm: true\nhandlers: {{h: {{exec: /bin/true}}}}\n\
             rules: [ {{ name: r, on: org.example.user, do: h }} ]\n",
            broker.local_addr().unwrap().port(),
            dir.path().display()
        );
        let site = file::load_str("rules.yaml", &yaml, dir.path()).unwrap_or_else(|found| panic!("{found}"));
        let journal = JournalHandle::open(place::open(dir.path(), None).unwrap()).unwrap();
        Self { _dir: dir, broker, journal: Arc::new(journal), site }
    }

    /// An outbox that does nothing by itself.
    fn task(&self) -> Task {
        let mut core = Core::new(Arc::new(Rules::new(Vec::new())), BTreeMap::new(), false, 1);
        let outbox = Outbox::open(&self.site, &self.journal, &mut core, false);
        outbox.0.new_task()
    }

    async fn put(&self, one: &Confirmation) {
        let entry =
            Entry::Setting { name: format!("{OUTBOX}{}", one.id), value: Some(serde_json::to_string(one).unwrap()) };
        self.journal.write(vec![entry]).await.unwrap();
    }

    /// The ids of what waits.
    async fn waiting(&self) -> Vec<String> {
        match self.journal.ask(Question::Settings(OUTBOX.to_owned())).await.unwrap() {
            Answer::Settings(all) => all.into_iter().map(|(name, _)| name[OUTBOX.len()..].to_owned()).collect(),
            other => panic!("{other:?}"),
        }
    }
}

/// An outcome of so many seconds from now.
fn outcome(bus: &str, id: &str, seconds: i64) -> Confirmation {
    Confirmation {
        bus: bus.into(),
        node: None,
        id: id.into(),
        topic: "reactor.reaction.done".into(),
        at: clock() + SignedDuration::from_secs(seconds),
        reaction: "R".into(),
        body: json!({"id": id}),
    }
}

/// Somebody who listens to the bus `f`.
fn listener(task: &Task) -> zmq::Socket {
    let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
    socket.set_subscribe(b"").unwrap();
    socket.connect(task.lines["f"].publisher.address()).unwrap();
    socket
}

/// Passes until so many more messages were heard; their ids.
async fn heard(task: &mut Task, socket: &zmq::Socket, n: usize) -> Vec<String> {
    let began = Instant::now();
    let mut ids = Vec::new();
    while ids.len() < n {
        assert!(began.elapsed() < LONG, "only {ids:?} was heard");
        task.pass(false).await.unwrap();
        while let Ok(frames) = socket.recv_multipart(zmq::DONTWAIT) {
            let body: Value = serde_json::from_slice(&frames[1]).unwrap();
            ids.push(body["msg"]["id"].as_str().unwrap().to_owned());
        }
    }
    ids
}

#[tokio::test]
async fn what_came_first_is_said_first() {
    let stage = Stage::new();
    // As they are named: of one reaction, that was held, and then done.
    stage.put(&outcome("f", "reactor-R-held-1-0", 10)).await;
    stage.put(&outcome("f", "reactor-R-done-2-0", 20)).await;
    let mut task = stage.task();
    assert_eq!(task.pass(false).await.unwrap(), Left::Ours, "nobody listens");
    let socket = listener(&task);
    assert_eq!(heard(&mut task, &socket, 2).await, ["reactor-R-held-1-0", "reactor-R-done-2-0"]);
    assert!(stage.waiting().await.is_empty());
    assert_eq!(task.pass(false).await.unwrap(), Left::Nothing);
}

#[tokio::test]
async fn what_another_node_or_nobody_has_to_say_is_left_alone_for_some_time() {
    let stage = Stage::new();
    let of_other = |id: &str, seconds| Confirmation { node: Some("other".into()), ..outcome("f", id, seconds) };
    let mut task = stage.task();
    stage.put(&of_other("1-others", 10)).await;
    stage.put(&outcome("gone", "2-nobodys", 10)).await;
    stage.put(&outcome("gone", "3-nobodys-old", -UNHEARD_SECONDS_MAX - 10)).await;
    assert_eq!(task.pass(false).await.unwrap(), Left::ToOthers);
    assert_eq!(stage.waiting().await, ["1-others", "2-nobodys"]);
    assert_eq!(task.shared.given_up.load(Ordering::Relaxed), 1);

    let socket = listener(&task);
    stage.put(&outcome("f", "4-ours", 20)).await;
    assert_eq!(heard(&mut task, &socket, 1).await, ["4-ours"]);
    // Its node has ended, as it seems.
    task.lines.get_mut("f").unwrap().opened -= SignedDuration::from_hours(1);
    stage.put(&of_other("1-others", -OTHERS_SECONDS - 1)).await;
    assert_eq!(heard(&mut task, &socket, 1).await, ["1-others"]);
    assert_eq!(stage.waiting().await, ["2-nobodys"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_does_not_answer_holds_up_no_other_bus() {
    let stage = Stage::new();
    let mut task = stage.task();
    task.pass(false).await.unwrap();
    let socket = listener(&task);
    stage.put(&outcome("f", "1-first", 10)).await;
    assert_eq!(heard(&mut task, &socket, 1).await, ["1-first"]);
    stage.put(&outcome("a", "2-broker", 20)).await;
    stage.put(&outcome("f", "3-other", 30)).await;
    assert_eq!(task.pass(false).await.unwrap(), Left::Ours);
    assert_eq!(stage.waiting().await, ["2-broker"], "the other is out");
    assert!(!task.brokers["a"].is_finished(), "the broker has not said anything yet");
    // It hangs up: that is told, and tried again.
    let (stream, _) = stage.broker.accept().unwrap();
    drop(stream);
    let began = Instant::now();
    while !task.brokers["a"].is_finished() {
        assert!(began.elapsed() < LONG);
        tokio::task::yield_now().await;
    }
    task.pass(false).await.unwrap();
    assert!(task.brokers.is_empty(), "not at once");
    assert!(lock(&task.shared.troubles)["a"].contains("can't be published"));
    let told = Outbox(task.shared.clone()).status()["problems"][0].as_str().unwrap().to_owned();
    assert!(told.starts_with("bus a: ") && told.lines().count() == 1, "{told}");
    task.pass(false).await.unwrap();
    assert!(task.brokers.contains_key("a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_broker_is_away_new_outcomes_are_no_reason_to_try_again() {
    let stage = Stage::new();
    let mut core = Core::new(Arc::new(Rules::new(Vec::new())), BTreeMap::new(), false, 1);
    let began = Instant::now();
    let outbox = Outbox::open(&stage.site, &stage.journal, &mut core, true);
    let tries = Arc::new(AtomicU64::new(0));
    let (counted, listener) = (tries.clone(), stage.broker.try_clone().unwrap());
    std::thread::spawn(move || {
        while listener.accept().is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    for n in 0..200 {
        stage.put(&outcome("a", &format!("{n}"), 0)).await;
        outbox.wake();
        // Some time for the outbox, which it must not use.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    let tries = tries.load(Ordering::Relaxed);
    let most = 2 + began.elapsed().as_millis() / u128::from(RETRY_MS.0);
    assert!(u128::from(tries) <= most, "{tries} tries in {:?}", began.elapsed());
}

#[test]
fn the_oldest_are_given_up_where_there_are_too_many_or_too_large() {
    assert_eq!(too_many(&[]), 0);
    assert_eq!(too_many(&vec![100; WAITING_MAX]), 0);
    assert_eq!(too_many(&vec![100; WAITING_MAX + 3]), 3);
    assert_eq!(too_many(&[WAITING_BYTES_MAX, 1]), 1);
    assert_eq!(too_many(&[1, WAITING_BYTES_MAX]), 1);
    assert_eq!(too_many(&[WAITING_BYTES_MAX / 2, WAITING_BYTES_MAX / 2]), 0);
}
