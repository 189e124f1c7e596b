use super::*;
use crate::bus::BoxFuture;
use crate::bus::catch_up::Server;
use crate::engine::Input;
use crate::engine::catch_up::gaps::Gaps;
use crate::engine::catch_up::heard::Settings;
use crate::engine::intake::{Gauge, Judge};
use crate::journal::Entry;
use crate::trust::Refusal;
use serde_json::json;

const LONG: Duration = Duration::from_secs(60);
/// Long enough for a message to come meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// Brings nothing until what is waited for holds, as a source that connects anew.
struct Slow {
    begun: u32,
    counters: Arc<Counters>,
    is_over: Arc<dyn Fn() -> bool + Send + Sync>,
    brings: Vec<RawMessage>,
}

impl Slow {
    fn new(is_over: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        let counters = Arc::new(Counters::default());
        Counters::add(&counters.connects, 1);
        Self { begun: 0, counters, is_over: Arc::new(is_over), brings: Vec::new() }
    }
}

impl Source for Slow {
    fn next(&mut self, _at_most: usize) -> BoxFuture<'_, Result<Vec<RawMessage>, BusError>> {
        self.begun += 1;
        let is_over = self.is_over.clone();
        Box::pin(async move {
            while !is_over() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(self.brings.clone())
        })
    }

    fn ack<'a>(&'a mut self, _tokens: &'a [u64]) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async { Ok(()) })
    }

    fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }
}

fn heard(position: Option<Timestamp>, catch_up: Option<CatchUp>) -> Arc<Heard> {
    let settings = Settings {
        catch_up,
        queue_messages_max: 1,
        keeps: false,
        takes_all: true,
        topics: Vec::new(),
        not_before: Timestamp::MIN,
    };
    Arc::new(Heard::new("b".into(), position, Gaps::default(), settings))
}

fn passing(engine: tokio::sync::mpsc::Sender<Input>, gauge: &Arc<Gauge>) -> (Passing, Arc<ArcSwap<Rules>>) {
    let rules = Arc::new(ArcSwap::from_pointee(Rules::new(Vec::new())));
    let judge: Judge = Arc::new(|_, _| Err(Refusal { reason: String::new(), signer: None }));
    (Passing::new(judge, rules.clone(), gauge.clone(), engine), rules)
}

#[tokio::test]
async fn a_source_that_takes_its_time_is_looked_after_and_not_begun_anew() {
    let (engine, _inputs) = tokio::sync::mpsc::channel(1);
    let (passing, rules) = passing(engine, &Arc::default());
    let (heard, began) = (heard(None, None), clock());
    let known = heard.clone();
    let mut source = Slow::new(move || known.position().is_some_and(|position| position > began));
    let mut care = Care::new(heard.clone(), source.counters(), rules, Arc::new(|_| true));
    let next = tokio::time::timeout(LONG, care.next(&mut source, &passing)).await;
    let next = next.expect("meanwhile it is noted that nothing came");
    assert!(matches!(next, Some(Ok(raws)) if raws.is_empty()));
    assert_eq!(source.begun, 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_given_up_and_what_came_meanwhile_waits_for_that_and_is_counted() {
    let (engine, mut inputs) = tokio::sync::mpsc::channel(9);
    let gauge = Arc::new(Gauge::default());
    let (passing, rules) = passing(engine, &gauge);
    // Whoever connects waits until it has had enough.
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let server = Server::Replay { address: silent.local_addr().expect("its number").to_string() };
    let (overlap, at_most) = (Duration::from_secs(10), Duration::from_secs(36_000));
    let config = CatchUp { server, believe_all: false, overlap, at_most, patience: PATIENCE };
    let position = Timestamp::from_second(clock().as_second() - 600).expect("a time");
    let heard = heard(Some(position), Some(config));
    let asked = heard.clone();
    let mut source = Slow::new(move || asked.status()["running"].is_object());
    let (bus, topic, form) = (Arc::from("b"), "a.b".to_owned(), crate::message::Form::Envelope);
    source.brings = vec![RawMessage { bus, topic, body: Vec::new(), received: clock(), token: 1, form }];
    let mut care = Care::new(heard.clone(), source.counters(), rules, Arc::new(|_| true));
    let counted = async {
        while gauge.in_hand.load(Ordering::Relaxed) != 1 {
            assert!(inputs.is_empty(), "it is counted before the server is given up");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (next, ()) = tokio::join!(tokio::time::timeout(LONG, care.next(&mut source, &passing)), counted);
    assert!(matches!(next, Ok(Some(Ok(raws))) if raws.len() == 1), "it goes on");
    let Some(Input::Gap(gap)) = inputs.recv().await else { panic!("first the gap is told") };
    assert_eq!((gap.recovered, gap.from), (false, position));
    let lacking = gap.lacking.expect("why");
    assert!(lacking.contains("(asked again for 10s)"), "{lacking}");
    let status = heard.status();
    assert_eq!((&status["open"][0]["from"], &status["gaps_lacking"]), (&json!(position), &json!(1)));
    let [Entry::Setting { name, value: Some(value) }, ..] = &heard.entries(clock(), false, false)[..] else {
        panic!("it stays")
    };
    assert!(name.starts_with("gap/b/") && value.contains("asked again"), "{name}: {value}");
}
