//! Rule tests: the real deciding half of the engine, a pretended clock and pretended handlers. Virtual time: a test of a whole
//! day takes milliseconds. A pretended handler takes no time, plans what the test says (one change otherwise) and succeeds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use handler_api::{Action, Change};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::engine::core::{Act, Arrived, Core, Run, Turn};
use crate::journal::{Entry, State};
use crate::message::{BODY_BYTES_MAX, Message, Topic};
use crate::rules::explain::explain;
use crate::rules::matcher::Rules;
use crate::rules::site::{Expect, Given, GivenMessage, On, PlannedSize, RuleTest, Site};
use crate::trust::{self, Verified};

/// Instants that one test may pass through.
pub const INSTANTS_MAX: usize = 100_000;
/// Messages that one test may give.
pub const MESSAGES_MAX: usize = 100_000;
/// Answers that are told for one reaction that did not come.
const WHY_NOT_MAX: usize = 3;
/// When virtual time begins, in seconds since 1970: 2000-01-01T00:00:00Z.
const BEGIN_S: i64 = 946_684_800;
/// Handlers that run at once in a test: as many as there are, since they take no time.
const ROOM: usize = usize::MAX;

/// What came of one test.
#[derive(Debug)]
pub struct Rehearsed {
    /// Whether what happened is exactly what was expected.
    pub passed: bool,
    /// Messages that arrived.
    pub messages: usize,
    /// Reactions that started.
    pub reactions: usize,
    /// How much virtual time went by.
    pub time: Duration,
    /// What was different, a sentence each.
    pub different: Vec<String>,
}

/// A reaction that started in a test.
#[derive(Clone, Debug)]
struct Happened {
    id: String,
    at: Duration,
    rule: String,
    key: String,
    with: Option<Map<String, Value>>,
    messages: usize,
    held: bool,
    failed: Option<String>,
}

/// Runs one test.
///
/// # Errors
/// When a message of it can't be read.
pub fn rehearse(site: &Site, test: &RuleTest) -> Result<Rehearsed, String> {
    let mut play = Play::new(site, test);
    let arrivals = arrivals(test)?;
    let messages = arrivals.len();
    play.run(&arrivals)?;
    let rules = play.core.rules.clone();
    let different = compare(&test.expect, &play.happened, &|rule| why_not(&rules, rule, &arrivals));
    Ok(Rehearsed { passed: different.is_empty(), messages, reactions: play.happened.len(), time: play.now, different })
}

struct Arrival {
    at: Duration,
    message: Message,
    plan: Option<PlannedSize>,
}

/// Everything that arrives, in the order of time.
fn arrivals(test: &RuleTest) -> Result<Vec<Arrival>, String> {
    let mut all = Vec::new();
    let mut last = Duration::ZERO;
    for (n, given) in test.given.iter().enumerate() {
        let pause = if given.repeat == 1 { given.after } else { Duration::ZERO };
        let first = given.at.unwrap_or(last.saturating_add(pause));
        if all.len() + given.repeat as usize > MESSAGES_MAX {
            let place = format!("{}:{}", given.place.file.display(), given.place.line);
            return Err(format!("{place}: the test gives more than {MESSAGES_MAX} messages"));
        }
        for k in 0..given.repeat {
            last = first.saturating_add(given.after.saturating_mul(k));
            let id = format!("test-{n}-{k}");
            all.push(Arrival { at: last, message: message(given, &id, at(last))?, plan: given.plan });
        }
    }
    all.sort_by_key(|arrival| arrival.at);
    Ok(all)
}

fn message(given: &Given, id: &str, sent: Timestamp) -> Result<Message, String> {
    let mut message = match &given.message {
        GivenMessage::Inline { topic, msg } => Message {
            id: id.to_owned(),
            topic: Topic::new(topic)?,
            sent,
            bus: "test".into(),
            signer: "test".to_owned(),
            body: msg.clone(),
            headers: Map::new(),
        },
        GivenMessage::File(path) => read(path, id, sent)?,
    };
    // The same file may be given twice, and is two messages then.
    message.id = id.to_owned();
    if let Some(signer) = &given.signer {
        message.signer.clone_from(signer);
    }
    Ok(message)
}

fn read(path: &Path, id: &str, now: Timestamp) -> Result<Message, String> {
    let size = std::fs::metadata(path).map_err(|error| format!("{} can't be read: {error}", path.display()))?.len();
    if size > BODY_BYTES_MAX as u64 {
        return Err(format!("{} has {size} bytes, at most {BODY_BYTES_MAX} are read", path.display()));
    }
    let body = std::fs::read(path).map_err(|error| format!("{} can't be read: {error}", path.display()))?;
    Ok(trust::local(&body, &path.display().to_string(), id, now)?.into_inner())
}

struct Play {
    core: Core,
    now: Duration,
    happened: Vec<Happened>,
    plans: BTreeMap<String, PlannedSize>,
    /// Until when reconciles are played; `None`: there are none in this test.
    reconciles_until: Option<Duration>,
}

impl Play {
    fn new(site: &Site, test: &RuleTest) -> Self {
        let handlers = site.handlers.iter().map(|(name, config)| (name.clone(), Arc::new(config.clone()))).collect();
        let mut core = Core::new(Arc::new(Rules::new(site.rules.clone())), handlers, false, 1);
        let is_reconcile =
            |name: &str| site.rules.iter().any(|rule| *rule.name == *name && matches!(rule.on, On::Every(_)));
        let wanted = test.expect.iter().filter(|expect| is_reconcile(&expect.rule));
        let reconciles_until = wanted.map(|expect| expect.at.unwrap_or_default()).max();
        if reconciles_until.is_none() {
            core.without_time();
        }
        Self { core, now: Duration::ZERO, happened: Vec::new(), plans: BTreeMap::new(), reconciles_until }
    }

    fn run(&mut self, arrivals: &[Arrival]) -> Result<(), String> {
        let mut next = 0;
        for _ in 0..INSTANTS_MAX {
            let mut turn = Turn::default();
            let due = arrivals[next..].iter().take_while(|arrival| arrival.at <= self.now).count();
            self.arrive(&arrivals[next..next + due], &mut turn);
            next += due;
            self.core.start(at(self.now), ROOM, &mut turn);
            self.play(turn);
            let wake = self
                .core
                .wake_at(ROOM)
                .and_then(since_begin)
                .filter(|wake| next < arrivals.len() || self.reconciles_until.is_none_or(|until| *wake <= until));
            let Some(then) = wake.into_iter().chain(arrivals.get(next).map(|arrival| arrival.at)).min() else {
                return Ok(());
            };
            self.now = then.max(self.now);
        }
        Err(format!("the test goes through more than {INSTANTS_MAX} instants"))
    }

    fn arrive(&mut self, arrivals: &[Arrival], turn: &mut Turn) {
        for arrival in arrivals {
            if let Some(plan) = arrival.plan {
                self.plans.insert(arrival.message.id.clone(), plan);
            }
            let decisions = self.core.rules.decide(&arrival.message);
            let batch =
                vec![Arrived { message: Verified::internal(arrival.message.clone()), decisions, envelope: None }];
            self.core.arrived(at(self.now), batch, &mut std::collections::HashSet::new(), turn);
        }
    }

    /// Does what a turn asks for, and the turns that come of it, until nothing more happens at this instant.
    fn play(&mut self, mut turn: Turn) {
        loop {
            self.note(&turn);
            let mut then = Turn::default();
            let now = at(self.now);
            if turn.acts.is_empty() {
                return;
            }
            for act in turn.acts {
                match act {
                    Act::Plan(run) => {
                        let plan = self.plan(&run);
                        self.core.planned(now, *run, Ok(plan.into()), &mut then);
                    }
                    Act::Apply(run, _) => self.core.applied(now, &run, Ok(None).into(), &mut then),
                }
            }
            self.core.start(now, ROOM, &mut then);
            turn = then;
        }
    }

    /// The plan that the test gives for one of the run's messages; one change otherwise.
    fn plan(&self, run: &Run) -> Vec<Change> {
        let given = run.messages.iter().rev().find_map(|message| self.plans.get(&message.id)).copied();
        let size = given.unwrap_or(PlannedSize { changes: 1, deletes: 0 });
        let action = |n| if n < size.deletes { Action::Delete } else { Action::Update };
        let change = |n| Change {
            action: action(n),
            target: format!("pretended {n}"),
            before: None,
            after: None,
            secret: false,
            hold: None,
            count: None,
            more: Map::new(),
        };
        (0..size.changes.max(size.deletes)).map(change).collect()
    }

    fn note(&mut self, turn: &Turn) {
        for act in &turn.acts {
            if let Act::Plan(run) = act {
                self.happened.push(Happened {
                    id: run.id.clone(),
                    at: self.now,
                    rule: run.rule.name.to_string(),
                    key: run.key.clone(),
                    with: Some(run.with.clone()),
                    messages: run.messages.len(),
                    held: false,
                    failed: None,
                });
            }
        }
        for entry in &turn.entries {
            let Entry::Update(row) = entry else { continue };
            let known = self.happened.iter_mut().find(|happened| happened.id == row.id);
            match (row.state, known) {
                (State::Held, Some(happened)) => happened.held = true,
                (State::Failed, None) => self.happened.push(Happened {
                    id: row.id.clone(),
                    at: self.now,
                    rule: row.rule.clone(),
                    key: row.key.clone(),
                    with: None,
                    messages: row.messages as usize,
                    held: false,
                    failed: Some(row.reason.clone().unwrap_or_default()),
                }),
                _ => {}
            }
        }
    }
}

fn at(since: Duration) -> Timestamp {
    let begin = Timestamp::from_second(BEGIN_S).unwrap_or(Timestamp::UNIX_EPOCH);
    begin.checked_add(since).unwrap_or(Timestamp::MAX)
}

fn since_begin(at: Timestamp) -> Option<Duration> {
    let begin = Timestamp::from_second(BEGIN_S).ok()?;
    Some(Duration::try_from(at.duration_since(begin)).unwrap_or(Duration::ZERO))
}

/// What is different, a sentence each, in the order of the file and then of time.
fn compare(expected: &[Expect], happened: &[Happened], why_not: &dyn Fn(&str) -> Vec<String>) -> Vec<String> {
    let mut left: Vec<&Happened> = happened.iter().collect();
    let mut missing = Vec::new();
    // The precise ones choose first, so that a vague one does not take what they need.
    let mut by_precision: Vec<&Expect> = expected.iter().collect();
    by_precision.sort_by_key(|expect| std::cmp::Reverse(precision(expect)));
    for expect in by_precision {
        match left.iter().position(|happened| mismatch(expect, happened).is_empty()) {
            Some(at) => drop(left.remove(at)),
            None => missing.push(expect),
        }
    }
    missing.sort_by_key(|expect| (expect.place.line, expect.at));
    let mut different = Vec::new();
    for expect in missing {
        let place = format!("{}:{}", expect.place.file.display(), expect.place.line);
        let of_rule = left.iter().enumerate().filter(|(_, happened)| happened.rule == expect.rule);
        let far = |happened: &Happened| expect.at.map_or(Duration::ZERO, |at| at.abs_diff(happened.at));
        let near = of_rule.min_by_key(|(_, h)| (mismatch(expect, h).len(), far(h))).map(|(at, _)| at);
        match near.map(|at| left.remove(at)) {
            Some(near) => {
                let wrong = mismatch(expect, near).join(", ");
                different.push(format!("{place}: `{}` reacted, but {wrong}", expect.rule));
            }
            None => {
                different.push(format!("{place}: `{}` did not react", expect.rule));
                different.extend(why_not(&expect.rule));
            }
        }
    }
    different.extend(left.into_iter().map(|happened| format!("nobody expected: {}", happened.tell())));
    different
}

fn precision(expect: &Expect) -> usize {
    [expect.at.is_some(), expect.key.is_some(), expect.with.is_some(), expect.messages.is_some()]
        .into_iter()
        .filter(|given| *given)
        .count()
}

fn mismatch(expect: &Expect, happened: &Happened) -> Vec<String> {
    use handler_api::units::show_duration;
    let mut wrong = Vec::new();
    let mut differ =
        |what: &str, is: String, wanted: String| wrong.push(format!("{what} was {is} instead of {wanted}"));
    if expect.rule != happened.rule {
        differ("the rule", happened.rule.clone(), expect.rule.clone());
    }
    if let Some(at) = expect.at.filter(|at| *at != happened.at) {
        differ("at", show_duration(happened.at), show_duration(at));
    }
    if let Some(key) = expect.key.as_ref().filter(|key| **key != happened.key) {
        differ("the key", happened.key.clone(), key.clone());
    }
    if let Some(with) = expect.with.as_ref().filter(|with| Some(*with) != happened.with.as_ref()) {
        let text = |with: &Map<String, Value>| Value::from(with.clone()).to_string();
        differ("with", happened.with.as_ref().map_or("nothing".into(), text), text(with));
    }
    if let Some(n) = expect.messages.filter(|n| *n != happened.messages) {
        differ("messages", happened.messages.to_string(), n.to_string());
    }
    if expect.held != happened.held {
        differ("held", happened.held.to_string(), expect.held.to_string());
    }
    if expect.failed != happened.failed.is_some() {
        let is = happened.failed.as_ref().map_or_else(|| "false".to_owned(), |why| format!("true ({why})"));
        differ("failed", is, expect.failed.to_string());
    }
    wrong
}

impl Happened {
    fn tell(&self) -> String {
        let with = self.with.as_ref().map(|with| format!(", with {}", Value::from(with.clone()))).unwrap_or_default();
        let failed = self.failed.as_ref().map(|why| format!(", failed: {why}")).unwrap_or_default();
        let held = if self.held { ", held" } else { "" };
        let at = handler_api::units::show_duration(self.at);
        format!("`{}` at {at}, key {}, {} messages{with}{held}{failed}", self.rule, self.key, self.messages)
    }
}

/// What a rule that was expected to react says of the messages that arrived; each answer once.
fn why_not(rules: &Rules, rule: &str, arrivals: &[Arrival]) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for message in arrivals.iter().map(|arrival| &arrival.message) {
        let said = explain(rules, message).into_iter().find(|said| *said.rule == *rule);
        let why = said.map_or_else(|| "topic: not near this rule's".to_owned(), |said| said.text);
        let line = format!("    {}: {why}", message.topic);
        if !told.contains(&line) {
            told.push(line);
        }
        if told.len() >= WHY_NOT_MAX {
            break;
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::file::load_str;

    fn rehearsed(yaml: &str) -> Vec<Rehearsed> {
        let site = load_str("rules.yaml", yaml, Path::new("/")).expect("a good site");
        site.tests.iter().map(|test| rehearse(&site, test).expect("rehearsed")).collect()
    }

    const SITE: &str = "version: 1
handlers: { h: { exec: /bin/true } }
rules:
  - { name: synced, on: a.*.sync, key: '{{msg.path}}', coalesce: { quiet: 2m, at_most: 20m }, do: h, with: { paths: \"{{unique (pluck messages 'path')}}\" } }
  - { name: gone, on: a.gone, do: h, guard: { changes: 5, deletes: 2 } }
  - { name: told, on: reactor.reaction.held, do: h, with: { rule: '{{msg.rule}}' } }
  - { name: swept, on: { every: 6h }, do: h }
tests:
";

    #[test]
    fn a_steady_stream_is_coalesced_as_the_design_says() {
        let all = rehearsed(&format!(
            "{SITE}  - name: stream
    given: [ {{ repeat: 30, after: 1m, topic: a.b.sync, msg: {{ path: pub }} }} ]
    expect:
      - {{ at: 20m, rule: synced, key: pub, messages: 21, with: {{ paths: [pub] }} }}
      - {{ at: 31m, rule: synced, key: pub, messages: 9 }}
"
        ));
        assert!(all[0].passed, "{:?}", all[0].different);
        assert_eq!((all[0].messages, all[0].reactions, all[0].time), (30, 2, Duration::from_secs(31 * 60)));
    }

    #[test]
    fn the_guard_is_fed_with_a_plan_and_people_are_told() {
        let all = rehearsed(&format!(
            "{SITE}  - name: too much
    given: [ {{ topic: a.gone, msg: {{}}, plan: {{ changes: 4, deletes: 3 }} }} ]
    expect: [ {{ rule: gone, held: true }}, {{ rule: told, with: {{ rule: gone }} }} ]
  - name: not too much
    given: [ {{ topic: a.gone, msg: {{}}, plan: {{ changes: 4, deletes: 2 }} }} ]
    expect: [ {{ rule: gone }} ]
"
        ));
        assert!(all.iter().all(|one| one.passed), "{all:?}");
    }

    #[test]
    fn reconciles_are_played_where_one_is_expected() {
        let all = rehearsed(&format!(
            "{SITE}  - name: sweep
    given: []
    expect: [ {{ at: 0s, rule: swept }}, {{ at: 6h, rule: swept }}, {{ at: 12h, rule: swept }} ]
"
        ));
        assert!(all[0].passed, "{:?}", all[0].different);
    }

    #[test]
    fn expect_is_the_complete_list_and_what_differs_is_told() {
        let all = rehearsed(&format!(
            "{SITE}  - name: unasked
    given: [ {{ topic: a.gone, msg: {{}} }} ]
    expect: []
  - name: other
    given: [ {{ topic: a.gone, msg: {{}} }} ]
    expect: [ {{ at: 5s, rule: gone, key: x }}, {{ rule: synced }} ]
  - name: silence
    given: [ {{ topic: a.b.sink, msg: {{ path: pub }} }} ]
    expect: [ {{ rule: synced }} ]
"
        ));
        let text = all.iter().map(|one| one.different.join("\n")).collect::<Vec<_>>().join("\n");
        for wanted in [
            "nobody expected: `gone` at 0s, key gone, 1 messages",
            "`gone` reacted, but at was 0s instead of 5s, the key was gone instead of x",
            "`synced` did not react",
            "topic: word 3 is sink, the rule wants sync",
        ] {
            assert!(text.contains(wanted), "{wanted} is not in\n{text}");
        }
    }

    #[test]
    fn a_vague_expectation_does_not_take_what_a_precise_one_needs() {
        let all = rehearsed(&format!(
            "{SITE}  - name: two
    given:
      - {{ topic: a.b.sync, msg: {{ path: x }} }}
      - {{ topic: a.b.sync, msg: {{ path: y }} }}
    expect: [ {{ rule: synced }}, {{ rule: synced, key: x }} ]
"
        ));
        assert!(all[0].passed, "{:?}", all[0].different);
    }

    #[test]
    fn each_missing_reaction_is_explained_though_others_happened() {
        let all = rehearsed(&format!(
            "{SITE}  - name: one of two
    given: [ {{ topic: a.gone, msg: {{}} }}, {{ topic: a.b.sync, msg: {{ pat: x }} }} ]
    expect: [ {{ rule: gone }}, {{ rule: told }} ]
"
        ));
        let text = all[0].different.join("\n");
        assert!(text.contains("`told` did not react\n    a.gone: topic: not near this rule's"), "{text}");
        assert!(text.contains("failed: key: msg has no `path`; it has pat"), "{text}");
    }

    #[test]
    fn a_test_can_not_give_more_messages_than_it_may() {
        let given = "[ { repeat: 4000000000, topic: a.gone, msg: {} } ]";
        let yaml = format!("{SITE}  - {{ name: endless, given: {given}, expect: [] }}\n");
        if let Ok(site) = load_str("rules.yaml", &yaml, Path::new("/")) {
            let why = rehearse(&site, &site.tests[0]).unwrap_err();
            assert!(why.contains("more than 100000 messages"), "{why}");
        }
    }
}
