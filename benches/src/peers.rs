//! What runs beside the daemon: bare libzmq (this program again), and the real fedmsg in Python (`benches/peers/`).

use std::io::Read;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::publisher::{Publisher, now_seconds};
use crate::{Env, process};

/// What a receiver did.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Messages a second, from the first that was sent to the last that was received.
    pub per_second: f64,
    /// Processor time a message, in microseconds.
    pub cpu_us: f64,
}

/// A receiver that counts messages, says when it had the last one, and ends.
#[derive(Debug)]
pub struct Receiver {
    child: Child,
    log: NamedTempFile,
    count: usize,
}

impl Receiver {
    /// Bare libzmq: receives and throws away.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn raw(env: &Env, address: &str, count: usize) -> Result<Self> {
        let mut command = Command::new(&env.programs.benches);
        Self::start(command.args(["receive", address, &count.to_string()]), count)
    }

    /// fedmsg-hub with one consumer; `None` where fedmsg is not installed. `config` goes to `peers/hub.py`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn hub(env: &Env, address: &str, count: usize, mut config: Value) -> Result<Option<Self>> {
        let Some(python) = &env.programs.python else {
            eprintln!("  fedmsg is not installed (scripts/install-test-deps): fedmsg-hub is left out");
            return Ok(None);
        };
        config["endpoint"] = json!(address);
        config["count"] = json!(count);
        let mut command = Command::new(python);
        Self::start(command.arg(env.programs.peers.join("hub.py")).arg(config.to_string()), count).map(Some)
    }

    fn start(command: &mut Command, count: usize) -> Result<Self> {
        let log = NamedTempFile::new()?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.reopen()?).spawn();
        Ok(Self { child: child.with_context(|| format!("{command:?} can't be started"))?, log, count })
    }

    /// Waits until it has all; `started` is when the first was sent (seconds since 1970).
    ///
    /// # Errors
    /// When it ended without saying so.
    pub fn wait(mut self, started: f64) -> Result<Received> {
        let said = self.said()?;
        let number = |name: &str| said[name].as_f64().with_context(|| format!("the receiver said {said}"));
        Ok(Received {
            per_second: self.count as f64 / (number("last")? - started),
            cpu_us: number("cpu_seconds")? * 1e6 / self.count as f64,
        })
    }

    fn said(&mut self) -> Result<Value> {
        let mut text = String::new();
        self.child.stdout.take().context("no output")?.read_to_string(&mut text)?;
        let ended = self.child.wait()?;
        let line = text.lines().rfind(|line| line.starts_with('{'));
        let log = || std::fs::read_to_string(self.log.path()).unwrap_or_default();
        let line = line.with_context(|| format!("the receiver ended ({ended}) and said only {text:?}\n{}", log()))?;
        Ok(serde_json::from_str(line)?)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A burst into bare libzmq.
///
/// # Errors
/// When a side fails.
pub fn raw_rate(env: &Env, topic: &str, bodies: &[Vec<u8>], count: usize) -> Result<Received> {
    let publisher = Publisher::bind()?;
    let receiver = Receiver::raw(env, &publisher.address, count)?;
    publisher.wait_for_subscriber()?;
    let started = publisher.burst(topic, bodies, count)?;
    receiver.wait(started)
}

/// A burst into fedmsg-hub; `None` where it is not installed.
///
/// # Errors
/// When a side fails.
pub fn hub_rate(env: &Env, topic: &str, bodies: &[Vec<u8>], count: usize, config: Value) -> Result<Option<Received>> {
    let publisher = Publisher::bind()?;
    let Some(receiver) = Receiver::hub(env, &publisher.address, count, config)? else { return Ok(None) };
    publisher.wait_for_subscriber()?;
    let started = publisher.burst(topic, bodies, count)?;
    receiver.wait(started).map(Some)
}

/// fedmsg's own `validate()` over these bodies, in one Python thread: messages a second.
///
/// # Errors
/// When it fails, or finds one of them invalid.
pub fn python_validate(env: &Env, bodies: &[Vec<u8>], config: &Value) -> Result<Option<f64>> {
    let Some(python) = &env.programs.python else { return Ok(None) };
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("messages.jsonl");
    std::fs::write(&file, bodies.join(&b'\n'))?;
    let script = env.programs.peers.join("validate.py");
    let done = Command::new(python).arg(script).arg(&file).arg(config.to_string()).stdin(Stdio::null()).output()?;
    if !done.status.success() {
        bail!("fedmsg's validate() failed: {}", String::from_utf8_lossy(&done.stderr));
    }
    let said: Value = serde_json::from_slice(&done.stdout)?;
    Ok(said["per_second"].as_f64())
}

/// `receive ADDRESS COUNT`: the bare receiver. No high-water mark, as fedmsg-hub's.
///
/// # Errors
/// What libzmq says.
pub fn receive(args: &[String]) -> Result<()> {
    let [address, count] = args else { return Err(anyhow!("receive ADDRESS COUNT")) };
    let socket = zmq::Context::new().socket(zmq::SUB)?;
    socket.set_rcvhwm(0)?;
    socket.set_subscribe(b"org.")?;
    socket.connect(address)?;
    let mut message = zmq::Message::new();
    for _ in 0..count.parse::<usize>()? {
        socket.recv(&mut message, 0)?;
        while message.get_more() {
            socket.recv(&mut message, 0)?;
        }
    }
    let last = now_seconds();
    println!("{}", json!({"last": last, "cpu_seconds": process::cpu_seconds(std::process::id())?}));
    Ok(())
}
