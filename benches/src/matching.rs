//! Topic matching and whole decisions with 1, 100 and 10,000 patterns and rules, in-process, beside looking at each.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use jiff::Timestamp;
use reactor::message::{Message, Topic};
use reactor::rules::file;
use reactor::rules::matcher::Rules;
use reactor::rules::topic::{Index, Pattern};

use crate::Env;
use crate::load;
use crate::table::Row;

const BENCH: &str = "matching";
const TOPICS: usize = 2_000;
/// Rules in one generated file, so that none is larger than a site's file may be.
const RULES_PER_FILE: usize = 500;

/// Runs it.
///
/// # Errors
/// When a generated pattern or rule is refused.
pub fn run(env: &Env) -> Result<Vec<Row>> {
    let topics: Vec<String> = (0..TOPICS).map(topic).collect();
    let mut rows = Vec::new();
    for n in [1, 100, 10_000] {
        rows.push(patterns(env, n, &topics)?);
    }
    for n in [1, 100, env.size(10_000, 1_000)] {
        rows.push(decisions(env, n)?);
    }
    Ok(rows)
}

/// Seven words each, as Fedora's.
fn topic(n: usize) -> String {
    format!("org.fedoraproject.prod.app{}.thing{}.part{}.change{}", n % 40, n % 97, n % 11, n % 7)
}

/// 70 % literal, 10 % with a `*` inside, 20 % that end in `**`: the mix that the topic index was chosen with.
fn pattern(n: usize) -> Result<Pattern> {
    let text = match n % 10 {
        0..=6 => topic(n * 7),
        7 => format!("org.fedoraproject.prod.app{}.*.part{}.change{}", n % 40, n % 11, n % 7),
        _ => format!("org.fedoraproject.prod.app{}.thing{}.**", n % 400, n % 997),
    };
    Pattern::parse(&text).map_err(|why| anyhow!(why))
}

fn patterns(env: &Env, n: usize, topics: &[String]) -> Result<Row> {
    let patterns = (0..n).map(pattern).collect::<Result<Vec<_>>>()?;
    let index = Index::new(patterns.iter().cloned().zip(0..));
    let mut found = Vec::new();
    let indexed = nanoseconds(env, topics, |topic| {
        found.clear();
        index.matches(topic, &mut found);
        found.len()
    });
    let linear = nanoseconds(env, topics, |topic| patterns.iter().filter(|pattern| pattern.matches(topic)).count());
    let most = if n == 10_000 { 0.5 } else { 50.0 };
    Ok(Row::new(BENCH, format!("a topic against {n} patterns"), indexed, "ns")
        .beside("each pattern by itself", linear)
        .sane(0.0..=most))
}

/// Topic, `where` and `key` of each rule: what one verified message costs before the journal.
fn decisions(env: &Env, n: usize) -> Result<Row> {
    let rules = rules(env, n)?;
    let topics: Vec<String> = (0..TOPICS).map(topic).collect();
    let messages = topics.iter().enumerate().map(|(n, topic)| message(n, topic)).collect::<Result<Vec<_>>>()?;
    let decided: usize = messages.iter().map(|message| rules.decide(message).len()).sum();
    let figure = nanoseconds(env, &messages, |message| rules.decide(message).len());
    let note = format!("{:.2} rules fire for a message", decided as f64 / messages.len() as f64);
    Ok(Row::new(BENCH, format!("a message against {n} rules (topic, where, key)"), figure, "ns").note(note))
}

fn message(n: usize, topic: &str) -> Result<Message> {
    Ok(Message {
        id: format!("m{n}"),
        topic: Topic::new(topic).map_err(|why| anyhow!(why))?,
        sent: Timestamp::now(),
        bus: "bench".into(),
        signer: "bench".into(),
        body: load::payload(n),
        headers: serde_json::Map::new(),
    })
}

fn rules(env: &Env, n: usize) -> Result<Rules> {
    let dir = tempfile::tempdir()?;
    let head = format!("version: 1\nhandlers:\n  stamp: {{ exec: {} }}\n", env.programs.stamp.display());
    std::fs::write(dir.path().join("handlers.yaml"), head)?;
    for (at, part) in (0..n).collect::<Vec<_>>().chunks(RULES_PER_FILE).enumerate() {
        let rules = part.iter().map(|n| rule(*n)).collect::<Result<String>>()?;
        std::fs::write(dir.path().join(format!("rules{at}.yaml")), format!("version: 1\nrules:\n{rules}"))?;
    }
    let site = file::load(&[PathBuf::from(dir.path())]).map_err(|errors| anyhow!("{errors}"))?;
    Ok(Rules::new(site.rules))
}

fn rule(n: usize) -> Result<String> {
    let on = pattern(n)?;
    Ok(format!(
        "  - name: rule {n}\n    on: \"{}\"\n    where: {{ fields: ssh_key }}\n    key: \"{{{{msg.user}}}}\"\n    \
         do: stamp\n    with: {{ n: \"{{{{msg.n}}}}\" }}\n",
        on.as_str()
    ))
}

/// The mean time of one call, over all items again and again.
fn nanoseconds<T>(env: &Env, items: &[T], mut call: impl FnMut(&T) -> usize) -> f64 {
    let long_enough = Duration::from_millis(if env.short { 50 } else { 1_000 });
    let started = Instant::now();
    let mut calls = 0u32;
    while started.elapsed() < long_enough {
        // Small steps, so that a slow call can't take minutes.
        for item in items.iter().cycle().skip(calls as usize % items.len()).take(100) {
            black_box(call(black_box(item)));
        }
        calls += 100;
    }
    started.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
}
