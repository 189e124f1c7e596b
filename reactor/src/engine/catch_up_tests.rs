use super::*;
use crate::bus::BoxFuture;
use crate::engine::catch_up::heard::Settings;
use crate::engine::intake::{Gauge, Judge};
use crate::trust::Refusal;

/// Takes longer for one batch than we wait between two looks, as a source that connects anew.
struct Slow {
    begun: u32,
    counters: Arc<Counters>,
}

impl Source for Slow {
    fn next(&mut self, _at_most: usize) -> BoxFuture<'_, Result<Vec<RawMessage>, BusError>> {
        self.begun += 1;
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(2 * LOOK_MS)).await;
            Ok(Vec::new())
        })
    }

    fn ack<'a>(&'a mut self, _tokens: &'a [u64]) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async { Ok(()) })
    }

    fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }
}

#[tokio::test]
async fn a_source_that_takes_its_time_is_looked_after_and_not_begun_anew() {
    let rules = Arc::new(ArcSwap::from_pointee(Rules::new(Vec::new())));
    let judge: Judge = Arc::new(|_, _| Err(Refusal { reason: String::new(), signer: None }));
    let (engine, _inputs) = tokio::sync::mpsc::channel(1);
    let passing = Passing::new(judge, rules.clone(), Arc::new(Gauge::default()), engine);
    let settings =
        Settings { catch_up: None, queue_messages_max: 1, keeps: false, takes_all: false, not_before: Timestamp::MIN };
    let heard = Arc::new(Heard::new("b".into(), None, settings));
    let mut source = Slow { begun: 0, counters: Arc::default() };
    let mut care = Care::new(heard.clone(), source.counters(), rules, Arc::new(|_| true));
    let began = clock();
    assert!(matches!(care.next(&mut source, &passing).await, Some(Ok(raws)) if raws.is_empty()));
    assert_eq!(source.begun, 1);
    assert!(heard.position().is_some_and(|position| position >= began), "meanwhile it was heard that nothing came");
}
