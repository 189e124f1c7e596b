//! Messages from a queue of a real RabbitMQ: how many a second, and how late, beside the real `fedora-messaging consume` with the
//! same configuration file, on a queue with the same messages.
//!
//! For the rate the queue is full before anyone reads it, so that no publisher is measured; what is counted is from the
//! first messages on, without start-up. Reactor writes its journal and acknowledges then; the Python callback only counts.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use jiff::Timestamp;
use reactor::bus::amqp::config::{Queue, of_toml};
use reactor::bus::amqp::connection::{Broken, Connection};
use reactor::bus::amqp::methods::{self, QUEUE_BIND_OK, Said};
use reactor::bus::amqp::properties;
use reactor::bus::amqp::publish::AmqpPublisher;
use reactor::trust::schemas::BASE_SCHEMA;
use reactor_tests::rabbitmq::{PASSWORD, REACTOR, RabbitMq};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::Env;
use crate::daemon::{Daemon, number};
use crate::latency::{Stamps, after, collect, listen};
use crate::load::{WANTED, payload};
use crate::publisher::now_seconds;
use crate::table::{Row, percentile};

const BENCH: &str = "amqp";
/// How long one of the two may take for a full queue, in seconds.
const DRAIN_SECONDS_MAX: u64 = 300;
/// Messages that are written at once when a queue is filled.
const FILL_AT_ONCE: usize = 200;
const PER_SECOND: u32 = 100;
const EXCHANGE: &str = "amq.topic";

/// A broker, and what all passes of this bench share.
struct Bench<'a> {
    env: &'a Env,
    broker: RabbitMq,
    dir: tempfile::TempDir,
    runtime: Runtime,
}

/// What one of the two did.
#[derive(Clone, Copy)]
struct Rate {
    per_second: f64,
    cpu_us: f64,
}

/// Runs it.
///
/// # Errors
/// When something does not work at all.
pub fn run(env: &Env) -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let bench = Bench { env, broker: RabbitMq::start(dir.path()), dir, runtime: Runtime::new()? };
    let python = bench.python_rate(env.size(4_000, 100))?;
    let mut rows = Vec::new();
    for (what, history) in [("wanted, `where` is false", false), ("wanted, all stored", true)] {
        let ours = bench.rate(what, history, env.size(100_000, 1_000))?;
        let row = Row::new(BENCH, what, ours.per_second, "msg/s");
        let cpu = Row::new(BENCH, format!("{what}: processor time"), ours.cpu_us, "µs/msg");
        rows.extend(match python {
            Some(python) => [
                row.beside("fedora-messaging consume", python.per_second).sane(0.2..=10_000.0),
                cpu.beside("fedora-messaging consume", python.cpu_us),
            ],
            None => [row, cpu],
        });
    }
    rows.extend(bench.latency(env.size(2_000, 30))?);
    Ok(rows)
}

impl Bench<'_> {
    /// The file that both are configured by: one durable queue, all topics. What they take at once is as each has it.
    fn configuration(&self, queue: &str) -> Result<(PathBuf, String)> {
        let text = format!(
            "amqp_url = \"amqp://{REACTOR}:{PASSWORD}@127.0.0.1:{}/%2Fpubsub\"\n[queues.{queue}]\ndurable = true\n\
             auto_delete = false\nexclusive = false\narguments = {{}}\n[[bindings]]\nqueue = \"{queue}\"\n\
             exchange = \"{EXCHANGE}\"\nrouting_keys = [\"org.#\"]\n",
            self.broker.amqp()
        );
        let file = self.dir.path().join(format!("{queue}.toml"));
        std::fs::write(&file, &text)?;
        Ok((file, text))
    }

    fn rules(&self, config: &Path, history: bool, more: &str) -> String {
        let history = if history { "journal: { history: all }\n" } else { "" };
        format!(
            "version: 1\nbus:\n  bench:\n    amqp: {{ config: {} }}\n    trust: {{ broker: accept, unlisted: accept }}\n{history}\
             handlers:\n  stamp: {{ exec: {}, {more} }}\nrules:\n  - name: stamp\n    on: {WANTED}\n    where: {{ fields: {} }}\n    \
             key: \"{{{{msg.user}}}}\"\n    do: stamp\n    with: {{ n: \"{{{{msg.n}}}}\" }}\n",
            config.display(),
            self.env.programs.stamp.display(),
            if more.is_empty() { "gpg_key" } else { "ssh_key" },
        )
    }

    /// A queue with `count` messages in it.
    fn fill(&self, queue: &str, count: usize) -> Result<PathBuf> {
        let (file, text) = self.configuration(queue)?;
        let amqp = of_toml(&text).map_err(|why| anyhow!(why))?;
        let filled = self.runtime.block_on(async {
            let mut connection = Connection::connect(&amqp).await?;
            declare(&mut connection, &amqp.queues[queue], queue, false).await?;
            connection.call(&methods::queue_bind(queue, EXCHANGE, "org.#"), QUEUE_BIND_OK).await?;
            for first in (0..count).step_by(FILL_AT_ONCE) {
                let some = (first..count.min(first + FILL_AT_ONCE)).flat_map(|n| {
                    let properties = properties::outgoing(&id(n), Timestamp::now(), BASE_SCHEMA, None);
                    let body = payload(n).to_string();
                    methods::publish(EXCHANGE, WANTED, properties, body.as_bytes(), connection.frame_bytes_max)
                });
                connection.send_all(&some.collect::<Vec<_>>()).await?;
            }
            while declare(&mut connection, &Queue::default(), queue, true).await? < count {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            connection.close().await;
            Ok::<_, Broken>(())
        });
        filled.map_err(|broken| anyhow!("the queue can't be filled: {broken}"))?;
        Ok(file)
    }

    /// The daemon on a full queue.
    fn rate(&self, what: &str, history: bool, count: usize) -> Result<Rate> {
        let config = self.fill(if history { "stored" } else { "wanted" }, count)?;
        let daemon = Daemon::start(&self.env.programs.reactor, &self.rules(&config, history, ""))?;
        let received = |status: &Value| number(status, "buses/0/received");
        let begun = daemon.wait_until("the first message", DRAIN_SECONDS_MAX, |status| received(status) > 0)?;
        let (began, cpu, before) = (now_seconds(), daemon.cpu_seconds()?, received(&begun));
        let done = |status: &Value| received(status) >= count as u64 && number(status, "lost_if_killed_now") == 0;
        let status = daemon.wait_until(what, DRAIN_SECONDS_MAX, done)?;
        let (seconds, counted) = (now_seconds() - began, (count as u64 - before) as f64);
        let cpu_us = (daemon.cpu_seconds()? - cpu) * 1e6 / counted;
        let stored = number(&daemon.journal()?, "messages");
        let meant = (count as u64, 0, if history { count as u64 } else { 0 });
        ensure!(
            (received(&status), number(&status, "refused"), stored) == meant,
            "{what}: {status:#}, {stored} stored"
        );
        Ok(Rate { per_second: counted / seconds, cpu_us })
    }

    /// The real consumer on a full queue; `None` where it is not installed.
    fn python_rate(&self, count: usize) -> Result<Option<Rate>> {
        let config = self.fill("python", count)?;
        let Some(consumer) = self.consumer(&config, &json!({"count": count}))? else { return Ok(None) };
        let said = consumer.said()?;
        let number = |name: &str| said[name].as_f64().with_context(|| format!("the consumer said {said}"));
        let seconds = number("last")? - number("first")?;
        let counted = count as f64 - 1.0;
        Ok(Some(Rate { per_second: counted / seconds, cpu_us: number("cpu_seconds")? * 1e6 / counted }))
    }

    fn consumer(&self, config: &Path, given: &Value) -> Result<Option<Consumer>> {
        let Some(python) = &self.env.programs.fedora_messaging else {
            eprintln!("  fedora-messaging is not installed (scripts/install-test-deps): it is left out");
            return Ok(None);
        };
        let log = tempfile::NamedTempFile::new()?;
        let mut command = Command::new(python);
        command.arg(self.env.programs.peers.join("fedora_messaging_consume.py")).arg(given.to_string());
        command.env("FEDORA_MESSAGING_CONF", config).stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.stderr(log.reopen()?).spawn().context("fedora-messaging can't be started")?;
        Ok(Some(Consumer { child, log }))
    }

    /// From publish to the first line of a program, at a steady pace.
    fn latency(&self, count: usize) -> Result<Vec<Row>> {
        let (to, stamps) = listen()?;
        let config = self.fill("paced", 0)?;
        let env = format!("env: {{ STAMP_TO: \"{to}\" }}");
        let daemon = Daemon::start(&self.env.programs.reactor, &self.rules(&config, false, &env))?;
        daemon.wait_until("it reads", DRAIN_SECONDS_MAX, |status| number(status, "buses/0/connects") == 1)?;
        let sent = self.paced(&config, count)?;
        let mut ours = after(&sent, &collect(&stamps, count * 2)?, "plan");
        drop(daemon);
        let Some(mut theirs) = self.python_latency(&to, &stamps, count)? else { return Ok(Vec::new()) };
        let what = "fedora-messaging consume → subprocess (nothing durable but the queue)";
        let row = |(part, name): (f64, &str)| {
            Row::new(BENCH, format!("publish → plan started, {name}"), percentile(&mut ours, part), "ms")
                .beside(what, percentile(&mut theirs, part))
                .note(format!("{PER_SECOND} messages a second"))
        };
        Ok([(0.5, "p50"), (0.99, "p99")].map(row).into())
    }

    fn python_latency(&self, to: &str, stamps: &Stamps, count: usize) -> Result<Option<Vec<f64>>> {
        let config = self.fill("paced-python", 0)?;
        let program = json!(["/usr/bin/env", "-i", format!("STAMP_TO={to}"), self.env.programs.stamp, "plan"]);
        let given = json!({"count": count, "exec": program});
        let Some(consumer) = self.consumer(&config, &given)? else { return Ok(None) };
        let began = Instant::now();
        while !consumer.log().contains("Successfully registered AMQP consumer") {
            ensure!(began.elapsed().as_secs() < DRAIN_SECONDS_MAX, "the consumer does not start: {}", consumer.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        let sent = self.paced(&config, count)?;
        let stamps = collect(stamps, count)?;
        Ok(Some(after(&sent, &stamps, "plan")))
    }

    /// Publishes so many messages, confirmed, [`PER_SECOND`]; when each was about to be sent (seconds since 1970).
    fn paced(&self, config: &Path, count: usize) -> Result<Vec<f64>> {
        let amqp = of_toml(&std::fs::read_to_string(config)?).map_err(|why| anyhow!(why))?;
        let paced = self.runtime.block_on(async {
            let mut publisher = AmqpPublisher::open(&amqp).await?;
            let (mut sent, began) = (Vec::new(), Instant::now());
            for n in 0..count {
                let due = began + Duration::from_secs(1) / PER_SECOND * n as u32;
                tokio::time::sleep(due.saturating_duration_since(Instant::now())).await;
                sent.push(now_seconds());
                publisher.publish(WANTED, &id(n), Timestamp::now(), payload(n).to_string().as_bytes()).await?;
            }
            publisher.close().await;
            Ok::<_, Broken>(sent)
        });
        paced.map_err(|broken| anyhow!("the messages can't be published: {broken}"))
    }
}

fn id(n: usize) -> String {
    format!("{n:08x}-0ed6-4621-a5f2-5dddfa14d792")
}

/// Declares a queue, or looks at it; how many messages wait in it.
async fn declare(connection: &mut Connection, queue: &Queue, name: &str, passive: bool) -> Result<usize, Broken> {
    connection.send(&methods::queue_declare(name, queue, passive)).await?;
    match connection.said().await? {
        Said::QueueDeclared { messages, .. } => Ok(messages as usize),
        said => Err(format!("the broker says {said:?}").into()),
    }
}

/// A running `fedora-messaging consume`, killed when this goes.
struct Consumer {
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Consumer {
    fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    /// Waits for its answer.
    fn said(mut self) -> Result<Value> {
        use std::io::Read as _;
        let mut text = String::new();
        self.child.stdout.take().context("no output")?.read_to_string(&mut text)?;
        match serde_json::from_str(text.trim()) {
            Ok(said) => Ok(said),
            Err(error) => bail!("the consumer said {text:?} ({error})\n{}", self.log()),
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
